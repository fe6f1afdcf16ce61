package vcstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/vcs"
)

// label is what the tests' tickets have.
const label = "holdfast-drift"

// tickets returns what a test of tickets needs; false where there is nothing to
// test.
func tickets(t *testing.T, h Harness) (vcs.Tickets, Ticketer, bool) {
	t.Helper()
	host, ok := capability[vcs.Tickets](t, h)
	people, acts := h.(Ticketer)
	return host, people, ok && acts
}

func createTicket(t *testing.T, h Harness, n vcs.NewTicket) vcs.Ticket {
	t.Helper()
	made, err := h.Host().(vcs.Tickets).CreateTicket(t.Context(), h.Repository(), n)
	if err != nil || made.Number <= 0 || !made.Open {
		t.Fatalf("CreateTicket: %+v, %v, want it open", made, err)
	}
	return made
}

func findTickets(t *testing.T, h Harness) []vcs.Ticket {
	t.Helper()
	found, err := h.Host().(vcs.Tickets).FindTickets(t.Context(), h.Repository(), label)
	if err != nil {
		t.Fatalf("FindTickets: %v", err)
	}
	return found
}

func testTickets(t *testing.T, h Harness) {
	host, people, ok := tickets(t, h)
	if !ok {
		return
	}
	ctx, r := t.Context(), h.Repository()
	others := people.OpenTicketAs("ann", "Mine", "hands off", "bug")
	first := vcs.NewTicket{Title: "Drift in vpc ✓", Body: "<!-- holdfast:drift:vpc -->\n| a | <b>&amp;</b> |\n", Label: label}
	made := createTicket(t, h, first)
	if made.Title != first.Title || made.Body != first.Body || made.Number == others || !strings.Contains(made.URL, fmt.Sprint(made.Number)) {
		t.Errorf("created %+v, want %+v", made, first)
	}
	if shown, labels := people.ShownTicket(made.Number); shown.Title != first.Title || shown.Body != first.Body || !slices.Equal(labels, []string{label}) {
		t.Errorf("people see %+v with the labels %v", shown, labels)
	}
	check := func(what string, want vcs.Ticket) {
		t.Helper()
		want.Number, want.URL = made.Number, made.URL
		if got, err := host.Ticket(ctx, r, made.Number); err != nil || got != want {
			t.Errorf("%s: Ticket is %+v, %v, want %+v", what, got, err, want)
		}
		if got := findTickets(t, h); !slices.Equal(got, []vcs.Ticket{want}) {
			t.Errorf("%s: FindTickets has %+v, want %+v", what, got, want)
		}
	}
	check("created", made)
	for _, step := range []struct {
		what string
		edit vcs.TicketEdit
	}{
		{"edited", vcs.TicketEdit{Title: "Drift in dns", Body: "<!-- holdfast:drift:dns -->\nmore", Open: true}},
		{"closed", vcs.TicketEdit{Title: "Drift in dns", Body: "<!-- holdfast:drift:dns -->\ngone", Open: false}},
		{"closed again", vcs.TicketEdit{Title: "Drift in dns", Body: "<!-- holdfast:drift:dns -->\ngone", Open: false}},
		{"edited while closed", vcs.TicketEdit{Title: "Drift in dns, again", Body: "<!-- holdfast:drift:dns -->\n", Open: false}},
		{"reopened", vcs.TicketEdit{Title: "Drift in dns, again", Body: "<!-- holdfast:drift:dns -->\nback", Open: true}},
		{"reopened again", vcs.TicketEdit{Title: "Drift in dns, again", Body: "<!-- holdfast:drift:dns -->\nback", Open: true}},
	} {
		if err := host.EditTicket(ctx, r, made.Number, step.edit); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		check(step.what, vcs.Ticket{Title: step.edit.Title, Body: step.edit.Body, Open: step.edit.Open})
	}
	if err := host.EditTicket(ctx, r, made.Number, vcs.TicketEdit{Body: "<!-- holdfast:drift:dns -->\nback", Open: true}); err != nil {
		t.Errorf("without a title: %v", err)
	}
	check("edited without a title", vcs.Ticket{Title: "Drift in dns, again", Body: "<!-- holdfast:drift:dns -->\nback", Open: true})
	people.SetTicketOpenAs("ann", made.Number, false)
	check("closed by a person", vcs.Ticket{Title: "Drift in dns, again", Body: "<!-- holdfast:drift:dns -->\nback"})
	if shown, _ := people.ShownTicket(others); shown.Title != "Mine" || shown.Body != "hands off" || !shown.Open {
		t.Errorf("somebody else's issue became %+v", shown)
	}
}

