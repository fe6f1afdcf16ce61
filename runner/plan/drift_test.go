package plan

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDriftReport(t *testing.T) {
	const (
		resized   = `{"actions":["update"],"before":{"size":"s","etag":"1"},"after":{"size":"xl","etag":"2"}}`
		back      = `{"actions":["update"],"before":{"size":"xl","etag":"2"},"after":{"size":"s"},"after_unknown":{"etag":true}}`
		backMore  = `{"actions":["update"],"before":{"size":"xl","name":"a"},"after":{"size":"s","name":"b"}}`
		gone      = `{"actions":["delete"],"before":{"size":"s"},"after":null}`
		again     = `{"actions":["create"],"before":null,"after":{"size":"s"}}`
		churn     = `{"actions":["update"],"before":{"etag":"1"},"after":{"etag":"2"}}`
		moved     = `{"actions":["no-op"],"before":{},"after":{}}`
		outputs   = `"output_changes":{"o":{"actions":["update"],"before":"a","after":"b","after_unknown":false}}`
		noOutputs = `"checks":[]`
	)
	list := func(entries ...string) string { return strings.Join(entries, ",") }
	x, y := "cloud_server.x", "cloud_server.y"
	changed := func(address string, attributes ...string) DriftedResource {
		return DriftedResource{Address: address, Change: "changed", Attributes: attributes}
	}
	deleted := DriftedResource{Address: x, Change: "deleted"}
	tests := []struct {
		name           string
		drift, changes string
		more           string
		applied, fresh DriftReport // at the applied inputs, and where that is not known
	}{
		{name: "nothing"},
		{
			name: "changed in the cloud", drift: resource(x, resized), changes: resource(x, back),
			applied: DriftReport{Class: CloudChange, Resources: []DriftedResource{changed(x, "size")}},
			fresh:   DriftReport{Class: CloudChange, Resources: []DriftedResource{changed(x, "size")}},
		},
		{
			name: "deleted in the cloud", drift: resource(x, gone), changes: resource(x, again),
			applied: DriftReport{Class: CloudChange, Resources: []DriftedResource{deleted}},
			fresh:   DriftReport{Class: CloudChange, Resources: []DriftedResource{deleted}},
		},
		{
			name: "a commit", changes: list(resource(x, back), resource(y, again)),
			applied: DriftReport{Class: CloudChange, Resources: []DriftedResource{changed(x, "size"), {Address: y, Change: "deleted"}}},
			fresh:   DriftReport{Class: UnappliedCommit, Resources: []DriftedResource{changed(x, "size"), {Address: y, Change: "deleted"}}},
		},
		{
			name: "cloud and a commit in one resource", drift: resource(x, resized), changes: resource(x, backMore),
			applied: DriftReport{Class: CloudChange, Resources: []DriftedResource{changed(x, "name", "size")}},
			fresh:   DriftReport{Class: UnappliedCommit, Resources: []DriftedResource{changed(x, "name", "size")}},
		},
		{
			name: "a commit, and only noise in the cloud", drift: resource(x, churn), changes: resource(x, backMore),
			applied: DriftReport{Class: CloudChange, Resources: []DriftedResource{changed(x, "name", "size")}},
			fresh:   DriftReport{Class: UnappliedCommit, Resources: []DriftedResource{changed(x, "name", "size")}},
		},
		{
			name: "what follows from a change in the cloud", drift: resource(x, resized), changes: list(resource(x, back), resource(y, back)),
			more:    `"relevant_attributes":[{"resource":"cloud_server.x","attribute":["size"]}]`,
			applied: DriftReport{Class: CloudChange, Resources: []DriftedResource{changed(x, "size"), changed(y, "size")}},
			fresh:   DriftReport{Class: CloudChange, Resources: []DriftedResource{changed(x, "size"), changed(y, "size")}},
		},
		{
			name: "noise", drift: resource(x, churn), more: `"relevant_attributes":[{"resource":"cloud_server.x","attribute":["id"]}]`,
			applied: DriftReport{Class: ProviderNoise, Resources: []DriftedResource{changed(x, "etag")}},
			fresh:   DriftReport{Class: ProviderNoise, Resources: []DriftedResource{changed(x, "etag")}},
		},
		{
			// A newer provider knows one attribute more.
			name: "a provider's upgrade", drift: resource(x, `{"actions":["update"],"before":{"size":"s"},"after":{"size":"s","tier":"basic"}}`),
			applied: DriftReport{Class: ProviderNoise, Resources: []DriftedResource{changed(x, "tier")}},
			fresh:   DriftReport{Class: ProviderNoise, Resources: []DriftedResource{changed(x, "tier")}},
		},
		{
			name: "gone, and not wanted any more", drift: resource(x, gone),
			applied: DriftReport{Class: CloudChange, Resources: []DriftedResource{deleted}},
			fresh:   DriftReport{Class: CloudChange, Resources: []DriftedResource{deleted}},
		},
		{
			name: "outputs", more: outputs, drift: resource(x, churn),
			applied: DriftReport{Class: OutputOnly, Resources: []DriftedResource{changed("output.o")}},
			fresh:   DriftReport{Class: OutputOnly, Resources: []DriftedResource{changed("output.o")}},
		},
		{
			name: "a moved block", changes: resource(x, moved, `"previous_address":"cloud_server.w"`),
			applied: DriftReport{Class: CloudChange, Resources: []DriftedResource{changed(x)}},
			fresh:   DriftReport{Class: UnappliedCommit, Resources: []DriftedResource{changed(x)}},
		},
		{
			name: "a failed plan", more: `"errored":true`, changes: resource(x, back),
			applied: DriftReport{Class: CheckError}, fresh: DriftReport{Class: CheckError},
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			more := tc.more
			if more == "" {
				more = noOutputs
			}
			p := mustParse(t, planJSON(tc.changes, more, `"resource_drift":[`+tc.drift+`]`))
			if diff := cmp.Diff(tc.applied, plain(p.DriftReport(true))); diff != "" {
				t.Errorf("applied: %s", diff)
			}
			if diff := cmp.Diff(tc.fresh, plain(p.DriftReport(false))); diff != "" {
				t.Errorf("not applied: %s", diff)
			}
		})
	}
	if got := (*Plan)(nil).DriftReport(true); got.Class != InSync {
		t.Errorf("no plan: %+v", got)
	}
}

