package sqlite

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"holdfast/queue"
)

// jobs is the queue in the file.
type jobs struct {
	*database
	wake *queue.Bell
}

var _ queue.Driver = (*jobs)(nil)

func newQueue(d *database) *jobs {
	q := &jobs{database: d, wake: queue.NewBell(d.watch)}
	d.write.woken = q.wake.Ring
	d.write.start()
	return q
}

func (q *jobs) stop() {
	q.wake.Stop()
	q.wake.Wait()
}

// The values of the column state. A waiting job is later until a claim comes
// at or after its run_at, then due.
const (
	stateLater = iota
	stateDue
	stateRunning
	stateDead
)

// row is a stored job. Changes are made to a loaded row and written back with
// save, which keeps the marks right.
type row struct {
	queue.Job
	seq      int64
	state    int
	patience time.Duration
	rerun    bool
	ready    int
	pool     string // as it is stored; Job.Pool is what save makes of it
}

const columns = `seq, id, kind, grp, key, again, lim, pool, priority, run_at, state,
	enqueued_at, overdue_at, patience, attempt, token, worker, lease_end,
	canceled, rerun, ready, last_error, payload`

func scanRow(scan scanner) (row, error) {
	var r row
	var runAt, enqueuedAt, overdueAt, leaseEnd int64
	var payload []byte
	err := scan(&r.seq, &r.ID, &r.Kind, &r.Group, &r.Key, &r.Again, &r.Limit, &r.pool, &r.Priority, &runAt, &r.state,
		&enqueuedAt, &overdueAt, &r.patience, &r.Attempt, &r.Token, &r.Worker, &leaseEnd,
		&r.Canceled, &r.rerun, &r.ready, &r.LastError, &payload)
	r.RunAt, r.EnqueuedAt, r.OverdueAt, r.LeaseEnd = instant(runAt), instant(enqueuedAt), instant(overdueAt), instant(leaseEnd)
	r.State, r.RunsOn = stateName(r.state), queue.Labels(r.pool)
	if len(payload) > 0 {
		r.Payload = payload
	}
	return r, err
}

func stateName(s int) queue.State {
	switch s {
	case stateRunning:
		return queue.StateRunning
	case stateDead:
		return queue.StateDead
	}
	return queue.StateWaiting
}

// jobBy loads the job that where selects.
func (t *tx) jobBy(where string, args ...any) (r row, found bool, err error) {
	err = t.rows("SELECT "+columns+" FROM job WHERE "+where, args, func(scan scanner) error {
		found = true
		var err error
		r, err = scanRow(scan)
		return err
	})
	return r, found, err
}

// rank orders jobs for claiming, smaller first: those past their OverdueAt by
// that time, below zero by more than any priority, then the others by priority.
// Equal ranks go by arrival.
func (r *row) rank(now time.Time) (rank int64, late bool) {
	if !r.OverdueAt.After(now) {
		return math.MinInt64 + nanos(r.OverdueAt), true
	}
	return -int64(r.Priority), false
}

// wait makes r wait from runAt on, or from now if that is later.
func (r *row) wait(now, runAt time.Time) {
	if runAt.Before(now) {
		runAt = now
	}
	r.RunAt, r.OverdueAt = runAt, runAt.Add(r.patience)
	r.Worker, r.LeaseEnd = "", time.Time{}
	r.setWaiting(now)
}

// asStored returns the job as a later read would, without what a time.Time
// carries beside its instant.
func (r *row) asStored() queue.Job {
	j := r.Job
	for _, t := range []*time.Time{&j.RunAt, &j.EnqueuedAt, &j.OverdueAt, &j.LeaseEnd} {
		*t = instant(nanos(*t))
	}
	j.RunsOn = queue.Labels(j.Pool())
	return j
}

func (r *row) setWaiting(now time.Time) {
	r.State, r.state = queue.StateWaiting, stateLater
	if !r.RunAt.After(now) {
		r.state = stateDue
	}
}

// save writes r back and marks anew what its change may have made claimable.
func (t *tx) save(now time.Time, r row) error {
	rank, late := r.rank(now)
	_, err := t.exec(`UPDATE job SET pool = ?, priority = ?, run_at = ?, state = ?, enqueued_at = ?, overdue_at = ?,
		patience = ?, attempt = ?, token = ?, worker = ?, lease_end = ?, canceled = ?, rerun = ?,
		late = ?, rank = ?, ready = 0, last_error = ? WHERE seq = ?`,
		r.Pool(), int64(r.Priority), nanos(r.RunAt), r.state, nanos(r.EnqueuedAt), nanos(r.OverdueAt),
		int64(r.patience), r.Attempt, r.Token, r.Worker, nanos(r.LeaseEnd), r.Canceled, r.rerun,
		late, rank, r.LastError, r.seq)
	if err != nil {
		return err
	}
	return t.settle(r)
}

