package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

const aDay = 24 * time.Hour

// retains makes a fixture that keeps artifacts and checks for 30 days and runs
// for 400.
func retains(t *testing.T) *fixture {
	f := newFixture(t)
	f.Retention = Retention{Artifacts: 30 * aDay, Checks: 30 * aDay, Runs: 400 * aDay}
	return f
}

// sweep lets time pass and does a sweep, in as many pages as it takes, which it
// returns.
func (f *fixture) sweep(after time.Duration) (pages int) {
	f.Helper()
	f.pass(max(after, retainEvery))
	for {
		pages++
		if err := f.handleRetain(f.Context(), queue.Job{}); err == nil {
			return pages
		} else if !queue.IsSnooze(err) {
			f.Fatal(err)
		}
	}
}

// kept returns the runs that were to be removed and are looked at again.
func (f *fixture) kept() (ids []string) {
	f.Helper()
	records, err := f.Store.Records.List(f.Context(), keptPrefix)
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range records {
		ids = append(ids, strings.TrimPrefix(r.Key, keptPrefix))
	}
	return ids
}

// hasPlan reports whether a run's plan is stored.
func (f *fixture) hasPlan(run string) bool {
	f.Helper()
	p, err := f.loadPlan(f.Context(), run)
	if err != nil {
		f.Fatal(err)
	}
	return p != nil
}

// run returns a stored run; false where it was removed.
func (f *fixture) run(id string) (store.Run, bool) {
	f.Helper()
	run, err := f.Store.Runs.Get(f.Context(), id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		f.Fatal(err)
	}
	return run, err == nil
}

// applies is an engine that plans what changes does, and applies what the gate
// lets pass.
func applies(ctx context.Context, x *execution) (verdict, error) {
	v, err := changes(ctx, x)
	if err != nil || x.run.Kind != store.KindApply {
		return v, err
	}
	now, err := x.r.loadPlan(ctx, x.run.ID)
	if err != nil {
		return verdict{}, err
	}
	seen, err := x.r.reviewedBy(ctx, x.result.Reviewed)
	if err != nil {
		return verdict{}, err
	}
	c, why := applyGate(seen, now, x.in.Workspace.Apply, x.in.Confirmed)
	if x.result.Comparison = c; why != "" {
		return verdict{store.Held, why}, nil
	}
	return verdict{state: store.Applied}, nil
}

func TestFate(t *testing.T) {
	keep := Retention{Artifacts: 30 * aDay, Checks: 7 * aDay, Runs: 400 * aDay}
	for _, test := range []struct {
		name  string
		keep  Retention
		kind  store.Kind
		state store.State
		age   time.Duration
		want  fate
	}{
		{"young", keep, store.KindPlan, store.Planned, 30*aDay - 1, stays},
		{"a month", keep, store.KindPlan, store.Planned, 30 * aDay, loses},
		{"almost old", keep, store.KindApply, store.Applied, 400*aDay - 1, loses},
		{"old", keep, store.KindApply, store.Applied, 400 * aDay, goes},
		{"a check that found nothing", keep, store.KindDrift, store.NoChanges, 7 * aDay, goes},
		{"a young one", keep, store.KindDrift, store.NoChanges, 7*aDay - 1, stays},
		{"a check that found something", keep, store.KindDrift, store.Planned, 29 * aDay, stays},
		{"a check that failed", keep, store.KindDrift, store.Failed, 31 * aDay, loses},
		{"a plan without changes is no check", keep, store.KindPlan, store.NoChanges, 8 * aDay, stays},
		{"not ended", keep, store.KindApply, store.Unknown, 4000 * aDay, stays},
		{"for ever", Retention{}, store.KindDrift, store.NoChanges, 4000 * aDay, stays},
		{"runs for ever", Retention{Artifacts: aDay}, store.KindPlan, store.Planned, 4000 * aDay, loses},
	} {
		now := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
		run := store.Run{Kind: test.kind, State: test.state, EndedAt: now.Add(-test.age)}
		if got := test.keep.fate(run, now); got != test.want {
			t.Errorf("%s: %d instead of %d", test.name, got, test.want)
		}
	}
}

