package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/queue"
	"holdfast/runner/markdown"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/watch"
)

// JobTicket makes the host show the ticket of a workspace's drift.
const JobTicket = "ticket"

// ticketLabel is the label of all tickets.
const ticketLabel = "holdfast-drift"

// DriftTicket is what the host was last made to show of a workspace's drift.
type DriftTicket struct {
	Number int    `json:"number,omitempty"` // 0: none was opened
	URL    string `json:"url,omitempty"`
	Open   bool   `json:"open,omitempty"`
	Body   string `json:"body,omitempty"`   // hash of the text
	Digest string `json:"digest,omitempty"` // of the drift that it tells of
	// Closing is set before Holdfast closes it: what is closed then was not
	// closed by a person.
	Closing bool `json:"closing,omitempty"`
	// None is when the host last said that the repository has no issues.
	None time.Time `json:"none,omitzero"`
	// Read is up to when its comments were read.
	Read time.Time `json:"read,omitzero"`
}

// ticketRecord leads from a ticket to its workspace, stored under
// "ticket/HOST/OWNER/NAME#NUMBER".
type ticketRecord struct {
	Workspace string `json:"workspace"`
}

func ticketName(repo vcs.Repository, number int) string {
	return fmt.Sprintf("ticket/%s#%d", repo, number)
}

// ticketPayload is the payload of a ticket job.
type ticketPayload struct {
	Repository vcs.Repository `json:"repository"`
	Workspace  string         `json:"workspace"`
	// Verify has the host asked whether the ticket is as it was left.
	Verify bool `json:"verify,omitempty"`
}

// shown has the host show what is known of a workspace's drift, and people
// told what they do not know yet. It may be done twice.
func (r *Runner) shown(ctx context.Context, repo vcs.Repository, d DriftRecord) error {
	if err := r.notify(ctx, repo, d); err != nil {
		return err
	}
	if err := r.withdrawal(ctx, repo, d); err != nil {
		return err
	}
	if d.Now == nil && d.Ticket.Number == 0 {
		return nil
	}
	return r.enqueueTicket(ctx, ticketPayload{Repository: repo, Workspace: d.Name})
}

func (r *Runner) enqueueTicket(ctx context.Context, in ticketPayload) error {
	if r.hosts[in.Repository.Host].tickets == nil {
		return nil
	}
	payload, err := json.Marshal(in)
	if err != nil {
		return err
	}
	name := "ticket/" + in.Repository.String() + "/" + in.Workspace
	job := queue.Job{Kind: JobTicket, Group: name, Key: name, Again: true, Priority: queue.PriorityInteractive, Payload: payload}
	if in.Verify {
		job.Key += "/verify"
	}
	_, err = r.Queue.Enqueue(ctx, job)
	return err
}

// handleTicket opens, edits, closes or reopens the ticket of one workspace, so
// that it says what is stored.
func (r *Runner) handleTicket(ctx context.Context, job queue.Job) error {
	var in ticketPayload
	if err := json.Unmarshal(job.Payload, &in); err != nil {
		return queue.Discard(fmt.Errorf("read payload: %w", err))
	}
	h, err := r.host(in.Repository)
	if err != nil || h.tickets == nil {
		return err
	}
	t := &ticketer{r: r, host: h, repo: in.Repository, workspace: in.Workspace, verify: in.Verify}
	err = t.show(ctx)
	switch {
	case errors.Is(err, vcs.ErrNoTickets):
		r.Logger.Warn("the repository has no issues, so drift has no tickets", "repository", in.Repository.String())
		_, err := r.changeDrift(ctx, in.Repository, in.Workspace, func(rec *DriftRecord) { rec.Ticket.None = r.Clock() })
		return err
	case errors.Is(err, vcs.ErrDenied):
		r.Logger.Error("the host refuses a ticket", "repository", in.Repository.String(), "workspace", in.Workspace, "error", err, "hint", hintOf(err))
	}
	return rateLimited(r.Clock(), err)
}

// ticketer makes one ticket.
type ticketer struct {
	r         *Runner
	host      host
	repo      vcs.Repository
	workspace string
	verify    bool
	rec       DriftRecord
}

// noTicketsFor is how long a repository without issues is not asked again.
const noTicketsFor = 24 * time.Hour

func (t *ticketer) show(ctx context.Context) error {
	if _, err := t.r.load(ctx, driftName(t.repo, t.workspace), &t.rec); err != nil {
		return err
	}
	if t.r.Clock().Sub(t.rec.Ticket.None) < noTicketsFor {
		return nil
	}
	if t.rec.Ticket.Number == 0 {
		return t.open(ctx)
	}
	if err := t.closedByHand(ctx); err != nil {
		return err
	}
	return t.edit(ctx)
}

