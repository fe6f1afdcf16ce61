package plan

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const updateChange = `{"actions":["update"],"before":{"size":"s","tags":{"env":"a"},"ports":[1,2],"pw":"old-secret1"},` +
	`"after":{"size":"m","tags":{"env":"b"},"ports":[1,2],"pw":"old-secret1"},"after_unknown":{"ip":true},` +
	`"before_sensitive":{"pw":true},"after_sensitive":{"pw":true}}`

func TestDigestSeesEveryChange(t *testing.T) {
	base := string(planJSON(resource("cloud_server.x", updateChange)+","+
		resource("cloud_server.y", `{"actions":["delete","create"],"before":{"a":1},"after":{"a":2},"replace_paths":[["a"]]}`),
		`"output_changes":{"o":{"actions":["create"],"before":null,"after":"later-v","after_unknown":false}}`))
	changes := []struct{ name, from, to string }{
		{"address", `cloud_server.x`, `cloud_server.z`},
		{"type", `"type":"cloud_server"`, `"type":"cloud_disk"`},
		{"mode", `"mode":"managed"`, `"mode":"data"`},
		{"provider", `acme/cloud`, `acme/clod`},
		{"action", `["update"]`, `["forget"]`},
		{"order of a replacement", `["delete","create"]`, `["create","delete"]`},
		{"before", `"size":"s"`, `"size":"xs"`},
		{"after", `"size":"m"`, `"size":"l"`},
		{"nested", `"env":"b"`, `"env":"c"`},
		{"order of a list", `"ports":[1,2],"pw"`, `"ports":[2,1],"pw"`},
		{"sensitive", `"pw":"old-secret1"},"after_unknown"`, `"pw":"new-secret1"},"after_unknown"`},
		{"unknown", `{"ip":true}`, `{"ip":true,"dns":true}`},
		{"replace path", `[["a"]]`, `[["b"]]`},
		{"output value", `"after":"later-v"`, `"after":"w"`},
		{"output name", `"o":{`, `"p":{`},
		{"output unknown", `"after":"later-v","after_unknown":false`, `"after_unknown":true`},
		{"string for number", `"before":{"a":1}`, `"before":{"a":"1"}`},
		{"moved", `"provider_name"`, `"previous_address":"q.q","provider_name"`},
		{"imported", `"after_unknown":{"ip":true}`, `"after_unknown":{"ip":true},"importing":{"id":"i"}`},
		{"failed", `"format_version"`, `"errored":true,"format_version"`},
		{"mark of sensitivity", `"after_sensitive":{"pw":true}`, `"after_sensitive":{"pw":true,"size":true}`},
		{"no mark any more", `"before_sensitive":{"pw":true}`, `"before_sensitive":{}`},
		{"identity", `"after_unknown":{"ip":true}`, `"after_unknown":{"ip":true},"before_identity":{"id":"i"}`},
		{"deposed", `"provider_name"`, `"deposed":"abcd1234","provider_name"`},
		{"a later action", `["delete","create"]`, `["replace"]`},
		{"part of an output unknown", `"after_unknown":false`, `"after_unknown":{"a":true}`},
		{"sensitive output", `"after_unknown":false`, `"after_unknown":false,"after_sensitive":true`},
		{"null for absent", `"before":{"a":1}`, `"before":{"a":1,"b":null}`},
	}
	key := []byte("key")
	was := mustParse(t, []byte(base))
	for _, tc := range changes {
		t.Run(tc.name, func(t *testing.T) {
			now := mustParse(t, []byte(strings.Replace(base, tc.from, tc.to, 1)))
			if was.Digest(key) == now.Digest(key) {
				t.Error("same digest")
			}
			cmp := Compare(was, now)
			if cmp.Verdict != Changed || len(cmp.Differences) == 0 {
				t.Errorf("comparison: %+v", cmp)
			}
		})
	}
	for _, tc := range []struct{ name, from, to string }{
		{"reason", `"provider_name"`, `"action_reason":"replace_by_request","provider_name"`},
		{"format version", `"1.2"`, `"1.0"`},
		{"engine", `"1.11.4"`, `"1.12.0"`},
		{"spelling of a number", `"before":{"a":1}`, `"before":{"a":10.0e-1}`},
		{"a copy of a secret", `"format_version"`, `"variables":{"v":{"value":"later-v"}},"configuration":{"root_module":{"variables":{"v":{"sensitive":true}}}},"format_version"`},
		{"complete", `"format_version"`, `"complete":false,"deferred_changes":[{"reason":"unknown"}],"format_version"`},
		{"false marks", `{"ip":true}`, `{"ip":true,"ports":[false,false],"tags":{}}`},
		{"no-op", `"resource_changes":[`, `"resource_changes":[` + resource("n.n", `{"actions":["no-op"],"before":{},"after":{}}`) + `,`},
		{"read", `"resource_changes":[`, `"resource_changes":[` + resource("n.n", `{"actions":["read"],"before":null,"after":{}}`) + `,`},
		{"drift", `"format_version"`, `"resource_drift":[` + resource("n.n", updateChange) + `],"format_version"`},
	} {
		t.Run("not "+tc.name, func(t *testing.T) {
			changed := strings.Replace(base, tc.from, tc.to, 1)
			if changed == base {
				t.Fatal("nothing was replaced")
			}
			now := mustParse(t, []byte(changed))
			if was.Digest(key) != now.Digest(key) {
				t.Error("another digest")
			}
			if cmp := Compare(was, now); cmp.Verdict != Identical {
				t.Errorf("comparison: %+v", cmp)
			}
		})
	}
	if was.Digest(key) == was.Digest([]byte("other")) {
		t.Error("the key has no part in the digest")
	}
	if (&Plan{}).Digest(key) != (*Plan)(nil).Digest(key) {
		t.Error("nil is not the empty plan")
	}
}

