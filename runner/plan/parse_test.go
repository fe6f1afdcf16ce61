package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// planJSON wraps resource changes in the smallest document that is a plan.
func planJSON(resourceChanges string, more ...string) []byte {
	return []byte(`{"format_version":"1.2","terraform_version":"1.11.4","resource_changes":[` +
		resourceChanges + `]` + strings.Join(append([]string{""}, more...), ",") + `}`)
}

// resource is one entry of resource_changes with the given change.
func resource(address, change string, more ...string) string {
	return fmt.Sprintf(`{"address":%q,"mode":"managed","type":"cloud_server","name":"x",`+
		`"provider_name":"registry.example/acme/cloud"%s,"change":%s}`,
		address, strings.Join(append([]string{""}, more...), ","), change)
}

func mustParse(t testing.TB, data []byte) *Plan {
	t.Helper()
	p, err := Parse(data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return p
}

func TestParseActions(t *testing.T) {
	tests := []struct {
		name, change string
		more         []string
		want         Action // empty: no change at all
		summary      Summary
		address      string
	}{
		{name: "create", change: `{"actions":["create"],"before":null,"after":{"a":1}}`, want: Create, summary: Summary{Add: 1}},
		{name: "update", change: `{"actions":["update"],"before":{"a":1},"after":{"a":2}}`, want: Update, summary: Summary{Change: 1}},
		{name: "delete", change: `{"actions":["delete"],"before":{"a":1},"after":null}`, want: Delete, summary: Summary{Destroy: 1}},
		{name: "delete, create", change: `{"actions":["delete","create"],"before":{"a":1},"after":{"a":2},"replace_paths":[["a"]]}`, want: Replace, summary: Summary{Replace: 1}},
		{name: "create, delete", change: `{"actions":["create","delete"],"before":{"a":1},"after":{"a":2}}`, want: ReplaceCreateFirst, summary: Summary{Replace: 1}},
		{name: "forget", change: `{"actions":["forget"],"before":{"a":1},"after":null}`, want: Forget, summary: Summary{Forget: 1}},
		{name: "forget, create", change: `{"actions":["forget","create"],"before":{"a":1},"after":{"a":2}}`, want: ReplaceForget, summary: Summary{Add: 1, Forget: 1}},
		{name: "create, forget", change: `{"actions":["create","forget"],"before":{"a":1},"after":{"a":2}}`, want: ReplaceForget, summary: Summary{Add: 1, Forget: 1}},
		{name: "no-op", change: `{"actions":["no-op"],"before":{"a":1},"after":{"a":1}}`},
		{name: "no actions", change: `{"actions":[],"before":{"a":1},"after":{"a":1}}`},
		{name: "read", change: `{"actions":["read"],"before":null,"after":{}}`},
		{name: "move", change: `{"actions":["no-op"],"before":{"a":1},"after":{"a":1}}`,
			more: []string{`"previous_address":"cloud_server.old"`}, want: Move, summary: Summary{Move: 1}},
		{name: "move and update", change: `{"actions":["update"],"before":{"a":1},"after":{"a":2}}`,
			more: []string{`"previous_address":"cloud_server.old"`}, want: Update, summary: Summary{Change: 1, Move: 1}},
		{name: "import", change: `{"actions":["no-op"],"before":{"a":1},"after":{"a":1},"importing":{"id":"i-1"}}`, want: Import, summary: Summary{Import: 1}},
		{name: "import by identity", change: `{"actions":["no-op"],"before":{"a":1},"after":{"a":1},"importing":{"identity":{"b":1}}}`, want: Import, summary: Summary{Import: 1}},
		{name: "import and update", change: `{"actions":["update"],"before":{"a":1},"after":{"a":2},"importing":{"id":"i-1"}}`, want: Update, summary: Summary{Change: 1, Import: 1}},
		{name: "deposed", change: `{"actions":["delete"],"before":{"a":1},"after":null}`,
			more: []string{`"deposed":"abcd1234"`}, want: Delete, summary: Summary{Destroy: 1}, address: "cloud_server.x (deposed abcd1234)"},
		{name: "of a later engine", change: `{"actions":["shake","stir"],"before":{"a":1},"after":{"a":1}}`, want: "shake+stir", summary: Summary{Change: 1}},
		{name: "a later engine's word for another thing", change: `{"actions":["move"],"before":{"a":1},"after":{"a":2}}`, want: "engine's move", summary: Summary{Change: 1}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p := mustParse(t, planJSON(resource("cloud_server.x", tc.change, tc.more...)))
			if diff := cmp.Diff(tc.summary, p.Summary()); diff != "" {
				t.Error(diff)
			}
			if tc.want == "" {
				if !p.Empty() {
					t.Errorf("not empty: %+v", p.Changes)
				}
				return
			}
			if p.Empty() || p.Changes[0].Action != tc.want {
				t.Fatalf("changes %+v", p.Changes)
			}
			if tc.address != "" && p.Changes[0].Address != tc.address {
				t.Errorf("address %q", p.Changes[0].Address)
			}
		})
	}
}

