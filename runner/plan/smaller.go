package plan

import "slices"

// Smaller reports whether now is a part of what was: every change that it makes
// is one that was has too, with the same values or fewer of them, and something
// that was has is not in it. left says what of it is not so, for people.
//
// It is what a drift check's plan is compared with after the cloud's values were
// written into the configuration. Outputs are left out of it: they follow.
func Smaller(was, now *Plan) (smaller bool, left string) {
	if now == nil || now.Empty() {
		return was != nil && !was.Empty(), ""
	}
	if now.Errored || now.Incomplete {
		return false, "the plan is not complete"
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
		if !ok || c.Previous != b.Previous || c.Type != b.Type {
			return false, c.Address + " would be " + c.Action.phrase()
		}
		if c.Action != b.Action && !(c.Action == Update && (b.Action == Replace || b.Action == ReplaceCreateFirst)) {
			return false, c.Address + " would be " + c.Action.phrase() + ", not " + b.Action.phrase()
		}
		had, has := b.deltas(), c.deltas()
		for _, d := range has {
			if !slices.ContainsFunc(had, func(o delta) bool {
				return o.path == d.path && equal(o.before, d.before) && equal(o.after, d.after)
			}) {
				return false, c.Address + " would get another " + d.path
			}
		}
		fewer = fewer || len(has) < len(had) || c.Action != b.Action
	}
	return fewer, ""
}
