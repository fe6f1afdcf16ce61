package redis

import (
	"context"
	"fmt"
	"time"

	"holdfast/lock"
)

// locks is the lock table: a hash for each lease, and their keys in order.
type locks struct{ *database }

var _ lock.Driver = (*locks)(nil)

var (
	acquireScript   = newScript("lock_acquire")
	renewScript     = newScript("lock_renew")
	releaseScript   = newScript("lock_release")
	listLocksScript = newScript("lock_list")
)

// end returns when a lease taken now ends; a ttl of 0 has no end.
func end(now time.Time, ttl time.Duration) time.Time {
	if ttl == 0 {
		return time.Time{}
	}
	return stored(now.Add(ttl))
}

// Acquire implements lock.Driver.
func (d *locks) Acquire(ctx context.Context, now time.Time, key lock.Key, h lock.Holder, ttl time.Duration) (l lock.Lease, err error) {
	defer d.observe("locks.acquire", time.Now(), &err)
	expireAt := end(now, ttl)
	reply, err := d.write(ctx, acquireScript, stamp(now), string(key), h.ID, h.Who, h.Why, stamp(expireAt))
	if err != nil {
		return lock.Lease{}, fmt.Errorf("acquire lock %s: %w", key, err)
	}
	r := &row{values: list(reply)}
	mine := r.flag()
	l = lock.Lease{Key: key, Holder: h, Token: r.number(), Since: r.time(), ExpireAt: expireAt}
	if !mine {
		l.Holder, l.ExpireAt = lock.Holder{ID: r.text(), Who: r.text(), Why: r.text()}, r.time()
	}
	switch {
	case r.err != nil:
		err = r.err
	case !mine:
		err = &lock.HeldError{Lease: l}
	default:
		return l, nil
	}
	return lock.Lease{}, fmt.Errorf("acquire lock %s: %w", key, err)
}

// Renew implements lock.Driver.
func (d *locks) Renew(ctx context.Context, now time.Time, l lock.Lease, ttl time.Duration) (out lock.Lease, err error) {
	defer d.observe("locks.renew", time.Now(), &err)
	out = lock.Lease{Key: l.Key, Token: l.Token, ExpireAt: end(now, ttl)}
	reply, err := d.write(ctx, renewScript, string(l.Key), l.Token, stamp(out.ExpireAt))
	if err == nil && reply == nil {
		err = lock.ErrLost
	}
	if err == nil {
		r := &row{values: list(reply)}
		out.Since, out.Holder = r.time(), lock.Holder{ID: r.text(), Who: r.text(), Why: r.text()}
		err = r.err
	}
	if err != nil {
		return lock.Lease{}, fmt.Errorf("renew lock %s: %w", l.Key, err)
	}
	return out, nil
}

// Release implements lock.Driver.
func (d *locks) Release(ctx context.Context, now time.Time, l lock.Lease) (err error) {
	defer d.observe("locks.release", time.Now(), &err)
	reply, err := d.write(ctx, releaseScript, stamp(now), string(l.Key), l.Token)
	if err == nil && reply != flag(true) {
		err = lock.ErrLost
	}
	if err != nil {
		return fmt.Errorf("release lock %s: %w", l.Key, err)
	}
	return nil
}

// List implements lock.Driver. It looks at a thousand leases in each atomic
// step.
func (d *locks) List(ctx context.Context, now time.Time, prefix string) (out []lock.Lease, err error) {
	defer d.observe("locks.list", time.Now(), &err)
	if out, err = d.leases(ctx, now, prefix); err != nil {
		return nil, fmt.Errorf("list locks: %w", err)
	}
	return out, nil
}

func (d *database) leases(ctx context.Context, now time.Time, prefix string) (out []lock.Lease, err error) {
	err = eachPage(prefix, func(from, to string) (string, error) {
		reply, err := d.read(ctx, listLocksScript, from, to, step, stamp(now))
		if err != nil {
			return "", err
		}
		last, found, err := page(reply, scanLeases)
		out = append(out, found...)
		return last, err
	})
	return out, err
}

func scanLeases(reply any) ([]lock.Lease, error) {
	var out []lock.Lease
	for _, values := range list(reply) {
		r := &row{values: list(values)}
		out = append(out, lock.Lease{
			Key: lock.Key(r.text()), Token: r.number(), Since: r.time(),
			Holder:   lock.Holder{ID: r.text(), Who: r.text(), Why: r.text()},
			ExpireAt: r.time(),
		})
		if r.err != nil {
			return nil, r.err
		}
	}
	return out, nil
}
