package git

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

func TestMerge3(t *testing.T) {
	text := func(lines ...string) string { return strings.Join(lines, "\n") + "\n" }
	var long []string
	for i := range 3000 {
		long = append(long, fmt.Sprint("line ", i))
	}
	other := make([]string, len(long))
	for i := range other {
		other[i] = fmt.Sprint("other ", i)
	}
	base := text("a", "b", "c", "d", "e")
	for name, tc := range map[string]struct {
		base, ours, theirs string
		want               string // empty: a conflict
	}{
		"far apart":             {base, text("A", "b", "c", "d", "e"), text("a", "b", "c", "d", "E"), text("A", "b", "c", "d", "E")},
		"one line between":      {base, text("A", "b", "c", "d", "e"), text("a", "b", "C", "d", "e"), text("A", "b", "C", "d", "e")},
		"next to each other":    {base, text("A", "b", "c", "d", "e"), text("a", "B", "c", "d", "e"), ""},
		"the same line":         {base, text("A", "b", "c", "d", "e"), text("Z", "b", "c", "d", "e"), ""},
		"alike":                 {base, text("A", "b", "c", "d", "E"), text("A", "b", "c", "d", "e"), text("A", "b", "c", "d", "E")},
		"deleted and inserted":  {base, text("b", "c", "d", "e"), text("a", "b", "c", "d", "x", "e"), text("b", "c", "d", "x", "e")},
		"deleted what changed":  {base, text("a", "d", "e"), text("a", "b", "C", "d", "e"), ""},
		"both append":           {base, base + "x\n", base + "y\n", ""},
		"both append the same":  {base, base + "x\n", base + "x\n", base + "x\n"},
		"at both ends":          {base, "x\n" + base, base + "y\n", "x\n" + base + "y\n"},
		"no newline at the end": {base, text("A", "b", "c", "d", "e"), strings.TrimSuffix(base, "\n"), strings.TrimSuffix(text("A", "b", "c", "d", "e"), "\n")},
		"carriage returns":      {"a\r\nb\r\nc\r\n", "A\r\nb\r\nc\r\n", "a\r\nb\r\nC\r\n", "A\r\nb\r\nC\r\n"},
		"everything deleted":    {base, "", text("A", "b", "c", "d", "e"), ""},
		"from nothing":          {"", "x\n", "y\n", ""},
		// One of the braces was deleted, and a line inserted beside one: which
		// of them nobody can tell.
		"equal lines":        {text("x", "}", "}", "y"), text("x", "}", "y"), text("x", "}", "n", "}", "y"), ""},
		"equal lines apart":  {text("}", "}", "x", "y", "z"), text("}", "x", "y", "z"), text("}", "}", "x", "y", "Z"), text("}", "x", "y", "Z")},
		"too much of it new": {text(long...), text(other...), text(append(long, "x")...), ""},
		"too long":           {strings.Repeat("\n", maxMergeLines+1), "x\n", "y\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, sides := range [][2]string{{tc.ours, tc.theirs}, {tc.theirs, tc.ours}} {
				got, ok := merge3(tc.base, sides[0], sides[1])
				if ok != (tc.want != "") || got != tc.want {
					t.Errorf("%.60q and %.60q: got %.80q, %v, want %.80q", sides[0], sides[1], got, ok, tc.want)
				}
			}
		})
	}
}

func TestSlide(t *testing.T) {
	for name, tc := range map[string]struct {
		lines       string // a letter each
		h           hunk
		first, last int
	}{
		"stays":                {"abc", hunk{from: 1, to: 2}, 1, 2},
		"deletes one of three": {"xaaay", hunk{from: 2, to: 3}, 1, 4},
		"deletes two of five":  {"xabababy", hunk{from: 3, to: 5}, 1, 7},
		"to the edges":         {"aaa", hunk{from: 1, to: 2}, 0, 3},
		"inserts":              {"xaay", hunk{from: 2, to: 2, with: []string{"a"}}, 1, 3},
		"inserts two":          {"xababy", hunk{from: 3, to: 3, with: []string{"a", "b"}}, 1, 5},
		"replaces":             {"aaa", hunk{from: 1, to: 2, with: []string{"a", "b"}}, 1, 2},
	} {
		got := slide(strings.Split(tc.lines, ""), tc.h)
		if got.first != tc.first || got.last != tc.last || got.from != tc.h.from || got.to != tc.h.to {
			t.Errorf("%s: %+v, want it between %d and %d", name, got, tc.first, tc.last)
		}
	}
}

func TestUnique(t *testing.T) {
	a, b := plumbing.NewHash(strings.Repeat("ab", 20)), plumbing.NewHash(strings.Repeat("cd", 20))
	if got := unique([]plumbing.Hash{b, a, b, a}); !slices.Equal(got, []plumbing.Hash{a, b}) {
		t.Errorf("got %v", got)
	}
}

func FuzzMerge3(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nB\nc\n", "a\nb\nc\nd")
	f.Add("}\n}\n\n}\n", "}\n\n}\n", "}\n}\n\n}\n}\n")
	f.Add("", "\n", "x")
	f.Add("a\na\na\na\n", "a\na\n", "b\na\na\na\na\nb\n")
	f.Fuzz(func(t *testing.T, base, ours, theirs string) {
		within := func(a, b string) bool { _, ok := hunks(splitLines(a), splitLines(b)); return ok }
		for _, side := range []string{ours, theirs} {
			if !within(base, side) {
				continue
			}
			for name, sides := range map[string][2]string{"theirs only": {base, side}, "ours only": {side, base}, "both": {side, side}} {
				if !within(base, sides[0]) || !within(base, sides[1]) {
					continue
				}
				if got, ok := merge3(base, sides[0], sides[1]); !ok || got != side {
					t.Errorf("%s: base %q, changed to %q, became %q, %v", name, base, side, got, ok)
				}
			}
		}
		one, ok1 := merge3(base, ours, theirs)
		two, ok2 := merge3(base, theirs, ours)
		if ok1 != ok2 || one != two {
			t.Errorf("base %q, %q and %q: %q, %v one way, %q, %v the other", base, ours, theirs, one, ok1, two, ok2)
		}
		if !ok1 {
			return
		}
		for _, line := range splitLines(one) {
			if !strings.Contains(base, line) && !strings.Contains(ours, line) && !strings.Contains(theirs, line) {
				t.Errorf("base %q, %q and %q: %q has the line %q of nobody", base, ours, theirs, one, line)
			}
		}
	})
}
