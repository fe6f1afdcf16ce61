package runner

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/vcs"
	"holdfast/workspaces"
)

func TestDueSlot(t *testing.T) {
	at := func(s string) time.Time {
		t.Helper()
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, test := range []struct {
		name, schedule, last, now string
		want                      string // empty: not due
	}{
		{"before the slot", "0 6 * * *", "2026-03-02T06:00:00Z", "2026-03-03T05:59:59Z", ""},
		{"at the slot", "0 6 * * *", "2026-03-02T06:00:00Z", "2026-03-03T06:00:00Z", "2026-03-03T06:00:00Z"},
		{"done already", "0 6 * * *", "2026-03-03T06:00:00Z", "2026-03-03T07:00:00Z", ""},
		{"a week without a server is one check", "0 6 * * *", "2026-03-02T06:00:00Z", "2026-03-09T12:00:00Z", "2026-03-09T06:00:00Z"},
		{"years too", "*/5 * * * *", "2020-01-01T00:00:00Z", "2026-03-09T12:02:00Z", "2026-03-09T12:00:00Z"},
		{"the clock was set back", "0 6 * * *", "2026-03-03T06:00:00Z", "2026-03-02T06:30:00Z", ""},
		{"every ten seconds", "@every 10s", "2026-03-02T06:00:00Z", "2026-03-02T06:00:25Z", "2026-03-02T06:00:20Z"},
		{"UTC whatever the zone of the times", "0 6 * * *", "2026-03-02T07:00:00+01:00", "2026-03-03T08:00:00+02:00", "2026-03-03T06:00:00Z"},
		{"a zone of its own", "CRON_TZ=Europe/Berlin 0 6 * * *", "2026-03-02T05:00:00Z", "2026-03-03T05:00:00Z", "2026-03-03T05:00:00Z"},
		{"summer time comes", "CRON_TZ=Europe/Berlin 0 6 * * *", "2026-03-28T05:00:00Z", "2026-03-29T04:00:00Z", "2026-03-29T04:00:00Z"},
		{"summer time goes", "CRON_TZ=Europe/Berlin 0 6 * * *", "2026-10-24T04:00:00Z", "2026-10-25T04:59:59Z", ""},
		{"summer time is gone", "CRON_TZ=Europe/Berlin 0 6 * * *", "2026-10-24T04:00:00Z", "2026-10-25T05:00:00Z", "2026-10-25T05:00:00Z"},
		{"29 February", "0 0 29 2 *", "2024-02-29T00:00:00Z", "2027-12-31T00:00:00Z", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := workspaces.ParseCron(test.schedule)
			if err != nil {
				t.Fatal(err)
			}
			got, due := dueSlot(s, at(test.last), at(test.now), 0)
			switch {
			case due != (test.want != ""):
				t.Errorf("due: %t (%s)", due, got)
			case due && !got.Equal(at(test.want)):
				t.Errorf("%s instead of %s", got.UTC(), test.want)
			}
		})
	}
}

// An hour that summer time skips or repeats must neither lose a day's check
// nor make it twice.
func TestDueSlotOverAYear(t *testing.T) {
	for _, schedule := range []string{"0 2 * * *", "30 2 * * *", "0 3 * * *", "0 6 * * *"} {
		s, err := workspaces.ParseCron("CRON_TZ=Europe/Berlin " + schedule)
		if err != nil {
			t.Fatal(err)
		}
		last := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
		checks, end := 0, last.AddDate(1, 0, 0)
		for now := last; now.Before(end); now = now.Add(29 * time.Minute) {
			if slot, due := dueSlot(s, last, now, 12345); due {
				if !slot.After(last) {
					t.Fatalf("%s: %s after %s", schedule, slot, last)
				}
				last = slot
				checks++
			}
		}
		// cron has no 02:30 on the day that skips it.
		if checks < 364 || checks > 365 {
			t.Errorf("%s: %d checks in a year", schedule, checks)
		}
	}
}

func TestJitter(t *testing.T) {
	for _, test := range []struct {
		schedule string
		most     time.Duration
	}{
		{"0 6 * * *", 10 * time.Minute},
		{"0 * * * *", 6 * time.Minute},
		{"*/5 * * * *", 30 * time.Second},
		{"@every 10s", time.Second},
	} {
		s, err := workspaces.ParseCron(test.schedule)
		if err != nil {
			t.Fatal(err)
		}
		slot := s.Next(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))
		before := slot.Add(-s.Next(slot).Sub(slot))
		different := map[time.Duration]bool{}
		for _, name := range strings.Fields("a b c d e f g h i j prod-vpc prod-iam live/prod/vpc@blue") {
			n := seed(workspaceName((vcs.Repository{Host: "git.test", Owner: "team", Name: "infra"}), name))
			got := jitter(s, slot, n)
			if got < 0 || got >= test.most {
				t.Errorf("%s: %s is moved by %s, not less than %s", test.schedule, name, got, test.most)
			}
			if again := jitter(s, slot.In(time.FixedZone("", 3600)), seed(workspaceName((vcs.Repository{Host: "git.test", Owner: "team", Name: "infra"}), name))); again != got {
				t.Errorf("%s: another node moves %s by %s instead of %s", test.schedule, name, again, got)
			}
			different[got] = true
			if _, due := dueSlot(s, before, slot.Add(got-1), n); due {
				t.Errorf("%s: %s is due before it is moved", test.schedule, name)
			}
			if _, due := dueSlot(s, before, slot.Add(got), n); !due {
				t.Errorf("%s: %s is not due when it is", test.schedule, name)
			}
		}
		if len(different) < 10 {
			t.Errorf("%s: 13 workspaces start at %d moments", test.schedule, len(different))
		}
	}
}

// TestScheduleOnManyNodes queues each slot once, whoever queues it.
func TestScheduleOnManyNodes(t *testing.T) {
	f := newFixture(t)
	f.git.commit("main", map[string]string{"holdfast.hcl": "defaults {\n  drift {\n    schedule = \"0 * * * *\"\n  }\n}\n"})
	if err := f.refresh(t.Context(), f.repo, ""); err != nil {
		t.Fatal(err)
	}
	nodes := []*Runner{f.Runner, f.node(f.Store, "two"), f.node(f.Store, "three")}
	tick := func() {
		t.Helper()
		for _, r := range nodes {
			if err := r.ScheduleDue(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	tick()
	if runs := f.runs(); len(runs) != 0 {
		t.Fatalf("a schedule that has just been seen is due: %v", runs)
	}
	f.pass(70 * time.Minute)
	tick()
	if got, want := f.runs(), []string{"a queued", "b queued"}; !slices.Equal(got, want) {
		t.Fatalf("runs %v instead of %v", got, want)
	}
	// As long as the check waits, no other is put behind it.
	f.pass(5 * time.Hour)
	tick()
	if got := f.runs(); len(got) != 2 {
		t.Fatalf("runs %v", got)
	}
	f.work(JobDrift)
	f.pass(5 * time.Hour)
	tick()
	if got := f.runs(); len(got) != 4 {
		t.Errorf("five missed slots made %d checks of two workspaces instead of one each", len(got)-2)
	}
}
