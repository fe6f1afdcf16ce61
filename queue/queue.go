// Package queue keeps every piece of work until it is finished, so that a
// killed process, a failing host or a busy workspace delays work and never
// drops it.
//
// Delivery is at least once. A claim is a lease with a fencing token: a Worker
// renews it with heartbeats, and a job whose lease ran out is claimed again
// with the next Attempt. A backend implements Driver; Queue and Worker hold
// validation, retry times, heartbeats and cancellation once for all backends.
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// Priority orders the jobs that are ready. Higher runs first; a job that has
// waited past its OverdueAt runs before all of them, so that none starves.
type Priority int

// The priorities of the design, from the most patient to the most urgent.
const (
	PriorityDrift       Priority = 10 // scheduled checks
	PriorityReplan      Priority = 20 // plans made stale by an apply
	PriorityInteractive Priority = 30 // what somebody waits for: plans of pull requests
	PriorityPrompt      Priority = 35 // what takes a moment and must not wait behind hundreds of plans: events, reports
	PriorityApply       Priority = 40 // what was merged
)

// State is where an unfinished job stands. Finished jobs are deleted.
type State string

// The states of a job.
const (
	StateWaiting State = "waiting" // to be claimed at RunAt or later
	StateRunning State = "running" // claimed, until LeaseEnd
	StateDead    State = "dead"    // out of attempts or discarded; kept until somebody retries or cancels it
)

// Job is a unit of work. A caller of Queue.Enqueue sets the first block of
// fields; the queue and its driver own the second.
type Job struct {
	// Kind selects the Handler. Required.
	Kind string `json:"kind"`
	// Group runs one job at a time: the first by priority, then by arrival,
	// among those that are due. Empty means that nothing is serialised.
	Group string `json:"group,omitempty"`
	// Key deduplicates unfinished jobs: enqueuing a Key that is waiting,
	// running or dead returns that job instead of adding one, and a waiting
	// one takes the earlier RunAt and the higher Priority of the two; the
	// Payload stays. A dead one is put back to waiting, from attempt 1. One that
	// is running and was cancelled runs once more, as with Again. Empty means
	// no deduplication.
	Key string `json:"key,omitempty"`
	// Again asks that enqueuing a Key whose job is running makes that job run
	// once more when it finishes, for handlers that read what changed
	// meanwhile (reports). A retry of that job is that once more.
	Again bool `json:"again,omitempty"`
	// Limit names a bucket (a repository) of which only so many jobs run at
	// once; see Claim.PerLimit. Empty means unlimited. The jobs of one Group
	// should be of one bucket: one whose bucket is full holds up its group.
	Limit string `json:"limit,omitempty"`
	// RunsOn are the labels that a worker must have to be given the job, sorted;
	// none means any worker. The jobs of one Group should need the same: one
	// that no worker may take holds up its group. Enqueuing a Key again takes
	// the newer RunsOn; for a job that is running only with Again, and from its
	// next attempt on.
	RunsOn []string `json:"runs_on,omitempty"`
	// Priority defaults to PriorityInteractive.
	Priority Priority `json:"priority"`
	// RunAt is when the job may start at the earliest. Defaults to now.
	RunAt time.Time `json:"run_at"`
	// Payload is the handler's input, at most MaxPayload bytes.
	Payload json.RawMessage `json:"payload,omitempty"`

	ID         string    `json:"id"`          // unique, sorts by time of enqueuing (ULID)
	State      State     `json:"state"`       //
	EnqueuedAt time.Time `json:"enqueued_at"` //
	OverdueAt  time.Time `json:"overdue_at"`  // from then on it goes before every priority; moves with RunAt
	Attempt    int       `json:"attempt"`     // 1 in the first execution; a Snooze does not count
	Token      int64     `json:"token"`       // fencing token of the latest claim; grows over the whole queue
	Worker     string    `json:"worker,omitempty"`
	LeaseEnd   time.Time `json:"lease_end,omitzero"`
	Canceled   bool      `json:"canceled,omitempty"` // somebody asked a running job to stop
	LastError  string    `json:"last_error,omitempty"`
}

// MaxPayload is the largest Payload in bytes. A job names its input; the
// input itself belongs in the store.
const MaxPayload = 1 << 20

// Errors that drivers and Queue return.
var (
	// ErrNotFound says that no unfinished job has that ID.
	ErrNotFound = errors.New("queue: no such job")
	// ErrLost says that a claim is no longer the job's latest: its lease ran
	// out and somebody else claimed the job, or it is gone.
	ErrLost = errors.New("queue: claim lost")
)

// Causes with which a Worker cancels a handler's context; see context.Cause.
var (
	// ErrCanceled: Queue.Cancel was called for the running job.
	ErrCanceled = errors.New("job canceled")
	// ErrShutdown: the process stops and its grace time is over. The job goes
	// back to the queue without counting the attempt.
	ErrShutdown = errors.New("shutting down")
)

// Claim asks for jobs to run.
type Claim struct {
	Worker string        // who asks; shown in listings
	Lease  time.Duration // how long the claim lasts without a heartbeat
	Max    int           // at most this many jobs
	// PerLimit caps the running jobs of one Job.Limit over all workers.
	// 0 means no cap.
	PerLimit int
	// Limits are the caps of those Job.Limits that have one of their own, in
	// place of PerLimit.
	Limits map[string]int
	// Labels are what the worker may be chosen by; see Job.RunsOn.
	Labels []string
	// Dedicated leaves the jobs to others that any worker may have.
	Dedicated bool
}

