package runner

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/store/sqlite"
	"holdfast/vcs"
)

// fixture is a Runner over a real store, with a host and a Git in memory and
// no engine: tests say what each plan finds.
type fixture struct {
	*Runner
	testing.TB
	host  *fakeHost
	git   *fakeGit
	queue *faultyQueue
	repo  vcs.Repository

	mu  sync.Mutex
	now time.Time
	// engine is what plan, apply and drift runs do. Defaults to a plan that
	// has a change.
	engine   func(context.Context, *execution) (verdict, error)
	handlers map[string]queue.Handler
	// mayFail lets jobs be tried again, after a minute or when they ask to.
	mayFail bool
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "holdfast.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{
		TB: t, repo: vcs.Repository{Host: "git.test", Owner: "team", Name: "infra"},
		now:  time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC),
		git:  newFakeGit(t),
		host: &fakeHost{pulls: map[int]vcs.PullRequest{}, comments: map[int64]string{}, statuses: map[string]vcs.Status{}},
	}
	f.queue = &faultyQueue{Driver: st.Queue}
	st.Queue = f.queue
	f.Runner = f.node(st, "one")
	f.engine = changes
	f.handlers = f.Handlers()
	for _, kind := range []string{JobPlan, JobApply, JobDrift, JobCorrect} {
		f.handlers[kind] = f.handleRun(func(ctx context.Context, x *execution) (verdict, error) { return f.engine(ctx, x) })
	}
	return f
}

// node returns a Runner over a store, as a machine of its own would have it.
func (f *fixture) node(st *store.Store, name string) *Runner {
	f.Helper()
	r, err := New(Config{
		Store: st, Queue: queue.New(st.Queue, queue.Config{Clock: f.clock}), Locker: lock.New(st.Locks, lock.Config{Clock: f.clock}),
		Git: f.git, Hosts: map[string]vcs.Host{f.repo.Host: f.host}, Repositories: []Repository{{Repository: f.repo}},
		DataDir: f.TempDir(), StateDir: f.TempDir(), BaseURL: "https://holdfast.test", DigestKey: []byte(strings.Repeat("k", 32)), Node: name,
		Clock: f.clock, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		f.Fatal(err)
	}
	return r
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

// changes is an engine whose plans create a resource.
func changes(ctx context.Context, x *execution) (verdict, error) {
	p := &plan.Plan{Changes: []plan.Change{{Address: "x." + x.run.Workspace, Mode: "managed", Type: "x", Action: plan.Create, Before: []byte("null"), After: []byte(`{"inputs":"` + x.run.Inputs + `"}`)}}}
	x.result.Summary, x.result.Digest = p.Summary(), p.Digest(x.r.DigestKey)
	return verdict{state: store.Planned}, x.keepPlan(ctx, p)
}

// open makes or moves pull request 1 to a commit of these files.
func (f *fixture) open(files map[string]string) string {
	f.Helper()
	sha := f.git.commit("change", files)
	f.host.set(vcs.PullRequest{Repository: f.repo, Number: 1, State: vcs.Open, HeadRef: "change", HeadSHA: sha, BaseRef: "main", FetchRef: "refs/pull/1/head", Author: "kim"})
	return sha
}

// told handles an event about pull request 1, as if it came with a delivery of
// its own.
func (f *fixture) told() error {
	f.Helper()
	return f.pullRequest(f.Context(), f.repo, 1, command{})
}

// next claims and carries out the next job of these kinds that is due, as a
// worker would, and reports whether there was one.
func (f *fixture) next(kinds ...string) bool {
	f.Helper()
	jobs, err := f.queue.Claim(f.Context(), f.clock(), queue.Claim{Worker: "w", Lease: time.Minute, Max: 100})
	if err != nil {
		f.Fatal(err)
	}
	i := slices.IndexFunc(jobs, func(j queue.Job) bool { return len(kinds) == 0 || slices.Contains(kinds, j.Kind) })
	finish := func(j queue.Job, o queue.Outcome) {
		if err := f.queue.Finish(f.Context(), f.clock(), j.Ref(), o); err != nil {
			f.Fatal(err)
		}
	}
	for n, j := range jobs {
		if n != i { // not wanted now
			finish(j, queue.Outcome{RunAt: j.RunAt, Uncounted: true})
		}
	}
	if i < 0 {
		return false
	}
	if err := f.handlers[jobs[i].Kind](f.Context(), jobs[i]); err != nil {
		wait, snoozed := queue.SnoozeOf(err)
		if !f.mayFail {
			f.Fatalf("%s %s: %v", jobs[i].Kind, jobs[i].Key, err)
		}
		if !snoozed {
			wait = time.Minute
		}
		finish(jobs[i], queue.Outcome{RunAt: f.clock().Add(wait), Uncounted: snoozed, Error: err.Error()})
		return true
	}
	finish(jobs[i], queue.Outcome{Done: true})
	return true
}

// work carries out jobs of these kinds, of all where none is named, until none
// is due.
func (f *fixture) work(kinds ...string) {
	f.Helper()
	for f.next(kinds...) {
	}
}

// jobs returns the unfinished jobs of a kind, oldest first.
func (f *fixture) jobs(kind string) []queue.Job {
	f.Helper()
	jobs, err := f.queue.List(f.Context(), queue.Filter{Kind: kind})
	if err != nil {
		f.Fatal(err)
	}
	return jobs
}

// runs returns the runs, oldest first, as WORKSPACE STATE.
func (f *fixture) runs() []string {
	f.Helper()
	var out []string
	for _, r := range f.stored() {
		out = append(out, r.Workspace+" "+string(r.State))
	}
	return out
}

func (f *fixture) stored() []store.Run {
	f.Helper()
	runs, err := f.Store.Runs.List(f.Context(), store.RunFilter{Limit: 1000})
	if err != nil {
		f.Fatal(err)
	}
	slices.Reverse(runs)
	return runs
}

func (f *fixture) pull() pullRecord {
	f.Helper()
	var rec pullRecord
	if _, err := f.load(f.Context(), pullName(f.repo, 1), &rec); err != nil {
		f.Fatal(err)
	}
	return rec
}

// root is a root module that says something.
func root(text string) string {
	return "resource \"terraform_data\" \"x\" {\n  input = \"" + text + "\"\n}\n"
}

// errDown is a store or host that does not answer.
var errDown = errors.New("down")

// faultyQueue is a queue's driver that can be made to fail.
type faultyQueue struct {
	queue.Driver
	// enqueues left until one fails; 0: none does.
	failAfter int
}

// Enqueue implements queue.Driver.
func (q *faultyQueue) Enqueue(ctx context.Context, now time.Time, jobs []queue.Job) ([]queue.Job, error) {
	if q.failAfter > 0 {
		if q.failAfter--; q.failAfter == 0 {
			return nil, errDown
		}
	}
	return q.Driver.Enqueue(ctx, now, jobs)
}

// fakeHost is a host in memory.
type fakeHost struct {
	mu       sync.Mutex
	pulls    map[int]vcs.PullRequest
	comments map[int64]string
	statuses map[string]vcs.Status
	lastID   int64
	written  []vcs.Comment // of people
	gone     bool          // the host does not know the repository
	found    []vcs.Repository
	// calls are what changed something, as METHOD ARGUMENT.
	calls []string
	// fail is asked before each call that changes something.
	fail func(call string) error
}

func (h *fakeHost) set(pr vcs.PullRequest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pulls[pr.Number] = pr
}

// take returns the calls since the last take.
func (h *fakeHost) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	calls := h.calls
	h.calls = nil
	return calls
}

func (h *fakeHost) call(name string) error {
	h.mu.Lock()
	fail := h.fail
	h.calls = append(h.calls, name)
	h.mu.Unlock()
	if fail != nil {
		return fail(name)
	}
	return nil
}

func (h *fakeHost) Repositories(_ context.Context, owner string) ([]vcs.Repository, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.found), func(r vcs.Repository) bool { return r.Owner != owner }), nil
}

