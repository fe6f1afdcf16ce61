package workspaces

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestInputs(t *testing.T) {
	const archive = `
live/b/out -> /etc/hostname
live/b/loop -> ../b
` + estate
	sum := func(t *testing.T, dir, workspace string) string {
		t.Helper()
		c, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := c.Inputs(dir, find(t, c, workspace))
		if err != nil || len(sum) != 64 {
			t.Fatalf("sum %q, error %v", sum, err)
		}
		return sum
	}
	base, copied := checkout(t, archive), checkout(t, archive)
	known := map[string]string{}
	for _, tc := range []struct {
		name, workspace string
		edits           []string
		same            bool
	}{
		{"own file", "a", []string{"live/a/main.tf: # x"}, false},
		{"new file", "a", []string{"live/a/x.txt: x"}, false},
		{"removed file", "a", []string{"live/a/templates/x/user.tpl"}, false},
		{"renamed file", "a", []string{"live/a/templates/x/user.tpl", "live/a/templates/y/user.tpl: "}, false},
		{"lock file", "a", []string{"live/a/.terraform.lock.hcl: # x"}, false},
		{"module", "a", []string{"modules/deeper/main.tf: # x"}, false},
		{"file of a module", "a", []string{"modules/top/files/x.sh: x"}, false},
		{"example of a module", "a", []string{"modules/top/examples/e/main.tf: # x"}, true},
		{"another module", "a", []string{"modules/other/main.tf: # x"}, true},
		{"var file", "a", []string{"vars/a.tfvars: x = 1"}, false},
		{"another's var file", "a-blue", []string{"vars/a.tfvars: x = 1"}, true},
		{"watched", "a", []string{"policies/x/y.json: {}"}, false},
		{"watched, new", "a", []string{".ci/run: x"}, false},
		{"not watched", "a", []string{"policies/x/y.txt: {}"}, true},
		{"root module below", "a", []string{"live/a/nested/main.tf: # x"}, true},
		{"behind a link", "live/b", []string{"shared/conf.yaml: x"}, false},
		{"behind another's link", "live/c", []string{"shared/conf.yaml: x"}, true},
		{"Holdfast's override", "live/c", []string{"live/c/holdfast_override.tf: terraform {\n  backend \"local\" {}\n}"}, true},
		{"the engine's directory", "live/c", []string{"live/c/.terraform/x: x", "live/c/errored.tfstate: x"}, true},
		{"policy", "live/c", []string{"holdfast.hcl: defaults {\n  apply {\n    on = \"comment\"\n  }\n}"}, true},
		{"engine", "live/c", []string{"holdfast.hcl: engine = \"tofu\""}, false},
		{"README", "live/c", []string{"README.md: x"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, ok := known[tc.workspace]
			if !ok {
				before = sum(t, base, tc.workspace)
				known[tc.workspace] = before
				if before != sum(t, copied, tc.workspace) {
					t.Error("not stable")
				}
			}
			after := sum(t, checkout(t, edit(archive, tc.edits...)), tc.workspace)
			if (before == after) != tc.same {
				t.Errorf("same: %v, want %v", before == after, tc.same)
			}
		})
	}
}

