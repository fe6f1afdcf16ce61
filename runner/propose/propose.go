// Package propose writes the cloud's values into a configuration, so that a
// good hotfix becomes a pull request.
//
// It is pure: it gets the files and what drifted, and returns edited files. It
// changes nothing but the drifted values. Where it cannot be sure of that it
// refuses and says why.
package propose

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/runner/plan"
)

// Config is a root module as the engine would read it.
type Config struct {
	// Files are path in the repository (slashes) → content: the *.tf (and
	// *.tofu) and *.tfvars of the root module, its variable files, and the *.tf
	// of all local modules. Files in JSON syntax are read, but never edited.
	Files map[string][]byte
	// Dir is the root module's directory in the repository; "." for the root.
	Dir string
	// VarFiles are relative to Dir, in the order of the command line.
	VarFiles []string
	// Shared says why a file must not be edited, such as "other workspaces use
	// it: staging"; "" where it may. Nil where all may.
	Shared func(path string) string
}

// Drift is one resource instance that differs from its configuration.
type Drift struct {
	Address string // the full instance address: module.a["k"].aws_x.name[0]
	// Before is the whole object as the cloud has it (change.before of a plan),
	// After as the configuration wants it (change.after): trees as
	// plan.Change.Values returns them.
	Before, After any
	Deleted       bool // it is gone from the cloud
	Created       bool // it is in the state, but not in the configuration
}

// Edit is one drifted value that the edited files now have. A literal that
// several instances share makes one Edit for each of them.
type Edit struct {
	Address, Attribute string // Attribute as plan.Path.String writes it
	Path               string // the file
	Line               int    // in the file before the edit, from 1
	From, To           string // HCL source text; "" where there is none
	Via                string // "local.size", "var.size in prod.tfvars", or ""
}

// Refusal is a drifted value that cannot be written, or must not be.
type Refusal struct{ Address, Attribute, Reason string }

// Result is what Propose returns.
type Result struct {
	Files   map[string][]byte // only those that changed
	Edits   []Edit            // sorted by address and attribute
	Refused []Refusal         // likewise
}

// request asks for one change of the source on behalf of one attribute.
// Requests with the same site meet at one place of the source.
type request struct {
	address, attribute string
	site               string
	text               string // what all requests at the site must agree on
	at                 place
	shape              bool   // it adds or removes the key that the place ends with
	hop                string // the first reference that led here; "" for none
	op                 op
	edit               Edit
}

type proposer struct {
	cfg      Config
	skip     func(address, attribute string) bool
	files    map[string]*file
	modules  map[string]*module
	root     *scope
	blank    *scope // without anything to refer to
	scopes   []*scope
	vars     map[string]varValue
	noVars   string                       // why the root module's variables are not known
	problem  string                       // why nothing can be edited
	known    map[instanceKey]instanceKeys // see instances
	budget   int                          // bounds the work for hostile input
	requests []*request
	refused  []Refusal
}

// maxWork bounds how many nodes are evaluated and followed in one Propose.
const maxWork = 4 << 20

// Propose returns the files with the cloud's values in them. skip, which may
// be nil, leaves out edits by their Address and Attribute; what it leaves out
// is in neither list. The result is deterministic.
func Propose(c Config, drift []Drift, skip func(address, attribute string) bool) Result {
	if skip == nil {
		skip = func(string, string) bool { return false }
	}
	p := &proposer{cfg: c, skip: skip, budget: maxWork, known: map[instanceKey]instanceKeys{}}
	p.load()
	seen := map[string]bool{}
	for _, d := range drift {
		if !seen[d.Address] {
			seen[d.Address] = true
			p.drift(d)
		}
	}
	return p.finish()
}

// drift makes the requests of one instance.
func (p *proposer) drift(d Drift) {
	t := target{address: d.Address}
	switch {
	case d.Deleted:
		p.refuse(t, "it was deleted in the cloud; remove its block, or let Holdfast make it again")
		return
	case d.Created:
		p.refuse(t, "it is not in the configuration")
		return
	case p.problem != "":
		p.refuse(t, p.problem)
		return
	case !sound(d.Before, 0) || !sound(d.After, 0):
		p.refuse(t, "its values cannot be read")
		return
	}
	want, ok := d.Before.(map[string]any)
	have, ok2 := d.After.(map[string]any)
	if !ok || !ok2 {
		p.refuse(t, wholeReason(d.Before, d.After))
		return
	}
	e, reason := p.find(d.Address)
	if reason != "" {
		p.refuse(t, reason)
		return
	}
	b := e.block
	t.ignored = ignoredChanges(b.Body)
	c := cursor{env: e, file: b.file, at: place{kind: inResource, mod: e.scope.mod, block: b}}
	t.address = e.address()
	p.body(t, c, b.Body, want, have)
}

