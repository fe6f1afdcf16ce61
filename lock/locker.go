package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxText is the longest Key, Holder.ID, Who and Why in bytes.
const maxText = 4096

// Config sets up a Locker.
type Config struct {
	// Clock tells the time for everything that is stored and compared.
	// Defaults to time.Now.
	Clock func() time.Time
}

// WithDefaults returns c with its defaults filled in.
func (c Config) WithDefaults() Config {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

// Locker is the lock table as the rest of Holdfast uses it. Safe for
// concurrent use.
type Locker struct {
	driver Driver
	config Config
}

// New returns the locks that d stores.
func New(d Driver, c Config) *Locker {
	return &Locker{driver: d, config: c.WithDefaults()}
}

// Validate reports what is wrong with k: it has two words or more, between
// slashes, none of them empty.
func (k Key) Validate() error {
	s := string(k)
	switch {
	case len(s) > maxText:
		return fmt.Errorf("lock key has %d bytes, more than %d", len(s), maxText)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("lock key %q has characters that cannot be shown", s)
	}
	words := strings.Split(s, "/")
	if len(words) < 2 {
		return fmt.Errorf("lock key %q says no kind: it should read KIND/NAME", s)
	}
	for _, w := range words {
		if w == "" {
			return fmt.Errorf("lock key %q has an empty word", s)
		}
	}
	return nil
}

func (h Holder) validate() error {
	switch {
	case h.ID == "":
		return errors.New("the holder has no ID")
	case len(h.ID) > maxText, len(h.Who) > maxText, len(h.Why) > maxText:
		return fmt.Errorf("the holder's ID, Who or Why has more than %d bytes", maxText)
	}
	return nil
}

// Acquire takes key for h until ttl from now; a ttl of 0 has no end. An empty
// h.Who becomes h.ID. It returns a *HeldError while somebody else has it.
func (l *Locker) Acquire(ctx context.Context, key Key, h Holder, ttl time.Duration) (Lease, error) {
	h.Who = cmp.Or(h.Who, h.ID)
	if err := errors.Join(key.Validate(), h.validate()); err != nil {
		return Lease{}, fmt.Errorf("acquire lock: %w", err)
	}
	if ttl < 0 {
		return Lease{}, fmt.Errorf("acquire lock %s: a ttl of %s", key, ttl)
	}
	return l.driver.Acquire(ctx, l.config.Clock(), key, h, ttl)
}

// Renew extends lease to ttl from now; a ttl of 0 has no end. It returns
// ErrLost where somebody took the key or it was released.
func (l *Locker) Renew(ctx context.Context, lease Lease, ttl time.Duration) (Lease, error) {
	return l.driver.Renew(ctx, l.config.Clock(), lease, ttl)
}

// Release gives lease back. It returns ErrLost where lease was not in force
// any more; the key is not its holder's in either case.
func (l *Locker) Release(ctx context.Context, lease Lease) error {
	return l.driver.Release(ctx, l.config.Clock(), lease)
}

// List returns the leases in force whose key starts with prefix, by key.
func (l *Locker) List(ctx context.Context, prefix string) ([]Lease, error) {
	return l.driver.List(ctx, l.config.Clock(), prefix)
}

// Hold takes key for h and renews it in the background, every third of ttl,
// until Held.Release: what a running process holds. The returned context is
// ctx, cancelled with the cause ErrLost when a renewal is refused or ttl has
// passed since the last that succeeded, and when it is released.
//
// The end of ctx does not end the renewals: whoever is told to stop may still
// need the lock while it does. Release must be called.
//
// It returns a *HeldError while somebody else has the key.
func (l *Locker) Hold(ctx context.Context, key Key, h Holder, ttl time.Duration) (context.Context, *Held, error) {
	if ttl <= 0 {
		return nil, nil, fmt.Errorf("hold lock %s: a ttl of %s", key, ttl)
	}
	asked := time.Now()
	lease, err := l.Acquire(ctx, key, h, ttl)
	if err != nil {
		return nil, nil, err
	}
	held := &Held{locker: l, ttl: ttl, lease: lease, end: asked.Add(ttl)}
	holding, lose := context.WithCancelCause(ctx)
	held.lose = lose
	held.expiry = time.AfterFunc(time.Until(held.end), func() { lose(ErrLost) })
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	held.stop = stop
	held.renewing.Go(func() { held.renew(renewing) })
	return holding, held, nil
}

// Held is a lock that this process holds and renews. Safe for concurrent use.
type Held struct {
	locker   *Locker
	ttl      time.Duration
	lose     context.CancelCauseFunc
	stop     context.CancelFunc
	renewing sync.WaitGroup
	release  sync.Once
	released error

	// asking keeps renewals apart, so that the latest answer is the one kept.
	asking sync.Mutex
	// mu guards what follows, and is never held while the store is asked.
	mu    sync.Mutex
	lease Lease
	lost  bool
	// endures is set by Endure: expiry is stopped for good.
	endures bool
	// expiry cancels the holder's context when ttl passes by this process's
	// monotonic clock, whatever is done to the time of day; end is when that is.
	expiry *time.Timer
	end    time.Time
}

// Lease returns the lease as of its latest renewal.
func (h *Held) Lease() Lease {
	lease, _ := h.state()
	return lease
}

func (h *Held) state() (lease Lease, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease, h.lost
}

// Check asks the store whether the lease is in force now, by renewing it.
// Anything but nil means that the holder must not begin what it holds the lock
// for; ErrLost that it never will again.
func (h *Held) Check(ctx context.Context) error {
	h.asking.Lock()
	defer h.asking.Unlock()
	old, lost := h.state()
	if lost {
		return ErrLost
	}
	asked := time.Now()
	lease, err := h.locker.Renew(ctx, old, h.ttl)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case errors.Is(err, ErrLost):
		h.lost = true
		h.expiry.Stop()
		h.lose(ErrLost)
		return err
	case err != nil:
		return err
	case h.endures:
		h.lease = lease
		return nil
	case !h.expiry.Stop():
		// The holder was told that the lease is lost. Nobody took it, but the
		// holder is stopping: this is no lease to begin anything with.
		h.lost = true
		return ErrLost
	}
	h.lease, h.end = lease, asked.Add(h.ttl)
	h.expiry.Reset(time.Until(h.end))
	return nil
}

