package git

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-billy/v5/osfs"
	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// localLink reads a repository on this machine's disk. go-git's own transport
// for that starts git-upload-pack, which need not be installed, and its server
// walks the whole history at every fetch: here, both sides are at hand, and
// only what is missing is looked at.
type localLink struct {
	there storage.Storer
}

func openLocal(path string) (link, error) {
	repo, err := gogit.PlainOpenWithOptions(path, &gogit.PlainOpenOptions{EnableDotGitCommonDir: true})
	if errors.Is(err, gogit.ErrRepositoryNotExists) {
		return nil, &HintError{
			Err:  fmt.Errorf("%w: %s is not a Git repository", vcs.ErrNotFound, path),
			hint: "give the directory with the repository's files, or a bare repository",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", path, err)
	}
	opened, ok := repo.Storer.(*filesystem.Storage)
	if !ok {
		return &localLink{there: repo.Storer}, nil
	}
	// go-git opens the pack anew for each object unless it is told to keep it.
	there := filesystem.NewStorageWithOptions(opened.Filesystem(), cache.NewObjectLRUDefault(), filesystem.Options{
		KeepDescriptors: true,
		AlternatesFS:    osfs.New("/"),
	})
	return &localLink{there: there}, nil
}

func (l *localLink) close() error {
	if c, ok := l.there.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (l *localLink) advertised(ctx context.Context) (advertisement, error) {
	a := advertisement{refs: map[plumbing.ReferenceName]plumbing.Hash{}, exact: true}
	iter, err := l.there.IterReferences()
	if err != nil {
		return a, fmt.Errorf("read the remote's refs: %w", err)
	}
	err = iter.ForEach(func(ref *plumbing.Reference) error {
		if ref.Type() == plumbing.HashReference && ref.Name() != plumbing.HEAD && ref.Name().Validate() == nil {
			a.refs[ref.Name()] = ref.Hash()
		}
		return ctx.Err()
	})
	if err != nil {
		return a, fmt.Errorf("read the remote's refs: %w", err)
	}
	head, err := l.there.Reference(plumbing.HEAD)
	switch {
	case errors.Is(err, plumbing.ErrReferenceNotFound):
	case err != nil:
		return a, fmt.Errorf("read the remote's HEAD: %w", err)
	case head.Type() == plumbing.SymbolicReference && head.Target().IsBranch():
		a.head = head.Target()
	case head.Type() == plumbing.HashReference:
		a.head = guessHead(head.Hash(), a.refs)
	}
	return a, nil
}

func (l *localLink) fetch(ctx context.Context, into *filesystem.Storage, wants, _ []plumbing.Hash) error {
	missing, err := missingObjects(ctx, l.there, into, wants)
	if err != nil {
		return fmt.Errorf("read the remote's objects: %w", err)
	}
	if err := copyObjects(into, l.there, missing); err != nil {
		return fmt.Errorf("copy the remote's objects: %w", err)
	}
	return nil
}

func (l *localLink) push(_ context.Context, from *filesystem.Storage, cmd packp.Command, objects []plumbing.Hash) error {
	for _, h := range objects {
		o, err := from.EncodedObject(plumbing.AnyObject, h)
		if err != nil {
			return fmt.Errorf("read object to push: %w", err)
		}
		if _, err := l.there.SetEncodedObject(o); err != nil {
			return fmt.Errorf("write object to the remote: %w", err)
		}
	}
	now, err := l.there.Reference(cmd.Name)
	switch {
	case errors.Is(err, plumbing.ErrReferenceNotFound):
		if !cmd.Old.IsZero() {
			return errMoved
		}
	case err != nil:
		return fmt.Errorf("read the remote's ref: %w", err)
	case now.Hash() != cmd.Old:
		return errMoved
	}
	if cmd.New.IsZero() {
		if err := l.there.RemoveReference(cmd.Name); err != nil {
			return fmt.Errorf("remove the remote's ref: %w", err)
		}
		return nil
	}
	var old *plumbing.Reference
	if !cmd.Old.IsZero() {
		old = plumbing.NewHashReference(cmd.Name, cmd.Old)
	}
	err = l.there.CheckAndSetReference(plumbing.NewHashReference(cmd.Name, cmd.New), old)
	if errors.Is(err, storage.ErrReferenceHasChanged) {
		return errMoved
	}
	if err != nil {
		return fmt.Errorf("move the remote's ref: %w", err)
	}
	return nil
}

// missingObjects lists what wants lead to in there and is not here. It stops
// at what is here, for whatever is in a mirror is there with all that it leads
// to.
func missingObjects(ctx context.Context, there storer.EncodedObjectStorer, here storer.EncodedObjectStorer, wants []plumbing.Hash) ([]plumbing.Hash, error) {
	seen := map[plumbing.Hash]bool{}
	var missing []plumbing.Hash
	// note adds h, and reports whether it has to be looked into.
	note := func(h plumbing.Hash) bool {
		if seen[h] {
			return false
		}
		seen[h] = true
		if here.HasEncodedObject(h) == nil {
			return false
		}
		missing = append(missing, h)
		return true
	}
	var todo []plumbing.Hash
	push := func(h plumbing.Hash) {
		if note(h) {
			todo = append(todo, h)
		}
	}
	for _, h := range wants {
		push(h)
	}
	for len(todo) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		o, err := object.GetObject(there, h)
		if err != nil {
			return nil, fmt.Errorf("object %s: %w", h, err)
		}
		switch o := o.(type) {
		case *object.Commit:
			push(o.TreeHash)
			for _, p := range o.ParentHashes {
				push(p)
			}
		case *object.Tag:
			push(o.Target)
		case *object.Tree:
			for _, e := range o.Entries {
				switch e.Mode {
				case filemode.Submodule:
				case filemode.Dir:
					push(e.Hash)
				default:
					note(e.Hash)
				}
			}
		}
	}
	return missing, nil
}

// copyObjects writes objects of from into a single pack, so that all of them
// appear at once.
func copyObjects(into storer.PackfileWriter, from storer.EncodedObjectStorer, objects []plumbing.Hash) error {
	if len(objects) == 0 {
		return nil
	}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := packfile.NewEncoder(pw, from, false).Encode(objects, 0)
		_ = pw.CloseWithError(err)
	}()
	err := packfile.WritePackfileToObjectStorage(into, pr)
	_ = pr.CloseWithError(err)
	<-done
	return err
}
