// Package queuetest has a queue that is easy to see right, so that other
// backends can be compared with it and tests need no file.
package queuetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/queue"
)

// Memory is a queue.Driver in memory. It looks at every job for every claim:
// it is for tests. The zero value is ready to use.
type Memory struct {
	mu        sync.Mutex
	jobs      []*entry
	count     int64
	listeners map[chan struct{}]struct{}
	fail      error
}

// entry is a job with what only the driver knows.
type entry struct {
	queue.Job
	seq      int64
	patience time.Duration // how long a wait may last before it is overdue
	rerun    bool
}

var _ queue.Driver = (*Memory)(nil)

// Fail makes every method but Wake return err until it is called with nil, as
// a store that cannot be reached.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// Enqueue implements queue.Driver.
func (m *Memory) Enqueue(_ context.Context, _ time.Time, jobs []queue.Job) ([]queue.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	for i, j := range jobs {
		if m.find(j.ID) != nil || slices.ContainsFunc(jobs[:i], func(o queue.Job) bool { return o.ID == j.ID }) {
			return nil, fmt.Errorf("enqueue: job ID %s is taken", j.ID)
		}
	}
	var out []queue.Job
	for _, j := range jobs {
		out = append(out, m.enqueue(j))
	}
	m.signal()
	return out, nil
}

func (m *Memory) enqueue(j queue.Job) queue.Job {
	patience := max(0, j.OverdueAt.Sub(j.RunAt))
	for _, e := range m.jobs {
		if j.Key == "" || e.Key != j.Key {
			continue
		}
		switch {
		case e.State == queue.StateRunning && !j.Again && !e.Canceled:
			return e.Job
		case e.State == queue.StateRunning:
			e.rerun, e.patience, e.RunsOn = true, min(e.patience, patience), j.RunsOn
		case e.State == queue.StateDead:
			e.State, e.Attempt, e.Canceled = queue.StateWaiting, 0, false
			e.RunAt, e.OverdueAt, e.patience, e.RunsOn = j.RunAt, j.OverdueAt, patience, j.RunsOn
		default:
			e.Canceled, e.patience, e.RunsOn = false, min(e.patience, patience), j.RunsOn
			e.RunAt, e.OverdueAt = earlier(e.RunAt, j.RunAt), earlier(e.OverdueAt, j.OverdueAt)
		}
		e.Priority = max(e.Priority, j.Priority)
		return e.Job
	}
	j.State = queue.StateWaiting
	j.Attempt, j.Token, j.Worker, j.LeaseEnd, j.Canceled, j.LastError = 0, 0, "", time.Time{}, false, ""
	m.jobs = append(m.jobs, &entry{Job: j, seq: m.next(), patience: patience})
	return j
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (m *Memory) next() int64 {
	m.count++
	return m.count
}

func (m *Memory) find(id string) *entry {
	for _, e := range m.jobs {
		if e.ID == id {
			return e
		}
	}
	return nil
}

// Claim implements queue.Driver.
func (m *Memory) Claim(_ context.Context, now time.Time, c queue.Claim) ([]queue.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var out []queue.Job
	for len(out) < c.Max {
		e := m.first(now, c)
		if e == nil {
			break
		}
		e.State, e.rerun = queue.StateRunning, false
		e.Token, e.Attempt = m.next(), e.Attempt+1
		e.Worker, e.LeaseEnd = c.Worker, now.Add(c.Lease)
		out = append(out, e.Job)
	}
	return out, nil
}

// first returns the claimable job that comes before all others.
func (m *Memory) first(now time.Time, c queue.Claim) *entry {
	groups, running := map[string]*entry{}, map[string]int{} // heads; running jobs by bucket
	busy := map[string]bool{}                                // groups
	var free []*entry
	for _, e := range m.jobs {
		switch {
		case e.State == queue.StateRunning:
			busy[e.Group] = true
			running[e.Limit]++
			if !e.LeaseEnd.After(now) && c.Serves(e.Pool()) {
				free = append(free, e) // has its place in group and bucket already
			}
		case e.State != queue.StateWaiting || e.RunAt.After(now):
		case groups[e.Group] == nil || ahead(e, groups[e.Group]):
			groups[e.Group] = e
		}
	}
	fits := func(e *entry) bool { return e.Limit == "" || c.Cap(e.Limit) <= 0 || running[e.Limit] < c.Cap(e.Limit) }
	for _, e := range m.jobs {
		head := e.Group == "" && e.State == queue.StateWaiting && !e.RunAt.After(now) ||
			e.Group != "" && groups[e.Group] == e && !busy[e.Group]
		if head && fits(e) && c.Serves(e.Pool()) {
			free = append(free, e)
		}
	}
	if len(free) == 0 {
		return nil
	}
	return slices.MinFunc(free, func(a, b *entry) int {
		if before(now, a, b) {
			return -1
		}
		return 1
	})
}

// ahead is the order within a group: by priority, then by arrival.
func ahead(a, b *entry) bool {
	if a.Priority != b.Priority {
		return a.Priority > b.Priority
	}
	return a.seq < b.seq
}

// before is the order of claims: what is overdue by its OverdueAt, then the
// rest by priority; equals by arrival.
func before(now time.Time, a, b *entry) bool {
	aLate, bLate := !a.OverdueAt.After(now), !b.OverdueAt.After(now)
	switch {
	case aLate != bLate:
		return aLate
	case aLate && !a.OverdueAt.Equal(b.OverdueAt):
		return a.OverdueAt.Before(b.OverdueAt)
	case !aLate && a.Priority != b.Priority:
		return a.Priority > b.Priority
	}
	return a.seq < b.seq
}

// Heartbeat implements queue.Driver.
func (m *Memory) Heartbeat(_ context.Context, now time.Time, refs []queue.Ref, lease time.Duration) ([]queue.Beat, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var out []queue.Beat
	for _, ref := range refs {
		b := queue.Beat{Ref: ref}
		if e := m.claimed(ref); e != nil {
			e.LeaseEnd, b.Canceled = now.Add(lease), e.Canceled
		} else {
			b.Lost = true
		}
		out = append(out, b)
	}
	return out, nil
}

// claimed returns the job whose latest claim is ref.
func (m *Memory) claimed(ref queue.Ref) *entry {
	if e := m.find(ref.ID); e != nil && e.State == queue.StateRunning && e.Token == ref.Token {
		return e
	}
	return nil
}

// Finish implements queue.Driver.
func (m *Memory) Finish(_ context.Context, now time.Time, ref queue.Ref, o queue.Outcome) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	e := m.claimed(ref)
	if e == nil {
		return queue.ErrLost
	}
	defer m.signal()
	e.Worker, e.LeaseEnd = "", time.Time{}
	switch {
	case (o.Done || o.Dead) && e.rerun:
		e.seq, e.rerun, e.Attempt, e.Canceled = m.next(), false, 0, false
		e.EnqueuedAt, e.LastError = now, o.Error
		e.wait(now, now)
		slices.SortFunc(m.jobs, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	case o.Done:
		m.remove(e)
	default:
		e.LastError = o.Error
		if o.Uncounted {
			e.Attempt--
		}
		if o.Dead {
			e.State = queue.StateDead
		} else {
			e.wait(now, o.RunAt)
		}
	}
	return nil
}

func (e *entry) wait(now, runAt time.Time) {
	if runAt.Before(now) {
		runAt = now
	}
	e.State, e.RunAt, e.OverdueAt = queue.StateWaiting, runAt, runAt.Add(e.patience)
}

func (m *Memory) remove(e *entry) {
	m.jobs = slices.DeleteFunc(m.jobs, func(o *entry) bool { return o == e })
}

// Control implements queue.Driver.
func (m *Memory) Control(_ context.Context, now time.Time, id string, a queue.Action) (queue.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return queue.Job{}, m.fail
	}
	e := m.find(id)
	if e == nil {
		return queue.Job{}, queue.ErrNotFound
	}
	defer m.signal()
	running := e.State == queue.StateRunning
	switch {
	case a == queue.ActionCancel && running:
		e.Canceled = true
	case a == queue.ActionCancel:
		m.remove(e)
	case a == queue.ActionRetry && running:
	case a == queue.ActionRetry:
		e.Attempt, e.Canceled = 0, false
		e.wait(now, now)
	default:
		return queue.Job{}, fmt.Errorf("no such action: %q", a)
	}
	return e.Job, nil
}

