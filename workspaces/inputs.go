package workspaces

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Inputs returns a hex SHA-256 of everything in the checkout at dir that w's
// plan depends on: the same files as Affected looks at, by path and content,
// and w's layout; not its policy. Two commits with the same Inputs have the
// same plan as far as Git decides about it.
//
// Files that Holdfast and the engines leave in a checkout do not count, as far
// as their names tell; with Config.Tracked only what is in Git does.
func (c *Config) Inputs(dir string, w Workspace) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("open checkout: %w", err)
	}
	defer root.Close()
	in := &inputs{c: c, t: &tree{root: root}, files: map[string]bool{}, followed: map[string]bool{}}
	if err := in.collect(w); err != nil {
		return "", fmt.Errorf("list the inputs of %s: %w", w.Name, err)
	}
	sum, err := in.sum(w)
	if err != nil {
		return "", fmt.Errorf("hash the inputs of %s: %w", w.Name, err)
	}
	return sum, nil
}

// inputs is the files of one workspace.
type inputs struct {
	c     *Config
	t     *tree
	files map[string]bool // regular files and symbolic links
	queue []string        // links that are still to be followed
	// followed are directories that a link has led to.
	followed map[string]bool
}

// collect lists the files.
func (in *inputs) collect(w Workspace) error {
	err := in.walk(w.Dir, func(dir string) bool { return in.c.dirs[dir] })
	if err != nil {
		return err
	}
	for _, m := range w.Modules {
		if err := in.walk(m, func(dir string) bool { return !in.c.partOf(dir, m, w) }); err != nil {
			return err
		}
	}
	for _, f := range w.VarFiles {
		in.add(path.Join(w.Dir, f), false)
	}
	for _, g := range w.Watch {
		err := doublestar.GlobWalk(in.t.root.FS(), g, func(p string, e fs.DirEntry) error {
			in.add(p, e.Type()&fs.ModeSymlink != 0)
			return nil
		}, doublestar.WithFilesOnly(), doublestar.WithNoFollow())
		if err != nil {
			return err
		}
	}
	return in.follow()
}

// walk adds what is in a directory and below, but for what is not counted with
// it. A directory that is not there has no files.
func (in *inputs) walk(dir string, elsewhere func(dir string) bool) error {
	return fs.WalkDir(in.t.root.FS(), dir, func(p string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case p != dir && skipped(dir, p):
			if e.IsDir() {
				return fs.SkipDir
			}
		case e.IsDir():
			if p != dir && (elsewhere(p) || dir == "." && strings.HasPrefix(p, ".")) {
				return fs.SkipDir
			}
		case e.Type().IsRegular() || e.Type()&fs.ModeSymlink != 0:
			in.add(p, e.Type()&fs.ModeSymlink != 0)
		}
		return nil
	})
}

// add takes a file in, unless it is not the repository's.
func (in *inputs) add(p string, link bool) {
	if in.files[p] || leftBehind(path.Base(p)) {
		return
	}
	if in.c.Tracked != nil {
		if _, ok := in.c.Tracked(p); !ok {
			return
		}
	}
	in.files[p] = true
	if link {
		in.queue = append(in.queue, p)
	}
}

// leftBehind reports whether a file has a name that only Holdfast and the
// engines give. Load refuses an overrideFile that says more than Holdfast
// would write, so none hides behind it.
func leftBehind(name string) bool {
	switch name {
	case overrideFile, "errored.tfstate", ".terraform.tfstate.lock.info", "crash.log":
		return true
	}
	return false
}

// follow adds what symbolic links lead to, each thing once.
func (in *inputs) follow() error {
	for ; len(in.queue) > 0; in.queue = in.queue[1:] {
		real, hops, err := in.t.resolve(in.queue[0])
		if err != nil {
			continue // the link itself is counted; Load has said that it leads nowhere
		}
		for _, hop := range hops {
			in.add(hop, true)
		}
		info, err := in.t.root.Stat(real)
		switch {
		case err != nil:
		case info.Mode().IsRegular():
			in.add(real, false)
		case info.IsDir() && !in.followed[real]:
			in.followed[real] = true
			if err := in.walk(real, func(string) bool { return false }); err != nil {
				return err
			}
		}
	}
	return nil
}

// sum hashes the workspace's layout and its files.
func (in *inputs) sum(w Workspace) (string, error) {
	layout, err := json.Marshal([]any{"inputs 1", w.Dir, w.Workspace, w.VarFiles, w.Engine, w.Version})
	if err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write(layout)
	for _, p := range slices.Sorted(maps.Keys(in.files)) {
		content, err := in.content(p)
		if err != nil {
			return "", err
		}
		// Lengths keep a name and a content apart from other ones.
		fmt.Fprintf(h, "\n%d %s %s", len(p), p, content)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// content describes what a path has: a file's hash, a link's target. One that
// is gone has nothing.
func (in *inputs) content(p string) (string, error) {
	if in.c.Tracked != nil {
		id, _ := in.c.Tracked(p)
		return id, nil
	}
	info, err := in.t.root.Lstat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "-", nil
	case err != nil:
		return "", err
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := in.t.root.Readlink(p)
		return fmt.Sprintf("-> %d %s", len(target), target), err
	case !info.Mode().IsRegular():
		return "-", nil
	}
	f, err := in.t.root.Open(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
