package git_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/vcs"
	"holdfast/vcs/git"
)

func TestFetchFollowsTheRemote(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	first := r.commit(map[string]string{"a": "1"})
	r.set("main", first)
	r.set("feature/x", first)
	fetch(t, m, r.remote())

	second := r.commit(map[string]string{"a": "2"}, first)
	other := r.commit(map[string]string{"a": "3"})
	r.set("main", other) // a force push: nothing in common
	r.remove("feature/x")
	r.set("feature", second) // where a directory of that name was
	r.set("refs/pull/1/head", second)
	fetch(t, m, r.remote(), "refs/pull/1/head")

	got, err := m.Branches(t.Context(), repo)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"main": other, "feature": second}, got); diff != "" {
		t.Errorf("branches (-want +got):\n%s", diff)
	}
	for rev, want := range map[string]string{
		"refs/pull/1/head": second, "main": other, "refs/heads/feature": second,
		"feature~1": first, first: first, "HEAD": other,
	} {
		if sha, err := m.Resolve(t.Context(), repo, rev); err != nil || sha != want {
			t.Errorf("Resolve(%q) = %q, %v, want %q", rev, sha, err, want)
		}
	}
	for _, rev := range []string{"nope", strings.Repeat("0", 40), "", "-x", "main:../../x", "@{u}", "^", strings.Repeat("~", 50)} {
		if _, err := m.Resolve(t.Context(), repo, rev); !errors.Is(err, vcs.ErrNotFound) {
			t.Errorf("Resolve(%q): %v, want ErrNotFound", rev, err)
		}
	}
	if name, err := m.DefaultBranch(t.Context(), repo); err != nil || name != "main" {
		t.Errorf("default branch = %q, %v", name, err)
	}
}

func TestFetchOfMissingRefs(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	first := r.commit(map[string]string{"a": "1"})
	hidden := r.commit(map[string]string{"a": "2"})
	r.set("main", first)
	if err := m.Fetch(t.Context(), repo, r.remote(), "refs/pull/9/head"); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("missing ref: %v, want ErrNotFound", err)
	}
	if _, err := m.Resolve(t.Context(), repo, "main"); err != nil {
		t.Errorf("the rest was not fetched: %v", err)
	}
	for _, ref := range []string{"main", "refs/heads/../x", "--upload-pack=x", "refs/heads/a b"} {
		if err := m.Fetch(t.Context(), repo, r.remote(), ref); !errors.Is(err, vcs.ErrNotFound) {
			t.Errorf("ref %q: %v, want ErrNotFound", ref, err)
		}
	}
	fetch(t, m, r.remote(), hidden)
	if _, err := m.Resolve(t.Context(), repo, hidden); err != nil {
		t.Errorf("fetch by name: %v", err)
	}
}

func TestFetchOfEmptyRepository(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	fetch(t, m, r.remote())
	if _, err := m.DefaultBranch(t.Context(), repo); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("default branch of nothing: %v", err)
	}
	sha := r.commit(map[string]string{"a": "1"})
	r.set("main", sha)
	fetch(t, m, r.remote())
	if got, err := m.Resolve(t.Context(), repo, "main"); err != nil || got != sha {
		t.Errorf("main = %q, %v", got, err)
	}
}

func TestFetchRefusesRemotes(t *testing.T) {
	m := newMirrors(t, t.TempDir())
	for _, url := range []string{
		"", "relative/path", "ext::sh -c true", "git://example.com/x", "ftp://example.com/x",
		"https://me:hunter22@example.com/x", "https://hunter22@example.com/x", "ssh://me:hunter22@example.com/x",
		"ssh://-oProxyCommand=x/y", "https:///x", "--upload-pack=x", "file://elsewhere/x", "http://exa mple/\n",
	} {
		err := m.Fetch(t.Context(), repo, vcs.Remote{URL: url})
		var hint *git.HintError
		if !errors.As(err, &hint) || hint.Hint() == "" {
			t.Errorf("URL %q: %v, want an error with a hint", url, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter22") {
			t.Errorf("URL %q: the error shows the secret: %v", url, err)
		}
	}
	err := m.Fetch(t.Context(), repo, vcs.Remote{URL: t.TempDir()})
	if !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("no repository: %v, want ErrNotFound", err)
	}
	if _, err := m.Branches(t.Context(), repo); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("never fetched: %v, want ErrNotFound", err)
	}
}

func TestFetchByFileURLAndWorkingTree(t *testing.T) {
	r := newRemote(t)
	sha := r.commit(map[string]string{"a": "1"})
	r.set("main", sha)
	m := newMirrors(t, t.TempDir())
	fetch(t, m, vcs.Remote{URL: "file://" + r.dir})
	if got, err := m.Resolve(t.Context(), repo, "main"); err != nil || got != sha {
		t.Errorf("main = %q, %v", got, err)
	}
	c := newClone(t)
	c.write("a", "2")
	sha = c.commit()
	fetch(t, m, vcs.Remote{URL: c.dir})
	if got, err := m.Resolve(t.Context(), repo, "main"); err != nil || got != sha {
		t.Errorf("main = %q, %v", got, err)
	}
}

