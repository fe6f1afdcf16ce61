package github

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"

	sdk "github.com/google/go-github/v88/github"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// HookEvents are those that a webhook has to send.
var HookEvents = []string{"pull_request", "pull_request_review", "issue_comment", "issues", "push", "merge_group", "check_run", "repository"}

// AppPermissions are those that an App needs, with what for.
var AppPermissions = []struct {
	Name, Level, For string
	Optional         bool
}{
	{"contents", "write", "cloning, and the branch of a rollback", false},
	{"pull_requests", "write", "reading pull requests, their comments and reviews, and writing comments", false},
	{"issues", "write", "tickets, and comments on pull requests, which are those of issues", false},
	{"metadata", "read", "asking what the author of a command may do", false},
	{"checks", "write", "check runs with the plan in them", true},
	{"statuses", "write", "commit statuses, where there are no check runs", true},
	{"deployments", "write", "showing applies as deployments", true},
	{"merge_queues", "read", "planning what a merge queue would merge", true},
}

// Repositories returns the repositories that the App's installation has, or an
// organisation's, or a user's.
func (h *Host) Repositories(ctx context.Context, owner string) ([]vcs.Repository, error) {
	c, err := h.client(ctx, owner)
	if err != nil {
		return nil, err
	}
	var found []vcs.Repository
	visit := func(x *sdk.Repository) bool {
		r := vcs.Repository{Host: h.cfg.Name, Owner: owner, Name: x.GetName()}
		if _, err := vcs.ParseRepository(r.String()); err == nil && !x.GetArchived() && strings.EqualFold(x.GetOwner().GetLogin(), owner) {
			found = append(found, r)
		}
		return true
	}
	if c.installation != nil {
		err = eachPage(func(o sdk.ListOptions) ([]*sdk.Repository, *sdk.Response, error) {
			list, resp, err := c.Apps.ListRepos(ctx, &o)
			if err != nil {
				return nil, resp, err
			}
			return list.Repositories, resp, nil
		}, visit)
	} else {
		err = h.ownersRepositories(ctx, c, owner, visit)
	}
	if err != nil {
		return nil, transport.Wrap(err, "list repositories of %s/%s", h.cfg.Name, owner)
	}
	slices.SortFunc(found, func(a, b vcs.Repository) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

func (h *Host) ownersRepositories(ctx context.Context, c *client, owner string, visit func(*sdk.Repository) bool) error {
	err := eachPage(func(o sdk.ListOptions) ([]*sdk.Repository, *sdk.Response, error) {
		return c.Repositories.ListByOrg(ctx, owner, &sdk.RepositoryListByOrgOptions{Type: "all", ListOptions: o})
	}, visit)
	if !errors.Is(err, vcs.ErrNotFound) {
		return err
	}
	return eachPage(func(o sdk.ListOptions) ([]*sdk.Repository, *sdk.Response, error) {
		return c.Repositories.ListByUser(ctx, owner, &sdk.RepositoryListByUserOptions{Type: "owner", ListOptions: o})
	}, visit)
}

// Grants compares what an installation was granted with what is needed. Of a
// token GitHub tells the scopes only where it is a classic one; of a fine-grained
// one it is found out by reading, so that a permission to write which lacks shows
// when it is used.
func (h *Host) Grants(ctx context.Context, r vcs.Repository) ([]vcs.Grant, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return nil, err
	}
	if c.installation != nil {
		return h.appGrants(ctx, c, r)
	}
	repo, resp, err := c.Repositories.Get(ctx, r.Owner, r.Name)
	if err != nil {
		return nil, transport.Wrap(err, "read repository %s", r)
	}
	if scopes := resp.Header.Get("X-OAuth-Scopes"); scopes != "" {
		all := strings.Split(strings.ReplaceAll(scopes, " ", ""), ",")
		has := slices.Contains(all, "repo") || !repo.GetPrivate() && slices.Contains(all, "public_repo")
		return []vcs.Grant{
			{Permission: "scope repo", For: "everything", Granted: has, Page: c.page},
			{Permission: "scope admin:repo_hook", For: "setting up the webhook", Granted: slices.Contains(all, "admin:repo_hook") || slices.Contains(all, "repo"), Optional: true, Page: c.page},
			{Permission: "write access to the repository", For: "statuses, merges and pull requests of its own", Granted: repo.GetPermissions().GetPush(), Page: h.cfg.URL + "/" + r.Owner + "/" + r.Name + "/settings/access"},
		}, nil
	}
	fine := h.cfg.URL + "/settings/personal-access-tokens"
	grants := []vcs.Grant{{Permission: "Contents: write", For: "cloning, merges, and the branch of a rollback", Granted: repo.GetPermissions().GetPush(), Page: fine}}
	for _, probe := range []struct {
		name, what string
		optional   bool
		ask        func() error
	}{
		{"Pull requests: write", "pull requests, their comments and reviews", false, func() error {
			_, _, err := c.PullRequests.List(ctx, r.Owner, r.Name, &sdk.PullRequestListOptions{ListOptions: sdk.ListOptions{PerPage: 1}})
			return err
		}},
		{"Issues: write", "tickets, and comments on pull requests, which are those of issues", false, func() error {
			_, _, err := c.Issues.ListComments(ctx, r.Owner, r.Name, 0, &sdk.IssueListCommentsOptions{ListOptions: sdk.ListOptions{PerPage: 1}})
			return err
		}},
		{"Commit statuses: write", "showing results beside a commit", false, func() error {
			_, _, err := c.Repositories.GetCombinedStatus(ctx, r.Owner, r.Name, repo.GetDefaultBranch(), &sdk.ListOptions{PerPage: 1})
			return err
		}},
		{"Webhooks: write", "setting up the webhook", true, func() error {
			_, _, err := c.Repositories.ListHooks(ctx, r.Owner, r.Name, &sdk.ListOptions{PerPage: 1})
			return err
		}},
	} {
		err := probe.ask()
		if err != nil && !errors.Is(err, vcs.ErrDenied) && !errors.Is(err, vcs.ErrNotFound) {
			return nil, transport.Wrap(err, "find out what the token may do in %s", r)
		}
		grants = append(grants, vcs.Grant{Permission: probe.name, For: probe.what, Granted: err == nil, Optional: probe.optional, Page: fine})
	}
	return grants, nil
}

func (h *Host) appGrants(ctx context.Context, c *client, r vcs.Repository) ([]vcs.Grant, error) {
	if _, _, err := c.Repositories.Get(ctx, r.Owner, r.Name); err != nil {
		return nil, transport.Wrap(err, "read repository %s", r)
	}
	in, _, err := h.own.Apps.GetInstallation(ctx, c.installation.InstallationID())
	if err != nil {
		return nil, transport.Wrap(err, "read the installation of the GitHub App for %s", r.Owner)
	}
	var grants []vcs.Grant
	for _, need := range AppPermissions {
		has := granted(in.GetPermissions(), need.Name)
		grants = append(grants, vcs.Grant{
			Permission: strings.ToUpper(need.Name[:1]) + strings.ReplaceAll(need.Name[1:], "_", " ") + ": " + need.Level,
			For:        need.For, Granted: has == need.Level || has == "write" || has == "admin", Optional: need.Optional, Page: c.page,
		})
	}
	return grants, nil
}

// granted is the level of a permission by its name in the API; empty where there
// is none. The official client has a field for each.
func granted(p *sdk.InstallationPermissions, name string) string {
	v := reflect.ValueOf(p)
	if p == nil {
		return ""
	}
	for i := range v.Elem().NumField() {
		tag, _, _ := strings.Cut(v.Elem().Type().Field(i).Tag.Get("json"), ",")
		if level, ok := v.Elem().Field(i).Interface().(*string); ok && tag == name && level != nil {
			return *level
		}
	}
	return ""
}

// SetHook sets the webhook of the App, which all installations share, or of the
// repository.
func (h *Host) SetHook(ctx context.Context, r vcs.Repository, address string) (string, error) {
	// The secret is written again in any case: the host does not tell it.
	config := &sdk.HookConfig{URL: &address, ContentType: ptr("json"), InsecureSSL: ptr("0"), Secret: &h.cfg.WebhookSecret}
	if h.app != nil {
		was, _, err := h.own.Apps.GetHookConfig(ctx)
		if err != nil {
			return "", transport.Wrap(err, "read the App's webhook")
		}
		if _, _, err := h.own.Apps.UpdateHookConfig(ctx, config); err != nil {
			return "", transport.Wrap(err, "set the App's webhook")
		}
		if was.GetURL() != address {
			return "set the address of the App's webhook", nil
		}
		return "", nil
	}
	found, err := h.hook(ctx, r, address)
	if err != nil {
		return "", err
	}
	hook := &sdk.Hook{Config: config, Events: HookEvents, Active: ptr(true)}
	if found == nil {
		hook.Name = ptr("web")
		if _, _, err := h.own.Repositories.CreateHook(ctx, r.Owner, r.Name, hook); err != nil {
			return "", transport.Wrap(err, "create webhook of %s", r)
		}
		return "created the webhook", nil
	}
	if _, _, err := h.own.Repositories.EditHook(ctx, r.Owner, r.Name, found.GetID(), hook); err != nil {
		return "", transport.Wrap(err, "edit webhook %d of %s", found.GetID(), r)
	}
	return wrong(found), nil
}

// wrong says what is mended of a webhook; empty where nothing had to be.
func wrong(x *sdk.Hook) string {
	var did []string
	if !x.GetActive() {
		did = append(did, "switched the webhook on")
	}
	if x.GetConfig().GetContentType() != "json" {
		did = append(did, "set its content type to JSON")
	}
	for _, e := range HookEvents {
		if !slices.Contains(x.Events, e) && !slices.Contains(x.Events, "*") {
			did = append(did, "added its event "+e)
		}
	}
	return strings.Join(did, ", ")
}

func (h *Host) hook(ctx context.Context, r vcs.Repository, address string) (*sdk.Hook, error) {
	var found *sdk.Hook
	err := eachPage(func(o sdk.ListOptions) ([]*sdk.Hook, *sdk.Response, error) {
		return h.own.Repositories.ListHooks(ctx, r.Owner, r.Name, &o)
	}, func(x *sdk.Hook) bool {
		if x.GetConfig().GetURL() == address {
			found = x
		}
		return found == nil
	})
	if err != nil {
		return nil, transport.Wrap(err, "list webhooks of %s", r)
	}
	return found, nil
}

// Deliveries returns the latest hundred.
func (h *Host) Deliveries(ctx context.Context, r vcs.Repository, address string) ([]vcs.Delivery, error) {
	var list []*sdk.HookDelivery
	var err error
	o := &sdk.ListCursorOptions{PerPage: pageSize}
	if h.app != nil {
		list, _, err = h.own.Apps.ListHookDeliveries(ctx, o)
	} else {
		var found *sdk.Hook
		if found, err = h.hook(ctx, r, address); err != nil || found == nil {
			return nil, err
		}
		list, _, err = h.own.Repositories.ListHookDeliveries(ctx, r.Owner, r.Name, found.GetID(), o)
	}
	if err != nil {
		return nil, transport.Wrap(err, "list webhook deliveries of %s", r)
	}
	var out []vcs.Delivery
	for _, d := range list {
		one := vcs.Delivery{ID: d.GetGUID(), Event: d.GetEvent(), At: d.GetDeliveredAt().Time, Status: d.GetStatusCode()}
		if one.Status < 200 || one.Status >= 300 {
			one.Error = transport.OneLine(d.GetStatus(), 200)
		}
		if one.Status == http.StatusBadGateway && one.Error == "" {
			one.Error = "no answer"
		}
		out = append(out, one)
	}
	return out, nil
}

// Budget is GitHub's secondary limit of 900 requests a minute: what one look
// asks for (the repository, the open and the closed pull requests, the latest
// comments) does not count against the primary one where nothing changed (304
// Not Modified).
func (h *Host) Budget() (perHour, perLook int) { return 900 * 60, 4 }
