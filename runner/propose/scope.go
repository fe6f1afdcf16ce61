package propose

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"holdfast/runner/plan"
)

// scope is one instance of a module.
type scope struct {
	mod      *module
	parent   *scope
	call     *block // in the parent; nil for the root
	key      any    // nil, an int or a string
	prefix   string // of the addresses in it, "module.a.", or ""
	closed   string // why nothing is known about what is in it
	children map[string][]*scope
}

// env is where an expression is evaluated: in a module's instance, and in one
// instance of a block where it stands in one.
type env struct {
	scope *scope
	block *block
	key   any
}

func (e env) address() string { return e.scope.prefix + e.block.name + keySuffix(e.key) }

func keySuffix(key any) string {
	switch k := key.(type) {
	case int:
		return "[" + strconv.Itoa(k) + "]"
	case string:
		return "[" + quoted(k) + "]"
	}
	return ""
}

// maxScopes bounds how many instances of modules, and of one block, there may
// be.
const maxScopes = 2000

// expand makes the instances of the modules that a scope calls.
func (p *proposer) expand(s *scope, depth int) {
	s.children = map[string][]*scope{}
	for _, name := range slices.Sorted(maps.Keys(s.mod.calls)) {
		call := s.mod.calls[name]
		dir, ok := call.sourceDir()
		if !ok || !p.has(dir) {
			continue
		}
		if depth >= maxDepth/4 || len(p.scopes) >= maxScopes {
			p.setProblem("there are too many modules")
			return
		}
		m := p.module(dir)
		keys, known := p.instances(call, s)
		closed := s.closed
		if why := s.mod.elsewhere[name]; why != "" {
			closed = name + ": " + why
		}
		if !known {
			keys, closed = []any{nil}, "the instances of "+name+" cannot be told from the configuration"
		}
		for _, key := range keys {
			child := &scope{mod: m, parent: s, call: call, key: key, closed: closed, prefix: s.prefix + name + keySuffix(key) + "."}
			p.scopes = append(p.scopes, child)
			s.children[name] = append(s.children[name], child)
			p.expand(child, depth+1)
		}
	}
	for _, dir := range s.mod.jsonCalls {
		if p.has(dir) {
			child := &scope{mod: p.module(dir), parent: s, closed: "a file in JSON syntax calls " + dir, children: map[string][]*scope{}}
			p.scopes = append(p.scopes, child)
		}
	}
}

// sourceDir returns the directory of a local module.
func (b *block) sourceDir() (string, bool) {
	a := b.Body.Attributes["source"]
	if a == nil {
		return "", false
	}
	v, _ := literal(a.Expr)
	s, ok := v.(string)
	if !ok || !isLocal(s) {
		return "", false
	}
	return path.Join(b.mod.dir, s), true
}

// instances returns the keys of a block's instances: nil alone, the numbers of
// count, or the keys of for_each; not known where they cannot be told.
func (p *proposer) instances(b *block, s *scope) (keys []any, known bool) {
	at := instanceKey{b, s}
	if found, ok := p.known[at]; ok {
		return found.keys, found.known
	}
	keys, known = p.evalInstances(b, s)
	p.known[at] = instanceKeys{keys, known}
	return keys, known
}

type instanceKey struct {
	block *block
	scope *scope
}

type instanceKeys struct {
	keys  []any
	known bool
}

func (p *proposer) evalInstances(b *block, s *scope) (keys []any, known bool) {
	attrs := b.Body.Attributes
	switch {
	case s.closed != "":
		return nil, false
	case attrs["count"] != nil:
		v := p.eval(env{scope: s}, attrs["count"].Expr, 0)
		text, _ := scalarText(v)
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxScopes {
			return nil, false
		}
		for i := range n {
			keys = append(keys, i)
		}
		return keys, true
	case attrs["for_each"] != nil:
		switch v := p.eval(env{scope: s}, attrs["for_each"].Expr, 0).(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				keys = append(keys, k)
			}
			return keys, len(keys) <= maxScopes
		case set:
			for _, e := range v {
				text, ok := e.(string)
				if !ok {
					return nil, false
				}
				keys = append(keys, text)
			}
			return keys, len(keys) <= maxScopes
		}
		return nil, false
	}
	return []any{nil}, true
}

// find returns the block of an address, and where its instance is evaluated.
func (p *proposer) find(address string) (e env, reason string) {
	const unreadable = "its address cannot be read"
	if len(address) > 4096 || strings.Count(address, "[") > maxDepth {
		return e, unreadable
	}
	t, diags := hclsyntax.ParseTraversalAbs([]byte(address), "", hcl.InitialPos)
	if diags.HasErrors() {
		return e, unreadable
	}
	names, ok := addressParts(t)
	if !ok {
		return e, unreadable
	}
	s := p.root
	for len(names) >= 2 && names[0].name == "module" && names[0].key == nil {
		next, reason := p.child(s, names[1])
		if reason != "" {
			return e, reason
		}
		s, names = next, names[2:]
	}
	if len(names) == 3 && names[0].name == "data" {
		return e, "it is a data source"
	}
	if len(names) != 2 || names[0].key != nil {
		return e, unreadable
	}
	name := names[0].name + "." + names[1].name
	b := s.mod.resources[name]
	switch why := s.mod.elsewhere[name]; {
	case why != "":
		return e, why
	case b == nil:
		return e, "it is not in the configuration"
	}
	keys, known := p.instances(b, s)
	if known && !slices.Contains(keys, names[1].key) {
		return e, "its instance is not in the configuration"
	}
	return env{scope: s, block: b, key: names[1].key}, ""
}

