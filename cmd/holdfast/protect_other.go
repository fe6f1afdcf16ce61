//go:build !linux

package main

// protectProcess has nothing to do where no /proc shows a process's
// environment to others of its user.
func protectProcess() error { return nil }
