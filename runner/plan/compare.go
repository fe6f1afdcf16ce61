package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
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
func Compare(reviewed, now *Plan) Comparison {
	if reviewed == nil {
		reviewed = &Plan{}
	}
	if now == nil {
		now = &Plan{}
	}
	cmp := comparer{}
	cmp.changes(reviewed.Changes, now.Changes)
	cmp.outputs(reviewed.Outputs, now.Outputs)
	cmp.invocations(reviewed.Invocations, now.Invocations)
	if now.Errored && !reviewed.Errored || reviewed.Errored {
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

// sameResources compares actions and addresses only.
func sameResources(a, b *Plan) bool {
	count := map[string]int{}
	for _, c := range a.Changes {
		count[c.Address+"\x00"+string(c.Action)]++
	}
	for _, c := range b.Changes {
		count[c.Address+"\x00"+string(c.Action)]--
	}
	for _, i := range a.Invocations {
		count[i.Address+"\x01"+i.Trigger+"\x01"+i.Event]++
	}
	for _, i := range b.Invocations {
		count[i.Address+"\x01"+i.Trigger+"\x01"+i.Event]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return a.Errored == b.Errored
}

type comparer struct {
	differences []Difference
	more        int
	unreviewed  bool // now has something that was not reviewed
	gone        bool // something that was reviewed is not in now
}

func (c *comparer) add(d Difference) {
	if len(c.differences) == MaxDifferences {
		c.more++
		return
	}
	c.differences = append(c.differences, d)
}

// pairs walks over two lists by key, in order; a side that has no such entry
// is nil. Keys that occur more than once on a side are paired in order.
func pairs[T any](a, b []T, key func(T) string, visit func(a, b *T)) {
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
		both := byKey[k]
		for i := range max(len(both[0]), len(both[1])) {
			visit(at(both[0], i), at(both[1], i))
		}
	}
}

func at[T any](list []*T, i int) *T {
	if i < len(list) {
		return list[i]
	}
	return nil
}

func (c *comparer) changes(reviewed, now []Change) {
	pairs(reviewed, now, func(c Change) string { return c.Address }, func(r, n *Change) {
		switch {
		case r == nil:
			c.unreviewed = true
			c.add(Difference{Address: n.Address, Reviewed: nothing, Now: n.Action.phrase()})
		case n == nil:
			c.gone = true
			c.add(Difference{Address: r.Address, Reviewed: r.Action.phrase(), Now: nothing})
		case bytes.Equal(encodeRecord(r.record()), encodeRecord(n.record())):
		default:
			c.unreviewed = true
			c.change(r, n)
		}
	})
}

func encodeRecord(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("encode a normalised change: " + err.Error()) // cannot happen: see encode
	}
	return raw
}

// change names what differs between two changes of one resource.
func (c *comparer) change(r, n *Change) {
	before := len(c.differences) + c.more
	for _, f := range []struct{ attribute, r, n string }{
		{"", r.Action.phrase(), n.Action.phrase()},
		{"(moved from)", or(r.Previous, "(not moved)"), or(n.Previous, "(not moved)")},
		{"(import id)", or(r.Import, "(not imported)"), or(n.Import, "(not imported)")},
		{"(provider)", r.Provider, n.Provider},
		{"(type)", r.Type, n.Type},
		{"(mode)", r.Mode, n.Mode},
	} {
		if f.r != f.n {
			c.add(Difference{Address: n.Address, Attribute: f.attribute, Reviewed: short(f.r), Now: short(f.n)})
		}
	}
	rb, ra := r.Values()
	nb, na := n.Values()
	if r.Action == n.Action {
		c.values(n.Address, nil, cell{rb, ra}, cell{nb, na})
	}
	if a, b := replacePaths(r.Replace), replacePaths(n.Replace); a != b {
		c.add(Difference{Address: n.Address, Attribute: "(forces replacement)", Reviewed: a, Now: b})
	}
	if len(c.differences)+c.more == before {
		// The same to people, such as 1 and 1.0: still not the same bytes.
		c.add(Difference{Address: n.Address, Reviewed: n.Action.phrase(), Now: n.Action.phrase() + " (in a detail that is not shown)"})
	}
}

// cell is the value at one path before and after a change.
type cell struct{ before, after any }

func (c cell) equal(d cell) bool { return equal(c.before, d.before) && equal(c.after, d.after) }

func (c cell) at(step any) cell {
	return cell{before: child(c.before, step), after: child(c.after, step)}
}

func child(v, step any) any {
	switch s := step.(type) {
	case string:
		m, _ := v.(map[string]any)
		return m[s]
	case int:
		if l, _ := v.([]any); s < len(l) {
			return l[s]
		}
	}
	return nil
}

// values adds the deepest paths at which the two changes differ.
func (c *comparer) values(address string, path Path, r, n cell) {
	if r.equal(n) {
		return
	}
	if steps := commonSteps(r, n); steps != nil {
		for _, s := range steps {
			c.values(address, path.with(s), r.at(s), n.at(s))
		}
		return
	}
	reviewed, now := r.show(), n.show()
	if r.masked() || n.masked() {
		reviewed, now = mask(r), mask(n)
		if reviewed == now {
			now += ", another one"
		}
	}
	c.add(Difference{Address: address, Attribute: path.String(), Reviewed: reviewed, Now: now})
}

// commonSteps returns the steps below a path where all values there have one
// shape, or nil where the values are to be compared as a whole.
func commonSteps(r, n cell) []any {
	keys := map[string]bool{}
	longest := 0
	objects, lists := false, false
	for _, v := range []any{r.before, r.after, n.before, n.after} {
		switch v := v.(type) {
		case nil:
		case map[string]any:
			objects = true
			for k := range v {
				keys[k] = true
			}
		case []any:
			lists = true
			longest = max(longest, len(v))
		default:
			return nil
		}
	}
	var steps []any
	switch {
	case objects == lists: // nothing to descend into, or both
	case objects:
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			steps = append(steps, k)
		}
	default:
		for i := range longest {
			steps = append(steps, i)
		}
	}
	// Where the difference is null against empty there is no step that shows
	// it.
	if !slices.ContainsFunc(steps, func(s any) bool { return !r.at(s).equal(n.at(s)) }) {
		return nil
	}
	return steps
}

