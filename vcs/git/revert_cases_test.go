package git_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// entriesOf returns what a commit of the remote has: files, links, and
// submodules by the content that their name was made of.
func entriesOf(t *testing.T, r *remoteRepo, sha string) map[string]file {
	t.Helper()
	s := r.fresh()
	c, err := object.GetCommit(s, plumbing.NewHash(sha))
	must(t, err)
	root, err := c.Tree()
	must(t, err)
	found := map[string]file{}
	w := object.NewTreeWalker(root, true, nil)
	defer w.Close()
	for {
		name, e, err := w.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		must(t, err)
		if e.Mode == filemode.Dir {
			if sub, err := object.GetTree(s, e.Hash); err != nil || len(sub.Entries) == 0 {
				t.Errorf("directory %s is empty: %v", name, err)
			}
			continue
		}
		blob, err := object.GetBlob(s, e.Hash)
		must(t, err)
		rd, err := blob.Reader()
		must(t, err)
		content, err := io.ReadAll(rd)
		must(t, err)
		found[name] = file{e.Mode, string(content)}
	}
}

// with is files with some changed; a file without a mode is taken out.
func with(files map[string]file, changed map[string]file) map[string]file {
	all := beside(files, changed)
	maps.DeleteFunc(all, func(_ string, f file) bool { return f.mode == filemode.Empty })
	return all
}

// beside is both.
func beside(files, more map[string]file) map[string]file {
	all := maps.Clone(files)
	maps.Copy(all, more)
	return all
}

func reg(content string) file  { return file{filemode.Regular, content} }
func exec(content string) file { return file{filemode.Executable, content} }
func link(target string) file  { return file{filemode.Symlink, target} }
func sub(commit string) file   { return file{filemode.Submodule, commit} }

var gone file

