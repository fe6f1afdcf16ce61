//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"holdfast/runner"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// slowServers is a root module whose servers take that long to make.
func slowServers(delay string, names ...string) string {
	text := providers + "provider \"smallcloud\" {}\n"
	for _, name := range names {
		text += server(name, fmt.Sprintf("delay = %q", delay))
	}
	return text
}

// made waits until the apply has ended as applied, and checks that the cloud
// has each server once and was asked for it once, that the state knows all of
// them, and that nothing is left behind.
func (w *world) made(number int, names ...string) {
	w.Helper()
	runs := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})
	if runs[0].State != store.Applied {
		w.Errorf("the apply is %s: %s", runs[0].State, runs[0].Error)
	}
	if n := len(w.cloud.resources()); n != len(names) {
		w.Errorf("the cloud has %d resources instead of %d", n, len(names))
	}
	for _, name := range names {
		if n := w.cloud.created(name); n != 1 {
			w.Errorf("%s was made %d times", name, n)
		}
	}
	w.comment(number, "pplied")
	w.until("the workspace is in sync", func() bool { return w.workspace("app").State == runner.InSync })
	w.quiet()
	// A resource that no state knows of would be made again by the next plan.
	w.repo.Push("again", map[string]string{"app/note.tf": "# nothing changes\n"}, "a note")
	again := w.repo.OpenPull(giteatest.OpenPull{Head: "again"})
	if plans := w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: again}); plans[0].State != store.NoChanges {
		w.Errorf("a plan afterwards is %s: %s %s", plans[0].State, plans[0].Error, plans[0].Result)
	}
}

// TestKilledDuringPlan plans again after a restart.
func TestKilledDuringPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "empty"})
	w.start()
	w.repo.Push("change", map[string]string{"app/main.tf": providers + "provider \"smallcloud\" {}\ndata \"smallcloud_image\" \"slow\" {\n  name = \"image\"\n  delay = \"3s\"\n}\n" + server("one")}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	w.until("the plan runs", func() bool {
		runs := w.runs(store.RunFilter{PullRequest: number})
		return len(runs) == 1 && runs[0].Step == "plan"
	})
	w.kill()
	w.start()
	if runs := w.ended(1, store.RunFilter{PullRequest: number}); runs[0].State != store.Planned {
		t.Errorf("the plan is %s: %s", runs[0].State, runs[0].Error)
	}
	w.comment(number, "planned")
	w.quiet()
}

// TestKilledBetweenWebhookAndPlan keeps what was acknowledged.
func TestKilledBetweenWebhookAndPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	w.forge.Hold()
	w.repo.Push("change", map[string]string{"modules/vm/main.tf": vm("large")}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	for _, d := range w.forge.Held() {
		for _, a := range w.forge.Send(d.ID) {
			if a.Status/100 != 2 {
				t.Fatalf("webhook answered %d %v", a.Status, a.Err)
			}
		}
	}
	w.kill() // at once after the last 202
	w.start()
	w.ended(2, store.RunFilter{PullRequest: number})
	w.comment(number, "large")
	w.quiet()
}

// TestKilledDuringApply follows the engine that went on behind its shim.
func TestKilledDuringApply(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]time.Duration{"back before the engine ends": 0, "back after the engine ended": 6 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, map[string]string{"README.md": "empty"})
			w.start()
			names := []string{"one", "two", "three"}
			number := w.openReviewed(slowServers("3s", names...))
			w.repo.Merge(number, "merge")
			w.until("the cloud is at work", func() bool { return len(w.cloud.journal()) > 0 })
			w.kill()
			if down > 0 {
				w.until("the engine ended", func() bool { return len(w.cloud.resources()) == len(names) })
				w.settled()
			}
			w.start()
			w.made(number, names...)
		})
	}
}

// settled waits until no shim of the server's runs any more.
func (w *world) settled() {
	w.Helper()
	w.until("the shim has ended", func() bool { return len(w.processes()) == 0 })
}

// TestKilledWithItsEngine is a machine that loses power: server, shim and
// engine die at once. The outcome is unknown, and then found out.
func TestKilledWithItsEngine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "empty"})
	w.start()
	number := w.openReviewed(slowServers("3s", "one"))
	w.repo.Merge(number, "merge")
	w.until("the cloud is at work", func() bool { return len(w.cloud.journal()) > 0 })
	w.kill()
	w.killAll()
	w.start()
	run := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]
	// The cloud made the server, and no state could be told: somebody has to
	// look. Nothing is made a second time.
	if run.State != store.Held {
		t.Errorf("the apply is %s: %s", run.State, run.Error)
	}
	w.comment(number, "lost on the way")
	if n := w.cloud.created("one"); n > 1 {
		t.Errorf("one was made %d times", n)
	}
	w.quiet()
}

// TestKilledAnywhere kills the server at random moments from the webhook of
// the merge on, several times in each story. HOLDFAST_TEST_CRASHES sets the
// number of stories, HOLDFAST_TEST_SEED the first seed.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	stories, seed := number(t, "HOLDFAST_TEST_CRASHES", 3), number(t, "HOLDFAST_TEST_SEED", 1)
	w := newWorld(t, map[string]string{"README.md": "empty"})
	w.start()
	for i := range stories {
		random := rand.New(rand.NewPCG(uint64(seed+i), 0))
		name := fmt.Sprintf("server%d", i)
		branch := fmt.Sprintf("story%d", i)
		w.repo.Push(branch, map[string]string{fmt.Sprintf("app/%s.tf", name): server(name, `delay = "1s"`), "app/main.tf": providers + "provider \"smallcloud\" {}\n"}, name)
		pull := w.repo.OpenPull(giteatest.OpenPull{Head: branch})
		w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: pull})
		w.comment(pull, "planned")
		w.repo.Merge(pull, "merge")
		for range 3 {
			time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
			w.kill()
			w.start()
		}
		runs := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: pull})
		if runs[0].State != store.Applied {
			t.Fatalf("seed %d: the apply is %s: %s", seed+i, runs[0].State, runs[0].Error)
		}
		if n := w.cloud.created(name); n != 1 {
			t.Fatalf("seed %d: %s was made %d times", seed+i, name, n)
		}
		w.comment(pull, "pplied")
	}
	w.quiet()
	if n := len(w.cloud.resources()); n != stories {
		t.Errorf("the cloud has %d resources instead of %d", n, stories)
	}
}

// number reads a number from the environment.
func number(t *testing.T, name string, def int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
