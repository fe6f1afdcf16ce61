// Package azuredevops lets Holdfast work for repositories on Azure DevOps. The
// official client is a thin layer over the same requests and not kept up, so they
// are made here.
//
// A repository's owner is ORGANISATION/PROJECT. Users are named by their unique
// names, which are addresses as a rule. Azure DevOps has no refs of pull requests'
// heads, so that those of forks cannot be fetched and are not planned; no
// reactions; and its service hooks carry a password instead of a signature.
package azuredevops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// version is the API's.
const version = "api-version=7.1"

// Config says which Azure DevOps, and as whom.
type Config struct {
	// URL is the host's address. Defaults to https://dev.azure.com.
	URL string
	// IdentityURL is where users are looked up, and ProfileURL where the token's
	// own user is. Default to Microsoft's for dev.azure.com, and to URL.
	IdentityURL, ProfileURL string
	// Name is the host in repository names. Defaults to the URL's host.
	Name string
	// Token is a personal access token with the scopes Code (read, write and
	// status), Identity (read) and User profile (read), and for tickets Work Items
	// (read and write). Required.
	Token string
	// WebhookSecret is the password of the service hooks. Required, unless Pull is
	// set.
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
	c.URL = strings.TrimRight(cmp.Or(c.URL, "https://dev.azure.com"), "/")
	if u, err := url.Parse(c.URL); err == nil {
		c.Name = cmp.Or(c.Name, strings.ToLower(u.Host))
		if strings.EqualFold(u.Host, "dev.azure.com") {
			c.IdentityURL = cmp.Or(c.IdentityURL, "https://vssps.dev.azure.com")
			c.ProfileURL = cmp.Or(c.ProfileURL, "https://app.vssps.visualstudio.com")
		}
	}
	c.IdentityURL, c.ProfileURL = cmp.Or(c.IdentityURL, c.URL), cmp.Or(c.ProfileURL, c.URL)
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
		Example: "https://dev.azure.com", GetToken: "make a personal access token under User settings",
	}.Check()
}

// Host is one Azure DevOps. Safe for concurrent use.
type Host struct {
	cfg                    Config
	api, identity, profile *transport.Client
	patch                  *transport.Client // sends JSON patches

	mu     sync.Mutex
	self   string
	boards map[string]*board // by owner
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
	_ vcs.Tickets      = (*Host)(nil)
	_ vcs.Lister       = (*Host)(nil)
	_ vcs.Clock        = (*Host)(nil)
	_ vcs.Budget       = (*Host)(nil)
)

// New returns the host. It makes no request.
func New(cfg Config) (*Host, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("azuredevops host: %w", err)
	}
	web := transport.New(transport.Config{Client: cfg.HTTPClient, Now: cfg.Now, Hint: hint, Kind: kind})
	client := func(base string) *transport.Client {
		return &transport.Client{Base: base, HTTP: web, Auth: func(r *http.Request) { r.SetBasicAuth("", cfg.Token) }}
	}
	h := &Host{cfg: cfg, api: client(cfg.URL), identity: client(cfg.IdentityURL), profile: client(cfg.ProfileURL), patch: client(cfg.URL), boards: map[string]*board{}}
	h.patch.ContentType = "application/json-patch+json"
	return h, nil
}

// kind knows that a missing repository is a 404 with a code, and that a token
// without a scope is a 401 of its own.
func kind(status int, _ http.Header, body []byte) error {
	if status == http.StatusBadRequest && strings.Contains(string(body), "TF401180") {
		return vcs.ErrNotFound // no such pull request
	}
	return nil
}

func hint(e *transport.Error) string {
	switch e.Status {
	case http.StatusUnauthorized:
		return "The token is wrong, has expired, or lacks a scope: make a personal access token with Code (read, write and status), Work Items (read and write), Identity (read) and User profile (read) under User settings, Personal access tokens"
	case http.StatusForbidden:
		return "The token's user may not do this: give it the right under Project settings, Repositories, Security"
	}
	return ""
}

// Name is the host in repository names.
func (h *Host) Name() string { return h.cfg.Name }

