package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// cancelApply cancels the job of the apply at the command line.
func (w *world) cancelApply() {
	w.Helper()
	st := w.open()
	defer st.Close()
	jobs, err := st.Queue.List(w.Context(), queue.Filter{Kind: "apply"})
	if err != nil || len(jobs) != 1 {
		w.Fatal(jobs, err)
	}
	if said := w.holdfast("jobs", "cancel", jobs[0].ID); !strings.Contains(said, "asked to stop") {
		w.Errorf("cancelling an apply says %q", said)
	}
}

// TestCancelAnApply cancels an apply while its engine is at work, once that of
// the server that started it, once that of a server which was killed. What was
// made is in the state, and what was not is made by the next apply.
func TestCancelAnApply(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"of this server": false, "of a killed server": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, map[string]string{"app/main.tf": app()})
			w.repo.Grant("ada", "write")
			w.start()
			file := filepath.Join(t.TempDir(), "go-on")
			w.repo.Push("change", map[string]string{
				"app/more.tf": server("first") + waits(file, "smallcloud_server.first") + server("last", "depends_on = [data.smallcloud_image.slow]"),
			}, "change")
			number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
			w.comment(number, "smallcloud_server.last")
			w.repo.Merge(number, "merge")
			w.until("the first is made", func() bool { return w.cloud.created("first") == 1 })
			if killed {
				w.kill()
				w.start()
				w.until("the engine is followed", func() bool {
					st := w.open()
					defer st.Close()
					jobs, err := st.Queue.List(w.Context(), queue.Filter{Kind: "apply"})
					return err == nil && len(jobs) == 1 && jobs[0].Attempt == 2
				})
			}
			w.cancelApply()
			r := w.ended(1, store.RunFilter{Kind: store.KindApply})[0]
			if r.State != store.Canceled || !strings.Contains(r.Error, "while it was applied") {
				t.Errorf("the apply is %s: %s", r.State, r.Error)
			}
			w.quietly() // the pull request keeps the workspace
			if w.cloud.created("last") != 0 {
				t.Error("the last was made")
			}
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			w.repo.Comment(number, "ada", "holdfast apply")
			w.until("it is applied", func() bool { return w.latest(number).State == store.Applied })
			w.quiet()
			if w.cloud.created("first") != 1 || w.cloud.created("last") != 1 {
				t.Errorf("journal: %+v", w.cloud.journal())
			}
		})
	}
}
