package propose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// FuzzGenerated makes configurations, lets something drift, and evaluates what
// comes out with an engine of its own: only what drifted has another value,
// and each drifted value is written, refused, or there already.
func FuzzGenerated(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed)
	}
	f.Fuzz(proposeSeed)
}

func proposeSeed(t *testing.T, seed uint64) {
	g := &maker{Rand: rand.New(rand.NewPCG(seed, 1))}
	files := g.config()
	was, err := evaluateAll(files)
	if err != nil {
		t.Fatalf("%v\n%s", err, dump(files))
	}
	var drift []Drift
	wants := map[string]map[string]any{}
	addresses := slices.Sorted(maps.Keys(was))
	for _, address := range addresses {
		if strings.HasPrefix(address, "output.") || g.IntN(3) > 0 {
			continue
		}
		want := maps.Clone(was[address])
		for _, k := range slices.Sorted(maps.Keys(want)) {
			switch {
			case g.IntN(3) > 0:
			case k == "rule":
				want[k] = g.rules(want[k])
			default:
				want[k] = g.mutated(want[k], 0)
			}
		}
		wants[address] = want
		drift = append(drift, Drift{Address: address, Before: want, After: was[address]})
	}
	c := Config{Files: files, Dir: "."}
	res := Propose(c, drift, nil)
	edited := maps.Clone(files)
	maps.Copy(edited, res.Files)
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s\n%s\n== edited\n%s\n%+v\n%+v", fmt.Sprintf(format, args...), dump(files), dump(res.Files), res.Edits, res.Refused)
	}
	now, err := evaluateAll(edited)
	if err != nil {
		fail("%v", err)
	}
	if len(now) != len(was) {
		fail("%d instances, not %d", len(now), len(was))
	}
	refused := func(address, k string) bool {
		return slices.ContainsFunc(res.Refused, func(r Refusal) bool {
			return r.Address == address && (r.Attribute == "" || r.Attribute == k || strings.HasPrefix(r.Attribute, k+".") || strings.HasPrefix(r.Attribute, k+"["))
		})
	}
	for _, address := range addresses {
		for k, v := range was[address] {
			got := now[address][k]
			switch want, drifted := wants[address][k]; {
			case !drifted || refused(address, k):
				if !drifted && !loose(got, v) {
					fail("%s %s was %v and is %v", address, k, v, got)
				}
			case !loose(got, want):
				fail("%s %s should be %v and is %v (was %v)", address, k, want, got, v)
			}
		}
	}
}

func dump(files map[string][]byte) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&b, "-- %s --\n%s", name, files[name])
	}
	return b.String()
}

// loose compares what an engine with schemas would take for the same.
func loose(a, b any) bool {
	if empty(a) && empty(b) {
		return true
	}
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		for _, k := range unionKeys(x, y) {
			ok = ok && loose(x[k], y[k])
		}
		return ok
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		used := make([]bool, len(y))
		for _, e := range x {
			i := find(y, used, func(v any) bool { return loose(e, v) })
			if i < 0 {
				return false
			}
			used[i] = true
		}
		return true
	}
	return sameScalar(a, b) || sameJSON(a, b)
}

// evaluateAll is an engine without types and providers: the attributes of each
// instance, and the outputs.
func evaluateAll(files map[string][]byte) (map[string]map[string]any, error) {
	out := map[string]map[string]any{}
	vars := map[string]cty.Value{}
	if data, ok := files["terraform.tfvars"]; ok {
		f, diags := hclsyntax.ParseConfig(data, "terraform.tfvars", hcl.InitialPos)
		if diags.HasErrors() {
			return nil, diags
		}
		attrs, _ := f.Body.JustAttributes()
		for k, a := range attrs {
			v, diags := a.Expr.Value(nil)
			if diags.HasErrors() {
				return nil, diags
			}
			vars[k] = v
		}
	}
	return out, (&engine{files: files, out: out}).module(".", "", vars)
}

type engine struct {
	files map[string][]byte
	out   map[string]map[string]any
}

var functions = map[string]function.Function{
	"merge": stdlib.MergeFunc, "length": stdlib.LengthFunc, "jsonencode": stdlib.JSONEncodeFunc,
	"toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)), "upper": stdlib.UpperFunc,
}