// open opens a ticket for drift that has none, or finds the one that an attempt
// opened that died before it said so.
func (t *ticketer) open(ctx context.Context) error {
	if t.rec.Now == nil || t.rec.Now.quiet() {
		return nil
	}
	marker := markdown.TicketMarker(t.workspace)
	all, err := t.host.tickets.FindTickets(ctx, t.repo, ticketLabel)
	if err != nil {
		return fmt.Errorf("look for a ticket: %w", err)
	}
	if i := slices.IndexFunc(all, func(k vcs.Ticket) bool { return strings.HasPrefix(k.Body, marker) }); i >= 0 {
		if err := t.known(ctx, all[i], ""); err != nil {
			return err
		}
		return t.edit(ctx)
	}
	body, err := t.body(ctx)
	if err != nil {
		return err
	}
	made, err := t.host.tickets.CreateTicket(ctx, t.repo, vcs.NewTicket{Title: markdown.TicketTitle(t.workspace), Body: body, Label: ticketLabel})
	if err != nil {
		return fmt.Errorf("open a ticket: %w", err)
	}
	made.Open = true
	if err := t.known(ctx, made, body); err != nil || t.rec.Ticket.Number == made.Number {
		return err
	}
	// An attempt that was taken for dead opened one too: that is the ticket.
	err = t.host.tickets.EditTicket(ctx, t.repo, made.Number, vcs.TicketEdit{
		Title: markdown.TicketTitle(t.workspace), Body: fmt.Sprintf("This is the same as #%d.\n", t.rec.Ticket.Number), Open: false,
	})
	if err != nil && !errors.Is(err, vcs.ErrNotFound) {
		return fmt.Errorf("close ticket %d, which is there twice: %w", made.Number, err)
	}
	return nil
}

// known keeps what the host shows now. Where another ticket is known already
// that one stays.
func (t *ticketer) known(ctx context.Context, k vcs.Ticket, body string) error {
	err := change(ctx, t.r, ticketName(t.repo, k.Number), func(rec *ticketRecord) { rec.Workspace = t.workspace })
	if err != nil {
		return err
	}
	digest := ""
	if t.rec.Now != nil {
		digest = t.rec.Now.Digest
	}
	t.rec, err = t.r.changeDrift(context.WithoutCancel(ctx), t.repo, t.workspace, func(rec *DriftRecord) {
		if rec.Ticket.Number != 0 && rec.Ticket.Number != k.Number {
			return
		}
		rec.Ticket.Number, rec.Ticket.Open, rec.Ticket.None, rec.Ticket.Closing = k.Number, k.Open, time.Time{}, false
		if k.URL != "" {
			rec.Ticket.URL = k.URL
		}
		rec.Ticket.Body = ""
		if body != "" {
			rec.Ticket.Body, rec.Ticket.Digest = hashOf(body), digest
		}
		if rec.Ticket.Read.IsZero() {
			rec.Ticket.Read = t.r.Clock()
		}
	})
	return err
}

// closedByHand takes a ticket that a person closed while the drift is there for
// word that it is known: it stays closed until the drift is another one.
func (t *ticketer) closedByHand(ctx context.Context) error {
	if !t.rec.Ticket.Open && !t.verify {
		return nil
	}
	now, err := t.host.tickets.Ticket(ctx, t.repo, t.rec.Ticket.Number)
	if errors.Is(err, vcs.ErrNotFound) {
		t.r.Logger.Info("a drift ticket was deleted on the host", "repository", t.repo.String(), "workspace", t.workspace)
		t.rec, err = t.r.changeDrift(ctx, t.repo, t.workspace, func(rec *DriftRecord) { rec.Ticket = DriftTicket{} })
		if err != nil {
			return err
		}
		return t.open(ctx)
	}
	if err != nil {
		return fmt.Errorf("ask for ticket %d: %w", t.rec.Ticket.Number, err)
	}
	if now.Open == t.rec.Ticket.Open {
		return nil
	}
	t.rec, err = t.r.changeDrift(ctx, t.repo, t.workspace, func(rec *DriftRecord) {
		if rec.Ticket.Open == now.Open {
			return // known meanwhile
		}
		byHand := !rec.Ticket.Closing
		rec.Ticket.Open, rec.Ticket.Body, rec.Ticket.Closing = now.Open, "", false
		if e := rec.Now; e != nil && !now.Open && byHand && rec.Ticket.Digest == e.Digest && !e.quiet() {
			e.Acknowledged = &Acknowledged{Who: "who closed the ticket", At: t.r.Clock(), Digest: e.Digest}
		}
		if e := rec.Now; e != nil && now.Open && e.quiet() && e.Acknowledged.Who == "who closed the ticket" {
			e.Acknowledged = nil // reopened
		}
	})
	return err
}

