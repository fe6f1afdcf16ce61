package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/store"
)

// Benchmark measures a backend's queue, empty and with many jobs waiting: the
// cost of a claim must not grow with them. fresh returns the Open of an empty
// store.
func Benchmark(b *testing.B, fresh func(b *testing.B) Open) {
	for _, waiting := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			s, err := fresh(b)(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() {
				if err := s.Close(); err != nil {
					b.Error(err)
				}
			})
			backlog(b, s, waiting)
			n := 0 // over all runs of a benchmark, so that IDs stay unique
			b.Run("Enqueue", func(b *testing.B) { benchEnqueue(b, s, &n) })
			b.Run("Cycle", func(b *testing.B) { benchCycle(b, s, &n) })
			b.Run("CycleOf16", func(b *testing.B) { benchCycles(b, s, &n) })
			b.Run("Counts", func(b *testing.B) { benchCounts(b, s) })
			b.Run("Workers", func(b *testing.B) { benchWorkers(b, s) })
		})
	}
}

// backlog adds jobs in groups of ten, in 100 buckets, a tenth of them in one,
// and in four pools, of which the benchmarks serve one.
func backlog(b *testing.B, s *store.Store, n int) {
	b.Helper()
	const batch = 5000
	for from := 0; from < n; from += batch {
		var jobs []queue.Job
		for i := from; i < min(n, from+batch); i++ {
			limit := i % 100
			if limit >= 90 {
				limit = 0
			}
			jobs = append(jobs, queue.Job{ID: fmt.Sprintf("backlog-%07d", i), Kind: "b", Group: fmt.Sprint("group-", i%(n/10)), Limit: fmt.Sprint("limit-", limit),
				RunsOn: queue.Labels([]string{"", "a", "b", "c"}[i%4]), Priority: queue.PriorityDrift, RunAt: start, EnqueuedAt: start, OverdueAt: at(1000 * time.Hour)})
		}
		if _, err := s.Queue.Enqueue(b.Context(), start, jobs); err != nil {
			b.Fatal(err)
		}
	}
}

// urgent makes jobs that go before the backlog, each in a group of its own.
func urgent(n *int, count int) []queue.Job {
	jobs := make([]queue.Job, count)
	for i := range jobs {
		*n++
		jobs[i] = queue.Job{ID: fmt.Sprintf("urgent-%07d", *n), Kind: "u", Group: fmt.Sprint("urgent-", *n), Key: fmt.Sprint("urgent-", *n), Limit: "urgent",
			Priority: queue.PriorityInteractive, RunAt: start, EnqueuedAt: start, OverdueAt: at(1000 * time.Hour)}
	}
	return jobs
}

func benchEnqueue(b *testing.B, s *store.Store, n *int) {
	for b.Loop() {
		if _, err := s.Queue.Enqueue(b.Context(), start, urgent(n, 1)); err != nil {
			b.Fatal(err)
		}
	}
	for finishSome(b, s, 1000) > 0 {
	}
}

// benchCycle is one caller that enqueues, claims and finishes one job.
func benchCycle(b *testing.B, s *store.Store, n *int) {
	for b.Loop() {
		if _, err := s.Queue.Enqueue(b.Context(), start, urgent(n, 1)); err != nil {
			b.Fatal(err)
		}
		if finishSome(b, s, 1) != 1 {
			b.Fatal("the job was not claimed")
		}
	}
}

// benchCycles is benchCycle by sixteen callers at once: their writes share
// commits. A result is for one job.
func benchCycles(b *testing.B, s *store.Store, n *int) {
	ids := make(chan []queue.Job, 1024)
	go func() {
		defer close(ids)
		for range b.N {
			ids <- urgent(n, 1)
		}
	}()
	b.SetParallelism(8) // times GOMAXPROCS
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Queue.Enqueue(b.Context(), start, <-ids); err != nil {
				b.Error(err)
				return
			}
			finishSome(b, s, 1)
		}
	})
	for finishSome(b, s, 100) > 0 {
	}
}

// finishSome claims and finishes up to most urgent jobs.
func finishSome(b *testing.B, s *store.Store, most int) int {
	jobs, err := s.Queue.Claim(b.Context(), start, queue.Claim{Worker: "w", Lease: time.Hour, Max: most})
	if err != nil {
		b.Error(err)
		return 0
	}
	done := 0
	for _, j := range jobs {
		o := queue.Outcome{Done: true}
		if j.Kind != "u" { // not of the backlog
			o = queue.Outcome{RunAt: start, Uncounted: true}
		} else {
			done++
		}
		if err := s.Queue.Finish(b.Context(), start, j.Ref(), o); err != nil {
			b.Error(err)
			return 0
		}
	}
	return done
}

func benchCounts(b *testing.B, s *store.Store) {
	for b.Loop() {
		if _, err := s.Counts(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// benchWorkers is the time from Enqueue of one job to its handler in an idle
// worker.
func benchWorkers(b *testing.B, s *store.Store) {
	q := queue.New(s.Queue, queue.Config{Clock: func() time.Time { return at(-time.Hour) }}) // none of the backlog is due
	ran := make(chan struct{})
	w := queue.NewWorker(q, queue.WorkerConfig{Poll: time.Hour, Handlers: map[string]queue.Handler{
		"now": func(context.Context, queue.Job) error { ran <- struct{}{}; return nil },
	}})
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	for b.Loop() {
		if _, err := q.Enqueue(ctx, queue.Job{Kind: "now"}); err != nil {
			b.Fatal(err)
		}
		<-ran
	}
	stop()
	if err := <-done; err != nil {
		b.Error(err)
	}
}
