package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/runner"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs/vcstest/gittest"
)

// plainWorld is a world without a forge: a bare repository on the disk.
type plainWorld struct {
	*world
	bare *gittest.Must
}

// newPlainWorld makes a world whose repository is polled each second. The
// server finds Terraform on its PATH and nothing else: no Git in particular.
func newPlainWorld(t testing.TB, files map[string]string) *plainWorld {
	t.Helper()
	w := &plainWorld{world: &world{TB: t, dir: t.TempDir(), log: &lockedBuffer{}, name: "internal/platform/network"}}
	w.cloud = startCloud(t)
	w.url = "http://" + freeAddress(t)
	w.bare = gittest.New(t)
	w.bare.Commit(gittest.DefaultBranch, files, "init")
	w.hosts = fmt.Sprintf("host \"git\" \"internal\" {\n  poll = \"1s\"\n}\n\nrepository %q {\n  url = %q\n}\n", w.name, w.bare.Dir)
	w.env = []string{"PATH=" + pathWith(t, "terraform")}
	t.Cleanup(func() {
		w.stop()
		if t.Failed() {
			t.Logf("the server's log:\n%s", w.log)
		}
	})
	return w
}

// pathWith makes a directory that holds only the named programs.
func pathWith(t testing.TB, programs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range programs {
		found, err := exec.LookPath(p)
		if err != nil {
			t.Fatal(err)
		}
		if found, err = filepath.Abs(found); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(found, filepath.Join(dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// note returns what refs/notes/holdfast says of a commit at the remote; empty
// where it says nothing.
func (w *plainWorld) note(sha string) string {
	w.Helper()
	head := w.bare.Ref("refs/notes/holdfast")
	if head == "" {
		return ""
	}
	for path, text := range w.bare.Files(head) {
		if strings.ReplaceAll(path, "/", "") == sha {
			return text
		}
	}
	return ""
}

// noted waits until the note of a commit says all of want, and returns it.
func (w *plainWorld) noted(sha string, want ...string) string {
	w.Helper()
	text := ""
	w.until(fmt.Sprintf("the note of %.8s says %q", sha, want), func() bool {
		text = w.note(sha)
		return containsAll(text, want)
	})
	return text
}

func containsAll(text string, want []string) bool {
	for _, s := range want {
		if !strings.Contains(text, s) {
			return false
		}
	}
	return text != ""
}

// page returns a page of the server's.
func (w *world) page(path string) string {
	w.Helper()
	resp, err := http.Get(w.url + path)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.Fatalf("GET %s: %s %s %v", path, resp.Status, body, err)
	}
	return string(body)
}

// app is a root module with some servers.
func app(servers ...string) string {
	text := providers + "provider \"smallcloud\" {}\n"
	for _, s := range servers {
		text += server(s)
	}
	return text
}

// TestPlainGitStory is the whole story on a Git remote without a forge.
func TestPlainGitStory(t *testing.T) {
	t.Parallel()
	w := newPlainWorld(t, map[string]string{
		"app/main.tf": app(), "other/main.tf": app(),
		"holdfast.hcl": "defaults {\n  drift {\n    schedule = \"@every 5s\"\n    correct = \"apply\"\n  }\n}\n",
	})
	w.start()

	// A branch ahead of the default branch is a pull request.
	first := w.bare.Commit("bigger", map[string]string{"app/one.tf": server("one", `size = "small"`)}, "Add one")
	plans := w.ended(1, store.RunFilter{Kind: store.KindPlan})
	if plans[0].State != store.Planned || plans[0].Workspace != "app" || plans[0].Commit != first || plans[0].PullRequest != 1 {
		t.Fatalf("planned %+v", plans[0])
	}
	w.noted(first, "smallcloud_server.one", "small")
	page := w.page("/pulls/internal/platform/network/1")
	if !strings.Contains(page, plans[0].ID) || !strings.Contains(page, "app") {
		t.Errorf("the pull request's page does not name its run:\n%s", page)
	}

	second := w.bare.Commit("bigger", map[string]string{"app/one.tf": server("one", `size = "large"`)}, "Larger")
	w.ended(2, store.RunFilter{Kind: store.KindPlan, PullRequest: 1})
	w.noted(second, "large")

	// What is remembered only here outlives the process.
	w.stop()
	w.start()

	merge := w.bare.Merge("bigger", gittest.DefaultBranch, gittest.MergeCommit)
	w.bare.DeleteBranch("bigger") // before the next poll
	applies := w.ended(1, store.RunFilter{Kind: store.KindApply})
	if a := applies[0]; a.State != store.Applied || a.PullRequest != 1 || a.Commit != merge || resultOf(t, a).Comparison.Verdict != plan.Identical {
		t.Fatalf("apply: %+v %s", a, a.Result)
	}
	w.noted(second, "pplied")
	if got := w.cloud.attribute("one", "size"); got != "large" {
		t.Errorf("the cloud's server is %v", got)
	}

	w.cloud.set("one", "size", "enormous")
	w.until("the drift is corrected", func() bool { return w.cloud.attribute("one", "size") == "large" })
	corrections := w.ended(1, store.RunFilter{Kind: store.KindCorrect})
	check, err := w.run(resultOf(t, corrections[0]).Reviewed)
	if err != nil {
		t.Fatal(err)
	}
	if d := resultOf(t, check).Drift; d == nil || d.Class != plan.CloudChange {
		t.Errorf("the check found %+v", d)
	}
	w.until("app is in sync", func() bool { return w.workspace("app").State == runner.InSync })
	if n := w.cloud.created("one"); n != 1 {
		t.Errorf("one was made %d times", n)
	}

	// The next pull request has the next number.
	third := w.bare.Commit("third", map[string]string{"other/two.tf": server("two")}, "Add two")
	w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: 2})
	w.noted(third, "smallcloud_server.two")
}

// TestPlainGitMerges applies a change however it got onto the default branch.
func TestPlainGitMerges(t *testing.T) {
	t.Parallel()
	for _, method := range []gittest.MergeMethod{gittest.MergeCommit, gittest.MergeFF, gittest.MergeSquash, gittest.MergeRebase} {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			w := newPlainWorld(t, map[string]string{"app/main.tf": app()})
			w.start()
			w.bare.Apply(gittest.Change{Branch: "change", Files: map[string]string{"app/one.tf": server("one")}, Message: "Add one"})
			head := w.bare.Commit("change", map[string]string{"app/two.tf": server("two")}, "Add two")
			w.until("the head is planned", func() bool {
				runs := w.runs(store.RunFilter{Kind: store.KindPlan})
				return len(runs) > 0 && runs[0].Commit == head && runs[0].State == store.Planned
			})
			w.noted(head, "smallcloud_server.one", "smallcloud_server.two")
			if method == gittest.MergeSquash || method == gittest.MergeRebase {
				// Something else is on the default branch meanwhile.
				w.bare.Commit(gittest.DefaultBranch, map[string]string{"README.md": "words\n"}, "Words")
			}
			merge := w.bare.Merge("change", gittest.DefaultBranch, method)
			w.bare.DeleteBranch("change")
			applies := w.ended(1, store.RunFilter{Kind: store.KindApply})
			if a := applies[0]; a.State != store.Applied || a.Commit != merge || a.PullRequest != 1 {
				t.Errorf("apply of %.8s: %+v %s", merge, a, a.Result)
			}
			w.noted(head, "pplied")
			w.quiet()
			if n := len(w.cloud.resources()); n != 2 {
				t.Errorf("the cloud has %d resources", n)
			}
			if n := w.cloud.created("one") + w.cloud.created("two"); n != 2 {
				t.Errorf("they were made %d times", n)
			}
		})
	}
}

