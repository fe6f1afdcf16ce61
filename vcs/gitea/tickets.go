package gitea

import (
	"cmp"
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

// labelColor is that of a label that is made for tickets.
const labelColor = "#d4a72c"

// MaxTicket is the longest body of a ticket, in bytes: Gitea has none, so that it
// is a comment's.
func (h *Host) MaxTicket() int { return maxComment }

// Ticket returns one ticket as it is now.
func (h *Host) Ticket(ctx context.Context, r vcs.Repository, number int) (vcs.Ticket, error) {
	c, err := h.client(ctx)
	if err != nil {
		return vcs.Ticket{}, err
	}
	x, _, err := c.GetIssue(r.Owner, r.Name, int64(number))
	if err == nil && (x.PullRequest != nil || int(x.Index) != number) {
		err = vcs.ErrNotFound
	}
	if err != nil {
		return vcs.Ticket{}, transport.Wrap(noTickets(c, r, err), "read issue %s#%d", r, number)
	}
	return convertTicket(x), nil
}

func convertTicket(x *sdk.Issue) vcs.Ticket {
	return vcs.Ticket{Number: int(x.Index), Title: x.Title, Body: x.Body, URL: x.HTMLURL, Open: x.State != sdk.StateClosed}
}

// noTickets tells a repository without issues from an issue that is gone or a
// token that may not. Any other error is returned as it is.
func noTickets(c *sdk.Client, r vcs.Repository, err error) error {
	forbidden := transport.StatusOf(err) == http.StatusForbidden && errors.Is(err, vcs.ErrDenied)
	if !errors.Is(err, vcs.ErrNotFound) && !forbidden {
		return err
	}
	return cmp.Or(hasTickets(c, r), err)
}

// hasTickets asks whether the repository's issues are switched on.
func hasTickets(c *sdk.Client, r vcs.Repository) error {
	repo, _, err := c.GetRepo(r.Owner, r.Name)
	switch {
	case err != nil:
		return err
	case !repo.HasIssues:
		return fmt.Errorf("switch the issues of %s on: %w", r, vcs.ErrNoTickets)
	}
	return nil
}

// FindTickets lists the issues of the token's user, those with the label and then
// the latest of all, as labels may have been left out. The host takes no notice
// of a label that the repository has not.
func (h *Host) FindTickets(ctx context.Context, r vcs.Repository, label string) ([]vcs.Ticket, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	self, err := h.Self(ctx)
	if err != nil {
		return nil, err
	}
	var found []vcs.Ticket
	for _, labels := range [][]string{{label}, nil} {
		seen := 0
		err := eachPage(func(o sdk.ListOptions) ([]*sdk.Issue, *sdk.Response, error) {
			return c.ListRepoIssues(r.Owner, r.Name, sdk.ListIssueOption{ListOptions: o, State: sdk.StateAll, Type: sdk.IssueTypeIssue, CreatedBy: self, Labels: labels})
		}, func(x *sdk.Issue) int64 { return x.Index }, func(x *sdk.Issue) bool {
			seen++
			var has []string
			for _, l := range x.Labels {
				has = append(has, l.Name)
			}
			if x.PullRequest == nil && strings.EqualFold(login(x.Poster), self) && vcs.IsOwnTicket(label, has, x.Body) {
				found = append(found, convertTicket(x))
			}
			return seen < vcs.MaxTickets
		})
		if err != nil {
			return nil, transport.Wrap(noTickets(c, r, err), "list issues of %s", r)
		}
	}
	if len(found) == 0 {
		// The list of a repository without issues is empty, and no error.
		if err := hasTickets(c, r); err != nil {
			return nil, transport.Wrap(err, "list issues of %s", r)
		}
	}
	return transport.LatestTickets(found), nil
}

// CreateTicket opens a ticket. The host would open one for an administrator where
// issues are switched off too, and nobody would see it.
func (h *Host) CreateTicket(ctx context.Context, r vcs.Repository, t vcs.NewTicket) (vcs.Ticket, error) {
	c, err := h.client(ctx)
	if err != nil {
		return vcs.Ticket{}, err
	}
	x, err := createTicket(c, r, t)
	if err != nil {
		return vcs.Ticket{}, transport.Wrap(err, "open issue in %s", r)
	}
	return convertTicket(x), nil
}

func createTicket(c *sdk.Client, r vcs.Repository, t vcs.NewTicket) (*sdk.Issue, error) {
	if err := hasTickets(c, r); err != nil {
		return nil, err
	}
	o := sdk.CreateIssueOption{Title: transport.TicketTitle(t, maxTitle), Body: transport.CutText(transport.Storable(t.Body), maxComment)}
	if t.Label != "" {
		id, err := label(c, r, t.Label)
		if err != nil {
			return nil, err
		}
		if id > 0 {
			o.Labels = []int64{id}
		}
	}
	x, _, err := c.CreateIssue(r.Owner, r.Name, o)
	if err == nil && x.Index <= 0 {
		err = errors.New("the host answered without the issue's number")
	}
	return x, err
}

// label returns the number of a label, which is made where it is not there; 0
// where the token may not.
func label(c *sdk.Client, r vcs.Repository, name string) (id int64, err error) {
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.Label, *sdk.Response, error) {
		return c.ListRepoLabels(r.Owner, r.Name, sdk.ListLabelsOptions{ListOptions: o})
	}, func(l *sdk.Label) int64 { return l.ID }, func(l *sdk.Label) bool {
		if strings.EqualFold(l.Name, name) {
			id = l.ID
		}
		return id == 0
	})
	if err != nil || id > 0 {
		return id, err
	}
	made, _, err := c.CreateLabel(r.Owner, r.Name, sdk.CreateLabelOption{Name: name, Color: labelColor})
	if transport.StatusOf(err) == http.StatusForbidden && errors.Is(err, vcs.ErrDenied) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return made.ID, nil
}

