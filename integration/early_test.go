package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/runner"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/vcstest/gittest"
)

// TestEarlyMerge applies two workspaces one after the other, and then merges.
func TestEarlyMerge(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment("automerge = true", `merge_method = "squash"`), "a", "b")
	number, head := w.propose("both", map[string]string{"a/s.tf": server("one"), "b/s.tf": server("two")})
	w.says(number, "Comment `holdfast apply` to apply this plan; the pull request is merged when everything is applied.")
	w.tell(number, "holdfast apply -w a", "Applying: `a`.")
	w.stands(number, "a", "apply applied")
	w.says(number, "| `a` | ✅ applied", "| `b` | ✅ planned", "`a`: The pull request is merged when everything is applied.")
	w.quietly() // it was looked at again by now
	w.once("one")
	w.has(number, "a")
	if p := w.repo.Pull(number); p.Merged {
		t.Errorf("it was merged before b is applied")
	}
	if rec := w.workspace("a"); rec.AppliedCommit != head || rec.State != runner.InSync {
		t.Errorf("a is %+v", rec)
	}
	w.statuses(head, "success", "holdfast", "holdfast/a", "holdfast/b")

	w.tell(number, "holdfast apply", "Applying: `b`.")
	w.until("it is merged", func() bool { return w.repo.Pull(number).Merged })
	merge := w.repo.Pull(number).MergeSHA
	for _, name := range []string{"a", "b"} {
		run := w.stands(number, name, "apply no_changes")
		if run.Commit != merge || !strings.Contains(strings.Join(resultOf(t, run).Notes, " "), "Applied before the merge, at commit "+head[:8]) {
			t.Errorf("%s: %+v", name, run)
		}
		w.until(name+" is known to be at the merge", func() bool {
			rec := w.workspace(name)
			return rec.AppliedCommit == merge && rec.State == runner.InSync && rec.Error == ""
		})
	}
	w.says(number, "Applied before the merge")
	w.statuses(head, "success", "holdfast", "holdfast/a", "holdfast/b")
	w.has(0)
	w.once("one", "two")
	if calls := w.forge.Calls("POST", "/merge"); len(calls) != 1 {
		t.Errorf("the forge was asked %d times to merge", len(calls))
	}
	if base, err := w.repo.Git.MergeBase(merge, head); err != nil || base == head {
		t.Errorf("%.8s is no squash of %.8s: %v", merge, head, err)
	}
	w.quiet()
}

// TestEarlyBesideOthers has both ways in one repository.
func TestEarlyBesideOthers(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment()+"workspace \"b\" {\n  dir = \"b\"\n  apply {\n    on = \"merge\"\n  }\n}\n", "a", "b")
	number, head := w.propose("both", map[string]string{"a/s.tf": server("one"), "b/s.tf": server("two")})
	w.says(number, "and merge the pull request after that", "Merging this pull request applies this plan")
	w.tell(number, "holdfast apply -w b", "Merging this pull request applies its plans.")
	w.tell(number, "holdfast apply", "Applying: `a`.")
	w.stands(number, "a", "apply applied")
	w.says(number, "Merge this pull request now", "Merging this pull request applies this plan")
	w.quietly()
	w.once("one")
	merge := w.repo.Merge(number, "merge")
	w.stands(number, "a", "apply no_changes")
	w.stands(number, "b", "apply applied")
	w.says(number, "Applied before the merge, at commit "+head[:8])
	w.quietly()
	for _, name := range []string{"a", "b"} {
		if rec := w.workspace(name); rec.AppliedCommit != merge || rec.State != runner.InSync {
			t.Errorf("%s is %+v", name, rec)
		}
	}
	w.once("one", "two")
	w.quiet()
}

