package propose

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

type opKind int

const (
	opSet           opKind = iota // replaces start to end with text
	opItems                       // adds to and removes from a list or an object
	opAddAttribute                // to a body
	opDropAttribute               // from a body
	opAddBlock                    // to a body, after block
	opDropBlock                   // from a body
)

// op is one change of a file.
type op struct {
	kind       opKind
	file       *file
	start, end int
	text       string
	container  hclsyntax.Expression // *ObjectConsExpr or *TupleConsExpr
	removed    []int
	inserts    []insert
	body       *hclsyntax.Body
	attr       *hclsyntax.Attribute
	name       string
	value      any
	block      *hclsyntax.Block
	before     bool // the block, not after it
	index      int  // among the new blocks
}

// insert is a new item, after the item of the source with that index; -1 for
// none.
type insert struct {
	after int
	key   string // with the sign after it; "" in lists
	value any
}

// splice replaces start to end of the source.
type splice struct {
	start, end int
	text       string
}

// editor collects the splices of one file.
type editor struct {
	*file
	splices []splice
}

func (ed *editor) replace(start, end int, text string) {
	ed.splices = append(ed.splices, splice{start, end, text})
}

func (ed *editor) insert(at int, text string) { ed.replace(at, at, text) }

func site(what string, offset int) string { return fmt.Sprintf("%08d:%s", offset, what) }

// edited returns the file with the requests granted; not ok where that is no
// configuration any more, which must not happen.
func (f *file) edited(requests []*request) (out []byte, ok bool) {
	ed := &editor{file: f}
	done := map[string]bool{}
	items := map[hclsyntax.Expression]*op{}
	adds := map[*hclsyntax.Body][]op{}
	var containers []hclsyntax.Expression
	var bodies []*hclsyntax.Body
	for _, r := range requests {
		if done[r.site] {
			continue
		}
		done[r.site] = true
		switch o := r.op; o.kind {
		case opSet:
			ed.replace(o.start, o.end, o.text)
		case opItems:
			if items[o.container] == nil {
				items[o.container] = &op{container: o.container}
				containers = append(containers, o.container)
			}
			all := items[o.container]
			all.removed = append(all.removed, o.removed...)
			all.inserts = append(all.inserts, o.inserts...)
		case opDropAttribute:
			ed.dropAttribute(o)
		case opDropBlock:
			ed.dropBlock(o.block)
		default:
			if adds[o.body] == nil {
				bodies = append(bodies, o.body)
			}
			adds[o.body] = append(adds[o.body], o)
		}
	}
	for _, c := range containers {
		ed.items(items[c])
	}
	for _, b := range bodies {
		ed.addAll(b, adds[b])
	}
	return ed.finish()
}

// finish applies the splices.
func (ed *editor) finish() ([]byte, bool) {
	slices.SortStableFunc(ed.splices, func(a, b splice) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end))
	})
	var out bytes.Buffer
	at := 0
	for _, s := range ed.splices {
		if s.start < at || s.end < s.start || s.end > len(ed.src) {
			return nil, false
		}
		out.Write(ed.src[at:s.start])
		out.WriteString(s.text)
		at = s.end
	}
	out.Write(ed.src[at:])
	text := out.Bytes()
	if bytes.Equal(hclwrite.Format(ed.src), ed.src) {
		text = hclwrite.Format(text)
	}
	if ed.crlf {
		text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	}
	if ed.bom {
		text = slices.Concat(bom, text)
	}
	f, problem := parse(ed.path, text)
	return text, problem == "" && sameOutline(ed.body, f.body)
}

// sameOutline reports whether two files have the same blocks at the top, and
// attributes of the same names: no edit makes or removes those.
func sameOutline(a, b *hclsyntax.Body) bool {
	return slices.EqualFunc(a.Blocks, b.Blocks, func(x, y *hclsyntax.Block) bool {
		return x.Type == y.Type && slices.Equal(x.Labels, y.Labels)
	}) && slices.Equal(slices.Sorted(maps.Keys(a.Attributes)), slices.Sorted(maps.Keys(b.Attributes)))
}

// token returns the index of the first token at or after an offset.
func (f *file) token(offset int) int {
	return sort.Search(len(f.tokens), func(i int) bool { return f.tokens[i].Range.Start.Byte >= offset })
}

