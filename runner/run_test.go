package runner

import (
	"context"
	"errors"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/store"
)

// TestHowRunsEnd says, for each way in which an attempt can end, what becomes
// of the run and of its job.
func TestHowRunsEnd(t *testing.T) {
	for _, test := range []struct {
		name    string
		attempt int   // defaults to 1
		cause   error // why the worker stops the attempt; nil: it does not
		err     error // what the steps return
		state   store.State
		job     string // "done", "again" or "snoozed"
	}{
		{name: "planned", state: store.Planned, job: "done"},
		{name: "the store or the host failed", err: errDown, state: store.Running, job: "again"},
		{name: "failed for the last time", attempt: 8, err: errDown, state: store.Failed, job: "done"},
		{name: "died once too often", attempt: 9, state: store.Failed, job: "done"},
		{name: "has to wait", err: queue.Snooze(time.Second), state: store.Queued, job: "snoozed"},
		{name: "a person canceled it", cause: queue.ErrCanceled, err: context.Canceled, state: store.Canceled, job: "done"},
		{name: "the server stops", cause: queue.ErrShutdown, err: context.Canceled, state: store.Queued, job: "again"},
		{name: "somebody else has it", cause: queue.ErrLost, err: context.Canceled, state: store.Running, job: "again"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			f.open(map[string]string{"a/main.tf": root("1")})
			if err := f.told(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			f.engine = func(ctx context.Context, x *execution) (verdict, error) {
				if test.cause != nil {
					cancel(test.cause)
				}
				if test.err != nil {
					return verdict{}, test.err
				}
				return changes(context.WithoutCancel(ctx), x)
			}
			job := f.jobs(JobPlan)[0]
			job.Attempt, job.Token = max(test.attempt, 1), 1
			err := f.handlers[JobPlan](ctx, job)
			got := "done"
			if queue.IsSnooze(err) {
				got = "snoozed"
			} else if err != nil {
				got = "again"
			}
			if run := f.stored()[0]; run.State != test.state || got != test.job {
				t.Errorf("the run is %s (%s) and its job %s (%v), instead of %s and %s", run.State, run.Error, got, err, test.state, test.job)
			}
		})
	}
}

// A run that was superseded while its engine ran stays so.
func TestSupersededRunIsNotOverwritten(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.engine = func(ctx context.Context, x *execution) (verdict, error) {
		return verdict{state: store.Planned}, f.supersede(ctx, x.run.ID, "a newer commit")
	}
	f.next(JobPlan)
	if run := f.stored()[0]; run.State != store.Superseded || run.Error != "a newer commit" {
		t.Errorf("the run is %s: %s", run.State, run.Error)
	}
}

// An attempt that comes after the one that wrote the end says it once more and
// changes nothing.
func TestEndedRunIsLeftAlone(t *testing.T) {
	f, _ := planned(t, map[string]string{"a/main.tf": root("1")})
	before := f.stored()[0]
	in := runPayload{Run: before.ID}
	if err := f.enqueueRun(t.Context(), before, in, queue.PriorityInteractive); err != nil {
		t.Fatal(err)
	}
	f.engine = func(context.Context, *execution) (verdict, error) {
		t.Error("the engine was started again")
		return verdict{}, errDown
	}
	f.next(JobPlan)
	if after := f.stored()[0]; after.Version != before.Version {
		t.Errorf("%+v became %+v", before, after)
	}
	if len(f.jobs(JobReport)) != 1 {
		t.Error("it is not reported")
	}
}

// The write of a late attempt, whose claim somebody else has, is refused.
func TestLateAttemptIsRefused(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	job := f.jobs(JobPlan)[0]
	late, early := job, job
	early.Attempt, early.Token, late.Attempt, late.Token = 1, 1, 2, 2
	first, err := f.begin(t.Context(), early)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.begin(t.Context(), late)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.end(t.Context(), verdict{state: store.NoChanges}); !errors.Is(err, errTaken) {
		t.Errorf("the late write: %v", err)
	}
	if err := second.end(t.Context(), verdict{state: store.Planned}); err != nil {
		t.Fatal(err)
	}
	if run := f.stored()[0]; run.State != store.Planned {
		t.Errorf("the run is %s", run.State)
	}
}