// List implements queue.Driver.
func (m *Memory) List(_ context.Context, f queue.Filter) ([]queue.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var out []queue.Job
	for _, e := range m.jobs {
		if (f.State == "" || f.State == e.State) && (f.Kind == "" || f.Kind == e.Kind) &&
			(f.Group == "" || f.Group == e.Group) && (f.Key == "" || f.Key == e.Key) {
			out = append(out, e.Job)
		}
	}
	if limit := cmp.Or(max(0, f.Limit), 1000); len(out) > limit {
		out = out[:limit]
	}
	return out, nil
}

// Counts is store.Store.Counts.
func (m *Memory) Counts(context.Context) ([]queue.Count, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var out []queue.Count
	for _, e := range m.jobs {
		i := slices.IndexFunc(out, func(c queue.Count) bool { return c.Kind == e.Kind && c.State == e.State })
		if i < 0 {
			i, out = len(out), append(out, queue.Count{Kind: e.Kind, State: e.State})
		}
		out[i].N++
	}
	return out, nil
}

// Wake implements queue.Driver.
func (m *Memory) Wake(ctx context.Context) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan struct{}, 1)
	if m.listeners == nil {
		m.listeners = map[chan struct{}]struct{}{}
	}
	m.listeners[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.listeners, c)
	})
	return c
}

func (m *Memory) signal() {
	for c := range m.listeners {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
