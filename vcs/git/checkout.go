package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// keepFor is how long a checkout is kept after its last use, however many
// there are: a plan is likely to be followed by its apply.
const keepFor = time.Hour

// checkout is the files of one commit on disk, while it is made or used. All
// but done is guarded by Mirrors.mu; err may be read when done is closed.
type checkout struct {
	users     int // callers of Checkout that wait for it or have it
	ready     bool
	abandoned bool // all users left before it was ready
	cancel    context.CancelFunc
	done      chan struct{} // closed when it is ready, or err is set
	err       error
}

// Checkout returns a directory with the files of a commit, shared by all who
// ask for this commit and kept until well after the last of them has called
// release, which may be called more than once. Who writes into the directory
// must expect the others.
//
// File modes are kept; submodules are left out. Symbolic links
// are made as they are, wherever they lead: whoever reads a checkout must not
// follow one out of it (os.Root does not). A name that cannot be written safely
// is a *PathError: then there is no checkout. The commit must have been
// fetched before.
//
// A complete checkout outlives the process. One whose directory holds a lock
// of Terraform's on a state file, or a state that Terraform could not store
// ("errored.tfstate"), is never removed.
func (m *Mirrors) Checkout(ctx context.Context, r vcs.Repository, sha string) (dir string, release func(), err error) {
	if !isSHA(sha) {
		return "", nil, fmt.Errorf("check out %s: %w: %q is not a commit's full name", r, vcs.ErrNotFound, sha)
	}
	dir = filepath.Join(m.checkouts, slug(r), sha)
	var c *checkout
	for joined := false; !joined; {
		c, joined = m.joinCheckout(ctx, r, sha, dir)
		select {
		case <-c.done:
			continue
		case <-ctx.Done():
		}
		if joined {
			m.leaveCheckout(c, dir)
		}
		return "", nil, fmt.Errorf("check out %s at %s: %w", r, sha, context.Cause(ctx))
	}
	if c.err != nil {
		m.leaveCheckout(c, dir)
		return "", nil, fmt.Errorf("check out %s at %s: %w", r, sha, c.err)
	}
	return dir, sync.OnceFunc(func() { m.leaveCheckout(c, dir) }), nil
}

