package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"holdfast/workspaces"
)

func TestList(t *testing.T) {
	type row struct {
		A string `json:"a"`
	}
	cells := func(r row) []string { return []string{r.A, "x"} }
	for _, tc := range []struct {
		name, format   string
		rows           []row
		stdout, stderr string
	}{
		{"table", "text", []row{{"one"}, {"longer"}}, "A       B\none     x\nlonger  x\n", ""},
		{"hostile cells", "text", []row{{"\x1b[31mred\r\n\tblue\u009b"}, {""}}, "A               B\n�[31mred blue�  x\n-               x\n", ""},
		{"empty table", "text", nil, "", "no rows\n"},
		{"json", "json", []row{{"one"}}, "[\n  {\n    \"a\": \"one\"\n  }\n]\n", ""},
		{"empty json", "json", nil, "[]\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			cmd := &cobra.Command{}
			cmd.SetOut(&stdout)
			cmd.SetErr(&stderr)
			if err := list(cmd, tc.format, tc.rows, "rows", "a b", cells); err != nil {
				t.Fatal(err)
			}
			if stdout.String() != tc.stdout || stderr.String() != tc.stderr {
				t.Errorf("printed %q and %q, want %q and %q", stdout.String(), stderr.String(), tc.stdout, tc.stderr)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	tell := func(p *progress) {
		p.Step("planning %s", strings.Repeat("é", 30))
		p.Step("short")
		p.Line("%s", p.green("kept"))
		p.Step("last")
		p.Clear()
		p.Clear()
	}
	var plain, terminal bytes.Buffer
	tell(newProgress(&plain))
	if want := "planning " + strings.Repeat("é", 30) + "\nshort\nkept\nlast\n"; plain.String() != want {
		t.Errorf("elsewhere: %q, want %q", plain.String(), want)
	}
	tell(&progress{w: &terminal, terminal: true, color: true, columns: func() int { return 20 }})
	want := "\rplanning " + strings.Repeat("é", 9) + "…" + // one less than there are columns
		"\rshort" + strings.Repeat(" ", 14) + "\r     \r\x1b[32mkept\x1b[0m\n\rlast\r    \r"
	if terminal.String() != want {
		t.Errorf("on a terminal: %q, want %q", terminal.String(), want)
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		24 * time.Hour: "24h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 10 * time.Hour: "10h",
		time.Hour + time.Second: "1h0m1s", 30 * time.Second: "30s", 0: "0s",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("%s is written %s, want %s", d, got, want)
		}
	}
}

func TestFirstError(t *testing.T) {
	for text, want := range map[string]string{
		"plan: Error: No\n\nmore":                "Error: No",
		"init: Warning: old\n\n  Error: New\nx":  "Error: New",
		"\n\nthe state is locked by ada\n\nhint": "the state is locked by ada",
		"":                                       "",
	} {
		if got := firstError(text); got != want {
			t.Errorf("of %q it is %q, want %q", text, got, want)
		}
	}
}

// TestLockFilesAreRestored: what was not there goes, what was changed comes
// back, and what is the same is not touched.
func TestLockFilesAreRestored(t *testing.T) {
	root := t.TempDir()
	file := func(dir string) string { return filepath.Join(root, dir, ".terraform.lock.hcl") }
	write := func(path, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var ws []workspaces.Workspace
	for _, dir := range []string{"made", "changed", "same", "empty", "removed", "never"} {
		ws = append(ws, workspaces.Workspace{Dir: dir})
	}
	for dir, content := range map[string]string{"changed": "old", "same": "same", "empty": "", "removed": "gone"} {
		write(file(dir), content)
	}
	files, err := keepLockFiles(root, ws)
	if err != nil {
		t.Fatal(err)
	}
	for dir, content := range map[string]string{"made": "new", "changed": "new", "empty": "new"} {
		write(file(dir), content)
	}
	if err := os.Remove(file("removed")); err != nil {
		t.Fatal(err)
	}
	if err := files.restore(); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{"made": "none", "changed": "old", "same": "same", "empty": "", "removed": "gone", "never": "none"} {
		got, err := os.ReadFile(file(dir))
		if os.IsNotExist(err) {
			got = []byte("none")
		}
		if string(got) != want {
			t.Errorf("%s has %q, want %q", dir, got, want)
		}
	}
	// One that cannot be read stops the plan before it changes anything.
	if err := os.Mkdir(filepath.Join(root, "never"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file("never"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := keepLockFiles(root, ws); err == nil {
		t.Error("a directory was read as a lock file")
	}
}
