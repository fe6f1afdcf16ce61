// Package gittest makes real Git repositories without a git binary, so that
// tests of hosts, mirrors and the whole program run on any machine: bare
// repositories with commits and merges made object by object, and a
// smart-HTTP server (Handler) that go-git and git itself can fetch from and
// push to.
//
// Repo returns errors and is for programs and fakes; Must wraps it for tests,
// which want a commit in one line.
package gittest

import (
	"errors"
	"fmt"
	"path"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// DefaultBranch is the branch that HEAD of a new repository points at.
const DefaultBranch = "main"

// Errors of a Repo.
var (
	// ErrNoBranch: the branch does not exist.
	ErrNoBranch = errors.New("gittest: no such branch")
	// ErrConflict: both sides of a merge changed the same file.
	ErrConflict = errors.New("gittest: merge conflict")
	// ErrNotFastForward: a fast-forward was asked for and is not possible.
	ErrNotFastForward = errors.New("gittest: not a fast-forward")
)

// Repo is a bare repository in a directory. Safe for concurrent use within a
// process; each call opens the directory afresh, so that what another handle
// pushed is seen.
type Repo struct {
	// Dir is the bare repository's directory.
	Dir string
	// Author signs commits and merges. Defaults to "test".
	Author string
	// Now gives commits their time. Defaults to time.Now.
	Now func() time.Time

	mu sync.Mutex
}

// Init makes an empty bare repository in dir, which need not exist.
func Init(dir string) (*Repo, error) {
	_, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{
		InitOptions: git.InitOptions{DefaultBranch: plumbing.NewBranchReferenceName(DefaultBranch)},
		Bare:        true,
	})
	if err != nil {
		return nil, fmt.Errorf("init %s: %w", dir, err)
	}
	return Open(dir), nil
}

// Open returns the Repo of an existing bare repository.
func Open(dir string) *Repo { return &Repo{Dir: dir} }

// Change is what a commit does to a branch.
type Change struct {
	Branch   string            // made if it does not exist, from From
	From     string            // a branch or commit for a new Branch; defaults to the default branch if that exists
	Message  string            // defaults to "change"
	Author   string            // defaults to the Repo's
	Files    map[string]string // content by slash-separated path
	Symlinks map[string]string // target by path
	Delete   []string          // paths; a directory goes with all it holds
}

// Commit writes files on top of branch, which is made from the default branch
// if it does not exist, and returns the new commit.
func (r *Repo) Commit(branch string, files map[string]string, message string) (string, error) {
	return r.Apply(Change{Branch: branch, Files: files, Message: message})
}

// Delete removes paths on branch and returns the new commit.
func (r *Repo) Delete(branch, message string, paths ...string) (string, error) {
	return r.Apply(Change{Branch: branch, Delete: paths, Message: message})
}

// Apply makes one commit and returns it. Deletions come first, so that a path
// may be deleted as a directory and written as a file.
func (r *Repo) Apply(c Change) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, err := r.open()
	if err != nil {
		return "", err
	}
	parent, err := r.startOf(g, c)
	if err != nil {
		return "", err
	}
	files := tree{}
	if !parent.IsZero() {
		if files, err = readTree(g.Storer, parent); err != nil {
			return "", err
		}
	}
	if err := change(g, files, c); err != nil {
		return "", err
	}
	var parents []plumbing.Hash
	if !parent.IsZero() {
		parents = append(parents, parent)
	}
	h, err := r.writeCommit(g, files, commitMeta{message: c.Message, author: c.Author, parents: parents})
	if err != nil {
		return "", err
	}
	return h.String(), setBranch(g, c.Branch, h)
}

// startOf finds the commit that a change is built on: zero in an empty
// repository.
func (r *Repo) startOf(g *git.Repository, c Change) (plumbing.Hash, error) {
	h, err := head(g, c.Branch)
	if err == nil || !errors.Is(err, ErrNoBranch) {
		return h, err
	}
	if c.From != "" {
		return resolve(g, c.From)
	}
	h, err = head(g, DefaultBranch)
	if errors.Is(err, ErrNoBranch) {
		return plumbing.ZeroHash, nil
	}
	return h, err
}

