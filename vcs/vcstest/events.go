package vcstest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"holdfast/vcs"
)

// events parses what the host sent and leaves out what it says is of no use.
func events(t *testing.T, h Harness) []vcs.Event {
	t.Helper()
	host := h.Host().(vcs.Webhooks)
	var found []vcs.Event
	for _, w := range h.(Sender).Sent() {
		e, err := host.ParseWebhook(w.Header, w.Body)
		if errors.Is(err, vcs.ErrIgnored) {
			continue
		}
		if err != nil {
			t.Fatalf("ParseWebhook: %v\n%s", err, w.Body)
		}
		if e.Delivery == "" || e.Repository != h.Repository() {
			t.Errorf("event %+v, want a delivery's id and %s", e, h.Repository())
		}
		found = append(found, e)
	}
	return found
}

func testWebhooks(t *testing.T, h Harness) {
	if _, ok := capability[vcs.Webhooks](t, h); !ok {
		return
	}
	if _, ok := h.(Sender); !ok {
		return
	}
	has := func(what string, ok func(vcs.Event) bool) {
		t.Helper()
		all := events(t, h)
		for _, e := range all {
			if ok(e) {
				return
			}
		}
		t.Errorf("%s: no such event in %+v", what, all)
	}
	about := func(n int) func(vcs.Event) bool {
		return func(e vcs.Event) bool { return e.Kind == vcs.EventPullRequest && e.Number == n }
	}
	head := h.Push("feature", change("one"))
	has("push of a branch", func(e vcs.Event) bool {
		return e.Kind == vcs.EventPush && e.Branch == "feature" && e.After == head
	})
	n := h.Open("feature", "Change")
	has("open", about(n))
	next := h.Push("feature", change("two"))
	all := events(t, h)
	var pushed, synced bool
	for _, e := range all {
		pushed = pushed || (e.Kind == vcs.EventPush && e.Before == head && e.After == next)
		synced = synced || about(n)(e)
	}
	if !pushed || !synced {
		t.Errorf("push to a pull request: %+v, want a push and the pull request", all)
	}
	if people, ok := h.(Commenter); ok {
		id := people.CommentAs("ann", n, "holdfast plan")
		has("comment", func(e vcs.Event) bool {
			return e.Kind == vcs.EventComment && e.Number == n && e.CommentID == id && e.Comment == "holdfast plan" && e.Sender == "ann"
		})
		for _, e := range events(t, h) {
			if at := e.CommentedAt; !at.IsZero() && (at.After(time.Now().Add(time.Minute)) || at.Before(time.Now().Add(-time.Hour))) {
				t.Errorf("commented at %s", at)
			}
		}
		people.DeleteComment(n, id)
		for _, e := range events(t, h) {
			if e.Kind == vcs.EventComment {
				t.Errorf("a deleted comment is an event: %+v", e)
			}
		}
	}
	if r, ok := h.(Reviewer); ok {
		r.ReviewAs("ann", n, vcs.Approved)
		has("review", about(n))
	}
	if r, ok := h.(Reopener); ok {
		h.Close(n)
		has("close", about(n))
		r.Reopen(n)
		has("reopen", about(n))
	}
	if d, ok := h.(BranchDeleter); ok {
		h.Push("dropped", change("dropped"))
		dropped := h.Open("dropped", "Dropped")
		events(t, h)
		d.DeleteBranch("dropped")
		has("deletion of the branch", about(dropped))
	}
	merge := h.Merge(n)
	all = events(t, h)
	var closed, main bool
	for _, e := range all {
		closed = closed || about(n)(e)
		main = main || (e.Kind == vcs.EventPush && e.Branch == "main" && e.After == merge)
	}
	if !closed || !main {
		t.Errorf("merge: %+v, want the pull request and a push to main", all)
	}
}

