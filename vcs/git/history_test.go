package git_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/google/go-cmp/cmp"

	"holdfast/vcs"
	"holdfast/vcs/git"
)

func TestChangedPaths(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	a := r.commit(map[string]string{
		"same/x.tf": "1", "changed.tf": "1", "deleted/y.tf": "1", "old/name.tf": "long enough to be called the same",
		"file-then-dir": "1",
	})
	b := r.commit(map[string]string{
		"same/x.tf": "1", "changed.tf": "2", "new/name.tf": "long enough to be called the same",
		"added é.tf": "1", "file-then-dir/z": "1",
	}, a)
	r.set("main", b)
	fetch(t, m, r.remote())
	tests := []struct {
		name, from, to string
		want           []string
	}{
		{"forward", a, b, []string{"added é.tf", "changed.tf", "deleted/y.tf", "file-then-dir", "file-then-dir/z", "new/name.tf", "old/name.tf"}},
		{"backward", b, a, []string{"added é.tf", "changed.tf", "deleted/y.tf", "file-then-dir", "file-then-dir/z", "new/name.tf", "old/name.tf"}},
		{"nothing", a, a, nil},
		{"everything", "", a, []string{"changed.tf", "deleted/y.tf", "file-then-dir", "old/name.tf", "same/x.tf"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := m.ChangedPaths(t.Context(), repo, tt.from, tt.to)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if _, err := m.ChangedPaths(t.Context(), repo, a, strings.Repeat("ab", 20)); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("unknown commit: %v, want ErrNotFound", err)
	}
}

func TestChangedPathsSeesModes(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	a := r.commitTree(r.tree(map[string]file{"run.sh": {0o100644, "x"}, "link": {0o100644, "run.sh"}}))
	b := r.commitTree(r.tree(map[string]file{"run.sh": {0o100755, "x"}, "link": {0o120000, "run.sh"}}), a)
	r.set("main", b)
	fetch(t, m, r.remote())
	got, err := m.ChangedPaths(t.Context(), repo, a, b)
	if err != nil || !slices.Equal(got, []string{"link", "run.sh"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestChangedPathsOfAnyName enters directories whose names are unusual: what
// may be committed must not keep a pull request from being looked at.
func TestChangedPathsOfAnyName(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	a := r.commit(map[string]string{"x": "1"})
	want := []string{"\x1b[31m/main.tf", "a\ttab/b\n/main.tf", "git~1/config", "x"}
	files := map[string]string{}
	for _, name := range want[:3] {
		files[name] = "1"
	}
	b := r.commit(files, a)
	r.set("main", b)
	fetch(t, m, r.remote())
	got, err := m.ChangedPaths(t.Context(), repo, a, b)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	if id, err := m.PatchID(t.Context(), repo, a, b); err != nil || id == "" {
		t.Errorf("patch id %q, %v", id, err)
	}
}

// TestChangedPathsOfTreeBomb gives up on a small pack that stands for
// exponentially many directories.
func TestChangedPathsOfTreeBomb(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	a := r.commit(map[string]string{"x": "1"})
	tree := r.tree(plain(map[string]string{"f": "1"}))
	for range 40 {
		tree = r.rawTree(object.TreeEntry{Name: "a", Mode: filemode.Dir, Hash: tree}, object.TreeEntry{Name: "b", Mode: filemode.Dir, Hash: tree})
	}
	b := r.commitTree(tree, a)
	r.set("main", b)
	fetch(t, m, r.remote())
	var bomb *git.PathError
	if _, err := m.ChangedPaths(t.Context(), repo, a, b); !errors.As(err, &bomb) {
		t.Errorf("got %v, want a PathError", err)
	}
}

func TestMergeBase(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	tree := r.tree(plain(map[string]string{"a": "1"}))
	root := r.commitTree(tree)
	main := r.commitTree(tree, root)
	branch := r.commitTree(tree, main)
	ahead := r.commitTree(tree, main)
	merged := r.commitTree(tree, ahead, branch)
	after := r.commitTree(tree, branch)
	orphan := r.commitTree(tree)
	for name, sha := range map[string]string{"main": merged, "branch": after, "orphan": orphan} {
		r.set(name, sha)
	}
	fetch(t, m, r.remote())
	for _, tt := range []struct {
		a, b, want string
		ancestor   bool
	}{
		{branch, ahead, main, false},
		{merged, after, branch, false},
		{root, merged, root, true},
		{merged, root, root, false},
		{branch, merged, branch, true},
		{main, main, main, true},
	} {
		got, err := m.MergeBase(t.Context(), repo, tt.a, tt.b)
		if err != nil || got != tt.want {
			t.Errorf("MergeBase(%.7s, %.7s) = %.7s, %v, want %.7s", tt.a, tt.b, got, err, tt.want)
		}
		is, err := m.IsAncestor(t.Context(), repo, tt.a, tt.b)
		if err != nil || is != tt.ancestor {
			t.Errorf("IsAncestor(%.7s, %.7s) = %v, %v, want %v", tt.a, tt.b, is, err, tt.ancestor)
		}
	}
	if _, err := m.MergeBase(t.Context(), repo, orphan, main); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("no common history: %v, want ErrNotFound", err)
	}
	if parents, err := m.Parents(t.Context(), repo, merged); err != nil || !slices.Equal(parents, []string{ahead, branch}) {
		t.Errorf("parents = %q, %v", parents, err)
	}
	if line, err := m.FirstParents(t.Context(), repo, merged, root, 10); err != nil || !slices.Equal(line, []string{merged, ahead, main}) {
		t.Errorf("first parents = %q, %v", line, err)
	}
}

// Histories of every shape, with clocks that go astray, against go-git's own
// slow but simple answer.
func TestMergeBaseAgainstGoGit(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 15 {
		r := newRemote(t)
		m := newMirrors(t, t.TempDir())
		tree := r.tree(nil)
		var all []string
		for i := range 25 {
			var parents []string
			for range rng.IntN(3) {
				if p := max(0, i-1-rng.IntN(6)); i > 0 && !slices.Contains(parents, all[p]) {
					parents = append(parents, all[p])
				}
			}
			r.at = r.at.Add(time.Duration(rng.IntN(600)-200) * time.Second)
			all = append(all, r.commitTree(tree, parents...))
			r.set(fmt.Sprint("b", i), all[i])
		}
		fetch(t, m, r.remote())
		for range 60 {
			a, b := all[rng.IntN(len(all))], all[rng.IntN(len(all))]
			ca, _ := object.GetCommit(r.repo.Storer, plumbing.NewHash(a))
			cb, _ := object.GetCommit(r.repo.Storer, plumbing.NewHash(b))
			want, err := ca.MergeBase(cb)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.MergeBase(t.Context(), repo, a, b)
			if len(want) == 0 {
				if !errors.Is(err, vcs.ErrNotFound) {
					t.Errorf("round %d: MergeBase(%.7s, %.7s) = %.7s, %v, want none", round, a, b, got, err)
				}
				continue
			}
			if !slices.ContainsFunc(want, func(c *object.Commit) bool { return c.Hash.String() == got }) {
				t.Errorf("round %d: MergeBase(%.7s, %.7s) = %.7s, %v, want one of %v", round, a, b, got, err, want)
			}
			wantIs, _ := ca.IsAncestor(cb)
			if is, err := m.IsAncestor(t.Context(), repo, a, b); err != nil || is != wantIs {
				t.Errorf("round %d: IsAncestor(%.7s, %.7s) = %v, %v, want %v", round, a, b, is, err, wantIs)
			}
		}
	}
}

func TestPatchID(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	lines := func(first, last string) string { return first + strings.Repeat("middle\n", 20) + last }
	base := r.commit(map[string]string{"f": lines("1\n", "1\n"), "bin": "\x00a"})
	branch1 := r.commit(map[string]string{"f": lines("1\n", "2\n"), "bin": "\x00a"}, base)
	branch2 := r.commit(map[string]string{"f": lines("1\n", "2\n"), "bin": "\x00b"}, branch1)
	// Meanwhile the same file changed elsewhere.
	main := r.commit(map[string]string{"f": lines("0\n", "1\n"), "bin": "\x00a"}, base)
	squashed := r.commit(map[string]string{"f": lines("0\n", "2\n"), "bin": "\x00b"}, main)
	r.set("main", squashed)
	r.set("branch", branch2)
	fetch(t, m, r.remote())
	id := func(from, to string) string {
		t.Helper()
		id, err := m.PatchID(t.Context(), repo, from, to)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if id(base, branch2) != id(main, squashed) {
		t.Error("a squashed branch has another patch id")
	}
	if id(base, branch1) == id(main, squashed) || id(base, branch2) == id(base, main) {
		t.Error("different changes have one patch id")
	}
	if id(base, base) != "" {
		t.Error("no change has a patch id")
	}
}

func TestDescribe(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	sha := r.commit(map[string]string{"a": "1"})
	r.set("main", sha)
	fetch(t, m, r.remote())
	subject, author, at, err := m.Describe(t.Context(), repo, sha)
	if err != nil || subject != "a change" || author != "Ada" || !at.Equal(r.at) {
		t.Errorf("got %q, %q, %v, %v", subject, author, at, err)
	}
}
