package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"holdfast/queue"
)

// Queue is a queue under test.
type Queue struct {
	A, B   queue.Driver // two handles on it
	Counts func(context.Context) ([]queue.Count, error)
}

// RunQueue tests a queue. open returns an empty one, closed with the test.
func RunQueue(t *testing.T, open func(t *testing.T) Queue) {
	t.Helper()
	for name, test := range map[string]func(*suite){
		"RoundTrip":         (*suite).roundTrip,
		"Order":             (*suite).order,
		"Overdue":           (*suite).overdue,
		"OverdueInGroup":    (*suite).overdueInGroup,
		"OverdueAgain":      (*suite).overdueAgain,
		"OverdueBehindCap":  (*suite).overdueBehindItsCap,
		"Group":             (*suite).group,
		"GroupFuture":       (*suite).groupFuture,
		"KeyWaiting":        (*suite).keyWaiting,
		"KeyRunning":        (*suite).keyRunning,
		"KeyAgain":          (*suite).keyAgain,
		"KeyAgainRetried":   (*suite).keyAgainRetried,
		"KeyDead":           (*suite).keyDead,
		"KeyCanceled":       (*suite).keyCanceled,
		"KeyInOneCall":      (*suite).keyInOneCall,
		"Atomic":            (*suite).atomic,
		"Expired":           (*suite).expired,
		"ExpiredBlocks":     (*suite).expiredBlocks,
		"HeartbeatRevives":  (*suite).heartbeatRevives,
		"Finish":            (*suite).finish,
		"FinishOnce":        (*suite).finishOnce,
		"Dead":              (*suite).dead,
		"Cancel":            (*suite).cancel,
		"CanceledIsKept":    (*suite).canceledIsKept,
		"Retry":             (*suite).retry,
		"PerLimit":          (*suite).perLimit,
		"Limits":            (*suite).limits,
		"PerLimitExpired":   (*suite).perLimitExpired,
		"PerLimitHead":      (*suite).perLimitHead,
		"RunsOn":            (*suite).runsOn,
		"RunsOnOrder":       (*suite).runsOnOrder,
		"RunsOnGroup":       (*suite).runsOnGroup,
		"RunsOnLimit":       (*suite).runsOnLimit,
		"RunsOnExpired":     (*suite).runsOnExpired,
		"RunsOnKey":         (*suite).runsOnKey,
		"RunsOnAgain":       (*suite).runsOnAgain,
		"RunsOnMoved":       (*suite).runsOnMoved,
		"Counts":            (*suite).counts,
		"List":              (*suite).list,
		"Tokens":            (*suite).tokens,
		"Hostile":           (*suite).hostile,
		"Wake":              (*suite).wake,
		"Concurrent":        (*suite).concurrent,
		"ConcurrentExpired": (*suite).concurrentExpired,
	} {
		t.Run(name, func(t *testing.T) {
			q := open(t)
			test(&suite{T: t, q: q.A, other: q.B, count: q.Counts})
		})
	}
	t.Run("Model", func(t *testing.T) {
		for seed := range uint64(6) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				runModel(t, seed, open(t))
			})
		}
	})
}

// suite is one test of a queue, with short names for the driver's methods.
type suite struct {
	*testing.T
	q, other queue.Driver
	count    func(context.Context) ([]queue.Count, error)
	ids      int
}

// job fills in what a Queue would.
func (s *suite) job(j queue.Job) queue.Job {
	s.ids++
	if j.ID == "" {
		j.ID = fmt.Sprintf("job-%04d", s.ids)
	}
	if j.Kind == "" {
		j.Kind = "test"
	}
	if j.Priority == 0 {
		j.Priority = queue.PriorityInteractive
	}
	if j.RunAt.IsZero() {
		j.RunAt = start
	}
	if j.EnqueuedAt.IsZero() {
		j.EnqueuedAt = start
	}
	if j.OverdueAt.IsZero() {
		j.OverdueAt = j.RunAt.Add(100 * time.Hour)
	}
	return j
}

