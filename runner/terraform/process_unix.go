//go:build unix

package terraform

import (
	"os"
	"os/exec"
	"syscall"
)

func interrupt(cmd *exec.Cmd) error { return cmd.Process.Signal(os.Interrupt) }

// killGroup kills an engine and its providers. It may all be gone already.
func killGroup(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}
