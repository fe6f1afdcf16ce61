package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
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