// TestPlainGitMissed finds what happened while nothing ran, and says of a
// change that nobody saw that it is held.
func TestPlainGitMissed(t *testing.T) {
	t.Parallel()
	w := newPlainWorld(t, map[string]string{"app/main.tf": app(), "other/main.tf": app()})
	w.start()
	planned := w.bare.Commit("planned", map[string]string{"app/one.tf": server("one")}, "Add one")
	w.ended(1, store.RunFilter{Kind: store.KindPlan})
	w.noted(planned, "smallcloud_server.one")
	w.kill()

	merge := w.bare.Merge("planned", gittest.DefaultBranch, gittest.MergeCommit)
	w.bare.DeleteBranch("planned")
	w.bare.Commit("unseen", map[string]string{"other/two.tf": server("two")}, "Add two")
	w.bare.Merge("unseen", gittest.DefaultBranch, gittest.MergeCommit)
	later := w.bare.Commit("later", map[string]string{"other/three.tf": server("three")}, "Add three")
	w.start()

	applied := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: 1})
	if a := applied[0]; a.State != store.Applied || a.Commit != merge {
		t.Errorf("apply of the planned: %+v", a)
	}
	w.noted(later, "smallcloud_server.three")
	w.until("the unseen merge is held", func() bool {
		runs := w.runs(store.RunFilter{Kind: store.KindApply, Workspace: "other"})
		return len(runs) == 1 && runs[0].State == store.Held
	})
	if w.cloud.created("one") != 1 || w.cloud.created("two") != 0 {
		t.Errorf("the cloud has %+v", w.cloud.resources())
	}
}

