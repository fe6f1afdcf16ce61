package workspaces

import (
	"testing"
	"time"
)

func TestWindows(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	// A Friday.
	at := func(clock string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04", "2026-03-27 "+clock, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	tests := []struct {
		windows []string
		at      time.Time
		in      bool
		opens   string // on Berlin's clock
	}{
		{nil, at("03:00"), true, ""},
		{[]string{"Mon-Fri 09:00-17:00"}, at("09:00"), true, ""},
		{[]string{"Mon-Fri 09:00-17:00"}, at("08:59"), false, "2026-03-27 09:00"},
		{[]string{"Mon-Fri 09:00-17:00"}, at("17:00"), false, "2026-03-30 09:00"},
		{[]string{"Sat,Sun 00:00-24:00", "Mon 10:00-11:00"}, at("12:00"), false, "2026-03-28 00:00"},
		{[]string{"Fri-Mon 22:00-04:00"}, at("03:00"), false, "2026-03-27 22:00"},
		{[]string{"22:00-04:00"}, at("03:00"), true, ""},
		{[]string{"Thu 22:00-04:00"}, at("03:59"), true, ""},
		{[]string{"Fri 22:00-04:00"}, at("23:00"), true, ""},
		// The clock goes from 2 to 3 on the 29th: 02:30 is not there that night.
		{[]string{"Sun 02:30-02:45"}, at("12:00"), false, "2026-03-29 03:30"},
	}
	for _, tt := range tests {
		d := Drift{TimeZone: "Europe/Berlin", Windows: tt.windows}
		in, opens, err := d.InWindow(tt.at.UTC())
		got := ""
		if !opens.IsZero() {
			got = opens.In(berlin).Format("2006-01-02 15:04")
		}
		if in != tt.in || got != tt.opens || err != nil {
			t.Errorf("%v at %s: %v, opens %q, %v", tt.windows, tt.at, in, got, err)
		}
	}
}

func TestLongestGap(t *testing.T) {
	for schedule, want := range map[string]time.Duration{
		"0 6 * * *": 24 * time.Hour, "CRON_TZ=Europe/Berlin 0 6 * * *": 24 * time.Hour, "0 6 * * 1-5": 72 * time.Hour, "*/5 9-16 * * *": 16*time.Hour + 5*time.Minute,
		"* * * * *": time.Minute, "@every 10s": 10 * time.Second, "0 6 1 * *": 31 * 24 * time.Hour, "@every 240h": 240 * time.Hour,
	} {
		s, err := ParseCron(schedule)
		if err != nil {
			t.Fatal(err)
		}
		if got := longestGap(s); got != want {
			t.Errorf("%s: %s instead of %s", schedule, got, want)
		}
	}
}

func TestSchedulesZone(t *testing.T) {
	for _, d := range []Drift{
		{Schedule: "0 6 * * *", TimeZone: "Asia/Tokyo"},
		{Schedule: "CRON_TZ=Asia/Tokyo 0 6 * * *", TimeZone: "Europe/Berlin"},
		{Schedule: "TZ=Asia/Tokyo 0 6 * * *"},
	} {
		s, err := d.Cron()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).UTC(), time.Date(2026, 1, 1, 21, 0, 0, 0, time.UTC); !got.Equal(want) {
			t.Errorf("%+v: next is %s, not %s", d, got, want)
		}
	}
}

func TestMatchAddress(t *testing.T) {
	tests := []struct {
		pattern, address string
		want             bool
	}{
		{"aws_instance.web", "aws_instance.web", true},
		{"aws_instance.web", "aws_instance.web[0]", true},
		{"aws_instance.web", `aws_instance.web["a.b[c]"]`, true},
		{"aws_instance.web", "aws_instance.webserver", false},
		{"aws_instance.web[0]", "aws_instance.web[1]", false},
		{"aws_instance.*", "aws_instance.web", true},
		{"aws_instance.*", "module.a.aws_instance.web", false},
		{"module.a.*", `module.a.module.b["x"].aws_instance.web`, true},
		{"*.aws_instance.web", "module.a.aws_instance.web", true},
		{"*", "aws_instance.web", true},
	}
	for _, tt := range tests {
		if got := MatchAddress(tt.pattern, tt.address); got != tt.want {
			t.Errorf("MatchAddress(%q, %q) is %v", tt.pattern, tt.address, got)
		}
	}
	attributes := []struct {
		pattern, path string
		want          bool
	}{
		{"tags", "tags.env", true},
		{"tags", "tags_all.env", false},
		{"tags.*", "tags.env", true},
		{"tags.*", "tags", false},
		{"ingress[*].port", "ingress[12].port", true},
		{`labels["a.b/c"]`, `labels["a.b/c"]`, true},
	}
	for _, tt := range attributes {
		if got := MatchAttribute(tt.pattern, tt.path); got != tt.want {
			t.Errorf("MatchAttribute(%q, %q) is %v", tt.pattern, tt.path, got)
		}
	}
}

// What is suggested for a window or a zone is what was meant, or nothing: a
// wider window or another zone would have corrections made at a wrong time.
func TestNearestTime(t *testing.T) {
	for in, want := range map[string]string{
		"Mon-Fri 9-17": "Mon-Fri 09:00-17:00", "monday to friday, 9am - 5pm": "Mon-Fri 09:00-17:00", "Sat & Sun 10-12": "Sat,Sun 10:00-12:00",
		"22-4": "22:00-04:00", "10pm-4": "22:00-04:00", "9am-5am": "09:00-05:00", "9-5pm": "09:00-17:00",
		"9-5": "", "Mon-Fri 9:00-5:00": "", "9am-5": "", "12-8": "", "9-9": "",
		"Mo-Fr 09:00-17:00": "", "weekdays 09:00-17:00": "", "Mon..Fri 09:00-17:00": "", "Mon-Fri 09:00-17:00 Europe/Berlin": "",
	} {
		if got := nearestWindow(in); got != want {
			t.Errorf("window %q: %q instead of %q", in, got, want)
		}
	}
	const form = `write it like "Europe/Berlin", "America/New_York" or "UTC"`
	for in, want := range map[string]string{
		"berlin": `did you mean "Europe/Berlin"?`, "Europe/Berln": `did you mean "Europe/Berlin"?`,
		"PST": form, "CEST": form, "UTC+2": form,
	} {
		if got, ok := checkZone(in); ok || got != want {
			t.Errorf("zone %q: %q instead of %q", in, got, want)
		}
	}
}

// FuzzNearest: what is suggested for a mistake has to be valid, and nothing
// that people write may be more than refused.
func FuzzNearest(f *testing.F) {
	for _, s := range []string{"0 6 * *", "61 25 * 13 monday", "mon-fri 9-17", "9am to 5pm", "every 6h", "06:00", "CRON_TZ=x 1 * * * *", "^aws_.*$", "a[", "17-9 * * * *"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if near := nearestCron(s); near != "" {
			if _, err := ParseCron(near); err != nil {
				t.Errorf("cron %q: suggests %q: %v", s, near, err)
			}
		}
		if near := nearestWindow(s); near != "" {
			if _, err := ParseWindow(near); err != nil {
				t.Errorf("window %q: suggests %q: %v", s, near, err)
			}
		}
		_, _ = CheckAddress(s)
		_, _ = CheckAttribute(s)
		MatchAddress(s, `module.a["x.y"].aws_instance.web[0]`)
	})
}
