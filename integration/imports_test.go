// Package integration tests the built program end to end, and the shape of the
// house.
package integration

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport lists, for each package of ours, the packages of ours that its
// code (tests aside) may import. A trailing "/..." allows a whole subtree. A
// package that is not listed fails the test: decide where it belongs.
var mayImport = map[string][]string{
	"queue":       {},
	"lock":        {},
	"workspaces":  {},
	"runner/plan": {},
	"vcs":         {},
	"watch":       {},

	"store": {"queue", "lock"},

	"runner/shim":      {},
	"runner/terraform": {"runner/shim", "runner/plan", "workspaces"},
	"runner/markdown":  {"runner/plan", "workspaces", "vcs"},
	"runner/propose":   {"runner/plan"},
	"runner":           {"queue", "lock", "store", "vcs", "workspaces", "watch", "runner/..."},

	"vcs/git":       {"vcs"},
	"vcs/plaingit":  {"vcs"},
	"vcs/transport": {"vcs"},

	"vcs/gitea":       {"vcs", "vcs/transport"},
	"vcs/github":      {"vcs", "vcs/transport"},
	"vcs/gitlab":      {"vcs", "vcs/transport"},
	"vcs/bitbucket":   {"vcs", "vcs/transport"},
	"vcs/azuredevops": {"vcs", "vcs/transport"},

	"store/sqlite":          {"store", "queue", "lock"},
	"store/redis":           {"store", "queue", "lock"},
	"store/redis/redistest": {},

	"aws":    {"watch", "store"},
	"notify": {"watch"},
	"hook":   {"watch"},

	"web": {"watch", "store", "queue", "vcs", "hook", "runner/plan", "runner/markdown"},

	"smallcloud":          {},
	"smallcloud/provider": {"smallcloud"},

	// What tests of several packages share.
	"queue/queuetest":     {"queue"},
	"lock/locktest":       {"lock"},
	"store/storetest":     {"store", "queue/...", "lock/..."},
	"vcs/vcstest":         {"vcs", "vcs/vcstest/..."},
	"vcs/vcstest/gittest": {"vcs"},
	"vcs/vcstest/forge":   {"vcs", "vcs/vcstest/..."},
	"vcs/vcstest/harness": {"vcs", "vcs/vcstest/..."},
	"vcs/gitea/giteatest": {"vcs", "vcs/vcstest/..."},

	"vcs/github/githubtest":       {"vcs", "vcs/vcstest/..."},
	"vcs/gitlab/gitlabtest":       {"vcs", "vcs/vcstest/..."},
	"vcs/bitbucket/bitbuckettest": {"vcs", "vcs/vcstest/..."},
	"vcs/azuredevops/azuretest":   {"vcs", "vcs/vcstest/..."},

	// These see everything.
	"cmd/...":            {"..."},
	"smallcloud/cmd/...": {"smallcloud/..."},
	"integration/...":    {"..."},
}

func TestImportsStayInTheirRooms(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, "holdfast/")
		allowed, ok := lookup(name)
		if !ok {
			t.Errorf("%s has no place in the house: add it to mayImport and to ARCHITECTURE.md", name)
			continue
		}
		for _, i := range p.Imports {
			dep, ours := strings.CutPrefix(i, "holdfast/")
			if ours && !slices.ContainsFunc(allowed, func(a string) bool { return matches(a, dep) }) {
				t.Errorf("%s imports %s, which it must not", name, dep)
			}
			if strings.HasPrefix(i, "github.com/aws/") && !strings.HasPrefix(name, "aws") {
				t.Errorf("%s imports %s; only aws/ may", name, i)
			}
		}
	}
	if seen < 15 {
		t.Fatalf("go list named only %d packages", seen)
	}
}

// lookup returns what a package may import, by its own entry or its subtree's.
func lookup(name string) ([]string, bool) {
	if allowed, ok := mayImport[name]; ok {
		return allowed, true
	}
	for pattern, allowed := range mayImport {
		if strings.HasSuffix(pattern, "/...") && matches(pattern, name) {
			return allowed, true
		}
	}
	return nil, false
}

func matches(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == root || strings.HasPrefix(name, root+"/")
	}
	return pattern == name
}
