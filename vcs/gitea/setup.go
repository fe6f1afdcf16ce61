package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// hookEvents are those that a webhook has to send.
var hookEvents = []string{
	"push", "pull_request", "pull_request_sync", "pull_request_comment", "pull_request_review",
	"pull_request_review_request", "issues", "issue_comment", "repository",
}

// Repositories returns an organisation's repositories, or a user's.
func (h *Host) Repositories(ctx context.Context, owner string) ([]vcs.Repository, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	var found []vcs.Repository
	list := func(get func(sdk.ListOptions) ([]*sdk.Repository, *sdk.Response, error)) error {
		found = nil
		return eachPage(get, func(x *sdk.Repository) int64 { return x.ID }, func(x *sdk.Repository) bool {
			r := vcs.Repository{Host: h.cfg.Name, Owner: owner, Name: x.Name}
			if _, err := vcs.ParseRepository(r.String()); err != nil || x.Archived || x.Owner == nil || !strings.EqualFold(x.Owner.UserName, owner) {
				return true
			}
			found = append(found, r)
			return true
		})
	}
	err = list(func(o sdk.ListOptions) ([]*sdk.Repository, *sdk.Response, error) {
		return c.ListOrgRepos(owner, sdk.ListOrgReposOptions{ListOptions: o})
	})
	if errors.Is(err, vcs.ErrNotFound) {
		err = list(func(o sdk.ListOptions) ([]*sdk.Repository, *sdk.Response, error) {
			return c.ListUserRepos(owner, sdk.ListReposOptions{ListOptions: o})
		})
	}
	if err != nil {
		return nil, transport.Wrap(err, "list repositories of %s/%s", h.cfg.Name, owner)
	}
	slices.SortFunc(found, func(a, b vcs.Repository) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// Grants asks by reading: Gitea tells a token's scopes to nobody but its user
// with a password.
func (h *Host) Grants(ctx context.Context, r vcs.Repository) ([]vcs.Grant, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	tokens, members := h.base+"/user/settings/applications", h.base+"/"+r.Owner+"/"+r.Name+"/settings/collaboration"
	self, err := h.Self(ctx)
	user := vcs.Grant{Permission: "scope read:user", For: "finding its own comments again", Page: tokens, Granted: err == nil}
	if err != nil && transport.StatusOf(err) != http.StatusForbidden {
		return nil, err
	}
	repo, _, err := c.GetRepo(r.Owner, r.Name)
	if err != nil {
		return nil, transport.Wrap(err, "read repository %s", r)
	}
	may := sdk.Permission{}
	if repo.Permissions != nil {
		may = *repo.Permissions
	}
	issues := vcs.Grant{Permission: "scope write:issue", For: "reading and writing comments and tickets", Page: tokens, Granted: true}
	_, _, err = c.ListRepoIssueComments(r.Owner, r.Name, sdk.ListIssueCommentOptions{ListOptions: sdk.ListOptions{Page: 1, PageSize: 1}, Since: h.cfg.Now()})
	if errors.Is(err, vcs.ErrDenied) {
		issues.Granted = false
	} else if err != nil {
		return nil, transport.Wrap(err, "list comments of %s", r)
	}
	asking := vcs.Grant{Permission: "administrator of the repository", For: "asking what the author of a command may do", Page: members, Granted: may.Admin}
	if !may.Admin && self != "" {
		// A site's administrator may ask as well.
		_, err := h.Permission(ctx, r, self)
		asking.Granted = err == nil
	}
	return []vcs.Grant{
		user, issues,
		{Permission: "write access to the repository", For: "commit statuses, merges and pull requests of its own", Page: members, Granted: may.Push || may.Admin},
		asking,
	}, nil
}

// SetHook looks at the repository's own webhooks; one of the organisation or of
// the site is not seen.
func (h *Host) SetHook(ctx context.Context, r vcs.Repository, address string) (string, error) {
	c, err := h.client(ctx)
	if err != nil {
		return "", err
	}
	var found *sdk.Hook
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.Hook, *sdk.Response, error) {
		return c.ListRepoHooks(r.Owner, r.Name, sdk.ListHooksOptions{ListOptions: o})
	}, func(x *sdk.Hook) int64 { return x.ID }, func(x *sdk.Hook) bool {
		if x.Config["url"] == address {
			found = x
		}
		return found == nil
	})
	if err != nil {
		return "", transport.Wrap(err, "list webhooks of %s", r)
	}
	// The secret is written again in any case: the host does not tell it.
	config := map[string]string{"url": address, "content_type": "json", "secret": h.cfg.WebhookSecret}
	if found == nil {
		_, _, err := c.CreateRepoHook(r.Owner, r.Name, sdk.CreateHookOption{Type: sdk.HookTypeGitea, Config: config, Events: hookEvents, Active: true})
		if err != nil {
			return "", transport.Wrap(err, "create webhook of %s", r)
		}
		return "created the webhook", nil
	}
	did := wrong(found)
	active := true
	if _, err := c.EditRepoHook(r.Owner, r.Name, found.ID, sdk.EditHookOption{Config: config, Events: hookEvents, Active: &active}); err != nil {
		return "", transport.Wrap(err, "edit webhook %d of %s", found.ID, r)
	}
	return did, nil
}

// wrong says what is mended of a webhook; empty where nothing had to be.
func wrong(x *sdk.Hook) string {
	var did []string
	if !x.Active {
		did = append(did, "switched the webhook on")
	}
	if x.Config["content_type"] != "json" {
		did = append(did, "set its content type to JSON")
	}
	for _, e := range hookEvents {
		if !slices.Contains(x.Events, e) && e != "repository" && e != "pull_request_review_request" { // older hosts lack these
			did = append(did, fmt.Sprintf("added its event %s", e))
		}
	}
	return strings.Join(did, ", ")
}

// Deliveries returns none: Gitea shows them on its pages alone.
func (h *Host) Deliveries(context.Context, vcs.Repository, string) ([]vcs.Delivery, error) {
	return nil, nil
}

// Time reads the Date header of an answer.
func (h *Host) Time(ctx context.Context) (time.Time, error) {
	c, err := h.client(ctx)
	if err != nil {
		return time.Time{}, err
	}
	_, resp, err := c.GetMyUserInfo()
	if err != nil {
		return time.Time{}, transport.Wrap(err, "ask the host for its time")
	}
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return time.Time{}, fmt.Errorf("the host's answer has no date: %w", err)
	}
	return at, nil
}

// Budget is what a small Gitea serves without being noticed, 2,000 requests a
// minute; Gitea itself has no limit. One look asks for the repository, the open
// and the closed pull requests, and the latest comments.
func (h *Host) Budget() (perHour, perLook int) { return 2000 * 60, 4 }