// testFindTickets has other people's issues with the same label, and more of
// its own than are wanted.
func testFindTickets(t *testing.T, h Harness) {
	_, people, ok := tickets(t, h)
	if !ok {
		return
	}
	if found := findTickets(t, h); len(found) != 0 {
		t.Errorf("there is no ticket yet, and these are found: %+v", found)
	}
	h.Push("feature", change("one"))
	if opener, ok := h.Host().(vcs.Opener); ok { // a pull request is no ticket, on hosts where it is an issue
		if _, err := opener.OpenPull(t.Context(), h.Repository(), vcs.NewPull{Branch: "feature", Base: "main", Title: "T", Body: "<!-- holdfast -->"}); err != nil {
			t.Fatal(err)
		}
	}
	var want []int
	for i := range 3 {
		people.OpenTicketAs("ann", "Drift in vpc", fmt.Sprintf("<!-- holdfast:drift:%d -->", i), label)
		made := createTicket(t, h, vcs.NewTicket{Title: "T", Body: fmt.Sprintf("<!-- holdfast:drift:%d -->", i), Label: label})
		createTicket(t, h, vcs.NewTicket{Title: "T", Body: "of another kind", Label: "other"})
		want = append([]int{made.Number}, want...)
	}
	numbers := func() (all []int) {
		for _, x := range findTickets(t, h) {
			all = append(all, x.Number)
		}
		return all
	}
	if got := numbers(); !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	for range vcs.MaxTickets {
		want = append([]int{createTicket(t, h, vcs.NewTicket{Title: "T", Body: "x", Label: label}).Number}, want...)
	}
	if got := numbers(); !slices.Equal(got, want[:vcs.MaxTickets]) {
		t.Errorf("of many %d are found, want the %d latest: %v", len(got), vcs.MaxTickets, got)
	}
}

// testTicketsWithoutLabels has a host that refuses labels: what it left out is
// found by its author and its marker.
func testTicketsWithoutLabels(t *testing.T, h Harness) {
	_, people, ok := tickets(t, h)
	if !ok {
		return
	}
	people.OpenTicketAs("ann", "Drift", "<!-- holdfast:drift:vpc -->", label)
	people.RefuseLabels()
	made := createTicket(t, h, vcs.NewTicket{Title: "Drift", Body: "<!-- holdfast:drift:vpc -->\nx", Label: label + "-new"})
	again := createTicket(t, h, vcs.NewTicket{Title: "Drift", Body: "<!-- holdfast:drift:dns -->\nx", Label: label})
	createTicket(t, h, vcs.NewTicket{Title: "Drift", Body: "without a marker", Label: label})
	for _, n := range []int{made.Number, again.Number} {
		if _, labels := people.ShownTicket(n); len(labels) != 0 {
			t.Fatalf("issue %d has the labels %v on a host that refuses them", n, labels)
		}
	}
	got := findTickets(t, h)
	if len(got) != 2 || got[0].Number != again.Number || got[1].Number != made.Number {
		t.Errorf("found %+v, want %d and %d", got, again.Number, made.Number)
	}
}

// testTicketSizes writes as much as a host takes, and more.
func testTicketSizes(t *testing.T, h Harness) {
	host, people, ok := tickets(t, h)
	if !ok {
		return
	}
	whole := strings.Repeat("x", host.MaxTicket())
	if made := createTicket(t, h, vcs.NewTicket{Title: "T", Body: whole, Label: label}); made.Body != whole {
		t.Errorf("of a body of %d bytes %d are there", len(whole), len(made.Body))
	}
	made := createTicket(t, h, vcs.NewTicket{Title: strings.Repeat("ö\n", 5000), Body: strings.Repeat("é\x00", 900_000), Label: label})
	if strings.ContainsAny(made.Title, "\n") || !strings.HasPrefix(made.Title, "ö ö") || !strings.HasPrefix(made.Body, "éé") || len(made.Body) > host.MaxTicket() {
		t.Errorf("too long a ticket is %.80q with a body of %d bytes", made.Title, len(made.Body))
	}
	if made := createTicket(t, h, vcs.NewTicket{Body: "x"}); made.Title == "" {
		t.Error("a ticket without a title has none")
	}
	if err := host.EditTicket(t.Context(), h.Repository(), made.Number, vcs.TicketEdit{Title: strings.Repeat("ü", 5000), Body: strings.Repeat("é", 900_000), Open: true}); err != nil {
		t.Errorf("EditTicket with too long a text: %v", err)
	}
	if shown, _ := people.ShownTicket(made.Number); !strings.HasPrefix(shown.Title, "üü") {
		t.Errorf("edited it is %.80q", shown.Title)
	}
	if err := host.CommentTicket(t.Context(), h.Repository(), made.Number, strings.Repeat("é", 900_000)); err != nil {
		t.Errorf("CommentTicket with too long a text: %v", err)
	}
}

