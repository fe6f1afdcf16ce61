package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"holdfast/vcs"
	"holdfast/workspaces"
)

var updateSettings = flag.Bool("update-settings", false, "write the golden files of the server file's tests anew")

// TestLoadSettings reads testdata/serverfile/*.txtar: a server.hcl, files
// beside it, variables in "env" (NAME=VALUE), and in "want" what is read or
// said.
func TestLoadSettings(t *testing.T) {
	files, err := filepath.Glob("testdata/serverfile/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			env, want := map[string]string{"HOME": "/home/x"}, -1
			for i, f := range a.Files {
				switch f.Name {
				case "want":
					want = i
				case "env":
					for line := range strings.Lines(string(f.Data)) {
						name, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
						env[name] = value
					}
				default:
					if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			got := strings.ReplaceAll(describeSettings(filepath.Join(dir, "server.hcl"), env), dir+"/", "DIR/")
			if *updateSettings {
				a.Files[want].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[want].Data), got); diff != "" {
				t.Errorf("differs (-want +got):\n%s", diff)
			}
			if strings.Contains(got, "s3cr3t") && strings.HasPrefix(got, "error") {
				t.Error("an error tells a secret")
			}
		})
	}
}

func describeSettings(path string, env map[string]string) string {
	s, err := LoadSettings(path, lookup(env))
	if err != nil {
		text := fmt.Sprintf("error:\n%v\n", err)
		if hint := hintOf(err); hint != "" {
			text += "hint: " + hint + "\n"
		}
		return text
	}
	var b strings.Builder
	fmt.Fprintf(&b, "url %q\nlisten %q\nstore %q (%s)\ndata_dir %q\nstate_dir %q\nworkers %d %q grace %s\nper_repository %d\nkey %q\ncommands %q\n", s.URL, s.Listen, s.Store, s.StorePath(), s.DataDir, s.stateDir(), s.Workers, s.Labels, s.Grace, s.PerRepository, s.Key, s.Commands)
	if len(s.OldKeys) > 0 {
		fmt.Fprintf(&b, "old_keys %q\n", s.OldKeys)
	}
	if s.S3.Bucket != "" {
		fmt.Fprintf(&b, "s3 %+v\n", s.S3)
	}
	for _, h := range s.Hosts {
		fmt.Fprintf(&b, "host %+v\n", h)
	}
	for _, r := range s.Repositories {
		fmt.Fprintf(&b, "repository %+v every %s\n", r, s.reconcileEvery(r))
	}
	fmt.Fprintf(&b, "engine %v\n", s.Engine)
	fmt.Fprintf(&b, "retention artifacts %s, checks %s, runs %s\n", retentionText(s.Retention.Artifacts), retentionText(s.Retention.Checks), retentionText(s.Retention.Runs))
	return b.String()
}

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
}

func TestSettingsWithoutFile(t *testing.T) {
	s, err := LoadSettings("", lookup(map[string]string{"HOME": "/home/x"}))
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{Listen: "127.0.0.1:4141", Store: "sqlite", DataDir: "/home/x/.local/share/holdfast", Workers: runtime.NumCPU(), Grace: 20 * time.Second, PerRepository: 4, Retention: defaultRetention}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
	if got := s.StorePath(); got != "/home/x/.local/share/holdfast/holdfast.db" {
		t.Errorf("store path is %s", got)
	}
}

