package git_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/google/go-cmp/cmp"

	"holdfast/vcs"
	"holdfast/vcs/git"
	"holdfast/vcs/vcstest/gittest"
)

// committed is a remote whose main has seed, and a commit to be made on it.
func committed(r *remoteRepo) vcs.Commit {
	onto := r.commitTree(r.tree(seed))
	r.set("main", onto)
	return vcs.Commit{Onto: onto, Branch: "holdfast/fix", Files: map[string][]byte{"a/main.tf": []byte("fixed\n")}, Message: "Take it back\n\nBecause.", When: when}
}

func TestCommit(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string][]byte
		want  map[string]file // of those that change
	}{
		"changed":          {map[string][]byte{"a/main.tf": []byte("fixed\n")}, map[string]file{"a/main.tf": reg("fixed\n")}},
		"executable stays": {map[string][]byte{"a/run.sh": []byte("#!/bin/bash\n")}, map[string]file{"a/run.sh": exec("#!/bin/bash\n")}},
		"new":              {map[string][]byte{"x/y/new.tf": []byte("n\n"), "a/new.tf": []byte("m\n")}, map[string]file{"x/y/new.tf": reg("n\n"), "a/new.tf": reg("m\n")}},
		"emptied":          {map[string][]byte{"README": {}}, map[string]file{"README": reg("")}},
		"binary":           {map[string][]byte{"b/image.png": []byte("\x89PNG\x00\xff\r\n")}, map[string]file{"b/image.png": reg("\x89PNG\x00\xff\r\n")}},
		"deleted":          {map[string][]byte{"b/c/d/deep.tf": nil, "nowhere/x": nil}, map[string]file{"b/c/d/deep.tf": gone}},
		"moved":            {map[string][]byte{"b/c/d/deep.tf": nil, "deep.tf": []byte("deep\n")}, map[string]file{"b/c/d/deep.tf": gone, "deep.tf": reg("deep\n")}},
		"a directory now":  {map[string][]byte{"README": nil, "README/x": []byte("x")}, map[string]file{"README": gone, "README/x": reg("x")}},
		"odd names":        {map[string][]byte{"a/ö b.tf": []byte("x"), "...": []byte("y")}, map[string]file{"a/ö b.tf": reg("x"), "...": reg("y")}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRemote(t)
			c := committed(r)
			c.Files = tc.files
			m := newMirrors(t, t.TempDir())
			fetch(t, m, r.remote())
			sha, err := m.Commit(t.Context(), repo, r.remote(), c)
			must(t, err)
			if at := r.ref("refs/heads/holdfast/fix"); at != sha {
				t.Errorf("the branch is at %q, want %s", at, sha)
			}
			if diff := cmp.Diff(with(seed, tc.want), entriesOf(t, r, sha), cmp.AllowUnexported(file{})); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			checkCommit(t, r, sha, c.Onto)
			if got, err := m.Resolve(t.Context(), repo, "refs/heads/holdfast/fix"); err != nil || got != sha {
				t.Errorf("the mirror has the branch at %q, %v", got, err)
			}
		})
	}
}

// TestCommitReplaces makes the branch something else, and leaves it alone where it
// is what was asked for.
func TestCommitReplaces(t *testing.T) {
	for _, transport := range []string{"http", "path"} {
		t.Run(transport, func(t *testing.T) {
			r, remote, h := served(t)
			if transport == "path" {
				remote = r.remote()
			}
			pushes := 0
			h.OnPush = func(string, string, []gittest.Update) { pushes++ }
			c := committed(r)
			data := t.TempDir()
			one, two := newMirrors(t, data), newMirrors(t, t.TempDir())
			fetch(t, one, remote)
			fetch(t, two, remote)
			commit := func(what string, m *git.Mirrors, c vcs.Commit) string {
				t.Helper()
				sha, err := m.Commit(t.Context(), repo, remote, c)
				if err != nil || r.ref("refs/heads/"+c.Branch) != sha {
					t.Fatalf("%s: %q, %v, and the branch is at %s", what, sha, err, r.ref("refs/heads/"+c.Branch))
				}
				return sha
			}
			first := commit("new", one, c)
			again := c
			again.When, again.Message = when.Add(time.Hour), "in other words"
			for _, m := range []*git.Mirrors{one, two} { // the other one has to fetch it
				if sha := commit("the same at another time", m, again); sha != first {
					t.Errorf("the same tree on the same parent is %s, want %s as it was", sha, first)
				}
			}
			if transport == "http" && pushes != 1 {
				t.Errorf("%d pushes, want one", pushes)
			}
			again.Files = map[string][]byte{"README": []byte("other\n")}
			second := commit("other files", two, again)
			if n := r.count("refs/heads/" + c.Branch); second == first || n != 2 {
				t.Errorf("replaced it is at %s with %d commits, want one on top of main", second, n)
			}
			// A branch that somebody built upon, or that is on another parent.
			more := r.commitTree(r.tree(plain(map[string]string{"x": "y"})), second)
			r.set(c.Branch, more)
			commit("built upon by others", one, c)
			onto := r.commitTree(r.tree(with(seed, map[string]file{"new": reg("x")})), c.Onto)
			r.set("main", onto)
			fetch(t, one, remote)
			c.Onto = onto
			checkParent(t, r, commit("on a new parent", one, c), onto)
			// Deleted by somebody, and made again.
			r.remove(c.Branch)
			commit("after it was deleted", one, c)
			noSecretIn(t, data)
		})
	}
}

