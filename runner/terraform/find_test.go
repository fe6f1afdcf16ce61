package terraform_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"holdfast/runner/terraform"
)

// saying is an engine that only knows its version.
func saying(version string) string {
	return "#!/bin/sh\necho \"$1\" >>\"$(dirname \"$0\")/asked\"\necho '{\"terraform_version\":\"" + version + "\"}'\n"
}

// shelf puts engines into directories, which become PATH, and returns Engines
// that cannot install anything.
func shelf(t *testing.T, engines map[string]string) (*terraform.Engines, string) {
	t.Helper()
	base := t.TempDir()
	var path []string
	for name, script := range engines {
		file := filepath.Join(base, name)
		write(t, file, script)
		if err := os.Chmod(file, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir := filepath.Dir(file); !strings.Contains(name, "data/") && !slices.Contains(path, dir) {
			path = append(path, dir)
		}
	}
	slices.Sort(path)
	path = append(path, "relative", "", "/bin", "/usr/bin")
	t.Setenv("PATH", strings.Join(path, string(filepath.ListSeparator)))
	e, err := terraform.New(terraform.Config{DataDir: filepath.Join(base, "data")})
	if err != nil {
		t.Fatal(err)
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	e.SetReleases(closed.URL, "")
	return e, base
}

func TestFind(t *testing.T) {
	e, base := shelf(t, map[string]string{
		"a/terraform":                            saying("1.5.7"),
		"b/terraform":                            saying("1.11.4"),
		"c/terraform":                            "#!/bin/sh\nexit 1\n",
		"d/terraform":                            "#!/bin/sh\necho nonsense\n",
		"data/engines/terraform/1.9.0/terraform": saying("1.9.0"),
		"data/engines/terraform/1.10.2/terraform": saying("1.10.2"),
		"data/engines/tofu/1.9.1/tofu":            saying("1.9.1"),
	})
	for _, test := range []struct{ engine, constraint, want string }{
		{"terraform", "", "a/terraform 1.5.7"},
		{"", "", "a/terraform 1.5.7"},
		{"terraform", "~> 1.11", "b/terraform 1.11.4"},
		{"terraform", ">= 1.6", "b/terraform 1.11.4"},
		{"terraform", ">= 1.6, < 1.11", "data/engines/terraform/1.10.2/terraform 1.10.2"},
		{"terraform", "1.9.0", "data/engines/terraform/1.9.0/terraform 1.9.0"},
		{"tofu", "", "data/engines/tofu/1.9.1/tofu 1.9.1"},
	} {
		path, version, err := e.Find(t.Context(), test.engine, test.constraint)
		want := base + "/" + test.want
		if got := path + " " + version; err != nil || got != want {
			t.Errorf("Find(%q, %q) = %s, %v, want %s", test.engine, test.constraint, got, err, want)
		}
	}
	asked, _ := os.ReadFile(filepath.Join(base, "a/asked"))
	if string(asked) != "version\n" {
		t.Errorf("a/terraform was asked %q, want once", asked)
	}
	// A file that was replaced is asked again.
	write(t, filepath.Join(base, "a/terraform"), saying("1.12.10"))
	if _, version, err := e.Find(t.Context(), "terraform", ""); err != nil || version != "1.12.10" {
		t.Errorf("after an upgrade: %s, %v", version, err)
	}
}

func TestFindNothing(t *testing.T) {
	e, base := shelf(t, map[string]string{"a/terraform": saying("1.5.7")})
	_, _, err := e.Find(t.Context(), "terraform", "~> 1.11")
	var missing *terraform.NotInstalledError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "terraform ~> 1.11") ||
		!strings.Contains(err.Error(), base+"/a/terraform: version 1.5.7") || !strings.Contains(missing.Hint(), "PATH") {
		t.Errorf("Find: %v", err)
	}
	_, _, err = e.Find(t.Context(), "tofu", "")
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), base+"/data/engines/tofu") {
		t.Errorf("Find tofu: %v", err)
	}
	var mistake *terraform.ModuleError
	if _, _, err = e.Find(t.Context(), "terraform", "newest please"); !errors.As(err, &mistake) || mistake.Hint() == "" {
		t.Errorf("Find with a bad constraint: %v", err)
	}
	if _, _, err = e.Find(t.Context(), "pulumi", ""); !errors.As(err, &mistake) {
		t.Errorf("Find another engine: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err = e.Find(ctx, "terraform", "~> 1.11"); !errors.Is(err, context.Canceled) {
		t.Errorf("Find when canceled: %v", err)
	}
}

// TestFindBroken: an executable that fails is named with what it says.
func TestFindBroken(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"words":   {"echo out; printf 'No \\033[31mversion\\033[0m\\nis set\\n' >&2; exit 126\n", "exit status 126: No version is set; and"},
		"stdout":  {"echo unknown command; exit 1\n", "exit status 1: unknown command; and"},
		"silent":  {"exit 3\n", "exit status 3; and"},
		"long":    {"for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo 'äääääääääääääääääääääääääääääääääääääääääääääääää' >&2; done; exit 1\n", "ä…; and"},
		"no JSON": {"echo Terraform v0.11\n", "read its answer: "},
	} {
		t.Run(name, func(t *testing.T) {
			e, base := shelf(t, map[string]string{"a/terraform": "#!/bin/sh\n" + test.script, "b/terraform": saying("1.5.7")})
			_, _, err := e.Find(t.Context(), "terraform", "~> 1.11")
			var missing *terraform.NotInstalledError
			if !errors.As(err, &missing) {
				t.Fatalf("Find: %v", err)
			}
			for _, want := range []string{base + "/a/terraform does not work: ", test.want, "terraform ~> 1.11 could not be installed: ", base + "/b/terraform: version 1.5.7"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
			if len(err.Error()) > 1500 || strings.ContainsAny(err.Error(), "\x1b\n") || !strings.Contains(missing.Hint(), base+"/a/terraform version") {
				t.Errorf("%q, hint %q", err, missing.Hint())
			}
		})
	}
}

