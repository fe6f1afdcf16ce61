package terraform_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/runner/terraform"
)

func TestCopyModule(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "checkout")
	for path, text := range map[string]string{
		"app/main.tf":                     "main",
		"app/.terraform/modules/x":        "engine's",
		"app/.terraform.lock.hcl":         "lock",
		"modules/a/main.tf":               "module",
		"modules/a/.hidden/deep/file":     "deep",
		".git/config":                     "git",
		"vendor/.git":                     "gitdir: elsewhere",
		".github/workflows/terraform.yml": "kept",
	} {
		write(t, filepath.Join(root, path), text)
	}
	for path, mode := range map[string]os.FileMode{"app/main.tf": 0o640, "modules/a/.hidden/deep/file": 0o555, "modules/a/.hidden/deep": 0o555, "modules/a": 0o750} {
		if err := os.Chmod(filepath.Join(root, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(root, "modules/a/.hidden/deep"), 0o755) })
	for link, target := range map[string]string{"app/link.tf": "../modules/a/main.tf", "outside": "/etc", "broken": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	m := terraform.Module{
		Key: "k", Root: root, Dir: filepath.Join(root, "app"), Modules: []string{filepath.Join(root, "modules/a")},
		Workspace: "prod", VarFiles: []string{"x.tfvars"}, StateFile: "/state",
	}
	to := filepath.Join(base, "own", "copy")
	got, err := terraform.CopyModule(m, to)
	want := m
	want.Root, want.Dir, want.Modules = to, filepath.Join(to, "app"), []string{filepath.Join(to, "modules/a")}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("CopyModule = %+v, %v, want %+v", got, err, want)
	}
	var files []string
	err = filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(to, path)
		if err != nil || d.IsDir() {
			return err
		}
		files = append(files, rel)
		return nil
	})
	wantFiles := []string{
		".github/workflows/terraform.yml", "app/.terraform.lock.hcl", "app/link.tf", "app/main.tf", "broken",
		"modules/a/.hidden/deep/file", "modules/a/main.tf", "outside",
	}
	if err != nil || !slices.Equal(files, wantFiles) {
		t.Errorf("copied: %q, %v, want %q", files, err, wantFiles)
	}
	for path, mode := range map[string]os.FileMode{
		"app/main.tf": 0o640, "modules/a/.hidden/deep/file": 0o555, "modules/a/.hidden/deep": os.ModeDir | 0o755, "modules/a": os.ModeDir | 0o750,
	} {
		if info, err := os.Lstat(filepath.Join(to, path)); err != nil || info.Mode() != mode {
			t.Errorf("%s: mode %v, %v, want %v", path, info.Mode(), err, mode)
		}
	}
	if target, err := os.Readlink(filepath.Join(to, "outside")); target != "/etc" {
		t.Errorf("link: %q, %v", target, err)
	}
	if text, err := os.ReadFile(filepath.Join(to, "app/link.tf")); string(text) != "module" {
		t.Errorf("a file behind a link: %q, %v", text, err)
	}
}

func TestCopyModuleMistakes(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "checkout")
	write(t, filepath.Join(root, "app/main.tf"), "main")
	write(t, filepath.Join(base, "full/file"), "x")
	m := terraform.Module{Root: root, Dir: filepath.Join(root, "app")}
	away, missing := m, m
	away.Modules = []string{filepath.Join(base, "elsewhere")}
	missing.Root, missing.Dir = filepath.Join(base, "gone"), filepath.Join(base, "gone/app")
	for name, test := range map[string]struct {
		m        terraform.Module
		to, want string
	}{
		"a relative path":     {m, "copy", `"copy"`},
		"into itself":         {m, filepath.Join(root, "copy"), filepath.Join(root, "copy")},
		"itself":              {m, root, root},
		"a directory in use":  {m, filepath.Join(base, "full"), filepath.Join(base, "full")},
		"a module elsewhere":  {away, filepath.Join(base, "a"), away.Modules[0]},
		"a missing checkout":  {missing, filepath.Join(base, "b"), missing.Root},
		"a file in its place": {m, filepath.Join(base, "full/file"), filepath.Join(base, "full/file")},
	} {
		if got, err := terraform.CopyModule(test.m, test.to); err == nil || !strings.Contains(err.Error(), test.want) || !reflect.DeepEqual(got, test.m) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(base, "full/file")); string(text) != "x" {
		t.Errorf("a file that was there: %q", text)
	}
}