// Pool is one word for j.RunsOn, for a backend's indexes: the jobs of a pool
// are for the same workers. The pool of jobs for any worker is "".
func (j Job) Pool() string { return strings.Join(j.RunsOn, ",") }

// Labels is the inverse of Job.Pool.
func Labels(pool string) []string {
	if pool == "" {
		return nil
	}
	return strings.Split(pool, ",")
}

// Serves reports whether a worker with c.Labels may have jobs of a pool.
func (c Claim) Serves(pool string) bool {
	if pool == "" {
		return !c.Dedicated
	}
	for _, label := range Labels(pool) {
		if !slices.Contains(c.Labels, label) {
			return false
		}
	}
	return true
}

// Cap returns how many jobs of a Job.Limit may run at once; 0 means no cap.
func (c Claim) Cap(limit string) int {
	if most, ok := c.Limits[limit]; ok {
		return most
	}
	return c.PerLimit
}

// Ref names one claim of one job.
type Ref struct {
	ID    string
	Token int64
}

// Ref returns the claim that j was delivered with.
func (j Job) Ref() Ref { return Ref{ID: j.ID, Token: j.Token} }

// Beat is the answer to one heartbeat.
type Beat struct {
	Ref      Ref
	Lost     bool // the claim is gone: stop, and record nothing
	Canceled bool // somebody asked the job to stop
}

// Outcome is how an attempt ended.
type Outcome struct {
	// Done deletes the job, unless it was enqueued Again meanwhile: then it
	// waits once more, as new, from now on.
	Done bool
	// Dead keeps the job for a person to see, with the same exception. Ignored
	// when Done.
	Dead bool
	// RunAt is when a job that is neither done nor dead runs next; a time that
	// has passed is now.
	RunAt time.Time
	// Uncounted gives the attempt back (Snooze, shutdown).
	Uncounted bool
	// Error is kept as the job's LastError.
	Error string
}

// Action is what a person does to a job.
type Action string

// The actions of Driver.Control.
const (
	// ActionCancel deletes a waiting or dead job at once and marks a running
	// one Canceled, which its worker learns with the next heartbeat. The mark
	// stays when the job is given back or its lease ends, so that the next
	// attempt learns it, until the job ends or is retried or enqueued again.
	ActionCancel Action = "cancel"
	// ActionRetry makes a dead or waiting job due now, from attempt 1; it
	// leaves a running one alone.
	ActionRetry Action = "retry"
)

// Filter selects jobs. Zero fields match everything.
type Filter struct {
	State State
	Kind  string
	Group string
	Key   string
	Limit int // at most this many jobs; defaults to 1,000
}

// Count is how many unfinished jobs of a Kind are in a State.
type Count struct {
	Kind  string
	State State
	N     int
}

// Driver is what a backend implements. Each method is one atomic step, safe
// for concurrent use from many processes, and durable when it returns.
// Times are compared with the now that is passed in, never with a clock of
// the backend. Errors other than those named are the backend's own and may be
// retried.
type Driver interface {
	// Enqueue stores jobs, all or none, and returns them as stored: for a job
	// whose Key is already there, the existing one (see Job.Key). Jobs come
	// complete from Queue: ID, Priority, RunAt, EnqueuedAt and OverdueAt set.
	Enqueue(ctx context.Context, now time.Time, jobs []Job) ([]Job, error)
	// Claim takes up to c.Max due jobs, each the head of its group with no
	// other of that group running, none whose Limit bucket is full, and none
	// of a pool that c does not serve: such a job holds up its group, and
	// nothing else.
	// Running jobs whose lease has ended count as due, for workers that their
	// pool is for; they keep their place
	// in group and bucket until they are claimed again or finished. Each
	// claimed job gets a fresh Token and Attempt+1. They are returned in the
	// order in which they were taken: overdue ones by OverdueAt, then by
	// priority, then by arrival. No job to run is an empty slice.
	Claim(ctx context.Context, now time.Time, c Claim) ([]Job, error)
	// Heartbeat extends the leases of refs to now+lease and answers for each
	// in order. A claim whose lease has ended but which nobody took since is
	// extended as well.
	Heartbeat(ctx context.Context, now time.Time, refs []Ref, lease time.Duration) ([]Beat, error)
	// Finish ends a claim with o. Returns ErrLost where ref is not the job's
	// latest claim; nothing is changed then.
	Finish(ctx context.Context, now time.Time, ref Ref, o Outcome) error
	// Control does a to the job and returns it as it is afterwards (as it was,
	// where it was deleted). Returns ErrNotFound.
	Control(ctx context.Context, now time.Time, id string, a Action) (Job, error)
	// List returns unfinished jobs, oldest first.
	List(ctx context.Context, f Filter) ([]Job, error)
	// Wake returns a channel that receives after jobs may have become
	// claimable, also by other processes as far as the backend can tell. A
	// signal may be missed or superfluous: workers poll behind it. The channel
	// is never closed; ctx ends the subscription.
	Wake(ctx context.Context) <-chan struct{}
}
