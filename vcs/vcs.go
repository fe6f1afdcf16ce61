// Package vcs speaks of repositories and pull requests in one language, so
// that the runner does not know which host it works for.
//
// Host is what every host can do. What only some can do (webhooks, comments,
// statuses, reviews, merging, notes) is an optional interface, resolved once
// when the program is wired: a host lacks a capability by not having its
// methods.
package vcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Repository names a Git repository on a host. Owner may contain slashes
// (subgroups).
type Repository struct {
	Host  string // "git.example.com"
	Owner string
	Name  string
}

// String returns HOST/OWNER/NAME.
func (r Repository) String() string { return r.Host + "/" + r.Owner + "/" + r.Name }

// ParseRepository reads HOST/OWNER/NAME. Each part is non-empty, free of
// control characters, and neither "." nor "..".
func ParseRepository(s string) (Repository, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 3 {
		return Repository{}, fmt.Errorf("repository %q is not HOST/OWNER/NAME", s)
	}
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
			return Repository{}, fmt.Errorf("repository %q is not HOST/OWNER/NAME", s)
		}
	}
	return Repository{Host: parts[0], Owner: strings.Join(parts[1:len(parts)-1], "/"), Name: parts[len(parts)-1]}, nil
}

// Remote is how Git reaches a repository. Credentials are never in the URL.
type Remote struct {
	URL           string // https, ssh, file or a path
	DefaultBranch string
	Username      string // with Password: HTTP basic authentication
	Password      string // a token
	SSHKeyFile    string // for ssh URLs; empty means the agent
}

// PullState is the state of a pull request.
type PullState string

// The states of a pull request.
const (
	Open   PullState = "open"
	Closed PullState = "closed" // without a merge
	Merged PullState = "merged"
)

// PullRequest is a proposed change as the host describes it now.
type PullRequest struct {
	Repository Repository
	Number     int
	Title      string
	Author     string
	URL        string
	State      PullState
	Draft      bool
	Fork       bool   // the head is in another repository
	HeadRef    string // the branch's name, for people
	HeadSHA    string
	// FetchRef is the ref of the base repository that leads to HeadSHA, such
	// as "refs/pull/1/head".
	FetchRef  string
	BaseRef   string // the branch's name
	BaseSHA   string // the base branch's commit as the host last saw it; may be empty
	MergeSHA  string // the commit on the base branch that the merge made; only when Merged
	UpdatedAt time.Time
	// MergedAt is when it was merged, by the host's clock and to the second at
	// best; zero where the host does not say.
	MergedAt time.Time
}

// EventKind is what an Event is about.
type EventKind string

// The kinds of events. Whatever else a host sends is ErrIgnored.
const (
	EventPullRequest EventKind = "pull_request" // opened, pushed to, edited, closed, merged, reviewed
	EventPush        EventKind = "push"         // a branch moved
	EventComment     EventKind = "comment"      // a comment was newly created on a pull request or an issue
	EventTicket      EventKind = "ticket"       // an issue was closed, reopened or deleted
	// EventMergeGroup: the host's merge queue wants the commit After checked, which
	// would bring pull requests from Before to Branch.
	EventMergeGroup EventKind = "merge_group"
	// EventRerun: a person asked the host to make a check again.
	EventRerun EventKind = "rerun"
	// EventRepositories: the token may see other repositories than before.
	// Repository is the zero one.
	EventRepositories EventKind = "repositories"
)

// Event is what a webhook said. It is a hint to look: the runner asks the
// host for the state as it is when the event is handled.
type Event struct {
	Delivery   string     `json:"delivery"` // the host's id of this delivery
	Kind       EventKind  `json:"kind"`
	Repository Repository `json:"repository"`
	Number     int        `json:"number,omitempty"` // the pull request's
	// Ticket is the ticket's number: EventTicket, and EventComment for a comment on
	// an issue, not on a pull request (Number is 0 then).
	Ticket    int    `json:"ticket,omitempty"`
	Branch    string `json:"branch,omitempty"` // EventPush, EventMergeGroup
	Before    string `json:"before,omitempty"` // EventPush, EventMergeGroup
	After     string `json:"after,omitempty"`  // EventPush, EventMergeGroup, EventRerun
	Check     string `json:"check,omitempty"`  // EventRerun: the status's context; empty for all of them
	Sender    string `json:"sender,omitempty"`
	CommentID int64  `json:"comment_id,omitempty"`
	Comment   string `json:"comment,omitempty"`
	// CommentedAt is when the comment was made, by the host's clock and to the
	// second at worst; zero where the host does not say.
	CommentedAt time.Time `json:"commented_at,omitzero"`
}

