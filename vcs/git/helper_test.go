package git_test

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"holdfast/vcs"
	"holdfast/vcs/git"
)

// remoteRepo is a bare repository on disk that tests act on as other people
// would.
type remoteRepo struct {
	t    testing.TB
	dir  string
	repo *gogit.Repository
	at   time.Time
}

// file is what a tree has at a path.
type file struct {
	mode    filemode.FileMode
	content string
}

func newRemote(t testing.TB) *remoteRepo {
	t.Helper()
	dir := t.TempDir()
	repo, err := gogit.PlainInit(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	r := &remoteRepo{t: t, dir: dir, repo: repo, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	if err := repo.Storer.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, "refs/heads/main")); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *remoteRepo) remote() vcs.Remote { return vcs.Remote{URL: r.dir} }

// blob, tree and commit write objects, whatever is in them.
func (r *remoteRepo) object(o plumbing.EncodedObject) plumbing.Hash {
	r.t.Helper()
	h, err := r.repo.Storer.SetEncodedObject(o)
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *remoteRepo) blob(content string) plumbing.Hash {
	o := &plumbing.MemoryObject{}
	o.SetType(plumbing.BlobObject)
	_, _ = o.Write([]byte(content))
	return r.object(o)
}

// rawTree writes entries in the order given, without checking anything.
func (r *remoteRepo) rawTree(entries ...object.TreeEntry) plumbing.Hash {
	o := &plumbing.MemoryObject{}
	o.SetType(plumbing.TreeObject)
	for _, e := range entries {
		_, _ = o.Write([]byte(strings.TrimLeft(e.Mode.String(), "0") + " " + e.Name + "\x00"))
		_, _ = o.Write(e.Hash[:])
	}
	return r.object(o)
}

// tree writes files by their paths.
func (r *remoteRepo) tree(files map[string]file) plumbing.Hash {
	below := map[string]map[string]file{}
	entries := map[string]object.TreeEntry{}
	for path, f := range files {
		dir, rest, nested := strings.Cut(path, "/")
		if !nested {
			entries[path] = object.TreeEntry{Name: path, Mode: f.mode, Hash: r.blob(f.content)}
			continue
		}
		if below[dir] == nil {
			below[dir] = map[string]file{}
		}
		below[dir][rest] = f
	}
	for dir, content := range below {
		entries[dir] = object.TreeEntry{Name: dir, Mode: filemode.Dir, Hash: r.tree(content)}
	}
	sorted := slices.Collect(maps.Values(entries))
	slices.SortFunc(sorted, func(a, b object.TreeEntry) int {
		name := func(e object.TreeEntry) string {
			if e.Mode == filemode.Dir {
				return e.Name + "/"
			}
			return e.Name
		}
		return strings.Compare(name(a), name(b))
	})
	return r.rawTree(sorted...)
}

func (r *remoteRepo) commitTree(tree plumbing.Hash, parents ...string) string {
	r.at = r.at.Add(time.Minute)
	by := object.Signature{Name: "Ada", Email: "ada@example.com", When: r.at}
	c := &object.Commit{Author: by, Committer: by, Message: "a change\n\nwith a reason\n", TreeHash: tree}
	for _, p := range parents {
		c.ParentHashes = append(c.ParentHashes, plumbing.NewHash(p))
	}
	o := &plumbing.MemoryObject{}
	if err := c.Encode(o); err != nil {
		r.t.Fatal(err)
	}
	return r.object(o).String()
}

// commit writes plain files.
func (r *remoteRepo) commit(files map[string]string, parents ...string) string {
	return r.commitTree(r.tree(plain(files)), parents...)
}

func plain(files map[string]string) map[string]file {
	all := map[string]file{}
	for path, content := range files {
		all[path] = file{filemode.Regular, content}
	}
	return all
}

func (r *remoteRepo) set(ref, sha string) {
	r.t.Helper()
	if !strings.HasPrefix(ref, "refs/") {
		ref = "refs/heads/" + ref
	}
	if err := r.repo.Storer.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(ref), plumbing.NewHash(sha))); err != nil {
		r.t.Fatal(err)
	}
}

func (r *remoteRepo) remove(branch string) {
	r.t.Helper()
	if err := r.repo.Storer.RemoveReference(plumbing.NewBranchReferenceName(branch)); err != nil {
		r.t.Fatal(err)
	}
	// go-git leaves the directory of a branch with a slash behind.
	if dir, _, nested := strings.Cut(branch, "/"); nested {
		_ = os.Remove(filepath.Join(r.dir, "refs", "heads", dir))
	}
}

var repo = vcs.Repository{Host: "git.example.com", Owner: "team/infra", Name: "live"}

func newMirrors(t *testing.T, dir string) *git.Mirrors {
	t.Helper()
	m, err := git.New(git.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func fetch(t *testing.T, m *git.Mirrors, remote vcs.Remote, refs ...string) {
	t.Helper()
	if err := m.Fetch(t.Context(), repo, remote, refs...); err != nil {
		t.Fatal(err)
	}
}

// listing is a directory's files: content, or "-> target" of a link, or
// "+x content".
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			got[rel] = "-> " + target
			return err
		}
		content, err := os.ReadFile(path)
		info, _ := d.Info()
		if info.Mode()&0o100 != 0 {
			content = append([]byte("+x "), content...)
		}
		got[rel] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func checkout(t *testing.T, m *git.Mirrors, sha string) (string, func()) {
	t.Helper()
	dir, release, err := m.Checkout(context.WithoutCancel(t.Context()), repo, sha)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return dir, release
}

// ref returns what a ref of the remote leads to, empty where there is none.
func (r *remoteRepo) ref(name string) string {
	ref, err := r.repo.Storer.Reference(plumbing.ReferenceName(name))
	if err != nil {
		return ""
	}
	return ref.Hash().String()
}

// files returns the files at a ref of the remote.
func (r *remoteRepo) files(name string) map[string]string {
	r.t.Helper()
	c, err := object.GetCommit(r.fresh(), plumbing.NewHash(r.ref(name)))
	if err != nil {
		r.t.Fatal(err)
	}
	found := map[string]string{}
	iter, err := c.Files()
	if err != nil {
		r.t.Fatal(err)
	}
	err = iter.ForEach(func(f *object.File) error {
		found[f.Name], err = f.Contents()
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

// count returns how many commits lead to a ref.
func (r *remoteRepo) count(name string) int {
	r.t.Helper()
	c, err := object.GetCommit(r.fresh(), plumbing.NewHash(r.ref(name)))
	if err != nil {
		r.t.Fatal(err)
	}
	n := 0
	_ = object.NewCommitPreorderIter(c, nil, nil).ForEach(func(*object.Commit) error { n++; return nil })
	return n
}

// fresh opens the repository anew: somebody else may have pushed a pack.
func (r *remoteRepo) fresh() storer.EncodedObjectStorer {
	r.t.Helper()
	repo, err := gogit.PlainOpen(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return repo.Storer
}
