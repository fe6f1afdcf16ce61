package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/queue"
	"holdfast/queue/queuetest"
)

// bench is a worker on a queue in memory, in a bubble where time is the test's.
type bench struct {
	*testing.T
	driver *queuetest.Memory
	queue  *queue.Queue
	config queue.WorkerConfig
	log    bytes.Buffer
	stop   context.CancelFunc
	done   chan error

	mu    sync.Mutex
	calls []queue.Job
	ended []queue.Outcome
	lost  int
}

// bubble runs test with a worker whose jobs of kind "job" are handled by
// handle. The worker is stopped at the end at the latest.
func bubble(t *testing.T, handle queue.Handler, test func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, driver: &queuetest.Memory{}, done: make(chan error, 1)}
		b.queue = queue.New(b.driver, queue.Config{})
		b.config = queue.WorkerConfig{
			Name: "w", Grace: time.Minute, Logger: slog.New(slog.NewTextHandler(&b.log, nil)),
			Handlers: map[string]queue.Handler{"job": func(ctx context.Context, j queue.Job) error {
				b.mu.Lock()
				b.calls = append(b.calls, j)
				b.mu.Unlock()
				return handle(ctx, j)
			}},
			Metrics: queue.Metrics{
				Finished: func(_ queue.Job, o queue.Outcome, _ time.Duration) {
					b.mu.Lock()
					defer b.mu.Unlock()
					b.ended = append(b.ended, o)
				},
				Lost: func(queue.Job) {
					b.mu.Lock()
					defer b.mu.Unlock()
					b.lost++
				},
			},
		}
		test(b)
		b.shutdown()
	})
}

func (b *bench) start() {
	ctx, stop := context.WithCancel(b.Context())
	b.stop = stop
	w := queue.NewWorker(b.queue, b.config)
	go func() { b.done <- w.Run(ctx) }()
	synctest.Wait()
}

// shutdown stops the worker and waits for it.
func (b *bench) shutdown() {
	if b.stop == nil {
		return
	}
	b.stop()
	b.stop = nil
	if err := <-b.done; err != nil {
		b.Errorf("Run: %v", err)
	}
}

func (b *bench) enqueue(j queue.Job) queue.Job {
	b.Helper()
	if j.Kind == "" {
		j.Kind = "job"
	}
	jobs, err := b.queue.Enqueue(b.Context(), j)
	if err != nil {
		b.Fatal(err)
	}
	synctest.Wait()
	return jobs[0]
}

// after lets d pass and everything happen that is due.
func after(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func (b *bench) called() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.calls)
}

func (b *bench) list() []queue.Job {
	b.Helper()
	jobs, err := b.queue.List(context.Background(), queue.Filter{})
	if err != nil {
		b.Fatal(err)
	}
	return jobs
}

// only returns the only job there is.
func (b *bench) only() queue.Job {
	b.Helper()
	jobs := b.list()
	if len(jobs) != 1 {
		b.Fatalf("%d jobs instead of one: %+v", len(jobs), jobs)
	}
	return jobs[0]
}

func TestWorkerStartsAtOnce(t *testing.T) {
	bubble(t, func(context.Context, queue.Job) error { return nil }, func(b *bench) {
		b.start()
		before := time.Now()
		b.enqueue(queue.Job{})
		if b.called() != 1 || time.Since(before) != 0 {
			t.Fatalf("called %d times after %s", b.called(), time.Since(before))
		}
		if n := len(b.list()); n != 0 {
			t.Errorf("%d jobs are left", n)
		}
		b.enqueue(queue.Job{RunAt: time.Now().Add(10*time.Second - time.Millisecond)})
		after(10 * time.Second)
		if b.called() != 2 {
			t.Error("a job that became due was not found by polling")
		}
	})
}

func TestWorkerTellsWhatItRuns(t *testing.T) {
	bubble(t, func(context.Context, queue.Job) error { time.Sleep(time.Minute); return nil }, func(b *bench) {
		w := queue.NewWorker(b.queue, b.config)
		ctx, stop := context.WithCancel(b.Context())
		b.stop = stop
		go func() { b.done <- w.Run(ctx) }()
		first, second := b.enqueue(queue.Job{}), b.enqueue(queue.Job{})
		if jobs := w.Running(); len(jobs) != 2 || jobs[0].ID != first.ID || jobs[1].ID != second.ID {
			t.Errorf("at work: %+v", jobs)
		}
		after(time.Minute)
		if jobs := w.Running(); len(jobs) != 0 {
			t.Errorf("afterwards: %+v", jobs)
		}
	})
}

