package workspaces

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
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

// MatchAddress reports whether a resource's address matches a pattern, in
// which * stands for any characters, dots and brackets included. A pattern
// without an instance key matches all instances.
func MatchAddress(pattern, address string) bool {
	if wildcard(pattern, address) {
		return true
	}
	for i := range address {
		if address[i] == '[' && keySize(address[i:]) == len(address)-i {
			return wildcard(pattern, address[:i])
		}
	}
	return false
}

// MatchAttribute reports whether a pattern covers an attribute's path: the
// path itself and all below it, with * for any characters.
func MatchAttribute(pattern, path string) bool {
	if wildcard(pattern, path) {
		return true
	}
	for i := range path {
		if (path[i] == '.' || path[i] == '[') && wildcard(pattern, path[:i]) {
			return true
		}
	}
	return false
}

// wildcard matches s with a pattern that has * for any characters.
func wildcard(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	last := len(parts) - 1
	for _, p := range parts[1:last] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, parts[last])
}

// maxPattern bounds patterns of addresses and attributes, in bytes.
const maxPattern = 300

// CheckAddress says what is wrong with a pattern of addresses, and the valid
// form that may have been meant.
func CheckAddress(pattern string) (hint string, err error) {
	const form = `write it like "aws_instance.web", "module.vpc.*" or "aws_autoscaling_group.*"`
	switch {
	case pattern == "":
		return form, errors.New("the pattern is empty")
	case len(pattern) > maxPattern:
		return form, fmt.Errorf("the pattern is longer than %d characters", maxPattern)
	case validAddress(pattern):
		return "", nil
	}
	fixed := strings.TrimSpace(pattern)
	fixed = strings.NewReplacer(`\.`, ".", ".*", ".*", "%", "*", "/", ".", "…", "*").Replace(strings.Trim(fixed, "^$"))
	for _, f := range []string{fixed, strings.Trim(fixed, "."), strings.ReplaceAll(fixed, ".+", ".*"), fixed + ".*", fixed + "]", fixed + `"]`} {
		if validAddress(f) {
			return fmt.Sprintf("did you mean %q?", f), fmt.Errorf("%q is no pattern of a resource's address", cut(clean(pattern), 60))
		}
	}
	return form, fmt.Errorf("%q is no pattern of a resource's address", cut(clean(pattern), 60))
}

var addressPart = regexp.MustCompile(`^[\pL_*][\pL\pN_*-]*$`)

// validAddress reports whether a pattern could be an address: module.NAME
// pairs, then data or not, a type and a name, each with an instance key or
// not. A part with * may stand for all that follows.
func validAddress(pattern string) bool {
	parts, ok := addressParts(pattern)
	if !ok {
		return false
	}
	for len(parts) >= 2 && parts[0] == "module" {
		parts = parts[2:]
		if len(parts) == 0 {
			return true // everything of a module, with or without a * for it
		}
	}
	if len(parts) > 0 && parts[0] == "data" {
		parts = parts[1:]
	}
	if len(parts) == 1 {
		return strings.Contains(parts[0], "*")
	}
	return len(parts) == 2 || slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(p, "*") })
}

// addressParts splits a pattern at its dots, without the instance keys.
func addressParts(pattern string) ([]string, bool) {
	var parts []string
	rest := pattern
	for {
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			return append(parts, rest), addressPart.MatchString(rest)
		}
		if !addressPart.MatchString(rest[:end]) {
			return nil, false
		}
		parts = append(parts, rest[:end])
		if rest[end] == '[' {
			size := keySize(rest[end:])
			if size == 0 {
				return nil, false
			}
			end += size
			if end == len(rest) {
				return parts, true
			}
			if rest[end] != '.' {
				return nil, false
			}
		}
		rest = rest[end+1:]
	}
}

var instanceKey = regexp.MustCompile(`^\[(?:\d+|\*|"(?:[^"\\]|\\.)*")\]`)

// keySize is the length of the instance key that s begins with; 0 for none.
func keySize(s string) int { return len(instanceKey.FindString(s)) }

// CheckAttribute says what is wrong with a pattern of an attribute's path.
func CheckAttribute(pattern string) (hint string, err error) {
	const form = `write it like "tags", "tags.*", "ingress[*].port" or labels["a.b/c"]`
	rest := pattern
	if pattern == "" || len(pattern) > maxPattern {
		return form, errors.New("an attribute's pattern has from 1 to 300 characters")
	}
	for i := 0; rest != ""; i++ {
		switch {
		case rest[0] == '[' && i > 0:
			size := keySize(rest)
			if size == 0 {
				return form, fmt.Errorf("%q is no pattern of an attribute", cut(clean(pattern), 60))
			}
			rest = rest[size:]
			continue
		case rest[0] == '.' && i > 0:
			rest = rest[1:]
		case i > 0:
			return form, fmt.Errorf("%q is no pattern of an attribute", cut(clean(pattern), 60))
		}
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			end = len(rest)
		}
		if !addressPart.MatchString(rest[:end]) {
			if fixed := strings.Trim(strings.TrimSpace(pattern), "."); fixed != pattern && fixed != "" {
				return fmt.Sprintf("did you mean %q?", fixed), fmt.Errorf("%q is no pattern of an attribute", cut(clean(pattern), 60))
			}
			return form, fmt.Errorf("%q is no pattern of an attribute", cut(clean(pattern), 60))
		}
		rest = rest[end:]
	}
	return "", nil
}

