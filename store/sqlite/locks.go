package sqlite

import (
	"context"
	"fmt"
	"strings"
	"time"

	"holdfast/lock"
)

// locks is the lock table in the file. An ended lease stays until its key is
// taken or released, so that its holder may still renew it.
type locks struct{ *database }

var _ lock.Driver = (*locks)(nil)

const lockColumns = "key, holder, who, why, token, since, expire_at"

func scanLease(scan scanner) (lock.Lease, error) {
	var l lock.Lease
	var since, expireAt int64
	err := scan(&l.Key, &l.Holder.ID, &l.Holder.Who, &l.Holder.Why, &l.Token, &since, &expireAt)
	l.Since, l.ExpireAt = instant(since), instant(expireAt)
	return l, err
}

// lease loads what is stored under key, in force or not.
func (t *tx) lease(key lock.Key) (l lock.Lease, found bool, err error) {
	err = t.rows("SELECT "+lockColumns+" FROM lock WHERE key = ?", []any{string(key)}, func(scan scanner) error {
		found = true
		var err error
		l, err = scanLease(scan)
		return err
	})
	return l, found, err
}

func (t *tx) putLease(l lock.Lease) error {
	_, err := t.exec("INSERT OR REPLACE INTO lock ("+lockColumns+") VALUES (?, ?, ?, ?, ?, ?, ?)",
		string(l.Key), l.Holder.ID, l.Holder.Who, l.Holder.Why, l.Token, nanos(l.Since), nanos(l.ExpireAt))
	return err
}

func inForce(l lock.Lease, now time.Time) bool {
	return l.ExpireAt.IsZero() || l.ExpireAt.After(now)
}

// end returns when a lease taken now ends; a ttl of 0 has no end.
func end(now time.Time, ttl time.Duration) time.Time {
	if ttl == 0 {
		return time.Time{}
	}
	return instant(nanos(now.Add(ttl)))
}

// Acquire implements lock.Driver.
func (d *locks) Acquire(ctx context.Context, now time.Time, key lock.Key, h lock.Holder, ttl time.Duration) (lock.Lease, error) {
	var out lock.Lease
	err := d.write.do(ctx, func(t *tx) error {
		old, found, err := t.lease(key)
		if err != nil {
			return err
		}
		since := instant(nanos(now))
		if found && inForce(old, now) {
			if old.Holder.ID != h.ID {
				return &lock.HeldError{Lease: old}
			}
			since = old.Since
		}
		token, err := t.count("lock", 1)
		if err != nil {
			return err
		}
		out = lock.Lease{Key: key, Holder: h, Token: token, Since: since, ExpireAt: end(now, ttl)}
		return t.putLease(out)
	})
	if err != nil {
		return lock.Lease{}, fmt.Errorf("acquire lock %s: %w", key, err)
	}
	return out, nil
}

// Renew implements lock.Driver.
func (d *locks) Renew(ctx context.Context, now time.Time, l lock.Lease, ttl time.Duration) (lock.Lease, error) {
	var out lock.Lease
	err := d.write.do(ctx, func(t *tx) error {
		old, found, err := t.lease(l.Key)
		if err != nil {
			return err
		}
		if !found || old.Token != l.Token {
			return lock.ErrLost
		}
		out = old
		out.ExpireAt = end(now, ttl)
		_, err = t.exec("UPDATE lock SET expire_at = ? WHERE key = ?", nanos(out.ExpireAt), string(l.Key))
		return err
	})
	if err != nil {
		return lock.Lease{}, fmt.Errorf("renew lock %s: %w", l.Key, err)
	}
	return out, nil
}

// Release implements lock.Driver.
func (d *locks) Release(ctx context.Context, now time.Time, l lock.Lease) error {
	var held bool
	err := d.write.do(ctx, func(t *tx) error {
		held = false
		old, found, err := t.lease(l.Key)
		if err != nil || !found || old.Token != l.Token {
			return err
		}
		held = inForce(old, now)
		_, err = t.exec("DELETE FROM lock WHERE key = ?", string(l.Key))
		return err
	})
	if err == nil && !held {
		err = lock.ErrLost
	}
	if err != nil {
		return fmt.Errorf("release lock %s: %w", l.Key, err)
	}
	return nil
}

// List implements lock.Driver.
func (d *locks) List(ctx context.Context, now time.Time, prefix string) ([]lock.Lease, error) {
	var out []lock.Lease
	query, args := prefixQuery("SELECT "+lockColumns+" FROM lock", prefix)
	err := d.query(ctx, query+" ORDER BY key", args, func(scan scanner) error {
		l, err := scanLease(scan)
		if err == nil && inForce(l, now) {
			out = append(out, l)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list locks: %w", err)
	}
	return out, nil
}

// prefixQuery adds to query that the column key starts with prefix, byte for
// byte, as a range that the primary key serves.
func prefixQuery(query, prefix string) (string, []any) {
	where, args := []string{"key >= ?"}, []any{prefix}
	if end, ok := after(prefix); ok {
		where, args = append(where, "key < ?"), append(args, end)
	}
	return query + " WHERE " + strings.Join(where, " AND "), args
}
