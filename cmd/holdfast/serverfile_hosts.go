package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"holdfast/vcs"
	"holdfast/workspaces"
)

// HostSettings are a host block.
type HostSettings struct {
	Type string // one of hostTypes
	Name string // the first part of its repositories' names
	// URL is a forge's address. Defaults to https://NAME.
	URL                  string
	Token, WebhookSecret string
	// Pull says that the host sends no webhooks: it is asked.
	Pull bool
	// Interval is how often each of its repositories is asked for what no
	// webhook told; zero leaves it to the runner.
	Interval time.Duration
	// AppID and PrivateKey are a GitHub App's, in place of a token.
	AppID, PrivateKey string
	// CAFile has the certificates that a self-managed GitLab's one is checked
	// with, besides the system's. Absolute.
	CAFile string
	// Username is the owner of a Bitbucket API token; others need none.
	Username string
	// Poll is how often a git host is asked. Defaults to 30 seconds.
	Poll time.Duration
}

// RepositorySettings are a repository block: one repository, or those that a
// pattern names.
type RepositorySettings struct {
	// Repository is the zero one where Pattern is set.
	Repository vcs.Repository
	// Pattern is HOST/ and a glob of OWNER/NAME, whose first part is a plain
	// name.
	Pattern string
	// Exclude are globs of names, or of OWNER/NAME, that a pattern leaves out.
	Exclude []string
	// Reconcile is how often the host is asked for what no webhook told.
	// Defaults to the host's Interval or Poll, else to the runner's own.
	Reconcile time.Duration

	// The rest is only of git hosts: others know it themselves.

	URL string // https, ssh, file or an absolute path; without credentials
	// DefaultBranch defaults to what the remote's HEAD says.
	DefaultBranch      string
	Username, Password string
	SSHKeyFile         string // absolute
}

// host is the name of the host that the block is about.
func (r RepositorySettings) host() string {
	host, _, _ := strings.Cut(cmp.Or(r.Repository.Host, r.Pattern), "/")
	return host
}

// forgeType is what the server file says about one type of host with an API.
type forgeType struct {
	attributes []string // besides url, token, webhook_secret, mode and interval
	token      string   // how to get one
	secret     string   // where the webhook's secret is set
}

var forges = map[string]forgeType{
	"github": {[]string{"app_id", "private_key"},
		`give a fine-grained access token, token = env("GITHUB_TOKEN"), or a GitHub App with app_id and private_key = file("app.pem"); "holdfast setup github" makes the App`,
		"in the settings of the GitHub App or of the repository's webhook"},
	"gitlab": {[]string{"ca_file"},
		`make an access token with the scope api and write token = env("GITLAB_TOKEN")`, "as the secret token of GitLab's webhook"},
	"gitea": {nil,
		`make an access token in Gitea's settings and write token = env("GITEA_TOKEN")`, "in Gitea's webhook"},
	"bitbucket": {[]string{"username"},
		`make an access token of the workspace and write token = env("BITBUCKET_TOKEN")`, "in the repository's webhook"},
	"azuredevops": {nil,
		`make a personal access token and write token = env("AZURE_DEVOPS_TOKEN")`, "as the password of the service hook"},
}

// The words of host and repository blocks.
var (
	hostTypes            = []string{"github", "gitea", "gitlab", "bitbucket", "azuredevops", "git"}
	forgeAttributes      = []string{"url", "token", "webhook_secret", "mode", "interval"}
	gitAttributes        = []string{"poll"}
	repositoryAttributes = []string{"reconcile"}
	patternAttributes    = []string{"reconcile", "exclude"}
	remoteAttributes     = []string{"url", "default_branch", "username", "password", "ssh_key_file", "reconcile"}
)

// reconcileEvery is how often a repository's host is asked; zero leaves it to
// the runner.
func (s Settings) reconcileEvery(r RepositorySettings) time.Duration {
	if r.Reconcile > 0 {
		return r.Reconcile
	}
	for _, h := range s.Hosts {
		if h.Name == r.host() {
			return max(h.Poll, h.Interval)
		}
	}
	return 0
}

