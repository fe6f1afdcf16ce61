package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/store"
)

// Fill puts something of every kind into s, which is empty, in all the states
// that must survive a move to another store; see Same.
func Fill(t *testing.T, s *store.Store) {
	t.Helper()
	fillQueue(t, s.Queue)
	ctx := t.Context()
	must[lock.Lease](t)(s.Locks.Acquire(ctx, start, "hold/w", alice, 0))
	must[lock.Lease](t)(s.Locks.Acquire(ctx, start, "workspace/w", bob, 100*365*24*time.Hour))
	ended := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	must[lock.Lease](t)(s.Locks.Acquire(ctx, ended, "workspace/ended", bob, time.Minute))
	last := must[lock.Lease](t)(s.Locks.Acquire(ctx, start, "workspace/released", bob, 0))
	is(t, "Release", s.Locks.Release(ctx, start, last), nil)

	for i := range 5 {
		r := store.Run{ID: fmt.Sprint("run-", i), Key: fmt.Sprint("key-", i), Kind: store.KindPlan, State: store.Queued, Repository: "h/o/r",
			Workspace: "w", PullRequest: i, Commit: "c", Inputs: "in", Job: "job", Token: int64(i), Node: "n", Error: "e", StartedAt: at(time.Second)}
		stored, _, err := s.Runs.Create(ctx, start, r)
		is(t, "Create", err, nil)
		for range i {
			stored.State, stored.Step, stored.Result = store.Running, "plan", []byte(`{"add": 1}`)
			stored = must[store.Run](t)(s.Runs.Update(ctx, start, stored))
		}
	}
	is(t, "Delete", s.Runs.Delete(ctx, "run-3"), nil)

	is(t, "Put", s.Artifacts.Put(ctx, start, "run-1/plan", []byte("one\x00\xff")), nil)
	is(t, "Put", s.Artifacts.Put(ctx, start, "run-1/:{ü}*", nil), nil)
	for _, chunk := range []string{"a", "", "c\n"} {
		is(t, "Append", s.Artifacts.Append(ctx, start, "run-1/log", []byte(chunk)), nil)
	}
	for i := range 4 {
		r := store.Record{Key: fmt.Sprint("record/", i), Value: []byte(`{"n": 1}`)}
		for range 1 + i {
			r = must[store.Record](t)(s.Records.Put(ctx, start, r))
		}
	}
	is(t, "Append", s.Audit.Append(ctx, store.Entry{ID: "e1", At: start, Who: "alice", Action: "hold", Repository: "h/o/r", Workspace: "w", Run: "run-1", Why: "why"}), nil)
	is(t, "Append", s.Audit.Append(ctx, store.Entry{ID: "e2", At: at(1), Who: "bob", Action: "plan"}), nil)
}

// fillQueue leaves jobs in every state: running ones in their first and second
// attempt, a cancelled one, a dead one, and waiting ones of several pools.
func fillQueue(t *testing.T, q queue.Driver) {
	t.Helper()
	s := &suite{T: t, q: q, other: q}
	s.add(
		queue.Job{ID: "first", Key: "first", Group: "g", Limit: "l", Priority: queue.PriorityApply, Again: true, RunsOn: []string{"a"}, Payload: []byte(`{"n": [1, "<ü>"]}`)},
		queue.Job{ID: "second", Group: "second", Priority: queue.PriorityApply},
		queue.Job{ID: "dead", Key: "dead", Limit: "l", Priority: queue.PriorityApply},
		queue.Job{ID: "canceled", Priority: queue.PriorityApply},
		queue.Job{ID: "done", Priority: queue.PriorityApply})
	for _, j := range s.claimWith(start, queue.Claim{Max: 5, Labels: []string{"a"}}) {
		switch j.ID {
		case "second":
			s.end(start, j, queue.Outcome{RunAt: start, Error: "the first attempt"})
		case "dead":
			s.end(start, j, queue.Outcome{Dead: true, Error: "broken"})
		case "canceled":
			must[queue.Job](t)(q.Control(t.Context(), start, j.ID, queue.ActionCancel))
		case "done":
			s.end(start, j, queue.Outcome{Done: true})
		}
	}
	s.claims("the retry", at(time.Second), 1, "second")
	for i := range 30 {
		j := queue.Job{Kind: fmt.Sprint("kind", i%2), Limit: fmt.Sprint("l", i%3), Priority: queue.Priority(10 * (1 + i%4)), RunAt: at(time.Duration(i%5) * time.Minute)}
		switch i % 6 {
		case 0, 1:
			j.Group = fmt.Sprint("g", i%2)
		case 2:
			j.Group, j.RunsOn = "g", []string{"b", "c"}
		case 3:
			j.RunsOn = []string{"a"}
			j.OverdueAt = at(time.Duration(40-i) * time.Minute)
		case 4:
			j.Key = fmt.Sprint("k", i)
		case 5:
			j.RunAt = at(50 * time.Hour)
		}
		s.add(j)
	}
	s.add(queue.Job{ID: "after-first", Group: "g"})
}

