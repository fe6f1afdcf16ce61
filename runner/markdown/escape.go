package markdown

import (
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ansi matches terminal escape sequences (ECMA-48 control sequences).
var ansi = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]`)

// visible shows on one line what would otherwise be invisible or change how
// its surroundings look: control characters, zero-width and bidirectional
// ones, spaces other than the ordinary. The result is valid UTF-8 and never
// has the comment's marker in it.
func visible(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case unicode.IsPrint(r) && !blank(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return unmark(b.String())
}

// blank reports whether r counts as printable and shows nothing.
func blank(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0:
		return true
	}
	return r >= 0xfe00 && r <= 0xfe0e || r >= 0xe0100 && r <= 0xe01ef
}

// unmark breaks what could pass for the comment's marker.
func unmark(s string) string { return strings.ReplaceAll(s, "<!--", "<! --") }

// lines makes text with several lines visible. Tabs stay and colours go.
func lines(s string) []string {
	s = strings.ReplaceAll(ansi.ReplaceAllString(s, ""), "\r\n", "\n")
	out := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, l := range out {
		parts := strings.Split(l, "\t")
		for j := range parts {
			parts[j] = visible(parts[j])
		}
		out[i] = strings.Join(parts, "\t")
	}
	return out
}

// cut shortens s to at most n characters.
func cut(s string, n int) string {
	count := 0
	for i := range s {
		if count == n-1 && utf8.RuneCountInString(s[i:]) > 1 {
			return s[:i] + "…"
		}
		count++
	}
	return s
}

const (
	maxName = 120 // characters of a name
	maxNote = 600 // characters of a sentence
)

// code shows a name as a code span.
func code(name string) string {
	name = cut(visible(name), maxName)
	if strings.TrimSpace(name) == "" {
		return "(empty)"
	}
	ticks := strings.Repeat("`", longestRun(name)+1)
	if strings.HasPrefix(name, "`") || strings.HasSuffix(name, "`") || len(ticks) > 1 {
		return ticks + " " + name + " " + ticks
	}
	return ticks + name + ticks
}

// cell shows a name as a code span in a table, where a pipe ends the cell even
// in code.
func cell(name string) string { return strings.ReplaceAll(code(name), "|", `\|`) }

// inHTML shows a name where Markdown is not read, such as in a summary.
func inHTML(name string) string {
	name = cut(visible(name), maxName)
	if strings.TrimSpace(name) == "" {
		return "(empty)"
	}
	return "<code>" + html.EscapeString(name) + "</code>"
}

// plain matches words that no Markdown, mention, reference or link can be
// made of.
var plain = regexp.MustCompile(`^[\pL\pN.,;'"()%+=/–—…-]*$`)

var linked = regexp.MustCompile(`(?i)^(www\.|gh-\d|https?:)|://`)

// text shows a sentence. Words that could be Markdown, mention somebody or
// become a link are shown as code, as are parts between a pair of backticks.
func text(s string) string {
	s = cut(visible(strings.Join(strings.Fields(ansi.ReplaceAllString(s, "")), " ")), maxNote)
	parts := strings.Split(s, "`")
	if len(parts)%2 == 0 { // a backtick without a partner
		parts = []string{strings.ReplaceAll(s, "`", "'")}
	}
	var b strings.Builder
	for i, part := range parts {
		if i%2 == 1 {
			if part != "" {
				b.WriteString(code(part))
			}
			continue
		}
		words := strings.Split(part, " ")
		for j, w := range words {
			words[j] = word(w)
		}
		b.WriteString(strings.Join(words, " "))
	}
	return strings.TrimSpace(b.String())
}

func word(w string) string {
	core := strings.TrimLeft(w, `("'`)
	open := w[:len(w)-len(core)]
	trimmed := strings.TrimRight(core, `.,;:!?)"'`)
	end := core[len(trimmed):]
	if trimmed == "" || plain.MatchString(trimmed) && !linked.MatchString(trimmed) {
		return w
	}
	return open + code(trimmed) + end
}

// longestRun returns the length of the longest run of backticks.
func longestRun(s string) int {
	longest, run := 0, 0
	for i := range len(s) {
		if s[i] != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}

// maxTicks is the longest run of backticks that is shown as it is; a fence has
// to be longer than every run in it, and is written twice.
const maxTicks = 20

// breakTicks puts a space into longer runs of backticks.
func breakTicks(s string) string {
	if longestRun(s) <= maxTicks {
		return s
	}
	run := strings.Repeat("`", maxTicks)
	for strings.Contains(s, run+"`") {
		s = strings.ReplaceAll(s, run+"`", run+" `")
	}
	return s
}

// fence puts text into a code block between ticks backticks: more than the
// text has in a row.
func fence(language, text string, ticks int) string {
	marks := strings.Repeat("`", max(3, ticks))
	return marks + language + "\n" + strings.TrimRight(text, "\n") + "\n" + marks + "\n"
}

// link makes a link to base + path, or returns "" where base is no web address.
func link(label, base string, path ...string) string {
	u, err := url.Parse(base)
	if base == "" || err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	if len(path) > 0 {
		u = u.JoinPath(path...)
	}
	address := strings.NewReplacer("@", "%40", "(", "%28", ")", "%29", "<", "%3C", ">", "%3E", "|", "%7C", "`", "%60", "[", "%5B", "]", "%5D", "*", "%2A", `\`, "%5C").Replace(u.String())
	if len(address) > 1000 || strings.ContainsAny(address, " \t\r\n") {
		return ""
	}
	return "[" + label + "](" + unmark(address) + ")"
}
