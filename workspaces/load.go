package workspaces

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
)

// Load reads the checkout whose root is dir: holdfast.hcl, if it is there, and
// the configuration of every directory.
//
// Mistakes that spoil everything, which are those in holdfast.hcl itself, are
// returned as Problems. A mistake that spoils one workspace (a file that does
// not parse, a directory or variable file that is missing or leaves the
// repository, a dependency that is unknown or circular, an apply policy that
// contradicts itself) is in the result's Problems. Any other error says that the checkout cannot be read.
func Load(dir string) (*Config, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open checkout: %w", err)
	}
	defer root.Close()
	l := &loader{t: &tree{root: root, dirs: map[string]*listing{}}, modules: map[moduleKey]*module{}, closures: map[moduleKey]*closure{}, c: &Config{}}
	if l.f, err = readFile(l.t); err != nil {
		return nil, err
	}
	tooDeep, err := l.t.walk(".")
	if err != nil {
		return nil, err
	}
	if tooDeep != "" {
		l.c.Problems = append(l.c.Problems, Problem{File: clean(cut(tooDeep, 200)), Message: fmt.Sprintf("this is more than %d directories deep: nothing below is looked at", maxDepth)})
	}
	l.c.Defaults = l.f.defaults
	l.parseAll()
	l.findRoots()
	for _, b := range l.f.blocks {
		l.addBlock(b)
	}
	l.discover()
	l.findLinks()
	if err := l.unique(); err != nil {
		return nil, err
	}
	l.dependencies()
	l.badLinks()
	l.sort()
	return l.c, nil
}

// readFile reads holdfast.hcl; one that is not there says nothing.
func readFile(t *tree) (file, error) {
	src, err := t.read(File)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := t.root.Lstat(File); errors.Is(lerr, fs.ErrNotExist) {
			f, _ := parseFile(nil)
			return f, nil
		}
	}
	if err != nil {
		return file{}, Problems{unreadable(File, err)}
	}
	f, problems := parseFile(src)
	if len(problems) > 0 {
		return file{}, problems
	}
	return f, nil
}

// loader is one Load.
type loader struct {
	t        *tree
	f        file
	modules  map[moduleKey]*module
	closures map[moduleKey]*closure
	bad      []string // symbolic links that leave the repository
	deps     []block  // blocks whose dependencies are still to be looked at
	c        *Config
}

// moduleKey: a directory is not the same module to both engines.
type moduleKey struct{ dir, engine string }

// closure is a root module's local modules, and what is wrong with any of them
// or with itself.
type closure struct {
	modules  []string
	problems Problems
}

// parseAll reads every directory once, as the repository's engine does.
func (l *loader) parseAll() {
	l.c.dirs = map[string]bool{}
	dirs := slices.Sorted(maps.Keys(l.t.dirs))
	parsed := make([]*module, len(dirs))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, dir := range dirs {
		in := l.t.dirs[dir]
		if len(in.config) > 0 {
			l.c.dirs[dir] = true
			g.Go(func() error {
				parsed[i] = parseModule(l.t, dir, in, l.f.engine)
				return nil
			})
		}
	}
	_ = g.Wait() // none returns an error
	for i, dir := range dirs {
		if parsed[i] != nil {
			l.modules[moduleKey{dir, l.f.engine}] = parsed[i]
		}
	}
}

// module returns a directory as an engine reads it.
func (l *loader) module(dir, engine string) *module {
	key := moduleKey{dir, engine}
	if m, ok := l.modules[key]; ok {
		return m
	}
	m := &module{dir: dir}
	if in, err := l.t.list(dir); err == nil {
		m = parseModule(l.t, dir, in, engine)
		if len(in.config) > 0 {
			l.c.dirs[dir] = true
		}
	}
	l.modules[key] = m
	return m
}

// findRoots decides which directories are root modules: those with a backend,
// cloud or provider block, and those that no other directory calls.
func (l *loader) findRoots() {
	called := map[string]bool{}
	for dir, in := range l.t.dirs {
		for _, c := range l.modules[moduleKey{dir, l.f.engine}].localCalls() {
			if c.dir != dir {
				called[c.dir] = true
			}
		}
		for _, helper := range scanTests(l.t, dir, in) {
			if helper != dir && helper != path.Dir(dir) {
				called[helper] = true
			}
		}
	}
	l.c.roots = map[string]bool{}
	for dir := range l.c.dirs {
		m := l.modules[moduleKey{dir, l.f.engine}]
		if hasConfig(l.t.dirs[dir], l.f.engine) && (m.root() || !called[dir]) {
			l.c.roots[dir] = true
		}
	}
}

// localCalls are the calls that lead somewhere.
func (m *module) localCalls() []call {
	if m == nil {
		return nil
	}
	var calls []call
	for _, name := range slices.Sorted(maps.Keys(m.calls)) {
		if c := m.calls[name]; c.err == nil {
			calls = append(calls, c)
		}
	}
	return calls
}

