package storetest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/store"
)

// testReopen closes all handles and opens the store again.
func testReopen(t *testing.T, open Open) {
	s := must[*store.Store](t)(open(t.Context()))
	Fill(t, s)
	before := dump(t, s)
	is(t, "Close", s.Close(), nil)
	s = handle(t, open)
	equal(t, "all", dump(t, s), before)
	sameCounts(t, s)
	for _, j := range must[[]queue.Job](t)(s.Queue.Claim(t.Context(), at(time.Hour), queue.Claim{Worker: "w2", Lease: lease, Max: 100})) {
		if j.Token <= before[0].Tokens.Job {
			t.Fatalf("token %d after %d", j.Token, before[0].Tokens.Job)
		}
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
	Fill(t, s)
	before := dump(t, s)
	file := filepath.Join(t.TempDir(), "backup")
	is(t, "Backup", s.Backup(t.Context(), file), nil)
	is(t, "Backup to a file that is there", s.Backup(t.Context(), file), store.ErrExists)
	if s.Backup(t.Context(), filepath.Join(t.TempDir(), "no", "such", "dir")) == nil {
		t.Error("Backup to a missing directory is no error")
	}
	equal(t, "the store goes on as before", dump(t, s), before)
}
