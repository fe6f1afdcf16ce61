package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Unknown stands in a value's tree for what is known only after the apply.
type Unknown struct{}

// String returns what people see.
func (Unknown) String() string { return "(known after apply)" }

// Sensitive stands in a value's tree for what must not be shown. Two of them
// are == where the hidden values are the same; the value itself cannot be had
// from it.
type Sensitive struct{ canonical string }

// String returns what people see.
func (Sensitive) String() string { return "(sensitive value)" }

// GoString keeps the value out of %#v.
func (Sensitive) GoString() string { return "(sensitive value)" }

// Format keeps the value out of every other verb.
func (s Sensitive) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// Values returns what the resource is before and after the change, as trees of
// nil, bool, json.Number, string, []any and map[string]any, with Sensitive
// and Unknown where the plan says so. A list with an unknown element has it at
// its place.
func (c Change) Values() (before, after any) {
	before = annotate(decode(c.Before), nil, decodeMarks(c.SensitiveBefore))
	after = annotate(decode(c.After), decode(c.Unknown), decodeMarks(c.SensitiveAfter))
	return before, after
}

// decodeMarks reads marks of sensitivity. Where they cannot be read,
// everything is sensitive.
func decodeMarks(raw json.RawMessage) any {
	marks := decode(raw)
	if marks == nil && len(raw) > 0 && string(raw) != "null" {
		return true
	}
	return marks
}

// Values returns the output's value before and after, as Change.Values does.
func (o Output) Values() (before, after any) {
	before, after = decode(o.Before), decode(o.After)
	if o.Sensitive {
		before, after = conceal(before), conceal(after)
	}
	if o.Unknown {
		after = Unknown{}
	}
	return before, after
}

// annotate merges the marks into a copy of the value.
func annotate(value, unknown, sensitive any) any {
	if unknown == true {
		return Unknown{}
	}
	if sensitive == true || misfit(value, sensitive) {
		return conceal(value)
	}
	switch v := value.(type) {
	case map[string]any:
		return annotateMap(v, unknown, sensitive)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = annotate(v[i], index(unknown, i), index(sensitive, i))
		}
		return out
	case nil:
		// A wholly unknown object may be absent from the value.
		if u, ok := unknown.(map[string]any); ok && anyTrue(u) {
			return annotateMap(nil, unknown, sensitive)
		}
		if u, ok := unknown.([]any); ok && anyTrue(u) {
			return Unknown{}
		}
	}
	return value
}

func annotateMap(v map[string]any, unknown, sensitive any) map[string]any {
	out := make(map[string]any, len(v))
	for k, child := range v {
		out[k] = annotate(child, key(unknown, k), key(sensitive, k))
	}
	marks, _ := unknown.(map[string]any)
	for k, mark := range marks {
		if _, there := v[k]; !there && anyTrue(mark) {
			out[k] = annotate(nil, mark, nil)
		}
	}
	return out
}

// misfit reports whether marks of sensitivity have another shape than the
// value, so that nobody knows what of it they mean.
func misfit(value, marked any) bool {
	switch marked.(type) {
	case map[string]any:
		if _, ok := value.(map[string]any); ok {
			return false
		}
	case []any:
		if _, ok := value.([]any); ok {
			return false
		}
	default:
		return false
	}
	return value != nil && anyTrue(marked)
}

// union returns the marks of both trees. Where their shapes differ everything
// is marked.
func union(a, b any) any {
	switch {
	case !anyTrue(a):
		return b
	case !anyTrue(b):
		return a
	}
	switch a := a.(type) {
	case map[string]any:
		if b, ok := b.(map[string]any); ok {
			out := maps.Clone(a)
			for k, mark := range b {
				out[k] = union(a[k], mark)
			}
			return out
		}
	case []any:
		if b, ok := b.([]any); ok {
			out := make([]any, max(len(a), len(b)))
			for i := range out {
				out[i] = union(index(a, i), index(b, i))
			}
			return out
		}
	}
	return true
}

// conceal hides a value. There is nothing to hide in null.
func conceal(v any) any {
	if v == nil {
		return nil
	}
	return Sensitive{canonical: string(encode(v))}
}

// decode reads JSON, with numbers in one spelling; see number. What is no JSON
// is nil.
func decode(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return nil
	}
	return numbers(v)
}

// encode writes canonical JSON of what numbers returned: sorted keys, no
// spaces. Like json.Marshal it escapes <, > and &, so that a value stays the
// same bytes when the plan it is in is marshalled and read back.
func encode(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		// Cannot happen: v is a decoded tree.
		panic(fmt.Sprintf("encode a decoded value: %v", err))
	}
	return raw
}

// present returns canonical JSON; nil for null.
func present(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	return encode(v)
}

// marks returns a tree of true and false in canonical JSON, without what is
// false; nil where nothing is true. Engines differ in how much of the false
// they write.
func marks(v any) json.RawMessage { return present(prune(v)) }

// prune takes what is false out of a tree of marks; what is neither true nor
// false marks too.
func prune(v any) any {
	switch v := v.(type) {
	case bool:
		if v {
			return true
		}
	case string, json.Number:
		return true
	case map[string]any:
		out := map[string]any{}
		for k, child := range v {
			if child = prune(child); child != nil {
				out[k] = child
			}
		}
		if len(out) > 0 {
			return out
		}
	case []any:
		if !anyTrue(v) {
			return nil
		}
		out := make([]any, len(v))
		for i := range v {
			if out[i] = prune(v[i]); out[i] == nil {
				out[i] = false // elements keep their places
			}
		}
		return out
	}
	return nil
}

func anyTrue(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case map[string]any:
		for _, child := range v {
			if anyTrue(child) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, anyTrue)
	}
	return false
}

func key(v any, k string) any {
	if v == true {
		return true
	}
	m, _ := v.(map[string]any)
	return m[k]
}

func index(v any, i int) any {
	if v == true {
		return true
	}
	if l, ok := v.([]any); ok && 0 <= i && i < len(l) {
		return l[i]
	}
	return nil
}

// Equal compares trees of Change.Values.
func Equal(a, b any) bool { return equal(a, b) }

func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			if w, there := b[k]; !there || !equal(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}

var identifier = regexp.MustCompile(`^[\pL_][\pL\pN_-]*$`)

// Path is where in a resource a value stands: strings for attributes and keys,
// ints for elements.
type Path []any

// String returns the path as people write it: tags.env, ingress[0].port,
// labels["a.b/c"].
func (p Path) String() string {
	var b strings.Builder
	for _, step := range p {
		switch s := step.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(s) + "]")
		case string:
			switch {
			case !identifier.MatchString(s):
				b.WriteString("[" + strconv.QuoteToASCII(s) + "]")
			case b.Len() > 0:
				b.WriteString("." + s)
			default:
				b.WriteString(s)
			}
		}
	}
	return b.String()
}

// with returns a new path one step longer.
func (p Path) with(step any) Path { return append(slices.Clone(p), step) }