// What is over loses its plans after a month and its runs after a year; the
// audit trail, and what the host shows, stay.
func TestWhatIsOverIsRemoved(t *testing.T) {
	f := retains(t)
	var removed []string
	f.Removed = func(what string) { removed = append(removed, what) }
	f.engine = applies
	f.open(map[string]string{"a/main.tf": root("new")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work(JobPlan)
	f.merge(map[string]string{"a/main.tf": root("new")})
	f.work(JobApply, JobReport)
	w := f.pull().workspace("a")
	trail, err := f.Store.Audit.List(t.Context(), "", 100)
	if err != nil || len(trail) == 0 {
		t.Fatalf("audit trail %v: %v", trail, err)
	}
	shown := f.host.comments[1]

	f.sweep(29 * aDay)
	if !f.hasPlan(w.Plan) || !f.hasPlan(w.Apply) || len(removed) > 0 {
		t.Fatalf("removed after 29 days: %q", removed)
	}
	f.sweep(2 * aDay)
	for _, id := range []string{w.Plan, w.Apply} {
		run, ok := f.run(id)
		var result Result
		if err := json.Unmarshal(run.Result, &result); err != nil || !ok {
			t.Fatalf("run %s: %v", id, err)
		}
		if f.hasPlan(id) || result.Removed.IsZero() || result.Summary.Add != 1 {
			t.Errorf("after 31 days run %s has result %+v", id, result)
		}
		log, err := f.Store.Artifacts.Chunks(t.Context(), logKey(id), 0)
		if err != nil || len(log) > 0 {
			t.Errorf("log %q: %v", log, err)
		}
	}
	f.host.take()
	if err := f.told(); err != nil { // a late event changes nothing
		t.Fatal(err)
	}
	f.sweep(370 * aDay)
	for _, id := range []string{w.Plan, w.Apply} {
		if _, ok := f.run(id); ok {
			t.Errorf("run %s is there after 401 days", id)
		}
	}
	if want := []string{"artifacts", "artifacts", "runs", "runs"}; !slices.Equal(removed, want) {
		t.Errorf("removed %q", removed)
	}
	if err := f.told(); err != nil {
		t.Errorf("a late event: %v", err)
	}
	if err := f.pullRequest(t.Context(), f.repo, 1, command{verb: verbApply, event: "late", who: "kim", at: f.clock()}); err != nil {
		t.Errorf("a late command: %v", err)
	}
	if err := f.report(); err != nil || f.host.comments[1] != shown {
		t.Errorf("the host shows %q (%v)", f.host.comments[1], err)
	}
	if calls, runs := f.host.take(), f.runs(); len(calls) > 0 || len(runs) > 0 {
		t.Errorf("runs %q, calls %q", runs, calls)
	}
	after, err := f.Store.Audit.List(t.Context(), "", 100)
	if err != nil || len(after) != len(trail) {
		t.Errorf("%d entries of the audit trail became %d: %v", len(trail), len(after), err)
	}
}

// A plan that was reviewed stays until it is applied, however old.
func TestOpenPullRequestIsAppliedAfterYears(t *testing.T) {
	f := retains(t)
	f.engine = applies
	f.open(map[string]string{"a/main.tf": root("first")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work(JobPlan)
	before := f.pull().workspace("a").Plan
	f.open(map[string]string{"a/main.tf": root("new")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work(JobPlan)
	w := f.pull().workspace("a")
	for range 3 {
		f.sweep(250 * aDay)
	}
	if _, ok := f.run(before); ok {
		t.Error("the plan of an earlier head is still there")
	}
	if !f.hasPlan(w.Plan) || !slices.Equal(f.kept(), []string{w.Plan}) {
		t.Fatalf("the plan was removed; kept %q", f.kept())
	}
	f.merge(map[string]string{"a/main.tf": root("new")})
	f.work(JobApply)
	apply, _ := f.run(f.pull().workspace("a").Apply)
	if apply.State != store.Applied {
		t.Fatalf("the apply is %s: %s", apply.State, apply.Error)
	}
	f.sweep(0)
	if _, ok := f.run(w.Plan); ok || len(f.kept()) > 0 {
		t.Errorf("kept %q after the apply, the plan too: %t", f.kept(), ok)
	}
	if _, ok := f.run(apply.ID); !ok {
		t.Error("an apply of today is gone")
	}
}

// A pull request that was closed and is opened again after a month is planned
// again: its plan, of the same inputs, is gone.
func TestReopenedAfterItsPlanWasRemoved(t *testing.T) {
	f := retains(t)
	f.open(map[string]string{"a/main.tf": root("new")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work(JobPlan)
	old := f.pull().workspace("a").Plan
	set := func(state vcs.PullState) {
		pr := f.host.pulls[1]
		pr.State = state
		f.host.set(pr)
		if err := f.told(); err != nil {
			t.Fatal(err)
		}
	}
	set(vcs.Closed)
	f.sweep(31 * aDay)
	if f.hasPlan(old) {
		t.Fatal("the plan is there")
	}
	set(vcs.Open)
	f.work(JobPlan)
	if now := f.pull().workspace("a").Plan; now == old || !f.hasPlan(now) {
		t.Errorf("the pull request has plan %s, as before: %t", now, now == old)
	}
}

// An apply that waits for a person keeps what it shows, until another apply has
// gone past it.
func TestHeldApplyIsKept(t *testing.T) {
	f := retains(t)
	f.open(map[string]string{"a/main.tf": root("new")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work(JobPlan)
	f.engine = func(ctx context.Context, x *execution) (verdict, error) {
		_, err := changes(ctx, x)
		return verdict{store.Held, "another change"}, err
	}
	f.merge(map[string]string{"a/main.tf": root("new")})
	f.work(JobApply)
	w := f.pull().workspace("a")
	f.sweep(500 * aDay)
	if !f.hasPlan(w.Plan) || !f.hasPlan(w.Apply) {
		t.Fatal("the held apply lost its plan")
	}
	err := f.changeWorkspace(t.Context(), f.repo, workspaces.Workspace{Name: "a"}, func(rec *WorkspaceRecord) { rec.AppliedAt = f.clock() })
	if err != nil {
		t.Fatal(err)
	}
	f.sweep(0)
	if runs := f.stored(); len(runs) > 0 || len(f.kept()) > 0 {
		t.Errorf("left %v, kept %q", runs, f.kept())
	}
}

// Of checks that found nothing only the latest stays; one that found drift
// stays with its plan while there is that drift.
func TestChecksThatFoundNothing(t *testing.T) {
	f := drifts(t, 1, func(*execution) (plan.DriftReport, error) { return plan.DriftReport{}, nil })
	f.Retention = Retention{Artifacts: 30 * aDay, Checks: 30 * aDay, Runs: 400 * aDay}
	for range 3 {
		f.do(f.check())
	}
	name := f.stored()[0].Workspace
	f.sweep(31 * aDay)
	if runs := f.stored(); len(runs) != 1 || runs[0].ID != f.workspaceRecord(name).CheckRun {
		t.Fatalf("left %v", runs)
	}
	found := f.engine
	f.engine = func(ctx context.Context, x *execution) (verdict, error) {
		if err := x.keepPlan(ctx, planOf("update x.a 1")); err != nil {
			return verdict{}, err
		}
		x.result.Drift, x.result.DriftDigest = &plan.DriftReport{Class: plan.CloudChange}, "d"
		return verdict{state: store.Planned}, nil
	}
	f.do(f.check())
	f.sweep(450 * aDay)
	id := f.driftRecord(name).Now.Run
	if !f.hasPlan(id) || len(f.stored()) != 1 {
		t.Fatalf("left %v", f.stored())
	}
	f.engine = found
	f.do(f.check())
	f.sweep(0)
	if _, ok := f.run(id); ok || len(f.kept()) > 0 {
		t.Errorf("the check of drift that is gone is there: %t; kept %q", ok, f.kept())
	}
}

// made stores a run that began and has ended now, with a plan and nobody who
// names it.
func (f *fixture) made(n int, kind store.Kind, state store.State) store.Run {
	f.Helper()
	run, err := f.newRun(f.Context(), store.Run{Key: fmt.Sprint(n), Kind: kind, Repository: f.repo.String(), Commit: "c"}, runPayload{Workspace: workspaces.Workspace{Name: "a"}})
	if err != nil {
		f.Fatal(err)
	}
	run.State, run.StartedAt, run.EndedAt = state, f.clock(), f.clock()
	if run, err = f.Store.Runs.Update(f.Context(), f.clock(), run); err != nil {
		f.Fatal(err)
	}
	if err := f.Store.Artifacts.Put(f.Context(), f.clock(), planKey(run.ID), []byte("{}")); err != nil {
		f.Fatal(err)
	}
	return run
}

// A sweep gives way after each page, and passes every run, once.
func TestSweepInPages(t *testing.T) {
	f := retains(t)
	looked := 0
	f.Removed = func(string) { looked++ }
	const n = 2*retainPage + 7
	for i := range n {
		f.made(i, store.KindPlan, store.Planned)
	}
	if pages := f.sweep(31 * aDay); pages != 3+3+1+1 || looked != n {
		t.Errorf("%d runs in %d pages", looked, pages)
	}
	if pages := f.sweep(0); pages != 4 || looked != n {
		t.Errorf("looked at again: %d runs in %d pages", looked-n, pages)
	}
	if f.sweep(370 * aDay); looked != 2*n || len(f.stored()) > 0 {
		t.Errorf("%d runs are left", len(f.stored()))
	}
}

// faultyArtifacts fails to delete, once.
type faultyArtifacts struct {
	store.Artifacts
	fails int // deletions left until one fails
}

// Delete implements store.Artifacts.
func (a *faultyArtifacts) Delete(ctx context.Context, prefix string) error {
	if a.fails--; a.fails == 0 {
		return errDown
	}
	return a.Artifacts.Delete(ctx, prefix)
}

// A process may die anywhere in a page: it is done again, from its start, and
// nothing is forgotten.
func TestSweepThatDies(t *testing.T) {
	for fails := 1; fails <= 6; fails++ {
		f := retains(t)
		f.Store.Artifacts = &faultyArtifacts{Artifacts: f.Store.Artifacts, fails: fails}
		var ids []string
		for i, state := range []store.State{store.Planned, store.NoChanges, store.Failed} {
			ids = append(ids, f.made(i, store.KindDrift, state).ID)
		}
		f.pass(31 * aDay)
		died := 0
		for {
			err := f.handleRetain(t.Context(), queue.Job{})
			if err == nil {
				break
			}
			if errors.Is(err, errDown) {
				died++
			} else if !queue.IsSnooze(err) {
				t.Fatal(err)
			}
		}
		if want := min(1, max(0, 4-fails)); died != want {
			t.Errorf("%d: died %d times", fails, died)
		}
		for i, id := range ids {
			run, ok := f.run(id)
			if f.hasPlan(id) || ok != (i != 1) || ok && !artifactsRemoved(run) {
				t.Errorf("%d: run %d is there: %t", fails, i, ok)
			}
		}
	}
}

// A run that takes long is not passed by: it is looked at again until its time
// has come.
func TestLongRunIsNotForgotten(t *testing.T) {
	f := retains(t)
	run := f.made(1, store.KindApply, store.Running)
	f.sweep(450 * aDay)
	if !f.hasPlan(run.ID) || !slices.Equal(f.kept(), []string{run.ID}) {
		t.Fatalf("kept %q", f.kept())
	}
	run.State, run.EndedAt = store.Applied, f.clock()
	if _, err := f.Store.Runs.Update(t.Context(), f.clock(), run); err != nil {
		t.Fatal(err)
	}
	f.sweep(31 * aDay)
	if now, ok := f.run(run.ID); f.hasPlan(run.ID) || !ok || !artifactsRemoved(now) {
		t.Error("its artifacts are there a month after its end")
	}
	f.sweep(370 * aDay)
	if _, ok := f.run(run.ID); ok || len(f.kept()) > 0 {
		t.Errorf("it is there a year after its end: %t; kept %q", ok, f.kept())
	}
}

// Many nodes queue one sweep an hour.
func TestSweepIsQueuedOnce(t *testing.T) {
	f := retains(t)
	other := f.node(f.Store, "two")
	schedulers := []*scheduler{{Runner: f.Runner}, {Runner: other}}
	for hour := range 3 {
		for _, s := range schedulers {
			for range 2 {
				if err := s.startRetain(t.Context(), f.clock()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if jobs := f.jobs(JobRetain); len(jobs) != 1 {
			t.Fatalf("hour %d: %d jobs", hour, len(jobs))
		}
		f.mayFail = true
		f.work(JobRetain)
		if jobs := f.jobs(JobRetain); len(jobs) != 0 {
			t.Fatalf("hour %d: the sweep has not ended", hour)
		}
		late := &scheduler{Runner: other}
		if err := late.startRetain(t.Context(), f.clock()); err != nil {
			t.Fatal(err)
		}
		if jobs := f.jobs(JobRetain); len(jobs) != 0 {
			t.Errorf("hour %d: a second sweep", hour)
		}
		f.pass(retainEvery)
	}
}