// signal tells idle workers of this and, by the counter, of other processes.
func (t *tx) signal() error {
	t.wake = true
	_, err := t.count("wake", 1)
	return err
}

// Enqueue implements queue.Driver.
func (q *jobs) Enqueue(ctx context.Context, now time.Time, in []queue.Job) ([]queue.Job, error) {
	if len(in) == 0 {
		return nil, nil
	}
	var out []queue.Job
	err := q.write.do(ctx, func(t *tx) error {
		out = make([]queue.Job, 0, len(in))
		for _, j := range in {
			stored, err := t.enqueue(now, j)
			if err != nil {
				return err
			}
			out = append(out, stored.asStored())
		}
		return t.signal()
	})
	if err != nil {
		return nil, fmt.Errorf("store jobs: %w", err)
	}
	return out, nil
}

func (t *tx) enqueue(now time.Time, j queue.Job) (row, error) {
	if j.Key != "" {
		known, found, err := t.jobBy("key = ? AND key <> ''", j.Key)
		if err != nil {
			return row{}, err
		}
		if found {
			return t.merge(now, known, j)
		}
	}
	seq, err := t.count("job", 1)
	if err != nil {
		return row{}, err
	}
	r := row{Job: j, seq: seq, patience: max(0, j.OverdueAt.Sub(j.RunAt)), pool: j.Pool()}
	r.Attempt, r.Token, r.Worker, r.LeaseEnd, r.Canceled, r.LastError = 0, 0, "", time.Time{}, false, ""
	r.setWaiting(now)
	if err := t.insert(now, r); err != nil || r.state != stateDue {
		return r, err
	}
	return r, t.settle(r)
}

