package propose

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"holdfast/runner/plan"
)

// mirrors are attributes that providers compute from others, such as all tags
// with the provider's defaults. They follow when the others are edited.
var mirrors = map[string]bool{
	"tags_all": true, "effective_labels": true, "terraform_labels": true,
	"effective_annotations": true,
}

// body makes the requests for a block's body.
func (p *proposer) body(t target, c cursor, body *hclsyntax.Body, want, have map[string]any) {
	top := len(t.path) == 0
	for _, name := range unionKeys(want, have) {
		w := want[name]
		h, planned := have[name]
		if !planned || plan.Equal(w, h) || top && metaArguments[name] {
			continue
		}
		at := t.step(name)
		attr, blocks, dynamic := members(body, name)
		mentioned := attr != nil || len(blocks) > 0 || dynamic
		_, computed := h.(plan.Unknown)
		switch {
		case !mentioned && (computed || top && mirrors[name]):
		case at.ignores():
			p.refuse(at, "ignore_changes covers it")
		case dynamic:
			p.refuse(at, "a dynamic block makes it")
		case attr != nil:
			p.attribute(at, c, body, attr, w, h)
		case len(blocks) > 0:
			p.blocks(at, c, body, blocks, w, h)
		default:
			p.absent(at, c, body, w, h)
		}
	}
}

// members returns what a body says about a name.
func members(body *hclsyntax.Body, name string) (attr *hclsyntax.Attribute, blocks []*hclsyntax.Block, dynamic bool) {
	for _, b := range body.Blocks {
		switch {
		case b.Type == name:
			blocks = append(blocks, b)
		case b.Type == "dynamic" && len(b.Labels) > 0 && b.Labels[0] == name:
			dynamic = true
		}
	}
	return body.Attributes[name], blocks, dynamic
}

// attribute edits one that the body has.
func (p *proposer) attribute(t target, c cursor, body *hclsyntax.Body, attr *hclsyntax.Attribute, want, have any) {
	src, isLiteral := literal(attr.Expr)
	if want != nil || !isLiteral || src == nil {
		p.expr(t, c, attr.Expr, nil, want, have)
		return
	}
	if reason := concealed(have); reason != "" {
		p.refuse(t, reason)
		return
	}
	p.request(t, c, request{
		site: site("drop attribute", attr.SrcRange.Start.Byte), text: "drop", shape: true,
		op:   op{kind: opDropAttribute, body: body, attr: attr},
		edit: Edit{Line: attr.SrcRange.Start.Line, From: sourceText(c.file, attr.Expr.Range())},
	})
}

// absent adds what the body does not mention.
func (p *proposer) absent(t target, c cursor, body *hclsyntax.Body, want, have any) {
	if reason := cmpOr(concealed(want), concealed(have)); reason != "" {
		p.refuse(t, reason)
		return
	}
	list, isBlocks := want.([]any)
	if _, ok := objects(want); !ok || len(list) == 0 || have == nil {
		isBlocks = false // the value of nested blocks is never null
	}
	name := t.path[len(t.path)-1].(string)
	switch {
	case want == nil, isComposite(have) && !empty(have):
		p.refuse(t, "the configuration does not set it")
	case isBlocks:
		for i, e := range list {
			p.addBlock(t.step(i), c, newBlock{body: body, index: i, name: name}, e.(map[string]any))
		}
	default:
		p.request(t, c, request{
			site: site("add attribute "+name, body.SrcRange.Start.Byte), text: oneLine(want), shape: true,
			op:   op{kind: opAddAttribute, body: body, name: name, value: want},
			edit: Edit{Line: body.SrcRange.Start.Line, To: oneLine(want)},
		})
	}
}