// edit makes the ticket say what is so.
func (t *ticketer) edit(ctx context.Context) error {
	if t.rec.Ticket.Number == 0 {
		return nil
	}
	was := t.rec.Ticket
	e := t.rec.Now
	open := e != nil && (!e.quiet() || was.Open)
	if e == nil && len(t.rec.Past) == 0 {
		return nil
	}
	body, err := t.body(ctx)
	if err != nil {
		return err
	}
	if hashOf(body) == was.Body && open == was.Open {
		return nil
	}
	if was.Open && !open {
		if _, err := t.r.changeDrift(ctx, t.repo, t.workspace, func(rec *DriftRecord) { rec.Ticket.Closing = true }); err != nil {
			return err
		}
	}
	err = t.host.tickets.EditTicket(ctx, t.repo, was.Number, vcs.TicketEdit{Title: markdown.TicketTitle(t.workspace), Body: body, Open: open})
	if errors.Is(err, vcs.ErrNotFound) {
		if _, cerr := t.r.changeDrift(ctx, t.repo, t.workspace, func(rec *DriftRecord) { rec.Ticket = DriftTicket{} }); cerr != nil {
			return cerr
		}
		return fmt.Errorf("edit ticket %d: %w", was.Number, err) // a retry opens another one
	}
	if err != nil {
		return fmt.Errorf("edit ticket %d: %w", was.Number, err)
	}
	// An edit sends nobody a message: what is another drift is said by a comment.
	if e != nil && !e.quiet() && (!was.Open || was.Digest != "" && was.Digest != e.Digest) {
		text := "The drift is another one now."
		if !was.Open {
			text = "The workspace has drifted again."
		}
		if err := t.host.tickets.CommentTicket(ctx, t.repo, was.Number, text+" The ticket's text above says what it is."); err != nil && !errors.Is(err, vcs.ErrNotFound) {
			return fmt.Errorf("comment on ticket %d: %w", was.Number, err)
		}
	}
	return t.known(ctx, vcs.Ticket{Number: was.Number, Open: open}, body)
}

// body renders the ticket.
func (t *ticketer) body(ctx context.Context) (string, error) {
	var rec WorkspaceRecord
	if _, err := t.r.load(ctx, workspaceName(t.repo, t.workspace), &rec); err != nil {
		return "", err
	}
	e := t.rec.Now
	if e == nil {
		e = &t.rec.Past[0]
	}
	in := ticketOf(*e, t.rec, rec, t.r.Clock())
	in.Commands = true
	if t.r.BaseURL != "" {
		in.Run = t.r.BaseURL + "/runs/" + e.Run
	}
	run, err := t.r.Store.Runs.Get(ctx, e.Run)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	var result Result
	if len(run.Result) > 0 {
		if err := json.Unmarshal(run.Result, &result); err != nil {
			return "", fmt.Errorf("read result of run %s: %w", run.ID, err)
		}
	}
	in.Notes = append(in.Notes, result.Notes...)
	return markdown.RenderTicket(in, t.host.tickets.MaxTicket()), nil
}

// ticketOf gathers what a ticket says.
func ticketOf(e Episode, d DriftRecord, w WorkspaceRecord, now time.Time) markdown.Ticket {
	t := markdown.Ticket{
		Workspace: d.Name, Dir: w.Dir, Commit: e.Commit, Class: e.Class, Began: e.Began, Ended: e.Ended,
		Resources: e.Resources, More: e.More, Ignored: e.Ignored, Correct: w.Correct, Fixed: e.Fixed,
	}
	if e.Ended.IsZero() {
		t.Contested = d.Contested
		if d.Proposal.Digest == e.Digest {
			t.Refused = d.Proposal.Refused
			if d.Proposal.Open {
				t.Proposal = d.Proposal.URL
			}
		}
	}
	for _, g := range e.Blocked {
		t.Blocked = append(t.Blocked, g.Why+" (gate: "+g.Name+")")
	}
	if a := e.Acknowledged; a != nil && a.Digest == e.Digest {
		t.Acknowledged = fmt.Sprintf("Acknowledged by %s on %s; this stays quiet until the drift is another one.", a.Who, a.At.UTC().Format("2006-01-02 15:04 MST"))
		if a.Why != "" {
			t.Acknowledged += " " + a.Why
		}
	}
	for _, c := range d.Corrections {
		if now.Sub(c.At) < flapWindow {
			t.Corrections = append(t.Corrections, fmt.Sprintf("%s: %s, %s", c.At.UTC().Format("15:04 MST"), c.State, someOf(c.Attributes)))
		}
	}
	for _, a := range e.Who {
		t.Who = append(t.Who, callOf(a))
	}
	if w.Failures > 0 && w.Error != "" {
		t.Notes = append(t.Notes, "The latest check failed: "+firstLine(w.Error))
	}
	return t
}

func callOf(a watch.Answer) markdown.TicketCall {
	return markdown.TicketCall{Address: a.Address, Actor: a.Actor, Call: a.Call, Source: a.Source, URL: a.URL, At: a.At}
}