func wholeReason(before, after any) string {
	for _, v := range []any{before, after} {
		switch v.(type) {
		case plan.Sensitive:
			return "it is sensitive"
		case plan.Unknown:
			return "it is known only after the apply"
		}
	}
	return "it has no values to compare"
}

// target is which attribute of which instance is being written.
type target struct {
	address string
	path    plan.Path
	closed  bool // what is below has no path of its own
	ignored []plan.Path
}

func (t target) step(s any) target {
	if !t.closed {
		t.path = append(slices.Clip(t.path), s)
	}
	return t
}

func (p *proposer) refuse(t target, reason string) {
	r := Refusal{Address: t.address, Attribute: t.path.String(), Reason: reason}
	if !p.skip(r.Address, r.Attribute) {
		p.refused = append(p.refused, r)
	}
}

func (p *proposer) refusef(t target, format string, args ...any) {
	p.refuse(t, fmt.Sprintf(format, args...))
}

// request records a change unless the caller does not want it.
func (p *proposer) request(t target, c cursor, r request) {
	r.address, r.attribute = t.address, t.path.String()
	if p.skip(r.address, r.attribute) {
		return
	}
	r.at, r.hop = c.at, c.hop
	r.edit.Address, r.edit.Attribute = r.address, r.attribute
	r.edit.Path, r.edit.Via = c.file.path, c.via
	r.op.file = c.file
	r.site = c.file.path + ":" + r.site
	p.requests = append(p.requests, &r)
}

// spend takes from the budget, and reports whether there was enough of it.
func (p *proposer) spend(n int) bool {
	p.budget -= n
	return p.budget > 0
}

// finish keeps the requests that are safe, and makes the edits.
func (p *proposer) finish() Result {
	accepted := p.accepted()
	res := Result{Files: map[string][]byte{}}
	for _, f := range p.sortedFiles() {
		if len(accepted[f]) == 0 {
			continue
		}
		out, ok := f.edited(accepted[f])
		if !ok {
			p.refuseAll(accepted[f], "the edited file could not be read")
			continue
		}
		res.Files[f.path] = out
		for _, r := range accepted[f] {
			res.Edits = append(res.Edits, r.edit)
		}
	}
	res.Edits = sortedEdits(res.Edits)
	slices.SortFunc(p.refused, func(a, b Refusal) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), strings.Compare(a.Attribute, b.Attribute), strings.Compare(a.Reason, b.Reason))
	})
	res.Refused = slices.Compact(p.refused)
	return res
}

// accepted returns the requests to grant. An attribute is edited as a whole or
// not at all; so a refusal takes other requests with it, and they others.
func (p *proposer) accepted() map[*file][]*request {
	type attribute struct{ address, attribute string }
	for {
		refused := map[attribute]bool{}
		for _, r := range p.refused {
			refused[attribute{r.Address, r.Attribute}] = true
		}
		p.requests = slices.DeleteFunc(p.requests, func(r *request) bool { return refused[attribute{r.address, r.attribute}] })
		groups := map[string][]*request{}
		for _, r := range p.requests {
			groups[r.site] = append(groups[r.site], r)
		}
		before := len(p.refused)
		out := map[*file][]*request{}
		for _, site := range slices.Sorted(maps.Keys(groups)) {
			g := groups[site]
			if reason := p.unsafe(g); reason != "" {
				p.refuseAll(g, reason)
				continue
			}
			out[g[0].op.file] = append(out[g[0].op.file], g...)
		}
		if len(p.refused) == before {
			return out
		}
	}
}

func (p *proposer) refuseAll(g []*request, reason string) {
	for _, r := range g {
		p.refused = append(p.refused, Refusal{r.address, r.attribute, reason})
	}
}

func (p *proposer) sortedFiles() []*file {
	var out []*file
	for _, f := range p.files {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	return out
}

func sortedEdits(edits []Edit) []Edit {
	slices.SortStableFunc(edits, func(a, b Edit) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), strings.Compare(a.Attribute, b.Attribute),
			strings.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
	})
	return slices.Compact(edits)
}

// unsafe says why the requests at one site must not be granted; "" where they
// may.
func (p *proposer) unsafe(g []*request) string {
	for _, r := range g[1:] {
		if r.text != g[0].text {
			return fmt.Sprintf("%s and %s want different values at %s:%d",
				g[0].address, r.address, g[0].edit.Path, g[0].edit.Line)
		}
	}
	if p.cfg.Shared != nil {
		if reason := p.cfg.Shared(g[0].edit.Path); reason != "" {
			return reason
		}
	}
	return p.usedElsewhere(g)
}
