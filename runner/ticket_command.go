package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/watch"
	"holdfast/workspaces"
)

// ticketVerbs are the commands that are understood on a ticket.
var ticketVerbs = []string{verbDrift, verbAcknowledge, verbIgnore, verbUnignore, verbHold, verbRelease, verbHelp}

const ticketHelp = "Commands on this ticket, as the first words of a new comment:\n\n" +
	"| command | what it does |\n| --- | --- |\n" +
	"| `holdfast drift` | checks the workspace now |\n" +
	"| `holdfast acknowledge -m \"why\"` | keeps this quiet until the drift is another one |\n" +
	"| `holdfast ignore ADDRESS [ATTRIBUTE …] -m \"why\" --until 30d` | leaves drift alone: addresses and attributes may have `*`, the end is a length of time or a date; what is deleted or would be destroyed is shown all the same |\n" +
	"| `holdfast unignore ADDRESS` | takes such a rule back |\n" +
	"| `holdfast hold 4h -m \"why\"` | nothing is applied or corrected for that time |\n" +
	"| `holdfast release` | ends a hold |\n\n" +
	"Commands need write permission; edited and quoted comments count for nothing."

// ticketCommented carries out the command in a comment on a ticket, or answers
// why not, once. Comments on issues that are no tickets are nobody's business.
func (r *Runner) ticketCommented(ctx context.Context, e vcs.Event) error {
	c, ok, err := parseCommand(e.Comment)
	if !ok {
		return nil
	}
	h, herr := r.host(e.Repository)
	if herr != nil || h.tickets == nil {
		return herr
	}
	var ticket ticketRecord
	if _, err := r.load(ctx, ticketName(e.Repository, e.Ticket), &ticket); err != nil || ticket.Workspace == "" {
		return err
	}
	name := ticketComments(e.Repository, e.Ticket)
	if done, err := r.carriedOut(ctx, name, e.CommentID); err != nil || done {
		return err
	}
	c.who, c.comment, c.at = e.Sender, e.CommentID, e.CommentedAt
	permission, perr := h.Permission(ctx, e.Repository, e.Sender)
	if perr != nil {
		return rateLimited(r.Clock(), fmt.Errorf("ask %s what %s may do: %w", e.Repository.Host, e.Sender, perr))
	}
	if len(c.match) == 0 {
		c.match = []string{ticket.Workspace}
	}
	answer := ""
	var wrong *commandError
	switch {
	case !permission.CanWrite():
		answer = "Commands need write permission in this repository, so nothing was done."
	case errors.As(err, &wrong):
		answer = wrong.text
	case !slices.Contains(ticketVerbs, c.verb):
		answer = fmt.Sprintf("`%s` is for pull requests. `holdfast help` lists what is for tickets.", c.verb)
	default:
		answer, err = r.onTicket(ctx, e.Repository, c)
	}
	if err != nil && wrong == nil {
		return rateLimited(r.Clock(), err)
	}
	if err := r.replyTicket(ctx, h, e, answer); err != nil {
		return rateLimited(r.Clock(), err)
	}
	return r.carryOut(ctx, name, e.CommentID)
}

// onTicket carries out a command on the workspaces that it is about.
func (r *Runner) onTicket(ctx context.Context, repo vcs.Repository, c command) (answer string, err error) {
	switch c.verb {
	case verbHelp:
		return ticketHelp, nil
	case verbDrift:
		return r.checkAsked(ctx, repo, c)
	case verbHold, verbRelease:
		return r.hold(ctx, repo, c)
	}
	return r.aboutDrift(ctx, repo, c)
}

// aboutDrift carries out what people say about drift that is there.
func (r *Runner) aboutDrift(ctx context.Context, repo vcs.Repository, c command) (answer string, err error) {
	var known repositoryRecord
	if _, err := r.load(ctx, "repository/"+repo.String(), &known); err != nil {
		return "", err
	}
	var names []string
	for _, w := range known.Workspaces {
		if c.asks(c.verb, w.Name) {
			names = append(names, w.Name)
		}
	}
	if len(c.match) == 0 || len(names) != 1 {
		return "Which workspace? Name one with `-w NAME`, or write it on the workspace's ticket.", nil
	}
	rec, err := r.changeDrift(ctx, repo, names[0], func(rec *DriftRecord) { answer = rec.heed(c, r.Clock()) })
	if err != nil {
		return "", err
	}
	id := ulid.Make().String()
	if c.comment != 0 {
		id = fmt.Sprintf("%s/comment/%d/%s", repo, c.comment, c.verb) // one line, however often this is done
	}
	err = r.audit(ctx, store.Entry{ID: id, Who: c.who, Action: c.verb, Repository: repo.String(), Workspace: names[0], Why: strings.TrimSpace(strings.Join(c.args, " ") + " " + c.why)})
	if err != nil {
		return "", err
	}
	if c.verb != verbAcknowledge {
		again := c
		again.verb = verbDrift
		if _, err := r.checkAsked(ctx, repo, again); err != nil {
			return "", err
		}
	}
	return answer, r.shown(ctx, repo, rec)
}

