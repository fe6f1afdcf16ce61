package workspaces

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// checkout writes a txtar archive to a new directory. Lines of its comment
// that read "PATH -> TARGET" are symbolic links.
func checkout(t testing.TB, archive string) string {
	t.Helper()
	dir := t.TempDir()
	a := txtar.Parse([]byte(archive))
	for _, f := range a.Files {
		write(t, dir, f.Name, string(f.Data))
	}
	for line := range strings.Lines(string(a.Comment)) {
		if link, target, ok := strings.Cut(strings.TrimSpace(line), " -> "); ok {
			p := filepath.Join(dir, filepath.FromSlash(link))
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// write writes one file of a checkout.
func write(t testing.TB, dir, name, content string) {
	t.Helper()
	p := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// load loads an archive, which has to have no mistake that spoils everything.
func load(t testing.TB, archive string) *Config {
	t.Helper()
	c, err := Load(checkout(t, archive))
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

// names are the names of workspaces, on one line.
func names(ws []Workspace) string {
	var all []string
	for _, w := range ws {
		all = append(all, w.Name)
	}
	return strings.Join(all, " ")
}

// find returns a workspace that has to be there.
func find(t testing.TB, c *Config, name string) Workspace {
	t.Helper()
	w, ok := c.Workspace(name)
	if !ok {
		t.Fatalf("no workspace %q, there are: %s", name, names(c.Workspaces))
	}
	return w
}