func TestWorkerRetries(t *testing.T) {
	bubble(t, func(_ context.Context, j queue.Job) error { return fmt.Errorf("attempt %d broke", j.Attempt) }, func(b *bench) {
		b.config.MaxAttempts = 3
		b.start()
		b.enqueue(queue.Job{})
		if j := b.only(); j.State != queue.StateWaiting || j.LastError != "attempt 1 broke" {
			t.Fatalf("after the first: %+v", j)
		}
		after(time.Minute)
		j := b.only()
		if j.State != queue.StateDead || j.Attempt != 3 || j.LastError != "attempt 3 broke" {
			t.Fatalf("in the end: %+v", j)
		}
		b.mu.Lock()
		for i, o := range b.ended[:2] {
			if o.Dead || o.RunAt.IsZero() {
				t.Errorf("outcome %d: %+v", i, o)
			}
		}
		b.mu.Unlock()
		if _, err := b.queue.Retry(t.Context(), j.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if b.called() != 4 {
			t.Errorf("%d calls after Retry", b.called())
		}
	})
}

func TestWorkerMaxAttemptsOfKind(t *testing.T) {
	bubble(t, func(context.Context, queue.Job) error { return errors.New("broke") }, func(b *bench) {
		b.config.MaxAttemptsOf = map[string]int{"job": 1}
		b.start()
		b.enqueue(queue.Job{})
		if j := b.only(); j.State != queue.StateDead {
			t.Errorf("%+v", j)
		}
	})
}

func TestWorkerOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		handle  queue.Handler
		state   queue.State // "": done
		attempt int
		err     string
	}{
		"done":    {handle: func(context.Context, queue.Job) error { return nil }},
		"snooze":  {handle: func(context.Context, queue.Job) error { return queue.Snooze(time.Hour) }, state: queue.StateWaiting},
		"wrapped": {handle: func(context.Context, queue.Job) error { return fmt.Errorf("not yet: %w", queue.Snooze(time.Hour)) }, state: queue.StateWaiting},
		"discard": {handle: func(context.Context, queue.Job) error { return queue.Discard(errors.New("no use")) }, state: queue.StateDead, attempt: 1, err: "no use"},
		"panic":   {handle: func(context.Context, queue.Job) error { panic("oops") }, state: queue.StateWaiting, attempt: 1, err: "the handler panicked: oops"},
		"goexit":  {handle: func(context.Context, queue.Job) error { runtime.Goexit(); return nil }, state: queue.StateWaiting, attempt: 1, err: "the handler ended its goroutine"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.handle, func(b *bench) {
				b.start()
				b.enqueue(queue.Job{})
				if c.state == "" {
					if n := len(b.list()); n != 0 {
						t.Errorf("%d jobs are left", n)
					}
					return
				}
				if j := b.only(); j.State != c.state || j.Attempt != c.attempt || j.LastError != c.err {
					t.Errorf("%+v", j)
				}
			})
		})
	}
}

func TestWorkerUnknownKind(t *testing.T) {
	bubble(t, nil, func(b *bench) {
		b.start()
		b.enqueue(queue.Job{Kind: "from a newer version"})
		if j := b.only(); j.State != queue.StateWaiting || j.Attempt != 0 || !strings.Contains(j.LastError, "from a newer version") {
			t.Errorf("%+v", j)
		}
	})
}

func TestWorkerConcurrency(t *testing.T) {
	release := make(chan struct{})
	bubble(t, func(context.Context, queue.Job) error { <-release; return nil }, func(b *bench) {
		release = make(chan struct{}) // of this bubble
		b.config.Concurrency, b.config.PerLimit = 3, 2
		b.start()
		for range 4 {
			b.enqueue(queue.Job{Limit: "one repository"})
		}
		if b.called() != 2 {
			t.Fatalf("%d run of one bucket", b.called())
		}
		b.enqueue(queue.Job{})
		b.enqueue(queue.Job{})
		if b.called() != 3 {
			t.Fatalf("%d run", b.called())
		}
		close(release)
		synctest.Wait()
		if b.called() != 6 || len(b.list()) != 0 {
			t.Errorf("%d ran, %d are left", b.called(), len(b.list()))
		}
	})
}

