package workspaces

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Window is a part of the week in which something is allowed, on the clock of
// some time zone.
type Window struct {
	days       [7]bool // by time.Weekday, of the day on which it opens
	start, end int     // minutes of the day; end <= start goes over midnight
}

var weekdays = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

var windowForm = regexp.MustCompile(`^(?:([A-Z][a-z]{2}(?:[-,][A-Z][a-z]{2})*) )?(\d{2}):(\d{2})-(\d{2}):(\d{2})$`)

// ParseWindow reads "Mon-Fri 09:00-17:00", "Sat,Sun 10:00-12:00", or
// "22:00-04:00" for every day. One that ends before it begins goes over
// midnight; 24:00 is the end of the day.
func ParseWindow(s string) (Window, error) {
	m := windowForm.FindStringSubmatch(s)
	if m == nil {
		return Window{}, fmt.Errorf("%q is not like \"Mon-Fri 09:00-17:00\"", cut(clean(s), 60))
	}
	var w Window
	var err error
	if w.days, err = parseDays(m[1]); err != nil {
		return Window{}, err
	}
	if w.start, err = minutes(m[2], m[3]); err != nil || w.start == 24*60 {
		return Window{}, fmt.Errorf("%s:%s is no time of the day at which a window opens", m[2], m[3])
	}
	if w.end, err = minutes(m[4], m[5]); err != nil {
		return Window{}, err
	}
	if w.start == w.end {
		return Window{}, fmt.Errorf("%q begins when it ends; all day is \"00:00-24:00\"", s)
	}
	return w, nil
}

// parseDays reads "Mon-Fri", "Sat,Sun"; nothing is every day.
func parseDays(s string) (days [7]bool, err error) {
	if s == "" {
		return [7]bool{true, true, true, true, true, true, true}, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, _ := strings.Cut(part, "-")
		if to == "" {
			to = from
		}
		a, b := weekday(from), weekday(to)
		if a < 0 || b < 0 {
			return days, fmt.Errorf("%q is none of %s", part, quoted(weekdays))
		}
		for d := a; ; d = (d + 1) % 7 {
			days[d] = true
			if d == b {
				break
			}
		}
	}
	return days, nil
}

func weekday(s string) int {
	for i, d := range weekdays {
		if d == s {
			return i
		}
	}
	return -1
}

func minutes(h, m string) (int, error) {
	hour, _ := strconv.Atoi(h)
	minute, _ := strconv.Atoi(m)
	if n := hour*60 + minute; minute < 60 && n <= 24*60 {
		return n, nil
	}
	return 0, fmt.Errorf("%s:%s is no time of the day", h, m)
}

// Contains reports whether t, on its own clock, is in the window.
func (w Window) Contains(t time.Time) bool {
	m, day := t.Hour()*60+t.Minute(), int(t.Weekday())
	if w.start < w.end {
		return w.days[day] && w.start <= m && m < w.end
	}
	yesterday := (day + 6) % 7
	return w.days[day] && m >= w.start || w.days[yesterday] && m < w.end
}

// Opens is when the window opens next after t, on the clock of t.
func (w Window) Opens(t time.Time) time.Time {
	for i := range 8 {
		day := t.AddDate(0, 0, i)
		at := time.Date(day.Year(), day.Month(), day.Day(), w.start/60, w.start%60, 0, 0, t.Location())
		if w.days[day.Weekday()] && at.After(t) {
			return at
		}
	}
	return time.Time{} // cannot be: one of eight days is the window's
}

var (
	looseDay  = regexp.MustCompile(`(?i)\b(sun|mon|tue|wed|thu|fri|sat)[a-z]*\b`)
	looseTime = regexp.MustCompile(`(?i)\b(\d{1,2})(?:[:.](\d{2}))?\s*(am|pm)?\b`)
	looseSpan = regexp.MustCompile(`\s*(?:-|–|—|\bto\b|\buntil\b|\btill\b)\s*`)
)

// nearestWindow is the valid form that somebody may have meant; empty where
// nothing can be made of it.
func nearestWindow(s string) string {
	if len(s) > 100 {
		return ""
	}
	s = looseSpan.ReplaceAllString(strings.ToLower(s), "-")
	days := looseDay.FindAllStringIndex(s, -1)
	// A word that is not understood may be what the days are: without it the
	// window would be a wider one than was meant.
	if strings.TrimFunc(looseTime.ReplaceAllString(looseDay.ReplaceAllString(s, ""), ""), func(r rune) bool { return strings.ContainsRune(" -,;&", r) }) != "" {
		return ""
	}
	from := 0
	var list strings.Builder
	for i, at := range days {
		if i > 0 {
			sep := ","
			if strings.Trim(s[days[i-1][1]:at[0]], " ") == "-" {
				sep = "-"
			}
			list.WriteString(sep)
		}
		list.WriteString(strings.ToUpper(s[at[0]:at[0]+1]) + s[at[0]+1:at[0]+3])
		from = at[1]
	}
	times := looseTime.FindAllStringSubmatch(s[from:], -1)
	if len(times) != 2 {
		return ""
	}
	start, end := looseClock(times[0]), looseClock(times[1])
	// "9-5" is hardly meant to go over midnight. Only where it begins in the
	// evening, or both halves of the day are named, there is no doubt.
	if end <= start && (start < "13:00" && times[0][3] == "" || times[0][3] == "am" && times[1][3] == "") {
		return ""
	}
	out := start + "-" + end
	if list.Len() > 0 {
		out = list.String() + " " + out
	}
	if _, err := ParseWindow(out); err != nil {
		return ""
	}
	return out
}

// looseClock writes a time of day that was found by looseTime.
func looseClock(m []string) string {
	hour, _ := strconv.Atoi(m[1])
	switch {
	case m[3] == "pm" && hour < 12:
		hour += 12
	case m[3] == "am" && hour == 12:
		hour = 0
	}
	minute := m[2]
	if minute == "" {
		minute = "00"
	}
	return fmt.Sprintf("%02d:%s", hour, minute)
}
