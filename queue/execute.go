package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// execution is one attempt of one job in this process.
type execution struct {
	job    Job
	ctx    context.Context // the handler's
	cancel context.CancelCauseFunc
	// expiry cancels with ErrLost when the lease ends without a heartbeat.
	expiry *time.Timer
	// leaseEnd is when that is, by this process's monotonic clock: the store's
	// time may be set, a lease's length is the same. Guarded by Worker.mu.
	leaseEnd time.Time
	// endures is set by Endure. Guarded by Worker.mu.
	endures bool
	worker  *Worker
}

type executionKey struct{}

// Endure tells the worker that ctx, a handler's context, is not to end only
// because the store has not answered for the length of a lease: what the
// handler is about to begin does more harm cut off than going on alone. From
// then on ErrLost comes only from the store's own answer that somebody else has
// the job, and storing the attempt's outcome is tried until the store answers
// or the process stops. It returns ErrLost where the lease has ended already:
// then nothing is to begin. In another context it does nothing.
func Endure(ctx context.Context) error {
	e, ok := ctx.Value(executionKey{}).(*execution)
	if !ok {
		return nil
	}
	e.worker.mu.Lock()
	defer e.worker.mu.Unlock()
	// A process that stood still until now may come here before the timer runs.
	if !e.endures && (!time.Now().Before(e.leaseEnd) || !e.expiry.Stop()) {
		return ErrLost
	}
	e.endures = true
	return nil
}

// begin registers j as running here until leaseEnd.
func (w *Worker) begin(ctx context.Context, j Job, leaseEnd time.Time) *execution {
	e := &execution{job: j, leaseEnd: leaseEnd, worker: w}
	e.ctx, e.cancel = context.WithCancelCause(context.WithValue(ctx, executionKey{}, e))
	e.expiry = time.AfterFunc(time.Until(leaseEnd), func() { e.cancel(ErrLost) })
	if j.Canceled {
		e.cancel(ErrCanceled) // an earlier attempt could not be told
	}
	w.mu.Lock()
	w.running[j.Ref()] = e
	w.mu.Unlock()
	return e
}

// extend notes that the lease lasts until end. Worker.mu is held.
func (e *execution) extend(end time.Time) {
	if e.endures {
		e.leaseEnd = end
		return
	}
	// A timer that has fired stays fired: the handler was told, and stops.
	if e.expiry.Stop() {
		e.leaseEnd = end
		e.expiry.Reset(time.Until(end))
	}
}

// execute runs the attempt and records how it ended.
func (w *Worker) execute(e *execution) {
	began := time.Now()
	err := w.attempt(e)
	took := time.Since(began)
	// From here on the lease is what is left of it: storing the outcome has
	// that long, and nobody else can have the job before.
	w.mu.Lock()
	e.expiry.Stop()
	left, endures := e.leaseEnd, e.endures
	w.mu.Unlock()

	o, record := decide(e.job, ending{
		err: err, cause: context.Cause(e.ctx), now: w.queue.config.Clock(), most: w.attempts(e.job.Kind), random: rand.Float64(),
	})
	if record {
		ctx, cancel := context.WithDeadline(context.WithoutCancel(e.ctx), left)
		if endures {
			cancel()
			ctx, cancel = w.untilStopped(e.ctx)
		}
		record = w.store(ctx, e.job, o)
		cancel()
	}
	e.cancel(nil)
	w.mu.Lock()
	delete(w.running, e.job.Ref())
	w.mu.Unlock()
	w.log(e.job, o, record, took)
	select {
	case w.freed <- struct{}{}:
	default:
	}
}

func (w *Worker) attempts(kind string) int {
	if n, ok := w.config.MaxAttemptsOf[kind]; ok {
		return n
	}
	return w.config.MaxAttempts
}

// attempt calls the handler. A panic in it is an error of this attempt alone.
func (w *Worker) attempt(e *execution) error {
	j := e.job
	if cause := context.Cause(e.ctx); errors.Is(cause, ErrShutdown) || errors.Is(cause, ErrLost) {
		return cause // before it began
	}
	if most := w.attempts(j.Kind); j.Attempt > most && !j.Canceled {
		// The process died in each of them, perhaps by this job.
		return Discard(fmt.Errorf("given up after %d attempts that ended with the process that made them", most))
	}
	handle, ok := w.config.Handlers[j.Kind]
	if !ok {
		// Another version of Holdfast queued it, and one of that version will
		// have it.
		return &snooze{after: unknownKind, why: fmt.Sprintf("%s has no handler for jobs of kind %q: is it older than the others?", w.config.Name, j.Kind)}
	}
	// In a goroutine of its own so that runtime.Goexit, which no recover sees,
	// ends the attempt and not the worker's bookkeeping.
	result := make(chan error, 1)
	go func() {
		err := errors.New("the handler ended its goroutine")
		defer func() {
			if p := recover(); p != nil {
				w.config.Logger.ErrorContext(e.ctx, "a handler panicked", "job", j.ID, "kind", j.Kind, "panic", p, "stack", string(debug.Stack()))
				err = fmt.Errorf("the handler panicked: %v", p)
			}
			result <- err
		}()
		err = handle(e.ctx, j)
	}()
	return <-result
}

// untilStopped returns a context that ends a lease after ctx has, as it does
// when the process stops.
func (w *Worker) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(w.config.Lease, cancel) })
	return out, cancel
}

// store records o, again and again until ctx ends, with the lease: an outcome
// that is not stored means that the job runs once more.
func (w *Worker) store(ctx context.Context, j Job, o Outcome) bool {
	wait := 50 * time.Millisecond
	for {
		err := w.queue.driver.Finish(ctx, w.queue.config.Clock(), j.Ref(), o)
		if err == nil || errors.Is(err, ErrLost) {
			return err == nil
		}
		w.config.Logger.WarnContext(ctx, "record how a job ended", "job", j.ID, "kind", j.Kind, "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			wait = min(2*wait, time.Second)
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// log tells the log and the metrics how an attempt ended.
func (w *Worker) log(j Job, o Outcome, recorded bool, took time.Duration) {
	log := w.config.Logger.With("job", j.ID, "kind", j.Kind, "group", j.Group, "attempt", j.Attempt, "took", took.Round(time.Millisecond))
	switch {
	case !recorded:
		log.Warn("job lost: its lease ended before its outcome was stored")
		w.config.Metrics.Lost(j)
		return
	case o.Done:
		log.Debug("job done")
	case o.Dead:
		log.Error("job dead", "error", o.Error)
	case o.Uncounted:
		log.Debug("job put back", "run_at", o.RunAt)
	default:
		log.Warn("job failed, to be tried again", "error", o.Error, "run_at", o.RunAt)
	}
	w.config.Metrics.Finished(j, o, took)
}