// TestPlainGitRemoteAway goes on when a remote that was away is there again,
// and takes nothing for closed meanwhile.
func TestPlainGitRemoteAway(t *testing.T) {
	t.Parallel()
	w := newPlainWorld(t, map[string]string{"app/main.tf": app()})
	w.start()
	head := w.bare.Commit("change", map[string]string{"app/one.tf": server("one")}, "Add one")
	w.ended(1, store.RunFilter{Kind: store.KindPlan})
	w.noted(head, "smallcloud_server.one")
	away := w.bare.Dir + ".away"
	if err := os.Rename(w.bare.Dir, away); err != nil {
		t.Fatal(err)
	}
	w.until("the log says that the remote is away", func() bool { return strings.Contains(w.log.String(), "the host does not know the repository") })
	if err := w.server.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("the server is gone: %v", err)
	}
	if err := os.Rename(away, w.bare.Dir); err != nil {
		t.Fatal(err)
	}
	w.bare.Merge("change", gittest.DefaultBranch, gittest.MergeFF)
	if a := w.ended(1, store.RunFilter{Kind: store.KindApply})[0]; a.State != store.Applied {
		t.Errorf("apply: %+v", a)
	}
	w.noted(head, "pplied")
}

// TestPlainGitBadDefaultBranch plans and applies what mends a default branch
// whose files cannot be checked out.
func TestPlainGitBadDefaultBranch(t *testing.T) {
	t.Parallel()
	w := newPlainWorld(t, map[string]string{"app/main.tf": app()})
	w.bare.Apply(gittest.Change{Branch: gittest.DefaultBranch, Symlinks: map[string]string{"docs": `..\etc`}})
	w.start()
	w.until("the log says what is wrong", func() bool { return strings.Contains(w.log.String(), "a name with a backslash") })
	head := w.bare.Apply(gittest.Change{Branch: "mend", Delete: []string{"docs"}, Files: map[string]string{"app/one.tf": server("one")}})
	w.noted(head, "smallcloud_server.one")
	w.bare.Merge("mend", gittest.DefaultBranch, gittest.MergeCommit)
	w.noted(head, "pplied")
	w.quiet()
	if n := w.cloud.created("one"); n != 1 {
		t.Errorf("it was made %d times", n)
	}
}
