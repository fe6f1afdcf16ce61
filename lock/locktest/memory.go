// Package locktest has a lock table that is easy to see right, for tests that
// need no file.
package locktest

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/lock"
)

// Memory is a lock.Driver in memory. The zero value is ready to use.
type Memory struct {
	mu     sync.Mutex
	leases map[lock.Key]lock.Lease
	token  int64
	fail   error
}

var _ lock.Driver = (*Memory)(nil)

// Fail makes every method return err until it is called with nil, as a store
// that cannot be reached.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func alive(l lock.Lease, now time.Time) bool {
	return l.ExpireAt.IsZero() || l.ExpireAt.After(now)
}

func end(now time.Time, ttl time.Duration) time.Time {
	if ttl == 0 {
		return time.Time{}
	}
	return now.Add(ttl)
}

// Acquire implements lock.Driver.
func (m *Memory) Acquire(_ context.Context, now time.Time, key lock.Key, h lock.Holder, ttl time.Duration) (lock.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return lock.Lease{}, m.fail
	}
	since := now
	if old, ok := m.leases[key]; ok && alive(old, now) {
		if old.Holder.ID != h.ID {
			return lock.Lease{}, &lock.HeldError{Lease: old}
		}
		since = old.Since
	}
	m.token++
	l := lock.Lease{Key: key, Holder: h, Token: m.token, Since: since, ExpireAt: end(now, ttl)}
	if m.leases == nil {
		m.leases = map[lock.Key]lock.Lease{}
	}
	m.leases[key] = l
	return l, nil
}

// Renew implements lock.Driver.
func (m *Memory) Renew(_ context.Context, now time.Time, l lock.Lease, ttl time.Duration) (lock.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return lock.Lease{}, m.fail
	}
	old, ok := m.leases[l.Key]
	if !ok || old.Token != l.Token {
		return lock.Lease{}, lock.ErrLost
	}
	old.ExpireAt = end(now, ttl)
	m.leases[l.Key] = old
	return old, nil
}

// Release implements lock.Driver.
func (m *Memory) Release(_ context.Context, now time.Time, l lock.Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	old, ok := m.leases[l.Key]
	if !ok || old.Token != l.Token {
		return lock.ErrLost
	}
	delete(m.leases, l.Key)
	if !alive(old, now) {
		return lock.ErrLost
	}
	return nil
}

// List implements lock.Driver.
func (m *Memory) List(_ context.Context, now time.Time, prefix string) ([]lock.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var out []lock.Lease
	for _, l := range m.leases {
		if alive(l, now) && strings.HasPrefix(string(l.Key), prefix) {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b lock.Lease) int { return cmp.Compare(a.Key, b.Key) })
	return out, nil
}
