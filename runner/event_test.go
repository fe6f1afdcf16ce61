package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

func TestEventsMakeEachRunOnce(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("new"), "b/main.tf": root("new")})
	for i := range 10 {
		if err := f.Receive(t.Context(), vcs.Event{Delivery: fmt.Sprint(i / 2), Kind: vcs.EventPullRequest, Repository: f.repo, Number: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.jobs(JobEvent)); n != 5 {
		t.Errorf("ten deliveries of five webhooks made %d jobs", n)
	}
	f.work(JobEvent)
	if got, want := f.runs(), []string{"a queued", "b queued"}; !slices.Equal(got, want) {
		t.Errorf("runs %v instead of %v", got, want)
	}
	if n := len(f.jobs(JobPlan)); n != 2 {
		t.Errorf("%d plan jobs", n)
	}
	f.work()
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	if got, want := f.runs(), []string{"a planned", "b planned"}; !slices.Equal(got, want) || len(f.jobs(JobPlan)) != 0 {
		t.Errorf("an event after the end: runs %v, jobs %v", got, f.jobs(JobPlan))
	}
}

// What is about to be told must not wait behind hundreds of plans.
func TestEventsAndReportsGoFirst(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("new"), "b/main.tf": root("new")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	if err := f.Receive(t.Context(), vcs.Event{Delivery: "later", Kind: vcs.EventPullRequest, Repository: f.repo, Number: 2}); err != nil {
		t.Fatal(err)
	}
	jobs, err := f.queue.Claim(t.Context(), f.clock(), queue.Claim{Worker: "w", Lease: time.Minute, Max: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs {
		if j.Kind != JobEvent && j.Kind != JobReport {
			t.Errorf("a job of kind %s goes before them", j.Kind)
		}
	}
}

func TestPushPlansOnlyWhatChanged(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("1"), "b/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work()
	before := f.pull()
	f.open(map[string]string{"a/main.tf": root("2")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	if got, want := f.runs(), []string{"a planned", "b planned", "a queued"}; !slices.Equal(got, want) {
		t.Errorf("runs %v instead of %v", got, want)
	}
	after := f.pull()
	if after.Workspaces[1].Plan != before.Workspaces[1].Plan || after.Workspaces[0].Plan == before.Workspaces[0].Plan {
		t.Errorf("plans %+v after %+v", after.Workspaces, before.Workspaces)
	}
}

func TestPushSupersedesAndComesBack(t *testing.T) {
	f := newFixture(t)
	first := f.open(map[string]string{"a/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.open(map[string]string{"a/main.tf": root("2")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	if got, want := f.runs(), []string{"a superseded", "a queued"}; !slices.Equal(got, want) {
		t.Fatalf("runs %v instead of %v", got, want)
	}
	if n := len(f.jobs(JobPlan)); n != 1 {
		t.Errorf("%d plan jobs: the superseded one's is to go", n)
	}
	// The branch is forced back to its first commit.
	pr := f.host.pulls[1]
	pr.HeadSHA = first
	f.host.set(pr)
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	if got, want := f.runs(), []string{"a superseded", "a superseded", "a queued"}; !slices.Equal(got, want) {
		t.Fatalf("runs %v instead of %v", got, want)
	}
	f.work()
	if got := f.runs()[2]; got != "a planned" {
		t.Errorf("after the way back: %s", got)
	}
	if f.stored()[2].Commit != first {
		t.Errorf("planned %s instead of %s", f.stored()[2].Commit, first)
	}
}

func TestFailedPlanIsPlannedAgainWithTheNextCommit(t *testing.T) {
	f := newFixture(t)
	f.engine = func(context.Context, *execution) (verdict, error) { return verdict{store.Failed, "no"}, nil }
	f.open(map[string]string{"a/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work()
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	if got, want := f.runs(), []string{"a failed"}; !slices.Equal(got, want) {
		t.Fatalf("a redelivery: runs %v instead of %v", got, want)
	}
	f.engine = changes
	f.open(map[string]string{"README.md": "the same inputs"})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work()
	if got, want := f.runs(), []string{"a failed", "a planned"}; !slices.Equal(got, want) {
		t.Errorf("the next commit: runs %v instead of %v", got, want)
	}
}

// TestEventMayStopAnywhere lets the queue fail at each of an event's writes to
// it, and does the event again as the queue would.
func TestEventMayStopAnywhere(t *testing.T) {
	for failAfter := 1; ; failAfter++ {
		f := newFixture(t)
		f.open(map[string]string{"a/main.tf": root("1"), "b/main.tf": root("1")})
		if err := f.told(); err != nil {
			t.Fatal(err)
		}
		f.open(map[string]string{"a/main.tf": root("2")})
		f.queue.failAfter = failAfter
		err := f.told()
		done := err == nil
		if !done && !errors.Is(err, errDown) {
			t.Fatal(err)
		}
		f.queue.failAfter = 0
		if err := f.told(); err != nil {
			t.Fatal(err)
		}
		f.work()
		if got, want := f.runs(), []string{"a superseded", "b planned", "a planned"}; !slices.Equal(got, want) {
			t.Errorf("stopped at the %d. write: runs %v instead of %v", failAfter, got, want)
		}
		if n := len(f.host.comments); n != 1 {
			t.Errorf("stopped at the %d. write: %d comments", failAfter, n)
		}
		if done {
			return
		}
	}
}

// A process may die at any write to the store, not only to the queue.
func TestEventSupersedesAlthoughTheProcessDied(t *testing.T) {
	for failAfter := 1; ; failAfter++ {
		f := newFixture(t)
		f.open(map[string]string{"a/main.tf": root("1")})
		if err := f.told(); err != nil {
			t.Fatal(err)
		}
		f.open(map[string]string{"a/main.tf": root("2")})
		runs, records := f.Store.Runs, f.Store.Records
		writes := &countdown{left: failAfter}
		f.Store.Runs, f.Store.Records = dyingRuns{runs, writes}, dyingRecords{records, writes}
		err := f.told()
		done := err == nil
		if !done && !errors.Is(err, errDown) {
			t.Fatal(err)
		}
		f.Store.Runs, f.Store.Records = runs, records
		if err := f.told(); err != nil {
			t.Fatal(err)
		}
		if got, want := f.runs(), []string{"a superseded", "a queued"}; !slices.Equal(got, want) {
			t.Errorf("died at the %d. write: runs %v instead of %v", failAfter, got, want)
		}
		if done {
			return
		}
	}
}

// countdown counts writes, and lets none pass when it is at its end.
type countdown struct{ left int }

func (c *countdown) write() error {
	if c.left--; c.left < 0 {
		return errDown
	}
	return nil
}

type dyingRuns struct {
	store.Runs
	*countdown
}

func (d dyingRuns) Create(ctx context.Context, now time.Time, r store.Run) (store.Run, bool, error) {
	if err := d.write(); err != nil {
		return r, false, err
	}
	return d.Runs.Create(ctx, now, r)
}

func (d dyingRuns) Update(ctx context.Context, now time.Time, r store.Run) (store.Run, error) {
	if err := d.write(); err != nil {
		return r, err
	}
	return d.Runs.Update(ctx, now, r)
}

type dyingRecords struct {
	store.Records
	*countdown
}

func (d dyingRecords) Put(ctx context.Context, now time.Time, r store.Record) (store.Record, error) {
	if err := d.write(); err != nil {
		return r, err
	}
	return d.Records.Put(ctx, now, r)
}

func TestClosedPullRequestEndsItsPlans(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	pr := f.host.pulls[1]
	pr.State = vcs.Closed
	f.host.set(pr)
	for range 2 {
		if err := f.told(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := f.runs(), []string{"a superseded"}; !slices.Equal(got, want) {
		t.Errorf("runs %v instead of %v", got, want)
	}
	pr.State = vcs.Open
	f.host.set(pr)
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work()
	if got, want := f.runs(), []string{"a superseded", "a planned"}; !slices.Equal(got, want) {
		t.Errorf("reopened: runs %v instead of %v", got, want)
	}
}

func TestEventsOfNobodysBusiness(t *testing.T) {
	f := newFixture(t)
	stranger := vcs.Repository{Host: "git.test", Owner: "else", Name: "where"}
	if err := f.Receive(t.Context(), vcs.Event{Delivery: "1", Kind: vcs.EventPush, Repository: stranger}); !errors.Is(err, vcs.ErrNotServed) {
		t.Errorf("a repository that is not served: %v", err)
	}
	err := f.pullRequest(t.Context(), f.repo, 404, command{})
	if err == nil || queue.IsSnooze(err) || !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("a pull request that does not exist: %v", err)
	}
	if n := len(f.runs()); n != 0 {
		t.Errorf("%d runs", n)
	}
}

func TestInOrder(t *testing.T) {
	f := newFixture(t)
	const chain = `
workspace "first" { dir = "z" }
workspace "second" {
  dir = "m"
  depends_on = ["first"]
}
workspace "third" {
  dir = "a"
  depends_on = ["second"]
}
`
	files := map[string]string{"holdfast.hcl": chain, "z/main.tf": root("z"), "m/main.tf": root("m")}
	sha := f.git.commit("chain", files)
	c, err := f.configAt(t.Context(), f.repo, sha)
	if err != nil {
		t.Fatal(err)
	}
	gone := workspaces.Affected{Workspace: workspaces.Workspace{Name: "gone"}, Deleted: true}
	of := func(names ...string) (out []workspaces.Affected) {
		for _, name := range names {
			w, ok := c.Workspace(name)
			if !ok {
				t.Fatalf("no workspace %s", name)
			}
			out = append(out, workspaces.Affected{Workspace: w})
		}
		return out
	}
	for _, test := range []struct {
		name     string
		affected []workspaces.Affected
		want     string
	}{
		{"none", nil, ""},
		{"in the order of their needs", of("third", "second", "first"), "first second third"},
		{"by way of one that is not affected", of("third", "first"), "first third"},
		{"a deleted one is the last", append([]workspaces.Affected{gone}, of("third", "second", "first")...), "first second third gone"},
	} {
		var got []string
		for _, a := range inOrder(c, test.affected) {
			got = append(got, a.Workspace.Name)
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s: %s instead of %s", test.name, s, test.want)
		}
	}
}

func TestInOrderWithACycle(t *testing.T) {
	f := newFixture(t)
	sha := f.git.commit("cycle", map[string]string{"holdfast.hcl": `
workspace "a" {
  dir = "a"
  depends_on = ["b"]
}
workspace "b" {
  dir = "b"
  depends_on = ["a"]
}
`})
	c, err := f.configAt(t.Context(), f.repo, sha)
	if err != nil {
		t.Fatal(err)
	}
	var affected []workspaces.Affected
	for _, w := range c.Workspaces {
		affected = append(affected, workspaces.Affected{Workspace: w})
	}
	if got := inOrder(c, affected); len(got) != 2 {
		t.Errorf("%d of two workspaces are left", len(got))
	}
	if len(problemsOf(c, "a")) == 0 || len(problemsOf(c, "b")) == 0 {
		t.Errorf("problems: %v", c.Problems)
	}
}

func TestMissed(t *testing.T) {
	open, closed, merged := vcs.PullRequest{State: vcs.Open, HeadSHA: "1"}, vcs.PullRequest{State: vcs.Closed, HeadSHA: "1"}, vcs.PullRequest{State: vcs.Merged, HeadSHA: "1", MergeSHA: "m"}
	for _, test := range []struct {
		name string
		pr   vcs.PullRequest
		rec  pullRecord
		want bool
	}{
		{"a new one", open, pullRecord{}, true},
		{"known", open, pullRecord{Head: "1", State: vcs.Open}, false},
		{"pushed to", open, pullRecord{Head: "0", State: vcs.Open}, true},
		{"reopened", open, pullRecord{Head: "1", State: vcs.Closed}, true},
		{"closed before it was seen", closed, pullRecord{}, false},
		{"closed", closed, pullRecord{Head: "1", State: vcs.Open}, true},
		{"known to be closed", closed, pullRecord{Head: "1", State: vcs.Closed}, false},
		{"merged before it was seen", merged, pullRecord{}, true},
		{"merged", merged, pullRecord{Head: "1", State: vcs.Open}, true},
		{"known to be merged", merged, pullRecord{Head: "1", State: vcs.Merged, Merge: "m"}, false},
		{"merged by another commit", merged, pullRecord{Head: "1", State: vcs.Merged, Merge: "other"}, true},
	} {
		if got := missed(test.pr, test.rec); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

// A pull request that comes before the first look at its repository, and goes to
// another branch than the default one, is not told to be applied.
func TestAnotherBranchBeforeTheFirstLook(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("a") + "# x\n"})
	pr := f.host.pulls[1]
	pr.BaseRef = "release"
	f.git.commit("release", nil)
	f.host.set(pr)
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	if w := f.pull().workspace("a"); w.Plan == "" || w.On != onNever {
		t.Errorf("%+v", w)
	}
}
