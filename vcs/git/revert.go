package git

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// Revert makes a branch on the remote whose one commit, on top of Onto, takes
// back what changed from From to To, and returns that commit. The three commits
// are named in full and must be in the mirror; Onto must be at the remote.
//
// A file that Onto has as To has it becomes what From has, with its mode; links
// and submodules likewise. One that Onto has as From has it already stays.
// Where later commits changed a file too, its lines are merged as Git does it.
// What cannot be merged is a *vcs.ConflictError, for all paths at once, and
// nothing was pushed.
//
// The same input makes the same commit. A branch that has it already is a
// success; one with anything else is vcs.ErrExists, and is never overwritten.
// Returns vcs.ErrNothing where Onto has nothing of the change, and else the
// errors of Fetch.
func (m *Mirrors) Revert(ctx context.Context, r vcs.Repository, remote vcs.Remote, rev vcs.Revert) (string, error) {
	sha, err := m.revert(ctx, m.mirror(r), remote, rev)
	if err != nil {
		return "", fmt.Errorf("take back %.12s in %s: %w", rev.To, r, err)
	}
	return sha, nil
}

func (m *Mirrors) revert(ctx context.Context, mi *mirror, remote vcs.Remote, rev vcs.Revert) (string, error) {
	ref, err := branchRef(rev.Branch)
	if err != nil {
		return "", err
	}
	if rev.When.IsZero() {
		rev.When = m.cfg.Clock()
	}
	mi.writing.Lock()
	defer mi.writing.Unlock()
	p := publication{ref: ref}
	err = mi.read(ctx, func(s *filesystem.Storage) error {
		u := &undo{ctx: ctx, s: s, edits: map[string]object.TreeEntry{}}
		if err := u.commit(rev); err != nil {
			return err
		}
		p.made, p.sent = u.made, u.restored
		return nil
	})
	if err != nil {
		return "", err
	}
	return p.tip().String(), m.publishBranch(ctx, mi, remote, p)
}

// publishBranch makes a new branch, or finds it made already. The caller holds
// writing.
func (m *Mirrors) publishBranch(ctx context.Context, mi *mirror, remote vcs.Remote, p publication) error {
	s := openStorage(mi.dir, m.objects)
	defer s.Close()
	var err error
	// The second look tells a branch that somebody else made meanwhile from one
	// that the remote does not want.
	for range 2 {
		err = guard(func() error { return m.publish(ctx, mi, s, remote, p) })
		var moved *movedError
		switch {
		case errors.As(err, &moved) && moved.at == p.tip():
			return guard(func() error {
				if err := mi.add(s, p.made); err != nil {
					return err
				}
				return mi.setRef(s, p.ref, p.tip())
			})
		case errors.As(err, &moved):
			return &HintError{
				Err:  fmt.Errorf("%w: %s is at %s", vcs.ErrExists, p.ref.Short(), moved.at),
				hint: "delete the branch at the remote if nobody needs it, and try again",
			}
		case errors.Is(err, vcs.ErrDenied):
			return pushDenied()
		case !errors.Is(err, errMoved):
			return err
		}
	}
	return &HintError{
		Err:  fmt.Errorf("the remote refuses the branch %s: %w", p.ref.Short(), err),
		hint: "look whether its rules let this token or key make branches of such a name",
	}
}

// undo takes a change back, in memory.
type undo struct {
	ctx context.Context
	s   *filesystem.Storage

	edits     map[string]object.TreeEntry // by path; zero: to be deleted
	conflicts []string
	restored  []plumbing.Hash          // the edits' content
	made      []plumbing.EncodedObject // new objects, the commit last
	// parent and root are the commit's.
	parent, root plumbing.Hash
}

// commit makes the objects of the commit that takes rev back.
func (u *undo) commit(rev vcs.Revert) error {
	from, err := commitAt(u.s, rev.From)
	if err != nil {
		return err
	}
	to, err := commitAt(u.s, rev.To)
	if err != nil {
		return err
	}
	onto, err := commitAt(u.s, rev.Onto)
	if err != nil {
		return err
	}
	if err := u.decide(from.TreeHash, to.TreeHash, onto.TreeHash); err != nil {
		return err
	}
	return u.finish(onto, rev.Message, rev.When)
}

