// Package github lets Holdfast work for repositories on GitHub.com and GitHub
// Enterprise Server, with a token or as a GitHub App.
//
// An App is what to prefer: it may show a check run with the plan in it, has a
// limit of requests of its own, and is installed for an organisation at once.
// With a token the same is shown as commit statuses.
//
// It keeps no state but tokens, the names of its own user and of what it is
// installed for: what it answers is what the host says at that moment.
package github

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bradleyfalzon/ghinstallation/v2"
	sdk "github.com/google/go-github/v88/github"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// Config says which GitHub, and as whom.
type Config struct {
	// URL is the host's address as browsers know it. Defaults to
	// https://github.com.
	URL string
	// APIURL is the address of its REST API. Defaults to https://api.github.com
	// for GitHub.com and to URL/api/v3 for others.
	APIURL string
	// Name is the host in repository names. Defaults to the URL's host.
	Name string
	// Token is a fine-grained or classic access token. Either it or App is
	// required.
	Token string
	// App signs in as a GitHub App.
	App *App
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

// App is a GitHub App.
type App struct {
	ID         int64
	PrivateKey []byte // PEM
}

// cacheSize bounds what is kept of the answers for one owner, in bytes.
const cacheSize = 16 << 20

// maxClients bounds the installations that are remembered.
const maxClients = 1000

// WithDefaults fills in what was left out.
func (c Config) WithDefaults() Config {
	if c.URL == "" {
		c.URL = "https://github.com"
	}
	c.URL = strings.TrimRight(c.URL, "/")
	if u, err := url.Parse(c.URL); err == nil {
		if c.Name == "" {
			c.Name = strings.ToLower(u.Host)
		}
		if c.APIURL == "" && strings.EqualFold(u.Host, "github.com") {
			c.APIURL = "https://api.github.com"
		}
	}
	if c.APIURL == "" {
		c.APIURL = c.URL + "/api/v3"
	}
	c.APIURL = strings.TrimRight(c.APIURL, "/")
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
	if err := transport.CheckAddress(c.APIURL, "https://api.github.com"); err != nil {
		return err
	}
	token := c.Token
	if c.App != nil {
		if token != "" {
			return errors.New("there are a token and an App: give one of them")
		}
		token = "none" // an App gets tokens of its own
	}
	return transport.Settings{
		URL: c.URL, Name: c.Name, Token: token, Secret: c.WebhookSecret, Pull: c.Pull,
		Example: "https://github.com", GetToken: "make one under Settings, Developer settings, or use a GitHub App",
	}.Check()
}

// Host is one GitHub. Safe for concurrent use.
type Host struct {
	cfg  Config
	app  *ghinstallation.AppsTransport // nil with a token
	own  *client                       // the token's, or the App's own
	next http.RoundTripper             // below all

	mu      sync.Mutex
	clients map[string]*client // of an App's installations, by owner in lower case
	self    string
	noRuns  bool // the App may write no check runs
}

// client is what makes requests for one token.
type client struct {
	*sdk.Client
	installation *ghinstallation.Transport // nil with a token
	page         string                    // where the permissions are granted
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
	_ vcs.Checks       = (*Host)(nil)
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
		return nil, fmt.Errorf("github host: %w", err)
	}
	h := &Host{cfg: cfg, clients: map[string]*client{}, next: cfg.HTTPClient.Transport}
	if h.next == nil {
		h.next = http.DefaultTransport
	}
	var err error
	if cfg.App == nil {
		h.own, err = h.newClient(bearer{cfg.Token, h.next}, cfg.URL+"/settings/tokens")
	} else {
		if h.app, err = ghinstallation.NewAppsTransport(h.next, cfg.App.ID, cfg.App.PrivateKey); err != nil {
			return nil, errors.New("github host: the private key of the App cannot be read: it has to be PEM, as the App's settings page gives it")
		}
		h.app.BaseURL = cfg.APIURL
		h.own, err = h.newClient(h.app, cfg.URL+"/settings/apps")
	}
	if err != nil {
		return nil, fmt.Errorf("github host: %w", err)
	}
	return h, nil
}

// bearer signs requests with a token.
type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(req)
}

