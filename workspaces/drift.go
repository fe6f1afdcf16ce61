package workspaces

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/robfig/cron/v3"
)

// Drift is a workspace's policy for drift.
type Drift struct {
	Schedule string `json:"schedule,omitempty"` // cron expression; empty: not checked
	// TimeZone is the zone of Schedule and Windows, by its name in the tz
	// database. Defaults to UTC.
	TimeZone string `json:"time_zone,omitempty"`
	// Freshness is how old the last check that succeeded may be; beyond it the
	// workspace is unknown. Defaults to two slots of the schedule.
	Freshness    time.Duration `json:"freshness,omitempty"`
	Correct      string        `json:"correct"` // "off" (default), "propose", "apply"
	AllowDestroy bool          `json:"allow_destroy,omitempty"`
	MaxChanges   int           `json:"max_changes,omitempty"` // defaults to 10; resource changes a correction may make
	// FlapLimit is how often one attribute is corrected within a day. Defaults
	// to 3.
	FlapLimit int `json:"flap_limit,omitempty"`
	// Windows are the times in which corrections are made, see ParseWindow; none
	// means always.
	Windows []string `json:"windows,omitempty"`
	Ignore  []Ignore `json:"ignore,omitempty"`
}

// Ignore is a rule for drift that is known and left alone. It never covers a
// resource that is gone, nor one that would be destroyed.
type Ignore struct {
	Address    string    `json:"address"`              // a pattern, see MatchAddress
	Attributes []string  `json:"attributes,omitempty"` // patterns, see MatchAttribute; none means all of them
	Reason     string    `json:"reason"`
	Until      time.Time `json:"until,omitzero"` // from then on it counts no more; zero: no end
	By         string    `json:"by,omitempty"`   // who asked for it in a comment; empty: it is in holdfast.hcl
}

// Location is the time zone of the policy's schedule and windows.
func (d Drift) Location() (*time.Location, error) {
	if d.TimeZone == "" {
		return time.UTC, nil
	}
	return time.LoadLocation(d.TimeZone)
}

// Cron is the policy's schedule in its time zone; nil where nothing is checked.
func (d Drift) Cron() (cron.Schedule, error) {
	if d.Schedule == "" {
		return nil, nil
	}
	return ParseCron(inZone(d.Schedule, d.TimeZone))
}

// inZone puts a schedule without a time zone into one.
func inZone(schedule, zone string) string {
	s := strings.TrimSpace(schedule)
	if zone == "" || strings.HasPrefix(s, "TZ=") || strings.HasPrefix(s, "CRON_TZ=") {
		return schedule
	}
	return "CRON_TZ=" + zone + " " + s
}

// InWindow reports whether corrections are made at now, and else when a window
// opens next.
func (d Drift) InWindow(now time.Time) (in bool, opens time.Time, err error) {
	if len(d.Windows) == 0 {
		return true, time.Time{}, nil
	}
	loc, err := d.Location()
	if err != nil {
		return false, time.Time{}, err
	}
	now = now.In(loc)
	for _, s := range d.Windows {
		w, err := ParseWindow(s)
		if err != nil {
			return false, time.Time{}, err
		}
		if w.Contains(now) {
			return true, time.Time{}, nil
		}
		if at := w.Opens(now); opens.IsZero() || at.Before(opens) {
			opens = at
		}
	}
	return false, opens, nil
}

// drift reads a drift block over what is there.
func (d *decoder) drift(body *hclsyntax.Body, drift *Drift) {
	d.known(body, "drift", []string{"schedule", "time_zone", "freshness", "correct", "allow_destroy", "max_changes", "flap_limit", "windows"}, []string{"ignore"})
	d.timeZone(body, &drift.TimeZone)
	d.schedule(body, &drift.Schedule)
	d.duration(body, "freshness", &drift.Freshness)
	d.choice(body, "correct", &drift.Correct, "off", "propose", "apply")
	d.boolean(body, "allow_destroy", &drift.AllowDestroy)
	d.count(body, "max_changes", &drift.MaxChanges)
	d.count(body, "flap_limit", &drift.FlapLimit)
	d.windows(body, &drift.Windows)
	d.freshness(body, *drift)
	// A workspace's rules come beside those of defaults.
	drift.Ignore = slices.Clone(drift.Ignore)
	for _, b := range body.Blocks {
		if b.Type != "ignore" {
			continue
		}
		if i, ok := d.ignore(b); ok {
			drift.Ignore = append(drift.Ignore, i)
		}
	}
}