// ticketCalls are calls about a new ticket, each of which may be made again.
func ticketCalls(t *testing.T, h Harness, host vcs.Tickets) map[string]func(context.Context) error {
	t.Helper()
	r, n := h.Repository(), createTicket(t, h, vcs.NewTicket{Title: "T", Body: "<!-- holdfast:drift:vpc -->", Label: label}).Number
	return map[string]func(context.Context) error{
		"Ticket": func(ctx context.Context) error {
			_, err := host.Ticket(ctx, r, n)
			return err
		},
		"FindTickets": func(ctx context.Context) error {
			_, err := host.FindTickets(ctx, r, label)
			return err
		},
		"CreateTicket": func(ctx context.Context) error {
			_, err := host.CreateTicket(ctx, r, vcs.NewTicket{Title: "T", Body: "x", Label: label})
			return err
		},
		"EditTicket": func(ctx context.Context) error {
			return host.EditTicket(ctx, r, n, vcs.TicketEdit{Title: "T", Body: "x", Open: true})
		},
		"CommentTicket": func(ctx context.Context) error { return host.CommentTicket(ctx, r, n, "x") },
		"TicketComments": func(ctx context.Context) error {
			_, err := host.TicketComments(ctx, r, n, longAgo)
			return err
		},
	}
}

func testTicketsMissing(t *testing.T, h Harness) {
	host, people, ok := tickets(t, h)
	if !ok {
		return
	}
	ctx, r := t.Context(), h.Repository()
	deleted, kept := createTicket(t, h, vcs.NewTicket{Title: "T", Body: "x", Label: label}), createTicket(t, h, vcs.NewTicket{Title: "T", Body: "x", Label: label})
	people.DeleteTicket(deleted.Number)
	about := func(n int) map[string]error {
		_, read := host.Ticket(ctx, r, n)
		_, comments := host.TicketComments(ctx, r, n, longAgo)
		return map[string]error{
			"Ticket": read, "TicketComments": comments, "CommentTicket": host.CommentTicket(ctx, r, n, "x"),
			"EditTicket": host.EditTicket(ctx, r, n, vcs.TicketEdit{Title: "T", Body: "x"}),
		}
	}
	for _, n := range []int{deleted.Number, 4711} {
		for name, err := range about(n) {
			if !errors.Is(err, vcs.ErrNotFound) || errors.Is(err, vcs.ErrNoTickets) {
				t.Errorf("%s of a missing ticket: %v, want ErrNotFound", name, err)
			}
		}
	}
	if got := findTickets(t, h); len(got) != 1 || got[0].Number != kept.Number {
		t.Errorf("found %+v, want the one that is left", got)
	}
	other := r
	other.Name = "no-such-repository"
	if _, err := host.FindTickets(ctx, other, label); !errors.Is(err, vcs.ErrNotFound) || errors.Is(err, vcs.ErrNoTickets) {
		t.Errorf("FindTickets of a missing repository: %v, want ErrNotFound", err)
	}
	if _, err := host.CreateTicket(ctx, other, vcs.NewTicket{Title: "T", Label: label}); !errors.Is(err, vcs.ErrNotFound) || errors.Is(err, vcs.ErrNoTickets) {
		t.Errorf("CreateTicket in a missing repository: %v, want ErrNotFound", err)
	}
	people.SwitchTicketsOff()
	all := about(kept.Number)
	_, all["FindTickets"] = host.FindTickets(ctx, r, label)
	_, all["CreateTicket"] = host.CreateTicket(ctx, r, vcs.NewTicket{Title: "T", Body: "x", Label: label})
	for name, err := range all {
		if !errors.Is(err, vcs.ErrNoTickets) {
			t.Errorf("%s with issues switched off: %v, want ErrNoTickets", name, err)
		}
	}
}

