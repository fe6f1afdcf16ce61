package web

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":                  "plain\ttext\n",
		"\x1b[1m\x1b[38;5;4mblue\x1b[0m": "blue",
		"a\r\nb\rc":                      "a\nb\nc",
		"\x1b]8;;http://x\x1b\\link\x1b]0;title\x07": "link",
		"\x1b(Bx":                          "x",
		"\x00\x07\x7fx":                    "x",
		"\u009b31mx":                       "31mx",
		"user\u202egnp.exe":                "user\ufffdgnp.exe",
		"a\u2028b":                         "a\nb",
		"bad \xff utf-8":                   "bad \ufffd utf-8",
		"ends in \x1b[":                    "ends in ",
		"\x1b\nx":                          "\nx",
		"\x1b[" + strings.Repeat("1", 300): "[" + strings.Repeat("1", 300),
		"größe":                            "größe",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

// However the output is cut into chunks, the same is shown.
func FuzzCleaner(f *testing.F) {
	f.Add("\x1b[1mone\x1b[0m\r\ntwo", uint8(3))
	f.Add("ä\u202e\x1b]0;t\x07\x1b(B", uint8(1))
	f.Add("\x1b["+strings.Repeat("1", 300)+"m", uint8(7))
	f.Add("\xe2\x82\x1b\xff", uint8(2))
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		whole := clean(text)
		if !utf8.ValidString(whole) || strings.ContainsAny(whole, "\x1b\r\x00\x7f\u202e\u009b") {
			t.Fatalf("not clean: %q", whole)
		}
		var c cleaner
		var b strings.Builder
		for rest := []byte(text); len(rest) > 0; {
			n := min(max(int(size), 1), len(rest))
			b.WriteString(c.next(rest[:n]))
			rest = rest[n:]
		}
		if b.String() != whole {
			t.Errorf("in chunks of %d: %q, whole: %q", size, b.String(), whole)
		}
	})
}

func TestColour(t *testing.T) {
	got := colour("+ a\n+ b\n  - c\n- d\n! e\n  # f\n\nend")
	want := []span{{"add", "+ a\n+ b\n"}, {"", "  - c\n"}, {"del", "- d\n"}, {"chg", "! e\n"}, {"cmt", "  # f\n"}, {"", "\nend"}}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d: %q, want %q", i, got[i], want[i])
		}
	}
}
