package git

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// AddFile makes a branch on the remote whose one commit, on top of f.Onto, has a
// file of that content; it returns the commit. Returns vcs.ErrExists where the
// branch is there with something else, and vcs.ErrNothing where the file is there
// with that content. Doing it again with the same f.When is a success.
func (m *Mirrors) AddFile(ctx context.Context, r vcs.Repository, remote vcs.Remote, f vcs.NewFile) (string, error) {
	sha, err := m.addFile(ctx, m.mirror(r), remote, f)
	if err != nil {
		return "", fmt.Errorf("add %s to %s: %w", f.Path, r, err)
	}
	return sha, nil
}

func (m *Mirrors) addFile(ctx context.Context, mi *mirror, remote vcs.Remote, f vcs.NewFile) (string, error) {
	ref := plumbing.NewBranchReferenceName(f.Branch)
	if ref.Validate() != nil || len(f.Branch) > 200 {
		return "", fmt.Errorf("%q is not a name for a branch", f.Branch)
	}
	if f.When.IsZero() {
		f.When = m.cfg.Clock()
	}
	mi.writing.Lock()
	defer mi.writing.Unlock()
	p := publication{ref: ref}
	err := mi.read(ctx, func(s *filesystem.Storage) error {
		u := &undo{ctx: ctx, s: s}
		err := u.add(f)
		p.made = u.made
		return err
	})
	if err != nil {
		return "", err
	}
	return p.tip().String(), m.publishBranch(ctx, mi, remote, p)
}

// add makes the objects of the commit that has the file.
func (u *undo) add(f vcs.NewFile) error {
	onto, err := commitAt(u.s, f.Onto)
	if err != nil {
		return err
	}
	blob := &plumbing.MemoryObject{}
	blob.SetType(plumbing.BlobObject)
	if _, err := blob.Write([]byte(f.Content)); err != nil {
		return err
	}
	u.made = append(u.made, blob)
	root, err := u.rewrite(onto.TreeHash, "", map[string]object.TreeEntry{f.Path: {Mode: filemode.Regular, Hash: blob.Hash()}})
	switch {
	case err != nil:
		return err
	case len(u.conflicts) > 0:
		return &vcs.ConflictError{Paths: u.conflicts}
	case root == onto.TreeHash:
		return vcs.ErrNothing
	}
	by := signature(f.When)
	_, err = u.encode(&object.Commit{
		Author: by, Committer: by, TreeHash: root, ParentHashes: []plumbing.Hash{onto.Hash},
		Message: strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(f.Message, "\uFFFD"), "\x00", "")) + "\n",
	})
	return err
}
