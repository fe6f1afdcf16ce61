package integration

import (
	"strings"
	"testing"

	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// TestEarlyRequires applies before the merge only what is approved, can be merged
// and has all of its base, says what is missing, and keeps nobody waiting for it.
func TestEarlyRequires(t *testing.T) {
	t.Parallel()
	w := newEarly(t, onComment(`requires = ["approved", "mergeable", "up_to_date"]`), "app")
	number, _ := w.propose("change", map[string]string{"app/s.tf": server("one")})
	refused := func(why ...string) {
		t.Helper()
		w.tell(number, "holdfast apply", "Applying: `app`.")
		w.says(number, append(why, "| `app` | ⏸ held", "1 to add", "Once that is settled, comment `holdfast apply -w app`.")...)
		w.stands(number, "app", "apply held")
		w.has(0) // nothing was done, so nobody has to wait
		w.once()
	}
	refused("Nobody approved the last commit of this pull request.")
	w.repo.Review(number, "mallory", "APPROVED", "me too") // may only read
	w.repo.Review(number, "grace", "REQUEST_CHANGES", "no")
	refused("grace requested changes.")
	w.repo.Review(number, "grace", "APPROVED", "now it is good")
	w.repo.SetMergeable(number, false)
	refused("would not merge this pull request now")
	w.repo.SetMergeable(number, true)
	w.repo.Push("main", map[string]string{"README.md": "more"}, "more")
	refused("The branch does not have all of its base. Update it")
	head := w.updated("change")
	w.until("it is planned anew", func() bool {
		runs := w.runs(store.RunFilter{PullRequest: number, Commit: head, Kind: store.KindPlan})
		return len(runs) == 0 && strings.Contains(w.report(number), head[:12]) // with the same inputs
	})
	refused("Nobody approved the last commit of this pull request.")
	w.repo.Review(number, "grace", "APPROVED", "still good")
	w.tell(number, "holdfast apply", "Applying: `app`.")
	if run := w.stands(number, "app", "apply applied"); run.Commit != head {
		t.Errorf("applied %.8s instead of %.8s", run.Commit, head)
	}
	w.once("one")
	w.has(number, "app")
	// The merge asks again: it has been approved.
	w.repo.Merge(number, "merge")
	w.stands(number, "app", "apply no_changes")
	w.once("one")
	w.quiet()
}

// TestRequiresAtTheApply asks the host when the apply begins, not only when the
// pull request was merged.
func TestRequiresAtTheApply(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]struct {
		act func(w *early, number int)
		why string
	}{
		"approval dismissed": {func(w *early, number int) { w.repo.DismissReviews(number, "grace") }, "Nobody approved the last commit"},
		"changes requested":  {func(w *early, number int) { w.repo.Review(number, "linus", "REQUEST_CHANGES", "wait") }, "linus requested changes."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEarly(t, strings.Replace(onComment(`requires = ["approved"]`), "comment", "merge", 1), "app")
			w.repo.Grant("linus", "write")
			number, _ := w.propose("change", map[string]string{"app/s.tf": server("one")})
			w.repo.Review(number, "grace", "APPROVED", "good")
			w.tell(number, `holdfast hold 1h -m "incident"`, "all workspaces")
			w.repo.Merge(number, "merge")
			w.says(number, "on hold by ada", "1 to add") // with the plan that waits
			meanwhile.act(w, number)
			w.tell(number, "holdfast release", "Released")
			w.stands(number, "app", "apply held")
			w.says(number, meanwhile.why, "Once that is settled, comment `holdfast apply -w app`; or comment `holdfast unlock`", "1 to add")
			w.has(number, "app")
			w.once()
			// The command alone is no approval.
			w.tell(number, "holdfast apply", "Applying: `app`.")
			w.ended(2, store.RunFilter{Kind: store.KindApply, PullRequest: number})
			w.stands(number, "app", "apply held")
			w.repo.Review(number, "linus", "APPROVED", "good now")
			w.tell(number, "holdfast apply", "Applying: `app`.")
			w.stands(number, "app", "apply applied")
			w.once("one")
			w.has(0)
		})
	}
}

// TestHostDownAtTheApply waits for a host that does not say whether something may
// be applied, says so, and goes on by itself.
func TestHostDownAtTheApply(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before the merge", "after the merge"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			config := onComment(`requires = ["approved"]`)
			if when == "after the merge" {
				config = strings.Replace(config, "comment", "merge", 1)
			}
			w := newEarly(t, config, "app")
			number, _ := w.propose("change", map[string]string{"app/s.tf": server("one")})
			w.repo.Review(number, "grace", "APPROVED", "good")
			w.forge.Fail(giteatest.Fault{Kind: giteatest.Fail500, Path: "/reviews", Times: -1})
			if when == "after the merge" {
				w.repo.Merge(number, "merge")
			} else {
				w.tell(number, "holdfast apply", "Applying: `app`.")
			}
			w.says(number, "waits for an answer of `"+w.forge.Name+"`", "1 to add")
			w.has(number, "app")
			w.once()
			w.forge.ClearFaults()
			w.stands(number, "app", "apply applied")
			w.once("one")
		})
	}
}
