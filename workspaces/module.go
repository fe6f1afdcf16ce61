package workspaces

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
)

// overrideFile is where Holdfast itself keeps a root module's state out of the
// checkout. It is not the repository's, so it is not read as such.
const overrideFile = "holdfast_override.tf"

// module is a directory as an engine reads it: only what says how modules hang
// together and where state is. terraform-config-inspect would read the rest as
// well, but not backends and not .tofu files.
type module struct {
	dir      string
	calls    map[string]call // local modules, by the call's name
	backend  *backend
	provider bool
	required string // required_version
	problems Problems
}

// call is a module block with a source in the repository.
type call struct {
	dir string
	err *Problem // where that cannot be
}

// backend is a backend or cloud block.
type backend struct {
	kind string
	// path and workspaceDir are those of a local one; unknown is set where
	// path is not a plain string.
	path, workspaceDir string
	unknown            *Problem
}

// ephemeral reports whether the state of a Terraform workspace is lost with
// the checkout.
func (b *backend) ephemeral(workspace string) bool {
	switch {
	case b == nil:
		return true
	case b.kind != "local":
		return false
	case workspace == "default":
		return !filepath.IsAbs(b.path)
	default:
		return !filepath.IsAbs(b.workspaceDir)
	}
}

// root reports whether the module can only be a root module.
func (m *module) root() bool { return m.backend != nil || m.provider }

var moduleSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
	{Type: "terraform"},
	{Type: "provider", LabelNames: []string{"name"}},
	{Type: "module", LabelNames: []string{"name"}},
}}

var terraformSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{{Name: "required_version"}},
	Blocks: []hcl.BlockHeaderSchema{
		{Type: "backend", LabelNames: []string{"type"}},
		{Type: "cloud"},
	},
}

var localSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "path"}, {Name: "workspace_dir"}}}

var callSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "source"}}}

// parseModule reads a directory's configuration. What is wrong with it is in
// the module's problems; what could be read is there nevertheless.
func parseModule(t *tree, dir string, l *listing, engine string) *module {
	m := &module{dir: dir, calls: map[string]call{}}
	for _, name := range engineFiles(l.config, engine) {
		if name != overrideFile {
			m.readFile(t, path.Join(dir, name))
		}
	}
	for _, name := range l.config {
		if name == overrideFile {
			m.checkOverride(t, path.Join(dir, name))
		}
	}
	return m
}

// readFile adds a configuration file. Later ones replace what earlier ones
// say, as overrides do and as they come last.
func (m *module) readFile(t *tree, file string) {
	src, err := t.read(file)
	if err != nil {
		m.problems = append(m.problems, unreadable(file, err))
		return
	}
	body, problems := parseBody(file, src)
	if len(problems) > 0 {
		m.problems = append(m.problems, problems...)
		// What it calls decides which directories are modules. One file
		// that does not parse should not turn these into root modules.
		m.scanCalls(t, file, src)
	}
	if body == nil {
		return
	}
	content, _, diags := body.PartialContent(moduleSchema)
	if len(problems) == 0 {
		m.problems = append(m.problems, Diagnose(file, src, diags)...)
	}
	for _, b := range content.Blocks {
		switch b.Type {
		case "terraform":
			m.readTerraform(src, b.Body)
		case "provider":
			m.provider = true
		case "module":
			m.readCall(t, src, b)
		}
	}
}

// parseBody parses a file in either syntax. The body may be there, in part,
// even where there are problems.
func parseBody(file string, src []byte) (hcl.Body, Problems) {
	deep, parse := tooDeep, func() (*hcl.File, hcl.Diagnostics) { return hclsyntax.ParseConfig(src, file, hcl.InitialPos) }
	if strings.HasSuffix(file, ".json") {
		deep, parse = tooDeepJSON, func() (*hcl.File, hcl.Diagnostics) { return json.Parse(src, file) }
	}
	if rng, why := deep(file, src); why != "" {
		return nil, Problems{At(src, rng, why, "Holdfast does not parse what takes that much: split it, or put it into a file of its own")}
	}
	f, diags := parse()
	problems := Diagnose(file, src, diags)
	if f == nil {
		return nil, problems
	}
	return f.Body, problems
}