func testWebhookSignature(t *testing.T, h Harness) {
	host, ok := capability[vcs.Webhooks](t, h)
	if !ok {
		return
	}
	sender, ok := h.(Sender)
	if !ok {
		return
	}
	h.Push("feature", change("one"))
	h.Open("feature", "Change")
	for _, w := range sender.Sent() {
		bare := w.Header.Clone()
		for name := range bare {
			if len(name) > 9 && name[len(name)-9:] == "Signature" || name == "X-Hub-Signature-256" || name == "X-Gitlab-Token" || name == "Authorization" {
				bare.Del(name)
			}
		}
		if _, err := host.ParseWebhook(bare, w.Body); !errors.Is(err, vcs.ErrSignature) {
			t.Errorf("without a signature: %v, want ErrSignature", err)
		}
		if w.Header.Get("X-Gitlab-Token")+w.Header.Get("Authorization") != "" {
			continue // a token or a password signs no body
		}
		forged := append([]byte(" "), w.Body...)
		if _, err := host.ParseWebhook(w.Header, forged); !errors.Is(err, vcs.ErrSignature) {
			t.Errorf("with another body: %v, want ErrSignature", err)
		}
	}
}

func testFaults(t *testing.T, h Harness) {
	f, ok := h.(Faulty)
	if !ok {
		return
	}
	n, head := opened(t, h)
	if g, ok := h.(Granter); ok {
		g.Grant("ann", vcs.PermissionWrite)
	}
	calls := map[string]func(context.Context) error{
		"PullRequest": func(ctx context.Context) error {
			_, err := h.Host().PullRequest(ctx, h.Repository(), n)
			return err
		},
		"PullRequests": func(ctx context.Context) error {
			_, err := h.Host().PullRequests(ctx, h.Repository(), longAgo)
			return err
		},
		"Remote": func(ctx context.Context) error {
			_, err := h.Host().Remote(ctx, h.Repository())
			return err
		},
		"Permission": func(ctx context.Context) error {
			_, err := h.Host().Permission(ctx, h.Repository(), "ann")
			return err
		},
	}
	if c, ok := h.Host().(vcs.Comments); ok {
		calls["Comments"] = func(ctx context.Context) error {
			_, err := c.Comments(ctx, h.Repository(), n)
			return err
		}
	}
	if s, ok := h.Host().(vcs.Statuses); ok {
		states := []vcs.StatusState{vcs.StatusPending, vcs.StatusSuccess}
		calls["SetStatus"] = func(ctx context.Context) error {
			slices.Reverse(states) // setting what is set already is no change on some hosts
			return s.SetStatus(ctx, h.Repository(), head, vcs.Status{Context: "holdfast", State: states[0]})
		}
	}
	if e, ok := h.Host().(vcs.PullEditor); ok {
		calls["EditPull"] = func(ctx context.Context) error {
			return e.EditPull(ctx, h.Repository(), n, vcs.PullEdit{Title: "Change", Body: "B"})
		}
	}
	if ts, ok := h.Host().(vcs.Tickets); ok {
		maps.Copy(calls, ticketCalls(t, h, ts))
	}
	for name, call := range calls {
		for _, kind := range []FaultKind{Internal, Limited, Garbage, Truncated, Broken, Denied} {
			if !f.Fault(kind, 1) {
				continue
			}
			checkFault(t, name, kind, call(t.Context()))
			if err := call(t.Context()); err != nil {
				t.Errorf("%s after one %s: %v, want it healed", name, kind, err)
			}
		}
	}
}

func checkFault(t *testing.T, name string, kind FaultKind, err error) {
	t.Helper()
	if kind == Broken && err == nil {
		return // net/http repeats a read on a fresh connection by itself
	}
	var limit *vcs.RateLimitError
	limited, denied := errors.As(err, &limit), errors.Is(err, vcs.ErrDenied)
	if err == nil || limited != (kind == Limited) || denied != (kind == Denied) || errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("%s with %s: %v", name, kind, err)
	}
	if limited && limit.RetryAt.Before(time.Now().Add(-time.Minute)) {
		t.Errorf("%s: the host answers again at %v, want the time that it said", name, limit.RetryAt)
	}
}

func testCanceled(t *testing.T, h Harness) {
	n, _ := opened(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	if f, ok := h.(Faulty); ok && f.Fault(Hanging, 1) {
		time.AfterFunc(20*time.Millisecond, cancel) // the call hangs until then
	} else {
		cancel()
	}
	if _, err := h.Host().PullRequest(ctx, h.Repository(), n); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v, want context.Canceled", err)
	}
	cancel()
}
