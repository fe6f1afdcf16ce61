package propose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/rogpeppe/go-internal/txtar"

	"holdfast/runner/plan"
)

// FuzzPropose feeds any files with any values.
func FuzzPropose(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		files := map[string][]byte{}
		for _, file := range a.Files {
			files[file.Name] = file.Data
		}
		f.Add(files["main.tf"], files["locals.tf"], files["terraform.tfvars"], files["drift.json"])
	}
	f.Fuzz(func(t *testing.T, main, more, vars, values []byte) {
		c := Config{Dir: ".", Files: map[string][]byte{"main.tf": main, "m/main.tf": more, "more.tf": more, "terraform.tfvars": vars}}
		var list []driftJSON
		dec := json.NewDecoder(bytes.NewReader(values))
		dec.UseNumber()
		_ = dec.Decode(&list)
		var drift []Drift
		for _, d := range list {
			drift = append(drift, Drift{Address: d.Address, Before: d.Before, After: d.After, Deleted: d.Deleted, Created: d.Created})
		}
		r := Propose(c, drift, nil)
		for name, data := range r.Files {
			if _, diags := hclsyntax.ParseConfig(bytes.TrimPrefix(data, bom), name, hcl.InitialPos); diags.HasErrors() {
				t.Fatalf("%s: %s\n%s", name, diags, data)
			}
			if c.Files[name] == nil {
				t.Fatalf("%s is new", name)
			}
		}
		for _, refused := range r.Refused {
			if strings.Contains(refused.Reason, "could not be read") {
				t.Fatal(refused)
			}
		}
	})
}

// FuzzRandom is TestRandom with any seed.
func FuzzRandom(f *testing.F) {
	f.Add(int64(1))
	f.Fuzz(func(t *testing.T, seed int64) { check(t, seed) })
}

// FuzzParse reads any bytes as each kind of file.
func FuzzParse(f *testing.F) {
	f.Add([]byte("resource \"x_a\" \"b\" {\n  name = local.a\n}\nlocals { a = 1 }\n"), "b")
	f.Add([]byte(`{"resource": {"x_a": {"b": {}}}}`), "")
	f.Fuzz(func(t *testing.T, data []byte, value string) {
		for _, name := range []string{"main.tf", "terraform.tfvars", "x.auto.tfvars.json", "m.tf.json", "a_override.tf"} {
			c := Config{Dir: ".", Files: map[string][]byte{name: data, "base.tf": []byte("resource \"x_a\" \"b\" {\n  name = var.v\n}\nvariable \"v\" {}\n")}}
			Propose(c, []Drift{
				{Address: "x_a.b", Before: map[string]any{"name": value}, After: map[string]any{"name": "x"}},
				{Address: value, Before: map[string]any{"name": value}, After: map[string]any{"name": "x"}},
			}, nil)
		}
	})
}

// TestHostile has inputs that are made to exhaust a reader.
func TestHostile(t *testing.T) {
	var doubling strings.Builder
	doubling.WriteString("locals {\n  l0 = [\"a\"]\n  s0 = \"aaaaaaaaaaaaaaaa\"\n")
	for i := range 60 {
		fmt.Fprintf(&doubling, "  l%d = [local.l%d, local.l%d]\n  s%d = \"${local.s%d}${local.s%d}\"\n", i+1, i, i, i+1, i, i)
	}
	doubling.WriteString("}\n")
	use := "resource \"x_a\" \"b\" {\n  for_each = local.l60\n  name = local.s60\n  zones = local.l60\n size = local.s0\n}\n"
	deep := strings.Repeat("[", 50_000)
	tests := map[string]map[string]string{
		"brackets":     {"main.tf": "x = " + deep},
		"templates":    {"main.tf": "x = " + strings.Repeat(`"${`, 100_000)},
		"blocks":       {"main.tf": strings.Repeat("a {\n", 100_000)},
		"minus":        {"main.tf": "x = " + strings.Repeat("-", 100_000) + "1"},
		"not":          {"main.tf": "x = " + strings.Repeat("!", 100_000) + "true"},
		"conditions":   {"main.tf": "x = " + strings.Repeat("a ? b : ", 60_000) + "c"},
		"plus":         {"main.tf": "x = " + strings.Repeat("1+", 60_000) + "1"},
		"indices":      {"main.tf": "x = a" + strings.Repeat("[b]", 60_000)},
		"dots":         {"main.tf": "x = a" + strings.Repeat(".b", 60_000)},
		"splats":       {"main.tf": "x = a" + strings.Repeat("[*]", 60_000)},
		"large":        {"main.tf": strings.Repeat("# long\n", 1<<20)},
		"doubling":     {"main.tf": doubling.String() + use},
		"recursion":    {"main.tf": "module \"a\" {\n  source = \"./\"\n  count = 100\n}\nmodule \"b\" {\n  source = \"./.\"\n}\n"},
		"count":        {"main.tf": "resource \"x_a\" \"b\" {\n  count = 1e300\n  name = \"x\"\n}\n"},
		"number":       {"main.tf": "resource \"x_a\" \"b\" {\n  name = 1e999999\n}\n"},
		"json":         {"main.tf.json": deep, "terraform.tfvars.json": deep},
		"json objects": {"main.tf.json": strings.Repeat(`{"resource":`, 5000) + "1" + strings.Repeat("}", 5000)},
		"for each":     {"main.tf": "resource \"x_a\" \"b\" {\n  for_each = each.value\n  name = each.value.name\n}\n"},
		"own module":   {"main.tf": "module \"a\" {\n  source = \"../../..\"\n}\n"},
	}
	for name, files := range tests {
		t.Run(name, func(t *testing.T) {
			c := Config{Dir: ".", Files: map[string][]byte{}}
			for file, text := range files {
				c.Files[file] = []byte(text)
			}
			r := Propose(c, []Drift{{Address: "x_a.b", Before: map[string]any{"name": "y", "zones": []any{}, "size": "1"},
				After: map[string]any{"name": "x", "zones": []any{"x"}, "size": "2"}}}, nil)
			if name != "count" && name != "number" && len(r.Edits) > 0 {
				t.Errorf("edits %v", r.Edits)
			}
		})
	}
}