// waits is a handler that runs until it is told to stop.
func waits(ctx context.Context, _ queue.Job) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestWorkerKeepsItsLease(t *testing.T) {
	bubble(t, func(ctx context.Context, _ queue.Job) error {
		select {
		case <-time.After(time.Hour):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}, func(b *bench) {
		b.start()
		b.enqueue(queue.Job{})
		after(59 * time.Minute)
		b.driver.Fail(errors.New("a short outage"))
		after(25 * time.Second)
		b.driver.Fail(nil)
		after(time.Hour)
		if b.called() != 1 || len(b.list()) != 0 || b.lost != 0 {
			t.Errorf("%d calls, %d left, %d lost", b.called(), len(b.list()), b.lost)
		}
	})
}

func TestWorkerCancel(t *testing.T) {
	causes := make(chan error, 1)
	bubble(t, func(ctx context.Context, j queue.Job) error {
		err := waits(ctx, j)
		causes <- err
		return err
	}, func(b *bench) {
		b.start()
		j := b.enqueue(queue.Job{})
		if _, err := b.queue.Cancel(t.Context(), j.ID); err != nil {
			t.Fatal(err)
		}
		after(10 * time.Second)
		if err := <-causes; !errors.Is(err, queue.ErrCanceled) {
			t.Errorf("cause %v", err)
		}
		if n := len(b.list()); n != 0 {
			t.Errorf("%d jobs are left", n)
		}
	})
}

func TestWorkerTellsTheHandlerOfAnEarlierCancel(t *testing.T) {
	causes := make(chan error, 1)
	bubble(t, func(ctx context.Context, _ queue.Job) error {
		causes <- context.Cause(ctx)
		return errors.New("whatever")
	}, func(b *bench) {
		j := b.enqueue(queue.Job{})
		// A worker that died with the job, before it learned of the cancel.
		if _, err := b.driver.Claim(t.Context(), time.Now(), queue.Claim{Worker: "dead", Lease: time.Second, Max: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.queue.Cancel(t.Context(), j.ID); err != nil {
			t.Fatal(err)
		}
		b.start()
		after(2 * time.Second)
		if err := <-causes; !errors.Is(err, queue.ErrCanceled) || len(b.list()) != 0 {
			t.Errorf("cause %v, %d left", err, len(b.list()))
		}
	})
}

func TestWorkerKeepsACanceledJobThatIsSnoozed(t *testing.T) {
	var calls atomic.Int32
	bubble(t, func(ctx context.Context, j queue.Job) error {
		if calls.Add(1) < 3 {
			return errors.Join(waits(ctx, j), queue.Snooze(time.Second))
		}
		return waits(ctx, j)
	}, func(b *bench) {
		calls.Store(0)
		b.start()
		j := b.enqueue(queue.Job{})
		if _, err := b.queue.Cancel(t.Context(), j.ID); err != nil {
			t.Fatal(err)
		}
		after(10*time.Second + time.Millisecond)
		if j := b.only(); j.State != queue.StateWaiting || !j.Canceled || j.Attempt != 0 {
			t.Errorf("%+v", j)
		}
		after(2 * time.Second)
		if calls.Load() != 3 || len(b.list()) != 0 {
			t.Errorf("%d calls, %d left", calls.Load(), len(b.list()))
		}
	})
}

func TestWorkerLosesItsLease(t *testing.T) {
	causes := make(chan error, 2)
	bubble(t, func(ctx context.Context, j queue.Job) error {
		if j.Attempt > 1 {
			return nil
		}
		err := waits(ctx, j)
		causes <- err
		return nil // too late: somebody else may have the job
	}, func(b *bench) {
		b.start()
		b.enqueue(queue.Job{})
		b.driver.Fail(errors.New("unreachable"))
		after(30*time.Second - time.Millisecond)
		if len(causes) != 0 {
			t.Fatal("lost before its lease ended")
		}
		after(time.Millisecond)
		if err := <-causes; !errors.Is(err, queue.ErrLost) {
			t.Errorf("cause %v", err)
		}
		if b.lost != 1 || len(b.ended) != 0 {
			t.Errorf("%d lost, %d recorded", b.lost, len(b.ended))
		}
		b.driver.Fail(nil)
		after(20 * time.Second)
		if b.called() != 2 || len(b.list()) != 0 {
			t.Errorf("%d calls, %d left: the job was not run again", b.called(), len(b.list()))
		}
	})
}

// A handler that endures is not told that its lease has ended while the store is
// away, and its outcome is stored when it is back.
func TestWorkerEndures(t *testing.T) {
	for _, test := range []struct {
		name  string
		until time.Duration // the handler ends
		back  time.Duration // the store is back
	}{
		{"ends while the store is away", time.Minute, 10 * time.Minute},
		{"ends later", 10 * time.Minute, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			var cause error
			bubble(t, func(ctx context.Context, j queue.Job) error {
				if err := queue.Endure(ctx); err != nil {
					return err
				}
				select {
				case <-time.After(test.until):
				case <-ctx.Done():
				}
				cause = context.Cause(ctx)
				return nil
			}, func(b *bench) {
				b.start()
				b.enqueue(queue.Job{})
				b.driver.Fail(errors.New("unreachable"))
				after(test.back)
				b.driver.Fail(nil)
				after(max(test.until, test.back) - test.back + 10*time.Second)
				if cause != nil || b.called() != 1 || b.lost != 0 || len(b.list()) != 0 {
					t.Errorf("cause %v, %d calls, %d lost, %d left", cause, b.called(), b.lost, len(b.list()))
				}
			})
		})
	}
}

// One that endures stops when the store says that somebody else has its job, and
// when the process stops although the store is away.
func TestWorkerEnduresNotForEver(t *testing.T) {
	causes := make(chan error, 1)
	endures := func(ctx context.Context, j queue.Job) error {
		if err := queue.Endure(ctx); err != nil {
			return err
		}
		err := waits(ctx, j)
		causes <- err
		return err
	}
	bubble(t, endures, func(b *bench) {
		b.start()
		b.enqueue(queue.Job{})
		jobs, err := b.driver.Claim(t.Context(), time.Now().Add(time.Hour), queue.Claim{Worker: "other", Lease: time.Hour, Max: 1})
		if err != nil || len(jobs) != 1 {
			t.Fatal(jobs, err)
		}
		after(10 * time.Second)
		if err := <-causes; !errors.Is(err, queue.ErrLost) || b.lost != 1 {
			t.Errorf("cause %v, %d lost", err, b.lost)
		}
	})
	bubble(t, endures, func(b *bench) {
		b.start()
		b.enqueue(queue.Job{})
		b.driver.Fail(errors.New("unreachable"))
		b.shutdown() // returns
		if err := <-causes; !errors.Is(err, queue.ErrShutdown) {
			t.Errorf("cause %v", err)
		}
	})
}

func TestWorkerLosesItsJobToAnother(t *testing.T) {
	causes := make(chan error, 1)
	bubble(t, func(ctx context.Context, j queue.Job) error {
		err := waits(ctx, j)
		causes <- err
		return err
	}, func(b *bench) {
		b.start()
		b.enqueue(queue.Job{})
		// A process whose clock is far ahead.
		jobs, err := b.driver.Claim(t.Context(), time.Now().Add(time.Hour), queue.Claim{Worker: "other", Lease: time.Hour, Max: 1})
		if err != nil || len(jobs) != 1 {
			t.Fatal(jobs, err)
		}
		after(10 * time.Second)
		if err := <-causes; !errors.Is(err, queue.ErrLost) {
			t.Errorf("cause %v", err)
		}
		if j := b.only(); j.Worker != "other" || j.LastError != "" {
			t.Errorf("the other's claim was touched: %+v", j)
		}
	})
}

func TestWorkerStoresLater(t *testing.T) {
	bubble(t, func(_ context.Context, j queue.Job) error { return nil }, func(b *bench) {
		handle := b.config.Handlers["job"]
		b.config.Handlers["job"] = func(ctx context.Context, j queue.Job) error {
			b.driver.Fail(errors.New("unreachable"))
			return handle(ctx, j)
		}
		b.start()
		b.enqueue(queue.Job{})
		after(20 * time.Second)
		b.driver.Fail(nil)
		after(time.Second)
		if b.called() != 1 || len(b.list()) != 0 {
			t.Errorf("%d calls, %d left", b.called(), len(b.list()))
		}
	})
}

func TestWorkerGivesUpAfterDeaths(t *testing.T) {
	bubble(t, func(context.Context, queue.Job) error { return nil }, func(b *bench) {
		b.config.MaxAttempts = 3
		b.enqueue(queue.Job{})
		now := time.Now()
		for range 3 { // processes that die with the job
			if jobs, err := b.driver.Claim(t.Context(), now, queue.Claim{Lease: time.Second, Max: 1}); err != nil || len(jobs) != 1 {
				t.Fatal(jobs, err)
			}
			now = now.Add(time.Second)
		}
		after(3 * time.Second)
		b.start()
		if j := b.only(); j.State != queue.StateDead || b.called() != 0 {
			t.Errorf("%d calls, %+v", b.called(), j)
		}
	})
}

func TestWorkerShutdown(t *testing.T) {
	bubble(t, func(ctx context.Context, j queue.Job) error {
		switch string(j.Payload) {
		case `"short"`:
			<-time.After(30 * time.Second)
			return nil
		case `"stubborn"`:
			<-ctx.Done()
			return nil
		}
		return waits(ctx, j)
	}, func(b *bench) {
		b.config.Concurrency = 3
		b.start()
		b.enqueue(queue.Job{Payload: []byte(`"short"`)})
		b.enqueue(queue.Job{Payload: []byte(`"stubborn"`)})
		long := b.enqueue(queue.Job{})
		b.enqueue(queue.Job{}) // no room: never begun
		began := time.Now()
		b.stop()
		after(40 * time.Second)
		if n := len(b.list()); n != 3 {
			t.Errorf("%d jobs after the short one ended", n)
		}
		b.shutdown()
		if took := time.Since(began); took != time.Minute {
			t.Errorf("took %s, not the time of grace", took)
		}
		jobs := b.list()
		if len(jobs) != 2 || jobs[0].ID != long.ID {
			t.Fatalf("left: %+v", jobs)
		}
		for _, j := range jobs {
			if j.State != queue.StateWaiting || j.Attempt != 0 || j.RunAt.After(time.Now()) {
				t.Errorf("not given back: %+v", j)
			}
		}
		if b.called() != 3 {
			t.Errorf("%d jobs were begun", b.called())
		}
	})
}

func TestWorkerNotReady(t *testing.T) {
	var problem error
	var mu sync.Mutex
	set := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		problem = err
	}
	bubble(t, func(context.Context, queue.Job) error { return nil }, func(b *bench) {
		b.config.Ready = func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			return problem
		}
		set(errors.New("the disk is full"))
		b.start()
		b.enqueue(queue.Job{})
		after(time.Minute)
		if b.called() != 0 {
			t.Error("a job was claimed")
		}
		set(nil)
		after(2 * time.Second)
		if b.called() != 1 {
			t.Error("no job was claimed when it was ready again")
		}
		b.shutdown()
		if n := strings.Count(b.log.String(), "the disk is full"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, b.log.String())
		}
		if !strings.Contains(b.log.String(), "claimed again") {
			t.Errorf("the end of it is not logged:\n%s", b.log.String())
		}
	})
}

