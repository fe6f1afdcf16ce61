package git_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/google/go-cmp/cmp"

	"holdfast/vcs"
	"holdfast/vcs/git"
	"holdfast/vcs/vcstest/gittest"
)

func TestRevert(t *testing.T) {
	for name, tc := range revertCases {
		t.Run(name, func(t *testing.T) {
			r := newRemote(t)
			from := r.commitTree(r.tree(seed))
			changed := with(seed, tc.change)
			to := r.commitTree(r.tree(changed), from)
			now := with(changed, tc.later)
			onto := r.commitTree(r.tree(now), to)
			r.set("main", onto)
			m := newMirrors(t, t.TempDir())
			fetch(t, m, r.remote())
			rev := vcs.Revert{From: from, To: to, Onto: onto, Branch: "holdfast/rollback-1", Message: "Take it back\n\nBecause.", When: when}
			sha, err := m.Revert(t.Context(), repo, r.remote(), rev)
			at := r.ref("refs/heads/holdfast/rollback-1")
			var conflict *vcs.ConflictError
			switch {
			case tc.nothing:
				if !errors.Is(err, vcs.ErrNothing) || at != "" {
					t.Errorf("got %q, %v, branch at %q, want ErrNothing", sha, err, at)
				}
				return
			case tc.conflicts != nil:
				if !errors.As(err, &conflict) || at != "" {
					t.Fatalf("got %q, %v, branch at %q, want a conflict", sha, err, at)
				}
				if diff := cmp.Diff(tc.conflicts, conflict.Paths); diff != "" {
					t.Errorf("conflicts (-want +got):\n%s", diff)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			if at != sha {
				t.Errorf("the branch is at %q, want %s", at, sha)
			}
			if diff := cmp.Diff(with(now, tc.want), entriesOf(t, r, sha), cmp.AllowUnexported(file{})); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			checkCommit(t, r, sha, onto)
			if got, err := m.Resolve(t.Context(), repo, "refs/heads/holdfast/rollback-1"); err != nil || got != sha {
				t.Errorf("the mirror has the branch at %q, %v", got, err)
			}
		})
	}
}

func checkCommit(t *testing.T, r *remoteRepo, sha, onto string) {
	t.Helper()
	c, err := object.GetCommit(r.fresh(), plumbing.NewHash(sha))
	must(t, err)
	by := object.Signature{Name: "Holdfast", Email: "holdfast@localhost", When: when}
	for _, s := range []object.Signature{c.Author, c.Committer} {
		if s.Name != by.Name || s.Email != by.Email || !s.When.Equal(by.When) {
			t.Errorf("signed by %s", s)
		}
	}
	if c.Message != "Take it back\n\nBecause.\n" || len(c.ParentHashes) != 1 || c.ParentHashes[0].String() != onto {
		t.Errorf("message %q, parents %v, want the one parent %s", c.Message, c.ParentHashes, onto)
	}
}

// TestRevertOfMerges takes back pull requests as hosts merge them, with other
// work before and after.
func TestRevertOfMerges(t *testing.T) {
	for _, method := range []gittest.MergeMethod{gittest.MergeCommit, gittest.MergeSquash, gittest.MergeRebase, gittest.MergeFF} {
		t.Run(string(method), func(t *testing.T) {
			g := gittest.New(t)
			g.Commit("main", map[string]string{"main.tf": numbered(nil), "old.tf": "old\n"}, "first")
			g.Commit("feature", map[string]string{"main.tf": numbered(map[int]string{2: "two"})}, "one")
			g.Commit("feature", map[string]string{"main.tf": numbered(map[int]string{2: "two", 9: "nine"}), "x/new.tf": "new\n"}, "two")
			g.Delete("feature", "three", "old.tf")
			if method != gittest.MergeFF {
				g.Commit("main", map[string]string{"other.tf": "before\n"}, "meanwhile")
			}
			from := g.Head("main")
			before := g.Files(from)
			to := g.Merge("feature", "main", method)
			onto := g.Commit("main", map[string]string{"main.tf": numbered(map[int]string{2: "two", 9: "nine", 20: "later"}), "later.tf": "l\n"}, "later")
			srv := httptest.NewServer(gittest.Serve(g.Repo))
			defer srv.Close()
			remote := vcs.Remote{URL: srv.URL + "/x.git"}
			m := newMirrors(t, t.TempDir())
			fetch(t, m, remote)
			sha, err := m.Revert(t.Context(), repo, remote, vcs.Revert{From: from, To: to, Onto: onto, Branch: "back", Message: "m", When: when})
			if err != nil {
				t.Fatal(err)
			}
			want := maps.Clone(before)
			want["main.tf"], want["later.tf"] = numbered(map[int]string{20: "later"}), "l\n"
			if diff := cmp.Diff(want, g.Files(sha)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if got := g.Merge("back", "main", gittest.MergeCommit); got == onto {
				t.Error("the branch has nothing to be merged")
			}
			if diff := cmp.Diff(want, g.Files("main")); diff != "" {
				t.Errorf("merged (-want +got):\n%s", diff)
			}
			// And back again.
			again := g.Head("main")
			fetch(t, m, remote)
			sha, err = m.Revert(t.Context(), repo, remote, vcs.Revert{From: onto, To: again, Onto: again, Branch: "forth", Message: "m", When: when})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(g.Files(onto), g.Files(sha)); diff != "" {
				t.Errorf("back again (-want +got):\n%s", diff)
			}
		})
	}
}

// reverted is a remote with a change to be taken back.
func reverted(r *remoteRepo) vcs.Revert {
	from := r.commit(map[string]string{"a.tf": "one\n", "b/c.tf": "x\n"})
	to := r.commit(map[string]string{"a.tf": "two\n", "b/c.tf": "x\n"}, from)
	onto := r.commit(map[string]string{"a.tf": "two\n", "b/c.tf": "y\n"}, to)
	r.set("main", onto)
	return vcs.Revert{From: from, To: to, Onto: onto, Branch: "back", Message: "m", When: when}
}

// TestRevertAgain asks for the same from two mirrors: the same commit, which is
// pushed once.
func TestRevertAgain(t *testing.T) {
	for _, transport := range []string{"http", "path"} {
		t.Run(transport, func(t *testing.T) {
			r, remote, h := served(t)
			if transport == "path" {
				remote = r.remote()
			}
			pushes := 0
			h.OnPush = func(string, string, []gittest.Update) { pushes++ }
			rev := reverted(r)
			var first string
			data := t.TempDir()
			for i, m := range []*git.Mirrors{newMirrors(t, data), newMirrors(t, t.TempDir())} {
				fetch(t, m, remote)
				before := len(packs(t, data))
				for range 3 {
					sha, err := m.Revert(t.Context(), repo, remote, rev)
					if err != nil || first != "" && sha != first {
						t.Fatalf("got %q, %v, want %q", sha, err, first)
					}
					first = sha
					if got, err := m.Resolve(t.Context(), repo, "back"); err != nil || got != sha {
						t.Errorf("the mirror has the branch at %q, %v", got, err)
					}
					dir, _ := checkout(t, m, sha)
					if diff := cmp.Diff(map[string]string{"a.tf": "one\n", "b/c.tf": "y\n"}, listing(t, dir)); diff != "" {
						t.Errorf("checkout (-want +got):\n%s", diff)
					}
				}
				if got := len(packs(t, data)); i == 0 && got != before+1 {
					t.Errorf("%d packs in the mirror, where %d were before the first time", got, before)
				}
			}
			if transport == "http" && pushes != 1 {
				t.Errorf("%d pushes, want one", pushes)
			}
			if got := r.ref("refs/heads/back"); got != first {
				t.Errorf("the branch is at %s, want %s", got, first)
			}
			rev.When, rev.Branch = when.Add(time.Second), "another"
			m := newMirrors(t, t.TempDir())
			fetch(t, m, remote)
			if sha, err := m.Revert(t.Context(), repo, remote, rev); err != nil || sha == first {
				t.Errorf("at another time: %q, %v, want another commit", sha, err)
			}
			noSecretIn(t, data)
		})
	}
}

// TestRevertBranchExists never moves a branch that somebody has, not even one
// that came up while the commit was made.
func TestRevertBranchExists(t *testing.T) {
	for _, transport := range []string{"http", "path"} {
		r, remote, h := served(t)
		if transport == "path" {
			remote = r.remote()
		}
		rev := reverted(r)
		r.set("back", rev.To)
		m := newMirrors(t, t.TempDir())
		fetch(t, m, remote)
		sha, err := m.Revert(t.Context(), repo, remote, rev)
		var hint interface{ Hint() string }
		if !errors.Is(err, vcs.ErrExists) || !strings.Contains(err.Error(), rev.To) || !errors.As(err, &hint) {
			t.Errorf("%s: got %q, %v, want ErrExists with where it is, and a hint", transport, sha, err)
		}
		if got := r.ref("refs/heads/back"); got != rev.To {
			t.Errorf("%s: the branch was moved to %s", transport, got)
		}
		if transport == "path" {
			continue
		}
		// Between the look at the remote's refs and the push.
		rev.Branch = "race"
		writes := 0
		auth := h.Auth
		h.Auth = func(path, user, password string, write bool) bool {
			if write {
				if writes++; writes == 2 {
					r.set("race", rev.From)
				}
			}
			return auth(path, user, password, write)
		}
		if sha, err := m.Revert(t.Context(), repo, remote, rev); !errors.Is(err, vcs.ErrExists) || r.ref("refs/heads/race") != rev.From {
			t.Errorf("somebody was faster: %q, %v, and the branch is at %s", sha, err, r.ref("refs/heads/race"))
		}
		// Who was faster may have done the same.
		rev.Branch = "twin"
		want, err := m.Revert(t.Context(), repo, remote, rev)
		must(t, err)
		r.remove("twin")
		writes = 1
		h.Auth = func(path, user, password string, write bool) bool {
			if write {
				if writes++; writes == 3 {
					r.set("twin", want)
				}
			}
			return auth(path, user, password, write)
		}
		if sha, err := m.Revert(t.Context(), repo, remote, rev); err != nil || sha != want {
			t.Errorf("somebody did the same: %q, %v, want %s", sha, err, want)
		}
	}
}

func TestRevertRefused(t *testing.T) {
	r, remote, h := served(t)
	rev := reverted(r)
	m := newMirrors(t, t.TempDir())
	if _, err := m.Revert(t.Context(), repo, remote, rev); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("before the first fetch: %v, want ErrNotFound", err)
	}
	fetch(t, m, remote)
	for name, change := range map[string]func(*vcs.Revert){
		"no from":    func(r *vcs.Revert) { r.From = "" },
		"no such to": func(r *vcs.Revert) { r.To = strings.Repeat("ab", 20) },
		"short onto": func(r *vcs.Revert) { r.Onto = r.Onto[:12] },
	} {
		bad := rev
		change(&bad)
		if _, err := m.Revert(t.Context(), repo, remote, bad); !errors.Is(err, vcs.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
	for _, name := range []string{"", "-x", "a..b", "a b", "a\nb", "x.lock", "/a", "a/", "a~1", "a:b", "@{1}", ".a", strings.Repeat("x", 300)} {
		bad := rev
		bad.Branch = name
		if sha, err := m.Revert(t.Context(), repo, remote, bad); err == nil || strings.ContainsAny(err.Error(), "\n") {
			t.Errorf("branch %q: %s, %v, want an error", name, sha, err)
		}
	}
	// A branch that cannot be, because another one is in its way.
	r.set("taken", rev.To)
	bad := rev
	bad.Branch = "taken/back"
	var hint interface{ Hint() string }
	if sha, err := m.Revert(t.Context(), repo, remote, bad); err == nil || errors.Is(err, vcs.ErrExists) || !errors.As(err, &hint) || !strings.Contains(err.Error(), "refuses the branch taken/back") {
		t.Errorf("a branch in the way: %q, %v, want a refusal with a hint", sha, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Revert(ctx, repo, remote, rev); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	h.Auth = func(_, _, _ string, write bool) bool { return !write }
	_, err := m.Revert(t.Context(), repo, remote, rev)
	if !errors.Is(err, vcs.ErrDenied) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "push branches") {
		t.Errorf("denied: %v, want ErrDenied with a hint", err)
	}
	if got := r.ref("refs/heads/back"); got != "" {
		t.Errorf("the branch was made all the same, at %s", got)
	}
}

// TestRevertLeavesTheRest has names that cannot be checked out everywhere:
// beside what is taken back they stay as they are, and what is taken back may
// not have them.
func TestRevertLeavesTheRest(t *testing.T) {
	r := newRemote(t)
	entries := func(content string, more ...object.TreeEntry) plumbing.Hash {
		return r.rawTree(append([]object.TreeEntry{
			{Name: "a", Mode: filemode.Regular, Hash: r.blob(content)},
			{Name: "a\\b\t", Mode: filemode.Regular, Hash: r.blob("odd")},
		}, more...)...)
	}
	from := r.commitTree(entries("one"))
	to := r.commitTree(entries("two"), from)
	r.set("main", to)
	m := newMirrors(t, t.TempDir())
	fetch(t, m, r.remote())
	sha, err := m.Revert(t.Context(), repo, r.remote(), vcs.Revert{From: from, To: to, Onto: to, Branch: "back", Message: "m", When: when})
	must(t, err)
	c, err := object.GetCommit(r.fresh(), plumbing.NewHash(sha))
	must(t, err)
	if want := entries("one"); c.TreeHash != want {
		got, err := object.GetTree(r.fresh(), c.TreeHash)
		t.Errorf("the tree is %+v, want that of before, %v (%v)", got.Entries, want, err)
	}

	for i, name := range []string{"..", ".git", "a/b", ".GIT", "x\\y"} {
		from := r.commitTree(entries("one", object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: r.blob("x")}))
		to := r.commitTree(entries("two"), from)
		r.set("main", to)
		fetch(t, m, r.remote())
		branch := fmt.Sprint("bad-", i)
		_, err := m.Revert(t.Context(), repo, r.remote(), vcs.Revert{From: from, To: to, Onto: to, Branch: branch, Message: "m", When: when})
		var path *git.PathError
		if !errors.As(err, &path) || r.ref("refs/heads/"+branch) != "" {
			t.Errorf("a file %q to be restored: %v, want a PathError", name, err)
		}
	}
}

// TestRevertAll leaves nothing, at the clock's time.
func TestRevertAll(t *testing.T) {
	r := newRemote(t)
	from := r.commitTree(r.rawTree())
	to := r.commit(map[string]string{"a": "1", "b/c": "2"}, from)
	r.set("main", to)
	m, err := git.New(git.Config{Dir: t.TempDir(), Clock: func() time.Time { return when }})
	must(t, err)
	fetch(t, m, r.remote())
	sha, err := m.Revert(t.Context(), repo, r.remote(), vcs.Revert{From: from, To: to, Onto: to, Branch: "back", Message: "Take it back\n\nBecause."})
	must(t, err)
	if got := entriesOf(t, r, sha); len(got) != 0 {
		t.Errorf("left %v", got)
	}
	checkCommit(t, r, sha, to)
}

// TestRevertSendsWhatIsRestored has a remote that lost what the change had
// deleted.
func TestRevertSendsWhatIsRestored(t *testing.T) {
	for _, transport := range []string{"http", "path"} {
		r, remote, _ := served(t)
		if transport == "path" {
			remote = r.remote()
		}
		all := newRemote(t)
		from := all.commit(map[string]string{"a": "1", "lost/b": "2"})
		to := all.commit(map[string]string{"a": "1"})
		all.set("main", to)
		all.set("side", from)
		must(t, gittest.Open(all.dir).CopyObjects(gittest.Open(r.dir), to))
		r.set("main", to)
		m := newMirrors(t, t.TempDir())
		fetch(t, m, all.remote())
		sha, err := m.Revert(t.Context(), repo, remote, vcs.Revert{From: from, To: to, Onto: to, Branch: "back", Message: "m", When: when})
		must(t, err)
		want := map[string]file{"a": reg("1"), "lost/b": reg("2")}
		if diff := cmp.Diff(want, entriesOf(t, r, sha), cmp.AllowUnexported(file{})); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", transport, diff)
		}
	}
}

func TestRevertMessage(t *testing.T) {
	r := newRemote(t)
	rev := reverted(r)
	rev.Message = "  Take\x00 \xffit back\r\n\n\n"
	m := newMirrors(t, t.TempDir())
	fetch(t, m, r.remote())
	sha, err := m.Revert(t.Context(), repo, r.remote(), rev)
	must(t, err)
	c, err := object.GetCommit(r.fresh(), plumbing.NewHash(sha))
	must(t, err)
	if c.Message != "Take \uFFFDit back\n" {
		t.Errorf("message %q", c.Message)
	}
}
