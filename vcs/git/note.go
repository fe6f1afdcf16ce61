package git

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// NotesRef is where WriteNote writes: show it with
// "git log --notes=holdfast".
const NotesRef = "refs/notes/holdfast"

// noteTries is how often a note is written anew when somebody else wrote one
// in between.
const noteTries = 5

// WriteNote sets the note of a commit in NotesRef, replacing what it was, and
// pushes it: one commit on that ref per change, none where the text is there
// already. The commit need not exist. Errors are as those of Fetch.
func (m *Mirrors) WriteNote(ctx context.Context, r vcs.Repository, remote vcs.Remote, sha, text string) error {
	if !isSHA(sha) {
		return fmt.Errorf("write note: %w: %q is not a commit's full name", vcs.ErrNotFound, sha)
	}
	var err error
	for range noteTries {
		err = m.Fetch(ctx, r, remote, NotesRef)
		if err != nil && (!errors.Is(err, vcs.ErrNotFound) || !m.fetched(ctx, r)) {
			return fmt.Errorf("write note: %w", err)
		}
		err = guard(func() error { return m.tryNote(ctx, m.mirror(r), remote, sha, text) })
		if !errors.Is(err, errMoved) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("write note: %w", err)
	}
	return nil
}

// fetched reports whether r has a mirror: then what was not found is the ref
// alone.
func (m *Mirrors) fetched(ctx context.Context, r vcs.Repository) bool {
	return m.mirror(r).read(ctx, func(*filesystem.Storage) error { return nil }) == nil
}

// Note returns the note of a commit as of the last fetch of NotesRef.
// vcs.ErrNotFound where it has none.
func (m *Mirrors) Note(ctx context.Context, r vcs.Repository, sha string) (text string, err error) {
	err = m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		n, err := readNotes(s)
		if err != nil {
			return err
		}
		if text, err = n.text(s, sha); err != nil {
			return err
		}
		if text == "" {
			return fmt.Errorf("%w: commit %s has no note", vcs.ErrNotFound, sha)
		}
		return nil
	})
	return text, err
}

func (m *Mirrors) tryNote(ctx context.Context, mi *mirror, remote vcs.Remote, sha, text string) error {
	mi.writing.Lock()
	defer mi.writing.Unlock()
	s := openStorage(mi.dir, m.objects)
	defer s.Close()
	var n notes
	var made []plumbing.EncodedObject
	err := guard(func() (err error) {
		if n, err = readNotes(s); err != nil {
			return err
		}
		old, err := n.text(s, sha)
		if err != nil || old == text && text != "" {
			return err
		}
		made, err = n.set(sha, text, m.cfg.Clock())
		return err
	})
	if err != nil || len(made) == 0 {
		return err
	}
	return m.publish(ctx, mi, s, remote, publication{ref: NotesRef, old: n.tip, made: made})
}

// notes is the content of NotesRef: the notes' blobs by commit. Git may spread
// them over directories; they are read so, and written flat.
type notes struct {
	tip    plumbing.Hash // zero where there are none yet
	blobs  map[string]plumbing.Hash
	others []object.TreeEntry // what is no note
}

func readNotes(s *filesystem.Storage) (notes, error) {
	n := notes{blobs: map[string]plumbing.Hash{}}
	ref, err := s.Reference(NotesRef)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return n, nil
	}
	if err != nil {
		return n, asDamage(err)
	}
	n.tip = ref.Hash()
	c, err := object.GetCommit(s, n.tip)
	if err != nil {
		return n, asDamage(err)
	}
	return n, n.collect(s, c.TreeHash, "")
}

func (n *notes) collect(s *filesystem.Storage, tree plumbing.Hash, prefix string) error {
	t, err := object.GetTree(s, tree)
	if err != nil {
		return asDamage(err)
	}
	for _, e := range t.Entries {
		name := prefix + e.Name
		switch {
		case e.Mode == filemode.Dir && len(e.Name) == 2 && len(name) < 40:
			if err := n.collect(s, e.Hash, name); err != nil {
				return err
			}
		case e.Mode != filemode.Dir && isSHA(name):
			n.blobs[name] = e.Hash
		case prefix == "":
			n.others = append(n.others, e)
		}
	}
	return nil
}

// text returns the note of a commit; empty where it has none.
func (n notes) text(s *filesystem.Storage, sha string) (string, error) {
	h, ok := n.blobs[sha]
	if !ok {
		return "", nil
	}
	blob, err := object.GetBlob(s, h)
	if err != nil {
		return "", asDamage(err)
	}
	text, err := (&object.File{Blob: *blob}).Contents()
	return text, asDamage(err)
}

// set returns the new objects that give a commit its note, the notes' commit
// last.
func (n notes) set(sha, text string, now time.Time) ([]plumbing.EncodedObject, error) {
	blob := &plumbing.MemoryObject{}
	blob.SetType(plumbing.BlobObject)
	if _, err := blob.Write([]byte(text)); err != nil {
		return nil, err
	}
	n.blobs[sha] = blob.Hash()
	tree := &object.Tree{Entries: slices.Clone(n.others)}
	for _, name := range slices.Sorted(maps.Keys(n.blobs)) {
		tree.Entries = append(tree.Entries, object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: n.blobs[name]})
	}
	slices.SortFunc(tree.Entries, func(a, b object.TreeEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	treeObject := &plumbing.MemoryObject{}
	if err := tree.Encode(treeObject); err != nil {
		return nil, fmt.Errorf("encode notes: %w", err)
	}
	by := signature(now)
	c := &object.Commit{
		Author: by, Committer: by,
		Message:  "Report on " + sha + "\n",
		TreeHash: treeObject.Hash(),
	}
	if !n.tip.IsZero() {
		c.ParentHashes = []plumbing.Hash{n.tip}
	}
	commitObject := &plumbing.MemoryObject{}
	if err := c.Encode(commitObject); err != nil {
		return nil, fmt.Errorf("encode notes: %w", err)
	}
	return []plumbing.EncodedObject{blob, treeObject, commitObject}, nil
}

// sortName is what Git sorts a tree's entries by.
func sortName(e object.TreeEntry) string {
	if e.Mode == filemode.Dir {
		return e.Name + "/"
	}
	return e.Name
}
