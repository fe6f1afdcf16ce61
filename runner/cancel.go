package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/queue"
	"holdfast/runner/shim"
	"holdfast/store"
)

// canceledByPerson is the end of a run that a person canceled before its engine
// began to apply.
var canceledByPerson = verdict{store.Canceled, "canceled by a person"}

// isCanceled reports whether a person canceled the job of a handler's context.
func isCanceled(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), queue.ErrCanceled)
}

// keepCanceled keeps a canceled job where that could not be recorded: without
// its job the run would never end.
func keepCanceled(ctx context.Context, err error) error {
	if err == nil || !isCanceled(ctx) {
		return err
	}
	return errors.Join(err, queue.Snooze(time.Second))
}

// cancel ends a run that a person canceled; err is what its attempt ended with.
// One whose engine may be applying is followed to its end: enqueued again, the
// job has an attempt that is not canceled.
func (x *execution) cancel(ctx context.Context, err error) error {
	applies := x.run.State == store.Unknown || x.run.Step == stepApply
	if x.run.Step == stepApply && x.result.Shim != "" && !x.elsewhere() {
		never, aerr := shim.Abandon(x.result.Shim)
		applies = applies && (aerr != nil || !never)
	}
	if !applies && !x.ended {
		return x.finish(ctx, canceledByPerson)
	}
	if !x.ended {
		x.result.Canceled = true
		if serr := x.save(ctx); serr != nil && !errors.Is(serr, errTaken) {
			return errors.Join(err, serr)
		}
	}
	_, qerr := x.r.Queue.Enqueue(ctx, queue.Job{
		Kind: x.job.Kind, Group: x.job.Group, Key: x.job.Key, Again: x.job.Again, Limit: x.job.Limit, RunsOn: x.job.RunsOn,
		Priority: x.job.Priority, RunAt: x.r.Clock(), Payload: x.job.Payload,
	})
	if qerr != nil {
		return errors.Join(err, qerr)
	}
	return nil
}

// ErrApplying says that an engine may be applying for a job, or may have applied
// and nobody knows what: canceling would not undo it.
var ErrApplying = errors.New("its engine may have changed the cloud, and what it did is not known yet")

// Cancellation is what became of a job that a person canceled.
type Cancellation string

// What becomes of canceled jobs.
const (
	// Dropped: the job is gone.
	Dropped Cancellation = "dropped"
	// Ended: its run is canceled, and the job does what follows from that.
	Ended Cancellation = "ended"
	// Asked: the job runs, and its worker learns of it with the next heartbeat.
	// What it applies is not undone: an engine finishes what it is at.
	Asked Cancellation = "asked"
)

// CancelJob cancels an unfinished job for a person, and ends the run that it
// would have carried out. It returns queue.ErrNotFound where the job has ended,
// and ErrApplying for one that does not run while its run may be applied.
func CancelJob(ctx context.Context, st *store.Store, q *queue.Queue, now time.Time, job queue.Job, who string) (Cancellation, error) {
	id, carries := strings.CutPrefix(job.Key, "run/")
	for carries && job.State != queue.StateRunning {
		run, err := st.Runs.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && run.State.Ended() {
			break
		}
		if err != nil {
			return "", err
		}
		if run.State == store.Unknown || run.Step == stepApply {
			return "", fmt.Errorf("cancel job %s: %w", job.ID, ErrApplying)
		}
		run.State, run.Step, run.Error, run.EndedAt = store.Canceled, "", "canceled by "+who, now
		_, err = st.Runs.Update(ctx, now, run)
		if err == nil {
			// Its handler finds the run ended, tells the pull request, and is done.
			_, err = q.Retry(ctx, job.ID)
			return Ended, err
		}
		if !errors.Is(err, store.ErrConflict) {
			return "", err
		}
		// An attempt has begun, or ended, meanwhile.
		jobs, err := q.List(ctx, queue.Filter{Key: job.Key})
		if err != nil {
			return "", err
		}
		if len(jobs) == 0 {
			return "", queue.ErrNotFound
		}
		job = jobs[0]
	}
	job, err := q.Cancel(ctx, job.ID)
	if err != nil {
		return "", err
	}
	if job.State == queue.StateRunning {
		return Asked, nil
	}
	return Dropped, nil
}
