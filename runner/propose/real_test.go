package propose_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/runner/plan"
	"holdfast/runner/propose"
	"holdfast/smallcloud"
	"holdfast/smallcloud/provider"
)

// set is what somebody does to a server behind the engine's back; without an
// attribute the server is deleted.
type set struct{ server, attribute, value string }

const (
	versions = "terraform {\n  required_providers {\n    smallcloud = { source = \"" + provider.Source + "\" }\n  }\n}\n"
	oneSize  = `variable "size" { type = string }
variable "name" { type = string }
variable "tags" {
  type    = map(string)
  default = {}
}
resource "smallcloud_server" "this" {
  name = var.name
  size = var.size
  tags = var.tags
}
`
)

// real are configurations that a real engine applies. Somebody changes the
// cloud; with the cloud's values in the files the engine has nothing to do.
var real = []struct {
	name  string
	files map[string]string
	args  []string // of the plan, such as -var-file
	hand  []set
	// held says that something must be refused, so that the plan stays as it was.
	held bool
}{
	{
		name: "literals",
		files: map[string]string{"main.tf": `# The web server.
resource "smallcloud_server" "web" {
  name = "web" # its name
  size = "small"
  tags = { env = "prod", "kubernetes.io/role" = "web" }
}
`},
		hand: []set{{"web", "size", "xl"}, {"web", "tags.owner", "${mallory} %{x} \"q\" \\ é\n\t"}, {"web", "tags.env", "true"}, {"web", "name", "site"}},
	},
	{
		name: "attributes_nobody_set",
		files: map[string]string{"main.tf": "resource \"smallcloud_server\" \"web\" { name = \"web\" }\n" +
			"resource \"smallcloud_server\" \"db\" {\n\tname = \"db\"\n\n\tlifecycle {\n\t\tprevent_destroy = true\n\t}\n}\n"},
		hand: []set{{"web", "size", "xl"}, {"db", "size", "l"}, {"db", "tags.a/b", "1e3"}},
	},
	{
		name: "locals",
		files: map[string]string{"main.tf": `locals {
  size   = "small"
  shared = "eu"
  tags = {
    web = { env = "prod", team = local.shared }
    db  = { env = "prod" }
  }
}
resource "smallcloud_server" "web" {
  name = "web"
  size = local.size
  tags = local.tags.web
}
resource "smallcloud_server" "db" {
  name = "db"
  size = "s"
  tags = local.tags["db"]
}
`},
		hand: []set{{"web", "size", "xl"}, {"web", "tags.env", "dev"}, {"db", "tags.env", "test"}, {"db", "tags.team", "dba"}},
	},
	{
		name: "variables",
		files: map[string]string{
			"main.tf": `variable "size" { default = "small" }
variable "conf" {
  type = object({
    name = string
    size = optional(string, "tiny")
    tags = optional(map(string))
  })
}
resource "smallcloud_server" "a" {
  name = "a"
  size = var.size
}
resource "smallcloud_server" "b" {
  name = var.conf.name
  size = var.conf.size
  tags = var.conf.tags
}
`,
			"terraform.tfvars": "conf = {\r\n  name = \"b\"\r\n  tags = {\r\n    env = \"prod\" // where\r\n  }\r\n}\r\n",
		},
		hand: []set{{"a", "size", "xl"}, {"b", "size", "xxl"}, {"b", "tags.env", "dev"}, {"b", "tags.more", "yes"}},
	},
	{
		name: "variable_files",
		files: map[string]string{
			"main.tf":           "variable \"size\" { default = \"small\" }\nvariable \"tags\" { type = map(string) }\nresource \"smallcloud_server\" \"a\" {\n  name = \"a\"\n  size = var.size\n  tags = var.tags\n}\n",
			"terraform.tfvars":  "size = \"medium\"\ntags = { never = \"seen\" }\n",
			"z.auto.tfvars":     "size = \"large\"\n",
			"env/prod.tfvars":   "tags = {\n  note : <<-EOT\n    one\n    two\n  EOT\n  env : \"prod\",\n}\n",
			"env/common.tfvars": "tags = {}\n",
		},
		args: []string{"-var-file=env/common.tfvars", "-var-file=env/prod.tfvars"},
		hand: []set{{"a", "size", "xl"}, {"a", "tags.env", "dev"}, {"a", "tags.note", "one\nthree\n"}},
	},
	{
		name: "for_each",
		files: map[string]string{"main.tf": `locals {
  servers = {
    "a.b" = { size = "small", tags = { env = "prod" } }
    c     = { size = "small", tags = {} }
  }
  sizes = { x = "1", y = "2" }
}
resource "smallcloud_server" "each" {
  for_each = local.servers
  name     = each.key
  size     = each.value.size
  tags     = each.value.tags
}
resource "smallcloud_server" "set" {
  for_each = toset(["x", "y"])
  name     = "set-${each.key}"
  size     = local.sizes[each.key]
}
`},
		hand: []set{{"a.b", "size", "xl"}, {"c", "tags.env", "dev"}, {"set-y", "size", "3"}},
	},
	{
		name: "count",
		files: map[string]string{"main.tf": `variable "sizes" {
  type    = list(string)
  default = ["small", "small", /* the last */ "small"]
}
resource "smallcloud_server" "n" {
  count = 3
  name  = "n-${count.index}"
  size  = var.sizes[count.index]
}
resource "smallcloud_server" "all" {
  count = 2
  name  = "all-${count.index}"
  size  = "small"
}
`},
		hand: []set{{"n-1", "size", "xl"}, {"all-0", "size", "m"}, {"all-1", "size", "m"}},
	},
	{
		name: "modules",
		files: map[string]string{
			"main.tf": `locals { size = "small" }
module "a" {
  source = "./outer"
  name   = "a"
  size   = local.size
}
module "b" {
  source   = "./outer"
  for_each = { b1 = "small", b2 = "small" }
  name     = each.key
  size     = each.value
}
`,
			"outer/main.tf": `variable "name" {}
variable "size" {}
module "inner" {
  source = "../inner"
  name   = var.name
  size   = var.size
  tags   = { from = "outer" }
}
`,
			"inner/main.tf": oneSize,
		},
		hand: []set{{"a", "size", "xl"}, {"b2", "size", "l"}},
	},
	{
		name: "refused",
		files: map[string]string{
			"main.tf": `locals {
  common = { env = "prod" }
  size   = "small"
  shown  = "small"
}
module "a" {
  source = "./inner"
  name   = "a"
  size   = local.size
}
module "b" {
  source = "./inner"
  name   = "b"
  size   = local.size
}
resource "smallcloud_server" "merged" {
  name = "merged"
  tags = merge(local.common, { a = "b" })
}
output "shown" { value = local.shown }
resource "smallcloud_server" "shown" {
  name = "shown"
  size = local.shown
}
`,
			"inner/main.tf": oneSize,
		},
		hand: []set{{"a", "size", "xl"}, {"merged", "tags.env", "dev"}, {"shown", "size", "l"}},
		held: true,
	},
	{
		name: "override_files",
		files: map[string]string{
			"main.tf":          "resource \"smallcloud_server\" \"web\" {\n  name = \"web\"\n  size = \"small\"\n}\n",
			"main_override.tf": "resource \"smallcloud_server\" \"web\" {\n  size = \"medium\"\n}\n",
		},
		hand: []set{{"web", "size", "xl"}},
		held: true,
	},
}