// numbered is a text of some lines, of which those named are others.
func numbered(changed map[int]string) string {
	var b strings.Builder
	for i := range 30 {
		line, ok := changed[i]
		if !ok {
			line = fmt.Sprint("line ", i)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

var when = time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("", 3600))

// files are those that no case touches, and some that they do.
var seed = map[string]file{
	"README":        reg("read me\n"),
	"a/main.tf":     reg(numbered(nil)),
	"a/run.sh":      exec("#!/bin/sh\n"),
	"a/current":     link("main.tf"),
	"b/c/d/deep.tf": reg("deep\n"),
	"b/image.png":   reg("\x89PNG\x00one"),
	"modules/net":   sub("first"),
}

type revertCase struct {
	change map[string]file // what is taken back
	later  map[string]file // what came after it
	want   map[string]file // beside what later left
	// conflicts, or that there is nothing to do.
	conflicts []string
	nothing   bool
}

var revertCases = map[string]revertCase{
	"changed":               {change: map[string]file{"README": reg("other\n")}, want: map[string]file{"README": seed["README"]}},
	"added":                 {change: map[string]file{"new.tf": reg("n\n"), "a/new.tf": reg("n\n")}, want: map[string]file{"new.tf": gone, "a/new.tf": gone}},
	"added directories":     {change: map[string]file{"x/y/z.tf": reg("z\n")}, want: map[string]file{"x/y/z.tf": gone}},
	"deleted":               {change: map[string]file{"README": gone}, want: map[string]file{"README": seed["README"]}},
	"deleted directories":   {change: map[string]file{"b/c/d/deep.tf": gone}, want: map[string]file{"b/c/d/deep.tf": seed["b/c/d/deep.tf"]}},
	"renamed":               {change: map[string]file{"README": gone, "docs/README": seed["README"]}, want: map[string]file{"README": seed["README"], "docs/README": gone}},
	"made executable":       {change: map[string]file{"README": exec("read me\n")}, want: map[string]file{"README": seed["README"]}},
	"binary":                {change: map[string]file{"b/image.png": reg("\x89PNG\x00two")}, want: map[string]file{"b/image.png": seed["b/image.png"]}},
	"link":                  {change: map[string]file{"a/current": link("run.sh")}, want: map[string]file{"a/current": link("main.tf")}},
	"link became a file":    {change: map[string]file{"a/current": reg("main.tf")}, want: map[string]file{"a/current": link("main.tf")}},
	"submodule":             {change: map[string]file{"modules/net": sub("second"), "modules/dns": sub("third")}, want: map[string]file{"modules/net": sub("first"), "modules/dns": gone}},
	"file became directory": {change: map[string]file{"README": gone, "README/x": reg("x\n")}, want: map[string]file{"README": seed["README"], "README/x": gone}},
	"directory became file": {change: map[string]file{"b/c/d/deep.tf": gone, "b/c": reg("c\n")}, want: map[string]file{"b/c": gone, "b/c/d/deep.tf": seed["b/c/d/deep.tf"]}},
	"everything": {
		change: map[string]file{"README": gone, "a/main.tf": gone, "a/run.sh": gone, "a/current": gone, "b/c/d/deep.tf": gone, "b/image.png": gone, "modules/net": gone, "only": reg("1\n")},
		want:   beside(seed, map[string]file{"only": gone}),
	},

	"another file since": {
		change: map[string]file{"README": reg("other\n")}, later: map[string]file{"a/main.tf": reg("later\n"), "new": reg("n\n")},
		want: map[string]file{"README": seed["README"]},
	},
	"another place since": {
		change: map[string]file{"a/main.tf": reg(numbered(map[int]string{3: "changed"}))},
		later:  map[string]file{"a/main.tf": reg(numbered(map[int]string{3: "changed", 20: "later", 25: "and more"}))},
		want:   map[string]file{"a/main.tf": reg(numbered(map[int]string{20: "later", 25: "and more"}))},
	},
	"mode and content": {
		change: map[string]file{"a/main.tf": exec(numbered(map[int]string{3: "changed"}))},
		later:  map[string]file{"a/main.tf": exec(numbered(map[int]string{3: "changed", 20: "later"}))},
		want:   map[string]file{"a/main.tf": reg(numbered(map[int]string{20: "later"}))},
	},
	"content changed, mode since": {
		change: map[string]file{"README": reg("other\n")}, later: map[string]file{"README": exec("other\n")},
		want: map[string]file{"README": exec("read me\n")},
	},
	"mode changed, content since": {
		change: map[string]file{"README": exec("read me\n")}, later: map[string]file{"README": exec("later\n")},
		want: map[string]file{"README": reg("later\n")},
	},
	"the same place since": {
		change:    map[string]file{"a/main.tf": reg(numbered(map[int]string{3: "changed"})), "README": reg("other\n")},
		later:     map[string]file{"a/main.tf": reg(numbered(map[int]string{3: "later"}))},
		conflicts: []string{"a/main.tf"},
	},
	"the next line since": {
		change:    map[string]file{"a/main.tf": reg(numbered(map[int]string{3: "changed"}))},
		later:     map[string]file{"a/main.tf": reg(numbered(map[int]string{3: "changed", 4: "later"}))},
		conflicts: []string{"a/main.tf"},
	},
	"binary since": {
		change:    map[string]file{"b/image.png": reg("\x89PNG\x00two")},
		later:     map[string]file{"b/image.png": reg("\x89PNG\x00three")},
		conflicts: []string{"b/image.png"},
	},
	"large since": {
		change:    map[string]file{"a/main.tf": reg(strings.Repeat("x", 2<<20) + "\n")},
		later:     map[string]file{"a/main.tf": reg(strings.Repeat("x", 2<<20) + "\nlater\n")},
		conflicts: []string{"a/main.tf"},
	},
	"link since": {
		change: map[string]file{"a/current": link("run.sh")}, later: map[string]file{"a/current": link("elsewhere")},
		conflicts: []string{"a/current"},
	},
	"submodule since": {
		change: map[string]file{"modules/net": sub("second")}, later: map[string]file{"modules/net": sub("third")},
		conflicts: []string{"modules/net"},
	},
	"deleted since": {
		change: map[string]file{"README": reg("other\n")}, later: map[string]file{"README": gone},
		conflicts: []string{"README"},
	},
	"deleted, made anew since": {
		change: map[string]file{"README": gone}, later: map[string]file{"README": reg("anew\n")},
		conflicts: []string{"README"},
	},
	"added, changed since": {
		change: map[string]file{"x/new.tf": reg("n\n")}, later: map[string]file{"x/new.tf": reg("m\n")},
		conflicts: []string{"x/new.tf"},
	},
	"renamed since": {
		change: map[string]file{"README": reg("other\n")}, later: map[string]file{"README": gone, "README.md": reg("other\n")},
		conflicts: []string{"README"},
	},
	"two at once": {
		change:    map[string]file{"README": reg("other\n"), "a/run.sh": gone, "new": reg("n\n")},
		later:     map[string]file{"README": reg("later\n"), "a/run.sh": exec("anew\n")},
		conflicts: []string{"README", "a/run.sh"},
	},
	"directory in the way": {
		change: map[string]file{"README": gone}, later: map[string]file{"README/x": reg("x\n")},
		conflicts: []string{"README"},
	},
	"file in the way": {
		change: map[string]file{"b/c/d/deep.tf": gone}, later: map[string]file{"b/c": reg("c\n")},
		conflicts: []string{"b/c"},
	},
	"used on since": {
		change: map[string]file{"x/y/z.tf": reg("z\n")}, later: map[string]file{"x/y/more.tf": reg("m\n")},
		want: map[string]file{"x/y/z.tf": gone},
	},
	"partly taken back": {
		change: map[string]file{"README": reg("other\n"), "new": reg("n\n"), "a/run.sh": gone},
		later:  map[string]file{"README": seed["README"], "new": gone},
		want:   map[string]file{"a/run.sh": seed["a/run.sh"]},
	},
	"taken back": {
		change:  map[string]file{"README": reg("other\n"), "new": reg("n\n"), "a/run.sh": gone},
		later:   map[string]file{"README": seed["README"], "new": gone, "a/run.sh": seed["a/run.sh"], "more": reg("m\n")},
		nothing: true,
	},
	"lines taken back": {
		change:  map[string]file{"a/main.tf": reg(numbered(map[int]string{3: "changed"}))},
		later:   map[string]file{"a/main.tf": reg(numbered(map[int]string{20: "later"}))},
		nothing: true,
	},
	"no change": {nothing: true},
}
