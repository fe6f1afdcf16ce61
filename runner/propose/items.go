package propose

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// listing is a list or an object in the source, while it is edited.
type listing struct {
	*editor
	object     bool
	open, shut int // after the opening and before the closing bracket
	spans      []splice
	gone       []bool
	tail       int // from here on all are gone, and no comma follows
}

func (ed *editor) items(o *op) {
	l := &listing{editor: ed}
	var whole, open hcl.Range
	switch e := o.container.(type) {
	case *hclsyntax.ObjectConsExpr:
		l.object = true
		whole, open = e.SrcRange, e.OpenRange
		for _, item := range e.Items {
			l.spans = append(l.spans, splice{start: item.KeyExpr.Range().Start.Byte, end: exprRange(item.ValueExpr).End.Byte})
		}
	case *hclsyntax.TupleConsExpr:
		whole, open = e.SrcRange, e.OpenRange
		for _, sub := range e.Exprs {
			r := exprRange(sub)
			l.spans = append(l.spans, splice{start: r.Start.Byte, end: r.End.Byte})
		}
	}
	l.open, l.shut = open.End.Byte, whole.End.Byte-1
	l.gone = make([]bool, len(l.spans))
	for _, i := range o.removed {
		l.gone[i] = true
	}
	slices.SortStableFunc(o.inserts, func(a, b insert) int {
		return cmp.Or(cmp.Compare(a.after, b.after), strings.Compare(a.key, b.key))
	})
	if !slices.Contains(l.gone, false) && !bytes.ContainsAny(l.src[l.open:l.shut], "\n#/") {
		l.refill(o.inserts)
		return
	}
	l.findTail()
	for i := range l.spans {
		if l.gone[i] {
			l.remove(i)
		}
	}
	l.addAll(o.inserts)
}

// refill writes a listing on one line of which nothing stays.
func (l *listing) refill(inserts []insert) {
	var parts []string
	for _, in := range inserts {
		parts = append(parts, in.key+oneLine(in.value))
	}
	text := strings.Join(parts, ", ")
	if l.object && text != "" {
		text = " " + text + " "
	}
	l.replace(l.open, l.shut, text)
}

func (l *listing) findTail() {
	l.tail = len(l.spans)
	if l.tail == 0 {
		return
	}
	if _, trailing := l.comma(l.spans[l.tail-1].end); trailing {
		return
	}
	for l.tail > 0 && l.gone[l.tail-1] {
		l.tail--
	}
}

// lastOfLine reports whether item i, with its comma, ends its line, and where.
func (l *listing) lastOfLine(i int) (after int, ok bool) {
	end := l.spans[i].end
	if c, ok := l.comma(end); ok {
		if bytes.Contains(l.src[end:c.Start.Byte], []byte("\n")) && !l.heredoc(i) {
			return 0, false
		}
		end = c.End.Byte
	}
	if !l.endsLine(end) {
		return 0, false
	}
	return l.afterLine(end), true
}

// heredoc reports whether item i ends in a heredoc, after which there must be
// nothing on the line.
func (l *listing) heredoc(i int) bool {
	n := l.token(l.spans[i].end)
	return n > 0 && l.tokens[n-1].Type == hclsyntax.TokenCHeredoc
}

func (l *listing) remove(i int) {
	s := l.spans[i]
	if after, ok := l.lastOfLine(i); ok && l.beginsLine(s.start) {
		l.replace(l.lineStart(s.start), after, "")
		return
	}
	if i >= l.tail {
		if i > 0 {
			if c, ok := l.comma(l.spans[i-1].end); ok {
				if l.blanksAfter(c.End.Byte) == s.start {
					l.replace(c.Start.Byte, s.end, "")
					return
				}
				l.replace(c.Start.Byte, c.End.Byte, "")
			}
		}
		l.replace(s.start, s.end, "")
		return
	}
	c, ok := l.comma(s.end)
	if !ok {
		start := s.start
		if l.endsLine(s.end) && l.blanksAfter(s.end) < len(l.src) && l.src[l.blanksAfter(s.end)] == '\n' {
			start = l.blanksBefore(start)
		}
		l.replace(start, s.end, "")
		return
	}
	if l.blanksAfter(s.end) == c.Start.Byte {
		l.replace(s.start, l.blanksAfter(c.End.Byte), "")
		return
	}
	l.replace(s.start, s.end, "")
	l.replace(c.Start.Byte, l.blanksAfter(c.End.Byte), "")
}