// add enqueues jobs at start and returns their IDs.
func (s *suite) add(jobs ...queue.Job) []string {
	s.Helper()
	return s.addAt(start, jobs...)
}

func (s *suite) addAt(now time.Time, jobs ...queue.Job) []string {
	s.Helper()
	for i := range jobs {
		jobs[i] = s.job(jobs[i])
	}
	stored := must[[]queue.Job](s.T)(s.q.Enqueue(s.Context(), now, jobs))
	if len(stored) != len(jobs) {
		s.Fatalf("Enqueue of %d jobs returned %d", len(jobs), len(stored))
	}
	return ids(stored)
}

func ids(jobs []queue.Job) []string {
	out := []string{}
	for _, j := range jobs {
		out = append(out, j.ID)
	}
	return out
}

// lease is how long claims of this suite last.
const lease = time.Minute

func (s *suite) claim(now time.Time, most int) []queue.Job {
	s.Helper()
	return s.claimWith(now, queue.Claim{Max: most})
}

func (s *suite) claimWith(now time.Time, c queue.Claim) []queue.Job {
	s.Helper()
	c.Worker, c.Lease = "worker", lease
	return must[[]queue.Job](s.T)(s.q.Claim(s.Context(), now, c))
}

// one claims the only claimable job.
func (s *suite) one(now time.Time) queue.Job {
	s.Helper()
	jobs := s.claim(now, 10)
	if len(jobs) != 1 {
		s.Fatalf("claimed %v, want one job", ids(jobs))
	}
	return jobs[0]
}

func (s *suite) end(now time.Time, j queue.Job, o queue.Outcome) {
	s.Helper()
	is(s.T, "Finish "+j.ID, s.q.Finish(s.Context(), now, j.Ref(), o), nil)
}

func (s *suite) all() []queue.Job {
	s.Helper()
	return must[[]queue.Job](s.T)(s.other.List(s.Context(), queue.Filter{}))
}

func (s *suite) claims(what string, now time.Time, most int, want ...string) []queue.Job {
	s.Helper()
	jobs := s.claim(now, most)
	equal(s.T, what, ids(jobs), append([]string{}, want...))
	return jobs
}

func (s *suite) roundTrip() {
	j := queue.Job{
		Kind: "plan", Group: "g", Key: "k", Again: true, Limit: "l", RunsOn: []string{"arm64", "prod.eu"}, Priority: queue.PriorityApply, RunAt: at(time.Second),
		Payload: json.RawMessage(`{"a": [1, "<ü>"]}`), ID: "id-1", EnqueuedAt: start, OverdueAt: at(time.Minute),
	}
	want := j
	want.State = queue.StateWaiting
	// What only one process knows of a time is not stored.
	local := j
	local.RunAt = j.RunAt.In(time.FixedZone("elsewhere", 3600))
	stored := must[[]queue.Job](s.T)(s.q.Enqueue(s.Context(), start, []queue.Job{local}))
	equal(s.T, "stored", stored, []queue.Job{want})
	equal(s.T, "listed", s.all(), []queue.Job{want})

	c := queue.Claim{Max: 5, Labels: []string{"prod.eu", "arm64", "fast"}}
	equal(s.T, "claimed too early", len(s.claimWith(start, c)), 0)
	got := s.claimWith(at(2*time.Second), c)
	want.State, want.Attempt, want.Worker, want.LeaseEnd = queue.StateRunning, 1, "worker", at(2*time.Second+lease)
	if len(got) != 1 || got[0].Token <= 0 {
		s.Fatalf("claimed %+v", got)
	}
	want.Token = got[0].Token
	equal(s.T, "claimed", got[0], want)
	equal(s.T, "listed while running", s.all(), []queue.Job{want})
	s.end(at(3*time.Second), got[0], queue.Outcome{Done: true})
	equal(s.T, "listed when done", len(s.all()), 0)

	equal(s.T, "nothing enqueued", len(must[[]queue.Job](s.T)(s.q.Enqueue(s.Context(), start, nil))), 0)
	equal(s.T, "nothing claimed", len(s.claimWith(start, queue.Claim{Max: 0})), 0)
}