// heed takes in what somebody says about the drift, and answers.
func (d *DriftRecord) heed(c command, now time.Time) (answer string) {
	switch c.verb {
	case verbAcknowledge:
		if d.Now == nil {
			return "There is no drift here now."
		}
		if !c.at.IsZero() && d.Now.Since.After(c.at.Add(time.Second)) {
			return "The drift is another one since this comment, so it is not acknowledged. Look at it, and comment again."
		}
		d.Now.Acknowledged = &Acknowledged{Who: c.who, At: now, Why: watch.Clean(c.why, maxWhy), Digest: d.Now.Digest}
		return "Acknowledged. This stays quiet until the drift is another one."
	case verbIgnore:
		rule := workspaces.Ignore{Address: c.args[0], Attributes: c.args[1:], Reason: c.why, Until: c.until, By: c.who}
		if c.length > 0 && c.at.IsZero() {
			rule.Until = now.Add(c.length)
		} else if c.length > 0 {
			rule.Until = c.at.Add(c.length) // the same however often this is heeded
		}
		d.Ignores = slices.DeleteFunc(d.Ignores, func(o workspaces.Ignore) bool {
			return o.Address == rule.Address && slices.Equal(o.Attributes, rule.Attributes)
		})
		if len(d.Ignores) >= maxIgnores {
			return fmt.Sprintf("There are %d rules here already. Write them into `holdfast.hcl`, or take some back with `holdfast unignore ADDRESS`.", len(d.Ignores))
		}
		d.Ignores = append(d.Ignores, rule)
		text := "From now on `" + plainWord(rule.Address) + "` is left alone"
		if len(rule.Attributes) > 0 {
			text += " in `" + plainWord(strings.Join(rule.Attributes, ", ")) + "`"
		}
		if !rule.Until.IsZero() {
			text += " until " + rule.Until.UTC().Format("2006-01-02 15:04 MST")
		}
		return text + ". The workspace is checked again now."
	case verbUnignore:
		n := len(d.Ignores)
		d.Ignores = slices.DeleteFunc(d.Ignores, func(o workspaces.Ignore) bool { return o.Address == c.args[0] })
		if len(d.Ignores) == n {
			return "No comment made a rule for `" + plainWord(c.args[0]) + "`. Those of `holdfast.hcl` are changed there."
		}
		return "The rule for `" + plainWord(c.args[0]) + "` is taken back. The workspace is checked again now."
	}
	return ""
}

// replyTicket answers a comment on a ticket, once.
func (r *Runner) replyTicket(ctx context.Context, h host, e vcs.Event, text string) error {
	marker := fmt.Sprintf("<!-- holdfast answers %d -->", e.CommentID)
	since := e.CommentedAt.Add(-time.Hour)
	if e.CommentedAt.IsZero() {
		since = r.Clock().Add(-24 * time.Hour)
	}
	all, err := h.tickets.TicketComments(ctx, e.Repository, e.Ticket, since)
	if errors.Is(err, vcs.ErrNotFound) {
		return queue.Discard(err)
	}
	if err != nil {
		return fmt.Errorf("list comments: %w", err)
	}
	if slices.ContainsFunc(all, func(c vcs.Comment) bool { return strings.HasPrefix(c.Body, marker) }) {
		return nil // by an attempt that died before it said so
	}
	if err := h.tickets.CommentTicket(ctx, e.Repository, e.Ticket, marker+"\n"+text); err != nil {
		return fmt.Errorf("answer comment %d: %w", e.CommentID, err)
	}
	return nil
}

// ticketComments names the record of a ticket's comments.
func ticketComments(repo vcs.Repository, number int) string {
	return fmt.Sprintf("comments/ticket/%s#%d", repo, number)
}