func TestParseKeepsWhatAnEngineSays(t *testing.T) {
	p := mustParse(t, []byte(`{
		"format_version": "1.99", "terraform_version": "1.99.0", "novelty": {"a": [1]},
		"resource_changes": [
			{"address": "data.cloud_image.x", "mode": "data", "type": "cloud_image", "change": {"actions": ["read"], "before": null, "after": {}}},
			{"address": "b.b", "mode": "managed", "type": "b", "change": {"actions": ["create"], "before": null,
				"after": {"n": 123456789012345678901234567890.000000001, "l": [null, 1]},
				"after_unknown": {"l": [true, false], "m": {"x": false}, "gone": [false]}, "after_sensitive": {"l": [false, false]},
				"before_identity": {"x": 1}}},
			{"address": "a.a", "mode": "managed", "type": "a", "change": {"actions": ["delete"], "before": {"x": "<&>"}, "after": null}}
		],
		"resource_drift": [
			{"address": "moved.m", "previous_address": "m.m", "mode": "managed", "type": "m", "change": {"actions": ["no-op"], "before": {}, "after": {}}},
			{"address": "a.a", "mode": "managed", "type": "a", "change": {"actions": ["update"], "before": {"x": 1}, "after": {"x": 2}}}
		],
		"relevant_attributes": [{"resource": "a.a", "attribute": ["x", 0, "k.k"]}, {"resource": "a.a", "attribute": []}],
		"deferred_changes": [{"reason": "because", "resource_change": {"whatever": 1}}],
		"action_invocations": [{"address": "action.mail.x", "type": "mail", "provider_name": "p", "config_values": {"to": "me"},
			"lifecycle_action_trigger": {"triggering_resource_address": "b.b", "action_trigger_event": "AfterCreate"}}],
		"checks": [{"status": "novel"}], "complete": false, "applyable": true
	}`))
	want := &Plan{
		Engine: "1.99.0", Incomplete: true,
		Reads:    []string{"data.cloud_image.x"},
		Relevant: []string{"a.a", `a.a.x[0]["k.k"]`},
		Changes: []Change{
			{Address: "a.a", Mode: "managed", Type: "a", Action: Delete, Before: raw(`{"x":"\u003c\u0026\u003e"}`), After: raw(`null`)},
			{Address: "b.b", Mode: "managed", Type: "b", Action: Create, Before: raw(`null`),
				After: raw(`{"l":[null,1],"n":123456789012345678901234567890.000000001}`), Unknown: raw(`{"l":[true,false]}`), IdentityBefore: raw(`{"x":1}`)},
		},
		Drift: []Change{{Address: "a.a", Mode: "managed", Type: "a", Action: Update, Before: raw(`{"x":1}`), After: raw(`{"x":2}`)}},
		Invocations: []Invocation{{Address: "action.mail.x", Type: "mail", Provider: "p", Trigger: "b.b", Event: "AfterCreate",
			Config: raw(`{"to":"me"}`)}},
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	_, after := p.Changes[1].Values()
	if diff := cmp.Diff([]any{Unknown{}, json.Number("1")}, after.(map[string]any)["l"]); diff != "" {
		t.Error(diff)
	}
	sameAfterStoring(t, p)
}

// TestParseIsCanonical holds that what is stored and shown depends neither on
// spellings nor on the order of what has the same address.
func TestParseIsCanonical(t *testing.T) {
	list := []string{
		resource("a.a", `{"actions":["delete"],"before":{"n":%s},"after":null,"after_unknown":{}}`),
		resource("a.a", `{"actions":["delete"],"before":{"n":%s},"after":null,"after_unknown":{"x":true}}`),
		resource("a.a", `{"actions":["delete"],"before":{"n":%s},"after":null,"before_identity":{"n":%s}}`),
	}
	a := strings.ReplaceAll(list[0]+","+list[1]+","+list[2], "%s", "150")
	b := strings.ReplaceAll(list[2]+","+list[1]+","+list[0], "%s", "1.50e2")
	if diff := cmp.Diff(mustParse(t, planJSON(a)), mustParse(t, planJSON(b))); diff != "" {
		t.Error(diff)
	}
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

// sameAfterStoring marshals the plan and reads it back, as an artifact is.
func sameAfterStoring(t *testing.T, p *Plan) {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Plan
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, &back); diff != "" {
		t.Errorf("changed by storing:\n%s", diff)
	}
	if p.Digest([]byte("k")) != back.Digest([]byte("k")) {
		t.Error("storing changed the digest")
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ name, data, want, hint string }{
		{"empty", " \n", "it is empty", "terraform show -json"},
		{"text", "Terraform will perform the following actions", "not a JSON object", "terraform show -json"},
		{"list", "[]", "not a JSON object", ""},
		{"plan file", "PK\x03\x04...", "plan file itself", "terraform show -json FILE"},
		{"utf-16", "\xff\xfe{\x00", "UTF-16", "utf8"},
		{"truncated", `{"format_version":"1.2","resource_changes":[{"addr`, "ends too early, after 50 bytes", "cut off"},
		{"not json", "{\n\"format_version\": \"1.2\",\n oops }", "line 3, byte 29", ""},
		{"trailing", `{"format_version":"1.2","resource_changes":[]}{}`, "after the end", ""},
		{"state", `{"format_version":"1.0","terraform_version":"1.11.4","values":{}}`, "a state, not of a plan", ""},
		{"raw state", `{"version":4,"serial":1,"lineage":"x","resources":[]}`, "a state file", ""},
		{"schemas", `{"format_version":"1.0","provider_schemas":{}}`, "provider schemas", ""},
		{"validate", `{"format_version":"1.0","valid":true,"diagnostics":[]}`, "validate -json", ""},
		{"configuration", `{"resource":{"a":{}}}`, "a configuration", ""},
		{"stream", `{"@level":"info"}` + "\n" + `{"@level":"info"}`, "the log of", ""},
		{"stream of one", `{"@level":"info"}`, "the log of", ""},
		{"other", `{"a":1}`, "no format_version", ""},
		{"version 2", `{"format_version":"2.0","resource_changes":[]}`, `"2.0"`, "update Holdfast"},
		{"version nonsense", `{"format_version":"one","resource_changes":[]}`, `"one"`, ""},
		{"no change", `{"format_version":"1.2","resource_changes":[{"address":"a.a"}]}`, "resource_changes[0] has no change", ""},
		{"null change", `{"format_version":"1.2","resource_changes":[null]}`, "resource_changes[0] has no change", ""},
		{"wrong type", `{"format_version":"1.2","resource_changes":[{"address":7}]}`, "resource_changes.address is a number", ""},
		{"too deep", `{"format_version":"1.2","output_changes":{"a":{"actions":["create"],"after":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}}}`, "max depth", ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.data))
			var pe *ParseError
			if !errors.As(err, &pe) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(pe.Error(), tc.want) || !strings.Contains(pe.Hint(), tc.hint) || pe.Hint() == "" {
				t.Errorf("got %q, hint %q", pe.Error(), pe.Hint())
			}
		})
	}
	for _, version := range []string{"0.1", "0.2", "1.0", "1.7"} {
		mustParse(t, []byte("\xef\xbb\xbf"+`{"format_version":"`+version+`","planned_values":{"root_module":{}},"configuration":{"root_module":{}}}`))
	}
}

