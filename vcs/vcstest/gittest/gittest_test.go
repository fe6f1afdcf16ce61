package gittest_test

import (
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/google/go-cmp/cmp"

	"holdfast/vcs/vcstest/gittest"
)

func TestCommitsAndMerges(t *testing.T) {
	seed := map[string]string{"a/b/c.tf": "one", "top.tf": "x"}
	for _, tc := range []struct {
		method  gittest.MergeMethod
		move    bool // the base moves on before the merge
		parents int
		err     error
	}{
		{method: gittest.MergeCommit, parents: 2},
		{method: gittest.MergeCommit, move: true, parents: 2},
		{method: gittest.MergeSquash, move: true, parents: 1},
		{method: gittest.MergeRebase, move: true, parents: 1},
		{method: gittest.MergeRebase, parents: 1},
		{method: gittest.MergeFF, parents: 1},
		{method: gittest.MergeFF, move: true, err: gittest.ErrNotFastForward},
	} {
		t.Run(string(tc.method), func(t *testing.T) {
			r := gittest.New(t)
			r.Commit("main", seed, "init")
			r.Commit("feature", map[string]string{"a/b/c.tf": "two"}, "edit")
			r.Delete("feature", "drop", "top.tf")
			want := map[string]string{"a/b/c.tf": "two"}
			if tc.move {
				r.Commit("main", map[string]string{"other.tf": "y"}, "elsewhere")
				want["other.tf"] = "y"
			}
			before := r.Head("main")
			got, err := r.Repo.Merge("feature", "main", tc.method)
			if !errors.Is(err, tc.err) {
				t.Fatalf("merge: %v, want %v", err, tc.err)
			}
			if err != nil {
				if r.Head("main") != before {
					t.Fatal("a refused merge moved the branch")
				}
				return
			}
			if got != r.Head("main") {
				t.Fatalf("merge returned %s, the branch is at %s", got, r.Head("main"))
			}
			if diff := cmp.Diff(want, r.Files("main")); diff != "" {
				t.Fatalf("files after the merge (-want +got):\n%s", diff)
			}
			g, err := git.PlainOpen(r.Dir)
			if err != nil {
				t.Fatal(err)
			}
			c, err := g.CommitObject(plumbing.NewHash(got))
			if err != nil || c.NumParents() != tc.parents {
				t.Fatalf("merge commit %v has %d parents, want %d (%v)", c.Hash, c.NumParents(), tc.parents, err)
			}
		})
	}
}

func TestConflict(t *testing.T) {
	r := gittest.New(t)
	r.Commit("main", map[string]string{"f": "0"}, "init")
	r.Commit("feature", map[string]string{"f": "1"}, "theirs")
	r.Commit("main", map[string]string{"f": "2"}, "ours")
	if ok, err := r.Mergeable("feature", "main"); ok || err != nil {
		t.Fatalf("Mergeable = %v, %v", ok, err)
	}
	if _, err := r.Repo.Merge("feature", "main", gittest.MergeCommit); !errors.Is(err, gittest.ErrConflict) {
		t.Fatalf("merge: %v, want a conflict", err)
	}
}

func TestBranches(t *testing.T) {
	r := gittest.New(t)
	first := r.Commit("main", map[string]string{"f": "0"}, "init")
	r.Commit("main", map[string]string{"f": "1"}, "more")
	r.Branch("old", first)
	r.Apply(gittest.Change{Branch: "links", Symlinks: map[string]string{"l": "../../etc/passwd"}, Delete: []string{"f"}})
	if got := r.Files("links"); got["l"] != "../../etc/passwd" || len(got) != 1 {
		t.Fatalf("files: %v", got)
	}
	if r.Head("old") != first {
		t.Fatal("a branch made from a commit is elsewhere")
	}
	r.DeleteBranch("old")
	if _, err := r.Repo.Head("old"); !errors.Is(err, gittest.ErrNoBranch) {
		t.Fatalf("head of a deleted branch: %v", err)
	}
	for _, p := range []string{"../x", "/x", "a//b", ""} {
		if _, err := r.Repo.Commit("main", map[string]string{p: "x"}, ""); err == nil {
			t.Errorf("path %q was taken", p)
		}
	}
}

