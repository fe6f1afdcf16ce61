package plan

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"
)

var testKey = []byte("0123456789abcdef0123456789abcdef")

// mutationSeeds is few: each is some thousand documents.
const mutationSeeds = 16

// seeds gives a fuzz target, and so plain `go test`, its first documents.
func seeds(n int) [][]byte {
	out := [][]byte{nil, []byte("\x00"), []byte(strings.Repeat("\x00", 200)), []byte(strings.Repeat("\xff", 200)), []byte(strings.Repeat("\x05\x06", 300))}
	random := newStyle(nil, 0)
	for i := len(out); i < n; i++ {
		seed := make([]byte, 1+i%40)
		for j := range seed {
			seed[j] = byte(random.n(256))
		}
		out = append(out, seed)
	}
	return out
}

// FuzzDigestIgnoresTheRest holds that the digest has no part in how a plan is
// written, and in what is there for people or of another version.
func FuzzDigestIgnoresTheRest(f *testing.F) {
	for i, seed := range seeds(200) {
		f.Add(seed, uint64(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, style uint64) {
		doc := genDocument(newChooser(data))
		c := newStyle(data, style)
		other := cosmetic(c, doc)
		a, b := mustParse(t, write(nil, doc)), mustParse(t, write(c, other))
		if a.Digest(testKey) != b.Digest(testKey) {
			t.Fatalf("another digest:\n%s\n%s", write(nil, doc), write(nil, other))
		}
		agree(t, a, b)
		sameAfterStoring(t, a)
		sameAfterStoring(t, b)
	})
}

// cosmetic returns the same change as another engine, another provider version
// or another day would write it.
func cosmetic(c *chooser, doc object) object {
	out := maps.Clone(doc)
	genNoise(c, out)
	out["format_version"] = pick(c, []string{"0.2", "1.0", "1.1", "1.2", "1.3", "1.99"})
	out["terraform_version"] = fmt.Sprintf("1.%d.%d", c.n(20), c.n(9))
	out["applyable"] = c.oneIn(2)
	if c.oneIn(3) {
		delete(out, "applyable")
		delete(out, "complete")
	}
	out["resource_drift"] = []any{genResource(c, 30)}
	var entries []any
	for _, rc := range doc["resource_changes"].([]any) {
		entries = append(entries, cosmeticResource(c, rc.(object)))
	}
	for i := range c.n(2) { // what is no change
		entries = append(entries, without(with(genResource(c, 40+i), "change", genChange(c, []any{"read"})), "previous_address"))
		same := without(genChange(c, []any{"no-op"}), "importing")
		entries = append(entries, without(with(genResource(c, 50+i), "change", same), "previous_address"))
	}
	out["resource_changes"] = shuffled(c, entries)
	out["action_invocations"] = shuffled(c, doc["action_invocations"].([]any))
	outputs := object{}
	for name, o := range doc["output_changes"].(object) {
		outputs[name] = cosmeticChange(c, o.(object))
	}
	outputs["unchanged"] = with(genOutput(c), "actions", []any{"no-op"})
	out["output_changes"] = outputs
	return out
}

func cosmeticResource(c *chooser, rc object) object {
	rc = with(rc, "change", cosmeticChange(c, rc["change"].(object)))
	rc = with(rc, "action_reason", pick(c, []string{"", "replace_because_tainted", "replace_by_triggers", "a_later_reason"}))
	rc = with(rc, "index_unknown", false)
	if c.oneIn(3) { // the address says it already
		rc = without(without(without(rc, "name"), "index"), "module_address")
	}
	if _, moved := rc["previous_address"]; !moved && c.oneIn(3) {
		rc = with(rc, "previous_address", rc["address"])
	}
	return with(rc, "a_later_field", genValue(c, 1))
}

func cosmeticChange(c *chooser, ch object) object {
	ch = with(ch, "generated_config", pick(c, words))
	for _, field := range []string{"after_unknown", "before_sensitive", "after_sensitive"} {
		ch = with(ch, field, cosmeticMarks(c, ch[field]))
	}
	if paths, ok := ch["replace_paths"].([]any); ok {
		ch = with(ch, "replace_paths", shuffled(c, paths))
	}
	for _, field := range []string{"before", "after", "before_identity", "after_identity", "replace_paths"} {
		if v, there := ch[field]; there && (v == nil || field == "replace_paths" && len(v.([]any)) == 0) && c.oneIn(2) {
			ch = without(ch, field)
		}
	}
	return ch
}

// cosmeticMarks writes more or less of what is not marked.
func cosmeticMarks(c *chooser, marks any) any {
	switch m := marks.(type) {
	case object:
		out := object{}
		for _, k := range sortedKeys(m) {
			if child := cosmeticMarks(c, m[k]); child != false || c.oneIn(2) {
				out[k] = child
			}
		}
		out["unmarked"] = pick(c, []any{false, object{}, []any{false}, nil})
		return out
	case []any:
		out := []any{}
		for _, child := range m {
			out = append(out, cosmeticMarks(c, child))
		}
		return out
	case bool:
		if !m {
			return pick(c, []any{false, nil, object{}, object{"a": false}})
		}
	}
	return marks
}

func shuffled(c *chooser, l []any) []any {
	out := list(l)
	for i := len(out) - 1; i > 0; i-- {
		j := c.n(i + 1)
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// agree holds that the comparison says the same as the digest.
func agree(t *testing.T, a, b *Plan) {
	t.Helper()
	agrees(t, a, b, a.Digest(testKey) == b.Digest(testKey))
}

func agrees(t *testing.T, a, b *Plan, same bool) {
	t.Helper()
	cmp := Compare(a, b)
	if want := same && !a.Errored && !b.Errored; (cmp.Verdict == Identical) != want {
		t.Fatalf("same digest: %v, comparison: %+v", same, cmp)
	}
	if (cmp.Verdict == Identical) != (len(cmp.Differences) == 0) {
		t.Fatalf("%s, with differences %+v", cmp.Verdict, cmp.Differences)
	}
	if same && !cmp.SameResources {
		t.Fatalf("one digest, and other resources: %+v", cmp)
	}
}

// FuzzDigestSeesEveryMutation makes every change of one point that a document
// allows, and holds that the digest sees those that an apply would.
func FuzzDigestSeesEveryMutation(f *testing.F) {
	for _, seed := range seeds(mutationSeeds) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc := genDocument(newChooser(data))
		for _, noise := range []string{"resource_drift", "prior_state", "planned_values", "deferred_changes", "relevant_attributes"} {
			delete(doc, noise) // reading it a thousand times takes most of the time
		}
		base := mustParse(t, write(nil, doc))
		was := base.Digest(testKey)
		for m := range mutations(doc) {
			now := mustParse(t, write(nil, m.doc))
			if (now.Digest(testKey) != was) != m.loud {
				t.Fatalf("%s: digest changed: %v\n%s\n%s", m.what, !m.loud, write(nil, doc), write(nil, m.doc))
			}
			agrees(t, base, now, !m.loud)
			agrees(t, now, base, !m.loud)
		}
	})
}

// TestEveryMutationOccurs holds that the documents above have what the promise
// names: a generator that makes no outputs shows nothing of outputs.
func TestEveryMutationOccurs(t *testing.T) {
	seen := map[string]int{}
	digits := regexp.MustCompile(`\[\d+\]`)
	names := regexp.MustCompile(`\.(` + strings.Join(keys, "|") + `)\b`)
	for _, seed := range seeds(mutationSeeds) {
		for m := range mutations(genDocument(newChooser(seed))) {
			if m.loud {
				seen[names.ReplaceAllString(digits.ReplaceAllString(m.what, "[]"), ".K")]++
			}
		}
	}
	for _, want := range []string{
		"errored", "resource_changes[] removed", "resource_changes[] twice", "resource_changes[].address other", "resource_changes[].previous_address other",
		"resource_changes[].previous_address removed", "resource_changes[].mode other", "resource_changes[].type other",
		"resource_changes[].provider_name other", "resource_changes[].deposed other", "resource_changes[].deposed removed",
		"resource_changes[].change.actions[delete create]", "resource_changes[].change.actions[read]", "resource_changes[].change.actions[no-op]",
		"resource_changes[].change.before.K[] swapped", "resource_changes[].change.before.K.K other text",
		"resource_changes[].change.after.K[] removed", "resource_changes[].change.after.K number", "resource_changes[].change.after.K removed",
		"resource_changes[].change.after.K other number", "resource_changes[].change.after null",
		"resource_changes[].change.after_unknown.K set", "resource_changes[].change.after_unknown.K cleared", "resource_changes[].change.after_unknown set",
		"resource_changes[].change.before_sensitive.K set", "resource_changes[].change.after_sensitive.K cleared",
		"resource_changes[].change.after_sensitive cleared", "resource_changes[].change.after_sensitive.K[] set",
		"resource_changes[].change.replace_paths added", "resource_changes[].change.replace_paths[] removed",
		"resource_changes[].change.replace_paths[][] other number", "resource_changes[].change.replace_paths[][] other text",
		"resource_changes[].change.importing removed", "resource_changes[].change.importing.K other", "resource_changes[].change.importing.unknown",
		"resource_changes[].change.importing.identity.n other number", "resource_changes[].change.before_identity.K other text",
		"output_changes.out0 removed", "output_changes.out0 renamed", "output_changes.out0.actions[delete]", "output_changes.out0.after other text",
		"output_changes.out0.after_unknown set", "output_changes.out0.after_unknown cleared", "output_changes.out0.after_unknown.K set",
		"output_changes.out0.before_sensitive cleared", "output_changes.out0.after_sensitive set",
		"action_invocations[] removed", "action_invocations[].config_values.K other text", "action_invocations[].config_unknown.K cleared",
		"action_invocations[].config_sensitive.K set", "action_invocations[].lifecycle_action_trigger.actions_list_index",
		"action_invocations[].lifecycle_action_trigger.action_trigger_event other",
	} {
		if seen[want] == 0 {
			t.Errorf("no document has: %s", want)
		}
	}
}

// TestEveryFieldIsDecidedOn fails when terraform-json learns of a field, so
// that somebody decides whether the digest covers it.
func TestEveryFieldIsDecidedOn(t *testing.T) {
	for _, tc := range []struct {
		part                any
		covered, notCovered []string
	}{
		{tfjson.ResourceChange{}, []string{"Address", "PreviousAddress", "Mode", "Type", "ProviderName", "DeposedKey", "Change"},
			[]string{"ModuleAddress", "Name", "Index", "ActionReason"}},
		{tfjson.Change{}, []string{"Actions", "Before", "After", "AfterUnknown", "BeforeSensitive", "AfterSensitive", "Importing", "ReplacePaths", "BeforeIdentity", "AfterIdentity"},
			[]string{"GeneratedConfig"}},
		{tfjson.Importing{}, []string{"ID", "Unknown", "Identity"}, nil},
		{tfjson.ActionInvocation{}, []string{"Address", "Type", "ConfigValues", "ConfigSensitive", "ConfigUnknown", "ProviderName", "LifecycleActionTrigger"},
			[]string{"Name", "InvokeActionTrigger"}},
		{tfjson.LifecycleActionTrigger{}, []string{"TriggeringResourceAddress", "ActionTriggerEvent", "ActionTriggerBlockIndex", "ActionsListIndex"}, nil},
		{tfjson.InvokeActionTrigger{}, nil, nil},
	} {
		var fields []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(tc.part)) {
			fields = append(fields, f.Name)
		}
		if known := append(tc.covered, tc.notCovered...); !slices.Equal(slices.Sorted(slices.Values(known)), slices.Sorted(slices.Values(fields))) {
			t.Errorf("%T has %v, decided on are %v", tc.part, fields, known)
		}
	}
}

// FuzzDigestIsKeyed holds that a digest depends on the whole key and is only
// that: a hash, of one length.
func FuzzDigestIsKeyed(f *testing.F) {
	f.Add([]byte(nil), []byte("a"), []byte("b"))
	f.Add([]byte("x"), testKey, testKey[1:])
	f.Add([]byte("y"), append(slices.Clone(testKey), 'x'), testKey)
	f.Fuzz(func(t *testing.T, data, a, b []byte) {
		p := mustParse(t, write(nil, genDocument(newChooser(data))))
		if got := p.Digest(a); got != p.Digest(a) || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(got) {
			t.Fatalf("digest %q", got)
		}
		if sameHMACKey(a, b) {
			return
		}
		if p.Digest(a) == p.Digest(b) || p.Digest(a) == (&Plan{}).Digest(b) {
			t.Fatalf("one digest under %x and %x", a, b)
		}
	})
}

// sameHMACKey: HMAC fills a short key up with zeros and hashes a long one, so
// that these are the same key to it.
func sameHMACKey(a, b []byte) bool {
	if len(a) > 64 || len(b) > 64 {
		return true
	}
	return string(a)+strings.Repeat("\x00", 64-len(a)) == string(b)+strings.Repeat("\x00", 64-len(b))
}
