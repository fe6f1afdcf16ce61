// Package plaingit lets teams without a forge work with pull requests: on any
// Git remote, a branch ahead of the default branch is one. Nobody tells it of
// changes, so that it looks at the remote whenever it is asked.
//
// What a forge would remember is kept in a State: the numbers, and how each
// pull request ended.
package plaingit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"holdfast/vcs"
)

// Git is what the host asks of the repositories' mirrors. Commits are named in
// full. What is not in the mirror is vcs.ErrNotFound.
type Git interface {
	// Fetch makes the mirror what the remote is now.
	Fetch(ctx context.Context, r vcs.Repository, remote vcs.Remote, refs ...string) error
	// DefaultBranch returns the branch that the remote's HEAD points to.
	DefaultBranch(ctx context.Context, r vcs.Repository) (string, error)
	// Branches returns all branches with their commits.
	Branches(ctx context.Context, r vcs.Repository) (map[string]string, error)
	// IsAncestor reports whether a is b or in its history.
	IsAncestor(ctx context.Context, r vcs.Repository, a, b string) (bool, error)
	// MergeBase returns what two histories have in common last.
	MergeBase(ctx context.Context, r vcs.Repository, a, b string) (string, error)
	// Parents returns a commit's parents, that of its own branch first.
	Parents(ctx context.Context, r vcs.Repository, sha string) ([]string, error)
	// FirstParents returns tip and its first parents, newest first, without
	// stop and what is behind it, and no more than limit.
	FirstParents(ctx context.Context, r vcs.Repository, tip, stop string, limit int) ([]string, error)
	// PatchID names what changes between two commits, wherever it stands;
	// empty where nothing does.
	PatchID(ctx context.Context, r vcs.Repository, from, to string) (string, error)
	// Describe returns a commit's first line, its author's name and its time.
	Describe(ctx context.Context, r vcs.Repository, sha string) (subject, author string, at time.Time, err error)
	// WriteNote replaces the note of a commit, at the remote.
	WriteNote(ctx context.Context, r vcs.Repository, remote vcs.Remote, sha, text string) error
}

// State keeps a few kilobytes per repository. Safe for concurrent use.
type State interface {
	// Load returns what was saved last, nil where nothing was.
	Load(ctx context.Context, r vcs.Repository) ([]byte, error)
	// Save replaces it, durably and all at once.
	Save(ctx context.Context, r vcs.Repository, data []byte) error
}

// Config is what a Host needs.
type Config struct {
	// Name is the host's part of its repositories' names. Required.
	Name string
	// Git reads the repositories. Required.
	Git Git
	// Repositories are those of the host, and how to reach them. Where a
	// DefaultBranch is empty, the remote's HEAD says it.
	Repositories map[vcs.Repository]vcs.Remote
	// State keeps what Git does not. Required.
	State State
	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
}

func (c Config) withDefaults() Config {
	c.Repositories = maps.Clone(c.Repositories)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Name == "":
		return errors.New("plaingit: Config.Name is empty")
	case c.Git == nil:
		return errors.New("plaingit: Config.Git is missing")
	case c.State == nil:
		return errors.New("plaingit: Config.State is missing")
	}
	for r := range c.Repositories {
		if r.Host != c.Name {
			return fmt.Errorf("plaingit: repository %s is not on host %s", r, c.Name)
		}
	}
	return nil
}

// Host implements vcs.Host, vcs.Notes and vcs.Opener.
type Host struct {
	cfg Config
	// looking serialises what reads and writes one repository's state.
	looking map[vcs.Repository]*sync.Mutex
}

var (
	_ vcs.Host   = (*Host)(nil)
	_ vcs.Notes  = (*Host)(nil)
	_ vcs.Opener = (*Host)(nil)
)

// New returns a host. It touches neither the remotes nor the state.
func New(cfg Config) (*Host, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg, looking: map[vcs.Repository]*sync.Mutex{}}
	for r := range cfg.Repositories {
		h.looking[r] = &sync.Mutex{}
	}
	return h, nil
}

