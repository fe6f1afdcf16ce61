package git_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/vcs"
	"holdfast/vcs/git"
)

// clone is a working tree on disk.
type clone struct {
	t    *testing.T
	dir  string
	repo *gogit.Repository
}

func newClone(t *testing.T) *clone {
	t.Helper()
	// The ignore rules of whoever runs the test are not the test's.
	t.Setenv("HOME", t.TempDir())
	dir := t.TempDir()
	repo, err := gogit.PlainInitWithOptions(dir, &gogit.PlainInitOptions{InitOptions: gogit.InitOptions{DefaultBranch: "refs/heads/main"}})
	must(t, err)
	return &clone{t, dir, repo}
}

func (c *clone) write(path, content string) {
	c.t.Helper()
	full := filepath.Join(c.dir, path)
	must(c.t, os.MkdirAll(filepath.Dir(full), 0o755))
	must(c.t, os.WriteFile(full, []byte(content), 0o644))
}

func (c *clone) commit() string {
	c.t.Helper()
	wt, err := c.repo.Worktree()
	must(c.t, err)
	must(c.t, wt.AddWithOptions(&gogit.AddOptions{All: true}))
	sha, err := wt.Commit("x", &gogit.CommitOptions{
		Author: &object.Signature{Name: "Ada", Email: "ada@example.com", When: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
	})
	must(c.t, err)
	return sha.String()
}

func TestWorkingTreeChangedSince(t *testing.T) {
	c := newClone(t)
	for _, path := range []string{"same", "committed", "dir/edited", "staged", "deleted", "moved", "undone", "run.sh"} {
		c.write(path, "1")
	}
	c.write(".gitignore", "*.log\n.terraform/\n")
	base := c.commit()
	must(t, c.repo.Storer.SetReference(plumbing.NewHashReference("refs/heads/topic", plumbing.NewHash(base))))
	c.write("only-on-main", "1")
	c.commit()
	wt, err := c.repo.Worktree()
	must(t, err)
	must(t, wt.Checkout(&gogit.CheckoutOptions{Branch: "refs/heads/topic"}))

	c.write("committed", "2")
	c.write("undone", "2")
	topic := c.commit()
	c.write("undone", "1")
	c.write("dir/edited", "2")
	c.write("dir/deep/untracked é.tf", "2")
	c.write("x.log", "ignored")
	c.write("dir/.terraform/x", "ignored")
	c.write("staged", "2")
	_, err = wt.Add("staged")
	must(t, err)
	must(t, os.Remove(filepath.Join(c.dir, "deleted")))
	must(t, os.Rename(filepath.Join(c.dir, "moved"), filepath.Join(c.dir, "moved-to")))
	must(t, os.Chmod(filepath.Join(c.dir, "run.sh"), 0o755))

	tree, err := git.OpenWorkingTree(filepath.Join(c.dir, "dir", "deep"))
	must(t, err)
	if head, err := tree.Head(t.Context()); err != nil || head != topic {
		t.Errorf("Head = %q, %v, want %q", head, err, topic)
	}
	got, err := tree.ChangedSince(t.Context(), "main")
	must(t, err)
	want := []string{"committed", "deleted", "dir/deep/untracked é.tf", "dir/edited", "moved", "moved-to", "run.sh", "staged"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	got, err = tree.ChangedSince(t.Context(), "HEAD")
	must(t, err)
	want = []string{"deleted", "dir/deep/untracked é.tf", "dir/edited", "moved", "moved-to", "run.sh", "staged", "undone"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("since HEAD, -want +got:\n%s", diff)
	}
	if path, ok := tree.Contains(filepath.Join(c.dir, "dir", "x")); !ok || path != "dir/x" {
		t.Errorf("Contains = %q, %v", path, ok)
	}
	if _, ok := tree.Contains(filepath.Join(c.dir, "..", "x")); ok {
		t.Error("Contains what is outside")
	}
}

func TestWorkingTreeErrors(t *testing.T) {
	hinted := func(what string, err error) {
		t.Helper()
		var hint *git.HintError
		if !errors.As(err, &hint) || hint.Hint() == "" {
			t.Errorf("%s: %v, want an error with a hint", what, err)
		}
	}
	_, err := git.OpenWorkingTree(t.TempDir())
	hinted("no repository", err)
	_, err = git.OpenWorkingTree(newRemote(t).dir)
	hinted("a bare repository", err)

	c := newClone(t)
	tree, err := git.OpenWorkingTree(c.dir)
	must(t, err)
	_, err = tree.Head(t.Context())
	hinted("no commit", err)
	c.write("a", "1")
	c.commit()
	_, err = tree.ChangedSince(t.Context(), "origin/nope")
	hinted("no such ref", err)
	if !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("no such ref: %v, want ErrNotFound", err)
	}
}

// TestChangedSinceTheDefaultBranch finds the branch that a clone counts changes
// from when nobody names one.
func TestChangedSinceTheDefaultBranch(t *testing.T) {
	for _, tc := range []struct {
		name   string
		remote string
		refs   map[string]string // name → "old", "new" or another ref's name
		want   []string          // what changed between them is "b"
		err    string
	}{
		{name: "the remote's HEAD", remote: "origin", refs: map[string]string{"refs/remotes/origin/HEAD": "refs/remotes/origin/trunk", "refs/remotes/origin/trunk": "old", "refs/remotes/origin/main": "new"}, want: []string{"b"}},
		{name: "the only remote's HEAD", remote: "upstream", refs: map[string]string{"refs/remotes/upstream/HEAD": "refs/remotes/upstream/trunk", "refs/remotes/upstream/trunk": "old"}, want: []string{"b"}},
		{name: "a HEAD that leads nowhere", remote: "origin", refs: map[string]string{"refs/remotes/origin/HEAD": "refs/remotes/origin/gone", "refs/remotes/origin/main": "old"}, want: []string{"b"}},
		{name: "the remote's master", remote: "origin", refs: map[string]string{"refs/remotes/origin/master": "old", "refs/heads/main": "new"}, want: []string{"b"}},
		{name: "no remote", refs: map[string]string{"refs/heads/main": "old"}, want: []string{"b"}},
		{name: "no remote, master", refs: map[string]string{"refs/heads/master": "old"}, want: []string{"b"}},
		{name: "itself", refs: map[string]string{"refs/heads/main": "new"}},
		{name: "other names", refs: map[string]string{"refs/heads/develop": "old"}, err: "no default branch"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newClone(t)
			c.write("a", "1")
			commits := map[string]string{"old": c.commit()}
			c.write("b", "1")
			commits["new"] = c.commit()
			refs := c.repo.Storer
			must(t, refs.SetReference(plumbing.NewHashReference("refs/heads/topic", plumbing.NewHash(commits["new"]))))
			must(t, refs.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, "refs/heads/topic")))
			must(t, refs.RemoveReference("refs/heads/main"))
			for name, to := range tc.refs {
				ref := plumbing.NewSymbolicReference(plumbing.ReferenceName(name), plumbing.ReferenceName(to))
				if sha, ok := commits[to]; ok {
					ref = plumbing.NewHashReference(plumbing.ReferenceName(name), plumbing.NewHash(sha))
				}
				must(t, refs.SetReference(ref))
			}
			if tc.remote != "" {
				_, err := c.repo.CreateRemote(&config.RemoteConfig{Name: tc.remote, URLs: []string{"https://git.example.com/x"}})
				must(t, err)
			}
			tree, err := git.OpenWorkingTree(c.dir)
			must(t, err)
			got, err := tree.ChangedSince(t.Context(), "")
			if tc.err != "" {
				var hint *git.HintError
				if !errors.Is(err, vcs.ErrNotFound) || !errors.As(err, &hint) || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}
