// Package storetest holds every backend to the promises that queue, lock and
// store document, so that the rest of Holdfast need not know which one it runs
// on. A backend's own test is:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Open {
//			path := filepath.Join(t.TempDir(), "store.db")
//			return func(ctx context.Context) (*store.Store, error) { return sqlite.Open(ctx, path) }
//		})
//	}
package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/lock"
	"holdfast/store"
)

// Open returns a new handle on one store: each call another handle on the same
// one, also after all of them were closed. The suite closes what it opens.
type Open func(ctx context.Context) (*store.Store, error)

// Run tests a backend. fresh returns the Open of an empty store, of another one
// at each call.
func Run(t *testing.T, fresh func(t *testing.T) Open) {
	t.Helper()
	t.Run("Queue", func(t *testing.T) {
		RunQueue(t, func(t *testing.T) Queue {
			open := fresh(t)
			a, b := handle(t, open), handle(t, open)
			return Queue{A: a.Queue, B: b.Queue, Counts: b.Counts}
		})
	})
	t.Run("Locks", func(t *testing.T) {
		RunLocks(t, func(t *testing.T) (a, b lock.Driver) {
			open := fresh(t)
			return handle(t, open).Locks, handle(t, open).Locks
		})
	})
	for name, test := range map[string]func(*testing.T, Open){
		"Runs":      testRuns,
		"Artifacts": testArtifacts,
		"Sealed":    testSealed,
		"Records":   testRecords,
		"Audit":     testAudit,
		"Reopen":    testReopen,
		"Close":     testClose,
		"Canceled":  testCanceled,
		"Backup":    testBackup,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
	t.Run("Move", func(t *testing.T) { testMove(t, fresh(t), fresh(t)) })
}

// start is the time at which every test begins. Backends never look at a clock
// of their own, so it may be any.
var start = time.Date(2031, 5, 4, 3, 2, 1, 123456789, time.UTC)

// at returns start plus d.
func at(d time.Duration) time.Time { return start.Add(d) }

// handle opens a handle that is closed with the test.
func handle(t *testing.T, open Open) *store.Store {
	t.Helper()
	s, err := open(t.Context())
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// equal fails the test where got is not want.
func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// is fails the test where err is not of target (nil: no error).
func is(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: got error %v, want %v", what, err, target)
	}
}

// must fails the test on an error and returns the value.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
