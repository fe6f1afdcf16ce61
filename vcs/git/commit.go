package git

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// branchTries is how often a branch is looked at anew when somebody else moved it
// in between.
const branchTries = 3

// Commit makes a branch on the remote be one commit on top of c.Onto, which is
// named in full, must be in the mirror and at the remote; it returns the commit.
// What the branch had is replaced, as it was when it was looked at: where somebody
// moves it meanwhile it is looked at again. One that is such a commit already,
// with the same parent and the same tree, stays as it is, whatever its message.
//
// Paths that are not below the repository's root, that lead through a link or a
// submodule or to one, or that belong to Git itself are refused, and so is the
// remote's default branch. Returns vcs.ErrNothing where the files are so at c.Onto
// already, a *vcs.ConflictError for a file where there is a directory, or the
// other way, and else the errors of Fetch.
func (m *Mirrors) Commit(ctx context.Context, r vcs.Repository, remote vcs.Remote, c vcs.Commit) (sha string, err error) {
	if sha, err = m.commit(ctx, r, remote, c); err != nil {
		return "", fmt.Errorf("commit to %q in %s: %w", c.Branch, r, err)
	}
	return sha, nil
}

func (m *Mirrors) commit(ctx context.Context, r vcs.Repository, remote vcs.Remote, c vcs.Commit) (string, error) {
	ref, err := branchRef(c.Branch)
	if err != nil {
		return "", err
	}
	if c.When.IsZero() {
		c.When = m.cfg.Clock()
	}
	for range branchTries {
		var now plumbing.Hash
		if now, err = m.branchAt(ctx, remote, ref); err != nil {
			return "", err
		}
		if !now.IsZero() && !m.has(ctx, r, now) {
			if err := m.Fetch(ctx, r, remote, ref.String()); err != nil && !errors.Is(err, vcs.ErrNotFound) {
				return "", err
			}
		}
		var sha string
		if sha, err = m.replace(ctx, m.mirror(r), remote, publication{ref: ref, old: now}, c); err == nil {
			return sha, nil
		}
		if !errors.Is(err, errMoved) {
			return "", err
		}
	}
	return "", refusedBranch(ref, err)
}

// refusedBranch says that the remote does not want a branch moved.
func refusedBranch(ref plumbing.ReferenceName, err error) error {
	return &HintError{
		Err:  fmt.Errorf("the remote refuses to move the branch %s: %w", ref.Short(), err),
		hint: "look whether its rules let this token or key replace and delete branches of such a name",
	}
}

// branchAt asks the remote where a branch is; zero where it does not exist. The
// default branch is refused.
func (m *Mirrors) branchAt(ctx context.Context, remote vcs.Remote, ref plumbing.ReferenceName) (now plumbing.Hash, err error) {
	err = guard(func() error {
		l, err := m.dial(ctx, remote, false)
		if err != nil {
			return err
		}
		defer l.close()
		adv, err := l.advertised(ctx)
		if err != nil {
			return err
		}
		now = adv.refs[ref]
		return notDefault(remote, adv, ref)
	})
	return now, err
}

// notDefault refuses the branch that everything starts from.
func notDefault(remote vcs.Remote, adv advertisement, ref plumbing.ReferenceName) error {
	if ref.Short() == remote.DefaultBranch || ref == adv.head {
		return fmt.Errorf("%s is the default branch, which is never replaced", ref.Short())
	}
	return nil
}

// has reports whether the mirror has an object.
func (m *Mirrors) has(ctx context.Context, r vcs.Repository, h plumbing.Hash) bool {
	return m.mirror(r).read(ctx, func(s *filesystem.Storage) error { return s.HasEncodedObject(h) }) == nil
}

// replace moves the branch from where p found it to the commit, unless it is at
// such a commit. Returns errMoved where it is somewhere else by now.
func (m *Mirrors) replace(ctx context.Context, mi *mirror, remote vcs.Remote, p publication, c vcs.Commit) (string, error) {
	mi.writing.Lock()
	defer mi.writing.Unlock()
	same := false
	err := mi.read(ctx, func(s *filesystem.Storage) error {
		u := &undo{ctx: ctx, s: s}
		if err := u.write(c); err != nil {
			return err
		}
		p.made = u.made
		there, err := object.GetCommit(s, p.old)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return nil // there is none, or it went away meanwhile
		}
		if err != nil {
			return asDamage(err)
		}
		same = there.TreeHash == u.root && len(there.ParentHashes) == 1 && there.ParentHashes[0] == u.parent
		return nil
	})
	if err != nil {
		return "", err
	}
	s := openStorage(mi.dir, m.objects)
	defer s.Close()
	if same {
		return p.old.String(), guard(func() error { return mi.setRef(s, p.ref, p.old) })
	}
	err = guard(func() error { return m.publish(ctx, mi, s, remote, p) })
	if errors.Is(err, vcs.ErrDenied) {
		err = pushDenied()
	}
	return p.tip().String(), err
}