// TestDigestOfAPlanByHand holds that a plan need not come from Parse to have
// the digest of what it does, and to compare by it.
func TestDigestOfAPlanByHand(t *testing.T) {
	p := mustParse(t, planJSON(resource("cloud_server.x", updateChange)+","+
		resource("cloud_server.y", `{"actions":["delete","create"],"before":{"a":1,"b":2},"after":{"a":2},"replace_paths":[["a"],["b"]]}`)))
	q := *p
	q.Changes = []Change{p.Changes[1], p.Changes[0]}
	q.Changes[0].Before = raw("{ \"b\": 20e-1,\n\"a\": 1.0 }")
	q.Changes[0].Replace = []json.RawMessage{raw(`["b"]`), raw(` [ "a" ]`)}
	q.Changes[1].Unknown = raw(`{"ip":true,"name":false}`)
	if p.Digest(testKey) != q.Digest(testKey) {
		t.Error("another digest")
	}
	if cmp := Compare(p, &q); cmp.Verdict != Identical {
		t.Errorf("%+v", cmp)
	}
}

func TestDigestIsStableOverOrder(t *testing.T) {
	data, err := os.ReadFile("testdata/mixed.json")
	if err != nil {
		t.Fatal(err)
	}
	want := mustParse(t, data).Digest(nil)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		shuffled := shuffle(random, data)
		if got := mustParse(t, shuffled).Digest(nil); got != want {
			t.Fatalf("digest %s, want %s", got, want)
		}
	}
}

// shuffle writes objects with their keys, and resource_changes with its
// entries, in another order.
func shuffle(random *rand.Rand, data []byte) []byte {
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil || object == nil {
		return data
	}
	keys := make([]string, 0, len(object))
	for k := range object {
		keys = append(keys, k)
	}
	random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	var parts []string
	for _, k := range keys {
		value := object[k]
		var list []json.RawMessage
		if k == "resource_changes" && json.Unmarshal(value, &list) == nil {
			random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			for i := range list {
				list[i] = shuffle(random, list[i])
			}
			value, _ = json.Marshal(list)
		}
		parts = append(parts, fmt.Sprintf("%q : %s", k, shuffle(random, value)))
	}
	return []byte("{\n" + strings.Join(parts, " ,\n") + "}")
}

