package integration

import (
	"strings"
	"testing"

	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// ordered are three workspaces in a row, of which the first may fail. The one
// in the middle is not touched by the pull request of these tests.
func ordered() map[string]string {
	return map[string]string{
		"a/main.tf": app(), "b/main.tf": app(), "c/main.tf": app(), "d/main.tf": app(),
		"holdfast.hcl": `workspace "a" {
  dir = "a"
}
workspace "b" {
  dir        = "b"
  depends_on = ["a"]
}
workspace "c" {
  dir        = "c"
  depends_on = ["b"]
}
workspace "d" {
  dir = "d"
}
`,
	}
}

// TestOrderOfApplies applies what others depend on first, also across a
// workspace that the pull request does not touch.
func TestOrderOfApplies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ordered())
	w.start()
	w.repo.Push("all", map[string]string{"a/s.tf": server("first", `delay = "2s"`), "c/s.tf": server("last"), "d/s.tf": server("free")}, "all")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "all"})
	w.ended(3, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	w.comment(number, "Planned before a, which it depends on, is applied")
	w.repo.Merge(number, "merge")
	w.comment(number, "waits for a, which it depends on")
	for _, r := range w.ended(3, store.RunFilter{Kind: store.KindApply, PullRequest: number}) {
		if r.State != store.Applied {
			t.Errorf("%s is %s: %s", r.Workspace, r.State, r.Error)
		}
	}
	made := map[string]int{}
	for i, e := range w.cloud.journal() {
		if e.Op == "create" {
			made[e.Name] = i
		}
	}
	if made["last"] < made["first"] || made["free"] > made["first"] {
		t.Errorf("made in the order %v", made)
	}
	w.quiet()
}

// TestOrderAfterAFailure holds what depends on a failed apply, and goes on with
// all of it on request.
func TestOrderAfterAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ordered())
	w.repo.Grant("ada", "write")
	w.start()
	w.repo.Push("all", map[string]string{"a/s.tf": server("first", `fail = "create"`), "c/s.tf": server("last"), "d/s.tf": server("free")}, "all")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "all"})
	w.ended(3, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	w.comment(number, "planned")
	w.repo.Merge(number, "merge")
	states := map[string]store.State{}
	for _, r := range w.ended(3, store.RunFilter{Kind: store.KindApply, PullRequest: number}) {
		states[r.Workspace] = r.State
	}
	if states["a"] != store.Failed || states["c"] != store.Held || states["d"] != store.Applied {
		t.Errorf("states %v", states)
	}
	if body := w.comment(number, "It depends on a, whose apply is failed"); strings.Contains(body, "Waiting") {
		t.Errorf("somebody still waits:\n%s", body)
	}
	w.repo.Comment(number, "ada", "holdfast apply")
	w.replied(number, "Applying: `a`, `c`.")
	w.ended(5, store.RunFilter{Kind: store.KindApply, PullRequest: number})
	if n := w.cloud.created("last"); n != 0 {
		t.Errorf("what depends on a failed apply was made %d times", n)
	}
	w.quiet()
}
