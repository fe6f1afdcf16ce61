package workspaces

import (
	"bytes"
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Bounds of what is given to the HCL parser. It descends once per level of
// nesting, and Go ends the whole process when a stack reaches 1 GB: 100 KB of
// opening parentheses are enough. It also takes time quadratic in the depth of
// conditionals and in the lines of a heredoc. What people write nests some 20
// deep.
const (
	maxNesting    = 200
	maxDirectives = 2000 // %{ … } in one file
	maxParts      = 5000 // lines of a heredoc, or parts of a string
)

// tooDeep returns where native HCL syntax is more than the parser can be
// trusted with, and why; an empty reason where it is not.
func tooDeep(file string, src []byte) (hcl.Range, string) {
	// Lexing costs a third of parsing; a file with few of all that nests
	// cannot nest deep.
	few := 0
	for _, opener := range []string{"(", "[", "{", "?", "!", "-", "<<"} {
		few += bytes.Count(src, []byte(opener))
	}
	if few <= maxNesting && (bytes.Count(src, []byte("\n")) <= maxParts || !bytes.Contains(src, []byte("<<"))) {
		return hcl.Range{}, ""
	}
	// The lexer has a stack of its own and is linear.
	tokens, _ := hclsyntax.LexConfig(src, file, hcl.InitialPos)
	n := nesting{open: []bracket{{}}}
	for _, t := range tokens {
		n.see(t.Type)
		if why := n.tooMuch(); why != "" {
			return t.Range, why
		}
	}
	return hcl.Range{}, ""
}

// bracket is something that is open.
type bracket struct {
	closes    hclsyntax.TokenType
	questions int // conditionals in it that may be open
	parts     int // pieces of text in it
}

// nesting is how deep the tokens up to now nest.
type nesting struct {
	open              []bracket
	signs, directives int
}

// closers are what ends what.
var closers = map[hclsyntax.TokenType]hclsyntax.TokenType{
	hclsyntax.TokenOParen:          hclsyntax.TokenCParen,
	hclsyntax.TokenOBrack:          hclsyntax.TokenCBrack,
	hclsyntax.TokenOBrace:          hclsyntax.TokenCBrace,
	hclsyntax.TokenOQuote:          hclsyntax.TokenCQuote,
	hclsyntax.TokenOHeredoc:        hclsyntax.TokenCHeredoc,
	hclsyntax.TokenTemplateInterp:  hclsyntax.TokenTemplateSeqEnd,
	hclsyntax.TokenTemplateControl: hclsyntax.TokenTemplateSeqEnd,
}

// tooMuch says why the tokens up to now are too much.
func (n *nesting) tooMuch() string {
	top := n.open[len(n.open)-1]
	switch {
	case len(n.open) > maxNesting || n.signs > maxNesting || n.directives > maxDirectives || top.questions > maxNesting:
		return nestsTooDeep
	case top.parts > maxParts:
		return fmt.Sprintf("this text has more than %d lines", maxParts)
	}
	return ""
}

const nestsTooDeep = "this nests more than 200 levels deep"

// see takes the next token.
func (n *nesting) see(t hclsyntax.TokenType) {
	top := &n.open[len(n.open)-1]
	signs := n.signs
	n.signs = 0
	switch t {
	case hclsyntax.TokenBang, hclsyntax.TokenMinus:
		n.signs = signs + 1
	case hclsyntax.TokenStringLit, hclsyntax.TokenQuotedLit:
		top.parts++
	case hclsyntax.TokenQuestion:
		top.questions++
	case hclsyntax.TokenComma, hclsyntax.TokenEqual:
		top.questions = 0
	case hclsyntax.TokenNewline:
		if top.closes == 0 || top.closes == hclsyntax.TokenCBrace {
			top.questions = 0
		}
	case hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCBrace, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
		n.close(t)
	case hclsyntax.TokenTemplateControl:
		n.directives++
	}
	if c, ok := closers[t]; ok {
		n.open = append(n.open, bracket{closes: c})
	}
}

// close ends the innermost bracket that t closes, and what was left open in
// it; a stray one ends nothing.
func (n *nesting) close(t hclsyntax.TokenType) {
	for i := len(n.open) - 1; i > 0; i-- {
		if n.open[i].closes == t {
			n.open = n.open[:i]
			return
		}
	}
}

// tooDeepJSON is tooDeep for JSON syntax.
func tooDeepJSON(file string, src []byte) (hcl.Range, string) {
	depth, inString := 0, false
	pos := hcl.InitialPos
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case c == '\n':
			pos.Line++
			pos.Column = 0
		case inString && c == '\\':
			i++
			pos.Column++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			depth++
		case (c == ']' || c == '}') && depth > 0:
			depth--
		}
		pos.Column++
		if depth > maxNesting {
			pos.Byte = i
			return hcl.Range{Filename: file, Start: pos, End: pos}, nestsTooDeep
		}
	}
	return hcl.Range{}, ""
}