// insert stores r, not marked yet.
func (t *tx) insert(now time.Time, r row) error {
	rank, late := r.rank(now)
	_, err := t.exec("INSERT INTO job ("+columns+`, late, rank)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.seq, r.ID, r.Kind, r.Group, r.Key, r.Again, r.Limit, r.pool, int64(r.Priority), nanos(r.RunAt), r.state,
		nanos(r.EnqueuedAt), nanos(r.OverdueAt), int64(r.patience), r.Attempt, r.Token, r.Worker, nanos(r.LeaseEnd),
		r.Canceled, r.rerun, 0, r.LastError, []byte(r.Payload), late, rank)
	return err
}

// merge is what enqueuing j does to the job that has its Key already.
func (t *tx) merge(now time.Time, r row, j queue.Job) (row, error) {
	patience := max(0, j.OverdueAt.Sub(j.RunAt))
	switch r.state {
	case stateRunning:
		if !j.Again && !r.Canceled {
			return r, nil
		}
		r.rerun, r.RunsOn = true, j.RunsOn
		r.Priority, r.patience = max(r.Priority, j.Priority), min(r.patience, patience)
	case stateDead:
		r.Attempt, r.Canceled, r.RunsOn = 0, false, j.RunsOn
		r.Priority, r.patience = max(r.Priority, j.Priority), patience
		r.wait(now, j.RunAt)
		r.OverdueAt = j.OverdueAt
	default:
		r.Canceled, r.RunsOn = false, j.RunsOn
		r.Priority, r.patience = max(r.Priority, j.Priority), min(r.patience, patience)
		r.RunAt, r.OverdueAt = earlier(r.RunAt, j.RunAt), earlier(r.OverdueAt, j.OverdueAt)
		r.setWaiting(now)
	}
	return r, t.save(now, r)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Heartbeat implements queue.Driver.
func (q *jobs) Heartbeat(ctx context.Context, now time.Time, refs []queue.Ref, lease time.Duration) ([]queue.Beat, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	var out []queue.Beat
	err := q.write.do(ctx, func(t *tx) error {
		out = make([]queue.Beat, 0, len(refs))
		for _, ref := range refs {
			b := queue.Beat{Ref: ref}
			found, err := t.row("UPDATE job SET lease_end = ? WHERE id = ? AND token = ? AND state = 2 RETURNING canceled",
				[]any{nanos(now.Add(lease)), ref.ID, ref.Token}, &b.Canceled)
			if err != nil {
				return err
			}
			b.Lost = !found
			out = append(out, b)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("extend leases of jobs: %w", err)
	}
	return out, nil
}

// Finish implements queue.Driver.
func (q *jobs) Finish(ctx context.Context, now time.Time, ref queue.Ref, o queue.Outcome) error {
	err := q.write.do(ctx, func(t *tx) error {
		r, found, err := t.jobBy("id = ?", ref.ID)
		switch {
		case err != nil:
			return err
		case !found || r.state != stateRunning || r.Token != ref.Token:
			return queue.ErrLost
		}
		if err := t.signal(); err != nil {
			return err
		}
		if (o.Done || o.Dead) && r.rerun {
			return t.again(now, r, o.Error)
		}
		if o.Done {
			return t.remove(r)
		}
		r.LastError = o.Error
		if o.Uncounted {
			r.Attempt = max(0, r.Attempt-1)
		}
		if o.Dead {
			r.State, r.state = queue.StateDead, stateDead
			r.Worker, r.LeaseEnd = "", time.Time{}
		} else {
			r.wait(now, o.RunAt)
		}
		return t.save(now, r)
	})
	if err != nil {
		return fmt.Errorf("finish job %s: %w", ref.ID, err)
	}
	return nil
}

// again makes r wait once more, as if it had arrived now.
func (t *tx) again(now time.Time, r row, lastError string) error {
	seq, err := t.count("job", 1)
	if err != nil {
		return err
	}
	if _, err := t.exec("UPDATE job SET seq = ? WHERE seq = ?", seq, r.seq); err != nil {
		return err
	}
	r.seq, r.rerun, r.Canceled, r.Attempt, r.LastError = seq, false, false, 0, lastError
	r.EnqueuedAt = now
	r.wait(now, now)
	return t.save(now, r)
}

// remove deletes r.
func (t *tx) remove(r row) error {
	if _, err := t.exec("DELETE FROM job WHERE seq = ?", r.seq); err != nil {
		return err
	}
	r.state = stateDead // not to be marked
	return t.settle(r)
}

// Control implements queue.Driver.
func (q *jobs) Control(ctx context.Context, now time.Time, id string, a queue.Action) (queue.Job, error) {
	var r row
	err := q.write.do(ctx, func(t *tx) (err error) {
		var found bool
		r, found, err = t.jobBy("id = ?", id)
		switch {
		case err != nil:
			return err
		case !found:
			return queue.ErrNotFound
		}
		if err := t.signal(); err != nil {
			return err
		}
		running := r.state == stateRunning
		switch {
		case a == queue.ActionCancel && running:
			r.Canceled = true
			return t.save(now, r)
		case a == queue.ActionCancel:
			return t.remove(r)
		case a == queue.ActionRetry && running:
			return nil
		case a == queue.ActionRetry:
			r.Attempt, r.Canceled = 0, false
			r.wait(now, now)
			return t.save(now, r)
		}
		return fmt.Errorf("no such action: %q", a)
	})
	if err != nil {
		return queue.Job{}, fmt.Errorf("%s job %s: %w", a, id, err)
	}
	return r.asStored(), nil
}

// defaultList is how many jobs List returns at most where nothing is said.
const defaultList = 1000

// List implements queue.Driver.
func (q *jobs) List(ctx context.Context, f queue.Filter) ([]queue.Job, error) {
	where, args := []string{"1"}, []any{}
	and := func(condition string, value any) {
		where, args = append(where, condition), append(args, value)
	}
	switch f.State {
	case "":
	case queue.StateWaiting:
		where = append(where, "state IN (0, 1)")
	case queue.StateRunning:
		where = append(where, "state = 2")
	case queue.StateDead:
		where = append(where, "state = 3")
	default:
		return nil, fmt.Errorf("list jobs: no such state: %q", f.State)
	}
	if f.Kind != "" {
		and("kind = ?", f.Kind)
	}
	if f.Group != "" {
		and("grp = ?", f.Group)
	}
	if f.Key != "" {
		and("key = ? AND key <> ''", f.Key)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultList
	}
	var out []queue.Job
	err := q.query(ctx, "SELECT "+columns+" FROM job WHERE "+strings.Join(where, " AND ")+" ORDER BY seq LIMIT ?",
		append(args, limit), func(scan scanner) error {
			r, err := scanRow(scan)
			out = append(out, r.Job)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return out, nil
}

// counts is store.Store.Counts.
func (q *jobs) counts(ctx context.Context) ([]queue.Count, error) {
	var out []queue.Count
	err := q.query(ctx, "SELECT kind, state, n FROM job_count WHERE n > 0 ORDER BY kind, state", nil, func(scan scanner) error {
		var c queue.Count
		var state int
		err := scan(&c.Kind, &state, &c.N)
		c.State = stateName(state)
		out = append(out, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count jobs: %w", err)
	}
	return out, nil
}

// Wake implements queue.Driver.
func (q *jobs) Wake(ctx context.Context) <-chan struct{} { return q.wake.Listen(ctx) }
