package watch_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"holdfast/watch"
)

func TestClean(t *testing.T) {
	for _, test := range []struct {
		in   string
		n    int
		want string
	}{
		{"alice", 300, "alice"},
		{"  a\tb\r\nc\x1b[31m\x00 ", 300, "a b c[31m"},
		{"x\u202eevil\u200b\u2028y", 300, "xevil y"},
		{"a\xff\xfeb", 300, "ab"},
		{"ééé", 3, "é"},
		{"", 3, ""},
		{strings.Repeat("a", 10_000), 300, strings.Repeat("a", 300)},
	} {
		if got := watch.Clean(test.in, test.n); got != test.want {
			t.Errorf("Clean(%q, %d) = %q, want %q", test.in, test.n, got, test.want)
		}
	}
}

func TestCut(t *testing.T) {
	size := func(s string) int { return len(s) }
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("line %d é", i))
	}
	for _, text := range []string{"", "short", strings.Join(many, "\n"), strings.Repeat("é", 5000), strings.Repeat("é", 5000) + "\nmore\nlines"} {
		for _, limit := range []int{64, 100, 2000, 4096} {
			got := watch.Cut(text, limit, size)
			if len(got) > limit || !utf8.ValidString(got) {
				t.Errorf("%d bytes of a limit of %d", len(got), limit)
			}
			if len(text) <= limit && got != text {
				t.Errorf("%q was cut to %q", text, got)
			}
		}
	}
	if got, want := watch.Cut("one\ntwo\nthree\nfour\nfive five five", 32, size), "one\ntwo\n… and 3 more lines."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := watch.Cut(strings.Repeat("a", 60)+"\nb", 40, size); !strings.HasSuffix(got, "a…\n… and 1 more line.") {
		t.Errorf("got %q", got)
	}
}