func (s *suite) order() {
	id := s.add(
		queue.Job{Priority: queue.PriorityDrift}, queue.Job{Priority: queue.PriorityInteractive},
		queue.Job{Priority: queue.PriorityApply}, queue.Job{Priority: queue.PriorityInteractive},
		queue.Job{Priority: queue.PriorityReplan}, queue.Job{Priority: queue.PriorityApply})
	s.claims("first", start, 3, id[2], id[5], id[1])
	s.claims("then", start, 10, id[3], id[4], id[0])
}

func (s *suite) overdue() {
	id := s.add(
		queue.Job{Priority: queue.PriorityApply},
		queue.Job{Priority: queue.PriorityDrift, OverdueAt: at(20 * time.Minute)},
		queue.Job{Priority: queue.PriorityDrift, OverdueAt: at(10 * time.Minute)},
		queue.Job{Priority: queue.PriorityReplan})
	s.claims("one is overdue, at this very moment", at(10*time.Minute), 1, id[2])
	s.claims("the longest overdue first", at(30*time.Minute), 10, id[2], id[1], id[0], id[3])
}

func (s *suite) overdueInGroup() {
	id := s.add(
		queue.Job{Group: "g", Priority: queue.PriorityDrift, OverdueAt: at(time.Minute)},
		queue.Job{Group: "g", Priority: queue.PriorityApply})
	// It may be an overdue job that waits for room in its bucket: what is more
	// important must not wait behind it.
	j := s.claims("in a group priority decides, also over what is overdue", at(2*time.Minute), 10, id[1])
	s.end(at(2*time.Minute), j[0], queue.Outcome{Done: true})
	s.claims("then the other", at(2*time.Minute), 10, id[0])
}

func (s *suite) overdueAgain() {
	s.add(queue.Job{ID: "patient", Priority: queue.PriorityDrift, OverdueAt: at(time.Minute)})
	j := s.one(start)
	s.end(start, j, queue.Outcome{RunAt: at(time.Hour)})
	s.add(queue.Job{ID: "urgent", Priority: queue.PriorityApply})
	jobs := s.claims("its patience begins anew with the wait", at(time.Hour), 1, "urgent")
	s.end(at(time.Hour), jobs[0], queue.Outcome{RunAt: at(time.Hour)})
	s.claims("and ends as before", at(time.Hour+time.Minute), 1, "patient")
}

func (s *suite) group() {
	id := s.add(queue.Job{Group: "a"}, queue.Job{Group: "a"}, queue.Job{Group: "b"}, queue.Job{}, queue.Job{},
		queue.Job{Group: "a", Priority: queue.PriorityApply})
	jobs := s.claims("the heads", start, 10, id[5], id[2], id[3], id[4])
	s.claims("all blocked", start, 10)
	s.end(start, jobs[1], queue.Outcome{Done: true})
	s.claims("b is empty", start, 10)
	s.end(start, jobs[0], queue.Outcome{Done: true})
	jobs = s.claims("the next of a", start, 10, id[0])
	s.end(start, jobs[0], queue.Outcome{RunAt: at(time.Second), Error: "once more later"})
	jobs = s.claims("one that waits for its time does not block", start, 10, id[1])
	s.claims("but this one does", at(time.Second), 10)
	s.end(at(time.Second), jobs[0], queue.Outcome{Done: true})
	s.claims("the retry", at(time.Second), 10, id[0])
}

