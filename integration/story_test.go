package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/runner"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/vcstest/gittest"
)

// providers is the head of every root module and module of these tests.
const providers = `terraform {
  required_providers {
    smallcloud = { source = "holdfast/smallcloud" }
  }
}
`

// server is a root module, or a part of one, with one server.
func server(name string, attributes ...string) string {
	return fmt.Sprintf("resource \"smallcloud_server\" %q {\n  name = %q\n  %s\n}\n", name, name, strings.Join(attributes, "\n  "))
}

// module is a root module that uses modules/vm.
func module(name string) string {
	return providers + fmt.Sprintf("provider \"smallcloud\" {}\nmodule \"vm\" {\n  source = \"../modules/vm\"\n  name = %q\n}\n", name)
}

// vm is the shared module, with servers of one size.
func vm(size string) string {
	return providers + "variable \"name\" {}\nresource \"smallcloud_server\" \"vm\" {\n  name = var.name\n  size = \"" + size + "\"\n}\n"
}

// fiveWorkspaces are five root modules, of which a and b use a shared module.
func fiveWorkspaces() map[string]string {
	files := map[string]string{"modules/vm/main.tf": vm("small"), "a/main.tf": module("a"), "b/main.tf": module("b")}
	for _, name := range []string{"c", "d", "e"} {
		files[name+"/main.tf"] = providers + "provider \"smallcloud\" {}\n" + server(name)
	}
	return files
}

func workspacesOf(runs []store.Run) []string {
	var names []string
	for _, r := range runs {
		names = append(names, r.Workspace)
	}
	slices.Sort(names)
	return names
}

func resultOf(t testing.TB, r store.Run) runner.Result {
	t.Helper()
	var result runner.Result
	if err := json.Unmarshal(r.Result, &result); err != nil {
		t.Fatal(err)
	}
	return result
}

// TestFromPullRequestToDrift is the whole story on a host: a pull request that
// changes a shared module, a second push, the merge, a change by hand, its
// discovery by the next scheduled check, and its correction.
func TestFromPullRequestToDrift(t *testing.T) {
	t.Parallel()
	files := fiveWorkspaces()
	files["holdfast.hcl"] = "defaults {\n  drift {\n    schedule = \"@every 10s\"\n    correct = \"apply\"\n  }\n}\n"
	w := newWorld(t, files)
	w.start()

	first := w.repo.Push("bigger", map[string]string{"modules/vm/main.tf": vm("medium")}, "Make them bigger")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "bigger", Title: "Make them bigger"})
	plans := w.ended(2, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	if got := workspacesOf(plans); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("planned %v instead of a and b", got)
	}
	body := w.comment(number, "medium")
	for _, other := range []string{"`c`", "`d`", "`e`", "| c ", "| d ", "| e "} {
		if strings.Contains(body, other) {
			t.Errorf("the comment speaks of %s:\n%s", other, body)
		}
	}
	w.statuses(first, "success", "holdfast", "holdfast/a", "holdfast/b")

	second := w.repo.Push("bigger", map[string]string{"modules/vm/main.tf": vm("large")}, "Even bigger")
	w.ended(4, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	id := w.repo.Comments(number)[0].ID
	body = w.comment(number, "large")
	if got := w.repo.Comments(number)[0].ID; got != id || strings.Contains(body, "medium") {
		t.Errorf("comment %d became %d:\n%s", id, got, body)
	}
	w.statuses(second, "success", "holdfast", "holdfast/a", "holdfast/b")

	merge := w.repo.Merge(number, "merge")
	applies := w.ended(2, store.RunFilter{Kind: store.KindApply, PullRequest: number})
	for _, r := range applies {
		if r.State != store.Applied || r.Commit != merge || resultOf(t, r).Comparison.Verdict != plan.Identical {
			t.Errorf("apply of %s: %s at %s: %s %s", r.Workspace, r.State, r.Commit, r.Error, r.Result)
		}
	}
	w.comment(number, "pplied")
	w.statuses(second, "success", "holdfast", "holdfast/a", "holdfast/b")
	if n := len(w.cloud.resources()); n != 2 {
		t.Errorf("the cloud has %d resources instead of 2", n)
	}

	w.cloud.set("a", "size", "enormous")
	w.until("the drift is corrected", func() bool { return w.cloud.attribute("a", "size") == "large" })
	corrections := w.ended(1, store.RunFilter{Kind: store.KindCorrect, Workspace: "a"})
	if corrections[0].State != store.Applied {
		t.Errorf("correction: %+v", corrections[0])
	}
	check, err := w.run(resultOf(t, corrections[0]).Reviewed)
	if err != nil {
		t.Fatal(err)
	}
	if d := resultOf(t, check).Drift; check.Kind != store.KindDrift || d == nil || d.Class != plan.CloudChange {
		t.Errorf("the check found %+v", d)
	}
	w.until("a is in sync", func() bool { return w.workspace("a").State == runner.InSync })
	if n := w.cloud.created("a") + w.cloud.created("b"); n != 2 {
		t.Errorf("a and b were made %d times", n)
	}
}

