package git

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// deltaWindow is how many objects are tried as a delta's base, Git's own
// default.
const deltaWindow = 10

// joinPacks writes one pack with what the given ones hold, then removes them.
// A process that is killed between the two leaves an object twice, which is
// harmless.
func joinPacks(s *filesystem.Storage, dir string, packs []plumbing.Hash) error {
	seen := map[plumbing.Hash]bool{}
	var objects []plumbing.Hash
	for _, h := range packs {
		names, err := packObjects(filepath.Join(dir, "objects", "pack", "pack-"+h.String()+".idx"))
		if err != nil {
			return asDamage(err)
		}
		for _, name := range names {
			if !seen[name] {
				seen[name] = true
				objects = append(objects, name)
			}
		}
	}
	from := openStorage(dir, cache.NewObjectLRUDefault()) // s is busy writing
	defer from.Close()
	pr, pw := io.Pipe()
	joined := make(chan plumbing.Hash, 1)
	go func() {
		h, err := packfile.NewEncoder(pw, from, false).Encode(objects, deltaWindow)
		_ = pw.CloseWithError(err)
		joined <- h
	}()
	err := packfile.WritePackfileToObjectStorage(s, pr)
	_ = pr.CloseWithError(err)
	written := <-joined
	if err != nil {
		return err
	}
	for _, h := range packs {
		if h == written {
			continue
		}
		if err := s.DeleteOldObjectPackAndIndex(h, time.Time{}); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	s.Reindex()
	return nil
}

// packObjects lists the objects of a pack by its index.
func packObjects(path string) ([]plumbing.Hash, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	idx := idxfile.NewMemoryIndex()
	if err := idxfile.NewDecoder(bufio.NewReader(f)).Decode(idx); err != nil {
		return nil, err
	}
	entries, err := idx.Entries()
	if err != nil {
		return nil, err
	}
	defer entries.Close()
	var names []plumbing.Hash
	for {
		e, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		names = append(names, e.Hash)
	}
}