func checkParent(t *testing.T, r *remoteRepo, sha, onto string) {
	t.Helper()
	c, err := object.GetCommit(r.fresh(), plumbing.NewHash(sha))
	must(t, err)
	if len(c.ParentHashes) != 1 || c.ParentHashes[0].String() != onto {
		t.Errorf("its parents are %v, want %s", c.ParentHashes, onto)
	}
}

// TestCommitRace has somebody move the branch between the look and the push: what
// they did is looked at, and then replaced.
func TestCommitRace(t *testing.T) {
	r, remote, h := served(t)
	c := committed(r)
	m := newMirrors(t, t.TempDir())
	fetch(t, m, remote)
	theirs := r.commitTree(r.tree(plain(map[string]string{"x": "y"})), c.Onto)
	auth, writes := h.Auth, 0
	h.Auth = func(path, user, password string, write bool) bool {
		if write {
			if writes++; writes == 2 { // the first is the look at the refs
				r.set(c.Branch, theirs)
			}
		}
		return auth(path, user, password, write)
	}
	sha, err := m.Commit(t.Context(), repo, remote, c)
	if err != nil || r.ref("refs/heads/"+c.Branch) != sha {
		t.Errorf("%q, %v, and the branch is at %s", sha, err, r.ref("refs/heads/"+c.Branch))
	}
	// Somebody who never rests.
	h.Auth = func(path, user, password string, write bool) bool {
		if write {
			theirs = r.commitTree(r.tree(plain(map[string]string{"x": theirs})), c.Onto)
			r.set(c.Branch, theirs)
		}
		return auth(path, user, password, write)
	}
	c.Files = map[string][]byte{"README": []byte("once more\n")}
	var hint interface{ Hint() string }
	if sha, err := m.Commit(t.Context(), repo, remote, c); !errors.As(err, &hint) || r.ref("refs/heads/"+c.Branch) != theirs {
		t.Errorf("%q, %v, want an error with a hint, and the branch left where it is", sha, err)
	}
}

func TestCommitRefused(t *testing.T) {
	r, remote, h := served(t)
	c := committed(r)
	m := newMirrors(t, t.TempDir())
	if _, err := m.Commit(t.Context(), repo, remote, c); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("before the first fetch: %v, want ErrNotFound", err)
	}
	fetch(t, m, remote)
	for _, name := range []string{
		"", "/etc/passwd", "../x", "a/../../x", "a/..", "a/./x", ".", "a//x", "a/", ".git/config", "a/.git/hooks/x", ".GIT/x", "git~1/x", ".git ", ".git::$INDEX_ALLOCATION/x",
		"a\\b", "x\x00y", "a/current", "a/current/x", "modules/net", "modules/net/x", strings.Repeat("x", 300), strings.Repeat("d/", 300) + "x",
	} {
		for what, content := range map[string][]byte{"written": []byte("x"), "deleted": nil} {
			bad := c
			bad.Files = map[string][]byte{"README": []byte("y"), name: content}
			if sha, err := m.Commit(t.Context(), repo, remote, bad); err == nil || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("%q %s: %s, %v, want an error", name, what, sha, err)
			}
			if content == nil {
				continue
			}
			if sha, err := m.AddFile(t.Context(), repo, remote, vcs.NewFile{Onto: c.Onto, Branch: "added", Path: name, Content: "x", When: when}); err == nil {
				t.Errorf("AddFile of %q: %s, want an error", name, sha)
			}
		}
	}
	var conflict *vcs.ConflictError
	for name, files := range map[string]map[string][]byte{
		"a file where a directory is": {"a": []byte("x")},
		"a file below a file":         {"README/x": []byte("x")},
		"both at once":                {"new": []byte("x"), "new/x": []byte("x")},
	} {
		bad := c
		bad.Files = files
		if sha, err := m.Commit(t.Context(), repo, remote, bad); !errors.As(err, &conflict) {
			t.Errorf("%s: %s, %v, want a conflict", name, sha, err)
		}
	}
	bad := c
	bad.Files = map[string][]byte{"a": nil}
	if sha, err := m.Commit(t.Context(), repo, remote, bad); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("a directory deleted: %s, %v, want an error", sha, err)
	}
	for name, files := range map[string]map[string][]byte{"no files": {}, "as they are": {"README": []byte(seed["README"].content), "nowhere": nil}} {
		bad.Files = files
		if sha, err := m.Commit(t.Context(), repo, remote, bad); !errors.Is(err, vcs.ErrNothing) {
			t.Errorf("%s: %s, %v, want ErrNothing", name, sha, err)
		}
	}
	bad = c
	for _, onto := range []string{"", c.Onto[:12], strings.Repeat("ab", 20), "HEAD"} {
		bad.Onto = onto
		if sha, err := m.Commit(t.Context(), repo, remote, bad); !errors.Is(err, vcs.ErrNotFound) {
			t.Errorf("onto %q: %s, %v, want ErrNotFound", onto, sha, err)
		}
	}
	named := remote
	named.DefaultBranch = "release"
	r.set("release", c.Onto)
	for _, branch := range []string{"main", "release", "", "-x", "a..b", "a b", "a\nb", "x.lock", "/a", strings.Repeat("x", 300)} {
		bad := c
		bad.Branch = branch // main is what the remote's HEAD says
		if sha, err := m.Commit(t.Context(), repo, named, bad); err == nil || strings.ContainsAny(err.Error(), "\n") {
			t.Errorf("branch %q: %s, %v, want an error", branch, sha, err)
		}
		if err := m.DeleteBranch(t.Context(), repo, named, branch); err == nil || strings.ContainsAny(err.Error(), "\n") {
			t.Errorf("branch %q was deleted: %v", branch, err)
		}
	}
	if at := r.ref("refs/heads/main"); at != c.Onto || r.ref("refs/heads/release") != c.Onto {
		t.Errorf("a default branch was moved to %s", at)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Commit(ctx, repo, remote, c); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	h.Auth = func(_, _, _ string, write bool) bool { return !write }
	var hint interface{ Hint() string }
	if _, err := m.Commit(t.Context(), repo, remote, c); !errors.Is(err, vcs.ErrDenied) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "push branches") {
		t.Errorf("denied: %v, want ErrDenied with a hint", err)
	}
	if err := m.DeleteBranch(t.Context(), repo, remote, "other"); !errors.Is(err, vcs.ErrDenied) || !errors.As(err, &hint) {
		t.Errorf("deletion denied: %v, want ErrDenied with a hint", err)
	}
	if at := r.ref("refs/heads/" + c.Branch); at != "" {
		t.Errorf("the branch was made all the same, at %s", at)
	}
}

