package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/lock"
)

// RunLocks tests a lock table. open returns two handles on one empty table,
// closed with the test.
func RunLocks(t *testing.T, open func(t *testing.T) (a, b lock.Driver)) {
	t.Helper()
	for name, test := range map[string]func(t *testing.T, a, b lock.Driver){
		"Acquire":    testAcquire,
		"TakeOver":   testTakeOver,
		"Renew":      testRenew,
		"Release":    testRelease,
		"List":       testLockList,
		"Concurrent": testLockConcurrent,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := open(t)
			test(t, a, b)
		})
	}
}

var (
	alice = lock.Holder{ID: "alice", Who: "Alice", Why: "an incident"}
	bob   = lock.Holder{ID: "bob", Who: "Bob"}
)

// heldBy fails the test unless err says that holder has the lock.
func heldBy(t *testing.T, err error, want lock.Lease) {
	t.Helper()
	var held *lock.HeldError
	if !errors.As(err, &held) {
		t.Fatalf("got error %v, want a HeldError", err)
	}
	equal(t, "the lease in force", held.Lease, want)
}

func testAcquire(t *testing.T, a, b lock.Driver) {
	l := must[lock.Lease](t)(a.Acquire(t.Context(), start, "k", alice, time.Minute))
	equal(t, "lease", l, lock.Lease{Key: "k", Holder: alice, Token: l.Token, Since: start, ExpireAt: at(time.Minute)})
	if l.Token <= 0 {
		t.Fatalf("token %d", l.Token)
	}
	_, err := b.Acquire(t.Context(), at(time.Minute-1), "k", bob, time.Minute)
	heldBy(t, err, l)
	other := must[lock.Lease](t)(b.Acquire(t.Context(), start, "k2", bob, 0))
	equal(t, "no end", other.ExpireAt, time.Time{})
	_, err = a.Acquire(t.Context(), at(100000*time.Hour), "k2", alice, 0)
	heldBy(t, err, other)

	// At its end it is free.
	next := must[lock.Lease](t)(b.Acquire(t.Context(), at(time.Minute), "k", bob, time.Minute))
	equal(t, "since", next.Since, at(time.Minute))
	if next.Token <= other.Token || other.Token <= l.Token {
		t.Fatalf("tokens do not grow over all keys: %d, %d, %d", l.Token, other.Token, next.Token)
	}
}

func testTakeOver(t *testing.T, a, b lock.Driver) {
	l := must[lock.Lease](t)(a.Acquire(t.Context(), start, "k", alice, time.Minute))
	again := alice
	again.Why = "another attempt"
	next := must[lock.Lease](t)(b.Acquire(t.Context(), at(time.Second), "k", again, time.Hour))
	equal(t, "taken over", next, lock.Lease{Key: "k", Holder: again, Token: next.Token, Since: start, ExpireAt: at(time.Hour + time.Second)})
	if next.Token <= l.Token {
		t.Fatalf("token %d after %d", next.Token, l.Token)
	}
	_, err := a.Renew(t.Context(), at(time.Second), l, time.Minute)
	is(t, "Renew of what was taken over", err, lock.ErrLost)
	is(t, "Release of what was taken over", a.Release(t.Context(), at(time.Second), l), lock.ErrLost)
	_, err = a.Acquire(t.Context(), at(time.Second), "k", bob, time.Minute)
	heldBy(t, err, next)
	fresh := must[lock.Lease](t)(a.Acquire(t.Context(), at(3*time.Hour), "k", alice, time.Hour))
	equal(t, "after its end it is a new one", fresh.Since, at(3*time.Hour))
}

