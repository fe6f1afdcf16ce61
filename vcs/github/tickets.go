package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	sdk "github.com/google/go-github/v88/github"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// maxTicket is what GitHub takes, in characters; bytes are never fewer.
const maxTicket = 65_536

// MaxTicket is the longest body of a ticket, in bytes.
func (h *Host) MaxTicket() int { return maxTicket }

// Ticket returns one ticket as it is now. An issue that was moved to another
// repository is none any more.
func (h *Host) Ticket(ctx context.Context, r vcs.Repository, number int) (vcs.Ticket, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return vcs.Ticket{}, err
	}
	x, _, err := c.Issues.Get(ctx, r.Owner, r.Name, number)
	if err == nil && (x.IsPullRequest() || x.GetNumber() != number) {
		err = vcs.ErrNotFound
	}
	if err != nil {
		return vcs.Ticket{}, transport.Wrap(h.noTickets(ctx, c, r, err), "read issue %s#%d", r, number)
	}
	return convertTicket(x), nil
}

func convertTicket(x *sdk.Issue) vcs.Ticket {
	return vcs.Ticket{Number: x.GetNumber(), Title: x.GetTitle(), Body: x.GetBody(), URL: x.GetHTMLURL(), Open: x.GetState() != "closed"}
}

// noTickets tells a repository without issues from an issue that is gone: the
// host answers 410 or 404 to both. Any other error is returned as it is.
func (h *Host) noTickets(ctx context.Context, c *client, r vcs.Repository, err error) error {
	if !errors.Is(err, vcs.ErrNotFound) {
		return err
	}
	repo, _, rerr := c.Repositories.Get(ctx, r.Owner, r.Name)
	switch {
	case rerr != nil:
		return rerr
	case repo.HasIssues != nil && !repo.GetHasIssues():
		return fmt.Errorf("switch the issues of %s on: %w", r, vcs.ErrNoTickets)
	}
	return err
}

// FindTickets lists the issues of the token's user, those with the label and
// then the latest of all: where the token's user may not write, the host leaves
// labels out.
func (h *Host) FindTickets(ctx context.Context, r vcs.Repository, label string) ([]vcs.Ticket, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return nil, err
	}
	self, err := h.Self(ctx)
	if err != nil {
		return nil, err
	}
	var found []vcs.Ticket
	for _, labels := range [][]string{{label}, nil} {
		seen := 0 // pull requests too
		err := eachPage(func(o sdk.ListOptions) ([]*sdk.Issue, *sdk.Response, error) {
			return c.Issues.ListByRepo(ctx, r.Owner, r.Name, &sdk.IssueListByRepoOptions{State: "all", Creator: self, Labels: labels, Sort: "created", Direction: "desc", ListOptions: o})
		}, func(x *sdk.Issue) bool {
			seen++
			var has []string
			for _, l := range x.Labels {
				has = append(has, l.GetName())
			}
			if !x.IsPullRequest() && strings.EqualFold(x.GetUser().GetLogin(), self) && vcs.IsOwnTicket(label, has, x.GetBody()) {
				found = append(found, convertTicket(x))
			}
			return seen < vcs.MaxTickets
		})
		if err != nil {
			return nil, transport.Wrap(h.noTickets(ctx, c, r, err), "list issues of %s", r)
		}
	}
	if len(found) == 0 {
		// The list of a repository without issues is empty, and no error.
		if err := h.noTickets(ctx, c, r, vcs.ErrNotFound); !errors.Is(err, vcs.ErrNotFound) {
			return nil, transport.Wrap(err, "list issues of %s", r)
		}
	}
	return transport.LatestTickets(found), nil
}

