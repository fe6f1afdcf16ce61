package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/vcs/gitea/giteatest"
)

// smallDisk starts the server with its data directory on a disk of 192 MiB, in
// a mount namespace of its own, and fills the disk with as many bytes as each
// line of its input says.
const smallDisk = `mount -t tmpfs -o size=192m,mode=700 none "$DATA" || exit 1
while read -r n; do head -c "$n" /dev/zero > "$DATA/ballast"; done <&3 >/dev/null 2>&1 &
exec "$@"
`

// onSmallDisk has the server run on a small disk, and returns what fills it:
// fill(n) leaves n bytes in one file. Where the system lets nobody make a
// disk, it returns nil.
func (w *world) onSmallDisk() (fill func(bytes int)) {
	w.Helper()
	data := filepath.Join(w.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		w.Fatal(err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = out.Close() })
	namespaces := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	try := exec.Command("sh", "-c", `mount -t tmpfs none "$DATA"`)
	try.Env = append(os.Environ(), "DATA="+data)
	try.SysProcAttr = namespaces
	if output, err := try.CombinedOutput(); err != nil {
		w.Logf("this system makes no disk for a test: %v %s", err, output)
		return nil
	}
	w.env = append(w.env, "DATA="+data)
	w.launch = func(cmd *exec.Cmd) {
		sh, err := exec.LookPath("sh")
		if err != nil {
			w.Fatal(err)
		}
		cmd.Path, cmd.Args = sh, append([]string{sh, "-c", smallDisk, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.SysProcAttr, cmd.ExtraFiles = namespaces, []*os.File{in}
	}
	return func(bytes int) {
		w.Helper()
		if _, err := fmt.Fprintln(out, bytes); err != nil {
			w.Fatal(err)
		}
	}
}

// ready returns what /readyz answers.
func (w *world) ready() (status int, says string) {
	w.Helper()
	resp, err := http.Get(w.url + "/readyz")
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestFullDisk claims nothing while the disk is full, says so, and goes on by
// itself when there is room. What came meanwhile is not lost, even where
// nothing at all could be written.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.hosts = strings.Replace(w.blocks(), "{}", "{\n  reconcile = \"2s\"\n}", 1)
	fill := w.onSmallDisk()
	if fill == nil {
		return // TestCheckDisk in cmd/holdfast looks at the same without a disk
	}
	w.start()

	fill(160 << 20)
	w.until("the server is not ready", func() bool {
		status, says := w.ready()
		return status == http.StatusServiceUnavailable && strings.Contains(says, "is full")
	})
	w.until("the log says why", func() bool { return strings.Contains(w.log.String(), "jobs are not claimed") })
	sha := w.repo.Push("change", map[string]string{"c/more.tf": server("more")}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	if err := w.forge.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range w.forge.Deliveries() {
		if n := len(d.Attempts); n == 0 || d.Attempts[n-1].Status/100 != 2 {
			t.Errorf("webhook %s: %+v", d.Type, d.Attempts)
		}
	}
	if s := w.repo.Statuses(sha); len(s) > 0 {
		t.Errorf("something was done: %+v", s)
	}
	fill(0)
	w.comment(number, "smallcloud_server.more")
	w.until("the server is ready", func() bool { status, _ := w.ready(); return status == http.StatusOK })
	if n := strings.Count(w.log.String(), "jobs are not claimed"); n != 1 {
		t.Errorf("the log says %d times that the disk is full:\n%s", n, w.log)
	}

	// Now not a byte is free, and the host is not heard.
	fill(1 << 30)
	w.until("the server is not ready again", func() bool { status, _ := w.ready(); return status == http.StatusServiceUnavailable })
	w.repo.Push("change", map[string]string{"c/more.tf": server("again")}, "again")
	if err := w.forge.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status := w.status("/healthz"); status != http.StatusOK {
		t.Errorf("the server is not alive: %d", status)
	}
	fill(0)
	w.comment(number, "smallcloud_server.again")
	w.repo.Merge(number, "merge")
	w.comment(number, "pplied")
	if n := w.cloud.created("again"); n != 1 {
		t.Errorf("it was made %d times", n)
	}
}