func (p *proposer) child(s *scope, part addressPart) (*scope, string) {
	name := "module." + part.name
	call := s.mod.calls[name]
	if call == nil {
		if why := s.mod.elsewhere[name]; why != "" {
			return nil, name + ": " + why
		}
		return nil, name + " is not in the configuration"
	}
	if _, ok := call.sourceDir(); !ok {
		return nil, name + " is not a local module"
	}
	if len(s.children[name]) == 0 {
		if keys, known := p.instances(call, s); !known || len(keys) > 0 {
			return nil, "the source of " + name + " is not in the repository"
		}
	}
	for _, c := range s.children[name] {
		if c.closed != "" {
			return nil, c.closed
		}
		if c.key == part.key {
			return c, ""
		}
	}
	return nil, s.prefix + name + keySuffix(part.key) + " is not in the configuration"
}

type addressPart struct {
	name string
	key  any
}

func addressParts(t hcl.Traversal) (parts []addressPart, ok bool) {
	for _, tr := range t {
		switch tr := tr.(type) {
		case hcl.TraverseRoot:
			parts = append(parts, addressPart{name: tr.Name})
		case hcl.TraverseAttr:
			parts = append(parts, addressPart{name: tr.Name})
		case hcl.TraverseIndex:
			last := &parts[len(parts)-1]
			text, ok := keyText(tr.Key)
			if !ok || last.key != nil {
				return nil, false
			}
			last.key = text
			if tr.Key.Type().FriendlyName() == "number" {
				n, err := strconv.Atoi(text)
				if err != nil {
					return nil, false
				}
				last.key = n
			}
		default:
			return nil, false
		}
	}
	return parts, true
}

// varValue is where a variable of the root module gets its value.
type varValue struct {
	definition
	where string // "" for the default, otherwise the file's base name
	why   string // why it cannot be edited
}

// loadVars finds the values of the root module's variables, the strongest last.
func (p *proposer) loadVars() {
	p.vars = map[string]varValue{}
	for name, d := range p.root.mod.variables {
		if d.expr != nil {
			p.vars[name] = varValue{definition: d}
		}
	}
	dir := p.cfg.Dir
	files := []string{path.Join(dir, "terraform.tfvars"), path.Join(dir, "terraform.tfvars.json")}
	for _, name := range slices.Sorted(maps.Keys(p.cfg.Files)) {
		if path.Dir(name) == dir && (strings.HasSuffix(name, ".auto.tfvars") || strings.HasSuffix(name, ".auto.tfvars.json")) {
			files = append(files, name)
		}
	}
	optional := len(files)
	for _, name := range p.cfg.VarFiles {
		files = append(files, path.Join(dir, name))
	}
	for i, name := range files {
		data, there := p.cfg.Files[name]
		switch {
		case !there && i >= optional:
			p.noVars = "the variable file " + name + " is not in the repository"
		case !there:
		case strings.HasSuffix(name, ".json"):
			p.jsonVars(name, data)
		default:
			p.fileVars(name)
		}
	}
}

func (p *proposer) fileVars(name string) {
	f := p.file(name)
	if f == nil {
		return
	}
	for k, a := range f.body.Attributes {
		p.vars[k] = varValue{definition: definition{f, a.Expr}, where: path.Base(name)}
	}
}

func (p *proposer) jsonVars(name string, data []byte) {
	var doc map[string]json.RawMessage
	if len(data) > maxFile || json.Unmarshal(data, &doc) != nil {
		p.setProblem(name + " cannot be read: it is no JSON object")
		return
	}
	for k := range doc {
		p.vars[k] = varValue{where: path.Base(name), why: fmt.Sprintf("var.%s is in %s: it is in JSON syntax", k, name)}
	}
}

// ignoredChanges returns what lifecycle.ignore_changes covers; an empty path
// covers all.
func ignoredChanges(body *hclsyntax.Body) (out []plan.Path) {
	for _, b := range body.Blocks {
		a := b.Body.Attributes["ignore_changes"]
		if b.Type != "lifecycle" || a == nil {
			continue
		}
		if hcl.ExprAsKeyword(a.Expr) == "all" {
			return []plan.Path{{}}
		}
		tuple, ok := a.Expr.(*hclsyntax.TupleConsExpr)
		if !ok {
			continue
		}
		for _, e := range tuple.Exprs {
			if v, ok := literal(e); ok { // the old spelling has quotes
				if s, ok := v.(string); ok {
					out = append(out, plan.Path{s})
				}
			}
			if t, diags := hcl.AbsTraversalForExpr(e); !diags.HasErrors() && len(t) > 0 {
				steps, _ := traversalSteps(t[1:])
				covered := plan.Path{t.RootName()}
				for _, s := range steps {
					covered = append(covered, s.text)
				}
				out = append(out, covered)
			}
		}
	}
	return out
}

// ignores reports whether ignore_changes covers the target.
func (t target) ignores() bool {
	for _, covered := range t.ignored {
		if len(covered) > len(t.path) {
			continue
		}
		all := true
		for i, s := range covered {
			all = all && stepText(s) == stepText(t.path[i])
		}
		if all {
			return true
		}
	}
	return false
}
