package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/store"
)

// opened opens a database for tests that look inside.
func opened(t *testing.T) (*database, *jobs) {
	t.Helper()
	d, err := open(t.Context(), filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	q := newQueue(d)
	t.Cleanup(func() {
		q.stop()
		if err := d.close(); err != nil {
			t.Error(err)
		}
	})
	return d, q
}

// TestPlans holds the queue's statements to reading an index: one that scans or
// sorts would cost more with every job that waits.
func TestPlans(t *testing.T) {
	d, q := opened(t)
	ctx := t.Context()
	now := time.Unix(1e9, 0)
	var all []queue.Job
	for i := range 60 {
		all = append(all, queue.Job{ID: fmt.Sprint(i), Kind: "k", Group: fmt.Sprint(i % 7 * (i % 2)), Key: fmt.Sprint(i % 50), Limit: fmt.Sprint(i % 3), RunsOn: queue.Labels([]string{"", "a", "b"}[i%4%3]),
			Priority: queue.PriorityDrift, RunAt: now.Add(time.Duration(i%4) * time.Second), EnqueuedAt: now, OverdueAt: now.Add(time.Duration(i%9) * time.Second)})
	}
	for step := range 10 {
		if _, err := q.Enqueue(ctx, now, all[step*6:step*6+6]); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
		jobs, err := q.Claim(ctx, now, queue.Claim{Worker: "w", Lease: 3 * time.Second, Max: 5, PerLimit: 2, Labels: []string{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		for i, j := range jobs {
			if _, err := q.Heartbeat(ctx, now, []queue.Ref{j.Ref()}, 3*time.Second); err != nil {
				t.Fatal(err)
			}
			if err := q.Finish(ctx, now, j.Ref(), queue.Outcome{Done: i%3 == 0, Dead: i%3 == 1, RunAt: now}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := q.Control(ctx, now, "1", queue.ActionRetry); err != nil {
		t.Fatal(err)
	}

	if err := d.load(ctx, []store.Item{
		{Tokens: &store.Tokens{Job: 1000, Lock: 1000}}, {Job: &all[1]}, {Lease: &lock.Lease{Key: "k"}}, {Run: &store.Run{ID: "r", Key: "k"}},
		{Chunk: &store.Chunk{Key: "k"}}, {Record: &store.Record{Key: "k"}}, {Entry: &store.Entry{ID: "e"}},
	}); err != nil {
		t.Fatal(err)
	}

	var looked int
	for query := range d.write.stmts {
		for _, step := range plan(t, d.read, query) {
			if strings.Contains(step, "SCAN") || strings.Contains(step, "TEMP B-TREE") {
				t.Errorf("%s\n\t%s", query, step)
			}
			looked++
		}
	}
	if looked < 15 {
		t.Errorf("only %d steps were looked at", looked)
	}
}

// plan returns the steps of SQLite's plan for query.
func plan(t *testing.T, db *sql.DB, query string) (steps []string) {
	t.Helper()
	if !slices.ContainsFunc([]string{"SELECT", "UPDATE", "DELETE", "INSERT"}, func(verb string) bool { return strings.HasPrefix(query, verb) }) {
		return nil
	}
	args := make([]any, strings.Count(query, "?"))
	rows, err := db.QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(query, err)
	}
	if err := scanAll(rows, func(scan scanner) error {
		var step string
		err := scan(new(int), new(int), new(int), &step)
		t.Log(step)
		steps = append(steps, step)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return steps
}

// stall runs during while the writer is busy, so that what during starts waits
// together.
func stall(t *testing.T, d *database, during func()) {
	t.Helper()
	busy, free := make(chan struct{}, batchSize), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- d.write.do(context.Background(), func(*tx) error {
			busy <- struct{}{} // once more for each further try
			<-free
			return nil
		})
	}()
	<-busy
	during()
	close(free)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func put(t *tx, key string, size int) error {
	_, err := t.exec("INSERT INTO artifact (key, idx, data) VALUES (?, 0, ?)", key, make([]byte, size))
	return err
}

func (d *database) keys(t *testing.T) (keys []string) {
	t.Helper()
	if err := d.query(t.Context(), "SELECT key FROM artifact ORDER BY key", nil, func(scan scanner) error {
		var key string
		err := scan(&key)
		keys = append(keys, key)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestWriterKeepsCallersApart(t *testing.T) {
	d, _ := opened(t)
	broke := errors.New("broke")
	var wg sync.WaitGroup
	stall(t, d, func() {
		for i := range 20 {
			wg.Go(func() {
				err := d.write.do(t.Context(), func(t *tx) error {
					if err := put(t, fmt.Sprintf("%02d", i), 1); err != nil {
						return err
					}
					if i%2 == 1 {
						return broke
					}
					return nil
				})
				if want := i%2 == 1; errors.Is(err, broke) != want || !want && err != nil {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
	})
	wg.Wait()
	if keys := d.keys(t); len(keys) != 10 || keys[1] != "02" {
		t.Errorf("stored: %v", keys)
	}
}

func TestWriterWithdraws(t *testing.T) {
	d, _ := opened(t)
	stall(t, d, func() {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() {
			result <- d.write.do(ctx, func(t *tx) error { return put(t, "k", 1) })
		}()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	if keys := d.keys(t); len(keys) != 0 {
		t.Errorf("stored: %v", keys)
	}
}

func TestFullDisk(t *testing.T) {
	d, q := opened(t)
	now := time.Unix(1e9, 0)
	job := func(id string) []queue.Job {
		return []queue.Job{{ID: id, Kind: "k", Priority: 1, RunAt: now, EnqueuedAt: now, OverdueAt: now}}
	}
	if _, err := q.Enqueue(t.Context(), now, job("before")); err != nil {
		t.Fatal(err)
	}
	limitPages(t, d, 20)
	a := &artifacts{d}
	err := a.Put(t.Context(), now, "large", make([]byte, 1<<20))
	if !errors.Is(err, store.ErrFull) {
		t.Fatalf("got %v, want ErrFull", err)
	}
	// A large write does not take the small ones beside it with it.
	var wg sync.WaitGroup
	stall(t, d, func() {
		for i := range 4 {
			wg.Go(func() {
				if _, err := q.Enqueue(t.Context(), now, job(fmt.Sprint("small-", i))); err != nil {
					t.Errorf("small: %v", err)
				}
			})
			wg.Go(func() {
				if err := a.Put(t.Context(), now, fmt.Sprint("large-", i), make([]byte, 1<<20)); !errors.Is(err, store.ErrFull) {
					t.Errorf("large: %v", err)
				}
			})
		}
	})
	wg.Wait()
	jobs, err := q.List(t.Context(), queue.Filter{})
	if err != nil || len(jobs) != 5 || len(d.keys(t)) != 0 {
		t.Errorf("%d jobs, artifacts %v, %v", len(jobs), d.keys(t), err)
	}
	limitPages(t, d, 1e6)
	if err := a.Put(t.Context(), now, "large", make([]byte, 1<<20)); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// limitPages makes the file as if its disk had room for only so many pages more.
func limitPages(t *testing.T, d *database, more int) {
	t.Helper()
	err := d.write.do(t.Context(), func(tx *tx) error {
		var pages int
		if _, err := tx.row("PRAGMA page_count", nil, &pages); err != nil {
			return err
		}
		_, err := tx.row(fmt.Sprintf("PRAGMA max_page_count = %d", pages+more), nil, &pages)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAuditTrailIsNeverChanged(t *testing.T) {
	d, _ := opened(t)
	if err := (&audit{d}).Append(t.Context(), store.Entry{ID: "1", Who: "alice"}); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"UPDATE audit SET who = 'mallory'", "DELETE FROM audit"} {
		err := d.write.do(t.Context(), func(tx *tx) error {
			_, err := tx.exec(query)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "never changed") {
			t.Errorf("%s: %v", query, err)
		}
	}
}

func TestInstant(t *testing.T) {
	for _, c := range []struct{ in, want time.Time }{
		{time.Time{}, time.Time{}},
		{time.Unix(1e9, 123456789), time.Unix(1e9, 123456789)},
		{time.Unix(-5, 0), time.Unix(0, 1)},
		{time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), time.Unix(0, 1)},
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(0, math.MaxInt64)},
	} {
		if got := instant(nanos(c.in)); !got.Equal(c.want) {
			t.Errorf("%s became %s", c.in, got)
		}
	}
}

func TestAfter(t *testing.T) {
	for prefix, want := range map[string]string{"a": "b", "a/": "a0", "a\xff": "b", "": "", "\xff\xff": ""} {
		if got, ok := after(prefix); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", prefix, got, ok)
		}
	}
}

// TestManyBecomeDue has more jobs become due at once than one claim marks,
// most of them blocked: the claim goes on until it finds what it can run.
func TestManyBecomeDue(t *testing.T) {
	_, q := opened(t)
	now := time.Unix(1e9, 0)
	const blocked, free = 2 * promoted, promoted / 2
	jobs := make([]queue.Job, 0, blocked+free)
	for i := range blocked + free {
		j := queue.Job{ID: fmt.Sprint(i), Kind: "k", Priority: queue.PriorityDrift, RunAt: now.Add(time.Duration(i+1) * time.Millisecond), EnqueuedAt: now, OverdueAt: now.Add(time.Hour)}
		if i < blocked {
			j.Group = "one"
		}
		jobs = append(jobs, j)
	}
	if _, err := q.Enqueue(t.Context(), now, jobs); err != nil {
		t.Fatal(err)
	}
	later := now.Add(2 * time.Hour) // by then they are all overdue, too
	claim := func() []queue.Job {
		jobs, err := q.Claim(t.Context(), later, queue.Claim{Worker: "w", Lease: time.Hour, Max: promoted})
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	if jobs := claim(); len(jobs) != 1 || jobs[0].ID != "0" {
		t.Fatalf("%d jobs of the group", len(jobs))
	}
	if jobs := claim(); len(jobs) != free {
		t.Errorf("%d jobs behind the blocked ones", len(jobs))
	}
	if jobs := claim(); len(jobs) != 0 {
		t.Errorf("%d jobs too many", len(jobs))
	}
}
