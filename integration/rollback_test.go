package integration

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/runner"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/vcstest/gittest"
)

// latest returns the newest run of a pull request's workspace app; of the default
// branch where the number is 0.
func (w *world) latest(number int) store.Run {
	w.Helper()
	for _, r := range w.runs(store.RunFilter{PullRequest: number, Workspace: "app"}) {
		if r.PullRequest == number && r.Kind != store.KindDrift {
			return r
		}
	}
	return store.Run{}
}

// becomes waits until that run is so.
func (w *world) becomes(number int, kind store.Kind, state store.State) store.Run {
	w.Helper()
	w.until(fmt.Sprintf("the %s of #%d is %s", kind, number, state), func() bool {
		r := w.latest(number)
		return r.Kind == kind && r.State == state
	})
	return w.latest(number)
}

// ask comments a command and waits for the answer.
func (w *world) ask(number int, who, command, answer string) {
	w.Helper()
	w.repo.Comment(number, who, command)
	w.replied(number, answer)
}

// TestRollback opens a pull request that takes a merge back, however it was
// merged, and applies that like any other.
func TestRollback(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"merge", "squash", "rebase"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, map[string]string{"app/main.tf": app() + server("old")})
			w.repo.Grant("ada", "write")
			w.start()
			w.repo.Push("change", map[string]string{"app/one.tf": server("one")}, "one")
			w.repo.Push("change", map[string]string{"app/one.tf": server("one", `size = "large"`), "app/two.tf": server("two")}, "two")
			number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
			w.becomes(number, store.KindPlan, store.Planned)
			w.ask(number, "ada", "holdfast rollback", "Only a merge is rolled back")
			w.repo.Merge(number, method)
			w.becomes(number, store.KindApply, store.Applied)
			w.ask(number, "mallory", "holdfast rollback", "write permission")
			back := number + 1
			w.ask(number, "ada", "holdfast rollback", fmt.Sprintf("Pull request #%d takes this back", back))
			w.repo.Comment(number, "ada", "holdfast rollback")
			w.until("the second one is answered alike", func() bool {
				n := 0
				for _, c := range w.repo.Comments(number) {
					if strings.Contains(c.Body, fmt.Sprintf("Pull request #%d takes this back", back)) {
						n++
					}
				}
				return n == 2
			})
			w.becomes(back, store.KindPlan, store.Planned)
			w.fork(back, "2 to destroy")
			w.repo.Merge(back, "merge")
			w.becomes(back, store.KindApply, store.Applied)
			w.quiet()
			if r := w.cloud.resources(); len(r) != 1 || r[0].Name != "old" {
				t.Errorf("the cloud has %+v", r)
			}
		})
	}
}

// TestRollbackConflict names what a person has to look at.
func TestRollbackConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"app/main.tf": app(), "app/one.tf": server("one")})
	w.repo.Grant("ada", "write")
	w.start()
	numbers := []int{}
	for _, size := range []string{"medium", "large"} {
		w.repo.Push(size, map[string]string{"app/one.tf": server("one", `size = "`+size+`"`)}, size)
		number := w.repo.OpenPull(giteatest.OpenPull{Head: size})
		w.becomes(number, store.KindPlan, store.Planned)
		if size == "medium" {
			w.repo.Merge(number, "merge")
			w.becomes(number, store.KindApply, store.Applied)
		}
		numbers = append(numbers, number)
	}
	w.repo.Close(numbers[1])
	w.repo.Push("main", map[string]string{"app/one.tf": server("one", `size = "enormous"`)}, "past the review")
	w.ask(numbers[0], "ada", "holdfast rollback", "`app/one.tf`")
	w.quiet()
}

