package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/runner"
	"holdfast/runner/terraform"
	"holdfast/store"
	"holdfast/store/sqlite"
	"holdfast/vcs"
	"holdfast/vcs/git"
	"holdfast/vcs/gitea"
	"holdfast/vcs/plaingit"
)

// openStore opens the store that the settings name, with its artifacts sealed
// under the server's key.
func openStore(ctx context.Context, s Settings) (*store.Store, []byte, error) {
	key, err := masterKey(s)
	if err != nil {
		return nil, nil, err
	}
	st, err := sqlite.Open(ctx, s.StorePath())
	if err != nil {
		return nil, nil, err
	}
	st.Artifacts = store.Sealed(st.Artifacts, store.DeriveKey(key, "artifacts"))
	return st, key, nil
}

// masterKey returns the key that all others are derived from: the settings'
// own, else the one in the data directory, which is made on the first start.
// None is made for a store that is there already: what it holds could not be
// read with it, and the right key would have no place to come back to.
func masterKey(s Settings) ([]byte, error) {
	if s.Key != "" {
		if len(s.Key) < 32 {
			return nil, hinted{errors.New("key is shorter than 32 characters"), "make one with: openssl rand -hex 32"}
		}
		return []byte(s.Key), nil
	}
	if err := makeDataDir(s.DataDir); err != nil {
		return nil, err
	}
	file := filepath.Join(s.DataDir, "key")
	// Looked at before the key, which is there before its store is.
	info, err := os.Stat(s.StorePath())
	stored := err == nil && info.Size() > 0
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		if stored {
			return nil, hinted{fmt.Errorf("the server's key %s is missing, and the store %s was made with one", file, s.StorePath()),
				`restore the file "key" from the backup, or set HOLDFAST_KEY to the key that this store was used with`}
		}
		fresh := make([]byte, 32)
		_, _ = rand.Read(fresh) // never fails
		if err := writeOnce(file, hex.EncodeToString(fresh)+"\n"); err != nil {
			return nil, fmt.Errorf("write the server's key: %w", err)
		}
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read the server's key: %w", err)
	}
	key := strings.TrimSpace(string(data))
	if len(key) < 32 {
		return nil, hinted{fmt.Errorf("the server's key in %s is damaged", file), "restore it from a backup: without it stored plans and logs cannot be read"}
	}
	return []byte(key), nil
}

// writeOnce creates a private file with all of its content at once, or leaves
// the one that is there: two processes that start together must agree on it.
func writeOnce(file, content string) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".key-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), file); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// makeDataDir makes the data directory and finds out whether it can be
// written.
func makeDataDir(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".write-test-*"); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if err != nil {
		return hinted{fmt.Errorf("the data directory %s cannot be written: %w", dir, err), "give this user the right to write there, or set data_dir in the server file (HOLDFAST_DATA_DIR, --data-dir)"}
	}
	return nil
}

// hosts are the opened hosts, by the name that repositories carry.
type hosts struct {
	all      map[string]vcs.Host
	webhooks map[string]vcs.Webhooks // by the name in /webhooks/NAME
	repos    []runner.Repository
	// asks find out, by the host's name, whether it has a repository and takes
	// the token.
	asks map[string]func(context.Context, vcs.Repository) error
}

// openHosts opens each host of the settings.
func openHosts(s Settings, st *store.Store, mirrors *git.Mirrors) (hosts, error) {
	h := hosts{all: map[string]vcs.Host{}, webhooks: map[string]vcs.Webhooks{}, asks: map[string]func(context.Context, vcs.Repository) error{}}
	for _, c := range s.Hosts {
		switch c.Type {
		case "gitea":
			host, err := gitea.New(gitea.Config{Name: c.Name, URL: c.URL, Token: c.Token, WebhookSecret: c.WebhookSecret})
			if err != nil {
				return h, fmt.Errorf("host %q: %w", c.Name, err)
			}
			h.all[c.Name] = host
			h.asks[c.Name] = func(ctx context.Context, r vcs.Repository) error {
				_, err := host.Remote(ctx, r)
				return err
			}
			h.webhooks[c.Name] = host
			if _, taken := h.webhooks[c.Type]; !taken {
				h.webhooks[c.Type] = host
			}
		case "git":
			remotes := map[vcs.Repository]vcs.Remote{}
			for _, r := range s.Repositories {
				if r.Repository.Host == c.Name {
					remotes[r.Repository] = vcs.Remote{URL: r.URL, DefaultBranch: r.DefaultBranch, Username: r.Username, Password: r.Password, SSHKeyFile: r.SSHKeyFile}
				}
			}
			host, err := plaingit.New(plaingit.Config{Name: c.Name, Git: mirrors, Repositories: remotes, State: pollState{st.Records}})
			if err != nil {
				return h, fmt.Errorf("host %q: %w", c.Name, err)
			}
			h.all[c.Name] = host
			h.asks[c.Name] = func(ctx context.Context, r vcs.Repository) error {
				_, err := host.PullRequests(ctx, r, time.Now()) // its Remote need not ask
				return err
			}
		default:
			return h, fmt.Errorf("host %q: unknown type %q", c.Name, c.Type)
		}
	}
	for _, r := range s.Repositories {
		h.repos = append(h.repos, runner.Repository{Repository: r.Repository, Reconcile: s.reconcileEvery(r)})
	}
	return h, nil
}

// newEngines prepares engines for the server.
func newEngines(s Settings, o serverOptions) (*terraform.Engines, error) {
	return terraform.New(terraform.Config{DataDir: o.EngineDir, Pass: s.Engine.Pass, Set: s.Engine.Set, Progress: o.Progress})
}

// nodeName is what this machine is called in runs and listings.
func nodeName() string {
	name, err := os.Hostname()
	if err != nil {
		return "local"
	}
	return name
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
