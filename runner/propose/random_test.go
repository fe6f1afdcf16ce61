package propose

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"slices"
	"strings"

	"holdfast/runner/plan"
)

// generator writes random configurations. All resources are of the type x_a,
// whose attributes have the kinds of schema.
type generator struct {
	*rand.Rand
	comments int
	b        strings.Builder
}

// kinds of attributes; "rules" and "one" are nested blocks.
var schema = map[string]string{
	"name": "string", "size": "number", "on": "bool", "tags": "map", "zones": "list",
	"conf": "object", "items": "objects",
}

var words = []string{"a", "b", "web", "x y", "a.b/c", "${no}", "%{if}", `say "hi"`, "two\nlines\n", "", "é", "10.0.0.0/8"}

func (g *generator) word() string { return words[g.Intn(len(words))] }

func (g *generator) key() string { return []string{"a", "b", "c", "env", "a.b/c", "x y"}[g.Intn(6)] }

// value makes a value of a kind.
func (g *generator) value(kind string) any {
	switch kind {
	case "string":
		return g.word()
	case "number":
		return json.Number([]string{"0", "1", "-5", "80", "0.5", "443"}[g.Intn(6)])
	case "bool":
		return g.Intn(2) == 0
	case "map":
		out := map[string]any{}
		for range g.Intn(4) {
			out[g.key()] = g.word()
		}
		return out
	case "list":
		out := []any{}
		for range g.Intn(5) {
			out = append(out, g.word())
		}
		return out
	case "object":
		return map[string]any{"port": g.value("number"), "host": g.value("string"), "tags": g.value("map"), "zones": g.value("list")}
	case "objects", "rules":
		out := []any{}
		for range g.Intn(4) {
			out = append(out, map[string]any{"port": g.value("number"), "host": g.value("string")})
		}
		return out
	}
	panic(kind)
}

func (g *generator) comment() string {
	g.comments++
	return fmt.Sprintf("# c%d", g.comments)
}

// source writes a value in one of the many ways to write it.
func (g *generator) source(v any, indent string) string {
	switch v := v.(type) {
	case string:
		switch g.Intn(8) {
		case 0:
			return "(" + quoted(v) + ")"
		case 1:
			if strings.HasSuffix(v, "\n") {
				return "<<-EOT\n" + indent + "  " + strings.ReplaceAll(strings.TrimSuffix(v, "\n"), "\n", "\n"+indent+"  ") + "\n" + indent + "EOT"
			}
		}
		return quoted(v)
	case []any:
		return g.sourceList(v, indent)
	case map[string]any:
		return g.sourceMap(v, indent)
	}
	return oneLine(v)
}

func (g *generator) sourceList(v []any, indent string) string {
	if g.Intn(2) == 0 {
		var parts []string
		for _, e := range v {
			parts = append(parts, oneLine(e))
		}
		return "[" + strings.Join(parts, ", ") + strings.Repeat(",", min(g.Intn(2), len(v))) + "]"
	}
	var b strings.Builder
	b.WriteString("[\n")
	for i, e := range v {
		if g.Intn(4) == 0 {
			b.WriteString(indent + "  " + g.comment() + "\n")
		}
		text := g.source(e, indent+"  ")
		b.WriteString(indent + "  " + text)
		if strings.HasPrefix(text, "<<") {
			b.WriteString("\n" + indent)
		}
		if i < len(v)-1 || g.Intn(2) == 0 {
			b.WriteString(",")
		}
		if g.Intn(4) == 0 {
			b.WriteString(" " + g.comment() + " trailing")
		}
		b.WriteString("\n")
	}
	return b.String() + indent + "]"
}

