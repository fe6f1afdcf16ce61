package workspaces

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// decoder reads the attributes and blocks of holdfast.hcl and collects what is
// wrong with them, so that all mistakes are shown at once.
type decoder struct {
	src      []byte
	problems Problems
}

// maxProblems is how many mistakes of holdfast.hcl are shown.
const maxProblems = 100

// problem notes a mistake at a place.
func (d *decoder) problem(rng hcl.Range, hint, format string, args ...any) {
	if len(d.problems) == maxProblems {
		return
	}
	d.problems = append(d.problems, At(d.src, rng, clean(fmt.Sprintf(format, args...)), clean(hint)))
}

// known refuses attributes and blocks that a body does not have, and blocks
// that it has twice. Where says whose body it is, for people.
func (d *decoder) known(body *hclsyntax.Body, where string, attributes, blocks []string) {
	for _, name := range slices.Sorted(maps.Keys(body.Attributes)) {
		a := body.Attributes[name]
		switch {
		case slices.Contains(attributes, name):
		case slices.Contains(blocks, name):
			d.problem(a.NameRange, fmt.Sprintf("write %s { … } without the equals sign", name), "%s is a block", name)
		default:
			d.problem(a.NameRange, Nearest(name, append(slices.Clone(attributes), blocks...)), "%s has no attribute %q", where, cut(name, 60))
		}
	}
	seen := map[string]bool{}
	for _, b := range body.Blocks {
		switch {
		case slices.Contains(attributes, b.Type):
			d.problem(b.TypeRange, fmt.Sprintf("write %s = …", b.Type), "%s is an attribute, not a block", b.Type)
		case !slices.Contains(blocks, b.Type):
			d.problem(b.TypeRange, Nearest(b.Type, append(slices.Clone(blocks), attributes...)), "%s has no block %q", where, cut(b.Type, 60))
		case !labelled(b.Type) && len(b.Labels) > 0:
			d.problem(b.LabelRanges[0], "leave the label out", "a %s block has no label", b.Type)
		case !labelled(b.Type) && seen[b.Type]:
			d.problem(b.TypeRange, "put both into one", "%s has a second %s block", where, b.Type)
		}
		seen[b.Type] = true
	}
}

// labelled reports whether blocks of that type have a label, and may be many.
func labelled(block string) bool { return block == "workspace" || block == "ignore" }

// value evaluates an attribute, which may be absent.
func (d *decoder) value(body *hclsyntax.Body, name string) (cty.Value, hcl.Range, bool) {
	a, ok := body.Attributes[name]
	if !ok {
		return cty.NilVal, hcl.Range{}, false
	}
	v, ok := constant(a.Expr)
	if !ok {
		d.problem(a.Expr.Range(), "write the value itself", "%s has to be a plain value: there are no variables and functions in %s", name, File)
		return cty.NilVal, hcl.Range{}, false
	}
	if v.IsNull() {
		d.problem(a.Expr.Range(), "leave the attribute out", "%s is null", name)
		return cty.NilVal, hcl.Range{}, false
	}
	return v, a.Expr.Range(), true
}

// text reads a string attribute into to, and returns where it is.
func (d *decoder) text(body *hclsyntax.Body, name string, to *string) (hcl.Range, bool) {
	v, rng, ok := d.value(body, name)
	if !ok {
		return rng, false
	}
	if v.Type() != cty.String {
		d.problem(rng, fmt.Sprintf("write %s = \"…\"", name), "%s has to be a string", name)
		return rng, false
	}
	*to = v.AsString()
	return rng, true
}

// choice reads a string attribute that is one of some words.
func (d *decoder) choice(body *hclsyntax.Body, name string, to *string, words ...string) {
	var s string
	rng, ok := d.text(body, name, &s)
	if !ok {
		return
	}
	if !slices.Contains(words, s) {
		d.problem(rng, Nearest(s, words), "%s is %q, which is none of %s", name, cut(s, 60), quoted(words))
		return
	}
	*to = s
}

// texts reads a list of strings, with the places of its elements.
func (d *decoder) texts(body *hclsyntax.Body, name string, to *[]string) ([]hcl.Range, bool) {
	v, rng, ok := d.value(body, name)
	if !ok {
		return nil, false
	}
	hint := fmt.Sprintf(`write %s = ["…"]`, name)
	if !v.Type().IsTupleType() {
		d.problem(rng, hint, "%s has to be a list of strings", name)
		return nil, false
	}
	list, ranges := make([]string, 0, v.LengthInt()), make([]hcl.Range, 0, v.LengthInt())
	elements := body.Attributes[name].Expr
	for i, e := range v.AsValueSlice() {
		at := rng
		if t, ok := elements.(*hclsyntax.TupleConsExpr); ok && i < len(t.Exprs) {
			at = t.Exprs[i].Range()
		}
		if e.IsNull() || e.Type() != cty.String {
			d.problem(at, hint, "%s has to be a list of strings", name)
			return nil, false
		}
		list, ranges = append(list, e.AsString()), append(ranges, at)
	}
	*to = list
	return ranges, true
}

// boolean reads true or false.
func (d *decoder) boolean(body *hclsyntax.Body, name string, to *bool) {
	v, rng, ok := d.value(body, name)
	if !ok {
		return
	}
	if v.Type() != cty.Bool {
		d.problem(rng, fmt.Sprintf("write %s = true", name), "%s has to be true or false", name)
		return
	}
	*to = v.True()
}

// count reads a whole number from 1.
func (d *decoder) count(body *hclsyntax.Body, name string, to *int) {
	v, rng, ok := d.value(body, name)
	if !ok {
		return
	}
	if v.Type() == cty.Number {
		f := v.AsBigFloat()
		if n, accuracy := f.Int64(); accuracy == 0 && f.IsInt() && n >= 1 && n <= 1_000_000 {
			*to = int(n)
			return
		}
	}
	d.problem(rng, fmt.Sprintf("write %s = 10", name), "%s has to be a whole number from 1 to 1000000", name)
}

// duration reads a length of time.
func (d *decoder) duration(body *hclsyntax.Body, name string, to *time.Duration) {
	var s string
	rng, ok := d.text(body, name, &s)
	if !ok {
		return
	}
	t, err := parseDuration(s)
	if err != nil || t <= 0 {
		d.problem(rng, `write it like "90m", "24h" or "7d"`, "%s is %q, which is no length of time", name, cut(s, 60))
		return
	}
	*to = t
}

// parseDuration is time.ParseDuration, and whole days: "7d".
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(s)
}
