package main

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/store/sqlite"
	"holdfast/vcs"
	"holdfast/vcs/git"
	"holdfast/vcs/gitea/giteatest"
)

// askOnce opens the hosts of s and returns what asking them logs.
func askOnce(ctx context.Context, t *testing.T, s Settings, timeout time.Duration) string {
	t.Helper()
	dir := t.TempDir()
	st, err := sqlite.Open(t.Context(), filepath.Join(dir, "holdfast.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	mirrors, err := git.New(git.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHosts(s, st, mirrors)
	if err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	h.ask(ctx, slog.New(slog.NewTextHandler(&log, nil)), timeout)
	return log.String()
}

func TestHostsAreAsked(t *testing.T) {
	forge := giteatest.New(t, giteatest.Config{})
	repo := forge.CreateRepository("platform", "network", map[string]string{"a": "b"})
	token := forge.AddUser("holdfast", true)
	closed := httptest.NewServer(nil)
	closed.Close()
	gitea := func(name, url, token string) (string, Settings) {
		return name, Settings{Hosts: []HostSettings{{Type: "gitea", Name: "h", URL: url, Token: token, WebhookSecret: "x"}}}
	}
	plain := func(url, branch string) (string, Settings) {
		return "platform/network", Settings{
			Hosts:        []HostSettings{{Type: "git", Name: "h"}},
			Repositories: []RepositorySettings{{URL: url, DefaultBranch: branch, Username: "holdfast", Password: token}},
		}
	}
	missing := filepath.Join(t.TempDir(), "missing.git")
	for _, tc := range []struct {
		name string
		of   func() (string, Settings)
		want string // a pattern; empty for silence
	}{
		{"well", func() (string, Settings) { return gitea("platform/network", forge.URL, token) }, ``},
		{"token", func() (string, Settings) { return gitea("platform/network", forge.URL, "wrong") }, `level=ERROR msg="the host refuses the token" repository=h/platform/network error=.* hint="The token is wrong or has expired: make a new one`},
		{"name", func() (string, Settings) { return gitea("platform/netwrok", forge.URL, token) }, `level=ERROR msg="the host has no such repository" repository=h/platform/netwrok error=.* hint="check owner and name in the repository block.*may read`},
		{"down", func() (string, Settings) { return gitea("platform/network", closed.URL, token) }, `level=WARN msg="the host cannot be reached" repository=h/platform/network error=.* hint="will be tried again"`},
		{"plain", func() (string, Settings) { return plain(repo.CloneURL(), "") }, ``},
		{"plain missing", func() (string, Settings) { return plain(missing, "main") }, `level=ERROR msg="the host has no such repository".*missing`},
		{"plain branch", func() (string, Settings) { return plain(repo.CloneURL(), "trunk") }, `level=ERROR msg="the host has no such repository" .*trunk.* hint=.*default_branch`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name, s := tc.of()
			r, err := vcs.ParseRepository("h/" + name)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Repositories) == 0 {
				s.Repositories = []RepositorySettings{{}}
			}
			s.Repositories[0].Repository = r
			got := askOnce(t.Context(), t, s, time.Minute)
			if tc.want == "" && got != "" || !regexp.MustCompile(tc.want).MatchString(got) || strings.Contains(got, token) {
				t.Errorf("logged %q, want %s", got, tc.want)
			}
			ended, end := context.WithCancel(t.Context())
			end()
			if got := askOnce(ended, t, s, time.Minute); got != "" {
				t.Errorf("a server that ends logs %q", got)
			}
		})
	}
	t.Run("silent", func(t *testing.T) {
		forge.Fail(giteatest.Fault{Kind: giteatest.Hang})
		_, s := gitea("platform/network", forge.URL, token)
		s.Repositories = []RepositorySettings{{Repository: vcs.Repository{Host: "h", Owner: "platform", Name: "network"}}}
		if got := askOnce(t.Context(), t, s, 200*time.Millisecond); !strings.Contains(got, "level=WARN") {
			t.Errorf("logged %q", got)
		}
	})
}

func TestOverviewNamesRepositories(t *testing.T) {
	r := vcs.Repository{Host: "internal", Owner: "platform", Name: "network"}
	srv, err := newServer(t.Context(), Settings{
		Listen: "127.0.0.1:0", Store: "sqlite", DataDir: t.TempDir(), Workers: 1, PerRepository: 1,
		Hosts:        []HostSettings{{Type: "git", Name: r.Host}},
		Repositories: []RepositorySettings{{Repository: r, URL: "/nowhere/network.git"}},
	}, serverOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	answer := httptest.NewRecorder()
	srv.handler.ServeHTTP(answer, httptest.NewRequest("GET", srv.settings.URL+"/", nil))
	if page := answer.Body.String(); !strings.Contains(page, "internal/platform/network") || strings.Contains(page, "Connect a repository") {
		t.Errorf("the overview is %d:\n%s", answer.Code, page)
	}
}
