package workspaces

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The design's example.
const example = `
-- holdfast.hcl --
engine  = "terraform"
version = "~> 1.11"

discover {
  include = ["live/**"]
  exclude = ["**/examples/**"]
}

defaults {
  apply {
    on                = "merge"
    requires          = ["approved", "mergeable"]
    when_plan_changed = "hold"
    max_plan_age      = "7d"
    lock              = "plan"
    merge_method      = "squash"
    on_push           = true
  }
  drift {
    schedule = "0 6 * * *"
    correct  = "off"
  }
}

workspace "prod-iam" {
  dir = "live/prod/iam"
  apply {
    on                = "comment"
    when_plan_changed = "same_resources"
    lock              = "none"
    automerge         = true
    merge_method      = "rebase"
    on_push           = false
  }
}

workspace "prod-vpc" {
  dir        = "./live/prod/vpc/"
  workspace  = "blue"
  var_files  = ["prod.tfvars", "../../common.tfvars"]
  watch      = ["policies/vpc/*.json"]
  depends_on = ["prod-iam"]
  engine     = "tofu"
  version    = "1.9.0"
  runs_on    = ["prod", "eu", "prod"]
  drift {
    schedule      = "CRON_TZ=Europe/Berlin @daily"
    correct       = "apply"
    allow_destroy = true
    max_changes   = 3
  }
}
-- live/common.tfvars --
-- live/prod/iam/main.tf --
terraform {
  required_version = ">= 1.5"
  backend "s3" {}
}
-- live/prod/vpc/prod.tfvars --
-- live/prod/vpc/main.tf --
module "net" {
  source = "../../../modules/net"
}
-- live/dev/main.tf --
provider "null" {}
-- live/dev/examples/x/main.tf --
provider "null" {}
-- other/main.tf --
provider "null" {}
-- modules/net/main.tf --
module "subnet" {
  source = "./subnet"
}
module "registry" {
  source  = "terraform-aws-modules/vpc/aws"
  version = "5.0.0"
}
-- modules/net/subnet/main.tf --
resource "terraform_data" "x" {}
`