// joinCheckout counts one more user of a checkout, and begins to make it where
// nobody has. It does not join one that everybody gave up: then the caller
// waits for its end and tries again, so that only one is ever made in a place.
func (m *Mirrors) joinCheckout(ctx context.Context, r vcs.Repository, sha, dir string) (c *checkout, joined bool) {
	mi := m.mirror(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	c = m.shared[dir]
	if c == nil {
		// It is made for all who wait, not for the first of them only.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		c = &checkout{cancel: cancel, done: make(chan struct{})}
		m.shared[dir] = c
		go m.makeCheckout(own, mi, c, sha, dir)
	}
	if c.abandoned {
		return c, false
	}
	c.users++
	return c, true
}

func (m *Mirrors) makeCheckout(ctx context.Context, mi *mirror, c *checkout, sha, dir string) {
	err := m.prepare(ctx, mi, sha, dir)
	c.cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	c.err, c.ready = err, err == nil
	if err != nil || c.abandoned {
		delete(m.shared, dir) // the next caller tries again
	}
	close(c.done)
}

func (m *Mirrors) leaveCheckout(c *checkout, dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.users--
	switch {
	case c.users > 0 || m.shared[dir] != c:
	case c.ready:
		delete(m.shared, dir)
		m.touch(dir)
	default:
		c.abandoned = true
		c.cancel()
	}
}

// prepare makes the checkout at dir, or finds it made.
func (m *Mirrors) prepare(ctx context.Context, mi *mirror, sha, dir string) error {
	usable, err := m.usable(dir)
	if err != nil {
		return err
	}
	if usable {
		m.touch(dir)
		return nil
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	scratch, err := os.MkdirTemp(parent, scratchPrefix+"*")
	if err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	defer os.RemoveAll(scratch)
	err = mi.read(ctx, func(s *filesystem.Storage) error {
		c, err := commitAt(s, sha)
		if err != nil {
			return err
		}
		entries, err := listTree(ctx, s, c.TreeHash)
		if err != nil {
			return err
		}
		return writeTree(ctx, mi, entries, scratch)
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+markSuffix, []byte(m.boot), 0o600); err != nil {
		return fmt.Errorf("mark checkout: %w", err)
	}
	m.touch(dir)
	if err := os.Rename(scratch, dir); err != nil {
		return fmt.Errorf("put checkout in place: %w", err)
	}
	m.prune(dir)
	return nil
}

// markSuffix names the file beside a checkout whose time is that of its last
// use and whose content is the boot that it was made in.
const markSuffix = ".used"

// usable reports whether dir is a complete checkout. One made before the
// machine was last started may have lost what had not reached the disk, and is
// removed, unless Terraform's work is in it.
func (m *Mirrors) usable(dir string) (bool, error) {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("look for checkout: %w", err)
	}
	mark, err := os.ReadFile(dir + markSuffix)
	if err == nil && string(mark) == m.boot {
		return true, nil
	}
	if held(dir) {
		return true, nil
	}
	rubbish, err := putAway(dir)
	if err != nil {
		return false, fmt.Errorf("remove old checkout: %w", err)
	}
	if err := os.RemoveAll(rubbish); err != nil {
		return false, fmt.Errorf("remove old checkout: %w", err)
	}
	return false, nil
}

// bootID tells one run of the machine from the next, where the system says it.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// touch records a use. Where that fails, the checkout is removed too early and
// made again: no reason to fail.
func (m *Mirrors) touch(dir string) {
	now := m.cfg.Clock()
	_ = os.Chtimes(dir+markSuffix, now, now)
}

// prune removes the checkouts that were used least recently, down to the
// configured number. What cannot be removed now is tried again the next time.
func (m *Mirrors) prune(made string) {
	var rubbish []string
	defer func() {
		for _, dir := range rubbish {
			_ = os.RemoveAll(dir) // New removes what is left
		}
	}()
	type candidate struct {
		dir  string
		used time.Time
	}
	var all []candidate
	m.mu.Lock()
	defer m.mu.Unlock()
	marks, err := filepath.Glob(filepath.Join(m.checkouts, "*", "*"+markSuffix))
	if err != nil {
		return
	}
	for _, mark := range marks {
		info, err := os.Stat(mark)
		if err != nil {
			continue
		}
		all = append(all, candidate{strings.TrimSuffix(mark, markSuffix), info.ModTime()})
	}
	slices.SortFunc(all, func(a, b candidate) int { return a.used.Compare(b.used) })
	excess := len(all) - m.cfg.MaxCheckouts
	for _, c := range all {
		if excess <= 0 || c.used.After(m.cfg.Clock().Add(-keepFor)) {
			return // the rest were used later still
		}
		if m.shared[c.dir] != nil || c.dir == made || held(c.dir) {
			continue
		}
		if away, err := putAway(c.dir); err == nil {
			rubbish = append(rubbish, away)
			excess--
		}
	}
}

// putAway moves a checkout to where it is rubbish, to be removed by the
// caller: so none that is half removed is ever taken for complete.
func putAway(dir string) (rubbish string, err error) {
	rubbish, err = os.MkdirTemp(filepath.Dir(dir), scratchPrefix+"*")
	if err != nil {
		return "", err
	}
	for from, to := range map[string]string{dir: "files", dir + markSuffix: "mark"} {
		if err := os.Rename(from, filepath.Join(rubbish, to)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return rubbish, nil
}

// held reports whether Terraform's work is in a checkout: a lock on a state
// file (".terraform.tfstate.lock.info"), which is there while an engine runs
// and after one was killed, or a state that could not be stored.
func held(dir string) bool {
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); name == "errored.tfstate" || strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".lock.info") {
			return errHeld
		}
		return nil
	})
	// What cannot be read cannot be judged, and is kept.
	return err != nil && !errors.Is(err, os.ErrNotExist)
}

var errHeld = errors.New("held")