// escaped escapes each part of a path.
func escaped(path string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// at is the path of a repository's API. rest may have a query.
func at(r vcs.Repository, rest string) string {
	path := "/" + escaped(r.Owner) + "/_apis/git/repositories/" + url.PathEscape(r.Name) + rest
	if strings.Contains(rest, "?") {
		return path + "&" + version
	}
	return path + "?" + version
}

func organisation(r vcs.Repository) string {
	org, _, _ := strings.Cut(r.Owner, "/")
	return org
}

type repository struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	DefaultBranch string `json:"defaultBranch"`
	Disabled      bool   `json:"isDisabled"`
	RemoteURL     string `json:"remoteUrl"`
	Project       struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"project"`
}

func (h *Host) repository(ctx context.Context, r vcs.Repository) (repo repository, err error) {
	if _, err = h.api.Do(ctx, http.MethodGet, at(r, ""), nil, &repo); err != nil {
		return repo, transport.Wrap(err, "read repository %s", r)
	}
	return repo, nil
}

// Remote returns the repository's address.
func (h *Host) Remote(ctx context.Context, r vcs.Repository) (vcs.Remote, error) {
	repo, err := h.repository(ctx, r)
	if err != nil {
		return vcs.Remote{}, err
	}
	branch, ok := strings.CutPrefix(repo.DefaultBranch, "refs/heads/")
	if !ok {
		return vcs.Remote{}, fmt.Errorf("read repository %s: the host names no default branch", r)
	}
	return vcs.Remote{
		URL:           h.cfg.URL + "/" + escaped(r.Owner) + "/_git/" + url.PathEscape(r.Name),
		DefaultBranch: branch, Username: "holdfast", Password: h.cfg.Token, // any name: the host looks at the token alone
	}, nil
}

// Bits of the security namespace of Git repositories.
const (
	gitNamespace = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87"
	bitAdmin     = 1
	bitRead      = 2
	bitWrite     = 4
)

// Permission looks the user up with all groups that it is in, and puts together
// what the repository's access control list, inherited entries included, allows
// and denies them. A denial of any counts.
func (h *Host) Permission(ctx context.Context, r vcs.Repository, user string) (vcs.Permission, error) {
	if user == "" {
		return vcs.PermissionNone, nil
	}
	var users struct {
		Value []struct {
			Descriptor string   `json:"descriptor"`
			MemberOf   []string `json:"memberOf"`
			Properties struct {
				Account struct {
					Value string `json:"$value"`
				} `json:"Account"`
			} `json:"properties"`
		} `json:"value"`
	}
	path := "/" + url.PathEscape(organisation(r)) + "/_apis/identities?searchFilter=General&queryMembership=Expanded&filterValue=" + url.QueryEscape(user) + "&" + version
	if _, err := h.identity.Do(ctx, http.MethodGet, path, nil, &users); err != nil {
		return vcs.PermissionNone, transport.Wrap(err, "find user %s", transport.Printable(user))
	}
	var who []string
	for _, u := range users.Value {
		if strings.EqualFold(u.Properties.Account.Value, user) && u.Descriptor != "" {
			who = append([]string{u.Descriptor}, u.MemberOf...)
		}
	}
	if len(who) == 0 {
		return vcs.PermissionNone, nil
	}
	repo, err := h.repository(ctx, r)
	if err != nil {
		return vcs.PermissionNone, err
	}
	allow, err := h.allowed(ctx, r, repo, who)
	switch {
	case err != nil:
		return vcs.PermissionNone, transport.Wrap(err, "read permission of %s in %s", transport.Printable(user), r)
	case allow&bitAdmin != 0:
		return vcs.PermissionAdmin, nil
	case allow&bitWrite != 0:
		return vcs.PermissionWrite, nil
	case allow&bitRead != 0:
		return vcs.PermissionRead, nil
	}
	return vcs.PermissionNone, nil
}

// allowed returns the bits that identities have together.
func (h *Host) allowed(ctx context.Context, r vcs.Repository, repo repository, who []string) (int, error) {
	var lists struct {
		Value []struct {
			Entries map[string]struct {
				Allow, Deny int
				Extended    struct {
					Allow int `json:"effectiveAllow"`
					Deny  int `json:"effectiveDeny"`
				} `json:"extendedInfo"`
			} `json:"acesDictionary"`
		} `json:"value"`
	}
	path := "/" + url.PathEscape(organisation(r)) + "/_apis/accesscontrollists/" + gitNamespace + "?includeExtendedInfo=true&token=" +
		url.QueryEscape("repoV2/"+repo.Project.ID+"/"+repo.ID) + "&descriptors=" + url.QueryEscape(strings.Join(who, ",")) + "&" + version
	if _, err := h.api.Do(ctx, http.MethodGet, path, nil, &lists); err != nil {
		return 0, err
	}
	allow, deny := 0, 0
	for _, l := range lists.Value {
		for descriptor, e := range l.Entries {
			if slices.Contains(who, descriptor) {
				allow, deny = allow|e.Allow|e.Extended.Allow, deny|e.Deny|e.Extended.Deny
			}
		}
	}
	return allow &^ deny, nil
}

// Self is the address of the token's user, asked once.
func (h *Host) Self(ctx context.Context) (string, error) {
	h.mu.Lock()
	self := h.self
	h.mu.Unlock()
	if self != "" {
		return self, nil
	}
	var me struct {
		Email string `json:"emailAddress"`
	}
	if _, err := h.profile.Do(ctx, http.MethodGet, "/_apis/profile/profiles/me?"+version, nil, &me); err != nil {
		return "", transport.Wrap(err, "read own user")
	}
	if me.Email == "" {
		return "", errors.New("read own user: the host answered without an address")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.self = me.Email
	return h.self, nil
}

// Time reads the Date header of an answer.
func (h *Host) Time(ctx context.Context) (time.Time, error) {
	resp, err := h.profile.Do(ctx, http.MethodGet, "/_apis/profile/profiles/me?"+version, nil, nil)
	if err != nil {
		return time.Time{}, transport.Wrap(err, "ask the host for its time")
	}
	return http.ParseTime(resp.Header.Get("Date"))
}

// Repositories returns a project's repositories, or all of an organisation's.
func (h *Host) Repositories(ctx context.Context, owner string) ([]vcs.Repository, error) {
	var list struct {
		Value []repository `json:"value"`
	}
	if _, err := h.api.Do(ctx, http.MethodGet, "/"+escaped(owner)+"/_apis/git/repositories?"+version, nil, &list); err != nil {
		return nil, transport.Wrap(err, "list repositories of %s/%s", h.cfg.Name, owner)
	}
	org, _, _ := strings.Cut(owner, "/")
	var found []vcs.Repository
	for _, repo := range list.Value {
		r, err := vcs.ParseRepository(h.cfg.Name + "/" + org + "/" + repo.Project.Name + "/" + repo.Name)
		if err == nil && !repo.Disabled && (r.Owner == owner || strings.HasPrefix(r.Owner, owner+"/")) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b vcs.Repository) int { return strings.Compare(a.String(), b.String()) })
	return found, nil
}

// Budget is a cautious reading of Azure DevOps' limit, which counts work and no
// requests: 200 units in five minutes, of which a request of this kind takes less
// than a tenth. One look asks for the repository, two lists of pull requests, and
// one of them again.
func (h *Host) Budget() (perHour, perLook int) { return 24_000, 4 }
