package propose

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// quoted writes a string in quotes.
func quoted(s string) string {
	return string(hclwrite.TokensForValue(cty.StringVal(s)).Bytes())
}

// render writes a value. Lines after the first get the indentation. Numbers
// are written as they are: through a float they could become others.
func render(v any, indent string, flat bool) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprint(v)
	case json.Number:
		return string(v)
	case string:
		return quoted(v)
	case []any:
		return renderList(v, indent, flat)
	case map[string]any:
		return renderObject(v, indent, flat)
	}
	return "null" // concealed values do not come here
}

// oneLine is render without line breaks.
func oneLine(v any) string { return render(v, "", true) }

// wide is the length above which a list gets a line for each element.
const wide = 80

func renderList(v []any, indent string, flat bool) string {
	parts := make([]string, len(v))
	long := 0
	for i, e := range v {
		parts[i] = render(e, indent+"  ", flat)
		long += len(parts[i])
		if strings.Contains(parts[i], "\n") {
			long += wide
		}
	}
	if flat || long <= wide {
		return "[" + strings.Join(parts, ", ") + "]"
	}
	var b strings.Builder
	b.WriteString("[\n")
	for _, part := range parts {
		b.WriteString(indent + "  " + part + ",\n")
	}
	return b.String() + indent + "]"
}

func renderObject(v map[string]any, indent string, flat bool) string {
	if len(v) == 0 {
		return "{}"
	}
	var b strings.Builder
	for i, k := range unionKeys(v, nil) {
		switch {
		case !flat:
			b.WriteString("\n" + indent + "  ")
		case i > 0:
			b.WriteString(", ")
		default:
			b.WriteString(" ")
		}
		b.WriteString(objectKey(k) + " = " + render(v[k], indent+"  ", flat))
	}
	if flat {
		return "{" + b.String() + " }"
	}
	return "{" + b.String() + "\n" + indent + "}"
}

// objectKey writes a key bare where it can be. "for" would begin a for
// expression.
func objectKey(k string) string {
	if hclsyntax.ValidIdentifier(k) && k != "for" && k != "null" && k != "true" && k != "false" {
		return k
	}
	return quoted(k)
}

func attributeName(k string) string {
	if hclsyntax.ValidIdentifier(k) {
		return k
	}
	return quoted(k) // the parser will refuse it, and with it the edit
}

// itemKeyText writes an added key as the object's other keys are written.
func itemKeyText(f *file, e *hclsyntax.ObjectConsExpr, k string) string {
	key, sign := objectKey(k), " = "
	if n := len(e.Items); n > 0 {
		item := e.Items[n-1]
		if r := item.KeyExpr.Range(); strings.HasPrefix(sourceText(f, r), `"`) {
			key = quoted(k)
		}
		between := sourceText(f, hcl.Range{Start: item.KeyExpr.Range().End, End: item.ValueExpr.Range().Start})
		if strings.HasPrefix(strings.TrimSpace(between), ":") {
			sign = ": "
			if strings.HasPrefix(between, " ") {
				sign = " : "
			}
		}
	}
	return key + sign
}

// plainNumber is a number whose string is the same text for the engine.
var plainNumber = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,17}|-?(0|[1-9][0-9]{0,8})\.[0-9]{0,8}[1-9])$`)

// replacement writes a value in a literal's place, as the literal's own type
// where the engine converts it anyway. normalised says that the provider makes
// one spelling of every JSON document.
func (p *proposer) replacement(c cursor, expr hclsyntax.Expression, src, want any, normalised bool) string {
	old := sourceText(c.file, expr.Range())
	if !c.strict {
		text, ok := scalarText(want)
		_, isString := want.(string)
		switch src.(type) {
		case string:
			if ok && !isString {
				return quoted(text)
			}
		case json.Number:
			if isString && plainNumber.MatchString(text) {
				return text
			}
		case bool:
			if isString && (text == "true" || text == "false") {
				return text
			}
		}
	}
	if s, ok := want.(string); ok && strings.HasPrefix(old, "<<") && !c.file.crlf {
		if text, ok := heredoc(old, s); ok {
			return text
		}
		if was, ok := src.(string); ok && normalised {
			if pretty, ok := prettyJSON(was, s); ok {
				if text, ok := heredoc(old, pretty); ok {
					return text
				}
			}
		}
	}
	return render(want, c.file.indentAt(expr.Range().Start.Byte), !strings.Contains(old, "\n") && isComposite(src))
}

// heredoc writes a string like the heredoc that it replaces; not ok where it
// does not come out as the same string.
func heredoc(old, s string) (string, bool) {
	lines := strings.Split(old, "\n")
	if !strings.HasSuffix(s, "\n") || strings.ContainsAny(s, "\r") {
		return "", false
	}
	first, last := lines[0], lines[len(lines)-1]
	indent := ""
	if strings.HasPrefix(first, "<<-") {
		for _, l := range lines[1 : len(lines)-1] {
			if strings.TrimSpace(l) != "" {
				indent = l[:len(l)-len(strings.TrimLeft(l, " \t"))]
				break
			}
		}
	}
	var b strings.Builder
	b.WriteString(first + "\n")
	escaped := strings.NewReplacer("${", "$${", "%{", "%%{").Replace(s)
	for _, l := range strings.Split(strings.TrimSuffix(escaped, "\n"), "\n") {
		if l != "" {
			b.WriteString(indent)
		}
		b.WriteString(l + "\n")
	}
	b.WriteString(last)
	text := b.String()
	f, problem := parse("", []byte("x = "+text+"\n"))
	if problem != "" || f.body.Attributes["x"] == nil {
		return "", false
	}
	if v, ok := literal(f.body.Attributes["x"].Expr); !ok || v != any(s) {
		return "", false
	}
	return text, true
}

// tidy formats generated source.
func tidy(text string) string { return string(hclwrite.Format([]byte(text))) }

// indented puts every line of a block's text further in.
func indented(text, indent string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, l := range lines {
		if l != "" {
			lines[i] = indent + l
		}
	}
	return strings.Join(lines, "\n")
}

// indentAt returns the white space that the line of an offset begins with.
func (f *file) indentAt(offset int) string {
	line := f.src[f.lineStart(offset):]
	n := 0
	for n < len(line) && (line[n] == ' ' || line[n] == '\t') {
		n++
	}
	return string(line[:n])
}

func (f *file) lineStart(offset int) int {
	for offset > 0 && f.src[offset-1] != '\n' {
		offset--
	}
	return offset
}

// blockRange is the whole of a block, from its type to its closing brace.
func blockRange(b *hclsyntax.Block) hcl.Range {
	return hcl.RangeBetween(b.TypeRange, b.CloseBraceRange)
}