func TestSettingsFromVariables(t *testing.T) {
	for _, tc := range []struct {
		name, value string
		set         func(*Settings)
		err         string
	}{
		{name: "HOLDFAST_URL", value: "https://x.example/", set: func(s *Settings) { s.URL = "https://x.example" }},
		{name: "HOLDFAST_LISTEN", value: ":1", set: func(s *Settings) { s.Listen = ":1" }},
		{name: "HOLDFAST_STORE", value: "sqlite:/x.db", set: func(s *Settings) { s.Store = "sqlite:/x.db" }},
		{name: "HOLDFAST_DATA_DIR", value: "/y", set: func(s *Settings) { s.DataDir = "/y" }},
		{name: "HOLDFAST_WORKERS", value: "7", set: func(s *Settings) { s.Workers = 7 }},
		{name: "HOLDFAST_LABELS", value: "prod,eu", set: func(s *Settings) { s.Labels = []string{"prod", "eu"} }},
		{name: "HOLDFAST_LABELS", value: "Prod", err: "HOLDFAST_LABELS"},
		{name: "HOLDFAST_GRACE", value: "2m", set: func(s *Settings) { s.Grace = 2 * time.Minute }},
		{name: "HOLDFAST_GRACE", value: "soon", err: "HOLDFAST_GRACE"},
		{name: "HOLDFAST_REDIS_PASSWORD", value: "x", set: func(s *Settings) { s.Redis.Password = "x" }},
		{name: "HOLDFAST_WORKERS", value: "0", set: func(s *Settings) { s.Workers = 0 }},
		{name: "HOLDFAST_KEY", value: strings.Repeat("k", 32), set: func(s *Settings) { s.Key = strings.Repeat("k", 32) }},
		{name: "HOLDFAST_OLD_KEYS", value: strings.Repeat("k", 32) + ", " + strings.Repeat("l", 32), set: func(s *Settings) { s.OldKeys = []string{strings.Repeat("k", 32), strings.Repeat("l", 32)} }},
		{name: "XDG_DATA_HOME", value: "/data", set: func(s *Settings) { s.DataDir = "/data/holdfast" }},
		{name: "XDG_DATA_HOME", value: "relative", set: func(*Settings) {}},
		{name: "HOLDFAST_URL", value: "", set: func(*Settings) {}},
		{name: "HOLDFAST_URL", value: "x.example", err: "HOLDFAST_URL: is not the address of a web server"},
		{name: "HOLDFAST_LISTEN", value: "4141", err: `HOLDFAST_LISTEN: is "4141", which is not HOST:PORT`},
		{name: "HOLDFAST_LISTEN", value: ":70000", err: "HOST:PORT"},
		{name: "HOLDFAST_STORE", value: "postgres:x", err: `HOLDFAST_STORE: is of type "postgres", which there is not`},
		{name: "HOLDFAST_WORKERS", value: "many", err: "HOLDFAST_WORKERS"},
		{name: "HOLDFAST_WORKERS", value: "-1", err: "HOLDFAST_WORKERS"},
		{name: "HOLDFAST_KEY", value: "s3cr3t", err: "HOLDFAST_KEY: is shorter than 32 characters"},
		{name: "HOLDFAST_OLD_KEYS", value: strings.Repeat("k", 32) + ",s3cr3t", err: "HOLDFAST_OLD_KEYS: one is shorter than 32 characters"},
		{name: "HOME", value: "", err: "no home directory"},
	} {
		s, err := LoadSettings("", lookup(map[string]string{"HOME": "/home/x", tc.name: tc.value}))
		if tc.err != "" {
			var problems workspaces.Problems
			if err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "s3cr3t") || !errors.As(err, &problems) {
				t.Errorf("%s=%s: error %v, want %q", tc.name, tc.value, err, tc.err)
			}
			continue
		}
		want := Settings{Listen: "127.0.0.1:4141", Store: "sqlite", DataDir: "/home/x/.local/share/holdfast", Workers: runtime.NumCPU(), Grace: 20 * time.Second, PerRepository: 4, Retention: defaultRetention}
		tc.set(&want)
		if diff := cmp.Diff(want, s); err != nil || diff != "" {
			t.Errorf("%s=%s: %v (-want +got):\n%s", tc.name, tc.value, err, diff)
		}
	}
}

// TestStoreSettings: where the store is can be known without the server's
// secrets, files and variables.
func TestStoreSettings(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "server.hcl")
	write := func(src string) {
		if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`url = env("URL")
key = env("KEY")
workers = "none"
store = "sqlite:s.db"
data_dir = "data"
host "gitea" "git.example.com" {
  token          = env("GITEA_TOKEN")
  webhook_secret = file("/nowhere")
}
repository "git.example.com/a/b" {}
repository "other.example.com/a/b" {}
engine {
  set = { A = env("A") }
}
`)
	env := map[string]string{"HOME": "/home/x", "HOLDFAST_KEY": "short", "HOLDFAST_WORKERS": "many"}
	s, err := LoadStoreSettings(path, lookup(env))
	if err != nil || s.StorePath() != filepath.Join(dir, "s.db") || s.DataDir != filepath.Join(dir, "data") {
		t.Errorf("the store is at %q in %q: %v", s.StorePath(), s.DataDir, err)
	}
	if _, err := LoadSettings(path, lookup(env)); err == nil {
		t.Error("a server would start with this file")
	}
	env["HOLDFAST_STORE"], env["HOLDFAST_DATA_DIR"] = "sqlite", "/y"
	if s, err = LoadStoreSettings(path, lookup(env)); err != nil || s.StorePath() != "/y/holdfast.db" {
		t.Errorf("with variables the store is at %q: %v", s.StorePath(), err)
	}
	for src, want := range map[string]string{
		`store = "postgres:x"`:    "which there is not",
		`data_dir = env("UNSET")`: "UNSET is not set",
		`data_dir = `:             "server.hcl:1",
	} {
		write(src + "\n")
		if _, err := LoadStoreSettings(path, lookup(nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", src, err, want)
		}
	}
}

