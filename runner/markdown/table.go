package markdown

import (
	"fmt"
	"strings"

	"holdfast/runner/plan"
)

var symbols = map[string]string{
	"queued":     "⏳ queued",
	"running":    "⏳ running",
	"no_changes": "✅ no changes",
	"planned":    "✅ planned",
	"applied":    "✅ applied",
	"held":       "⏸ held",
	"failed":     "❌ failed",
	"canceled":   "⏹ canceled",
	"superseded": "⏭ superseded",
	"unknown":    "❓ unknown",
}

// result is a workspace's cell in the result column.
func result(w Workspace) string {
	s := symbols[w.State]
	if s == "" {
		return cell(w.State)
	}
	switch {
	case w.State == "running" && w.Step != "":
		s += ": " + cell(w.Step)
	case w.State == "failed" && w.Kind == "apply":
		s = "❌ apply failed"
	case w.State == "planned" && onlyOutputs(w.Plan):
		s += " (outputs only)"
	}
	return s
}

func onlyOutputs(p *plan.Plan) bool {
	return p != nil && len(p.Outputs) > 0 && len(p.Changes) == 0
}

// column is a count in the table. An optional one is there only where it is
// not 0 everywhere.
type column struct {
	name     string
	optional bool
	warn     bool // what is not 0 is bold
	count    func(plan.Summary) int
}

var columns = []column{
	{"add", false, false, func(s plan.Summary) int { return s.Add }},
	{"change", false, false, func(s plan.Summary) int { return s.Change }},
	{"replace", false, true, func(s plan.Summary) int { return s.Replace }},
	{"destroy", false, true, func(s plan.Summary) int { return s.Destroy }},
	{"forget", true, true, func(s plan.Summary) int { return s.Forget }},
	{"import", true, false, func(s plan.Summary) int { return s.Import }},
	{"move", true, false, func(s plan.Summary) int { return s.Move }},
}

// table adds the table of workspaces, as many rows as fit into most of the
// room: a row says more than a diff.
func (w *writer) table() {
	list := w.report.Workspaces
	if len(list) == 0 {
		return
	}
	var sum plan.Summary
	for _, ws := range list {
		sum = plus(sum, ws.Plan.Summary())
	}
	head, rule := "| workspace | result |", "| --- | --- |"
	var shown []column
	for _, c := range columns {
		if !c.optional || c.count(sum) > 0 {
			shown = append(shown, c)
			head += " " + c.name + " |"
			rule += " ---: |"
		}
	}
	links := link("run", w.report.Base) != ""
	if links {
		head, rule = head+" |", rule+" --- |"
	}
	room := w.room()*4/5 - len(head) - len(rule) - 3
	var rows strings.Builder
	for i, ws := range list {
		r := row(ws, shown)
		if links {
			r += " " + runLink(w.report.Base, "run", ws.RunID) + " |"
		}
		if room -= len(r) + 1; room < 0 {
			counts := map[string]int{}
			for _, rest := range list[i:] {
				counts[strings.ReplaceAll(rest.State, "_", " ")]++
			}
			w.missing = append(w.missing, "the rows of "+count(len(list)-i, "more workspace")+" ("+tallyAll(counts)+")")
			break
		}
		rows.WriteString(r + "\n")
	}
	if rows.Len() > 0 {
		w.add("\n" + head + "\n" + rule + "\n" + rows.String())
	}
}

func tallyAll(counts map[string]int) string {
	s := tally(counts, "failed", "held", "unknown", "running", "queued", "planned", "applied", "canceled", "no changes", "superseded")
	if s == "" {
		return "of an unknown state"
	}
	return s
}

func row(w Workspace, shown []column) string {
	r := "| " + cell(w.Name) + " | " + result(w) + " |"
	s := w.Plan.Summary()
	for _, c := range shown {
		switch n := c.count(s); {
		case w.Plan == nil && w.State != "no_changes":
			r += " |"
		case n > 0 && c.warn:
			r += fmt.Sprintf(" **%d** |", n)
		default:
			r += fmt.Sprintf(" %d |", n)
		}
	}
	return r
}

// runLink links to a run's page.
func runLink(base, label, id string) string {
	if id == "" {
		return ""
	}
	return link(label, base, "runs", id)
}