// hasConfig reports whether engine finds configuration there.
func hasConfig(in *listing, engine string) bool {
	return in != nil && slices.ContainsFunc(engineFiles(in.config, engine), func(name string) bool { return name != overrideFile })
}

// addBlock adds the workspace of a block.
func (l *loader) addBlock(b block) {
	w := b.Workspace
	dir, problem := l.blockDir(b)
	w.Dir = dir
	if problem != nil {
		l.c.Problems = append(l.c.Problems, *problem)
		// Whoever uses the path nevertheless does not get out by it.
		w.VarFiles = nil
	} else {
		l.c.roots[dir] = true
		l.varFiles(&w, b)
		l.describe(&w)
	}
	l.automerge(w, b.automergeAt)
	l.deps = append(l.deps, b)
	l.c.Workspaces = append(l.c.Workspaces, w)
}

// automerge spoils a workspace whose applies and merge would wait for each
// other. At is what made it so.
func (l *loader) automerge(w Workspace, at spot) {
	if w.Apply.Automerge && w.Apply.On != "comment" {
		message := fmt.Sprintf("workspace %q has automerge = true and on = %q: its merge would wait for its apply, which waits for its merge", cut(w.Name, 200), w.Apply.On)
		l.c.Problems = append(l.c.Problems, at.problem(w.Name, message, `write on = "comment", or automerge = false`))
	}
}

// blockDir returns the directory of a workspace block. With a problem it is
// where the path would lead if the repository were all there is.
func (l *loader) blockDir(b block) (string, *Problem) {
	fail := func(hint, format string, args ...any) *Problem {
		p := b.dirAt.problem(b.Name, fmt.Sprintf(format, args...), hint)
		return &p
	}
	given := b.Dir
	if !b.dirSet {
		given = b.Name
		if in, ok := l.t.dirs[path.Clean(given)]; !ok || len(in.config) == 0 {
			return b.Name, fail(`write dir = "…", relative to the repository`, "workspace %q has no dir, and there is no root module of that name", b.Name)
		}
	}
	inside := path.Join(".", path.Clean("/" + given)[1:])
	if given == "" || path.IsAbs(given) || escapes(path.Clean(given)) {
		return inside, fail("dir is relative to the repository, and in it", "dir %q leaves the repository", cut(given, 100))
	}
	real, _, err := l.t.resolve(given)
	switch {
	case errors.Is(err, errLeaves):
		return inside, fail("put the directory itself there", "dir %q leaves the repository by a symbolic link", cut(given, 100))
	case errors.Is(err, errLoop):
		return inside, fail("", "dir %q %v", cut(given, 100), err)
	}
	if info, serr := l.t.root.Stat(real); err != nil || serr != nil || !info.IsDir() {
		return inside, fail(l.nearestRoot(given), "dir %q is not a directory of this repository", cut(given, 100))
	}
	in, err := l.t.list(real)
	if err != nil || !hasConfig(in, b.Engine) {
		hint := l.nearestRoot(given)
		if hasConfig(in, "tofu") {
			hint = `it has .tofu files: write engine = "tofu"`
		}
		return inside, fail(hint, "dir %q has no configuration for %s", cut(given, 100), b.Engine)
	}
	return real, nil
}

// nearestRoot names a root module that may be meant.
func (l *loader) nearestRoot(dir string) string {
	if len(l.c.roots) > 2000 || len(l.c.Problems) > maxProblems {
		return ""
	}
	return near(dir, slices.Sorted(maps.Keys(l.c.roots)))
}

// varFiles looks at a workspace's variable files and drops those that cannot
// be used.
func (l *loader) varFiles(w *Workspace, b block) {
	var usable []string
	for i, name := range b.VarFiles {
		message, hint := "", ""
		p := path.Join(w.Dir, name)
		real, _, err := l.t.resolve(p)
		switch {
		case name == "" || path.IsAbs(name) || escapes(p) || errors.Is(err, errLeaves):
			message, hint = "leaves the repository", "the path is relative to dir, and in the repository"
		default:
			if info, serr := l.t.root.Stat(real); err != nil || serr != nil || !info.Mode().IsRegular() {
				message, hint = "is not a file of this repository", fmt.Sprintf("the path is relative to dir: this is %s", cut(p, 200))
			}
		}
		if message != "" {
			l.c.Problems = append(l.c.Problems, b.varFiles[i].problem(w.Name, fmt.Sprintf("var file %q %s", cut(name, 100), message), hint))
			continue
		}
		usable = append(usable, name)
	}
	w.VarFiles = usable
}

