package integration

import (
	"strings"
	"testing"

	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// correcting checks the cloud all the time and undoes what it finds.
const correcting = "defaults {\n  drift {\n    schedule = \"@every 2s\"\n    correct = \"apply\"\n  }\n}\n"

// checkedTwice waits for two checks of a workspace that begin from now on.
func (w *world) checkedTwice(name string) {
	w.Helper()
	before := w.runs(store.RunFilter{Kind: store.KindDrift, Workspace: name, Limit: 1})
	w.until("it is checked twice", func() bool {
		ended := 0
		for _, r := range w.runs(store.RunFilter{Kind: store.KindDrift, Workspace: name, Limit: 10}) {
			if r.State.Ended() && (len(before) == 0 || r.ID > before[0].ID) {
				ended++
			}
		}
		return ended >= 2
	})
}

// What an apply did before it failed is no drift, and no correction undoes it:
// the state has it, and the pull request says so.
func TestHalfAnApplyIsNotUndone(t *testing.T) {
	t.Parallel()
	main := func(size, more string) string {
		return providers + "provider \"smallcloud\" {}\n" + server("first", "size = \""+size+"\"") +
			server("second", "size = \""+size+"\"", more, "depends_on = [smallcloud_server.first]")
	}
	w := newWorld(t, map[string]string{"a/main.tf": providers, "holdfast.hcl": correcting})
	w.start()
	w.repo.Grant("ada", "write")
	propose := func(branch, text string) int {
		t.Helper()
		w.repo.Push(branch, map[string]string{"a/main.tf": text}, branch)
		number := w.repo.OpenPull(giteatest.OpenPull{Head: branch})
		w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
		w.repo.Merge(number, "merge")
		w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})
		return number
	}
	propose("make", main("small", ""))
	broken := propose("grow", main("large", `fail = "update"`))
	w.checkedTwice("a")
	if got := w.cloud.attribute("first", "size"); got != "large" {
		t.Errorf("what was applied is %v again", got)
	}
	if class := w.workspace("a").Class; class != string(plan.UnappliedCommit) {
		t.Errorf("it is taken for %s", class)
	}
	w.repo.Comment(broken, "ada", "holdfast unlock")
	w.replied(broken, "Unlocked: `a`")
	propose("mend", main("large", ""))
	w.cloud.set("first", "size", "enormous")
	w.until("drift is corrected again", func() bool { return w.cloud.attribute("first", "size") == "large" })
}

// While holdfast.hcl on the default branch cannot be read, nothing is applied,
// and no check takes what was merged meanwhile for drift.
func TestUnreadableConfigurationAppliesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"a/main.tf": providers, "holdfast.hcl": correcting})
	w.start()
	w.repo.Push("make", map[string]string{"a/main.tf": providers + "provider \"smallcloud\" {}\n" + server("one")}, "make")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "make"})
	w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	w.repo.Merge(number, "merge")
	w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})

	w.repo.Push("main", map[string]string{"holdfast.hcl": strings.Replace(correcting, "correct ", "corect ", 1), "a/two.tf": server("two")}, "both")
	w.until("the mistake is found", func() bool { return strings.Contains(w.log.String(), "cannot be read") })
	w.checkedTwice("a")
	if runs := w.runs(store.RunFilter{Kind: store.KindCorrect}); len(runs) != 0 || len(w.cloud.resources()) != 1 {
		t.Errorf("%d corrections made %v", len(runs), w.cloud.resources())
	}
	w.cloud.set("one", "size", "enormous")
	w.until("drift is still corrected", func() bool { return w.cloud.attribute("one", "size") != "enormous" })
}
