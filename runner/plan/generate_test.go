package plan

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// chooser makes the choices of a generated document: from the bytes of a fuzz
// input while there are any, so that the fuzzer steers them, and from random
// numbers that follow from those bytes afterwards.
type chooser struct {
	data []byte
	rest *rand.Rand
}

func newChooser(data []byte) *chooser {
	return &chooser{data: data, rest: newRandom(data, 0)}
}

// newStyle makes choices that are no part of the document.
func newStyle(data []byte, style uint64) *chooser { return &chooser{rest: newRandom(data, 1+style)} }

func newRandom(data []byte, stream uint64) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write(data)
	return rand.New(rand.NewPCG(h.Sum64(), stream))
}

// n returns one of 0 to limit-1; limit is at most 256.
func (c *chooser) n(limit int) int {
	if len(c.data) == 0 {
		return c.rest.IntN(limit)
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b) % limit
}

func (c *chooser) oneIn(n int) bool { return c.n(n) == n-1 }

func pick[T any](c *chooser, list []T) T { return list[c.n(len(list))] }

// object is a JSON object of a document in the making, which is a plan as
// `terraform show -json` prints it. Numbers are json.Number (int
// where only that spelling is allowed), lists []any.
type object = map[string]any

// actionLists are all that engines print, and some that they do not.
var actionLists = [][]any{
	{"create"}, {"update"}, {"delete"}, {"delete", "create"}, {"create", "delete"}, {"forget"},
	{"create", "forget"}, {"forget", "create"}, {"no-op"}, {"read"},
	{"shake", "stir"}, {"shake+stir"}, {"replace"}, {"move"}, {"import"}, {"delete+create"},
}

// genDocument makes a plan with everything that the format has.
func genDocument(c *chooser) object {
	doc := object{"format_version": "1.2", "terraform_version": "1.14.0", "applyable": true, "complete": true, "errored": c.oneIn(16)}
	var changes, drift, invocations []any
	for i := range 1 + c.n(4) {
		changes = append(changes, genResource(c, i))
	}
	if c.oneIn(8) { // the same address twice: no engine does, and no order may matter
		twin := with(changes[0].(object), "change", genChange(c, pick(c, actionLists)))
		changes = append(changes, twin)
	}
	for i := range c.n(2) {
		drift = append(drift, genResource(c, 10+i))
	}
	for i := range c.n(3) {
		invocations = append(invocations, genInvocation(c, i))
	}
	outputs := object{}
	for i := range c.n(3) {
		outputs[fmt.Sprintf("out%d", i)] = genOutput(c)
	}
	doc["resource_changes"], doc["output_changes"] = list(changes), outputs
	doc["resource_drift"], doc["action_invocations"] = list(drift), list(invocations)
	genNoise(c, doc)
	return doc
}

func list(l []any) []any { return append([]any{}, l...) }

func genResource(c *chooser, i int) object {
	address := fmt.Sprintf(`module.m["k%d"].cloud_server.x[%d]`, i, i)
	rc := object{
		"address": address, "module_address": fmt.Sprintf(`module.m["k%d"]`, i), "mode": "managed", "type": "cloud_server", "name": "x",
		"index": num(fmt.Sprint(i)), "provider_name": "registry.example/acme/cloud",
		"change": genChange(c, pick(c, actionLists)),
	}
	if c.oneIn(4) {
		rc["previous_address"] = fmt.Sprintf("cloud_server.old[%d]", i)
	}
	if c.oneIn(5) {
		rc["deposed"] = fmt.Sprintf("%08x", i+1)
	}
	if c.oneIn(6) {
		rc["mode"] = "data"
	}
	if c.oneIn(3) {
		rc["action_reason"] = pick(c, []string{"replace_because_tainted", "replace_by_request", "a_later_reason"})
	}
	return rc
}

func genChange(c *chooser, actions []any) object {
	has := func(word string) bool {
		for _, a := range actions {
			if a == word {
				return true
			}
		}
		return false
	}
	before, after := genObject(c, 2), genObject(c, 2)
	for k, v := range before { // most of a resource stays as it is
		if !c.oneIn(3) {
			after[k] = v
		}
	}
	ch := object{"actions": actions, "before": before, "after": after}
	switch {
	case len(actions) == 1 && has("no-op"):
		ch["after"] = before
	case len(actions) == 1 && (has("create") || has("read")):
		ch["before"] = nil
	case len(actions) == 1 && (has("delete") || has("forget")):
		ch["after"] = nil
	}
	ch["before_sensitive"] = genMarks(c, ch["before"], 5)
	ch["after_sensitive"] = genMarks(c, ch["after"], 5)
	ch["after"], ch["after_unknown"] = genUnknown(c, ch["after"])
	if len(actions) == 2 || c.oneIn(6) {
		ch["replace_paths"] = genPaths(c, after)
	}
	if c.oneIn(5) {
		ch["importing"] = pick(c, []object{{"id": "i-1"}, {"identity": object{"id": "i-1", "n": num("7")}}, {"unknown": true}, {}})
		ch["generated_config"] = "resource {}"
	}
	if c.oneIn(4) {
		ch["before_identity"], ch["after_identity"] = genObject(c, 0), genObject(c, 0)
	}
	return ch
}

