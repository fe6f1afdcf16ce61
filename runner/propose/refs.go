package propose

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

type owner int

// Where a reference stands. What an ownerOther uses can never be known to want
// a new value.
const (
	ownerOther owner = iota
	ownerResource
	ownerForEach // of a resource
	ownerLocal
	ownerCall
	ownerCallForEach
)

// step is one step of a reference: its text, or an expression that gives it.
type step struct {
	text string
	expr hclsyntax.Expression
}

// ref is one reference to a local, a variable or each.
type ref struct {
	id     string // of the place; see refID
	where  string // file:line
	root   string // "local", "var" or "each"
	steps  []step
	owner  owner
	block  *block   // of ownerResource, ownerForEach, ownerCall and ownerCallForEach
	name   string   // the local's name, or the call's argument
	pos    []string // where in the owner's value the reference's value is
	opaque bool     // it is not known where
	length bool     // only how many elements it has is used
}

func refID(f *file, e *hclsyntax.ScopeTraversalExpr) string {
	return fmt.Sprintf("%s:%d", f.path, e.SrcRange.Start.Byte)
}

// collector walks expressions for their references.
type collector struct {
	mod    *module
	file   *file
	block  *block
	owner  owner
	name   string
	pos    []string
	opaque bool
	length bool
}

func (c collector) at(step string) collector {
	c.pos = append(slices.Clip(c.pos), step)
	return c
}

func (c collector) hidden() collector {
	c.opaque = true
	return c
}

// collectBody walks a body. The top level of a resource or of a module's call
// has arguments that mean something else than the rest.
func (m *module) collectBody(c collector, body *hclsyntax.Body) {
	top := c.block != nil && body == c.block.Body
	for _, name := range slices.Sorted(maps.Keys(body.Attributes)) {
		expr, sub := body.Attributes[name].Expr, c
		switch {
		case !top:
		case name == "for_each" && c.owner == ownerResource:
			sub.owner = ownerForEach
		case name == "for_each":
			sub.owner = ownerCallForEach
		case c.owner == ownerCall && callArguments[name]:
			sub = collector{mod: c.mod, file: c.file, owner: ownerOther, opaque: true}
		case c.owner == ownerCall:
			sub.name = name
		}
		m.collect(sub, expr)
	}
	for _, b := range body.Blocks {
		sub := c
		if c.owner == ownerCall {
			sub = collector{mod: c.mod, file: c.file, owner: ownerOther, opaque: true}
		}
		m.collectBody(sub, b.Body)
	}
}

// metaArguments belong to the engine, not to the resource. Resources do have
// attributes such as version and source.
var metaArguments = map[string]bool{
	"count": true, "for_each": true, "provider": true, "depends_on": true,
	"lifecycle": true, "provisioner": true, "connection": true,
}

// callArguments belong to the engine, not to the called module.
var callArguments = map[string]bool{
	"count": true, "for_each": true, "providers": true, "depends_on": true,
	"source": true, "version": true, "lifecycle": true,
}

func (m *module) collect(c collector, expr hclsyntax.Expression) {
	switch expr.(type) {
	case *hclsyntax.ScopeTraversalExpr, *hclsyntax.RelativeTraversalExpr, *hclsyntax.IndexExpr:
	default:
		c.length = false
	}
	switch e := expr.(type) {
	case *hclsyntax.ParenthesesExpr:
		m.collect(c, e.Expression)
	case *hclsyntax.TemplateWrapExpr:
		m.collect(c, e.Wrapped)
	case *hclsyntax.ObjectConsExpr:
		for _, item := range e.Items {
			sub := c.hidden()
			if key, ok := literalKey(item.KeyExpr); ok {
				sub = c.at(key)
			}
			m.collect(c.hidden(), item.KeyExpr)
			m.collect(sub, item.ValueExpr)
		}
	case *hclsyntax.TupleConsExpr:
		for i, sub := range e.Exprs {
			m.collect(c.at(stepText(i)), sub)
		}
	case *hclsyntax.FunctionCallExpr:
		sub := c.hidden()
		sub.length = e.Name == "length" && len(e.Args) == 1
		for _, arg := range e.Args {
			m.collect(sub, arg)
		}
	case *hclsyntax.ScopeTraversalExpr, *hclsyntax.RelativeTraversalExpr, *hclsyntax.IndexExpr:
		root, steps, ok := chain(expr)
		if !ok {
			c.length = false
			m.collectAll(c.hidden(), expr)
			return
		}
		m.add(c, root, steps)
		c.length = false
		for _, s := range steps {
			if s.expr != nil {
				m.collect(c.hidden(), s.expr)
			}
		}
	default:
		m.collectAll(c.hidden(), expr)
	}
}

