package terraform

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	lockFile = ".terraform.lock.hcl"
	// noLockFile stands for the digest of a lock file that is not there.
	noLockFile = "none"
	// floatFor is how long what init chose is kept where nothing in the
	// repository pins it: versions of providers without a lock file, downloaded
	// modules.
	floatFor = 24 * time.Hour
)

// dataDir is what is kept of one initialised configuration of a workspace:
//
//	tf     its TF_DATA_DIR
//	lock   the dependency lock file as init left it
//	ready  is there once init has succeeded; its time is then
//
// The directory's own time is its last use.
type dataDir struct{ path string }

func (d dataDir) tf() string    { return filepath.Join(d.path, "tf") }
func (d dataDir) lock() string  { return filepath.Join(d.path, "lock") }
func (d dataDir) ready() string { return filepath.Join(d.path, "ready") }

// openDataDir returns the data directory for a workspace's inputs and lock
// file, in use until done is called.
func (e *Engines) openDataDir(m Module, sum, lock string) (d dataDir, done func(), err error) {
	fingerprint := digest([]byte(sum + " " + lock))
	d = dataDir{filepath.Join(e.config.DataDir, "tfdata", digest([]byte(m.Key)), fingerprint)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := os.MkdirAll(d.tf(), 0o700); err != nil {
		return d, nil, fmt.Errorf("make TF_DATA_DIR: %w", err)
	}
	now := e.now()
	if err := os.Chtimes(d.path, now, now); err != nil {
		return d, nil, fmt.Errorf("make TF_DATA_DIR: %w", err)
	}
	e.inUse[d.path]++
	return d, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.inUse[d.path]--; e.inUse[d.path] == 0 {
			delete(e.inUse, d.path)
		}
	}, nil
}

// initialised says whether init has run in d, and recently where that counts.
func (e *Engines) initialised(d dataDir, recently bool) bool {
	info, err := os.Stat(d.ready())
	return err == nil && (!recently || e.now().Sub(info.ModTime()) < floatFor)
}

// setReady notes that init has succeeded in d.
func (e *Engines) setReady(d dataDir) error {
	err := writeFile(d.ready(), nil, 0o600)
	if err == nil {
		now := e.now()
		err = os.Chtimes(d.ready(), now, now)
	}
	if err != nil {
		return fmt.Errorf("initialise: %w", err)
	}
	return nil
}

// restoreLock puts the lock file that init left into another checkout of the
// same inputs, where that one's own is the origin.
func (e *Engines) restoreLock(d dataDir, dir, origin string) error {
	kept, err := os.ReadFile(d.lock())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore dependency lock file: %w", err)
	}
	path := filepath.Join(dir, lockFile)
	if now, err := readSmall(path); err == nil && bytes.Equal(now, kept) {
		return nil
	}
	// The note comes first: without it the file would be taken for the
	// repository's.
	if err = e.noteOrigin(dir, kept, origin); err == nil {
		err = writeFile(path, kept, 0o644)
	}
	if err != nil {
		return fmt.Errorf("restore dependency lock file: %w", err)
	}
	return nil
}

// lockOrigin returns the digest of the lock file that a repository has in dir.
// Where init has rewritten it, or made it in the first place, that is the
// digest of what was there before: the checkout is still the same.
func (e *Engines) lockOrigin(dir string) (string, error) {
	data, err := readSmall(filepath.Join(dir, lockFile))
	if errors.Is(err, os.ErrNotExist) {
		return noLockFile, nil
	}
	if err != nil {
		return "", fmt.Errorf("read dependency lock file: %w", err)
	}
	origin, err := os.ReadFile(e.originFile(dir, data))
	if err == nil && len(origin) > 0 {
		return string(origin), nil
	}
	return digest(data), nil
}

// originFile is where the origin of a lock file is noted. It is that of one
// directory alone: another repository may have a file with the same content of
// its own, whose versions and checksums then count.
func (e *Engines) originFile(dir string, lock []byte) string {
	return filepath.Join(e.config.DataDir, "locks", digest([]byte(dir+"\x00"+digest(lock))))
}

// noteOrigin notes that dir's lock file, where it is this one, came from origin.
func (e *Engines) noteOrigin(dir string, lock []byte, origin string) error {
	if digest(lock) == origin {
		return nil
	}
	return writeFile(e.originFile(dir, lock), []byte(origin), 0o600)
}

// keepLock keeps the lock file that init left in dir, and from what it came.
func (e *Engines) keepLock(d dataDir, dir, origin string) error {
	data, err := readSmall(filepath.Join(dir, lockFile))
	if errors.Is(err, os.ErrNotExist) {
		if err := os.Remove(d.lock()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("keep dependency lock file: %w", err)
		}
		return nil
	}
	if err == nil {
		err = writeFile(d.lock(), data, 0o600)
	}
	if err == nil {
		err = e.noteOrigin(dir, data, origin)
	}
	if err != nil {
		return fmt.Errorf("keep dependency lock file: %w", err)
	}
	return nil
}

// prune removes the least recently used data directories beyond the limit, and
// the oldest notes on lock files. What it cannot remove it leaves for the next
// time.
func (e *Engines) prune() {
	e.mu.Lock()
	defer e.mu.Unlock()
	var dirs []string
	for _, workspace := range entries(filepath.Join(e.config.DataDir, "tfdata")) {
		dirs = append(dirs, entries(workspace)...)
	}
	byAge(dirs)
	for i, dir := range dirs {
		if i >= len(dirs)-e.config.MaxDataDirs {
			break
		}
		if e.inUse[dir] == 0 {
			_ = os.RemoveAll(dir)
			_ = os.Remove(filepath.Dir(dir)) // when it was the last one
		}
	}
	notes := entries(filepath.Join(e.config.DataDir, "locks"))
	byAge(notes)
	for i := 0; i < len(notes)-10*e.config.MaxDataDirs; i++ {
		_ = os.Remove(notes[i])
	}
}

// entries returns the paths of what is in a directory.
func entries(dir string) []string {
	found, _ := os.ReadDir(dir) // what cannot be listed cannot be pruned either
	var paths []string
	for _, f := range found {
		paths = append(paths, filepath.Join(dir, f.Name()))
	}
	return paths
}

// byAge sorts paths by their times, oldest first.
func byAge(paths []string) {
	times := map[string]time.Time{}
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil {
			times[p] = info.ModTime()
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return times[a].Compare(times[b]) })
}

// writeFile replaces a file at once: who reads it meanwhile sees all of the
// old or all of the new content. A symbolic link there is replaced, never
// followed.
func writeFile(path string, data []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
