package plan

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// This file tells whether a change undoes what the refresh found.

// relevantDrift reports whether something drifted that changes depend on, at
// another address than the given one.
func (p *Plan) relevantDrift(but string) bool {
	for _, d := range p.Drift {
		if d.Address == but {
			continue
		}
		for _, r := range p.Relevant {
			if whole, ok := strings.CutPrefix(d.Address, r); ok && strings.HasPrefix(whole, "[") {
				return true // all instances are
			}
			rest, ok := strings.CutPrefix(r, d.Address)
			if !ok {
				continue
			}
			if rest == "" || d.Action == Delete && strings.HasPrefix(rest, ".") {
				return true
			}
			rest, ok = strings.CutPrefix(rest, ".")
			if ok && slices.ContainsFunc(d.changed(), func(path string) bool { return within(path, rest) || within(rest, path) }) {
				return true
			}
		}
	}
	return false
}

// within reports whether path is ancestor itself or below it.
func within(path, ancestor string) bool {
	rest, ok := strings.CutPrefix(path, ancestor)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// explained reports whether the change undoes what d says was changed in the
// cloud, or follows from what was. relevant says that something drifted
// elsewhere which the plan depends on.
func (c Change) explained(d Change, drifts, relevant bool) bool {
	switch {
	case c.imports():
		return false // a block of the configuration asks for it, as for moves and the like
	case c.Action == Create:
		return drifts && d.Action == Delete && c.again(d)
	case !c.updates():
		return false
	}
	return drifts && c.restores(d) || relevant && !(drifts && c.meets(d))
}

// undoes reports whether the change does nothing but put back what the refresh
// found changed. One that follows another resource's drift does not: it would
// spread that drift, but for values that are known only after the apply.
func (c Change) undoes(d Change, drifts, relevant bool) bool {
	switch {
	case c.imports():
		return false
	case c.Action == Create:
		return drifts && d.Action == Delete && c.again(d)
	case !c.updates():
		return false
	}
	return drifts && c.restores(d) || relevant && len(c.deltas()) == 0
}

func (c Change) imports() bool { return c.Import != "" || len(c.Importing) > 0 }

func (c Change) updates() bool {
	return c.Action == Update || c.Action == Replace || c.Action == ReplaceCreateFirst
}

// meets reports whether an attribute that the change would write drifted.
func (c Change) meets(d Change) bool {
	theirs := d.changed()
	return slices.ContainsFunc(c.changed(), func(path string) bool { return covered([]string{path}, theirs) })
}

// restores reports whether everything that the change would write drifted, and
// gets the value that it had before: where Git says something new by now, a
// commit was not applied.
func (c Change) restores(d Change) bool {
	mine, theirs := c.deltas(), d.changed()
	was, _ := d.Values()
	_, after := c.Values()
	for _, m := range mine {
		if !covered([]string{m.path}, theirs) || !alike(lookup(was, m.steps), lookup(after, m.steps)) {
			return false
		}
	}
	return len(mine) > 0
}

// again reports whether the change makes what d lost, and says nothing new.
func (c Change) again(d Change) bool {
	before, _ := d.Values()
	_, after := c.Values()
	was, _ := before.(map[string]any)
	object, _ := after.(map[string]any)
	for k, v := range object {
		if !blank(v) && !alike(was[k], v) {
			return false
		}
	}
	return true
}

// lookup returns what a path leads to; what hides the place stands for it.
func lookup(v any, path Path) any {
	for _, step := range path {
		switch c := v.(type) {
		case map[string]any:
			k, _ := step.(string)
			v = c[k]
		case []any:
			i, ok := step.(int)
			if !ok || i < 0 || i >= len(c) {
				return nil
			}
			v = c[i]
		case Unknown:
			return v
		case Sensitive:
			v = lookup(decode(json.RawMessage(c.canonical)), Path{step})
		default:
			return nil
		}
	}
	return v
}

// alike reports whether a provider may mean the same by both: they tell what
// is not set from what is empty as little as the spelling of JSON, and the
// engine converts between numbers and strings. What is unknown is like
// anything.
func alike(a, b any) bool {
	a, b = open(a), open(b)
	_, unknown := a.(Unknown)
	_, unknown2 := b.(Unknown)
	if unknown || unknown2 || blank(a) && blank(b) || equal(a, b) {
		return true
	}
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		for k := range y {
			if _, there := x[k]; !there && !blank(y[k]) {
				return false
			}
		}
		for k := range x {
			if !ok || !alike(x[k], y[k]) {
				return false
			}
		}
		return ok
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, alike)
	}
	s, ok := scalar(a)
	t, ok2 := scalar(b)
	return ok && ok2 && (s == t || sameDocument(s, t))
}

func open(v any) any {
	if s, ok := v.(Sensitive); ok {
		return decode(json.RawMessage(s.canonical))
	}
	return v
}

// blank reports whether v is how a provider writes that nothing is set.
func blank(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case json.Number:
		return v == "0"
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return string(v), true
	}
	return "", false
}

func sameDocument(a, b string) bool {
	document := func(s string) any {
		if !strings.HasPrefix(strings.TrimSpace(s), "{") && !strings.HasPrefix(strings.TrimSpace(s), "[") || !json.Valid([]byte(s)) {
			return nil
		}
		return decode(json.RawMessage(s))
	}
	x, y := document(a), document(b)
	return x != nil && equal(x, y)
}

// covered reports whether each path is one of the others, above or below one.
func covered(paths, others []string) bool {
	return !slices.ContainsFunc(paths, func(path string) bool {
		return !slices.ContainsFunc(others, func(o string) bool { return within(path, o) || within(o, path) })
	})
}
