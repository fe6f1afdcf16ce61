package queue

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
)

// Limits of what Enqueue takes, beside MaxPayload.
const (
	// MaxName is the longest Kind, Group, Key and Limit in bytes.
	MaxName = 1024
	// MaxPriority is the highest Priority; the lowest is 1.
	MaxPriority Priority = 1000
	// MaxWait is how far ahead RunAt may be.
	MaxWait = 10 * 365 * 24 * time.Hour
)

// Config sets up a Queue.
type Config struct {
	// Clock tells the time for everything that the queue stores and compares.
	// Defaults to time.Now.
	Clock func() time.Time
	// Patience is how long after its RunAt a job of a Priority goes before all
	// others. A priority that is not named has the patience of the next lower
	// one that is. Defaults to 10 minutes for PriorityInteractive and above, 30
	// minutes for PriorityReplan and 2 hours for all below.
	Patience map[Priority]time.Duration
}

// WithDefaults returns c with its defaults filled in.
func (c Config) WithDefaults() Config {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	patience := map[Priority]time.Duration{
		0:                   2 * time.Hour,
		PriorityReplan:      30 * time.Minute,
		PriorityInteractive: 10 * time.Minute,
	}
	maps.Copy(patience, c.Patience)
	c.Patience = patience
	return c
}

// Queue is the queue as the rest of Holdfast uses it. Safe for concurrent use.
type Queue struct {
	driver Driver
	config Config

	mu      sync.Mutex
	entropy io.Reader // makes the IDs of one millisecond sort as they were made
}

// New returns the queue that d stores.
func New(d Driver, c Config) *Queue {
	return &Queue{driver: d, config: c.WithDefaults(), entropy: ulid.Monotonic(rand.Reader, 0)}
}

// Enqueue stores jobs, all or none; when it returns they are durable. It
// returns them as stored: for a Key that is there already, the existing job.
//
// A job that breaks a limit is an error of the caller and nothing is stored.
// Other errors are the store's; the same call may be repeated after them, and
// repeats no job that has a Key.
func (q *Queue) Enqueue(ctx context.Context, jobs ...Job) ([]Job, error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	now := q.config.Clock()
	complete := make([]Job, len(jobs))
	for i, j := range jobs {
		var err error
		if complete[i], err = q.complete(now, j); err != nil {
			return nil, fmt.Errorf("enqueue job of kind %q: %w", j.Kind, err)
		}
	}
	stored, err := q.driver.Enqueue(ctx, now, complete)
	if err != nil {
		return nil, fmt.Errorf("enqueue: %w", err)
	}
	return stored, nil
}

// complete checks what a caller sets of a job and sets the rest.
func (q *Queue) complete(now time.Time, j Job) (Job, error) {
	j.Priority = cmp.Or(j.Priority, PriorityInteractive)
	if j.RunAt.IsZero() {
		j.RunAt = now
	}
	if err := validate(now, j); err != nil {
		return Job{}, err
	}
	id, err := q.newID(now)
	if err != nil {
		return Job{}, err
	}
	return Job{
		Kind: j.Kind, Group: j.Group, Key: j.Key, Again: j.Again, Limit: j.Limit, RunsOn: sorted(j.RunsOn), Priority: j.Priority, RunAt: j.RunAt, Payload: j.Payload,
		ID: id, State: StateWaiting, EnqueuedAt: now, OverdueAt: j.RunAt.Add(q.patience(j.Priority)),
	}, nil
}

func validate(now time.Time, j Job) error {
	if j.Kind == "" {
		return errors.New("it has no Kind")
	}
	for _, f := range []struct{ name, value string }{{"Kind", j.Kind}, {"Group", j.Group}, {"Key", j.Key}, {"Limit", j.Limit}} {
		switch {
		case len(f.value) > MaxName:
			return fmt.Errorf("its %s has %d bytes, more than %d", f.name, len(f.value), MaxName)
		case !utf8.ValidString(f.value):
			return fmt.Errorf("its %s is not UTF-8: %q", f.name, f.value)
		}
	}
	if err := CheckLabels(j.RunsOn); err != nil {
		return fmt.Errorf("its RunsOn: %w", err)
	}
	switch {
	case len(j.Payload) > MaxPayload:
		return fmt.Errorf("its Payload has %d bytes, more than %d: put the input into the store and name it", len(j.Payload), MaxPayload)
	case len(j.Payload) > 0 && !json.Valid(j.Payload):
		return errors.New("its Payload is not JSON")
	case j.Priority < 1 || j.Priority > MaxPriority:
		return fmt.Errorf("its Priority is %d, not from 1 to %d", j.Priority, MaxPriority)
	case j.RunAt.After(now.Add(MaxWait)):
		return fmt.Errorf("its RunAt is %s, more than ten years ahead", j.RunAt.Format(time.RFC3339))
	}
	return nil
}

// label is what a label of a worker looks like.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

// MaxLabels is how many labels a worker has, and a job asks for, at most.
const MaxLabels = 16

// CheckLabels reports what is wrong with labels of a worker or a job.
func CheckLabels(labels []string) error {
	if len(labels) > MaxLabels {
		return fmt.Errorf("%d labels are more than %d", len(labels), MaxLabels)
	}
	for _, l := range labels {
		if !label.MatchString(l) {
			return fmt.Errorf("%q is no label: lower-case letters, digits, and . _ - between them, 63 at most", l)
		}
	}
	return nil
}

// sorted returns labels in order, each once.
func sorted(labels []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(labels)))
}

// patience returns how long a job of priority p waits until it is overdue.
func (q *Queue) patience(p Priority) time.Duration {
	best := Priority(0)
	for named := range q.config.Patience {
		if named <= p {
			best = max(best, named)
		}
	}
	return q.config.Patience[best]
}

func (q *Queue) newID(now time.Time) (string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	id, err := ulid.New(ulid.Timestamp(now), q.entropy)
	if err != nil {
		return "", fmt.Errorf("make its ID: %w", err)
	}
	return id.String(), nil
}

// Cancel deletes a waiting or dead job, and asks a running one to stop: its
// handler's context is cancelled with ErrCanceled at the next heartbeat. It
// returns the job as it is afterwards (as it was, where it was deleted), or
// ErrNotFound.
func (q *Queue) Cancel(ctx context.Context, id string) (Job, error) {
	return q.driver.Control(ctx, q.config.Clock(), id, ActionCancel)
}

// Retry makes a dead or waiting job due now, from its first attempt; it leaves
// a running one alone. It returns the job, or ErrNotFound.
func (q *Queue) Retry(ctx context.Context, id string) (Job, error) {
	return q.driver.Control(ctx, q.config.Clock(), id, ActionRetry)
}

// List returns unfinished jobs, oldest first.
func (q *Queue) List(ctx context.Context, f Filter) ([]Job, error) {
	return q.driver.List(ctx, f)
}

// cut shortens s to at most n bytes, at the edge of a character, and replaces
// what is not UTF-8.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	const mark = " …"
	end := n - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}