// TestHostileValues has values that no plan has.
func TestHostileValues(t *testing.T) {
	var deep any = "x"
	for range 1_000 {
		deep = []any{deep}
	}
	values := []any{deep, []string{"a"}, map[string]string{}, json.Number("1e999999999"), json.Number("x"), json.Number("NaN"),
		json.Number(strings.Repeat("9", 10_000)), "\xff", "\x00", "\u2028", "e\u0301", "\r\n", func() {}, 1, plan.Unknown{}}
	c := Config{Dir: ".", Files: map[string][]byte{"main.tf": []byte("resource \"x_a\" \"b\" {\n  name = \"x\"\n}\n")}}
	for i, v := range values {
		d := []Drift{{Address: "x_a.b", Before: map[string]any{"name": v}, After: map[string]any{"name": "x"}}}
		r := Propose(c, d, nil)
		if len(r.Edits)+len(r.Refused) != 1 {
			t.Errorf("%d: %+v", i, r)
		}
		if len(r.Edits) == 0 {
			continue
		}
		edited := Config{Dir: ".", Files: r.Files}
		if again := Propose(edited, d, nil); len(again.Edits) > 0 {
			t.Errorf("%d: again %+v", i, again)
		}
	}
}

// TestLineEnds: CRLF and a byte order mark stay.
func TestLineEnds(t *testing.T) {
	src := "resource \"x_a\" \"b\" {\r\n  name = \"x\"\r\n  text = <<EOT\r\na\r\nEOT\r\n}\r\n"
	c := Config{Dir: ".", Files: map[string][]byte{"main.tf": append([]byte("\xef\xbb\xbf"), src...)}}
	d := []Drift{{Address: "x_a.b", Before: map[string]any{"name": "y", "text": "a\nb\n", "tags": map[string]any{"a": "b"}},
		After: map[string]any{"name": "x", "text": "a\r\n", "tags": nil}}}
	want := "\xef\xbb\xbfresource \"x_a\" \"b\" {\r\n  name = \"y\"\r\n  text = \"a\\nb\\n\"\r\n  tags = {\r\n    a = \"b\"\r\n  }\r\n}\r\n"
	r := Propose(c, d, nil)
	if got := string(r.Files["main.tf"]); got != want {
		t.Errorf("got %q", got)
	}
	if again := Propose(Config{Dir: ".", Files: r.Files}, d, nil); len(again.Edits) > 0 {
		t.Errorf("again %+v", again)
	}
}

// TestRandomLineEnds: the edits of a file with CRLF are those of one without.
func TestRandomLineEnds(t *testing.T) {
	for seed := range int64(20) {
		g := &generator{Rand: rand.New(rand.NewSource(seed))}
		c := g.config()
		if bytes.Contains(bytes.Join([][]byte{c.Files["main.tf"], c.Files["locals.tf"], c.Files["variables.tf"], c.Files["terraform.tfvars"]}, nil), []byte("<<")) {
			continue // a heredoc's value has the line ends
		}
		drift := g.drifts(evaluate(t, c).objects)
		r := Propose(c, drift, nil)
		crlf := Config{Dir: ".", Files: map[string][]byte{}}
		for name, data := range c.Files {
			crlf.Files[name] = bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
		}
		for name, data := range Propose(crlf, drift, nil).Files {
			if got := bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")); bytes.Count(data, []byte("\r")) != bytes.Count(data, []byte("\n")) || string(got) != string(r.Files[name]) {
				t.Fatalf("seed %d: %s: %q, without: %q", seed, name, data, r.Files[name])
			}
		}
	}
}