func TestDeleteBranch(t *testing.T) {
	for _, transport := range []string{"http", "path"} {
		t.Run(transport, func(t *testing.T) {
			r, remote, _ := served(t)
			if transport == "path" {
				remote = r.remote()
			}
			c := committed(r)
			m := newMirrors(t, t.TempDir())
			if err := m.DeleteBranch(t.Context(), repo, remote, "nowhere"); err != nil {
				t.Errorf("before the first fetch: %v", err)
			}
			fetch(t, m, remote)
			if _, err := m.Commit(t.Context(), repo, remote, c); err != nil {
				t.Fatal(err)
			}
			r.set("other", c.Onto)
			for range 2 { // gone already is no error
				if err := m.DeleteBranch(t.Context(), repo, remote, c.Branch); err != nil {
					t.Fatal(err)
				}
				if at := r.ref("refs/heads/" + c.Branch); at != "" {
					t.Errorf("the branch is still at %s", at)
				}
				if at, err := m.Resolve(t.Context(), repo, "refs/heads/"+c.Branch); !errors.Is(err, vcs.ErrNotFound) {
					t.Errorf("the mirror has it at %s, %v", at, err)
				}
			}
			if r.ref("refs/heads/other") != c.Onto || r.ref("refs/heads/main") != c.Onto {
				t.Error("other branches are gone too")
			}
			if _, err := m.Commit(t.Context(), repo, remote, c); err != nil {
				t.Errorf("made again: %v", err)
			}
		})
	}
}

// TestAddFile has a branch with one file, and never replaces another one.
func TestAddFile(t *testing.T) {
	r := newRemote(t)
	c := committed(r)
	m := newMirrors(t, t.TempDir())
	fetch(t, m, r.remote())
	f := vcs.NewFile{Onto: c.Onto, Branch: "setup", Path: "x/holdfast.hcl", Content: "x\n", Message: "Take it back\n\nBecause.", When: when}
	sha, err := m.AddFile(t.Context(), repo, r.remote(), f)
	must(t, err)
	if diff := cmp.Diff(with(seed, map[string]file{"x/holdfast.hcl": reg("x\n")}), entriesOf(t, r, sha), cmp.AllowUnexported(file{})); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	checkCommit(t, r, sha, c.Onto)
	if again, err := m.AddFile(t.Context(), repo, r.remote(), f); err != nil || again != sha {
		t.Errorf("again: %s, %v, want %s", again, err, sha)
	}
	f.Content = "y\n"
	if other, err := m.AddFile(t.Context(), repo, r.remote(), f); !errors.Is(err, vcs.ErrExists) || r.ref("refs/heads/setup") != sha {
		t.Errorf("another one: %s, %v, want ErrExists", other, err)
	}
	f.Path, f.Content, f.Branch = "README", seed["README"].content, "same"
	if same, err := m.AddFile(t.Context(), repo, r.remote(), f); !errors.Is(err, vcs.ErrNothing) {
		t.Errorf("one that is there: %s, %v, want ErrNothing", same, err)
	}
}
