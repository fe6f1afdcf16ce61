package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// processes returns the shims and engines that work in the server's data
// directory.
func (w *world) processes() []int {
	w.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		w.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || w.server != nil && pid == w.server.Process.Pid {
			continue
		}
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		dir, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if strings.Contains(string(environ), w.dir) || strings.HasPrefix(dir, w.dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killAll is kill -9 for all of them.
func (w *world) killAll() {
	w.Helper()
	w.until("shims and engines are dead", func() bool {
		pids := w.processes()
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(pids) == 0
	})
}
