package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	sdk "gitlab.com/gitlab-org/api/client-go/v2"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// SetDeployment creates a deployment of the commit on the default branch, or
// moves one on. GitLab has no place for its description.
func (h *Host) SetDeployment(ctx context.Context, r vcs.Repository, d vcs.Deployment) (int64, error) {
	state := map[vcs.DeploymentState]sdk.DeploymentStatusValue{
		vcs.DeploymentRunning: sdk.DeploymentStatusRunning, vcs.DeploymentSuccess: sdk.DeploymentStatusSuccess, vcs.DeploymentFailure: sdk.DeploymentStatusFailed,
	}[d.State]
	if d.ID != 0 {
		if _, _, err := h.client.Deployments.UpdateProjectDeployment(id(r), d.ID, &sdk.UpdateProjectDeploymentOptions{Status: &state}, with(ctx)); err != nil {
			return d.ID, transport.Wrap(err, "set state of deployment %d of %s", d.ID, r)
		}
		return d.ID, nil
	}
	p, err := h.project(ctx, r)
	if err != nil {
		return 0, err
	}
	made, _, err := h.client.Deployments.CreateProjectDeployment(id(r), &sdk.CreateProjectDeploymentOptions{
		Environment: ptr(environment(d.Environment)), Ref: &p.DefaultBranch, SHA: &d.SHA, Tag: ptr(false), Status: &state,
	}, with(ctx))
	if err == nil && made.ID <= 0 {
		err = errors.New("the host answered without the deployment's id")
	}
	if err != nil {
		return 0, transport.Wrap(err, "create deployment of %s to %s", r, d.Environment)
	}
	return made.ID, nil
}

// environment is a name that GitLab takes: letters, digits and -_/${}. and
// blanks, 255 of them at most, with no slash at its ends.
func environment(name string) string {
	s := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_/${}. ", r) {
			return r
		}
		return '-'
	}, name)
	return strings.Trim(s[:min(len(s), 255)], "/")
}

// Repositories returns a group's repositories and those of its subgroups, or a
// user's.
func (h *Host) Repositories(ctx context.Context, owner string) ([]vcs.Repository, error) {
	var found []vcs.Repository
	visit := func(p *sdk.Project) bool {
		r, err := vcs.ParseRepository(h.cfg.Name + "/" + p.PathWithNamespace)
		if err == nil && !p.Archived && (strings.EqualFold(r.Owner, owner) || strings.HasPrefix(strings.ToLower(r.Owner), strings.ToLower(owner)+"/")) {
			found = append(found, r)
		}
		return true
	}
	err := eachPage(func(o sdk.ListOptions) ([]*sdk.Project, *sdk.Response, error) {
		return h.client.Groups.ListGroupProjects(owner, &sdk.ListGroupProjectsOptions{ListOptions: o, IncludeSubGroups: ptr(true), Archived: ptr(false)}, with(ctx))
	}, visit)
	if errors.Is(err, vcs.ErrNotFound) {
		found = nil
		err = eachPage(func(o sdk.ListOptions) ([]*sdk.Project, *sdk.Response, error) {
			return h.client.Projects.ListUserProjects(owner, &sdk.ListProjectsOptions{ListOptions: o, Archived: ptr(false)}, with(ctx))
		}, visit)
	}
	if err != nil {
		return nil, transport.Wrap(err, "list repositories of %s/%s", h.cfg.Name, owner)
	}
	slices.SortFunc(found, func(a, b vcs.Repository) int { return strings.Compare(a.String(), b.String()) })
	return found, nil
}

// Grants compares the token's scopes and its user's role with what is needed.
func (h *Host) Grants(ctx context.Context, r vcs.Repository) ([]vcs.Grant, error) {
	p, err := h.project(ctx, r)
	if err != nil {
		return nil, err
	}
	tokens, members := h.cfg.URL+"/-/user_settings/personal_access_tokens", h.cfg.URL+"/"+id(r)+"/-/project_members"
	scope := vcs.Grant{Permission: "scope api", For: "everything", Page: tokens}
	token, _, err := h.client.PersonalAccessTokens.GetSinglePersonalAccessToken(with(ctx))
	switch {
	case err == nil:
		scope.Granted = slices.Contains(token.Scopes, "api")
	case errors.Is(err, vcs.ErrDenied), errors.Is(err, vcs.ErrNotFound):
		// Tokens that are none of a person, and those with less than read_api.
		_, _, err := h.client.MergeRequests.ListProjectMergeRequests(id(r), &sdk.ListProjectMergeRequestsOptions{ListOptions: sdk.ListOptions{PerPage: 1}}, with(ctx))
		scope.Granted = err == nil
	default:
		return nil, transport.Wrap(err, "read own token")
	}
	role := sdk.NoPermissions
	if p.Permissions != nil {
		if a := p.Permissions.ProjectAccess; a != nil {
			role = max(role, a.AccessLevel)
		}
		if a := p.Permissions.GroupAccess; a != nil {
			role = max(role, a.AccessLevel)
		}
	}
	return []vcs.Grant{
		scope,
		{Permission: "role Developer", For: "commit statuses, comments, tickets, and the branch of a rollback", Granted: role >= sdk.DeveloperPermissions, Page: members},
		{Permission: "role Maintainer", For: "setting up the webhook, and merges into protected branches", Granted: role >= sdk.MaintainerPermissions, Optional: true, Page: members},
	}, nil
}

