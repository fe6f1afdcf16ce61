package markdown

import (
	"fmt"
	"html"
	"slices"
	"strings"

	"holdfast/runner/plan"
)

// section is one collapsed block: its parts that are never cut, and its
// bodies, of which lines may be left out.
type section struct {
	head, tail string
	bodies     []body
	page       string // link to all of it; may be empty
}

// body is a code block.
type body struct {
	title, language, text string
	ticks                 int // backticks of its fence
}

func newBody(title, language, text string) body {
	text = breakTicks(strings.TrimRight(text, "\n"))
	return body{title: title, language: language, text: text, ticks: longestRun(text) + 1}
}

func (s section) size() int {
	n := 0
	for _, b := range s.bodies {
		n += len(b.text)
	}
	return n
}

// render writes the section with at most share bytes of its bodies' text.
func (s section) render(share int) string {
	sizes := make([]int, len(s.bodies))
	for i, b := range s.bodies {
		sizes[i] = len(b.text)
	}
	var out strings.Builder
	out.WriteString(s.head)
	for i, n := range fill(sizes, share) {
		b := s.bodies[i]
		if b.title != "" {
			out.WriteString(b.title + "\n\n")
		}
		kept, hidden := cutLines(b.text, n)
		out.WriteString(fence(b.language, kept, b.ticks))
		if hidden > 0 {
			fmt.Fprintf(&out, "\n… %s not shown here", count(hidden, "more line"))
			if s.page != "" {
				out.WriteString(": see " + s.page)
			}
			out.WriteString(".\n")
		}
		if i < len(s.bodies)-1 {
			out.WriteString("\n")
		}
	}
	out.WriteString(s.tail)
	return out.String()
}

// cutLines keeps the lines that fit into n bytes and counts the others.
func cutLines(s string, n int) (kept string, hidden int) {
	s = strings.TrimRight(s, "\n")
	if len(s) <= n {
		return s, 0
	}
	end := strings.LastIndexByte(s[:n+1], '\n')
	if end < 0 {
		return "", strings.Count(s, "\n") + 1
	}
	return s[:end], strings.Count(s[end+1:], "\n") + 1
}

// fill shares a budget among sizes: small ones get all they ask for, and what
// is left is divided evenly among the large ones.
func fill(sizes []int, budget int) []int {
	out := make([]int, len(sizes))
	order := make([]int, len(sizes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return sizes[a] - sizes[b] })
	for k, i := range order {
		out[i] = min(sizes[i], budget/(len(order)-k))
		budget -= out[i]
	}
	return out
}

// minShare is the least of a large diff that is worth showing, in bytes.
const minShare = 300

// sections adds sections within a budget. Those that come last are left out
// where there is no room for a useful part of each.
func (w *writer) sections(list []section, budget int) (left int) {
	sizes := make([]int, len(list))
	fixed := make([]int, len(list))
	need := 0
	fits := 0
	for i, s := range list {
		sizes[i] = s.size()
		fixed[i] = len(s.render(0))
		need += fixed[i] + min(sizes[i], minShare)
		if need > budget {
			break
		}
		budget -= fixed[i]
		need -= fixed[i]
		fits++
	}
	for i, share := range fill(sizes[:fits], budget) {
		w.add(list[i].render(share))
	}
	return len(list) - fits
}

// details adds a section for each workspace that has something to show.
// Failed and held ones are served first.
func (w *writer) details() {
	var urgent, others []section
	for _, ws := range w.report.Workspaces {
		s, ok := w.section(ws)
		switch {
		case !ok:
		case rank(ws) < 2:
			urgent = append(urgent, s)
		default:
			others = append(others, s)
		}
	}
	budget := w.room()
	if len(others) > 0 {
		budget = budget * 3 / 5
	}
	left := w.sections(urgent, budget)
	left += w.sections(others, w.room())
	if left > 0 {
		w.missing = append(w.missing, "the details of "+count(left, "workspace"))
	}
}

func (w *writer) section(ws Workspace) (section, bool) {
	s := section{page: runLink(w.report.Base, "the run's page", ws.RunID)}
	if s.page == "" {
		s.page = link("the page", w.report.Page)
	}
	if ws.Error != "" {
		s.bodies = append(s.bodies, newBody("", "", strings.Join(lines(ws.Error), "\n")))
	}
	s.bodies = append(s.bodies, plans(ws)...)
	if len(s.bodies) == 0 && len(ws.Notes) == 0 {
		return s, false
	}
	open := "<details>"
	if ws.State == "failed" {
		open = "<details open>"
	}
	s.head = "\n" + open + "<summary>" + inHTML(ws.Name) + ": " + html.EscapeString(headline(ws)) + "</summary>\n\n"
	var tail strings.Builder
	for i, n := range ws.Notes {
		if i == 10 {
			fmt.Fprintf(&tail, "\nand %s\n", count(len(ws.Notes)-i, "more note"))
			break
		}
		tail.WriteString("\n" + text(n) + "\n")
	}
	s.tail = tail.String() + "\n</details>\n"
	return s, true
}

// headline is what a collapsed section says.
func headline(w Workspace) string {
	s := SummaryText(w.Plan.Summary())
	switch w.State {
	case "applied":
		return done(w.Plan.Summary())
	case "held":
		if w.Comparison != nil && w.Comparison.Verdict == plan.Changed {
			return "held, because the plan is not the one that was reviewed"
		}
		return "held"
	case "failed":
		return kind(w) + " failed"
	case "planned", "no_changes":
		return s
	}
	if w.Plan == nil {
		return cut(visible(w.State), maxName)
	}
	return s
}

// plans are the code blocks of a workspace's plans: one diff, or for what is
// held what differs, what was reviewed and what would be done now.
func plans(w Workspace) []body {
	if w.State == "superseded" {
		return nil // a newer commit's plan is what counts
	}
	if w.State == "held" && w.Comparison != nil {
		out := []body{newBody("What differs:", "", CompareText(*w.Comparison, w.Reviewed, w.Plan))}
		if w.Reviewed != nil {
			out = append(out, newBody("The plan that was reviewed:", "diff", Diff(w.Reviewed)))
		}
		if w.Plan != nil {
			out = append(out, newBody("The plan as it is now:", "diff", Diff(w.Plan)))
		}
		return out
	}
	if w.Plan == nil || w.Plan.Empty() && len(w.Plan.Reads) == 0 {
		return nil
	}
	return []body{newBody("", "diff", Diff(w.Plan))}
}
