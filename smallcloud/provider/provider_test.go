package provider_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/smallcloud"
	"holdfast/smallcloud/provider"
)

// bench is a cloud with its provider attached to real Terraform.
type bench struct {
	cloud    *smallcloud.Cloud
	reattach string
	url      string
}

func newBench(t *testing.T, o smallcloud.Options) *bench {
	t.Helper()
	cloud, err := smallcloud.New(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(cloud)
	ctx, cancel := context.WithCancel(context.Background())
	reattach, stopped, err := provider.Serve(ctx, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-stopped
		server.Close()
		cloud.Close()
	})
	return &bench{cloud: cloud, reattach: reattach, url: server.URL}
}

// dir is a root module with the given body.
func (b *bench) dir(t *testing.T, body string) string {
	t.Helper()
	dir := t.TempDir()
	b.write(t, dir, body)
	return dir
}

func (b *bench) write(t *testing.T, dir, body string) {
	t.Helper()
	const head = "terraform {\n  required_providers {\n    smallcloud = { source = \"" + provider.Source + "\" }\n  }\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(head+body), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start prepares Terraform; what it needs from the network, it cannot get.
func (b *bench) start(t *testing.T, dir string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command("terraform", append([]string{"-chdir=" + dir}, args...)...)
	cmd.Env = append(os.Environ(), provider.ReattachVariable+"="+b.reattach, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1",
		"HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1", "TF_CLI_CONFIG_FILE="+os.DevNull)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

// terraform runs one command and returns its exit code and output.
func (b *bench) terraform(t *testing.T, dir string, args ...string) (int, string) {
	t.Helper()
	cmd, out := b.start(t, dir, args...)
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func (b *bench) must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	code, out := b.terraform(t, dir, args...)
	if code != 0 {
		t.Fatalf("terraform %s: exit code %d\n%s", args, code, out)
	}
	return out
}

const story = `
data "smallcloud_image" "base" { name = "debian" }
resource "smallcloud_network" "main" {
  name = "main"
  cidr = "10.0.0.0/16"
}
resource "smallcloud_server" "web" {
  name     = "web-${smallcloud_network.main.name}"
  size     = "small"
  password = "swordfish"
  tags     = { image = data.smallcloud_image.base.id, env = "prod" }
}
output "address" { value = smallcloud_server.web.address }
`

func TestTerraformSeesWhatHappensBehindItsBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, smallcloud.Options{})
	dir := b.dir(t, story)
	b.must(t, dir, "init", "-no-color")
	b.must(t, dir, "apply", "-auto-approve", "-no-color")
	plan := func(want int) string {
		t.Helper()
		code, out := b.terraform(t, dir, "plan", "-no-color", "-detailed-exitcode", "-out=plan")
		if code != want {
			t.Fatalf("exit code %d, want %d\n%s", code, want, out)
		}
		if strings.Contains(out, "swordfish") {
			t.Error("the plan shows the password")
		}
		return out
	}
	plan(0)

	web, err := b.cloud.Find("server", "web-main")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cloud.Set(web.ID, "tags.env", "hacked"); err != nil {
		t.Fatal(err)
	}
	if out := plan(2); !strings.Contains(out, `"hacked" -> "prod"`) {
		t.Errorf("the plan does not undo the change:\n%s", out)
	}
	b.must(t, dir, "apply", "-no-color", "plan")
	plan(0)

	if err := b.cloud.Delete(web.ID); err != nil {
		t.Fatal(err)
	}
	plan(2)
	b.must(t, dir, "apply", "-no-color", "plan")
	again, err := b.cloud.Find("server", "web-main")
	if err != nil || again.ID == web.ID {
		t.Fatalf("recreated as %q (was %q), %v", again.ID, web.ID, err)
	}

	b.write(t, dir, strings.Replace(story, "10.0.0.0/16", "10.1.0.0/16", 1))
	if out := plan(2); !strings.Contains(out, "forces replacement") {
		t.Errorf("another cidr does not replace the network:\n%s", out)
	}
	b.must(t, dir, "destroy", "-auto-approve", "-no-color")
	if left := b.cloud.Resources(); len(left) != 0 {
		t.Errorf("left after destroy: %v", left)
	}
}

