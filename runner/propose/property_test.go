package propose

import (
	"flag"
	"fmt"
	"maps"
	"math/rand"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"holdfast/runner/plan"
)

// evaluated is a configuration as the engine would see it, evaluated with the
// library and not with the code under test.
type evaluated struct {
	t       *testing.T
	files   map[string][]byte
	objects map[string]map[string]any // by instance address
	outputs map[string]any            // by module address
}

func evaluate(t *testing.T, c Config) evaluated {
	t.Helper()
	ev := evaluated{t: t, files: c.Files, objects: map[string]map[string]any{}, outputs: map[string]any{}}
	set := map[string]cty.Value{}
	if data := c.Files["terraform.tfvars"]; data != nil {
		for name, a := range ev.parse("terraform.tfvars").Attributes {
			set[name] = ev.value(a.Expr, nil)
		}
	}
	ev.module(".", "", set)
	return ev
}

func (ev evaluated) parse(name string) *hclsyntax.Body {
	ev.t.Helper()
	f, diags := hclsyntax.ParseConfig(ev.files[name], name, hcl.InitialPos)
	if diags.HasErrors() {
		ev.t.Fatalf("%s\n%s", diags, ev.files[name])
	}
	return f.Body.(*hclsyntax.Body)
}

func (ev evaluated) value(e hclsyntax.Expression, ctx *hcl.EvalContext) cty.Value {
	ev.t.Helper()
	v, diags := e.Value(ctx)
	if diags.HasErrors() {
		ev.t.Fatal(diags)
	}
	return v
}

func (ev evaluated) module(dir, prefix string, vars map[string]cty.Value) {
	ev.t.Helper()
	var blocks []*hclsyntax.Block
	for _, name := range slices.Sorted(maps.Keys(ev.files)) {
		if path.Dir(name) == dir && strings.HasSuffix(name, ".tf") {
			blocks = append(blocks, ev.parse(name).Blocks...)
		}
	}
	vars = maps.Clone(vars)
	locals := map[string]hclsyntax.Expression{}
	for _, b := range blocks {
		switch b.Type {
		case "variable":
			if _, set := vars[b.Labels[0]]; !set {
				vars[b.Labels[0]] = ev.value(b.Body.Attributes["default"].Expr, nil)
			}
		case "locals":
			for name, a := range b.Body.Attributes {
				locals[name] = a.Expr
			}
		}
	}
	ctx := &hcl.EvalContext{Variables: map[string]cty.Value{"var": cty.ObjectVal(vars), "local": cty.EmptyObjectVal}}
	done := map[string]cty.Value{}
	for round := 0; len(done) < len(locals); round++ {
		if round > len(locals) {
			ev.t.Fatalf("the locals of %q cannot be evaluated:\n%s", dir, ev.files["locals.tf"])
		}
		for name, e := range locals {
			if v, diags := e.Value(ctx); !diags.HasErrors() {
				done[name] = v
			}
		}
		ctx.Variables["local"] = cty.ObjectVal(done)
	}
	for _, b := range blocks {
		switch b.Type {
		case "output":
			v, _ := tree(ev.value(b.Body.Attributes["value"].Expr, ctx))
			ev.outputs[prefix+b.Labels[0]] = v
		case "module":
			ev.instances(b, ctx, func(suffix string, ctx *hcl.EvalContext) {
				args := map[string]cty.Value{}
				for name, a := range b.Body.Attributes {
					if name != "source" && name != "for_each" {
						args[name] = ev.value(a.Expr, ctx)
					}
				}
				ev.module(path.Join(dir, "m"), prefix+"module."+b.Labels[0]+suffix+".", args)
			})
		case "resource":
			ev.instances(b, ctx, func(suffix string, ctx *hcl.EvalContext) {
				ev.objects[prefix+b.Labels[0]+"."+b.Labels[1]+suffix] = ev.object(b.Body, ctx)
			})
		}
	}
}

func (ev evaluated) instances(b *hclsyntax.Block, ctx *hcl.EvalContext, visit func(string, *hcl.EvalContext)) {
	if a := b.Body.Attributes["for_each"]; a != nil {
		for k, v := range ev.value(a.Expr, ctx).AsValueMap() {
			sub := ctx.NewChild()
			sub.Variables = map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(k), "value": v})}
			visit(fmt.Sprintf("[%q]", k), sub)
		}
		return
	}
	if b.Body.Attributes["count"] != nil {
		for i := range 2 {
			sub := ctx.NewChild()
			sub.Variables = map[string]cty.Value{"count": cty.ObjectVal(map[string]cty.Value{"index": cty.NumberIntVal(int64(i))})}
			visit(fmt.Sprintf("[%d]", i), sub)
		}
		return
	}
	visit("", ctx)
}

// object has all attributes of the schema.
func (ev evaluated) object(body *hclsyntax.Body, ctx *hcl.EvalContext) map[string]any {
	out := map[string]any{"rules": []any{}, "one": []any{}, "id": plan.Unknown{}}
	for name := range schema {
		out[name] = nil
		if a := body.Attributes[name]; a != nil {
			out[name], _ = tree(ev.value(a.Expr, ctx))
		}
	}
	for _, b := range body.Blocks {
		e := map[string]any{"port": nil, "host": nil}
		if b.Type == "one" {
			e = map[string]any{"mode": nil}
		}
		for name, a := range b.Body.Attributes {
			e[name], _ = tree(ev.value(a.Expr, ctx))
		}
		out[b.Type] = append(out[b.Type].([]any), e)
	}
	return out
}

