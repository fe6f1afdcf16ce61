package git

import (
	"context"
	"fmt"
	"maps"
	"path"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// treeDiff collects the files that differ between two trees. go-git's own does
// not enter directories whose names it would not write (one with a tab, say),
// and has no bounds.
type treeDiff struct {
	s       *filesystem.Storage
	strict  bool // a name that cannot be written safely is a *PathError
	changes object.Changes
	seen    int // entries looked at
}

// diffTrees compares two trees; a zero hash is an empty one. A file that
// became a directory is deleted, and what is in the directory added.
func diffTrees(ctx context.Context, s *filesystem.Storage, before, after plumbing.Hash) (object.Changes, error) {
	d := &treeDiff{s: s}
	err := d.walk(ctx, before, after, "", 0)
	return d.changes, err
}

func (d *treeDiff) walk(ctx context.Context, before, after plumbing.Hash, dir string, depth int) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if depth > maxDepth {
		return &PathError{Path: dir, Reason: "lies too deep"}
	}
	old, err := d.entries(before)
	if err != nil {
		return err
	}
	now, err := d.entries(after)
	if err != nil {
		return err
	}
	if d.seen += len(old) + len(now); d.seen > maxEntries {
		return &PathError{Path: dir, Reason: fmt.Sprintf("is one too many: more than %d files", maxEntries)}
	}
	names := maps.Clone(old)
	maps.Copy(names, now)
	for name := range names {
		was, is := old[name], now[name]
		if was == is {
			continue
		}
		if d.strict {
			if reason := unsafeName(name); reason != "" {
				return &PathError{Path: dir + "/" + name, Reason: reason}
			}
		}
		full := path.Join(dir, name)
		if was.Mode != filemode.Dir && is.Mode != filemode.Dir {
			d.add(full, was, is)
			continue
		}
		// Of a directory only what is in it counts.
		var inOld, inNow plumbing.Hash
		if was.Mode == filemode.Dir {
			inOld, was = was.Hash, object.TreeEntry{}
		}
		if is.Mode == filemode.Dir {
			inNow, is = is.Hash, object.TreeEntry{}
		}
		d.add(full, was, is)
		if err := d.walk(ctx, inOld, inNow, full, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// add adds a change of a file; nothing where it is on neither side.
func (d *treeDiff) add(name string, was, is object.TreeEntry) {
	c := &object.Change{}
	if was != (object.TreeEntry{}) {
		c.From = object.ChangeEntry{Name: name, TreeEntry: was}
	}
	if is != (object.TreeEntry{}) {
		c.To = object.ChangeEntry{Name: name, TreeEntry: is}
	}
	if c.From.Name+c.To.Name != "" {
		d.changes = append(d.changes, c)
	}
}

// entries returns a tree's entries by name.
func (d *treeDiff) entries(h plumbing.Hash) (map[string]object.TreeEntry, error) {
	if h.IsZero() {
		return map[string]object.TreeEntry{}, nil
	}
	tree, err := object.GetTree(d.s, h)
	if err != nil {
		return nil, asDamage(fmt.Errorf("read tree %s: %w", h, err))
	}
	entries := make(map[string]object.TreeEntry, len(tree.Entries))
	for _, e := range tree.Entries {
		if e.Mode == filemode.Deprecated {
			e.Mode = filemode.Regular // the same to Git
		}
		entries[e.Name] = e
	}
	return entries, nil
}