// Permission is what a user may do in a repository.
type Permission string

// The permissions, from the least.
const (
	PermissionNone  Permission = "none"
	PermissionRead  Permission = "read"
	PermissionWrite Permission = "write"
	PermissionAdmin Permission = "admin"
)

// CanWrite reports whether p includes writing.
func (p Permission) CanWrite() bool { return p == PermissionWrite || p == PermissionAdmin }

// Errors of all hosts.
var (
	// ErrNotFound: no such repository, pull request or comment, or the token
	// may not see it.
	ErrNotFound = errors.New("vcs: not found")
	// ErrSignature: a webhook without a valid signature.
	ErrSignature = errors.New("vcs: webhook signature is missing or wrong")
	// ErrIgnored: a valid webhook that says nothing of use.
	ErrIgnored = errors.New("vcs: webhook ignored")
	// ErrNotServed: an event of a repository that Holdfast does not work for.
	ErrNotServed = errors.New("vcs: repository is not served")
	// ErrDenied: the host refuses the token.
	ErrDenied = errors.New("vcs: access denied")
)

// RateLimitError says when a host will answer again.
type RateLimitError struct {
	RetryAt time.Time // zero where the host did not say
}

// Error says until when.
func (e *RateLimitError) Error() string {
	if e.RetryAt.IsZero() {
		return "vcs: rate limited"
	}
	return "vcs: rate limited until " + e.RetryAt.UTC().Format(time.RFC3339)
}

// Host is a server of repositories. Safe for concurrent use. Every method may
// return ErrNotFound, ErrDenied, a *RateLimitError, or an error that a retry
// may heal.
type Host interface {
	// Remote returns how to reach the repository with Git, its default branch
	// included.
	Remote(ctx context.Context, r Repository) (Remote, error)
	// PullRequest returns one pull request as it is now.
	PullRequest(ctx context.Context, r Repository, number int) (PullRequest, error)
	// PullRequests returns the open pull requests, and those that were closed
	// or merged at or after since; all pages of them.
	PullRequests(ctx context.Context, r Repository, since time.Time) ([]PullRequest, error)
	// Permission returns what user may do, asked at this moment. An unknown
	// user has PermissionNone and no error.
	Permission(ctx context.Context, r Repository, user string) (Permission, error)
}

// Webhooks is a host that tells of events.
type Webhooks interface {
	// ParseWebhook verifies the signature over body, in constant time and
	// before anything is parsed, and returns the event. Returns ErrSignature,
	// ErrIgnored (wrapped with the reason), or an error for a signed body that
	// is not what the host sends.
	ParseWebhook(header http.Header, body []byte) (Event, error)
}

// Comment is a comment on a pull request, or on a ticket.
type Comment struct {
	ID        int64
	Number    int // the pull request's, or the ticket's
	Author    string
	Body      string
	CreatedAt time.Time
}

// Comments is a host with comments on pull requests.
type Comments interface {
	// Comments returns all of them, oldest first.
	Comments(ctx context.Context, r Repository, number int) ([]Comment, error)
	// CommentsSince returns those that were created at or after since, on any
	// pull request of the repository, oldest first; all pages of them. Edited
	// ones count by their creation.
	CommentsSince(ctx context.Context, r Repository, since time.Time) ([]Comment, error)
	CreateComment(ctx context.Context, r Repository, number int, body string) (Comment, error)
	// EditComment returns ErrNotFound where somebody deleted it.
	EditComment(ctx context.Context, r Repository, number int, id int64, body string) error
	// MaxComment is the longest body that the host takes, in bytes.
	MaxComment() int
	// Self is the name that this host's token comments under.
	Self(ctx context.Context) (string, error)
}

// StatusState is a commit status's state.
type StatusState string

