package watch

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes one line of what others wrote, of n bytes at most: invalid UTF-8,
// control characters, and those that are not seen (they can turn the direction of
// the text around them) are left out. Space within it becomes one blank.
func Clean(s string, n int) string {
	// What is far too long is not even looked at: the rest is dropped anyway.
	if len(s) > 8*n {
		s = s[:8*n]
	}
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))), " ")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Cut shortens a text to a size by leaving out lines from its end, and says how
// many. The size of a text has to be the sum of the sizes of its parts. A first
// line that is too long for itself is cut within.
func Cut(text string, limit int, size func(string) int) string {
	if size(text) <= limit {
		return text
	}
	lines := strings.Split(text, "\n")
	left := limit - size(omitted(len(lines)))
	kept := 0
	for kept < len(lines) && size(lines[kept]+"\n") <= left {
		left -= size(lines[kept] + "\n")
		kept++
	}
	if kept > 0 {
		return strings.Join(lines[:kept], "\n") + "\n" + omitted(len(lines)-kept)
	}
	end := 0
	for i, r := range lines[0] {
		if left -= size(string(r)); left < size("…\n") {
			break
		}
		end = i + utf8.RuneLen(r)
	}
	first := lines[0][:end] + "…"
	if len(lines) == 1 {
		return first
	}
	return first + "\n" + omitted(len(lines)-1)
}

func omitted(lines int) string {
	if lines == 1 {
		return "… and 1 more line."
	}
	return fmt.Sprintf("… and %d more lines.", lines)
}
