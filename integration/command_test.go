package integration

import (
	"strings"
	"testing"

	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// replied waits until somebody's comment has exactly one answer that says
// want, and returns it.
func (w *world) replied(number int, want string) {
	w.Helper()
	w.until("the answer says "+want, func() bool {
		n := 0
		for _, c := range w.repo.Comments(number) {
			if strings.HasPrefix(c.Body, "<!-- holdfast answers") && strings.Contains(c.Body, want) {
				n++
			}
		}
		if n > 1 {
			w.Fatalf("%d answers say %q", n, want)
		}
		return n == 1
	})
}

// TestCommands answers everybody and obeys who may write.
func TestCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.repo.Grant("ada", "write")
	w.start()
	w.repo.Push("change", map[string]string{"modules/vm/main.tf": vm("large")}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	w.ended(2, store.RunFilter{PullRequest: number})
	w.repo.Comment(number, "mallory", "holdfast plan")
	w.replied(number, "write permission")
	w.repo.Comment(number, "ada", "holdfast plann")
	w.replied(number, `Did you mean "plan"?`)
	w.repo.Comment(number, "ada", "> holdfast plan")
	w.repo.Comment(number, "ada", "/holdfast help")
	w.replied(number, "Commands, as the first words")
	w.repo.Comment(number, "ada", "holdfast apply")
	w.replied(number, "Merging this pull request applies its plans.")
	w.quiet()
	if runs := w.runs(store.RunFilter{PullRequest: number}); len(runs) != 2 {
		t.Errorf("nobody asked for more:\n%s", w.describe())
	}
	w.repo.Comment(number, "ada", "holdfast plan -w a")
	w.replied(number, "Planning again: `a`.")
	w.ended(3, store.RunFilter{PullRequest: number})
	for _, d := range w.forge.Deliveries() {
		w.forge.Redeliver(d.ID, 1)
	}
	w.quiet()
	if runs := w.runs(store.RunFilter{PullRequest: number}); len(runs) != 3 {
		t.Errorf("a redelivered command ran again:\n%s", w.describe())
	}
	w.repo.Comment(number, "ada", "holdfast drift -w c")
	w.replied(number, "Checking 1 workspaces")
	w.ended(1, store.RunFilter{Kind: store.KindDrift, Workspace: "c"})
	w.quiet()
}

// TestForkOnRequest plans a fork when somebody who may write asks for it, and
// its next push only when asked again.
func TestForkOnRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.repo.Grant("ada", "write")
	w.start()
	fork := w.repo.Fork("mallory")
	fork.Push("change", map[string]string{"c/more.tf": server("more")}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "mallory:change"})
	w.fork(number, "comes from a fork")
	w.repo.Comment(number, "mallory", "holdfast plan")
	w.replied(number, "write permission")
	w.repo.Comment(number, "ada", "holdfast plan")
	w.ended(1, store.RunFilter{PullRequest: number})
	w.fork(number, "smallcloud_server.more")
	fork.Push("change", map[string]string{"c/more.tf": server("worse")}, "worse")
	w.fork(number, "comes from a fork")
	w.quiet()
	if runs := w.runs(store.RunFilter{PullRequest: number}); len(runs) != 1 {
		t.Errorf("the next push was planned unasked:\n%s", w.describe())
	}
}

// fork waits until Holdfast's own comment, among others, says want.
func (w *world) fork(number int, want string) {
	w.Helper()
	w.until("the report says "+want, func() bool {
		for _, c := range w.repo.Comments(number) {
			if strings.HasPrefix(c.Body, "<!-- holdfast -->") && strings.Contains(c.Body, want) {
				return true
			}
		}
		return false
	})
}

