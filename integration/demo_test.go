package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestDemo plays the demo's whole story, unattended.
func TestDemo(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(binaries.holdfast, "demo", "--auto", "--output", "json")
	tmp := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("demo: %v\n%s\n%s", err, out, &stderr)
	}
	var steps []string
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var step struct {
			Step   string
			OK     bool
			Detail json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &step); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		if !step.OK || len(step.Detail) == 0 {
			t.Errorf("step %s", lines.Text())
		}
		steps = append(steps, step.Step)
	}
	if want := []string{"plan", "comment", "merge", "apply", "drift", "correct"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q instead of %q", steps, want)
	}
	if stderr.Len() > 0 {
		t.Errorf("the demo complains:\n%s", &stderr)
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("the demo leaves %s behind", e.Name())
	}
}

// TestDemoEndsEarly: whether somebody interrupts the demo or its reader has
// enough, the end says that the story was not told to its end, and nothing is
// left behind.
func TestDemoEndsEarly(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end  func(*exec.Cmd, io.Closer) error
		args []string
		code int
		says string
	}{
		"interrupted": {
			func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Signal(os.Interrupt) },
			[]string{"--auto"}, 130, "holdfast: interrupted\n",
		},
		"hung up": {
			func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Signal(syscall.SIGHUP) },
			[]string{"--auto", "-o", "text"}, 130, "holdfast: interrupted\n",
		},
		"left": {
			func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Signal(os.Interrupt) },
			nil, 0, "",
		},
		"unheard": {
			func(_ *exec.Cmd, stdout io.Closer) error { return stdout.Close() },
			[]string{"--auto"}, 1, "holdfast: tell the story: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(binaries.holdfast, append([]string{"demo"}, tc.args...)...)
			tmp := t.TempDir()
			cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "XDG_CACHE_HOME="+os.DevNull)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stdout)
			if !lines.Scan() {
				t.Errorf("nothing is told: %v", lines.Err())
			}
			if err := tc.end(cmd, stdout); err != nil {
				t.Error(err)
			}
			_, _ = io.Copy(io.Discard, stdout)
			_ = cmd.Wait() // its exit code says more
			if code := cmd.ProcessState.ExitCode(); code != tc.code || !strings.HasPrefix(stderr.String(), tc.says) || tc.says == "" && stderr.Len() > 0 {
				t.Errorf("exit code %d, want %d; it says %q", code, tc.code, &stderr)
			}
			left, err := os.ReadDir(tmp)
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
