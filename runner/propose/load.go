package propose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// file is one file in native syntax. Its source has no byte order mark and
// ends its lines with \n; both come back when it is written.
type file struct {
	path      string
	src       []byte
	bom, crlf bool
	body      *hclsyntax.Body
	tokens    hclsyntax.Tokens // without newlines
}

// maxFile is the size in bytes up to which files are read.
const maxFile = 1 << 20

var bom = []byte("\xef\xbb\xbf")

// parse reads a file in native syntax. The problem is for people.
func parse(name string, data []byte) (f *file, problem string) {
	f = &file{path: name}
	if len(data) > maxFile {
		return nil, name + " is larger than 1 MiB"
	}
	data, f.bom = bytes.CutPrefix(data, bom)
	n := bytes.Count(data, []byte("\n"))
	if n > 0 && bytes.Count(data, []byte("\r\n")) == n {
		f.crlf = true
		data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	}
	f.src = data
	tokens, _ := hclsyntax.LexConfig(data, name, hcl.InitialPos)
	if tooDeep(tokens) {
		return nil, name + " nests too deep"
	}
	parsed, diags := hclsyntax.ParseConfig(data, name, hcl.InitialPos)
	if diags.HasErrors() {
		line := 1
		if s := diags[0].Subject; s != nil {
			line = s.Start.Line
		}
		return nil, fmt.Sprintf("%s:%d cannot be read: %s", name, line, diags[0].Summary)
	}
	f.body = parsed.Body.(*hclsyntax.Body)
	f.tokens = tokens
	return f, ""
}

// tooDeep reports whether the parser, which is recursive, would go deeper into
// the tokens than any honest configuration lets it.
func tooDeep(tokens hclsyntax.Tokens) bool {
	type level struct {
		brace bool
		ops   int
	}
	stack := []level{{brace: true}}
	for _, t := range tokens {
		top := &stack[len(stack)-1]
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			if t.Type == hclsyntax.TokenOBrack || t.Type == hclsyntax.TokenOParen {
				top.ops++
			}
			stack = append(stack, level{brace: t.Type == hclsyntax.TokenOBrace})
		case hclsyntax.TokenCBrace, hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			if len(stack) > 1 {
				stack = stack[:len(stack)-1]
			}
		case hclsyntax.TokenComma:
			top.ops = 0
		case hclsyntax.TokenNewline:
			if top.brace {
				top.ops = 0
			}
		case hclsyntax.TokenIdent, hclsyntax.TokenNumberLit, hclsyntax.TokenComment,
			hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
		default:
			top.ops++
		}
		if len(stack) > maxDepth*2 || stack[len(stack)-1].ops > 500 {
			return true
		}
	}
	return false
}

// block is a resource or the call of a module.
type block struct {
	*hclsyntax.Block
	file *file
	mod  *module
	name string // "aws_x.name", or "module.name"
	refs []*ref // those in its body
}

// definition is an expression with a name, such as a local.
type definition struct {
	file *file
	expr hclsyntax.Expression
}

// module is one directory.
type module struct {
	dir       string
	resources map[string]*block
	calls     map[string]*block
	locals    map[string]definition
	variables map[string]definition // the default; a nil expr where there is none
	types     map[string]hclsyntax.Expression
	notNull   map[string]bool // variables that take their default for null
	// elsewhere says of "aws_x.name", "local.x", "var.x" and "module.x" why
	// it cannot be edited although it is declared.
	elsewhere map[string]string
	jsonCalls []string // directories that a file in JSON syntax calls
	refs      []*ref
}

func (p *proposer) load() {
	p.files, p.modules = map[string]*file{}, map[string]*module{}
	p.cfg.Dir = path.Clean(p.cfg.Dir)
	clean := map[string][]byte{}
	for name, data := range p.cfg.Files {
		clean[path.Clean(name)] = data
	}
	p.cfg.Files = clean
	p.root = &scope{mod: p.module(p.cfg.Dir)}
	p.scopes = []*scope{p.root}
	p.blank = &scope{mod: &module{}, closed: "it is a constant"}
	p.loadVars()
	if p.problem == "" {
		p.expand(p.root, 0)
	}
}