// The states of a commit status.
const (
	StatusPending StatusState = "pending"
	StatusSuccess StatusState = "success"
	StatusFailure StatusState = "failure"
	StatusError   StatusState = "error"
)

// Status is a commit status: one line beside a commit.
type Status struct {
	Context     string // "holdfast" or "holdfast/WORKSPACE"
	State       StatusState
	Description string // cut by the host adapter to what the host takes
	URL         string
	// Details is Markdown and Annotations are remarks on lines of the commit's
	// files, for hosts that show more than a line beside a commit; others leave
	// them out. Cut by the host adapter likewise.
	Details     string
	Annotations []Annotation
}

// Annotation is a remark on one line of a commit's file.
type Annotation struct {
	Path    string // in the repository, with slashes
	Line    int    // from 1
	Title   string // one line
	Message string // plain text
}

// Statuses is a host with commit statuses.
type Statuses interface {
	// SetStatus sets the status of that context on a commit, replacing the
	// former one.
	SetStatus(ctx context.Context, r Repository, sha string, s Status) error
}

// ReviewState is what a review says.
type ReviewState string

// The states of a review. Comments without a verdict are not returned.
const (
	Approved         ReviewState = "approved"
	ChangesRequested ReviewState = "changes_requested"
)

// Review is a reviewer's verdict.
type Review struct {
	Author    string
	State     ReviewState
	Stale     bool // given before the latest push
	Dismissed bool
	At        time.Time
}

// Reviews is a host with reviews.
type Reviews interface {
	// Reviews returns all verdicts, oldest first; the last one of an author
	// counts.
	Reviews(ctx context.Context, r Repository, number int) ([]Review, error)
	// Mergeable reports whether the pull request could be merged now: it is
	// open, no draft, and has no conflict with its base. A host that is still
	// looking for conflicts, as after each push to the head or to the base,
	// says no. Rules of the branch (approvals, checks, who may merge) are not
	// part of it: Merge may be refused for them all the same.
	Mergeable(ctx context.Context, r Repository, number int) (bool, error)
}

// Merger is a host that merges pull requests when asked to.
type Merger interface {
	// Merge merges the pull request if its head is still sha. Method is
	// "merge", "squash" or "rebase". One that was merged with that head already
	// is a success. Returns a *NotMergedError where the host refuses.
	Merge(ctx context.Context, r Repository, number int, sha, method string) error
}

// NewPull is a pull request to be opened, from one branch of a repository to
// another one of the same.
type NewPull struct {
	Branch string // pushed before
	Base   string
	Title  string // one line; cut by the host adapter to what the host takes. Defaults to Branch
	Body   string // Markdown; cut likewise
}

// Opener is a host on which pull requests can be opened.
type Opener interface {
	// OpenPull opens a pull request and returns it. Where one from that branch
	// to that base is open already it returns that one, with the title and
	// body that it has: asking twice, or at the same time, is safe. Returns
	// ErrNotFound where the host does not know a branch, which for one that
	// was just pushed a retry may heal, and an error where branch and base are
	// the same.
	OpenPull(ctx context.Context, r Repository, p NewPull) (PullRequest, error)
}

// NotMergedError says why a host did not merge a pull request.
type NotMergedError struct {
	Reason string // for people, in one line
	Advice string // what to do about it; may be empty
	// Again is set where the same call may succeed in a moment: the host was
	// still looking for conflicts, or the base moved meanwhile.
	Again bool
	Err   error // what the host answered; may be nil
}

// Error says why.
func (e *NotMergedError) Error() string { return "not merged: " + e.Reason }

// Hint says what to do.
func (e *NotMergedError) Hint() string { return e.Advice }

// Unwrap returns what the host answered.
func (e *NotMergedError) Unwrap() error { return e.Err }

// Notes is a host that keeps a report beside a commit where there is no
// comment to edit (plain Git: refs/notes/holdfast).
type Notes interface {
	// SetNote replaces the note of a commit.
	SetNote(ctx context.Context, r Repository, sha, text string) error
}

// PayloadError is a signed request whose content is not what it has to be.
type PayloadError struct{ Problem string }

// Error says what is wrong.
func (e *PayloadError) Error() string { return "the request is not understood: " + e.Problem }