func (c cell) masked() bool { return hidden(c.before) || hidden(c.after) }

// hidden reports whether a value has anything sensitive in it.
func hidden(v any) bool {
	switch v := v.(type) {
	case Sensitive:
		return true
	case map[string]any:
		for _, child := range v {
			if hidden(child) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hidden)
	}
	return false
}

// mask shows of a cell only what is no secret: whether it changes, is null or
// unknown.
func mask(c cell) string {
	one := func(v any, name string) any {
		switch v.(type) {
		case nil, Unknown:
			return v
		}
		return Sensitive{canonical: name}
	}
	if equal(c.before, c.after) {
		return cell{one(c.before, ""), one(c.after, "")}.show()
	}
	return cell{one(c.before, "before"), one(c.after, "after")}.show()
}

func (c cell) show() string {
	switch {
	case c.before == nil:
		return Text(c.after)
	case equal(c.before, c.after):
		return Text(c.after) + " (unchanged)"
	}
	return Text(c.before) + " -> " + Text(c.after)
}

// Text shows a value of Change.Values on one line, in JSON, cut where it is
// long.
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case fmt.Stringer: // json.Number, Unknown, Sensitive
		return short(v.String())
	}
	return short(string(encode(shown(v))))
}

// shown replaces the marks in a tree by what people see.
func shown(v any) any {
	switch v := v.(type) {
	case Unknown:
		return v.String()
	case Sensitive:
		return v.String()
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, child := range v {
			out[k] = shown(child)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = shown(v[i])
		}
		return out
	}
	return v
}