// TestEarlyPush plans anew what is pushed after the apply, and keeps the
// workspace meanwhile.
func TestEarlyPush(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment(), "app")
	number, first := w.propose("change", map[string]string{"app/s.tf": server("one")})
	w.tell(number, "holdfast apply", "Applying: `app`.")
	w.stands(number, "app", "apply applied")
	w.says(number, "1 added")
	second := w.repo.Push("change", map[string]string{"app/more.tf": server("two")}, "more")
	w.until("it is planned anew", func() bool {
		runs := w.runs(store.RunFilter{PullRequest: number, Commit: second})
		return len(runs) == 1 && runs[0].State == store.Planned
	})
	w.says(number, "1 to add", "Commit "+first[:8]+" of this pull request is applied", "Comment `holdfast apply`")
	w.has(number, "app")
	w.quietly()
	w.once("one")
	w.tell(number, "holdfast apply", "Applying: `app`.")
	if run := w.stands(number, "app", "apply applied"); run.Commit != second {
		t.Errorf("applied %.8s instead of %.8s", run.Commit, second)
	}
	w.says(number, "Merge this pull request now")
	w.has(number, "app")
	w.tell(number, "holdfast apply", "is applied")
	// A push that changes nothing here needs no other apply.
	w.repo.Push("change", map[string]string{"README.md": "nothing"}, "nothing")
	w.quietly()
	w.says(number, "Merge this pull request now")
	merge := w.repo.Merge(number, "rebase")
	w.stands(number, "app", "apply no_changes")
	w.quietly()
	if rec := w.workspace("app"); rec.AppliedCommit != merge || rec.State != runner.InSync {
		t.Errorf("app is %+v", rec)
	}
	w.once("one", "two")
	w.quiet()
}

// TestEarlyPushMeanwhile lets an apply end that is at work when the branch is
// pushed to, and shows the plan of what was pushed after it.
func TestEarlyPushMeanwhile(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment(), "app")
	number, first := w.propose("change", map[string]string{"app/s.tf": server("one", `delay = "2s"`)})
	w.tell(number, "holdfast apply", "Applying: `app`.")
	w.until("the cloud is at work", func() bool { return len(w.cloud.journal()) > 0 })
	second := w.repo.Push("change", map[string]string{"app/more.tf": server("two")}, "more")
	w.says(number, "Holdfast plan of `"+second[:12], "Commit "+first[:8]+" of this pull request is applied", "Comment `holdfast apply` to apply this plan")
	w.quietly()
	w.once("one")
	w.has(number, "app")
	w.tell(number, "holdfast apply", "Applying: `app`.")
	w.says(number, "Merge this pull request now")
	w.once("one", "two")
}

// TestEarlyMergedMeanwhile is a merge by hand while an apply before it is at work.
func TestEarlyMergedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"merge", "squash"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			w := newEarly(t, onComment(), "app")
			number, head := w.propose("change", map[string]string{"app/s.tf": server("one", `delay = "2s"`)})
			w.tell(number, "holdfast apply", "Applying: `app`.")
			w.until("the cloud is at work", func() bool { return len(w.cloud.journal()) > 0 })
			merge := w.repo.Merge(number, method)
			w.stands(number, "app", "apply no_changes")
			w.says(number, "Applied before the merge, at commit "+head[:8])
			w.quietly()
			w.once("one")
			w.has(0)
			if rec := w.workspace("app"); rec.AppliedCommit != merge || rec.State != runner.InSync {
				t.Errorf("app is %+v", rec)
			}
		})
	}
}

// TestEarlyNothingToApply merges a change that needs no apply: nobody has to ask
// for one.
func TestEarlyNothingToApply(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment(), "app")
	number, _ := w.propose("change", map[string]string{"app/s.tf": server("one")})
	w.tell(number, "holdfast apply", "Applying: `app`.")
	w.stands(number, "app", "apply applied")
	// The same, in other words.
	w.repo.Push("change", map[string]string{"app/s.tf": "# a server\n" + server("one")}, "a remark")
	w.says(number, "✅ no changes", "Merge this pull request now")
	w.has(number, "app")
	w.tell(number, "holdfast apply", "the plan of `app` is no changes")
	merge := w.repo.Merge(number, "squash")
	w.stands(number, "app", "apply no_changes")
	w.quietly()
	if rec := w.workspace("app"); rec.AppliedCommit != merge || rec.State != runner.InSync {
		t.Errorf("app is %+v", rec)
	}
	w.once("one")
	w.has(0)
}

