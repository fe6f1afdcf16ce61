package terraform

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps a terminal's Ctrl-C from the engine, which is interrupted in
// an orderly way instead, and has it die with this process: nothing but an
// apply is worth going on without somebody who reads it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
