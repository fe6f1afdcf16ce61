// Package lock gives one holder at a time the right to touch something, so
// that two applies of one workspace never overlap, whichever process dies.
//
// A Lease is held for a limited time and renewed while its holder lives; or it
// has no end, and an event or a person releases it. Its fencing Token only
// grows, so that a store can refuse what a holder writes after it lost the
// lock. A backend implements Driver; Locker renews and validates once for all.
package lock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Key names what is locked, as slash-separated words with the kind first:
// "workspace/HOST/OWNER/NAME/WORKSPACE".
type Key string

// Holder says who holds a lock, for machines (ID) and for people.
type Holder struct {
	// ID is the holder's identity: acquiring a lock that the same ID holds
	// takes it over with a new Token, so that the next attempt of a job does
	// not wait for the lease of the one that died.
	ID string `json:"id"`
	// Who is a person or a pull request, as shown to people.
	Who string `json:"who"`
	// Why is the reason, as shown to people.
	Why string `json:"why,omitempty"`
}

// Lease is a held lock.
type Lease struct {
	Key      Key       `json:"key"`
	Holder   Holder    `json:"holder"`
	Token    int64     `json:"token"` // grows with every acquisition of any key
	Since    time.Time `json:"since"`
	ExpireAt time.Time `json:"expire_at,omitzero"` // zero: no end
}

// ErrLost says that a lease is not, or no longer, the one in force.
var ErrLost = errors.New("lock: lease lost")

// HeldError says that somebody else holds the lock.
type HeldError struct {
	Lease Lease
}

// Error names the holder, since when and why.
func (e *HeldError) Error() string {
	s := fmt.Sprintf("%s is locked by %s since %s", e.Lease.Key, e.Lease.Holder.Who, e.Lease.Since.UTC().Format(time.RFC3339))
	if e.Lease.Holder.Why != "" {
		s += " (" + e.Lease.Holder.Why + ")"
	}
	return s
}

// Driver is what a backend implements. Each method is one atomic step, safe
// for concurrent use from many processes, and durable when it returns. Times
// are compared with the now that is passed in. A lease with ExpireAt at or
// before now is not in force: anybody may acquire its key.
type Driver interface {
	// Acquire takes key for holder until now+ttl; a ttl of 0 has no end.
	// Returns a *HeldError while another Holder.ID has it. Since is kept where
	// the same holder takes over a lease in force.
	Acquire(ctx context.Context, now time.Time, key Key, h Holder, ttl time.Duration) (Lease, error)
	// Renew extends l to now+ttl, also when it has ended but nobody took the
	// key since. Returns ErrLost otherwise.
	Renew(ctx context.Context, now time.Time, l Lease, ttl time.Duration) (Lease, error)
	// Release gives l back. Returns ErrLost where it is not the lease in
	// force; the key is not l's any more in either case.
	Release(ctx context.Context, now time.Time, l Lease) error
	// List returns the leases in force whose key starts with prefix, by key.
	List(ctx context.Context, now time.Time, prefix string) ([]Lease, error)
}
