//go:build linux

package integration

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"holdfast/runner"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// applySteps are the moments of an apply at which the server is killed, in their
// order.
var applySteps = []string{"merged", "queued", "begun", "engine started", "cloud asked", "made", "recorded"}

// TestKilledAtEachStep kills the server at each step of applies, once in each
// story, and checks after each that everything was made once. HOLDFAST_TEST_CRASHES
// sets the number of stories, HOLDFAST_TEST_SEED the first seed.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	stories, seed := number(t, "HOLDFAST_TEST_CRASHES", len(applySteps)), number(t, "HOLDFAST_TEST_SEED", 1)
	w := newWorld(t, map[string]string{"README.md": "empty"})
	w.start()
	found := map[string]int{}
	for i := range stories {
		random := rand.New(rand.NewPCG(uint64(seed+i), 1))
		step := applySteps[i%len(applySteps)]
		name := fmt.Sprintf("server%d", i)
		w.repo.Push(name, map[string]string{fmt.Sprintf("app/%s.tf", name): server(name, `delay = "300ms"`), "app/main.tf": app()}, name)
		pull := w.repo.OpenPull(giteatest.OpenPull{Head: name})
		w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: pull})
		w.fork(pull, "planned")
		w.repo.Merge(pull, "merge")
		at := w.killedAt(step, pull, name, time.Duration(random.IntN(30))*time.Millisecond)
		found[at]++
		w.start()
		if run := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: pull})[0]; run.State != store.Applied {
			t.Fatalf("seed %d, killed when %s (%s): the apply is %s: %s", seed+i, step, at, run.State, run.Error)
		}
		if n := w.cloud.created(name); n != 1 {
			t.Fatalf("seed %d, killed when %s (%s): %s was made %d times", seed+i, step, at, name, n)
		}
		w.fork(pull, "pplied")
		w.until("the workspace is in sync", func() bool { return w.workspace("app").State == runner.InSync })
	}
	w.quiet()
	if n, locks := len(w.cloud.resources()), w.owners(); n != stories || len(locks) != 0 {
		t.Errorf("the cloud has %d resources instead of %d, and there are locks %v", n, stories, locks)
	}
	for _, at := range slices.Sorted(maps.Keys(found)) {
		t.Logf("killed %3d times when the apply was %s", found[at], at)
	}
}

// killedAt kills the server when the apply of a pull request has come to a step,
// and returns what the store says of it then.
func (w *world) killedAt(step string, pull int, name string, later time.Duration) string {
	w.Helper()
	st := w.open()
	defer st.Close()
	var run store.Run
	look := func() {
		runs, err := st.Runs.List(context.Background(), store.RunFilter{Kind: store.KindApply, PullRequest: pull, Limit: 1})
		if err != nil {
			w.Fatal(err)
		}
		if len(runs) == 1 {
			run = runs[0]
		}
	}
	deadline := time.Now().Add(patience)
	for reached := false; !reached; {
		if look(); time.Now().After(deadline) {
			w.Fatalf("the apply never came to %q:\n%s", step, w.describe())
		}
		over := run.State.Ended() && run.ID != ""
		switch step {
		case "merged":
			reached = true
		case "queued":
			reached = run.ID != ""
		case "begun":
			reached = over || run.State == store.Running
		case "engine started":
			reached = over || run.Step == "apply"
		case "cloud asked":
			reached = over || w.cloud.created(name) > 0
		case "made":
			reached = over || slices.ContainsFunc(w.cloud.resources(), func(r cloudResource) bool { return r.Name == name })
		default:
			reached = over
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(later)
	w.kill()
	look()
	switch {
	case run.ID == "":
		return "not known"
	case run.Step != "":
		return string(run.State) + " at " + run.Step
	}
	return string(run.State)
}
