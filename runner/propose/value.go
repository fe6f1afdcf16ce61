package propose

import (
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"holdfast/runner/plan"
)

// maxDepth bounds how deep values, references and modules may nest.
const maxDepth = 64

// sound reports whether a value is a tree that the rest can walk. The caller's
// values come from a plan, and a plan from anywhere.
func sound(v any, depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch v := v.(type) {
	case nil, bool, string, plan.Unknown, plan.Sensitive:
		return true
	case json.Number:
		return isNumber(string(v))
	case []any:
		for _, e := range v {
			if !sound(e, depth+1) {
				return false
			}
		}
		return true
	case map[string]any:
		for _, e := range v {
			if !sound(e, depth+1) {
				return false
			}
		}
		return true
	}
	return false
}

// isNumber reports whether s is a JSON number of a size that can be worked
// with. HCL has no other spelling of numbers that we would write.
func isNumber(s string) bool {
	if s == "" || len(s) > 400 || !json.Valid([]byte(s)) {
		return false
	}
	if s[0] != '-' && (s[0] < '0' || s[0] > '9') {
		return false
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		exp, err := strconv.Atoi(s[i+1:])
		return err == nil && -400 <= exp && exp <= 400
	}
	return true
}

// concealed says why a value cannot be written; "" where it can.
func concealed(v any) string {
	switch v := v.(type) {
	case plan.Sensitive:
		return "it is sensitive"
	case plan.Unknown:
		return "it is known only after the apply"
	case string:
		if !writable(v) {
			return "it has characters that cannot be written"
		}
	case []any:
		for _, e := range v {
			if r := concealed(e); r != "" {
				return r
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if r := concealed(v[k]); r != "" {
				return r
			}
		}
	}
	return ""
}

// writable reports whether a string is the same after it has been written.
func writable(s string) bool {
	special := func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r > '~' }
	if !strings.ContainsFunc(s, special) {
		return true
	}
	if !utf8.ValidString(s) {
		return false
	}
	f, problem := parse("", []byte("x = "+quoted(s)+"\n"))
	if problem != "" || f.body.Attributes["x"] == nil {
		return false
	}
	v, ok := literal(f.body.Attributes["x"].Expr)
	return ok && v == any(s)
}

// known reports whether an evaluated value has nothing unknown in it.
func known(v any) bool {
	switch v := v.(type) {
	case plan.Unknown, plan.Sensitive:
		return false
	case set:
		return known([]any(v))
	case []any:
		for _, e := range v {
			if !known(e) {
				return false
			}
		}
	case map[string]any:
		for _, e := range v {
			if !known(e) {
				return false
			}
		}
	}
	return true
}

// empty reports whether v is nothing that a block or a list would have.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// same compares a source value with the plan's. The engine converts between
// primitive types, and it fills in what an object leaves out; so the source
// may say less than the plan does. What is unknown fits anything.
func same(src, v any) bool {
	switch s := src.(type) {
	case plan.Unknown:
		return true
	case set:
		return same([]any(s), v)
	case map[string]any:
		m, ok := v.(map[string]any)
		if !ok {
			return false
		}
		for k, e := range s {
			if w, there := m[k]; !there && e != nil || !same(e, w) {
				return false
			}
		}
		return true
	case []any:
		l, ok := v.([]any)
		return ok && slices.EqualFunc(s, l, same)
	}
	return sameScalar(src, v)
}

// complete is same, but the plan may not have more than the source says,
// besides what is empty.
func complete(src, v any) bool {
	if !same(src, v) {
		return false
	}
	if s, ok := src.(set); ok {
		src = []any(s)
	}
	if s, ok := src.([]any); ok {
		l, _ := v.([]any)
		return slices.EqualFunc(s, l, complete)
	}
	s, ok := src.(map[string]any)
	m, ok2 := v.(map[string]any)
	if !ok || !ok2 {
		return true
	}
	for k, e := range m {
		if sub, there := s[k]; there && !complete(sub, e) || !there && !empty(e) {
			return false
		}
	}
	return true
}

func sameScalar(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	x, ok := scalarText(a)
	y, ok2 := scalarText(b)
	if !ok || !ok2 {
		return false
	}
	if x == y {
		return true
	}
	_, n := a.(json.Number)
	_, m := b.(json.Number)
	return (n || m) && sameNumber(x, y)
}

func sameNumber(x, y string) bool {
	if !isNumber(x) || !isNumber(y) {
		return false
	}
	a, ok := new(big.Rat).SetString(x)
	b, ok2 := new(big.Rat).SetString(y)
	return ok && ok2 && a.Cmp(b) == 0
}

// scalarText returns what the engine makes of a scalar that it needs as a
// string.
func scalarText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return strings.ReplaceAll(v, "\r\n", "\n"), true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return string(v), true
	}
	return "", false
}

// unionKeys returns the keys of both maps, sorted.
func unionKeys(a, b map[string]any) []string {
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// stepText writes a path's step so that 0 and "0" are the same.
func stepText(s any) string {
	switch s := s.(type) {
	case string:
		return s
	case int:
		return strconv.Itoa(s)
	}
	return ""
}

// objects returns the value of nested blocks as a list of objects; not ok
// where it is something else.
func objects(v any) (list []any, ok bool) {
	switch v := v.(type) {
	case nil:
		return nil, true
	case map[string]any:
		return []any{v}, true
	case []any:
		for _, e := range v {
			if _, ok := e.(map[string]any); !ok {
				return nil, false
			}
		}
		return v, true
	}
	return nil, false
}
