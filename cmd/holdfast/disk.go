package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// minFree is how much of the disk stays free, in bytes: below it no job is
// claimed, so that the results of those that run can still be written.
const minFree = 64 << 20

// checkDisk says when the file system of dir is full.
func checkDisk(dir string) error { return checkFree(dir, minFree) }

// checkFree says when fewer bytes than these are free. The words are the same
// however many are, so that a log which leaves out repetitions says it once.
func checkFree(dir string, bytes uint64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	if uint64(s.Bavail)*uint64(s.Bsize) < bytes {
		return hinted{
			fmt.Errorf("the disk of %s is full: fewer than %d MiB are free; no job is started", dir, bytes>>20),
			"make room; work goes on by itself then",
		}
	}
	return nil
}

// lockDataDir takes the data directory for this process: mirrors, checkouts
// and engines' directories in it have one user at a time. The lock ends with
// the process, however that ends.
func lockDataDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "server.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, hinted{fmt.Errorf("another Holdfast uses the data directory %s", dir), "end it, or give this one another (data_dir, HOLDFAST_DATA_DIR, --data-dir)"}
		}
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	return func() { _ = f.Close() }, nil
}
