package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"holdfast/runner"
	"holdfast/store"
)

// TestStateLockedByOthers waits while somebody else has the state's own lock,
// says who, forces nothing, and goes on by itself, also after a kill.
func TestStateLockedByOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "x"})
	w.start()
	w.repo.Merge(w.openReviewed(app()+server("one")), "merge")
	w.until("it is applied", func() bool { return w.workspace("app").State == runner.InSync })
	merged := w.openPullOf(map[string]string{"app/two.tf": server("two")}, "two")
	w.becomes(merged, store.KindPlan, store.Planned)

	other := w.lockState("app", "28s")
	w.repo.Merge(merged, "merge")
	w.fork(merged, "the state is locked by")
	opened := w.openPullOf(map[string]string{"app/three.tf": server("three")}, "three")
	w.fork(opened, "the state is locked by")
	w.kill()
	w.start()
	if n := w.cloud.created("two"); n != 0 {
		t.Errorf("two was made %d times although the state was locked", n)
	}
	if err := other.Wait(); err != nil {
		t.Errorf("the other one's lock was taken: %v\n%s", err, other.Stderr)
	}
	w.becomes(merged, store.KindApply, store.Applied)
	w.becomes(opened, store.KindPlan, store.Planned)
	w.quiet()
	if n := w.cloud.created("two"); n != 1 {
		t.Errorf("two was made %d times", n)
	}
}

// lockState has a plan of somebody else's hold the lock of a kept state for that
// long, and returns when it has it.
func (w *world) lockState(workspace, length string) *exec.Cmd {
	w.Helper()
	state := filepath.Join(w.dir, "data", "state", filepath.FromSlash(w.repository()), workspace, "terraform.tfstate")
	dir := w.TempDir()
	text := "terraform {\n  backend \"local\" {\n    path = \"" + state + "\"\n  }\n}\n" + app() +
		"data \"smallcloud_image\" \"slow\" {\n  name  = \"image\"\n  delay = \"" + length + "\"\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	terraform := func(args ...string) *exec.Cmd {
		cmd := exec.Command("terraform", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "TF_REATTACH_PROVIDERS="+w.cloud.reattach)
		cmd.Stderr = &bytes.Buffer{}
		return cmd
	}
	if err := terraform("init", "-input=false").Run(); err != nil {
		w.Fatal(err)
	}
	plan := terraform("plan", "-input=false")
	if err := plan.Start(); err != nil {
		w.Fatal(err)
	}
	w.until("the state is locked", func() bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(state), ".terraform.tfstate.lock.info"))
		return err == nil
	})
	return plan
}
