package plan

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// The words of DriftedResource.Change.
const (
	driftChanged = "changed"
	driftDeleted = "deleted"
	driftCreated = "created"
)

// maxAttributes bounds the attributes that are named of one resource.
const maxAttributes = 50

// DriftReport says what the plan of a drift check means. applied is set where
// the plan was made at the inputs that were last applied: then Git asks for
// nothing new, so whatever the plan would change was changed in the cloud (or
// in the state).
//
// Otherwise the plan may show both. A change counts as made in the cloud where
// every attribute that it would write is one that the refresh found to differ
// (resource_drift), where it makes again what the refresh found gone, or where
// the refresh itself saw nothing at that resource but found something that the
// change depends on (relevant_attributes). As soon as one change is not
// explained so the class is UnappliedCommit, because correcting would apply
// that commit; the resources changed in the cloud are named all the same.
//
// Drift that no change follows from is ProviderNoise: the configuration is
// satisfied with it, be it churn of computed values or an attribute under
// ignore_changes. Two things are no noise: a resource that is gone is always a
// CloudChange, even where the configuration no longer wants it, and drift that
// reaches only outputs is OutputOnly. A failed plan is CheckError.
func (p *Plan) DriftReport(applied bool) DriftReport {
	switch {
	case p == nil:
		return DriftReport{Class: InSync}
	case p.Errored:
		return DriftReport{Class: CheckError}
	}
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
		outputs = append(outputs, DriftedResource{Address: "output." + o.Name, Change: driftChanged})
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
	if !applied && len(p.Invocations) > 0 {
		report.Class = UnappliedCommit // nothing in a cloud asks for an action
	}
	relevant := p.relevantDrift()
	seen := map[string]bool{}
	for _, c := range p.Changes {
		d, drifts := drift[c.Address]
		if !drifts && c.Previous != "" {
			d, drifts = drift[c.Previous]
		}
		if !applied && !c.explained(d, drifts, relevant) {
			report.Class = UnappliedCommit
		}
		seen[c.Address], seen[d.Address] = true, true
		report.Resources = append(report.Resources, c.drifted(d, drifts))
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

// relevantDrift reports whether something drifted that changes elsewhere
// depend on.
func (p *Plan) relevantDrift() bool {
	for _, d := range p.Drift {
		for _, r := range p.Relevant {
			rest, ok := strings.CutPrefix(r, d.Address)
			if !ok {
				continue
			}
			if rest == "" || d.Action == Delete && strings.HasPrefix(rest, ".") {
				return true
			}
			rest, ok = strings.CutPrefix(rest, ".")
			if ok && slices.ContainsFunc(d.changed(), func(path string) bool { return within(path, rest) || within(rest, path) }) {
				return true
			}
		}
	}
	return false
}

// within reports whether path is ancestor itself or below it.
func within(path, ancestor string) bool {
	rest, ok := strings.CutPrefix(path, ancestor)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// explained reports whether the change undoes what d says was changed in the
// cloud, or follows from what was.
func (c Change) explained(d Change, drifts, relevant bool) bool {
	switch c.Action {
	case Move, Import, Forget, ReplaceForget:
		return false // blocks of the configuration ask for these
	case Create:
		return drifts && d.Action == Delete
	case Update, Replace, ReplaceCreateFirst:
		if !drifts {
			return relevant
		}
		theirs := d.changed()
		mine := c.changed()
		return len(mine) > 0 && !slices.ContainsFunc(mine, func(path string) bool {
			return !slices.ContainsFunc(theirs, func(t string) bool { return within(path, t) || within(t, path) })
		})
	}
	return false
}

// drifted describes a change that would put right what d did.
func (c Change) drifted(d Change, drifts bool) DriftedResource {
	r := DriftedResource{Address: c.Address, Change: driftChanged}
	switch {
	case drifts && d.Action == Delete, c.Action == Create:
		r.Change = driftDeleted
		return r
	case c.Action == Delete && !drifts:
		r.Change = driftCreated
		return r
	}
	r.Attributes = c.changed()
	if len(r.Attributes) == 0 && drifts {
		r.Attributes = d.changed()
	}
	r.Attributes = r.Attributes[:min(len(r.Attributes), maxAttributes)]
	return r
}

// drifted describes an entry of Plan.Drift.
func drifted(d Change) DriftedResource {
	switch d.Action {
	case Delete, Forget:
		return DriftedResource{Address: d.Address, Change: driftDeleted}
	case Create:
		return DriftedResource{Address: d.Address, Change: driftCreated}
	}
	attributes := d.changed()
	return DriftedResource{Address: d.Address, Change: driftChanged, Attributes: attributes[:min(len(attributes), maxAttributes)]}
}

// changed returns the deepest paths that the change gives another value that
// is known, sorted. What is only known after the apply follows from the rest.
func (c Change) changed() []string {
	before, after := c.Values()
	paths := map[string]bool{}
	changedPaths(nil, before, after, paths)
	for _, raw := range c.Replace {
		if path := ParsePath(raw).String(); !bytes.Equal(raw, []byte("null")) && path != "" {
			below := func(p string) bool { return within(p, path) }
			if !slices.ContainsFunc(slices.Collect(maps.Keys(paths)), below) {
				paths[path] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(paths))
}

func changedPaths(path Path, before, after any, out map[string]bool) {
	if _, unknown := after.(Unknown); unknown || equal(before, after) {
		return
	}
	if b, ok := before.(map[string]any); ok {
		if a, ok := after.(map[string]any); ok {
			keys := map[string]bool{}
			for k := range b {
				keys[k] = true
			}
			for k := range a {
				keys[k] = true
			}
			for k := range keys {
				changedPaths(path.with(k), b[k], a[k], out)
			}
			return
		}
	}
	if b, ok := before.([]any); ok {
		if a, ok := after.([]any); ok && len(a) == len(b) {
			for i := range a {
				changedPaths(path.with(i), b[i], a[i], out)
			}
			return
		}
	}
	if len(path) > 0 {
		out[path.String()] = true
	}
}