func TestChurnIsDriftWithoutChanges(t *testing.T) {
	t.Parallel()
	b := newBench(t, smallcloud.Options{})
	dir := b.dir(t, `resource "smallcloud_server" "a" {
  name  = "a"
  churn = "true"
}`)
	b.must(t, dir, "init")
	b.must(t, dir, "apply", "-auto-approve")
	b.must(t, dir, "plan", "-out=plan", "-detailed-exitcode") // 0: nothing to do
	var shown struct {
		Drift []struct{ Address string } `json:"resource_drift"`
	}
	if err := json.Unmarshal([]byte(b.must(t, dir, "show", "-json", "plan")), &shown); err != nil {
		t.Fatal(err)
	}
	if len(shown.Drift) != 1 || shown.Drift[0].Address != "smallcloud_server.a" {
		t.Errorf("resource_drift: %+v", shown.Drift)
	}
}

func TestRefusalsReachThePerson(t *testing.T) {
	t.Parallel()
	b := newBench(t, smallcloud.Options{})
	dir := b.dir(t, `resource "smallcloud_server" "a" {
  name = "a"
  fail = "create"
}`)
	b.must(t, dir, "init")
	code, out := b.terraform(t, dir, "apply", "-auto-approve", "-no-color")
	if code == 0 || !strings.Contains(out, "Cannot create server a") || !strings.Contains(out, "refused") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	dir = b.dir(t, "provider \"smallcloud\" { endpoint = \"nowhere\" }\nresource \"smallcloud_server\" \"a\" { name = \"a\" }\n")
	b.must(t, dir, "init")
	code, out = b.terraform(t, dir, "plan", "-no-color")
	if code == 0 || !strings.Contains(out, provider.EndpointVariable) {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// Several Terraforms share the provider's process, each with its own cloud:
// none sees another's configuration.
func TestManyTerraformsAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, smallcloud.Options{})
	other := newBench(t, smallcloud.Options{})
	const each = 3
	var wg sync.WaitGroup
	for i := range 2 * each {
		url := []string{b.url, other.url}[i%2]
		dir := b.dir(t, fmt.Sprintf(`
provider "smallcloud" { endpoint = %q }
resource "smallcloud_server" "s" {
  count = 4
  name  = "%d-${count.index}"
  delay = "50ms"
}`, url, i))
		wg.Go(func() {
			for _, args := range [][]string{{"init"}, {"apply", "-auto-approve", "-no-color"}, {"plan", "-detailed-exitcode"}} {
				if code, out := b.terraform(t, dir, args...); code != 0 {
					t.Errorf("terraform %s: exit code %d\n%s", args, code, out)
				}
			}
		})
	}
	wg.Wait()
	for name, cloud := range map[string]*smallcloud.Cloud{"first": b.cloud, "second": other.cloud} {
		if got := len(cloud.Resources()); got != 4*each {
			t.Errorf("%s cloud has %d servers, want %d", name, got, 4*each)
		}
	}
}

// An interrupt of one Terraform leaves the others alone, and what it had asked
// the cloud to make is made.
func TestInterruptOfOneTerraformLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, smallcloud.Options{})
	slow := func(name, delay string) string {
		dir := b.dir(t, fmt.Sprintf("resource \"smallcloud_server\" \"s\" {\n  name = %q\n  delay = %q\n}\n", name, delay))
		b.must(t, dir, "init")
		return dir
	}
	stays, stopped := slow("stays", "3s"), slow("stopped", "3s")
	stay, stayOut := b.start(t, stays, "apply", "-auto-approve", "-no-color")
	stop, _ := b.start(t, stopped, "apply", "-auto-approve", "-no-color")
	for _, cmd := range []*exec.Cmd{stay, stop} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return countOps(b.cloud, smallcloud.OpCreating) == 2 })
	if err := stop.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := stop.Wait(); err == nil {
		t.Error("the interrupted apply succeeded")
	}
	if err := stay.Wait(); err != nil {
		t.Errorf("the other apply: %v\n%s", err, stayOut)
	}
	waitFor(t, func() bool { return countOps(b.cloud, smallcloud.OpCreate) == 2 })
}

func countOps(c *smallcloud.Cloud, op smallcloud.Op) (n int) {
	for _, e := range c.Journal() {
		if e.Op == op && e.Error == "" {
			n++
		}
	}
	return n
}
