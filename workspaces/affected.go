package workspaces

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Affected returns the workspaces that a change concerns, sorted by name.
// Changed are the paths that differ between the merge base and c's commit,
// deleted files and both names of renamed ones included; base is the Config at
// the merge base, nil where there is none.
//
// A file belongs to the nearest directory above it that has configuration, and
// concerns the workspaces of that directory. It also concerns those that use a
// local module above it, that name it as a variable file, or that watch it.
// What either side of the change says counts: a module that only the base uses
// still concerns its user. Of holdfast.hcl only those workspaces are concerned
// whose layout it changes, not those whose policy it does. Files in hidden
// directories at the repository's root (.github) concern who watches them.
func (c *Config) Affected(changed []string, base *Config) []Affected {
	paths := slices.Clone(changed)
	for i, p := range paths {
		paths[i] = path.Clean(p)
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)

	reasons := c.touchedBeside(paths, base)
	before := map[string]Workspace{}
	fromBase := map[string]reason{}
	if base != nil {
		for i, r := range base.touchedBeside(paths, c) {
			fromBase[base.Workspaces[i].Name] = r
		}
		for _, w := range base.Workspaces {
			before[w.Name] = w
		}
	}
	fileChanged := slices.Contains(paths, File)
	var affected []Affected
	for i, w := range c.Workspaces {
		r, is := reasons[i]
		if b, ok := fromBase[w.Name]; ok && (!is || b.rank < r.rank) {
			r, is = b, true
		}
		was, existed := before[w.Name]
		switch {
		case is:
		case base == nil && fileChanged:
			r, is = reason{text: File}, true
		case base != nil && !existed:
			r, is = reason{text: "new workspace"}, true
		case base != nil:
			if differs := layoutChanges(was, w); len(differs) > 0 {
				r, is = reason{text: File + ": " + strings.Join(differs, ", ")}, true
			}
		}
		if is {
			affected = append(affected, Affected{Workspace: w, Because: r.text})
		}
	}
	affected = append(affected, c.deleted(paths, base)...)
	slices.SortStableFunc(affected, func(a, b Affected) int { return strings.Compare(a.Workspace.Name, b.Workspace.Name) })
	return affected
}

// deleted returns the workspaces that only base has. One that has another name
// now is not deleted.
func (c *Config) deleted(paths []string, base *Config) []Affected {
	if base == nil {
		return nil
	}
	names, places := map[string]bool{}, map[place]bool{}
	for _, w := range c.Workspaces {
		names[w.Name] = true
		places[place{w.Dir, w.Workspace}] = true
	}
	var gone []Affected
	for _, w := range base.Workspaces {
		if names[w.Name] || places[place{w.Dir, w.Workspace}] {
			continue
		}
		because := "no longer a workspace"
		for _, p := range paths {
			if path.Dir(p) == w.Dir && !c.dirs[w.Dir] {
				because = p
				break
			}
		}
		gone = append(gone, Affected{Workspace: w, Because: because, Deleted: true})
	}
	return gone
}

// layoutChanges names the settings that differ and that say what is planned or
// when, not how it is applied.
func layoutChanges(a, b Workspace) []string {
	var names []string
	for _, s := range []struct {
		name string
		same bool
	}{
		{"dir", a.Dir == b.Dir},
		{"workspace", a.Workspace == b.Workspace},
		{"var_files", slices.Equal(a.VarFiles, b.VarFiles)},
		{"watch", slices.Equal(a.Watch, b.Watch)},
		{"depends_on", slices.Equal(a.DependsOn, b.DependsOn)},
		{"engine", a.Engine == b.Engine},
		{"version", a.Version == b.Version},
	} {
		if !s.same {
			names = append(names, s.name)
		}
	}
	return names
}

// reason is why a workspace is concerned; of several the lowest rank is told.
type reason struct {
	rank int
	text string
}

// The ranks of reasons.
const (
	byOwnFile = iota
	byVarFile
	byModule
	byWatch
)

// index finds the workspaces that a path concerns.
type index struct {
	c        *Config
	users    map[string][]user // by directory
	varFiles map[string][]int
	watch    map[string][]int
}

// user is a workspace that runs in a directory, or uses it as a module.
type user struct {
	workspace int
	module    bool
}

func (c *Config) index() *index {
	x := &index{c: c, users: map[string][]user{}, varFiles: map[string][]int{}, watch: map[string][]int{}}
	for i, w := range c.Workspaces {
		x.users[w.Dir] = append(x.users[w.Dir], user{workspace: i})
		for _, m := range w.Modules {
			x.users[m] = append(x.users[m], user{i, true})
		}
		for _, f := range w.VarFiles {
			p := path.Join(w.Dir, f)
			x.varFiles[p] = append(x.varFiles[p], i)
		}
		for _, g := range w.Watch {
			x.watch[g] = append(x.watch[g], i)
		}
	}
	return x
}