// TestEarlyOfAnotherBranch applies nothing of a pull request that goes to another
// branch than the default one.
func TestEarlyOfAnotherBranch(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment(), "app")
	w.repo.Push("release", map[string]string{"README.md": "release"}, "release")
	w.repo.PushChange(gittest.Change{Branch: "change", From: "release", Files: map[string]string{"app/s.tf": server("one")}})
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change", Base: "release"})
	w.says(number, "1 to add", "does not go to the default branch")
	w.tell(number, "holdfast apply", "does not go to the default branch")
	w.repo.Merge(number, "merge")
	w.says(number, "Only what is on main is applied")
	w.quietly()
	w.once()
	w.has(0)
}

// TestEarlyClosed says what a pull request leaves that was applied and never
// merged, and has the next one bring the cloud back.
func TestEarlyClosed(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment(), "app")
	number, head := w.propose("change", map[string]string{"app/s.tf": server("one")})
	w.tell(number, "holdfast apply", "Applying: `app`.")
	w.stands(number, "app", "apply applied")
	w.quietly()
	w.repo.Close(number)
	w.says(number, "closed without a merge", "its apply undoes it")
	w.has(0)
	w.quietly()
	if rec := w.workspace("app"); rec.State != runner.Pending || !strings.Contains(rec.Error, fmt.Sprintf("#%d was applied here at commit %s and closed", number, head[:8])) {
		t.Errorf("app is %+v", rec)
	}
	// A check finds the commit applied, and no reason to forget why it is pending.
	w.tell(number, "holdfast drift", "Checking 1 workspaces")
	w.ended(1, store.RunFilter{Kind: store.KindDrift, Workspace: "app"})
	w.quietly()
	if rec := w.workspace("app"); rec.State != runner.Pending || !strings.Contains(rec.Error, "closed without a merge") || rec.CheckedAt.IsZero() {
		t.Errorf("after a check app is %+v", rec)
	}
	w.tell(number, "holdfast apply", "closed")
	next, _ := w.propose("next", map[string]string{"app/other.tf": server("two")})
	w.says(next, "1 to add, 1 to destroy", "smallcloud_server.one", "Commit "+head[:8]+" is applied to this workspace and is not in this branch, so this plan undoes")
	w.tell(next, "holdfast apply", "Applying: `app`.")
	w.stands(next, "app", "apply applied")
	w.repo.Merge(next, "merge")
	w.stands(next, "app", "apply no_changes")
	w.quietly()
	if rec := w.workspace("app"); rec.State != runner.InSync || rec.Error != "" {
		t.Errorf("app is %+v", rec)
	}
	if got := w.cloud.resources(); len(got) != 1 || got[0].Name != "two" {
		t.Errorf("the cloud has %+v", got)
	}
	w.quiet()
}

// TestEarlyFailed keeps the workspace after half an apply, has a push mend it, and
// says what a pull request leaves that is closed instead.
func TestEarlyFailed(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"mended", "closed"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			w := newEarly(t, onComment(), "app")
			number, head := w.propose("change", map[string]string{"app/s.tf": server("fine") + server("bad", `fail = "create"`, "depends_on = [smallcloud_server.fine]")})
			w.tell(number, "holdfast apply", "Applying: `app`.")
			w.stands(number, "app", "apply failed")
			w.says(number, "Done: `smallcloud_server.fine`. Not done: `smallcloud_server.bad`.", "this workspace is kept from other pull requests. Push a commit that mends it, or comment `holdfast apply -w app` to try the rest again")
			w.has(number, "app")
			w.once("fine")
			if end == "closed" {
				w.repo.Close(number)
				w.says(number, "what it applied before it failed is in the cloud")
				w.has(0)
				w.quietly()
				if rec := w.workspace("app"); rec.State != runner.Pending || !strings.Contains(rec.Error, fmt.Sprintf("#%d did not end well here at commit %s", number, head[:8])) {
					t.Errorf("app is %+v", rec)
				}
				return
			}
			w.repo.Push("change", map[string]string{"app/s.tf": server("fine") + server("good")}, "mend it")
			w.says(number, "smallcloud_server.good", "| `app` | ✅ planned | 1 |", "Comment `holdfast apply` to apply this plan")
			w.has(number, "app")
			w.tell(number, "holdfast apply", "Applying: `app`.")
			w.stands(number, "app", "apply applied")
			w.repo.Merge(number, "merge")
			w.stands(number, "app", "apply no_changes")
			w.has(0)
			w.once("fine", "good")
		})
	}
}

