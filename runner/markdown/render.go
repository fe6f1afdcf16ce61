package markdown

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/runner/plan"
)

// Render returns a pull request's comment, in at most max bytes of valid
// UTF-8; 0 or less means no limit. Its first line is Marker, which is nowhere
// else in it. What does not fit is cut at lines, large diffs first, with a
// link to the page that has it; failures, destroys and replacements come
// before everything else, and what is left out is counted. A max below some
// 300 bytes has room for little more than the marker.
func Render(r Report, max int) string {
	if max <= 0 {
		max = 1 << 30
	}
	r.Workspaces = ordered(r.Workspaces)
	w := &writer{report: r, max: max}
	w.add(Marker + "\n" + heading(r) + "\n")
	if r.Notice != "" {
		w.add("\n" + text(r.Notice) + "\n")
	}
	next := next(r)
	// What follows the details is set aside first, with room for what was
	// left out.
	w.reserve = len(next) + 300
	w.problems()
	w.danger()
	w.table()
	w.waiting()
	w.details()
	w.reserve = 0
	w.left()
	w.add(next)
	if out := w.out.String(); len(out) <= max {
		return out
	}
	return minimal(r, max)
}

// Single returns what would be posted for one plan.
func Single(p *plan.Plan, name string, max int) string {
	w := Workspace{Name: name, Kind: "plan", State: "planned", Plan: p}
	if p.Empty() {
		w.State = "no_changes"
	}
	return Render(Report{Workspaces: []Workspace{w}}, max)
}

// minimal is what is said where next to nothing fits.
func minimal(r Report, max int) string {
	_, status := Status(r.Workspaces)
	out := Marker
	for _, line := range []string{text(status), link("Details", r.Page)} {
		if line != "" && len(out)+len(line)+2 <= max {
			out += "\n" + line + "\n"
		}
	}
	return out
}

// ordered puts first what a person must see first; then by name.
func ordered(list []Workspace) []Workspace {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Workspace) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Name, b.Name))
	})
	return list
}

func rank(w Workspace) int {
	switch w.State {
	case "failed":
		return 0
	case "held", "unknown":
		return 1
	case "no_changes":
		return 7
	case "canceled":
		return 6
	case "superseded":
		return 8
	}
	switch s := w.Plan.Summary(); {
	case s.Destroy+s.Replace+s.Forget > 0:
		return 2
	case w.State == "running", w.State == "queued":
		return 3
	case w.State == "planned":
		return 4
	}
	return 5
}

func heading(r Report) string {
	what := "plan"
	if r.Merged {
		what = "apply"
	}
	out := "### Holdfast " + what
	if r.Commit != "" {
		out += " of " + code(shortCommit(r.Commit))
	}
	return out
}

// shortCommit keeps as much of a commit's hash as people compare.
func shortCommit(s string) string {
	if len(s) > 12 && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }) {
		return s[:12]
	}
	return s
}

// writer collects the comment and knows how much room is left.
type writer struct {
	report  Report
	max     int
	reserve int // bytes kept for the end
	out     strings.Builder
	missing []string // what did not fit, for the sentence that says so
}

func (w *writer) add(s string) { w.out.WriteString(s) }

func (w *writer) room() int { return max(0, w.max-w.reserve-w.out.Len()) }

// list adds a headed list, as many items as fit into a share of the room.
func (w *writer) list(head string, items []string, share int, what string) {
	if len(items) == 0 {
		return
	}
	rest := func(n int) string { return fmt.Sprintf("- and %d more\n", n) }
	room := min(share, w.room()) - len(head) - len(rest(len(items)))
	if room < len(items[0]) {
		w.missing = append(w.missing, fmt.Sprintf("%s (%d)", what, len(items)))
		return
	}
	w.add(head)
	for i, item := range items {
		if room -= len(item); room < 0 {
			w.add(rest(len(items) - i))
			return
		}
		w.add(item)
	}
}

func (w *writer) problems() {
	if len(w.report.Problems) == 0 {
		return
	}
	var out []string
	for _, p := range w.report.Problems {
		where := visible(p.File)
		if p.Line > 0 {
			where += fmt.Sprintf(":%d", p.Line)
			if p.Column > 0 {
				where += fmt.Sprintf(":%d", p.Column)
			}
		}
		if p.Workspace != "" {
			where += " (workspace " + visible(p.Workspace) + ")"
		}
		message := strings.TrimSuffix(strings.Join(lines(p.Message), "\n"), "\n")
		out = append(out, where+": "+message)
		if p.Source != "" {
			out = append(out, "    "+strings.Join(lines(p.Source), "\n    "))
			if p.Column > 0 && p.Column <= 200 {
				out = append(out, "    "+strings.Repeat(" ", p.Column-1)+"^")
			}
		}
		if p.Hint != "" {
			out = append(out, "  hint: "+visible(p.Hint))
		}
	}
	s := section{
		head:   fmt.Sprintf("\n❌ **%s in the configuration:**\n\n", capital(count(len(w.report.Problems), "mistake"))),
		bodies: []body{newBody("", "", strings.Join(out, "\n"))},
	}
	if left := w.sections([]section{s}, w.room()/2); left > 0 {
		w.missing = append(w.missing, "mistakes in the configuration")
	}
}

