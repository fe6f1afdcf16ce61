package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// WorkerConfig sets up a Worker.
type WorkerConfig struct {
	// Name is shown as Job.Worker. Defaults to HOST/PID.
	Name string
	// Concurrency is how many jobs run at once. Defaults to 4.
	Concurrency int
	// Lease is how long a claim lasts without a heartbeat: how long a job of
	// a killed process waits for its next attempt. Defaults to 30 s.
	Lease time.Duration
	// Heartbeat is the time between heartbeats. Defaults to a third of Lease,
	// which it must be shorter than.
	Heartbeat time.Duration
	// Poll is how often an idle worker asks for jobs; between two polls the
	// driver's signals wake it. Defaults to 1 s.
	Poll time.Duration
	// PerLimit caps the running jobs of one Job.Limit over all workers.
	// Defaults to no cap.
	PerLimit int
	// Limits are the caps of those Job.Limits that have one of their own.
	Limits map[string]int
	// Labels are what the worker may be chosen by; see Job.RunsOn.
	Labels []string
	// Dedicated leaves the jobs to other workers that ask for no label.
	Dedicated bool
	// Grace is how long running jobs may go on after Run's context has ended.
	// Defaults to 0: they are interrupted at once.
	Grace time.Duration
	// MaxAttempts is after how many failed attempts a job is dead. Defaults to
	// 10.
	MaxAttempts int
	// MaxAttemptsOf is MaxAttempts for some kinds.
	MaxAttemptsOf map[string]int
	// Ready says why jobs cannot be run now (a full disk): while it returns an
	// error, none is claimed. Defaults to always ready.
	Ready func(ctx context.Context) error
	// Logger defaults to none.
	Logger *slog.Logger
	// Handlers are the handlers by Job.Kind. A job of another kind is put back,
	// uncounted, for a worker that knows it. Required.
	Handlers map[string]Handler
	// Metrics are told what happens.
	Metrics Metrics
}

// Metrics are functions that a Worker calls, from several goroutines. Each may
// be nil.
type Metrics struct {
	// Claimed is called when a job's attempt begins; waited is the time since
	// it was due.
	Claimed func(j Job, waited time.Duration)
	// Finished is called when an attempt's outcome is stored; took is how long
	// its handler ran.
	Finished func(j Job, o Outcome, took time.Duration)
	// Lost is called when an attempt ends whose claim was lost.
	Lost func(j Job)
}

// WithDefaults returns c with its defaults filled in.
func (c WorkerConfig) WithDefaults() WorkerConfig {
	if c.Name == "" {
		host, _ := os.Hostname() // only shown
		c.Name = fmt.Sprintf("%s/%d", cmp.Or(host, "unknown"), os.Getpid())
	}
	c.Concurrency = cmp.Or(c.Concurrency, 4)
	c.Lease = cmp.Or(c.Lease, 30*time.Second)
	c.Heartbeat = cmp.Or(c.Heartbeat, c.Lease/3)
	c.Poll = cmp.Or(c.Poll, time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 10)
	if c.Ready == nil {
		c.Ready = func(context.Context) error { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Metrics.Claimed == nil {
		c.Metrics.Claimed = func(Job, time.Duration) {}
	}
	if c.Metrics.Finished == nil {
		c.Metrics.Finished = func(Job, Outcome, time.Duration) {}
	}
	if c.Metrics.Lost == nil {
		c.Metrics.Lost = func(Job) {}
	}
	c.Handlers, c.Limits, c.Labels = maps.Clone(c.Handlers), maps.Clone(c.Limits), sorted(c.Labels)
	return c
}

func (c WorkerConfig) validate() error {
	switch {
	case len(c.Handlers) == 0:
		return errors.New("no handlers")
	case c.Concurrency < 0, c.Lease < 0, c.Heartbeat < 0, c.Poll < 0, c.PerLimit < 0, c.Grace < 0, c.MaxAttempts < 0:
		return errors.New("a negative setting")
	case CheckLabels(c.Labels) != nil:
		return CheckLabels(c.Labels)
	case c.Heartbeat >= c.Lease:
		return fmt.Errorf("heartbeats every %s cannot keep a lease of %s", c.Heartbeat, c.Lease)
	}
	return nil
}

// Worker runs the jobs of a Queue.
type Worker struct {
	queue  *Queue
	config WorkerConfig

	mu      sync.Mutex
	running map[Ref]*execution
	// freed is signalled when an execution has ended.
	freed chan struct{}
	// trouble is what last kept the worker from claiming, so that it is logged
	// once. Used by Run's own goroutine only.
	trouble string
	// away is set while the store does not answer, and resume is when jobs are
	// claimed again after it. Used by Run's own goroutine only.
	away   bool
	resume time.Time
}

// NewWorker returns a worker for q; Run starts it.
func NewWorker(q *Queue, c WorkerConfig) *Worker {
	return &Worker{queue: q, config: c.WithDefaults(), running: map[Ref]*execution{}, freed: make(chan struct{}, 1)}
}

// Run claims and runs jobs until ctx ends. Then it claims no more, lets the
// running jobs end within Grace, cancels the others' contexts with ErrShutdown,
// and returns nil when all handlers have returned and their jobs are finished
// or given back. It returns an error only where the configuration is wrong.
// It is called once.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.config.validate(); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	// Heartbeats and handlers outlive ctx by the time of grace.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var beating, handling sync.WaitGroup
	beating.Go(func() { w.beat(alive) })

	w.claimUntil(ctx, alive, &handling)
	w.drain(&handling)
	end()
	beating.Wait()
	return nil
}

// claimUntil starts jobs until ctx ends.
func (w *Worker) claimUntil(ctx, alive context.Context, handling *sync.WaitGroup) {
	wake := w.queue.driver.Wake(ctx)
	poll := time.NewTicker(w.config.Poll)
	defer poll.Stop()
	for {
		for ctx.Err() == nil && w.claim(ctx, alive, handling) {
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-w.freed:
		case <-poll.C:
		}
	}
}

// claim starts as many jobs as there is room for. It reports whether asking
// again might find more.
func (w *Worker) claim(ctx, alive context.Context, handling *sync.WaitGroup) bool {
	room := w.config.Concurrency - w.count()
	if room <= 0 {
		return false
	}
	if err := w.config.Ready(ctx); err != nil {
		if ctx.Err() == nil {
			w.report(ctx, "jobs are not claimed", err)
		}
		return false
	}
	if w.away && !w.back(alive) || time.Now().Before(w.resume) {
		return false
	}
	// Seen through when ctx ends meanwhile: a claim that nobody knows of would
	// wait for its lease to end.
	asking, cancel := context.WithTimeout(alive, w.config.Lease)
	defer cancel()
	asked, now := time.Now(), w.queue.config.Clock()
	jobs, err := w.queue.driver.Claim(asking, now, Claim{Worker: w.config.Name, Lease: w.config.Lease, Max: room, PerLimit: w.config.PerLimit, Limits: w.config.Limits, Labels: w.config.Labels, Dedicated: w.config.Dedicated})
	if err != nil {
		w.away = true
		w.report(ctx, "claim jobs", err)
		return false
	}
	w.report(ctx, "", nil)
	for _, j := range jobs {
		e := w.begin(alive, j, asked.Add(w.config.Lease))
		w.config.Metrics.Claimed(j, max(0, now.Sub(j.RunAt)))
		if ctx.Err() != nil {
			e.cancel(ErrShutdown)
		}
		handling.Go(func() { w.execute(e) })
	}
	return len(jobs) == room
}

// back reports whether a store that was away answers again. While it was, leases
// ended of jobs that run on: before anything is claimed, this worker extends its
// own, and gives the others time to do the same.
//
// It asks with a write, though about no job: a store that is read well and does
// not acknowledge what it writes would take one job after the other for claims
// that nobody knows of, until their attempts have run out.
func (w *Worker) back(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, w.config.Lease)
	defer cancel()
	if _, err := w.queue.driver.Heartbeat(ctx, w.queue.config.Clock(), []Ref{{}}, w.config.Lease); err != nil {
		return false
	}
	if err := w.beatOnce(ctx); err != nil {
		return false
	}
	w.away, w.resume = false, time.Now().Add(w.config.Heartbeat*3/2)
	return true
}