func (d *decoder) timeZone(body *hclsyntax.Body, to *string) {
	var s string
	rng, ok := d.text(body, "time_zone", &s)
	if !ok {
		return
	}
	if hint, ok := checkZone(s); !ok {
		d.problem(rng, hint, "there is no time zone %q", cut(s, 60))
		return
	}
	*to = s
}

// schedule reads a cron expression; an empty one means that nothing is
// checked.
func (d *decoder) schedule(body *hclsyntax.Body, to *string) {
	var s string
	rng, ok := d.text(body, "schedule", &s)
	if !ok {
		return
	}
	if s != "" {
		if _, err := ParseCron(s); err != nil {
			hint := `write it like "0 6 * * *" (minute, hour, day of the month, month, day of the week), "@daily" or "CRON_TZ=Europe/Berlin 0 6 * * 1-5"`
			if near := nearestCron(s); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			d.problem(rng, hint, "schedule is not a cron expression: %v", err)
			return
		}
	}
	*to = s
}

// wholeMinutes writes "24h" where time.Duration writes "24h0m0s".
var wholeMinutes = strings.NewReplacer("h0m0s", "h", "m0s", "m")

// freshness refuses one that ends before the next check: the workspace would be
// unknown in between. Schedule and freshness may come from defaults; who writes
// one of them is told.
func (d *decoder) freshness(body *hclsyntax.Body, drift Drift) {
	a, ok := body.Attributes["freshness"]
	if !ok {
		a, ok = body.Attributes["schedule"]
	}
	s, err := drift.Cron()
	if !ok || err != nil || s == nil || drift.Freshness == 0 {
		return
	}
	if gap := longestGap(s); drift.Freshness < gap {
		d.problem(a.Expr.Range(), "make freshness longer than that, or leave it out: it is two slots of the schedule then",
			"freshness is %s, and the schedule leaves %s between two checks", wholeMinutes.Replace(drift.Freshness.String()), wholeMinutes.Replace(gap.String()))
	}
}

func (d *decoder) windows(body *hclsyntax.Body, to *[]string) {
	var list []string
	ranges, ok := d.texts(body, "windows", &list)
	if !ok {
		return
	}
	for i, s := range list {
		if _, err := ParseWindow(s); err != nil {
			hint := `write it like "Mon-Fri 09:00-17:00" or "22:00-04:00"`
			if near := nearestWindow(s); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			d.problem(ranges[i], hint, "windows: %v", err)
			return
		}
	}
	*to = list
}

// ignore reads one rule.
func (d *decoder) ignore(b *hclsyntax.Block) (Ignore, bool) {
	var i Ignore
	if len(b.Labels) != 1 {
		d.problem(b.TypeRange, `write ignore "aws_autoscaling_group.*" { … }`, "an ignore block has one label, a pattern of addresses")
		return i, false
	}
	i.Address = b.Labels[0]
	before := len(d.problems)
	if hint, err := CheckAddress(i.Address); err != nil {
		d.problem(b.LabelRanges[0], hint, "ignore: %v", err)
	}
	d.known(b.Body, fmt.Sprintf("ignore %q", i.Address), []string{"attributes", "reason", "until"}, nil)
	ranges, _ := d.texts(b.Body, "attributes", &i.Attributes)
	for n, a := range i.Attributes {
		if hint, err := CheckAttribute(a); err != nil {
			d.problem(ranges[n], hint, "ignore: %v", err)
		}
	}
	if _, ok := d.text(b.Body, "reason", &i.Reason); !ok || strings.TrimSpace(i.Reason) == "" {
		d.problem(b.TypeRange, `write reason = "…": who reads this in a year wants to know`, "ignore %q has no reason", cut(i.Address, 60))
	}
	var until string
	if rng, ok := d.text(b.Body, "until", &until); ok {
		d.until(rng, until, &i.Until)
	}
	return i, len(d.problems) == before
}

func (d *decoder) until(rng hcl.Range, s string, to *time.Time) {
	t, err := ParseUntil(s)
	if err != nil {
		d.problem(rng, `write it like "2027-03-31"; the rule counts through that day`, "until is %q, which is no date", cut(s, 60))
		return
	}
	*to = t
}

// ParseUntil reads a day, which is over at its end in UTC, or a moment in RFC
// 3339.
func ParseUntil(s string) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	return time.Parse(time.RFC3339, s)
}
