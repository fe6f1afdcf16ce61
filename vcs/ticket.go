package vcs

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Ticket is an issue on a host.
type Ticket struct {
	Number           int
	Title, Body, URL string
	Open             bool
}

// NewTicket is a ticket to be opened.
type NewTicket struct {
	Title string // one line; cut by the host adapter to what the host takes
	Body  string // Markdown; cut likewise
	// Label is made on the host where it is not there yet, if the token may. A
	// host that refuses labels leaves it out.
	Label string
}

// TicketEdit is what a ticket is made to be.
type TicketEdit struct {
	Title string // one line; cut as NewTicket's. Where it is empty the title stays
	Body  string // Markdown; cut likewise
	Open  bool
}

// ErrNoTickets: the repository has its issues switched off.
var ErrNoTickets = errors.New("vcs: the repository has no issues")

// TicketMarker is what the body of a ticket begins with, so that it is found
// where the host took no label for it, or somebody removed it. It shows nothing
// in Markdown: the comment that it opens may go on as its maker likes.
const TicketMarker = "<!-- holdfast"

// IsOwnTicket reports whether a ticket that the token's user opened is one of
// Holdfast's: it has the label, or its body begins with TicketMarker.
func IsOwnTicket(label string, labels []string, body string) bool {
	for _, l := range labels {
		if label != "" && strings.EqualFold(l, label) {
			return true
		}
	}
	return strings.HasPrefix(body, TicketMarker)
}

// MaxTickets is how many tickets FindTickets returns at most.
const MaxTickets = 200

// Tickets is a host with issues.
type Tickets interface {
	// Ticket returns one as it is now. Returns ErrNotFound where it was deleted,
	// and ErrNoTickets.
	Ticket(ctx context.Context, r Repository, number int) (Ticket, error)
	// FindTickets returns those with the label that this token's user opened,
	// open and closed ones, newest first, MaxTickets at most. Those whose body
	// begins with TicketMarker are found without the label too, among the
	// MaxTickets latest issues of that user. Returns ErrNoTickets.
	FindTickets(ctx context.Context, r Repository, label string) ([]Ticket, error)
	// CreateTicket opens a ticket each time that it is called: a caller that may
	// have called it before looks with FindTickets. Returns ErrNoTickets.
	CreateTicket(ctx context.Context, r Repository, t NewTicket) (Ticket, error)
	// EditTicket makes the ticket be e: title, body, and open or closed. A second
	// time changes nothing. Returns ErrNotFound where it was deleted, and
	// ErrNoTickets.
	EditTicket(ctx context.Context, r Repository, number int, e TicketEdit) error
	// CommentTicket adds a comment to a ticket, cut to what the host takes.
	// Returns ErrNotFound where the ticket was deleted, and ErrNoTickets.
	CommentTicket(ctx context.Context, r Repository, number int, body string) error
	// TicketComments returns the comments on a ticket that were created at or
	// after since, by the host's clock, oldest first; all pages of them. A host
	// whose times are coarser may return earlier ones of that second. Edited ones
	// count by their creation. Comment.Number is the ticket's number. Returns
	// ErrNotFound where the ticket was deleted, and ErrNoTickets.
	TicketComments(ctx context.Context, r Repository, number int, since time.Time) ([]Comment, error)
	// MaxTicket is the longest body that the host takes, in bytes.
	MaxTicket() int
}

// PullEdit is what an open pull request of Holdfast's own is made to be.
type PullEdit struct {
	Title string // one line; cut as NewPull's. Where it is empty the title stays
	Body  string // Markdown; cut likewise
	Close bool
}

// PullEditor is a host on which pull requests can be edited.
type PullEditor interface {
	// EditPull sets title and body of a pull request, and closes it without a
	// merge where Close is set. Closing one that is not open changes nothing; its
	// title and body may stay, as some hosts edit open ones alone. Returns
	// ErrNotFound.
	EditPull(ctx context.Context, r Repository, number int, e PullEdit) error
}
