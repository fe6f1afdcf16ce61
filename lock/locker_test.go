package lock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/lock"
	"holdfast/lock/locktest"
)

const key lock.Key = "workspace/host/o/r/prod"

var (
	alice = lock.Holder{ID: "alice", Who: "Alice"}
	bob   = lock.Holder{ID: "bob", Who: "Bob"}
)

func TestKeyValidate(t *testing.T) {
	for _, c := range []struct {
		key  lock.Key
		want string // part of the error; empty: valid
	}{
		{"workspace/host/o/r/prod", ""},
		{"workspace/host/o/r/live prod@eu", ""},
		{"workspace/ü/.", ""},
		{"", "says no kind"},
		{"prod", "says no kind"},
		{"workspace//prod", "empty word"},
		{"/workspace", "empty word"},
		{"workspace/", "empty word"},
		{"workspace/a\nb", "cannot be shown"},
		{"workspace/\xff", "cannot be shown"},
		{lock.Key("workspace/" + strings.Repeat("x", 5000)), "5010 bytes"},
	} {
		err := c.key.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.40q: got %v, want %q", c.key, err, c.want)
		}
	}
}

func TestAcquireRefuses(t *testing.T) {
	l := lock.New(&locktest.Memory{}, lock.Config{})
	for name, err := range map[string]error{
		"no key":       second(l.Acquire(t.Context(), "", alice, time.Minute)),
		"no holder":    second(l.Acquire(t.Context(), key, lock.Holder{Who: "Alice"}, time.Minute)),
		"negative ttl": second(l.Acquire(t.Context(), key, alice, -1)),
		"long reason":  second(l.Acquire(t.Context(), key, lock.Holder{ID: "a", Why: strings.Repeat("x", 5000)}, 0)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, _, err := l.Hold(t.Context(), key, alice, 0); err == nil {
		t.Error("Hold without an end: no error")
	}
	lease, err := l.Acquire(t.Context(), key, lock.Holder{ID: "a"}, 0)
	if err != nil || lease.Holder.Who != "a" {
		t.Errorf("Who defaults to the ID: %+v, %v", lease, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestHeldErrorText(t *testing.T) {
	e := &lock.HeldError{Lease: lock.Lease{Key: key, Holder: lock.Holder{Who: "Alice", Why: "incident"}, Since: time.Unix(0, 0)}}
	if want := "workspace/host/o/r/prod is locked by Alice since 1970-01-01T00:00:00Z (incident)"; e.Error() != want {
		t.Errorf("got %q, want %q", e.Error(), want)
	}
}

// hold takes the key in a bubble, on a store whose failures the test decides.
func hold(t *testing.T, test func(t *testing.T, m *locktest.Memory, l *lock.Locker, ctx context.Context, h *lock.Held)) {
	synctest.Test(t, func(t *testing.T) {
		m := &locktest.Memory{}
		l := lock.New(m, lock.Config{})
		ctx, h, err := l.Hold(t.Context(), key, alice, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		test(t, m, l, ctx, h)
		_ = h.Release(context.Background())
	})
}

// advance lets d pass and everything happen that is due.
func advance(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func TestHoldRenews(t *testing.T) {
	hold(t, func(t *testing.T, m *locktest.Memory, l *lock.Locker, ctx context.Context, h *lock.Held) {
		first := h.Lease()
		advance(time.Hour)
		var held *lock.HeldError
		if _, err := l.Acquire(t.Context(), key, bob, time.Minute); !errors.As(err, &held) {
			t.Fatalf("after an hour: got %v, want a HeldError", err)
		}
		if ctx.Err() != nil || h.Check(t.Context()) != nil || h.Lease().Token != first.Token {
			t.Fatalf("not held any more: %v", context.Cause(ctx))
		}
		if err := h.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ctx.Err() == nil || errors.Is(context.Cause(ctx), lock.ErrLost) {
			t.Errorf("after Release the context's cause is %v", context.Cause(ctx))
		}
		if err := h.Check(t.Context()); !errors.Is(err, lock.ErrLost) {
			t.Errorf("Check after Release: %v", err)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Errorf("second Release: %v", err)
		}
		if _, err := l.Acquire(t.Context(), key, bob, time.Minute); err != nil {
			t.Errorf("after Release: %v", err)
		}
	})
}

func TestHoldOutlivesItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lock.New(&locktest.Memory{}, lock.Config{})
		parent, stop := context.WithCancelCause(t.Context())
		why := errors.New("shutting down")
		ctx, h, err := l.Hold(parent, key, alice, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		stop(why)
		advance(time.Hour)
		if !errors.Is(context.Cause(ctx), why) {
			t.Errorf("cause %v", context.Cause(ctx))
		}
		if err := h.Check(context.Background()); err != nil {
			t.Errorf("the lock was lost while its holder was stopping: %v", err)
		}
		if err := h.Release(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestHoldSurvivesAShortOutage(t *testing.T) {
	hold(t, func(t *testing.T, m *locktest.Memory, l *lock.Locker, ctx context.Context, h *lock.Held) {
		m.Fail(errors.New("unreachable"))
		advance(50 * time.Second)
		if err := h.Check(t.Context()); err == nil || errors.Is(err, lock.ErrLost) {
			t.Errorf("Check without a store: %v", err)
		}
		m.Fail(nil)
		advance(time.Hour)
		if ctx.Err() != nil {
			t.Errorf("lost: %v", context.Cause(ctx))
		}
	})
}

func TestHoldIsLostWithoutTheStore(t *testing.T) {
	hold(t, func(t *testing.T, m *locktest.Memory, l *lock.Locker, ctx context.Context, h *lock.Held) {
		m.Fail(errors.New("unreachable"))
		advance(time.Minute - time.Millisecond)
		if ctx.Err() != nil {
			t.Fatal("lost before its end")
		}
		advance(time.Millisecond)
		if !errors.Is(context.Cause(ctx), lock.ErrLost) {
			t.Fatalf("cause %v, want ErrLost at the end of the ttl", context.Cause(ctx))
		}
		m.Fail(nil)
		if err := h.Check(t.Context()); !errors.Is(err, lock.ErrLost) {
			t.Errorf("once lost, Check says so: %v", err)
		}
	})
}

// A holder that endures learns of its loss from the store only.
func TestHoldEndures(t *testing.T) {
	hold(t, func(t *testing.T, m *locktest.Memory, l *lock.Locker, ctx context.Context, h *lock.Held) {
		if err := h.Endure(); err != nil {
			t.Fatal(err)
		}
		m.Fail(errors.New("unreachable"))
		advance(time.Hour)
		m.Fail(nil)
		advance(time.Minute)
		if ctx.Err() != nil || h.Check(t.Context()) != nil {
			t.Fatalf("lost while the store was away: %v", context.Cause(ctx))
		}
		if _, err := l.Acquire(t.Context(), key, alice, time.Hour); err != nil {
			t.Fatal(err)
		}
		advance(20 * time.Second)
		if !errors.Is(context.Cause(ctx), lock.ErrLost) || !errors.Is(h.Endure(), lock.ErrLost) {
			t.Errorf("cause %v", context.Cause(ctx))
		}
	})
}

func TestHoldIsLostToAnother(t *testing.T) {
	hold(t, func(t *testing.T, m *locktest.Memory, l *lock.Locker, ctx context.Context, h *lock.Held) {
		if _, err := l.Acquire(t.Context(), key, alice, time.Hour); err != nil { // the next attempt takes it over
			t.Fatal(err)
		}
		if ctx.Err() != nil {
			t.Fatal("lost before the renewal")
		}
		advance(20 * time.Second)
		if !errors.Is(context.Cause(ctx), lock.ErrLost) {
			t.Fatalf("cause %v", context.Cause(ctx))
		}
		if err := h.Release(t.Context()); !errors.Is(err, lock.ErrLost) {
			t.Errorf("Release: %v", err)
		}
		if leases, _ := l.List(t.Context(), "workspace/"); len(leases) != 1 {
			t.Errorf("the other's lock is gone: %v", leases)
		}
	})
}
