package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	sdk "gitlab.com/gitlab-org/api/client-go/v2"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// maxTicket is what GitLab takes as an issue's description, in characters; bytes
// are never fewer.
const maxTicket = 1_048_576

// MaxTicket is the longest body of a ticket, in bytes.
func (h *Host) MaxTicket() int { return maxTicket }

// Ticket returns one ticket as it is now.
func (h *Host) Ticket(ctx context.Context, r vcs.Repository, number int) (vcs.Ticket, error) {
	x, _, err := h.client.Issues.GetIssue(id(r), int64(number), with(ctx))
	if err == nil && int(x.IID) != number {
		err = fmt.Errorf("the host answered issue %d", x.IID)
	}
	if err != nil {
		return vcs.Ticket{}, transport.Wrap(h.noTickets(ctx, r, err), "read issue %s#%d", r, number)
	}
	return convertTicket(x), nil
}

func convertTicket(x *sdk.Issue) vcs.Ticket {
	return vcs.Ticket{Number: int(x.IID), Title: x.Title, Body: x.Description, URL: x.WebURL, Open: x.State != "closed"}
}

// noTickets tells a project without issues from an issue that is gone or a token
// that may not: the host answers 403 or 404 to each. Any other error is returned
// as it is.
func (h *Host) noTickets(ctx context.Context, r vcs.Repository, err error) error {
	forbidden := transport.StatusOf(err) == http.StatusForbidden && errors.Is(err, vcs.ErrDenied)
	if !errors.Is(err, vcs.ErrNotFound) && !forbidden {
		return err
	}
	p, perr := h.project(ctx, r)
	switch {
	case perr != nil:
		return perr
	case p.IssuesAccessLevel == sdk.DisabledAccessControl:
		return fmt.Errorf("switch the issues of %s on: %w", r, vcs.ErrNoTickets)
	}
	return err
}

// FindTickets lists the issues of the token's user, those with the label and
// then the latest of all: from who may not give labels, the host leaves them out.
func (h *Host) FindTickets(ctx context.Context, r vcs.Repository, label string) ([]vcs.Ticket, error) {
	self, err := h.Self(ctx)
	if err != nil {
		return nil, err
	}
	var found []vcs.Ticket
	for _, labels := range []*sdk.LabelOptions{{label}, nil} {
		seen := 0
		err := eachPage(func(o sdk.ListOptions) ([]*sdk.Issue, *sdk.Response, error) {
			return h.client.Issues.ListProjectIssues(id(r), &sdk.ListProjectIssuesOptions{
				ListOptions: o, Scope: ptr("all"), AuthorUsername: &self, Labels: labels, OrderBy: ptr("created_at"), Sort: ptr("desc"),
			}, with(ctx))
		}, func(x *sdk.Issue) bool {
			seen++
			if x.Author != nil && strings.EqualFold(x.Author.Username, self) && vcs.IsOwnTicket(label, x.Labels, x.Description) {
				found = append(found, convertTicket(x))
			}
			return seen < vcs.MaxTickets
		})
		if err != nil {
			return nil, transport.Wrap(h.noTickets(ctx, r, err), "list issues of %s", r)
		}
	}
	return transport.LatestTickets(found), nil
}

// CreateTicket opens a ticket. The host makes the label, or leaves it out.
func (h *Host) CreateTicket(ctx context.Context, r vcs.Repository, t vcs.NewTicket) (vcs.Ticket, error) {
	o := &sdk.CreateIssueOptions{Title: ptr(transport.TicketTitle(t, maxTitle)), Description: ptr(transport.CutText(transport.Storable(t.Body), maxTicket))}
	if t.Label != "" {
		o.Labels = &sdk.LabelOptions{t.Label}
	}
	x, _, err := h.client.Issues.CreateIssue(id(r), o, with(ctx))
	if err == nil && x.IID <= 0 {
		err = errors.New("the host answered without the issue's number")
	}
	if err != nil {
		return vcs.Ticket{}, transport.Wrap(h.noTickets(ctx, r, err), "open issue in %s", r)
	}
	return convertTicket(x), nil
}

// EditTicket sets title, body and state. Closing what is closed changes nothing.
func (h *Host) EditTicket(ctx context.Context, r vcs.Repository, number int, e vcs.TicketEdit) error {
	event := "close"
	if e.Open {
		event = "reopen"
	}
	o := &sdk.UpdateIssueOptions{Description: ptr(transport.CutText(transport.Storable(e.Body), maxTicket)), StateEvent: &event}
	if title := transport.Line(e.Title, maxTitle); title != "" {
		o.Title = &title
	}
	if _, _, err := h.client.Issues.UpdateIssue(id(r), int64(number), o, with(ctx)); err != nil {
		return transport.Wrap(h.noTickets(ctx, r, err), "edit issue %s#%d", r, number)
	}
	return nil
}

// CommentTicket adds a note.
func (h *Host) CommentTicket(ctx context.Context, r vcs.Repository, number int, body string) error {
	body = transport.CutText(transport.Storable(body), maxComment)
	if _, _, err := h.client.Notes.CreateIssueNote(id(r), int64(number), &sdk.CreateIssueNoteOptions{Body: &body}, with(ctx)); err != nil {
		return transport.Wrap(h.noTickets(ctx, r, err), "comment on issue %s#%d", r, number)
	}
	return nil
}

// TicketComments returns the notes of people and programs.
func (h *Host) TicketComments(ctx context.Context, r vcs.Repository, number int, since time.Time) ([]vcs.Comment, error) {
	since = since.Truncate(time.Millisecond) // as the host's times
	found, err := notes(number, since, func(o sdk.ListOptions) ([]*sdk.Note, *sdk.Response, error) {
		return h.client.Notes.ListIssueNotes(id(r), int64(number), &sdk.ListIssueNotesOptions{ListOptions: o, OrderBy: ptr("created_at"), Sort: ptr("desc")}, with(ctx))
	})
	if err != nil {
		return nil, transport.Wrap(h.noTickets(ctx, r, err), "list comments of issue %s#%d", r, number)
	}
	return found, nil
}

// EditPull sets title and body of a merge request, and closes it.
func (h *Host) EditPull(ctx context.Context, r vcs.Repository, number int, e vcs.PullEdit) error {
	m, err := h.pull(ctx, r, number)
	if err != nil {
		return err
	}
	o := &sdk.UpdateMergeRequestOptions{Description: ptr(transport.CutText(transport.Storable(e.Body), maxComment))}
	if title := transport.Line(e.Title, maxTitle); title != "" {
		o.Title = &title
	}
	if e.Close && state(&m.BasicMergeRequest) == vcs.Open {
		o.StateEvent = ptr("close")
	}
	if _, _, err := h.client.MergeRequests.UpdateMergeRequest(id(r), int64(number), o, with(ctx)); err != nil {
		return transport.Wrap(err, "edit merge request %s!%d", r, number)
	}
	return nil
}
