package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/watch"
)

// JobNotify delivers what one notifier is to tell.
const JobNotify = "notify"

// NotifyEvents are the kinds of events that a Notify may ask for; the first
// ones are the default.
var NotifyEvents = []string{"drift", "corrected", "contested", "failed", "held", "proposed", "in_sync"}

// Notify is a place where people are told what happens.
type Notify struct {
	Name     string
	Notifier watch.Notifier
	// Events are of NotifyEvents. Defaults to all but in_sync.
	Events []string
	// Workspaces are globs of names; none means all. Repositories likewise.
	Workspaces, Repositories []string
	// Delay gathers what happens at once into one message. Defaults to
	// Config.NotifyDelay.
	Delay time.Duration
}

func (n Notify) wants(e watch.Event) bool {
	events := n.Events
	if len(events) == 0 {
		events = NotifyEvents[:len(NotifyEvents)-1]
	}
	return slices.Contains(events, e.Kind) && matches(n.Workspaces, e.Workspace) && matches(n.Repositories, e.Repository)
}

const (
	// notifyDelay gathers what happens at once into one message.
	notifyDelay = 30 * time.Second
	// maxMessage bounds the events of one message; maxTold those that it names.
	maxMessage = 1000
	maxTold    = 20
)

type notifyPayload struct {
	Name string `json:"name"`
}

// notify puts the events that nobody was told of where each notifier that
// wants them finds them, and then takes them off the record. A crash in
// between leaves them there, with the same keys.
func (r *Runner) notify(ctx context.Context, repo vcs.Repository, d DriftRecord) error {
	if len(d.Untold) == 0 {
		return nil
	}
	for _, n := range r.Notify {
		any := false
		for _, e := range d.Untold {
			if !n.wants(e) {
				continue
			}
			value, err := json.Marshal(e)
			if err != nil {
				return err
			}
			_, err = r.Store.Records.Put(ctx, r.Clock(), store.Record{Key: untoldKey(n.Name, e), Value: value})
			if err != nil && !errors.Is(err, store.ErrConflict) {
				return err
			}
			any = true
		}
		if any {
			if err := r.enqueueNotify(ctx, n); err != nil {
				return err
			}
		}
	}
	_, err := r.changeDrift(ctx, repo, d.Name, func(rec *DriftRecord) {
		rec.Untold = slices.DeleteFunc(rec.Untold, func(e watch.Event) bool {
			return slices.ContainsFunc(d.Untold, func(told watch.Event) bool { return told.Run == e.Run && told.Kind == e.Kind })
		})
	})
	return err
}

func untoldKey(name string, e watch.Event) string {
	return fmt.Sprintf("untold/%s/%s-%s", name, e.Run, e.Kind)
}

func (r *Runner) enqueueNotify(ctx context.Context, n Notify) error {
	payload, err := json.Marshal(notifyPayload{Name: n.Name})
	if err != nil {
		return err
	}
	_, err = r.Queue.Enqueue(ctx, queue.Job{
		Kind: JobNotify, Group: "notify/" + n.Name, Key: "notify/" + n.Name, Again: true,
		RunAt: r.Clock().Add(cmp.Or(n.Delay, r.NotifyDelay)), Priority: queue.PriorityInteractive, Payload: payload,
	})
	return err
}