// readTerraform reads a terraform block.
func (m *module) readTerraform(src []byte, body hcl.Body) {
	content, _, _ := body.PartialContent(terraformSchema)
	if a, ok := content.Attributes["required_version"]; ok {
		if v, ok := literal(a.Expr); ok {
			m.require(src, v, a.Expr.Range())
		}
	}
	for _, b := range content.Blocks {
		if b.Type == "cloud" {
			m.backend = &backend{kind: "cloud"}
			continue
		}
		m.backend = &backend{kind: b.Labels[0]}
		if b.Labels[0] == "local" {
			m.backend.readLocal(src, b.Body)
		}
	}
}

// require sets required_version, after a look at whether it is one.
func (m *module) require(src []byte, v string, rng hcl.Range) {
	if _, err := version.NewConstraint(v); err != nil {
		m.problems = append(m.problems, At(src, rng, fmt.Sprintf("required_version %q is not a version constraint", cut(clean(v), 60)), `write it like "~> 1.11" or ">= 1.5, < 2.0"`))
		return
	}
	m.required = v
}

// readLocal reads a local backend's paths.
func (b *backend) readLocal(src []byte, body hcl.Body) {
	content, _, _ := body.PartialContent(localSchema)
	for name, a := range content.Attributes {
		v, ok := literal(a.Expr)
		if !ok {
			p := At(src, a.Expr.Range(), fmt.Sprintf("the local backend's %s is not a plain string", name), "Holdfast has to know whether the state would be lost with the checkout: write the path itself")
			b.unknown = &p
			continue
		}
		if name == "path" {
			b.path = v
		} else {
			b.workspaceDir = v
		}
	}
}

// readCall reads a module block. A source that is not a plain string (OpenTofu
// has variables there) cannot be followed.
func (m *module) readCall(t *tree, src []byte, b *hcl.Block) {
	content, _, _ := b.Body.PartialContent(callSchema)
	a, ok := content.Attributes["source"]
	if !ok {
		return
	}
	source, ok := literal(a.Expr)
	if !ok {
		return
	}
	name := b.Labels[0]
	delete(m.calls, name) // an override may lead elsewhere
	if !isLocal(source) {
		return
	}
	dir, err := t.localDir(m.dir, source)
	if err == nil {
		m.calls[name] = call{dir: dir}
		return
	}
	p := At(src, a.Expr.Range(), fmt.Sprintf("module %q: %s %v", cut(clean(name), 60), cut(clean(source), 100), err), "")
	switch {
	case errors.Is(err, errLeaves):
		p.Hint = "a local module has to be in this repository"
	case errors.Is(err, errNoDir):
		p.Hint = fmt.Sprintf("the path is relative to %s", m.dir)
	}
	m.calls[name] = call{err: &p}
}

// isLocal reports whether a module's source is a path. An absolute one is a
// remote source to the engines too: they copy it.
func isLocal(source string) bool {
	return strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../")
}

var errNoDir = errors.New("is not a directory of this repository")

// localDir returns the directory that source is, seen from dir. Symbolic links
// are followed as the engines do: what they lead to is the module.
func (t *tree) localDir(dir, source string) (string, error) {
	p := path.Join(dir, source)
	if escapes(p) {
		return "", errLeaves
	}
	if _, ok := t.dirs[p]; ok { // no link among its parents, as these are not walked
		return p, nil
	}
	real, _, err := t.resolve(p)
	if err != nil {
		if errors.Is(err, errLeaves) || errors.Is(err, errLoop) {
			return "", err
		}
		return "", errNoDir
	}
	if info, err := t.root.Stat(real); err != nil || !info.IsDir() {
		return "", errNoDir
	}
	return real, nil
}

var sourceLine = regexp.MustCompile(`(?m)^[\s{,]*"?source"?\s*[=:]\s*"(\.\.?/[^"$%]*)"`)

// scanCalls finds the modules that a file which does not parse seems to call.
func (m *module) scanCalls(t *tree, file string, src []byte) {
	for i, match := range sourceLine.FindAllSubmatch(src, 1000) {
		if dir, err := t.localDir(m.dir, string(match[1])); err == nil {
			m.calls[fmt.Sprintf("%s %d", file, i)] = call{dir: dir}
		}
	}
}