// host reads a host block.
func (f *serverFile) host(b *hclsyntax.Block, s *Settings) {
	if len(b.Labels) != 2 {
		f.problem(b.TypeRange, `write host "github" "github.com" { … }`, "a host block has two labels, its type and its name")
		return
	}
	h := HostSettings{Type: b.Labels[0], Name: b.Labels[1]}
	if _, err := vcs.ParseRepository(h.Name + "/x/y"); err != nil || strings.ContainsAny(h.Name, "/ ?#%*[{") {
		f.problem(b.LabelRanges[1], `use the host's address, such as "git.example.com"`, "%q cannot be a host's name", h.Name)
		return
	}
	if slices.ContainsFunc(s.Hosts, func(o HostSettings) bool { return o.Name == h.Name }) {
		f.problem(b.LabelRanges[1], "names are unique", "there is a host %q already", h.Name)
		return
	}
	where := fmt.Sprintf("host %q", h.Name)
	if h.Type == "git" {
		h.Poll = 30 * time.Second
		f.known(b.Body, where, gitAttributes, nil)
		f.duration(b.Body, "poll", &h.Poll)
	} else if kind, ok := forges[h.Type]; ok {
		f.forge(b, where, kind, &h)
	} else {
		f.problem(b.LabelRanges[0], workspaces.Nearest(h.Type, hostTypes), "%q is no type of host", h.Type)
	}
	s.Hosts = append(s.Hosts, h)
}

// forge reads the block of a host with an API.
func (f *serverFile) forge(b *hclsyntax.Block, where string, kind forgeType, h *HostSettings) {
	h.URL = "https://" + h.Name
	f.known(b.Body, where, append(slices.Clone(forgeAttributes), kind.attributes...), nil)
	f.text(b.Body, "url", &h.URL, checkURL)
	f.text(b.Body, "mode", new(string), func(v string) error {
		if h.Pull = v == "pull"; v != "pull" && v != "webhook" {
			return hinted{fmt.Errorf("is %q, which is no mode", v), `write mode = "webhook", or mode = "pull" where the host cannot reach this server`}
		}
		return nil
	})
	f.duration(b.Body, "interval", &h.Interval)
	if slices.Contains(kind.attributes, "app_id") && (b.Body.Attributes["app_id"] != nil || b.Body.Attributes["private_key"] != nil) {
		f.app(b, where, h)
	} else {
		f.needs(b, where, "token", &h.Token, kind.token)
	}
	if slices.Contains(kind.attributes, "username") {
		f.text(b.Body, "username", &h.Username, notEmpty)
	}
	if slices.Contains(kind.attributes, "ca_file") {
		f.text(b.Body, "ca_file", &h.CAFile, notEmpty)
		f.readable(b, "ca_file", &h.CAFile)
	}
	secret := fmt.Sprintf("without one anybody could send events: write webhook_secret = env(\"%s_WEBHOOK_SECRET\"), and set the same %s; or write mode = \"pull\" to go without webhooks", strings.ToUpper(h.Type), kind.secret)
	if _, given := b.Body.Attributes["webhook_secret"]; given || !h.Pull {
		f.needs(b, where, "webhook_secret", &h.WebhookSecret, secret)
	}
}

// app reads what a GitHub App signs in with.
func (f *serverFile) app(b *hclsyntax.Block, where string, h *HostSettings) {
	if a, both := b.Body.Attributes["token"]; both {
		f.problem(a.NameRange, "leave one of them out", "%s has a token and a GitHub App", where)
	}
	f.needs(b, where, "app_id", &h.AppID, `write app_id = "12345"; it is on the App's settings page`)
	f.needs(b, where, "private_key", &h.PrivateKey, `make a private key on the App's settings page and write private_key = file("app.pem")`)
}

// readable makes the path of a file absolute, and finds out whether it is there.
func (f *serverFile) readable(b *hclsyntax.Block, name string, path *string) {
	if *path == "" {
		return
	}
	*path = f.beside(*path)
	if _, err := os.Stat(*path); err != nil {
		f.problem(b.Body.Attributes[name].Expr.Range(), "relative paths start at the server file", "%s cannot be read: %v", name, err)
	}
}

// needs reads a secret that has to be there.
func (f *serverFile) needs(b *hclsyntax.Block, where, name string, to *string, hint string) {
	if _, ok := b.Body.Attributes[name]; !ok {
		f.problem(b.TypeRange, hint, "%s has no %s", where, name)
		return
	}
	f.secret(b.Body, name, to, func(v string) error {
		if strings.TrimSpace(v) == "" {
			return hinted{errors.New("is empty"), hint}
		}
		return nil
	})
}