func (s *suite) groupFuture() {
	id := s.add(queue.Job{Group: "g", RunAt: at(time.Minute), Priority: queue.PriorityApply}, queue.Job{Group: "g"}, queue.Job{Group: "g"})
	j := s.claims("the future does not block", start, 10, id[1])
	s.end(start, j[0], queue.Outcome{Done: true})
	s.claims("due by now, and more urgent", at(time.Minute), 10, id[0])
}

func (s *suite) atomic() {
	s.add(queue.Job{ID: "taken"})
	_, err := s.q.Enqueue(s.Context(), start, []queue.Job{s.job(queue.Job{ID: "new"}), s.job(queue.Job{ID: "taken"})})
	if err == nil {
		s.Fatal("an ID was stored twice")
	}
	equal(s.T, "all or none", ids(s.all()), []string{"taken"})
}

func (s *suite) expired() {
	id := s.add(queue.Job{})
	old := s.one(start)
	s.claims("the lease runs", at(lease-1), 10)
	now := at(lease)
	j := s.one(now)
	if j.ID != id[0] || j.Attempt != 2 || j.Token <= old.Token || !j.LeaseEnd.Equal(now.Add(lease)) {
		s.Fatalf("claimed again as %+v", j)
	}
	is(s.T, "Finish of the lost claim", s.q.Finish(s.Context(), now, old.Ref(), queue.Outcome{Done: true}), queue.ErrLost)
	beats := must[[]queue.Beat](s.T)(s.other.Heartbeat(s.Context(), now, []queue.Ref{old.Ref(), j.Ref(), {ID: "nobody", Token: 1}}, lease))
	equal(s.T, "beats", beats, []queue.Beat{{Ref: old.Ref(), Lost: true}, {Ref: j.Ref()}, {Ref: queue.Ref{ID: "nobody", Token: 1}, Lost: true}})
	s.end(now, j, queue.Outcome{Done: true})
}

func (s *suite) expiredBlocks() {
	s.add(queue.Job{ID: "died", Group: "g", Priority: queue.PriorityDrift})
	s.one(start)
	s.add(queue.Job{ID: "next", Group: "g", Priority: queue.PriorityApply}, queue.Job{ID: "free", Priority: queue.PriorityReplan})
	now := at(2 * lease)
	j := s.claims("the group is the expired job's, in its order among all", now, 10, "free", "died")
	s.end(now, j[1], queue.Outcome{Done: true})
	s.claims("then the next", now, 10, "next")
}

func (s *suite) heartbeatRevives() {
	s.add(queue.Job{})
	j := s.one(start)
	late := at(2 * lease)
	beats := must[[]queue.Beat](s.T)(s.q.Heartbeat(s.Context(), late, []queue.Ref{j.Ref()}, lease))
	equal(s.T, "nobody took it", beats, []queue.Beat{{Ref: j.Ref()}})
	s.claims("so it has a lease again", late.Add(lease-1), 10)
	s.end(late, j, queue.Outcome{Done: true})
	equal(s.T, "no refs", len(must[[]queue.Beat](s.T)(s.q.Heartbeat(s.Context(), late, nil, lease))), 0)
}

func (s *suite) finish() {
	s.add(queue.Job{})
	j := s.one(start)
	s.end(start, j, queue.Outcome{RunAt: at(time.Minute), Error: "try later"})
	got := s.all()[0]
	equal(s.T, "waits", []any{got.State, got.Attempt, got.RunAt, got.LastError, got.Worker, got.LeaseEnd},
		[]any{queue.StateWaiting, 1, at(time.Minute), "try later", "", time.Time{}})
	s.claims("not yet", at(time.Minute-1), 10)
	j = s.one(at(time.Minute))
	equal(s.T, "second attempt", j.Attempt, 2)
	s.end(at(time.Minute), j, queue.Outcome{RunAt: at(time.Minute), Uncounted: true})
	j = s.one(at(time.Minute))
	equal(s.T, "given back uncounted", []any{j.Attempt, j.LastError}, []any{2, ""})
	s.end(at(time.Hour), j, queue.Outcome{})
	j = s.one(at(time.Hour))
	equal(s.T, "no RunAt is now", j.RunAt, at(time.Hour))
}

