package git

import (
	"container/heap"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// Resolve returns the full name of the commit that rev stands for.
func (m *Mirrors) Resolve(ctx context.Context, r vcs.Repository, rev string) (sha string, err error) {
	err = m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		sha, err = resolve(s, rev)
		return err
	})
	return sha, err
}

func resolve(s *filesystem.Storage, rev string) (string, error) {
	if isSHA(rev) {
		c, err := commitAt(s, rev)
		if err != nil {
			return "", err
		}
		return c.Hash.String(), nil
	}
	if strings.Contains(rev, ":") { // a path in a commit, which go-git takes for the commit
		return "", fmt.Errorf("%w: %q is not a commit", vcs.ErrNotFound, rev)
	}
	repo, err := gogit.Open(s, osfs.New("/"))
	if err != nil {
		return "", asDamage(err)
	}
	h, err := repo.ResolveRevision(plumbing.Revision(rev))
	if err != nil {
		return "", fmt.Errorf("%w: no commit is called %q", vcs.ErrNotFound, rev)
	}
	c, err := peel(s, *h)
	if err != nil {
		return "", err
	}
	return c.Hash.String(), nil
}

// Branches returns the branches with their commits.
func (m *Mirrors) Branches(ctx context.Context, r vcs.Repository) (map[string]string, error) {
	branches := map[string]string{}
	err := m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		all, err := refs(s)
		for name, h := range all {
			if name.IsBranch() {
				branches[name.Short()] = h.String()
			}
		}
		return err
	})
	return branches, err
}

// DefaultBranch returns the branch that the remote's HEAD pointed to at the
// last fetch. vcs.ErrNotFound where that branch does not exist.
func (m *Mirrors) DefaultBranch(ctx context.Context, r vcs.Repository) (string, error) {
	var name string
	err := m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		head, err := s.Reference(plumbing.HEAD)
		if err != nil {
			return asDamage(err)
		}
		if _, err := storer.ResolveReference(s, head.Target()); err != nil {
			return fmt.Errorf("%w: repository %s has no default branch", vcs.ErrNotFound, r)
		}
		name = head.Target().Short()
		return nil
	})
	return name, err
}

// Parents returns the parents of a commit: none of the first, several of a
// merge, where the first is the branch that was merged into.
func (m *Mirrors) Parents(ctx context.Context, r vcs.Repository, sha string) ([]string, error) {
	var parents []string
	err := m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		c, err := commitAt(s, sha)
		if err != nil {
			return err
		}
		for _, p := range c.ParentHashes {
			parents = append(parents, p.String())
		}
		return nil
	})
	return parents, err
}

// Describe returns what a commit says of itself: the first line of its
// message, its author's name, and when it was committed.
func (m *Mirrors) Describe(ctx context.Context, r vcs.Repository, sha string) (subject, author string, at time.Time, err error) {
	err = m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		c, err := commitAt(s, sha)
		if err != nil {
			return err
		}
		line, _, _ := strings.Cut(strings.TrimSpace(c.Message), "\n")
		subject, author, at = printable(line), printable(c.Author.Name), c.Committer.When
		return nil
	})
	return subject, author, at, err
}

// printable is s without what would act on a terminal.
func printable(s string) string {
	return strings.ToValidUTF8(strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || (r >= 0x7f && r < 0xa0) {
			return -1
		}
		return r
	}, s)), "\uFFFD")
}

// FirstParents returns tip and its first parents, newest first, up to and
// without stop, and no more than limit of them. Stop may be empty.
func (m *Mirrors) FirstParents(ctx context.Context, r vcs.Repository, tip, stop string, limit int) ([]string, error) {
	var line []string
	err := m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		c, err := commitAt(s, tip)
		if err != nil {
			return err
		}
		for c.Hash.String() != stop && len(line) < limit {
			line = append(line, c.Hash.String())
			if len(c.ParentHashes) == 0 {
				return nil
			}
			if c, err = object.GetCommit(s, c.ParentHashes[0]); err != nil {
				return asDamage(err)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	return line, err
}

// MergeBase returns the commit that two histories have in common last: of
// several such commits the newest. vcs.ErrNotFound where there is none.
func (m *Mirrors) MergeBase(ctx context.Context, r vcs.Repository, a, b string) (string, error) {
	var base string
	err := m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		bases, err := mergeBases(ctx, s, a, b)
		if err != nil {
			return err
		}
		if len(bases) == 0 {
			return fmt.Errorf("%w: %s and %s have no common history", vcs.ErrNotFound, a, b)
		}
		base = bases[0].Hash.String()
		return nil
	})
	return base, err
}

// IsAncestor reports whether a is b or in its history.
func (m *Mirrors) IsAncestor(ctx context.Context, r vcs.Repository, a, b string) (bool, error) {
	var is bool
	err := m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		bases, err := mergeBases(ctx, s, a, b)
		// Then a is itself the only thing in common that nothing in common
		// comes after.
		is = len(bases) == 1 && bases[0].Hash.String() == a
		return err
	})
	return is, err
}

