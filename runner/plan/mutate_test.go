package plan

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// mutation is a document that differs in one point from another.
type mutation struct {
	what string // where, and how
	doc  object
	loud bool // the digest has to change; otherwise it must not
}

// mutations are all the documents that differ from doc in one point of what an
// apply does, one by one: every field, every leaf of every value and every
// mark. Those of what a plan does not do (reads, no-ops) are not loud.
func mutations(doc object) iter.Seq[mutation] {
	return func(yield func(mutation) bool) {
		if !yield(mutation{"errored", with(doc, "errored", doc["errored"] != true), true}) {
			return
		}
		for _, part := range []struct {
			field    string
			variants func(object) []variant
			counts   func(object) bool
		}{
			{"resource_changes", resourceVariants, counted},
			{"action_invocations", invocationVariants, func(object) bool { return true }},
		} {
			entries := doc[part.field].([]any)
			for i := range entries {
				entry := entries[i].(object)
				loud := part.counts(entry)
				where := fmt.Sprintf("%s[%d]", part.field, i)
				gone := with(doc, part.field, slices.Delete(slices.Clone(entries), i, i+1))
				twice := with(doc, part.field, append(slices.Clone(entries), entry))
				if !yield(mutation{where + " removed", gone, loud}) || !yield(mutation{where + " twice", twice, loud}) {
					return
				}
				for _, v := range part.variants(entry) {
					changed := slices.Clone(entries)
					changed[i] = v.value
					if !yield(mutation{where + v.what, with(doc, part.field, changed), loud || part.counts(v.value.(object))}) {
						return
					}
				}
			}
		}
		outputMutations(doc, yield)
	}
}

func outputMutations(doc object, yield func(mutation) bool) {
	outputs := doc["output_changes"].(object)
	for _, name := range sortedKeys(outputs) {
		out := outputs[name].(object)
		loud, where := outputCounted(out), "output_changes."+name
		renamed := with(without(outputs, name), name+"x", out)
		if !yield(mutation{where + " removed", with(doc, "output_changes", without(outputs, name)), loud}) ||
			!yield(mutation{where + " renamed", with(doc, "output_changes", renamed), loud}) {
			return
		}
		for _, v := range changeVariants(out) {
			if !yield(mutation{where + v.what, with(doc, "output_changes", with(outputs, name, v.value)), loud || outputCounted(v.value.(object))}) {
				return
			}
		}
	}
}

// counted says whether an entry of resource_changes is a change at all.
func counted(rc object) bool {
	ch := rc["change"].(object)
	switch only(ch["actions"]) {
	case "read":
		return false
	case "no-op":
		previous, moved := rc["previous_address"]
		_, imported := ch["importing"]
		return imported || moved && previous != rc["address"]
	}
	return true
}

func outputCounted(out object) bool { return only(out["actions"]) != "no-op" }

func only(actions any) any {
	if l := actions.([]any); len(l) == 1 {
		return l[0]
	}
	return nil
}

// variant is a value that differs in one point from another.
type variant struct {
	what  string
	value any
}

// within puts variants of a field's value into the object.
func inField(m object, field string, of []variant) []variant {
	var out []variant
	for _, v := range of {
		out = append(out, variant{"." + field + v.what, with(m, field, v.value)})
	}
	return out
}

// textVariants are other texts of a field, and the object without it.
func textVariants(m object, field string) []variant {
	text, there := m[field].(string)
	out := []variant{{"." + field + " other", with(m, field, text+"x")}}
	if there {
		out = append(out, variant{"." + field + " removed", without(m, field)})
	}
	return out
}

func resourceVariants(rc object) []variant {
	var out []variant
	for _, field := range []string{"address", "previous_address", "mode", "type", "provider_name", "deposed"} {
		out = append(out, textVariants(rc, field)...)
	}
	ch := rc["change"].(object)
	of := changeVariants(ch)
	of = append(of, importVariants(ch)...)
	for _, field := range []string{"before_identity", "after_identity"} {
		of = append(of, inField(ch, field, valueVariants(ch[field]))...)
	}
	paths, _ := ch["replace_paths"].([]any)
	of = append(of, variant{".replace_paths added", with(ch, "replace_paths", append(slices.Clone(paths), []any{"added"}))})
	for i := range paths {
		where := fmt.Sprintf(".replace_paths[%d]", i)
		of = append(of, variant{where + " removed", with(ch, "replace_paths", slices.Delete(slices.Clone(paths), i, i+1))})
		for _, v := range valueVariants(paths[i]) {
			changed := slices.Clone(paths)
			changed[i] = v.value
			of = append(of, variant{where + v.what, with(ch, "replace_paths", changed)})
		}
	}
	return append(out, inField(rc, "change", of)...)
}

// changeVariants are those of what resources and outputs have in common.
func changeVariants(ch object) []variant {
	var out []variant
	for _, actions := range actionLists {
		if encoded(actions) != encoded(ch["actions"]) {
			out = append(out, variant{fmt.Sprintf(".actions%v", actions), with(ch, "actions", actions)})
		}
	}
	out = append(out, inField(ch, "before", valueVariants(ch["before"]))...)
	out = append(out, inField(ch, "after", valueVariants(ch["after"]))...)
	out = append(out, inField(ch, "after_unknown", markVariants(ch["after_unknown"], ch["after"]))...)
	out = append(out, inField(ch, "before_sensitive", markVariants(ch["before_sensitive"], ch["before"]))...)
	return append(out, inField(ch, "after_sensitive", markVariants(ch["after_sensitive"], ch["after"]))...)
}