func TestSecretsAreMarkedWhereverTheyStand(t *testing.T) {
	p := mustParse(t, planJSON(
		resource("cloud_server.a", `{"actions":["update"],
			"before":{"pw":"x7Kd9qP2","copy":"x7Kd9qP2","url":"https://u:x7Kd9qP2@h","policy":"{\"a\":\"q\\\"1234567\"}","env":"prod"},
			"after":{"pw":"q\"1234567","copy":"q\"1234567","url":"https://h","policy":"","env":"prod","engine":"postgres","list":["postgres db","from-a-variable","from-an-action"]},
			"before_sensitive":{"pw":true},"after_sensitive":{"pw":true}}`)+","+
			resource("cloud_server.b", `{"actions":["no-op"],"before":{"t":"postgres"},"after":{"t":"postgres"},"before_sensitive":{"t":true},"after_sensitive":{"t":true}}`),
		`"output_changes":{"o":{"actions":["create"],"before":null,"after":{"k":["x7Kd9qP2"]},"after_unknown":false,"before_sensitive":false,"after_sensitive":false}}`,
		`"action_invocations":[{"address":"action.mail.x","config_values":{"pw":"from-an-action"},"config_sensitive":{"pw":true}}]`,
		`"variables":{"v":{"value":"from-a-variable"}}`,
		`"configuration":{"root_module":{"variables":{"v":{"sensitive":true}}}}`,
	))
	c := p.Changes[0]
	if got, want := string(c.SensitiveBefore), `{"copy":true,"policy":true,"pw":true,"url":true}`; got != want {
		t.Errorf("before: %s", got)
	}
	if got, want := string(c.SensitiveAfter), `{"copy":true,"engine":true,"list":[false,true,true],"pw":true}`; got != want {
		t.Errorf("after: %s", got)
	}
	if !p.Outputs[0].Sensitive {
		t.Error("the output shows a secret")
	}
	before, after := c.Values()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		if s := fmt.Sprintf(format, []any{before, after}); strings.Contains(s, "x7Kd9qP2") || strings.Contains(s, "1234567") {
			t.Errorf("%s: %s", format, s)
		}
	}
}

