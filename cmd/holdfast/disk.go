package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// minFree is how much of the disk stays free, in bytes: below it no job is
// claimed, so that the results of those that run can still be written.
const minFree = 64 << 20

// checkDisk says when the file system of dir is full.
func checkDisk(dir string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	if free := uint64(s.Bavail) * uint64(s.Bsize); free < minFree {
		return hinted{
			fmt.Errorf("the disk of %s is full: %d MiB are free, %d MiB are needed; no job is started", dir, free>>20, minFree>>20),
			"make room; work goes on by itself then",
		}
	}
	return nil
}