// serve starts a server that wants a password and records pushes.
func serve(t *testing.T, r *gittest.Must) (url string, pushes *[]gittest.Update) {
	t.Helper()
	pushes = &[]gittest.Update{}
	h := gittest.Serve(r.Repo)
	h.Auth = func(_, _, password string, _ bool) bool { return password == "pw" }
	h.OnPush = func(_, _ string, u []gittest.Update) { *pushes = append(*pushes, u...) }
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/boss/network.git", pushes
}

func TestHTTPWithGoGit(t *testing.T) {
	r := gittest.New(t)
	first := r.Commit("main", map[string]string{"dir/f": "0"}, "init")
	url, pushes := serve(t, r)
	auth := &githttp.BasicAuth{Username: "any", Password: "pw"}

	if _, err := git.PlainClone(t.TempDir(), false, &git.CloneOptions{URL: url}); err == nil {
		t.Fatal("cloned without a password")
	}
	dir := t.TempDir()
	g, err := git.PlainClone(dir, false, &git.CloneOptions{URL: url, Auth: auth})
	if err != nil {
		t.Fatal(err)
	}
	// A fetch with objects in common, and a ref that is no branch.
	pull := r.Commit("feature", map[string]string{"dir/f": "1"}, "edit")
	r.SetRef("refs/pull/1/head", pull)
	err = g.Fetch(&git.FetchOptions{Auth: auth, RefSpecs: []config.RefSpec{"+refs/pull/*/head:refs/pull/*/head"}})
	if err != nil {
		t.Fatal(err)
	}
	if ref, err := g.Reference("refs/pull/1/head", false); err != nil || ref.Hash().String() != pull {
		t.Fatalf("fetched %v, %v, want %s", ref, err, pull)
	}

	w, err := g.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte("n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Add("new"); err != nil {
		t.Fatal(err)
	}
	mine, err := w.Commit("mine", &git.CommitOptions{Author: &object.Signature{Name: "me", Email: "me@example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Push(&git.PushOptions{Auth: auth}); err != nil {
		t.Fatal(err)
	}
	if r.Head("main") != mine.String() || r.Files("main")["new"] != "n" {
		t.Fatalf("main is at %s after a push of %s", r.Head("main"), mine)
	}
	want := []gittest.Update{{Ref: "refs/heads/main", Old: first, New: mine.String()}}
	if diff := cmp.Diff(want, *pushes); diff != "" {
		t.Fatalf("pushes (-want +got):\n%s", diff)
	}
}

// TestHTTPWithGit drives the server with git itself where there is one: the
// server's other client.
func TestHTTPWithGit(t *testing.T) {
	bin, err := exec.LookPath("git")
	if err != nil {
		t.Log("no git on PATH: only go-git is tested")
		return
	}
	r := gittest.New(t)
	r.Commit("main", map[string]string{"dir/f": "0"}, "init")
	url, pushes := serve(t, r)
	url = "http://any:pw@" + url[len("http://"):]
	dir := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(bin, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("clone", "-q", url, ".")
	for range 40 { // more haves than git sends in one round
		run("commit", "-q", "--allow-empty", "-m", "local")
	}
	remote := r.Commit("feature", map[string]string{"dir/f": "1"}, "edit")
	run("fetch", "-q", "origin", "feature")
	if got := run("rev-parse", "FETCH_HEAD"); got != remote+"\n" {
		t.Fatalf("fetched %q, want %s", got, remote)
	}
	run("push", "-q", "origin", "HEAD:refs/heads/mine")
	run("push", "-q", "origin", ":refs/heads/feature")
	if got := run("rev-parse", "HEAD"); got != r.Head("mine")+"\n" {
		t.Fatalf("pushed %q, have %s", got, r.Head("mine"))
	}
	if len(*pushes) != 2 || (*pushes)[1].New != "" {
		t.Fatalf("pushes: %+v", *pushes)
	}
	run("fsck")
}
