package main

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"holdfast/smallcloud"
	"holdfast/smallcloud/provider"
)

// TestMain makes the test's own executable the provider when Terraform starts
// it, so that none has to be built.
func TestMain(m *testing.M) {
	if os.Getenv("TF_PLUGIN_MAGIC_COOKIE") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestFilesystemMirror(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mirror, dir := t.TempDir(), t.TempDir()
	where := filepath.Join(mirror, provider.Address, "1.0.0", runtime.GOOS+"_"+runtime.GOARCH)
	if err := os.MkdirAll(where, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(where, "terraform-provider-smallcloud_v1.0.0")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cli.tfrc"), "provider_installation {\n  filesystem_mirror {\n    path = \""+filepath.ToSlash(mirror)+"\"\n  }\n}\n")
	write(t, filepath.Join(dir, "main.tf"), `
terraform {
  required_providers {
    smallcloud = {
      source  = "holdfast/smallcloud"
      version = "1.0.0"
    }
  }
}
resource "smallcloud_network" "n" {
  name = "n"
  cidr = "10.0.0.0/8"
}
`)
	cloud, err := smallcloud.New(smallcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(cloud)
	defer server.Close()
	for _, args := range [][]string{{"init"}, {"apply", "-auto-approve"}, {"plan", "-detailed-exitcode"}} {
		cmd := exec.Command("terraform", append([]string{"-chdir=" + dir}, args...)...)
		cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+filepath.Join(dir, "cli.tfrc"), provider.EndpointVariable+"="+server.URL, "CHECKPOINT_DISABLE=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("terraform %s: %v\n%s", args, err, out)
		}
	}
	if _, err := cloud.Find("network", "n"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".terraform.lock.hcl")); err != nil {
		t.Error("init locked no provider:", err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