// plain leaves out of a report what the table does not have.
func plain(r DriftReport) DriftReport {
	out := DriftReport{Class: r.Class}
	for _, d := range r.Resources {
		out.Resources = append(out.Resources, DriftedResource{Address: d.Address, Change: d.Change, Attributes: d.Attributes})
	}
	return out
}

func TestDriftWithout(t *testing.T) {
	update := `{"actions":["update"],"before":{"size":"xl","tags":{"a":"1","b":"2"}},"after":{"size":"s","tags":{"a":"0","b":"0"}}}`
	other := `{"actions":["update"],"before":{"size":"xl","tags":{"a":"9","b":"2"}},"after":{"size":"s","tags":{"a":"0","b":"0"}}}`
	report := func(changes, more string) DriftReport {
		return mustParse(t, planJSON(changes, more)).DriftReport(true)
	}
	rules := func(covered ...string) func(string, string) (string, bool) {
		return func(address, attribute string) (string, bool) {
			return "known", slices.Contains(covered, address+" "+attribute)
		}
	}
	const x, none = "cloud_server.x", `"checks":[]`
	key := bytes.Repeat([]byte("k"), 32)
	tests := []struct {
		name          string
		changes, more string
		covered       []string
		want          DriftReport
		ignored       int
	}{
		{
			name: "one of three attributes", changes: resource(x, update), covered: []string{x + " tags.a"},
			want: DriftReport{Class: CloudChange, Resources: []DriftedResource{{Address: x, Change: "changed", Attributes: []string{"size", "tags.b"}}}}, ignored: 1,
		},
		{name: "all of them", changes: resource(x, update), covered: []string{x + " tags.a", x + " tags.b", x + " size"}, ignored: 1},
		{
			name: "gone", changes: resource(x, `{"actions":["create"],"before":null,"after":{"size":"s"}}`), covered: []string{x + " ", x + " size"},
			want: DriftReport{Class: CloudChange, Resources: []DriftedResource{{Address: x, Change: "deleted"}}},
		},
		{
			name: "to be destroyed", changes: resource(x, `{"actions":["delete"],"before":{"size":"s"},"after":null}`), covered: []string{x + " ", x + " size"},
			want: DriftReport{Class: CloudChange, Resources: []DriftedResource{{Address: x, Change: "created"}}},
		},
		{
			name: "to be replaced", changes: resource(x, `{"actions":["delete","create"],"before":{"size":"s"},"after":{"size":"m"},"replace_paths":[["size"]]}`), covered: []string{x + " size"},
			want: DriftReport{Class: CloudChange, Resources: []DriftedResource{{Address: x, Change: "changed", Attributes: []string{"size"}}}},
		},
		{name: "an output", more: `"output_changes":{"o":{"actions":["update"],"before":"a","after":"b"}}`, covered: []string{"output.o "}, ignored: 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := report(tc.changes, or(tc.more, none)).Without(rules(tc.covered...))
			if diff := cmp.Diff(tc.want, plain(got)); diff != "" || len(got.Ignored) != tc.ignored {
				t.Errorf("%d ignored, %s", len(got.Ignored), diff)
			}
		})
	}
	tags := rules(x + " tags.a")
	first, second := report(resource(x, update), none), report(resource(x, other), none)
	if first.Digest(key) == second.Digest(key) {
		t.Error("two different drifts have one digest")
	}
	if first.Without(tags).Digest(key) != second.Without(tags).Digest(key) {
		t.Error("what is ignored makes another digest")
	}
	if first.Without(tags).Digest(key) == first.Digest(key) {
		t.Error("the digest covers what is ignored")
	}
	secret := func(v string) DriftReport {
		return report(resource(x, `{"actions":["update"],"before":{"pw":"`+v+`"},"after":{"pw":"s"},"before_sensitive":{"pw":true},"after_sensitive":{"pw":true}}`), none)
	}
	if secret("a").Digest(key) == secret("b").Digest(key) {
		t.Error("two different secrets have one digest")
	}
	if text, err := json.Marshal(secret("hunter2")); strings.Contains(string(text), "hunter2") || err != nil {
		t.Errorf("a secret is stored: %s, %v", text, err)
	}
	if v := secret("hunter2").Resources[0].Values[0]; v.Cloud != "(sensitive value)" || v.Git != "(sensitive value)" {
		t.Errorf("a secret is shown: %+v", v)
	}
}

func TestDriftOfAnIncompletePlan(t *testing.T) {
	r := mustParse(t, planJSON("", `"complete":false`)).DriftReport(true)
	if r.Class != CheckError || r.Reason == "" {
		t.Errorf("deferred changes: %+v", r)
	}
}

func TestFailedChecks(t *testing.T) {
	r := mustParse(t, planJSON("", `"checks":[{"address":{"kind":"check","name":"health","to_display":"check.health"},"status":"fail","instances":[{"address":{"to_display":"check.health"},"status":"fail","problems":[{"message":"It answers 500."}]}]},{"address":{"kind":"resource","to_display":"x.y"},"status":"pass"}]`)).DriftReport(true)
	want := []FailedCheck{{Address: "check.health", Message: "It answers 500."}}
	if diff := cmp.Diff(want, r.Checks); diff != "" || r.Class != InSync {
		t.Errorf("%q %s", r.Class, diff)
	}
}