// releases serves one version of Terraform in the form of HashiCorp's site.
type releases struct {
	mu       sync.Mutex
	files    map[string][]byte
	requests int
}

func (r *releases) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	data, ok := r.files[req.URL.Path]
	if !ok {
		http.NotFound(w, req)
		return
	}
	if strings.HasSuffix(req.URL.Path, ".zip") {
		w.Header().Set("Content-Type", "application/zip")
	} else if strings.HasSuffix(req.URL.Path, ".json") {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Write(data)
}

// newReleases signs what it serves and returns the armored public key.
func newReleases(t *testing.T, version string) (*releases, *httptest.Server, string) {
	t.Helper()
	key, err := openpgp.NewEntity("test", "", "test@localhost", nil)
	if err != nil {
		t.Fatal(err)
	}
	var public bytes.Buffer
	a, err := armor.Encode(&public, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Serialize(a); err != nil {
		t.Fatal(err)
	}
	a.Close()

	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	f, _ := z.CreateHeader(&zip.FileHeader{Name: "terraform"})
	fmt.Fprint(f, saying(version))
	z.Close()

	dir := "/terraform/" + version + "/"
	name := fmt.Sprintf("terraform_%s_%s_%s.zip", version, runtime.GOOS, runtime.GOARCH)
	sums := fmt.Appendf(nil, "%x  %s\n", sha256.Sum256(archive.Bytes()), name)
	var signature bytes.Buffer
	if err := openpgp.DetachSign(&signature, key, bytes.NewReader(sums), nil); err != nil {
		t.Fatal(err)
	}
	r := &releases{files: map[string][]byte{
		dir + name: archive.Bytes(),
		dir + "terraform_" + version + "_SHA256SUMS":     sums,
		dir + "terraform_" + version + "_SHA256SUMS.sig": signature.Bytes(),
	}}
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	release := map[string]any{
		"name": "terraform", "version": version,
		"shasums":            "terraform_" + version + "_SHA256SUMS",
		"shasums_signature":  "terraform_" + version + "_SHA256SUMS.sig",
		"shasums_signatures": []string{"terraform_" + version + "_SHA256SUMS.sig"},
		"builds": []map[string]string{{
			"name": "terraform", "version": version, "os": runtime.GOOS, "arch": runtime.GOARCH,
			"filename": name, "url": srv.URL + dir + name,
		}},
	}
	index, err := json.Marshal(map[string]any{"name": "terraform", "versions": map[string]any{version: release}})
	if err != nil {
		t.Fatal(err)
	}
	r.files["/terraform/index.json"] = index
	return r, srv, public.String()
}

func TestInstall(t *testing.T) {
	r, srv, key := newReleases(t, "1.11.9")
	t.Setenv("PATH", "/bin:/usr/bin")
	var mu sync.Mutex
	var lines []string
	data := filepath.Join(t.TempDir(), "data")
	e, err := terraform.New(terraform.Config{DataDir: data, Progress: func(line string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, line)
	}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	e.SetClock(func() time.Time { return now })

	// HashiCorp has not signed this: it is refused, and nothing of it is kept.
	e.SetReleases(srv.URL, "")
	var missing *terraform.NotInstalledError
	if _, _, err := e.Find(t.Context(), "terraform", "~> 1.11.5"); !errors.As(err, &missing) {
		t.Fatalf("a stranger's signature: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(data, "engines/*/*/terraform")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	// For others it has failed just now: nothing is downloaded.
	before := r.requests
	e.SetReleases(srv.URL, key)
	if _, _, err := e.Find(t.Context(), "terraform", "~> 1.11.5"); !errors.As(err, &missing) || r.requests != before {
		t.Errorf("at once again: %v, %d requests", err, r.requests-before)
	}
	now = now.Add(time.Minute)

	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			path, version, err := e.Find(t.Context(), "terraform", "~> 1.11.5")
			if err != nil || version != "1.11.9" || path != filepath.Join(data, "engines/terraform/1.11.9/terraform") {
				t.Errorf("Find = %s, %s, %v", path, version, err)
			}
		})
	}
	wg.Wait()
	var told []string
	for _, line := range lines {
		told = append(told, strings.Join(strings.Fields(line)[:2], " "))
	}
	if got := strings.Join(told, ", "); got != "installing terraform, installing terraform, installing terraform, installed terraform" {
		t.Errorf("progress: %q", lines)
	}
	if _, _, err := e.Find(t.Context(), "terraform", "~> 2.0"); !errors.As(err, &missing) {
		t.Errorf("a version that is not there: %v", err)
	}
}
