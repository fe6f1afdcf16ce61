package terraform_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"

	"holdfast/runner/terraform"
)

// empty is a provider of nothing: init installs it, and plan starts it.
type empty struct{}

func (empty) Metadata(_ context.Context, _ provider.MetadataRequest, r *provider.MetadataResponse) {
	r.TypeName = "empty"
}
func (empty) Schema(context.Context, provider.SchemaRequest, *provider.SchemaResponse)          {}
func (empty) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {}
func (empty) DataSources(context.Context) []func() datasource.DataSource                        { return nil }
func (empty) Resources(context.Context) []func() resource.Resource                              { return nil }

// serveProvider makes the test binary the provider.
func serveProvider() {
	err := providerserver.Serve(context.Background(), func() provider.Provider { return empty{} },
		providerserver.ServeOpts{Address: "registry.terraform.io/acme/empty"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// withProvider puts the provider into a mirror of the rig's.
func (r *rig) withProvider(t *testing.T, versions ...string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range versions {
		dir := fmt.Sprintf("mirror/registry.terraform.io/acme/empty/%s/%s_%s", v, runtime.GOOS, runtime.GOARCH)
		path := r.file(filepath.Join(dir, "terraform-provider-empty_v"+v))
		write(t, path, fmt.Sprintf("#!/bin/sh\n# %s\nTEST_PROVIDER=1 exec '%s'\n", v, self))
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, r.file(".terraformrc"), fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", r.file("mirror")))
}

const withEmpty = `
terraform {
  required_providers {
    empty = { source = "acme/empty" }
  }
}
resource "terraform_data" "a" {}
`

func TestWithoutLockFile(t *testing.T) {
	files := map[string]string{"app/main.tf": withEmpty}
	r := newRig(t, terraform.Config{}, files)
	now := time.Now()
	r.SetClock(func() time.Time { return now })
	r.withProvider(t, "1.0.0")
	r.m.StateFile = r.file("state/app.tfstate")
	step := func(name string, want string) {
		t.Helper()
		r.called(t)
		r.plan(t)
		if got := r.called(t); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	r.plan(t)
	step("second plan", "plan")
	cached := fmt.Sprintf("data/plugins/registry.terraform.io/acme/empty/1.0.0/%s_%s", runtime.GOOS, runtime.GOARCH)
	if !exists(r.file(cached)) {
		t.Error("the provider is not in the cache")
	}

	r.checkout(t, "two", files)
	step("another checkout", "plan")
	if !exists(filepath.Join(r.m.Dir, ".terraform.lock.hcl")) {
		t.Error("no lock file in the second checkout")
	}
	first := r.m.Key
	r.m.Key = first + "@prod"
	step("another workspace in that checkout", "init plan")
	r.m.Key = first
	step("the first again", "plan")

	// A version that nothing pins is chosen anew each day.
	r.withProvider(t, "1.0.0", "1.1.0")
	step("a new version on the same day", "plan")
	now = now.Add(25 * time.Hour)
	step("the next day", "init plan")
	if lock, err := os.ReadFile(filepath.Join(r.m.Dir, ".terraform.lock.hcl")); err != nil || !bytes.Contains(lock, []byte("1.1.0")) {
		t.Errorf("lock file of the next day: %v\n%s", err, lock)
	}
	step("later that day", "plan")
	// The plan is shown and applied with the versions that it was made with.
	now = now.Add(25 * time.Hour)
	if _, err := r.Show(t.Context(), r.m, r.file("plan")); err != nil {
		t.Error(err)
	}
	if err := r.apply(t); err != nil {
		t.Error(err)
	}
	if got := r.called(t); got != "show apply" {
		t.Errorf("a plan of the day before: %q", got)
	}
}

func TestWithLockFile(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": withEmpty})
	r.withProvider(t, "1.0.0", "1.1.0")
	files := map[string]string{"app/main.tf": withEmpty, "app/.terraform.lock.hcl": `
provider "registry.terraform.io/acme/empty" {
  version = "1.0.0"
  hashes  = ["h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
}`}
	// Checksums that do not fit are an error, as ever.
	r.checkout(t, "wrong", files)
	if _, err := r.Plan(t.Context(), r.m, r.file("plan"), terraform.PlanOptions{}); err == nil {
		t.Error("a plan with a provider that does not fit its checksum")
	}
	// Checksums that are missing are added by init, and kept.
	files["app/.terraform.lock.hcl"] = `
provider "registry.terraform.io/acme/empty" {
  version = "1.0.0"
}`
	r.called(t)
	for i, want := range []string{"init plan", "plan", "plan"} {
		if i != 1 {
			r.checkout(t, fmt.Sprint("number ", i), files)
		}
		r.plan(t)
		if got := r.called(t); got != want {
			t.Errorf("plan %d: %q, want %q", i, got, want)
		}
		if lock, err := os.ReadFile(filepath.Join(r.m.Dir, ".terraform.lock.hcl")); err != nil || !bytes.Contains(lock, []byte("h1:")) || !bytes.Contains(lock, []byte("1.0.0")) {
			t.Errorf("lock file: %v\n%s", err, lock)
		}
	}
	// Pinned, it never expires.
	r.SetClock(func() time.Time { return time.Now().Add(1000 * time.Hour) })
	if r.plan(t); r.called(t) != "plan" {
		t.Error("init of a pinned configuration")
	}
}

// A repository's own lock file counts, also where it is the very one that init
// made for another repository that has none.
func TestLockFileThatIsKnownFromElsewhere(t *testing.T) {
	files := map[string]string{"app/main.tf": withEmpty}
	r := newRig(t, terraform.Config{}, files)
	r.withProvider(t, "1.0.0")
	r.plan(t)
	lock, err := os.ReadFile(filepath.Join(r.m.Dir, ".terraform.lock.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	r.withProvider(t, "1.0.0", "1.1.0")
	r.checkout(t, "pinned", map[string]string{"app/main.tf": withEmpty, "app/.terraform.lock.hcl": string(lock)})
	r.m.Key = "h/o/pinned/app"
	for day := range 2 {
		r.SetClock(func() time.Time { return time.Now().Add(time.Duration(day) * 25 * time.Hour) })
		r.plan(t)
		if now, err := os.ReadFile(filepath.Join(r.m.Dir, ".terraform.lock.hcl")); err != nil || !bytes.Equal(now, lock) {
			t.Errorf("day %d: lock file %v\n%s", day, err, now)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": withEmpty})
	r.withProvider(t, "1.0.0")
	var wg sync.WaitGroup
	for i := range 4 {
		m := r.m
		m.Key, m.Workspace = fmt.Sprint(m.Key, i), fmt.Sprint("w", i)
		m.StateFile = r.file("state/app.tfstate")
		wg.Go(func() {
			if _, err := r.Plan(t.Context(), m, r.file("plan"+m.Workspace), terraform.PlanOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.Log(r.log)
	}
	if got := r.called(t); strings.Count(got, "init") != 4 || strings.Count(got, "plan") != 4 {
		t.Errorf("engine processes: %q", got)
	}
}

func TestRemoteModule(t *testing.T) {
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	w, _ := z.Create("main.tf")
	fmt.Fprint(w, oneResource)
	z.Close()
	var fetched atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fetched.Add(1)
		}
		http.ServeContent(w, r, "a.zip", time.Time{}, bytes.NewReader(archive.Bytes()))
	}))
	defer srv.Close()

	files := map[string]string{"app/main.tf": fmt.Sprintf("module \"a\" { source = %q }\n", srv.URL+"/a.zip")}
	r := newRig(t, terraform.Config{}, files)
	now := time.Now()
	r.SetClock(func() time.Time { return now })
	r.m.StateFile = r.file("state/app.tfstate")
	for i, want := range []string{"version init plan", "plan", "plan", "init plan"} {
		if i == 2 {
			r.checkout(t, "two", files)
		}
		if i == 3 {
			now = now.Add(25 * time.Hour)
		}
		if res := r.plan(t); !res.Changes {
			t.Errorf("plan %d: %+v", i, res)
		}
		if got := r.called(t); got != want {
			t.Errorf("plan %d: %q, want %q", i, got, want)
		}
	}
	if fetched.Load() < 2 {
		t.Error("the module was not downloaded again the next day")
	}
}

func TestDataDirsAreBounded(t *testing.T) {
	r := newRig(t, terraform.Config{MaxDataDirs: 3}, map[string]string{"app/main.tf": oneResource})
	now := time.Now()
	r.SetClock(func() time.Time { now = now.Add(time.Minute); return now })
	base := r.m.Key
	for i := range 5 {
		r.m.Key = fmt.Sprint(base, i)
		r.plan(t)
		if i == 3 { // use the second again
			r.m.Key = fmt.Sprint(base, 1)
			r.plan(t)
		}
	}
	dirs, err := filepath.Glob(r.file("data/tfdata/*/*"))
	if err != nil || len(dirs) != 3 {
		t.Errorf("data directories: %q, %v", dirs, err)
	}
	r.called(t)
	for i, want := range []string{"init plan", "plan"} {
		r.m.Key = fmt.Sprint(base, i)
		if r.plan(t); r.called(t) != want {
			t.Errorf("workspace %d: want %q", i, want)
		}
	}
}