// handleNotify delivers everything that waits for one notifier as one message.
// It is forgotten only after it was delivered; a delivery that fails is tried
// again, and with it what came since.
func (r *Runner) handleNotify(ctx context.Context, job queue.Job) error {
	var in notifyPayload
	if err := json.Unmarshal(job.Payload, &in); err != nil {
		return queue.Discard(fmt.Errorf("read payload: %w", err))
	}
	i := slices.IndexFunc(r.Notify, func(n Notify) bool { return n.Name == in.Name })
	waiting, err := r.Store.Records.List(ctx, "untold/"+in.Name+"/")
	if err != nil {
		return err
	}
	if i < 0 {
		r.Logger.Warn("a notifier is not in the server file any more; what waited for it is dropped", "notify", in.Name, "events", len(waiting))
	}
	for len(waiting) > 0 {
		part := waiting[:min(len(waiting), maxMessage)]
		waiting = waiting[len(part):]
		if i >= 0 {
			if err := r.deliver(ctx, r.Notify[i], part); err != nil {
				return r.undelivered(in.Name, job, err)
			}
		}
		for _, rec := range part {
			if err := r.Store.Records.Delete(ctx, rec.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// undelivered says when a delivery is tried again.
func (r *Runner) undelivered(name string, job queue.Job, err error) error {
	var put *watch.RetryError
	var permanent *watch.PermanentError
	switch {
	case errors.As(err, &put):
		return queue.Snooze(min(max(put.After, time.Second), time.Hour))
	case errors.As(err, &permanent):
		r.Logger.Error("a notification cannot be delivered", "notify", name, "error", err, "hint", hintOf(err))
		return queue.Snooze(time.Hour) // until somebody changes something
	}
	r.Logger.Warn("a notification was not delivered, and is tried again", "notify", name, "attempt", job.Attempt, "error", err)
	return err
}

// deliver sends one message.
func (r *Runner) deliver(ctx context.Context, n Notify, waiting []store.Record) error {
	var events []watch.Event
	var keys strings.Builder
	for _, rec := range waiting {
		var e watch.Event
		if err := json.Unmarshal(rec.Value, &e); err != nil {
			return fmt.Errorf("read %s: %w", rec.Key, err)
		}
		keys.WriteString(rec.Key + "\n")
		events = append(events, r.completed(ctx, e))
	}
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return n.Notifier.Notify(limited, messageOf(events, hashOf(keys.String())[:24], r.BaseURL))
}

// completed adds to an event what was found out since.
func (r *Runner) completed(ctx context.Context, e watch.Event) watch.Event {
	repo, err := vcs.ParseRepository(e.Repository)
	if err != nil {
		return e
	}
	var d DriftRecord
	if _, err := r.load(ctx, driftName(repo, e.Workspace), &d); err != nil {
		return e
	}
	e.Ticket = d.Ticket.URL
	about := d.at(e.At)
	if about == nil || e.Kind != "drift" {
		return e
	}
	for _, a := range about.Who {
		if !slices.Contains(e.Who, a.Actor) {
			e.Who = append(e.Who, a.Actor)
		}
	}
	return e
}

// kindWords are how many workspaces did what, for one and for more.
var kindWords = map[string][2]string{
	"drift": {"workspace drifted", "workspaces drifted"}, "corrected": {"drift corrected", "drifts corrected"},
	"contested": {"workspace contested", "workspaces contested"}, "failed": {"failure", "failures"},
	"held": {"correction held", "corrections held"}, "proposed": {"pull request proposed", "pull requests proposed"},
	"in_sync": {"workspace in sync again", "workspaces in sync again"},
}

// messageOf makes one message of what happened.
func messageOf(events []watch.Event, id, base string) watch.Message {
	// What a workspace has come to says where it stands in the message; of one
	// workspace what came first is first.
	last := map[string]watch.Event{}
	for _, e := range events {
		if key := e.Repository + "\n" + e.Workspace; !e.At.Before(last[key].At) {
			last[key] = e
		}
	}
	rank := func(e watch.Event) int { return slices.Index(NotifyEvents, last[e.Repository+"\n"+e.Workspace].Kind) }
	slices.SortStableFunc(events, func(a, b watch.Event) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Repository+a.Workspace, b.Repository+b.Workspace), a.At.Compare(b.At))
	})
	counts := map[string]int{}
	for _, e := range events {
		counts[e.Kind]++
	}
	var parts []string
	for _, kind := range slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Compare(slices.Index(NotifyEvents, a), slices.Index(NotifyEvents, b))
	}) {
		word := kindWords[kind][0]
		if counts[kind] != 1 {
			word = kindWords[kind][1]
		}
		parts = append(parts, fmt.Sprintf("%d %s", counts[kind], word))
	}
	m := watch.Message{ID: id, Title: "Holdfast: " + strings.Join(parts, ", "), Events: events}
	if len(events) == 1 {
		m.Title = "Holdfast: " + strings.ReplaceAll(events[0].Kind, "_", " ") + ": " + events[0].Workspace
	}
	if base != "" {
		m.Link = base + "/drift"
	}
	var text strings.Builder
	for _, e := range events[:min(len(events), maxTold)] {
		fmt.Fprintf(&text, "%s: %s %s: %s", strings.ReplaceAll(e.Kind, "_", " "), e.Repository, e.Workspace, e.Summary)
		if len(e.Who) > 0 {
			text.WriteString(" (by " + someOf(e.Who) + ")")
		}
		if link := cmp.Or(e.Ticket, runLink(base, e.Run)); link != "" {
			text.WriteString(" " + link)
		}
		text.WriteString("\n")
	}
	if more := len(events) - maxTold; more > 0 {
		fmt.Fprintf(&text, "and %d more\n", more)
	}
	m.Text = text.String()
	return m
}

func runLink(base, run string) string {
	if base == "" || run == "" {
		return ""
	}
	return base + "/runs/" + run
}
