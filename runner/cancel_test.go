package runner

import (
	"context"
	"errors"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/store"
)

// What a person canceled ends with what the engine did. Where that is not known
// the job is kept, and its next attempt is not canceled.
func TestCanceledWhileItApplied(t *testing.T) {
	const started = `{"pid": 1}`
	for _, test := range []struct {
		name string
		shim map[string]string
		run  store.State
		step string
		kept bool
		then store.State // of the next attempt's run
	}{
		{"never started", nil, store.Canceled, "", false, store.Canceled},
		{"it was through", map[string]string{"owner": started, "exit": `{"code": 0}`}, store.Applied, "", false, store.Applied},
		{"saved its state", map[string]string{"owner": started, "exit": `{"code": 1}`, "stderr": "Error: interrupted"}, store.Canceled, "", false, store.Canceled},
		{"killed", map[string]string{"owner": started, "exit": `{"code": -1, "signal": "killed"}`}, store.Running, stepApply, true, store.Unknown},
		{"vanished", map[string]string{"owner": started}, store.Running, stepApply, true, store.Unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			x := f.applying(store.Running, test.shim)
			if _, err := f.Queue.Cancel(t.Context(), x.job.ID); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancelCause(t.Context())
			handle := f.handleRun(func(ctx context.Context, x *execution) (verdict, error) {
				stop(queue.ErrCanceled)
				return x.interrupted(ctx, errDown)
			})
			if err := handle(ctx, x.job); err != nil {
				t.Fatal(err)
			}
			if err := f.queue.Finish(t.Context(), f.clock(), x.job.Ref(), queue.Outcome{Done: true}); err != nil {
				t.Fatal(err)
			}
			jobs := f.jobs(JobApply)
			if kept := len(jobs) == 1 && !jobs[0].Canceled; kept != test.kept {
				t.Fatalf("jobs: %+v", jobs)
			}
			if run := f.stored()[0]; run.State != test.run || run.Step != test.step {
				t.Errorf("the run is %s at %q", run.State, run.Step)
			}
			f.mayFail = true
			f.handlers[JobApply] = f.handleRun(f.apply)
			f.next(JobApply)
			if run := f.stored()[0]; run.State != test.then {
				t.Errorf("the run is %s afterwards: %s", run.State, run.Error)
			}
		})
	}
}

// A cancel that could not be recorded is not forgotten with the job.
func TestCanceledBeforeItBegan(t *testing.T) {
	f := newFixture(t)
	x := f.applying(store.Running, nil)
	ctx, stop := context.WithCancelCause(t.Context())
	stop(queue.ErrCanceled)
	handle := f.handleRun(f.apply)
	runs := f.Store.Runs
	f.Store.Runs = brokenRuns{runs}
	if err := handle(ctx, x.job); !errors.Is(err, errDown) || !queue.IsSnooze(err) {
		t.Errorf("while the store is down: %v", err)
	}
	f.Store.Runs = runs
	if err := handle(ctx, x.job); err != nil {
		t.Error(err)
	}
	if run := f.stored()[0]; run.State != store.Canceled {
		t.Errorf("the run is %s at %q", run.State, run.Step)
	}
}

// brokenRuns cannot be reached.
type brokenRuns struct{ store.Runs }

func (brokenRuns) Get(context.Context, string) (store.Run, error) { return store.Run{}, errDown }

// An apply that a person canceled is not started over.
func TestCanceledIsNotStartedOver(t *testing.T) {
	f := newFixture(t)
	x := f.applying(store.Running, map[string]string{"owner": `{"pid": 1}`, "exit": `{"code": 1}`, "stderr": "Error: Saved plan is stale"})
	x.result.Canceled = true
	if err := x.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.handleRun(f.apply)(t.Context(), x.job); err != nil {
		t.Fatal(err)
	}
	if run := f.stored()[0]; run.State != store.Canceled {
		t.Errorf("the run is %s: %s", run.State, run.Error)
	}
}

func TestCancelJob(t *testing.T) {
	for _, test := range []struct {
		name  string
		state store.State
		step  string
		end   queue.Outcome // of the attempt that there was
		want  Cancellation
		err   error
		run   store.State // afterwards
	}{
		{"waits", store.Queued, "", queue.Outcome{RunAt: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}, Ended, nil, store.Canceled},
		{"dead", store.Running, "plan", queue.Outcome{Dead: true}, Ended, nil, store.Canceled},
		{"its engine may apply", store.Running, stepApply, queue.Outcome{}, "", ErrApplying, store.Running},
		{"nobody knows what it did", store.Unknown, "", queue.Outcome{Dead: true}, "", ErrApplying, store.Unknown},
		{"has ended", store.Failed, "", queue.Outcome{Dead: true}, Dropped, nil, store.Failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			x := f.applying(store.Running, nil)
			x.run.State, x.run.Step = test.state, test.step
			if err := x.save(t.Context()); err != nil {
				t.Fatal(err)
			}
			running := x.job
			running.State = queue.StateRunning
			if got, err := CancelJob(t.Context(), f.Store, f.Queue, f.clock(), running, "kim"); got != Asked || err != nil {
				t.Errorf("while it runs: %q, %v", got, err)
			}
			if err := f.queue.Finish(t.Context(), f.clock(), x.job.Ref(), test.end); err != nil {
				t.Fatal(err)
			}
			got, err := CancelJob(t.Context(), f.Store, f.Queue, f.clock(), f.jobs(JobApply)[0], "kim")
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("%q, %v", got, err)
			}
			if test.err == nil {
				f.work(JobApply)
			}
			if run := f.stored()[0]; run.State != test.run {
				t.Errorf("the run is %s: %s", run.State, run.Error)
			}
			if left := len(f.jobs(JobApply)); left > 0 != (test.err != nil) {
				t.Errorf("%d jobs are left", left)
			}
		})
	}
}