func genOutput(c *chooser) object {
	before, after := genValue(c, 2), genValue(c, 2)
	if c.oneIn(2) {
		after = genObject(c, 1)
	}
	out := object{"actions": pick(c, actionLists[:3]), "before": before, "after": after, "before_sensitive": false, "after_sensitive": false}
	if c.oneIn(4) {
		out["before_sensitive"], out["after_sensitive"] = true, true
	}
	if c.oneIn(5) {
		out["after"], out["after_unknown"] = nil, true
	} else {
		out["after"], out["after_unknown"] = genUnknown(c, after)
	}
	return out
}

func genInvocation(c *chooser, i int) object {
	config := genObject(c, 1)
	a := object{
		"address": fmt.Sprintf("action.cloud_mail.m%d", i/2), "type": "cloud_mail", "name": "m", "provider_name": "registry.example/acme/cloud",
		"config_sensitive": genMarks(c, config, 5),
	}
	a["config_values"], a["config_unknown"] = genUnknown(c, config)
	if c.oneIn(3) {
		a["invoke_action_trigger"] = object{}
	} else {
		a["lifecycle_action_trigger"] = object{
			"triggering_resource_address": "cloud_server.x[0]", "action_trigger_event": "AfterCreate",
			"action_trigger_block_index": 0, "actions_list_index": i,
		}
	}
	return a
}

// genNoise adds what the digest must not see.
func genNoise(c *chooser, doc object) {
	doc["prior_state"] = object{"format_version": "1.0", "terraform_version": "1.14.0", "values": genObject(c, 1)}
	doc["planned_values"] = object{"root_module": object{"resources": []any{object{"schema_version": num(fmt.Sprint(c.n(9))), "values": genObject(c, 1)}}}}
	doc["configuration"] = object{
		"provider_config": object{"cloud": object{"version_constraint": fmt.Sprintf("~> %d.0", c.n(9))}},
		"root_module":     object{"variables": object{"v": object{"sensitive": c.oneIn(2)}}},
	}
	doc["variables"] = object{"v": object{"value": pick(c, words)}}
	doc["relevant_attributes"] = []any{object{"resource": "cloud_server.x", "attribute": []any{"tags", num("0"), pick(c, words)}}}
	doc["checks"] = []any{object{"status": pick(c, words)}}
	doc["timestamp"] = fmt.Sprintf("2030-01-01T00:00:%02dZ", c.n(60))
	if c.oneIn(2) {
		doc["deferred_changes"] = []any{object{"reason": pick(c, words), "resource_change": genResource(c, 20)}}
		doc["deferred_action_invocations"] = []any{object{"reason": "unknown"}}
		doc["complete"] = false
	}
	doc["a_later_field"] = genValue(c, 1)
}

// words has values that are copied between places, so that what is a secret in
// one of them stands in the clear in others.
var words = []string{
	"", "a", "prod", "true", "1", "null", "x7Kd9qP2", "https://u:x7Kd9qP2@h/", "postgres", "größe 日本", "<&>\u2028\"\\/\t",
	"i-1", "0123456789012345678901234567890",
}

var keys = []string{"id", "size", "tags", "pw", "ports", "a.b/c", "Size", "x\"y", "größe"}

var decimals = []string{"0", "1", "-1", "10", "1.5", "-0.25", "100000", "12345678901234567890", "0.001", "123456789012345678901234567890.000000001"}

func num(s string) json.Number { return json.Number(s) }

func genValue(c *chooser, depth int) any {
	switch k := c.n(8); {
	case k == 0:
		return nil
	case k == 1:
		return c.oneIn(2)
	case k == 2:
		return num(pick(c, decimals))
	case k < 6 || depth == 0:
		return pick(c, words)
	case k == 6:
		out := []any{}
		for range c.n(4) {
			out = append(out, genValue(c, depth-1))
		}
		return out
	}
	return genObject(c, depth-1)
}

func genObject(c *chooser, depth int) object {
	out := object{}
	for range 1 + c.n(4) {
		out[pick(c, keys)] = genValue(c, depth)
	}
	return out
}

// genMarks marks one in every so many places of a value.
func genMarks(c *chooser, v any, every int) any {
	if c.oneIn(every * 3) {
		return true
	}
	switch v := v.(type) {
	case object:
		out := object{}
		for _, k := range sortedKeys(v) {
			if m := genMarks(c, v[k], every); m != false || c.oneIn(4) {
				out[k] = m
			}
		}
		return out
	case []any:
		out := []any{}
		for _, child := range v {
			out = append(out, genMarks(c, child, every))
		}
		return out
	}
	return c.oneIn(every)
}

