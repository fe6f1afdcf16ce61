package propose

import (
	"fmt"
	"slices"
)

type placeKind int

// Where a literal stands.
const (
	inResource    placeKind = iota
	inForEach               // of a resource
	inCallForEach           // of a module's call
	inLocal
	inVarFile
	inDefault // of a variable
	inCall    // an argument of a module's call
)

// place is the definition that a literal is part of.
type place struct {
	kind  placeKind
	mod   *module // the one with the source
	block *block  // of inResource, inForEach, inCallForEach and inCall
	name  string  // of the local, the variable or the argument
	pos   []string
}

func (pl place) step(s string) place {
	pl.pos = append(slices.Clip(pl.pos), s)
	return pl
}

// use is one evaluation of what an edit would change.
type use struct {
	hop     string // the reference in the resource; "" for the literal itself
	address string // of the resource's instance
	where   string
	blocked string // why it can never want the new value; "" where it can
}

// usedElsewhere says who else than the requests would get the new value; ""
// for nobody. All requests are for one literal.
func (p *proposer) usedElsewhere(g []*request) string {
	r := g[0]
	w := &walk{p: p, shape: r.shape}
	w.literal(r.at)
	type wanted struct{ hop, address string }
	granted, passed := map[wanted]bool{}, map[string]bool{}
	for _, r := range g {
		granted[wanted{r.hop, r.address}] = true
		passed[r.hop] = true
	}
	name := r.edit.Via
	if r.at.kind == inLocal {
		name = "local." + r.at.name
	} else if name == "" {
		name = "the value"
	}
	for _, u := range w.uses {
		switch {
		case u.blocked != "":
			return u.blocked
		case granted[wanted{u.hop, u.address}]:
		case u.hop == "":
			return fmt.Sprintf("%s has the same line, and does not want this value", u.address)
		case passed[u.hop]:
			return fmt.Sprintf("%s is also used by %s at %s", name, u.address, u.where)
		case u.address == "":
			return fmt.Sprintf("%s is also used at %s", name, u.where)
		default:
			return fmt.Sprintf("%s is also used at %s", name, u.where)
		}
	}
	return ""
}

// walk follows a value forward, from its literal to all resources that use it.
type walk struct {
	p     *proposer
	shape bool
	uses  []use
	depth int
}

func (w *walk) block(why string) { w.uses = append(w.uses, use{blocked: why}) }

// elsewhere notes a use that can never want the new value.
func (w *walk) elsewhere(where string) { w.uses = append(w.uses, use{hop: "?", where: where}) }

// literal follows a literal in every instance of its module.
func (w *walk) literal(at place) {
	for _, s := range w.p.scopes {
		if s.mod != at.mod {
			continue
		}
		if s.closed != "" {
			w.block(s.closed)
			return
		}
		switch at.kind {
		case inResource:
			keys, known := w.p.instances(at.block, s)
			if !known {
				w.block("the instances of " + s.prefix + at.block.name + " cannot be told from the configuration")
			}
			for _, k := range keys {
				w.uses = append(w.uses, use{address: env{s, at.block, k}.address()})
			}
		case inForEach:
			w.each(s, at.block, at.pos)
		case inCallForEach:
			w.callEach(s, at.block, at.pos)
		case inLocal:
			w.from(s, "local", at.name, at.pos)
		case inVarFile:
			if s.parent == nil {
				w.from(s, "var", at.name, at.pos)
			}
		case inDefault:
			if d, _, _ := w.p.lookupVar(s, at.name); d.at.kind == inDefault {
				w.from(s, "var", at.name, at.pos)
			}
		case inCall:
			for _, child := range s.children[at.block.name] {
				w.from(child, "var", at.name, at.pos)
			}
		}
	}
}

// from follows the references in one module's instance to a local or variable,
// as far as they touch the path.
func (w *walk) from(s *scope, root, name string, path []string) {
	if w.depth > maxDepth || !w.p.spend(1) {
		w.block("it is used in too many ways")
		return
	}
	if s.closed != "" {
		w.block(s.closed)
		return
	}
	w.depth++
	defer func() { w.depth-- }()
	for _, r := range s.mod.refs {
		if r.root == root && len(r.steps) > 0 && r.steps[0].text == name && r.steps[0].expr == nil {
			w.ref(s, r, r.steps[1:], path)
		}
	}
}