func importVariants(ch object) []variant {
	importing, there := ch["importing"].(object)
	if !there {
		return []variant{
			{".importing nothing", with(ch, "importing", object{})}, {".importing an id", with(ch, "importing", object{"id": "x"})},
			{".importing an identity", with(ch, "importing", object{"identity": object{"id": "x"}})},
		}
	}
	of := append(textVariants(importing, "id"), inField(importing, "identity", valueVariants(importing["identity"]))...)
	of = append(of, variant{".unknown", with(importing, "unknown", importing["unknown"] != true)})
	// What people see of another kind of import.
	of = append(of, variant{" unknown as an id", object{"id": Unknown{}.String()}}, variant{" identity as an id", object{"id": encoded(importing["identity"])}})
	return append(inField(ch, "importing", of), variant{".importing removed", without(ch, "importing")})
}

func invocationVariants(a object) []variant {
	var out []variant
	for _, field := range []string{"address", "type", "provider_name"} {
		out = append(out, textVariants(a, field)...)
	}
	out = append(out, inField(a, "config_values", valueVariants(a["config_values"]))...)
	out = append(out, inField(a, "config_unknown", markVariants(a["config_unknown"], a["config_values"]))...)
	out = append(out, inField(a, "config_sensitive", markVariants(a["config_sensitive"], a["config_values"]))...)
	trigger, there := a["lifecycle_action_trigger"].(object)
	if !there {
		return append(out, variant{".lifecycle_action_trigger added", with(a, "lifecycle_action_trigger", object{"action_trigger_event": "AfterCreate"})})
	}
	out = append(out, variant{".lifecycle_action_trigger removed", without(a, "lifecycle_action_trigger")})
	of := append(textVariants(trigger, "triggering_resource_address"), textVariants(trigger, "action_trigger_event")...)
	for _, field := range []string{"action_trigger_block_index", "actions_list_index"} {
		of = append(of, variant{"." + field, with(trigger, field, 7)})
	}
	return append(out, inField(a, "lifecycle_action_trigger", of)...)
}

// valueVariants are all values that differ in one point from v: another
// scalar, another type, a key or an element more or less or elsewhere.
func valueVariants(v any) []variant {
	switch v := v.(type) {
	case string:
		out := []variant{{" other text", v + "x"}, {" null", nil}, {" list", []any{v}}}
		if json.Valid([]byte(v)) && strings.Trim(v, "0123456789") == "" {
			out = append(out, variant{" number", num(v)})
		}
		return append(out, variant{" boolean", v == "true"})
	case json.Number:
		other := v + "0"
		switch {
		case v == "0":
			other = "1"
		case strings.Contains(string(v), "."):
			other = v + "1"
		}
		return []variant{{" other number", other}, {" text", string(v)}, {" null", nil}}
	case bool:
		return []variant{{" other", !v}, {" text", fmt.Sprint(v)}, {" null", nil}}
	case nil:
		return []variant{{" text", "x"}, {" empty text", ""}, {" false", false}, {" zero", num("0")}, {" empty map", object{}}, {" empty list", []any{}}}
	case object:
		out := []variant{{" null", nil}, {" list", []any{}}, {" key added", with(v, "added", nil)}}
		for _, k := range sortedKeys(v) {
			out = append(out, variant{"." + k + " removed", without(v, k)}, variant{"." + k + " renamed", with(without(v, k), k+"x", v[k])})
			out = append(out, inField(v, k, valueVariants(v[k]))...)
		}
		return out
	case []any:
		out := []variant{{" null", nil}, {" map", object{}}, {" element added", append(slices.Clone(v), nil)}}
		for i := range v {
			where := fmt.Sprintf("[%d]", i)
			out = append(out, variant{where + " removed", slices.Delete(slices.Clone(v), i, i+1)})
			if i > 0 && encoded(v[i]) != encoded(v[i-1]) {
				swapped := slices.Clone(v)
				swapped[i], swapped[i-1] = v[i-1], v[i]
				out = append(out, variant{where + " swapped", swapped})
			}
			for _, child := range valueVariants(v[i]) {
				changed := slices.Clone(v)
				changed[i] = child.value
				out = append(out, variant{where + child.what, changed})
			}
		}
		return out
	}
	panic(fmt.Sprintf("a %T in a document", v))
}

// markVariants set or clear the mark at one place of a value.
func markVariants(marks, v any) []variant {
	if marks == true {
		return []variant{{" cleared", false}}
	}
	out := []variant{{" set", true}}
	switch v := v.(type) {
	case object:
		m, _ := marks.(object)
		for _, k := range slices.Compact(slices.Sorted(slices.Values(append(sortedKeys(v), sortedKeys(m)...)))) {
			for _, child := range markVariants(m[k], v[k]) {
				out = append(out, variant{"." + k + child.what, with(m, k, child.value)})
			}
		}
	case []any:
		l, _ := marks.([]any)
		for i := range v {
			full := slices.Clone(l)
			for len(full) < len(v) {
				full = append(full, false)
			}
			for _, child := range markVariants(full[i], v[i]) {
				changed := slices.Clone(full)
				changed[i] = child.value
				out = append(out, variant{fmt.Sprintf("[%d]", i) + child.what, changed})
			}
		}
	}
	return out
}

func encoded(v any) string { return string(write(nil, v)) }