// Same fails the test unless b holds what a does, as after a move from a to b:
// both answer all questions alike, and both queues give their jobs in one
// order, those that run in a included. It works off the jobs of both.
func Same(t *testing.T, a, b *store.Store) {
	t.Helper()
	ctx := t.Context()
	tokens := *dump(t, a)[0].Tokens
	jobs := list(t, a.Queue)
	for i, j := range jobs {
		if j.Token > tokens.Job {
			t.Fatalf("the latest token is %d, and %s has %d", tokens.Job, j.ID, j.Token)
		}
		jobs[i] = moved(j)
	}
	equal(t, "jobs", list(t, b.Queue), jobs)
	sameCounts(t, b)

	now := time.Now()
	locks := must[[]lock.Lease](t)(a.Locks.List(ctx, now, ""))
	equal(t, "locks", must[[]lock.Lease](t)(b.Locks.List(ctx, now, "")), locks)
	l := must[lock.Lease](t)(b.Locks.Acquire(ctx, now, "storetest/another", alice, time.Minute))
	if l.Token <= tokens.Lock {
		t.Fatalf("a lock's token is %d after %d", l.Token, tokens.Lock)
	}
	is(t, "Release", b.Locks.Release(ctx, now, l), nil)

	sameRuns(t, a, b)
	sameArtifacts(t, a, b)
	equal(t, "records", must[[]store.Record](t)(b.Records.List(ctx, "")), must[[]store.Record](t)(a.Records.List(ctx, "")))
	equal(t, "audit trail", must[[]store.Entry](t)(b.Audit.List(ctx, "", 1e6)), must[[]store.Entry](t)(a.Audit.List(ctx, "", 1e6)))
	sameKeys(t, a, b)
	sameOrder(t, a, b, tokens.Job)
}

// moved is j as it is loaded into another store.
func moved(j queue.Job) queue.Job {
	if j.State == queue.StateRunning {
		j.State, j.Worker, j.LeaseEnd = queue.StateWaiting, "", time.Time{}
	}
	return j
}

func list(t *testing.T, q queue.Driver) []queue.Job {
	t.Helper()
	return must[[]queue.Job](t)(q.List(t.Context(), queue.Filter{Limit: 1e6}))
}

// sameCounts fails the test unless the counts of s agree with its jobs.
func sameCounts(t *testing.T, s *store.Store) {
	t.Helper()
	want := map[queue.Count]int{}
	for _, j := range list(t, s.Queue) {
		want[queue.Count{Kind: j.Kind, State: j.State}]++
	}
	equal(t, "counts", counted(t, must[[]queue.Count](t)(s.Counts(t.Context()))), want)
}

func sameRuns(t *testing.T, a, b *store.Store) {
	t.Helper()
	want := must[[]store.Run](t)(a.Runs.List(t.Context(), store.RunFilter{Limit: 1e6}))
	equal(t, "runs", must[[]store.Run](t)(b.Runs.List(t.Context(), store.RunFilter{Limit: 1e6})), want)
	for _, r := range want {
		equal(t, "run "+r.ID, must[store.Run](t)(b.Runs.Get(t.Context(), r.ID)), r)
		known, created, err := b.Runs.Create(t.Context(), start, store.Run{ID: "storetest-" + r.ID, Key: r.Key})
		is(t, "Create of a known key", err, nil)
		equal(t, "created", created, false)
		equal(t, "the run of the key "+r.Key, known, r)
	}
}

func sameArtifacts(t *testing.T, a, b *store.Store) {
	t.Helper()
	keys := artifactKeys(t, a)
	equal(t, "keys of artifacts", artifactKeys(t, b), keys)
	for _, key := range keys {
		want := must[[][]byte](t)(a.Artifacts.Chunks(t.Context(), key, 0))
		equal(t, "chunks of "+key, must[[][]byte](t)(b.Artifacts.Chunks(t.Context(), key, 0)), want)
	}
}

