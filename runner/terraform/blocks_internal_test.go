package terraform

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// What is asked for in a comment becomes one block, whatever it is.
func FuzzBlocks(f *testing.F) {
	for _, address := range []string{
		"a.b", `module.net["a"].aws_instance.web[0]`, `a.b["\"\\ $${x} %%{y}"]`, "a.b\n}\nmodule \"x\" {}", "a./**/b", "a . b", `a.b["${x}"]`, "module.module.a.b", "a.b[1e3]",
	} {
		f.Add(address, "i-1", true)
		f.Add(address, "\"\n${x}%{if y}\\\u2028\x00", true)
		f.Add(address, "", false)
	}
	f.Fuzz(func(t *testing.T, address, id string, imported bool) {
		dir := t.TempDir()
		b := Block{Import: imported, Address: address, ID: id}
		if WriteBlocks(Module{Root: dir, Dir: dir}, []Block{b}) != nil {
			return
		}
		src, err := os.ReadFile(filepath.Join(dir, commandsFile))
		if err != nil {
			t.Fatal(err)
		}
		parsed, diags := hclsyntax.ParseConfig(src, commandsFile, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatalf("%+v: %v\n%s", b, diags, src)
		}
		body := parsed.Body.(*hclsyntax.Body)
		if len(body.Attributes) != 0 || len(body.Blocks) != 1 {
			t.Fatalf("%+v:\n%s", b, src)
		}
		name, attrs := "removed", body.Blocks[0].Body.Attributes
		at := attrs["from"]
		if imported {
			name, at = "import", attrs["to"]
			if v, diags := attrs["id"].Expr.Value(nil); diags.HasErrors() || !v.RawEquals(cty.StringVal(id)) {
				t.Errorf("id %q: %#v, %v", id, v, diags)
			}
		}
		if body.Blocks[0].Type != name {
			t.Errorf("%+v: a block %q", b, body.Blocks[0].Type)
		}
		got, diags := hcl.AbsTraversalForExpr(at.Expr)
		want, _, err := parseAddress(address)
		if diags.HasErrors() || err != nil || len(got) != len(want) {
			t.Fatalf("%+v: %v, %v\n%s", b, diags, err, src)
		}
		for i, step := range want {
			if a, b := key(step), key(got[i]); a != b {
				t.Errorf("%q: step %d is %q, not %q", address, i, b, a)
			}
		}
	})
}

// key describes a step of an address.
func key(step hcl.Traverser) string {
	switch step := step.(type) {
	case hcl.TraverseRoot:
		return step.Name
	case hcl.TraverseAttr:
		return step.Name
	case hcl.TraverseIndex:
		return step.Key.GoString()
	}
	return "?"
}

func TestLeftoversAreBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := Module{Root: dir, Dir: dir}
	for limit, fails := range map[int]bool{11: false, 10: true, 1: true} { // the directory itself is one
		if _, err := m.leftovers(func(string) bool { return true }, limit); (err != nil) != fails {
			t.Errorf("at most %d: %v", limit, err)
		}
	}
}
