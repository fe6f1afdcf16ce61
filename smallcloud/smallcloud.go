// Package smallcloud is a cloud small enough to run inside a test: an HTTP
// service that keeps resources, with a page on which a person changes them
// behind Terraform's back. The demo and the end-to-end tests use it through
// its own Terraform provider (package provider), so that nothing is downloaded
// and nothing is paid for.
//
// What a real cloud does to a Terraform runner, this one does on request: it
// takes its time ("delay"), refuses ("fail"), changes computed values by
// itself ("churn"), and makes a second resource when it is asked twice. A
// creation that has begun is finished even when the client is gone, as a real
// cloud would.
package smallcloud

import (
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Resource is one thing in the cloud.
type Resource struct {
	ID   string `json:"id"` // fresh for each creation
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Attributes are strings, or maps of strings (tags). Three of them direct
	// the cloud itself: "delay" (a Go duration that a creation or update
	// takes), "fail" (the operation that is refused: create, read, update or
	// delete) and "churn" ("true": the etag changes with every read).
	Attributes map[string]any `json:"attributes"`
	// ETag is computed; it changes with the content, and see "churn".
	ETag string `json:"etag"`
	// Address is computed from the ID and never changes.
	Address   string    `json:"address"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Op is what was done.
type Op string

// The operations of the journal.
const (
	OpCreating Op = "creating" // a delayed creation has begun
	OpCreate   Op = "create"   // a resource was made
	OpRead     Op = "read"
	OpUpdate   Op = "update"
	OpDelete   Op = "delete"
)

// Entry is a line of the journal.
type Entry struct {
	At   time.Time `json:"at"`
	Op   Op        `json:"op"`
	Kind string    `json:"kind,omitempty"`
	ID   string    `json:"id,omitempty"` // empty where nothing was made
	Name string    `json:"name,omitempty"`
	// ByHand is set for changes that went around Terraform: by the page, by a
	// PATCH of the API, by Set or by Delete.
	ByHand bool `json:"by_hand,omitempty"`
	// Error says why the operation was refused.
	Error string `json:"error,omitempty"`
	// Resource is the resource after a creation or update.
	Resource *Resource `json:"resource,omitempty"`
}

// Options say how a Cloud behaves.
type Options struct {
	// File keeps the cloud over restarts, as JSON lines: every Entry but
	// reads. It is created where it is missing. Defaults to memory only.
	File string
	// Delay is how long a creation takes that has no "delay" attribute.
	// Defaults to none.
	Delay time.Duration
	// Churn lets the etag of every resource change with every read.
	Churn bool
	// MaxJournal bounds the entries that are kept in memory; the oldest go.
	// Defaults to 10,000.
	MaxJournal int
	// Now defaults to time.Now.
	Now func() time.Time
}

// WithDefaults returns o with its defaults filled in.
func (o Options) WithDefaults() Options {
	if o.MaxJournal <= 0 {
		o.MaxJournal = 10_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Errors of the cloud's operations.
var (
	// ErrNotFound: no resource has that ID.
	ErrNotFound = errors.New("no such resource")
	// ErrInvalid: the request says something that cannot be.
	ErrInvalid = errors.New("invalid request")
	// ErrRefused: the resource's "fail" attribute names this operation.
	ErrRefused = errors.New("refused")
	// ErrClosed: the cloud was closed.
	ErrClosed = errors.New("the cloud is closed")
)

// MaxDelay is the longest "delay".
const MaxDelay = 10 * time.Minute

// Cloud is the service. Its zero value is not usable; see New. Safe for
// concurrent use.
type Cloud struct {
	options  Options
	handler  http.Handler
	template *template.Template // of the page

	mu        sync.Mutex
	resources map[string]Resource
	journal   []Entry
	reads     int // makes churning etags differ
	file      *os.File
	closed    bool
}

var _ http.Handler = (*Cloud)(nil)

// New opens a cloud; with Options.File, the one that was kept there.
func New(o Options) (*Cloud, error) {
	c := &Cloud{options: o.WithDefaults(), template: parsePage(), resources: map[string]Resource{}}
	if o.File != "" {
		if err := c.load(o.File); err != nil {
			return nil, fmt.Errorf("open cloud file %s: %w", o.File, err)
		}
	}
	c.handler = c.routes()
	return c, nil
}

// Close ends the cloud. Creations that are still delayed come to nothing.
func (c *Cloud) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file = nil
	return err
}

// ServeHTTP serves the API and the page.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.handler.ServeHTTP(w, r) }

// checkSpec reports what is wrong with a resource that somebody asks for.
func checkSpec(kind, name string, attributes map[string]any) error {
	for what, s := range map[string]string{"kind": kind, "name": name} {
		if s == "" || len(s) > 200 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("%w: %s must have 1 to 200 printable characters", ErrInvalid, what)
		}
	}
	_, err := delayOf(attributes, 0)
	return err
}

// delayOf returns what the attribute "delay" asks for, else the fallback.
func delayOf(attributes map[string]any, fallback time.Duration) (time.Duration, error) {
	v, ok := attributes["delay"]
	if !ok || v == nil || v == "" {
		return fallback, nil
	}
	s, _ := v.(string)
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > MaxDelay {
		return 0, fmt.Errorf("%w: delay %q is not a duration between 0 and %s, such as \"3s\"", ErrInvalid, fmt.Sprint(v), MaxDelay)
	}
	return d, nil
}
