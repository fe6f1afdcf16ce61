package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// protectProcess keeps the environment and the memory of this process from
// others of the same user: what a pull request has Terraform run could read
// the server's tokens in /proc otherwise.
func protectProcess() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("protect the process's memory: %w", err)
	}
	return nil
}
