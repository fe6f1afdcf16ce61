package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"holdfast/queue"
	"holdfast/store"
)

const (
	// announceEvery is how often a process says that it lives.
	announceEvery = 10 * time.Second
	// nodeGone is after how long of silence a process is taken for dead, and
	// nodeForgotten when nobody is shown it any more.
	nodeGone      = time.Minute
	nodeForgotten = 24 * time.Hour
)

// NodeState is a process that carries out jobs, as it last described itself. It
// is stored under "node/NAME".
type NodeState struct {
	Name    string    `json:"name"` // unique among the processes of a store
	Role    string    `json:"role"` // "serve" or "worker"
	Host    string    `json:"host"`
	Version string    `json:"version"`
	Labels  []string  `json:"labels,omitempty"` // see queue.Job.RunsOn
	Started time.Time `json:"started"`
	// Dedicated is set where it takes no job that asks for no label.
	Dedicated bool `json:"dedicated,omitempty"`
	// Slots is how many jobs it runs at once; 0 where it takes none.
	Slots   int       `json:"slots"`
	Running []NodeJob `json:"running"`
	Seen    time.Time `json:"seen"` // when it last described itself
}

// NodeJob is a job that a process carries out.
type NodeJob struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
}

// Gone reports whether nothing was heard of the process for so long that it is
// not counted on any more.
func (n NodeState) Gone(now time.Time) bool { return now.Sub(n.Seen) > nodeGone }

// serves reports whether the process may be given a job of a pool.
func (n NodeState) serves(pool string, now time.Time) bool {
	return n.Slots > 0 && !n.Gone(now) && queue.Claim{Labels: n.Labels, Dedicated: n.Dedicated}.Serves(pool)
}

const nodePrefix = "node/"

// Announce writes what state returns into the store, now and every ten seconds,
// until ctx ends; then the process is taken out of the list, as one that was
// shut down. The Runner sets Seen. A store that does not answer is asked again.
func (r *Runner) Announce(ctx context.Context, state func() NodeState) {
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	failed := false
	for {
		err := r.announce(ctx, state())
		if err != nil && ctx.Err() == nil && !failed {
			r.Logger.Warn("tell others that this process works", "error", err)
		}
		failed = err != nil
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), announceEvery)
	defer cancel()
	if err := r.Store.Records.Delete(last, nodePrefix+state().Name); err != nil {
		r.Logger.Warn("tell others that this process ends", "error", err)
	}
}

func (r *Runner) announce(ctx context.Context, n NodeState) error {
	n.Seen = r.Clock()
	return change(ctx, r, nodePrefix+n.Name, func(stored *NodeState) { *stored = n })
}

// forgetNodes removes processes that were not heard of for a day.
func (r *Runner) forgetNodes(ctx context.Context, now time.Time) error {
	nodes, err := Nodes(ctx, r.Store.Records)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if now.Sub(n.Seen) < nodeForgotten {
			continue
		}
		if err := r.Store.Records.Delete(ctx, nodePrefix+n.Name); err != nil {
			return err
		}
	}
	return nil
}

// Nodes returns the processes that carry out jobs, by name, those that are gone
// for less than a day among them.
func Nodes(ctx context.Context, records store.Records) ([]NodeState, error) {
	stored, err := records.List(ctx, nodePrefix)
	if err != nil {
		return nil, err
	}
	out := make([]NodeState, len(stored))
	for i, s := range stored {
		if err := json.Unmarshal(s.Value, &out[i]); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.Key, err)
		}
	}
	return out, nil
}

// Unserved are waiting jobs that no living process may take.
type Unserved struct {
	Labels []string // what they ask for; none: any process would do
	Jobs   int
}

// maxUnserved bounds the waiting jobs that are looked at.
const maxUnserved = 1000

// UnservedJobs counts the waiting jobs that none of nodes may take at now, by
// the labels that they ask for, the most first. It looks at the oldest 1,000.
func UnservedJobs(ctx context.Context, driver queue.Driver, nodes []NodeState, now time.Time) ([]Unserved, error) {
	waiting, err := driver.List(ctx, queue.Filter{State: queue.StateWaiting, Limit: maxUnserved})
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for _, j := range waiting {
		counts[j.Pool()]++
	}
	var out []Unserved
	for pool, n := range counts {
		if !slices.ContainsFunc(nodes, func(node NodeState) bool { return node.serves(pool, now) }) {
			out = append(out, Unserved{Labels: queue.Labels(pool), Jobs: n})
		}
	}
	slices.SortFunc(out, func(a, b Unserved) int {
		if a.Jobs != b.Jobs {
			return b.Jobs - a.Jobs
		}
		return slices.Compare(a.Labels, b.Labels)
	})
	return out, nil
}