func change(g *git.Repository, files tree, c Change) error {
	for _, p := range c.Delete {
		found := false
		for f := range files {
			if f == p || strings.HasPrefix(f, p+"/") {
				delete(files, f)
				found = true
			}
		}
		if !found {
			return fmt.Errorf("delete %s on %s: no such path", p, c.Branch)
		}
	}
	write := func(p, content string, mode filemode.FileMode) error {
		if p == "" || p != path.Clean(p) || strings.HasPrefix(p, "/") || strings.HasPrefix(p, "..") {
			return fmt.Errorf("write %q on %s: not a clean relative path", p, c.Branch)
		}
		h, err := writeBlob(g.Storer, content)
		files[p] = entry{mode: mode, hash: h}
		return err
	}
	for p, content := range c.Files {
		if err := write(p, content, filemode.Regular); err != nil {
			return err
		}
	}
	for p, target := range c.Symlinks {
		if err := write(p, target, filemode.Symlink); err != nil {
			return err
		}
	}
	return nil
}

// Branch makes or moves a branch to where from (a branch or a commit) is. A
// move back is what a force-push does.
func (r *Repo) Branch(name, from string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, err := r.open()
	if err != nil {
		return err
	}
	h, err := resolve(g, from)
	if err != nil {
		return err
	}
	return setBranch(g, name, h)
}

// DeleteBranch removes a branch; one that does not exist is ErrNoBranch.
func (r *Repo) DeleteBranch(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, err := r.open()
	if err != nil {
		return err
	}
	if _, err := head(g, name); err != nil {
		return err
	}
	return g.Storer.RemoveReference(plumbing.NewBranchReferenceName(name))
}

// Head returns a branch's commit, or ErrNoBranch.
func (r *Repo) Head(branch string) (string, error) {
	g, err := r.open()
	if err != nil {
		return "", err
	}
	h, err := head(g, branch)
	if err != nil {
		return "", err
	}
	return h.String(), nil
}

// Branches returns all branches' names, sorted.
func (r *Repo) Branches() ([]string, error) {
	g, err := r.open()
	if err != nil {
		return nil, err
	}
	iter, err := g.Branches()
	if err != nil {
		return nil, err
	}
	var names []string
	err = iter.ForEach(func(ref *plumbing.Reference) error {
		names = append(names, ref.Name().Short())
		return nil
	})
	sort.Strings(names)
	return names, err
}

// SetRef points any ref, such as "refs/pull/1/head", at a commit. An empty sha
// removes the ref.
func (r *Repo) SetRef(name, sha string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, err := r.open()
	if err != nil {
		return err
	}
	if sha == "" {
		return g.Storer.RemoveReference(plumbing.ReferenceName(name))
	}
	return g.Storer.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(name), plumbing.NewHash(sha)))
}

// Ref returns what any ref points at, or "" where it does not exist.
func (r *Repo) Ref(name string) (string, error) {
	g, err := r.open()
	if err != nil {
		return "", err
	}
	ref, err := g.Storer.Reference(plumbing.ReferenceName(name))
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return ref.Hash().String(), nil
}

// Files returns what a branch or commit holds: content by path.
func (r *Repo) Files(rev string) (map[string]string, error) {
	g, err := r.open()
	if err != nil {
		return nil, err
	}
	h, err := resolve(g, rev)
	if err != nil {
		return nil, err
	}
	entries, err := readTree(g.Storer, h)
	if err != nil {
		return nil, err
	}
	files := make(map[string]string, len(entries))
	for p, e := range entries {
		b, err := object.GetBlob(g.Storer, e.hash)
		if err != nil {
			return nil, fmt.Errorf("read %s at %s: %w", p, rev, err)
		}
		if files[p], err = readBlob(b); err != nil {
			return nil, fmt.Errorf("read %s at %s: %w", p, rev, err)
		}
	}
	return files, nil
}

func (r *Repo) open() (*git.Repository, error) {
	g, err := git.PlainOpen(r.Dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", r.Dir, err)
	}
	return g, nil
}

func head(g *git.Repository, branch string) (plumbing.Hash, error) {
	ref, err := g.Storer.Reference(plumbing.NewBranchReferenceName(branch))
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return plumbing.ZeroHash, fmt.Errorf("%w: %s", ErrNoBranch, branch)
	}
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("read branch %s: %w", branch, err)
	}
	return ref.Hash(), nil
}

// resolve takes a branch's name, else a full commit id.
func resolve(g *git.Repository, rev string) (plumbing.Hash, error) {
	h, err := head(g, rev)
	if err == nil || !errors.Is(err, ErrNoBranch) || !plumbing.IsHash(rev) {
		return h, err
	}
	c, err := g.CommitObject(plumbing.NewHash(rev))
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("find commit %s: %w", rev, err)
	}
	return c.Hash, nil
}

func setBranch(g *git.Repository, name string, h plumbing.Hash) error {
	if err := g.Storer.SetReference(plumbing.NewHashReference(plumbing.NewBranchReferenceName(name), h)); err != nil {
		return fmt.Errorf("move branch %s: %w", name, err)
	}
	return nil
}
