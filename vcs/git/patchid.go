package git

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/utils/diff"
	"github.com/sergi/go-diff/diffmatchpatch"

	"holdfast/vcs"
)

// maxPatchFile is the largest file whose lines are compared, in bytes. Of a
// larger one, only its content as a whole counts.
const maxPatchFile = 1 << 20

// PatchID names what changes between two commits, wherever in its files the
// change stands: a branch and the one commit that it was squashed into have
// the same. Empty where nothing changes.
func (m *Mirrors) PatchID(ctx context.Context, r vcs.Repository, from, to string) (string, error) {
	var id string
	err := m.mirror(r).read(ctx, func(s *filesystem.Storage) error {
		changes, err := compare(ctx, s, from, to)
		if err != nil || len(changes) == 0 {
			return err
		}
		slices.SortFunc(changes, func(a, b *object.Change) int {
			return strings.Compare(a.From.Name+"\x00"+a.To.Name, b.From.Name+"\x00"+b.To.Name)
		})
		sum := sha256.New()
		for _, c := range changes {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := hashChange(sum, s, c); err != nil {
				return err
			}
		}
		id = hex.EncodeToString(sum.Sum(nil))
		return nil
	})
	return id, err
}

func hashChange(sum hash.Hash, s *filesystem.Storage, c *object.Change) error {
	from, to := c.From.TreeEntry, c.To.TreeEntry
	fmt.Fprintf(sum, "file %q %o %q %o\n", c.From.Name, from.Mode, c.To.Name, to.Mode)
	before, ok1, err := textOf(s, c.From)
	if err != nil {
		return err
	}
	after, ok2, err := textOf(s, c.To)
	if err != nil {
		return err
	}
	if !ok1 || !ok2 {
		fmt.Fprintf(sum, "content %s %s\n", from.Hash, to.Hash)
		return nil
	}
	for _, d := range diff.Do(before, after) {
		switch d.Type {
		case diffmatchpatch.DiffDelete:
			fmt.Fprintf(sum, "- %q\n", d.Text)
		case diffmatchpatch.DiffInsert:
			fmt.Fprintf(sum, "+ %q\n", d.Text)
		}
	}
	return nil
}

// textOf returns a file's text; ok is false for what is no text or too large.
// A side that does not exist is an empty text.
func textOf(s *filesystem.Storage, e object.ChangeEntry) (text string, ok bool, err error) {
	if e.Name == "" {
		return "", true, nil
	}
	if !e.TreeEntry.Mode.IsFile() {
		return "", false, nil // a submodule
	}
	blob, err := s.EncodedObject(plumbing.BlobObject, e.TreeEntry.Hash)
	if err != nil {
		return "", false, asDamage(err)
	}
	if blob.Size() > maxPatchFile {
		return "", false, nil
	}
	r, err := blob.Reader()
	if err != nil {
		return "", false, asDamage(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return "", false, asDamage(err)
	}
	return string(content), !bytes.Contains(content, []byte{0}), nil
}
