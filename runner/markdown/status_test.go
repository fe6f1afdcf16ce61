package markdown

import (
	"strings"
	"testing"

	"holdfast/runner/plan"
)

func TestWorkspaceStatus(t *testing.T) {
	tests := []struct {
		w                  Workspace
		state, description string
	}{
		{Workspace{State: "queued"}, StatusPending, "Queued"},
		{Workspace{State: "queued", Waiting: "waits for pull request 3"}, StatusPending, "Queued: waits for pull request 3"},
		{Workspace{State: "running", Step: "init"}, StatusPending, "Running: init"},
		{Workspace{State: "no_changes"}, StatusSuccess, "No changes"},
		{Workspace{State: "planned", Plan: dangerous()}, StatusSuccess, "1 to replace, 1 to destroy, 1 to forget"},
		{Workspace{State: "applied", Plan: dangerous()}, StatusSuccess, "Applied: 1 replaced, 1 destroyed, 1 forgotten"},
		{Workspace{State: "held"}, StatusFailure, "Held: a person must decide"},
		{Workspace{State: "held", Comparison: &plan.Comparison{Verdict: plan.Changed}}, StatusFailure, "Held: the plan is not the one that was reviewed"},
		{Workspace{State: "failed", Error: "╷\n│ \x1b[31mError:\x1b[0m \n│ No such file\n"}, StatusFailure, "Plan failed: No such file"},
		{Workspace{State: "failed", Kind: "apply"}, StatusFailure, "Apply failed"},
		{Workspace{Kind: "apply", State: "failed", Error: "There are some problems with the CLI configuration:\n╷\n│ Warning: Unable to open it\n╵\n\nError: Cannot update server c\n\n  with x"}, StatusFailure, "Apply failed: Cannot update server c"},
		{Workspace{State: "failed", Error: strings.Repeat("ü", 500)}, StatusFailure, "Plan failed: " + strings.Repeat("ü", 126) + "…"},
		{Workspace{State: "canceled", Kind: "apply"}, StatusFailure, "Apply canceled"},
		{Workspace{State: "superseded"}, StatusSuccess, "Superseded by a newer commit"},
		{Workspace{State: "unknown"}, StatusPending, "Outcome unknown: it is being found out"},
	}
	for _, tc := range tests {
		if state, description := WorkspaceStatus(tc.w); state != tc.state || description != tc.description {
			t.Errorf("%s: got %s, %q; want %s, %q", tc.w.State, state, description, tc.state, tc.description)
		}
	}
}

func TestStatus(t *testing.T) {
	planned := Workspace{State: "planned", Plan: created()}
	tests := []struct {
		name               string
		list               []Workspace
		state, description string
	}{
		{"none", nil, StatusSuccess, "No workspace is affected"},
		{"planned", []Workspace{planned, {State: "planned", Plan: dangerous()}, {State: "no_changes"}}, StatusSuccess,
			"1 to add, 1 to replace, 1 to destroy, 1 to forget, 1 output to change in 2 workspaces"},
		{"nothing to do", []Workspace{{State: "no_changes"}}, StatusSuccess, "No changes in 1 workspace"},
		{"under way", []Workspace{planned, {State: "running"}, {State: "queued"}}, StatusPending, "1 of 3 workspaces finished"},
		{"failed while others run", []Workspace{{State: "failed"}, {State: "held"}, {State: "running"}}, StatusFailure, "1 failed, 1 held of 3 workspaces"},
		{"applied", []Workspace{{State: "applied", Plan: created()}, {State: "no_changes"}}, StatusSuccess, "Applied: 1 added, 1 output changed in 1 workspace"},
	}
	for _, tc := range tests {
		if state, description := Status(tc.list); state != tc.state || description != tc.description {
			t.Errorf("%s: got %s, %q", tc.name, state, description)
		}
	}
}
