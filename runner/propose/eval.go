package propose

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"holdfast/runner/plan"
)

// set is what toset makes. It is kept apart from a list because its elements
// are the keys of for_each.
type set []any

// literal returns the value of an expression that is written out, without
// references. Composites count where everything in them is written out.
func literal(expr hclsyntax.Expression) (any, bool) { return literalAt(expr, 0) }

func literalAt(expr hclsyntax.Expression, depth int) (any, bool) {
	if depth > maxDepth {
		return nil, false
	}
	switch e := expr.(type) {
	case *hclsyntax.ParenthesesExpr:
		return literalAt(e.Expression, depth+1)
	case *hclsyntax.LiteralValueExpr:
		return fromCty(e.Val)
	case *hclsyntax.TemplateExpr:
		var b strings.Builder
		for _, part := range e.Parts {
			lit, ok := part.(*hclsyntax.LiteralValueExpr)
			if !ok || lit.Val.IsNull() || lit.Val.Type() != cty.String {
				return nil, false
			}
			b.WriteString(lit.Val.AsString())
		}
		return b.String(), true
	case *hclsyntax.UnaryOpExpr:
		v, ok := literalAt(e.Val, depth+1)
		n, isNumber := v.(json.Number)
		if !ok || !isNumber || e.Op != hclsyntax.OpNegate {
			return nil, false
		}
		if positive, was := strings.CutPrefix(string(n), "-"); was {
			return json.Number(positive), true
		}
		return "-" + n, true
	case *hclsyntax.TupleConsExpr:
		out := []any{}
		for _, sub := range e.Exprs {
			v, ok := literalAt(sub, depth+1)
			if !ok {
				return nil, false
			}
			out = append(out, v)
		}
		return out, true
	case *hclsyntax.ObjectConsExpr:
		out := map[string]any{}
		for _, item := range e.Items {
			key, ok := literalKey(item.KeyExpr)
			v, ok2 := literalAt(item.ValueExpr, depth+1)
			if !ok || !ok2 {
				return nil, false
			}
			out[key] = v
		}
		return out, true
	}
	return nil, false
}

func fromCty(v cty.Value) (any, bool) {
	switch {
	case v.IsNull():
		return nil, true
	case !v.IsKnown():
		return nil, false
	}
	switch v.Type() {
	case cty.String:
		return v.AsString(), true
	case cty.Bool:
		return v.True(), true
	case cty.Number:
		bf := v.AsBigFloat()
		if bf.IsInf() || bf.Sign() != 0 && (bf.MantExp(nil) > 1000 || bf.MantExp(nil) < -1000) {
			return nil, false
		}
		return json.Number(bf.Text('f', -1)), true
	}
	return nil, false
}

// eval evaluates an expression as far as that can be done without the engine;
// plan.Unknown stands for the rest.
func (p *proposer) eval(e env, expr hclsyntax.Expression, depth int) any {
	if depth > maxDepth || !p.spend(1) {
		return plan.Unknown{}
	}
	if v, ok := literal(expr); ok {
		p.spend(int(expr.Range().End.Byte-expr.Range().Start.Byte) / 16)
		return v
	}
	switch x := expr.(type) {
	case *hclsyntax.ParenthesesExpr:
		return p.eval(e, x.Expression, depth+1)
	case *hclsyntax.TemplateWrapExpr:
		return p.eval(e, x.Wrapped, depth+1)
	case *hclsyntax.TemplateExpr:
		return p.evalTemplate(e, x, depth)
	case *hclsyntax.TupleConsExpr:
		out := []any{}
		for _, sub := range x.Exprs {
			out = append(out, p.eval(e, sub, depth+1))
		}
		return out
	case *hclsyntax.ObjectConsExpr:
		out := map[string]any{}
		for _, item := range x.Items {
			key, ok := p.itemKey(e, item.KeyExpr, depth)
			if !ok {
				return plan.Unknown{}
			}
			out[key] = p.eval(e, item.ValueExpr, depth+1)
		}
		return out
	case *hclsyntax.ConditionalExpr:
		switch text, _ := scalarText(p.eval(e, x.Condition, depth+1)); text {
		case "true":
			return p.eval(e, x.TrueResult, depth+1)
		case "false":
			return p.eval(e, x.FalseResult, depth+1)
		}
	case *hclsyntax.BinaryOpExpr:
		return p.evalComparison(e, x, depth)
	case *hclsyntax.FunctionCallExpr:
		if len(x.Args) != 1 || x.ExpandFinal {
			return plan.Unknown{}
		}
		switch x.Name {
		case "toset":
			return toSet(p.eval(e, x.Args[0], depth+1))
		case "length":
			return length(p.eval(e, x.Args[0], depth+1))
		}
	case *hclsyntax.ScopeTraversalExpr, *hclsyntax.RelativeTraversalExpr, *hclsyntax.IndexExpr:
		return p.evalRef(e, expr, depth)
	}
	return plan.Unknown{}
}

