//go:build !race

// The race detector gives up on so many goroutines, one after the other, in one
// test; make test runs this one without it.

package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/store/sqlite"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// A day of 5,000 workspaces on three nodes, in accelerated time: schedules,
// queue, store and what follows from a check are the real ones; the engine
// sleeps, and the host is in memory. One node is killed, the host is down for
// an hour, and two checks of a hundred fail.
func TestADayOfDrift(t *testing.T) {
	const nodes, workers, checks = 3, 8, 12
	const repositories, each = 20, 250
	file := filepath.Join(memory(t), "holdfast.db")
	synctest.Test(t, func(t *testing.T) {
		d := &day{T: t, every: time.Minute, host: &ticketHost{tickets: map[string]*vcs.Ticket{}}, checked: map[string]int{}}
		d.start(file, repositories, each)
		defer d.store.Close()
		ctx, end := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var killed *node
		for i := range nodes {
			n := d.node(fmt.Sprint("node", i), workers, checks)
			if i == 1 {
				killed = n
			}
			all.Go(func() { n.runner.Schedule(ctx) })
			all.Go(func() { _ = n.worker.Run(ctx) })
		}
		all.Go(func() { d.pullRequests(ctx) })
		begin := time.Now()
		all.Go(func() {
			sleep(ctx, 15*time.Hour+3*time.Minute) // in the middle of a slot's checks
			d.host.down.Store(true)
			sleep(ctx, 30*time.Minute)
			killed.dead.Store(true)
			sleep(ctx, 30*time.Minute)
			d.host.down.Store(false)
		})
		sleep(ctx, 24*time.Hour-time.Minute)
		d.judge(begin, checks, repositories*each)
		end()
		all.Wait()
	})
}

// memory is a directory in memory, where the machine has one: a day of a
// store's writes to a disk takes minutes.
func memory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "holdfast-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// sleep is time.Sleep that ends with ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// day is one simulated day.
type day struct {
	*testing.T
	store *store.Store
	bell  *bells
	every time.Duration // from one pull request to the next
	host  *ticketHost
	repos []Repository

	mu            sync.Mutex
	running, most int            // drift checks at once
	checked       map[string]int // checks that could tell, by workspace and slot
	waited        time.Duration  // the longest that a pull request's plan waited
	plans         int
	failed        int
	drifted       int
}

// dayPolicy has two slots a day.
var dayPolicy = workspaces.Drift{Schedule: "0 3,15 * * *", Correct: "off", MaxChanges: 10, FlapLimit: 3}

func (d *day) start(file string, repositories, each int) {
	var err error
	if d.store, err = sqlite.Open(d.Context(), file); err != nil {
		d.Fatal(err)
	}
	d.bell = &bells{Driver: d.store.Queue}
	d.store.Queue = d.bell
	for i := range repositories {
		repo := Repository{Repository: vcs.Repository{Host: "git.test", Owner: "team", Name: fmt.Sprint("infra", i)}}
		d.repos = append(d.repos, repo)
		known := repositoryRecord{DefaultBranch: "main", SHA: "c0ffee", Described: "c0ffee"}
		for j := range each {
			w := workspaces.Workspace{Name: fmt.Sprint("ws", j), Dir: fmt.Sprint("ws", j), Drift: dayPolicy}
			known.Workspaces = append(known.Workspaces, knownWorkspace{Workspace: w, Inputs: "in"})
			value, err := json.Marshal(WorkspaceRecord{Repository: repo.String(), Name: w.Name, State: InSync, AppliedCommit: "c0ffee", AppliedInputs: "in", AppliedAt: time.Now()})
			if err != nil {
				d.Fatal(err)
			}
			if _, err := d.store.Records.Put(d.Context(), time.Now(), store.Record{Key: workspaceName(repo.Repository, w.Name), Value: value}); err != nil {
				d.Fatal(err)
			}
		}
		value, err := json.Marshal(known)
		if err != nil {
			d.Fatal(err)
		}
		if _, err := d.store.Records.Put(d.Context(), time.Now(), store.Record{Key: "repository/" + repo.String(), Value: value}); err != nil {
			d.Fatal(err)
		}
	}
}

