package integration

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// TestEngineProcesses counts the engine's processes for each workspace: two
// where a plan has changes, one where it has none, and no init where nothing
// that init reads has changed.
func TestEngineProcesses(t *testing.T) {
	t.Parallel()
	const n = 4
	b := newBench(t, plain, n)
	expect := func(when string, want map[string]int) {
		t.Helper()
		b.quiet()
		if got := b.engine.take(); !maps.Equal(got, want) {
			t.Errorf("%s: engine processes %v instead of %v", when, got, want)
		}
	}
	expect("at the start", map[string]int{"version": 1})
	b.pullRequest(1)
	expect("the first push", map[string]int{"init": n, "plan": n, "show": n})
	b.pullRequest(2)
	expect("the second push", map[string]int{"plan": n, "show": n})
	b.merge()
	expect("the merge, with plans that still stand", map[string]int{"apply": n})
	b.pushUnchanged(2)
	expect("a push without changes", map[string]int{"plan": n})
}

// merge merges the pull request and waits until everything is applied.
func (b *bench) merge() {
	b.Helper()
	b.repo.Merge(b.number, "merge")
	for _, r := range b.ended(b.count, store.RunFilter{Kind: store.KindApply}) {
		if r.State != store.Applied {
			b.Fatalf("the apply of %s is %s: %s", r.Workspace, r.State, r.Error)
		}
	}
	b.quiet()
}

// pushUnchanged opens a pull request that touches all root modules and changes
// nothing about n, which is applied, and waits for its report.
func (b *bench) pushUnchanged(n int) {
	b.Helper()
	files := b.files(n)
	for name, text := range files {
		files[name] = "# Applied already.\n" + text
	}
	sha := b.repo.Push("same", files, "Say so")
	number := b.repo.OpenPull(giteatest.OpenPull{Head: "same"})
	for _, r := range b.ended(b.count, store.RunFilter{PullRequest: number}) {
		if r.State != store.NoChanges {
			b.Fatalf("%s is %s: %s", r.Workspace, r.State, r.Error)
		}
	}
	b.until("the status is posted", func() bool { return b.repo.Statuses(sha)["holdfast"].State == "success" })
	b.quiet()
}

// countedEngine is a `terraform` that writes down how it is called and then is
// the real one.
type countedEngine struct {
	testing.TB
	dir string
}

func newCountedEngine(t testing.TB) *countedEngine {
	t.Helper()
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Fatal(err)
	}
	e := &countedEngine{t, t.TempDir()}
	script := fmt.Sprintf("#!/bin/sh\necho \"$1\" >>'%s'\nexec '%s' \"$@\"\n", e.calls(), terraform)
	if err := os.WriteFile(e.file(), []byte(script), 0o755); err != nil { //nolint:gosec // it is executed
		t.Fatal(err)
	}
	return e
}

func (e *countedEngine) file() string  { return filepath.Join(e.dir, "terraform") }
func (e *countedEngine) calls() string { return filepath.Join(e.dir, "calls") }
func (e *countedEngine) path() string {
	return e.dir + string(os.PathListSeparator) + os.Getenv("PATH")
}

// take returns how often each command was started since the last take.
func (e *countedEngine) take() map[string]int {
	e.Helper()
	data, err := os.ReadFile(e.calls())
	if err != nil && !os.IsNotExist(err) {
		e.Fatal(err)
	}
	e.reset()
	counts := map[string]int{}
	for _, command := range strings.Fields(string(data)) {
		counts[command]++
	}
	return counts
}

func (e *countedEngine) reset() {
	e.Helper()
	if err := os.Remove(e.calls()); err != nil && !os.IsNotExist(err) {
		e.Fatal(err)
	}
}