// newClient returns the official client above auth. Its own limiter is off: it
// would need to see the answers that package transport turns into errors, and
// that stays away from the host for as long.
func (h *Host) newClient(auth http.RoundTripper, page string) (*client, error) {
	c := &client{page: page}
	web := transport.New(transport.Config{
		Client: &http.Client{Transport: auth, Timeout: h.cfg.HTTPClient.Timeout}, Now: h.cfg.Now,
		CacheSize: cacheSize, Kind: h.kind, Hint: func(e *transport.Error) string { return hint(e, c.page) },
	})
	api, upload := h.cfg.APIURL+"/", h.cfg.APIURL+"/"
	var err error
	c.Client, err = sdk.NewClient(sdk.WithHTTPClient(web), sdk.WithURLs(&api, &upload), sdk.WithUserAgent("holdfast"), sdk.WithDisableRateLimitCheck())
	return c, err
}

// kind knows GitHub's limits: the primary one is a 403 with nothing left, the
// secondary one a 403 or 429 that says so, at times without a time to come back.
func (h *Host) kind(status int, header http.Header, body []byte) error {
	if status != http.StatusForbidden && status != http.StatusTooManyRequests {
		return nil
	}
	limited := status == http.StatusTooManyRequests || header.Get("Retry-After") != "" || header.Get("X-RateLimit-Remaining") == "0" ||
		strings.Contains(strings.ToLower(transport.Message(body)), "secondary rate limit")
	if !limited {
		return nil
	}
	at := transport.RetryAt(header, h.cfg.Now())
	if header.Get("Retry-After") == "" && header.Get("X-RateLimit-Remaining") != "0" {
		at = h.cfg.Now().Add(time.Minute) // as the documentation of secondary limits asks
	}
	return &vcs.RateLimitError{RetryAt: at}
}

// hint says what to do about an answer that refuses.
func hint(e *transport.Error, page string) string {
	switch {
	case e.Status == http.StatusUnauthorized:
		return "The token is wrong or has expired, or the App's key does not belong to its number. Look at " + page
	case e.Status == http.StatusForbidden && errors.Is(e.Kind, vcs.ErrDenied):
		// GitHub names what would be enough: "checks=write", several after ";".
		if needs := transport.OneLine(e.Header.Get("X-Accepted-GitHub-Permissions"), 200); needs != "" {
			return "The token lacks a permission: it needs " + permissions(needs) + ". Grant it at " + page
		}
		return "The token lacks a permission for this. Grant it at " + page
	case e.Status == http.StatusNotFound:
		return "Where it is there, the token may not see it: GitHub says \"not found\" for that too. Its repositories are chosen at " + page
	}
	return ""
}

// permissions turns "checks=write; contents=read" into words.
func permissions(accepted string) string {
	var all []string
	for _, one := range strings.FieldsFunc(accepted, func(r rune) bool { return r == ',' || r == ';' }) {
		name, level, _ := strings.Cut(strings.TrimSpace(one), "=")
		all = append(all, strings.ReplaceAll(name, "_", " ")+": "+level)
	}
	return strings.Join(all, ", ")
}

// Name is the host in repository names.
func (h *Host) Name() string { return h.cfg.Name }

// client returns what makes requests about an owner's repositories: for an App,
// by its installation there.
func (h *Host) client(ctx context.Context, owner string) (*client, error) {
	if h.app == nil {
		return h.own, nil
	}
	key := strings.ToLower(owner)
	h.mu.Lock()
	c := h.clients[key]
	h.mu.Unlock()
	if c != nil {
		return c, nil
	}
	// The same for users and for organisations.
	in, _, err := h.own.Apps.GetUserInstallation(ctx, owner)
	if errors.Is(err, vcs.ErrNotFound) {
		return nil, fmt.Errorf("the GitHub App is not installed for %s: install it there: %w", owner, vcs.ErrNotFound)
	}
	if err != nil {
		return nil, transport.Wrap(err, "find the installation of the GitHub App for %s", owner)
	}
	if in.GetSuspendedAt() != (sdk.Timestamp{}) {
		return nil, fmt.Errorf("the installation of the GitHub App for %s is suspended: %w", owner, vcs.ErrDenied)
	}
	// Not from h.app: the library changes what installations would share.
	auth, err := ghinstallation.New(h.next, h.cfg.App.ID, in.GetID(), h.cfg.App.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("sign in as the GitHub App for %s: %w", owner, err)
	}
	auth.BaseURL = h.cfg.APIURL
	page := in.GetHTMLURL()
	if page == "" {
		page = h.cfg.URL + "/settings/installations/" + strconv.FormatInt(in.GetID(), 10)
	}
	if c, err = h.newClient(refreshed{auth}, page); err != nil {
		return nil, err
	}
	c.installation = auth
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) >= maxClients {
		clear(h.clients)
	}
	h.clients[key] = c
	return c, nil
}