// node is one machine. A dead one reaches the store no more, which is all that
// others see of a killed process.
type node struct {
	runner *Runner
	worker *queue.Worker
	dead   atomic.Bool
}

func (d *day) node(name string, workers, checks int) *node {
	n := &node{}
	cut := *d.store
	cut.Queue, cut.Runs, cut.Records = &cutQueue{d.store.Queue, &n.dead}, &cutRuns{d.store.Runs, &n.dead}, &cutRecords{d.store.Records, &n.dead}
	q := queue.New(cut.Queue, queue.Config{})
	r, err := New(Config{
		Store: &cut, Queue: q, Locker: lock.New(cut.Locks, lock.Config{}), Git: newFakeGit(d.T), Hosts: map[string]vcs.Host{"git.test": d.host}, Repositories: d.repos,
		DataDir: d.TempDir(), StateDir: d.TempDir(), DigestKey: []byte(strings.Repeat("k", 32)), Node: name, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		d.Fatal(err)
	}
	handlers := r.Handlers()
	handlers[JobDrift] = r.handleRun(d.check)
	handlers[JobPlan] = r.handleRun(d.plan)
	n.runner = r
	n.worker = queue.NewWorker(q, queue.WorkerConfig{
		Name: name, Concurrency: workers, PerLimit: 4, Limits: map[string]int{LimitDrift: checks}, Lease: 30 * time.Second, Poll: 10 * time.Second, Handlers: handlers,
		MaxAttemptsOf: map[string]int{JobTicket: 1 << 30, JobReport: 1 << 30, JobEvent: 1 << 30, JobDrift: 1 << 30},
	})
	return n
}

// check is what an engine does: it takes its time, fails now and then, and
// seldom finds something.
func (d *day) check(ctx context.Context, x *execution) (verdict, error) {
	d.mu.Lock()
	d.running++
	d.mu.Unlock()
	defer func() { d.mu.Lock(); d.running--; d.mu.Unlock() }()
	// The check of a dead node ends at the moment in which its room is given to
	// this one: count what runs when that moment is over.
	time.Sleep(time.Nanosecond)
	d.mu.Lock()
	d.most = max(d.most, d.running)
	d.mu.Unlock()
	h := fnv.New64a()
	fmt.Fprint(h, x.run.Key)
	luck := rand.New(rand.NewPCG(h.Sum64(), 1))
	sleep(ctx, 10*time.Second+time.Duration(luck.IntN(50))*time.Second)
	if ctx.Err() != nil {
		return verdict{}, context.Cause(ctx)
	}
	if luck.IntN(100) < 2 {
		d.mu.Lock()
		d.failed++
		d.mu.Unlock()
		x.result.Drift = &plan.DriftReport{Class: plan.CheckError}
		return verdict{store.Failed, "Error: the cloud does not answer"}, nil
	}
	report := plan.DriftReport{Class: plan.InSync}
	state := store.NoChanges
	if luck.IntN(100) == 0 {
		report = plan.DriftReport{Class: plan.CloudChange, Resources: []plan.DriftedResource{{Address: "x.a", Change: "changed", Attributes: []string{"size"}, Type: "x"}}}
		state = store.Planned
		d.mu.Lock()
		d.drifted++
		d.mu.Unlock()
	}
	x.result.Drift, x.result.DriftDigest = &report, report.Digest(x.r.DigestKey)
	return verdict{state: state}, nil
}

// plan is a pull request's plan.
func (d *day) plan(ctx context.Context, x *execution) (verdict, error) {
	d.mu.Lock()
	d.waited = max(d.waited, time.Since(x.run.CreatedAt))
	d.plans++
	d.mu.Unlock()
	sleep(ctx, 20*time.Second)
	return verdict{state: store.NoChanges}, context.Cause(ctx)
}

// pullRequests queues plans all day.
func (d *day) pullRequests(ctx context.Context) {
	r := d.node("web", 1, 1).runner
	for i := 0; ; i++ {
		sleep(ctx, d.every)
		if ctx.Err() != nil {
			return
		}
		repo := d.repos[i%len(d.repos)]
		in := runPayload{Workspace: workspaces.Workspace{Name: fmt.Sprint("ws", i*37%250)}}
		_, err := r.startRun(ctx, store.Run{Key: fmt.Sprint("plan/", i), Kind: store.KindPlan, Repository: repo.String(), Commit: fmt.Sprint(i)}, in, queue.PriorityInteractive)
		if err != nil && ctx.Err() == nil {
			d.Error(err)
		}
	}
}

// judge looks at what the day was like.
func (d *day) judge(begin time.Time, checks, workspaces int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slots := []time.Time{begin.Add(3 * time.Hour), begin.Add(15 * time.Hour)}
	if d.most > checks {
		d.Errorf("%d checks ran at once, more than the cap of %d", d.most, checks)
	}
	// Longer than a heartbeat's lease nobody waits, also when a node dies.
	if d.waited > 2*time.Minute || d.plans < int(23*time.Hour/d.every) {
		d.Errorf("a pull request's plan waited %s; %d plans", d.waited, d.plans)
	}
	missing, overdue, unknown, twice := 0, 0, 0, 0
	for _, repo := range d.repos {
		known, err := ReadWorkspaces(d.Context(), d.store.Records, repo.String()+"/")
		if err != nil {
			d.Fatal(err)
		}
		for _, w := range known {
			runs, err := d.store.Runs.List(d.Context(), store.RunFilter{Repository: repo.String(), Workspace: w.Name, Kind: store.KindDrift, Limit: 1000})
			if err != nil {
				d.Fatal(err)
			}
			of := map[string]int{}
			for _, r := range runs {
				of[strings.TrimPrefix(r.Key, fmt.Sprintf("drift/%s/%s/", repo, w.Name))]++
			}
			for _, s := range slots {
				switch n := of[s.UTC().Format(time.RFC3339)]; {
				case n > 1:
					twice++
				case n == 0 && !w.Overdue:
					missing++
				}
			}
			if w.Overdue {
				overdue++
			}
			if w.State == Unknown && w.Error == "" || w.State == InSync && w.Failures > 0 {
				unknown++
			}
		}
	}
	if missing+twice+unknown > 0 {
		d.Errorf("%d slots were neither checked nor is the workspace overdue, %d were checked twice, %d workspaces are unknown without a reason or in sync after a failed check", missing, twice, unknown)
	}
	d.Logf("%d workspaces: %d checks failed, %d found drift, %d at once at most; %d plans of pull requests, the longest wait %s; %d overdue; %d tickets", workspaces, d.failed, d.drifted, d.most, d.plans, d.waited, overdue, len(d.host.tickets))
	d.tickets()
}

// tickets compares the host's tickets with what is drifted.
func (d *day) tickets() {
	all, err := ReadDrift(d.Context(), d.store.Records, "")
	if err != nil {
		d.Fatal(err)
	}
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	wrong := 0
	for _, rec := range all {
		ticket := d.host.tickets[rec.Repository+" "+rec.Name]
		recent := time.Since(rec.Seen) < 5*time.Minute
		if open := ticket != nil && ticket.Open; open != (rec.Now != nil) && !recent {
			wrong++
		}
	}
	if wrong > 0 || d.host.refused == 0 {
		d.Errorf("%d tickets do not say what is so; the host refused %d requests", wrong, d.host.refused)
	}
}

// ticketHost is a host with tickets, in memory.
type ticketHost struct {
	fakeHost
	down atomic.Bool

	mu      sync.Mutex
	tickets map[string]*vcs.Ticket // by repository and workspace
	refused int
}

var errHostDown = errors.New("the host is down")

func (h *ticketHost) here() error {
	if h.down.Load() {
		h.mu.Lock()
		h.refused++
		h.mu.Unlock()
		return errHostDown
	}
	return nil
}

func (h *ticketHost) find(r vcs.Repository, number int) *vcs.Ticket {
	for key, t := range h.tickets {
		if t.Number == number && strings.HasPrefix(key, r.String()+" ") {
			return t
		}
	}
	return nil
}

func (h *ticketHost) Ticket(_ context.Context, r vcs.Repository, number int) (vcs.Ticket, error) {
	if err := h.here(); err != nil {
		return vcs.Ticket{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.find(r, number); t != nil {
		return *t, nil
	}
	return vcs.Ticket{}, vcs.ErrNotFound
}

func (h *ticketHost) FindTickets(_ context.Context, r vcs.Repository, _ string) (out []vcs.Ticket, err error) {
	if err := h.here(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, t := range h.tickets {
		if strings.HasPrefix(key, r.String()+" ") {
			out = append(out, *t)
		}
	}
	return out, nil
}

func (h *ticketHost) CreateTicket(_ context.Context, r vcs.Repository, n vcs.NewTicket) (vcs.Ticket, error) {
	if err := h.here(); err != nil {
		return vcs.Ticket{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key := r.String() + " " + strings.TrimPrefix(n.Title, "Drift in ")
	if h.tickets[key] != nil {
		return vcs.Ticket{}, errors.New("a second ticket")
	}
	t := &vcs.Ticket{Number: len(h.tickets) + 1, Title: n.Title, Body: n.Body, Open: true}
	h.tickets[key] = t
	return *t, nil
}

func (h *ticketHost) EditTicket(_ context.Context, r vcs.Repository, number int, e vcs.TicketEdit) error {
	if err := h.here(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.find(r, number)
	if t == nil {
		return vcs.ErrNotFound
	}
	t.Title, t.Body, t.Open = e.Title, e.Body, e.Open
	return nil
}

func (h *ticketHost) CommentTicket(context.Context, vcs.Repository, int, string) error {
	return h.here()
}

func (h *ticketHost) TicketComments(context.Context, vcs.Repository, int, time.Time) ([]vcs.Comment, error) {
	return nil, h.here()
}

func (h *ticketHost) MaxTicket() int { return 65536 }

// bells wakes workers at once, without the look at the file that other
// processes' writes need.
type bells struct {
	queue.Driver
	mu        sync.Mutex
	listeners []chan struct{}
}

func (b *bells) Wake(context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners = append(b.listeners, c)
	return c
}

func (b *bells) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.listeners {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (b *bells) Enqueue(ctx context.Context, now time.Time, jobs []queue.Job) ([]queue.Job, error) {
	out, err := b.Driver.Enqueue(ctx, now, jobs)
	b.ring()
	return out, err
}

func (b *bells) Finish(ctx context.Context, now time.Time, ref queue.Ref, o queue.Outcome) error {
	err := b.Driver.Finish(ctx, now, ref, o)
	b.ring()
	return err
}

// What a dead node asks of the store is not answered.

var errDead = errors.New("this node is dead")

type cutQueue struct {
	queue.Driver
	dead *atomic.Bool
}

func (c *cutQueue) Enqueue(ctx context.Context, now time.Time, jobs []queue.Job) ([]queue.Job, error) {
	if c.dead.Load() {
		return nil, errDead
	}
	return c.Driver.Enqueue(ctx, now, jobs)
}

func (c *cutQueue) Claim(ctx context.Context, now time.Time, q queue.Claim) ([]queue.Job, error) {
	if c.dead.Load() {
		return nil, errDead
	}
	return c.Driver.Claim(ctx, now, q)
}

func (c *cutQueue) Heartbeat(ctx context.Context, now time.Time, refs []queue.Ref, lease time.Duration) ([]queue.Beat, error) {
	if c.dead.Load() {
		return nil, errDead
	}
	return c.Driver.Heartbeat(ctx, now, refs, lease)
}

func (c *cutQueue) Finish(ctx context.Context, now time.Time, ref queue.Ref, o queue.Outcome) error {
	if c.dead.Load() {
		return errDead
	}
	return c.Driver.Finish(ctx, now, ref, o)
}

type cutRuns struct {
	store.Runs
	dead *atomic.Bool
}

func (c *cutRuns) Create(ctx context.Context, now time.Time, r store.Run) (store.Run, bool, error) {
	if c.dead.Load() {
		return r, false, errDead
	}
	return c.Runs.Create(ctx, now, r)
}

func (c *cutRuns) Update(ctx context.Context, now time.Time, r store.Run) (store.Run, error) {
	if c.dead.Load() {
		return r, errDead
	}
	return c.Runs.Update(ctx, now, r)
}

type cutRecords struct {
	store.Records
	dead *atomic.Bool
}

func (c *cutRecords) Put(ctx context.Context, now time.Time, r store.Record) (store.Record, error) {
	if c.dead.Load() {
		return r, errDead
	}
	return c.Records.Put(ctx, now, r)
}