// Endure keeps the holder's context from ending only because the store has not
// answered for the length of the ttl: what the holder is about to begin does
// more harm cut off than going on alone. From then on ErrLost comes only from
// the store's own answer that somebody else took the key. It returns ErrLost
// where that has happened, or the holder was told so.
func (h *Held) Endure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	// A process that stood still until now may come here before its timer runs.
	if h.lost || !h.endures && (!time.Now().Before(h.end) || !h.expiry.Stop()) {
		return ErrLost
	}
	h.endures = true
	return nil
}

// renew renews until ctx ends or the lease is lost. A renewal that fails for
// another reason is soon tried again: expiry ends it when that takes too long.
func (h *Held) renew(ctx context.Context) {
	every := max(h.ttl/3, time.Millisecond)
	next := time.NewTimer(every)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		asking, cancel := context.WithTimeout(ctx, every) // one that hangs must not keep the next away
		err := h.Check(asking)
		cancel()
		switch {
		case errors.Is(err, ErrLost):
			return
		case err != nil:
			next.Reset(every / 4)
		default:
			next.Reset(every)
		}
	}
}

// Release stops renewing, cancels the context of Hold and gives the lock back.
// It returns ErrLost where the lease was not in force any more. A second call
// returns what the first did.
func (h *Held) Release(ctx context.Context) error {
	h.release.Do(func() {
		h.stop()
		h.renewing.Wait()
		h.asking.Lock() // a Check after this finds it lost
		defer h.asking.Unlock()
		h.mu.Lock()
		lease := h.lease
		h.lost = true
		h.expiry.Stop()
		h.mu.Unlock()
		h.lose(nil)
		h.released = h.locker.Release(ctx, lease)
	})
	return h.released
}