func (p *proposer) itemKey(e env, key hclsyntax.Expression, depth int) (string, bool) {
	if k, ok := literalKey(key); ok {
		return k, true
	}
	k, ok := key.(*hclsyntax.ObjectConsKeyExpr)
	if !ok {
		return "", false
	}
	return scalarText(p.eval(e, k.Wrapped, depth+1))
}

func (p *proposer) evalTemplate(e env, x *hclsyntax.TemplateExpr, depth int) any {
	var b strings.Builder
	for _, part := range x.Parts {
		text, ok := scalarText(p.eval(e, part, depth+1))
		if !ok || !p.spend(len(text)/16) || b.Len() > maxFile {
			return plan.Unknown{}
		}
		b.WriteString(text)
	}
	return b.String()
}

// evalComparison knows == and != of scalars, which is what counts are made of.
func (p *proposer) evalComparison(e env, x *hclsyntax.BinaryOpExpr, depth int) any {
	if x.Op != hclsyntax.OpEqual && x.Op != hclsyntax.OpNotEqual {
		return plan.Unknown{}
	}
	a, b := p.eval(e, x.LHS, depth+1), p.eval(e, x.RHS, depth+1)
	s, ok := a.(string)
	t, ok2 := b.(string)
	if !ok || !ok2 {
		return plan.Unknown{}
	}
	return (s == t) == (x.Op == hclsyntax.OpEqual)
}

// length is that of what is no string, of which Unicode knows several.
func length(v any) any {
	n := 0
	switch v := v.(type) {
	case []any:
		n = len(v)
	case set:
		n = len(v)
	case map[string]any:
		n = len(v)
	default:
		return plan.Unknown{}
	}
	return json.Number(stepText(n))
}

func toSet(v any) any {
	list, ok := v.([]any)
	if !ok {
		return plan.Unknown{}
	}
	all := map[string]bool{}
	for _, e := range list {
		s, ok := e.(string)
		if !ok {
			return plan.Unknown{}
		}
		all[s] = true
	}
	out := set{}
	for _, s := range slices.Sorted(maps.Keys(all)) {
		out = append(out, s)
	}
	return out
}

// texts evaluates the steps of a reference; not ok where one is unknown.
func (p *proposer) texts(e env, steps []step, depth int) (out []string, ok bool) {
	for _, s := range steps {
		text := s.text
		if s.expr != nil {
			if text, ok = scalarText(p.eval(e, s.expr, depth+1)); !ok {
				return nil, false
			}
		}
		out = append(out, text)
	}
	return out, true
}

func (p *proposer) evalRef(e env, expr hclsyntax.Expression, depth int) any {
	root, steps, ok := chain(expr)
	if !ok {
		return plan.Unknown{}
	}
	path, ok := p.texts(e, steps, depth)
	if !ok || len(path) == 0 {
		return plan.Unknown{}
	}
	name := root.Traversal.RootName()
	switch {
	case name == "each" && path[0] == "key" && e.key != nil, name == "count" && path[0] == "index" && e.key != nil:
		if i, ok := e.key.(int); ok {
			return json.Number(stepText(i))
		}
		return e.key
	}
	d, next, rest, reason := p.lookup(e, name, path)
	if reason != "" {
		return plan.Unknown{}
	}
	return p.evalPath(next, d.expr, rest, depth+1)
}

// evalPath evaluates only that part of an expression which a path leads to.
func (p *proposer) evalPath(e env, expr hclsyntax.Expression, path []string, depth int) any {
	v := p.eval(e, expr, depth)
	if s, ok := v.(set); ok && len(path) == 1 {
		return path[0] // each.value of a set is each.key
	} else if ok {
		return s
	}
	for _, s := range path {
		switch c := v.(type) {
		case map[string]any:
			sub, ok := c[s]
			if !ok {
				return plan.Unknown{}
			}
			v = sub
		case []any:
			v = plan.Unknown{}
			for i := range c {
				if stepText(i) == s {
					v = c[i]
				}
			}
		default:
			return plan.Unknown{}
		}
	}
	return v
}