// addAll adds the new items, which are sorted by their places.
func (l *listing) addAll(inserts []insert) {
	for len(inserts) > 0 {
		n := 1
		for n < len(inserts) && inserts[n].after == inserts[0].after {
			n++
		}
		l.add(inserts[0].after, inserts[:n])
		inserts = inserts[n:]
	}
}

func (l *listing) add(after int, inserts []insert) {
	switch {
	case len(l.spans) == 0:
		l.addFirst(inserts)
		return
	case after < 0:
		first := l.spans[0].start
		if l.beginsLine(first) {
			_, has := l.comma(l.spans[0].end)
			l.lines(l.lineStart(first), l.indentAt(first), inserts, has || !l.object)
			return
		}
	default:
		if at, ok := l.lastOfLine(after); ok && at <= l.shut {
			l.addLines(after, at, inserts)
			return
		}
	}
	l.addInline(after, inserts)
}

// addLines adds items on lines of their own after an item that ends its line.
func (l *listing) addLines(after, at int, inserts []insert) {
	s := l.spans[after]
	_, has := l.comma(s.end)
	indent := l.indentAt(s.start)
	if !l.beginsLine(s.start) && after > 0 && l.beginsLine(l.spans[after-1].start) {
		indent = l.indentAt(l.spans[after-1].start)
	}
	if !has && !l.object && !l.gone[after] {
		comma := ","
		if l.heredoc(after) {
			comma = "\n" + indent + "," // nothing may follow a heredoc's end
		}
		l.insert(s.end, comma)
	}
	l.lines(at, indent, inserts, has || after < len(l.spans)-1 && !l.object)
}

// lines writes items on lines of their own. trailing says whether the last of
// them has a comma too.
func (l *listing) lines(at int, indent string, inserts []insert, trailing bool) {
	var b strings.Builder
	for i, in := range inserts {
		b.WriteString(indent + in.key + render(in.value, indent, false))
		if trailing || !l.object && i < len(inserts)-1 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	l.insert(at, b.String())
}

// addFirst adds items where there are none.
func (l *listing) addFirst(inserts []insert) {
	inner := l.src[l.open:l.shut]
	switch {
	case len(bytes.TrimSpace(inner)) == 0 && !bytes.Contains(inner, []byte("\n")):
		l.refill(inserts)
	case bytes.Contains(inner, []byte("\n")) && l.beginsLine(l.shut):
		l.lines(l.lineStart(l.shut), l.indentAt(l.shut)+"  ", inserts, !l.object)
	default:
		var parts []string
		for _, in := range inserts {
			parts = append(parts, in.key+oneLine(in.value))
		}
		l.insert(l.shut, strings.Join(parts, ", "))
	}
}

// addInline adds items next to one that stays, on its line.
func (l *listing) addInline(after int, inserts []insert) {
	var parts []string
	for _, in := range inserts {
		parts = append(parts, in.key+oneLine(in.value))
	}
	text := strings.Join(parts, ", ")
	for i := after; i >= 0; i-- {
		if !l.gone[i] {
			comma := ", "
			if l.heredoc(i) {
				comma = "\n, "
			}
			l.insert(l.spans[i].end, comma+text)
			return
		}
	}
	for i := max(after, 0); i < len(l.spans); i++ {
		if !l.gone[i] {
			l.insert(l.spans[i].start, text+", ")
			return
		}
	}
	l.insert(l.shut, text)
}
