package git

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Bounds of a tree, so that a small pack cannot ask for an endless checkout.
const (
	maxEntries    = 2_000_000
	maxDepth      = 256
	maxLinkTarget = 4096 // bytes
)

// treeEntry is a file, link or directory of a commit.
type treeEntry struct {
	path string // with slashes, from the root
	mode filemode.FileMode
	hash plumbing.Hash
}

// listTree lists a tree and all below it, directories before their content.
// Submodules are left out. A name that cannot be written safely is a
// *PathError.
func listTree(ctx context.Context, s *filesystem.Storage, root plumbing.Hash) ([]treeEntry, error) {
	var entries []treeEntry
	var walk func(h plumbing.Hash, dir string, depth int) error
	walk = func(h plumbing.Hash, dir string, depth int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if depth > maxDepth {
			return &PathError{Path: dir, Reason: "lies too deep"}
		}
		tree, err := object.GetTree(s, h)
		if err != nil {
			return asDamage(fmt.Errorf("read tree %s: %w", h, err))
		}
		seen := make(map[string]bool, len(tree.Entries))
		for _, e := range tree.Entries {
			name := path.Join(dir, e.Name)
			if reason := unsafeName(e.Name); reason != "" {
				return &PathError{Path: dir + "/" + e.Name, Reason: reason}
			}
			// Of two entries with one name, the second could be written
			// through a link that the first one made.
			if seen[e.Name] {
				return &PathError{Path: name, Reason: "occurs twice"}
			}
			seen[e.Name] = true
			if len(entries) >= maxEntries {
				return &PathError{Path: name, Reason: fmt.Sprintf("is one too many: more than %d files", maxEntries)}
			}
			if e.Mode == filemode.Submodule {
				continue
			}
			entries = append(entries, treeEntry{name, e.Mode, e.Hash})
			if e.Mode == filemode.Dir {
				if err := walk(e.Hash, name, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(root, "", 0); err != nil {
		return nil, err
	}
	return entries, nil
}

// unsafeName says what is wrong with one part of a path; empty where nothing
// is.
func unsafeName(name string) string {
	switch {
	case name == "" || name == "." || name == "..":
		return "is not a name"
	case strings.ContainsAny(name, "/\\\x00"):
		return "has a separator or a zero byte in a name"
	case len(name) > 255:
		return "has a name of more than 255 bytes"
	}
	// What case-folding file systems, HFS+ (which ignores some characters) and
	// NTFS (short names, trailing dots and streams) take for .git.
	folded := strings.ToLower(strings.Map(func(r rune) rune {
		switch {
		case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
			return -1
		}
		return r
	}, name))
	folded, _, _ = strings.Cut(folded, ":")
	folded = strings.TrimRight(folded, " .")
	if folded == ".git" || folded == "git~1" {
		return "belongs to Git itself"
	}
	return ""
}

// writeTree writes entries below dir, which exists and is empty. The caller
// reads mi.
func writeTree(ctx context.Context, mi *mirror, entries []treeEntry, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open directory: %w", err)
	}
	defer root.Close()
	var files, links []treeEntry
	for _, e := range entries {
		switch e.mode {
		case filemode.Dir:
			if err := root.Mkdir(e.path, 0o755); err != nil {
				return fmt.Errorf("create directory: %w", err)
			}
		case filemode.Symlink:
			links = append(links, e)
		default:
			files = append(files, e)
		}
	}
	if err := writeFiles(ctx, mi, files, root); err != nil {
		return err
	}
	// Links come last: nothing is ever written through one.
	return mi.use(func(s *filesystem.Storage) error { return writeLinks(s, links, root) })
}

// writeFiles writes files with a few workers. Each takes the files of a run of
// directories, and opens each directory once.
func writeFiles(ctx context.Context, mi *mirror, files []treeEntry, root *os.Root) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	const run = 64 // files that a worker takes at a time
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(2*runtime.GOMAXPROCS(0), 8, 1+len(files)/run) {
		wg.Go(func() {
			err := mi.use(func(s *filesystem.Storage) error {
				for {
					start := int(next.Add(run)) - run
					if start >= len(files) {
						return nil
					}
					if err := writeRun(ctx, s, files[start:min(start+run, len(files))], root); err != nil {
						return err
					}
				}
			})
			if err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func writeRun(ctx context.Context, s *filesystem.Storage, files []treeEntry, root *os.Root) error {
	buf := make([]byte, 32<<10)
	for len(files) > 0 {
		dir := path.Dir(files[0].path)
		n := slices.IndexFunc(files, func(e treeEntry) bool { return path.Dir(e.path) != dir })
		if n < 0 {
			n = len(files)
		}
		err := func() error {
			in, err := root.OpenRoot(dir)
			if err != nil {
				return fmt.Errorf("open directory: %w", err)
			}
			defer in.Close()
			for _, e := range files[:n] {
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				if err := writeFile(s, e, in, buf); err != nil {
					return err
				}
			}
			return nil
		}()
		if err != nil {
			return err
		}
		files = files[n:]
	}
	return nil
}

// writeFile writes one blob into dir.
func writeFile(s *filesystem.Storage, e treeEntry, dir *os.Root, buf []byte) (err error) {
	blob, err := s.EncodedObject(plumbing.BlobObject, e.hash)
	if err != nil {
		return asDamage(fmt.Errorf("read %s: %w", e.path, err))
	}
	r, err := blob.Reader()
	if err != nil {
		return asDamage(fmt.Errorf("read %s: %w", e.path, err))
	}
	defer r.Close()
	perm := os.FileMode(0o644)
	if e.mode == filemode.Executable {
		perm = 0o755
	}
	f, err := dir.OpenFile(path.Base(e.path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return fmt.Errorf("write %s: %w", e.path, err)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{r}, buf)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", e.path, asDamage(err))
	}
	if n != blob.Size() {
		return asDamage(fmt.Errorf("read %s: %d bytes of %d", e.path, n, blob.Size()))
	}
	return nil
}

// writeLinks makes the symbolic links as they are, wherever they lead: one that
// leaves the repository spoils only the workspaces that have it, which is for
// those to judge who read the checkout. Nothing is written through a link.
func writeLinks(s *filesystem.Storage, links []treeEntry, root *os.Root) error {
	for _, e := range links {
		target, err := linkTarget(s, e)
		if err != nil {
			return err
		}
		if err := root.Symlink(target, e.path); err != nil {
			return fmt.Errorf("write link %s: %w", e.path, err)
		}
	}
	return nil
}

func linkTarget(s *filesystem.Storage, e treeEntry) (string, error) {
	blob, err := object.GetBlob(s, e.hash)
	if err != nil {
		return "", asDamage(fmt.Errorf("read link %s: %w", e.path, err))
	}
	if blob.Size == 0 || blob.Size > maxLinkTarget {
		return "", &PathError{Path: e.path, Reason: fmt.Sprintf("is a link to a name of %d bytes", blob.Size)}
	}
	r, err := blob.Reader()
	if err != nil {
		return "", asDamage(fmt.Errorf("read link %s: %w", e.path, err))
	}
	defer r.Close()
	target, err := io.ReadAll(r)
	if err != nil {
		return "", asDamage(fmt.Errorf("read link %s: %w", e.path, err))
	}
	if strings.ContainsAny(string(target), "\\\x00") {
		return "", &PathError{Path: e.path, Reason: "is a link to a name with a backslash or a zero byte"}
	}
	return string(target), nil
}
