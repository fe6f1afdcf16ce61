package deploy

import (
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// shownFile is a fenced block after a comment with the name of the file that it
// shows.
var shownFile = regexp.MustCompile("(?s)<!-- (deploy/[^ ]+) -->\n+```[a-z]*\n(.*?)```\n")

// TestDocsShowTheFiles holds docs/operations.md to what is in this directory.
func TestDocsShowTheFiles(t *testing.T) {
	page := readFile(t, "../docs/operations.md")
	var shown []string
	for _, m := range shownFile.FindAllStringSubmatch(page, -1) {
		shown = append(shown, m[1])
		if want := readFile(t, filepath.Join("..", m[1])); m[2] != want {
			t.Errorf("docs/operations.md does not show %s as it is; it is:\n%s", m[1], want)
		}
	}
	for _, path := range []string{
		"deploy/Dockerfile",
		"deploy/systemd/holdfast@.service", "deploy/systemd/server.hcl", "deploy/systemd/example.env",
		"deploy/compose/compose.yaml", "deploy/compose/server.hcl", "deploy/compose/example.env",
		"deploy/helm/examples/pull.yaml", "deploy/helm/examples/pools.yaml",
	} {
		if !slices.Contains(shown, path) {
			t.Errorf("docs/operations.md does not show %s", path)
		}
	}
}