// ref follows one reference whose steps may touch the path.
func (w *walk) ref(s *scope, r *ref, steps []step, path []string) {
	if !w.p.spend(1) {
		w.block("it is used in too many ways")
		return
	}
	if r.length {
		// An element's value does not matter, and a key that is added does. What
		// is not clear may be either.
		rest, touches := w.touch(env{scope: s}, steps, path)
		if !touches || len(rest) > 1 || len(rest) == 1 && !w.shape {
			return
		}
	}
	switch r.owner {
	case ownerResource:
		keys, known := w.p.instances(r.block, s)
		if _, touches := w.touch(env{scope: s}, steps, path); touches && !known {
			w.elsewhere(r.where)
			return
		}
		for _, k := range keys {
			e := env{s, r.block, k}
			if _, touches := w.touch(e, steps, path); touches {
				w.uses = append(w.uses, use{hop: r.id, address: e.address(), where: r.where})
			}
		}
	case ownerForEach, ownerCallForEach, ownerLocal, ownerCall:
		if r.owner == ownerCall {
			w.call(s, r, steps, path)
			return
		}
		rest, touches := w.touch(env{scope: s}, steps, path)
		switch at := slices.Concat(r.pos, rest); {
		case !touches:
		case r.opaque, w.breaks(steps, path):
			w.elsewhere(r.where)
		case r.owner == ownerForEach:
			w.each(s, r.block, at)
		case r.owner == ownerCallForEach:
			w.callEach(s, r.block, at)
		default:
			w.from(s, "local", r.name, at)
		}
	default:
		if _, touches := w.touch(env{scope: s}, steps, path); touches {
			w.elsewhere(r.where)
		}
	}
}

// call follows a reference in an argument of a module's call into the module.
func (w *walk) call(s *scope, r *ref, steps []step, path []string) {
	children := s.children[r.block.name]
	if len(children) == 0 {
		if _, touches := w.touch(env{scope: s}, steps, path); touches {
			w.elsewhere(r.where)
		}
		return
	}
	for _, child := range children {
		rest, touches := w.touch(env{s, r.block, child.key}, steps, path)
		switch {
		case !touches:
		case r.opaque, w.breaks(steps, path):
			w.elsewhere(r.where)
		default:
			w.from(child, "var", r.name, slices.Concat(r.pos, rest))
		}
	}
}

// touch reports whether a reference's value has something of the path in it,
// and what of the path is left then. A step that is not known may be any.
func (w *walk) touch(e env, steps []step, path []string) (rest []string, touches bool) {
	for i, s := range steps {
		if i == len(path) {
			return nil, true
		}
		text := s.text
		if s.expr != nil {
			var ok bool
			if text, ok = scalarText(w.p.eval(e, s.expr, 0)); !ok {
				continue
			}
		}
		if text != path[i] {
			return nil, false
		}
	}
	return path[len(steps):], true
}

// breaks reports whether a reference would lead nowhere, because it goes on in
// what is replaced, or to what is removed.
func (w *walk) breaks(steps []step, path []string) bool {
	return len(steps) > len(path) || w.shape && len(steps) == len(path)
}

// each follows a value in a resource's for_each to each.value.
func (w *walk) each(s *scope, b *block, path []string) {
	e, ok := w.eachEnv(s, b, path)
	if !ok {
		return
	}
	for _, r := range b.refs {
		if steps, ok := eachValue(r); ok {
			if _, touches := w.touch(e, steps, path[1:]); touches {
				w.uses = append(w.uses, use{hop: r.id, address: e.address(), where: r.where})
			}
		}
	}
}

// callEach does the same for a module's call.
func (w *walk) callEach(s *scope, b *block, path []string) {
	e, ok := w.eachEnv(s, b, path)
	if !ok {
		return
	}
	for _, r := range b.refs {
		steps, ok := eachValue(r)
		if !ok {
			continue
		}
		rest, touches := w.touch(e, steps, path[1:])
		switch {
		case !touches:
		case r.owner != ownerCall, r.opaque, w.breaks(steps, path[1:]):
			w.elsewhere(r.where)
		default:
			for _, child := range s.children[b.name] {
				if child.key == e.key {
					w.from(child, "var", r.name, slices.Concat(r.pos, rest))
				}
			}
		}
	}
}

// eachEnv returns the instance whose each.value a path in for_each is of.
func (w *walk) eachEnv(s *scope, b *block, path []string) (env, bool) {
	where := fmt.Sprintf("%s:%d", b.file.path, b.Body.Attributes["for_each"].SrcRange.Start.Line)
	if len(path) == 0 || w.shape && len(path) == 1 {
		w.elsewhere(where)
		return env{}, false
	}
	return env{s, b, path[0]}, true
}

// eachValue returns the steps after each.value.
func eachValue(r *ref) ([]step, bool) {
	switch {
	case r.root != "each":
		return nil, false
	case len(r.steps) == 0:
		return nil, true
	case r.steps[0].text != "value":
		return nil, false
	}
	return r.steps[1:], true
}