const maxText = 200 // bytes of one value in a difference

func short(s string) string {
	if len(s) <= maxText {
		return s
	}
	cut := maxText
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:cut], len(s))
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func replacePaths(paths []json.RawMessage) string {
	if len(paths) == 0 {
		return "(nothing)"
	}
	out := make([]string, len(paths))
	for i, raw := range paths {
		out[i] = ParsePath(raw).String()
	}
	slices.Sort(out)
	return short(strings.Join(out, ", "))
}

// ParsePath reads one of Change.Replace.
func ParsePath(raw json.RawMessage) Path {
	var path Path
	steps, _ := decode(raw).([]any)
	for _, s := range steps {
		switch s := s.(type) {
		case string:
			path = append(path, s)
		case json.Number:
			if i, err := s.Int64(); err == nil {
				path = append(path, int(i))
			}
		}
	}
	return path
}

func (c *comparer) outputs(reviewed, now []Output) {
	pairs(reviewed, now, func(o Output) string { return o.Name }, func(r, n *Output) {
		switch {
		case r == nil:
			c.unreviewed = true
			c.add(Difference{Address: "output." + n.Name, Reviewed: nothing, Now: n.Action.phrase()})
		case n == nil:
			c.gone = true
			c.add(Difference{Address: "output." + r.Name, Reviewed: r.Action.phrase(), Now: nothing})
		case bytes.Equal(encodeRecord(r.record()), encodeRecord(n.record())):
		default:
			c.unreviewed = true
			c.output(r, n)
		}
	})
}

func (c *comparer) output(r, n *Output) {
	address := "output." + n.Name
	before := len(c.differences) + c.more
	if r.Action != n.Action {
		c.add(Difference{Address: address, Reviewed: r.Action.phrase(), Now: n.Action.phrase()})
	}
	if r.Sensitive != n.Sensitive {
		c.add(Difference{Address: address, Attribute: "(sensitive)", Reviewed: fmt.Sprint(r.Sensitive), Now: fmt.Sprint(n.Sensitive)})
		// One side's mark hides the other's value too.
		rs, ns := *r, *n
		rs.Sensitive, ns.Sensitive = true, true
		r, n = &rs, &ns
	}
	rb, ra := r.Values()
	nb, na := n.Values()
	c.values(address, nil, cell{rb, ra}, cell{nb, na})
	if len(c.differences)+c.more == before {
		c.add(Difference{Address: address, Reviewed: n.Action.phrase(), Now: n.Action.phrase() + " (in a detail that is not shown)"})
	}
}

func (c *comparer) invocations(reviewed, now []Invocation) {
	key := func(i Invocation) string { return i.Address + "\x00" + i.Trigger + "\x00" + i.Event }
	pairs(reviewed, now, key, func(r, n *Invocation) {
		switch {
		case r == nil:
			c.unreviewed = true
			c.add(Difference{Address: n.Address, Reviewed: nothing, Now: "invoked"})
		case n == nil:
			c.gone = true
			c.add(Difference{Address: r.Address, Reviewed: "invoked", Now: nothing})
		case bytes.Equal(encodeRecord(r.record()), encodeRecord(n.record())):
		default:
			c.unreviewed = true
			c.add(Difference{Address: n.Address, Attribute: "(configuration)", Reviewed: "invoked", Now: "invoked with other values"})
		}
	})
}

// phrase says what an action does to a resource.
func (a Action) phrase() string {
	switch a {
	case Create:
		return "created"
	case Update:
		return "updated"
	case Delete:
		return "destroyed"
	case Replace:
		return "replaced (destroyed, then created)"
	case ReplaceCreateFirst:
		return "replaced (created, then destroyed)"
	case ReplaceForget:
		return "created anew, the old one only forgotten"
	case Forget:
		return "forgotten"
	case Move:
		return "moved"
	case Import:
		return "imported"
	}
	return string(a)
}
