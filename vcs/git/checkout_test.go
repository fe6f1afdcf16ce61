package git_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/google/go-cmp/cmp"

	"holdfast/vcs"
	"holdfast/vcs/git"
)

func TestCheckout(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	files := map[string]file{
		"main.tf":           {filemode.Regular, "resource {}"},
		"run.sh":            {filemode.Executable, "#!/bin/sh"},
		"empty":             {filemode.Regular, ""},
		"a/b/c/deep.tf":     {filemode.Regular, "deep"},
		"a/b/link":          {filemode.Symlink, "../../main.tf"},
		"a/to-dir":          {filemode.Symlink, "b/c"},
		"a/through":         {filemode.Symlink, "to-dir/../link"},
		"dangling":          {filemode.Symlink, "nothing/here"},
		"loop":              {filemode.Symlink, "loop"},
		"into-file":         {filemode.Symlink, "main.tf/x"},
		"modules/sub":       {filemode.Submodule, "not looked at"},
		"name with\nbreak ": {filemode.Regular, "odd"},
		".gitignore":        {filemode.Regular, "*"},
		"..hidden/x":        {filemode.Regular, "fine"},
		"old-mode":          {filemode.Deprecated, "group writable"},
	}
	sha := r.commitTree(r.tree(files))
	r.set("main", sha)
	fetch(t, m, r.remote())
	dir, _ := checkout(t, m, sha)
	want := map[string]string{}
	for path, f := range files {
		switch f.mode {
		case filemode.Symlink:
			want[path] = "-> " + f.content
		case filemode.Executable:
			want[path] = "+x " + f.content
		case filemode.Submodule:
		default:
			want[path] = f.content
		}
	}
	if diff := cmp.Diff(want, listing(t, dir)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, _, err := m.Checkout(t.Context(), repo, strings.Repeat("ab", 20)); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("unknown commit: %v, want ErrNotFound", err)
	}
	for _, bad := range []string{"main", "../../x", "", sha[:10], strings.ToUpper(sha)} {
		if _, _, err := m.Checkout(t.Context(), repo, bad); !errors.Is(err, vcs.ErrNotFound) {
			t.Errorf("Checkout(%q): %v, want ErrNotFound", bad, err)
		}
	}
}

func TestCheckoutRefusesHostileTrees(t *testing.T) {
	r := newRemote(t)
	outside := t.TempDir()
	x := r.blob("x")
	link := func(name, target string) object.TreeEntry {
		return object.TreeEntry{Name: name, Mode: filemode.Symlink, Hash: r.blob(target)}
	}
	leaf := func(name string) object.TreeEntry {
		return object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: x}
	}
	dir := func(name string, entries ...object.TreeEntry) object.TreeEntry {
		return object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: r.rawTree(entries...)}
	}
	escapes := map[string]plumbing.Hash{
		"absolute link":      r.rawTree(link("l", "/etc/passwd")),
		"link above":         r.rawTree(link("l", "../x")),
		"link above, nested": r.rawTree(dir("d", link("l", "../../x"))),
		"link down and up":   r.rawTree(link("l", "a/../../x")),
		"link into sibling":  r.rawTree(link("l", "../"+filepath.Base(outside))),
		// Inside by its name, outside when the first link is followed.
		"links through links": r.rawTree(link("e", "p/q/up/../x"), dir("p", dir("q", link("up", "../..")))),
	}
	for name, tree := range escapes {
		t.Run(name, func(t *testing.T) { r.checkedOut(t, tree) })
	}
	paths := map[string]plumbing.Hash{
		"dot dot":            r.rawTree(leaf("..")),
		"dot dot dir":        r.rawTree(dir("..", leaf("x"))),
		"dot":                r.rawTree(leaf(".")),
		"slash":              r.rawTree(leaf("../../x")),
		"absolute":           r.rawTree(leaf("/etc/x")),
		"backslash":          r.rawTree(leaf(`..\x`)),
		"git":                r.rawTree(dir(".git", leaf("config"))),
		"git, other case":    r.rawTree(dir(".GiT", leaf("config"))),
		"git, nested":        r.rawTree(dir("d", dir(".git", leaf("config")))),
		"git, short name":    r.rawTree(dir("GIT~1", leaf("config"))),
		"git, trailing dot":  r.rawTree(dir(".git.", leaf("config"))),
		"git, stream":        r.rawTree(dir(".git::$INDEX_ALLOCATION", leaf("config"))),
		"git, ignored":       r.rawTree(dir(".g\u200cit", leaf("config"))),
		"twice":              r.rawTree(leaf("a"), leaf("a")),
		"link, then through": r.rawTree(link("a", outside), dir("a", leaf("x"))),
		"long name":          r.rawTree(leaf(strings.Repeat("n", 300))),
		"empty link":         r.rawTree(link("l", "")),
		"link with zero":     r.rawTree(link("l", "a\x00b")),
		"link with slash":    r.rawTree(link("l", `..\..\x`)),
		"deep": func() plumbing.Hash {
			h := r.rawTree(leaf("x"))
			for range 400 {
				h = r.rawTree(object.TreeEntry{Name: "d", Mode: filemode.Dir, Hash: h})
			}
			return h
		}(),
	}
	for name, tree := range paths {
		t.Run(name, func(t *testing.T) { refused[*git.PathError](t, r, tree) })
	}
	if got := listing(t, outside); len(got) > 0 {
		t.Errorf("written outside: %v", got)
	}
}