// finish makes the commit that has the edits. Returns a *vcs.ConflictError, and
// vcs.ErrNothing where they change nothing.
func (u *undo) finish(onto *object.Commit, message string, when time.Time) error {
	root, err := u.rewrite(onto.TreeHash, "", u.edits)
	switch {
	case err != nil:
		return err
	case len(u.conflicts) > 0:
		slices.Sort(u.conflicts)
		return &vcs.ConflictError{Paths: slices.Compact(u.conflicts)}
	case root == onto.TreeHash:
		return vcs.ErrNothing
	}
	if root.IsZero() { // nothing is left: a commit has a tree all the same
		if root, err = u.encode(&object.Tree{}); err != nil {
			return err
		}
	}
	u.parent, u.root = onto.Hash, root
	by := signature(when)
	_, err = u.encode(&object.Commit{
		Author: by, Committer: by, TreeHash: root, ParentHashes: []plumbing.Hash{onto.Hash},
		Message: strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(message, "\uFFFD"), "\x00", "")) + "\n",
	})
	return err
}

// decide finds the edits, and the paths where there is a conflict.
func (u *undo) decide(from, to, onto plumbing.Hash) error {
	d := &treeDiff{s: u.s, strict: true}
	if err := d.walk(u.ctx, from, to, "", 0); err != nil {
		return fmt.Errorf("compare commits: %w", err)
	}
	now := &treeReader{treeDiff: d, dirs: map[string]map[string]object.TreeEntry{}, root: onto}
	for _, c := range d.changes {
		if err := u.ctx.Err(); err != nil {
			return context.Cause(u.ctx)
		}
		name := c.From.Name
		if name == "" {
			name = c.To.Name
		}
		is, err := now.file(name)
		if err != nil {
			return err
		}
		was, became := fileOf(c.From.TreeEntry), fileOf(c.To.TreeEntry)
		switch {
		case is == was:
		case is == became:
			u.edit(name, was)
		default:
			if err := u.merge(name, became, is, was); err != nil {
				return err
			}
		}
	}
	return nil
}

// fileOf is an entry without its name: zero where there is none.
func fileOf(e object.TreeEntry) object.TreeEntry {
	return object.TreeEntry{Mode: e.Mode, Hash: e.Hash}
}

// edit notes what a path is to be.
func (u *undo) edit(name string, e object.TreeEntry) {
	u.edits[name] = e
	if !e.Hash.IsZero() && e.Mode != filemode.Submodule {
		u.restored = append(u.restored, e.Hash)
	}
}

// merge makes of a file that was changed since what it is without the change:
// base is what the change made of it, ours what it is now, theirs what it was
// before. Mode and content are merged each for itself.
func (u *undo) merge(name string, base, ours, theirs object.TreeEntry) error {
	for _, e := range []object.TreeEntry{base, ours, theirs} {
		if e.Mode != filemode.Regular && e.Mode != filemode.Executable { // deleted, a link or a submodule
			u.conflicts = append(u.conflicts, name)
			return nil
		}
	}
	result := ours
	if ours.Mode == base.Mode {
		result.Mode = theirs.Mode
	}
	switch {
	case ours.Hash == base.Hash:
		result.Hash = theirs.Hash
	case theirs.Hash == base.Hash || theirs.Hash == ours.Hash:
	default:
		h, ok, err := u.mergeText(name, base, ours, theirs)
		if err != nil {
			return err
		}
		if !ok {
			u.conflicts = append(u.conflicts, name)
			return nil
		}
		result.Hash = h
	}
	if result != ours {
		u.edit(name, result)
	}
	return nil
}

// mergeText merges three versions by lines; false for what is no text, too
// large, or a conflict.
func (u *undo) mergeText(name string, base, ours, theirs object.TreeEntry) (plumbing.Hash, bool, error) {
	var texts []string
	for _, e := range []object.TreeEntry{base, ours, theirs} {
		text, ok, err := textOf(u.s, object.ChangeEntry{Name: name, TreeEntry: e})
		if err != nil || !ok {
			return plumbing.ZeroHash, false, err
		}
		texts = append(texts, text)
	}
	merged, ok := merge3(texts[0], texts[1], texts[2])
	if !ok {
		return plumbing.ZeroHash, false, nil
	}
	h, err := u.blob([]byte(merged))
	return h, err == nil, err
}

