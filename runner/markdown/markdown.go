// Package markdown renders what is posted, from stored results alone, so that
// the same results always give the same text and every rendering is a golden
// file. Everything rendered is hostile: names, values and errors come from
// pull requests, and none may break out of its code block, mention people or
// carry a link of its own.
package markdown

import (
	"holdfast/runner/plan"
	"holdfast/workspaces"
)

// Marker is the first line of every comment that Holdfast edits in place; it
// finds its own comment by it.
const Marker = "<!-- holdfast -->"

// Report is everything that one pull request's comment says.
type Report struct {
	Commit     string               // the head that was planned
	Merged     bool                 // the applies of the merge are shown
	Base       string               // the server's URL for links; empty: no links
	Page       string               // the URL of the page with everything of the pull request; empty: no such link
	Problems   []workspaces.Problem // of holdfast.hcl as a whole
	Workspaces []Workspace
	// Notice is a sentence above the table, such as why nothing is planned.
	Notice string
}

// Workspace is a row of the table and its details.
type Workspace struct {
	Name  string
	Dir   string
	RunID string // its page is Base + "/runs/" + RunID
	// Kind is "plan" or "apply".
	Kind string
	// State is the run's state: queued, running, no_changes, planned, applied,
	// held, failed, canceled, superseded, unknown.
	State string
	// Step is what a running run does now.
	Step string
	// Plan is what the run would do or did; nil where there is none.
	Plan *plan.Plan
	// Reviewed and Comparison are set on a held apply.
	Reviewed   *plan.Plan
	Comparison *plan.Comparison
	// Error is what the engine or Holdfast said, when failed or held.
	Error string
	// Notes are sentences under the diff ("state is kept in …").
	Notes []string
	// Waiting says whom a queued run waits for.
	Waiting string
	// Next says what happens next, in one sentence.
	Next string
}