// refreshed reports a token that cannot be had as the host's answer.
type refreshed struct{ *ghinstallation.Transport }

func (r refreshed) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.Transport.RoundTrip(req)
	var refused *ghinstallation.HTTPError
	if errors.As(err, &refused) && refused.Response != nil {
		return refused.Response, nil
	}
	return resp, err
}

// Remote returns the repository's address, with a token that is good for an hour
// where it is an App's.
func (h *Host) Remote(ctx context.Context, r vcs.Repository) (vcs.Remote, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return vcs.Remote{}, err
	}
	repo, _, err := c.Repositories.Get(ctx, r.Owner, r.Name)
	if err != nil {
		return vcs.Remote{}, transport.Wrap(err, "read repository %s", r)
	}
	if repo.GetDefaultBranch() == "" {
		return vcs.Remote{}, fmt.Errorf("read repository %s: the host names no default branch", r)
	}
	password := h.cfg.Token
	if c.installation != nil {
		if password, err = c.installation.Token(ctx); err != nil {
			return vcs.Remote{}, transport.Wrap(err, "get a token for %s", r)
		}
	}
	return vcs.Remote{
		URL:           h.cfg.URL + "/" + url.PathEscape(r.Owner) + "/" + url.PathEscape(r.Name) + ".git",
		DefaultBranch: repo.GetDefaultBranch(),
		Username:      "x-access-token", // what an App's token wants; others take any
		Password:      password,
	}, nil
}

// Permission asks the host. A user that it does not know has none.
func (h *Host) Permission(ctx context.Context, r vcs.Repository, user string) (vcs.Permission, error) {
	if user == "" || strings.ContainsAny(user, "/?#%") || user == "." || user == ".." {
		return vcs.PermissionNone, nil // no login, and another path
	}
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return vcs.PermissionNone, err
	}
	level, _, err := c.Repositories.GetPermissionLevel(ctx, r.Owner, r.Name, user)
	if errors.Is(err, vcs.ErrNotFound) {
		return vcs.PermissionNone, nil
	}
	if err != nil {
		return vcs.PermissionNone, transport.Wrap(err, "read permission of %s in %s", transport.Printable(user), r)
	}
	// "maintain" and "triage" are told as "write" and "read" here already, and
	// so is a role that an organisation made.
	switch level.GetPermission() {
	case "admin":
		return vcs.PermissionAdmin, nil
	case "write":
		return vcs.PermissionWrite, nil
	case "read":
		return vcs.PermissionRead, nil
	default: // also what a later version may name: nothing is allowed by a word we don't know
		return vcs.PermissionNone, nil
	}
}

// Self is the login of the token's user, or of the App's bot, asked once.
func (h *Host) Self(ctx context.Context) (string, error) {
	h.mu.Lock()
	self := h.self
	h.mu.Unlock()
	if self != "" {
		return self, nil
	}
	if h.app != nil {
		app, _, err := h.own.Apps.Get(ctx, "")
		if err != nil {
			return "", transport.Wrap(err, "read own App")
		}
		if app.GetSlug() != "" {
			self = app.GetSlug() + "[bot]"
		}
	} else {
		u, _, err := h.own.Users.Get(ctx, "")
		if err != nil {
			return "", transport.Wrap(err, "read own user")
		}
		self = u.GetLogin()
	}
	if self == "" {
		return "", errors.New("read own user: the host answered without a login")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.self = self
	return self, nil
}