func (e *engine) module(dir, prefix string, vars map[string]cty.Value) error {
	locals := map[string]hcl.Expression{}
	var blocks []*hclsyntax.Block
	values := maps.Clone(vars)
	for _, name := range slices.Sorted(maps.Keys(e.files)) {
		if path.Dir(name) != dir || !strings.HasSuffix(name, ".tf") {
			continue
		}
		f, diags := hclsyntax.ParseConfig(e.files[name], name, hcl.InitialPos)
		if diags.HasErrors() {
			return diags
		}
		for _, b := range f.Body.(*hclsyntax.Body).Blocks {
			switch b.Type {
			case "locals":
				for k, a := range b.Body.Attributes {
					locals[k] = a.Expr
				}
			case "variable":
				if _, set := values[b.Labels[0]]; !set {
					v, diags := b.Body.Attributes["default"].Expr.Value(nil)
					if diags.HasErrors() {
						return diags
					}
					values[b.Labels[0]] = v
				}
			default:
				blocks = append(blocks, b)
			}
		}
	}
	ctx := &hcl.EvalContext{Functions: functions, Variables: map[string]cty.Value{"var": cty.ObjectVal(values)}}
	done := map[string]cty.Value{}
	for len(done) < len(locals) {
		before := len(done)
		ctx.Variables["local"] = cty.ObjectVal(done)
		for k, expr := range locals {
			if v, diags := expr.Value(ctx); !diags.HasErrors() {
				done[k] = v
			}
		}
		if len(done) == before {
			return fmt.Errorf("locals of %s: %v", dir, slices.Sorted(maps.Keys(locals)))
		}
	}
	ctx.Variables["local"] = cty.ObjectVal(done)
	for _, b := range blocks {
		if err := e.block(ctx, b, dir, prefix); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) block(ctx *hcl.EvalContext, b *hclsyntax.Block, dir, prefix string) error {
	instances := map[string]map[string]cty.Value{"": {}}
	if a := b.Body.Attributes["for_each"]; a != nil {
		v, diags := a.Expr.Value(ctx)
		if diags.HasErrors() {
			return diags
		}
		instances = map[string]map[string]cty.Value{}
		for it := v.ElementIterator(); it.Next(); {
			k, v := it.Element()
			if k.Type() != cty.String {
				return fmt.Errorf("for_each at %s", a.SrcRange)
			}
			instances["["+quoted(k.AsString())+"]"] = map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": k, "value": v})}
		}
	} else if a := b.Body.Attributes["count"]; a != nil {
		v, diags := a.Expr.Value(ctx)
		if diags.HasErrors() {
			return diags
		}
		n, _ := v.AsBigFloat().Int64()
		instances = map[string]map[string]cty.Value{}
		for i := range n {
			instances[fmt.Sprintf("[%d]", i)] = map[string]cty.Value{"count": cty.ObjectVal(map[string]cty.Value{"index": cty.NumberIntVal(i)})}
		}
	}
	for suffix, own := range instances {
		sub := ctx.NewChild()
		sub.Variables = own
		values, err := e.attributes(sub, b.Body)
		if err != nil {
			return err
		}
		switch b.Type {
		case "module":
			if err := e.module(path.Join(dir, values["source"].AsString()), prefix+"module."+b.Labels[0]+suffix+".", values); err != nil {
				return err
			}
			continue
		case "output":
			b.Labels = append([]string{"output"}, b.Labels...)
		}
		object := map[string]any{}
		for k, v := range values {
			if object[k], err = plainTree(v); err != nil {
				return err
			}
		}
		for _, k := range names {
			if _, there := object[k]; !there && b.Type == "resource" {
				object[k] = nil
			}
		}
		address := prefix + strings.Join(b.Labels, ".") + suffix
		if b.Type == "output" {
			address = "output." + address
		}
		e.out[address] = object
	}
	return nil
}

func (e *engine) attributes(ctx *hcl.EvalContext, body *hclsyntax.Body) (map[string]cty.Value, error) {
	out := map[string]cty.Value{}
	for k, a := range body.Attributes {
		if k == "for_each" || k == "count" {
			continue
		}
		v, diags := a.Expr.Value(ctx)
		if diags.HasErrors() {
			return nil, diags
		}
		out[k] = v
	}
	nested := map[string][]cty.Value{}
	for _, b := range body.Blocks {
		sub, err := e.attributes(ctx, b.Body)
		if err != nil {
			return nil, err
		}
		for _, k := range []string{"x", "y"} {
			if _, there := sub[k]; !there {
				sub[k] = cty.NullVal(cty.DynamicPseudoType)
			}
		}
		nested[b.Type] = append(nested[b.Type], cty.ObjectVal(sub))
	}
	for k, list := range nested {
		out[k] = cty.TupleVal(list)
	}
	return out, nil
}

func plainTree(v cty.Value) (out any, err error) {
	data, err := ctyjson.SimpleJSONValue{Value: v}.MarshalJSON()
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return out, dec.Decode(&out)
}

// names are the attributes that every resource has; "rule" are blocks.
var names = []string{"a", "b", "c", "d", "version", "rule"}

type maker struct{ *rand.Rand }

func pick[T any](g *maker, list ...T) T { return list[g.IntN(len(list))] }

var keys = []string{"x", "y", "kubernetes.io/role", "Name", "z-1"}

func (g *maker) scalar() any {
	return pick[any](g, "s", "${x} %{y} \"q\" \\", "line\nline\n", "é😀", "", "true", json.Number("1"), json.Number("-2.5"), json.Number("1000"), true, false, "small", "large", "m")
}

func (g *maker) value(depth int) any {
	if depth > 2 {
		return g.scalar()
	}
	switch g.IntN(5) {
	case 0:
		out := []any{}
		for range g.IntN(4) {
			out = append(out, g.value(depth+1+g.IntN(2)))
		}
		return out
	case 1:
		return g.object(depth)
	}
	return g.scalar()
}

func (g *maker) object(depth int) map[string]any {
	out := map[string]any{}
	for range g.IntN(4) {
		out[pick(g, keys...)] = g.value(depth + 1)
	}
	return out
}

// mutated is another value, such as somebody gives it in a console.
func (g *maker) mutated(v any, depth int) any {
	if g.IntN(8) == 0 || v == nil || depth > 4 {
		return pick(g, any(nil), g.value(1))
	}
	switch v := v.(type) {
	case []any:
		out := slices.Clone(v)
		for range 1 + g.IntN(2) {
			switch i := g.IntN(len(out) + 1); {
			case i == len(out) || g.IntN(3) == 0:
				out = slices.Insert(out, i, g.value(depth+2))
			case g.IntN(2) == 0:
				out = slices.Delete(out, i, i+1)
			default:
				if w := g.mutated(out[i], depth+1); w != nil {
					out[i] = w
				}
			}
		}
		return out
	case map[string]any:
		out := maps.Clone(v)
		for _, k := range slices.Sorted(maps.Keys(out)) {
			switch g.IntN(4) {
			case 0:
				delete(out, k)
			case 1:
				out[k] = g.mutated(out[k], depth+1)
			}
		}
		if g.IntN(2) == 0 {
			out[pick(g, keys...)] = g.scalar()
		}
		return out
	}
	return g.scalar()
}

// rules is mutated for blocks, whose attributes have names by a schema.
func (g *maker) rules(v any) any {
	list, _ := v.([]any)
	list = slices.Clone(list)
	for i, e := range list {
		if rule := maps.Clone(e.(map[string]any)); g.IntN(2) == 0 {
			for _, k := range slices.Sorted(maps.Keys(rule)) {
				if g.IntN(2) == 0 {
					rule[k] = g.mutated(rule[k], 1)
				}
			}
			list[i] = rule
		}
	}
	if len(list) > 0 && g.IntN(3) == 0 {
		i := g.IntN(len(list))
		list = slices.Delete(list, i, i+1)
	}
	if g.IntN(3) == 0 {
		list = slices.Insert(list, g.IntN(len(list)+1), any(map[string]any{"x": g.scalar(), "y": g.value(2)}))
	}
	if len(list) == 0 {
		return v
	}
	return list
}

// text writes a value in one of the ways that people do.
func (g *maker) text(v any, indent string) string {
	flat := indent == "-" // on one line
	in := indent + pick(g, "  ", "\t", "    ")
	comment := func() string { return pick(g, "", "", "", " # note", " // note", " /* note */") }
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return pick(g, fmt.Sprint(v), quoted(fmt.Sprint(v)))
	case json.Number:
		return pick(g, string(v), string(v), "("+string(v)+")")
	case string:
		if strings.HasSuffix(v, "\n") && g.IntN(2) == 0 && !flat {
			return "<<-EOT\n" + in + strings.ReplaceAll(strings.TrimSuffix(v, "\n"), "\n", "\n"+in) + "\n" + indent + "EOT"
		}
		return quoted(v)
	case []any:
		if len(v) == 0 {
			if flat {
				return "[]"
			}
			return pick(g, "[]", "[ ]", "[\n"+indent+"]", "[\n"+in+"# none\n"+indent+"]")
		}
		if flat || g.IntN(2) == 0 {
			var parts []string
			for _, e := range v {
				parts = append(parts, g.text(e, "-"))
			}
			return "[" + strings.Join(parts, ", ") + pick(g, "", ",", " ") + "]"
		}
		var b strings.Builder
		b.WriteString("[" + comment() + "\n")
		for i, e := range v {
			text := g.text(e, in)
			comma := ","
			if i == len(v)-1 {
				comma = pick(g, ",", "")
			}
			if strings.Contains(text, "<<") && strings.HasSuffix(text, "EOT") {
				comma = "\n" + in + ","
			}
			b.WriteString(pick(g, "", in+"# about it\n") + in + text + comma + comment() + "\n")
		}
		return b.String() + indent + "]"
	case map[string]any:
		if len(v) == 0 {
			if flat {
				return "{}"
			}
			return pick(g, "{}", "{ }", "{\n"+indent+"}")
		}
		var parts []string
		long := !flat && g.IntN(2) == 0
		for _, k := range slices.Sorted(maps.Keys(v)) {
			key := objectKey(k)
			if g.IntN(3) == 0 {
				key = quoted(k)
			}
			sub := "-"
			if long {
				sub = in
			}
			parts = append(parts, key+pick(g, " = ", "=", " : ", ": ")+g.text(v[k], sub))
		}
		if !long {
			return "{ " + strings.Join(parts, ", ") + pick(g, " ", ", ", "") + "}"
		}
		var b strings.Builder
		b.WriteString("{" + comment() + "\n")
		for _, p := range parts {
			sep := pick(g, ",", "")
			if strings.HasSuffix(p, "EOT") {
				sep = ""
				b.WriteString(in + p + "\n")
				continue
			}
			b.WriteString(pick(g, "", in+"// about it\n") + in + p + sep + comment() + "\n")
		}
		return b.String() + indent + "}"
	}
	panic(fmt.Sprintf("%T", v))
}