// danger names what is destroyed, replaced or forgotten.
func (w *writer) danger() {
	var items []string
	var sum plan.Summary
	applied := true
	for _, ws := range w.report.Workspaces {
		switch ws.State {
		case "canceled", "superseded", "no_changes":
			continue
		}
		if item := dangers(ws); item != "" {
			items = append(items, "- "+code(ws.Name)+" "+item+"\n")
			sum = plus(sum, ws.Plan.Summary())
			applied = applied && ws.State == "applied"
		}
	}
	what := SummaryText(plan.Summary{Destroy: sum.Destroy, Replace: sum.Replace, Forget: sum.Forget})
	if applied {
		what = done(plan.Summary{Destroy: sum.Destroy, Replace: sum.Replace, Forget: sum.Forget})
	}
	w.list("\n⚠️ **"+capital(what)+":**\n\n", items, w.room()/4, "the resources that are destroyed, replaced or forgotten")
}

const maxNamed = 8 // resources that are named per workspace and kind

func dangers(w Workspace) string {
	if w.Plan == nil {
		return ""
	}
	verbs := []string{"destroys", "replaces", "forgets"}
	if w.State == "applied" {
		verbs = []string{"destroyed", "replaced", "forgot"}
	}
	named := make([][]string, len(verbs))
	for _, c := range w.Plan.Changes {
		switch c.Action {
		case plan.Delete:
			named[0] = append(named[0], c.Address)
		case plan.Replace, plan.ReplaceCreateFirst:
			named[1] = append(named[1], c.Address)
		case plan.Forget, plan.ReplaceForget:
			named[2] = append(named[2], c.Address)
		}
	}
	var parts []string
	for i, list := range named {
		if len(list) > 0 {
			parts = append(parts, verbs[i]+" "+names(list, maxNamed))
		}
	}
	return strings.Join(parts, "; ")
}

// names lists names as code, at most n of them.
func names(list []string, n int) string {
	var out []string
	for _, name := range list[:min(len(list), n)] {
		out = append(out, code(name))
	}
	s := strings.Join(out, ", ")
	if more := len(list) - n; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// waiting says whom the queued runs wait for.
func (w *writer) waiting() {
	var items []string
	for _, ws := range w.report.Workspaces {
		if ws.State == "queued" && ws.Waiting != "" {
			items = append(items, "- "+code(ws.Name)+": "+text(ws.Waiting)+"\n")
		}
	}
	w.list("\n", items, w.room()/4, "who waits for whom")
}

// left says what did not fit and where it is.
func (w *writer) left() {
	if len(w.missing) == 0 {
		return
	}
	s := "\nNot shown here for want of room: " + strings.Join(w.missing, ", ") + "."
	if page := link("all of it", w.report.Page); page != "" {
		s += " See " + page + "."
	} else if base := link("Holdfast", w.report.Base); base != "" {
		s += " See " + base + "."
	}
	w.add(s + "\n")
}

// next says on one line what happens next. Workspaces of which the same is
// said are named together, unless it is all of them.
func next(r Report) string {
	var order []string
	by := map[string][]string{}
	for _, w := range r.Workspaces {
		if w.Next == "" {
			continue
		}
		if by[w.Next] == nil {
			order = append(order, w.Next)
		}
		by[w.Next] = append(by[w.Next], w.Name)
	}
	switch {
	case len(order) == 0:
		return defaultNext(r)
	case len(order) == 1:
		return "\n**Next:** " + text(order[0]) + "\n"
	}
	var parts []string
	for _, n := range order[:min(len(order), 5)] {
		parts = append(parts, names(by[n], 3)+": "+text(n))
	}
	s := strings.Join(parts, " · ")
	if more := len(order) - 5; more > 0 {
		s += fmt.Sprintf(" · and %d more", more)
	}
	return "\n**Next:** " + s + "\n"
}

// defaultNext is said where no workspace has a sentence of its own.
func defaultNext(r Report) string {
	if r.Merged || len(r.Workspaces) == 0 {
		return ""
	}
	for _, w := range r.Workspaces {
		if w.State == "planned" {
			return "\n**Next:** merging applies these plans, as long as they are still the same then.\n"
		}
	}
	return ""
}
