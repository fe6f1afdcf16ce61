// Package bitbucket lets Holdfast work for repositories on Bitbucket Cloud. There
// is no official client, and none that is kept well: its requests are made here.
//
// Users are named by their account ids, which never change: nicknames are not
// unique. Bitbucket has no refs of pull requests, so that those of forks cannot be
// fetched and are not planned; no reactions; no deployments without a pipeline.
// Its API names commits by twelve characters, which are looked up once.
package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// Config says which Bitbucket, and as whom.
type Config struct {
	// URL is the host's address as browsers know it. Defaults to
	// https://bitbucket.org.
	URL string
	// APIURL is the address of its API. Defaults to
	// https://api.bitbucket.org/2.0 for bitbucket.org, and to URL/2.0.
	APIURL string
	// Name is the host in repository names. Defaults to the URL's host.
	Name string
	// Token is an access token of a workspace, project or repository, or, with
	// Username, a user's API token. Required.
	Token, Username string
	// WebhookSecret signs the webhooks. Required, unless Pull is set.
	WebhookSecret string
	// Pull says that no webhooks are expected: all are refused.
	Pull bool
	// HTTPClient makes the requests. Its Transport and Timeout are used.
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
		c.URL = "https://bitbucket.org"
	}
	c.URL = strings.TrimRight(c.URL, "/")
	if u, err := url.Parse(c.URL); err == nil {
		if c.Name == "" {
			c.Name = strings.ToLower(u.Host)
		}
		if c.APIURL == "" && strings.EqualFold(u.Host, "bitbucket.org") {
			c.APIURL = "https://api.bitbucket.org/2.0"
		}
	}
	if c.APIURL == "" {
		c.APIURL = c.URL + "/2.0"
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
		Example: "https://bitbucket.org", GetToken: "make an access token in the workspace's or the repository's settings",
	}.Check()
}

// Host is Bitbucket Cloud. Safe for concurrent use.
type Host struct {
	cfg Config
	api *transport.Client

	opening sync.Mutex // OpenPull: the host opens two where it is asked twice at once

	mu   sync.Mutex
	self string
	full map[string]string // commits by REPOSITORY@SHORT
}

var (
	_ vcs.Host         = (*Host)(nil)
	_ vcs.Webhooks     = (*Host)(nil)
	_ vcs.Comments     = (*Host)(nil)
	_ vcs.Statuses     = (*Host)(nil)
	_ vcs.StatusReader = (*Host)(nil)
	_ vcs.Reviews      = (*Host)(nil)
	_ vcs.Merger       = (*Host)(nil)
	_ vcs.Opener       = (*Host)(nil)
	_ vcs.PullEditor   = (*Host)(nil)
	_ vcs.Lister       = (*Host)(nil)
	_ vcs.Hooks        = (*Host)(nil)
	_ vcs.Clock        = (*Host)(nil)
	_ vcs.Budget       = (*Host)(nil)
)

// New returns the host. It makes no request.
func New(cfg Config) (*Host, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("bitbucket host: %w", err)
	}
	h := &Host{cfg: cfg, full: map[string]string{}}
	h.api = &transport.Client{
		Base: cfg.APIURL,
		HTTP: transport.New(transport.Config{Client: cfg.HTTPClient, Now: cfg.Now, Hint: h.hint}),
		Auth: func(r *http.Request) {
			if cfg.Username != "" {
				r.SetBasicAuth(cfg.Username, cfg.Token)
			} else {
				r.Header.Set("Authorization", "Bearer "+cfg.Token)
			}
		},
	}
	return h, nil
}

func (h *Host) hint(e *transport.Error) string {
	switch e.Status {
	case http.StatusUnauthorized:
		return "The token is wrong or has expired: make a new one in the settings of the workspace, the project or the repository, under Access tokens"
	case http.StatusForbidden:
		return "The token lacks a scope: it needs repository:write, pullrequest:write and account (webhook to set webhooks up). Scopes cannot be added: make a new token in the settings, under Access tokens"
	}
	return ""
}

// Name is the host in repository names.
func (h *Host) Name() string { return h.cfg.Name }

// at is the path of a repository's API.
func at(r vcs.Repository, rest string) string {
	return "/repositories/" + url.PathEscape(r.Owner) + "/" + url.PathEscape(r.Name) + rest
}

// maxPages bounds a listing: a host whose pages never end is broken.
const maxPages = 2000

// eachPage hands on each item of a list until visit returns false.
func eachPage[T any](ctx context.Context, h *Host, path string, visit func(T) bool) error {
	for range maxPages {
		var page struct {
			Values []T    `json:"values"`
			Next   string `json:"next"`
		}
		if _, err := h.api.Do(ctx, http.MethodGet, path, nil, &page); err != nil {
			return err
		}
		for _, v := range page.Values {
			if !visit(v) {
				return nil
			}
		}
		if page.Next == "" || page.Next == path {
			return nil
		}
		path = page.Next
	}
	return fmt.Errorf("the host's list has no end after %d pages", maxPages)
}

// Remote returns the repository's address.
func (h *Host) Remote(ctx context.Context, r vcs.Repository) (vcs.Remote, error) {
	var repo struct {
		Main struct {
			Name string `json:"name"`
		} `json:"mainbranch"`
	}
	if _, err := h.api.Do(ctx, http.MethodGet, at(r, ""), nil, &repo); err != nil {
		return vcs.Remote{}, transport.Wrap(err, "read repository %s", r)
	}
	if repo.Main.Name == "" {
		return vcs.Remote{}, fmt.Errorf("read repository %s: the host names no default branch", r)
	}
	user := h.cfg.Username
	if user == "" {
		user = "x-token-auth"
	}
	return vcs.Remote{
		URL:           h.cfg.URL + "/" + url.PathEscape(r.Owner) + "/" + url.PathEscape(r.Name) + ".git",
		DefaultBranch: repo.Main.Name, Username: user, Password: h.cfg.Token,
	}, nil
}

