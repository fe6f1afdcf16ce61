package storetest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/store"
)

// fill puts something into every part of s.
func fill(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	job := queue.Job{ID: "j", Kind: "k", Group: "g", Key: "key", Priority: queue.PriorityApply, RunAt: start, EnqueuedAt: start, OverdueAt: at(time.Hour)}
	must[[]queue.Job](t)(s.Queue.Enqueue(ctx, start, []queue.Job{job}))
	must[[]queue.Job](t)(s.Queue.Claim(ctx, start, queue.Claim{Worker: "w", Lease: lease, Max: 1}))
	must[lock.Lease](t)(s.Locks.Acquire(ctx, start, "k", alice, 0))
	_, _, err := s.Runs.Create(ctx, start, store.Run{ID: "r", Key: "r", State: store.Running})
	is(t, "Create", err, nil)
	is(t, "Append", s.Artifacts.Append(ctx, start, "a", []byte("log")), nil)
	must[store.Record](t)(s.Records.Put(ctx, start, store.Record{Key: "r", Value: []byte(`1`)}))
	is(t, "Append", s.Audit.Append(ctx, store.Entry{ID: "e", At: start, Who: "me", Action: "plan"}), nil)
}

// filled checks that s has what fill put there, and returns the job.
func filled(t *testing.T, s *store.Store) queue.Job {
	t.Helper()
	ctx := t.Context()
	jobs := must[[]queue.Job](t)(s.Queue.List(ctx, queue.Filter{}))
	if len(jobs) != 1 || jobs[0].State != queue.StateRunning {
		t.Fatalf("jobs: %+v", jobs)
	}
	locks := must[[]lock.Lease](t)(s.Locks.List(ctx, start, ""))
	equal(t, "lock", []any{len(locks), locks[0].Holder}, []any{1, alice})
	equal(t, "run", must[store.Run](t)(s.Runs.Get(ctx, "r")).State, store.Running)
	equal(t, "artifact", string(must[[]byte](t)(s.Artifacts.Get(ctx, "a"))), "log")
	equal(t, "record", string(must[store.Record](t)(s.Records.Get(ctx, "r")).Value), "1")
	equal(t, "entries", len(must[[]store.Entry](t)(s.Audit.List(ctx, "", 10))), 1)
	return jobs[0]
}

// testReopen closes all handles and opens the store again.
func testReopen(t *testing.T, open Open) {
	s := must[*store.Store](t)(open(t.Context()))
	fill(t, s)
	is(t, "Close", s.Close(), nil)
	s = handle(t, open)
	old := filled(t, s)
	jobs := must[[]queue.Job](t)(s.Queue.Claim(t.Context(), at(lease), queue.Claim{Worker: "w2", Lease: lease, Max: 1}))
	if len(jobs) != 1 || jobs[0].Token <= old.Token || jobs[0].Attempt != 2 {
		t.Fatalf("claimed %+v after token %d", jobs, old.Token)
	}
}

// testClose uses a store after it was closed: an error, never a hang or a panic.
func testClose(t *testing.T, open Open) {
	s := must[*store.Store](t)(open(t.Context()))
	s.Queue.Wake(t.Context())
	is(t, "Close", s.Close(), nil)
	is(t, "second Close", s.Close(), nil)
	s.Queue.Wake(t.Context())
	if _, err := s.Queue.Claim(t.Context(), start, queue.Claim{Max: 1}); err == nil {
		t.Error("Claim on a closed store is no error")
	}
	if _, err := s.Records.Get(t.Context(), "k"); err == nil {
		t.Error("Get on a closed store is no error")
	}
}

// testCanceled uses a context that has ended: an error, and nothing changed.
func testCanceled(t *testing.T, open Open) {
	s := handle(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Records.Put(ctx, start, store.Record{Key: "k", Value: []byte(`1`)})
	is(t, "Put", err, context.Canceled)
	_, err = s.Records.Get(t.Context(), "k")
	is(t, "Get", err, store.ErrNotFound)
}

// testBackup is for backends that have their own Backup.
func testBackup(t *testing.T, open Open) {
	s := handle(t, open)
	if s.Backup == nil {
		return
	}
	fill(t, s)
	file := filepath.Join(t.TempDir(), "backup")
	is(t, "Backup", s.Backup(t.Context(), file), nil)
	is(t, "Backup to a file that is there", s.Backup(t.Context(), file), store.ErrExists)
	if s.Backup(t.Context(), filepath.Join(t.TempDir(), "no", "such", "dir")) == nil {
		t.Error("Backup to a missing directory is no error")
	}
	filled(t, s)
}
