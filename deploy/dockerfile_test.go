package deploy

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// readDockerfile parses and lints the Dockerfile.
func readDockerfile(t *testing.T) ([]instructions.Stage, []instructions.ArgCommand) {
	t.Helper()
	result, err := parser.Parse(strings.NewReader(readFile(t, "Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range result.Warnings {
		t.Errorf("line %v: %s", w.Location, w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, location []parser.Range) {
		t.Errorf("line %v: %s: %s", location, rule, message)
	}})
	stages, args, err := instructions.Parse(result.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	return stages, args
}

// find returns a stage's instructions of a type.
func find[T instructions.Command](s instructions.Stage) []T {
	var found []T
	for _, c := range s.Commands {
		if c, ok := c.(T); ok {
			found = append(found, c)
		}
	}
	return found
}

func TestEachEngineIsAStage(t *testing.T) {
	stages, args := readDockerfile(t)
	names := map[string]bool{}
	for _, s := range stages {
		names[s.Name] = true
	}
	for _, engine := range []string{"terraform", "tofu", "none"} {
		if !names["with-"+engine] {
			t.Errorf("ENGINE=%s has no stage", engine)
		}
	}
	defaults := map[string]string{}
	for _, a := range args {
		for _, kv := range a.Args {
			defaults[kv.Key] = kv.ValueString()
		}
	}
	if last := stages[len(stages)-1]; last.BaseName != "with-${ENGINE}" || !names["with-"+defaults["ENGINE"]] {
		t.Errorf("the image is made from %s, and ENGINE is %q", last.BaseName, defaults["ENGINE"])
	}
	for _, s := range stages {
		for _, c := range find[*instructions.CopyCommand](s) {
			if c.From != "" && !names[c.From] {
				t.Errorf("%s copies from %s, which is no stage", s.Name, c.From)
			}
		}
	}
}

func TestImagesHaveVersions(t *testing.T) {
	stages, _ := readDockerfile(t)
	names := []string{"with-${ENGINE}"}
	for _, s := range stages {
		_, version, _ := strings.Cut(s.BaseName, ":")
		if !slices.Contains(names, s.BaseName) && (version == "" || version == "latest") {
			t.Errorf("%s is built on %s, whatever version that is", s.Name, s.BaseName)
		}
		names = append(names, s.Name)
	}
}

func TestTheImageRunsAsAUserOfItsOwn(t *testing.T) {
	stages, _ := readDockerfile(t)
	last := stages[len(stages)-1]
	users := find[*instructions.UserCommand](last)
	if len(users) != 1 || !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(users[0].User) {
		t.Errorf("USER is %v; Kubernetes needs a number other than 0", users)
	}
	if entry := find[*instructions.EntrypointCommand](last); len(entry) != 1 || entry[0].PrependShell {
		t.Error("a shell would keep SIGTERM from Holdfast")
	}
}

// TestTheBuildHasItsFiles asks Go for what the program is built from.
func TestTheBuildHasItsFiles(t *testing.T) {
	patterns, err := ignorefile.ReadAll(strings.NewReader(readFile(t, "Dockerfile.dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("go", "list", "-deps", "-json=Dir,GoFiles,EmbedFiles,Module", "./cmd/holdfast")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	needed := []string{"go.mod", "go.sum"}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p struct {
			Dir                 string
			GoFiles, EmbedFiles []string
			Module              *struct{ Main bool }
		}
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if p.Module == nil || !p.Module.Main {
			continue
		}
		for _, name := range append(p.GoFiles, p.EmbedFiles...) {
			path, err := filepath.Rel(root, filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			needed = append(needed, path)
		}
	}
	if len(needed) < 100 {
		t.Fatalf("only %d files are known", len(needed))
	}
	match := func(path string) bool {
		t.Helper()
		hit, err := ignored.MatchesOrParentMatches(path)
		if err != nil {
			t.Fatal(err)
		}
		return hit
	}
	for _, path := range needed {
		if match(path) {
			t.Errorf("%s is kept from the build", path)
		}
	}
	for _, path := range []string{".git/config", ".env", "server.hcl", "prod.env", "keys/app.pem", "live/terraform.tfstate", "deploy/compose/.env"} {
		if !match(path) {
			t.Errorf("%s gets into the build", path)
		}
	}
}
