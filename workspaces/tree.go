package workspaces

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Bounds of what is read of a checkout.
const (
	maxFile  = 1 << 20 // bytes of a file that is parsed
	maxDepth = 100     // directories in each other
	maxHops  = 40      // symbolic links on the way to a file
)

// Reasons why a path of the checkout cannot be used.
var (
	errLeaves  = errors.New("leaves the repository")
	errTooBig  = errors.New("is larger than 1 MB")
	errNotFile = errors.New("is not a file")
	errLoop    = errors.New("is a symbolic link that leads to itself")
)

// listing is what a directory of a checkout has.
type listing struct {
	config []string // names of Terraform and OpenTofu files, sorted
	tests  []string // names of test files, which may call modules
	links  []string // names of symbolic links
}

// tree is a checkout's files. All access is through an os.Root, so that no
// link leads out of it. Paths are slash-separated and relative to it.
type tree struct {
	root *os.Root
	dirs map[string]*listing
}

// walk lists dir and everything below. Hidden directories are left out unless
// dir is one; links to directories are not followed. It returns the first
// directory that is deeper than what is walked, if there is one.
func (t *tree) walk(dir string) (tooDeep string, err error) {
	err = fs.WalkDir(t.root.FS(), dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("list %s: %w", p, err)
		}
		if e.IsDir() {
			if p != dir && strings.HasPrefix(e.Name(), ".") {
				return fs.SkipDir
			}
			if strings.Count(p, "/") >= maxDepth {
				if tooDeep == "" {
					tooDeep = p
				}
				return fs.SkipDir
			}
			t.dirs[p] = &listing{}
			return nil
		}
		l, ok := t.dirs[path.Dir(p)]
		if !ok {
			return nil // dir itself is a file
		}
		if e.Type()&fs.ModeSymlink != 0 {
			l.links = append(l.links, e.Name())
		} else if !e.Type().IsRegular() {
			return nil
		}
		switch {
		case isConfig(e.Name()):
			l.config = append(l.config, e.Name())
		case strings.HasSuffix(e.Name(), ".tftest.hcl") || strings.HasSuffix(e.Name(), ".tofutest.hcl"):
			l.tests = append(l.tests, e.Name())
		}
		return nil
	})
	return tooDeep, err
}

// list returns what dir has. It is walked now if it was not yet.
func (t *tree) list(dir string) (*listing, error) {
	if l, ok := t.dirs[dir]; ok {
		return l, nil
	}
	if _, err := t.walk(dir); err != nil {
		return nil, err
	}
	l, ok := t.dirs[dir]
	if !ok {
		return nil, fmt.Errorf("list %s: not a directory", dir)
	}
	return l, nil
}

// read returns a file's content: errTooBig, errNotFile, errLeaves, or what the
// system says.
func (t *tree) read(name string) ([]byte, error) {
	// Asked before it is opened, as opening a pipe would wait for a writer.
	info, err := t.root.Stat(name)
	if err != nil {
		return nil, t.reason(name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, errNotFile
	}
	f, err := t.root.Open(name)
	if err != nil {
		return nil, t.reason(name, err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(src) > maxFile {
		return nil, errTooBig
	}
	return src, nil
}

// reason finds out why a path cannot be opened: os.Root does not export its
// error for links that lead out.
func (t *tree) reason(name string, err error) error {
	if _, _, why := t.resolve(name); errors.Is(why, errLeaves) || errors.Is(why, errLoop) {
		return why
	}
	return err
}

// resolve follows all symbolic links of a path, which need not exist. It
// returns where the path leads, and the paths that it passes through on the
// way there. Errors are errLeaves, errLoop and what the system says.
func (t *tree) resolve(name string) (real string, hops []string, err error) {
	rest := strings.Split(path.Clean(name), "/")
	at := "."
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "." {
				return "", nil, errLeaves
			}
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		info, err := t.root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			rest = append([]string{next}, rest...)
			if p := path.Join(rest...); !escapes(p) {
				return p, hops, nil
			}
			return "", nil, errLeaves
		case err != nil:
			return "", nil, err
		case info.Mode()&fs.ModeSymlink == 0:
			at = next
			continue
		}
		if len(hops) == maxHops {
			return "", nil, errLoop
		}
		target, err := t.root.Readlink(next)
		if err != nil {
			return "", nil, err
		}
		if path.IsAbs(target) {
			return "", nil, errLeaves
		}
		hops = append(hops, next)
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, hops, nil
}

// escapes reports whether a cleaned relative path leaves the directory that it
// is relative to.
func escapes(p string) bool {
	return p == ".." || strings.HasPrefix(p, "../") || path.IsAbs(p)
}

// isConfig reports whether an engine reads a file with that name. The names
// that they ignore are those of editors' copies.
func isConfig(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#") {
		return false
	}
	_, _, ok := extension(name)
	return ok
}

// extension splits a configuration file's name.
func extension(name string) (base, ext string, ok bool) {
	for _, ext := range []string{".tf", ".tofu", ".tf.json", ".tofu.json"} {
		if base, ok := strings.CutSuffix(name, ext); ok && base != "" {
			return base, ext, true
		}
	}
	return "", "", false
}

// engineFiles returns those of a directory's configuration files that engine
// reads, primary ones first, then overrides: for tofu x.tofu stands for x.tf,
// and terraform does not know the .tofu ones.
func engineFiles(names []string, engine string) []string {
	has := map[string]bool{}
	for _, n := range names {
		has[n] = true
	}
	var primary, overrides []string
	for _, n := range names {
		base, ext, _ := extension(n)
		isTofu := strings.HasPrefix(ext, ".tofu")
		switch {
		case isTofu && engine != "tofu":
			continue
		case !isTofu && engine == "tofu" && has[base+strings.Replace(ext, ".tf", ".tofu", 1)]:
			continue
		case base == "override" || strings.HasSuffix(base, "_override"):
			overrides = append(overrides, n)
		default:
			primary = append(primary, n)
		}
	}
	return append(primary, overrides...)
}
