package git

import (
	"slices"
	"strings"
)

// Bounds of what is merged by lines. Beyond them it is a conflict, so that no
// file takes long, and the same file always comes out the same.
const (
	maxMergeLines = 50_000 // of one version
	maxMergeEdits = 1000   // lines deleted and inserted from the base to one side
)

// hunk replaces the base's lines [from, to) by others.
type hunk struct {
	from, to int
	with     []string
	// first and last bound where it could stand as well: of equal lines in a
	// row nothing tells which of them was inserted or deleted.
	first, last int
}

func (h hunk) equal(other hunk) bool {
	return h.from == other.from && h.to == other.to && slices.Equal(h.with, other.with)
}

// merge3 makes both sides' changes to base, line by line. As in Git it is a
// conflict, and ok false, where they change the same lines or lines without
// another one in between, unless they change them alike. Other than in Git it
// is one, too, where equal lines leave open whether they do.
func merge3(base, ours, theirs string) (merged string, ok bool) {
	b := splitLines(base)
	left, ok1 := hunks(b, splitLines(ours))
	right, ok2 := hunks(b, splitLines(theirs))
	if !ok1 || !ok2 {
		return "", false
	}
	var out strings.Builder
	at := 0
	apply := func(h hunk) {
		for _, line := range append(b[at:h.from:h.from], h.with...) {
			out.WriteString(line)
		}
		at = h.to
	}
	for len(left) > 0 || len(right) > 0 {
		switch {
		case len(right) == 0 || len(left) > 0 && left[0].last < right[0].first:
			apply(left[0])
			left = left[1:]
		case len(left) == 0 || right[0].last < left[0].first:
			apply(right[0])
			right = right[1:]
		case left[0].equal(right[0]):
			apply(left[0])
			left, right = left[1:], right[1:]
		default:
			return "", false
		}
	}
	apply(hunk{from: len(b), to: len(b)})
	return out.String(), true
}

// splitLines splits after each newline; a last line may be without one.
func splitLines(s string) []string {
	lines := strings.SplitAfter(s, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// hunks compares two texts; false where they are too long or too different.
func hunks(a, b []string) ([]hunk, bool) {
	if len(a) > maxMergeLines || len(b) > maxMergeLines {
		return nil, false
	}
	deleted, inserted, ok := shortestEdit(a, b)
	if !ok {
		return nil, false
	}
	var found []hunk
	for i, j := 0, 0; i < len(a) || j < len(b); {
		from, start := i, j
		for i < len(a) && deleted[i] {
			i++
		}
		for j < len(b) && inserted[j] {
			j++
		}
		if i > from || j > start {
			found = append(found, slide(a, hunk{from: from, to: i, with: b[start:j]}))
			continue
		}
		i, j = i+1, j+1
	}
	return found, true
}

// slide finds out how far a hunk that only inserts or only deletes can be moved
// and still come to the same.
func slide(a []string, h hunk) hunk {
	h.first, h.last = h.from, h.to
	if h.from != h.to && len(h.with) != 0 {
		return h
	}
	moved := h.with
	if h.from != h.to {
		moved = a[h.from:h.to]
	}
	n := len(moved)
	// Moved up by one, the line before comes to stand behind it, and takes the
	// place of its last one.
	for i := 1; h.first > 0 && a[h.first-1] == moved[n-1-(i-1)%n]; i++ {
		h.first--
	}
	for i := 0; h.last < len(a) && a[h.last] == moved[i%n]; i++ {
		h.last++
	}
	return h
}

// shortestEdit tells which lines of a to delete and which of b to insert, as
// few as can be (E. Myers, An O(ND) Difference Algorithm, 1986). False where
// they are more than maxMergeEdits.
func shortestEdit(a, b []string) (deleted, inserted []bool, ok bool) {
	n, m := len(a), len(b)
	limit := min(n+m, maxMergeEdits)
	mid := limit + 1
	// reach[mid+k] is how far in a the diagonal k (the place in a, less that in
	// b) was followed with so many edits; before[d] is what it was with less
	// than d, for the diagonals -d to d.
	reach := make([]int, 2*mid+1)
	var before [][]int
	for d := 0; d <= limit; d++ {
		before = append(before, slices.Clone(reach[mid-d:mid+d+1]))
		for k := -d; k <= d; k += 2 {
			x := reach[mid+k+1] // insert a line of b
			if k != -d && (k == d || reach[mid+k-1] >= x) {
				x = reach[mid+k-1] + 1 // delete a line of a
			}
			for x < n && x-k < m && a[x] == b[x-k] {
				x++
			}
			reach[mid+k] = x
			if x >= n && x-k >= m {
				deleted, inserted = walkBack(before, n, m)
				return deleted, inserted, true
			}
		}
	}
	return nil, nil, false
}

// walkBack follows the edits from the end of both texts to their beginning.
func walkBack(before [][]int, n, m int) (deleted, inserted []bool) {
	deleted, inserted = make([]bool, n), make([]bool, m)
	for x, y, d := n, m, len(before)-1; d > 0; d-- {
		k := x - y
		reach := func(k int) int {
			if k < -d || k > d {
				return -1 // not reached with so few
			}
			return before[d][k+d]
		}
		if k == -d || k != d && reach(k-1) < reach(k+1) {
			x = reach(k + 1)
			y = x - k - 1
			inserted[y] = true
		} else {
			x = reach(k - 1)
			y = x - k + 1
			deleted[x] = true
		}
	}
	return deleted, inserted
}
