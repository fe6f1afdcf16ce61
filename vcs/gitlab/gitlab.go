// Package gitlab lets Holdfast work for repositories on GitLab.com and on
// self-managed GitLabs. Merge requests are its pull requests, notes its
// comments: one note is edited in place, and it is no discussion that somebody
// would have to resolve.
//
// It keeps no state but the name of its own user: what it answers is what the
// host says at that moment.
package gitlab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "gitlab.com/gitlab-org/api/client-go/v2"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// Config says which GitLab, and as whom.
type Config struct {
	// URL is the host's address as browsers know it, with a path where GitLab is
	// served under one. Defaults to https://gitlab.com.
	URL string
	// Name is the host in repository names. Defaults to the URL's host, with its
	// port if it has one.
	Name string
	// Token is an access token (personal, of a group or of a project) with the
	// scope api, of a user with the role Developer at least; Maintainer to merge
	// into protected branches and to set webhooks up. Required.
	Token string
	// WebhookSecret comes with the webhooks. Required, unless Pull is set.
	WebhookSecret string
	// Pull says that no webhooks are expected: all are refused.
	Pull bool
	// CA has certificates in PEM that the host's own is checked with, besides
	// those of the system.
	CA []byte
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
	if c.URL == "" {
		c.URL = "https://gitlab.com"
	}
	c.URL = strings.TrimRight(c.URL, "/")
	if u, err := url.Parse(c.URL); err == nil && c.Name == "" {
		c.Name = strings.ToLower(u.Host)
	}
	if c.HTTPClient == nil {
		c.HTTPClient = &http.Client{}
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
		Example: "https://gitlab.com", GetToken: "make one in GitLab under Preferences, Access tokens",
	}.Check()
}

// Host is one GitLab. Safe for concurrent use.
type Host struct {
	cfg    Config
	client *sdk.Client

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
	_ vcs.Deployments  = (*Host)(nil)
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
		return nil, fmt.Errorf("gitlab host: %w", err)
	}
	if len(cfg.CA) > 0 {
		if err := cfg.trust(); err != nil {
			return nil, fmt.Errorf("gitlab host: %w", err)
		}
	}
	h := &Host{cfg: cfg}
	web := transport.New(transport.Config{Client: cfg.HTTPClient, Now: cfg.Now, Hint: h.hint})
	var err error
	// Its own retries and its limiter, which asks the host before it starts, are
	// off: jobs are retried, and package transport stays away when it is told to.
	h.client, err = sdk.NewClient(cfg.Token, sdk.WithBaseURL(cfg.URL+"/api/v4"), sdk.WithHTTPClient(web),
		sdk.WithoutRetries(), sdk.WithCustomLimiter(unlimited{}), sdk.WithUserAgent("holdfast"))
	if err != nil {
		return nil, fmt.Errorf("gitlab host: %w", err)
	}
	return h, nil
}