func (h *fakeHost) Remote(context.Context, vcs.Repository) (vcs.Remote, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return vcs.Remote{}, vcs.ErrNotFound
	}
	return vcs.Remote{DefaultBranch: "main"}, nil
}

func (h *fakeHost) PullRequest(_ context.Context, _ vcs.Repository, number int) (vcs.PullRequest, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pr, ok := h.pulls[number]
	if !ok {
		return pr, vcs.ErrNotFound
	}
	return pr, nil
}

func (h *fakeHost) PullRequests(context.Context, vcs.Repository, time.Time) ([]vcs.PullRequest, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.pulls)), nil
}

func (h *fakeHost) Permission(context.Context, vcs.Repository, string) (vcs.Permission, error) {
	return vcs.PermissionWrite, nil
}

func (h *fakeHost) Comments(context.Context, vcs.Repository, int) ([]vcs.Comment, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []vcs.Comment
	for _, id := range slices.Sorted(maps.Keys(h.comments)) {
		out = append(out, vcs.Comment{ID: id, Author: "holdfast", Body: h.comments[id]})
	}
	return out, nil
}

// written are comments of people, which CommentsSince tells of.
func (h *fakeHost) CommentsSince(_ context.Context, _ vcs.Repository, since time.Time) ([]vcs.Comment, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.written), func(c vcs.Comment) bool { return c.CreatedAt.Before(since) }), nil
}

func (h *fakeHost) Statuses(_ context.Context, _ vcs.Repository, sha string) ([]vcs.Status, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []vcs.Status
	for key, s := range h.statuses {
		if strings.HasPrefix(key, sha+" ") {
			out = append(out, s)
		}
	}
	return out, nil
}

