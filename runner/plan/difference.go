package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// change names what differs between two changes of one resource.
func (c *comparer) change(r, n *Change) {
	before := len(c.differences) + c.more
	known := c.secrets().alsoOf(r, n)
	hidden := union(union(decodeMarks(r.SensitiveBefore), decodeMarks(r.SensitiveAfter)), union(decodeMarks(n.SensitiveBefore), decodeMarks(n.SensitiveAfter)))
	for _, f := range []struct{ attribute, r, n string }{
		{"", r.Action.phrase(), n.Action.phrase()},
		{"(actions)", strings.Join(r.Words, ", "), strings.Join(n.Words, ", ")},
		{"(moved from)", or(r.Previous, "(not moved)"), or(n.Previous, "(not moved)")},
		{"(import id)", or(r.Import, "(not imported)"), or(n.Import, "(not imported)")},
		{"(provider)", r.Provider, n.Provider},
		{"(type)", r.Type, n.Type},
		{"(mode)", r.Mode, n.Mode},
	} {
		if f.r != f.n && (f.attribute != "(actions)" || r.Action == n.Action) {
			c.add(Difference{Address: n.Address, Attribute: f.attribute, Reviewed: known.text(f.r), Now: known.text(f.n)})
		}
	}
	if r.Action == n.Action {
		c.values(n.Address, nil, r.cell(known, hidden), n.cell(known, hidden))
	}
	c.whole(n.Address, "(identity)", r.identity(known), n.identity(known))
	for _, f := range []struct{ attribute, r, n string }{
		{"(forces replacement)", replacePaths(r.Replace, hidden), replacePaths(n.Replace, hidden)},
		{"(sensitive before)", markedPaths(r.MarkedBefore, hidden), markedPaths(n.MarkedBefore, hidden)},
		{"(sensitive after)", markedPaths(r.MarkedAfter, hidden), markedPaths(n.MarkedAfter, hidden)},
	} {
		if f.r != f.n {
			c.add(Difference{Address: n.Address, Attribute: f.attribute, Reviewed: known.text(f.r), Now: known.text(f.n)})
		}
	}
	if len(c.differences)+c.more == before {
		c.add(Difference{Address: n.Address, Reviewed: n.Action.phrase(), Now: n.Action.phrase() + detail})
	}
}

// detail stands where two changes are not the same, but look so to people:
// within a long value, or in what is hidden.
const detail = " (in a detail that is not shown)"

// text shows a text unless there is a secret in it.
func (s *secrets) text(text string) string {
	if s.hides(text) {
		return Sensitive{}.String()
	}
	return short(text)
}

// cell returns the change's values with what is hidden in either plan.
func (c *Change) cell(known *secrets, hidden any) cell {
	before, after := decode(c.Before), decode(c.After)
	return cell{annotate(before, nil, known.mark(before, hidden)), annotate(after, decode(c.Unknown), known.mark(after, hidden))}
}

func (c *Change) identity(known *secrets) cell {
	before, after := decode(c.IdentityBefore), decode(c.IdentityAfter)
	return cell{annotate(before, nil, known.mark(before, nil)), annotate(after, nil, known.mark(after, nil))}
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
	secret := func(step any) bool { k, ok := step.(string); return ok && c.secrets().contains(k) }
	if steps := commonSteps(r, n); steps != nil && !slices.ContainsFunc(steps, secret) {
		for _, s := range steps {
			c.values(address, path.with(s), r.at(s), n.at(s))
		}
		return
	}
	c.whole(address, path.String(), r, n)
}

// whole adds a difference between two cells, of which nothing is shown where
// either has something sensitive in it.
func (c *comparer) whole(address, attribute string, r, n cell) {
	if r.equal(n) {
		return
	}
	reviewed, now := r.show(), n.show()
	if r.masked() || n.masked() || c.keyed(r) || c.keyed(n) {
		reviewed, now = mask(r), mask(n)
		if reviewed == now {
			now += ", another one"
		}
	}
	c.add(Difference{Address: address, Attribute: attribute, Reviewed: reviewed, Now: now})
}

// keyed reports whether a key in a cell has a secret in it.
func (c *comparer) keyed(v cell) bool {
	var found func(v any) bool
	found = func(v any) bool {
		switch v := v.(type) {
		case map[string]any:
			for k, child := range v {
				if c.secrets().contains(k) || found(child) {
					return true
				}
			}
		case []any:
			return slices.ContainsFunc(v, found)
		}
		return false
	}
	return found(v.before) || found(v.after)
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

func replacePaths(paths []json.RawMessage, hidden any) string {
	out := make([]string, len(paths))
	for i, raw := range paths {
		out[i] = ParsePath(raw).until(hidden).String()
	}
	return pathList(out)
}

// markedPaths lists what the marks are on.
func markedPaths(raw json.RawMessage, hidden any) string {
	var out []string
	var walk func(path Path, marks any)
	walk = func(path Path, marks any) {
		switch m := marks.(type) {
		case bool:
			if m {
				out = append(out, or(path.until(hidden).String(), "(everything)"))
			}
		case map[string]any:
			for k, child := range m {
				walk(path.with(k), child)
			}
		case []any:
			for i, child := range m {
				walk(path.with(i), child)
			}
		}
	}
	walk(nil, decodeMarks(raw))
	return pathList(out)
}

func pathList(paths []string) string {
	if len(paths) == 0 {
		return "(nothing)"
	}
	slices.Sort(paths)
	return short(strings.Join(slices.Compact(paths), ", "))
}

// until returns the path down to where something is marked as a whole: keys
// below are as sensitive as the values.
func (p Path) until(marked any) Path {
	for i, step := range p {
		if marked == true {
			return p[:i]
		}
		switch s := step.(type) {
		case string:
			marked = key(marked, s)
		case int:
			marked = index(marked, s)
		}
	}
	return p
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

func (c *comparer) output(r, n *Output) {
	address := "output." + n.Name
	before := len(c.differences) + c.more
	if r.Action != n.Action {
		c.add(Difference{Address: address, Reviewed: r.Action.phrase(), Now: n.Action.phrase()})
	}
	if r.Sensitive != n.Sensitive {
		c.add(Difference{Address: address, Attribute: "(sensitive)", Reviewed: fmt.Sprint(r.Sensitive), Now: fmt.Sprint(n.Sensitive)})
	}
	// One side's mark hides the other's value too.
	known, hidden := c.secrets().alsoOf(r, n), any(r.Sensitive || n.Sensitive)
	c.values(address, nil, r.cell(known, hidden), n.cell(known, hidden))
	if len(c.differences)+c.more == before {
		c.add(Difference{Address: address, Reviewed: n.Action.phrase(), Now: n.Action.phrase() + detail})
	}
}

// cell returns the output's values, with what of them is unknown.
func (o *Output) cell(known *secrets, hidden any) cell {
	before, after := decode(o.Before), decode(o.After)
	unknown := decode(o.Unknowns)
	if unknown == nil {
		unknown = o.Unknown
	}
	return cell{annotate(before, nil, known.mark(before, hidden)), annotate(after, unknown, known.mark(after, hidden))}
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