//go:embed zones.txt
var zoneNames string

// checkZone says whether there is a time zone of that name, and else which one
// may have been meant.
func checkZone(name string) (hint string, ok bool) {
	zones := strings.Fields(zoneNames)
	if _, err := time.LoadLocation(name); err == nil && name != "" && name != "Local" {
		return "", true
	}
	for _, z := range zones {
		city := z[strings.LastIndexByte(z, '/')+1:]
		if plain := strings.ReplaceAll(strings.TrimSpace(name), " ", "_"); strings.EqualFold(z, plain) || strings.EqualFold(city, plain) {
			return fmt.Sprintf("did you mean %q?", z), false
		}
	}
	if hint := near(name, zones); hint != "" {
		return hint, false
	}
	return `write it like "Europe/Berlin", "America/New_York" or "UTC"`, false
}

// The names of cron's fields, with their bounds.
var cronFields = []struct {
	least, most int
	names       []string
}{
	{0, 59, nil}, {0, 23, nil}, {1, 31, nil},
	{1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{0, 6, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// nearestCron is the valid expression that somebody may have meant; empty
// where nothing can be made of it.
func nearestCron(expr string) string {
	if len(expr) > 256 {
		return ""
	}
	spec, zone := strings.ToLower(strings.TrimSpace(expr)), ""
	if strings.HasPrefix(spec, "cron_tz=") || strings.HasPrefix(spec, "tz=") {
		z, rest, _ := strings.Cut(strings.TrimSpace(expr), " ")
		zone, spec = z+" ", strings.ToLower(strings.TrimSpace(rest))
		if _, name, _ := strings.Cut(z, "="); name != "" {
			if hint, ok := checkZone(name); !ok {
				_, near, _ := strings.Cut(hint, `did you mean "`)
				if near = strings.TrimSuffix(near, `"?`); near == "" {
					return ""
				}
				zone = "CRON_TZ=" + near + " "
			}
		}
	}
	for _, c := range cronCandidates(spec) {
		if _, err := ParseCron(zone + c); err == nil && zone+c != expr {
			return zone + c
		}
	}
	return ""
}

// cronCandidates are the expressions to try for a wrong one, the nearest first.
func cronCandidates(spec string) []string {
	fields := strings.Fields(spec)
	every := strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(spec, "@every"), "every"))
	out := []string{spec}
	if d, err := parseDuration(strings.ReplaceAll(every, " ", "")); err == nil && d >= time.Second {
		out = append(out, "@every "+d.String())
	}
	for _, name := range []string{"@daily", "@hourly", "@weekly", "@monthly", "@yearly"} {
		if near(strings.TrimPrefix(spec, "@"), []string{name[1:]}) != "" || "@"+spec == name {
			out = append(out, name)
		}
	}
	if m := looseTime.FindStringSubmatch(spec); m != nil && len(fields) <= 2 && m[2] != "" {
		minute, _ := strconv.Atoi(m[2])
		hour, _ := strconv.Atoi(looseClock(m)[:2])
		out = append(out, fmt.Sprintf("%d %d * * *", minute, hour))
	}
	switch len(fields) {
	case 6: // with seconds, or with a year
		out = append(out, repairFields(fields[1:]), repairFields(fields[:5]))
	case 4:
		out = append(out, repairFields(append(fields, "*")))
	case 5:
		out = append(out, repairFields(fields))
	}
	return out
}

var word = regexp.MustCompile(`[a-z]+|\d+`)

// repairFields puts what is out of bounds or misspelt in five fields right.
func repairFields(fields []string) string {
	out := make([]string, len(fields))
	for i, f := range fields {
		c := cronFields[i]
		list := strings.Split(f, ",")
		for j, item := range list {
			expr, step, _ := strings.Cut(item, "/")
			expr = word.ReplaceAllStringFunc(expr, func(w string) string {
				n, err := strconv.Atoi(w)
				switch {
				case err != nil && len(w) > 3 && slices.Contains(c.names, w[:3]):
					return w[:3]
				case err != nil:
					if _, name, ok := strings.Cut(near(w, c.names), `"`); ok {
						return strings.TrimSuffix(name, `"?`)
					}
					return w
				case i == 4 && n == 7, i < 2 && n == c.most+1:
					return "0" // the seventh day, the 24th hour, the 60th minute
				}
				return strconv.Itoa(min(max(n, c.least), c.most))
			})
			if from, to, ok := strings.Cut(expr, "-"); ok {
				if a, err := strconv.Atoi(from); err == nil {
					if b, err := strconv.Atoi(to); err == nil && a > b {
						expr = to + "-" + from
					}
				}
			}
			if expr == "" {
				expr = "*"
			}
			if step != "" && step != "0" {
				expr += "/" + step
			}
			list[j] = expr
		}
		out[i] = strings.Join(list, ",")
	}
	return strings.Join(out, " ")
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