func mergeBases(ctx context.Context, s *filesystem.Storage, a, b string) ([]*object.Commit, error) {
	ca, err := commitAt(s, a)
	if err != nil {
		return nil, err
	}
	cb, err := commitAt(s, b)
	if err != nil {
		return nil, err
	}
	return commonAncestors(ctx, s, ca, cb)
}

// The colours of commonAncestors.
const (
	ofA = 1 << iota
	ofB
	stale // behind a common ancestor
)

// commonAncestors returns the best common ancestors, newest first. It walks
// back in the order of time and stops when only what is behind a common
// ancestor is left, as Git does, so that its cost is the length of the branch
// and not of the history, which is what go-git's own MergeBase walks.
func commonAncestors(ctx context.Context, s *filesystem.Storage, a, b *object.Commit) ([]*object.Commit, error) {
	found, err := paint(ctx, s, a, b)
	if err != nil || len(found) < 2 {
		return found, err
	}
	// Clocks that go backwards can leave one that is behind another.
	var best []*object.Commit
	for i, c := range found {
		behind := false
		for j, other := range found {
			if i == j {
				continue
			}
			common, err := paint(ctx, s, c, other)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(common, func(x *object.Commit) bool { return x.Hash == c.Hash }) {
				behind = true
				break
			}
		}
		if !behind {
			best = append(best, c)
		}
	}
	slices.SortFunc(best, func(a, b *object.Commit) int { return -compareCommits(a, b) })
	return best, nil
}

func paint(ctx context.Context, s *filesystem.Storage, a, b *object.Commit) ([]*object.Commit, error) {
	if a.Hash == b.Hash {
		return []*object.Commit{a}, nil
	}
	colour := map[plumbing.Hash]int{a.Hash: ofA, b.Hash: ofB}
	queue := commitHeap{}
	fresh := 0 // in the queue and not stale
	add := func(c *object.Commit) {
		heap.Push(&queue, c)
		if colour[c.Hash]&stale == 0 {
			fresh++
		}
	}
	add(a)
	add(b)
	shallow, err := s.Shallow() // commits whose parents are not there; a working tree's only
	if err != nil {
		return nil, asDamage(err)
	}
	common := map[plumbing.Hash]*object.Commit{}
	queued := map[plumbing.Hash]bool{a.Hash: true, b.Hash: true}
	for fresh > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := heap.Pop(&queue).(*object.Commit)
		queued[c.Hash] = false
		paint := colour[c.Hash]
		if paint&stale == 0 {
			fresh--
		}
		if paint == ofA|ofB {
			common[c.Hash] = c
			paint |= stale
		}
		if slices.Contains(shallow, c.Hash) {
			continue
		}
		for _, p := range c.ParentHashes {
			before := colour[p]
			if before&paint == paint {
				continue
			}
			colour[p] = before | paint
			if queued[p] {
				if before&stale == 0 && colour[p]&stale != 0 {
					fresh--
				}
				continue
			}
			pc, err := object.GetCommit(s, p)
			if err != nil {
				return nil, asDamage(err)
			}
			queued[p] = true
			add(pc)
		}
	}
	maps.DeleteFunc(common, func(h plumbing.Hash, _ *object.Commit) bool { return colour[h]&stale != 0 })
	return slices.SortedFunc(maps.Values(common), func(a, b *object.Commit) int { return -compareCommits(a, b) }), nil
}

// ChangedPaths returns, sorted, the paths that differ between two commits:
// changed, added and deleted ones, and of a rename both names. An empty from
// stands for no files at all.
func (m *Mirrors) ChangedPaths(ctx context.Context, r vcs.Repository, from, to string) ([]string, error) {
	var paths []string
	err := m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		changes, err := compare(ctx, s, from, to)
		if err != nil {
			return err
		}
		paths = changedPaths(changes)
		return nil
	})
	return paths, err
}

func changedPaths(changes object.Changes) []string {
	var paths []string
	for _, c := range changes {
		for _, name := range []string{c.From.Name, c.To.Name} {
			if name != "" {
				paths = append(paths, name)
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// compare compares two commits, without looking for renames: a rename is a
// deletion and an addition.
func compare(ctx context.Context, s *filesystem.Storage, from, to string) (object.Changes, error) {
	var before plumbing.Hash
	if from != "" {
		c, err := commitAt(s, from)
		if err != nil {
			return nil, err
		}
		before = c.TreeHash
	}
	c, err := commitAt(s, to)
	if err != nil {
		return nil, err
	}
	changes, err := diffTrees(ctx, s, before, c.TreeHash)
	if err != nil {
		return nil, fmt.Errorf("compare commits: %w", err)
	}
	return changes, nil
}

// Files returns the files and links of a commit, as the id of their content by
// path.
func (m *Mirrors) Files(ctx context.Context, r vcs.Repository, sha string) (map[string]string, error) {
	files := map[string]string{}
	err := m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		c, err := commitAt(s, sha)
		if err != nil {
			return err
		}
		entries, err := listTree(ctx, s, c.TreeHash)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.mode != filemode.Dir {
				files[e.path] = e.hash.String()
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the files of %s at %s: %w", r, sha, err)
	}
	return files, nil
}
