package git

import (
	"context"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// AddFile makes a branch on the remote whose one commit, on top of f.Onto, has a
// file of that content; it returns the commit. Returns vcs.ErrExists where the
// branch is there with something else, and vcs.ErrNothing where the file is there
// with that content. Doing it again with the same f.When is a success. Paths are
// refused as by Commit.
func (m *Mirrors) AddFile(ctx context.Context, r vcs.Repository, remote vcs.Remote, f vcs.NewFile) (string, error) {
	sha, err := m.addFile(ctx, m.mirror(r), remote, f)
	if err != nil {
		return "", fmt.Errorf("add %s to %s: %w", f.Path, r, err)
	}
	return sha, nil
}

func (m *Mirrors) addFile(ctx context.Context, mi *mirror, remote vcs.Remote, f vcs.NewFile) (string, error) {
	ref, err := branchRef(f.Branch)
	if err != nil {
		return "", err
	}
	if f.When.IsZero() {
		f.When = m.cfg.Clock()
	}
	mi.writing.Lock()
	defer mi.writing.Unlock()
	p := publication{ref: ref}
	err = mi.read(ctx, func(s *filesystem.Storage) error {
		u := &undo{ctx: ctx, s: s}
		err := u.write(vcs.Commit{Onto: f.Onto, Files: map[string][]byte{f.Path: []byte(f.Content)}, Message: f.Message, When: f.When})
		p.made = u.made
		return err
	})
	if err != nil {
		return "", err
	}
	return p.tip().String(), m.publishBranch(ctx, mi, remote, p)
}

// branchRef is the ref of a branch that Holdfast makes.
func branchRef(branch string) (plumbing.ReferenceName, error) {
	ref := plumbing.NewBranchReferenceName(branch)
	if ref.Validate() != nil || len(branch) > 200 {
		return "", fmt.Errorf("%q is not a name for a branch", branch)
	}
	return ref, nil
}
