package plan

import (
	"bytes"
	"slices"
)

// Smaller reports whether now is a part of what was: every change that it makes
// is one that was has too, with the same values or fewer of them, and something
// that was has is not in it. left says what of it is not so, for people.
//
// It is what a drift check's plan is compared with after the cloud's values were
// written into the configuration. Outputs are left out of it: they follow.
func Smaller(was, now *Plan) (smaller bool, left string) {
	if now != nil && (now.Errored || now.Incomplete) {
		return false, "the plan is not complete"
	}
	if now == nil || now.Empty() {
		return was != nil && !was.Empty(), ""
	}
	before := map[string]Change{}
	if was != nil {
		for _, c := range was.Changes {
			before[c.Address] = c
		}
	}
	if len(now.Invocations) > 0 {
		return false, now.Invocations[0].Address + " would run"
	}
	fewer := was != nil && len(now.Changes) < len(was.Changes)
	for _, c := range now.Changes {
		b, ok := before[c.Address]
		if !ok || c.Previous != b.Previous || c.Type != b.Type || c.Import != b.Import || !bytes.Equal(c.Importing, b.Importing) {
			return false, c.Address + " would be " + c.Action.phrase()
		}
		if c.Action != b.Action && !(c.Action == Update && (b.Action == Replace || b.Action == ReplaceCreateFirst)) {
			return false, c.Address + " would be " + c.Action.phrase() + ", not " + b.Action.phrase()
		}
		if c.Action == Create && !sameValues(b, c) {
			return false, c.Address + " would be created with other values"
		}
		had, has := b.deltas(), c.deltas()
		for _, d := range has {
			if !slices.ContainsFunc(had, func(o delta) bool {
				return o.path == d.path && equal(o.before, d.before) && equal(o.after, d.after)
			}) {
				return false, c.Address + " would get another " + d.path
			}
		}
		if path, ok := newlyUnknown(b, c); ok {
			return false, c.Address + " would get another " + path
		}
		fewer = fewer || len(has) < len(had) || c.Action != b.Action
	}
	return fewer, ""
}

// sameValues reports whether two changes leave the same behind.
func sameValues(a, b Change) bool {
	_, x := a.Values()
	_, y := b.Values()
	return equal(x, y)
}

// newlyUnknown returns what only the apply of now would tell, and what was
// known with was.
func newlyUnknown(was, now Change) (path string, ok bool) {
	var before, after []string
	_, v := was.Values()
	unknowns(nil, v, &before)
	_, v = now.Values()
	unknowns(nil, v, &after)
	slices.Sort(after)
	for _, path := range after {
		if !slices.ContainsFunc(before, func(b string) bool { return within(path, b) }) {
			return path, true
		}
	}
	return "", false
}

func unknowns(path Path, v any, out *[]string) {
	switch v := v.(type) {
	case Unknown:
		*out = append(*out, path.String())
	case map[string]any:
		for k, child := range v {
			unknowns(path.with(k), child, out)
		}
	case []any:
		for i, child := range v {
			unknowns(path.with(i), child, out)
		}
	}
}