// collectAll takes every reference below a node of which nothing is known.
func (m *module) collectAll(c collector, node hclsyntax.Node) {
	_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		if e, ok := n.(*hclsyntax.ScopeTraversalExpr); ok {
			if root, steps, ok := chain(e); ok {
				m.add(c, root, steps)
			}
		}
		return nil
	})
}

func (m *module) add(c collector, root *hclsyntax.ScopeTraversalExpr, steps []step) {
	name := root.Traversal.RootName()
	if name != "local" && name != "var" && name != "each" {
		return
	}
	r := &ref{id: refID(c.file, root), where: fmt.Sprintf("%s:%d", c.file.path, root.SrcRange.Start.Line),
		root: name, steps: steps, owner: c.owner, block: c.block, name: c.name, pos: c.pos, opaque: c.opaque, length: c.length}
	if c.block != nil {
		c.block.refs = append(c.block.refs, r)
	}
	m.refs = append(m.refs, r)
}

// chain takes a reference apart, such as local.m[each.key].size.
func chain(expr hclsyntax.Expression) (root *hclsyntax.ScopeTraversalExpr, steps []step, ok bool) {
	var back []step // last step first
	for range maxDepth {
		switch e := expr.(type) {
		case *hclsyntax.ScopeTraversalExpr:
			own, ok := traversalSteps(e.Traversal[1:])
			slices.Reverse(back)
			return e, append(own, back...), ok
		case *hclsyntax.RelativeTraversalExpr:
			own, ok := traversalSteps(e.Traversal)
			if !ok {
				return nil, nil, false
			}
			slices.Reverse(own)
			back, expr = append(back, own...), e.Source
		case *hclsyntax.IndexExpr:
			s := step{expr: e.Key}
			if v, ok := literal(e.Key); ok {
				if text, ok := scalarText(v); ok {
					s = step{text: text}
				}
			}
			back, expr = append(back, s), e.Collection
		default:
			return nil, nil, false
		}
	}
	return nil, nil, false
}

func traversalSteps(t hcl.Traversal) (steps []step, ok bool) {
	for _, tr := range t {
		switch tr := tr.(type) {
		case hcl.TraverseAttr:
			steps = append(steps, step{text: tr.Name})
		case hcl.TraverseIndex:
			text, ok := keyText(tr.Key)
			if !ok {
				return nil, false
			}
			steps = append(steps, step{text: text})
		default:
			return nil, false
		}
	}
	return steps, true
}

// keyText returns a key or an index as a step's text.
func keyText(v cty.Value) (string, bool) {
	if !v.IsKnown() || v.IsNull() {
		return "", false
	}
	switch v.Type() {
	case cty.String:
		return v.AsString(), true
	case cty.Number:
		bf := v.AsBigFloat()
		if i, acc := bf.Int64(); acc == 0 {
			return fmt.Sprint(i), true
		}
	}
	return "", false
}

// literalKey returns the key of an object's item where it is written out.
func literalKey(key hclsyntax.Expression) (string, bool) {
	k, ok := key.(*hclsyntax.ObjectConsKeyExpr)
	if !ok {
		return "", false
	}
	if word := hcl.ExprAsKeyword(k.Wrapped); word != "" && !k.ForceNonLiteral {
		return word, true
	}
	v, ok := literal(k.Wrapped)
	if !ok {
		return "", false
	}
	return scalarText(v)
}