// report logs what keeps the worker from claiming once, and that it is over.
func (w *Worker) report(ctx context.Context, what string, err error) {
	now := what
	if err != nil {
		now += ": " + err.Error()
	}
	switch {
	case now == w.trouble:
	case err == nil:
		w.config.Logger.InfoContext(ctx, "jobs are claimed again", "worker", w.config.Name)
	default:
		w.config.Logger.ErrorContext(ctx, what, "worker", w.config.Name, "error", err)
	}
	w.trouble = now
}

// Running returns the jobs that are carried out now, oldest first.
func (w *Worker) Running() []Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	jobs := make([]Job, 0, len(w.running))
	for _, e := range w.running {
		jobs = append(jobs, e.job)
	}
	slices.SortFunc(jobs, func(a, b Job) int { return strings.Compare(a.ID, b.ID) })
	return jobs
}

func (w *Worker) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.running)
}

// drain waits for the running jobs, and interrupts them when Grace is over.
func (w *Worker) drain(handling *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		handling.Wait()
		close(done)
	}()
	grace := time.NewTimer(w.config.Grace)
	defer grace.Stop()
	select {
	case <-done:
		return
	case <-grace.C:
	}
	w.mu.Lock()
	for _, e := range w.running {
		e.cancel(ErrShutdown)
	}
	w.mu.Unlock()
	<-done
}

// beat extends the leases of all running jobs, in one call, until ctx ends. A
// heartbeat that fails is soon sent again; where none succeeds within the
// lease, the execution's own timer tells its handler.
func (w *Worker) beat(ctx context.Context) {
	next := time.NewTimer(w.config.Heartbeat)
	defer next.Stop()
	failing := false // logged once
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		err := w.beatOnce(ctx)
		switch {
		case err != nil && !failing:
			w.config.Logger.WarnContext(ctx, "extend leases of running jobs", "worker", w.config.Name, "error", err)
		case err == nil && failing:
			w.config.Logger.InfoContext(ctx, "leases of running jobs are extended again", "worker", w.config.Name)
		}
		failing = err != nil
		if failing {
			next.Reset(w.config.Heartbeat / 4)
		} else {
			next.Reset(w.config.Heartbeat)
		}
	}
}

func (w *Worker) beatOnce(ctx context.Context) error {
	w.mu.Lock()
	refs := make([]Ref, 0, len(w.running))
	for ref := range w.running {
		refs = append(refs, ref)
	}
	w.mu.Unlock()
	if len(refs) == 0 {
		return nil
	}
	// One that hangs must not keep the next from being sent.
	ctx, cancel := context.WithTimeout(ctx, w.config.Heartbeat)
	defer cancel()
	sent := time.Now()
	beats, err := w.queue.driver.Heartbeat(ctx, w.queue.config.Clock(), refs, w.config.Lease)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range beats {
		e := w.running[b.Ref]
		switch {
		case e == nil: // finished meanwhile
		case b.Lost:
			e.cancel(ErrLost)
		default:
			e.extend(sent.Add(w.config.Lease))
			if b.Canceled {
				e.cancel(ErrCanceled)
			}
		}
	}
	return nil
}
