package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/github/githubtest"
	"holdfast/vcs/gitlab/gitlabtest"
	"holdfast/vcs/vcstest/forge"
)

// holdfast runs the program and returns its exit code and what it printed, both
// outputs in one.
func holdfast(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	code := run(t.Context(), args, &out, &out)
	return code, out.String()
}

func says(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("it does not say %q:\n%s", w, text)
		}
	}
}

var fakes = map[string]func(forge.TB, forge.Config) *forge.Server{"gitea": giteatest.New, "github": githubtest.New, "gitlab": gitlabtest.New}

const rootModule = "terraform {\n  backend \"s3\" {}\n}\n"

// TestSetupAndDoctor sets each host up by its commands alone, twice, and has the
// result checked.
func TestSetupAndDoctor(t *testing.T) {
	for kind, fake := range fakes {
		t.Run(kind, func(t *testing.T) {
			srv := fake(t, forge.Config{})
			repo := srv.CreateRepository("acme", "network", map[string]string{"live/vpc/main.tf": rootModule, "live/dns/main.tf": rootModule})
			t.Setenv(tokenVariables[kind], srv.AddUser("holdfast", true))
			t.Setenv("HOLDFAST_WEBHOOK_SECRET", "")
			dir := t.TempDir()
			file := filepath.Join(dir, "server.hcl")
			args := []string{"setup", kind, "--host", srv.URL, "--url", "https://holdfast.example.com", "--pull-request", "--write", file, "acme/network"}
			code, out := holdfast(t, args...)
			if code != 0 {
				t.Fatalf("exit code %d:\n%s", code, out)
			}
			says(t, out, "created the webhook to https://holdfast.example.com/webhooks/"+srv.Name, "a pull request with holdfast.hcl is open", "HOLDFAST_WEBHOOK_SECRET=")
			if repo.HookURL != "https://holdfast.example.com/webhooks/"+srv.Name || !strings.Contains(out, repo.HookSecret) || len(repo.HookSecret) < 32 {
				t.Errorf("the webhook goes to %q", repo.HookURL)
			}
			pulls := repo.Pulls()
			if len(pulls) != 1 || pulls[0].Head != setupBranch {
				t.Fatalf("pull requests: %+v", pulls)
			}
			hcl := repo.Git.Files(setupBranch)["holdfast.hcl"]
			says(t, hcl, `workspace "live/vpc"`, `workspace "live/dns"`)
			checked := filepath.Join(dir, "checkout")
			for path, text := range map[string]string{"holdfast.hcl": hcl, "live/vpc/main.tf": rootModule, "live/dns/main.tf": rootModule} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(checked, path)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(checked, path), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if code, out := holdfast(t, "validate", checked); code != 0 {
				t.Errorf("the proposed holdfast.hcl: %s", out)
			}
			t.Setenv("HOLDFAST_WEBHOOK_SECRET", repo.HookSecret)
			before, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code, out = holdfast(t, args...)
			says(t, out, "is as it should be", "has all of it already")
			after, _ := os.ReadFile(file)
			if code != 0 || len(repo.Pulls()) != 1 || !bytes.Equal(before, after) {
				t.Errorf("the second time: exit code %d, %d pull requests, the file\n%s\nand before\n%s\n%s", code, len(repo.Pulls()), after, before, out)
			}
			code, out = holdfast(t, "doctor", "--config", file, "--data-dir", filepath.Join(dir, "data"))
			if code != 0 {
				t.Errorf("doctor: exit code %d:\n%s", code, out)
			}
			says(t, out, "the token is holdfast's", "acme/network: is there")
		})
	}
}

func TestSetupMistakes(t *testing.T) {
	srv := giteatest.New(t, forge.Config{})
	srv.CreateRepository("acme", "network", map[string]string{"f": "1"})
	t.Setenv("GITEA_TOKEN", srv.AddUser("reader", false))
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"no such type":    {[]string{"setup", "gitae"}, "gitea"},
		"no such repo":    {[]string{"setup", "gitea", "--host", srv.URL, "--pull", "acme/nothing"}, "not found"},
		"not a name":      {[]string{"setup", "gitea", "--host", srv.URL, "--pull", "network"}, "OWNER/NAME"},
		"not an address":  {[]string{"setup", "gitea", "--host", "ftp://x", "--pull", "acme/network"}, "--host"},
		"a token to read": {[]string{"setup", "gitea", "--host", srv.URL, "--pull", "acme/network"}, "the token lacks"},
		"no app":          {[]string{"setup", "gitea", "--host", srv.URL, "--pull", "--app", "acme/network"}, "no Apps"},
		"nobody there":    {[]string{"setup", "gitea", "--host", "http://127.0.0.1:1", "--pull", "acme/network"}, "127.0.0.1:1"},
	} {
		code, out := holdfast(t, tc.args...)
		if code != 1 || !strings.Contains(out, tc.want) {
			t.Errorf("%s: exit code %d, want %q in:\n%s", name, code, tc.want, out)
		}
	}
	t.Setenv("GITEA_TOKEN", "wrong")
	if code, out := holdfast(t, "setup", "gitea", "--host", srv.URL, "--pull", "acme/network"); code != 1 || !strings.Contains(out, "make a new one") {
		t.Errorf("a wrong token: %d\n%s", code, out)
	}
}

