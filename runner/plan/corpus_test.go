package plan

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/smallcloud"
	"holdfast/smallcloud/provider"
)

// hand changes the small cloud behind the engine's back.
type hand struct{ t *testing.T }

func (h hand) set(c *smallcloud.Cloud, kind, name, attribute, value string) {
	h.t.Helper()
	r, err := c.Find(kind, name)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.Set(r.ID, attribute, value); err != nil {
		h.t.Fatal(err)
	}
}

func (h hand) delete(c *smallcloud.Cloud, kind, name string) {
	h.t.Helper()
	r, err := c.Find(kind, name)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.Delete(r.ID); err != nil {
		h.t.Fatal(err)
	}
}

// corpus are plans of drift checks that a real engine made: a configuration is
// applied, somebody changes the cloud, and it is planned again, where commit is
// set with a configuration that nobody applied.
var corpus = []struct {
	name           string
	before, commit string
	hand           func(h hand, c *smallcloud.Cloud)
	class, fresh   Class // where the planned inputs are the applied ones, and where nobody knows
}{
	{name: "in_sync", before: web, class: InSync, fresh: InSync},
	{
		name: "update", before: web, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "size", "xl") },
	},
	{
		name: "tag_added", before: web, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "tags.owner", "mallory") },
	},
	{
		name: "delete", before: web, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.delete(c, "server", "web") },
	},
	{
		// What somebody makes beside Terraform is not in any state.
		name: "create_outside", before: web, class: InSync, fresh: InSync,
		hand: func(h hand, c *smallcloud.Cloud) {
			body := bytes.NewBufferString(`{"kind":"server","name":"web-2","attributes":{"size":"small"}}`)
			w := httptest.NewRecorder()
			c.ServeHTTP(w, httptest.NewRequest("POST", "/api/resources", body))
			if w.Code/100 != 2 {
				h.t.Fatalf("create: %d %s", w.Code, w.Body)
			}
		},
	},
	{
		name: "deleted_and_made_again", before: web, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) {
			h.delete(c, "server", "web")
			w := httptest.NewRecorder()
			c.ServeHTTP(w, httptest.NewRequest("POST", "/api/resources", bytes.NewBufferString(`{"kind":"server","name":"web","attributes":{"size":"small"}}`)))
			if w.Code/100 != 2 {
				h.t.Fatalf("create: %d %s", w.Code, w.Body)
			}
		},
	},
	{
		name: "replace", before: `resource "smallcloud_network" "main" {
  name = "main"
  cidr = "10.0.0.0/16"
}`, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "network", "main", "cidr", "10.9.0.0/16") },
	},
	{
		name: "ignore_changes", before: `resource "smallcloud_server" "web" {
  name = "web"
  size = "small"
  lifecycle { ignore_changes = [size] }
}`, class: ProviderNoise, fresh: ProviderNoise,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "size", "xl") },
	},
	{
		name: "ignore_changes_and_more", before: `resource "smallcloud_server" "web" {
  name = "web"
  size = "small"
  tags = { env = "prod" }
  lifecycle { ignore_changes = [size] }
}`, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) {
			h.set(c, "server", "web", "size", "xl")
			h.set(c, "server", "web", "tags.env", "dev")
		},
	},
	{
		name: "computed_churn", before: `resource "smallcloud_server" "web" {
  name  = "web"
  churn = "true"
}`, class: ProviderNoise, fresh: ProviderNoise,
	},
	{
		name: "computed_churn_beside_drift", before: `resource "smallcloud_server" "noisy" {
  name  = "noisy"
  churn = "true"
}
` + web, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "size", "xl") },
	},
	{
		name: "data_source", before: `resource "smallcloud_server" "web" {
  name = "web"
  size = "small"
}
data "smallcloud_image" "of_size" { name = smallcloud_server.web.size }
resource "smallcloud_server" "copy" {
  name = "copy"
  tags = { image = data.smallcloud_image.of_size.id }
}`, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "size", "xl") },
	},
	{
		// A change in the cloud that other resources follow.
		name: "consequence", before: `resource "smallcloud_server" "web" {
  name = "web"
  lifecycle { ignore_changes = [size] }
}
resource "smallcloud_server" "copy" {
  name = "copy"
  size = smallcloud_server.web.size
}`, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "size", "xl") },
	},
	{
		name: "output_only", before: `resource "smallcloud_server" "web" {
  name = "web"
  lifecycle { ignore_changes = [size] }
}
output "size" { value = coalesce(smallcloud_server.web.size, "none") }`, class: OutputOnly, fresh: OutputOnly,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "size", "xl") },
	},
	{
		name: "sensitive", before: `resource "smallcloud_server" "web" {
  name     = "web"
  password = "swordfish"
}`, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "password", "hunter2") },
	},
	{
		name: "moved_commit", before: web, class: CloudChange, fresh: UnappliedCommit,
		commit: `resource "smallcloud_server" "site" {
  name = "web"
  size = "small"
  tags = { env = "prod" }
}
moved {
  from = smallcloud_server.web
  to   = smallcloud_server.site
}`,
	},
	{
		name: "moved_and_drifted", before: web, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "size", "xl") },
		commit: `resource "smallcloud_server" "site" {
  name = "web"
  size = "small"
  tags = { env = "prod" }
}
moved {
  from = smallcloud_server.web
  to   = smallcloud_server.site
}`,
	},
	{
		name: "for_each_key", before: `resource "smallcloud_server" "web" {
  for_each = { "a.b" = "small", "c/d" = "small" }
  name     = each.key
  size     = each.value
}`, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "c/d", "size", "xl") },
	},
	{
		name: "nested_module", before: `module "a" {
  source = "./m"
  count  = 2
  name   = "web-${count.index}"
}`, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) {
			h.set(c, "server", "web-1", "size", "xl")
			h.delete(c, "server", "web-0")
		},
	},
	{
		name: "check_block", before: `resource "smallcloud_server" "web" {
  name = "web"
  lifecycle { ignore_changes = [size] }
}
check "size" {
  assert {
    condition     = smallcloud_server.web.size == null
    error_message = "The server is too large."
  }
}`, class: ProviderNoise, fresh: ProviderNoise,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "size", "xl") },
	},
	{
		name: "unapplied_commit", before: web, class: CloudChange, fresh: UnappliedCommit,
		commit: `resource "smallcloud_server" "web" {
  name = "web"
  size = "medium"
  tags = { env = "prod" }
}
resource "smallcloud_server" "new" { name = "new" }`,
	},
	{
		name: "unapplied_commit_and_drift", before: web, class: CloudChange, fresh: UnappliedCommit,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "tags.env", "dev") },
		commit: `resource "smallcloud_server" "web" {
  name = "web"
  size = "medium"
  tags = { env = "prod" }
}`,
	},
	{
		// Git and the cloud have each their own size, and neither was applied.
		name: "unapplied_commit_of_what_drifted", before: web, class: CloudChange, fresh: UnappliedCommit,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "size", "xl") },
		commit: `resource "smallcloud_server" "web" {
  name = "web"
  size = "medium"
  tags = { env = "prod" }
}`,
	},
	{
		name: "unapplied_commit_of_what_is_gone", before: web, class: CloudChange, fresh: UnappliedCommit,
		hand: func(h hand, c *smallcloud.Cloud) { h.delete(c, "server", "web") },
		commit: `resource "smallcloud_server" "web" {
  name = "web"
  size = "medium"
  tags = { env = "prod" }
}`,
	},
	{
		// The change uses all instances of what drifted.
		name: "consequence_of_instances", before: `resource "smallcloud_server" "web" {
  for_each = toset(["a", "b"])
  name     = each.key
  lifecycle { ignore_changes = [size] }
}
resource "smallcloud_server" "copy" {
  name = "copy"
  size = join(",", [for s in smallcloud_server.web : coalesce(s.size, "none")])
}`, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "b", "size", "xl") },
	},
	{
		// What follows a drift has churn of its own.
		name: "consequence_with_churn", before: `resource "smallcloud_server" "web" {
  name = "web"
  lifecycle { ignore_changes = [size] }
}
resource "smallcloud_server" "copy" {
  name  = "copy"
  churn = "true"
  size  = smallcloud_server.web.size
}`, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.set(c, "server", "web", "size", "xl") },
	},
	{
		name: "dependent_of_what_is_gone", before: `resource "smallcloud_server" "web" { name = "web" }
resource "smallcloud_server" "user" {
  name = "user"
  tags = { server = smallcloud_server.web.id }
}`, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.delete(c, "server", "web") },
	},
	{
		// Nobody asks for it any more, and it is gone.
		name: "gone_from_both", before: web + "\n" + `resource "smallcloud_network" "main" {
  name = "main"
  cidr = "10.0.0.0/16"
}`, commit: web, class: CloudChange, fresh: CloudChange,
		hand: func(h hand, c *smallcloud.Cloud) { h.delete(c, "network", "main") },
	},
	{
		// A function has another value: no refresh explains that.
		name: "function", before: `resource "terraform_data" "a" { input = timestamp() }`, class: CloudChange, fresh: UnappliedCommit,
	},
}