// TestEarlyInLine has a second pull request wait for one that is applied and not
// merged, and undo nothing of it.
func TestEarlyInLine(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment(), "app")
	first, _ := w.propose("first", map[string]string{"app/one.tf": server("one")})
	second, _ := w.propose("second", map[string]string{"app/two.tf": server("two")})
	w.tell(first, "holdfast apply", "Applying: `app`.")
	w.stands(first, "app", "apply applied")
	// What it shows from now on destroys what the first one made.
	w.tell(second, "holdfast plan", "Planning again: `app`.")
	w.says(second, "1 to add, 1 to destroy", "so this plan undoes what that commit did")
	w.tell(second, "holdfast apply", "Applying: `app`.")
	w.says(second, fmt.Sprintf("waits for pull request `#%d`", first), "position 1", "is applied there and not merged yet")
	w.has(first, "app")
	merge := w.repo.Merge(first, "squash")
	w.stands(second, "app", "apply held")
	w.says(second, "The branch lacks commit "+merge[:8], "Update the branch")
	w.once("one")
	head := w.updated("second")
	w.until("it is planned anew", func() bool {
		runs := w.runs(store.RunFilter{PullRequest: second, Commit: head})
		return len(runs) == 1 && runs[0].State == store.Planned
	})
	w.says(second, "1 to add.")
	w.tell(second, "holdfast apply", "Applying: `app`.")
	w.stands(second, "app", "apply applied")
	w.once("one", "two")
	w.repo.Merge(second, "squash")
	w.stands(second, "app", "apply no_changes")
	w.once("one", "two")
	w.has(0)
}

// TestEarlyOrder applies nothing before what it depends on, whatever is asked
// for first.
func TestEarlyOrder(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment()+"workspace \"a\" {\n  dir = \"a\"\n}\nworkspace \"b\" {\n  dir        = \"b\"\n  depends_on = [\"a\"]\n}\n", "a", "b")
	number, _ := w.propose("both", map[string]string{"a/s.tf": server("one"), "b/s.tf": server("two")})
	w.tell(number, "holdfast apply -w b", "Applying: `b`.")
	w.stands(number, "b", "apply held")
	w.says(number, "It depends on a, which is not applied yet. Comment `holdfast apply -w a` first.")
	w.once()
	w.tell(number, "holdfast apply -w a", "Applying: `a`.")
	w.stands(number, "a", "apply applied")
	// What is pushed to b alone leaves a as it is applied.
	w.repo.Push("both", map[string]string{"b/s.tf": server("three")}, "another name")
	w.says(number, "three", "| `a` | ✅ applied", "| `b` | ✅ planned", "It depends on a, which is applied first")
	w.tell(number, "holdfast apply -w b", "Applying: `b`.")
	w.stands(number, "b", "apply applied")
	w.once("one", "three")

	w.repo.Push("both", map[string]string{"a/t.tf": server("four", `delay = "4s"`), "b/t.tf": server("five")}, "more")
	w.says(number, "four", "five", "| `a` | ✅ planned", "| `b` | ✅ planned")
	w.tell(number, "holdfast apply", "Applying: `a`, `b`.")
	w.says(number, "waits for a, which it depends on")
	w.stands(number, "b", "apply applied")
	w.once("one", "three", "four", "five")
	if j := w.cloud.journal(); j[len(j)-1].Name != "five" {
		t.Errorf("the cloud did %+v", j)
	}
	w.repo.Merge(number, "merge")
	w.stands(number, "b", "apply no_changes")
	w.stands(number, "a", "apply no_changes")
	w.quiet()
}

// TestEarlyOfAnOlderHead applies no commit that is not the branch's head any
// more, also where the push came while nothing ran.
func TestEarlyOfAnOlderHead(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment(), "app")
	number, old := w.propose("change", map[string]string{"app/s.tf": server("old")})
	w.holdfast("hold", "1h", "-m", "maintenance")
	w.tell(number, "holdfast apply", "Applying: `app`.")
	w.says(number, "on hold by", "maintenance")
	w.stop()
	head := w.repo.Push("change", map[string]string{"app/s.tf": server("new")}, "another")
	w.holdfast("release")
	w.start()
	w.until("it is planned anew", func() bool {
		runs := w.runs(store.RunFilter{PullRequest: number, Commit: head})
		return len(runs) == 1 && runs[0].State == store.Planned
	})
	w.quietly()
	for _, run := range w.runs(store.RunFilter{PullRequest: number, Commit: old, Kind: store.KindApply}) {
		if run.State != store.Superseded {
			t.Errorf("the apply of the old head is %s: %s", run.State, run.Error)
		}
	}
	w.once()
	w.has(0) // nothing of it was done
	w.says(number, "new", "Comment `holdfast apply` to apply this plan")
	w.tell(number, "holdfast apply", "Applying: `app`.")
	w.stands(number, "app", "apply applied")
	w.once("new")
}