// afterLine returns the offset after the newline that follows. One within a
// comment is none.
func (f *file) afterLine(offset int) int {
	for _, t := range f.tokens[f.token(offset):] {
		if t.Type == hclsyntax.TokenNewline || t.Type == hclsyntax.TokenComment && bytes.HasSuffix(t.Bytes, []byte("\n")) {
			return t.Range.End.Byte
		}
	}
	return len(f.src)
}

// endsLine reports whether nothing but a comment follows on the line.
func (f *file) endsLine(offset int) bool {
	for _, t := range f.tokens[f.token(offset):] {
		switch {
		case t.Type == hclsyntax.TokenNewline, t.Type == hclsyntax.TokenEOF:
			return true
		case t.Type == hclsyntax.TokenComment && bytes.HasSuffix(t.Bytes, []byte("\n")):
			return true
		default:
			return false
		}
	}
	return true
}

// beginsLine reports whether only white space comes before on the line.
func (f *file) beginsLine(offset int) bool {
	return len(bytes.TrimSpace(f.src[f.lineStart(offset):offset])) == 0
}

// comma returns the comma after an offset, if that is what follows.
func (f *file) comma(offset int) (hcl.Range, bool) {
	for _, t := range f.tokens[f.token(offset):] {
		switch t.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
		case hclsyntax.TokenComma:
			return t.Range, true
		default:
			return hcl.Range{}, false
		}
	}
	return hcl.Range{}, false
}

// blanksAfter returns the end of the spaces and tabs at an offset.
func (f *file) blanksAfter(offset int) int {
	for offset < len(f.src) && (f.src[offset] == ' ' || f.src[offset] == '\t') {
		offset++
	}
	return offset
}

// blanksBefore returns the start of the spaces and tabs before an offset.
func (f *file) blanksBefore(offset int) int {
	for offset > 0 && (f.src[offset-1] == ' ' || f.src[offset-1] == '\t') {
		offset--
	}
	return offset
}

// blockOf returns the block that a body belongs to.
func (f *file) blockOf(body *hclsyntax.Body) *hclsyntax.Block {
	var search func(b *hclsyntax.Body) *hclsyntax.Block
	search = func(b *hclsyntax.Body) *hclsyntax.Block {
		for _, blk := range b.Blocks {
			if blk.Body == body {
				return blk
			}
			if found := search(blk.Body); found != nil {
				return found
			}
		}
		return nil
	}
	return search(f.body)
}

func (ed *editor) dropAttribute(o op) {
	r := o.attr.SrcRange
	start, end := r.Start.Byte, r.End.Byte
	if ed.beginsLine(start) {
		ed.replace(ed.lineStart(start), ed.afterLine(end), "")
		return
	}
	ed.replace(start, ed.blanksAfter(end), "")
}

func (ed *editor) dropBlock(b *hclsyntax.Block) {
	r := blockRange(b)
	start, end := r.Start.Byte, r.End.Byte
	if !ed.beginsLine(start) {
		ed.replace(start, end, "")
		return
	}
	start, end = ed.lineStart(start), ed.afterLine(end)
	// Of the blank lines around it one stays, and none before a brace.
	rest := bytes.TrimLeft(ed.src[end:], " \t")
	if bytes.HasSuffix(ed.src[:start], []byte("\n\n")) && (bytes.HasPrefix(rest, []byte("\n")) || bytes.HasPrefix(rest, []byte("}"))) {
		start--
	}
	ed.replace(start, end, "")
}

// addAll adds attributes and blocks to one body.
func (ed *editor) addAll(body *hclsyntax.Body, ops []op) {
	b := ed.blockOf(body)
	if b == nil {
		ed.replace(1, 0, "") // cannot happen; makes finish fail
		return
	}
	slices.SortStableFunc(ops, func(x, y op) int { return cmp.Or(cmp.Compare(x.name, y.name), cmp.Compare(x.index, y.index)) })
	base := ed.indentAt(blockRange(b).Start.Byte)
	inner := base + "  "
	if n := firstMember(body); n >= 0 && ed.beginsLine(n) {
		inner = ed.indentAt(n)
	}
	var attrs, blocks string
	for _, o := range ops {
		if o.kind == opAddAttribute {
			attrs += inner + attributeName(o.name) + " = " + render(o.value, inner, false) + "\n"
		} else if o.block == nil {
			blocks += "\n" + indented(o.text, inner) + "\n"
		}
	}
	open, shut := b.OpenBraceRange.End.Byte, b.CloseBraceRange.Start.Byte
	if !ed.endsLine(open) {
		ed.unfold(body, open, shut, base, inner, attrs+blocks)
		return
	}
	if attrs != "" {
		at := ed.afterLine(open)
		if a := lastAttribute(body); a != nil {
			at = ed.afterLine(a.SrcRange.End.Byte)
		} else if len(body.Blocks) > 0 {
			attrs += "\n"
		}
		ed.insert(at, attrs)
	}
	if firstMember(body) < 0 && attrs == "" && blocks != "" {
		blocks = blocks[1:] // no blank line after the brace
	}
	if blocks != "" {
		ed.insert(ed.closing(shut), blocks)
	}
	for _, o := range ops {
		if o.kind == opAddBlock && o.block != nil {
			ed.afterSibling(body, o)
		}
	}
}