const web = `resource "smallcloud_server" "web" {
  name = "web"
  size = "small"
  tags = { env = "prod" }
}`

const corpusModule = `terraform {
  required_providers {
    smallcloud = { source = "` + provider.Source + `" }
  }
}
variable "name" { type = string }
module "inner" {
  source = "./inner"
  name   = var.name
}`

const corpusInner = `terraform {
  required_providers {
    smallcloud = { source = "` + provider.Source + `" }
  }
}
variable "name" { type = string }
resource "smallcloud_server" "web" {
  name = var.name
  size = "small"
}`

// TestCorpus holds class, summary and report of each plan to its golden file.
// With -update the plans are made anew by the terraform on PATH.
func TestCorpus(t *testing.T) {
	for _, tc := range corpus {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join("testdata", "drift", tc.name+".json")
			if *update {
				makeDriftPlan(t, tc.before, tc.commit, tc.hand, file)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			got := struct {
				Summary        Summary
				Applied, Fresh DriftReport
			}{p.Summary(), p.DriftReport(true), p.DriftReport(false)}
			if got.Applied.Class != tc.class || got.Fresh.Class != tc.fresh {
				t.Errorf("class is %q, and %q where nobody knows what is applied", got.Applied.Class, got.Fresh.Class)
			}
			text, err := json.MarshalIndent(got, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"swordfish", "hunter2"} {
				if bytes.Contains(text, []byte(secret)) {
					t.Errorf("the report has %q in it", secret)
				}
			}
			want := filepath.Join("testdata", "drift", tc.name+".golden")
			if *update {
				if err := os.WriteFile(want, append(text, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			stored, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(stored), string(text)+"\n"); diff != "" {
				t.Errorf("differs (-want +got):\n%s", diff)
			}
		})
	}
}

func makeDriftPlan(t *testing.T, before, commit string, change func(hand, *smallcloud.Cloud), file string) {
	t.Helper()
	cloud, err := smallcloud.New(smallcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(cloud)
	ctx, cancel := context.WithCancel(t.Context())
	reattach, stopped, err := provider.Serve(ctx, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); <-stopped; server.Close(); cloud.Close() }()
	dir := t.TempDir()
	terraform := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command("terraform", append([]string{"-chdir=" + dir}, args...)...)
		cmd.Env = append(os.Environ(), provider.ReattachVariable+"="+reattach, "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE="+os.DevNull)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("terraform %v: %v\n%s%s", args, err, out, stderr.Bytes())
		}
		return out
	}
	write := func(name, text string) {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("versions.tf", "terraform {\n  required_providers {\n    smallcloud = { source = \""+provider.Source+"\" }\n  }\n}\n")
	write("m/main.tf", corpusModule)
	write("m/inner/main.tf", corpusInner)
	write("main.tf", before)
	terraform("init", "-input=false")
	terraform("apply", "-input=false", "-auto-approve")
	if change != nil {
		change(hand{t}, cloud)
	}
	if commit != "" {
		write("main.tf", commit)
	}
	terraform("plan", "-input=false", "-out=plan.bin")
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(terraform("show", "-json", "plan.bin"), &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc, "timestamp")
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", " ")
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
