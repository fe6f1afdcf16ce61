package terraform

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// CopyModule copies the checkout m.Root into the directory to (absolute; made
// where it is missing, else empty), and returns m as it is there: for a run that
// adds something to the configuration, which nobody who shares the checkout
// should see. It copies regular files with their modes, and symbolic links as
// they are, wherever they lead; not .git, .terraform and what is neither. An
// error names the path; what was copied is left to the caller to remove.
func CopyModule(m Module, to string) (Module, error) {
	moved, err := rebase(m, to)
	if err != nil {
		return m, fmt.Errorf("copy checkout: %w", err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return m, fmt.Errorf("copy checkout: %w", err)
	}
	if there, err := os.ReadDir(to); err != nil || len(there) > 0 {
		return m, fmt.Errorf("copy checkout: %w", errors.Join(err, fmt.Errorf("%s is not empty", to)))
	}
	// No path leads out of either root, also where somebody changes the
	// checkout meanwhile.
	src, err := os.OpenRoot(m.Root)
	if err != nil {
		return m, fmt.Errorf("copy checkout: %w", err)
	}
	defer src.Close()
	dst, err := os.OpenRoot(to)
	if err != nil {
		return m, fmt.Errorf("copy checkout: %w", err)
	}
	defer dst.Close()
	err = fs.WalkDir(src.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return copyEntry(src, dst, path, d)
	})
	if err != nil {
		return m, fmt.Errorf("copy checkout %s: %w", m.Root, err)
	}
	return moved, nil
}

// rebase returns m with its directories below to instead of m.Root.
func rebase(m Module, to string) (Module, error) {
	if !filepath.IsAbs(to) || !filepath.IsAbs(m.Root) {
		return m, fmt.Errorf("%q and %q must be absolute paths", m.Root, to)
	}
	if inside, err := filepath.Rel(m.Root, to); err == nil && filepath.IsLocal(inside) {
		return m, fmt.Errorf("%s is in the checkout %s itself", to, m.Root)
	}
	move := func(path string) (string, error) {
		rel, err := filepath.Rel(m.Root, path)
		if err != nil || !filepath.IsLocal(rel) {
			return "", fmt.Errorf("%s is not in the checkout %s", path, m.Root)
		}
		return filepath.Join(to, rel), nil
	}
	moved := m
	var err error
	if moved.Dir, err = move(m.Dir); err != nil {
		return m, err
	}
	moved.Root, moved.Modules = to, nil
	for _, dir := range m.Modules {
		dir, err := move(dir)
		if err != nil {
			return m, err
		}
		moved.Modules = append(moved.Modules, dir)
	}
	return moved, nil
}

// copyEntry copies what is at path in src. A directory's content follows by
// itself.
func copyEntry(src, dst *os.Root, path string, d fs.DirEntry) error {
	switch {
	case path == ".":
		return nil
	case d.Name() == ".git" || d.Name() == ".terraform":
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	case d.IsDir():
		info, err := d.Info()
		if err != nil {
			return err
		}
		// Whoever made the copy must be able to fill and to remove it.
		if err := dst.Mkdir(path, 0o700); err != nil {
			return err
		}
		return dst.Chmod(path, info.Mode().Perm()|0o700)
	case d.Type() == fs.ModeSymlink:
		target, err := src.Readlink(path)
		if err != nil {
			return err
		}
		return dst.Symlink(target, path)
	case d.Type().IsRegular():
		return copyFile(src, dst, path)
	}
	return nil
}

func copyFile(src, dst *os.Root, path string) (err error) {
	in, err := src.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := dst.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return errors.Join(err, out.Chmod(info.Mode().Perm()), out.Close())
}
