package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/store"
	"holdfast/vcs/github/githubtest"
	"holdfast/vcs/vcstest/forge"
)

// newAppWorld is a world on GitHub, where Holdfast is a GitHub App.
func newAppWorld(t *testing.T, files map[string]string) *world {
	t.Helper()
	w := newWorldOn(t, "github", "", files)
	key := filepath.Join(w.dir, "app.pem")
	if err := os.WriteFile(key, githubtest.PrivateKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	w.hosts = fmt.Sprintf("host \"github\" %q {\n  url = %q\n  app_id = \"%d\"\n  private_key = file(%q)\n%s}\n\nrepository %q {\n  exclude = [\"sandbox-*\"]\n}\n",
		w.forge.Name, w.forge.URL, githubtest.AppID, key, secretSetting, w.forge.Name+"/platform/*")
	w.repo.SetHook(w.url + "/webhooks/github")
	return w
}

// checked waits for the latest check run of a name on a commit that has ended.
func (w *world) checked(sha, name string) githubtest.Run {
	w.Helper()
	var found githubtest.Run
	w.until(fmt.Sprintf("the check run %s of %.8s has ended", name, sha), func() bool {
		for _, r := range slices.Backward(githubtest.Runs(w.repo)) {
			if r.SHA == sha && r.Name == name {
				found = r
				return r.Status == "completed"
			}
		}
		return false
	})
	return found
}

// TestGitHubApp shows the plan in a check run with a remark where something is
// replaced, plans again what somebody has checked again, and shows the apply as
// a deployment.
func TestGitHubApp(t *testing.T) {
	t.Parallel()
	w := newAppWorld(t, map[string]string{"app/main.tf": app(), "holdfast.hcl": storyFiles["holdfast.hcl"]})
	network := func(cidr string) map[string]string {
		return map[string]string{"app/main.tf": app() + "\nresource \"smallcloud_network\" \"one\" {\n  name = \"one\"\n  cidr = \"" + cidr + "\"\n}\n"}
	}
	w.forge.CreateRepository("platform", "sandbox-1", map[string]string{"app/main.tf": app()})
	w.start()
	first := w.repo.Push("first", network("10.0.0.0/16"), "One")
	n := w.repo.OpenPull(forge.OpenPull{Head: "first", Title: "One"})
	w.checked(first, "holdfast/app")
	w.repo.Merge(n, "squash")
	w.says(n, "✅ applied")

	head := w.repo.Push("change", network("10.9.0.0/16"), "Move one")
	m := w.repo.OpenPull(forge.OpenPull{Head: "change", Title: "Move one"})
	run := w.checked(head, "holdfast/app")
	if run.Conclusion != "success" || !strings.Contains(run.Summary, "smallcloud_network.one") || !strings.Contains(run.Summary, "10.9.0.0/16") || run.URL == "" {
		t.Errorf("the check run is %+v", run)
	}
	if len(run.Annotations) != 1 || run.Annotations[0].Path != "app/main.tf" || run.Annotations[0].StartLine < 2 || !strings.Contains(run.Annotations[0].Title, "smallcloud_network.one is replaced") {
		t.Errorf("the remarks are %+v, want one where the network is replaced", run.Annotations)
	}
	if all := w.checked(head, "holdfast"); all.Conclusion != "success" {
		t.Errorf("the check run of all is %+v", all)
	}
	if got := w.repo.Statuses(head); len(got) > 0 {
		t.Errorf("there are statuses besides: %v", got)
	}

	// Somebody presses "Re-run".
	before := len(w.runs(store.RunFilter{PullRequest: m}))
	w.repo.Server.Lock()
	w.repo.Tell(githubtest.Rerequest(w.repo, "ann", "holdfast/app", head))
	w.repo.Server.Unlock()
	w.until("it is planned again", func() bool { return len(w.runs(store.RunFilter{PullRequest: m})) == before+1 })
	w.ended(before+1, store.RunFilter{PullRequest: m})
	w.repo.Server.Lock()
	w.repo.Tell(githubtest.Rerequest(w.repo, "eve", "holdfast/app", head))
	w.repo.Server.Unlock()

	w.repo.Merge(m, "merge")
	w.says(m, "✅ applied")
	w.until("the deployment has ended", func() bool {
		all := githubtest.Deployments(w.repo)
		return len(all) == 2 && all[1].Environment == "app" && slices.Contains(all[1].States, "success")
	})
	if got := len(w.runs(store.RunFilter{PullRequest: m, Kind: store.KindPlan})); got != before+1 {
		t.Errorf("%d plans: somebody without permission had one made", got)
	}
	for _, r := range w.runs(store.RunFilter{}) {
		if strings.Contains(r.Repository, "sandbox") {
			t.Errorf("an excluded repository was planned: %+v", r)
		}
	}
	w.quietButLooks()
}

// TestMergeQueue has pull requests merged by GitHub's merge queue: it waits for
// the check of the queue's own commit, whose plan is compared with the reviewed
// one.
func TestMergeQueue(t *testing.T) {
	t.Parallel()
	w := newAppWorld(t, map[string]string{"app/main.tf": app(), "db/main.tf": app(), "README.md": "x", "holdfast.hcl": storyFiles["holdfast.hcl"]})
	w.start()
	head := w.repo.Push("one", map[string]string{"app/main.tf": app("one")}, "Add one")
	n := w.repo.OpenPull(forge.OpenPull{Head: "one", Title: "Add one"})
	w.checked(head, "holdfast")
	queued := githubtest.Enqueue(w.repo, n)
	if run := w.checked(queued, "holdfast"); run.Conclusion != "success" {
		t.Errorf("the queue is told %+v", run)
	}
	if run := w.checked(queued, "holdfast/app"); run.Conclusion != "success" || !strings.Contains(run.Summary, "smallcloud_server.one") {
		t.Errorf("the queue is told of app %+v", run)
	}
	plans := w.runs(store.RunFilter{Kind: store.KindPlan})
	if len(plans) != 2 || plans[0].Commit != queued || !strings.Contains(string(plans[0].Result), "identical") {
		t.Errorf("the queue's commit was not compared:\n%s", w.describe())
	}

	// What is on main by now makes it another change than the reviewed one.
	other := w.repo.Push("two", map[string]string{"db/main.tf": app("two")}, "Add two")
	m := w.repo.OpenPull(forge.OpenPull{Head: "two", Title: "Add two"})
	w.checked(other, "holdfast")
	w.repo.Push("main", map[string]string{"db/more.tf": server("three")}, "by hand")
	w.until("the push is planned", func() bool {
		return slices.ContainsFunc(w.runs(store.RunFilter{Kind: store.KindPlan, Workspace: "db"}), func(r store.Run) bool { return r.PullRequest == 0 && r.State == store.Planned })
	})
	pushed := w.repo.Git.Head("main")
	if run := w.checked(pushed, "holdfast/db"); run.Conclusion != "success" || !strings.Contains(run.Summary, "smallcloud_server.three") {
		t.Errorf("the pushed commit shows %+v", run)
	}
	mixed := githubtest.Enqueue(w.repo, m)
	if run := w.checked(mixed, "holdfast/db"); run.Conclusion != "success" || !strings.Contains(run.Summary, "not applied yet") {
		t.Errorf("with a push that waits, the queue is told %+v", run)
	}

	// A pull request that affects nothing must not keep the queue waiting.
	w.repo.Push("docs", map[string]string{"README.md": "y"}, "Docs")
	d := w.repo.OpenPull(forge.OpenPull{Head: "docs", Title: "Docs"})
	empty := githubtest.Enqueue(w.repo, d)
	if run := w.checked(empty, "holdfast"); run.Conclusion != "success" {
		t.Errorf("with nothing affected the queue is told %+v", run)
	}

	// A plan that fails keeps it out.
	w.repo.Push("bad", map[string]string{"app/main.tf": app("one") + "resource \"smallcloud_server\" \"bad\" {}\n"}, "Bad")
	b := w.repo.OpenPull(forge.OpenPull{Head: "bad", Title: "Bad"})
	bad := githubtest.Enqueue(w.repo, b)
	if run := w.checked(bad, "holdfast"); run.Conclusion != "failure" {
		t.Errorf("with a plan that fails the queue is told %+v", run)
	}
	w.repo.Merge(n, "merge")
	w.says(n, "✅ applied")
	if n := w.cloud.created("one"); n != 1 {
		t.Errorf("one was made %d times", n)
	}
}