// Permission asks for the user's effective permission, by account id.
func (h *Host) Permission(ctx context.Context, r vcs.Repository, user string) (vcs.Permission, error) {
	if user == "" || strings.ContainsAny(user, `"\`) {
		return vcs.PermissionNone, nil
	}
	best := vcs.PermissionNone
	path := "/workspaces/" + url.PathEscape(r.Owner) + "/permissions/repositories/" + url.PathEscape(r.Name) + "?q=" + url.QueryEscape(`user.account_id="`+user+`"`)
	err := eachPage(ctx, h, path, func(p struct {
		Permission string `json:"permission"`
		User       struct {
			AccountID string `json:"account_id"`
		} `json:"user"`
	}) bool {
		if p.User.AccountID != user {
			return true
		}
		switch p.Permission {
		case "admin":
			best = vcs.PermissionAdmin
		case "write":
			best = vcs.PermissionWrite
		case "read":
			best = vcs.PermissionRead
		}
		return false
	})
	if err != nil {
		return vcs.PermissionNone, transport.Wrap(err, "read permission of %s in %s", transport.Printable(user), r)
	}
	return best, nil
}

// Self is the account id of the token's user, asked once.
func (h *Host) Self(ctx context.Context) (string, error) {
	h.mu.Lock()
	self := h.self
	h.mu.Unlock()
	if self != "" {
		return self, nil
	}
	var u account
	if _, err := h.api.Do(ctx, http.MethodGet, "/user", nil, &u); err != nil {
		return "", transport.Wrap(err, "read own user")
	}
	if u.AccountID == "" {
		return "", errors.New("read own user: the host answered without an account id")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.self = u.AccountID
	return h.self, nil
}

type account struct {
	AccountID string `json:"account_id"`
}

// Repositories returns a workspace's repositories.
func (h *Host) Repositories(ctx context.Context, owner string) ([]vcs.Repository, error) {
	var found []vcs.Repository
	err := eachPage(ctx, h, "/repositories/"+url.PathEscape(owner)+"?pagelen=100", func(p struct {
		FullName string `json:"full_name"`
	}) bool {
		if r, err := vcs.ParseRepository(h.cfg.Name + "/" + p.FullName); err == nil && strings.EqualFold(r.Owner, owner) {
			found = append(found, r)
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list repositories of %s/%s", h.cfg.Name, owner)
	}
	slices.SortFunc(found, func(a, b vcs.Repository) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// hookEvents are those that a webhook has to send.
var hookEvents = []string{
	"repo:push", "pullrequest:created", "pullrequest:updated", "pullrequest:fulfilled", "pullrequest:rejected", "pullrequest:approved", "pullrequest:unapproved",
	"pullrequest:changes_request_created", "pullrequest:changes_request_removed", "pullrequest:comment_created",
}

// SetHook looks at the repository's own webhooks; one of the workspace is not
// seen.
func (h *Host) SetHook(ctx context.Context, r vcs.Repository, address string) (string, error) {
	type hook struct {
		UUID        string   `json:"uuid,omitempty"`
		Description string   `json:"description"`
		URL         string   `json:"url"`
		Secret      string   `json:"secret,omitempty"`
		Active      bool     `json:"active"`
		Events      []string `json:"events"`
	}
	var found *hook
	err := eachPage(ctx, h, at(r, "/hooks?pagelen=100"), func(x hook) bool {
		if x.URL == address {
			found = &x
		}
		return found == nil
	})
	if err != nil {
		return "", transport.Wrap(err, "list webhooks of %s", r)
	}
	want := hook{Description: "Holdfast", URL: address, Secret: h.cfg.WebhookSecret, Active: true, Events: hookEvents}
	if found == nil {
		if _, err := h.api.Do(ctx, http.MethodPost, at(r, "/hooks"), want, nil); err != nil {
			return "", transport.Wrap(err, "create webhook of %s", r)
		}
		return "created the webhook", nil
	}
	if _, err := h.api.Do(ctx, http.MethodPut, at(r, "/hooks/"+url.PathEscape(found.UUID)), want, nil); err != nil {
		return "", transport.Wrap(err, "edit webhook of %s", r)
	}
	var did []string
	if !found.Active {
		did = append(did, "switched the webhook on")
	}
	for _, e := range hookEvents {
		if !slices.Contains(found.Events, e) {
			did = append(did, "added its event "+e)
		}
	}
	return strings.Join(did, ", "), nil
}

// Deliveries returns none: Bitbucket shows them on its pages alone.
func (h *Host) Deliveries(context.Context, vcs.Repository, string) ([]vcs.Delivery, error) {
	return nil, nil
}

// Time reads the Date header of an answer.
func (h *Host) Time(ctx context.Context) (time.Time, error) {
	resp, err := h.api.Do(ctx, http.MethodGet, "/user", nil, nil)
	if err != nil {
		return time.Time{}, transport.Wrap(err, "ask the host for its time")
	}
	return http.ParseTime(resp.Header.Get("Date"))
}

// Budget is what Bitbucket gives a token, 1,000 requests an hour. One look asks
// for the repository and for three lists.
func (h *Host) Budget() (perHour, perLook int) { return 1000, 4 }

// number writes an id in a path.
func number(n int64) string { return strconv.FormatInt(n, 10) }
