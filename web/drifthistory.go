package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/runner/plan"
)

// Bounds of what is shown of one drift.
const (
	maxTable   = 500 // resources with their values
	maxHistory = 100 // corrections
	maxText    = 200 // bytes of a name within a sentence
)

// historyPage is all that is known of one workspace's drift.
type historyPage struct {
	standing
	FailedChecks []plan.FailedCheck // of the latest check
	Rules        []ruleRow
	Corrections  []correction // the latest first
	Earlier      int          // corrections that are not shown
}

// ruleRow is a rule on a page.
type ruleRow struct {
	rule
	Ended bool
}

func (s *server) driftHistory(w http.ResponseWriter, r *http.Request) {
	d, err := s.standing(r.Context(), r.PathValue("path"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	page, err := s.history(r.Context(), d)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, http.StatusOK, "history", page)
}

func (s *server) history(ctx context.Context, d standing) (historyPage, error) {
	page := historyPage{standing: d}
	check, err := s.latestCheck(ctx, d.Repository, d.Name)
	if err != nil {
		return page, err
	}
	switch {
	case d.Drift.Now != nil:
		page.Ignored = d.Drift.Now.Ignored
	case check.Drift != nil:
		page.Ignored = check.Drift.Ignored
	}
	if check.Drift != nil {
		page.FailedChecks = check.Drift.Checks
	}
	for _, rule := range d.Drift.Ignores {
		page.Rules = append(page.Rules, ruleRow{rule, rule.ended(s.Now())})
	}
	page.Corrections = slices.Clone(d.Drift.Corrections)
	slices.Reverse(page.Corrections)
	if page.Earlier = len(page.Corrections) - maxHistory; page.Earlier > 0 {
		page.Corrections = page.Corrections[:maxHistory]
	}
	return page, nil
}

// driftTable is what drifted, with the values where they are known.
type driftTable struct {
	Resources []plan.DriftedResource
	More      int // that are not shown
}

// tableOf is the table of resources, of which more are not kept.
func tableOf(resources []plan.DriftedResource, more int) driftTable {
	n := min(len(resources), maxTable)
	return driftTable{resources[:n], len(resources) - n + max(more, 0)}
}

// happened says what happened to a resource, after its address.
func happened(r plan.DriftedResource) string {
	said := "was " + r.Change
	switch {
	case r.Change == "created":
		said = "is in the state and not in the configuration"
	case r.Type == "" && strings.HasPrefix(r.Address, "output."):
		said = "has another value"
	case r.Change == "changed" && len(r.Attributes) == 0 && r.Type != "":
		said = "would follow"
	}
	switch r.Action {
	case plan.Replace, plan.ReplaceCreateFirst:
		said += "; putting it right replaces it"
	}
	return said
}

// unvalued are the attributes of a resource whose values are not kept.
func unvalued(r plan.DriftedResource) (out []string) {
	valued := map[string]bool{}
	for _, v := range r.Values {
		valued[v.Attribute] = true
	}
	for _, a := range r.Attributes {
		if !valued[a] {
			out = append(out, a)
		}
	}
	return out
}

// gist says in one line what drifted.
func gist(e *episode) string {
	if len(e.Resources) == 0 {
		return words(string(e.Class))
	}
	var names []string
	for _, r := range e.Resources[:min(len(e.Resources), 3)] {
		name := cut(r.Address) + " " + cut(r.Change)
		if len(r.Attributes) > 0 {
			name += " (" + some(r.Attributes, 3) + ")"
		}
		names = append(names, name)
	}
	said := strings.Join(names, ", ")
	if more := len(e.Resources) - len(names) + max(e.More, 0); more > 0 {
		said += fmt.Sprintf(" and %d more", more)
	}
	return said
}

// some names the first n of a list, and counts the others.
func some(list []string, n int) string {
	var names []string
	for _, name := range list[:min(len(list), n)] {
		names = append(names, cut(name))
	}
	said := strings.Join(names, ", ")
	if more := len(list) - len(names); more > 0 {
		said += fmt.Sprintf(" and %d more", more)
	}
	return said
}

// cut makes a name fit for a sentence: clean and not too long.
func cut(name string) string {
	name = clean(name)
	if len(name) <= maxText {
		return name
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + "…"
}

// lasted is how long something went on, in the two largest units.
func lasted(from, to time.Time) string {
	switch d := max(to.Sub(from), 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days %d h", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// weblink returns an address that came from a host or a cloud if it is one of
// the web, and "" otherwise.
func weblink(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") {
		return u.String()
	}
	return ""
}