// blob makes a file's content, and returns its name.
func (u *undo) blob(content []byte) (plumbing.Hash, error) {
	m := &plumbing.MemoryObject{}
	m.SetType(plumbing.BlobObject)
	if _, err := m.Write(content); err != nil {
		return plumbing.ZeroHash, err
	}
	u.made = append(u.made, m)
	return m.Hash(), nil
}

// rewrite returns a tree with the edits made in it, whose paths are relative to
// dir; zero where nothing is left. What the edits don't name stays as it is.
func (u *undo) rewrite(h plumbing.Hash, dir string, edits map[string]object.TreeEntry) (plumbing.Hash, error) {
	if len(edits) == 0 {
		return h, nil
	}
	here, below := map[string]object.TreeEntry{}, map[string]map[string]object.TreeEntry{}
	for name, e := range edits {
		first, rest, nested := strings.Cut(name, "/")
		if !nested {
			here[first] = e
			continue
		}
		if below[first] == nil {
			below[first] = map[string]object.TreeEntry{}
		}
		below[first][rest] = e
	}
	old := &object.Tree{}
	if !h.IsZero() {
		var err error
		if old, err = object.GetTree(u.s, h); err != nil {
			return plumbing.ZeroHash, asDamage(fmt.Errorf("read tree %s: %w", h, err))
		}
	}
	tree := &object.Tree{}
	files, dirs := map[string]object.TreeEntry{}, map[string]object.TreeEntry{} // of those that are named
	for _, e := range old.Entries {
		_, leaf := here[e.Name]
		switch {
		case !leaf && below[e.Name] == nil:
			tree.Entries = append(tree.Entries, e)
		case e.Mode == filemode.Dir:
			dirs[e.Name] = e
		default:
			files[e.Name] = e
		}
	}
	maps.Copy(files, here)
	for name, in := range below {
		sub, err := u.rewrite(dirs[name].Hash, path.Join(dir, name), in)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		dirs[name] = object.TreeEntry{Mode: filemode.Dir, Hash: sub}
	}
	for _, found := range []map[string]object.TreeEntry{files, dirs} {
		for name, e := range found {
			if e.Hash.IsZero() {
				continue
			}
			if !files[name].Hash.IsZero() && !dirs[name].Hash.IsZero() {
				// A file where others made a directory, or the other way.
				u.conflicts = append(u.conflicts, path.Join(dir, name))
			}
			tree.Entries = append(tree.Entries, object.TreeEntry{Name: name, Mode: e.Mode, Hash: e.Hash})
		}
	}
	if len(tree.Entries) == 0 {
		return plumbing.ZeroHash, nil
	}
	slices.SortFunc(tree.Entries, func(a, b object.TreeEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	return u.encode(tree)
}

// encode makes an object, and returns its name.
func (u *undo) encode(o interface {
	Encode(plumbing.EncodedObject) error
}) (plumbing.Hash, error) {
	m := &plumbing.MemoryObject{}
	if err := o.Encode(m); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("encode object: %w", err)
	}
	u.made = append(u.made, m)
	return m.Hash(), nil
}

// treeReader looks single files up in a tree.
type treeReader struct {
	*treeDiff
	root plumbing.Hash
	dirs map[string]map[string]object.TreeEntry // entries by path; those read so far
}

// file returns what is at a path that is no directory; zero where nothing is.
func (t *treeReader) file(name string) (object.TreeEntry, error) {
	entries, err := t.dir(path.Dir(name))
	if err != nil {
		return object.TreeEntry{}, err
	}
	e := entries[path.Base(name)]
	if e.Mode == filemode.Dir {
		return object.TreeEntry{}, nil
	}
	return fileOf(e), nil
}

func (t *treeReader) dir(name string) (map[string]object.TreeEntry, error) {
	if entries, ok := t.dirs[name]; ok {
		return entries, nil
	}
	h := t.root
	if name != "." {
		above, err := t.dir(path.Dir(name))
		if err != nil {
			return nil, err
		}
		h = plumbing.ZeroHash
		if e := above[path.Base(name)]; e.Mode == filemode.Dir {
			h = e.Hash
		}
	}
	entries, err := t.entries(h)
	if err != nil {
		return nil, err
	}
	t.dirs[name] = entries
	return entries, nil
}