func artifactKeys(t *testing.T, s *store.Store) (keys []string) {
	t.Helper()
	for _, item := range dump(t, s) {
		if item.Chunk != nil {
			keys = append(keys, item.Chunk.Key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// sameKeys enqueues every key again. It sends dead jobs back to waiting, and
// changes no other.
func sameKeys(t *testing.T, a, b *store.Store) {
	t.Helper()
	for _, j := range list(t, a.Queue) {
		if j.Key == "" {
			continue
		}
		again := j
		again.ID = "storetest-" + j.ID
		want := must[[]queue.Job](t)(a.Queue.Enqueue(t.Context(), start, []queue.Job{again}))[0]
		got := must[[]queue.Job](t)(b.Queue.Enqueue(t.Context(), start, []queue.Job{again}))[0]
		equal(t, "the job of the key "+j.Key, got, moved(want))
	}
}

// sameOrder works off both queues side by side, after the leases of a have
// ended: what is due within the hour, then the rest.
func sameOrder(t *testing.T, a, b *store.Store, token int64) {
	t.Helper()
	c := queue.Claim{Worker: "w", Lease: lease, Max: 3, PerLimit: 2, Labels: labelsOf(list(t, a.Queue))}
	for _, now := range []time.Time{at(time.Hour), at(1000 * time.Hour)} {
		for {
			want := must[[]queue.Job](t)(a.Queue.Claim(t.Context(), now, c))
			got := must[[]queue.Job](t)(b.Queue.Claim(t.Context(), now, c))
			equal(t, "claimed", withoutTokens(got), withoutTokens(want))
			if len(got) == 0 {
				break
			}
			for i, j := range got {
				if j.Token <= token {
					t.Fatalf("token %d after %d", j.Token, token)
				}
				token = j.Token
				is(t, "Finish", a.Queue.Finish(t.Context(), now, want[i].Ref(), queue.Outcome{Done: true}), nil)
				is(t, "Finish", b.Queue.Finish(t.Context(), now, j.Ref(), queue.Outcome{Done: true}), nil)
			}
		}
	}
	equal(t, "left", withoutTokens(list(t, b.Queue)), withoutTokens(list(t, a.Queue)))
	sameCounts(t, b)
}

func labelsOf(jobs []queue.Job) (all []string) {
	for _, j := range jobs {
		all = append(all, j.RunsOn...)
	}
	return all
}

func withoutTokens(jobs []queue.Job) []queue.Job {
	out := slices.Clone(jobs)
	for i := range out {
		out[i].Token = 0
	}
	return out
}

// dump returns all that s gives, the tokens first.
func dump(t *testing.T, s *store.Store) (items []store.Item) {
	t.Helper()
	is(t, "Dump", s.Dump(t.Context(), func(item store.Item) error {
		items = append(items, item)
		return nil
	}), nil)
	if len(items) == 0 || items[0].Tokens == nil {
		t.Fatal("a dump does not begin with the tokens")
	}
	return items
}

// testMove moves a store into another one twice, in batches that end anywhere,
// the first time not to its end.
func testMove(t *testing.T, from, to Open) {
	a, b := handle(t, from), handle(t, to)
	Fill(t, a)
	items := dump(t, a)
	load := func(items []store.Item) {
		for batch := range slices.Chunk(items, 7) {
			is(t, "Load", b.Load(t.Context(), batch), nil)
		}
	}
	load(items[:len(items)/2])
	load(items)
	equal(t, "items", len(dump(t, b)), len(items))
	load(items)
	is(t, "Load of nothing", b.Load(t.Context(), nil), nil)
	if b.Load(t.Context(), []store.Item{{}}) == nil {
		t.Error("Load of an empty item is no error")
	}
	stop := errors.New("stop")
	is(t, "Dump that is told to stop", a.Dump(t.Context(), func(store.Item) error { return stop }), stop)
	Same(t, a, b)
	testMoveOn(t, a, b)
}

// testMoveOn moves again after the first store was used, and now has another
// job and another run under a known key, and newer versions.
func testMoveOn(t *testing.T, a, b *store.Store) {
	ctx := t.Context()
	job := queue.Job{ID: "on-1", Kind: "k", Key: "on", Priority: queue.PriorityApply, RunAt: start, EnqueuedAt: start, OverdueAt: at(time.Hour)}
	must[[]queue.Job](t)(a.Queue.Enqueue(ctx, start, []queue.Job{job}))
	move := func() { is(t, "Load", b.Load(ctx, dump(t, a)), nil) }
	move()
	must[queue.Job](t)(a.Queue.Control(ctx, start, "on-1", queue.ActionCancel))
	job.ID = "on-2"
	must[[]queue.Job](t)(a.Queue.Enqueue(ctx, start, []queue.Job{job}))
	r := must[store.Run](t)(a.Runs.Get(ctx, "run-1"))
	is(t, "Delete", a.Runs.Delete(ctx, r.ID), nil)
	_, _, err := a.Runs.Create(ctx, start, store.Run{ID: "run-9", Key: r.Key, State: store.Queued})
	is(t, "Create", err, nil)
	record := must[store.Record](t)(a.Records.Get(ctx, "record/1"))
	must[store.Record](t)(a.Records.Put(ctx, start, record))
	move()
	Same(t, a, b)
}
