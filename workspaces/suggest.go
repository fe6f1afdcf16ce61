package workspaces

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file finds the valid form that somebody may have meant.

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
	// What is near an abbreviation is another place: PST is not EST.
	if hint := near(name, zones); hint != "" && name != strings.ToUpper(name) {
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

// around lists what a range over the end of a field means: Friday to Monday.
func around(from, to, least, most int) string {
	var out []string
	for n := from; ; n++ {
		if n > most {
			n = least
		}
		out = append(out, strconv.Itoa(n))
		if n == to || len(out) > 60 {
			return strings.Join(out, ",")
		}
	}
}

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
				if i > 1 && n > c.most {
					return w // no day or month is near it
				}
				return strconv.Itoa(min(max(n, c.least), c.most))
			})
			if from, to, ok := strings.Cut(expr, "-"); ok {
				if a, err := strconv.Atoi(from); err == nil {
					if b, err := strconv.Atoi(to); err == nil && a > b {
						expr = around(a, b, c.least, c.most)
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
