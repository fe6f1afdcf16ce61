package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"holdfast/runner"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/vcs/azuredevops"
	"holdfast/vcs/bitbucket"
	"holdfast/vcs/git"
	"holdfast/vcs/gitea"
	"holdfast/vcs/github"
	"holdfast/vcs/gitlab"
	"holdfast/vcs/plaingit"
)

// hosts are the opened hosts, by the name that repositories carry.
type hosts struct {
	all      map[string]vcs.Host
	webhooks map[string]vcs.Webhooks // by the name in /webhooks/NAME
	repos    []runner.Repository
	patterns []runner.Pattern
	pull     map[string]bool // those that send no webhooks
	// asks find out, by the host's name, whether it has a repository and takes
	// the token.
	asks map[string]func(context.Context, vcs.Repository) error
}

// openHosts opens each host of the settings.
func openHosts(s Settings, st *store.Store, mirrors *git.Mirrors) (hosts, error) {
	h := hosts{all: map[string]vcs.Host{}, webhooks: map[string]vcs.Webhooks{}, pull: map[string]bool{}, asks: map[string]func(context.Context, vcs.Repository) error{}}
	for _, c := range s.Hosts {
		if c.Type == "git" {
			if err := h.plain(s, c, st, mirrors); err != nil {
				return h, fmt.Errorf("host %q: %w", c.Name, err)
			}
			continue
		}
		host, err := openForge(c)
		if err != nil {
			return h, fmt.Errorf("host %q: %w", c.Name, err)
		}
		h.all[c.Name], h.pull[c.Name] = host, c.Pull
		h.asks[c.Name] = func(ctx context.Context, r vcs.Repository) error {
			_, err := host.Remote(ctx, r)
			return err
		}
		if webhooks, ok := host.(vcs.Webhooks); ok && !c.Pull {
			h.webhooks[c.Name] = webhooks
			if _, taken := h.webhooks[c.Type]; !taken {
				h.webhooks[c.Type] = webhooks
			}
		}
	}
	for _, r := range s.Repositories {
		if r.Pattern != "" {
			h.patterns = append(h.patterns, s.pattern(r))
			continue
		}
		h.repos = append(h.repos, runner.Repository{Repository: r.Repository, Reconcile: s.reconcileEvery(r)})
	}
	return h, nil
}

// pattern is what a repository block with a pattern names.
func (s Settings) pattern(r RepositorySettings) runner.Pattern {
	return runner.Pattern{Host: r.host(), Glob: strings.TrimPrefix(r.Pattern, r.host()+"/"), Exclude: r.Exclude, Reconcile: s.reconcileEvery(r)}
}

// remote is how a repository of a git host is reached.
func (r RepositorySettings) remote() vcs.Remote {
	return vcs.Remote{URL: r.URL, DefaultBranch: r.DefaultBranch, Username: r.Username, Password: r.Password, SSHKeyFile: r.SSHKeyFile}
}

// openForge opens a host with an API. It makes no request.
func openForge(c HostSettings) (vcs.Host, error) {
	switch c.Type {
	case "github":
		return openGitHub(c)
	case "gitlab":
		var ca []byte
		if c.CAFile != "" {
			var err error
			if ca, err = os.ReadFile(c.CAFile); err != nil {
				return nil, fmt.Errorf("read ca_file: %w", err)
			}
		}
		return gitlab.New(gitlab.Config{Name: c.Name, URL: c.URL, Token: c.Token, WebhookSecret: c.WebhookSecret, Pull: c.Pull, CA: ca})
	case "bitbucket":
		return bitbucket.New(bitbucket.Config{Name: c.Name, URL: c.URL, Token: c.Token, Username: c.Username, WebhookSecret: c.WebhookSecret, Pull: c.Pull})
	case "azuredevops":
		return azuredevops.New(azuredevops.Config{Name: c.Name, URL: c.URL, Token: c.Token, WebhookSecret: c.WebhookSecret, Pull: c.Pull})
	case "gitea":
		return gitea.New(gitea.Config{Name: c.Name, URL: c.URL, Token: c.Token, WebhookSecret: c.WebhookSecret, Pull: c.Pull})
	}
	return nil, fmt.Errorf("unknown type %q", c.Type)
}

func openGitHub(c HostSettings) (vcs.Host, error) {
	cfg := github.Config{Name: c.Name, URL: c.URL, Token: c.Token, WebhookSecret: c.WebhookSecret, Pull: c.Pull}
	if c.AppID != "" {
		id, err := strconv.ParseInt(c.AppID, 10, 64)
		if err != nil || id <= 0 {
			return nil, hinted{fmt.Errorf("app_id %q is not a number", c.AppID), "the number is on the App's settings page"}
		}
		cfg.App = &github.App{ID: id, PrivateKey: []byte(c.PrivateKey)}
	}
	return github.New(cfg)
}

// plain opens a host without an API.
func (h *hosts) plain(s Settings, c HostSettings, st *store.Store, mirrors *git.Mirrors) error {
	remotes := map[vcs.Repository]vcs.Remote{}
	for _, r := range s.Repositories {
		if r.host() == c.Name {
			remotes[r.Repository] = r.remote()
		}
	}
	host, err := plaingit.New(plaingit.Config{Name: c.Name, Git: mirrors, Repositories: remotes, State: pollState{st.Records}})
	if err != nil {
		return err
	}
	h.all[c.Name] = host
	h.asks[c.Name] = func(ctx context.Context, r vcs.Repository) error {
		_, err := host.PullRequests(ctx, r, time.Now()) // its Remote need not ask
		return err
	}
	return nil
}

// pollState keeps what plain Git hosts know between polls in the store.
type pollState struct{ records store.Records }

func (p pollState) key(r vcs.Repository) string { return "plaingit/" + r.String() }

// Load returns nil where nothing is stored.
func (p pollState) Load(ctx context.Context, r vcs.Repository) ([]byte, error) {
	rec, err := p.records.Get(ctx, p.key(r))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return rec.Value, err
}

// Save replaces what is stored.
func (p pollState) Save(ctx context.Context, r vcs.Repository, state []byte) error {
	for {
		rec, err := p.records.Get(ctx, p.key(r))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		rec.Key, rec.Value = p.key(r), state
		if _, err := p.records.Put(ctx, time.Now(), rec); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
