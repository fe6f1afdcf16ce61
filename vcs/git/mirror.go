package git

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// mirror is a bare repository with another one's branches. It has no remote in
// its configuration and nothing but packed refs: the refs of a fetch appear
// all at once, by one rename.
type mirror struct {
	repo    vcs.Repository
	dir     string
	objects cache.Object

	// writing is held while the mirror is fetched into or pushed from.
	writing sync.Mutex
	// files is held by readers, and alone while packs, refs or the whole
	// directory are replaced. Never for as long as the network takes.
	files sync.RWMutex
	// damaged is set by whoever found an object unreadable; the next fetch
	// then makes the mirror anew.
	damaged atomic.Bool

	idle idleStorages
	line fetchLine
}

// damageError is a mirror that does not hold what it should.
type damageError struct{ err error }

func (e *damageError) Error() string {
	return "the mirror is damaged and will be made anew by the next fetch: " + e.err.Error()
}
func (e *damageError) Unwrap() error { return e.err }

// asDamage marks the error of reading an object that must be there. What the
// system says (too many open files, no permission) is not the mirror's fault.
func asDamage(err error) error {
	if err == nil {
		return nil
	}
	var sys *os.PathError
	if errors.As(err, &sys) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return &damageError{err}
}

// slug is a directory name for r: readable, and unlike that of any other
// repository even where letter case does not count.
func slug(r vcs.Repository) string {
	sum := sha256.Sum256([]byte(r.String()))
	readable := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
			return c
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		}
		return '-'
	}, r.String())
	if len(readable) > 80 {
		readable = readable[len(readable)-80:]
	}
	return strings.TrimLeft(readable, ".-") + "-" + hex.EncodeToString(sum[:6])
}

// initBare makes an empty bare repository.
func initBare(dir string) error {
	for _, d := range []string{"objects/info", "objects/pack", "refs/heads", "refs/tags"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		"HEAD":        "ref: refs/heads/main\n",
		"config":      "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
		"packed-refs": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// openStorage opens a bare repository's objects and refs. A storage serves one
// goroutine at a time; objects may be shared.
func openStorage(dir string, objects cache.Object) *filesystem.Storage {
	return filesystem.NewStorageWithOptions(osfs.New(dir), objects, filesystem.Options{KeepDescriptors: true})
}

// idleStorages keeps opened storages, so that the packs' indexes are not read
// again for every question.
type idleStorages struct {
	mu         sync.Mutex
	generation int
	free       []*filesystem.Storage
}

// maxIdle bounds the open files per mirror.
const maxIdle = 4

func (m *mirror) take() (*filesystem.Storage, int) {
	m.idle.mu.Lock()
	defer m.idle.mu.Unlock()
	if n := len(m.idle.free); n > 0 {
		s := m.idle.free[n-1]
		m.idle.free = m.idle.free[:n-1]
		return s, m.idle.generation
	}
	return openStorage(m.dir, m.objects), m.idle.generation
}

func (m *mirror) give(s *filesystem.Storage, generation int) {
	m.idle.mu.Lock()
	defer m.idle.mu.Unlock()
	if generation != m.idle.generation || len(m.idle.free) >= maxIdle {
		_ = s.Close() // opened for reading
		return
	}
	m.idle.free = append(m.idle.free, s)
}

// changed tells later readers that packs came or went.
func (m *mirror) changed() {
	m.idle.mu.Lock()
	defer m.idle.mu.Unlock()
	m.idle.generation++
	for _, s := range m.idle.free {
		_ = s.Close() // opened for reading
	}
	m.idle.free = nil
}

// read calls fn with the mirror's content, which does not change meanwhile.
func (m *mirror) read(ctx context.Context, fn func(*filesystem.Storage) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	m.files.RLock()
	defer m.files.RUnlock()
	if _, err := os.Stat(filepath.Join(m.dir, "HEAD")); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: repository %s was not fetched yet", vcs.ErrNotFound, m.repo)
	} else if err != nil {
		return fmt.Errorf("open mirror: %w", err)
	}
	return m.use(fn)
}

// use calls fn with a storage of its own. The caller holds files.
func (m *mirror) use(fn func(*filesystem.Storage) error) error {
	s, generation := m.take()
	defer m.give(s, generation)
	err := guard(func() error { return fn(s) })
	var damage *damageError
	if errors.As(err, &damage) {
		m.damaged.Store(true)
	}
	return err
}

// guard turns a panic into an error: what go-git decodes comes from outside.
func guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &damageError{fmt.Errorf("reading Git data panicked: %v", p)}
		}
	}()
	return fn()
}

