package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"holdfast/queue"
)

// promoted bounds how many jobs whose time has come one claim marks. Each job
// is marked once per wait, so a claim's share is small; the bound keeps the
// first claim after a long stop from holding up all other writes.
const promoted = 1000

// Claim implements queue.Driver.
//
// Jobs become due and overdue by the latest now that any process passed; one
// whose clock is behind sees a job only when its own clock agrees.
func (q *jobs) Claim(ctx context.Context, now time.Time, c queue.Claim) ([]queue.Job, error) {
	if c.Max <= 0 {
		return nil, nil
	}
	var out []queue.Job
	err := q.write.do(ctx, func(t *tx) error {
		out = nil
		for {
			more, err := t.promote(now)
			if err != nil {
				return err
			}
			if err := t.claim(now, c, &out); err != nil {
				return err
			}
			if !more || len(out) > 0 {
				return nil
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("claim jobs: %w", err)
	}
	return out, nil
}

// promote marks jobs that became due or overdue since the last claim, and
// reports whether more are left.
func (t *tx) promote(now time.Time) (more bool, err error) {
	const order = " LIMIT ?"
	n, err := t.mark(now, "state = 0 AND run_at <= ? ORDER BY run_at"+order)
	if err != nil {
		return false, err
	}
	m, err := t.mark(now, "state = 1 AND late = 0 AND overdue_at <= ? ORDER BY overdue_at"+order)
	return n == promoted || m == promoted, err
}

// mark gives the jobs that where selects their place among the due ones.
func (t *tx) mark(now time.Time, where string) (int, error) {
	var found []row
	err := t.rows("SELECT seq, grp, lim, pool, priority, overdue_at, ready FROM job WHERE "+where, []any{nanos(now), promoted}, func(scan scanner) error {
		var r row
		var overdueAt int64
		err := scan(&r.seq, &r.Group, &r.Limit, &r.pool, &r.Priority, &overdueAt, &r.ready)
		r.OverdueAt, r.state, r.RunsOn = instant(overdueAt), stateDue, queue.Labels(r.pool)
		found = append(found, r)
		return err
	})
	if err != nil {
		return 0, err
	}
	settled := map[string]bool{}
	for _, r := range found {
		rank, late := r.rank(now)
		if _, err := t.exec("UPDATE job SET state = 1, late = ?, rank = ? WHERE seq = ?", late, rank, r.seq); err != nil {
			return 0, err
		}
	}
	for _, r := range found {
		if r.Group != "" && settled[r.Group] {
			continue
		}
		settled[r.Group] = true
		if err := t.settle(r); err != nil {
			return 0, err
		}
	}
	return len(found), nil
}

// candidate is a job that may be claimed.
type candidate struct {
	rank, seq int64
	lane
}

func (c candidate) before(o candidate) bool {
	return cmp.Or(cmp.Compare(c.rank, o.rank), cmp.Compare(c.seq, o.seq)) < 0
}

// claim appends up to c.Max jobs to out, the first in order each time.
func (t *tx) claim(now time.Time, c queue.Claim, out *[]queue.Job) error {
	expired, err := t.expired(now, c)
	if err != nil {
		return err
	}
	fronts, err := t.fronts(now, c)
	if err != nil {
		return err
	}
	running := map[string]int{} // by bucket, as far as looked up
	for len(*out) < c.Max {
		f := first(fronts)
		if len(expired) > 0 && (f == nil || expired[0].before(f.next)) {
			// It has its place in its group and its bucket still.
			if err := t.take(now, c, expired[0], out); err != nil {
				return err
			}
			expired = expired[1:]
			continue
		}
		if f == nil {
			return nil
		}
		free, err := t.free(f.next.limit, c.Cap(f.next.limit), running)
		if err != nil {
			return err
		}
		if free {
			running[f.next.limit]++
			err = t.take(now, c, f.next, out)
		} else {
			f.passed = f.next
		}
		if err == nil && len(*out) < c.Max {
			err = t.advance(now, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// expired returns the running jobs whose lease has ended and that c may have,
// in order. There are never more than were running at once.
func (t *tx) expired(now time.Time, c queue.Claim) ([]candidate, error) {
	var out []candidate
	err := t.rows("SELECT seq, lim, pool, priority, overdue_at FROM job WHERE state = 2 AND lease_end <= ?", []any{nanos(now)}, func(scan scanner) error {
		var r row
		var overdueAt int64
		err := scan(&r.seq, &r.Limit, &r.pool, &r.Priority, &overdueAt)
		r.OverdueAt = instant(overdueAt)
		rank, _ := r.rank(now)
		if c.Serves(r.pool) {
			out = append(out, candidate{rank: rank, seq: r.seq, lane: r.lane()})
		}
		return err
	})
	slices.SortFunc(out, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.seq, b.seq))
	})
	return out, err
}

// front is how far a claim has come among the claimable jobs of one pool.
type front struct {
	pool string
	// passed is the last job that was passed over: it and those before it are
	// of buckets that are full.
	passed candidate
	next   candidate
	any    bool // there is a next
}

// fronts returns the first claimable job of each pool that c serves. A look
// into the index finds the next pool, whatever number of jobs is in it.
func (t *tx) fronts(now time.Time, c queue.Claim) ([]*front, error) {
	var out []*front
	pool := ""
	for more := true; more; {
		if c.Serves(pool) {
			f := &front{pool: pool, passed: candidate{rank: math.MinInt64}}
			if err := t.advance(now, f); err != nil {
				return nil, err
			}
			out = append(out, f)
		}
		var err error
		if more, err = t.row("SELECT pool FROM job WHERE ready = 2 AND pool > ? ORDER BY pool LIMIT 1", []any{pool}, &pool); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// advance looks for f's next job. One that is due by the clock of another
// process only is not it.
func (t *tx) advance(now time.Time, f *front) (err error) {
	f.next = candidate{lane: lane{pool: f.pool}}
	f.any, err = t.row(`SELECT rank, seq, lim FROM job WHERE ready = 2 AND pool = ? AND (rank, seq) > (?, ?) AND run_at <= ?
		ORDER BY rank, seq LIMIT 1`, []any{f.pool, f.passed.rank, f.passed.seq, nanos(now)}, &f.next.rank, &f.next.seq, &f.next.limit)
	return err
}

// first returns the front whose next job goes before all others', or nil.
func first(fronts []*front) (best *front) {
	for _, f := range fronts {
		if f.any && (best == nil || f.next.before(best.next)) {
			best = f
		}
	}
	return best
}

// free reports whether a bucket has room.
func (t *tx) free(limit string, most int, running map[string]int) (bool, error) {
	if limit == "" || most <= 0 {
		return true, nil
	}
	n, known := running[limit]
	if !known {
		if _, err := t.row("SELECT count(*) FROM job WHERE lim = ? AND lim <> '' AND state = 2", []any{limit}, &n); err != nil {
			return false, err
		}
		running[limit] = n
	}
	return n < most, nil
}

// take gives next to the worker.
func (t *tx) take(now time.Time, c queue.Claim, next candidate, out *[]queue.Job) error {
	token, err := t.count("job", 1)
	if err != nil {
		return err
	}
	// A rerun that was asked for of an attempt that is gone is this one.
	if _, err := t.exec(`UPDATE job SET state = 2, ready = 0, rerun = 0, token = ?, attempt = attempt + 1,
		worker = ?, lease_end = ? WHERE seq = ?`, token, c.Worker, nanos(now.Add(c.Lease)), next.seq); err != nil {
		return err
	}
	if next.limit != "" {
		if err := t.settleLane(next.lane); err != nil {
			return err
		}
	}
	r, _, err := t.jobBy("seq = ?", next.seq)
	*out = append(*out, r.Job)
	return err
}
