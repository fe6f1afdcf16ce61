package queue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Handler does a job. It is called at least once per job, never for two jobs
// of one Group at the same time, and must be done with everything when it
// returns.
//
// Its context is cancelled when the attempt has to stop; context.Cause says
// why: ErrCanceled (record that it was cancelled), ErrShutdown (leave it for
// another attempt) or ErrLost (somebody else has the job: record nothing). A
// job that was cancelled before it began is called with a context that has
// ended, so that the handler can record it.
//
// What it returns decides what becomes of the job:
//
//	nil           it is done
//	Snooze(d)     it runs again in d; the attempt does not count
//	Discard(err)  it is dead: no further attempt would help
//	else          it runs again after a while, and is dead when attempts run out
//
// After ErrCanceled the job is done whatever is returned, but for a Snooze: a
// handler that may not leave things as they are (an engine goes on applying)
// keeps its job with it, which stays cancelled until it is enqueued again.
// After ErrShutdown it goes back to the queue, uncounted, unless it was done.
type Handler func(ctx context.Context, j Job) error

// snooze is what Snooze returns.
type snooze struct {
	after time.Duration
	why   string // for people, where it is no matter of course
}

func (s *snooze) Error() string { return fmt.Sprintf("snoozed for %s", s.after) }

// Snooze returns an error with which a Handler asks to be called again in d,
// without counting the attempt.
func Snooze(d time.Duration) error { return &snooze{after: max(0, d)} }

// IsSnooze reports whether err asks for a Snooze.
func IsSnooze(err error) bool {
	var s *snooze
	return errors.As(err, &s)
}

// SnoozeOf returns how long err asks to wait; false where it asks for no Snooze.
func SnoozeOf(err error) (time.Duration, bool) {
	s, ok := errors.AsType[*snooze](err)
	if !ok {
		return 0, false
	}
	return s.after, true
}

// discard is what Discard returns.
type discard struct{ err error }

func (d *discard) Error() string { return d.err.Error() }
func (d *discard) Unwrap() error { return d.err }

// Discard returns an error with which a Handler says that no further attempt
// would help: the job becomes dead, with err for a person to see. Discard(nil)
// is nil.
func Discard(err error) error {
	if err == nil {
		return nil
	}
	return &discard{err: err}
}

// Times between the attempts of a job whose handler fails: firstRetry, then
// twice as long each time, up to lastRetry.
const (
	firstRetry = time.Second
	lastRetry  = 10 * time.Minute
)

// unknownKind is how long a job waits whose kind a worker does not know.
const unknownKind = 15 * time.Second

// maxError is the longest LastError in bytes.
const maxError = 4 << 10

// backoff returns how long to wait after the attempt-th attempt failed. random
// is in [0, 1) and spreads the jobs that failed together by a quarter to either
// side.
func backoff(attempt int, random float64) time.Duration {
	d := lastRetry
	if shift := attempt - 1; shift < 20 {
		d = min(lastRetry, firstRetry<<max(0, shift))
	}
	return time.Duration(float64(d) * (0.75 + random/2))
}

// ending is how a handler's call ended.
type ending struct {
	err    error // what it returned
	cause  error // why its context was cancelled, nil if it was not
	now    time.Time
	most   int     // attempts
	random float64 // for backoff
}

// decide returns what to record for an attempt; record is false where the
// claim is somebody else's and nothing may be.
func decide(j Job, e ending) (o Outcome, record bool) {
	var snoozed *snooze
	var discarded *discard
	switch {
	case errors.Is(e.cause, ErrLost):
		return Outcome{}, false
	case e.err == nil, errors.Is(e.cause, ErrCanceled) && !IsSnooze(e.err):
		return Outcome{Done: true}, true
	case errors.As(e.err, &discarded):
		return Outcome{Dead: true, Error: cut(e.err.Error(), maxError)}, true
	case errors.As(e.err, &snoozed):
		return Outcome{RunAt: e.now.Add(snoozed.after), Uncounted: true, Error: snoozed.why}, true
	case errors.Is(e.cause, ErrShutdown):
		return Outcome{RunAt: e.now, Uncounted: true, Error: j.LastError}, true
	case j.Attempt >= e.most:
		return Outcome{Dead: true, Error: cut(e.err.Error(), maxError)}, true
	}
	return Outcome{RunAt: e.now.Add(backoff(j.Attempt, e.random)), Error: cut(e.err.Error(), maxError)}, true
}
