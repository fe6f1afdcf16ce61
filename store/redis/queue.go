package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/queue"
)

// jobs is the queue. See lua/jobs.lua for how jobs are marked so that a claim
// need not search.
type jobs struct{ *database }

var _ queue.Driver = (*jobs)(nil)

// sentFields are what Enqueue sends of a job, in the order of sentJob; rowFields
// are what scripts reply with, in the order of scanJob. The names are those of
// the job's hash.
var (
	sentFields = []string{"id", "kind", "group", "key", "again", "limit", "pool", "priority", "run_at", "enqueued_at", "overdue_at", "patience", "payload"}
	rowFields  = append(sentFields[:len(sentFields):len(sentFields)], "state", "attempt", "token", "worker", "lease_end", "canceled", "last_error")
)

var (
	enqueueScript   = newScript("jobs", "enqueue")
	claimScript     = newScript("jobs", "claim")
	heartbeatScript = newScript("jobs", "heartbeat")
	finishScript    = newScript("jobs", "finish")
	controlScript   = newScript("jobs", "control")
	listScript      = newScript("jobs", "list")
)

// sentJob appends the sentFields of j to args.
func sentJob(args []any, j queue.Job) []any {
	return append(args, j.ID, j.Kind, j.Group, j.Key, flag(j.Again), j.Limit, j.Pool(), int64(j.Priority),
		stamp(j.RunAt), stamp(j.EnqueuedAt), stamp(j.OverdueAt), span(j.OverdueAt.Sub(j.RunAt)), []byte(j.Payload))
}

// flag is how a bool is stored: one that is not set is an empty field.
func flag(b bool) string {
	if b {
		return "1"
	}
	return ""
}

// scanJob is the inverse of what row does in lua/jobs.lua.
func scanJob(r *row) queue.Job {
	j := queue.Job{
		ID: r.text(), Kind: r.text(), Group: r.text(), Key: r.text(), Again: r.flag(), Limit: r.text(),
		RunsOn: queue.Labels(r.text()), Priority: queue.Priority(r.number()),
		RunAt: r.time(), EnqueuedAt: r.time(), OverdueAt: r.time(),
	}
	_ = r.text() // patience
	j.Payload = r.bytes()
	switch state := r.text(); state {
	case "later", "due":
		j.State = queue.StateWaiting
	default:
		j.State = queue.State(state)
	}
	j.Attempt, j.Token, j.Worker, j.LeaseEnd = int(r.number()), r.number(), r.text(), r.time()
	j.Canceled, j.LastError = r.flag(), r.text()
	return j
}

// scanJobs reads the rows of a reply; those that are not there are left out.
func scanJobs(reply any) ([]queue.Job, error) {
	var out []queue.Job
	for _, values := range list(reply) {
		if values == nil {
			continue
		}
		r := &row{values: list(values)}
		j := scanJob(r)
		if r.err != nil {
			return nil, fmt.Errorf("job %s: %w", j.ID, r.err)
		}
		out = append(out, j)
	}
	return out, nil
}

// Enqueue implements queue.Driver.
func (q *jobs) Enqueue(ctx context.Context, now time.Time, in []queue.Job) (out []queue.Job, err error) {
	defer q.observe("queue.enqueue", time.Now(), &err)
	if len(in) == 0 {
		return nil, nil
	}
	args := []any{stamp(now)}
	for _, j := range in {
		args = sentJob(args, j)
	}
	reply, err := q.write(ctx, enqueueScript, args...)
	if err != nil {
		return nil, fmt.Errorf("store jobs: %w", err)
	}
	if id, taken := reply.(string); taken {
		return nil, fmt.Errorf("store jobs: the ID %s is taken", id)
	}
	rows := list(reply)
	if len(rows) != len(in) {
		return nil, fmt.Errorf("store jobs: %d answers for %d", len(rows), len(in))
	}
	for i, j := range in {
		merged, err := scanJobs(rows[i : i+1])
		if err != nil {
			return nil, fmt.Errorf("store jobs: %w", err)
		}
		if len(merged) == 0 {
			merged = append(merged, asStored(j))
		}
		out = append(out, merged[0])
	}
	return out, nil
}

// asStored returns a new job as a later read would.
func asStored(j queue.Job) queue.Job {
	j.State = queue.StateWaiting
	j.RunAt, j.EnqueuedAt, j.OverdueAt = stored(j.RunAt), stored(j.EnqueuedAt), stored(j.OverdueAt)
	j.Attempt, j.Token, j.Worker, j.LeaseEnd, j.Canceled, j.LastError = 0, 0, "", time.Time{}, false, ""
	return j
}

// Claim implements queue.Driver. Where more jobs became due than one step
// marks, it takes several steps until it has one to give.
func (q *jobs) Claim(ctx context.Context, now time.Time, c queue.Claim) (out []queue.Job, err error) {
	defer q.observe("queue.claim", time.Now(), &err)
	if c.Max <= 0 {
		return nil, nil
	}
	labels := c.Labels
	if c.Dedicated {
		labels = append([]string{""}, labels...)
	}
	args := []any{stamp(now), c.Worker, stamp(now.Add(c.Lease)), c.Max, c.PerLimit, len(labels)}
	for _, label := range labels {
		args = append(args, label)
	}
	for limit, most := range c.Limits {
		args = append(args, limit, most)
	}
	for more := true; more && len(out) == 0; {
		reply, err := q.write(ctx, claimScript, args...)
		if err != nil {
			return nil, fmt.Errorf("claim jobs: %w", err)
		}
		answer := list(reply)
		if len(answer) != 2 {
			return nil, fmt.Errorf("claim jobs: answered %v", reply)
		}
		more = answer[0] == int64(1)
		if out, err = scanJobs(answer[1]); err != nil {
			return nil, fmt.Errorf("claim jobs: %w", err)
		}
	}
	return out, nil
}

