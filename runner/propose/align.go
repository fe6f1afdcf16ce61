package propose

import (
	"slices"

	"holdfast/runner/plan"
)

// alignment says how a list in the source has to change.
type alignment struct {
	pairs    []pair // elements that stay, with or without another value
	removed  []int  // of the source, ascending
	inserted []inserted
}

type pair struct{ src, have, want int }

// inserted is an element that only the cloud has, and the element of the source
// that it comes after; -1 for none.
type inserted struct{ want, after int }

// sameList compares a list in the source with the plan's, which may be a set
// and then has another order.
func sameList(src, v []any) bool {
	if len(src) != len(v) {
		return false
	}
	if slices.EqualFunc(src, v, complete) {
		return true
	}
	used := make([]bool, len(v))
	for _, s := range src {
		i := find(v, used, func(e any) bool { return complete(s, e) })
		if i < 0 {
			return false
		}
		used[i] = true
	}
	return true
}

func find(list []any, used []bool, ok func(any) bool) int {
	for i, e := range list {
		if !used[i] && ok(e) {
			return i
		}
	}
	return -1
}

// maxList bounds the lists that are compared, which takes time in the square
// of their length.
const maxList = 500

// align finds out which element of the source is which of the plan's, and how
// the source has to change for want. Not ok where that cannot be told.
func align(src, have, want []any) (a alignment, ok bool) {
	if len(src) != len(have) || len(have) > maxList || len(want) > maxList {
		return a, false
	}
	of, ordered, sure := match(src, have)
	if of == nil {
		return a, false
	}
	if ordered {
		a = inOrder(have, want)
	} else {
		a = asSet(have, want, of)
	}
	if !sure && !a.keeps(src, have, want) {
		return a, false
	}
	return a, true
}

// keeps reports whether the elements of unknown value stay as they are. With
// several of them nobody knows which is which in a set.
func (a alignment) keeps(src, have, want []any) bool {
	for _, pr := range a.pairs {
		if !known(src[pr.src]) && !plan.Equal(have[pr.have], want[pr.want]) {
			return false
		}
	}
	for _, i := range a.removed {
		if !known(src[i]) {
			return false
		}
	}
	return true
}

// match returns for each element of the source the plan's; ordered where they
// are in the same order, and sure where no other match would do.
func match(src, have []any) (of []int, ordered, sure bool) {
	unknown, unclear := 0, 0
	for _, s := range src {
		if !known(s) {
			unknown++
			if count(have, func(e any) bool { return same(s, e) }) != 1 {
				unclear++
			}
		}
	}
	sure = unknown <= 1 || unclear == 0
	of = []int{}
	if slices.EqualFunc(src, have, same) {
		for i := range src {
			of = append(of, i)
		}
		return of, true, sure
	}
	of = make([]int, len(src))
	used := make([]bool, len(have))
	for _, wholly := range []bool{true, false} {
		for i, s := range src {
			if known(s) != wholly {
				continue
			}
			fits := func(e any) bool { return same(s, e) }
			j := find(have, used, fits)
			if j < 0 {
				return nil, false, false
			}
			if isComposite(s) && ambiguous(have, used, j, fits) {
				return nil, false, false
			}
			of[i], used[j] = j, true
		}
	}
	return of, false, sure
}

func count(list []any, ok func(any) bool) (n int) {
	for _, e := range list {
		if ok(e) {
			n++
		}
	}
	return n
}

// ambiguous reports whether another element than j fits, and is not equal.
func ambiguous(have []any, used []bool, j int, fits func(any) bool) bool {
	for k := range have {
		if k != j && !used[k] && fits(have[k]) && !plan.Equal(have[k], have[j]) {
			return true
		}
	}
	return false
}

// slim leaves out of a new object what none of its siblings in the source
// mentions, if it is null or all of them have it by default.
func slim(v any, src, have []any) any {
	object, ok := v.(map[string]any)
	if !ok || len(src) == 0 {
		return v
	}
	out := map[string]any{}
	for k, e := range object {
		said := slices.ContainsFunc(src, func(s any) bool {
			m, ok := s.(map[string]any)
			return !ok || hasKey(m, k)
		})
		other := slices.ContainsFunc(have, func(h any) bool {
			m, _ := h.(map[string]any)
			return !plan.Equal(m[k], e)
		})
		if said || other && e != nil {
			out[k] = e
		}
	}
	return out
}

