package markdown

import (
	"cmp"
	"fmt"
	"strings"

	"holdfast/runner/plan"
)

// The states of a commit status, as hosts name them.
const (
	StatusPending = "pending"
	StatusSuccess = "success"
	StatusFailure = "failure"
)

// maxStatus is the longest description that every host takes (GitHub's
// limit), in characters.
const maxStatus = 140

// WorkspaceStatus is the commit status of one workspace.
func WorkspaceStatus(w Workspace) (state, description string) {
	var s plan.Summary
	if w.Plan != nil {
		s = w.Plan.Summary()
	}
	switch w.State {
	case "queued":
		state, description = StatusPending, "Queued"
		if w.Waiting != "" {
			description += ": " + w.Waiting
		}
	case "running":
		state, description = StatusPending, "Running"
		if w.Step != "" {
			description += ": " + w.Step
		}
	case "no_changes":
		state, description = StatusSuccess, "No changes"
	case "planned":
		state, description = StatusSuccess, capital(SummaryText(s))
	case "applied":
		state, description = StatusSuccess, "Applied: "+done(s)
	case "held":
		state, description = StatusFailure, "Held: a person must decide"
		if w.Comparison != nil && w.Comparison.Verdict == plan.Changed {
			description = "Held: the plan is not the one that was reviewed"
		}
	case "failed":
		state, description = StatusFailure, capital(kind(w))+" failed"
		if first := firstLine(w.Error); first != "" {
			description += ": " + first
		}
	case "canceled":
		state, description = StatusFailure, capital(kind(w))+" canceled"
	case "superseded":
		state, description = StatusSuccess, "Superseded by a newer commit"
		if first := firstLine(w.Error); first != "" {
			description = capital(first)
		}
	case "unknown":
		state, description = StatusPending, "Outcome unknown: it is being found out"
	default:
		state, description = StatusPending, w.State
	}
	return state, cut(visible(description), maxStatus)
}

// Status is the commit status of all workspaces of a pull request: failed as
// soon as one is, pending while one is not finished.
func Status(list []Workspace) (state, description string) {
	if len(list) == 0 {
		return StatusSuccess, "No workspace is affected"
	}
	var sum plan.Summary
	counts := map[string]int{}
	concerned, applied := 0, 0
	for _, w := range list {
		counts[w.State]++
		if w.Plan != nil && (w.State == "planned" || w.State == "applied") && !w.Plan.Empty() {
			sum = plus(sum, w.Plan.Summary())
			concerned++
		}
		if w.State == "applied" {
			applied++
		}
	}
	bad := counts["failed"] + counts["held"] + counts["canceled"]
	open := counts["queued"] + counts["running"] + counts["unknown"]
	switch {
	case bad > 0:
		state, description = StatusFailure, tally(counts, "failed", "held", "canceled")+" of "+count(len(list), "workspace")
	case open > 0:
		state = StatusPending
		description = fmt.Sprintf("%d of %s finished", len(list)-open, count(len(list), "workspace"))
	case concerned == 0 && counts["superseded"] > 0:
		state, description = StatusSuccess, tally(counts, "superseded")+" of "+count(len(list), "workspace")
	case concerned == 0:
		state, description = StatusSuccess, "No changes in "+count(len(list), "workspace")
	case applied == concerned:
		state, description = StatusSuccess, "Applied: "+done(sum)+" in "+count(concerned, "workspace")
	default:
		state, description = StatusSuccess, capital(SummaryText(sum))+" in "+count(concerned, "workspace")
	}
	return state, cut(visible(description), maxStatus)
}

func plus(a, b plan.Summary) plan.Summary {
	return plan.Summary{
		Add: a.Add + b.Add, Change: a.Change + b.Change, Replace: a.Replace + b.Replace, Destroy: a.Destroy + b.Destroy,
		Forget: a.Forget + b.Forget, Import: a.Import + b.Import, Move: a.Move + b.Move, Outputs: a.Outputs + b.Outputs,
	}
}

// tally says how many there are of each of these states.
func tally(counts map[string]int, states ...string) string {
	var parts []string
	for _, s := range states {
		if n := counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return strings.Join(parts, ", ")
}

// done says what an apply did: "2 added, 1 destroyed".
func done(s plan.Summary) string {
	return strings.NewReplacer("to add", "added", "to change", "changed", "to replace", "replaced", "to destroy", "destroyed",
		"to forget", "forgotten", "to import", "imported", "to move", "moved").Replace(SummaryText(s))
}

func kind(w Workspace) string {
	if w.Kind == "" {
		return "plan"
	}
	return w.Kind
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// firstLine finds the first line of an engine's error that says something: it
// draws a box around its errors, and may warn of something else first.
func firstLine(s string) string {
	first, failed := "", false
	for _, l := range strings.Split(ansi.ReplaceAllString(s, ""), "\n") {
		l, names := strings.CutPrefix(strings.TrimSpace(strings.TrimLeft(l, "│╷╵ \t")), "Error:")
		l, failed = strings.TrimSpace(l), failed || names
		if l != "" && failed {
			return l
		}
		first = cmp.Or(first, l)
	}
	return first
}