func (p *proposer) setProblem(problem string) {
	if p.problem == "" {
		p.problem = problem
	}
}

// file reads a file once.
func (p *proposer) file(name string) *file {
	if f, ok := p.files[name]; ok {
		return f
	}
	f, problem := parse(name, p.cfg.Files[name])
	if problem != "" {
		p.setProblem(problem)
		return nil
	}
	p.files[name] = f
	return f
}

// module reads a directory once.
func (p *proposer) module(dir string) *module {
	if m, ok := p.modules[dir]; ok {
		return m
	}
	m := &module{dir: dir, resources: map[string]*block{}, calls: map[string]*block{}, locals: map[string]definition{},
		variables: map[string]definition{}, types: map[string]hclsyntax.Expression{}, notNull: map[string]bool{}, elsewhere: map[string]string{}}
	p.modules[dir] = m
	for _, name := range slices.Sorted(maps.Keys(p.cfg.Files)) {
		if path.Dir(name) != dir || strings.HasPrefix(path.Base(name), ".") {
			continue
		}
		switch {
		case strings.HasSuffix(name, ".tf.json"), strings.HasSuffix(name, ".tofu.json"):
			p.loadJSON(m, name)
		case isSource(name):
			if f := p.file(name); f != nil {
				m.load(f)
			}
		}
	}
	return m
}

// has reports whether the repository has the module at all.
func (p *proposer) has(dir string) bool {
	for name := range p.cfg.Files {
		if path.Dir(name) == dir && isSource(strings.TrimSuffix(name, ".json")) {
			return true
		}
	}
	return false
}

// isSource reports whether a file is configuration in native syntax. Terraform
// leaves *.tofu alone, but who has such files uses OpenTofu; what is declared in
// both kinds is declared twice, and so refused.
func isSource(name string) bool {
	return strings.HasSuffix(name, ".tf") || strings.HasSuffix(name, ".tofu")
}

// overrides reports whether Terraform merges the file over the others.
func overrides(name string) bool {
	base := strings.TrimSuffix(path.Base(name), ".json")
	base = strings.TrimSuffix(strings.TrimSuffix(base, ".tf"), ".tofu")
	return base == "override" || strings.HasSuffix(base, "_override")
}

func (m *module) load(f *file) {
	over := overrides(f.path)
	for _, b := range f.body.Blocks {
		switch {
		case b.Type == "resource" && len(b.Labels) == 2:
			m.loadBlock(f, b, m.resources, b.Labels[0]+"."+b.Labels[1], over)
		case b.Type == "module" && len(b.Labels) == 1:
			m.loadBlock(f, b, m.calls, "module."+b.Labels[0], over)
		case b.Type == "locals":
			m.loadLocals(f, b, over)
		case b.Type == "variable" && len(b.Labels) == 1:
			m.loadVariable(f, b, over)
		default:
			m.collectBody(collector{mod: m, file: f, owner: ownerOther, opaque: true}, b.Body)
		}
	}
}

// declared reports whether name is a first declaration in a file that may be
// edited, and otherwise notes why it cannot be.
func (m *module) declared(name string, there, over bool, file string) bool {
	switch {
	case over:
		m.elsewhere[name] = file + " overrides it"
	case there:
		m.elsewhere[name] = "it is declared twice"
	default:
		return true
	}
	return false
}

func (m *module) loadBlock(f *file, b *hclsyntax.Block, into map[string]*block, name string, over bool) {
	_, there := into[name]
	blk := &block{Block: b, file: f, mod: m, name: name}
	if !m.declared(name, there, over, f.path) {
		m.collectBody(collector{mod: m, file: f, owner: ownerOther, opaque: true}, b.Body)
		return
	}
	into[name] = blk
	c := collector{mod: m, file: f, block: blk, owner: ownerResource}
	if b.Type == "module" {
		c.owner = ownerCall
	}
	m.collectBody(c, b.Body)
}

