package plan

import (
	"slices"
	"strings"
	"testing"
)

// driftCases are what engines and providers write on days that are not like
// those of a demo. applied is the class at the applied inputs, fresh where
// nobody knows what those were.
var driftCases = []struct {
	name           string
	drift, changes []string
	more           []string
	applied, fresh Class
	unexplained    []string
	gone           bool // something must be named as deleted or to be destroyed
}{
	{
		name:    "a commit for the very attribute that was changed in the cloud",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"size":"s"},"after":{"size":"xl"}}`)},
		changes: []string{resource("c.x", `{"actions":["update"],"before":{"size":"xl"},"after":{"size":"m"}}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x"},
	},
	{
		name:    "a commit for what was deleted in the cloud",
		drift:   []string{resource("c.x", `{"actions":["delete"],"before":{"size":"s","id":"1"},"after":null}`)},
		changes: []string{resource("c.x", `{"actions":["create"],"before":null,"after":{"size":"m"},"after_unknown":{"id":true}}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x"}, gone: true,
	},
	{
		name:    "deleted, with what providers write in the state",
		drift:   []string{resource("c.x", `{"actions":["delete"],"before":{"id":"1","n":1,"policy":"{\"a\":1, \"b\":[]}","tags":{},"flag":false,"port":"80","note":""},"after":null}`)},
		changes: []string{resource("c.x", `{"actions":["create"],"before":null,"after":{"n":1.0,"policy":"{\"b\":[],\"a\":1}","tags":null,"flag":null,"port":80,"note":null},"after_unknown":{"id":true}}`)},
		applied: CloudChange, fresh: CloudChange, gone: true,
	},
	{
		name:    "null, empty and missing in the refresh only",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"a":null,"l":null,"m":null,"s":""},"after":{"a":"","l":[],"m":{}}}`)},
		applied: ProviderNoise, fresh: ProviderNoise,
	},
	{
		name:    "back to a value that the provider spells otherwise",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"tags":{},"policy":"{\"a\": 1}","on":false},"after":{"tags":{"a":"b"},"policy":"{}","on":true}}`)},
		changes: []string{resource("c.x", `{"actions":["update"],"before":{"tags":{"a":"b"},"policy":"{}","on":true},"after":{"tags":null,"policy":"{\"a\":1}","on":null}}`)},
		applied: CloudChange, fresh: CloudChange,
	},
	{
		name:    "a set that is in another order",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"g":["a","b"]},"after":{"g":["b","a"]}}`)},
		applied: ProviderNoise, fresh: ProviderNoise,
	},
	{
		name:    "a rule added to a set",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"in":[{"p":22},{"p":80}]},"after":{"in":[{"p":22},{"p":8080},{"p":80}]}}`)},
		changes: []string{resource("c.x", `{"actions":["update"],"before":{"in":[{"p":22},{"p":8080},{"p":80}]},"after":{"in":[{"p":22},{"p":80}]}}`)},
		applied: CloudChange, fresh: CloudChange,
	},
	{
		name:    "a rule added in the cloud and another by a commit",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"in":[{"p":22}]},"after":{"in":[{"p":22},{"p":8080}]}}`)},
		changes: []string{resource("c.x", `{"actions":["update"],"before":{"in":[{"p":22},{"p":8080}]},"after":{"in":[{"p":22},{"p":443}]}}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x"},
	},
	{
		name:    "a dependent of what is gone, known after the apply",
		drift:   []string{resource("c.x", `{"actions":["delete"],"before":{"id":"1"},"after":null}`)},
		changes: []string{resource("c.x", `{"actions":["create"],"before":null,"after":{},"after_unknown":{"id":true}}`), resource("c.y", `{"actions":["update"],"before":{"net":["1"]},"after":{"net":[null]},"after_unknown":{"net":[true]}}`)},
		more:    []string{`"relevant_attributes":[{"resource":"c.x","attribute":["id"]}]`},
		applied: CloudChange, fresh: CloudChange, gone: true,
	},
	{
		name:    "the same from an engine without relevant_attributes",
		drift:   []string{resource("c.x", `{"actions":["delete"],"before":{"id":"1"},"after":null}`)},
		changes: []string{resource("c.x", `{"actions":["create"],"before":null,"after":{},"after_unknown":{"id":true}}`), resource("c.y", `{"actions":["update"],"before":{"net":"1"},"after":{},"after_unknown":{"net":true}}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.y"}, gone: true,
	},
	{
		name:    "a dependent with churn of its own",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"size":"s"},"after":{"size":"l"}}`), resource("c.y", `{"actions":["update"],"before":{"etag":"1"},"after":{"etag":"2"}}`)},
		changes: []string{resource("c.y", `{"actions":["update"],"before":{"size":"s","etag":"2"},"after":{"size":"l"},"after_unknown":{"etag":true}}`)},
		more:    []string{`"relevant_attributes":[{"resource":"c.x","attribute":["size"]}]`},
		applied: CloudChange, fresh: CloudChange, unexplained: []string{"c.y"},
	},
	{
		name:    "a resource's own churn explains no commit",
		drift:   []string{resource("c.y", `{"actions":["update"],"before":{"etag":"1"},"after":{"etag":"2"}}`)},
		changes: []string{resource("c.y", `{"actions":["update"],"before":{"size":"s"},"after":{"size":"l"}}`)},
		more:    []string{`"relevant_attributes":[{"resource":"c.y","attribute":["etag"]}]`},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.y"},
	},
	{
		name:    "relevant is a resource of many instances as a whole",
		drift:   []string{resource(`c.x[\"a\"]`, `{"actions":["update"],"before":{"size":"s"},"after":{"size":"l"}}`)},
		changes: []string{resource("c.y", `{"actions":["update"],"before":{"size":"s"},"after":{"size":"l"}}`)},
		more:    []string{`"relevant_attributes":[{"resource":"c.x","attribute":[]}]`},
		applied: CloudChange, fresh: CloudChange, unexplained: []string{"c.y"},
	},
	{
		name:    "relevant is another resource with a longer name",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"size":"s"},"after":{"size":"l"}}`)},
		changes: []string{resource("c.y", `{"actions":["update"],"before":{"size":"s"},"after":{"size":"l"}}`)},
		more:    []string{`"relevant_attributes":[{"resource":"c.x2","attribute":["size"]},{"resource":"c.x","attribute":["size_min"]}]`},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.y"},
	},
	{
		name:    "data sources that are read",
		changes: []string{`{"address":"data.c.x","mode":"data","type":"c","name":"x","provider_name":"p","change":{"actions":["read"],"before":null,"after":{},"after_unknown":{"id":true}},"action_reason":"read_because_dependency_pending"}`, resource("c.x", `{"actions":["no-op"],"before":{},"after":{}}`)},
		applied: InSync, fresh: InSync,
	},
	{
		name:    "an object that a replacement left",
		changes: []string{resource("c.x", `{"actions":["delete"],"before":{"id":"1"},"after":null}`, `"deposed":"abcd1234"`), resource("c.x", `{"actions":["no-op"],"before":{"id":"2"},"after":{"id":"2"}}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x (deposed abcd1234)"}, gone: true,
	},
	{
		name:    "such an object that is gone",
		drift:   []string{resource("c.x", `{"actions":["delete"],"before":{"id":"1"},"after":null}`, `"deposed":"abcd1234"`)},
		applied: CloudChange, fresh: CloudChange, gone: true,
	},
	{
		name:    "an import",
		changes: []string{resource("c.x", `{"actions":["no-op"],"before":{"id":"1"},"after":{"id":"1"},"importing":{"id":"1"}}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x"},
	},
	{
		name:    "an import that also changes, beside drift that something depends on",
		drift:   []string{resource("c.z", `{"actions":["update"],"before":{"size":"s"},"after":{"size":"l"}}`)},
		changes: []string{resource("c.x", `{"actions":["update"],"before":{"id":"1","size":"l"},"after":{"id":"1","size":"s"},"importing":{"id":"1"}}`)},
		more:    []string{`"relevant_attributes":[{"resource":"c.z","attribute":["size"]}]`},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x"},
	},
	{
		name:    "moved and drifted",
		drift:   []string{resource("c.new", `{"actions":["update"],"before":{"size":"s"},"after":{"size":"l"}}`, `"previous_address":"c.old"`)},
		changes: []string{resource("c.new", `{"actions":["update"],"before":{"size":"l"},"after":{"size":"s"}}`, `"previous_address":"c.old"`)},
		applied: CloudChange, fresh: CloudChange,
	},
	{
		name:    "moved only, as resource_drift has it",
		drift:   []string{resource("c.new", `{"actions":["no-op"],"before":{"size":"s"},"after":{"size":"s"}}`, `"previous_address":"c.old"`)},
		applied: InSync, fresh: InSync,
	},
	{
		name:    "an index of count that is gone from the configuration",
		changes: []string{resource("c.x[1]", `{"actions":["delete"],"before":{"size":"s"},"after":null}`, `"action_reason":"delete_because_count_index"`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x[1]"}, gone: true,
	},
	{
		name:    "drifted, and to be destroyed",
		drift:   []string{resource("c.x[1]", `{"actions":["update"],"before":{"size":"s"},"after":{"size":"l"}}`)},
		changes: []string{resource("c.x[1]", `{"actions":["delete"],"before":{"size":"l"},"after":null}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x[1]"}, gone: true,
	},
	{
		name:    "tainted",
		changes: []string{resource("c.x", `{"actions":["delete","create"],"before":{"size":"s"},"after":{"size":"s"}}`, `"action_reason":"replace_because_tainted"`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x"}, gone: true,
	},
	{
		name:    "changed where it cannot be changed back",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"cidr":"a","id":"1"},"after":{"cidr":"b","id":"1"}}`)},
		changes: []string{resource("c.x", `{"actions":["create","delete"],"before":{"cidr":"b","id":"1"},"after":{"cidr":"a"},"after_unknown":{"id":true},"replace_paths":[["cidr"]]}`, `"action_reason":"replace_because_cannot_update"`)},
		applied: CloudChange, fresh: CloudChange, gone: true,
	},
	{
		name:    "replaced for something else than what drifted",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"cidr":"a"},"after":{"cidr":"b"}}`)},
		changes: []string{resource("c.x", `{"actions":["delete","create"],"before":{"cidr":"b","zone":"1"},"after":{"cidr":"a","zone":"2"},"replace_paths":[["zone"]]}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x"}, gone: true,
	},
	{
		name:    "only the mark of a secret changes",
		changes: []string{resource("c.x", `{"actions":["update"],"before":{"pw":"a"},"after":{"pw":"a"},"before_sensitive":{},"after_sensitive":{"pw":true}}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x"},
	},
	{
		name:    "a secret changed in the cloud",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"pw":"a"},"after":{"pw":"b"},"before_sensitive":{"pw":true},"after_sensitive":{"pw":true}}`)},
		changes: []string{resource("c.x", `{"actions":["update"],"before":{"pw":"b"},"after":{"pw":"a"},"before_sensitive":{"pw":true},"after_sensitive":{"pw":true}}`)},
		applied: CloudChange, fresh: CloudChange,
	},
	{
		name:    "a secret changed in the cloud and by a commit",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"pw":"a"},"after":{"pw":"b"},"before_sensitive":{"pw":true},"after_sensitive":{"pw":true}}`)},
		changes: []string{resource("c.x", `{"actions":["update"],"before":{"pw":"b"},"after":{"pw":"c"},"before_sensitive":{"pw":true},"after_sensitive":{"pw":true}}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x"},
	},
	{
		name:    "an output follows what ignore_changes covers, in secret",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"size":"s"},"after":{"size":"l"}}`)},
		more:    []string{`"output_changes":{"o":{"actions":["update"],"before":"s","after":"l","before_sensitive":true,"after_sensitive":true}}`},
		applied: OutputOnly, fresh: OutputOnly,
	},
	{
		name:    "an output beside what is gone from both",
		drift:   []string{resource("c.x", `{"actions":["delete"],"before":{"size":"s"},"after":null}`)},
		more:    []string{`"output_changes":{"o":{"actions":["update"],"before":"s","after":null}}`},
		applied: CloudChange, fresh: CloudChange, gone: true,
	},
	{name: "not complete, and nothing else", more: []string{`"complete":false`}, applied: CheckError, fresh: CheckError},
	{
		name: "deferred changes beside noise", drift: []string{resource("c.x", `{"actions":["update"],"before":{"etag":"1"},"after":{"etag":"2"}}`)},
		more: []string{`"deferred_changes":[{"reason":"instance_count_unknown"}]`}, applied: CheckError, fresh: CheckError,
	},
	{
		name:    "deferred changes beside a change in the cloud",
		drift:   []string{resource("c.x", `{"actions":["update"],"before":{"size":"s"},"after":{"size":"l"}}`)},
		changes: []string{resource("c.x", `{"actions":["update"],"before":{"size":"l"},"after":{"size":"s"}}`)},
		more:    []string{`"complete":false`}, applied: CloudChange, fresh: CloudChange,
	},
	{
		name: "errored with what it has so far", changes: []string{resource("c.x", `{"actions":["delete"],"before":{},"after":null}`)},
		more: []string{`"errored":true,"complete":false`}, applied: CheckError, fresh: CheckError,
	},
	{name: "checks of which nobody knows anything", more: []string{`"checks":[{"address":{"to_display":"check.a"},"status":"unknown"},{"address":{"to_display":"c.x"},"status":"unknown","instances":null}]`}, applied: InSync, fresh: InSync},
	{
		name:    "an action that runs, and no change",
		more:    []string{`"action_invocations":[{"address":"action.a.b","type":"a","name":"b","provider_name":"p"}]`},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"action.a.b"},
	},
	{
		name:    "an action of a later engine",
		changes: []string{resource("c.x", `{"actions":["hibernate"],"before":{},"after":{}}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x"},
	},
	{
		name:    "forget",
		changes: []string{resource("c.x", `{"actions":["forget"],"before":{"a":1},"after":null}`)},
		applied: CloudChange, fresh: UnappliedCommit, unexplained: []string{"c.x"},
	},
}

func TestDriftCases(t *testing.T) {
	for _, tc := range driftCases {
		t.Run(tc.name, func(t *testing.T) {
			p := mustParse(t, planJSON(strings.Join(tc.changes, ","), append(tc.more, `"resource_drift":[`+strings.Join(tc.drift, ",")+`]`)...))
			applied, fresh := p.DriftReport(true), p.DriftReport(false)
			if applied.Class != tc.applied || fresh.Class != tc.fresh {
				t.Errorf("applied %q, fresh %q", applied.Class, fresh.Class)
			}
			if !slices.Equal(applied.Unexplained, tc.unexplained) {
				t.Errorf("unexplained: %q", applied.Unexplained)
			}
			named := slices.ContainsFunc(fresh.Resources, func(d DriftedResource) bool {
				return d.Change == driftDeleted || d.Action == Delete || d.Action == Replace || d.Action == ReplaceCreateFirst
			})
			if tc.gone != named {
				t.Errorf("gone: %v, %+v", named, fresh.Resources)
			}
			// Whatever a rule covers, what would be destroyed stays, and so does
			// what would run.
			all := fresh.Without(func(string, string) (string, bool) { return "all", true })
			if tc.gone && len(all.Resources) == 0 || len(tc.more) > 0 && strings.Contains(tc.more[0], "action_invocations") && all.Class == InSync {
				t.Errorf("without: %+v", all)
			}
			all = applied.Without(func(string, string) (string, bool) { return "all", true })
			if tc.gone && len(all.Resources) == 0 || len(applied.runs()) > 0 && all.Class == InSync {
				t.Errorf("without: %+v", all)
			}
		})
	}
}

// Before 1.0 the format had neither drift nor what is relevant.
func TestDriftOfAnOldPlan(t *testing.T) {
	p := mustParse(t, []byte(`{"format_version":"0.1","terraform_version":"0.12.31","planned_values":{"root_module":{}},
"resource_changes":[{"address":"c.x","mode":"managed","type":"c","name":"x","provider_name":"aws","change":{"actions":["update"],"before":{"size":"l"},"after":{"size":"s"},"after_unknown":{}}},
{"address":"data.c.y","mode":"data","type":"c","name":"y","provider_name":"aws","change":{"actions":["read"],"before":null,"after":{},"after_unknown":{"id":true}}}],
"configuration":{"root_module":{}}}`))
	if a, f := p.DriftReport(true), p.DriftReport(false); a.Class != CloudChange || f.Class != UnappliedCommit || len(f.Resources) != 1 {
		t.Errorf("%+v\n%+v", a, f)
	}
}

func TestInvocationsMakeAnotherDigest(t *testing.T) {
	report := func(name string) DriftReport {
		return mustParse(t, planJSON("", `"action_invocations":[{"address":"action.a.`+name+`","type":"a","name":"b","provider_name":"p"}]`)).DriftReport(true)
	}
	if key := []byte("k"); report("b").Digest(key) == report("c").Digest(key) {
		t.Error("two actions have one digest")
	}
}

func TestSmaller(t *testing.T) {
	const (
		two   = `{"actions":["update"],"before":{"size":"l","zone":"b","etag":"1"},"after":{"size":"s","zone":"a"},"after_unknown":{"etag":true}}`
		one   = `{"actions":["update"],"before":{"size":"l","zone":"b","etag":"1"},"after":{"size":"s","zone":"b"},"after_unknown":{"etag":true}}`
		other = `{"actions":["update"],"before":{"size":"l","zone":"b","etag":"1"},"after":{"size":"m","zone":"b"},"after_unknown":{"etag":true}}`
		later = `{"actions":["update"],"before":{"size":"l","zone":"b","etag":"1"},"after":{"size":"s"},"after_unknown":{"etag":true,"zone":true}}`
		again = `{"actions":["delete","create"],"before":{"size":"l","zone":"b"},"after":{"size":"s","zone":"a"},"replace_paths":[["zone"]]}`
		make  = `{"actions":["create"],"before":null,"after":{"size":"s"}}`
		gone  = `{"actions":["delete"],"before":{"size":"s"},"after":null}`
		out   = `"output_changes":{"o":{"actions":["update"],"before":"a","after":"b"}}`
		runs  = `"action_invocations":[{"address":"action.a.b","type":"a","name":"b","provider_name":"p"}]`
	)
	x, y := "c.x", "c.y"
	tests := []struct {
		name     string
		was, now string
		more     string // of now
		smaller  bool
		left     string
	}{
		{name: "nothing before and after"},
		{name: "nothing is left", was: resource(x, two), smaller: true},
		{name: "one attribute of two", was: resource(x, two), now: resource(x, one), smaller: true},
		{name: "the same", was: resource(x, two), now: resource(x, two)},
		{name: "one resource of two", was: resource(x, two) + "," + resource(y, two), now: resource(y, two), smaller: true},
		{name: "one attribute, and one new resource", was: resource(x, two), now: resource(x, one) + "," + resource(y, one), left: "c.y would be updated"},
		{name: "another value", was: resource(x, two), now: resource(x, other), left: "c.x would get another size"},
		{name: "more attributes", was: resource(x, one), now: resource(x, two), left: "c.x would get another zone"},
		{name: "known after the apply", was: resource(x, two), now: resource(x, later), left: "c.x would get another zone"},
		{name: "updated, no longer replaced", was: resource(x, again), now: resource(x, `{"actions":["update"],"before":{"size":"l","zone":"b"},"after":{"size":"s","zone":"b"}}`), smaller: true},
		{name: "replaced, no longer updated", was: resource(x, two), now: resource(x, again), left: "c.x would be replaced (destroyed, then created), not updated"},
		{name: "destroyed", was: resource(x, two), now: resource(x, gone), left: "c.x would be destroyed, not updated"},
		{name: "made", was: resource(x, two), now: resource(x, two) + "," + resource(y, make), left: "c.y would be created"},
		{name: "outputs follow", was: resource(x, two), more: out, smaller: true},
		{name: "outputs only, before and after", more: out},
		{name: "an action", was: resource(x, two), more: runs, left: "action.a.b would run"},
		{name: "errored", was: resource(x, two), more: `"errored":true`, left: "the plan is not complete"},
		{name: "deferred, and nothing else", was: resource(x, two), more: `"complete":false`, left: "the plan is not complete"},
		{name: "moved", was: resource(x, two), now: resource(x, one, `"previous_address":"c.w"`), left: "c.x would be updated"},
		{name: "imported", was: resource(x, two), now: resource(x, strings.TrimSuffix(one, "}")+`,"importing":{"id":"1"}}`), left: "c.x would be updated"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			more := []string{`"checks":[]`}
			if tc.more != "" {
				more = append(more, tc.more)
			}
			smaller, left := Smaller(mustParse(t, planJSON(tc.was, `"checks":[]`)), mustParse(t, planJSON(tc.now, more...)))
			if smaller != tc.smaller || left != tc.left {
				t.Errorf("%v, %q", smaller, left)
			}
		})
	}
	if smaller, _ := Smaller(nil, nil); smaller {
		t.Error("no plan is smaller than none")
	}
	if smaller, _ := Smaller(mustParse(t, planJSON(resource(x, two))), nil); !smaller {
		t.Error("no plan is not smaller than one")
	}
}

// What would be created may not become another thing by an edit of something
// else.
func TestSmallerCreates(t *testing.T) {
	created := func(size string) string {
		return resource("c.new", `{"actions":["create"],"before":null,"after":{"size":"`+size+`"}}`)
	}
	was := mustParse(t, planJSON(created("s")+","+resource("c.x", `{"actions":["update"],"before":{"size":"xl"},"after":{"size":"s"}}`)))
	if ok, left := Smaller(was, mustParse(t, planJSON(created("xl")))); ok || !strings.Contains(left, "c.new") {
		t.Errorf("another value is created, and that is smaller: %q", left)
	}
	if ok, left := Smaller(was, mustParse(t, planJSON(created("s")))); !ok {
		t.Errorf("the same is created, and that is not smaller: %q", left)
	}
}

// What a rule leaves alone as a whole keeps nothing else from being corrected.
func TestWithoutTheUnexplained(t *testing.T) {
	of := func(name string) DriftedResource {
		return DriftedResource{Address: name, Type: "c", Change: driftChanged, Action: Update, Attributes: []string{"size"}}
	}
	r := DriftReport{Class: CloudChange, Resources: []DriftedResource{of("c.a"), of("c.b"), of("c.d")}, Unexplained: []string{"c.b", "c.d", "action.run"}}
	out := r.Without(func(address, _ string) (string, bool) { return "known", address == "c.b" })
	if want := []string{"c.d", "action.run"}; !slices.Equal(out.Unexplained, want) {
		t.Errorf("unexplained: %q", out.Unexplained)
	}
	if len(r.Unexplained) != 3 {
		t.Error("the report itself was changed")
	}
}
