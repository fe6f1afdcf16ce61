package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/store/redis"
	"holdfast/store/sqlite"
)

// side is a queue that is measured.
type side interface {
	// enqueue stores one job, durably as far as the side's store is.
	enqueue(ctx context.Context) error
	// fill stores n jobs; those of Holdfast in groups of ten, so that a tenth of
	// them can be claimed.
	fill(ctx context.Context, n int) error
	// work hands jobs to handle, at most concurrency of them at once, until ctx
	// ends, and returns when no handler runs any more.
	work(ctx context.Context, concurrency int, handle func()) error
	close()
}

// kind and payload are those of all jobs.
const kind = "bench"

var payload = []byte("{}")

// holdfast is a side on one of Holdfast's stores. Its jobs are as those of the
// product: each has a group, a key and a bucket.
type holdfast struct {
	// near and far are two handles of one store: what enqueues is another
	// process than what works. SQLite has one.
	near, far *store.Store
	queue     *queue.Queue
	made      atomic.Int64
}

func newHoldfast(near, far *store.Store) *holdfast {
	return &holdfast{near: near, far: far, queue: queue.New(near.Queue, queue.Config{Clock: near.Clock})}
}

// onRedis opens a new installation on the server.
func onRedis(ctx context.Context, server *redisServer, prefix string) (*holdfast, error) {
	open := func() (*store.Store, error) {
		return redis.Open(ctx, redis.Config{Addrs: []string{server.addr}, Prefix: prefix, Logger: slog.New(slog.DiscardHandler)})
	}
	near, err := open()
	if err != nil {
		return nil, err
	}
	far, err := open()
	if err != nil {
		near.Close()
		return nil, err
	}
	return newHoldfast(near, far), nil
}

// onSQLite opens a new file.
func onSQLite(ctx context.Context, dir, name string) (*holdfast, error) {
	s, err := sqlite.Open(ctx, filepath.Join(dir, name+".db"))
	if err != nil {
		return nil, err
	}
	return newHoldfast(s, s), nil
}

func (h *holdfast) close() {
	h.near.Close()
	if h.far != h.near {
		h.far.Close()
	}
}

// job returns a new job of a group.
func (h *holdfast) job(group int64) queue.Job {
	n := h.made.Add(1)
	return queue.Job{Kind: kind, Group: fmt.Sprintf("github.com/acme/infra/network-%d", group), Key: fmt.Sprintf("plan/%d", n),
		Limit: fmt.Sprintf("github.com/acme/infra-%d", group%100), Payload: payload}
}

func (h *holdfast) enqueue(ctx context.Context) error {
	_, err := h.queue.Enqueue(ctx, h.job(-h.made.Load()))
	return err
}

func (h *holdfast) fill(ctx context.Context, n int) error {
	const batch = 500
	groups := int64(max(1, n/10))
	jobs := make([]queue.Job, 0, batch)
	for i := range n {
		jobs = append(jobs, h.job(int64(i)%groups))
		if len(jobs) < batch && i < n-1 {
			continue
		}
		if _, err := h.queue.Enqueue(ctx, jobs...); err != nil {
			return err
		}
		jobs = jobs[:0]
	}
	return nil
}

func (h *holdfast) work(ctx context.Context, concurrency int, handle func()) error {
	q := queue.New(h.far.Queue, queue.Config{Clock: h.far.Clock})
	return queue.NewWorker(q, queue.WorkerConfig{Concurrency: concurrency, Grace: time.Minute, Handlers: map[string]queue.Handler{
		kind: func(context.Context, queue.Job) error {
			handle()
			return nil
		},
	}}).Run(ctx)
}

// plainAsynq is asynq. Its jobs are plain ones: it has no groups of which one
// job runs at a time.
type plainAsynq struct {
	redis  asynq.RedisClientOpt
	client *asynq.Client
	// poll is how often an idle worker asks; asynq has no signal.
	poll time.Duration
}

func newAsynq(server *redisServer, poll time.Duration) *plainAsynq {
	a := &plainAsynq{redis: asynq.RedisClientOpt{Addr: server.addr}, poll: poll}
	a.client = asynq.NewClient(a.redis)
	return a
}

func (a *plainAsynq) close() { a.client.Close() }

func (a *plainAsynq) enqueue(ctx context.Context) error {
	_, err := a.client.EnqueueContext(ctx, asynq.NewTask(kind, payload))
	return err
}

func (a *plainAsynq) fill(ctx context.Context, n int) error {
	return together(ctx, 16, n, func(ctx context.Context, _ int) error { return a.enqueue(ctx) })
}

func (a *plainAsynq) work(ctx context.Context, concurrency int, handle func()) error {
	server := asynq.NewServer(a.redis, asynq.Config{Concurrency: concurrency, TaskCheckInterval: a.poll, LogLevel: asynq.FatalLevel, ShutdownTimeout: time.Minute})
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		handle()
		return nil
	})); err != nil {
		return err
	}
	<-ctx.Done()
	server.Shutdown()
	return nil
}

// together calls do n times, from so many callers at once.
func together(ctx context.Context, callers, n int, do func(ctx context.Context, i int) error) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range callers {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := do(ctx, i); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}