func (s *suite) finishOnce() {
	s.add(queue.Job{})
	j := s.one(start)
	s.end(start, j, queue.Outcome{RunAt: start, Uncounted: true})
	is(s.T, "Finish of a job that waits", s.q.Finish(s.Context(), start, j.Ref(), queue.Outcome{Done: true}), queue.ErrLost)
	j = s.one(start)
	s.end(start, j, queue.Outcome{Done: true})
	is(s.T, "Finish of a job that is gone", s.q.Finish(s.Context(), start, j.Ref(), queue.Outcome{Done: true}), queue.ErrLost)
}

func (s *suite) dead() {
	id := s.add(queue.Job{Group: "g"}, queue.Job{Group: "g"})
	j := s.one(start)
	s.end(start, j, queue.Outcome{Dead: true, Error: "hopeless"})
	s.claims("the dead do not block", at(100*lease), 10, id[1])
	got := must[[]queue.Job](s.T)(s.q.List(s.Context(), queue.Filter{State: queue.StateDead}))
	equal(s.T, "dead", []any{ids(got), got[0].LastError, got[0].Attempt}, []any{id[:1], "hopeless", 1})
}

func (s *suite) cancel() {
	id := s.add(queue.Job{Group: "g"}, queue.Job{Group: "g"}, queue.Job{Group: "g"})
	control := func(id string) queue.Job {
		s.Helper()
		return must[queue.Job](s.T)(s.other.Control(s.Context(), start, id, queue.ActionCancel))
	}
	equal(s.T, "as it was", control(id[0]).State, queue.StateWaiting)
	j := s.claims("the next", start, 10, id[1])
	got := control(id[1])
	equal(s.T, "running", []any{got.State, got.Canceled}, []any{queue.StateRunning, true})
	beats := must[[]queue.Beat](s.T)(s.q.Heartbeat(s.Context(), start, []queue.Ref{j[0].Ref()}, lease))
	equal(s.T, "its worker learns it", beats, []queue.Beat{{Ref: j[0].Ref(), Canceled: true}})
	s.end(start, j[0], queue.Outcome{Dead: true})
	control(id[1])
	equal(s.T, "a dead one is gone too", ids(s.all()), id[2:])
	for _, a := range []queue.Action{queue.ActionCancel, queue.ActionRetry} {
		_, err := s.q.Control(s.Context(), start, id[0], a)
		is(s.T, string(a)+" of a job that is gone", err, queue.ErrNotFound)
	}
	if _, err := s.q.Control(s.Context(), start, id[2], "explode"); err == nil {
		s.Fatal("an unknown action is no error")
	}
	s.claims("the group goes on", start, 10, id[2])
}

func (s *suite) canceledIsKept() {
	s.add(queue.Job{})
	j := s.one(start)
	must[queue.Job](s.T)(s.q.Control(s.Context(), start, j.ID, queue.ActionCancel))
	s.end(start, j, queue.Outcome{RunAt: start, Uncounted: true})
	j = s.one(start)
	equal(s.T, "given back before it could be stopped", j.Canceled, true)
	j = s.one(at(lease))
	equal(s.T, "or its worker died", j.Canceled, true)
}

func (s *suite) retry() {
	s.add(queue.Job{OverdueAt: at(time.Hour)})
	now := at(10 * time.Hour)
	for _, o := range []queue.Outcome{{Dead: true, Error: "x"}, {RunAt: now.Add(time.Hour), Error: "x"}} {
		j := s.one(now)
		s.end(now, j, o)
		got := must[queue.Job](s.T)(s.q.Control(s.Context(), now, j.ID, queue.ActionRetry))
		equal(s.T, "due now, from attempt 1", []any{got.State, got.Attempt, got.RunAt, got.OverdueAt},
			[]any{queue.StateWaiting, 0, now, now.Add(time.Hour)})
	}
	j := s.one(now)
	got := must[queue.Job](s.T)(s.q.Control(s.Context(), now, j.ID, queue.ActionRetry))
	equal(s.T, "a running one is left alone", got, j)
}