// CreateTicket opens a ticket. The host makes the label, or leaves it out.
func (h *Host) CreateTicket(ctx context.Context, r vcs.Repository, t vcs.NewTicket) (vcs.Ticket, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return vcs.Ticket{}, err
	}
	in := &sdk.IssueRequest{Title: ptr(transport.TicketTitle(t, maxTitle)), Body: ptr(transport.CutText(transport.Storable(t.Body), maxTicket))}
	if t.Label != "" {
		in.Labels = &[]string{t.Label}
	}
	x, _, err := c.Issues.Create(ctx, r.Owner, r.Name, in)
	if err == nil && x.GetNumber() <= 0 {
		err = errors.New("the host answered without the issue's number")
	}
	if err != nil {
		return vcs.Ticket{}, transport.Wrap(h.noTickets(ctx, c, r, err), "open issue in %s", r)
	}
	return convertTicket(x), nil
}

// EditTicket sets title, body and state.
func (h *Host) EditTicket(ctx context.Context, r vcs.Repository, number int, e vcs.TicketEdit) error {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return err
	}
	state := "closed"
	if e.Open {
		state = "open"
	}
	in := &sdk.IssueRequest{Body: ptr(transport.CutText(transport.Storable(e.Body), maxTicket)), State: &state}
	if title := transport.Line(e.Title, maxTitle); title != "" {
		in.Title = &title
	}
	if _, _, err := c.Issues.Edit(ctx, r.Owner, r.Name, number, in); err != nil {
		return transport.Wrap(h.noTickets(ctx, c, r, err), "edit issue %s#%d", r, number)
	}
	return nil
}

// CommentTicket adds a comment.
func (h *Host) CommentTicket(ctx context.Context, r vcs.Repository, number int, body string) error {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return err
	}
	body = transport.CutText(transport.Storable(body), maxComment)
	if _, _, err := c.Issues.CreateComment(ctx, r.Owner, r.Name, number, &sdk.IssueComment{Body: &body}); err != nil {
		return transport.Wrap(h.noTickets(ctx, c, r, err), "comment on issue %s#%d", r, number)
	}
	return nil
}

// TicketComments asks for what was touched since then, edited comments too, and
// leaves out those that are older.
func (h *Host) TicketComments(ctx context.Context, r vcs.Repository, number int, since time.Time) ([]vcs.Comment, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return nil, err
	}
	since = since.Truncate(time.Second) // the host's times have whole seconds
	touched := &since
	if since.IsZero() {
		touched = nil
	}
	var found []vcs.Comment
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.IssueComment, *sdk.Response, error) {
		return c.Issues.ListComments(ctx, r.Owner, r.Name, number, &sdk.IssueListCommentsOptions{Since: touched, ListOptions: o})
	}, func(x *sdk.IssueComment) bool {
		if !x.GetCreatedAt().Before(since) {
			found = append(found, convertComment(x, number))
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(h.noTickets(ctx, c, r, err), "list comments of issue %s#%d", r, number)
	}
	oldestFirst(found)
	return slices.CompactFunc(found, func(a, b vcs.Comment) bool { return a.ID == b.ID }), nil
}

// EditPull sets title and body of a pull request, and closes it.
func (h *Host) EditPull(ctx context.Context, r vcs.Repository, number int, e vcs.PullEdit) error {
	p, err := h.pull(ctx, r, number)
	if err != nil {
		return err
	}
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return err
	}
	in := &sdk.PullRequest{Body: ptr(transport.CutText(transport.Storable(e.Body), maxComment))}
	if title := transport.Line(e.Title, maxTitle); title != "" {
		in.Title = &title
	}
	if e.Close && state(p) == vcs.Open {
		in.State = ptr("closed")
	}
	_, _, err = c.PullRequests.Edit(ctx, r.Owner, r.Name, number, in)
	if transport.StatusOf(err) == http.StatusUnprocessableEntity && e.Close {
		// It was merged meanwhile.
		if p, perr := h.pull(ctx, r, number); perr == nil && state(p) != vcs.Open {
			return nil
		}
	}
	if err != nil {
		return transport.Wrap(err, "edit pull request %s#%d", r, number)
	}
	return nil
}
