package plan

import (
	"encoding/json"
	"strings"
	"unicode"

	tfjson "github.com/hashicorp/terraform-json"
)

// secrets are the values that a plan marks as sensitive somewhere. Engines
// lose that mark where a provider copies a value: the output of a
// terraform_data has its input's secret in the clear. So a string that is a
// known secret, or contains one that nobody writes by chance, is marked
// wherever it stands.
type secrets struct {
	whole map[string]bool
	parts *strings.Replacer // nil where there are none
	exact map[string]bool   // of one comparison: see alsoOf
}

const (
	// minWhole is the shortest secret that is looked for as a whole string:
	// below it, what is hidden would be "prod" and "true" everywhere.
	minWhole = 6
	// minExact is the shortest text or number, in bytes, that is looked for
	// next to where it is a secret.
	minExact = 4
	// minPart is the shortest secret that is looked for within strings.
	minPart = 8
	// maxSecrets bounds the work that a hostile plan can ask for.
	maxSecrets = 10_000
)

func (doc *document) secrets() *secrets {
	s := &secrets{whole: map[string]bool{}}
	for _, list := range [][]*tfjson.ResourceChange{doc.ResourceChanges, doc.ResourceDrift} {
		for _, rc := range list {
			if rc != nil {
				s.addChange(rc.Change)
			}
		}
	}
	for _, c := range doc.OutputChanges {
		s.addChange(c)
	}
	for _, a := range doc.ActionInvocations {
		if a != nil {
			s.add(a.ConfigValues, a.ConfigSensitive)
		}
	}
	// Only this much of the configuration is read, and a format that differs
	// hides nothing less than the engine itself does.
	var config struct {
		Root struct {
			Variables map[string]struct {
				Sensitive bool `json:"sensitive"`
			} `json:"variables"`
		} `json:"root_module"`
	}
	if json.Unmarshal(doc.Configuration, &config) == nil {
		for name, v := range config.Root.Variables {
			if value := doc.Variables[name]; v.Sensitive && value != nil {
				s.add(value.Value, true)
			}
		}
	}
	s.build()
	return s
}

func (s *secrets) addChange(c *tfjson.Change) {
	if c != nil {
		s.add(c.Before, c.BeforeSensitive)
		s.add(c.After, c.AfterSensitive)
	}
}

func (s *secrets) add(value, marked any) {
	switch v := value.(type) {
	case string:
		if marked == true && len(v) >= minWhole && len(s.whole) < maxSecrets {
			s.whole[v] = true
		}
	case map[string]any:
		for k, child := range v {
			s.add(child, key(marked, k))
		}
	case []any:
		for i, child := range v {
			s.add(child, index(marked, i))
		}
	}
}

// secretsOf finds again what is marked in plans that were read before. Those
// of resources without a change are not in a Plan any more.
func secretsOf(plans ...*Plan) *secrets {
	s := &secrets{whole: map[string]bool{}}
	for _, p := range plans {
		for _, c := range p.Changes {
			c.marked(s.add)
		}
		for _, o := range p.Outputs {
			o.marked(s.add)
		}
		for _, i := range p.Invocations {
			if i.Marked != nil {
				s.add(decode(i.Config), decodeMarks(i.Marked))
			}
		}
	}
	s.build()
	return s
}

// marked visits the change's values that have marks of sensitivity.
func (c Change) marked(visit func(value, marked any)) {
	if c.SensitiveBefore != nil {
		visit(decode(c.Before), decodeMarks(c.SensitiveBefore))
	}
	if c.SensitiveAfter != nil {
		visit(decode(c.After), decodeMarks(c.SensitiveAfter))
	}
}

func (o Output) marked(visit func(value, marked any)) {
	if o.Sensitive {
		visit(decode(o.Before), true)
		visit(decode(o.After), true)
	}
}

// alsoOf returns s for comparing two things: a value that is marked in one of
// them is hidden wherever it stands in both. So an element that lost its mark
// and has another place is not shown.
func (s *secrets) alsoOf(both ...interface{ marked(func(value, marked any)) }) *secrets {
	out := &secrets{whole: s.whole, parts: s.parts, exact: map[string]bool{}}
	for _, one := range both {
		one.marked(out.addExact)
	}
	return out
}

func (s *secrets) addExact(value, marked any) {
	switch v := value.(type) {
	case string, json.Number:
		if marked == true && len(s.exact) < maxSecrets {
			s.exact[exactly(v)] = true
		}
	case map[string]any:
		for k, child := range v {
			s.addExact(child, key(marked, k))
		}
	case []any:
		for i, child := range v {
			s.addExact(child, index(marked, i))
		}
	}
}

// exactly is the text of a scalar; a number and a text of its digits are one.
func exactly(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// hides reports whether a text is or contains a secret.
func (s *secrets) hides(text string) bool {
	return s.whole[text] || len(text) >= minExact && s.exact[text] || s.contains(text)
}

func (s *secrets) contains(text string) bool {
	return s.parts != nil && s.parts.Replace(text) != text
}

// build prepares the search for secrets within strings, also as they look in
// a JSON string. A Replacer is a trie: it takes the same time for one secret
// and for thousands.
func (s *secrets) build() {
	var pairs []string
	for secret := range s.whole {
		if !unguessable(secret) {
			continue
		}
		pairs = append(pairs, secret, "")
		quoted := string(encode(secret))
		if quoted = quoted[1 : len(quoted)-1]; quoted != secret {
			pairs = append(pairs, quoted, "")
		}
	}
	if len(pairs) > 0 {
		s.parts = strings.NewReplacer(pairs...)
	}
}

// unguessable tells secrets such as "x7Kd9qP2" from words such as "postgres",
// which stand in other strings for reasons of their own.
func unguessable(s string) bool {
	if len(s) >= 20 {
		return true
	}
	return len(s) >= minPart && strings.ContainsFunc(s, unicode.IsDigit) && strings.ContainsFunc(s, unicode.IsLetter)
}

// mark returns the marks of value with what is a secret added. The marks that
// are passed in are not changed.
func (s *secrets) mark(value, marked any) any {
	if len(s.whole)+len(s.exact) == 0 || marked == true {
		return marked
	}
	if misfit(value, marked) {
		return true
	}
	switch v := value.(type) {
	case string:
		if s.hides(v) {
			return true
		}
	case json.Number:
		if len(v) >= minExact && s.exact[v.String()] {
			return true
		}
	case map[string]any:
		out := map[string]any{}
		for k, child := range v {
			out[k] = s.mark(child, key(marked, k))
		}
		// Marks of what is not in the value are kept: a later apply fills it.
		if m, ok := marked.(map[string]any); ok {
			for k, mark := range m {
				if _, there := v[k]; !there {
					out[k] = mark
				}
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, child := range v {
			out[i] = s.mark(child, index(marked, i))
		}
		return out
	}
	return marked
}