// remote returns how to reach r, as it was configured.
func (h *Host) remote(r vcs.Repository) (vcs.Remote, error) {
	remote, ok := h.cfg.Repositories[r]
	if !ok {
		return vcs.Remote{}, fmt.Errorf("%w: no repository %s is configured", vcs.ErrNotFound, r)
	}
	return remote, nil
}

// Remote implements vcs.Host. Where the default branch is not configured, it is
// what the remote said at the last fetch.
func (h *Host) Remote(ctx context.Context, r vcs.Repository) (vcs.Remote, error) {
	remote, err := h.remote(r)
	if err != nil || remote.DefaultBranch != "" {
		return remote, err
	}
	remote.DefaultBranch, err = h.cfg.Git.DefaultBranch(ctx, r)
	if errors.Is(err, vcs.ErrNotFound) {
		if err := h.cfg.Git.Fetch(ctx, r, remote); err != nil {
			return vcs.Remote{}, err
		}
		remote.DefaultBranch, err = h.cfg.Git.DefaultBranch(ctx, r)
	}
	return remote, err
}

// PullRequest implements vcs.Host. It fetches.
func (h *Host) PullRequest(ctx context.Context, r vcs.Repository, number int) (vcs.PullRequest, error) {
	l, err := h.look(ctx, r)
	if err != nil {
		return vcs.PullRequest{}, err
	}
	for _, p := range l.state.Pulls {
		if p.Number == number {
			return l.pullRequest(ctx, p)
		}
	}
	return vcs.PullRequest{}, fmt.Errorf("%w: no pull request %d in %s", vcs.ErrNotFound, number, r)
}

// PullRequests implements vcs.Host. It fetches. A pull request counts as
// closed or merged when that was seen.
func (h *Host) PullRequests(ctx context.Context, r vcs.Repository, since time.Time) ([]vcs.PullRequest, error) {
	l, err := h.look(ctx, r)
	if err != nil {
		return nil, err
	}
	var found []vcs.PullRequest
	for _, p := range l.state.Pulls {
		if p.State != vcs.Open && p.UpdatedAt.Before(since) {
			continue
		}
		pr, err := l.pullRequest(ctx, p)
		if err != nil {
			return nil, err
		}
		found = append(found, pr)
	}
	return found, nil
}

// OpenPull implements vcs.Opener: a branch ahead of the default branch is a
// pull request once it is pushed, so that it is looked at and returned. Its
// title is its latest commit's, and it has no body.
func (h *Host) OpenPull(ctx context.Context, r vcs.Repository, n vcs.NewPull) (vcs.PullRequest, error) {
	l, err := h.look(ctx, r)
	if err != nil {
		return vcs.PullRequest{}, err
	}
	p := l.state.open(n.Branch)
	switch {
	case l.branches[n.Branch] == "":
		err = fmt.Errorf("%w: the remote has no such branch", vcs.ErrNotFound)
	case n.Base != l.base && l.branches[n.Base] == "":
		err = fmt.Errorf("%w: the remote has no branch %q", vcs.ErrNotFound, n.Base)
	case n.Base != l.base:
		err = fmt.Errorf("pull requests go to the default branch, which is %q", l.base)
	case p == nil:
		err = fmt.Errorf("it has nothing that %q lacks, or was merged already", l.base)
	}
	if err != nil {
		return vcs.PullRequest{}, fmt.Errorf("open pull request from %q to %q in %s: %w", n.Branch, n.Base, r, err)
	}
	return l.pullRequest(ctx, p)
}

// Permission implements vcs.Host. Plain Git knows no users but those that may
// push, and whoever made a branch could.
func (h *Host) Permission(_ context.Context, r vcs.Repository, _ string) (vcs.Permission, error) {
	if _, err := h.remote(r); err != nil {
		return vcs.PermissionNone, err
	}
	return vcs.PermissionWrite, nil
}

// SetNote implements vcs.Notes.
func (h *Host) SetNote(ctx context.Context, r vcs.Repository, sha, text string) error {
	remote, err := h.remote(r)
	if err != nil {
		return err
	}
	return h.cfg.Git.WriteNote(ctx, r, remote, sha, text)
}