func TestCompare(t *testing.T) {
	x := resource("cloud_server.x", updateChange)
	y := resource("cloud_server.y", `{"actions":["create"],"before":null,"after":{"a":1}}`)
	out := `"output_changes":{"o":{"actions":["create"],"before":null,"after":"v","after_unknown":false}}`
	outputs := func(list string) string { return `"output_changes":{` + list + `}` }
	known := func(v string) string {
		return `{"actions":["create"],"before":null,"after":"` + v + `","after_unknown":false}`
	}
	swap := func(from, to string) string {
		if !strings.Contains(x, from) {
			t.Fatalf("no %s in %s", from, x)
		}
		return strings.Replace(x, from, to, 1)
	}
	tests := []struct {
		name          string
		reviewed, now []byte
		want          Comparison
	}{
		{"identical", planJSON(x + "," + y), planJSON(y + "," + x), Comparison{Verdict: Identical, SameResources: true}},
		{"both empty", planJSON(""), planJSON(""), Comparison{Verdict: Identical, SameResources: true}},
		{"narrower", planJSON(x+","+y, out), planJSON(x), Comparison{Verdict: Narrower, Differences: []Difference{
			{Address: "cloud_server.y", Reviewed: "created", Now: "(no change)"},
			{Address: "output.o", Reviewed: "created", Now: "(no change)"},
		}}},
		{"nothing is left", planJSON(x), planJSON(""), Comparison{Verdict: Narrower, Differences: []Difference{
			{Address: "cloud_server.x", Reviewed: "updated", Now: "(no change)"},
		}}},
		{"more", planJSON(x), planJSON(x + "," + y), Comparison{Verdict: Changed, Differences: []Difference{
			{Address: "cloud_server.y", Reviewed: "(no change)", Now: "created"},
		}}},
		{"fewer and other", planJSON(x + "," + y), planJSON(swap(`"size":"m"`, `"size":"l"`)), Comparison{Verdict: Changed, Differences: []Difference{
			{Address: "cloud_server.x", Attribute: "size", Reviewed: `"s" -> "m"`, Now: `"s" -> "l"`},
			{Address: "cloud_server.y", Reviewed: "created", Now: "(no change)"},
		}}},
		{"values", planJSON(x), planJSON(swap(`"tags":{"env":"b"},"ports":[1,2]`, `"tags":{"env":"c","new":true},"ports":[1]`)), Comparison{
			Verdict: Changed, SameResources: true, Differences: []Difference{
				{Address: "cloud_server.x", Attribute: "ports[1]", Reviewed: "2 (unchanged)", Now: "2 -> null"},
				{Address: "cloud_server.x", Attribute: "tags.env", Reviewed: `"a" -> "b"`, Now: `"a" -> "c"`},
				{Address: "cloud_server.x", Attribute: "tags.new", Reviewed: "null", Now: "true"},
			}}},
		{"unknown", planJSON(x), planJSON(swap(`"size":"m"`, `"ip":"10.0.0.1"`)), Comparison{
			Verdict: Changed, SameResources: true, Differences: []Difference{
				{Address: "cloud_server.x", Attribute: "size", Reviewed: `"s" -> "m"`, Now: `"s" -> null`},
			}}},
		{"sensitive", planJSON(x), planJSON(swap(`"pw":"old-secret1"},"after_unknown"`, `"pw":"new-secret1"},"after_unknown"`)), Comparison{
			Verdict: Changed, SameResources: true, Differences: []Difference{
				{Address: "cloud_server.x", Attribute: "pw", Reviewed: "(sensitive value) (unchanged)", Now: "(sensitive value) -> (sensitive value)"},
			}}},
		{"sensitive on one side", planJSON(x),
			planJSON(strings.NewReplacer(`"pw":"old-secret1"`, `"pw":"plain"`, `{"pw":true}`, `{}`).Replace(x)), Comparison{
				Verdict: Changed, SameResources: true, Differences: []Difference{
					{Address: "cloud_server.x", Attribute: "pw", Reviewed: "(sensitive value) (unchanged)", Now: "(sensitive value) (unchanged), another one"},
					{Address: "cloud_server.x", Attribute: "(sensitive before)", Reviewed: "pw", Now: "(nothing)"},
					{Address: "cloud_server.x", Attribute: "(sensitive after)", Reviewed: "pw", Now: "(nothing)"},
				}}},
		{"output", planJSON("", outputs(`"a":`+known("v")+`,"b":`+known("v")+`,"c":`+known("v"))),
			planJSON("", outputs(`"a":{"actions":["create"],"before":null,"after_unknown":true},`+
				`"b":{"actions":["create"],"before":null,"after":{"x":1},"after_unknown":{"y":true}},`+
				`"c":{"actions":["create"],"before":null,"after":"w","before_sensitive":true,"after_sensitive":true}`)), Comparison{
				Verdict: Changed, SameResources: true, Differences: []Difference{
					{Address: "output.a", Reviewed: `"v"`, Now: "(known after apply)"},
					{Address: "output.b", Reviewed: `"v"`, Now: `{"x":1,"y":"(known after apply)"}`},
					{Address: "output.c", Attribute: "(sensitive)", Reviewed: "false", Now: "true"},
					{Address: "output.c", Reviewed: "(sensitive value)", Now: "(sensitive value), another one"},
				}}},
		{"action", planJSON(x), planJSON(swap(`["update"]`, `["delete","create"]`)), Comparison{Verdict: Changed, Differences: []Difference{
			{Address: "cloud_server.x", Reviewed: "updated", Now: "replaced (destroyed, then created)"},
		}}},
		{"now failed", planJSON(x), planJSON(x, `"errored":true`), Comparison{Verdict: Changed, Differences: []Difference{
			{Address: "(plan)", Reviewed: "complete", Now: "planning failed half way"},
		}}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := Compare(mustParse(t, tc.reviewed), mustParse(t, tc.now))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := Compare(nil, mustParse(t, planJSON(x))); got.Verdict != Changed {
		t.Errorf("against no plan: %+v", got)
	}
	if got := Compare(nil, nil); got.Verdict != Identical {
		t.Errorf("two absent plans: %+v", got)
	}
}

func TestCompareIsBounded(t *testing.T) {
	var now []string
	for i := range MaxDifferences + 7 {
		now = append(now, resource(fmt.Sprintf("cloud_server.x[%d]", i), updateChange))
	}
	got := Compare(nil, mustParse(t, planJSON(strings.Join(now, ","))))
	if len(got.Differences) != MaxDifferences || got.More != 7 {
		t.Errorf("%d differences and %d more", len(got.Differences), got.More)
	}
	long := strings.Repeat("ä", 1000)
	a := mustParse(t, planJSON(resource("a.a", `{"actions":["create"],"before":null,"after":{"x":"`+long+`"}}`)))
	b := mustParse(t, planJSON(resource("a.a", `{"actions":["create"],"before":null,"after":{"x":"short"}}`)))
	d := Compare(a, b).Differences[0]
	if len(d.Reviewed) > 250 || !strings.HasSuffix(d.Reviewed, "… (2002 bytes)") {
		t.Errorf("%q", d.Reviewed)
	}
}

// TestCompareHidesWhatEitherPlanHides has a secret in one plan that the other
// one does not mark, or not at the same place.
func TestCompareHidesWhatEitherPlanHides(t *testing.T) {
	const secret = "x7Kd9qP2-secret"
	change := func(before, after, unknown, sensitive string, more ...string) []byte {
		return planJSON(resource("cloud_server.x", fmt.Sprintf(`{"actions":["update"],"before":%s,"after":%s,"after_unknown":%s,"before_sensitive":%s,"after_sensitive":%s%s}`,
			before, after, unknown, sensitive, sensitive, strings.Join(append([]string{""}, more...), ","))))
	}
	quoted := `"` + secret + `"`
	marked := change(`{"pw":`+quoted+`,"pin":73915}`, `{"pw":`+quoted+`,"pin":73915}`, `{}`, `{"pw":true,"pin":true}`)
	tests := []struct {
		name string
		a, b []byte
	}{
		{"the mark is lost", marked, change(`{"pw":`+quoted+`,"pin":73915}`, `{"pw":"new","pin":1}`, `{}`, `{}`)},
		{"unknown, then known without a mark",
			change(`{"pw":null}`, `{}`, `{"pw":true}`, `{"pw":true}`), change(`{"pw":null}`, `{"pw":`+quoted+`}`, `{}`, `{}`)},
		{"at another place", marked, change(`{"user":`+quoted+`,"port":73915}`, `{"url":"https://u:`+secret+`@h/"}`, `{}`, `{}`)},
		{"another place of a list",
			change(`{"l":["a",73915]}`, `{"l":["a",73915]}`, `{}`, `{"l":[false,true]}`), change(`{"l":[73915]}`, `{"l":[73915,"b"]}`, `{}`, `{}`)},
		{"as a key", marked, change(`{"tags":{}}`, `{"tags":{"`+secret+`":"a"}}`, `{}`, `{}`)},
		{"a key of what is marked as a whole",
			change(`{"m":{"`+secret+`":1}}`, `{"m":{}}`, `{}`, `{"m":true}`), change(`{"m":{"`+secret+`":2}}`, `{"m":{}}`, `{}`, `{}`)},
		{"a path that forces a replacement",
			change(`{"m":{"`+secret+`":1}}`, `{"m":{}}`, `{}`, `{"m":true}`), change(`{"m":{"`+secret+`":1}}`, `{"m":{}}`, `{}`, `{"m":true}`, `"replace_paths":[["m","`+secret+`"]]`)},
		{"of another shape", marked, change(`{"pw":{"a":[`+quoted+`]},"pin":"73915"}`, `{"pw":[`+quoted+`],"pin":[73915]}`, `{}`, `{}`)},
		{"marks of another shape",
			change(`{"pw":`+quoted+`}`, `{"pw":"a"}`, `{}`, `{"pw":{"a":true}}`), change(`{"pw":`+quoted+`}`, `{"pw":"b"}`, `{}`, `{"pw":[true]}`)},
		{"marks of another shape in both",
			change(`{"pw":`+quoted+`}`, `{"pw":[`+quoted+`]}`, `{}`, `{"pw":{"a":true}}`), change(`{"pw":`+quoted+`}`, `{"pw":[1]}`, `{}`, `{"pw":{"a":true}}`)},
		{"marks of another shape next to a secret",
			change(`{"pw":[`+quoted+`],"x":"another-secret"}`, `{}`, `{}`, `{"pw":{"a":true},"x":true}`), change(`{"pw":[1,`+quoted+`]}`, `{}`, `{}`, `{"pw":{"a":true}}`)},
		{"of an action's configuration", planJSON(resource("cloud_server.x", updateChange), `"action_invocations":[{"address":"action.mail.x","config_values":{"pw":`+quoted+`},"config_sensitive":{"pw":true}}]`),
			change(`{}`, `{"size":`+quoted+`}`, `{}`, `{}`)},
		{"marks below what is marked as a whole",
			change(`{"m":{"`+secret+`":1}}`, `{"m":{}}`, `{}`, `{"m":true}`), change(`{"m":{"`+secret+`":1}}`, `{"m":{}}`, `{}`, `{"m":{"`+secret+`":true}}`)},
		{"marks that are no marks",
			change(`{"pw":`+quoted+`}`, `{"pw":"a"}`, `{}`, `{"pw":"yes"}`), change(`{"pw":`+quoted+`}`, `{"pw":"b"}`, `{}`, `{"pw":1}`)},
		{"an imported id", marked, change(`{}`, `{}`, `{}`, `{}`, `"importing":{"id":`+quoted+`}`)},
		{"an identity", marked, change(`{}`, `{}`, `{}`, `{}`, `"before_identity":{"id":`+quoted+`}`)},
		{"of an output", marked, planJSON(resource("cloud_server.x", updateChange), `"output_changes":{"o":{"actions":["create"],"before":null,"after":`+quoted+`}}`)},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			a, b := mustParse(t, tc.a), mustParse(t, tc.b)
			for _, cmp := range []Comparison{Compare(a, b), Compare(b, a)} {
				if cmp.Verdict != Changed || len(cmp.Differences) == 0 {
					t.Errorf("%+v", cmp)
				}
				if shown := fmt.Sprintf("%+v", cmp); strings.Contains(shown, secret) || strings.Contains(shown, "73915") {
					t.Errorf("shown: %s", shown)
				}
			}
		})
	}
}

func TestSameResources(t *testing.T) {
	base := resource("cloud_server.x", updateChange)
	for _, tc := range []struct {
		name, from, to string
		want           bool
	}{
		{"another value", `"size":"m"`, `"size":"l"`, true},
		{"another mark", `"before_sensitive":{"pw":true}`, `"before_sensitive":{}`, true},
		{"another action", `["update"]`, `["delete","create"]`, false},
		{"another provider", `acme/cloud`, `evil/cloud`, false},
		{"moved from elsewhere", `"provider_name"`, `"previous_address":"cloud_server.old","provider_name"`, false},
		{"imported", `"after_unknown"`, `"importing":{"id":"i-1"},"after_unknown"`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Compare(mustParse(t, planJSON(base)), mustParse(t, planJSON(strings.Replace(base, tc.from, tc.to, 1))))
			if got.Verdict != Changed || got.SameResources != tc.want {
				t.Errorf("%+v", got)
			}
		})
	}
}