// repository reads a repository block.
func (f *serverFile) repository(b *hclsyntax.Block, s *Settings) {
	if len(b.Labels) != 1 {
		f.problem(b.TypeRange, `write repository "HOST/OWNER/NAME" { … }`, "a repository block has one label, its name")
		return
	}
	label := b.Labels[0]
	name, err := vcs.ParseRepository(label)
	if err != nil {
		f.problem(b.LabelRanges[0], `write it like "git.example.com/platform/network", or "git.example.com/platform/*"`, "%q is not HOST/OWNER/NAME", label)
		return
	}
	r := RepositorySettings{Repository: name}
	if strings.ContainsAny(label, "*?[{") {
		r = RepositorySettings{Pattern: label}
	}
	if slices.ContainsFunc(s.Repositories, func(o RepositorySettings) bool {
		return o.Repository == r.Repository && o.Pattern == r.Pattern
	}) {
		f.problem(b.LabelRanges[0], "leave one of them out", "there is a repository %q already", label)
		return
	}
	i := f.hostOf(b, name, s.Hosts)
	if i < 0 {
		return
	}
	where := fmt.Sprintf("repository %q", label)
	switch {
	case r.Pattern != "":
		f.known(b.Body, where, patternAttributes, nil)
		if !f.pattern(b, s.Hosts[i], &r) {
			return
		}
	case s.Hosts[i].Type == "git":
		f.known(b.Body, where, remoteAttributes, nil)
		f.remote(b, where, &r)
	default:
		f.known(b.Body, where, repositoryAttributes, nil)
	}
	f.duration(b.Body, "reconcile", &r.Reconcile)
	s.Repositories = append(s.Repositories, r)
}

// hostOf returns which host a repository is on; negative where there is none.
func (f *serverFile) hostOf(b *hclsyntax.Block, name vcs.Repository, all []HostSettings) int {
	var hosts []string
	for _, h := range all {
		hosts = append(hosts, h.Name)
	}
	i := slices.Index(hosts, name.Host)
	if i < 0 {
		hint := workspaces.Nearest(name.Host, hosts)
		if hint == "" {
			hint = fmt.Sprintf("add a block: host \"github\" %q { … }", name.Host)
		}
		f.problem(b.LabelRanges[0], hint, "repository %q is on host %q, which has no block", name, name.Host)
	}
	return i
}

// pattern reads which repositories a pattern names.
func (f *serverFile) pattern(b *hclsyntax.Block, h HostSettings, r *RepositorySettings) bool {
	owner := strings.Split(r.Pattern, "/")[1]
	switch {
	case h.Type == "git":
		f.problem(b.LabelRanges[0], "name each repository, with its url", "a git host has no list of repositories that a pattern could be compared with")
		return false
	case strings.ContainsAny(owner, "*?[{"):
		f.problem(b.LabelRanges[0], fmt.Sprintf("write it like %q", h.Name+"/platform/*"), "the owner in %q is a pattern: only names below an owner may be", b.Labels[0])
		return false
	case !doublestar.ValidatePattern(r.Pattern):
		f.problem(b.LabelRanges[0], `"*" stands for any name, "**" for names below as well`, "%q is no pattern", b.Labels[0])
		return false
	}
	f.texts(b.Body, "exclude", &r.Exclude, func(p string) error {
		if !doublestar.ValidatePattern(p) || p == "" {
			return hinted{fmt.Errorf("%q is no pattern", p), `write names, such as "sandbox-*"`}
		}
		return nil
	})
	return true
}

// remote reads how a repository of a git host is reached.
func (f *serverFile) remote(b *hclsyntax.Block, where string, r *RepositorySettings) {
	if _, ok := b.Body.Attributes["url"]; !ok {
		f.problem(b.TypeRange, `write url = "https://…", "ssh://…", or a path`, "%s has no url", where)
	}
	f.text(b.Body, "url", &r.URL, checkRemote)
	f.text(b.Body, "default_branch", &r.DefaultBranch, notEmpty)
	f.text(b.Body, "username", &r.Username, notEmpty)
	f.secret(b.Body, "password", &r.Password, notEmpty)
	f.text(b.Body, "ssh_key_file", &r.SSHKeyFile, notEmpty)
	if r.URL != "" && !strings.Contains(r.URL, ":") {
		r.URL = f.beside(r.URL)
	}
	f.readable(b, "ssh_key_file", &r.SSHKeyFile)
}
