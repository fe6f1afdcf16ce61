package git

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/memory"

	"holdfast/vcs"
)

// signature is what Holdfast signs its own commits with.
func signature(at time.Time) object.Signature {
	return object.Signature{Name: "Holdfast", Email: "holdfast@localhost", When: at.UTC()}
}

// publication is a ref that is to lead to a new commit.
type publication struct {
	ref  plumbing.ReferenceName
	old  plumbing.Hash            // what the ref must be at the remote; zero where it must not exist
	made []plumbing.EncodedObject // new objects, the commit last
	sent []plumbing.Hash          // objects of the mirror to send along, should the remote lack them
}

func (p publication) tip() plumbing.Hash { return p.made[len(p.made)-1].Hash() }

// movedError is errMoved where the remote said what the ref is now.
type movedError struct {
	at plumbing.Hash // zero where it does not exist
}

func (e *movedError) Error() string { return errMoved.Error() }
func (e *movedError) Unwrap() error { return errMoved }

// publish writes new objects to the mirror and to the remote, and moves the ref
// in both. Never blindly: where the ref is not what it was taken for this is
// errMoved, and a *movedError if nothing was sent. The caller holds the
// mirror's writing.
func (m *Mirrors) publish(ctx context.Context, mi *mirror, s *filesystem.Storage, remote vcs.Remote, p publication) error {
	l, err := m.dial(ctx, remote, true)
	if err != nil {
		return err
	}
	defer l.close()
	adv, err := l.advertised(ctx)
	if err != nil {
		return err
	}
	if now := adv.refs[p.ref]; now != p.old {
		return &movedError{now}
	}
	if err := mi.add(s, p.made); err != nil {
		return err
	}
	send := slices.Clone(p.sent)
	for _, o := range p.made {
		send = append(send, o.Hash())
	}
	if err := l.push(ctx, s, packp.Command{Name: p.ref, Old: p.old, New: p.tip()}, unique(send)); err != nil {
		return err
	}
	return mi.setRef(s, p.ref, p.tip())
}

// unique drops repetitions: no pack has an object twice.
func unique(hashes []plumbing.Hash) []plumbing.Hash {
	slices.SortFunc(hashes, func(a, b plumbing.Hash) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(hashes)
}

// add writes objects to the mirror as one pack, the last of them leading to all
// others. Nothing is written where the mirror has that one.
func (mi *mirror) add(s *filesystem.Storage, made []plumbing.EncodedObject) error {
	if s.HasEncodedObject(made[len(made)-1].Hash()) == nil {
		return nil
	}
	mem := memory.NewStorage()
	var hashes []plumbing.Hash
	for _, o := range made {
		h, err := mem.SetEncodedObject(o)
		if err != nil {
			return fmt.Errorf("write objects: %w", err)
		}
		hashes = append(hashes, h)
	}
	mi.files.Lock()
	defer mi.files.Unlock()
	if err := copyObjects(s, mem, unique(hashes)); err != nil {
		return fmt.Errorf("write objects: %w", err)
	}
	s.Reindex()
	mi.changed()
	return nil
}

// setRef moves one ref of the mirror; to nothing, it removes it.
func (mi *mirror) setRef(s *filesystem.Storage, name plumbing.ReferenceName, h plumbing.Hash) error {
	mi.files.Lock()
	defer mi.files.Unlock()
	all, err := refs(s)
	if err != nil {
		return err
	}
	if h.IsZero() {
		delete(all, name)
	} else {
		all[name] = h
	}
	if err := writeRefs(mi.dir, "", all); err != nil {
		return fmt.Errorf("write refs: %w", err)
	}
	mi.changed()
	return nil
}
