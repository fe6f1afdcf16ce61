package terraform

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxWalk      = 200_000 // entries that Leftovers looks at
	maxLeftovers = 100     // that it returns
)

// Leftovers returns the files below m.Dir and m.Modules that are not in Git, as
// tracked says of a path relative to m.Root with slashes: after a plan those
// that it made, such as the archives of a data source, for which an apply in
// another checkout would look in vain. What engines and Holdfast themselves
// write there is left out. It returns the first hundred, sorted, and an error
// where there is more than it can look at.
func (m Module) Leftovers(tracked func(rel string) bool) ([]string, error) {
	return m.leftovers(tracked, maxWalk)
}

func (m Module) leftovers(tracked func(rel string) bool, limit int) ([]string, error) {
	seen := map[string]bool{}
	var left []string
	looked := 0
	for _, dir := range append([]string{m.Dir}, m.Modules...) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil // a module that is missing, or a file of one who shares the checkout
			}
			if err != nil {
				return err
			}
			if looked++; looked > limit {
				return fmt.Errorf("%s has more than %d files", m.Root, limit)
			}
			rel, err := filepath.Rel(m.Root, path)
			if err != nil || !filepath.IsLocal(rel) {
				return fmt.Errorf("%s is not in the checkout %s", path, m.Root)
			}
			rel = filepath.ToSlash(rel)
			switch {
			case d.IsDir() && (seen[rel] || path != dir && ownDirectory(d.Name())):
				return fs.SkipDir
			case d.IsDir():
				seen[rel] = true
			case !ownFile(d.Name()) && !tracked(rel):
				if left = append(left, rel); len(left) == maxLeftovers {
					return fs.SkipAll
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for what the plan left: %w", err)
		}
		if len(left) == maxLeftovers {
			break
		}
	}
	slices.Sort(left)
	return left, nil
}

// ownDirectory says whether engines, or Git, keep their own things in
// directories of this name.
func ownDirectory(name string) bool {
	return name == ".git" || name == ".terraform" || name == "terraform.tfstate.d"
}

// ownFile says whether engines or Holdfast write files of this name by
// themselves. A file that is being replaced has another ending for a moment.
func ownFile(name string) bool {
	for _, own := range []string{lockFile, overrideFile, commandsFile} {
		if strings.HasPrefix(strings.TrimPrefix(name, "."), strings.TrimPrefix(own, ".")) {
			return true
		}
	}
	return name == ".git" || name == ".terraform" || name == "crash.log" || name == "errored.tfstate" ||
		strings.HasPrefix(name, "terraform.tfstate") || strings.HasPrefix(name, ".terraform.tfstate")
}
