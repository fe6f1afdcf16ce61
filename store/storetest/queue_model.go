package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/queue"
	"holdfast/queue/queuetest"
)

// modelSteps is how many random steps one model test takes.
const modelSteps = 400

// model does the same random steps to a backend and to queuetest.Memory, and
// compares every answer and, now and then, all jobs.
type model struct {
	t     *testing.T
	r     *rand.Rand
	ctx   context.Context
	now   time.Time
	q     [2]queue.Driver // the backend's handles
	count func(context.Context) ([]queue.Count, error)
	m     *queuetest.Memory
	n     int
	token int64
	// claims are all that were ever made, by the backend's and the memory's
	// tokens, which need not be the same numbers.
	claims [][2]queue.Ref
	log    []string
}

func runModel(t *testing.T, seed uint64, q Queue) {
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, 1)), ctx: t.Context(), now: start, q: [2]queue.Driver{q.A, q.B}, count: q.Counts, m: &queuetest.Memory{}}
	for range modelSteps {
		switch p := m.r.IntN(100); {
		case p < 30:
			m.enqueue()
		case p < 55:
			m.claim()
		case p < 80:
			m.finish()
		case p < 88:
			m.heartbeat()
		case p < 94:
			m.control()
		default:
			m.now = m.now.Add(time.Duration(m.r.IntN(40)) * time.Second)
		}
		if m.r.IntN(10) == 0 {
			m.list()
		}
	}
	m.list()
}

// driver is either handle of the backend.
func (m *model) driver() queue.Driver { return m.q[m.r.IntN(2)] }

func (m *model) did(format string, args ...any) {
	m.log = append(m.log, m.now.Sub(start).String()+" "+fmt.Sprintf(format, args...))
}

// same compares answers; tokens are compared by their order only, in claim.
func (m *model) same(what string, got, want any, gotErr, wantErr error) {
	m.t.Helper()
	diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(queue.Job{}, "Token"), cmpopts.IgnoreFields(queue.Ref{}, "Token"))
	if diff == "" && (gotErr == nil) == (wantErr == nil) {
		return
	}
	for _, line := range m.log[max(0, len(m.log)-60):] {
		m.t.Log(line)
	}
	m.t.Fatalf("%s: got error %v, want %v (-want +got):\n%s", what, gotErr, wantErr, diff)
}

func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

func (m *model) enqueue() {
	var jobs []queue.Job
	for range 1 + m.r.IntN(3) {
		m.n++
		j := queue.Job{
			ID: fmt.Sprintf("m-%05d", m.n), Kind: pick(m.r, "m", "n"),
			Group:    pick(m.r, "", "", "a", "b", "c"),
			Key:      pick(m.r, "", "", "", "k1", "k2", "k3"),
			Limit:    pick(m.r, "", "x", "x", "y"),
			RunsOn:   pick(m.r, nil, nil, []string{"a"}, []string{"a", "b"}),
			Again:    m.r.IntN(2) == 0,
			Priority: pick(m.r, queue.PriorityDrift, queue.PriorityReplan, queue.PriorityInteractive, queue.PriorityApply),
			RunAt:    m.now.Add(pick[time.Duration](m.r, 0, 0, 0, 10, 30) * time.Second), EnqueuedAt: m.now,
		}
		j.OverdueAt = j.RunAt.Add(pick[time.Duration](m.r, 0, 20, 60, 600) * time.Second)
		jobs = append(jobs, j)
	}
	m.did("enqueue %+v", jobs)
	got, gotErr := m.driver().Enqueue(m.ctx, m.now, jobs)
	want, wantErr := m.m.Enqueue(m.ctx, m.now, jobs)
	m.same("Enqueue", got, want, gotErr, wantErr)
}