// blocks edits nested blocks of one type.
func (p *proposer) blocks(t target, c cursor, body *hclsyntax.Body, blocks []*hclsyntax.Block, want, have any) {
	if reason := cmpOr(hiddenWhole(want), hiddenWhole(have)); reason != "" {
		p.refuse(t, reason)
		return
	}
	w, ok := objects(want)
	h, ok2 := objects(have)
	if !ok || !ok2 {
		p.refuse(t, "its blocks do not match the plan")
		return
	}
	src := make([]any, len(blocks))
	for i, b := range blocks {
		if len(b.Labels) > 0 {
			p.refuse(t, "its blocks have labels")
			return
		}
		src[i] = p.bodyValue(c.env, b.Body, 0)
	}
	if known(src) && sameBlocks(src, w) {
		return
	}
	a, ok := align(src, h, w)
	if !ok {
		p.refuse(t, "its blocks do not match the plan")
		return
	}
	_, single := want.(map[string]any)
	for _, pr := range a.pairs {
		at := t
		if !single {
			at = t.step(pr.have)
		}
		p.body(at, c, blocks[pr.src].Body, w[pr.want].(map[string]any), h[pr.have].(map[string]any))
	}
	for _, i := range a.removed {
		b := blocks[i]
		r := blockRange(b)
		p.request(t.step(i), c, request{
			site: site("drop block", r.Start.Byte), text: "drop", shape: true,
			op:   op{kind: opDropBlock, body: body, block: b},
			edit: Edit{Line: r.Start.Line, From: sourceText(c.file, r)},
		})
	}
	for _, in := range a.inserted {
		n := newBlock{body: body, siblings: blocks, after: in.after, index: in.want, name: blocks[0].Type}
		p.addBlock(t.step(in.want), c, n, slim(w[in.want], src, h).(map[string]any))
	}
}

// hiddenWhole is concealed for the value itself, not for what is in it.
func hiddenWhole(v any) string {
	if isComposite(v) {
		return ""
	}
	return concealed(v)
}

// sameBlocks reports whether blocks say already what the cloud has.
func sameBlocks(src, want []any) bool {
	kept := make([]any, len(want))
	for i, e := range want {
		kept[i] = wanted(e.(map[string]any))
	}
	return sameList(src, kept)
}

// wanted leaves out of an object what is not worth writing.
func wanted(v map[string]any) map[string]any {
	out := map[string]any{}
	for k, e := range v {
		if !empty(e) {
			out[k] = e
		}
	}
	return out
}

// newBlock is where a block is added: after the sibling with the index, before
// the first of them for -1, and at the end of the body where there are none.
type newBlock struct {
	body         *hclsyntax.Body
	siblings     []*hclsyntax.Block
	after, index int
	name         string
}

func (p *proposer) addBlock(t target, c cursor, n newBlock, value map[string]any) {
	if reason := concealed(value); reason != "" {
		p.refuse(t, reason)
		return
	}
	text := blockText(n.name, value, n.siblings)
	o := op{kind: opAddBlock, body: n.body, text: text, name: n.name, index: n.index}
	line := n.body.SrcRange.Start.Line
	if len(n.siblings) > 0 {
		o.block, o.before = n.siblings[max(n.after, 0)], n.after < 0
		line = blockRange(o.block).Start.Line
	}
	p.request(t, c, request{
		site: site(fmt.Sprintf("add block %s %06d", n.name, n.index), n.body.SrcRange.Start.Byte),
		text: fmt.Sprint(n.after, text), shape: true, op: o,
		edit: Edit{Line: line, To: strings.TrimSpace(text)},
	})
}

// blockText renders a block without indentation of its own. What is a list of
// objects becomes blocks, unless a sibling has it as an attribute.
func blockText(name string, value map[string]any, siblings []*hclsyntax.Block) string {
	var attrs, nested strings.Builder
	for _, k := range unionKeys(value, nil) {
		v := value[k]
		if empty(v) {
			continue
		}
		list, isList := v.([]any)
		asBlocks := isList
		if _, ok := objects(v); !ok {
			asBlocks = false
		}
		var below []*hclsyntax.Block
		for _, s := range siblings {
			attr, blocks, _ := members(s.Body, k)
			if attr != nil {
				asBlocks = false
			}
			below = append(below, blocks...)
		}
		if single, ok := v.(map[string]any); ok && len(below) > 0 {
			list, asBlocks = []any{single}, true
		}
		if !asBlocks {
			attrs.WriteString(attributeName(k) + " = " + render(v, "", false) + "\n")
			continue
		}
		for _, e := range list {
			nested.WriteString(blockText(k, e.(map[string]any), below))
		}
	}
	inner := attrs.String()
	if inner != "" && nested.Len() > 0 {
		inner += "\n"
	}
	return tidy(name + " {\n" + inner + nested.String() + "}\n")
}