// lookup finds the definition that a reference starts at: its place, where it
// is evaluated, and the path that is left.
func (p *proposer) lookup(e env, root string, path []string) (d found, next env, rest []string, reason string) {
	name := path[0]
	switch root {
	case "local":
		def, ok := e.scope.mod.locals[name]
		if why := e.scope.mod.elsewhere["local."+name]; why != "" {
			return d, e, nil, "local." + name + ": " + why
		}
		if !ok {
			return d, e, nil, "local." + name + " is not in the configuration"
		}
		d = found{definition: def, at: place{kind: inLocal, mod: e.scope.mod, name: name}, via: "local." + name}
		return d, env{scope: e.scope}, path[1:], ""
	case "var":
		d, next, reason = p.lookupVar(e.scope, name)
		return d, next, path[1:], reason
	case "each":
		var forEach *hclsyntax.Attribute
		if e.block != nil {
			forEach = e.block.Body.Attributes["for_each"]
		}
		key, ok := e.key.(string)
		if forEach == nil || !ok || name != "value" {
			return d, e, nil, "it is computed from each." + name
		}
		kind := inForEach
		if e.block.Type == "module" {
			kind = inCallForEach
		}
		d = found{definition: definition{e.block.file, forEach.Expr}, at: place{kind: kind, mod: e.block.mod, block: e.block}, via: "for_each"}
		return d, env{scope: e.scope}, append([]string{key}, path[1:]...), ""
	}
	return d, e, nil, "it is computed"
}

// found is a definition and what the resolver needs to know about it.
type found struct {
	definition
	at  place
	via string
	typ hclsyntax.Expression // a variable's type; nil where it has none
	// of a variable
	isVar, notNull bool
}

func (p *proposer) lookupVar(s *scope, name string) (d found, next env, reason string) {
	mod := s.mod
	if why := mod.elsewhere["var."+name]; why != "" {
		return d, next, "var." + name + ": " + why
	}
	def, declared := mod.variables[name]
	if !declared {
		return d, next, "var." + name + " is not in the configuration"
	}
	d = found{definition: def, at: place{kind: inDefault, mod: mod, name: name}, via: "var." + name, typ: mod.types[name], isVar: true, notNull: mod.notNull[name]}
	next = env{scope: p.blank} // neither a default nor a variable file can refer to anything
	if s.parent == nil {
		v := p.vars[name]
		switch {
		case p.noVars != "":
			return d, next, p.noVars
		case v.why != "":
			return d, next, v.why
		case v.where != "":
			d.definition, d.at.kind, d.via = v.definition, inVarFile, "var."+name+" in "+v.where
		case d.expr == nil:
			return d, next, "var." + name + " has no value in the repository"
		}
		return d, next, ""
	}
	if s.closed != "" {
		return d, next, s.closed
	}
	if a := s.call.Body.Attributes[name]; a != nil && !callArguments[name] {
		d.definition = definition{s.call.file, a.Expr}
		d.at = place{kind: inCall, mod: s.parent.mod, block: s.call, name: name}
		d.via = "var." + name + " of " + s.call.name
		return d, env{scope: s.parent, block: s.call, key: s.key}, ""
	}
	if d.expr == nil {
		return d, next, "var." + name + " of " + s.call.name + " is not set"
	}
	return d, next, ""
}

// sourceText shows an expression to people.
func sourceText(f *file, r hcl.Range) string {
	start, end := r.Start.Byte, r.End.Byte
	if start < 0 || end > len(f.src) || start > end {
		return ""
	}
	return string(f.src[start:end])
}

// brief is sourceText on one line, for a sentence.
func brief(f *file, expr hclsyntax.Expression) string {
	text := []rune(strings.Join(strings.Fields(sourceText(f, exprRange(expr))), " "))
	if len(text) > 80 {
		return string(text[:79]) + "…"
	}
	return string(text)
}

// exprRange is the whole of an expression.
func exprRange(expr hclsyntax.Expression) hcl.Range {
	if b, ok := expr.(*hclsyntax.BinaryOpExpr); ok {
		return hcl.RangeBetween(b.LHS.Range(), b.RHS.Range())
	}
	return expr.Range()
}