func tree(v cty.Value) (any, bool) {
	switch {
	case v.IsNull():
		return nil, true
	case v.Type().IsTupleType():
		out := []any{}
		for _, e := range v.AsValueSlice() {
			sub, _ := tree(e)
			out = append(out, sub)
		}
		return out, true
	case v.Type().IsObjectType():
		out := map[string]any{}
		for k, e := range v.AsValueMap() {
			out[k], _ = tree(e)
		}
		return out, true
	}
	return fromCty(v)
}

var commentMark = regexp.MustCompile(`# c[0-9]+\b( trailing)?`)

// check runs one random case.
func check(t *testing.T, seed int64) Result {
	t.Helper()
	g := &generator{Rand: rand.New(rand.NewSource(seed))}
	c := g.config()
	old := evaluate(t, c)
	drift := g.drifts(old.objects)
	r := Propose(c, drift, nil)
	if seed%10 == 0 && cmp.Diff(r, Propose(c, drift, nil)) != "" {
		t.Fatal("two runs differ")
	}
	if len(r.Edits) == 0 {
		return r
	}
	edited := c
	edited.Files = maps.Clone(c.Files)
	maps.Copy(edited.Files, r.Files)
	now := evaluate(t, edited)
	fail := func(format string, args ...any) {
		t.Helper()
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(c.Files)) {
			fmt.Fprintf(&b, "-- %s --\n%s", name, c.Files[name])
			if r.Files[name] != nil {
				fmt.Fprintf(&b, "-- EDITED --\n%s", r.Files[name])
			}
		}
		t.Fatalf("seed %d: %s\nedits %+v\nrefused %+v\n%s", seed, fmt.Sprintf(format, args...), r.Edits, r.Refused, b.String())
	}
	checkValues(old, now, drift, r, fail)
	checkComments(c, r, fail)
	touched := map[string]bool{}
	for _, x := range r.Refused {
		touched[x.Address+" "+base(x.Attribute)] = true
	}
	for _, e := range Propose(edited, drift, nil).Edits {
		if !touched[e.Address+" "+base(e.Attribute)] {
			fail("again: %+v", e)
		}
	}
	return r
}

func base(attribute string) string {
	if i := strings.IndexAny(attribute, ".["); i >= 0 {
		return attribute[:i]
	}
	return attribute
}

// checkValues compares every attribute of every instance.
func checkValues(old, now evaluated, drift []Drift, r Result, fail func(string, ...any)) {
	if diff := cmp.Diff(old.outputs, now.outputs); diff != "" {
		fail("outputs: %s", diff)
	}
	if len(old.objects) != len(now.objects) {
		fail("other instances: %v", slices.Sorted(maps.Keys(now.objects)))
	}
	cloud := map[string]map[string]any{}
	for _, d := range drift {
		cloud[d.Address] = d.Before.(map[string]any)
	}
	edited, refused := map[string]bool{}, map[string]bool{}
	for _, e := range r.Edits {
		edited[e.Address+" "+base(e.Attribute)] = true
	}
	for _, e := range r.Refused {
		refused[e.Address+" "+base(e.Attribute)] = true
	}
	for address, was := range old.objects {
		for name, v := range was {
			key := address + " " + name
			is := now.objects[address][name]
			wants, drifted := v, cloud[address] != nil && !plan.Equal(cloud[address][name], v)
			if drifted {
				wants = cloud[address][name]
			}
			switch {
			case !edited[key] && !plan.Equal(is, v):
				fail("%s changed from %v to %v", key, v, is)
			case edited[key] && !refused[key] && !equalEnough(name, is, wants):
				fail("%s is %#v, the cloud has %#v", key, is, wants)
			case drifted && !edited[key] && !refused[key] && !equalEnough(name, is, wants):
				fail("%s is neither edited nor refused: %#v, the cloud has %#v", key, is, wants)
			}
		}
	}
}

// equalEnough compares like the engine, for which an absent key of an object
// is null.
func equalEnough(name string, a, b any) bool {
	if name == "rules" { // a new block leaves out what is empty
		a, b = withoutEmpty(a), withoutEmpty(b)
	}
	return complete(a, b)
}

func withoutEmpty(v any) any {
	out := []any{}
	for _, e := range v.([]any) {
		m := maps.Clone(e.(map[string]any))
		maps.DeleteFunc(m, func(_ string, v any) bool { return empty(v) })
		out = append(out, m)
	}
	return out
}

func checkComments(c Config, r Result, fail func(string, ...any)) {
	removes := slices.ContainsFunc(r.Edits, func(e Edit) bool {
		return e.To == "" || strings.HasPrefix(e.From, "[") || strings.HasPrefix(e.From, "{")
	})
	for name, data := range r.Files {
		for _, mark := range commentMark.FindAllString(string(c.Files[name]), -1) {
			if !strings.Contains(string(data), mark) && !(removes && (strings.HasSuffix(mark, "trailing") || hasInner(r, mark))) {
				fail("%s is gone", mark)
			}
		}
	}
}

// hasInner reports whether the comment was in what was replaced or removed.
func hasInner(r Result, mark string) bool {
	return slices.ContainsFunc(r.Edits, func(e Edit) bool { return strings.Contains(e.From, mark) })
}

var cases = flag.Int64("cases", 300, "how many random configurations to try")

func TestRandom(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // it is mostly short-lived garbage
	edits, refused := 0, 0
	for seed := range *cases {
		r := check(t, seed)
		edits += len(r.Edits)
		refused += len(r.Refused)
	}
	t.Logf("%d edits, %d refused", edits, refused)
	if edits < refused {
		t.Errorf("only %d edits, but %d refused", edits, refused)
	}
}
