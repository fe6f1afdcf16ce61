package markdown

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"holdfast/runner/plan"
)

// maxCells bounds the work of one list or text comparison; beyond it the old
// is shown as removed and the new as added.
const maxCells = 250_000

// step is a piece of an edit script: an element of the old list, of the new
// one, or of both. An index that does not apply is -1.
type step struct{ old, new int }

// script returns how to get from a list of n to one of m elements with the
// fewest insertions and deletions.
func script(n, m int, same func(i, j int) bool) []step {
	var head, tail []step
	start := 0
	for start < n && start < m && same(start, start) {
		head = append(head, step{start, start})
		start++
	}
	for n > start && m > start && same(n-1, m-1) {
		n, m = n-1, m-1
		tail = append(tail, step{n, m})
	}
	slices.Reverse(tail)
	middle := make([]step, 0, n+m-2*start)
	if (n-start)*(m-start) > maxCells {
		for i := start; i < n; i++ {
			middle = append(middle, step{i, -1})
		}
		for j := start; j < m; j++ {
			middle = append(middle, step{-1, j})
		}
	} else {
		middle = longestCommon(start, n, m, same)
	}
	return slices.Concat(head, middle, tail)
}

// longestCommon is the textbook's longest common subsequence over [start, n)
// and [start, m).
func longestCommon(start, n, m int, same func(i, j int) bool) []step {
	rows, columns := n-start, m-start
	length := make([][]int32, rows+1)
	for i := range length {
		length[i] = make([]int32, columns+1)
	}
	for i := rows - 1; i >= 0; i-- {
		for j := columns - 1; j >= 0; j-- {
			if same(start+i, start+j) {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	var out []step
	i, j := 0, 0
	for i < rows || j < columns {
		switch {
		case i < rows && j < columns && same(start+i, start+j):
			out = append(out, step{start + i, start + j})
			i, j = i+1, j+1
		case j == columns || i < rows && length[i+1][j] >= length[i][j+1]:
			out = append(out, step{start + i, -1})
			i++
		default:
			out = append(out, step{-1, start + j})
			j++
		}
	}
	return out
}

// list writes the elements that differ and counts the others.
func (d *differ) list(depth int, before, after []any, path plan.Path) {
	// Numbers stand for elements, so that comparing is cheap however large
	// these are.
	ids := numbered(before, after)
	steps := script(len(before), len(after), func(i, j int) bool { return ids[i] == ids[len(before)+j] })
	same := 0
	flush := func() {
		if same > 0 {
			d.line(markSame, depth, fmt.Sprintf("# (%s hidden)", count(same, "unchanged element")))
		}
		same = 0
	}
	for len(steps) > 0 {
		if steps[0].old >= 0 && steps[0].new >= 0 {
			same++
			steps = steps[1:]
			continue
		}
		flush()
		var removed, added []int
		for len(steps) > 0 && (steps[0].old < 0 || steps[0].new < 0) {
			if steps[0].old >= 0 {
				removed = append(removed, steps[0].old)
			} else {
				added = append(added, steps[0].new)
			}
			steps = steps[1:]
		}
		d.replaced(depth, before, after, removed, added, path)
	}
	flush()
}

// replaced writes elements that make way for others, in pairs while there are
// two.
func (d *differ) replaced(depth int, before, after []any, removed, added []int, path plan.Path) {
	for i := range max(len(removed), len(added)) {
		switch {
		case i >= len(removed):
			d.whole(markAdd, depth, "", after[added[i]], ","+d.forces(path, added[i]))
		case i >= len(added):
			d.whole(markRemove, depth, "", before[removed[i]], ","+d.forces(path, removed[i]))
		case before[removed[i]] == nil || after[added[i]] == nil:
			d.whole(markRemove, depth, "", before[removed[i]], ",")
			d.whole(markAdd, depth, "", after[added[i]], ","+d.forces(path, added[i]))
		default:
			d.entry(depth, "", before[removed[i]], after[added[i]], append(slices.Clone(path), added[i]), ",")
		}
	}
}

func (d *differ) forces(path plan.Path, i int) string {
	if d.forced[append(slices.Clone(path), i).String()] {
		return "  # forces replacement"
	}
	return ""
}

// maxAlike bounds how many masked values an element is compared with.
const maxAlike = 100

// numbered gives equal elements of both lists one number.
func numbered(before, after []any) []int {
	all := slices.Concat(before, after)
	ids := make([]int, len(all))
	// By what they look like first: only those that look the same (masked
	// values do) have to be compared.
	byText := map[string][]int{}
	for i, v := range all {
		key := fmt.Sprint(v)
		ids[i] = i
		alike := byText[key]
		for _, j := range alike[:min(len(alike), maxAlike)] {
			if plan.Equal(all[j], v) {
				ids[i] = ids[j]
				break
			}
		}
		if ids[i] == i {
			byText[key] = append(byText[key], i)
		}
	}
	return ids
}

const context = 3 // unchanged lines around a changed one

// strings writes two strings that differ: as JSON where both are, by line
// where there are several, else as they are.
func (d *differ) strings(depth int, prefix, before, after, end string) {
	if b, a := jsonInside(before), jsonInside(after); b != nil && a != nil {
		if plan.Equal(b, a) {
			d.line(d.change, depth, prefix+quote(before)+" -> "+quote(after)+end+"  # the same JSON in other words")
			return
		}
		d.line(d.change, depth, prefix+"jsonencode("+comment(end))
		d.embedded(depth+1, b, a)
		d.line(markSame, depth, ")"+punctuation(end))
		return
	}
	if !strings.Contains(before, "\n") && !strings.Contains(after, "\n") {
		d.line(d.change, depth, prefix+quote(before)+" -> "+quote(after)+end)
		return
	}
	d.line(d.change, depth, prefix+"<<-EOT"+comment(end))
	d.text(depth+1, textLines(before), textLines(after))
	d.line(markSame, depth, "EOT"+punctuation(end))
}

// embedded writes JSON within a string; no path of the resource leads there.
func (d *differ) embedded(depth int, before, after any) {
	forced := d.forced
	d.forced = nil
	d.entry(depth, "", before, after, nil, "")
	d.forced = forced
}

func (d *differ) text(depth int, before, after []string) {
	steps := script(len(before), len(after), func(i, j int) bool { return before[i] == after[j] })
	near := make([]bool, len(steps))
	for i, s := range steps {
		if s.old < 0 || s.new < 0 {
			for j := max(0, i-context); j <= min(len(steps)-1, i+context); j++ {
				near[j] = true
			}
		}
	}
	for i := 0; i < len(steps); i++ {
		s := steps[i]
		switch {
		case s.old >= 0 && s.new >= 0 && !near[i]:
			end := i
			for end < len(steps) && !near[end] {
				end++
			}
			d.line(markSame, depth, fmt.Sprintf("# (%s hidden)", count(end-i, "unchanged line")))
			i = end - 1
		case s.new < 0:
			d.line(markRemove, depth, before[s.old])
		case s.old < 0:
			d.line(markAdd, depth, after[s.new])
		default:
			d.line(markSame, depth, before[s.old])
		}
	}
}

// textLines splits a text, and says where the last line has no end.
func textLines(s string) []string {
	if s == "" {
		return nil
	}
	out := lines(escapeColours(s))
	if strings.HasSuffix(s, "\n") {
		// lines drops all empty ones at the end.
		for range len(s) - len(strings.TrimRight(s, "\n")) - 1 {
			out = append(out, "")
		}
		return out
	}
	return append(out, "# (no newline at the end)")
}

// escapeColours shows escape sequences, which lines drops: in a value that is
// reviewed nothing may be hidden. The same goes for carriage returns.
func escapeColours(s string) string {
	return strings.NewReplacer("\x1b", `\u001b`, "\r", `\r`).Replace(s)
}

// jsonInside returns the object or list that a string holds in JSON, or nil.
// JSON that says something twice, or that a reader may take for something
// else, is shown as the string that it is: its rendering must not hide
// anything.
func jsonInside(s string) any {
	trimmed := strings.TrimSpace(s)
	if len(trimmed) < 3 || trimmed[0] != '{' && trimmed[0] != '[' {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(trimmed))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil || dec.More() || scalar(v) || hasNull(v) {
		return nil
	}
	var compact, again bytes.Buffer
	enc := json.NewEncoder(&again)
	enc.SetEscapeHTML(false)
	if json.Compact(&compact, []byte(trimmed)) != nil || enc.Encode(v) != nil {
		return nil
	}
	if compact.Len() != again.Len()-1 { // Encode adds a newline
		return nil
	}
	return v
}

// hasNull reports whether there is a null in v, which a diff leaves out.
func hasNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return slices.ContainsFunc(v, hasNull)
	case map[string]any:
		for _, child := range v {
			if hasNull(child) {
				return true
			}
		}
	}
	return false
}