// known is a name in a module, and its value.
type named struct {
	ref   string
	value any
}

// deeper goes into a value by a reference.
func (g *maker) deeper(n named) named {
	for g.IntN(3) > 0 {
		switch v := n.value.(type) {
		case map[string]any:
			if len(v) == 0 {
				return n
			}
			k := pick(g, slices.Sorted(maps.Keys(v))...)
			if hclsyntax.ValidIdentifier(k) && g.IntN(2) == 0 {
				n = named{n.ref + "." + k, v[k]}
			} else {
				n = named{n.ref + "[" + quoted(k) + "]", v[k]}
			}
		case []any:
			if len(v) == 0 {
				return n
			}
			i := g.IntN(len(v))
			n = named{fmt.Sprintf("%s[%d]", n.ref, i), v[i]}
		default:
			return n
		}
	}
	return n
}

func (g *maker) expr(scope []named, indent string) (string, any) {
	if len(scope) == 0 || g.IntN(3) == 0 {
		v := g.value(0)
		return g.text(v, indent), v
	}
	n := g.deeper(pick(g, scope...))
	switch m, isMap := n.value.(map[string]any); {
	case isMap && g.IntN(5) == 0:
		return "merge(" + n.ref + ", { q = 1 })", nil
	case g.IntN(12) == 0:
		return "jsonencode(" + g.text(map[string]any{"k": "v", "n": json.Number("1"), "l": []any{"a"}}, "-") + ")", nil
	case g.IntN(10) == 0:
		return "{ in = " + n.ref + ", lit = \"l\" }", map[string]any{"in": n.value, "lit": "l"}
	case g.IntN(10) == 0:
		return "[" + n.ref + ", \"l\"]", []any{n.value, "l"}
	case g.IntN(15) == 0:
		return "(" + n.ref + ")", n.value
	case g.IntN(20) == 0:
		return n.ref + " == \"s\" ? 1 : 2", nil
	case g.IntN(20) == 0:
		return "length([" + n.ref + "])", nil
	case g.IntN(20) == 0:
		return "{ for k, v in { a = " + n.ref + " } : k => v }", nil
	case isMap && len(m) == 0:
		return n.ref, n.value
	}
	return n.ref, n.value
}