// TestMergeThatIsAnotherChange holds what is not what was reviewed.
func TestMergeThatIsAnotherChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"app/main.tf": providers + "provider \"smallcloud\" {}\n" + server("one")})
	w.start()
	w.repo.Push("tags", map[string]string{"app/tags.tf": server("two")}, "Add two")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "tags"})
	w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	w.comment(number, "two")
	// The default branch moves on, straight past the review.
	w.repo.Push("main", map[string]string{"app/three.tf": server("three")}, "Add three")
	w.repo.Merge(number, "merge")
	runs := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})
	if runs[0].State != store.Held {
		t.Fatalf("the apply is %s: %s", runs[0].State, runs[0].Error)
	}
	w.comment(number, "smallcloud_server.three", "reviewed")
	if r := w.cloud.resources(); len(r) != 0 {
		t.Errorf("the cloud has %+v", r)
	}
	if w.workspace("app").State != runner.Held {
		t.Errorf("the workspace is %s", w.workspace("app").State)
	}
	w.quiet()
}

// TestWebhooksTwiceAndInAnyOrder makes one run for each workspace and commit,
// however often and in whatever order hosts tell.
func TestWebhooksTwiceAndInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"push first", "push last"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fiveWorkspaces())
			w.start()
			w.forge.Hold()
			w.repo.Push("change", map[string]string{"modules/vm/main.tf": vm("large")}, "change")
			number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
			var pushes, pulls []string
			for _, d := range w.forge.Held() {
				if d.Event == "push" {
					pushes = append(pushes, d.ID)
				} else {
					pulls = append(pulls, d.ID)
				}
			}
			if len(pushes) == 0 || len(pulls) == 0 {
				t.Fatalf("webhooks: %d of pushes, %d of pull requests", len(pushes), len(pulls))
			}
			ids := append(slices.Clone(pushes), pulls...)
			if order == "push last" {
				ids = append(slices.Clone(pulls), pushes...)
			}
			for range 10 {
				for _, a := range w.forge.Send(ids...) {
					if a.Err != nil || a.Status/100 != 2 {
						t.Fatalf("webhook answered %d %v", a.Status, a.Err)
					}
				}
			}
			w.ended(2, store.RunFilter{PullRequest: number})
			w.comment(number, "large")
			for _, id := range ids {
				w.forge.Redeliver(id, 2)
				w.forge.Replay(id)
			}
			w.quiet()
			if runs := w.runs(store.RunFilter{PullRequest: number}); len(runs) != 2 {
				t.Errorf("there are %d runs:\n%s", len(runs), w.describe())
			}
		})
	}
}

// TestPushSupersedes interrupts a plan that a new push makes pointless.
func TestPushSupersedes(t *testing.T) {
	t.Parallel()
	slow := func(n int) string {
		return providers + fmt.Sprintf("provider \"smallcloud\" {}\ndata \"smallcloud_image\" \"slow\" {\n  name  = \"image\"\n  delay = %q\n}\n", []string{"0s", "60s"}[n]) + server(fmt.Sprintf("server%d", n))
	}
	w := newWorld(t, map[string]string{"app/main.tf": slow(0)})
	w.start()
	old := w.repo.Push("change", map[string]string{"app/main.tf": slow(1)}, "slow")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	w.until("the first plan runs", func() bool {
		runs := w.runs(store.RunFilter{PullRequest: number})
		return len(runs) == 1 && runs[0].Step == "plan"
	})
	w.repo.Push("change", map[string]string{"app/main.tf": slow(0) + server("quick")}, "quick")
	runs := w.ended(2, store.RunFilter{PullRequest: number})
	states := map[string]store.State{}
	for _, r := range runs {
		states[r.Commit] = r.State
	}
	if states[old] != store.Superseded || !slices.Contains(slices.Collect(maps.Values(states)), store.Planned) {
		t.Errorf("states: %v", states)
	}
	w.comment(number, "quick")
	w.quiet()
}

// TestDirectMergeAndSquash applies a squashed merge, and holds one that nobody
// could review.
func TestDirectMergeAndSquash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	w.repo.Push("change", map[string]string{"c/more.tf": server("more")}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	w.comment(number, "more")
	w.repo.Merge(number, "squash")
	if runs := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number}); runs[0].State != store.Applied {
		t.Errorf("the squashed merge is %s: %s", runs[0].State, runs[0].Error)
	}
	w.forge.Hold()
	w.repo.Push("quick", map[string]string{"d/more.tf": server("unseen")}, "quick")
	unseen := w.repo.OpenPull(giteatest.OpenPull{Head: "quick"})
	w.repo.Merge(unseen, "merge")
	w.forge.Release()
	if runs := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: unseen}); runs[0].State != store.Held {
		t.Errorf("a merge that nobody saw is %s: %s", runs[0].State, runs[0].Error)
	}
	w.comment(unseen, "reviewed")
	w.quiet()
}

