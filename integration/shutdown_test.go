package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// waits is a part of a root module that waits for a minute, or not at all as
// soon as there is a file.
func waits(file, after string) string {
	if after != "" {
		after = "depends_on = [" + after + "]"
	}
	return fmt.Sprintf("data \"smallcloud_image\" \"slow\" {\n  name = \"image\"\n  delay = fileexists(%q) ? \"0s\" : \"60s\"\n  %s\n}\n", file, after)
}

// end asks the server to end as an operator would, and returns how long it
// took.
func (w *world) end() time.Duration {
	w.Helper()
	began := time.Now()
	w.stop()
	return time.Since(began)
}

// atStep waits until the only run of a kind is at a step.
func (w *world) atStep(kind store.Kind, step string) {
	w.Helper()
	w.until(fmt.Sprintf("the %s is at %q", kind, step), func() bool {
		runs := w.runs(store.RunFilter{Kind: kind})
		return len(runs) == 1 && runs[0].Step == step
	})
}

// TestTermWaitsForWhatEndsSoon lets an apply end before the server does.
func TestTermWaitsForWhatEndsSoon(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"app/main.tf": app()})
	w.start()
	w.repo.Push("change", map[string]string{"app/more.tf": server("one", `delay = "4s"`)}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	w.comment(number, "smallcloud_server.one")
	w.repo.Merge(number, "merge")
	w.atStep(store.KindApply, "apply")
	w.end()
	if r := w.runs(store.RunFilter{Kind: store.KindApply})[0]; r.State != store.Applied {
		t.Errorf("after the end the apply is %s: %s", r.State, r.Error)
	}
	w.start()
	w.comment(number, "pplied")
	w.quiet()
	if n := w.cloud.created("one"); n != 1 {
		t.Errorf("it was made %d times", n)
	}
}

// TestTermInterruptsAPlan gives a plan that takes too long back to the queue.
// The second time, a second signal does not even wait for the grace time.
func TestTermInterruptsAPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"app/main.tf": app()})
	w.start()
	file := filepath.Join(t.TempDir(), "go-on")
	w.repo.Push("change", map[string]string{"app/more.tf": server("one") + waits(file, "")}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	w.atStep(store.KindPlan, "plan")
	if took := w.end(); took > 40*time.Second {
		t.Errorf("the server took %s to end", took)
	}
	if r := w.runs(store.RunFilter{})[0]; r.State != store.Queued {
		t.Errorf("after the end the plan is %s: %s", r.State, r.Error)
	}
	w.start()
	w.atStep(store.KindPlan, "plan")
	if err := w.server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.until("the server is stopping", func() bool {
		return strings.Count(w.log.String(), "msg=\"stopping;") == 2
	})
	if took := w.end(); took > 15*time.Second {
		t.Errorf("after a second signal the server took %s to end", took)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.comment(number, "smallcloud_server.one")
	if r := w.ended(1, store.RunFilter{})[0]; r.State != store.Planned {
		t.Errorf("the plan is %s: %s", r.State, r.Error)
	}
	w.quiet()
}

// TestTermInterruptsAnApply saves what was made, and makes the rest after the
// restart.
func TestTermInterruptsAnApply(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"app/main.tf": app()})
	w.start()
	file := filepath.Join(t.TempDir(), "go-on")
	w.repo.Push("change", map[string]string{
		"app/more.tf": server("first") + waits(file, "smallcloud_server.first") + server("last", "depends_on = [data.smallcloud_image.slow]"),
	}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	w.comment(number, "smallcloud_server.last")
	w.repo.Merge(number, "merge")
	w.until("the first is made", func() bool { return w.cloud.created("first") == 1 })
	if took := w.end(); took > 40*time.Second {
		t.Errorf("the server took %s to end", took)
	}
	if r := w.runs(store.RunFilter{Kind: store.KindApply})[0]; r.State != store.Queued {
		t.Errorf("after the end the apply is %s: %s", r.State, r.Error)
	}
	if n := w.cloud.created("last"); n != 0 {
		t.Errorf("the last was made already")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.comment(number, "pplied")
	r := w.ended(1, store.RunFilter{Kind: store.KindApply})[0]
	if r.State != store.Applied || resultOf(t, r).Comparison.Verdict != plan.Narrower {
		t.Errorf("the apply is %s: %s %s", r.State, r.Error, r.Result)
	}
	w.quiet()
	if w.cloud.created("first") != 1 || w.cloud.created("last") != 1 {
		t.Errorf("journal: %+v", w.cloud.journal())
	}
}
