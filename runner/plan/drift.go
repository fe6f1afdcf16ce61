package plan

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
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

// relevantDrift reports whether something drifted that changes depend on, at
// another address than the given one.
func (p *Plan) relevantDrift(but string) bool {
	for _, d := range p.Drift {
		if d.Address == but {
			continue
		}
		for _, r := range p.Relevant {
			if whole, ok := strings.CutPrefix(d.Address, r); ok && strings.HasPrefix(whole, "[") {
				return true // all instances are
			}
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
// cloud, or follows from what was. relevant says that something drifted
// elsewhere which the plan depends on.
func (c Change) explained(d Change, drifts, relevant bool) bool {
	switch {
	case c.imports():
		return false // a block of the configuration asks for it, as for moves and the like
	case c.Action == Create:
		return drifts && d.Action == Delete && c.again(d)
	case !c.updates():
		return false
	}
	return drifts && c.restores(d) || relevant && !(drifts && c.meets(d))
}

// undoes reports whether the change does nothing but put back what the refresh
// found changed. One that follows another resource's drift does not: it would
// spread that drift, but for values that are known only after the apply.
func (c Change) undoes(d Change, drifts, relevant bool) bool {
	switch {
	case c.imports():
		return false
	case c.Action == Create:
		return drifts && d.Action == Delete && c.again(d)
	case !c.updates():
		return false
	}
	return drifts && c.restores(d) || relevant && len(c.deltas()) == 0
}

func (c Change) imports() bool { return c.Import != "" || len(c.Importing) > 0 }

func (c Change) updates() bool {
	return c.Action == Update || c.Action == Replace || c.Action == ReplaceCreateFirst
}

// meets reports whether an attribute that the change would write drifted.
func (c Change) meets(d Change) bool {
	theirs := d.changed()
	return slices.ContainsFunc(c.changed(), func(path string) bool { return covered([]string{path}, theirs) })
}

// restores reports whether everything that the change would write drifted, and
// gets the value that it had before: where Git says something new by now, a
// commit was not applied.
func (c Change) restores(d Change) bool {
	mine, theirs := c.deltas(), d.changed()
	was, _ := d.Values()
	_, after := c.Values()
	for _, m := range mine {
		if !covered([]string{m.path}, theirs) || !alike(lookup(was, m.steps), lookup(after, m.steps)) {
			return false
		}
	}
	return len(mine) > 0
}

// again reports whether the change makes what d lost, and says nothing new.
func (c Change) again(d Change) bool {
	before, _ := d.Values()
	_, after := c.Values()
	was, _ := before.(map[string]any)
	object, _ := after.(map[string]any)
	for k, v := range object {
		if !blank(v) && !alike(was[k], v) {
			return false
		}
	}
	return true
}

// lookup returns what a path leads to; what hides the place stands for it.
func lookup(v any, path Path) any {
	for _, step := range path {
		switch c := v.(type) {
		case map[string]any:
			k, _ := step.(string)
			v = c[k]
		case []any:
			i, ok := step.(int)
			if !ok || i < 0 || i >= len(c) {
				return nil
			}
			v = c[i]
		case Unknown:
			return v
		case Sensitive:
			v = lookup(decode(json.RawMessage(c.canonical)), Path{step})
		default:
			return nil
		}
	}
	return v
}

// alike reports whether a provider may mean the same by both: they tell what
// is not set from what is empty as little as the spelling of JSON, and the
// engine converts between numbers and strings. What is unknown is like
// anything.
func alike(a, b any) bool {
	a, b = open(a), open(b)
	_, unknown := a.(Unknown)
	_, unknown2 := b.(Unknown)
	if unknown || unknown2 || blank(a) && blank(b) || equal(a, b) {
		return true
	}
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		for k := range y {
			if _, there := x[k]; !there && !blank(y[k]) {
				return false
			}
		}
		for k := range x {
			if !ok || !alike(x[k], y[k]) {
				return false
			}
		}
		return ok
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, alike)
	}
	s, ok := scalar(a)
	t, ok2 := scalar(b)
	return ok && ok2 && (s == t || sameDocument(s, t))
}

func open(v any) any {
	if s, ok := v.(Sensitive); ok {
		return decode(json.RawMessage(s.canonical))
	}
	return v
}

// blank reports whether v is how a provider writes that nothing is set.
func blank(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case json.Number:
		return v == "0"
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return string(v), true
	}
	return "", false
}

func sameDocument(a, b string) bool {
	document := func(s string) any {
		if !strings.HasPrefix(strings.TrimSpace(s), "{") && !strings.HasPrefix(strings.TrimSpace(s), "[") || !json.Valid([]byte(s)) {
			return nil
		}
		return decode(json.RawMessage(s))
	}
	x, y := document(a), document(b)
	return x != nil && equal(x, y)
}

// covered reports whether each path is one of the others, above or below one.
func covered(paths, others []string) bool {
	return !slices.ContainsFunc(paths, func(path string) bool {
		return !slices.ContainsFunc(others, func(o string) bool { return within(path, o) || within(o, path) })
	})
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

// delta is an attribute that a change gives another value.
type delta struct {
	steps         Path
	path          string
	before, after any
}

// changed returns the paths of deltas, sorted.
func (c Change) changed() []string {
	deltas := c.deltas()
	paths := make([]string, len(deltas))
	for i, d := range deltas {
		paths[i] = d.path
	}
	slices.Sort(paths)
	return paths
}

// deltas returns the deepest paths that the change gives another value that is
// known. What is only known after the apply follows from the rest.
func (c Change) deltas() []delta {
	before, after := c.Values()
	var out []delta
	changedPaths(nil, before, after, &out)
	for _, raw := range c.Replace {
		steps := ParsePath(raw)
		if path := steps.String(); !bytes.Equal(raw, []byte("null")) && path != "" {
			if !slices.ContainsFunc(out, func(d delta) bool { return within(d.path, path) }) {
				out = append(out, delta{steps, path, nil, Unknown{}})
			}
		}
	}
	return out
}

func changedPaths(path Path, before, after any, out *[]delta) {
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
		*out = append(*out, delta{path, path.String(), before, after})
	}
}