// commitAt returns a commit by its full name, or that which a tag of this name
// leads to.
func commitAt(s *filesystem.Storage, sha string) (*object.Commit, error) {
	if !isSHA(sha) {
		return nil, fmt.Errorf("%w: %q is not a commit's full name", vcs.ErrNotFound, sha)
	}
	return peel(s, plumbing.NewHash(sha))
}

func peel(s *filesystem.Storage, h plumbing.Hash) (*object.Commit, error) {
	for range 10 { // tags of tags
		o, err := s.EncodedObject(plumbing.AnyObject, h)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return nil, fmt.Errorf("%w: commit %s is not in the mirror", vcs.ErrNotFound, h)
		}
		if err != nil {
			return nil, asDamage(err)
		}
		switch o.Type() {
		case plumbing.CommitObject:
			c, err := object.DecodeCommit(s, o)
			return c, asDamage(err)
		case plumbing.TagObject:
			t, err := object.DecodeTag(s, o)
			if err != nil {
				return nil, asDamage(err)
			}
			h = t.Target
		default:
			return nil, fmt.Errorf("%w: %s is a %s, not a commit", vcs.ErrNotFound, h, o.Type())
		}
	}
	return nil, fmt.Errorf("%w: %s is a tag of too many tags", vcs.ErrNotFound, h)
}

// isSHA reports whether s is a full object name in lower case.
func isSHA(s string) bool {
	return len(s) == 40 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'f')
	})
}

// refs reads the mirror's refs.
func refs(s *filesystem.Storage) (map[plumbing.ReferenceName]plumbing.Hash, error) {
	all := map[plumbing.ReferenceName]plumbing.Hash{}
	iter, err := s.IterReferences()
	if err != nil {
		return nil, asDamage(err)
	}
	err = iter.ForEach(func(ref *plumbing.Reference) error {
		if ref.Type() == plumbing.HashReference && ref.Name() != plumbing.HEAD {
			all[ref.Name()] = ref.Hash()
		}
		return nil
	})
	return all, asDamage(err)
}

// writeRefs replaces the refs of the repository in dir, all at once.
func writeRefs(dir string, head plumbing.ReferenceName, all map[plumbing.ReferenceName]plumbing.Hash) error {
	names := make([]plumbing.ReferenceName, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString("# pack-refs with: sorted\n")
	for _, name := range names {
		fmt.Fprintf(&b, "%s %s\n", all[name], name)
	}
	if err := replaceFile(filepath.Join(dir, "packed-refs"), b.String()); err != nil {
		return err
	}
	if head == "" {
		return nil
	}
	return replaceFile(filepath.Join(dir, "HEAD"), "ref: "+head.String()+"\n")
}

// replaceFile writes a file so that it has either the old or the new content,
// after a power cut too.
func replaceFile(path, content string) error {
	f, err := os.CreateTemp(filepath.Dir(path), scratchPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// verify looks for what a killed process or a power cut does to a mirror:
// packs that end early, indexes that do not read, refs that lead nowhere.
func verify(dir string, s *filesystem.Storage) error {
	packs, err := s.ObjectPacks()
	if err != nil {
		return asDamage(err)
	}
	for _, h := range packs {
		if err := verifyPack(filepath.Join(dir, "objects", "pack", "pack-"+h.String()+".pack"), h); err != nil {
			return asDamage(fmt.Errorf("pack %s: %w", h, err))
		}
	}
	all, err := refs(s)
	if err != nil {
		return err
	}
	for name, h := range all {
		if err := s.HasEncodedObject(h); err != nil {
			return asDamage(fmt.Errorf("ref %s: %w", name, err))
		}
	}
	return nil
}

// verifyPack compares the checksum at the end of a pack with that in its name.
func verifyPack(path string, want plumbing.Hash) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(-int64(len(want)), io.SeekEnd); err != nil {
		return fmt.Errorf("too short: %w", io.ErrUnexpectedEOF)
	}
	var end plumbing.Hash
	if _, err := io.ReadFull(f, end[:]); err != nil {
		return err
	}
	if end != want {
		return errors.New("its end is missing")
	}
	return nil
}
