package transport_test

import (
	"strings"
	"testing"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

func TestTitles(t *testing.T) {
	for title, want := range map[string]string{
		"Drift": "Drift", " two\nlines\t": "two lines", "": "", " \n\x00 ": "", "a\xffb": "a\uFFFDb", strings.Repeat("ö", 20): strings.Repeat("ö", 9) + "…",
	} {
		if got := transport.Line(title, 10); got != want {
			t.Errorf("Line(%q) = %q, want %q", title, got, want)
		}
	}
	if got := transport.TicketTitle(vcs.NewTicket{Title: "\n"}, 10); got == "" {
		t.Error("a ticket without a title has none")
	}
	if got := transport.Title(vcs.NewPull{Branch: "holdfast/fix"}, 10); got != "holdfast/…" {
		t.Errorf("a pull request without a title is %q", got)
	}
}

func TestLatestTickets(t *testing.T) {
	var all []vcs.Ticket
	for i := range vcs.MaxTickets + 5 {
		all = append(all, vcs.Ticket{Number: i + 1}, vcs.Ticket{Number: i + 1})
	}
	got := transport.LatestTickets(all)
	if len(got) != vcs.MaxTickets || got[0].Number != vcs.MaxTickets+5 || got[vcs.MaxTickets-1].Number != 6 {
		t.Errorf("%d tickets from %d to %d", len(got), got[0].Number, got[len(got)-1].Number)
	}
}

func TestIsOwnTicket(t *testing.T) {
	for name, tc := range map[string]struct {
		label  string
		labels []string
		body   string
		want   bool
	}{
		"label":                {"drift", []string{"bug", "Drift"}, "x", true},
		"marker":               {"drift", nil, "<!-- holdfast:drift -->", true},
		"neither":              {"drift", []string{"bug"}, "holdfast <!-- holdfast -->", false},
		"no label asked for":   {"", []string{""}, "x", false},
		"a part of it":         {"drift", []string{"drift-old"}, "x", false},
		"a marker in the text": {"drift", nil, "x\n<!-- holdfast -->", false},
	} {
		if got := vcs.IsOwnTicket(tc.label, tc.labels, tc.body); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
