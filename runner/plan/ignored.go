package plan

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// This file leaves out of a report what rules cover, and tells two drifts apart.

// bare is a value with its secrets, for a keyed hash.
func bare(v any) any {
	switch v := v.(type) {
	case Sensitive:
		return map[string]any{"sensitive": v.canonical}
	case Unknown:
		return map[string]any{"unknown": true}
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, child := range v {
			out[k] = bare(child)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = bare(v[i])
		}
		return out
	}
	return v
}

// Digest is a keyed hash of what drifted and how, as Plan.Digest is of what
// changes: two checks with one digest found the same drift. It is to be taken
// of the report that DriftReport and Without made, not of a stored one.
func (r DriftReport) Digest(key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(encode([]any{"drift", string(r.Class)}))
	for _, d := range r.Resources {
		mac.Write(encode([]any{d.Address, d.Change, string(d.Action), string(d.Canonical)}))
	}
	if runs := r.runs(); len(runs) > 0 {
		mac.Write(encode([]any{"runs", strings.Join(runs, "\n")}))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// Without returns the report without the drift that rules cover, which it has
// in Ignored instead. covers says why an attribute of an address is left alone;
// attribute is empty for an output. What is gone from the cloud, what would be
// destroyed or replaced, and what Git asks for is never left out.
func (r DriftReport) Without(covers func(address, attribute string) (why string, ok bool)) DriftReport {
	if r.Class != CloudChange && r.Class != OutputOnly {
		return r
	}
	out, runs := r, r.runs()
	out.Resources = nil
	for _, d := range r.Resources {
		rest, ignored := d.without(covers)
		out.Ignored = append(out.Ignored, ignored...)
		if rest != nil {
			out.Resources = append(out.Resources, *rest)
		}
	}
	// What is left alone as a whole is not put right, so it needs no reason.
	out.Unexplained = slices.DeleteFunc(slices.Clone(r.Unexplained), func(address string) bool {
		is := func(d DriftedResource) bool { return d.Address == address }
		return slices.ContainsFunc(r.Resources, is) && !slices.ContainsFunc(out.Resources, is)
	})
	if len(out.Resources) == 0 && len(runs) == 0 {
		out.Class, out.Unexplained = InSync, nil
	}
	return out
}

// runs returns what would run beside the changes of resources.
func (r DriftReport) runs() (out []string) {
	for _, address := range r.Unexplained {
		if !slices.ContainsFunc(r.Resources, func(d DriftedResource) bool { return d.Address == address }) {
			out = append(out, address)
		}
	}
	return out
}

// without is Without for one resource; rest is nil where nothing is left.
func (d DriftedResource) without(covers func(address, attribute string) (string, bool)) (rest *DriftedResource, ignored []IgnoredDrift) {
	isOutput := d.Type == "" && d.Action == ""
	if d.Change != driftChanged || d.Action != Update && !isOutput || len(d.Attributes) >= maxAttributes {
		return &d, nil
	}
	if isOutput {
		if why, ok := covers(d.Address, ""); ok {
			return nil, []IgnoredDrift{{Address: d.Address, Reason: why}}
		}
		return &d, nil
	}
	left := d
	left.Attributes, left.Values, left.Canonical = nil, nil, nil
	reasons := map[string]int{}
	for _, a := range d.Attributes {
		why, ok := covers(d.Address, a)
		if !ok {
			left.Attributes = append(left.Attributes, a)
			continue
		}
		i, known := reasons[why]
		if !known {
			i = len(ignored)
			reasons[why] = i
			ignored = append(ignored, IgnoredDrift{Address: d.Address, Reason: why})
		}
		ignored[i].Attributes = append(ignored[i].Attributes, a)
	}
	switch {
	case len(left.Attributes) == 0 && len(d.Attributes) > 0:
		return nil, ignored
	case len(ignored) == 0:
		return &d, nil
	}
	for _, v := range d.Values {
		if slices.Contains(left.Attributes, v.Attribute) {
			left.Values = append(left.Values, v)
		}
	}
	// An ignored attribute that changes again does not make this another drift.
	kept := []any{}
	all, _ := decode(d.Canonical).([]any)
	for i := 0; i+2 < len(all); i += 3 {
		if path, _ := all[i].(string); slices.Contains(left.Attributes, path) {
			kept = append(kept, all[i], all[i+1], all[i+2])
		}
	}
	left.Canonical = encode(kept)
	return &left, ignored
}

// First returns the report with the first n resources, ignored ones and checks;
// More counts the resources that are left out.
func (r DriftReport) First(n int) DriftReport {
	if left := len(r.Resources) - n; left > 0 {
		r.Resources, r.More = r.Resources[:n], r.More+left
	}
	r.Ignored = r.Ignored[:min(len(r.Ignored), n)]
	r.Unexplained = r.Unexplained[:min(len(r.Unexplained), n)]
	r.Checks = r.Checks[:min(len(r.Checks), n)]
	return r
}