func testTicketComments(t *testing.T, h Harness) {
	host, people, ok := tickets(t, h)
	if !ok {
		return
	}
	ctx, r := t.Context(), h.Repository()
	n, beside := createTicket(t, h, vcs.NewTicket{Title: "T", Body: "x", Label: label}).Number, people.OpenTicketAs("ann", "T", "x", label)
	people.CommentTicketAs("ann", beside, "elsewhere")
	if err := host.CommentTicket(ctx, r, n, "first ✓ <b>&amp;</b>"); err != nil {
		t.Fatalf("CommentTicket: %v", err)
	}
	want := []vcs.Comment{{}}
	for i := range 130 { // more than a page of any host
		body := fmt.Sprintf("holdfast ignore %d", i)
		want = append(want, vcs.Comment{ID: people.CommentTicketAs("ann", n, body), Number: n, Author: "ann", Body: body})
	}
	if texts := people.TicketTexts(n); len(texts) != len(want) || texts[0] != "first ✓ <b>&amp;</b>" {
		t.Errorf("%d comments are there, the first of them %q", len(texts), texts[0])
	}
	got, err := host.TicketComments(ctx, r, n, time.Now().Add(-time.Hour))
	if err != nil || len(got) != len(want) {
		t.Fatalf("TicketComments: %d of them, %v, want %d", len(got), err, len(want))
	}
	for i := range got {
		if at := got[i].CreatedAt; at.Before(time.Now().Add(-time.Hour)) || at.After(time.Now().Add(time.Minute)) {
			t.Errorf("comment %d was created at %s", got[i].ID, at)
		}
		got[i].CreatedAt = time.Time{}
	}
	if got[0].Number != n || got[0].Body != "first ✓ <b>&amp;</b>" || got[0].Author == "ann" {
		t.Errorf("the first comment is %+v", got[0])
	}
	if !slices.Equal(got[1:], want[1:]) {
		t.Errorf("the comments are not those that were made, oldest first: %+v", got[1:3])
	}
	if later, err := host.TicketComments(ctx, r, n, time.Now().Add(time.Hour)); err != nil || len(later) > 0 {
		t.Errorf("since a time to come: %+v, %v", later, err)
	}
	// A ticket's comments are none of a pull request.
	if c, ok := h.Host().(vcs.Comments); ok {
		if got, err := c.CommentsSince(ctx, r, time.Now().Add(-time.Hour)); err != nil || len(got) != 0 {
			t.Errorf("CommentsSince has %+v, %v, want no comment on an issue", got[:min(len(got), 2)], err)
		}
	}
}

func testTicketEvents(t *testing.T, h Harness) {
	_, people, ok := tickets(t, h)
	_, sends := h.(Sender)
	if !ok || !sends || !people.TellsOfTickets() {
		return
	}
	made := createTicket(t, h, vcs.NewTicket{Title: "T", Body: "<!-- holdfast:drift:vpc -->", Label: label})
	n := made.Number
	if all := events(t, h); len(all) > 0 {
		t.Errorf("a new issue is an event: %+v", all)
	}
	one := func(what string, ok func(vcs.Event) bool) {
		t.Helper()
		all := events(t, h)
		if len(all) != 1 || all[0].Ticket != n || all[0].Number != 0 || all[0].Sender != "ann" || !ok(all[0]) {
			t.Errorf("%s: %+v, want one event of ticket %d by ann", what, all, n)
		}
	}
	about := func(e vcs.Event) bool { return e.Kind == vcs.EventTicket }
	id := people.CommentTicketAs("ann", n, "holdfast ignore")
	one("comment", func(e vcs.Event) bool {
		return e.Kind == vcs.EventComment && e.CommentID == id && e.Comment == "holdfast ignore" && (e.CommentedAt.IsZero() || time.Since(e.CommentedAt) < time.Hour)
	})
	people.SetTicketOpenAs("ann", n, false)
	one("close", about)
	people.SetTicketOpenAs("ann", n, true)
	one("reopen", about)
	if err := h.Host().(vcs.Tickets).EditTicket(t.Context(), h.Repository(), n, vcs.TicketEdit{Title: "U", Body: "y", Open: true}); err != nil {
		t.Fatal(err)
	}
	if all := events(t, h); len(all) > 0 {
		t.Errorf("an edit is an event: %+v", all)
	}
	people.DeleteTicket(n)
	for _, e := range events(t, h) { // not all hosts tell of it
		if e.Kind != vcs.EventTicket || e.Ticket != n {
			t.Errorf("deletion: %+v", e)
		}
	}
	// Comments on pull requests are what they were.
	if c, ok := h.(Commenter); ok {
		pull, _ := opened(t, h)
		events(t, h)
		c.CommentAs("ann", pull, "holdfast plan")
		if all := events(t, h); len(all) != 1 || all[0].Kind != vcs.EventComment || all[0].Number != pull || all[0].Ticket != 0 {
			t.Errorf("comment on a pull request: %+v", all)
		}
	}
}