func TestExample(t *testing.T) {
	c := load(t, example)
	if len(c.Problems) > 0 {
		t.Fatal(c.Problems)
	}
	apply := Apply{On: "merge", Requires: []string{"approved", "mergeable"}, WhenPlanChanged: "hold", MaxPlanAge: 7 * 24 * time.Hour, Lock: "plan", MergeMethod: "squash", OnPush: true}
	drift := Drift{Schedule: "0 6 * * *", Correct: "off", MaxChanges: 10, FlapLimit: 3}
	iam := Apply{On: "comment", Requires: apply.Requires, WhenPlanChanged: "same_resources", MaxPlanAge: apply.MaxPlanAge, Lock: "none", Automerge: true, MergeMethod: "rebase"}
	want := []Workspace{
		{Name: "live/dev", Dir: "live/dev", Workspace: "default", Engine: "terraform", Version: "~> 1.11", Backend: Backend{Ephemeral: true}, Apply: apply, Drift: drift},
		{Name: "prod-iam", Dir: "live/prod/iam", Workspace: "default", Engine: "terraform", Version: "~> 1.11", Backend: Backend{Type: "s3"}, Apply: iam, Drift: drift},
		{
			Name: "prod-vpc", Dir: "live/prod/vpc", Workspace: "blue", Engine: "tofu", Version: "1.9.0",
			VarFiles: []string{"prod.tfvars", "../../common.tfvars"}, Watch: []string{"policies/vpc/*.json"}, DependsOn: []string{"prod-iam"},
			Modules: []string{"modules/net", "modules/net/subnet"}, Backend: Backend{Ephemeral: true}, Apply: apply,
			Drift:  Drift{Schedule: "CRON_TZ=Europe/Berlin @daily", Correct: "apply", AllowDestroy: true, MaxChanges: 3, FlapLimit: 3},
			RunsOn: []string{"eu", "prod"},
		},
	}
	if diff := cmp.Diff(want, c.Workspaces); diff != "" {
		t.Errorf("workspaces differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Defaults{Apply: apply, Drift: drift}, c.Defaults); diff != "" {
		t.Errorf("defaults differ (-want +got):\n%s", diff)
	}
}

func TestDiscovery(t *testing.T) {
	for _, tc := range []struct{ name, archive, want string }{
		{"nothing", "-- README.md --\n", ""},
		{"the root itself", "-- main.tf --\n", "."},
		{"called modules are none", `
-- a/main.tf --
module "m" { source = "../m" }
-- m/main.tf --
-- lonely/main.tf --
`, "a lonely"},
		{"a called one with a backend is one", `
-- a/main.tf --
module "m" { source = "../m" }
-- m/main.tf --
terraform {
  backend "s3" {}
}
`, "a m"},
		{"with cloud, provider, in JSON", `
-- a/main.tf.json --
{"module": {"m": {"source": "../m"}, "n": {"source": "../n"}, "o": [{"source": "../o"}]}}
-- m/main.tf.json --
{"terraform": [{"cloud": {}}]}
-- n/main.tf --
provider "null" {}
-- o/main.tf --
`, "a m n"},
		{"calls itself", `
-- a/main.tf --
module "m" { source = "./" }
`, "a"},
		{"hidden and editors' files", `
-- .x/main.tf --
-- a/.terraform/modules/m/main.tf --
-- a/.main.tf --
-- b/main.tf~ --
-- c/#main.tf# --
-- d/.tf --
`, ""},
		{"tofu files are not Terraform's", "-- a/main.tofu --\n-- b/main.tf --\n", "b"},
		{"tofu reads both", "-- holdfast.hcl --\nengine = \"tofu\"\n-- a/main.tofu --\n-- b/main.tf --\n-- c/x.tofu.json --\n{}\n", "a b c"},
		{"tofu files stand for tf files", `
-- holdfast.hcl --
engine = "tofu"
-- a/main.tf --
module "m" { source = "../m" }
-- a/main.tofu --
module "m" { source = "../n" }
-- m/main.tf --
-- n/main.tf --
`, "a m"},
		{"overrides lead elsewhere", `
-- a/main.tf --
module "m" { source = "../m" }
-- a/main_override.tf --
module "m" { source = "../n" }
-- m/main.tf --
-- n/main.tf --
`, "a m"},
		{"a file that does not parse makes no module a workspace", `
-- a/main.tf --
resource "x" {
module "m" {
  source = "../m"
-- m/main.tf --
`, "a"},
		{"helpers of tests", `
-- a/main.tf --
-- a/tests/x.tftest.hcl --
run "x" {
  module {
    source = "./tests/setup"
  }
}
-- a/tests/setup/main.tf --
`, "a"},
		{"include and exclude", `
-- holdfast.hcl --
discover {
  include = ["live/**", "root"]
  exclude = ["**/old*"]
}
-- live/main.tf --
-- live/a/b/main.tf --
-- live/a/old-b/main.tf --
-- root/main.tf --
-- root/x/main.tf --
`, "live live/a/b root"},
		{"a block replaces what was discovered, several may share a directory", `
-- holdfast.hcl --
workspace "a-prod" {
  dir       = "a"
  workspace = "prod"
}
workspace "a-dev" {
  dir       = "a"
  workspace = "dev"
}
-- a/main.tf --
-- b/main.tf --
`, "a-dev a-prod b"},
		{"a block may be named by its directory, hidden ones too", `
-- holdfast.hcl --
workspace "a" {
  watch = ["x"]
}
workspace "h" {
  dir = ".infra/h"
}
-- a/main.tf --
-- .infra/h/main.tf --
`, "a h"},
		{"a directory by a symbolic link", `
l -> a/b
-- holdfast.hcl --
workspace "l" {
  dir = "l"
}
-- a/b/main.tf --
`, "l"},
		{"names without what names do not have", "-- a b`c/main.tf --\n-- -x/main.tf --\n", "_x a_b_c"},
		{"calls in a circle", `
-- a/main.tf --
module "b" { source = "../b" }
provider "null" {}
-- b/main.tf --
module "a" { source = "../a" }
`, "a"},
		{"a link loop", "a/x -> ../a\na/y -> y\n-- a/main.tf --\n", "a"},
		{"an engine's own copies of modules", `
-- a/main.tf --
-- a/.terraform/modules/modules.json --
`, "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := load(t, tc.archive)
			if got := names(c.Workspaces); got != tc.want {
				t.Errorf("workspaces are %q, want %q", got, tc.want)
			}
		})
	}
}