func (g *maker) config() map[string][]byte {
	var main, vars, tfvars, mod strings.Builder
	var scope []named
	for i := range 1 + g.IntN(3) {
		v := g.value(0)
		text := g.text(v, "  ")
		if g.IntN(2) == 0 {
			fmt.Fprintf(&tfvars, "v%d = %s\n", i, g.text(v, ""))
			text = "\"unused\""
		}
		fmt.Fprintf(&vars, "variable \"v%d\" {\n  default = %s\n}\n", i, text)
		scope = append(scope, named{fmt.Sprintf("var.v%d", i), v})
	}
	scope = g.locals(&main, scope)
	g.resources(&main, scope)
	if g.IntN(3) == 0 {
		fmt.Fprintf(&main, "output \"o\" {\n  value = %s\n}\n", pick(g, scope...).ref)
	}
	var inner []named
	for i := range 2 {
		inner = append(inner, named{fmt.Sprintf("var.m%d", i), nil})
		fmt.Fprintf(&mod, "variable \"m%d\" { default = %s }\n", i, strings.ReplaceAll(quoted("d"), "\n", " "))
	}
	calls := g.IntN(3)
	for i := range calls {
		fmt.Fprintf(&main, "module \"c%d\" {\n  source = \"./m\"\n", i)
		if g.IntN(3) == 0 {
			fmt.Fprintf(&main, "  for_each = %s\n", g.text(map[string]any{"k1": "v", "k2": g.scalar()}, "  "))
			if g.IntN(2) == 0 {
				main.WriteString("  m1 = each.value\n")
			}
		}
		text, _ := g.expr(scope, "  ")
		fmt.Fprintf(&main, "  m0 = %s\n}\n", text)
	}
	inner = g.locals(&mod, inner)
	g.resources(&mod, inner)
	files := map[string][]byte{"main.tf": []byte(main.String()), "vars.tf": []byte(vars.String())}
	if tfvars.Len() > 0 {
		files["terraform.tfvars"] = []byte(tfvars.String())
	}
	if calls > 0 {
		files["m/main.tf"] = []byte(mod.String())
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch g.IntN(8) {
		case 0:
			files[name] = bytes.ReplaceAll(files[name], []byte("\n"), []byte("\r\n"))
		case 1:
			if !bytes.HasSuffix(files[name], []byte("EOT\n")) { // which needs its line's end
				files[name] = bytes.TrimSuffix(files[name], []byte("\n"))
			}
		}
	}
	return files
}