// TestDoctorFinds has everything wrong that a host can tell.
func TestDoctorFinds(t *testing.T) {
	slow := func() time.Time { return time.Now() }
	srv := githubtest.New(t, forge.Config{Now: slow})
	srv.CreateRepository("acme", "network", map[string]string{"f": "1"}).SetHook("https://holdfast.example.com/webhooks/gh")
	dir := t.TempDir()
	key := filepath.Join(dir, "app.pem")
	if err := os.WriteFile(key, githubtest.PrivateKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "server.hcl")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := fmt.Sprintf("url = \"https://127.0.0.1:1\"\nhost \"github\" \"gh\" {\n  url = %q\n  app_id = \"%d\"\n  private_key = file(%q)\n  webhook_secret = \"s\"\n}\n", srv.URL, githubtest.AppID, key)
	doctor := func() (int, string) {
		t.Helper()
		return holdfast(t, "doctor", "--config", file, "--data-dir", filepath.Join(dir, "data"))
	}
	write(good + "repository \"gh/acme/network\" {}\nrepository \"gh/acme/gone\" {}\n")
	githubtest.Forbid(srv, "checks")
	githubtest.Forbid(srv, "issues")
	code, out := doctor()
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	says(t, out, "ok    server file", "the token lacks Issues: write", "grant it at "+srv.URL+"/organizations/acme/settings/installations/", "warn  repository gh/acme/network: the token lacks Checks: write",
		"fail  repository gh/acme/gone", "nobody answers at https://127.0.0.1:1", "ok    host gh: the token is "+githubtest.Bot+"'s")
	code, out = holdfast(t, "doctor", "--config", file, "--data-dir", filepath.Join(dir, "data"), "-o", "json")
	says(t, out, `"result": "fail"`, `"hint": "it is needed for`)
	if code != 1 {
		t.Errorf("with json: exit code %d", code)
	}
	write(good + "repositry \"gh/acme/network\" {}\n")
	code, out = doctor()
	says(t, out, "fail  server file", "repositry")
	if code != 1 {
		t.Errorf("with a mistake in the file: exit code %d", code)
	}
	write(strings.ReplaceAll(good, srv.URL, "http://127.0.0.1:1") + "repository \"gh/acme/network\" {}\n")
	code, out = doctor()
	says(t, out, "fail  host gh")
	if code != 1 {
		t.Errorf("with a host that is down: exit code %d", code)
	}
}

// TestSetupApp makes a GitHub App of a manifest, with a browser that presses the
// buttons.
func TestSetupApp(t *testing.T) {
	srv := githubtest.New(t, forge.Config{})
	srv.CreateRepository("acme", "network", map[string]string{"f": "1"})
	t.Chdir(t.TempDir())
	out := &watched{said: make(chan string, 1)}
	done := make(chan int, 1)
	go func() {
		done <- run(t.Context(), []string{"setup", "github", "--host", srv.URL, "--app", "--organization", "acme", "--url", "https://holdfast.example.com", "acme/*"}, out, out)
	}()
	var page string
	select {
	case page = <-out.said:
	case code := <-done:
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	state, err := githubtest.PressCreate(page)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.Get(page + "/created?code=x&state=forged"); err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a forged answer: %v, %v", resp, err)
	}
	resp, err := http.Get(page + "/created?code=good&state=" + state)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	if code := <-done; code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	text := out.String()
	says(t, text, fmt.Sprintf(`app_id = "%d"`, githubtest.AppID), "github-app-", `repository "`+srv.Name+`/acme/*" {}`, "installations/new")
	files, _ := filepath.Glob("github-app-*.pem")
	if len(files) != 1 {
		t.Fatalf("keys: %v", files)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info.Mode(), err)
	}
	if strings.Contains(text, "PRIVATE KEY") {
		t.Error("the key is printed")
	}
}

// watched is an output that tells of the page in it.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
	said chan string
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, after, ok := strings.Cut(string(p), "open http://127.0.0.1:"); ok {
		port, _, _ := strings.Cut(after, " ")
		select {
		case w.said <- "http://127.0.0.1:" + port:
		default:
		}
	}
	return w.text.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}
