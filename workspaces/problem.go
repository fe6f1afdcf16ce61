package workspaces

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Bounds of what a Problem quotes: sources are hostile and may have lines of a
// megabyte.
const (
	maxSource      = 160 // characters of a quoted line
	maxDiagnostics = 10  // problems of one file that does not parse
)

// Error prints all problems, each with its place, its line and a hint.
func (ps Problems) Error() string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.String()
	}
	return strings.Join(texts, "\n\n")
}

// Of returns those that spoil the workspace with that name.
func (ps Problems) Of(name string) Problems {
	var of Problems
	for _, p := range ps {
		if p.Workspace == name {
			of = append(of, p)
		}
	}
	return of
}

// String prints the problem for people:
//
//	holdfast.hcl:2:11: engine is "terrafrom", which is none of "terraform" and "tofu"
//	   2 | engine  = "terrafrom"
//	     |           ^
//	  did you mean "terraform"?
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	b.WriteString(": " + p.Message)
	if p.Source != "" {
		fmt.Fprintf(&b, "\n%4d | %s", p.Line, p.Source)
		if caret := p.Column - 1; caret >= 0 && caret <= utf8.RuneCountInString(p.Source) {
			fmt.Fprintf(&b, "\n     | %s^", strings.Repeat(" ", caret))
		}
	}
	if p.Hint != "" {
		b.WriteString("\n  " + p.Hint)
	}
	return b.String()
}

// At makes the problem of a place in src, the content of the file that rng
// names.
func At(src []byte, rng hcl.Range, message, hint string) Problem {
	p := Problem{File: clean(rng.Filename), Line: max(rng.Start.Line, 1), Column: max(rng.Start.Column, 1), Message: message, Hint: hint}
	p.Source = line(src, rng.Start.Byte)
	return p
}

// Diagnose turns what the HCL parser found into problems, the first ten of
// them. Warnings are left out.
func Diagnose(file string, src []byte, diags hcl.Diagnostics) Problems {
	var ps Problems
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		if len(ps) == maxDiagnostics {
			break
		}
		rng := hcl.Range{Filename: file, Start: hcl.InitialPos}
		if d.Subject != nil {
			rng = *d.Subject
		}
		message := d.Summary
		if d.Detail != "" {
			message += ": " + d.Detail
		}
		ps = append(ps, At(src, rng, clean(strings.TrimSuffix(message, ".")), ""))
	}
	return ps
}

// ParseHCL parses a file in native syntax, after a look at whether it nests so
// deep that the parser would not come back.
func ParseHCL(file string, src []byte) (*hclsyntax.Body, Problems) {
	if !utf8.Valid(src) {
		return nil, Problems{{File: file, Line: 1, Column: 1, Message: "the file is not UTF-8", Hint: "save it as UTF-8"}}
	}
	body, problems := parseBody(file, src)
	if len(problems) > 0 {
		return nil, problems
	}
	native, ok := body.(*hclsyntax.Body)
	if !ok {
		return nil, Problems{{File: file, Line: 1, Column: 1, Message: "the file is in JSON syntax", Hint: "write it in HCL"}}
	}
	return native, nil
}

// Nearest is a hint that names the candidate which word was probably meant to
// be: `did you mean "engine"?`. Where none is near it lists them, if they are
// few.
func Nearest(word string, candidates []string) string {
	switch hint := near(word, candidates); {
	case hint != "" || len(candidates) == 0 || len(candidates) > 30:
		return hint
	default:
		return "possible: " + quoted(candidates)
	}
}

// near is Nearest without the list.
func near(word string, candidates []string) string {
	best, least := "", 0
	for _, c := range candidates {
		d := levenshtein.Distance(cut(word, 64), c, nil)
		if d <= max(2, len(c)/3) && d < len(c) && (best == "" || d < least) {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// quoted lists words: "a", "b" and "c".
func quoted(words []string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" and ")
		default:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", w)
	}
	return b.String()
}

// Sort puts problems in the order in which people look for them.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Workspace, b.Workspace), strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column)
	})
}

// line returns the line of src around the byte offset, fit to be shown.
func line(src []byte, offset int) string {
	if offset < 0 || offset > len(src) {
		return ""
	}
	start := bytes.LastIndexByte(src[:offset], '\n') + 1
	text := src[start:]
	// Only as much as can be shown: a line may be the whole file.
	if len(text) > 4*maxSource+4 {
		text = text[:4*maxSource+4]
	}
	if end := bytes.IndexByte(text, '\n'); end >= 0 {
		text = text[:end]
	}
	return cut(clean(strings.TrimRight(string(text), "\r")), maxSource)
}

// clean replaces what would change the look of a terminal or a page: control
// characters, invisible ones that reorder text, and invalid UTF-8. Each stays
// one character, so that carets point where they should.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029':
			return '\ufffd'
		}
		return r
	}, s)
}

// cut shortens s to n characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	runes := 0
	for i := range s {
		if runes == n-1 {
			return s[:i] + "…"
		}
		runes++
	}
	return s
}
