package propose

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"holdfast/runner/plan"
)

// cursor is where the search for a value's literal has come to.
type cursor struct {
	env    env
	file   *file
	at     place
	hop    string // the first reference passed
	via    string // the last one, for people
	strict bool   // inside jsonencode, where 1 and "1" differ
	typed  []typed
	depth  int
}

// typed is a variable's type that the value has to go through, and where in it
// the cursor is.
type typed struct {
	expr    hclsyntax.Expression // nil where it has no type
	path    []string
	notNull bool
	via     string
}

// step goes one step deeper into the value.
func (c cursor) step(s string) cursor {
	c.at = c.at.step(s)
	c.typed = slices.Clone(c.typed)
	for i, t := range c.typed {
		c.typed[i].path = append(slices.Clip(t.path), s)
	}
	return c
}

// unwrap takes off what does not change a value.
func unwrap(expr hclsyntax.Expression) hclsyntax.Expression {
	for range maxDepth {
		switch e := expr.(type) {
		case *hclsyntax.ParenthesesExpr:
			expr = e.Expression
		case *hclsyntax.TemplateWrapExpr:
			expr = e.Wrapped
		default:
			return expr
		}
	}
	return expr
}

// expr makes the requests that turn what path leads to in an expression from
// have into want.
func (p *proposer) expr(t target, c cursor, expr hclsyntax.Expression, path []string, want, have any) {
	switch {
	case plan.Equal(want, have):
		return
	case t.ignores():
		p.refuse(t, "ignore_changes covers it")
		return
	case c.depth > maxDepth || !p.spend(1):
		p.refuse(t, "its references go round in a circle, or too deep")
		return
	}
	c.depth++
	inner := unwrap(expr)
	switch e := inner.(type) {
	case *hclsyntax.ScopeTraversalExpr, *hclsyntax.RelativeTraversalExpr, *hclsyntax.IndexExpr:
		p.follow(t, c, inner, path, want, have)
		return
	case *hclsyntax.ObjectConsExpr:
		if len(path) > 0 {
			p.descendObject(t, c, e, path, want, have)
			return
		}
		if p.object(t, c, e, want, have) {
			return
		}
	case *hclsyntax.TupleConsExpr:
		if len(path) > 0 {
			p.descendTuple(t, c, e, path, want, have)
			return
		}
		if p.tuple(t, c, e, want, have) {
			return
		}
	case *hclsyntax.FunctionCallExpr:
		if len(path) == 0 && p.jsonencode(t, c, e, want, have) {
			return
		}
	}
	if _, ok := literal(inner); !ok || len(path) > 0 {
		p.refusef(t, "it is computed from %s", brief(c.file, expr))
		return
	}
	p.literal(t, c, inner, want, have)
}

// literal replaces a literal as a whole.
func (p *proposer) literal(t target, c cursor, expr hclsyntax.Expression, want, have any) {
	if reason := cmpOr(concealed(want), concealed(have)); reason != "" {
		p.refuse(t, reason)
		return
	}
	src, _ := literal(expr)
	// In the plan the document is spelled otherwise than in the file.
	normalised := sameJSON(src, have) && !sameScalar(src, have)
	switch {
	case c.strict && plan.Equal(src, want), !c.strict && same(src, want) && complete(src, want):
		return // it is there already
	case sameJSON(src, want) && (normalised || !sameJSON(src, have)):
		return // likewise
	case c.hop != "" && !same(src, have) && !sameJSON(src, have):
		p.refusef(t, "%s does not have the value that the plan has", c.via)
		return
	}
	if reason := c.mistyped(want); reason != "" {
		p.refuse(t, reason)
		return
	}
	text := p.replacement(c, expr, src, want, normalised)
	r := expr.Range()
	p.request(t, c, request{
		site: site("set", r.Start.Byte), text: text,
		op:   op{kind: opSet, start: r.Start.Byte, end: r.End.Byte, text: text},
		edit: Edit{Line: r.Start.Line, From: sourceText(c.file, r), To: text},
	})
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// sameJSON reports whether both are JSON documents with the same content,
// which providers like to write differently.
func sameJSON(a, b any) bool {
	x, ok := decodeJSON(a)
	y, ok2 := decodeJSON(b)
	return ok && ok2 && plan.Equal(x, y)
}

// decodeJSON reads a string that holds a JSON object or list.
func decodeJSON(v any) (any, bool) {
	s, ok := v.(string)
	if !ok || len(s) > maxFile || !strings.HasPrefix(strings.TrimSpace(s), "{") && !strings.HasPrefix(strings.TrimSpace(s), "[") {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(s)))
	dec.UseNumber()
	var out any
	if dec.Decode(&out) != nil || dec.More() || !sound(out, 0) {
		return nil, false
	}
	return out, true
}