func (g *maker) locals(b *strings.Builder, scope []named) []named {
	b.WriteString("locals {\n")
	for i := range 1 + g.IntN(4) {
		text, v := g.expr(scope, "  ")
		fmt.Fprintf(b, "  l%d = %s%s\n", i, text, pick(g, "", "", "\n"))
		scope = append(scope, named{fmt.Sprintf("local.l%d", i), v})
	}
	b.WriteString("}\n")
	return scope
}

func (g *maker) resources(b *strings.Builder, scope []named) {
	for i := range 1 + g.IntN(3) {
		fmt.Fprintf(b, "resource \"x_r\" \"r%d\" {\n", i)
		own := scope
		switch g.IntN(8) {
		case 3:
			for _, n := range scope {
				m, _ := n.value.(map[string]any)
				if len(m) > 0 {
					fmt.Fprintf(b, "  for_each = %s\n", n.ref)
					own = append(slices.Clone(own), named{"each.value", nil}, named{"each.value", nil}, named{n.ref + "[each.key]", nil})
					break
				}
			}
		case 0:
			m := map[string]any{"one": g.object(1), "t.wo": g.object(1)}
			fmt.Fprintf(b, "  for_each = %s\n", g.text(m, "  "))
			own = append(slices.Clone(own), named{"each.value", nil}, named{"each.value", nil}, named{"each.key", nil})
		case 1:
			b.WriteString("  for_each = toset([\"one\", \"two\"])\n")
			own = append(slices.Clone(own), named{"each.value", nil}, named{"each.key", nil})
			own = append(own, named{g.text(map[string]any{"one": g.value(1), "two": g.value(1)}, "-") + "[each.key]", nil})
		case 2:
			for _, n := range scope {
				if l, ok := n.value.([]any); ok && len(l) > 0 {
					fmt.Fprintf(b, "  count = length(%s)\n", n.ref)
					own = append(slices.Clone(own), named{n.ref + "[count.index]", nil}, named{n.ref + "[count.index]", nil})
					break
				}
			}
		}
		for _, k := range names {
			if g.IntN(3) == 0 {
				continue
			}
			if k != "rule" {
				text, _ := g.expr(own, "  ")
				fmt.Fprintf(b, "  %s = %s%s\n", k, text, pick(g, "", "", "\n"))
				continue
			}
			for range g.IntN(4) {
				if g.IntN(3) == 0 {
					fmt.Fprintf(b, "  rule { x = %s }\n", g.text(g.IntN(100) > 50, "-"))
					continue
				}
				text, _ := g.expr(own, "    ")
				fmt.Fprintf(b, "\n  # a rule\n  rule {\n    x = %s\n    y = %s\n  }\n", g.text(pick[any](g, "p", json.Number("80")), "    "), text)
			}
		}
		b.WriteString("}\n")
	}
}