// pushDenied says that the credentials are for reading.
func pushDenied() error {
	return &HintError{
		Err:  fmt.Errorf("%w: the remote lets these credentials push nothing", vcs.ErrDenied),
		hint: "check the user name and token, or the SSH key, and that they may push branches",
	}
}

// DeleteBranch deletes a branch at the remote, wherever it is. One that is not
// there is no error. The remote's default branch is refused. Errors are as those
// of Fetch.
func (m *Mirrors) DeleteBranch(ctx context.Context, r vcs.Repository, remote vcs.Remote, branch string) error {
	ref, err := branchRef(branch)
	if err == nil {
		for range branchTries {
			err = guard(func() error { return m.deleteBranch(ctx, m.mirror(r), remote, ref) })
			if !errors.Is(err, errMoved) {
				break
			}
		}
	}
	switch {
	case errors.Is(err, errMoved):
		err = refusedBranch(ref, err)
	case errors.Is(err, vcs.ErrDenied):
		err = pushDenied()
	}
	if err != nil {
		return fmt.Errorf("delete branch %q of %s: %w", branch, r, err)
	}
	return nil
}

func (m *Mirrors) deleteBranch(ctx context.Context, mi *mirror, remote vcs.Remote, ref plumbing.ReferenceName) error {
	mi.writing.Lock()
	defer mi.writing.Unlock()
	l, err := m.dial(ctx, remote, true)
	if err != nil {
		return err
	}
	defer l.close()
	adv, err := l.advertised(ctx)
	if err != nil {
		return err
	}
	if err := notDefault(remote, adv, ref); err != nil {
		return err
	}
	if now := adv.refs[ref]; !now.IsZero() {
		if err := l.push(ctx, nil, packp.Command{Name: ref, Old: now}, nil); err != nil {
			return err
		}
	}
	err = mi.read(ctx, func(*filesystem.Storage) error { return nil })
	if errors.Is(err, vcs.ErrNotFound) {
		return nil // never fetched
	}
	if err != nil {
		return err
	}
	s := openStorage(mi.dir, m.objects)
	defer s.Close()
	return mi.setRef(s, ref, plumbing.ZeroHash)
}

// write makes the objects of the commit that has the files.
func (u *undo) write(c vcs.Commit) error {
	onto, err := commitAt(u.s, c.Onto)
	if err != nil {
		return err
	}
	u.edits = map[string]object.TreeEntry{}
	tree := &treeReader{treeDiff: &treeDiff{s: u.s}, dirs: map[string]map[string]object.TreeEntry{}, root: onto.TreeHash}
	for name, content := range c.Files {
		if err := u.ctx.Err(); err != nil {
			return context.Cause(u.ctx)
		}
		there, err := tree.writable(name)
		if err != nil {
			return err
		}
		if content == nil {
			if there.Mode == filemode.Dir {
				return fmt.Errorf("path %q is a directory", name)
			}
			u.edits[name] = object.TreeEntry{}
			continue
		}
		e := object.TreeEntry{Mode: filemode.Regular}
		if there.Mode.IsFile() {
			e.Mode = there.Mode
		}
		if e.Hash, err = u.blob(content); err != nil {
			return err
		}
		u.edits[name] = e
	}
	return u.finish(onto, c.Message, c.When)
}

// writable returns the file at a path; zero where there is none. It refuses a path
// that no ordinary file can be at.
func (t *treeReader) writable(name string) (object.TreeEntry, error) {
	refused := func(reason string) (object.TreeEntry, error) {
		return object.TreeEntry{}, fmt.Errorf("path %q %s", name, reason)
	}
	parts := strings.Split(name, "/")
	if len(parts) > maxDepth {
		return refused("lies too deep")
	}
	for _, part := range parts {
		if reason := unsafeName(part); reason != "" {
			return refused(reason)
		}
	}
	for i, part := range parts {
		entries, err := t.dir(path.Join(".", path.Join(parts[:i]...)))
		if err != nil {
			return object.TreeEntry{}, err
		}
		e, last := entries[part], i == len(parts)-1
		switch {
		case e.Mode == filemode.Symlink:
			return refused("has a link in it")
		case e.Mode == filemode.Submodule:
			return refused("has a submodule in it")
		case last:
			return fileOf(e), nil
		case e.Mode != filemode.Dir:
			return object.TreeEntry{}, nil
		}
	}
	return object.TreeEntry{}, nil
}