// ticketChanged looks at a ticket that somebody closed, reopened or deleted.
func (r *Runner) ticketChanged(ctx context.Context, e vcs.Event) error {
	var ticket ticketRecord
	if _, err := r.load(ctx, ticketName(e.Repository, e.Ticket), &ticket); err != nil || ticket.Workspace == "" {
		return err
	}
	return r.enqueueTicket(ctx, ticketPayload{Repository: e.Repository, Workspace: ticket.Workspace, Verify: true})
}

// missedTickets looks at the tickets of a repository: what was written there,
// and what was done to them by hand. What is no workspace any more has no drift.
func (r *Runner) missedTickets(ctx context.Context, h host, repo vcs.Repository) error {
	all, err := ReadDrift(ctx, r.Store.Records, repo.String()+"/")
	if err != nil {
		return err
	}
	var known repositoryRecord
	if _, err := r.load(ctx, "repository/"+repo.String(), &known); err != nil {
		return err
	}
	// The longest unread first: each costs two requests, of which few count where
	// nothing changed.
	slices.SortStableFunc(all, func(a, b DriftRecord) int { return a.Ticket.Read.Compare(b.Ticket.Read) })
	looked := 0
	for _, d := range all {
		there := slices.ContainsFunc(known.Workspaces, func(w knownWorkspace) bool { return w.Name == d.Name })
		if d.Repository != repo.String() {
			continue // of a repository whose name begins like this one's
		}
		if d.Now != nil && !there && !known.unread() {
			if err := r.noWorkspace(ctx, repo, d); err != nil {
				return err
			}
			continue
		}
		if h.tickets == nil || d.Ticket.Number == 0 || d.Now == nil && !d.lately(r.Clock()) || looked >= maxLooked {
			continue
		}
		looked++
		if d.Now != nil {
			if err := r.enqueueTicket(ctx, ticketPayload{Repository: repo, Workspace: d.Name, Verify: true}); err != nil {
				return err
			}
		}
		if err := r.missedTicketComments(ctx, h, repo, d); err != nil {
			return err
		}
	}
	return nil
}

// maxLooked bounds the tickets of a repository that one look is about.
const maxLooked = 20

// closedFor is how long comments are looked for on a ticket after its drift was
// gone: a rule that hides the drift is taken back there.
const closedFor = 7 * 24 * time.Hour

// lately reports whether the last drift ended within closedFor.
func (d DriftRecord) lately(now time.Time) bool {
	return len(d.Past) > 0 && now.Sub(d.Past[0].Ended) < closedFor
}

// noWorkspace ends the drift of what is not in the configuration any more.
func (r *Runner) noWorkspace(ctx context.Context, repo vcs.Repository, d DriftRecord) error {
	rec, err := r.changeDrift(ctx, repo, d.Name, func(rec *DriftRecord) {
		rec.settle(r.Clock(), "The workspace is not in the configuration any more.")
	})
	if err != nil {
		return err
	}
	return r.shown(ctx, repo, rec)
}

// missedTicketComments queues the commands on a ticket that no webhook brought.
func (r *Runner) missedTicketComments(ctx context.Context, h host, repo vcs.Repository, d DriftRecord) error {
	started := r.Clock()
	since := d.Ticket.Read.Add(-10 * time.Minute)
	if oldest := started.Add(-closedFor); since.Before(oldest) {
		since = oldest // nobody waits for an answer any more
	}
	all, err := h.tickets.TicketComments(ctx, repo, d.Ticket.Number, since)
	if errors.Is(err, vcs.ErrNotFound) || errors.Is(err, vcs.ErrNoTickets) || errors.Is(err, vcs.ErrDenied) {
		return nil // its own job finds that out
	}
	if err != nil {
		return fmt.Errorf("list comments of ticket %d: %w", d.Ticket.Number, err)
	}
	for _, c := range all {
		if _, isCommand, _ := parseCommand(c.Body); !isCommand {
			continue
		}
		if done, err := r.carriedOut(ctx, ticketComments(repo, d.Ticket.Number), c.ID); err != nil {
			return err
		} else if done {
			continue
		}
		err := r.Receive(ctx, vcs.Event{
			Delivery: fmt.Sprintf("reconcile/%s/ticket/%d/comment/%d", repo, d.Ticket.Number, c.ID), Kind: vcs.EventComment,
			Repository: repo, Ticket: d.Ticket.Number, Sender: c.Author, CommentID: c.ID, Comment: c.Body, CommentedAt: c.CreatedAt,
		})
		if err != nil {
			return err
		}
	}
	_, err = r.changeDrift(ctx, repo, d.Name, func(rec *DriftRecord) { rec.Ticket.Read = started })
	return err
}