// EditTicket sets title, body and state.
func (h *Host) EditTicket(ctx context.Context, r vcs.Repository, number int, e vcs.TicketEdit) error {
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	state, body := sdk.StateClosed, transport.CutText(transport.Storable(e.Body), maxComment)
	if e.Open {
		state = sdk.StateOpen
	}
	_, _, err = c.EditIssue(r.Owner, r.Name, int64(number), sdk.EditIssueOption{Title: transport.Line(e.Title, maxTitle), Body: &body, State: &state})
	if err != nil {
		return transport.Wrap(noTickets(c, r, err), "edit issue %s#%d", r, number)
	}
	return nil
}

// CommentTicket adds a comment.
func (h *Host) CommentTicket(ctx context.Context, r vcs.Repository, number int, body string) error {
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	body = transport.CutText(transport.Storable(body), maxComment)
	if _, _, err := c.CreateIssueComment(r.Owner, r.Name, int64(number), sdk.CreateIssueCommentOption{Body: body}); err != nil {
		return transport.Wrap(noTickets(c, r, err), "comment on issue %s#%d", r, number)
	}
	return nil
}

// TicketComments asks for what was touched since then, edited comments too, and
// leaves out those that are older.
func (h *Host) TicketComments(ctx context.Context, r vcs.Repository, number int, since time.Time) ([]vcs.Comment, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	since = since.Truncate(time.Second) // the host's times have whole seconds
	var found []vcs.Comment
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.Comment, *sdk.Response, error) {
		return c.ListIssueComments(r.Owner, r.Name, int64(number), sdk.ListIssueCommentOptions{ListOptions: o, Since: since})
	}, func(x *sdk.Comment) int64 { return x.ID }, func(x *sdk.Comment) bool {
		if !x.Created.Before(since) {
			found = append(found, convertComment(x, number))
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(noTickets(c, r, err), "list comments of issue %s#%d", r, number)
	}
	slices.SortFunc(found, func(a, b vcs.Comment) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return found, nil
}

// EditPull sets title and body of a pull request, and closes it.
func (h *Host) EditPull(ctx context.Context, r vcs.Repository, number int, e vcs.PullEdit) error {
	if err := h.editPull(ctx, r, number, e); err != nil {
		return transport.Wrap(err, "edit pull request %s#%d", r, number)
	}
	return nil
}

func (h *Host) editPull(ctx context.Context, r vcs.Repository, number int, e vcs.PullEdit) error {
	p, err := h.pull(ctx, r, number)
	if err != nil {
		return err
	}
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	body := transport.CutText(transport.Storable(e.Body), maxComment)
	o := sdk.EditPullRequestOption{Title: transport.Line(e.Title, maxTitle), Body: &body}
	if e.Close && state(p) == vcs.Open {
		closed := sdk.StateClosed
		o.State = &closed
	}
	_, _, err = c.EditPullRequest(r.Owner, r.Name, int64(number), o)
	if transport.StatusOf(err) == http.StatusPreconditionFailed && e.Close {
		// It was merged meanwhile.
		if p, perr := h.pull(ctx, r, number); perr == nil && state(p) != vcs.Open {
			return nil
		}
	}
	return err
}