// Whatever happens to a mirror's files, the next fetch heals it.
func TestFetchHealsDamage(t *testing.T) {
	damage := map[string]func(t *testing.T, mirror string){
		"half made": func(t *testing.T, mirror string) {
			must(t, os.RemoveAll(filepath.Join(mirror, "objects")))
		},
		"empty": func(t *testing.T, mirror string) {
			must(t, os.RemoveAll(mirror))
			must(t, os.Mkdir(mirror, 0o700))
		},
		"packs cut short": func(t *testing.T, mirror string) {
			each(t, filepath.Join(mirror, "objects/pack/*.pack"), func(f string) { must(t, os.Truncate(f, 40)) })
		},
		"indexes of nonsense": func(t *testing.T, mirror string) {
			each(t, filepath.Join(mirror, "objects/pack/*.idx"), func(f string) {
				must(t, os.WriteFile(f, []byte("nonsense"), 0o600))
			})
		},
		"refs of nonsense": func(t *testing.T, mirror string) {
			must(t, os.WriteFile(filepath.Join(mirror, "packed-refs"), []byte("\x00\x01 what\n\n\n"), 0o600))
		},
		"no objects": func(t *testing.T, mirror string) {
			each(t, filepath.Join(mirror, "objects/pack/*"), func(f string) { must(t, os.Remove(f)) })
		},
	}
	for name, harm := range damage {
		t.Run(name, func(t *testing.T) {
			r := newRemote(t)
			dir := t.TempDir()
			first := r.commit(map[string]string{"a": "1"})
			r.set("main", first)
			fetch(t, newMirrors(t, dir), r.remote())
			each(t, filepath.Join(dir, "mirrors/*"), func(f string) { harm(t, f) })

			second := r.commit(map[string]string{"a": "2"}, first)
			r.set("main", second)
			m := newMirrors(t, dir)
			fetch(t, m, r.remote())
			got, _ := checkout(t, m, second)
			if diff := cmp.Diff(map[string]string{"a": "2"}, listing(t, got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Damage in the middle of a pack is seen by who reads it, and healed by the
// fetch after.
func TestFetchHealsWhatAReaderFound(t *testing.T) {
	r := newRemote(t)
	dir := t.TempDir()
	sha := r.commit(map[string]string{"a": strings.Repeat("line of text\n", 100)})
	r.set("main", sha)
	fetch(t, newMirrors(t, dir), r.remote())
	each(t, filepath.Join(dir, "mirrors/*/objects/pack/*.pack"), func(f string) {
		content, err := os.ReadFile(f)
		must(t, err)
		for i := 12; i < len(content)-20; i++ {
			content[i] = 0xff
		}
		must(t, os.Chmod(f, 0o600))
		must(t, os.WriteFile(f, content, 0o600))
	})
	m := newMirrors(t, dir)
	if _, _, err := m.Checkout(t.Context(), repo, sha); err == nil || errors.Is(err, vcs.ErrNotFound) {
		t.Fatalf("checkout of a damaged mirror: %v", err)
	}
	fetch(t, m, r.remote())
	checkout(t, m, sha)
}

func TestFetchJoinsPacks(t *testing.T) {
	r := newRemote(t)
	dir := t.TempDir()
	m := newMirrors(t, dir)
	var shas []string
	for i := range 40 {
		sha := r.commit(map[string]string{"a": strings.Repeat("text ", i), "b": "same"}, shas[max(0, i-1):]...)
		shas = append(shas, sha)
		r.set("main", sha)
		fetch(t, m, r.remote())
	}
	packs, _ := filepath.Glob(filepath.Join(dir, "mirrors/*/objects/pack/*.pack"))
	if len(packs) > 32 {
		t.Errorf("%d packs are left", len(packs))
	}
	for _, m := range []*git.Mirrors{m, newMirrors(t, dir)} {
		for _, sha := range shas {
			checkout(t, m, sha)
		}
	}
}

func TestConcurrentFetchAndRead(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	shas := []string{r.commit(map[string]string{"a": "0"})}
	r.set("main", shas[0])
	fetch(t, m, r.remote())
	for i := range 20 {
		sha := r.commit(map[string]string{"a": strings.Repeat("x", i+1)}, shas[i])
		shas = append(shas, sha)
		r.set("main", sha)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := m.Fetch(t.Context(), repo, r.remote()); err != nil {
					t.Error(err)
				}
				// What was there when Fetch was called must be there now.
				if got, err := m.Resolve(t.Context(), repo, "main"); err != nil || got != sha {
					t.Errorf("main = %q, %v, want %q", got, err, sha)
				}
			})
			wg.Go(func() {
				_, release, err := m.Checkout(t.Context(), repo, shas[i])
				if err != nil {
					t.Error(err)
					return
				}
				release()
			})
		}
		wg.Wait()
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	r := newRemote(t)
	r.set("main", r.commit(map[string]string{"a": "1"}))
	m := newMirrors(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Fetch(ctx, repo, r.remote()); !errors.Is(err, context.Canceled) {
		t.Errorf("fetch: %v, want context.Canceled", err)
	}
	fetch(t, m, r.remote()) // and the next caller is not harmed
}

func TestNewRemovesUnfinishedWork(t *testing.T) {
	dir := t.TempDir()
	newMirrors(t, dir)
	for _, d := range []string{"mirrors/.tmp-1/objects", "checkouts/x/.tmp-2/files"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	newMirrors(t, dir)
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		if strings.HasPrefix(d.Name(), ".tmp-") {
			t.Errorf("left: %s", path)
		}
		return nil
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func each(t *testing.T, pattern string, fn func(string)) {
	t.Helper()
	found, err := filepath.Glob(pattern)
	must(t, err)
	if len(found) == 0 {
		t.Fatalf("nothing matches %s", pattern)
	}
	for _, f := range found {
		fn(f)
	}
}
