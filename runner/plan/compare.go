package plan

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// nothing stands for a side on which there is no such change.
const nothing = "(no change)"

// Compare says whether now is the change that was reviewed.
//
// The rule is strict on purpose: a change of now counts as reviewed only where
// everything that Digest covers is the same, the values before it included.
// What was "known after apply" in the review and has a value now was not
// reviewed. A nil plan is an empty one. A plan that failed half way is never
// identical or narrower: its rest is unknown.
//
// So the verdict is Identical where both plans are complete and have one
// digest, and Narrower where both are complete and now is a proper subset of
// the reviewed changes, outputs and invocations. What an engine deferred is in
// neither: it is not applied, and will be planned and compared by itself.
//
// A Difference shows no value that one of the plans marks as sensitive,
// wherever it stands in the other one.
func Compare(reviewed, now *Plan) Comparison {
	if reviewed == nil {
		reviewed = &Plan{}
	}
	if now == nil {
		now = &Plan{}
	}
	cmp := comparer{reviewed: reviewed, now: now}
	cmp.changes()
	cmp.outputs()
	cmp.invocations()
	if now.Errored || reviewed.Errored {
		cmp.unreviewed = true
		cmp.add(Difference{Address: "(plan)", Reviewed: complete(reviewed), Now: complete(now)})
	}
	out := Comparison{
		Verdict:       Identical,
		Differences:   cmp.differences,
		More:          cmp.more,
		SameResources: sameResources(reviewed, now),
	}
	switch {
	case cmp.unreviewed:
		out.Verdict = Changed
	case cmp.gone:
		out.Verdict = Narrower
	}
	return out
}

func complete(p *Plan) string {
	if p.Errored {
		return "planning failed half way"
	}
	return "complete"
}

// sameResources compares actions and what they act on only.
func sameResources(a, b *Plan) bool {
	count := map[string]int{}
	tally := func(p *Plan, by int) {
		for _, c := range p.Changes {
			count[string(encode([]any{c.Address, c.Previous, c.Mode, c.Type, c.Provider, c.Action, c.Words, c.Import, canonical(c.Importing)}))] += by
		}
		for _, i := range p.Invocations {
			count[string(encode([]any{"invocation", i.Address, i.Type, i.Provider, i.Trigger, i.Event, i.Block, i.Index}))] += by
		}
	}
	tally(a, 1)
	tally(b, -1)
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return a.Errored == b.Errored
}

type comparer struct {
	reviewed, now *Plan
	known         *secrets // of both plans; nil until somebody asks
	differences   []Difference
	more          int
	unreviewed    bool // now has something that was not reviewed
	gone          bool // something that was reviewed is not in now
}

func (c *comparer) add(d Difference) {
	if len(c.differences) == MaxDifferences {
		c.more++
		return
	}
	c.differences = append(c.differences, d)
}

// secrets returns what either plan marks as sensitive.
func (c *comparer) secrets() *secrets {
	if c.known == nil {
		c.known = secretsOf(c.reviewed, c.now)
	}
	return c.known
}

// pairs walks over what differs between two lists, by key, in order; a side
// that has no such entry is nil. Of entries with one key (an engine writes
// none for resources) those that are the same on both sides are taken away
// first, so that the order of the rest can make nothing look new.
func pairs[T interface{ record() []byte }](a, b []T, key func(T) string, visit func(a, b *T)) {
	byKey := map[string][2][]*T{}
	for i := range a {
		both := byKey[key(a[i])]
		both[0] = append(both[0], &a[i])
		byKey[key(a[i])] = both
	}
	for i := range b {
		both := byKey[key(b[i])]
		both[1] = append(both[1], &b[i])
		byKey[key(b[i])] = both
	}
	for _, k := range slices.Sorted(maps.Keys(byKey)) {
		left, right := unmatched(byKey[k][0], byKey[k][1])
		for i := range max(len(left), len(right)) {
			visit(at(left, i), at(right, i))
		}
	}
}

// unmatched returns the entries of either list that are not in the other.
func unmatched[T interface{ record() []byte }](a, b []*T) (left, right []*T) {
	switch {
	case len(a) == 0 || len(b) == 0:
		return a, b
	case len(a) == 1 && len(b) == 1:
		if bytes.Equal((*a[0]).record(), (*b[0]).record()) {
			return nil, nil
		}
		return a, b
	}
	count := map[string]int{}
	for _, v := range a {
		count[string((*v).record())]++
	}
	for _, v := range b {
		if r := string((*v).record()); count[r] > 0 {
			count[r]--
		} else {
			right = append(right, v)
		}
	}
	for _, v := range a {
		if r := string((*v).record()); count[r] > 0 {
			count[r]--
			left = append(left, v)
		}
	}
	return left, right
}

func at[T any](list []*T, i int) *T {
	if i < len(list) {
		return list[i]
	}
	return nil
}

func (c *comparer) changes() {
	pairs(c.reviewed.Changes, c.now.Changes, func(c Change) string { return c.Address }, func(r, n *Change) {
		switch {
		case r == nil:
			c.unreviewed = true
			c.add(Difference{Address: n.Address, Reviewed: nothing, Now: n.Action.phrase()})
		case n == nil:
			c.gone = true
			c.add(Difference{Address: r.Address, Reviewed: r.Action.phrase(), Now: nothing})
		default:
			c.unreviewed = true
			c.change(r, n)
		}
	})
}

func (c *comparer) outputs() {
	pairs(c.reviewed.Outputs, c.now.Outputs, func(o Output) string { return o.Name }, func(r, n *Output) {
		switch {
		case r == nil:
			c.unreviewed = true
			c.add(Difference{Address: "output." + n.Name, Reviewed: nothing, Now: n.Action.phrase()})
		case n == nil:
			c.gone = true
			c.add(Difference{Address: "output." + r.Name, Reviewed: r.Action.phrase(), Now: nothing})
		default:
			c.unreviewed = true
			c.output(r, n)
		}
	})
}

func (c *comparer) invocations() {
	key := func(i Invocation) string { return strings.Join([]string{i.Address, i.Trigger, i.Event}, "\x00") }
	pairs(c.reviewed.Invocations, c.now.Invocations, key, func(r, n *Invocation) {
		switch {
		case r == nil:
			c.unreviewed = true
			c.add(Difference{Address: n.Address, Reviewed: nothing, Now: "invoked"})
		case n == nil:
			c.gone = true
			c.add(Difference{Address: r.Address, Reviewed: "invoked", Now: nothing})
		case r.Block != n.Block || r.Index != n.Index:
			c.unreviewed = true
			c.add(Difference{Address: n.Address, Attribute: "(order)", Reviewed: "invoked", Now: "invoked in another order"})
		default:
			c.unreviewed = true
			c.add(Difference{Address: n.Address, Attribute: "(configuration)", Reviewed: "invoked", Now: "invoked with other values"})
		}
	})
}
