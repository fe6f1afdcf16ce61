// Package gitea lets Holdfast work for repositories on Gitea and Forgejo,
// which speak the same API and send the same webhooks.
//
// It keeps no state but the name of its own user: what it answers is what the
// host says at that moment.
package gitea

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// Config says which Gitea, and as whom.
type Config struct {
	// URL is the host's address as browsers know it, with a path where Gitea
	// is served under one: "https://git.example.com". Required.
	URL string
	// Name is the host in repository names. Defaults to the URL's host, with
	// its port if it has one.
	Name string
	// Token is an access token with the scopes read:user, write:issue and
	// write:repository, of a user who administrates the repositories: only
	// such a user may ask for the permissions of others. Required.
	Token string
	// WebhookSecret signs the webhooks. Required, unless Pull is set.
	WebhookSecret string
	// Pull says that no webhooks are expected: all are refused.
	Pull bool
	// HTTPClient makes the requests. Its Transport and Timeout are used.
	// Defaults to a client of its own with a timeout of 30 seconds.
	HTTPClient *http.Client
	// Logger is told what no error reports. Defaults to slog.Default.
	Logger *slog.Logger
	// Now is the clock that relative retry times are added to. Defaults to
	// time.Now.
	Now func() time.Time
}

// WithDefaults fills in what was left out.
func (c Config) WithDefaults() Config {
	if u, err := url.Parse(c.URL); err == nil && c.Name == "" {
		c.Name = strings.ToLower(u.Host)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func (c Config) validate() error {
	return transport.Settings{
		URL: c.URL, Name: c.Name, Token: c.Token, Secret: c.WebhookSecret, Pull: c.Pull,
		Example: "https://git.example.com", GetToken: "make one in Gitea under Settings, Applications",
	}.Check()
}

// Host is one Gitea or Forgejo. Safe for concurrent use.
type Host struct {
	cfg  Config
	base string // the URL without a slash at its end
	http *http.Client

	mu   sync.Mutex
	self string
}

var (
	_ vcs.Host     = (*Host)(nil)
	_ vcs.Webhooks = (*Host)(nil)
	_ vcs.Comments = (*Host)(nil)
	_ vcs.Statuses = (*Host)(nil)
	_ vcs.Reviews  = (*Host)(nil)
	_ vcs.Merger   = (*Host)(nil)
	_ vcs.Opener   = (*Host)(nil)

	_ vcs.Tickets      = (*Host)(nil)
	_ vcs.PullEditor   = (*Host)(nil)
	_ vcs.StatusReader = (*Host)(nil)
	_ vcs.Reactions    = (*Host)(nil)
	_ vcs.Lister       = (*Host)(nil)
	_ vcs.Grants       = (*Host)(nil)
	_ vcs.Hooks        = (*Host)(nil)
	_ vcs.Clock        = (*Host)(nil)
	_ vcs.Budget       = (*Host)(nil)
)

// New returns the host. It makes no request, so that a host that is down does
// not keep Holdfast from starting.
func New(cfg Config) (*Host, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("gitea host: %w", err)
	}
	h := &Host{cfg: cfg, base: strings.TrimRight(cfg.URL, "/")}
	h.http = transport.New(transport.Config{Client: cfg.HTTPClient, Now: cfg.Now, Hint: hint})
	return h, nil
}

// Name is the host in repository names.
func (h *Host) Name() string { return h.cfg.Name }

// hint says what to do about an answer that refuses.
func hint(e *transport.Error) string {
	switch {
	case e.Status == http.StatusUnauthorized:
		return "The token is wrong or has expired: make a new one in Gitea under Settings, Applications."
	case e.Status == http.StatusForbidden && strings.HasSuffix(e.Path, "/permission"):
		return "Make the token's user an administrator of the repository: Gitea tells only those what others may do."
	case e.Status == http.StatusForbidden:
		return "The token needs the scopes read:user, write:issue and write:repository, and its user access to the repository."
	default:
		return ""
	}
}

// client returns the official client bound to ctx. It keeps its context in
// itself, so a call needs its own; making one costs no request, because the
// version is not asked for.
func (h *Host) client(ctx context.Context) (*sdk.Client, error) {
	c, err := sdk.NewClient(h.base,
		sdk.SetGiteaVersion(""), sdk.SetToken(h.cfg.Token), sdk.SetContext(ctx),
		sdk.SetHTTPClient(h.http), sdk.SetUserAgent("holdfast"))
	if err != nil {
		return nil, fmt.Errorf("make gitea client: %w", err)
	}
	return c, nil
}

// Remote returns the repository's address under the configured URL: the one
// that the host itself names follows its ROOT_URL, which is often wrong behind
// a proxy.
func (h *Host) Remote(ctx context.Context, r vcs.Repository) (vcs.Remote, error) {
	c, err := h.client(ctx)
	if err != nil {
		return vcs.Remote{}, err
	}
	repo, _, err := c.GetRepo(r.Owner, r.Name)
	if err != nil {
		return vcs.Remote{}, transport.Wrap(err, "read repository %s", r)
	}
	if repo.DefaultBranch == "" {
		return vcs.Remote{}, fmt.Errorf("read repository %s: the host names no default branch", r)
	}
	return vcs.Remote{
		URL:           h.base + "/" + url.PathEscape(r.Owner) + "/" + url.PathEscape(r.Name) + ".git",
		DefaultBranch: repo.DefaultBranch,
		Username:      "holdfast", // any: Gitea looks at the token alone
		Password:      h.cfg.Token,
	}, nil
}

// Permission asks the host. A user that it does not know has none.
func (h *Host) Permission(ctx context.Context, r vcs.Repository, user string) (vcs.Permission, error) {
	c, err := h.client(ctx)
	if err != nil {
		return vcs.PermissionNone, err
	}
	if user == "" || user == "." || user == ".." { // no login, and another path
		return vcs.PermissionNone, nil
	}
	res, _, err := c.CollaboratorPermission(r.Owner, r.Name, user)
	if errors.Is(err, vcs.ErrNotFound) {
		return vcs.PermissionNone, nil
	}
	if err != nil {
		return vcs.PermissionNone, transport.Wrap(err, "read permission of %s in %s", user, r)
	}
	if res == nil {
		return vcs.PermissionNone, fmt.Errorf("read permission of %s in %s: the host answered nothing", user, r)
	}
	switch res.Permission {
	case sdk.AccessModeOwner, sdk.AccessModeAdmin:
		return vcs.PermissionAdmin, nil
	case sdk.AccessModeWrite:
		return vcs.PermissionWrite, nil
	case sdk.AccessModeRead:
		return vcs.PermissionRead, nil
	default: // also what a later version may name: nothing is allowed by a word we don't know
		return vcs.PermissionNone, nil
	}
}

// Self is the login of the token's user, asked once.
func (h *Host) Self(ctx context.Context) (string, error) {
	h.mu.Lock()
	self := h.self
	h.mu.Unlock()
	if self != "" {
		return self, nil
	}
	c, err := h.client(ctx)
	if err != nil {
		return "", err
	}
	u, _, err := c.GetMyUserInfo()
	if err != nil {
		return "", transport.Wrap(err, "read own user")
	}
	if u.UserName == "" {
		return "", errors.New("read own user: the host answered without a login")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.self = u.UserName
	return h.self, nil
}
