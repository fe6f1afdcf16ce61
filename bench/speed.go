package main

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// named is a side and what its rounds showed.
type named struct {
	side
	name string
	// redis says that it is on the Redis server, whose processor time counts.
	redis  bool
	rounds []round
}

// round is what one round showed of one job.
type round struct{ wall, cpu time.Duration }

func (n *named) wall() time.Duration {
	var all []time.Duration
	for _, r := range n.rounds {
		all = append(all, r.wall)
	}
	return median(all)
}

// cpuTime returns the processor time of Redis.
func (n *named) cpuTime() time.Duration {
	var all []time.Duration
	for _, r := range n.rounds {
		all = append(all, r.cpu)
	}
	return median(all)
}

// cpu returns cpuTime as text.
func (n *named) cpu() string {
	if !n.redis {
		return "-"
	}
	return micros(n.cpuTime())
}

// openSides opens all sides anew; poll is that of asynq's idle workers.
func openSides(ctx context.Context, server *redisServer, s settings, name string, poll time.Duration) ([]*named, error) {
	onServer, err := onRedis(ctx, server, name)
	if err != nil {
		return nil, err
	}
	inFile, err := onSQLite(ctx, s.dir, name)
	if err != nil {
		onServer.close()
		return nil, err
	}
	return []*named{
		{side: newAsynq(server, poll), name: "asynq", redis: true},
		{side: onServer, name: "Holdfast, Redis", redis: true},
		{side: inFile, name: "Holdfast, SQLite"},
	}, nil
}

func closeSides(sides []*named) {
	for _, side := range sides {
		side.close()
	}
}

// enqueues measures how long a job takes to be durable.
func enqueues(ctx context.Context, out io.Writer, server *redisServer, s settings) error {
	sides, err := openSides(ctx, server, s, "enqueue", 0)
	if err != nil {
		return err
	}
	defer closeSides(sides)
	t := table{title: "Enqueue, time per job (beside asynq's)"}
	t.add("callers", "side", "time", "of asynq's", "Redis CPU")
	for _, callers := range []int{1, 16} {
		for _, side := range sides {
			side.rounds = nil
		}
		for range s.rounds {
			for _, side := range sides {
				r, err := server.timed(ctx, s.jobs, func() error {
					return together(ctx, callers, s.jobs, func(ctx context.Context, _ int) error { return side.enqueue(ctx) })
				})
				if err != nil {
					return err
				}
				side.rounds = append(side.rounds, r)
			}
		}
		for _, side := range sides {
			t.add(callers, side.name, micros(side.wall()), ratio(float64(side.wall()), float64(sides[0].wall())), side.cpu())
		}
	}
	return t.print(out)
}

// timed measures do, which handles n jobs.
func (s *redisServer) timed(ctx context.Context, n int, do func() error) (round, error) {
	cpu, err := s.cpu(ctx)
	if err != nil {
		return round{}, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return round{}, err
	}
	wall := time.Since(began)
	after, err := s.cpu(ctx)
	return round{wall / time.Duration(n), (after - cpu) / time.Duration(n)}, err
}

// latencies measures the time from the call that enqueues on one handle to the
// handler's start in an idle worker on another.
func latencies(ctx context.Context, out io.Writer, server *redisServer, s settings) error {
	const often = 5 * time.Millisecond
	sides, err := openSides(ctx, server, s, "latency", often)
	if err != nil {
		return err
	}
	defer closeSides(sides)
	t := table{title: "From enqueue to the handler's start in an idle worker",
		note: fmt.Sprintf("asynq polls: each second by default (0.5 to 1.5 s between two looks), here every %s.\n", often)}
	t.add("side", "p50", "p99", "jobs")
	for _, side := range sides {
		waits, err := latency(ctx, side, max(1000, s.jobs/2))
		if err != nil {
			return err
		}
		t.add(side.name, millis(quantile(waits, 0.5)), millis(quantile(waits, 0.99)), len(waits))
	}
	return t.print(out)
}

func latency(ctx context.Context, s side, n int) ([]time.Duration, error) {
	working, stop := context.WithCancel(ctx)
	defer stop()
	waits, started := []time.Duration{}, make(chan time.Time, 1)
	group, working := errgroup.WithContext(working)
	group.Go(func() error {
		return s.work(working, 1, func() { started <- time.Now() })
	})
	group.Go(func() error {
		defer stop()
		for range n + 1 {
			sent := time.Now()
			if err := s.enqueue(working); err != nil {
				return err
			}
			select {
			case at := <-started:
				waits = append(waits, at.Sub(sent))
			case <-working.Done():
				return working.Err()
			}
			// The worker asks once more before it is idle.
			time.Sleep(3 * time.Millisecond)
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return waits[1:], nil // the first one waited for the worker to begin
}

// throughputs measures jobs per second with handlers that do nothing.
func throughputs(ctx context.Context, out io.Writer, server *redisServer, s settings) error {
	t := table{title: "Jobs per second, handlers that do nothing (beside asynq's)",
		note: "Holdfast's jobs have a group, a key and a bucket each, and 100,000 are in 10,000 groups, of which one job runs at a\n" +
			"time. asynq has no such groups: its jobs are plain. Redis CPU is the server's time for one job, enqueuing not counted.\n"}
	t.add("waiting", "workers", "side", "jobs/s", "of asynq's", "Redis CPU")
	for _, waiting := range []int{0, 100_000} {
		sides, err := openSides(ctx, server, s, fmt.Sprint("jobs-", waiting), 0)
		if err != nil {
			return err
		}
		err = throughput(ctx, &t, server, s, sides, waiting)
		closeSides(sides)
		if err != nil {
			return err
		}
	}
	return t.print(out)
}

func throughput(ctx context.Context, t *table, server *redisServer, s settings, sides []*named, waiting int) error {
	for _, side := range sides {
		if err := side.fill(ctx, waiting); err != nil {
			return err
		}
	}
	for _, workers := range []int{1, 8, 64} {
		for _, side := range sides {
			side.rounds = nil
		}
		for range s.rounds {
			for _, side := range sides {
				// As many as are taken; a worker that is told to stop has taken some more.
				if err := together(ctx, 16, s.jobs, func(ctx context.Context, _ int) error { return side.enqueue(ctx) }); err != nil {
					return err
				}
				r, err := drain(ctx, server, side, workers, s.jobs)
				if err != nil {
					return err
				}
				side.rounds = append(side.rounds, r)
			}
		}
		for _, side := range sides {
			perSecond := float64(time.Second) / float64(side.wall())
			t.add(waiting, workers, side.name, fmt.Sprintf("%.0f", perSecond), ratio(float64(sides[0].wall()), float64(side.wall())), side.cpu())
		}
	}
	return nil
}

// drain measures n jobs from the first handler's start to the last one's.
func drain(ctx context.Context, server *redisServer, s side, workers, n int) (round, error) {
	working, stop := context.WithCancel(ctx)
	defer stop()
	var count atomic.Int64
	first, last := make(chan struct{}), make(chan struct{})
	group, working := errgroup.WithContext(working)
	group.Go(func() error {
		return s.work(working, workers, func() {
			switch count.Add(1) {
			case 1:
				close(first)
			case int64(n):
				close(last)
			}
		})
	})
	var r round
	group.Go(func() (err error) {
		defer stop()
		if err := wait(working, first); err != nil {
			return err
		}
		r, err = server.timed(ctx, n-1, func() error { return wait(working, last) })
		return err
	})
	return r, group.Wait()
}

// wait waits for done.
func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