func testRenew(t *testing.T, a, b lock.Driver) {
	l := must[lock.Lease](t)(a.Acquire(t.Context(), start, "k", alice, time.Minute))
	r := must[lock.Lease](t)(b.Renew(t.Context(), at(30*time.Second), l, time.Minute))
	want := l
	want.ExpireAt = at(90 * time.Second)
	equal(t, "renewed", r, want)
	_, err := b.Acquire(t.Context(), at(89*time.Second), "k", bob, time.Minute)
	heldBy(t, err, want)
	r = must[lock.Lease](t)(a.Renew(t.Context(), at(time.Hour), l, time.Minute)) // ended, but nobody took it
	equal(t, "renewed late", r.ExpireAt, at(time.Hour+time.Minute))
	must[lock.Lease](t)(b.Acquire(t.Context(), at(2*time.Hour), "k", bob, time.Minute))
	_, err = a.Renew(t.Context(), at(2*time.Hour), l, time.Minute)
	is(t, "Renew of what somebody took", err, lock.ErrLost)
	_, err = a.Renew(t.Context(), at(9*time.Hour), l, time.Minute)
	is(t, "Renew of what somebody took, after its end", err, lock.ErrLost)
	_, err = a.Renew(t.Context(), start, lock.Lease{Key: "never", Token: 1}, time.Minute)
	is(t, "Renew of what was never held", err, lock.ErrLost)
}

func testRelease(t *testing.T, a, b lock.Driver) {
	l := must[lock.Lease](t)(a.Acquire(t.Context(), start, "k", alice, 0))
	is(t, "Release", b.Release(t.Context(), start, l), nil)
	is(t, "second Release", a.Release(t.Context(), start, l), lock.ErrLost)
	_, err := a.Renew(t.Context(), start, l, time.Minute)
	is(t, "Renew of what was released", err, lock.ErrLost)
	l = must[lock.Lease](t)(a.Acquire(t.Context(), start, "k", bob, time.Minute))
	is(t, "Release after its end", a.Release(t.Context(), at(time.Minute), l), lock.ErrLost)
	_, err = a.Renew(t.Context(), at(time.Minute), l, time.Minute)
	is(t, "it is gone in either case", err, lock.ErrLost)
	next := must[lock.Lease](t)(a.Acquire(t.Context(), start, "k", alice, time.Minute))
	if next.Token <= l.Token {
		t.Fatalf("token %d after %d: it was given back", next.Token, l.Token)
	}
}

func testLockList(t *testing.T, a, b lock.Driver) {
	for i, key := range []lock.Key{"w/b", "w/a", "w%", "x/a", "W/a", "w/\U0010ffff", "w/c"} {
		must[lock.Lease](t)(a.Acquire(t.Context(), start, key, alice, time.Duration(i+1)*time.Minute))
	}
	list := func(now time.Time, prefix string) []lock.Key {
		keys := []lock.Key{}
		for _, l := range must[[]lock.Lease](t)(b.List(t.Context(), now, prefix)) {
			keys = append(keys, l.Key)
		}
		return keys
	}
	equal(t, "with prefix", list(start, "w/"), []lock.Key{"w/a", "w/b", "w/c", "w/\U0010ffff"})
	equal(t, "in force", list(at(2*time.Minute), "w/"), []lock.Key{"w/c", "w/\U0010ffff"})
	equal(t, "all", len(list(start, "")), 7)
	equal(t, "a prefix is no pattern", list(start, "w%"), []lock.Key{"w%"})
	equal(t, "none", len(list(start, "nothing")), 0)
}

// testLockConcurrent lets many reach for one lock on two handles.
func testLockConcurrent(t *testing.T, a, b lock.Driver) {
	var inside, entered atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		d := a
		if i%2 == 1 {
			d = b
		}
		wg.Go(func() {
			me := lock.Holder{ID: fmt.Sprint(i), Who: "me"}
			for done := 0; done < 5; {
				l, err := d.Acquire(t.Context(), start, "k", me, time.Minute)
				var held *lock.HeldError
				if errors.As(err, &held) {
					continue
				}
				if err != nil {
					t.Errorf("acquire: %v", err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				entered.Add(1)
				done++
				inside.Add(-1)
				if err := d.Release(t.Context(), start, l); err != nil {
					t.Errorf("release: %v", err)
				}
			}
		})
	}
	wg.Wait()
	equal(t, "entered", entered.Load(), int32(40))
}