// jsonencode edits inside jsonencode({…}).
func (p *proposer) jsonencode(t target, c cursor, e *hclsyntax.FunctionCallExpr, want, have any) bool {
	w, ok := decodeJSON(want)
	h, ok2 := decodeJSON(have)
	if e.Name != "jsonencode" || len(e.Args) != 1 || e.ExpandFinal || !ok || !ok2 {
		return false
	}
	c.strict, c.typed, t.closed = true, nil, true
	p.expr(t, c, e.Args[0], nil, w, h)
	return true
}

// follow goes on where a reference leads to.
func (p *proposer) follow(t target, c cursor, expr hclsyntax.Expression, path []string, want, have any) {
	computed := func() { p.refusef(t, "it is computed from %s", brief(c.file, expr)) }
	root, steps, ok := chain(expr)
	if !ok || len(steps) == 0 {
		computed()
		return
	}
	name := root.Traversal.RootName()
	own, ok := p.texts(c.env, steps, 0)
	if !ok || name != "local" && name != "var" && name != "each" {
		computed()
		return
	}
	d, next, rest, reason := p.lookup(c.env, name, own)
	if reason != "" {
		p.refuse(t, reason)
		return
	}
	if _, isSet := p.eval(next, d.expr, 0).(set); isSet {
		computed()
		return
	}
	if c.hop == "" {
		c.hop = refID(c.file, root)
	}
	c.env, c.file, c.at, c.via = next, d.file, d.at, d.via
	if d.isVar {
		c.typed = append(slices.Clone(c.typed), typed{expr: d.typ, notNull: d.notNull, via: d.via})
	}
	p.expr(t, c, d.expr, slices.Concat(rest, path), want, have)
}

func (p *proposer) descendObject(t target, c cursor, e *hclsyntax.ObjectConsExpr, path []string, want, have any) {
	for i, key := range p.keys(c, e) {
		if key != nil && *key == path[0] {
			p.expr(t, c.step(path[0]), e.Items[i].ValueExpr, path[1:], want, have)
			return
		}
	}
	if kc := c.step(path[0]); len(path) == 1 && want != nil && kc.leftOut() && !slices.Contains(p.keys(c, e), nil) {
		if reason := concealed(have); reason != "" {
			p.refuse(t, reason)
			return
		}
		p.addKey(t, c, e, path[0], want, nil)
		return
	}
	p.refusef(t, "%s has no %s", cmpOr(c.via, "the configuration"), strings.Join(path, "."))
}

func (p *proposer) descendTuple(t target, c cursor, e *hclsyntax.TupleConsExpr, path []string, want, have any) {
	for i, sub := range e.Exprs {
		if stepText(i) == path[0] {
			p.expr(t, c.step(path[0]), sub, path[1:], want, have)
			return
		}
	}
	p.refusef(t, "%s has no element %s", cmpOr(c.via, "the configuration"), path[0])
}

// keys returns the keys of an object's items; nil where one is not known.
func (p *proposer) keys(c cursor, e *hclsyntax.ObjectConsExpr) []*string {
	out := make([]*string, len(e.Items))
	for i, item := range e.Items {
		if k, ok := p.itemKey(c.env, item.KeyExpr, 0); ok {
			out[i] = &k
		}
	}
	return out
}

// object edits the items of an object; false where it has to be replaced as a
// whole.
func (p *proposer) object(t target, c cursor, e *hclsyntax.ObjectConsExpr, want, have any) bool {
	w, ok := want.(map[string]any)
	h, ok2 := have.(map[string]any)
	if !ok || !ok2 && have != nil {
		return false
	}
	items := map[string]int{}
	for i, k := range p.keys(c, e) {
		if k == nil {
			p.refusef(t, "it has a computed key in %s", brief(c.file, e.Items[i].KeyExpr))
			return true
		}
		if _, twice := items[*k]; twice {
			p.refusef(t, "it has the key %s twice", *k)
			return true
		}
		items[*k] = i
	}
	for _, k := range unionKeys(w, h) {
		kt := t.step(k)
		v, inWant := w[k]
		i, there := items[k]
		_, computed := h[k].(plan.Unknown)
		switch {
		case computed && !there:
		case plan.Equal(v, h[k]) && inWant == hasKey(h, k):
		case kt.ignores():
			p.refuse(kt, "ignore_changes covers it")
		case c.hop != "" && !p.fits(c, e, items, h, k) && (!there || !inWant):
			p.refusef(kt, "%s does not have the value that the plan has", c.via)
		case there && !inWant, there && v == nil && !c.strict:
			p.dropKey(kt, c, e, i, k, inWant, h[k])
		case there:
			p.expr(kt, c.step(k), e.Items[i].ValueExpr, nil, v, h[k])
		case v == nil && !c.strict, !inWant:
			if h[k] != nil && !c.strict {
				p.refuse(kt, "the configuration does not set it")
			}
		default:
			p.addKey(kt, c, e, k, v, h[k])
		}
	}
	return true
}