// genUnknown takes values away as the engine does: keys go, elements become
// null. It returns the rest, and the tree of what is unknown.
func genUnknown(c *chooser, v any) (rest, unknown any) {
	switch v := v.(type) {
	case object:
		out, marks := object{}, object{}
		for _, k := range sortedKeys(v) {
			if c.oneIn(6) {
				marks[k] = true
				continue
			}
			child, mark := genUnknown(c, v[k])
			out[k] = child
			if mark != false {
				marks[k] = mark
			}
		}
		return out, marks
	case []any:
		out, marks := []any{}, []any{}
		for _, child := range v {
			if c.oneIn(6) {
				out, marks = append(out, nil), append(marks, true)
				continue
			}
			child, mark := genUnknown(c, child)
			out, marks = append(out, child), append(marks, mark)
		}
		return out, marks
	}
	return v, false
}

// genPaths returns paths that force a replacement.
func genPaths(c *chooser, v object) []any {
	var out []any
	for _, k := range sortedKeys(v) {
		if c.oneIn(2) {
			path := []any{k}
			if l, ok := v[k].([]any); ok && len(l) > 0 {
				path = append(path, num(fmt.Sprint(c.n(len(l)))))
			}
			out = append(out, path)
		}
	}
	return list(out)
}

func sortedKeys(m object) []string { return slices.Sorted(maps.Keys(m)) }

// with returns a copy of the object with another value for the key.
func with(m object, key string, v any) object {
	out := object{}
	for k, old := range m {
		out[k] = old
	}
	out[key] = v
	return out
}

// without returns a copy of the object without the key.
func without(m object, key string) object {
	out := with(m, key, nil)
	delete(out, key)
	return out
}

// writer writes a document with the liberties that JSON leaves: order of keys,
// white space, escapes, spellings of a number. A nil chooser takes none.
type writer struct {
	strings.Builder
	c *chooser
}

func write(c *chooser, doc any) []byte {
	w := &writer{c: c}
	w.value(doc)
	return []byte(w.String())
}

func (w *writer) space() {
	if w.c != nil && w.c.oneIn(6) {
		w.WriteString(pick(w.c, []string{" ", "\n", "\t", "\r\n  "}))
	}
}

func (w *writer) value(v any) {
	w.space()
	switch v := v.(type) {
	case object:
		keys := sortedKeys(v)
		if w.c != nil {
			for i := len(keys) - 1; i > 0; i-- {
				j := w.c.n(i + 1)
				keys[i], keys[j] = keys[j], keys[i]
			}
		}
		for i, k := range keys {
			w.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
			w.space()
			w.text(k)
			w.space()
			w.WriteString(":")
			w.value(v[k])
		}
		if len(keys) == 0 {
			w.WriteString("{")
		}
		w.WriteString("}")
	case []any:
		w.WriteString("[")
		for i, child := range v {
			if i > 0 {
				w.WriteString(",")
			}
			w.value(child)
		}
		w.WriteString("]")
	case json.Number:
		w.number(string(v))
	case string:
		w.text(v)
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		w.Write(raw)
	}
	w.space()
}

func (w *writer) text(s string) {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	if w.c != nil && w.c.oneIn(6) {
		var out strings.Builder
		for _, r := range s {
			if r > 0xffff {
				out.WriteRune(r)
				continue
			}
			fmt.Fprintf(&out, `\u%04x`, r)
		}
		raw = []byte(`"` + out.String() + `"`)
	}
	w.Write(raw)
}

// number spells a plain decimal number in one of many ways.
func (w *writer) number(s string) {
	if w.c == nil || !w.c.oneIn(2) || strings.ContainsAny(s, "eE") {
		w.WriteString(s)
		return
	}
	whole, fraction, _ := strings.Cut(s, ".")
	switch w.c.n(4) {
	case 0: // 1.50
		w.WriteString(whole + "." + fraction + strings.Repeat("0", 1+w.c.n(30)))
	case 1: // 1.5E+00
		w.WriteString(s + pick(w.c, []string{"e0", "E+00", "e-0"}))
	case 2: // 15e-1, where that is JSON: no zeros in front
		sign, digits := "", whole
		if strings.HasPrefix(digits, "-") {
			sign, digits = "-", digits[1:]
		}
		if digits = strings.TrimLeft(digits+fraction, "0"); digits == "" {
			digits = "0"
		}
		fmt.Fprintf(w, "%s%se-%d", sign, digits, len(fraction))
	case 3: // 0.15e1
		sign, digits := "", whole
		if strings.HasPrefix(digits, "-") {
			sign, digits = "-", digits[1:]
		}
		fmt.Fprintf(w, "%s0.%s%se%d", sign, digits, fraction, len(digits))
	}
}
