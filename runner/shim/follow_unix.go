//go:build unix

package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// newTicker paces the reading of output files; there is no portable way to
// wait for a file to grow.
func newTicker() *time.Ticker { return time.NewTicker(50 * time.Millisecond) }

// Follow writes all that the engine of dir has printed and prints to w, until
// it has ended, and returns how it ended. Where the end was not recorded and
// nothing lives that could record it, Follow returns ErrGone. Call Abandon
// first: Follow is for a dir in which an engine was started. It may be called
// by several at once and again later. An error of w ends the writing, not the
// following.
func Follow(ctx context.Context, dir string, w io.Writer) (Exit, error) {
	t := &tail{dir: dir, stdout: w, stderr: w}
	defer t.close()
	ticker := newTicker()
	defer ticker.Stop()
	for {
		// In this order: what is dead now has written all of its files.
		lives, err := Alive(dir)
		if err != nil {
			return Exit{}, err
		}
		exit, err := Read(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return Exit{}, err
		}
		t.copy()
		if err == nil {
			return exit, nil
		}
		if !lives {
			return Exit{}, ErrGone
		}
		select {
		case <-ctx.Done():
			return Exit{}, ctx.Err()
		case <-ticker.C:
		}
	}
}

// Alive says whether the supervisor or the engine of dir lives.
func Alive(dir string) (bool, error) {
	lives, err := locked(filepath.Join(dir, "alive"))
	if err != nil {
		return false, fmt.Errorf("look for the supervisor: %w", err)
	}
	if lives {
		return true, nil
	}
	lives, err = locked(filepath.Join(dir, "engine"))
	if err != nil {
		return false, fmt.Errorf("look for the engine: %w", err)
	}
	// A background process that a provisioner left behind inherits the lock;
	// the engine itself is what counts.
	return lives && !dead(dir), nil
}

// dead says that the engine's process is known and is no more. Its number may
// have been given to another process: then it says false, and the lock decides.
func dead(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return false
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// tail copies what has been added to an apply's two output files.
type tail struct {
	dir            string
	stdout, stderr io.Writer
	out, err       *os.File
}

// copy writes what is new. Of one pass, what the engine printed comes before
// what it complained of, as the complaint is about the former.
func (t *tail) copy() {
	t.out = drain(t.out, filepath.Join(t.dir, "stdout"), &t.stdout)
	t.err = drain(t.err, filepath.Join(t.dir, "stderr"), &t.stderr)
}

func drain(f *os.File, path string, w *io.Writer) *os.File {
	if f == nil {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil // not made yet
		}
	}
	if _, err := io.Copy(*w, f); err != nil {
		*w = io.Discard
	}
	return f
}

func (t *tail) close() {
	for _, f := range []*os.File{t.out, t.err} {
		if f != nil {
			f.Close()
		}
	}
}