// owner returns the nearest directory with configuration that a file is in;
// false where there is none, or where the file is of a kind that no
// configuration reads.
func (x *index) owner(p string) (string, bool) {
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		if x.c.dirs[dir] || len(x.users[dir]) > 0 {
			return dir, !skipped(dir, p)
		}
		if dir == "." || dir == "/" {
			return "", false
		}
	}
}

// skipped reports whether a path below dir is not counted with what dir has:
// what Git and the engines keep there, and the repository's own settings.
func skipped(dir, p string) bool {
	if dir == "." && (p == File || strings.HasPrefix(p, ".") && strings.Contains(p, "/")) {
		return true
	}
	rest := strings.TrimPrefix(p, dir+"/")
	for part := range strings.SplitSeq(rest, "/") {
		if part == ".terraform" || part == ".git" {
			return true
		}
	}
	return false
}

// touched returns the workspaces, by their number, that any of the paths
// concerns.
func (c *Config) touched(paths []string) map[int]reason { return c.touchedBeside(paths, nil) }

// touchedBeside is touched, where another Config is the other side of the
// change: a path that has a nearer owner there is the owner's alone. So the
// files of a directory that was deleted, or is new, do not become those of the
// root module above it.
func (c *Config) touchedBeside(paths []string, other *Config) map[int]reason {
	x := c.index()
	reasons := map[int]reason{}
	add := func(i int, r reason) {
		if old, ok := reasons[i]; !ok || r.rank < old.rank {
			reasons[i] = r
		}
	}
	var y *index
	if other != nil {
		y = other.index()
	}
	for _, p := range paths {
		for _, seen := range c.through(p) {
			x.look(seen, p, y, add)
		}
	}
	return reasons
}

// look adds the workspaces that see the changed path p under the name seen.
func (x *index) look(seen, p string, other *index, add func(int, reason)) {
	for _, i := range x.varFiles[seen] {
		add(i, reason{byVarFile, "var file " + p})
	}
	for g, watchers := range x.watch {
		if ok, _ := doublestar.Match(g, seen); ok {
			for _, i := range watchers {
				add(i, reason{byWatch, "watched: " + p})
			}
		}
	}
	owner, ok := x.owner(seen)
	if !ok {
		return
	}
	if other != nil {
		if nearer, ok := other.owner(seen); ok && depth(nearer) > depth(owner) {
			return
		}
	}
	for dir := owner; ; dir = path.Dir(dir) {
		for _, u := range x.users[dir] {
			w := x.c.Workspaces[u.workspace]
			switch {
			case !u.module && dir == owner:
				add(u.workspace, reason{byOwnFile, p})
			case u.module && x.c.partOf(owner, dir, w):
				add(u.workspace, reason{byModule, fmt.Sprintf("module %s: %s", dir, p)})
			}
		}
		if dir == "." || dir == "/" {
			return
		}
	}
}

// depth counts the directories of a path.
func depth(dir string) int {
	if dir == "." {
		return 0
	}
	return 1 + strings.Count(dir, "/")
}

// partOf reports whether the files of owner, a directory in module or below
// it, count as the module's for a workspace: all but those of another root
// module, such as an example of how the module is used.
func (c *Config) partOf(owner, module string, w Workspace) bool {
	return owner == module || owner == w.Dir || !c.roots[owner] || slices.Contains(w.Modules, owner)
}

// maxNames bounds the names of one path that symbolic links make; links into
// each other make any number.
const maxNames = 256

// through returns all names under which a path is seen: its own first, then
// those through symbolic links.
func (c *Config) through(p string) []string {
	names := []string{p}
	if len(c.links) == 0 {
		return names
	}
	have := map[string]bool{p: true}
	for i := 0; i < len(names) && len(names) < maxNames; i++ {
		at := names[i]
		for dir := at; ; dir = path.Dir(dir) {
			for _, link := range c.links[dir] {
				name := path.Join(link, strings.TrimPrefix(at, dir))
				if dir == "." {
					name = path.Join(link, at)
				}
				if !have[name] && len(names) < maxNames {
					have[name] = true
					names = append(names, name)
				}
			}
			if dir == "." || dir == "/" {
				break
			}
		}
	}
	return names
}

// matches reports whether any of the globs matches.
func matches(globs []string, p string) bool {
	return slices.ContainsFunc(globs, func(g string) bool {
		ok, _ := doublestar.Match(g, p)
		return ok
	})
}
