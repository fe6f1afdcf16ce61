package gittest

import (
	"fmt"
	"slices"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/revlist"
)

// MergeMethod is how a branch gets into another.
type MergeMethod string

// The ways to merge, as hosts name them.
const (
	MergeCommit MergeMethod = "merge"  // a commit with two parents, even where a fast-forward would do
	MergeSquash MergeMethod = "squash" // one commit with all changes
	MergeRebase MergeMethod = "rebase" // each commit again, on top of the base
	MergeFF     MergeMethod = "ff"     // only the branch moves; ErrNotFastForward where it cannot
)

// Merge merges branch from into branch into and returns into's new head. Files
// are merged whole: the same file changed differently on both sides is
// ErrConflict, and nothing has changed.
func (r *Repo) Merge(from, into string, method MergeMethod) (string, error) {
	return r.MergeAs(from, into, method, MergeOptions{})
}

// MergeOptions name the merge commit.
type MergeOptions struct {
	Message string // defaults to "Merge FROM into INTO"
	Author  string // defaults to the Repo's
}

// MergeAs is Merge with a message and author.
func (r *Repo) MergeAs(from, into string, method MergeMethod, o MergeOptions) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, err := r.open()
	if err != nil {
		return "", err
	}
	if o.Message == "" {
		o.Message = fmt.Sprintf("Merge %s into %s", from, into)
	}
	s, err := sidesOf(g, from, into)
	if err != nil {
		return "", err
	}
	h, err := r.merge(g, s, method, o)
	if err != nil {
		return "", fmt.Errorf("merge %s into %s: %w", from, into, err)
	}
	return h.String(), setBranch(g, into, h)
}

// Mergeable reports whether from merges into into without a conflict.
func (r *Repo) Mergeable(from, into string) (bool, error) {
	g, err := r.open()
	if err != nil {
		return false, err
	}
	s, err := sidesOf(g, from, into)
	if err != nil {
		return false, err
	}
	base, err := s.mergeBase()
	if err != nil {
		return false, err
	}
	_, err = mergeFiles(g, base, s.into.Hash, s.from.Hash)
	return err == nil, nil
}

// MergeBase returns the best common ancestor of two branches or commits, ""
// where there is none.
func (r *Repo) MergeBase(a, b string) (string, error) {
	g, err := r.open()
	if err != nil {
		return "", err
	}
	s, err := sidesOf(g, a, b)
	if err != nil {
		return "", err
	}
	h, err := s.mergeBase()
	if err != nil || h.IsZero() {
		return "", err
	}
	return h.String(), nil
}

type sides struct{ from, into *object.Commit }

func sidesOf(g *git.Repository, from, into string) (sides, error) {
	var s sides
	var err error
	if s.from, err = commitOf(g, from); err != nil {
		return s, err
	}
	s.into, err = commitOf(g, into)
	return s, err
}

func commitOf(g *git.Repository, rev string) (*object.Commit, error) {
	h, err := resolve(g, rev)
	if err != nil {
		return nil, err
	}
	c, err := g.CommitObject(h)
	if err != nil {
		return nil, fmt.Errorf("find commit of %s: %w", rev, err)
	}
	return c, nil
}

func (s sides) mergeBase() (plumbing.Hash, error) {
	bases, err := s.from.MergeBase(s.into)
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("find merge base: %w", err)
	}
	if len(bases) == 0 {
		return plumbing.ZeroHash, nil
	}
	return bases[0].Hash, nil
}

func (r *Repo) merge(g *git.Repository, s sides, method MergeMethod, o MergeOptions) (plumbing.Hash, error) {
	base, err := s.mergeBase()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	switch method {
	case MergeFF:
		if base != s.into.Hash {
			return plumbing.ZeroHash, ErrNotFastForward
		}
		return s.from.Hash, nil
	case MergeRebase:
		return r.replay(g, s, base)
	case MergeCommit, MergeSquash:
	default:
		return plumbing.ZeroHash, fmt.Errorf("unknown method %q", method)
	}
	files, err := mergeFiles(g, base, s.into.Hash, s.from.Hash)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	parents := []plumbing.Hash{s.into.Hash}
	if method == MergeCommit {
		parents = append(parents, s.from.Hash)
	}
	return r.writeCommit(g, files, commitMeta{message: o.Message, author: o.Author, parents: parents})
}

// replay applies the commits between base and s.from, oldest first and by
// first parents only, on top of s.into.
func (r *Repo) replay(g *git.Repository, s sides, base plumbing.Hash) (plumbing.Hash, error) {
	if base == s.into.Hash {
		return s.from.Hash, nil
	}
	var commits []*object.Commit
	for c := s.from; c.Hash != base; {
		commits = append(commits, c)
		if c.NumParents() == 0 {
			break
		}
		parent, err := c.Parent(0)
		if err != nil {
			return plumbing.ZeroHash, fmt.Errorf("read parent of %s: %w", c.Hash, err)
		}
		c = parent
	}
	slices.Reverse(commits)
	onto := s.into.Hash
	for _, c := range commits {
		var before plumbing.Hash
		if c.NumParents() > 0 {
			before = c.ParentHashes[0]
		}
		files, err := mergeFiles(g, before, onto, c.Hash)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		meta := commitMeta{message: c.Message, author: c.Author.Name, parents: []plumbing.Hash{onto}}
		if onto, err = r.writeCommit(g, files, meta); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	return onto, nil
}

// mergeFiles merges by path: what only one side changed is taken from it.
func mergeFiles(g *git.Repository, base, ours, theirs plumbing.Hash) (tree, error) {
	b, err := readTreeOrNone(g, base)
	if err != nil {
		return nil, err
	}
	o, err := readTreeOrNone(g, ours)
	if err != nil {
		return nil, err
	}
	t, err := readTreeOrNone(g, theirs)
	if err != nil {
		return nil, err
	}
	paths := map[string]bool{}
	for _, x := range []tree{o, t} {
		for p := range x {
			paths[p] = true
		}
	}
	merged := tree{}
	for p := range paths {
		was, our, their := b[p], o[p], t[p]
		e := our
		switch {
		case our == their || their == was:
		case our == was:
			e = their
		default:
			return nil, fmt.Errorf("%w: %s", ErrConflict, p)
		}
		if e != (entry{}) {
			merged[p] = e
		}
	}
	return merged, nil
}

// readTreeOrNone reads no files for the zero hash: histories without a common
// ancestor merge as additions.
func readTreeOrNone(g *git.Repository, commit plumbing.Hash) (tree, error) {
	if commit.IsZero() {
		return nil, nil
	}
	return readTree(g.Storer, commit)
}

// CopyObjects copies a commit and all that it needs into another repository,
// as a fetch would; no ref is moved.
func (r *Repo) CopyObjects(to *Repo, commit string) error {
	from, err := r.open()
	if err != nil {
		return err
	}
	into, err := to.open()
	if err != nil {
		return err
	}
	all, err := revlist.Objects(from.Storer, []plumbing.Hash{plumbing.NewHash(commit)}, nil)
	if err != nil {
		return fmt.Errorf("walk %s: %w", commit, err)
	}
	for _, h := range all {
		if into.Storer.HasEncodedObject(h) == nil {
			continue
		}
		obj, err := from.Storer.EncodedObject(plumbing.AnyObject, h)
		if err != nil {
			return fmt.Errorf("read object %s: %w", h, err)
		}
		if _, err := into.Storer.SetEncodedObject(obj); err != nil {
			return fmt.Errorf("copy object %s: %w", h, err)
		}
	}
	return nil
}