func (s *suite) list() {
	id := s.add(queue.Job{Kind: "x", Group: "g", Key: "1"}, queue.Job{Kind: "y", Group: "g", Key: "2"}, queue.Job{Kind: "x"}, queue.Job{Kind: "y", RunAt: at(time.Hour)})
	jobs := s.claim(start, 1)
	for _, c := range []struct {
		f    queue.Filter
		want []string
	}{
		{queue.Filter{}, id},
		{queue.Filter{State: queue.StateWaiting}, id[1:]},
		{queue.Filter{State: queue.StateRunning}, ids(jobs)},
		{queue.Filter{State: queue.StateDead}, []string{}},
		{queue.Filter{Kind: "x"}, []string{id[0], id[2]}},
		{queue.Filter{Group: "g"}, id[:2]},
		{queue.Filter{Key: "2"}, id[1:2]},
		{queue.Filter{Kind: "y", Group: "g"}, id[1:2]},
		{queue.Filter{Limit: 2}, id[:2]},
	} {
		equal(s.T, fmt.Sprintf("%+v", c.f), ids(must[[]queue.Job](s.T)(s.other.List(s.Context(), c.f))), c.want)
	}
}

func (s *suite) tokens() {
	var last int64
	for i := range 20 {
		s.add(queue.Job{})
		j := s.one(at(time.Duration(i) * time.Second))
		if j.Token <= last {
			s.Fatalf("token %d after %d", j.Token, last)
		}
		last = j.Token
		s.end(start, j, queue.Outcome{Done: true}) // finished jobs must not give their token back
	}
}

// hostile has names that a backend must not take for anything but names.
func (s *suite) hostile() {
	for _, name := range []string{"'; DROP TABLE job; --", "a:b{c}*?%_", "naïve\n\ttab", "𝄞", "a\u0000b"} {
		id := s.add(queue.Job{Group: name, Key: name, Limit: name, Kind: name})
		j := s.one(start)
		equal(s.T, "names", []string{j.ID, j.Group, j.Key, j.Limit, j.Kind}, []string{id[0], name, name, name, name})
		equal(s.T, "found", ids(must[[]queue.Job](s.T)(s.q.List(s.Context(), queue.Filter{Key: name, Group: name}))), id)
		s.end(start, j, queue.Outcome{RunAt: at(1000 * time.Hour), Error: name})
		equal(s.T, "error", s.all()[len(s.all())-1].LastError, name)
		must[queue.Job](s.T)(s.q.Control(s.Context(), start, id[0], queue.ActionCancel))
	}
}

// wake waits for signals, with a bound that only a broken backend reaches.
func (s *suite) wake() {
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	here, there := s.q.Wake(ctx), s.other.Wake(ctx)
	expect := func(what string) {
		s.Helper()
		for name, c := range map[string]<-chan struct{}{"this handle": here, "the other handle": there} {
			select {
			case <-c:
			case <-time.After(10 * time.Second):
				s.Fatalf("no signal on %s after %s", name, what)
			}
		}
		drain(here)
		drain(there)
	}
	s.add(queue.Job{Group: "g"}, queue.Job{Group: "g"})
	expect("Enqueue")
	j := s.one(start)
	drain(here)
	drain(there)
	s.end(start, j, queue.Outcome{Done: true})
	expect("Finish")
	j = s.one(start)
	s.end(start, j, queue.Outcome{Dead: true}) // nothing is left to claim
	must[queue.Job](s.T)(s.q.Control(s.Context(), start, j.ID, queue.ActionRetry))
	expect("Control")
	cancel()
	s.add(queue.Job{}) // nobody listens; it must not block
}

func drain(c <-chan struct{}) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}