func TestBackend(t *testing.T) {
	for _, tc := range []struct {
		name, workspace, files string
		want                   Backend
		problem                string
	}{
		{name: "none", files: "-- a/main.tf --\n", want: Backend{Ephemeral: true}},
		{name: "s3", files: "-- a/main.tf --\nterraform {\n backend \"s3\" {}\n}\n", want: Backend{Type: "s3"}},
		{name: "cloud", files: "-- a/main.tf --\nterraform {\n cloud {}\n}\n", want: Backend{Type: "cloud"}},
		{name: "local", files: "-- a/main.tf --\nterraform {\n backend \"local\" {}\n}\n", want: Backend{Type: "local", Ephemeral: true}},
		{name: "relative", files: "-- a/main.tf --\nterraform {\n backend \"local\" {\n path = \"x/y\"\n}\n}\n", want: Backend{Type: "local", Ephemeral: true}},
		{name: "absolute", files: "-- a/main.tf --\nterraform {\n backend \"local\" {\n path = \"/x/y\"\n}\n}\n", want: Backend{Type: "local"}},
		{name: "absolute, for one workspace only", workspace: "blue", files: "-- a/main.tf --\nterraform {\n backend \"local\" {\n path = \"/x/y\"\n}\n}\n", want: Backend{Type: "local", Ephemeral: true}},
		{name: "absolute for all", workspace: "blue", files: "-- a/main.tf --\nterraform {\n backend \"local\" {\n path = \"/x/y\"\n workspace_dir = \"/x\"\n}\n}\n", want: Backend{Type: "local"}},
		{name: "JSON", files: "-- a/main.tf.json --\n{\"terraform\": {\"backend\": {\"local\": {\"path\": \"/x\"}}}}\n", want: Backend{Type: "local"}},
		{name: "an override", files: "-- a/main.tf --\nterraform {\n backend \"s3\" {}\n}\n-- a/z_override.tf --\nterraform {\n backend \"gcs\" {}\n}\n-- a/zz.tf --\n", want: Backend{Type: "gcs"}},
		{name: "a variable", files: "-- a/main.tf --\nterraform {\n backend \"local\" {\n path = var.x\n}\n}\n", want: Backend{Type: "local", Ephemeral: true}, problem: "not a plain string"},
		{name: "Holdfast's own override", files: "-- a/main.tf --\n-- a/holdfast_override.tf --\nterraform {\n  backend \"local\" {\n    path = \"/data/x\"\n  }\n}\n", want: Backend{Ephemeral: true}},
		{name: "its name for something else", files: "-- a/main.tf --\n-- a/holdfast_override.tf --\nresource \"terraform_data\" \"x\" {}\n", want: Backend{Ephemeral: true}, problem: "keeps for itself"},
		{name: "its name over a backend", files: "-- a/main.tf --\nterraform {\n backend \"s3\" {}\n}\n-- a/holdfast_override.tf --\nterraform {\n  backend \"local\" {}\n}\n", want: Backend{Type: "s3"}, problem: "keeps for itself"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			hcl := fmt.Sprintf("-- holdfast.hcl --\nworkspace \"w\" {\n  dir = \"a\"\n  workspace = %q\n}\n", "default")
			if tc.workspace == "blue" {
				hcl = strings.Replace(hcl, "default", "blue", 1)
			}
			c := load(t, hcl+tc.files)
			if got := find(t, c, "w").Backend; got != tc.want {
				t.Errorf("backend is %+v, want %+v", got, tc.want)
			}
			if got := c.Problems.Of("w").Error(); tc.problem == "" && got != "" || !strings.Contains(got, tc.problem) {
				t.Errorf("problems are %q, want %q", got, tc.problem)
			}
		})
	}
}

func TestRequiredVersion(t *testing.T) {
	c := load(t, `
-- a/main.tf --
terraform {
  required_version = ">= 1.5, < 2.0"
}
-- b/main.tf --
terraform {
  required_version = "newest"
}
`)
	if got := find(t, c, "a").Version; got != ">= 1.5, < 2.0" {
		t.Errorf("version is %q", got)
	}
	if got := c.Problems.Of("b").Error(); !strings.Contains(got, `b/main.tf:2:22: required_version "newest" is not a version constraint`) {
		t.Errorf("problem is %q", got)
	}
}

// TestProblems compares what people are told about mistakes with golden files:
// testdata/problems/*.txtar are checkouts, and their file "want" is all
// problems as they are printed.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file, string(src), describe(checkout(t, string(src))))
		})
	}
}

// describe is what Load says, as text.
func describe(dir string) string {
	c, err := Load(dir)
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "error:\n%v\n", err)
		return b.String()
	}
	fmt.Fprintf(&b, "workspaces: %s\n", names(c.Workspaces))
	for _, p := range c.Problems {
		fmt.Fprintf(&b, "\nin %q:\n%v\n", p.Workspace, p)
	}
	return b.String()
}

