package integration

import (
	"os/exec"
	"path/filepath"
	"testing"

	"holdfast/store"
)

// TestHold applies nothing while somebody holds a workspace or the whole
// server, says so, and goes on by itself.
func TestHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "x"})
	w.repo.Grant("ada", "write")
	w.start()
	number := w.openReviewed(app() + server("one"))
	w.repo.Comment(number, "ada", `holdfast hold 4h -m "incident 42" -w nowhere`)
	w.replied(number, "No workspace has that name.")
	w.repo.Comment(number, "ada", `holdfast hold 4h -m "incident 42"`)
	w.replied(number, "all workspaces")
	w.repo.Merge(number, "merge")
	w.fork(number, "on hold by ada until")
	w.fork(number, "incident 42")
	w.kill() // a hold outlives the process
	w.start()
	if n := w.cloud.created("one"); n != 0 {
		t.Errorf("it was made %d times on hold", n)
	}
	// The whole server is frozen besides.
	if out := w.holdfast("hold", "1h", "-m", "audit"); out == "" {
		t.Error("hold says nothing")
	}
	w.repo.Comment(number, "ada", "holdfast release")
	w.replied(number, "Released: all workspaces")
	w.fork(number, "audit")
	if n := w.cloud.created("one"); n != 0 {
		t.Errorf("it was made %d times on hold", n)
	}
	w.holdfast("release")
	if run := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]; run.State != store.Applied {
		t.Errorf("the apply is %s: %s", run.State, run.Error)
	}
	w.quiet()
}

// TestHoldEnds goes on when the time is over.
func TestHoldEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "x"})
	w.repo.Grant("ada", "write")
	w.start()
	number := w.openReviewed(app() + server("one"))
	w.repo.Comment(number, "ada", "holdfast hold 4s")
	w.replied(number, "On hold for 4s")
	w.repo.Merge(number, "merge")
	if run := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]; run.State != store.Applied {
		t.Errorf("the apply is %s: %s", run.State, run.Error)
	}
	w.quiet()
}

// holdfast runs a command on the server's store.
func (w *world) holdfast(args ...string) string {
	w.Helper()
	out, err := exec.Command(binaries.holdfast, append(args, "--data-dir", filepath.Join(w.dir, "data"))...).CombinedOutput()
	if err != nil {
		w.Fatalf("holdfast %v: %v\n%s", args, err, out)
	}
	return string(out)
}
