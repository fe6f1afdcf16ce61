package gittest

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// entry is a file in a tree.
type entry struct {
	mode filemode.FileMode
	hash plumbing.Hash
}

// tree is a whole commit's files by slash-separated path, without directories:
// Git has none either.
type tree map[string]entry

func readTree(s storer.EncodedObjectStorer, commit plumbing.Hash) (tree, error) {
	c, err := object.GetCommit(s, commit)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", commit, err)
	}
	t, err := c.Tree()
	if err != nil {
		return nil, fmt.Errorf("read tree of %s: %w", commit, err)
	}
	files := tree{}
	w := object.NewTreeWalker(t, true, nil)
	defer w.Close()
	for {
		name, e, err := w.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("walk tree of %s: %w", commit, err)
		}
		if e.Mode != filemode.Dir {
			files[name] = entry{mode: e.Mode, hash: e.Hash}
		}
	}
}

// write stores the tree objects, innermost first, and returns the root's.
func (t tree) write(s storer.EncodedObjectStorer) (plumbing.Hash, error) {
	here := &object.Tree{}
	below := map[string]tree{}
	for p, e := range t {
		dir, rest, nested := strings.Cut(p, "/")
		if !nested {
			here.Entries = append(here.Entries, object.TreeEntry{Name: p, Mode: e.mode, Hash: e.hash})
			continue
		}
		if _, clash := t[dir]; clash {
			return plumbing.ZeroHash, fmt.Errorf("write tree: %s is both a file and a directory", dir)
		}
		if below[dir] == nil {
			below[dir] = tree{}
		}
		below[dir][rest] = e
	}
	for name, sub := range below {
		h, err := sub.write(s)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		here.Entries = append(here.Entries, object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: h})
	}
	sort.Sort(object.TreeEntrySorter(here.Entries))
	return store(s, here)
}

type commitMeta struct {
	message string
	author  string
	parents []plumbing.Hash
}

func (r *Repo) writeCommit(g *git.Repository, files tree, m commitMeta) (plumbing.Hash, error) {
	root, err := files.write(g.Storer)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	sig := r.signature(m.author)
	if m.message == "" {
		m.message = "change"
	}
	return store(g.Storer, &object.Commit{
		Author: sig, Committer: sig, Message: m.message, TreeHash: root, ParentHashes: m.parents,
	})
}

func (r *Repo) signature(author string) object.Signature {
	if author == "" {
		author = r.Author
	}
	if author == "" {
		author = "test"
	}
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	return object.Signature{Name: author, Email: author + "@example.com", When: now()}
}

type encodable interface {
	Encode(plumbing.EncodedObject) error
}

func store(s storer.EncodedObjectStorer, o encodable) (plumbing.Hash, error) {
	obj := s.NewEncodedObject()
	if err := o.Encode(obj); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("encode object: %w", err)
	}
	h, err := s.SetEncodedObject(obj)
	if err != nil {
		return h, fmt.Errorf("write object: %w", err)
	}
	return h, nil
}

func writeBlob(s storer.EncodedObjectStorer, content string) (plumbing.Hash, error) {
	obj := s.NewEncodedObject()
	obj.SetType(plumbing.BlobObject)
	w, err := obj.Writer()
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("write blob: %w", err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("write blob: %w", err)
	}
	if err := w.Close(); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("write blob: %w", err)
	}
	h, err := s.SetEncodedObject(obj)
	if err != nil {
		return h, fmt.Errorf("write blob: %w", err)
	}
	return h, nil
}

func readBlob(b *object.Blob) (string, error) {
	rc, err := b.Reader()
	if err != nil {
		return "", err
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	return string(data), err
}