// golden compares got with the file "want" of an archive.
func golden(t *testing.T, file, archive, got string) {
	t.Helper()
	a := txtar.Parse([]byte(archive))
	want := ""
	for i, f := range a.Files {
		if f.Name == "want" {
			want = string(f.Data)
			a.Files[i].Data = []byte(got)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
}

func TestHostileFiles(t *testing.T) {
	deep := strings.Repeat("d/", 200)
	for _, tc := range []struct{ name, file, content, want string }{
		{"10 MB", "a/big.tf", strings.Repeat("# x\n", 10<<18), "is larger than 1 MB"},
		{"parentheses", "a/x.tf", "x = " + strings.Repeat("(", 150_000), "nests more than 200 levels deep"},
		{"parentheses that close as something else", "a/x.tf", "x = " + strings.Repeat("(]", 75_000), "nests more than 200 levels deep"},
		{"brackets in JSON", "a/x.tf.json", strings.Repeat("[", 150_000), "nests more than 200 levels deep"},
		{"blocks", "a/x.tf", strings.Repeat("a {\n", 40_000), "nests more than 200 levels deep"},
		{"conditionals", "a/x.tf", "x = " + strings.Repeat("a?", 75_000), "nests more than 200 levels deep"},
		{"signs", "a/x.tf", "x = " + strings.Repeat("!", 150_000) + "true\n", "nests more than 200 levels deep"},
		{"directives", "a/x.tf", "x = \"" + strings.Repeat("%{if a}", 20_000), "nests more than 200 levels deep"},
		{"templates", "a/x.tf", "x = " + strings.Repeat(`"${`, 50_000), "nests more than 200 levels deep"},
		{"lines of a heredoc", "a/x.tf", "x = <<X\n" + strings.Repeat("x\n", 50_000) + "X\n", "has more than 5000 lines"},
		{"lines of a heredoc that does not end", "a/x.tf", "x = (<<X\n" + strings.Repeat("x\n", 50_000), "has more than 5000 lines"},
		{"loops are not evaluated", "a/x.tf", "module \"m\" {\n  source = [" + strings.Repeat("for x in [1,2,3,4,5,6,7,8,9]: [", 50) + strings.Repeat("]", 51) + "\n}\n", ""},
		{"not text", "a/x.tf", "\x00\xff\xfe", "a/x.tf:1"},
		{"deep directories", deep + "main.tf", "", "more than 100 directories deep"},
		{"many names of one thing", "holdfast.hcl", strings.Repeat("x = 1\n", 20_000), "holdfast.hcl:"},
		{"many workspaces", "holdfast.hcl", strings.Repeat("workspace \"x\" {}\n", 5_000), "already at line 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := checkout(t, "-- a/main.tf --\n-- b/main.tf --\n")
			write(t, dir, tc.file, tc.content)
			got := describe(dir)
			if !strings.Contains(got, tc.want) {
				t.Errorf("says %q, want %q", cut(got, 500), tc.want)
			}
			if !strings.HasPrefix(got, "error:") && !strings.Contains(got, "workspaces: a b") {
				t.Errorf("lost workspaces: %q", cut(got, 200))
			}
			if strings.Contains(got, `in "b"`) {
				t.Errorf("spoils another workspace: %q", cut(got, 500))
			}
		})
	}
}

func TestPartiallySpoiled(t *testing.T) {
	c := load(t, `
-- a/main.tf --
module "bad" { source = "../bad" }
-- b/main.tf --
module "good" { source = "../good" }
-- bad/main.tf --
resource "x" "y"
-- good/main.tf --
`)
	if got := names(c.Workspaces); got != "a b" {
		t.Errorf("workspaces are %q", got)
	}
	if len(c.Problems.Of("b")) > 0 || len(c.Problems.Of("a")) == 0 || len(c.Problems) != len(c.Problems.Of("a")) {
		t.Errorf("problems are %v", c.Problems)
	}
}

// A workspace with a path that leads out may be used by somebody who does not
// look at problems: it must not lead out even then.
func TestNoPathLeavesTheRepository(t *testing.T) {
	c := load(t, `
out -> /etc
-- holdfast.hcl --
workspace "a" {
  dir = "../../etc"
}
workspace "b" {
  dir = "/etc"
}
workspace "c" {
  dir       = "x"
  var_files = ["../../y", "/etc/passwd", "ok.tfvars"]
}
workspace "d" {
  dir = "out/ssl"
}
-- x/main.tf --
module "m" { source = "../../m" }
module "n" { source = "../out/n" }
-- x/ok.tfvars --
`)
	for _, w := range c.Workspaces {
		for _, p := range append([]string{w.Dir}, w.Modules...) {
			if !filepath.IsLocal(p) {
				t.Errorf("%s: %q is not local", w.Name, p)
			}
		}
		if len(c.Problems.Of(w.Name)) == 0 {
			t.Errorf("%s has no problem", w.Name)
		}
	}
	if w := find(t, c, "c"); len(w.VarFiles) != 1 || len(w.Modules) != 0 {
		t.Errorf("c is %+v", w)
	}
}