func (m *module) loadLocals(f *file, b *hclsyntax.Block, over bool) {
	for _, name := range slices.Sorted(maps.Keys(b.Body.Attributes)) {
		expr := b.Body.Attributes[name].Expr
		_, there := m.locals[name]
		if !m.declared("local."+name, there, over, f.path) {
			m.collect(collector{mod: m, file: f, owner: ownerOther, opaque: true}, expr)
			continue
		}
		m.locals[name] = definition{f, expr}
		m.collect(collector{mod: m, file: f, owner: ownerLocal, name: name}, expr)
	}
}

func (m *module) loadVariable(f *file, b *hclsyntax.Block, over bool) {
	name := b.Labels[0]
	own := &module{}
	own.collectBody(collector{mod: own, file: f, owner: ownerOther, opaque: true}, b.Body)
	for _, r := range own.refs {
		// Its own validation judges a value, and does nothing with it.
		if r.root != "var" || len(r.steps) == 0 || r.steps[0].text != name {
			m.refs = append(m.refs, r)
		}
	}
	if _, there := m.variables[name]; !m.declared("var."+name, there, over, f.path) {
		return
	}
	d := definition{file: f}
	if a := b.Body.Attributes["default"]; a != nil {
		d.expr = a.Expr
	}
	m.variables[name] = d
	if a := b.Body.Attributes["type"]; a != nil {
		m.types[name] = a.Expr
	}
	if a := b.Body.Attributes["nullable"]; a != nil {
		v, _ := literal(a.Expr)
		text, _ := scalarText(v)
		m.notNull[name] = text != "true"
	}
}

var jsonRef = regexp.MustCompile(`\b(local|var)\s*\.\s*([\pL_][\pL\pN_-]*)`)

// loadJSON notes what a file in JSON syntax declares and mentions. It is never
// edited, so this need not be exact: too many references only refuse more.
func (p *proposer) loadJSON(m *module, name string) {
	data := bytes.TrimPrefix(p.cfg.Files[name], bom)
	if len(data) > maxFile {
		p.setProblem(name + " is larger than 1 MiB")
		return
	}
	var doc map[string]any
	if err := json.Unmarshal(data, &doc); err != nil {
		p.setProblem(name + " cannot be read: it is no JSON object")
		return
	}
	note := func(key string) { m.elsewhere[key] = "it is in JSON syntax" }
	for typ, named := range jsonBlocks(doc["resource"]) {
		for n := range jsonBlocks(named) {
			note(typ + "." + n)
		}
	}
	for n := range jsonBlocks(doc["locals"]) {
		note("local." + n)
	}
	for n := range jsonBlocks(doc["variable"]) {
		note("var." + n)
	}
	for n, call := range jsonBlocks(doc["module"]) {
		note("module." + n)
		for k, v := range jsonBlocks(call) {
			if s, ok := v.(string); ok && k == "source" && isLocal(s) {
				m.jsonCalls = append(m.jsonCalls, path.Join(m.dir, s))
			}
		}
	}
	m.jsonRefs(name, doc)
}

// jsonBlocks returns the members of an object, or of all objects in a list:
// the JSON syntax allows both for blocks.
func jsonBlocks(v any) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		return v
	case []any:
		out := map[string]any{}
		for _, e := range v {
			if m, ok := e.(map[string]any); ok {
				maps.Copy(out, m)
			}
		}
		return out
	}
	return nil
}

func (m *module) jsonRefs(name string, v any) {
	switch v := v.(type) {
	case string:
		for _, match := range jsonRef.FindAllStringSubmatch(v, -1) {
			m.refs = append(m.refs, &ref{where: name, root: match[1], steps: []step{{text: match[2]}}, owner: ownerOther, opaque: true})
		}
	case []any:
		for _, e := range v {
			m.jsonRefs(name, e)
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			m.jsonRefs(name, k)
			m.jsonRefs(name, v[k])
		}
	}
}

func isLocal(source string) bool {
	return strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../")
}
