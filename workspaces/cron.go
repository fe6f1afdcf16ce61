package workspaces

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // CRON_TZ works where the machine has no zone files

	"github.com/robfig/cron/v3"
)

// longestGap is the longest time between two slots of a schedule, among some of
// them: a week, or two hundred where there are more, which has the nights in it. A
// change to daylight saving time does not count.
func longestGap(s cron.Schedule) time.Duration {
	// A Monday; no zone changes its clock in the weeks after it.
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	var longest time.Duration
	at := s.Next(start)
	for n := 0; n == 0 || n < 200 && at.Before(start.AddDate(0, 0, 8)); n++ {
		next := s.Next(at)
		if next.IsZero() {
			break
		}
		longest = max(longest, next.Sub(at))
		at = next
	}
	return longest
}

// ParseCron reads a schedule: the five fields of cron, a descriptor ("@daily",
// "@every 6h"), either with "CRON_TZ=Europe/Berlin " before it. Times are UTC
// where no zone is named, so that every node means the same moment. A schedule
// that never comes, such as 30 February, is an error.
func ParseCron(expr string) (cron.Schedule, error) {
	if len(expr) > 256 {
		return nil, errors.New("a schedule is not longer than 256 characters")
	}
	spec := strings.TrimSpace(expr)
	if spec == "" {
		return nil, errors.New("the schedule is empty")
	}
	if !strings.HasPrefix(spec, "TZ=") && !strings.HasPrefix(spec, "CRON_TZ=") {
		spec = "CRON_TZ=UTC " + spec
	}
	// cron slices up to the space without looking whether there is one.
	if !strings.Contains(spec, " ") {
		return nil, errors.New("the schedule has a time zone and nothing else")
	}
	s, err := cron.ParseStandard(spec)
	if err != nil {
		return nil, errors.New(clean(err.Error()))
	}
	// cron takes every second for what is shorter, and for what is negative.
	if _, every, is := strings.Cut(spec, "@every "); is {
		if d, err := time.ParseDuration(every); err != nil || d < time.Second {
			return nil, fmt.Errorf("%q is shorter than a second", every)
		}
	}
	// Any start would do: cron looks five years ahead, which has a leap day.
	if s.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("%q never comes", expr)
	}
	return s, nil
}