// fits reports whether an object that a reference led to can be the one which
// the plan has, so that its key k can be added or dropped. A variable may get
// another value from the environment.
func (p *proposer) fits(c cursor, e *hclsyntax.ObjectConsExpr, items map[string]int, have map[string]any, k string) bool {
	for name, i := range items {
		if !hasKey(have, name) && p.eval(c.env, e.Items[i].ValueExpr, 0) != nil {
			return false
		}
	}
	i, there := items[k]
	if !there {
		return have[k] == nil
	}
	src := p.eval(c.env, e.Items[i].ValueExpr, 0)
	return isComposite(src) || isComposite(have[k]) || same(src, have[k])
}

func hasKey(m map[string]any, k string) bool {
	_, ok := m[k]
	return ok
}

// addKey adds an item to an object.
func (p *proposer) addKey(t target, c cursor, e *hclsyntax.ObjectConsExpr, k string, want, have any) {
	if reason := cmpOr(concealed(want), concealed(have)); reason != "" {
		p.refuse(t, reason)
		return
	}
	if !empty(have) && isComposite(have) {
		p.refuse(t, "the configuration does not set it")
		return
	}
	kc := c.step(k)
	if name, ok := kc.typeHas(); !ok {
		p.refusef(t, "the type of %s has no such attribute", name)
		return
	}
	if reason := kc.mistyped(want); reason != "" {
		p.refuse(t, reason)
		return
	}
	r := e.SrcRange
	item := itemKeyText(c.file, e, k)
	edit := Edit{Line: r.Start.Line, To: oneLine(want)}
	p.request(t, kc, request{
		site: site("add "+k, r.Start.Byte), text: oneLine(want), shape: true, edit: edit,
		op: op{kind: opItems, container: e, inserts: []insert{{after: len(e.Items) - 1, key: item, value: want}}},
	})
}