func TestWorkerSurvivesItsStore(t *testing.T) {
	bubble(t, func(context.Context, queue.Job) error { return nil }, func(b *bench) {
		b.start()
		b.driver.Fail(errors.New("unreachable"))
		after(time.Minute)
		b.driver.Fail(nil)
		b.enqueue(queue.Job{})
		after(20 * time.Second)
		if b.called() != 1 {
			t.Error("the worker did not come back")
		}
		b.shutdown()
		if n := strings.Count(b.log.String(), "unreachable"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, b.log.String())
		}
	})
}

// unheard is a store that keeps what is written, and says that it did not: fewer
// replicas have it than the store is to wait for.
type unheard struct {
	*queuetest.Memory
	fails atomic.Bool
}

func (d *unheard) Claim(ctx context.Context, now time.Time, c queue.Claim) ([]queue.Job, error) {
	jobs, err := d.Memory.Claim(ctx, now, c)
	return jobs, errors.Join(err, d.err())
}

func (d *unheard) Heartbeat(ctx context.Context, now time.Time, refs []queue.Ref, lease time.Duration) ([]queue.Beat, error) {
	beats, err := d.Memory.Heartbeat(ctx, now, refs, lease)
	return beats, errors.Join(err, d.err())
}

func (d *unheard) err() error {
	if d.fails.Load() {
		return errors.New("0 replicas of 1 have the write")
	}
	return nil
}