// refused checks out a tree, and expects an error of type E and no trace.
func refused[E interface {
	error
	Hint() string
}](t *testing.T, r *remoteRepo, tree plumbing.Hash) {
	t.Helper()
	sha := r.commitTree(tree)
	r.set("refs/pull/1/head", sha)
	data := t.TempDir()
	m := newMirrors(t, data)
	fetch(t, m, r.remote(), "refs/pull/1/head")
	dir, _, err := m.Checkout(t.Context(), repo, sha)
	var want E
	if !errors.As(err, &want) {
		t.Fatalf("got %q, %v, want %T", dir, err, want)
	}
	if want.Hint() == "" {
		t.Error("no hint")
	}
	if got := listing(t, filepath.Join(data, "checkouts")); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
}

// checkedOut makes a checkout of a tree whose links lead out of it, and checks
// that they are links there, and that nothing else was touched.
func (r *remoteRepo) checkedOut(t *testing.T, tree plumbing.Hash) {
	t.Helper()
	sha := r.commitTree(tree)
	r.set("refs/pull/1/head", sha)
	m := newMirrors(t, t.TempDir())
	fetch(t, m, r.remote(), "refs/pull/1/head")
	dir, release, err := m.Checkout(t.Context(), repo, sha)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	links := 0
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Type()&fs.ModeSymlink != 0 {
			links++
		}
		return err
	})
	if err != nil || links == 0 {
		t.Errorf("%d links, %v", links, err)
	}
}

func TestCheckoutIsShared(t *testing.T) {
	r := newRemote(t)
	data := t.TempDir()
	m := newMirrors(t, data)
	sha := r.commit(map[string]string{"a": "1"})
	r.set("main", sha)
	fetch(t, m, r.remote())
	var wg sync.WaitGroup
	dirs := make([]string, 16)
	for i := range dirs {
		wg.Go(func() {
			dir, release, err := m.Checkout(t.Context(), repo, sha)
			if err != nil {
				t.Error(err)
				return
			}
			dirs[i] = dir
			release()
			release()
		})
	}
	wg.Wait()
	for _, dir := range dirs {
		if dir != dirs[0] {
			t.Errorf("two directories for one commit: %s and %s", dir, dirs[0])
		}
	}
	// After a restart it is used as it is.
	must(t, os.WriteFile(filepath.Join(dirs[0], "made-by-a-run"), nil, 0o600))
	dir, _ := checkout(t, newMirrors(t, data), sha)
	if _, err := os.Stat(filepath.Join(dir, "made-by-a-run")); err != nil {
		t.Errorf("made again after a restart: %v", err)
	}
	// But not what a machine that went down may have lost.
	must(t, os.WriteFile(dir+".used", []byte("another boot"), 0o600))
	dir, _ = checkout(t, newMirrors(t, data), sha)
	if _, err := os.Stat(filepath.Join(dir, "made-by-a-run")); err == nil {
		t.Error("used again after the machine was started anew")
	}
}

func TestCheckoutsAreRemoved(t *testing.T) {
	r := newRemote(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m, err := git.New(git.Config{Dir: t.TempDir(), MaxCheckouts: 2, Clock: func() time.Time { return now }})
	must(t, err)
	var shas []string
	for i := range 10 {
		shas = append(shas, r.commit(map[string]string{"a": fmt.Sprint(i)}))
		r.set(fmt.Sprint("b", i), shas[i])
	}
	fetch(t, m, r.remote())
	dirs := make([]string, len(shas))
	use := func(i int) (release func()) {
		t.Helper()
		dir, release, err := m.Checkout(t.Context(), repo, shas[i])
		must(t, err)
		dirs[i] = dir
		return release
	}
	gone := func(want ...int) {
		t.Helper()
		for i, dir := range dirs {
			_, err := os.Stat(dir)
			is := dir != "" && errors.Is(err, os.ErrNotExist)
			if should := strings.Contains(fmt.Sprint(want), fmt.Sprint(i)); is != should {
				t.Errorf("checkout %d removed: %v, want %v", i, is, should)
			}
		}
	}
	use(0)() // unused since
	inUse := use(1)
	use(2)()
	must(t, os.WriteFile(filepath.Join(dirs[2], ".terraform.tfstate.lock.info"), nil, 0o600))
	use(3)()
	must(t, os.WriteFile(filepath.Join(dirs[3], "errored.tfstate"), nil, 0o600))
	use(4)()
	gone() // all used within the hour

	now = now.Add(30 * time.Minute)
	use(5)()
	now = now.Add(45 * time.Minute)
	use(6)()
	gone(0, 4) // 5 was used 45 minutes ago

	inUse()
	now = now.Add(2 * time.Hour)
	use(7)()
	gone(0, 1, 4, 5, 6)
}

func TestCheckoutGivenUp(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	sha := r.commit(map[string]string{"a": "1"})
	r.set("main", sha)
	fetch(t, m, r.remote())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, release, err := m.Checkout(ctx, repo, sha); err == nil {
				release()
			}
		})
		wg.Go(func() {
			dir, release, err := m.Checkout(t.Context(), repo, sha)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if _, err := os.Stat(filepath.Join(dir, "a")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestCheckoutOfALargeTree(t *testing.T) {
	r := newRemote(t)
	m := newMirrors(t, t.TempDir())
	files := map[string]string{}
	for i := range 2000 {
		files[fmt.Sprintf("live/%02d/%02d/main-%d.tf", i%40, i%7, i)] = strings.Repeat(fmt.Sprintf("resource %d {}\n", i), 40)
	}
	sha := r.commit(files)
	r.set("main", sha)
	fetch(t, m, r.remote())
	start := time.Now()
	dir, _ := checkout(t, m, sha)
	t.Logf("%d files in %v", len(files), time.Since(start))
	if diff := cmp.Diff(files, listing(t, dir)); diff != "" {
		t.Error("the checkout differs from the tree")
	}
}