// SetHook looks at the project's own webhooks; one of the group or of the
// instance is not seen.
func (h *Host) SetHook(ctx context.Context, r vcs.Repository, address string) (string, error) {
	found, err := h.hook(ctx, r, address)
	if err != nil {
		return "", err
	}
	// The secret is written again in any case: the host does not tell it.
	yes, secure := ptr(true), ptr(strings.HasPrefix(address, "https:"))
	if found == nil {
		_, _, err := h.client.Projects.AddProjectHook(id(r), &sdk.AddProjectHookOptions{
			URL: &address, Token: &h.cfg.WebhookSecret, PushEvents: yes, MergeRequestsEvents: yes, IssuesEvents: yes, NoteEvents: yes, EnableSSLVerification: secure,
		}, with(ctx))
		if err != nil {
			return "", transport.Wrap(err, "create webhook of %s", r)
		}
		return "created the webhook", nil
	}
	_, _, err = h.client.Projects.EditProjectHook(id(r), found.ID, &sdk.EditProjectHookOptions{
		URL: &address, Token: &h.cfg.WebhookSecret, PushEvents: yes, MergeRequestsEvents: yes, IssuesEvents: yes, NoteEvents: yes, EnableSSLVerification: secure,
	}, with(ctx))
	if err != nil {
		return "", transport.Wrap(err, "edit webhook %d of %s", found.ID, r)
	}
	return wrong(found), nil
}

// wrong says what is mended of a webhook; empty where nothing had to be.
func wrong(x *sdk.ProjectHook) string {
	var did []string
	for name, has := range map[string]bool{"push events": x.PushEvents, "merge request events": x.MergeRequestsEvents, "issue events": x.IssuesEvents, "comments": x.NoteEvents} {
		if !has {
			did = append(did, "added its "+name)
		}
	}
	slices.Sort(did)
	if x.AlertStatus == "disabled" || x.AlertStatus == "temporarily_disabled" {
		did = append(did, "the host had switched the webhook off after failures: send it a test event from the project's Settings, Webhooks")
	}
	return strings.Join(did, ", ")
}

func (h *Host) hook(ctx context.Context, r vcs.Repository, address string) (*sdk.ProjectHook, error) {
	var found *sdk.ProjectHook
	err := eachPage(func(o sdk.ListOptions) ([]*sdk.ProjectHook, *sdk.Response, error) {
		return h.client.Projects.ListProjectHooks(id(r), &sdk.ListProjectHooksOptions{ListOptions: o}, with(ctx))
	}, func(x *sdk.ProjectHook) bool {
		if x.URL == address {
			found = x
		}
		return found == nil
	})
	if err != nil {
		return nil, transport.Wrap(err, "list webhooks of %s", r)
	}
	return found, nil
}

// Deliveries tells of a webhook that the host has switched off; the deliveries
// themselves are on its pages.
func (h *Host) Deliveries(ctx context.Context, r vcs.Repository, address string) ([]vcs.Delivery, error) {
	x, err := h.hook(ctx, r, address)
	if err != nil || x == nil || x.AlertStatus == "" || x.AlertStatus == "executable" {
		return nil, err
	}
	return []vcs.Delivery{{Event: "webhook", At: h.cfg.Now(), Error: "the host has switched the webhook off: " + transport.OneLine(x.AlertStatus, 50)}}, nil
}

// Time reads the Date header of an answer.
func (h *Host) Time(ctx context.Context) (time.Time, error) {
	_, resp, err := h.client.Users.CurrentUser(with(ctx))
	if err != nil {
		return time.Time{}, transport.Wrap(err, "ask the host for its time")
	}
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return time.Time{}, fmt.Errorf("the host's answer has no date: %w", err)
	}
	return at, nil
}

// Budget is GitLab.com's limit of 2,000 requests a minute; a self-managed one may
// have another. One look asks for the project and for two lists, the second of
// them twice.
func (h *Host) Budget() (perHour, perLook int) { return 2000 * 60, 4 }