func TestWriteBlocks(t *testing.T) {
	dir := t.TempDir()
	m := terraform.Module{Root: dir, Dir: filepath.Join(dir, "app")}
	if err := os.Mkdir(m.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	err := terraform.WriteBlocks(m, []terraform.Block{
		{Import: true, Address: `module.net["a \"b\" $${c} %%{d}"].module.x.aws_instance.größe-1[3]`, ID: "i-1\n\"${nope}\" %{if}\\"},
		{Address: "module.net.aws_instance.web"},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `# Written by Holdfast, as somebody asked for it in a comment.
import {
  to = module.net["a \"b\" $${c} %%{d}"].module.x.aws_instance.größe-1[3]
  id = "i-1\n\"$${nope}\" %%{if}\\"
}

removed {
  from = module.net.aws_instance.web
  lifecycle {
    destroy = false
  }
}
`
	path := filepath.Join(m.Dir, "holdfast_commands.tf")
	if got, err := os.ReadFile(path); string(got) != want {
		t.Errorf("%v\n%s\nwant:\n%s", err, got, want)
	}
	// It is there now, as it would be in a repository that has one.
	var mistake *terraform.ModuleError
	if err := terraform.WriteBlocks(m, nil); !errors.As(err, &mistake) || !strings.Contains(mistake.Hint(), "rename") {
		t.Errorf("a file in the way: %v", err)
	}
	for link, target := range map[string]string{"away": t.TempDir(), "up": ".."} {
		m.Dir = filepath.Join(dir, link)
		if err := os.Symlink(target, m.Dir); err != nil {
			t.Fatal(err)
		}
		if err := terraform.WriteBlocks(m, nil); err == nil || exists(filepath.Join(target, "holdfast_commands.tf")) {
			t.Errorf("a directory that leads to %s: %v", target, err)
		}
	}
}

func TestBlocksWithMistakes(t *testing.T) {
	dir := t.TempDir()
	m := terraform.Module{Root: dir, Dir: dir}
	imported := func(address string) terraform.Block {
		return terraform.Block{Import: true, Address: address, ID: "x"}
	}
	for _, b := range []terraform.Block{
		imported(""), imported("a"), imported("a.b.c"), imported("a.b[0][1]"), imported("a.b[-1]"), imported("a.b[0.5]"), imported("a.b[x]"),
		imported("a.b[*]"), imported("a.*"), imported("a.b.*.c"), imported("a[0].b"), imported("module.a"), imported("module.a.b"), imported("module[0].a.b.c"),
		imported(`a.b["${x}"]`), imported(`a.b["x]`), imported("data.a.b"), imported("module.m.data.a.b"), imported("var.a"), imported("module.m.action.a.b"),
		imported("a.b\n}\nresource \"x\" \"y\" {"), imported("a.b }"), imported("a.b # c\n"), imported(`"a.b"`), imported("a.b\x00"), imported("a.\xff"),
		imported("a." + strings.Repeat("b", 1<<20)),
		{Import: true, Address: "a.b"}, {Import: true, Address: "a.b", ID: "\xff"},
		{Address: "a.b[0]"}, {Address: `module.m["k"].a.b`}, {Address: "data.a.b"}, {Address: "nothing"},
	} {
		err := terraform.WriteBlocks(m, []terraform.Block{{Address: "fine.fine"}, b})
		var mistake *terraform.ModuleError
		if !errors.As(err, &mistake) || mistake.Message == "" || mistake.Hint() == "" || len(mistake.Message) > 10_000 {
			t.Errorf("%+v: %v", b, err)
		}
		if exists(filepath.Join(dir, "holdfast_commands.tf")) {
			t.Fatalf("%+v: written", b)
		}
	}
	err := terraform.WriteBlocks(m, []terraform.Block{{Address: `module.m["k"].a.b[0]`}})
	var mistake *terraform.ModuleError
	if !errors.As(err, &mistake) || !strings.Contains(mistake.Hint(), "module.m.a.b,") {
		t.Errorf("an instance to forget: %v", err)
	}
}

// TestImportAndForget has the real engine take the blocks, in a copy, while the
// checkout stays what it is.
func TestImportAndForget(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": `
module "m" {
  source   = "../modules/m"
  for_each = toset(["k $${e}"])
}
resource "terraform_data" "old" { count = 2 }
`, "modules/m/main.tf": `resource "terraform_data" "a" {}`})
	r.m.StateFile = r.file("state/app.tfstate")
	r.m.Modules = []string{filepath.Join(r.m.Root, "modules/m")}
	r.plan(t)
	if err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	shared := r.m
	write(t, filepath.Join(r.m.Dir, "main.tf"), `
module "m" {
  source   = "../modules/m"
  for_each = toset(["k $${e}", "new \"one\""])
}
`)
	own, err := terraform.CopyModule(r.m, r.file("own"))
	if err != nil {
		t.Fatal(err)
	}
	const id = "an \"id\" ${upper(\"x\")}\n%{if true}"
	err = terraform.WriteBlocks(own, []terraform.Block{
		{Import: true, Address: `module.m["new \"one\""].terraform_data.a`, ID: id},
		{Address: "terraform_data.old"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.m = own
	r.plan(t)
	data, err := r.Show(t.Context(), r.m, r.file("plan"))
	if err != nil {
		t.Fatal(err)
	}
	var shown struct {
		Changes []struct {
			Address string
			Change  struct {
				Actions   []string
				Importing *struct{ ID string }
			}
		} `json:"resource_changes"`
	}
	if err := json.Unmarshal(data, &shown); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range shown.Changes {
		what := strings.Join(c.Change.Actions, " ")
		if c.Change.Importing != nil {
			what += " import " + c.Change.Importing.ID
		}
		got[c.Address] = what
	}
	want := map[string]string{
		`module.m["k $${e}"].terraform_data.a`: "no-op", `module.m["new \"one\""].terraform_data.a`: "no-op import " + id,
		"terraform_data.old[0]": "forget", "terraform_data.old[1]": "forget",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("planned: %q, want %q", got, want)
	}
	if err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	state, err := os.ReadFile(r.m.StateFile)
	if err != nil || strings.Contains(string(state), `"old"`) || !strings.Contains(string(state), `"an \"id\" ${upper(\"x\")}\n%{if true}"`) {
		t.Errorf("state: %v\n%s", err, state)
	}
	r.m = shared
	if exists(filepath.Join(r.m.Dir, "holdfast_commands.tf")) {
		t.Error("the shared checkout has the blocks")
	}
	if res := r.plan(t); res.Changes {
		t.Errorf("plan afterwards: %+v\n%s", res, r.log)
	}
}

func TestLeftovers(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{
		"app/main.tf": oneResource, "app/sub/tracked": "x", "modules/a/main.tf": "x", "modules/b/x.zip": "not looked at", "other": "neither",
	})
	r.m.StateFile = r.file("state/app.tfstate")
	r.m.Modules = []string{filepath.Join(r.m.Root, "modules/a"), filepath.Join(r.m.Root, "modules/gone"), filepath.Join(r.m.Dir, "sub")}
	tracked := func(rel string) bool {
		return slices.Contains([]string{"app/main.tf", "app/sub/tracked", "modules/a/main.tf", "other"}, rel)
	}
	left := func() []string {
		t.Helper()
		got, err := r.m.Leftovers(tracked)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	r.plan(t)
	for _, own := range []string{
		"app/.terraform/modules/modules.json", "app/.terraform.lock.hcl", "app/.terraform.lock.hcl-123", "app/.holdfast_override.tf-77", "app/holdfast_commands.tf",
		"app/terraform.tfstate", "app/terraform.tfstate.backup", "app/.terraform.tfstate.lock.info", "app/terraform.tfstate.d/prod/terraform.tfstate",
		"app/crash.log", "app/errored.tfstate", "app/sub/.git",
	} {
		write(t, filepath.Join(r.m.Root, own), "x")
	}
	if got := left(); len(got) != 0 {
		t.Errorf("after a plan: %q", got)
	}
	for _, path := range []string{"app/lambda.zip", "app/sub/build/x.zip", "modules/a/out file"} {
		write(t, filepath.Join(r.m.Root, path), "x")
	}
	if err := os.Symlink("/etc", filepath.Join(r.m.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	want := []string{"app/lambda.zip", "app/link", "app/sub/build/x.zip", "modules/a/out file"}
	if got := left(); !slices.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
	for i := range 300 {
		write(t, filepath.Join(r.m.Dir, "many", strings.Repeat("x", i/2+1)+string(rune('a'+i%2))), "x")
	}
	if got := left(); len(got) != 100 {
		t.Errorf("of many: %d", len(got))
	}
	r.m.Modules = []string{t.TempDir()}
	r.m.Dir = filepath.Join(r.m.Root, "modules/a")
	if got, err := r.m.Leftovers(tracked); err == nil {
		t.Errorf("a module outside of the checkout: %q", got)
	}
}