// TestConfirmHeldApply applies exactly the plan that a held apply shows, once
// somebody says so, and holds again where it is another one by then.
func TestConfirmHeldApply(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"app/main.tf": app(), "README.md": "x"})
	w.repo.Grant("ada", "write")
	w.start()
	w.repo.Push("two", map[string]string{"app/two.tf": server("two")}, "Add two")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "two"})
	w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	w.repo.Push("main", map[string]string{"app/three.tf": server("three")}, "Add three")
	w.repo.Merge(number, "merge")
	if run := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]; run.State != store.Held {
		t.Fatalf("the apply is %s", run.State)
	}
	w.fork(number, "holdfast apply -w app")
	w.repo.Comment(number, "mallory", "holdfast apply")
	w.replied(number, "write permission")
	w.repo.Comment(number, "ada", "holdfast apply -w app")
	w.replied(number, "Applying: `app`.")
	if run := w.ended(2, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]; run.State != store.Applied {
		t.Errorf("the confirmed apply is %s: %s", run.State, run.Error)
	}
	if w.cloud.created("two") != 1 || w.cloud.created("three") != 1 {
		t.Errorf("the cloud has %+v", w.cloud.resources())
	}
	w.fork(number, "pplied")
	w.repo.Comment(number, "ada", "holdfast apply")
	w.replied(number, "There is no failed or held apply")
	w.quiet()
}

// TestRetryFailedApply tries what is left of an apply again.
func TestRetryFailedApply(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "x"})
	w.repo.Grant("ada", "write")
	w.start()
	number := w.openReviewed(app() + server("fine") + server("refused", `fail = "create"`, "depends_on = [smallcloud_server.fine]"))
	w.repo.Merge(number, "merge")
	if run := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]; run.State != store.Failed {
		t.Fatalf("the apply is %s", run.State)
	}
	w.fork(number, "Comment `holdfast apply`")
	w.repo.Comment(number, "ada", "holdfast apply")
	w.replied(number, "Applying: `app`.")
	// The cloud still refuses: it is tried, told, and nothing is made twice.
	if run := w.ended(2, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]; run.State != store.Failed {
		t.Errorf("the retry is %s: %s", run.State, run.Error)
	}
	if n := w.cloud.created("fine"); n != 1 {
		t.Errorf("fine was made %d times", n)
	}
	w.quiet()
}

// TestStalePlans tells an open pull request that another one was applied to its
// workspace since it was planned, and leaves those alone that it does not
// concern.
func TestStalePlans(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	open := func(branch, dir string) int {
		w.repo.Push(branch, map[string]string{dir + "/" + branch + ".tf": server(branch)}, branch)
		n := w.repo.OpenPull(giteatest.OpenPull{Head: branch})
		w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: n})
		w.comment(n, branch)
		return n
	}
	first, second, other := open("first", "c"), open("second", "c"), open("other", "d")
	// c's own server is made by the first; the second then has one less to add.
	w.comment(second, "2 to add")
	w.repo.Merge(first, "merge")
	w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: first})
	w.comment(second, "Planned before commit")
	w.quiet()
	if body := w.comment(other); strings.Contains(body, "Planned before") {
		t.Errorf("the other pull request is told as well:\n%s", body)
	}
	// It is less than what was reviewed: c's own server is there.
	w.repo.Merge(second, "merge")
	if run := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: second})[0]; run.State != store.Applied {
		t.Errorf("the second apply is %s: %s", run.State, run.Error)
	}
}

// TestApplyOnComment waits for a person where a workspace asks for that.
func TestApplyOnComment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"holdfast.hcl": "defaults {\n  apply {\n    on = \"comment\"\n  }\n}\n"})
	w.repo.Grant("ada", "write")
	w.start()
	number := w.openReviewed(app() + server("one"))
	w.repo.Merge(number, "merge")
	w.fork(number, "applied on a comment")
	w.quiet()
	if n := w.cloud.created("one"); n != 0 {
		t.Errorf("it was made %d times unasked", n)
	}
	w.repo.Comment(number, "ada", "holdfast apply -w app")
	w.replied(number, "Applying: `app`.")
	if run := w.ended(2, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]; run.State != store.Applied {
		t.Errorf("the apply is %s: %s", run.State, run.Error)
	}
	w.quiet()
}