// TestCommandsReachTheRunner starts a server with commands that are off by
// default, and one without.
func TestCommandsReachTheRunner(t *testing.T) {
	r := vcs.Repository{Host: "internal", Owner: "platform", Name: "network"}
	for _, commands := range [][]string{nil, {"import", "state rm"}} {
		srv, err := newServer(t.Context(), Settings{
			Listen: "127.0.0.1:0", Store: "sqlite", DataDir: t.TempDir(), Workers: 1, PerRepository: 1, Commands: commands,
			Hosts:        []HostSettings{{Type: "git", Name: r.Host}},
			Repositories: []RepositorySettings{{Repository: r, URL: "/nowhere/network.git"}},
		}, serverOptions{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer srv.Close()
		if diff := cmp.Diff(commands, srv.runner.Commands); diff != "" {
			t.Errorf("the runner's differ (-want +got):\n%s", diff)
		}
	}
}

func TestReconcileEvery(t *testing.T) {
	s := Settings{Hosts: []HostSettings{{Name: "a", Poll: time.Second}, {Name: "b"}}}
	for _, tc := range []struct {
		host      string
		reconcile time.Duration
		want      time.Duration
	}{{"a", 0, time.Second}, {"a", time.Minute, time.Minute}, {"b", 0, 0}, {"c", 0, 0}} {
		r := RepositorySettings{Repository: vcs.Repository{Host: tc.host}, Reconcile: tc.reconcile}
		if got := s.reconcileEvery(r); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.host, got, tc.want)
		}
	}
}

func TestServerFileIsThere(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big.hcl")
	if err := os.WriteFile(big, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{filepath.Join(dir, "none.hcl"): "no such file", dir: "is not a file", big: "larger than 1 MB"} {
		if _, err := LoadSettings(path, lookup(nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", path, err, want)
		}
	}
}

// FuzzSettings: no server file makes LoadSettings panic, no error is without
// its place, and none tells what an attribute for secrets has.
func FuzzSettings(f *testing.F) {
	f.Add(`url = "https://x"`, "token")
	f.Add("host \"gitea\" \"a\" {\n  token = env(\"T\")\n  webhook_secret = file(\"x\")\n}\nrepository \"a/b/c\" {}\nengine {\n  pass = [\"*\"]\n  set = { A = env(\"T\") }\n}", "x")
	f.Add("host \"git\" \"a\" { poll = \"1s\" }\nrepository \"a/b/c\" {\n url = \"x\"\n}", "")
	f.Add("commands = [\"import\", \"state rm\", \"destroy\", env(\"T\"), null]", "x")
	f.Add("workers = 1/0\nkey = \"${env(1)}\"\nlisten = [for x in [1]: x]", "k")
	f.Fuzz(func(t *testing.T, src, junk string) {
		path := filepath.Join(t.TempDir(), "server.hcl")
		secret := "fuzzed-s3cr3t"
		if strings.Contains(src+junk, "s3cr3t") {
			return
		}
		src += "\nkey = \"" + secret + "\"" + junk + "\n"
		if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadSettings(path, lookup(map[string]string{"HOME": "/h", "T": "value"}))
		var problems workspaces.Problems
		if err != nil && !errors.As(err, &problems) {
			t.Fatalf("error without a place: %v", err)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Errorf("problem without a place: %+v", p)
			}
			if strings.Contains(p.String(), secret) {
				t.Errorf("tells a secret: %s", p)
			}
		}
	})
}
