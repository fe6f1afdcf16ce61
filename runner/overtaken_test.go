package runner

import (
	"slices"
	"testing"
	"time"

	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/workspaces"
)

// A check or a correction that waited while a later commit was applied must
// not take that commit for drift: the correction would put the older one over
// it.
func TestAppliedMeanwhile(t *testing.T) {
	f := newFixture(t)
	f.handlers[JobDrift], f.handlers[JobCorrect] = f.handleRun(f.drift), f.handleRun(f.correct)
	w := knownWorkspace{Workspace: workspaces.Workspace{Name: "a", Dir: "a", Drift: workspaces.Drift{Correct: "apply"}}, Inputs: "old"}
	applied := func(commit, inputs string) {
		err := f.changeWorkspace(t.Context(), f.repo, w.Workspace, func(rec *WorkspaceRecord) {
			rec.State, rec.AppliedCommit, rec.AppliedInputs = InSync, commit, inputs
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	applied("0ld", "old")
	check, err := f.startDrift(t.Context(), Repository{Repository: f.repo}, w, "0ld", "now", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	x := &execution{r: f.Runner, repo: f.repo, run: check, in: runPayload{Workspace: w.Workspace, Inputs: "old"}}
	x.result.Drift = &plan.DriftReport{Class: plan.CloudChange}
	if err := f.startCorrect(t.Context(), x, plan.DriftReport{}); err != nil {
		t.Fatal(err)
	}
	applied("1ater", "new")
	f.work(JobDrift, JobCorrect)
	if got, want := f.runs(), []string{"a superseded", "a superseded"}; !slices.Equal(got, want) {
		t.Errorf("runs %v instead of %v", got, want)
	}
	var rec WorkspaceRecord
	if _, err := f.load(t.Context(), workspaceName(f.repo, "a"), &rec); err != nil {
		t.Fatal(err)
	}
	if rec.State != InSync || rec.AppliedCommit != "1ater" || rec.Class != "" {
		t.Errorf("afterwards %+v", rec)
	}
	if n := len(f.jobs("")); n != 0 {
		t.Errorf("%d jobs are left", n)
	}
}

// What follows from an ended run is done again where it failed half way, perhaps
// after a later run of the workspace has ended: old news change nothing.
func TestOldNews(t *testing.T) {
	f := newFixture(t)
	w := workspaces.Workspace{Name: "a", Dir: "a"}
	ended := func(kind store.Kind, commit string, state store.State, class plan.Class) *execution {
		x := &execution{r: f.Runner, repo: f.repo, in: runPayload{Workspace: w}}
		x.run = store.Run{ID: commit, Kind: kind, Commit: commit, Inputs: commit, State: state, Workspace: "a", Repository: f.repo.String(), EndedAt: f.clock()}
		x.result = Result{Engine: "Terraform", Drift: &plan.DriftReport{Class: class}}
		f.pass(time.Minute)
		return x
	}
	check := ended(store.KindDrift, "0", store.Planned, plan.CloudChange)
	first := ended(store.KindApply, "1", store.Applied, "")
	second := ended(store.KindApply, "2", store.Applied, "")
	for _, x := range []*execution{second, first, check} {
		if err := x.after(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var rec WorkspaceRecord
	if _, err := f.load(t.Context(), workspaceName(f.repo, "a"), &rec); err != nil {
		t.Fatal(err)
	}
	if rec.State != InSync || rec.AppliedCommit != "2" || !rec.CheckedAt.IsZero() {
		t.Errorf("%+v", rec)
	}
}

// A correction that waited while an apply failed half way must not undo the
// half that was applied.
func TestHalfAppliedMeanwhile(t *testing.T) {
	f := newFixture(t)
	f.handlers[JobCorrect] = f.handleRun(f.correct)
	w := workspaces.Workspace{Name: "a", Dir: "a", Drift: workspaces.Drift{Correct: "apply"}}
	x := &execution{r: f.Runner, repo: f.repo, in: runPayload{Workspace: w, Inputs: "old"}}
	x.run = store.Run{ID: "check", Kind: store.KindDrift, Repository: f.repo.String(), Workspace: "a", Commit: "0ld", Inputs: "old"}
	if err := f.startCorrect(t.Context(), x, plan.DriftReport{}); err != nil {
		t.Fatal(err)
	}
	err := f.changeWorkspace(t.Context(), f.repo, w, func(rec *WorkspaceRecord) {
		rec.State, rec.AppliedCommit, rec.AppliedInputs, rec.Unfinished = Pending, "0ld", "old", "1ater"
	})
	if err != nil {
		t.Fatal(err)
	}
	f.work(JobCorrect)
	if got, want := f.runs(), []string{"a superseded"}; !slices.Equal(got, want) {
		t.Errorf("runs %v instead of %v", got, want)
	}
}
