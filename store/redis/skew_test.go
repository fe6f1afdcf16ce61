package redis_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/store"
	"holdfast/store/redis"
)

// Machines whose clocks differ by two minutes share jobs and locks: what they
// store and compare is the server's time (store.Store.Clock).
//
// It matters as no database's clock decides when a lease ends, only the now that
// is passed in: the same workers on their own clocks take each other's jobs as
// soon as they are begun, as TestSkewedClocksWithoutTheServers shows.
func TestSkewedClocks(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"the holder's is slow": -time.Minute, "the holder's is fast": time.Minute} {
		t.Run(name, func(t *testing.T) {
			cfg := installation(realServer(t))
			holder, other := skewed(t, cfg, ahead), skewed(t, cfg, -ahead)
			if n := attempts(t, holder.Store, other, holder.Clock, other.Clock); n != 1 {
				t.Errorf("a job that was never given up was begun %d times", n)
			}

			key := lock.Key("workspace/a")
			ctx, held, err := lock.New(holder.Locks, lock.Config{Clock: holder.Clock}).Hold(t.Context(), key, lock.Holder{ID: "a"}, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			thief := lock.New(other.Locks, lock.Config{Clock: other.Clock})
			for range 10 {
				if lease, err := thief.Acquire(t.Context(), key, lock.Holder{ID: "b"}, time.Second); !errors.As(err, new(*lock.HeldError)) {
					t.Fatalf("a lock that is held was given away: %+v %v", lease, err)
				}
			}
			if err := held.Check(ctx); err != nil {
				t.Errorf("the holder is told: %v", err)
			}
			if err := held.Release(t.Context()); err != nil {
				t.Error(err)
			}
			if lease, err := thief.Acquire(t.Context(), key, lock.Holder{ID: "b"}, time.Second); err != nil {
				t.Errorf("a lock that was given back: %+v %v", lease, err)
			}
		})
	}
}

// What TestSkewedClocks sees is due to Store.Clock.
func TestSkewedClocksWithoutTheServers(t *testing.T) {
	cfg := installation(realServer(t))
	holder, other := skewed(t, cfg, -time.Minute), skewed(t, cfg, time.Minute)
	if n := attempts(t, holder.Store, other, holder.own, other.own); n < 2 {
		t.Errorf("a worker two minutes ahead left a job alone that it saw as given up: %d attempts", n)
	}
}

// handle is a handle of a machine whose clock is wrong.
type handle struct {
	*store.Store
	own func() time.Time // the machine's clock
	// claims counts how often it asked for jobs.
	claims atomic.Int64
}

func skewed(t *testing.T, cfg redis.Config, by time.Duration) *handle {
	t.Helper()
	h := &handle{own: func() time.Time { return time.Now().Add(by) }}
	cfg.Now = h.own
	cfg.Observe = func(method string, _ time.Duration, _ error) {
		if method == "queue.claim" {
			h.claims.Add(1)
		}
	}
	var err error
	if h.Store, err = redis.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// attempts has one machine carry out a job until the other one has asked for jobs
// many times, and returns how often the job was begun.
func attempts(t *testing.T, holder *store.Store, other *handle, holders, others func() time.Time) int64 {
	t.Helper()
	// A lease that the skew is many times of, and a loaded machine keeps.
	const lease, poll, polls = 10 * time.Second, 20 * time.Millisecond, 30
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var begun atomic.Int64
	first, done := make(chan struct{}), make(chan struct{}, 2)
	work := func(driver queue.Driver, clock func() time.Time) {
		w := queue.NewWorker(queue.New(driver, queue.Config{Clock: clock}), queue.WorkerConfig{
			Lease: lease, Heartbeat: lease / 20, Poll: poll,
			Handlers: map[string]queue.Handler{"long": func(ctx context.Context, _ queue.Job) error {
				if begun.Add(1) == 1 {
					close(first)
				}
				<-ctx.Done()
				return context.Cause(ctx)
			}},
		})
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
		done <- struct{}{}
	}
	q := queue.New(holder.Queue, queue.Config{Clock: holders})
	if _, err := q.Enqueue(ctx, queue.Job{Kind: "long"}); err != nil {
		t.Fatal(err)
	}
	go work(holder.Queue, holders)
	<-first
	go work(other.Queue, others)
	for from := other.claims.Load(); other.claims.Load() < from+polls; {
		time.Sleep(poll)
	}
	stop()
	<-done
	<-done
	return begun.Load()
}
