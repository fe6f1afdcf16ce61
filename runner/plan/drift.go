package plan

import (
	"slices"
	"strings"
)

// The words of DriftedResource.Change.
const (
	driftChanged = "changed"
	driftDeleted = "deleted"
	driftCreated = "created"
)

// Bounds of what is named of one resource.
const (
	maxAttributes = 200
	maxValues     = 20
)

// DriftReport says what the plan of a drift check means. applied is set where
// the plan was made at the inputs that were last applied: then Git asks for
// nothing new, so whatever the plan would change was changed in the cloud (or
// in the state).
//
// Otherwise the plan may show both. A change counts as made in the cloud where
// every attribute that it would write is one that the refresh found to differ
// (resource_drift) and gets back the value that the state had, where it makes
// again what the refresh found gone, as it was, or where the refresh itself saw
// nothing at those attributes but found something elsewhere that the plan
// depends on (relevant_attributes). What is imported is asked for by a commit.
// As soon as one change is not explained so the class is UnappliedCommit,
// because correcting would apply that commit; the resources changed in the
// cloud are named all the same.
//
// Drift that no change follows from is ProviderNoise: the configuration is
// satisfied with it, be it churn of computed values or an attribute under
// ignore_changes. Two things are no noise: a resource that is gone is always a
// CloudChange, even where the configuration no longer wants it, and drift that
// reaches only outputs is OutputOnly. A failed plan is CheckError.
//
// A plan that the engine calls incomplete says nothing about what it left out:
// where it shows no drift it is a CheckError, never InSync. A check that fails
// is no drift; it is named beside whatever the class is.
func (p *Plan) DriftReport(applied bool) DriftReport {
	switch {
	case p == nil:
		return DriftReport{Class: InSync}
	case p.Errored:
		return DriftReport{Class: CheckError, Checks: p.Checks}
	}
	report := p.report(applied)
	report.Checks = p.Checks
	if p.Incomplete && (report.Class == InSync || report.Class == ProviderNoise) {
		report.Class = CheckError
		report.Reason = "The engine deferred changes, so nobody knows yet whether these resources are in sync."
	}
	return report
}

func (p *Plan) report(applied bool) DriftReport {
	drift := map[string]Change{}
	for _, d := range p.Drift {
		drift[d.Address] = d
	}
	if len(p.Changes) > 0 || len(p.Invocations) > 0 {
		return p.changesReport(applied, drift)
	}
	var gone, noise, outputs []DriftedResource
	for _, d := range p.Drift {
		r := drifted(d)
		if r.Change == driftDeleted && d.Mode != "data" {
			gone = append(gone, r)
		} else {
			noise = append(noise, r)
		}
	}
	for _, o := range p.Outputs {
		outputs = append(outputs, o.drifted())
	}
	switch {
	case len(gone) > 0:
		return DriftReport{Class: CloudChange, Resources: append(gone, outputs...)}
	case len(outputs) > 0:
		return DriftReport{Class: OutputOnly, Resources: outputs}
	case len(noise) > 0:
		return DriftReport{Class: ProviderNoise, Resources: noise}
	}
	return DriftReport{Class: InSync}
}

func (p *Plan) changesReport(applied bool, drift map[string]Change) DriftReport {
	report := DriftReport{Class: CloudChange}
	commit := len(p.Invocations) > 0 // asks for changes that nothing in the cloud explains
	for _, i := range p.Invocations {
		report.Unexplained = append(report.Unexplained, i.Address)
	}
	seen := map[string]bool{}
	for _, c := range p.Changes {
		d, drifts := drift[c.Address]
		if !drifts && c.Previous != "" {
			d, drifts = drift[c.Previous]
		}
		relevant := p.relevantDrift(d.Address)
		if !c.explained(d, drifts, relevant) {
			commit = true
		}
		if !c.undoes(d, drifts, relevant) {
			report.Unexplained = append(report.Unexplained, c.Address)
		}
		seen[c.Address], seen[d.Address] = true, true
		report.Resources = append(report.Resources, c.drifted(d, drifts))
	}
	if commit && !applied {
		report.Class = UnappliedCommit
	}
	// What is gone from the cloud and from the configuration at once.
	for _, d := range p.Drift {
		if d.Action == Delete && d.Mode != "data" && !seen[d.Address] {
			report.Resources = append(report.Resources, drifted(d))
		}
	}
	slices.SortStableFunc(report.Resources, func(a, b DriftedResource) int { return strings.Compare(a.Address, b.Address) })
	return report
}

// drifted describes a change that would put right what d did.
func (c Change) drifted(d Change, drifts bool) DriftedResource {
	if drifts && d.Action == Delete || c.Action == Create {
		if !drifts {
			d = c
		}
		r := d.described(driftDeleted)
		r.Address, r.Action = c.Address, c.Action
		return r
	}
	if c.Action == Delete && !drifts {
		r := c.described(driftCreated)
		r.Action = c.Action
		return r
	}
	r := c.described(driftChanged)
	r.Action = c.Action
	deltas := c.deltas()
	if len(deltas) == 0 && drifts {
		deltas = d.deltas()
		for i := range deltas { // there, after is the cloud's
			deltas[i].before, deltas[i].after = deltas[i].after, deltas[i].before
		}
	}
	r.set(deltas)
	return r
}

// drifted describes an entry of Plan.Drift.
func drifted(d Change) DriftedResource {
	switch d.Action {
	case Delete, Forget:
		return d.described(driftDeleted)
	case Create:
		return d.described(driftCreated)
	}
	deltas := d.deltas()
	for i := range deltas {
		deltas[i].before, deltas[i].after = deltas[i].after, deltas[i].before
	}
	r := d.described(driftChanged)
	r.set(deltas)
	return r
}

// drifted describes an output whose value is another one.
func (o Output) drifted() DriftedResource {
	before, after := o.Values()
	r := DriftedResource{Address: "output." + o.Name, Change: driftChanged}
	r.set([]delta{{nil, "", before, after}})
	r.Attributes = nil // it has none
	return r
}

// described is what is said of a resource whatever happened to it.
func (c Change) described(change string) DriftedResource {
	r := DriftedResource{Address: c.Address, Change: change, Type: c.Type, Provider: c.Provider}
	before, _ := c.Values()
	object, _ := before.(map[string]any)
	r.ID, _ = object["id"].(string)
	for _, name := range []string{"arn", "name", "bucket", "identifier", "function_name", "key_id", "self_link"} {
		if s, ok := object[name].(string); ok && s != "" && s != r.ID && len(s) < 300 {
			r.Names = append(r.Names, s)
		}
	}
	if len(r.ID) > 300 {
		r.ID = ""
	}
	return r
}

// set puts the attributes that differ into r.
func (r *DriftedResource) set(deltas []delta) {
	slices.SortFunc(deltas, func(a, b delta) int { return strings.Compare(a.path, b.path) })
	canonical := []any{}
	for i, d := range deltas {
		if i < maxAttributes {
			r.Attributes = append(r.Attributes, d.path)
		}
		if i < maxValues {
			r.Values = append(r.Values, DriftedValue{Attribute: d.path, Cloud: Text(d.before), Git: Text(d.after)})
		}
		canonical = append(canonical, d.path, bare(d.before), bare(d.after))
	}
	r.Canonical = encode(canonical)
}