func (h *fakeHost) CreateComment(_ context.Context, _ vcs.Repository, _ int, body string) (vcs.Comment, error) {
	if err := h.call("create"); err != nil {
		return vcs.Comment{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastID++
	h.comments[h.lastID] = body
	return vcs.Comment{ID: h.lastID, Author: "holdfast", Body: body}, nil
}

func (h *fakeHost) EditComment(_ context.Context, _ vcs.Repository, _ int, id int64, body string) error {
	if err := h.call("edit"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.comments[id]; !ok {
		return vcs.ErrNotFound
	}
	h.comments[id] = body
	return nil
}

func (h *fakeHost) MaxComment() int                      { return 65536 }
func (h *fakeHost) Self(context.Context) (string, error) { return "holdfast", nil }

func (h *fakeHost) SetStatus(_ context.Context, _ vcs.Repository, sha string, s vcs.Status) error {
	if err := h.call("status " + s.Context + " " + string(s.State)); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.statuses[sha+" "+s.Context] = s
	return nil
}

// fakeGit is commits in memory, each with one parent.
type fakeGit struct {
	dir     string
	t       testing.TB
	mu      sync.Mutex
	files   map[string]map[string]string
	parent  map[string]string
	heads   map[string]string
	fetches int
}

func newFakeGit(t testing.TB) *fakeGit {
	g := &fakeGit{dir: t.TempDir(), t: t, files: map[string]map[string]string{}, parent: map[string]string{}, heads: map[string]string{}}
	g.commit("main", map[string]string{"a/main.tf": root("a"), "b/main.tf": root("b")})
	return g
}

// Branches implements Git.
func (g *fakeGit) Branches(context.Context, vcs.Repository) (map[string]string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.heads), nil
}

// commit puts files over what a branch has, and an empty text deletes. A new
// branch starts at main.
func (g *fakeGit) commit(branch string, files map[string]string) string {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	from, ok := g.heads[branch]
	if !ok {
		from = g.heads["main"]
	}
	all := maps.Clone(g.files[from])
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, files)
	maps.DeleteFunc(all, func(_, text string) bool { return text == "" })
	sum := sha1.Sum([]byte(from + fmt.Sprint(len(g.files)) + fmt.Sprint(all)))
	sha := hex.EncodeToString(sum[:])
	g.files[sha], g.parent[sha], g.heads[branch] = all, from, sha
	for name, text := range all {
		file := filepath.Join(g.dir, sha, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			g.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			g.t.Fatal(err)
		}
	}
	return sha
}

func (g *fakeGit) Fetch(context.Context, vcs.Repository, vcs.Remote, ...string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fetches++
	return nil
}

func (g *fakeGit) Resolve(_ context.Context, _ vcs.Repository, rev string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if child, ok := strings.CutSuffix(rev, "^1"); ok {
		return g.parent[child], nil
	}
	if sha, ok := g.heads[strings.TrimPrefix(rev, "refs/heads/")]; ok {
		return sha, nil
	}
	if g.files[rev] != nil {
		return rev, nil
	}
	return "", vcs.ErrNotFound
}

func (g *fakeGit) MergeBase(ctx context.Context, r vcs.Repository, a, b string) (string, error) {
	for ; b != ""; b = g.parent[b] {
		if in, _ := g.IsAncestor(ctx, r, b, a); in {
			return b, nil
		}
	}
	return "", vcs.ErrNotFound
}

func (g *fakeGit) ChangedPaths(_ context.Context, _ vcs.Repository, from, to string) ([]string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for name, text := range g.files[to] {
		if g.files[from][name] != text {
			out = append(out, name)
		}
	}
	for name := range g.files[from] {
		if _, ok := g.files[to][name]; !ok {
			out = append(out, name)
		}
	}
	return out, nil
}

func (g *fakeGit) IsAncestor(_ context.Context, _ vcs.Repository, a, b string) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for ; b != ""; b = g.parent[b] {
		if a == b {
			return true, nil
		}
	}
	return false, nil
}

func (g *fakeGit) Files(_ context.Context, _ vcs.Repository, sha string) (map[string]string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := map[string]string{}
	for name, text := range g.files[sha] {
		sum := sha1.Sum([]byte(text))
		out[name] = hex.EncodeToString(sum[:])
	}
	return out, nil
}

func (g *fakeGit) Checkout(_ context.Context, _ vcs.Repository, sha string) (string, func(), error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.files[sha]; !ok {
		return "", nil, vcs.ErrNotFound
	}
	return filepath.Join(g.dir, sha), func() {}, nil
}

func (g *fakeGit) Revert(context.Context, vcs.Repository, vcs.Remote, vcs.Revert) (string, error) {
	return "", vcs.ErrNothing
}

func (g *fakeGit) Commit(context.Context, vcs.Repository, vcs.Remote, vcs.Commit) (string, error) {
	return "", vcs.ErrNothing
}

func (g *fakeGit) DeleteBranch(context.Context, vcs.Repository, vcs.Remote, string) error { return nil }