func TestRealEngine(t *testing.T) {
	for _, tc := range real {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tc.args)
			for name, text := range tc.files {
				b.write(t, name, []byte(text))
				if dir := filepath.Dir(name); strings.HasSuffix(name, ".tf") && (dir != "." || name == "main.tf") {
					b.write(t, filepath.Join(dir, "versions.tf"), []byte(versions))
				}
			}
			b.terraform(t, "init", "-input=false")
			b.terraform(t, append([]string{"apply", "-input=false", "-auto-approve"}, tc.args...)...)
			for _, s := range tc.hand {
				b.hand(t, s)
			}
			was := b.plan(t)
			res := propose.Propose(b.config(t), drifts(was), nil)
			for name, data := range res.Files {
				b.write(t, name, data)
			}
			now := b.plan(t)
			if tc.held {
				if len(res.Edits) > 0 || len(res.Refused) < len(was.Changes) {
					t.Errorf("%+v\n%+v", res.Edits, res.Refused)
				}
				return
			}
			if !now.Empty() || len(res.Refused) > 0 {
				for name, data := range res.Files {
					t.Logf("== %s\n%s", name, data)
				}
				t.Fatalf("left: %+v\nrefused: %+v", now.DriftReport(true), res.Refused)
			}
			if smaller, left := plan.Smaller(was, now); !smaller {
				t.Errorf("not smaller: %s", left)
			}
		})
	}
}

// drifts is what a drift check's plan makes of each change.
func drifts(p *plan.Plan) (out []propose.Drift) {
	for _, c := range p.Changes {
		before, after := c.Values()
		out = append(out, propose.Drift{Address: c.Address, Before: before, After: after, Deleted: c.Action == plan.Create, Created: c.Action == plan.Delete})
	}
	return out
}

// bench is a root module, a cloud, and the provider between them.
type bench struct {
	dir, reattach string
	cloud         *smallcloud.Cloud
	args          []string
}

func newBench(t *testing.T, args []string) *bench {
	t.Helper()
	cloud, err := smallcloud.New(smallcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(cloud)
	ctx, cancel := context.WithCancel(context.Background())
	reattach, stopped, err := provider.Serve(ctx, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); <-stopped; server.Close(); cloud.Close() })
	return &bench{dir: t.TempDir(), reattach: reattach, cloud: cloud, args: args}
}

func (b *bench) write(t *testing.T, name string, data []byte) {
	t.Helper()
	name = filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) terraform(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("terraform", append([]string{"-chdir=" + b.dir}, args...)...)
	cmd.Env = append(os.Environ(), provider.ReattachVariable+"="+b.reattach, "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE="+os.DevNull)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("terraform %v: %v\n%s%s", args, err, out, stderr.Bytes())
	}
	return out
}

func (b *bench) hand(t *testing.T, s set) {
	t.Helper()
	r, err := b.cloud.Find("server", s.server)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cloud.Set(r.ID, s.attribute, s.value); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) plan(t *testing.T) *plan.Plan {
	t.Helper()
	b.terraform(t, append([]string{"plan", "-input=false", "-out=plan.bin"}, b.args...)...)
	p, err := plan.Parse(b.terraform(t, "show", "-json", "plan.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(p); err != nil || len(text) == 0 {
		t.Fatal(err)
	}
	return p
}

// config reads the files like a drift check does.
func (b *bench) config(t *testing.T) propose.Config {
	t.Helper()
	c := propose.Config{Dir: ".", Files: map[string][]byte{}}
	for _, a := range b.args {
		c.VarFiles = append(c.VarFiles, strings.TrimPrefix(a, "-var-file="))
	}
	if err := filepath.WalkDir(b.dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".tf") && !strings.HasSuffix(name, ".tfvars") {
			return err
		}
		data, err := os.ReadFile(name)
		rel, _ := filepath.Rel(b.dir, name)
		c.Files[filepath.ToSlash(rel)] = data
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return c
}