func (m *model) claim() {
	c := queue.Claim{Worker: fmt.Sprint("w", m.r.IntN(3)), Lease: 30 * time.Second, Max: m.r.IntN(5), PerLimit: pick(m.r, 0, 2, 2),
		Labels: pick(m.r, nil, []string{"a"}, []string{"b"}, []string{"b", "a", "c"}, []string{"a", "b"})}
	m.did("claim %+v", c)
	got, gotErr := m.driver().Claim(m.ctx, m.now, c)
	want, wantErr := m.m.Claim(m.ctx, m.now, c)
	m.did("claimed %v", ids(want))
	m.same("Claim", got, want, gotErr, wantErr)
	for i := range got {
		if got[i].Token <= m.token {
			m.t.Fatalf("token %d after %d", got[i].Token, m.token)
		}
		m.token = got[i].Token
		m.claims = append(m.claims, [2]queue.Ref{got[i].Ref(), want[i].Ref()})
	}
}

// ref returns one of the latest claims, sometimes one that is lost.
func (m *model) ref() ([2]queue.Ref, bool) {
	if len(m.claims) == 0 {
		return [2]queue.Ref{}, false
	}
	latest := m.claims[max(0, len(m.claims)-8):]
	return latest[m.r.IntN(len(latest))], true
}

func (m *model) finish() {
	ref, ok := m.ref()
	if !ok {
		return
	}
	o := pick(m.r, queue.Outcome{Done: true}, queue.Outcome{Done: true}, queue.Outcome{Dead: true, Error: "dead"},
		queue.Outcome{RunAt: m.now.Add(20 * time.Second), Error: "later"}, queue.Outcome{RunAt: m.now, Uncounted: true})
	m.did("finish %s %+v", ref[0].ID, o)
	gotErr := m.driver().Finish(m.ctx, m.now, ref[0], o)
	wantErr := m.m.Finish(m.ctx, m.now, ref[1], o)
	m.same("Finish", errors.Is(gotErr, queue.ErrLost), errors.Is(wantErr, queue.ErrLost), gotErr, wantErr)
}

func (m *model) heartbeat() {
	var got, want []queue.Ref
	for range m.r.IntN(4) {
		if ref, ok := m.ref(); ok {
			got, want = append(got, ref[0]), append(want, ref[1])
		}
	}
	m.did("heartbeat %v", got)
	gotBeats, gotErr := m.driver().Heartbeat(m.ctx, m.now, got, 30*time.Second)
	wantBeats, wantErr := m.m.Heartbeat(m.ctx, m.now, want, 30*time.Second)
	m.same("Heartbeat", gotBeats, wantBeats, gotErr, wantErr)
}

func (m *model) control() {
	id := fmt.Sprintf("m-%05d", 1+max(0, m.n-m.r.IntN(20)))
	a := pick(m.r, queue.ActionCancel, queue.ActionRetry)
	m.did("%s %s", a, id)
	got, gotErr := m.driver().Control(m.ctx, m.now, id, a)
	want, wantErr := m.m.Control(m.ctx, m.now, id, a)
	m.same("Control", got, want, gotErr, wantErr)
}

func (m *model) list() {
	got, gotErr := m.driver().List(m.ctx, queue.Filter{})
	want, wantErr := m.m.List(m.ctx, queue.Filter{})
	m.same("List", got, want, gotErr, wantErr)
	gotCounts, gotErr := m.count(m.ctx)
	wantCounts, wantErr := m.m.Counts(m.ctx)
	m.same("Counts", counted(m.t, gotCounts), counted(m.t, wantCounts), gotErr, wantErr)
}

// counted returns counts for comparing: in no order, and without those of 0.
func counted(t *testing.T, counts []queue.Count) map[queue.Count]int {
	t.Helper()
	out := map[queue.Count]int{}
	for _, c := range counts {
		of := queue.Count{Kind: c.Kind, State: c.State}
		if _, twice := out[of]; twice {
			t.Fatalf("%s jobs of kind %s are counted twice", c.State, c.Kind)
		}
		if c.N != 0 {
			out[of] = c.N
		}
	}
	return out
}
