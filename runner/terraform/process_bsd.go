//go:build unix && !linux

package terraform

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps a terminal's Ctrl-C from the engine, which is interrupted in
// an orderly way instead.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
