package runner

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/queue"
	"holdfast/store"
)

// memoryRecords are records in memory, of which writes can be made to fail.
type memoryRecords struct {
	store.Records
	mu   sync.Mutex
	all  map[string]store.Record
	down bool
}

func (m *memoryRecords) fail(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

// Get implements store.Records.
func (m *memoryRecords) Get(_ context.Context, key string) (store.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.all[key]; ok {
		return r, nil
	}
	return store.Record{}, store.ErrNotFound
}

// Put implements store.Records.
func (m *memoryRecords) Put(_ context.Context, _ time.Time, r store.Record) (store.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return r, errDown
	}
	r.Version++
	m.all[r.Key] = r
	return r, nil
}

// Delete implements store.Records.
func (m *memoryRecords) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, key)
	return nil
}

// A process tells of itself while it lives, goes on after the store was down,
// and is not in the list after it was shut down.
func TestAnnounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := &memoryRecords{all: map[string]store.Record{}}
		r := &Runner{Config: Config{Store: &store.Store{Records: records}, Clock: time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}}
		busy := 0
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.Announce(ctx, func() NodeState {
				busy++
				return NodeState{Name: "one", Slots: busy}
			})
		}()
		seen := func() (n NodeState) {
			t.Helper()
			synctest.Wait()
			stored, err := records.Get(t.Context(), "node/one")
			if err := errors.Join(err, json.Unmarshal(stored.Value, &n)); err != nil {
				t.Fatal(err)
			}
			return n
		}
		if n := seen(); n.Slots != 1 || !n.Seen.Equal(time.Now()) {
			t.Errorf("at the start: %+v", n)
		}
		time.Sleep(announceEvery)
		if n := seen(); n.Slots != 2 || !n.Seen.Equal(time.Now()) {
			t.Errorf("ten seconds later: %+v", n)
		}
		records.fail(true)
		time.Sleep(10 * announceEvery)
		if n := seen(); n.Slots != 2 || !n.Gone(time.Now()) {
			t.Errorf("after more than a minute of silence: %+v", n)
		}
		records.fail(false)
		time.Sleep(announceEvery)
		if n := seen(); n.Gone(time.Now()) {
			t.Errorf("after the silence: %+v", n)
		}
		end()
		<-ended
		if len(records.all) > 0 {
			t.Errorf("after its end: %v", records.all)
		}
	})
}

// What was killed is shown for a day.
func TestNodesAreForgotten(t *testing.T) {
	f := retains(t)
	if err := f.announce(t.Context(), NodeState{Name: "killed"}); err != nil {
		t.Fatal(err)
	}
	f.pass(nodeForgotten - retainEvery)
	if err := f.announce(t.Context(), NodeState{Name: "alive"}); err != nil {
		t.Fatal(err)
	}
	names := func() (out []string) {
		nodes, err := Nodes(t.Context(), f.Store.Records)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			out = append(out, n.Name)
		}
		return out
	}
	if got := names(); !slices.Equal(got, []string{"alive", "killed"}) {
		t.Fatalf("nodes %q", got)
	}
	f.sweep(retainEvery)
	if got := names(); !slices.Equal(got, []string{"alive"}) {
		t.Errorf("nodes %q after a day", got)
	}
}

// waitingJobs is a queue with these jobs.
type waitingJobs struct {
	queue.Driver
	jobs []queue.Job
}

// List implements queue.Driver.
func (q waitingJobs) List(_ context.Context, f queue.Filter) ([]queue.Job, error) {
	if f.State != queue.StateWaiting {
		return nil, errDown
	}
	return q.jobs, nil
}

func TestUnservedJobs(t *testing.T) {
	var waiting waitingJobs
	for _, labels := range [][]string{{"prod"}, {"prod"}, {"eu", "prod"}, {"gpu"}, nil} {
		waiting.jobs = append(waiting.jobs, queue.Job{Kind: JobPlan, State: queue.StateWaiting, RunsOn: labels})
	}
	now := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	alive := func(labels ...string) NodeState { return NodeState{Labels: labels, Slots: 1, Seen: now} }
	gone, idle := alive("eu", "gpu", "prod"), alive("eu", "gpu", "prod")
	gone.Seen, idle.Slots = now.Add(-nodeGone-1), 0
	for _, test := range []struct {
		name  string
		nodes []NodeState
		want  map[string]int
	}{
		{"all labels", []NodeState{alive("eu", "gpu", "prod")}, map[string]int{}},
		{"each by another", []NodeState{alive("eu", "prod"), alive("gpu")}, map[string]int{}},
		{"not all labels of one job", []NodeState{alive("eu", "gpu"), alive("prod")}, map[string]int{"eu,prod": 1}},
		{"no labels", []NodeState{alive()}, map[string]int{"prod": 2, "eu,prod": 1, "gpu": 1}},
		{"gone, or without slots", []NodeState{gone, idle}, map[string]int{"prod": 2, "eu,prod": 1, "gpu": 1, "": 1}},
	} {
		unserved, err := UnservedJobs(t.Context(), waiting, test.nodes, now)
		if err != nil {
			t.Fatal(err)
		}
		sorted := slices.IsSortedFunc(unserved, func(a, b Unserved) int { return b.Jobs - a.Jobs })
		ok := sorted && len(unserved) == len(test.want)
		for _, u := range unserved {
			ok = ok && test.want[queue.Job{RunsOn: u.Labels}.Pool()] == u.Jobs
		}
		if !ok {
			t.Errorf("%s: %+v", test.name, unserved)
		}
	}
}
