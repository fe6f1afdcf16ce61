package runner

import (
	"testing"

	"holdfast/queue"
	"holdfast/store"
)

// TestReplan plans a pull request again whose branch has what was applied
// since, once, at its own priority.
func TestReplan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	head := f.open(map[string]string{"app/main.tf": root("x")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work(JobPlan, JobReport)
	before := len(f.stored())
	applied := store.Run{ID: "A", Kind: store.KindApply, State: store.Applied, Repository: f.repo.String(), Workspace: "app", PullRequest: 99, Commit: head}
	for range 3 { // a burst, and retries
		if err := f.staleAfter(t.Context(), f.repo, applied); err != nil {
			t.Fatal(err)
		}
	}
	if jobs := f.jobs(JobEvent); len(jobs) != 1 || jobs[0].Priority != queue.PriorityReplan {
		t.Fatalf("jobs: %+v", jobs)
	}
	f.pass(replanDelay)
	f.work(JobEvent)
	if jobs := f.jobs(JobPlan); len(jobs) != 1 || jobs[0].Priority != queue.PriorityReplan {
		t.Errorf("jobs: %+v", jobs)
	}
	f.work(JobPlan, JobReport)
	if n := len(f.stored()); n != before+1 {
		t.Errorf("%d runs instead of %d", n, before+1)
	}
	applied.Workspace = "other"
	if err := f.staleAfter(t.Context(), f.repo, applied); err != nil || len(f.jobs(JobEvent)) != 0 {
		t.Errorf("another workspace's apply: %v %+v", err, f.jobs(JobEvent))
	}
}
