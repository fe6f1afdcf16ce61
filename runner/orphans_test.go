package runner

import (
	"slices"
	"testing"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/workspaces"
)

// A process may die between a run and its job, and the branch be pushed to
// before it is back: then nobody asks for that run again.
func TestRunsWithoutAJobEnd(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("1")})
	records := f.Store.Records
	f.Store.Records = dyingRecords{records, &countdown{}}
	if err := f.told(); err == nil {
		t.Fatal("the process did not die")
	}
	f.Store.Records = records
	f.open(map[string]string{"a/main.tf": root("2")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.applying(store.Running, nil)
	if err := f.reconcile(t.Context(), f.repo); err != nil {
		t.Fatal(err)
	}
	if got, want := f.runs(), []string{"a queued", "a queued", "a running"}; !slices.Equal(got, want) {
		t.Fatalf("at first: runs %v instead of %v", got, want)
	}
	f.pass(orphanAge)
	for range 2 {
		if err := f.reconcile(t.Context(), f.repo); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := f.runs(), []string{"a failed", "a queued", "a running"}; !slices.Equal(got, want) {
		t.Errorf("later: runs %v instead of %v", got, want)
	}
}

// A run whose job was given up as hopeless has ended too.
func TestRunsWithADeadJobEnd(t *testing.T) {
	f := newFixture(t)
	in := runPayload{Workspace: workspaces.Workspace{Name: "a", Dir: "a"}}
	if _, err := f.startRun(t.Context(), store.Run{Key: "drift", Kind: store.KindDrift, Repository: f.repo.String(), Commit: "1"}, in, queue.PriorityDrift); err != nil {
		t.Fatal(err)
	}
	f.pass(orphanAge)
	jobs, err := f.queue.Claim(t.Context(), f.clock(), queue.Claim{Worker: "w", Lease: orphanAge, Max: 1})
	if err != nil || len(jobs) != 1 {
		t.Fatal(jobs, err)
	}
	if err := f.queue.Finish(t.Context(), f.clock(), jobs[0].Ref(), queue.Outcome{Dead: true}); err != nil {
		t.Fatal(err)
	}
	if err := f.endOrphans(t.Context(), f.repo); err != nil {
		t.Fatal(err)
	}
	if got, want := f.runs(), []string{"a failed"}; !slices.Equal(got, want) {
		t.Errorf("runs %v instead of %v", got, want)
	}
}
