//go:build !unix

package terraform

import "os/exec"

func ownGroup(*exec.Cmd) {}

// interrupt kills: this system knows nothing gentler.
func interrupt(cmd *exec.Cmd) error { return cmd.Process.Kill() }

func killGroup(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = cmd.Process.Kill()
	}
}