func (g *generator) sourceMap(v map[string]any, indent string) string {
	sign := []string{" = ", ": ", "="}[g.Intn(3)]
	key := func(k string) string {
		if g.Intn(3) == 0 {
			return quoted(k)
		}
		return objectKey(k)
	}
	keys := unionKeys(v, nil)
	g.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	if g.Intn(2) == 0 {
		var parts []string
		for _, k := range keys {
			parts = append(parts, key(k)+sign+oneLine(v[k]))
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	}
	var b strings.Builder
	b.WriteString("{\n")
	commas := g.Intn(2) == 0
	for _, k := range keys {
		if g.Intn(4) == 0 {
			b.WriteString(indent + "  " + g.comment() + "\n")
		}
		text := g.source(v[k], indent+"  ")
		b.WriteString(indent + "  " + key(k) + sign + text)
		if commas && !strings.HasPrefix(text, "<<") {
			b.WriteString(",")
		}
		if g.Intn(4) == 0 && !strings.HasPrefix(text, "<<") {
			b.WriteString(" " + g.comment() + " trailing")
		}
		b.WriteString("\n")
	}
	return b.String() + indent + "}"
}

// names of what attributes may refer to: by kind.
type pool map[string][]string

func (g *generator) pick(refs pool, kind string) (string, bool) {
	if list := refs[kind]; len(list) > 0 && g.Intn(2) == 0 {
		text := list[g.Intn(len(list))]
		if g.Intn(5) == 0 {
			text = `"${` + text + `}"`
		}
		return text, true
	}
	return "", false
}

// config writes the files of a root module and of one that it may call.
func (g *generator) config() Config {
	c := Config{Dir: ".", Files: map[string][]byte{}}
	refs := pool{}
	var locals, vars, tfvars strings.Builder
	locals.WriteString("locals {\n")
	for i, kind := range []string{"string", "number", "map", "list", "object", "object", "string", "rules"} {
		name := fmt.Sprintf("l%d", i)
		expr, ok := g.pick(refs, kind)
		if !ok {
			expr = g.source(g.value(kind), "  ")
		}
		fmt.Fprintf(&locals, "  %s = %s\n", name, expr)
		refs[kind] = append(refs[kind], "local."+name)
		if kind == "object" {
			refs["string"] = append(refs["string"], "local."+name+".host")
			refs["number"] = append(refs["number"], `local.`+name+`["port"]`)
		}
	}
	locals.WriteString("}\n")
	for i, kind := range []string{"string", "number", "map", "list", "object"} {
		name := fmt.Sprintf("v%d", i)
		fmt.Fprintf(&vars, "variable %q {\n  default = %s\n}\n", name, g.source(g.value(kind), "  "))
		if g.Intn(2) == 0 {
			fmt.Fprintf(&tfvars, "%s = %s\n", name, g.source(g.value(kind), ""))
		}
		refs[kind] = append(refs[kind], "var."+name)
	}
	g.b.Reset()
	for i := range 1 + g.Intn(3) {
		g.resource(fmt.Sprintf("r%d", i), refs)
	}
	for range g.Intn(2) {
		fmt.Fprintf(&g.b, "output \"o\" {\n  value = %s\n}\n", []string{"local.l4.port", "local.l0", "local.l2", "var.v1", "[local.l3]"}[g.Intn(5)])
	}
	if g.Intn(2) == 0 {
		g.module(c, refs)
	}
	c.Files["main.tf"] = []byte(g.b.String())
	c.Files["locals.tf"] = []byte(locals.String())
	c.Files["variables.tf"] = []byte(vars.String())
	c.Files["terraform.tfvars"] = []byte(tfvars.String())
	if g.Intn(2) == 0 {
		for name, data := range c.Files {
			c.Files[name] = []byte(tidy(string(data)))
		}
	}
	return c
}

// module writes a called module with one resource.
func (g *generator) module(c Config, refs pool) {
	inner := pool{"string": {"var.s"}, "map": {"var.m"}, "object": {"var.o"}, "list": {"local.zones"}}
	for i := range 1 + g.Intn(2) {
		fmt.Fprintf(&g.b, "module \"m%d\" {\n  source = \"./m\"\n", i)
		if g.Intn(3) == 0 {
			g.b.WriteString("  for_each = { x = { s = \"1\" }, y = { s = \"2\" } }\n  s = each.value.s\n")
		} else if expr, ok := g.pick(refs, "string"); ok {
			g.b.WriteString("  s = " + expr + "\n")
		}
		if expr, ok := g.pick(refs, "object"); ok {
			g.b.WriteString("  o = " + expr + "\n")
		}
		g.b.WriteString("  m = { a = local.l0, b = \"x\" }\n}\n")
	}
	outer := g.b.String()
	g.b.Reset()
	g.b.WriteString("variable \"s\" { default = \"s\" }\nvariable \"m\" {}\nvariable \"o\" { default = { port = 1, host = \"h\" } }\nlocals { zones = [\"a\", \"b\"] }\n")
	g.resource("inner", inner)
	c.Files["m/main.tf"] = []byte(g.b.String())
	g.b.Reset()
	g.b.WriteString(outer)
}

func (g *generator) resource(name string, refs pool) {
	fmt.Fprintf(&g.b, "resource \"x_a\" %q {\n", name)
	own := pool{}
	for k, v := range refs {
		own[k] = slices.Clone(v)
	}
	switch g.Intn(4) {
	case 0:
		g.b.WriteString("  count = 2\n")
		own["string"] = append(own["string"], `["p", "q"][count.index]`, "each.key")[:len(own["string"])+1]
	case 1:
		each := map[string]any{"k1": g.value("object"), "k 2": g.value("object")}
		g.b.WriteString("  for_each = " + g.source(each, "  ") + "\n")
		own["string"] = append(own["string"], "each.value.host", "each.key")
		own["map"] = append(own["map"], `each.value["tags"]`)
		own["object"] = append(own["object"], "each.value")
		own["list"] = append(own["list"], "each.value.zones")
	}
	for _, attr := range []string{"name", "size", "on", "tags", "zones", "conf", "items"} {
		if g.Intn(4) == 0 {
			continue
		}
		if g.Intn(4) == 0 {
			g.b.WriteString("  " + g.comment() + "\n")
		}
		expr, ok := g.pick(own, schema[attr])
		if !ok {
			expr = g.source(g.value(schema[attr]), "  ")
		}
		g.b.WriteString("  " + attr + " = " + expr)
		if g.Intn(4) == 0 && !strings.HasPrefix(expr, "<<") {
			g.b.WriteString(" " + g.comment() + " trailing")
		}
		g.b.WriteString("\n")
	}
	for _, e := range g.value("rules").([]any) {
		e := e.(map[string]any)
		if g.Intn(3) == 0 {
			g.b.WriteString("\n  " + g.comment() + "\n")
		}
		g.b.WriteString("  rules {\n    port = " + g.source(e["port"], "    ") + "\n")
		if g.Intn(3) > 0 {
			g.b.WriteString("    host = " + g.source(e["host"], "    ") + "\n")
		}
		g.b.WriteString("  }\n")
	}
	if g.Intn(3) == 0 {
		g.b.WriteString("\n  one { mode = \"m\" }\n")
	}
	g.b.WriteString("}\n\n")
}

// mutate changes one value somewhere in an instance's object.
func (g *generator) mutate(object map[string]any) map[string]any {
	out := copyTree(object).(map[string]any)
	for range 1 + g.Intn(3) {
		attr := []string{"name", "size", "on", "tags", "zones", "conf", "items", "rules", "one"}[g.Intn(9)]
		switch {
		case attr == "one":
			if list, _ := out["one"].([]any); len(list) > 0 {
				out["one"] = []any{map[string]any{"mode": g.word()}}
			}
		case attr == "rules":
			out[attr] = g.change(out[attr], "rules")
		case g.Intn(6) == 0:
			out[attr] = nil
		default:
			out[attr] = g.change(out[attr], schema[attr])
		}
	}
	return out
}

func (g *generator) change(v any, kind string) any {
	switch c := v.(type) {
	case map[string]any:
		if g.Intn(4) > 0 {
			for _, k := range unionKeys(c, nil) {
				if g.Intn(3) != 0 {
					continue
				}
				switch k {
				case "port":
					c[k] = g.value("number")
				case "tags", "zones":
					c[k] = g.change(c[k], map[string]string{"tags": "map", "zones": "list"}[k])
				default:
					c[k] = g.value("string")
				}
			}
			if kind == "map" {
				c[g.key()] = g.word()
			}
			return c
		}
	case []any:
		switch n := len(c); {
		case n > 0 && g.Intn(3) == 0:
			i := g.Intn(n)
			return slices.Delete(c, i, i+1)
		case n > 0 && g.Intn(2) == 0 && kind != "list":
			i := g.Intn(n)
			c[i].(map[string]any)["port"] = g.value("number")
			return c
		case g.Intn(2) == 0:
			return append(g.value(kind).([]any), c...)
		}
	}
	return g.value(kind)
}

func copyTree(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			out[k] = copyTree(e)
		}
		return out
	case []any:
		out := []any{}
		for _, e := range v {
			out = append(out, copyTree(e))
		}
		return out
	}
	return v
}

// drifts mutates some of the instances, sometimes all in the same way.
func (g *generator) drifts(objects map[string]map[string]any) (out []Drift) {
	addresses := []string{}
	for a := range objects {
		addresses = append(addresses, a)
	}
	slices.Sort(addresses)
	alike := g.Intn(2) == 0
	attr := []string{"name", "size", "on", "tags"}[g.Intn(4)]
	value := g.value(schema[attr])
	for _, a := range addresses {
		o := objects[a]
		switch {
		case alike:
			before := copyTree(o).(map[string]any)
			before[attr] = value
			if !plan.Equal(before, o) {
				out = append(out, Drift{Address: a, Before: before, After: o})
			}
		case g.Intn(2) == 0:
			if before := g.mutate(o); !plan.Equal(before, o) {
				out = append(out, Drift{Address: a, Before: before, After: o})
			}
		}
	}
	return out
}