func isComposite(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// dropKey takes an item out of an object; or makes it null where the object
// has a type that wants the key.
func (p *proposer) dropKey(t target, c cursor, e *hclsyntax.ObjectConsExpr, i int, k string, inWant bool, have any) {
	item := e.Items[i]
	if reason := concealed(have); reason != "" {
		p.refuse(t, reason)
		return
	}
	src := p.eval(c.env, item.ValueExpr, 0)
	if !known(src) {
		p.refusef(t, "it is computed from %s", brief(c.file, item.ValueExpr))
		return
	}
	if src == nil && inWant {
		return // it is there already
	}
	kc := c.step(k)
	if len(c.typed) > 0 && inWant {
		p.expr(t, kc, item.ValueExpr, nil, nil, have)
		return
	}
	p.request(t, kc, request{
		site: site("drop "+k, e.SrcRange.Start.Byte), text: "drop", shape: true,
		op:   op{kind: opItems, container: e, removed: []int{i}},
		edit: Edit{Line: item.KeyExpr.Range().Start.Line, From: sourceText(c.file, item.ValueExpr.Range())},
	})
}

// typeHas reports whether the types that the value goes through have a place
// for it, and otherwise whose has not. An object type drops what it does not
// name, so that an added key would have no effect.
func (c cursor) typeHas() (string, bool) {
	for _, t := range c.typed {
		if _, ok := t.at(); !ok {
			return t.via, false
		}
	}
	return "", true
}

// mistyped says why the types that the value goes through would not take
// another value, or would make something else of it; "" where they do.
func (c cursor) mistyped(v any) string {
	for _, t := range c.typed {
		typ, _ := t.at()
		text, isScalar := scalarText(v)
		switch word := hcl.ExprAsKeyword(typ.expr); {
		case v == nil && (len(t.path) == 0 && t.notNull || typ.preset):
			return t.via + " has a default that stands for null"
		case v == nil:
		case word == "number" && !(isScalar && isNumber(text)), word == "bool" && text != "true" && text != "false":
			return t.via + " takes a " + word + " there"
		}
	}
	return ""
}

// typeExpr is a place in a variable's type.
type typeExpr struct {
	expr     hclsyntax.Expression // nil where nothing is known
	optional bool                 // an attribute that may be left out
	preset   bool                 // and then has a default
}

// at returns the type of where the cursor is; not ok where an object type has
// no such attribute.
func (t typed) at() (out typeExpr, ok bool) {
	out.expr = t.expr
	for path := t.path; ; {
		if out.expr == nil {
			return out, true
		}
		call, isCall := unwrap(out.expr).(*hclsyntax.FunctionCallExpr)
		if isCall && call.Name == "optional" && len(call.Args) > 0 {
			out = typeExpr{expr: call.Args[0], optional: true, preset: len(call.Args) > 1}
			continue
		}
		if len(path) == 0 {
			return out, true
		}
		if !isCall || len(call.Args) == 0 {
			return typeExpr{}, true // any, or a type that the plan has already judged
		}
		switch call.Name {
		case "map", "list", "set":
			out, path = typeExpr{expr: call.Args[0]}, path[1:]
			continue
		case "object":
		default:
			return typeExpr{}, true
		}
		obj, isObject := call.Args[0].(*hclsyntax.ObjectConsExpr)
		if !isObject {
			return typeExpr{}, true
		}
		out = typeExpr{}
		for _, item := range obj.Items {
			if k, ok := literalKey(item.KeyExpr); ok && k == path[0] {
				out.expr = item.ValueExpr
			}
		}
		if out.expr == nil {
			return out, false
		}
		path = path[1:]
	}
}

// leftOut reports whether what a variable's type has by default stands here.
func (c cursor) leftOut() bool {
	for _, t := range c.typed {
		if typ, ok := t.at(); ok && typ.optional {
			return true
		}
	}
	return false
}

// tuple edits the elements of a list; false where it has to be replaced as a
// whole.
func (p *proposer) tuple(t target, c cursor, e *hclsyntax.TupleConsExpr, want, have any) bool {
	w, ok := want.([]any)
	h, ok2 := have.([]any)
	if !ok || !ok2 && have != nil {
		return false
	}
	if reason := cmpOr(concealed(w), concealed(h)); reason != "" && len(w) != len(h) {
		p.refuse(t, reason)
		return true
	}
	src := make([]any, len(e.Exprs))
	for i, sub := range e.Exprs {
		src[i] = p.eval(c.env, sub, 0)
	}
	if known(src) && sameList(src, w) {
		return true
	}
	a, ok := align(src, h, w)
	if !ok {
		p.refusef(t, "the list in the configuration, %s, does not match the plan", brief(c.file, e))
		return true
	}
	for _, pr := range a.pairs {
		p.expr(t.step(pr.have), c.step(stepText(pr.src)), e.Exprs[pr.src], nil, w[pr.want], h[pr.have])
	}
	if len(a.removed) == 0 && len(a.inserted) == 0 {
		return true
	}
	if reason := concealed(w); reason != "" {
		p.refuse(t, reason)
		return true
	}
	o := op{kind: opItems, container: e, removed: a.removed}
	text := new(strings.Builder)
	for _, i := range a.removed {
		if !known(src[i]) {
			p.refusef(t, "it is computed from %s", brief(c.file, e.Exprs[i]))
			return true
		}
		text.WriteString("-" + stepText(i))
	}
	for _, in := range a.inserted {
		v := slim(w[in.want], src, h)
		o.inserts = append(o.inserts, insert{after: in.after, value: v})
		text.WriteString("+" + stepText(in.after) + ":" + oneLine(v))
	}
	p.request(t, c, request{
		site: site("list", e.SrcRange.Start.Byte), text: text.String(), op: o,
		edit: Edit{Line: e.SrcRange.Start.Line, From: sourceText(c.file, e.SrcRange), To: oneLine(want)},
	})
	return true
}

// bodyValue evaluates a block's body like the object it makes.
func (p *proposer) bodyValue(e env, body *hclsyntax.Body, depth int) map[string]any {
	out := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(body.Attributes)) {
		out[name] = p.eval(e, body.Attributes[name].Expr, depth)
	}
	for _, b := range body.Blocks {
		name := b.Type
		if name == "dynamic" && len(b.Labels) > 0 {
			out[b.Labels[0]] = plan.Unknown{}
			continue
		}
		if depth > maxDepth {
			out[name] = plan.Unknown{}
			continue
		}
		if list, ok := out[name].([]any); ok || out[name] == nil {
			out[name] = append(list, any(p.bodyValue(e, b.Body, depth+1)))
		}
	}
	return out
}