// testTicketAnswerLost has answers that get lost: nothing is asked for twice
// below the adapter.
func testTicketAnswerLost(t *testing.T, h Harness) {
	host, _, ok := tickets(t, h)
	f, fails := h.(Faulty)
	if !ok || !fails {
		return
	}
	createTicket(t, h, vcs.NewTicket{Title: "T", Body: "x", Label: label}) // what is asked for once was asked for
	before := len(findTickets(t, h))
	for _, kind := range []FaultKind{Lost, Broken, Truncated} {
		if !f.Fault(kind, 1) {
			continue
		}
		_, err := host.CreateTicket(t.Context(), h.Repository(), vcs.NewTicket{Title: "T", Body: "x", Label: label})
		after := len(findTickets(t, h))
		if made := after - before; made > 1 || err == nil && made != 1 {
			t.Errorf("%s: %d tickets were made, %v", kind, made, err)
		}
		before = after
	}
}

func testPullEditor(t *testing.T, h Harness) {
	host, ok := capability[vcs.PullEditor](t, h)
	reader, sees := h.(PullReader)
	if !ok || !sees {
		return
	}
	ctx, r := t.Context(), h.Repository()
	n, head := opened(t, h)
	edit := func(what string, e vcs.PullEdit, want vcs.PullState) {
		t.Helper()
		if err := host.EditPull(ctx, r, n, e); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if pr := pullRequest(t, h, n); pr.State != want || pr.HeadSHA != head {
			t.Errorf("%s: it is %s at %s, want %s at %s", what, pr.State, pr.HeadSHA, want, head)
		}
	}
	says := func(what, title, body string) {
		t.Helper()
		if gotTitle, gotBody := reader.PullText(n); gotTitle != title || gotBody != body {
			t.Errorf("%s: it says %q and %.80q, want %q and %q", what, gotTitle, gotBody, title, body)
		}
	}
	edit("edited", vcs.PullEdit{Title: "Put it ✓\nright", Body: "Because <b>&amp;</b>."}, vcs.Open)
	says("edited", "Put it ✓ right", "Because <b>&amp;</b>.")
	edit("without a title", vcs.PullEdit{Body: "More."}, vcs.Open)
	says("without a title", "Put it ✓ right", "More.")
	edit("too long", vcs.PullEdit{Title: strings.Repeat("ö", 5000), Body: strings.Repeat("é\x00", 500_000)}, vcs.Open)
	if title, body := reader.PullText(n); !strings.HasPrefix(title, "öö") || !strings.HasPrefix(body, "éé") {
		t.Errorf("too long: it says %.20q and %.20q", title, body)
	}
	if s, ok := h.(Sender); ok {
		s.Sent()
	}
	edit("closed", vcs.PullEdit{Title: "Over", Body: "Done.", Close: true}, vcs.Closed)
	says("closed", "Over", "Done.")
	if _, ok := h.(Sender); ok && !mentions(events(t, h), n) {
		t.Error("the host told of no closed pull request")
	}
	edit("closed again", vcs.PullEdit{Title: "Over", Body: "Done.", Close: true}, vcs.Closed)
	h.Push("other", change("two"))
	merged := h.Open("other", "Another")
	h.Merge(merged)
	if err := host.EditPull(ctx, r, merged, vcs.PullEdit{Title: "Late", Body: "B", Close: true}); err != nil {
		t.Errorf("closing a merged one: %v", err)
	}
	if pr := pullRequest(t, h, merged); pr.State != vcs.Merged {
		t.Errorf("closed after its merge it is %s", pr.State)
	}
	if err := host.EditPull(ctx, r, 4711, vcs.PullEdit{Title: "T", Body: "B"}); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("a missing one: %v, want ErrNotFound", err)
	}
}