// describe fills in what a workspace's configuration says.
func (l *loader) describe(w *Workspace) {
	m := l.module(w.Dir, w.Engine)
	if w.Version == "" {
		w.Version = m.required
	}
	w.Backend = Backend{Ephemeral: m.backend.ephemeral(w.Workspace)}
	if m.backend != nil {
		w.Backend.Type = m.backend.kind
		if p := m.backend.unknown; p != nil {
			l.spoil(w.Name, *p)
		}
	}
	c := l.closure(w.Dir, w.Engine)
	w.Modules = c.modules
	l.spoil(w.Name, c.problems...)
}

// spoil adds problems to a workspace.
func (l *loader) spoil(name string, problems ...Problem) {
	for _, p := range problems {
		p.Workspace = name
		l.c.Problems = append(l.c.Problems, p)
	}
}

// closure follows the module calls of a root module.
func (l *loader) closure(dir, engine string) *closure {
	key := moduleKey{dir, engine}
	if c, ok := l.closures[key]; ok {
		return c
	}
	c := &closure{}
	seen := map[string]bool{dir: true}
	for queue := []string{dir}; len(queue) > 0; queue = queue[1:] {
		m := l.module(queue[0], engine)
		c.problems = append(c.problems, m.problems...)
		for _, name := range slices.Sorted(maps.Keys(m.calls)) {
			call := m.calls[name]
			switch {
			case call.err != nil:
				c.problems = append(c.problems, *call.err)
			case !seen[call.dir]:
				seen[call.dir] = true
				c.modules = append(c.modules, call.dir)
				queue = append(queue, call.dir)
			}
		}
	}
	slices.Sort(c.modules)
	l.closures[key] = c
	return c
}

// discover adds the root modules that no block has.
func (l *loader) discover() {
	have := map[string]bool{}
	for _, w := range l.c.Workspaces {
		have[w.Dir] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(l.c.roots)) {
		if have[dir] || len(l.f.include) > 0 && !matches(l.f.include, dir) || matches(l.f.exclude, dir) {
			continue
		}
		w := Workspace{Name: nameOf(dir), Dir: dir, Workspace: "default", Engine: l.f.engine, Version: l.f.version}
		w.Apply, w.Drift, w.RunsOn = l.f.defaults.Apply, l.f.defaults.Drift, l.f.defaults.RunsOn
		if !utf8.ValidString(dir) || strings.ContainsFunc(dir, unicode.IsControl) {
			l.spoil(w.Name, Problem{File: clean(dir), Message: "the directory's name has control characters or is not UTF-8", Hint: "rename the directory"})
		}
		l.describe(&w)
		l.automerge(w, l.f.automergeAt)
		l.c.Workspaces = append(l.c.Workspaces, w)
	}
}

// nameOf is a discovered workspace's name: its directory, without characters
// that a name does not have.
func nameOf(dir string) string {
	name := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !validName("x"+string(r)+"x") {
			return '_'
		}
		return r
	}, dir)
	if strings.HasPrefix(name, "-") {
		return "_" + name[1:]
	}
	return name
}

// unique refuses a block that has the name of another directory's workspace.
func (l *loader) unique() error {
	seen := map[string]Workspace{}
	for _, w := range l.c.Workspaces {
		first, twice := seen[w.Name]
		seen[w.Name] = w
		if !twice {
			continue
		}
		message := fmt.Sprintf("workspace %q is the name of both %s and %s", w.Name, clean(first.Dir), clean(w.Dir))
		for _, b := range l.f.blocks {
			if b.Name == w.Name {
				return Problems{b.at.problem("", message, "give the block another name")}
			}
		}
		return Problems{{File: clean(w.Dir), Message: message, Hint: "rename one of the directories, or give it a workspace block in " + File}}
	}
	return nil
}

// findLinks notes where symbolic links lead, so that a change behind one is
// seen.
func (l *loader) findLinks() {
	l.c.links = map[string][]string{}
	for _, dir := range slices.Sorted(maps.Keys(l.t.dirs)) {
		for _, name := range l.t.dirs[dir].links {
			p := path.Join(dir, name)
			real, hops, err := l.t.resolve(p)
			switch {
			case errors.Is(err, errLeaves):
				l.bad = append(l.bad, p)
			case err == nil:
				for _, target := range append(hops, real) {
					if target != p {
						l.c.links[target] = append(l.c.links[target], p)
					}
				}
			}
		}
	}
}

// badLinks spoils the workspaces that have a symbolic link which leaves the
// repository.
func (l *loader) badLinks() {
	for _, p := range l.bad {
		if isConfig(path.Base(p)) {
			continue // it could not be read, which is said already
		}
		for i := range l.c.touched([]string{p}) {
			l.spoil(l.c.Workspaces[i].Name, unreadable(p, errLeaves))
		}
	}
}

// sort puts workspaces and problems in the order that people see.
func (l *loader) sort() {
	slices.SortFunc(l.c.Workspaces, func(a, b Workspace) int { return strings.Compare(a.Name, b.Name) })
	l.c.Problems.Sort()
}