// inOrder aligns lists whose source is in the plan's order: what both have in
// common stays, and between that elements change place by place.
func inOrder(have, want []any) (a alignment) {
	i, j := 0, 0
	gap := func(i2, j2 int) {
		for ; i < i2 && j < j2; i, j = i+1, j+1 {
			a.pairs = append(a.pairs, pair{i, i, j})
		}
		for ; i < i2; i++ {
			a.removed = append(a.removed, i)
		}
		for ; j < j2; j++ {
			a.inserted = append(a.inserted, inserted{j, i - 1})
		}
	}
	for _, c := range common(have, want) {
		gap(c[0], c[1])
		a.pairs = append(a.pairs, pair{c[0], c[0], c[1]})
		i, j = i+1, j+1
	}
	gap(len(have), len(want))
	return a
}

// common returns a longest common subsequence as pairs of indices.
func common(a, b []any) (out [][2]int) {
	n := make([][]int, len(a)+1)
	for i := range n {
		n[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			n[i][j] = max(n[i+1][j], n[i][j+1])
			if plan.Equal(a[i], b[j]) {
				n[i][j] = n[i+1][j+1] + 1
			}
		}
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case plan.Equal(a[i], b[j]):
			out = append(out, [2]int{i, j})
			i, j = i+1, j+1
		case n[i+1][j] >= n[i][j+1]:
			i++
		default:
			j++
		}
	}
	return out
}

// asSet aligns a set: what is in both stays where the source has it. A single
// element that changed changes in place.
func asSet(have, want []any, of []int) (a alignment) {
	used := make([]bool, len(want))
	to := make([]int, len(have))
	for i, h := range have {
		to[i] = find(want, used, func(e any) bool { return plan.Equal(e, h) })
		if to[i] >= 0 {
			used[to[i]] = true
		}
	}
	for i, h := range of {
		if to[h] >= 0 {
			a.pairs = append(a.pairs, pair{i, h, to[h]})
		} else {
			a.removed = append(a.removed, i)
		}
	}
	for j := range want {
		if !used[j] {
			a.inserted = append(a.inserted, inserted{j, len(of) - 1})
		}
	}
	if len(a.removed) == 1 && len(a.inserted) == 1 {
		i := a.removed[0]
		a.pairs = append(a.pairs, pair{i, of[i], a.inserted[0].want})
		a.removed, a.inserted = nil, nil
	}
	for len(a.removed) > 0 && len(a.inserted) > 0 {
		i, j := a.closest(have, want, of)
		if i < 0 {
			break
		}
		src := a.removed[i]
		a.pairs = append(a.pairs, pair{src, of[src], a.inserted[j].want})
		a.removed, a.inserted = slices.Delete(a.removed, i, i+1), slices.Delete(a.inserted, j, j+1)
	}
	return a
}

// closest returns which of the objects that are gone has most in common with
// which of the new ones: at least half of what they say, or it is another one.
func (a alignment) closest(have, want []any, of []int) (removed, inserted int) {
	removed, inserted, best := -1, -1, 0
	for i, src := range a.removed {
		for j, in := range a.inserted {
			common, all := overlap(have[of[src]], want[in.want])
			if common > best && 2*common >= all {
				removed, inserted, best = i, j, common
			}
		}
	}
	return removed, inserted
}

// overlap counts the members of two objects that are not empty in both, and
// those of them that are equal.
func overlap(a, b any) (common, all int) {
	x, _ := a.(map[string]any)
	y, _ := b.(map[string]any)
	for _, k := range unionKeys(x, y) {
		switch {
		case empty(x[k]) && empty(y[k]):
		case plan.Equal(x[k], y[k]):
			common++
			all++
		default:
			all++
		}
	}
	return common, all
}