// scanTests returns the directories that a directory's test files call as
// modules: helpers of tests, not root modules.
func scanTests(t *tree, dir string, l *listing) []string {
	m := &module{dir: dir, calls: map[string]call{}}
	for _, name := range l.tests {
		file := path.Join(dir, name)
		src, err := t.read(file)
		if err != nil {
			continue
		}
		// Sources in tests are relative to the module that is tested: the
		// directory that has the file, or the one above tests/.
		m.scanCalls(t, file, src)
		m.dir = path.Dir(dir)
		m.scanCalls(t, file+" above", src)
		m.dir = dir
	}
	var dirs []string
	for _, c := range m.calls {
		dirs = append(dirs, c.dir)
	}
	return dirs
}

// checkOverride refuses a file with the name of Holdfast's own override that
// says more than where state is, or that would take the state of a module that
// has a place for it. The file counts nowhere else, so it must not be a way
// around review.
func (m *module) checkOverride(t *tree, file string) {
	src, err := t.read(file)
	if err != nil {
		m.problems = append(m.problems, unreadable(file, err))
		return
	}
	body, problems := parseBody(file, src)
	ours := false
	if b, ok := body.(*hclsyntax.Body); ok && len(problems) == 0 && len(b.Attributes) == 0 && len(b.Blocks) == 1 && b.Blocks[0].Type == "terraform" {
		in := b.Blocks[0].Body
		ours = len(in.Attributes) == 0 && len(in.Blocks) == 1 && in.Blocks[0].Type == "backend" && len(in.Blocks[0].Labels) == 1 && in.Blocks[0].Labels[0] == "local"
	}
	if ours && (m.backend.ephemeral("default") || m.backend.ephemeral("other")) {
		return
	}
	rng := hcl.Range{Filename: file, Start: hcl.InitialPos}
	m.problems = append(m.problems, At(src, rng, overrideFile+" is a name that Holdfast keeps for itself", "give the file another name"))
}

// unreadable is the problem of a file that cannot be read.
func unreadable(file string, err error) Problem {
	p := Problem{File: clean(file), Line: 1, Column: 1, Message: "the file cannot be read: " + clean(err.Error())}
	switch {
	case errors.Is(err, errTooBig):
		p.Message, p.Hint = "the file "+err.Error(), "Holdfast does not parse files of that size: split it"
	case errors.Is(err, errLeaves):
		p.Message, p.Hint = "the symbolic link "+err.Error(), "put the file itself here"
	case errors.Is(err, errLoop), errors.Is(err, errNotFile):
		p.Message = "this " + err.Error()
	}
	return p
}

// literal returns the value of an expression that is a string without
// variables, in either syntax.
func literal(e hcl.Expression) (string, bool) {
	v, ok := constant(e)
	if !ok || v.IsNull() || v.Type() != cty.String {
		return "", false
	}
	s := v.AsString()
	if _, native := e.(hclsyntax.Expression); !native && (strings.Contains(s, "${") || strings.Contains(s, "%{")) {
		return "", false // JSON without a context is what stands there, templates included
	}
	return s, true
}

// maxExpression is how long, in bytes, an expression that is evaluated may be.
const maxExpression = 16 << 10

// constant evaluates an expression that has neither variables nor functions.
// Long ones and loops are not evaluated: they come from anybody, and loops in
// loops can be made to take for ever.
func constant(e hcl.Expression) (cty.Value, bool) {
	if n, ok := e.(hclsyntax.Expression); ok {
		rng := n.Range()
		if rng.End.Byte-rng.Start.Byte > maxExpression {
			return cty.NilVal, false
		}
		loops := false
		_ = hclsyntax.VisitAll(n, func(node hclsyntax.Node) hcl.Diagnostics {
			if _, is := node.(*hclsyntax.ForExpr); is {
				loops = true
			}
			return nil
		})
		if loops {
			return cty.NilVal, false
		}
	}
	v, diags := e.Value(nil)
	if diags.HasErrors() || !v.IsWhollyKnown() {
		return cty.NilVal, false
	}
	v, _ = v.UnmarkDeep()
	return v, true
}
