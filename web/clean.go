package web

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// cleaner makes an engine's output fit for a page, a chunk at a time: no
// escape sequences, no control characters but line feed and tab, none of the
// characters that reorder text, and valid UTF-8. What a chunk leaves
// unfinished is held back for the next.
type cleaner struct {
	held []byte
}

// Bounds of escape sequences in bytes. A longer one is none.
const (
	maxCSI = 256
	maxOSC = 4096
)

// next returns the clean text of chunk and of what was held back before.
func (c *cleaner) next(chunk []byte) string {
	data := chunk
	if len(c.held) > 0 {
		data = append(c.held, chunk...)
	}
	c.held = nil
	var b strings.Builder
	for len(data) > 0 {
		n, whole := step(&b, data)
		if !whole {
			c.held = bytes.Clone(data)
			break
		}
		data = data[n:]
	}
	return b.String()
}

// step handles what data begins with and returns its length, or false where
// more is needed to know.
func step(b *strings.Builder, data []byte) (n int, whole bool) {
	switch ch := data[0]; {
	case ch == 0x1b:
		return escape(data)
	case ch == '\r':
		if len(data) == 1 {
			return 0, false
		}
		if data[1] != '\n' {
			b.WriteByte('\n') // a progress line that was written over
		}
		return 1, true
	case ch == '\n' || ch == '\t' || ch >= ' ' && ch < 0x7f:
		b.WriteByte(ch)
		return 1, true
	case ch < ' ' || ch == 0x7f:
		return 1, true
	}
	if !utf8.FullRune(data) {
		return 0, false
	}
	r, size := utf8.DecodeRune(data)
	switch {
	case r < 0xa0: // C1 controls
	case r == 0x2028 || r == 0x2029:
		b.WriteByte('\n')
	case reorders(r):
		b.WriteRune(utf8.RuneError)
	default:
		b.WriteRune(r)
	}
	return size, true
}

// reorders reports characters that make text read differently than it is.
func reorders(r rune) bool {
	return r == 0x061c || r == 0x200e || r == 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// escape returns the length of the escape sequence that data begins with.
func escape(data []byte) (n int, whole bool) {
	if len(data) == 1 {
		return 0, false
	}
	switch data[1] {
	case '[': // CSI: up to a final byte
		return sequence(data, maxCSI, func(i int) int {
			if data[i] >= 0x40 && data[i] <= 0x7e {
				return i + 1
			}
			return 0
		})
	case ']', 'P', 'X', '^', '_': // strings: up to BEL or ESC \
		return sequence(data, maxOSC, func(i int) int {
			switch {
			case data[i] == 0x07:
				return i + 1
			case data[i] == '\\' && data[i-1] == 0x1b:
				return i + 1
			}
			return 0
		})
	}
	switch {
	case data[1] < ' ' || data[1] >= 0x7f: // no sequence after all
		return 1, true
	case data[1] <= 0x2f: // one that selects a character set
		return 3, len(data) >= 3
	}
	return 2, true
}

// sequence looks for the end of a sequence; without one within limit, only the
// escape character goes.
func sequence(data []byte, limit int, end func(i int) int) (n int, whole bool) {
	for i := 2; i < len(data) && i < limit; i++ {
		if n := end(i); n > 0 {
			return n, true
		}
	}
	return 1, len(data) >= limit
}

// clean returns all of text, as cleaner does. An unfinished character or
// sequence at the end is dropped.
func clean(text string) string {
	var c cleaner
	return c.next([]byte(text))
}
