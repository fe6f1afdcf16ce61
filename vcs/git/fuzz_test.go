package git

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/object"

	"holdfast/vcs"
)

func FuzzLocate(f *testing.F) {
	for _, s := range []string{
		"https://git.example.com/team/live.git", "http://127.0.0.1:3000/x", "ssh://git@git.example.com:2222/x.git",
		"git@git.example.com:team/live.git", "file:///srv/git/x", "/srv/git/x", "https://a:b@c/d", "ext::sh -c x", "-x:y", "C:\\x", "[::1]:x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		loc, err := locate(raw)
		if err != nil {
			if len(raw) > 12 && strings.Contains(err.Error(), raw) {
				t.Errorf("the error repeats the URL: %v", err)
			}
			return
		}
		if !slices.Contains([]string{"https", "http", "ssh", "file"}, loc.scheme) {
			t.Errorf("scheme %q", loc.scheme)
		}
		if (loc.scheme == "file") != filepath.IsAbs(loc.path) || (loc.scheme == "file") == (loc.url != "") {
			t.Errorf("got %+v", loc)
		}
		if strings.HasPrefix(loc.scheme, "http") && strings.Contains(strings.SplitN(loc.url+"/", "/", 4)[2], "@") {
			t.Errorf("credentials in %q", loc.url)
		}
	})
}

// FuzzTree writes trees of any bytes: nothing may appear outside the
// directory, and nothing that Git itself would run.
func FuzzTree(f *testing.F) {
	id := strings.Repeat("\x01", 20)
	for _, s := range []string{
		"100644 a\x00" + id, "120000 a\x00" + id + "40000 a\x00" + id, "40000 ..\x00" + id, "100755 .git\x00" + id, "100644 a/b\x00" + id, "160000 sub\x00" + id, "7 \x00",
	} {
		f.Add([]byte(s), "../../x")
	}
	f.Fuzz(func(t *testing.T, data []byte, content string) {
		dir := t.TempDir()
		bare, out := filepath.Join(dir, "bare"), filepath.Join(dir, "a", "out")
		if err := errors.Join(initBare(bare), os.MkdirAll(out, 0o700)); err != nil {
			t.Fatal(err)
		}
		s := openStorage(bare, cache.NewObjectLRUDefault())
		blob, tree := &plumbing.MemoryObject{}, &plumbing.MemoryObject{}
		blob.SetType(plumbing.BlobObject)
		_, _ = blob.Write([]byte(content))
		h, err := s.SetEncodedObject(blob)
		if err != nil {
			t.Fatal(err)
		}
		// Names that lead to the blob are what makes it interesting.
		tree.SetType(plumbing.TreeObject)
		_, _ = tree.Write([]byte(strings.ReplaceAll(string(data), id, string(h[:]))))
		root, err := s.SetEncodedObject(tree)
		if err != nil {
			t.Fatal(err)
		}
		mi := &mirror{repo: vcs.Repository{}, dir: bare, objects: cache.NewObjectLRUDefault()}
		entries, err := listTree(context.Background(), s, root)
		if err == nil {
			err = writeTree(context.Background(), mi, entries, out)
		}
		for place, want := range map[string]int{dir: 2, filepath.Join(dir, "a"): 1} {
			if found, rerr := os.ReadDir(place); rerr != nil || len(found) != want {
				t.Errorf("%d entries in %s, %v, want %d", len(found), place, rerr, want)
			}
		}
		if err != nil {
			return
		}
		found, err := os.ReadDir(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range found {
			if strings.EqualFold(e.Name(), ".git") {
				t.Errorf("%q was written", e.Name())
			}
		}
		if _, err := object.GetTree(s, root); err != nil {
			t.Errorf("written, but cannot be read: %v", err)
		}
	})
}