// Jobs do not run out of attempts while claims are not acknowledged.
func TestWorkerClaimsNothingUnheard(t *testing.T) {
	bubble(t, func(context.Context, queue.Job) error { return nil }, func(b *bench) {
		d := &unheard{Memory: b.driver}
		b.queue = queue.New(d, queue.Config{})
		d.fails.Store(true)
		b.start()
		b.enqueue(queue.Job{})
		after(time.Hour)
		if j := b.only(); j.Attempt > 1 {
			t.Errorf("claimed %d times", j.Attempt)
		}
		d.fails.Store(false)
		after(time.Minute)
		if b.called() != 1 || len(b.list()) != 0 {
			t.Errorf("%d calls, %d left", b.called(), len(b.list()))
		}
	})
}

func TestWorkerConfigIsChecked(t *testing.T) {
	handlers := map[string]queue.Handler{"job": waits}
	for name, c := range map[string]queue.WorkerConfig{
		"no handlers":      {},
		"negative":         {Handlers: handlers, Concurrency: -1},
		"slow heartbeat":   {Handlers: handlers, Lease: time.Second, Heartbeat: time.Second},
		"negative attempt": {Handlers: handlers, MaxAttempts: -1},
	} {
		w := queue.NewWorker(queue.New(&queuetest.Memory{}, queue.Config{}), c)
		if err := w.Run(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