func TestInputsTracked(t *testing.T) {
	dir := checkout(t, "a/l -> ../b\n-- a/main.tf --\n-- a/.terraform.lock.hcl --\n-- b/x --\n")
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{"a/main.tf": "1", "a/.terraform.lock.hcl": "2", "a/l": "3", "b/x": "4"}
	c.Tracked = func(p string) (string, bool) {
		id, ok := ids[p]
		return id, ok
	}
	sum := func() string {
		t.Helper()
		sum, err := c.Inputs(dir, find(t, c, "a"))
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	before := sum()
	write(t, dir, "a/.terraform.lock.hcl", "# hashes that init added")
	write(t, dir, "a/terraform.tfstate", "{}")
	if sum() != before {
		t.Error("what an engine wrote counts")
	}
	for p := range ids {
		was := ids[p]
		ids[p] = "new"
		if sum() == before {
			t.Errorf("%s does not count", p)
		}
		ids[p] = was
	}
}

func TestInputsOfMissing(t *testing.T) {
	c := &Config{}
	if _, err := c.Inputs(filepath.Join(t.TempDir(), "none"), Workspace{Dir: "a"}); err == nil {
		t.Error("no error without a checkout")
	}
	if _, err := c.Inputs(t.TempDir(), Workspace{Dir: "a", Modules: []string{"b"}, VarFiles: []string{"c"}}); err != nil {
		t.Errorf("missing files: %v", err)
	}
	for _, dir := range []string{"..", "../x", "/etc"} {
		if _, err := c.Inputs(t.TempDir(), Workspace{Dir: dir}); err == nil {
			t.Errorf("reads %s", dir)
		}
	}
}

// FuzzLoad: no holdfast.hcl makes Load panic, and every mistake has its place.
func FuzzLoad(f *testing.F) {
	for _, archive := range []string{example, estate} {
		start := strings.Index(archive, "holdfast.hcl --\n") + len("holdfast.hcl --\n")
		f.Add(archive[start : start+strings.Index(archive[start:], "\n-- ")])
	}
	for _, seed := range []string{
		"", "\ufeffengine = 1", "workspace \"a\" {\n dir = \"a\"\n depends_on = [\"a\", \"b\"]\n}", "workspace \"..\" {}", "workspace \"a\" {\n dir = \"../a\"\n var_files = [\"x\"]\n}",
		"a = [for a in [1]: a]", "engine = <<X\nterraform\nX\n", "defaults {\n drift {\n schedule = \"TZ=\"\n}\n}", "version = 1/0", "discover { include = [\"{a,{b,c}}\"] }",
		"workspace \"a\" {\n drift {\n max_changes = 1e1000000\n}\n}",
		"defaults {\n apply {\n on = \"comment\"\n lock = \"plan\"\n automerge = true\n merge_method = \"squash\"\n on_push = true\n}\n}\nworkspace \"a\" {\n apply {\n on = \"merge\"\n}\n}",
	} {
		f.Add(seed)
	}
	dir := checkout(f, "-- a/main.tf --\n-- b/main.tf --\n-- a/x --\n")
	f.Fuzz(func(t *testing.T, src string) {
		write(t, dir, File, src)
		c, err := Load(dir)
		var problems Problems
		switch e := err.(type) {
		case nil:
			problems = c.Problems
			if _, err := c.Order(strings.Fields(names(c.Workspaces))); err != nil && len(problems) == 0 {
				t.Errorf("no order, and no problem: %v", err)
			}
			for _, w := range c.Workspaces {
				if !filepath.IsLocal(w.Dir) {
					t.Errorf("%q leaves the repository", w.Dir)
				}
				if _, err := c.Inputs(dir, w); err != nil {
					t.Error(err)
				}
			}
			c.Affected([]string{"a/main.tf", "b/x", File}, c)
		case Problems:
			problems = e
		default:
			t.Fatalf("error without a place: %v", err)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.File == "" || p.Message == "" {
				t.Errorf("problem without a place: %+v", p)
			}
			if text := p.String(); strings.ContainsAny(text, "\x00\x1b\r") {
				t.Errorf("control characters in %q", text)
			}
		}
	})
}

// FuzzModule: no configuration file ends the process or takes long.
func FuzzModule(f *testing.F) {
	f.Add("terraform {\n backend \"local\" {\n path = \"x\"\n}\n}\nmodule \"m\" { source = \"./m\" }\nprovider \"x\" {}", false)
	f.Add(`{"terraform": [{"backend": {"local": {"path": "${x}"}}}], "module": {"m": {"source": "../b"}}, "provider": {"x": [{}]}}`, true)
	f.Add("terraform {\n required_version = null\n}\nmodule {}\nprovider x y {}", false)
	f.Add(`{"terraform": 1, "module": [], "provider": null}`, true)
	dir := checkout(f, "-- b/main.tf --\n")
	f.Fuzz(func(t *testing.T, src string, json bool) {
		name, other := "a/main.tf", "a/main.tf.json"
		if json {
			name, other = other, name
		}
		if err := os.RemoveAll(filepath.Join(dir, filepath.FromSlash(other))); err != nil {
			t.Fatal(err)
		}
		write(t, dir, name, src)
		c, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Workspaces) == 0 {
			t.Error("no workspace is left")
		}
	})
}

// many is a repository of n root modules that share modules.
func many(b testing.TB, n int) string {
	dir := b.TempDir()
	for i := range n / 10 {
		write(b, dir, fmt.Sprintf("modules/m%d/main.tf", i), strings.Repeat(fmt.Sprintf("variable \"v%d\" {\n  type = string\n}\n", i), 5)+"module \"base\" { source = \"../base\" }\n")
		write(b, dir, fmt.Sprintf("modules/m%d/README.md", i), "x")
	}
	write(b, dir, "modules/base/main.tf", "resource \"terraform_data\" \"x\" {}\n")
	for i := range n {
		at := fmt.Sprintf("live/r%d/w%d/", i%20, i)
		write(b, dir, at+"main.tf", fmt.Sprintf("terraform {\n  backend \"s3\" {}\n}\nmodule \"a\" {\n  source = \"../../../modules/m%d\"\n  x      = 1\n}\nmodule \"b\" {\n  source = \"../../../modules/m%d\"\n}\n", i%(n/10), (i+1)%(n/10)))
		write(b, dir, at+"variables.tf", "variable \"region\" {\n  type    = string\n  default = \"x\"\n}\n")
		write(b, dir, at+"resources.tf", strings.Repeat("resource \"terraform_data\" \"x\" {\n  input = { a = var.region, b = [1, 2, 3] }\n}\n", 10))
	}
	return dir
}

func BenchmarkLoad2000(b *testing.B) {
	dir := many(b, 2000)
	for b.Loop() {
		c, err := Load(dir)
		if err != nil || len(c.Workspaces) != 2000 {
			b.Fatal(err)
		}
	}
}

func BenchmarkAffected2000(b *testing.B) {
	dir := many(b, 2000)
	c, err := Load(dir)
	if err != nil {
		b.Fatal(err)
	}
	var changed []string
	for i := range 1000 {
		changed = append(changed, fmt.Sprintf("live/r%d/w%d/main.tf", i%20, i))
	}
	changed = append(changed, "modules/base/main.tf")
	b.ResetTimer()
	for b.Loop() {
		if got := c.Affected(changed, c); len(got) != 2000 {
			b.Fatal(len(got))
		}
	}
}

func BenchmarkInputs(b *testing.B) {
	dir := many(b, 2000)
	c, err := Load(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		if _, err := c.Inputs(dir, c.Workspaces[i%2000]); err != nil {
			b.Fatal(err)
		}
	}
}

// A slow machine takes some seconds for 2,000 root modules, not minutes.
func TestManyRootModules(t *testing.T) {
	dir := many(t, 300)
	start := time.Now()
	c, err := Load(dir)
	if err != nil || len(c.Workspaces) != 300 {
		t.Fatalf("%d workspaces, %v", len(c.Workspaces), err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}