// trust has the client accept the certificates of CA too.
func (c *Config) trust() error {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(c.CA) {
		return errors.New("the file of certificates has none in PEM")
	}
	base, ok := c.HTTPClient.Transport.(*http.Transport)
	if !ok {
		base = http.DefaultTransport.(*http.Transport)
	}
	base = base.Clone()
	if base.TLSClientConfig == nil {
		base.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	base.TLSClientConfig.RootCAs = pool
	own := *c.HTTPClient
	own.Transport = base
	c.HTTPClient = &own
	return nil
}

type unlimited struct{}

func (unlimited) Wait(context.Context) error { return nil }

// hint says what to do about an answer that refuses.
func (h *Host) hint(e *transport.Error) string {
	switch e.Status {
	case http.StatusUnauthorized:
		return "The token is wrong or has expired: make a new one with the scope api at " + h.cfg.URL + "/-/user_settings/personal_access_tokens"
	case http.StatusForbidden:
		return "The token needs the scope api, and its user the role Developer in the project (Maintainer to merge into protected branches and to set webhooks up): look at the project's Manage, Members"
	case http.StatusNotFound:
		return "Where it is there, the token's user may not see it: GitLab says \"not found\" for that too. Add the user under the project's Manage, Members"
	}
	return ""
}

// Name is the host in repository names.
func (h *Host) Name() string { return h.cfg.Name }

// id is a project's, as the API takes it.
func id(r vcs.Repository) string { return r.Owner + "/" + r.Name }

func with(ctx context.Context) sdk.RequestOptionFunc { return sdk.WithContext(ctx) }

func (h *Host) project(ctx context.Context, r vcs.Repository) (*sdk.Project, error) {
	p, _, err := h.client.Projects.GetProject(id(r), nil, with(ctx))
	if err != nil {
		return nil, transport.Wrap(err, "read repository %s", r)
	}
	return p, nil
}

// Remote returns the repository's address under the configured URL.
func (h *Host) Remote(ctx context.Context, r vcs.Repository) (vcs.Remote, error) {
	p, err := h.project(ctx, r)
	if err != nil {
		return vcs.Remote{}, err
	}
	if p.DefaultBranch == "" {
		return vcs.Remote{}, fmt.Errorf("read repository %s: the host names no default branch", r)
	}
	var path []string
	for _, part := range strings.Split(id(r), "/") {
		path = append(path, url.PathEscape(part))
	}
	return vcs.Remote{
		URL:           h.cfg.URL + "/" + strings.Join(path, "/") + ".git",
		DefaultBranch: p.DefaultBranch,
		Username:      "oauth2", // any: GitLab looks at the token alone
		Password:      h.cfg.Token,
	}, nil
}

// Permission asks for the user's role in the project, inherited ones included.
// Developer and what is above may write. A user who is no member may read at
// most, which is none here.
func (h *Host) Permission(ctx context.Context, r vcs.Repository, user string) (vcs.Permission, error) {
	if user == "" {
		return vcs.PermissionNone, nil
	}
	users, _, err := h.client.Users.ListUsers(&sdk.ListUsersOptions{Username: &user}, with(ctx))
	if err != nil {
		return vcs.PermissionNone, transport.Wrap(err, "find user %s", transport.Printable(user))
	}
	i := slices.IndexFunc(users, func(u *sdk.User) bool { return u != nil && strings.EqualFold(u.Username, user) })
	if i < 0 {
		return vcs.PermissionNone, nil
	}
	m, _, err := h.client.ProjectMembers.GetInheritedProjectMember(id(r), users[i].ID, with(ctx))
	if errors.Is(err, vcs.ErrNotFound) {
		return vcs.PermissionNone, nil
	}
	if err != nil {
		return vcs.PermissionNone, transport.Wrap(err, "read role of %s in %s", transport.Printable(user), r)
	}
	expired := m.ExpiresAt != nil && !h.cfg.Now().Before(time.Time(*m.ExpiresAt))
	switch level := int(m.AccessLevel); {
	case expired || m.State != "" && m.State != "active":
		return vcs.PermissionNone, nil
	case level >= int(sdk.MaintainerPermissions):
		return vcs.PermissionAdmin, nil
	case level >= int(sdk.DeveloperPermissions):
		return vcs.PermissionWrite, nil
	case level >= int(sdk.GuestPermissions):
		return vcs.PermissionRead, nil
	}
	return vcs.PermissionNone, nil
}

// Self is the username of the token's user, asked once.
func (h *Host) Self(ctx context.Context) (string, error) {
	h.mu.Lock()
	self := h.self
	h.mu.Unlock()
	if self != "" {
		return self, nil
	}
	u, _, err := h.client.Users.CurrentUser(with(ctx))
	if err != nil {
		return "", transport.Wrap(err, "read own user")
	}
	if u.Username == "" {
		return "", errors.New("read own user: the host answered without a username")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.self = u.Username
	return h.self, nil
}

func ptr[T any](v T) *T { return &v }