// closing returns where a line before a closing brace begins.
func (ed *editor) closing(shut int) int {
	if ed.beginsLine(shut) {
		return ed.lineStart(shut)
	}
	return shut
}

// unfold makes a block of one line one of several.
func (ed *editor) unfold(body *hclsyntax.Body, open, shut int, base, inner, added string) {
	if firstMember(body) < 0 && ed.blanksAfter(open) == shut {
		ed.replace(open, shut, "\n"+added+base)
		return
	}
	ed.replace(open, ed.blanksAfter(open), "\n"+inner)
	ed.replace(ed.blanksBefore(shut), shut, "\n"+added+base)
}

func (ed *editor) afterSibling(body *hclsyntax.Body, o op) {
	r := blockRange(o.block)
	text := indented(o.text, ed.indentAt(r.Start.Byte)) + "\n"
	var last *hclsyntax.Block
	spaced := o.block.OpenBraceRange.Start.Line != o.block.CloseBraceRange.Start.Line
	for _, b := range body.Blocks {
		if b.Type != o.block.Type {
			continue
		}
		if last != nil {
			spaced = bytes.Contains(ed.src[last.CloseBraceRange.End.Byte:b.TypeRange.Start.Byte], []byte("\n\n"))
		}
		last = b
	}
	switch {
	case o.before && spaced:
		ed.insert(ed.aboveComments(r.Start.Byte), text+"\n")
	case o.before:
		ed.insert(ed.aboveComments(r.Start.Byte), text)
	case spaced:
		ed.insert(ed.afterLine(r.End.Byte), "\n"+text)
	default:
		ed.insert(ed.afterLine(r.End.Byte), text)
	}
}

// aboveComments returns the start of the line of an offset, or of the comments
// that stand directly above.
func (f *file) aboveComments(offset int) int {
	if !f.beginsLine(offset) {
		return offset
	}
	start := f.lineStart(offset)
	for start > 0 {
		above := f.lineStart(start - 1)
		i := f.token(above)
		if i == len(f.tokens) || f.tokens[i].Type != hclsyntax.TokenComment ||
			f.tokens[i].Range.End.Byte != start || !f.beginsLine(f.tokens[i].Range.Start.Byte) {
			break
		}
		start = above
	}
	return start
}

// firstMember returns the offset of the first attribute or block of a body; -1
// where it is empty.
func firstMember(body *hclsyntax.Body) int {
	first := -1
	for _, a := range body.Attributes {
		if n := a.SrcRange.Start.Byte; first < 0 || n < first {
			first = n
		}
	}
	for _, b := range body.Blocks {
		if n := b.TypeRange.Start.Byte; first < 0 || n < first {
			first = n
		}
	}
	return first
}

// lastAttribute returns the attribute that a new one comes after: the last one
// before the nested blocks.
func lastAttribute(body *hclsyntax.Body) (last *hclsyntax.Attribute) {
	limit := -1
	if len(body.Blocks) > 0 {
		limit = body.Blocks[0].TypeRange.Start.Byte
	}
	var any *hclsyntax.Attribute
	for _, a := range body.Attributes {
		n := a.SrcRange.Start.Byte
		if any == nil || n > any.SrcRange.Start.Byte {
			any = a
		}
		if (limit < 0 || n < limit) && a.Name != "depends_on" && (last == nil || n > last.SrcRange.Start.Byte) {
			last = a
		}
	}
	if last == nil {
		return any
	}
	return last
}
