// Package watch has what a drift check asks others, and tells them: who changed
// something in the cloud, and messages to people. It is a leaf.
package watch

import (
	"context"
	"time"
)

// Question asks who changed resources.
type Question struct {
	Repository string     `json:"repository"`
	Workspace  string     `json:"workspace"`
	Resources  []Resource `json:"resources"`
	Since      time.Time  `json:"since"` // the change was made after this,
	Until      time.Time  `json:"until"` // and before this
}

// Resource is one that is not as the configuration says.
type Resource struct {
	Address    string   `json:"address"`
	Type       string   `json:"type"`            // "aws_security_group"
	Provider   string   `json:"provider"`        // "registry.terraform.io/hashicorp/aws"
	ID         string   `json:"id,omitempty"`    // the cloud's own id or name, as the state has it
	Names      []string `json:"names,omitempty"` // further names it may go by: name, ARN, bucket
	Change     string   `json:"change"`          // "changed", "deleted" or "created"
	Attributes []string `json:"attributes,omitempty"`
}

// Answer is one call that somebody made.
type Answer struct {
	Address string    `json:"address"`
	Actor   string    `json:"actor"` // a user, or a role's session
	Call    string    `json:"call"`  // "ec2:AuthorizeSecurityGroupIngress"
	At      time.Time `json:"at"`
	Source  string    `json:"source"` // where it was made: address, console, tool
	URL     string    `json:"url,omitempty"`
}

// Attributor finds out who changed something in the cloud. An answer of nothing
// is no error. With an error there may be answers too: what was found before it.
// Asking again changes nothing. Safe for concurrent use.
type Attributor interface {
	Attribute(ctx context.Context, q Question) ([]Answer, error)
}

// Message is for people: a title of one line, and text in plain sentences with
// links.
type Message struct {
	ID     string  `json:"id"` // the same on every attempt
	Title  string  `json:"title"`
	Text   string  `json:"text"` // lines
	Link   string  `json:"link,omitempty"`
	Events []Event `json:"events"` // what it is about, for machines
}

// Event is one thing that happened to a workspace.
type Event struct {
	Kind       string    `json:"kind"` // drift, corrected, contested, failed, held, in_sync, proposed
	Repository string    `json:"repository,omitempty"`
	Workspace  string    `json:"workspace,omitempty"`
	Class      string    `json:"class,omitempty"`
	At         time.Time `json:"at,omitzero"`
	Summary    string    `json:"summary,omitempty"`
	Resources  []string  `json:"resources,omitempty"`
	Who        []string  `json:"who,omitempty"`
	Ticket     string    `json:"ticket,omitempty"`
	Run        string    `json:"run,omitempty"`
}

// Notifier delivers messages to one place. An error is retried by the caller,
// with the same Message.ID; a *PermanentError is not, and a *RetryError says how
// long to wait. A message may arrive twice where an answer was lost. Safe for
// concurrent use.
type Notifier interface {
	Notify(ctx context.Context, m Message) error
}

// PermanentError is a delivery that fails however often it is tried, until a
// person changes something.
type PermanentError struct {
	Err    error
	Advice string // what to change; may be empty
}

// Error returns the cause's words.
func (e *PermanentError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *PermanentError) Unwrap() error { return e.Err }

// Hint says what to change.
func (e *PermanentError) Hint() string { return e.Advice }

// RetryError is a delivery that the receiver put off.
type RetryError struct {
	After time.Duration // how long to wait before the next attempt; never negative
	Err   error
}

// Error returns the cause's words.
func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RetryError) Unwrap() error { return e.Err }
