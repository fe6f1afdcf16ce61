package plan

import (
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
			applied: DriftReport{CloudChange, []DriftedResource{changed(x, "size")}},
			fresh:   DriftReport{CloudChange, []DriftedResource{changed(x, "size")}},
		},
		{
			name: "deleted in the cloud", drift: resource(x, gone), changes: resource(x, again),
			applied: DriftReport{CloudChange, []DriftedResource{deleted}},
			fresh:   DriftReport{CloudChange, []DriftedResource{deleted}},
		},
		{
			name: "a commit", changes: list(resource(x, back), resource(y, again)),
			applied: DriftReport{CloudChange, []DriftedResource{changed(x, "size"), {Address: y, Change: "deleted"}}},
			fresh:   DriftReport{UnappliedCommit, []DriftedResource{changed(x, "size"), {Address: y, Change: "deleted"}}},
		},
		{
			name: "cloud and a commit in one resource", drift: resource(x, resized), changes: resource(x, backMore),
			applied: DriftReport{CloudChange, []DriftedResource{changed(x, "name", "size")}},
			fresh:   DriftReport{UnappliedCommit, []DriftedResource{changed(x, "name", "size")}},
		},
		{
			name: "a commit, and only noise in the cloud", drift: resource(x, churn), changes: resource(x, backMore),
			applied: DriftReport{CloudChange, []DriftedResource{changed(x, "name", "size")}},
			fresh:   DriftReport{UnappliedCommit, []DriftedResource{changed(x, "name", "size")}},
		},
		{
			name: "what follows from a change in the cloud", drift: resource(x, resized), changes: list(resource(x, back), resource(y, back)),
			more:    `"relevant_attributes":[{"resource":"cloud_server.x","attribute":["size"]}]`,
			applied: DriftReport{CloudChange, []DriftedResource{changed(x, "size"), changed(y, "size")}},
			fresh:   DriftReport{CloudChange, []DriftedResource{changed(x, "size"), changed(y, "size")}},
		},
		{
			name: "noise", drift: resource(x, churn), more: `"relevant_attributes":[{"resource":"cloud_server.x","attribute":["id"]}]`,
			applied: DriftReport{ProviderNoise, []DriftedResource{changed(x, "etag")}},
			fresh:   DriftReport{ProviderNoise, []DriftedResource{changed(x, "etag")}},
		},
		{
			name: "gone, and not wanted any more", drift: resource(x, gone),
			applied: DriftReport{CloudChange, []DriftedResource{deleted}},
			fresh:   DriftReport{CloudChange, []DriftedResource{deleted}},
		},
		{
			name: "outputs", more: outputs, drift: resource(x, churn),
			applied: DriftReport{OutputOnly, []DriftedResource{changed("output.o")}},
			fresh:   DriftReport{OutputOnly, []DriftedResource{changed("output.o")}},
		},
		{
			name: "a moved block", changes: resource(x, moved, `"previous_address":"cloud_server.w"`),
			applied: DriftReport{CloudChange, []DriftedResource{changed(x)}},
			fresh:   DriftReport{UnappliedCommit, []DriftedResource{changed(x)}},
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
			if diff := cmp.Diff(tc.applied, p.DriftReport(true)); diff != "" {
				t.Errorf("applied: %s", diff)
			}
			if diff := cmp.Diff(tc.fresh, p.DriftReport(false)); diff != "" {
				t.Errorf("not applied: %s", diff)
			}
		})
	}
	if got := (*Plan)(nil).DriftReport(true); got.Class != InSync {
		t.Errorf("no plan: %+v", got)
	}
}