// TestDeletedRootModule shows what destroying it would do, destroys nothing by
// itself, and exactly that when somebody asks for it.
func TestDeletedRootModule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "empty"})
	w.start()
	w.repo.Push("new", map[string]string{"c/main.tf": providers + "provider \"smallcloud\" {}\n" + server("c")}, "Add c")
	added := w.repo.OpenPull(giteatest.OpenPull{Head: "new"})
	w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: added})
	w.repo.Merge(added, "merge")
	w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: added})

	w.repo.PushChange(gittest.Change{Branch: "gone", Delete: []string{"c/main.tf"}, Message: "Remove c"})
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "gone"})
	w.comment(number, "deletes the root module", "1 to destroy", "smallcloud_server.c", "destroys nothing yet")
	w.repo.Grant("ada", "write")
	w.repo.Merge(number, "merge")
	if run := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]; run.State != store.Held {
		t.Errorf("the destruction is %s: %s", run.State, run.Error)
	}
	w.comment(number, "holdfast apply -w c", "holdfast unlock -w c")
	w.quiet()
	if n := len(w.cloud.resources()); n != 1 || w.workspace("c").State != runner.Held {
		t.Errorf("the cloud has %d resources instead of 1, and c is %s", n, w.workspace("c").State)
	}
	w.repo.Comment(number, "ada", "holdfast apply -w c")
	w.replied(number, "Applying: `c`")
	if run := w.ended(2, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]; run.State != store.Applied {
		t.Errorf("the destruction is %s: %s", run.State, run.Error)
	}
	w.quiet()
	if n := len(w.cloud.resources()); n != 0 || w.workspace("c").Name != "" {
		t.Errorf("the cloud has %d resources instead of none, and c is known as %+v", n, w.workspace("c"))
	}
}

// TestDeletedRootModuleIsKept forgets a root module where somebody asks for that,
// and leaves what it made.
func TestDeletedRootModuleIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "empty"})
	w.repo.Grant("ada", "write")
	w.start()
	w.repo.Merge(w.openReviewed(app()+server("one")), "merge")
	w.until("it is applied", func() bool { return w.workspace("app").State == runner.InSync })
	w.repo.PushChange(gittest.Change{Branch: "gone", Delete: []string{"app/servers.tf"}, Message: "Remove app"})
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "gone"})
	w.comment(number, "1 to destroy")
	w.repo.Merge(number, "merge")
	w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})
	w.repo.Comment(number, "ada", `holdfast unlock -m "it moves by hand"`)
	w.replied(number, "does not look after it any more")
	w.quiet()
	if n := len(w.cloud.resources()); n != 1 || w.workspace("app").Name != "" {
		t.Errorf("the cloud has %d resources instead of 1, and app is known as %+v", n, w.workspace("app"))
	}
}

// TestMergeWithoutApproval holds what was merged without the approval that the
// default branch asks for.
func TestMergeWithoutApproval(t *testing.T) {
	t.Parallel()
	files := fiveWorkspaces()
	files["holdfast.hcl"] = "defaults {\n  apply {\n    requires = [\"approved\"]\n  }\n}\n"
	w := newWorld(t, files)
	w.start()
	merge := func(branch, server1 string, approve bool) (int, store.Run) {
		w.repo.Push(branch, map[string]string{"c/" + branch + ".tf": server(server1)}, branch)
		number := w.repo.OpenPull(giteatest.OpenPull{Head: branch, Author: "ada"})
		w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
		w.comment(number, server1)
		w.repo.Review(number, "ada", "APPROVED", "mine")
		if approve {
			w.repo.Review(number, "grace", "APPROVED", "good")
		}
		w.repo.Merge(number, "merge")
		return number, w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]
	}
	w.repo.Grant("grace", "write")
	number, run := merge("alone", "alone", false)
	if run.State != store.Held || !strings.Contains(run.Error, "approved") {
		t.Errorf("without approval: %s %s", run.State, run.Error)
	}
	w.repo.Comment(number, "grace", "holdfast unlock")
	w.replied(number, "Unlocked: `c`")
	// It brings the first one's change with it, which is a part of its plan.
	if _, run := merge("seconded", "seconded", true); run.State != store.Applied {
		t.Errorf("with approval: %s %s", run.State, run.Error)
	}
	w.quiet()
}

// TestLostState refuses to plan where the state that Holdfast kept is gone: a
// plan without it would make everything a second time.
func TestLostState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"README.md": "empty"})
	w.start()
	number := w.openReviewed(providers + "provider \"smallcloud\" {}\n" + server("one"))
	w.repo.Merge(number, "merge")
	w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})
	w.stop()
	if err := os.RemoveAll(filepath.Join(w.dir, "data", "state")); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.repo.Push("more", map[string]string{"app/more.tf": server("two")}, "more")
	again := w.repo.OpenPull(giteatest.OpenPull{Head: "more"})
	if run := w.ended(1, store.RunFilter{PullRequest: again})[0]; run.State != store.Failed {
		t.Errorf("the plan is %s", run.State)
	}
	w.comment(again, "data_dir/state")
	w.quiet()
}