// TestEarlyCommentOnItsWay applies nothing that was planned after the comment was
// made: nobody has seen it.
func TestEarlyCommentOnItsWay(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment(), "app")
	number, _ := w.propose("change", map[string]string{"app/s.tf": server("seen")})
	w.forge.Hold()
	w.repo.Comment(number, "ada", "holdfast apply")
	late := w.forge.Held()
	// A host tells the time of comments to the second, so this plan takes some.
	head := w.repo.Push("change", map[string]string{"app/s.tf": server("unseen") + "data \"smallcloud_image\" \"slow\" {\n  name  = \"image\"\n  delay = \"3s\"\n}\n"}, "another")
	for _, d := range w.forge.Held()[len(late):] {
		w.forge.Send(d.ID)
	}
	w.until("it is planned anew", func() bool {
		runs := w.runs(store.RunFilter{PullRequest: number, Commit: head})
		return len(runs) == 1 && runs[0].State == store.Planned
	})
	w.forge.Release()
	w.until("the comment is answered", func() bool {
		return slices.ContainsFunc(w.repo.Comments(number), func(c giteatest.Comment) bool {
			return strings.Contains(c.Body, "What is shown now is newer than this comment, so nothing was applied.")
		})
	})
	w.quietly()
	w.once()
	w.has(0)
	w.tell(number, "holdfast apply", "Applying: `app`.")
	w.stands(number, "app", "apply applied")
	w.once("unseen")
}

// TestEarlyKilled is kill -9 during an apply before the merge.
func TestEarlyKilled(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment(), "app")
	number, head := w.propose("change", map[string]string{"app/s.tf": slowServers("2s", "one", "two"), "app/main.tf": "# moved\n"})
	w.tell(number, "holdfast apply", "Applying: `app`.")
	w.until("the cloud is at work", func() bool { return len(w.cloud.journal()) > 0 })
	w.kill()
	w.start()
	run := w.stands(number, "app", "apply applied")
	w.says(number, "Merge this pull request now")
	w.quietly()
	w.once("one", "two")
	w.has(number, "app")
	if n := len(w.runs(store.RunFilter{Kind: store.KindApply})); n != 1 || run.Commit != head {
		t.Errorf("there are %d applies, the last of %.8s", n, run.Commit)
	}
	w.repo.Merge(number, "merge")
	w.stands(number, "app", "apply no_changes")
	w.once("one", "two")
	w.quiet()
}

// TestEarlyMergeRefused says that the host does not merge what is applied, and
// merges it once it can be.
func TestEarlyMergeRefused(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"by Holdfast", "by hand"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			w := newEarly(t, onComment("automerge = true"), "app")
			number, _ := w.propose("change", map[string]string{"app/s.tf": server("one")})
			w.repo.SetMergeable(number, false)
			w.tell(number, "holdfast apply", "Applying: `app`.")
			w.stands(number, "app", "apply applied")
			w.says(number, "All of this is applied, but `"+w.forge.Name+"` did not merge the pull request: it conflicts with main", "asked again in a minute", "merging by hand will do as well")
			w.has(number, "app")
			w.repo.SetMergeable(number, true)
			if end == "by hand" {
				w.repo.Merge(number, "merge")
			} else {
				w.tell(number, "holdfast apply", "merged")
				w.until("it is merged", func() bool { return w.repo.Pull(number).Merged })
			}
			w.stands(number, "app", "apply no_changes")
			w.has(0)
			w.once("one")
			if body := w.says(number, "Applied before the merge"); strings.Contains(body, "did not merge") {
				t.Errorf("the comment still says:\n%s", body)
			}
		})
	}
}