func TestPathString(t *testing.T) {
	for _, tc := range []struct {
		path Path
		want string
	}{
		{nil, ""}, {Path{"tags", "env"}, "tags.env"}, {Path{"ingress", 0, "port"}, "ingress[0].port"},
		{Path{"labels", "a.b/c"}, `labels["a.b/c"]`}, {Path{"labels", "a\n\x1b"}, `labels["a\n\x1b"]`}, {Path{"größe"}, "größe"},
	} {
		if got := tc.path.String(); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, tc := range realCases {
		data, err := os.ReadFile("testdata/" + tc.name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(planJSON(resource("a.b", `{"actions":["update"],"before":{"a":[1,"x"]},"after":{"a":[2]},"after_unknown":{"a":[true]},"before_sensitive":true,"replace_paths":[["a",0]]}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			if h, ok := err.(interface{ Hint() string }); !ok || h.Hint() == "" {
				t.Fatalf("no hint: %v", err)
			}
			return
		}
		sameAfterStoring(t, p)
		if v := Compare(p, p); v.Verdict != Identical && !p.Errored || !v.SameResources {
			t.Fatalf("differs from itself: %+v", v)
		}
		p.Summary()
		p.DriftReport(true)
		p.DriftReport(false)
		// Read as a generic document and written again, with other spaces and
		// order, it is the same plan.
		again := reencode(t, data)
		if again == nil {
			return
		}
		q, err := Parse(again)
		if err != nil {
			t.Fatalf("%v\n%s", err, again)
		}
		if p.Digest(nil) != q.Digest(nil) {
			t.Fatalf("digest depends on the encoding\n%s\n%s", data, again)
		}
	})
}

// reencode returns nil where a generic reading loses something (keys that are
// there twice, or that differ in case only).
func reencode(t *testing.T, data []byte) []byte {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(strings.TrimPrefix(string(data), "\xef\xbb\xbf")))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "\t", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if quotes(out) != quotes(data) || ambiguous(v) {
		return nil
	}
	return out
}

func quotes(b []byte) int { return strings.Count(string(b), `":`) + strings.Count(string(b), "null") }

func ambiguous(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		seen := map[string]bool{}
		for k, child := range v {
			folded := strings.ToLower(strings.ToUpper(k))
			if seen[folded] || ambiguous(child) || folded != k {
				return true
			}
			seen[folded] = true
		}
	case []any:
		for _, child := range v {
			if ambiguous(child) {
				return true
			}
		}
	}
	return false
}

func TestMarksOfAnotherShapeHideEverything(t *testing.T) {
	for _, tc := range []struct{ value, marks string }{
		{`"hunter2"`, `{"a":true}`}, {`"hunter2"`, `[true]`}, {`["hunter2"]`, `{"a":true}`}, {`{"a":"hunter2"}`, `[true]`}, {`{"a":"hunter2"}`, `{"a":[false,true]}`},
	} {
		c := Change{Before: raw(tc.value), After: raw(tc.value), SensitiveBefore: raw(tc.marks), SensitiveAfter: raw(tc.marks)}
		if before, after := c.Values(); strings.Contains(fmt.Sprint(before, after), "hunter2") {
			t.Errorf("%s marked %s: %v, %v", tc.value, tc.marks, before, after)
		}
	}
}

func TestUnreadableMarksHideEverything(t *testing.T) {
	c := Change{Before: raw(`{"a":1}`), After: raw(`{"a":1}`), SensitiveAfter: raw(`{"a":`)}
	before, after := c.Values()
	if !strings.Contains(fmt.Sprint(before), "1") || strings.Contains(fmt.Sprint(after), "1") {
		t.Errorf("%v, %v", before, after)
	}
}

// BenchmarkParse reads, digests and compares a plan of 10,000 resources.
func BenchmarkParse(b *testing.B) {
	var changes []string
	for i := range 10_000 {
		changes = append(changes, resource(fmt.Sprintf("cloud_server.x[%d]", i), strings.ReplaceAll(updateChange, "old-secret1", fmt.Sprintf("secret-%d", i))))
	}
	data := planJSON(strings.Join(changes, ","))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		p := mustParse(b, data)
		p.Digest(nil)
		if Compare(p, p).Verdict != Identical {
			b.Fatal("differs from itself")
		}
	}
}