// Heartbeat implements queue.Driver.
func (q *jobs) Heartbeat(ctx context.Context, now time.Time, refs []queue.Ref, lease time.Duration) (out []queue.Beat, err error) {
	defer q.observe("queue.heartbeat", time.Now(), &err)
	if len(refs) == 0 {
		return nil, nil
	}
	args := []any{stamp(now.Add(lease))}
	for _, ref := range refs {
		args = append(args, ref.ID, ref.Token)
	}
	reply, err := q.write(ctx, heartbeatScript, args...)
	if err != nil {
		return nil, fmt.Errorf("extend leases of jobs: %w", err)
	}
	beats := list(reply)
	if len(beats) != len(refs) {
		return nil, fmt.Errorf("extend leases of jobs: %d answers for %d", len(beats), len(refs))
	}
	for i, ref := range refs {
		out = append(out, queue.Beat{Ref: ref, Lost: beats[i] == nil, Canceled: beats[i] == flag(true)})
	}
	return out, nil
}

// Finish implements queue.Driver.
func (q *jobs) Finish(ctx context.Context, now time.Time, ref queue.Ref, o queue.Outcome) (err error) {
	defer q.observe("queue.finish", time.Now(), &err)
	how := "wait"
	switch {
	case o.Done:
		how = "done"
	case o.Dead:
		how = "dead"
	}
	reply, err := q.write(ctx, finishScript, stamp(now), ref.ID, ref.Token, how, stamp(o.RunAt), flag(o.Uncounted), o.Error)
	if err == nil && reply == "lost" {
		err = queue.ErrLost
	}
	if err != nil {
		return fmt.Errorf("finish job %s: %w", ref.ID, err)
	}
	return nil
}

// Control implements queue.Driver.
func (q *jobs) Control(ctx context.Context, now time.Time, id string, a queue.Action) (j queue.Job, err error) {
	defer q.observe("queue.control", time.Now(), &err)
	if a != queue.ActionCancel && a != queue.ActionRetry {
		return queue.Job{}, fmt.Errorf("no such action: %q", a)
	}
	reply, err := q.write(ctx, controlScript, stamp(now), id, string(a))
	if err != nil {
		return queue.Job{}, fmt.Errorf("%s job %s: %w", a, id, err)
	}
	if reply == nil {
		return queue.Job{}, fmt.Errorf("%s job %s: %w", a, id, queue.ErrNotFound)
	}
	found, err := scanJobs([]any{reply})
	if err != nil {
		return queue.Job{}, fmt.Errorf("%s job %s: %w", a, id, err)
	}
	return found[0], nil
}

// step bounds how many entries of an index one script looks at: while it runs
// the server does nothing else.
const step = 1000

// defaultList is how many jobs List returns at most where nothing is said.
const defaultList = 1000

// List implements queue.Driver. It looks at a thousand jobs in each atomic step.
func (q *jobs) List(ctx context.Context, f queue.Filter) (out []queue.Job, err error) {
	defer q.observe("queue.list", time.Now(), &err)
	if f.Limit <= 0 {
		f.Limit = defaultList
	}
	err = q.eachJob(ctx, f, func(j queue.Job) error {
		out = append(out, j)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return out, nil
}

// eachJob calls do for up to f.Limit of the jobs of f, oldest first.
func (d *database) eachJob(ctx context.Context, f queue.Filter, do func(queue.Job) error) error {
	index := "jobs"
	switch f.State {
	case "", queue.StateWaiting:
	case queue.StateRunning, queue.StateDead:
		index += ":" + string(f.State)
	default:
		return fmt.Errorf("no such state: %q", f.State)
	}
	seen := map[string]bool{} // one that ran once more between two steps is in both
	for from := ""; ; {
		reply, err := d.read(ctx, listScript, index, from, step, f.Limit-len(seen), string(f.State), f.Kind, f.Group, f.Key)
		if err != nil {
			return err
		}
		var found []queue.Job
		if from, found, err = page(reply, scanJobs); err != nil {
			return err
		}
		for _, j := range found {
			if seen[j.ID] {
				continue
			}
			seen[j.ID] = true
			if err := do(j); err != nil {
				return err
			}
		}
		if from == "" || len(seen) >= f.Limit {
			return nil
		}
	}
}

// counts is store.Store.Counts.
func (d *database) counts(ctx context.Context) (out []queue.Count, err error) {
	defer d.observe("queue.counts", time.Now(), &err)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	counts, err := d.client.HGetAll(ctx, d.key("count")).Result()
	if err != nil {
		return nil, fmt.Errorf("count jobs: %w", d.explain(err))
	}
	for name, value := range counts {
		state, kind, ok := strings.Cut(name, ":")
		n, err := strconv.Atoi(value)
		if err != nil || !ok {
			return nil, fmt.Errorf("count jobs: %s is %q: %w", name, value, err)
		}
		out = append(out, queue.Count{Kind: kind, State: queue.State(state), N: n})
	}
	return out, nil
}

// Wake implements queue.Driver.
func (q *jobs) Wake(ctx context.Context) <-chan struct{} { return q.wake.Listen(ctx) }