// TestPush plans what comes without a pull request, and applies it only where the
// repository said so before.
func TestPush(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "x"})
	w.start()
	w.repo.Merge(w.openReviewed(app()+server("one")), "merge")
	w.until("it is applied", func() bool { return w.workspace("app").State == runner.InSync })
	w.quiet()
	if n := w.latest(0); n.ID != "" {
		t.Errorf("the merge was taken for a push: %+v", n)
	}
	w.repo.Push("main", map[string]string{"app/two.tf": server("two")}, "past the review")
	w.becomes(0, store.KindPlan, store.Planned)
	w.until("it is pending", func() bool { return w.workspace("app").State == runner.Pending })
	if why := w.workspace("app").Error; !strings.Contains(why, "without a pull request") {
		t.Errorf("it is pending because of %q", why)
	}
	w.stop()
	w.repo.Push("main", map[string]string{"app/two.tf": "# nothing\n", "app/one.tf": "# one is in servers.tf\n"}, "nothing")
	w.start() // what was pushed meanwhile is found
	w.becomes(0, store.KindPlan, store.NoChanges)
	w.until("it is in sync", func() bool { return w.workspace("app").State == runner.InSync })
	// Who pushes this does not apply it by the same push.
	onPush := "defaults {\n  apply {\n    on_push = true\n  }\n}\n"
	w.repo.Push("main", map[string]string{"holdfast.hcl": onPush, "app/two.tf": server("two")}, "on push")
	w.becomes(0, store.KindPlan, store.Planned)
	w.quiet()
	if n := len(w.cloud.resources()); n != 1 {
		t.Errorf("the cloud has %d servers", n)
	}
	sha := w.repo.Push("main", map[string]string{"app/three.tf": server("three")}, "three")
	w.becomes(0, store.KindApply, store.Applied)
	w.until("it is in sync", func() bool { return w.workspace("app").AppliedCommit == sha })
	w.quiet()
	if w.cloud.created("two") != 1 || w.cloud.created("three") != 1 {
		t.Errorf("the cloud did %+v", w.cloud.journal())
	}
}

// TestMergesAreNoPushes takes no merge for a push, whichever event comes first.
func TestMergesAreNoPushes(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"merge", "squash", "rebase"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, map[string]string{"README.md": "x"})
			w.start()
			number := w.openReviewed(app() + server("one"))
			w.forge.Hold()
			w.repo.Merge(number, method)
			held := w.forge.Held()
			for i := len(held) - 1; i >= 0; i-- {
				w.forge.Send(held[i].ID)
			}
			w.forge.Release()
			w.becomes(number, store.KindApply, store.Applied)
			w.quiet()
			if n := w.latest(0); n.ID != "" {
				t.Errorf("the merge was taken for a push: %+v", n)
			}
		})
	}
}

// TestStateCommands takes something into the state, and forgets something, as a
// part of a pull request's plan.
func TestStateCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "x"})
	w.settings = "\ncommands = [\"import\", \"state rm\"]\n"
	w.repo.Grant("ada", "write")
	w.start()
	w.repo.Merge(w.openReviewed(app()+server("one")), "merge")
	w.until("it is applied", func() bool { return w.workspace("app").State == runner.InSync })
	id := w.cloud.resources()[0].ID
	number := w.openPullOf(map[string]string{"app/servers.tf": app()}, "forget")
	w.becomes(number, store.KindPlan, store.Planned)
	w.fork(number, "1 to destroy")
	w.ask(number, "ada", "holdfast state rm -w app smallcloud_server.one", "with it")
	w.fork(number, "1 to forget")
	w.repo.Merge(number, "merge")
	w.becomes(number, store.KindApply, store.Applied)
	if n := len(w.cloud.resources()); n != 1 {
		t.Errorf("the cloud has %d servers", n)
	}
	number = w.openPullOf(map[string]string{"app/servers.tf": app() + server("one")}, "again")
	w.becomes(number, store.KindPlan, store.Planned)
	w.fork(number, "1 to add")
	w.ask(number, "ada", "holdfast import -w app 'smallcloud_server.one' "+id, "with it")
	w.fork(number, "1 to import")
	w.ask(number, "ada", "holdfast reset -w app", "Taken back")
	w.until("it is created again", func() bool { return !strings.Contains(w.shownOn(number), "1 to import") })
	w.ask(number, "ada", "holdfast import -w app smallcloud_server.one "+id, "with it")
	w.fork(number, "1 to import")
	w.repo.Merge(number, "merge")
	w.becomes(number, store.KindApply, store.Applied)
	w.quiet()
	if n := w.cloud.created("one"); n != 1 {
		t.Errorf("one was made %d times", n)
	}
}

// TestStateCommandsAreOff refuses them where the server says nothing of them.
func TestStateCommandsAreOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "x"})
	w.repo.Grant("ada", "write")
	w.start()
	number := w.openReviewed(app() + server("one"))
	w.ask(number, "ada", "holdfast import -w app smallcloud_server.one id", "off on this server")
	w.ask(number, "ada", "holdfast state rm -w app smallcloud_server.one", "`state rm` is off on this server")
	w.quiet()
}

// openPullOf opens a pull request with these files.
func (w *world) openPullOf(files map[string]string, branch string) int {
	w.Helper()
	w.repo.PushChange(gittest.Change{Branch: branch, From: "main", Files: files})
	return w.repo.OpenPull(giteatest.OpenPull{Head: branch})
}

// shownOn is Holdfast's own comment.
func (w *world) shownOn(number int) string {
	for _, c := range w.repo.Comments(number) {
		if strings.HasPrefix(c.Body, "<!-- holdfast -->") {
			return c.Body
		}
	}
	return ""
}
