package runner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/store"
)

// takenOver has the job of an apply that began on the fixture's own node claimed
// by another one.
func (f *fixture) takenOver(x *execution) *execution {
	f.Helper()
	x.result.ShimNode = f.Node
	if err := x.save(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.pass(time.Hour)
	jobs, err := f.queue.Claim(f.Context(), f.clock(), queue.Claim{Worker: "w2", Lease: time.Hour, Max: 1})
	if err != nil || len(jobs) != 1 {
		f.Fatal(jobs, err)
	}
	y, err := f.node(f.Store, "two").begin(f.Context(), jobs[0])
	if err != nil {
		f.Fatal(err)
	}
	return y
}

// What became of an engine is told by the node on which it was started.
func TestEngineElsewhere(t *testing.T) {
	const started = `{"pid": 1, "at": "2026-03-02T10:00:00Z"}`
	for _, test := range []struct {
		name  string
		shim  map[string]string
		state store.State
		step  string
		over  store.State // of the verdict
	}{
		{"never started", nil, store.Running, "plan", ""},
		{"ended", map[string]string{"owner": started, "exit": `{"code": 0}`, "stdout": "Apply complete!"}, store.Running, stepApply, store.Applied},
		{"failed", map[string]string{"owner": started, "exit": `{"code": 1}`, "stderr": "Error: no"}, store.Running, stepApply, store.Failed},
		{"interrupted", map[string]string{"owner": started, "exit": `{"code": 1, "interrupted": true}`}, store.Running, "plan", ""},
		{"killed", map[string]string{"owner": started, "exit": `{"code": -1, "signal": "killed"}`}, store.Unknown, "checkout", ""},
		{"vanished", map[string]string{"owner": started}, store.Unknown, "checkout", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			x := f.takenOver(f.applying(store.Running, test.shim))
			if err := f.tellOfEngines(t.Context()); err != nil {
				t.Fatal(err)
			}
			v, err := x.recover(t.Context())
			if unknown := test.state == store.Unknown; (err != nil) != unknown {
				t.Errorf("error %v", err) // the commit is gone, so nothing is found out yet
			}
			run := f.stored()[0]
			if run.State != test.state || run.Step != test.step || deref(v).state != test.over {
				t.Errorf("%s at %q, verdict %+v", run.State, run.Step, deref(v))
			}
			if test.over == store.Failed && deref(v).error != "Error: no" {
				t.Errorf("the engine's words are lost: %q", deref(v).error)
			}
		})
	}
}

// An attempt whose engine ended before it learned that it had lost the run
// leaves the engine's files to whoever asks about them: without them the answer
// would be that no engine was started.
func TestLostAttemptKeepsItsEngine(t *testing.T) {
	f := newFixture(t)
	x := f.applying(store.Running, nil)
	ends := f.handleRun(func(_ context.Context, x *execution) (verdict, error) {
		dir, err := x.attemptDir()
		if err != nil {
			return verdict{}, err
		}
		for name, text := range map[string]string{"owner": `{"pid": 1}`, "exit": `{"code": 0}`} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				return verdict{}, err
			}
		}
		x.result.Shim, x.endures = dir, true
		f.takenOver(x)
		return verdict{state: store.Applied}, nil
	})
	if err := ends(t.Context(), x.job); err != nil {
		t.Fatal(err)
	}
	if err := f.tellOfEngines(t.Context()); err != nil {
		t.Fatal(err)
	}
	var told engineRecord
	if _, err := f.load(t.Context(), engineName(x.run.ID), &told); err != nil || told.Never || told.Exit == nil {
		t.Errorf("told %+v, %v", told, err)
	}
}

// A node that says nothing is waited for, and not for ever.
func TestEngineOnALostNode(t *testing.T) {
	f := newFixture(t)
	x := f.takenOver(f.applying(store.Running, map[string]string{"owner": `{"pid": 1}`}))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := x.recover(ctx); !errors.Is(err, errDetached) {
		t.Errorf("while it may answer: %v", err)
	}
	if run := f.stored()[0]; run.State != store.Running || run.Step != stepApply {
		t.Fatalf("%s at %q", run.State, run.Step)
	}
	x.r.NodePatience = -1
	if _, err := x.recover(t.Context()); err == nil { // its commit is gone
		t.Error("something was found out")
	}
	if run := f.stored()[0]; run.State != store.Unknown {
		t.Errorf("%s at %q", run.State, run.Step)
	}
}

// heardRecords calls read at each reading of a record, with how many there were.
type heardRecords struct {
	store.Records
	n    int
	read func(n int)
}

func (r *heardRecords) Get(ctx context.Context, key string) (store.Record, error) {
	r.n++
	r.read(r.n)
	return r.Records.Get(ctx, key)
}

// A node is not taken for lost because the store's clock is set, as where a
// server takes over whose clock is another.
func TestEngineElsewhereWhenTheClockIsSet(t *testing.T) {
	f := newFixture(t)
	x := f.takenOver(f.applying(store.Running, map[string]string{"owner": `{"pid": 1}`, "exit": `{"code": 0}`}))
	records := f.Store.Records
	f.Store.Records = &heardRecords{Records: records, read: func(n int) {
		switch n {
		case 1:
			f.pass(time.Hour)
		case 2:
			f.Store.Records = records
			if err := f.tellOfEngines(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}}
	if v, err := x.recover(t.Context()); err != nil || deref(v).state != store.Applied {
		t.Errorf("verdict %+v, %v", deref(v), err)
	}
}

// A node tells nothing of a run that it has itself, and nothing twice.
func TestNodeTellsOfItsOwn(t *testing.T) {
	f := newFixture(t)
	x := f.applying(store.Running, map[string]string{"owner": `{"pid": 1}`, "exit": `{"code": 0}`})
	x.result.ShimNode = f.Node
	if err := x.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	told := func() int64 {
		t.Helper()
		if err := f.tellOfEngines(t.Context()); err != nil {
			t.Fatal(err)
		}
		var rec engineRecord
		version, err := f.load(t.Context(), engineName(x.run.ID), &rec)
		if err != nil {
			t.Fatal(err)
		}
		return version
	}
	if told() != 0 {
		t.Error("it told of its own run")
	}
	y := f.takenOver(x)
	if first, second := told(), told(); first != 1 || second != 1 {
		t.Errorf("the end was not told once: %d, %d", first, second)
	}
	y.asked = true
	if err := y.end(t.Context(), verdict{state: store.Applied}); err != nil {
		t.Fatal(err)
	}
	if told() != 0 {
		t.Error("what was told outlives the run")
	}
}

// An engine of which nothing can be found out keeps no answer about others away.
func TestNodeTellsOfTheOthers(t *testing.T) {
	f := newFixture(t)
	x := f.takenOver(f.applying(store.Running, map[string]string{"owner": `{"pid": 1}`, "exit": `{"code": 0}`}))
	bad := *x
	run, err := f.newRun(t.Context(), store.Run{Key: "other", Kind: store.KindApply, Repository: f.repo.String(), PullRequest: 2, Commit: "gone"}, x.in)
	if err != nil {
		t.Fatal(err)
	}
	bad.run, bad.result.Shim = run, filepath.Join(x.result.Shim, "exit", "no-directory")
	bad.run.State, bad.run.Step, bad.run.Node = store.Running, stepApply, "two"
	if err := bad.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.tellOfEngines(t.Context()); err == nil {
		t.Error("what cannot be found out is no error")
	}
	var told engineRecord
	if _, err := f.load(t.Context(), engineName(x.run.ID), &told); err != nil || told.Exit == nil {
		t.Errorf("told %+v, %v", told, err)
	}
}

// What an apply did is recorded however long the store was away, and although
// the store forgot what the attempt wrote before; what somebody else wrote
// stands.
func TestAppliedIsRecorded(t *testing.T) {
	f := newFixture(t)
	x := f.applying(store.Running, nil)
	x.endures, x.handling = true, t.Context()
	before := x.run
	if err := x.step(t.Context(), stepApply); err != nil {
		t.Fatal(err)
	}
	forgetful := &forgetfulRuns{Runs: f.Store.Runs, old: before, away: 2}
	f.Store.Runs = forgetful
	if err := x.save(t.Context()); err != nil || forgetful.away != 0 {
		t.Fatalf("after the store was away: %v", err)
	}
	// The write is kept, and its answer is lost.
	forgetful.deaf = 1
	x.result.Saved = true
	if err := x.save(t.Context()); err != nil || forgetful.deaf != 0 {
		t.Fatalf("after an answer was lost: %v", err)
	}
	// The same, and then somebody superseded the run.
	lost := x.run
	if _, err := forgetful.Runs.Update(t.Context(), f.clock(), lost); err != nil {
		t.Fatal(err)
	}
	x.run.Error = "another"
	if err := x.save(t.Context()); !errors.Is(err, errTaken) {
		t.Errorf("over another's: %v", err)
	}
	forgetful.forgot = true
	x.run.Version = before.Version + 5
	if err := x.save(t.Context()); err != nil {
		t.Errorf("after the store forgot: %v", err)
	}
	taken := x.run
	taken.Token++
	if _, err := forgetful.Runs.Update(t.Context(), f.clock(), taken); err != nil {
		t.Fatal(err)
	}
	x.run.Version += 5
	if err := x.save(t.Context()); !errors.Is(err, errTaken) {
		t.Errorf("over another attempt's: %v", err)
	}
}

// forgetfulRuns is a store that does not answer the first times.
type forgetfulRuns struct {
	store.Runs
	old    store.Run
	away   int
	deaf   int // how many writes are kept without an answer
	forgot bool
}

func (r *forgetfulRuns) Update(ctx context.Context, now time.Time, run store.Run) (store.Run, error) {
	if r.away > 0 {
		r.away--
		return run, errDown
	}
	stored, err := r.Runs.Update(ctx, now, run)
	if err == nil && r.deaf > 0 {
		r.deaf--
		return run, errDown
	}
	return stored, err
}

// A backend that failed over may have forgotten jobs whose runs it has.
func TestForgottenJobsAreQueuedAgain(t *testing.T) {
	f := newFixture(t)
	x := f.applying(store.Running, nil) // its job is claimed
	f.open(map[string]string{"a/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	before := len(f.jobs(""))
	for _, j := range f.jobs("") {
		if _, err := f.queue.Control(t.Context(), f.clock(), j.ID, queue.ActionCancel); err != nil {
			t.Fatal(err)
		}
		if j.ID == x.job.ID {
			if err := f.queue.Finish(t.Context(), f.clock(), x.job.Ref(), queue.Outcome{Done: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(f.jobs("")); n != 0 || before == 0 {
		t.Fatalf("%d of %d jobs are left", n, before)
	}
	for range 2 {
		if err := f.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.work(JobRequeue)
	}
	var kinds []string
	for _, j := range f.jobs("") {
		kinds = append(kinds, j.Kind)
	}
	slices.Sort(kinds)
	if want := []string{JobApply, JobPlan, JobReconcile}; !slices.Equal(kinds, want) {
		t.Errorf("%v instead of %v", kinds, want)
	}
}

// A store may have failed over while no process was there to notice.
func TestStartQueuesForgottenJobs(t *testing.T) {
	f := newFixture(t)
	for want, failovers := range []func(context.Context) <-chan struct{}{nil, func(context.Context) <-chan struct{} { return nil }} {
		f.Store.Failovers = failovers
		if err := f.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(f.jobs(JobRequeue)); got != want {
			t.Errorf("%d jobs instead of %d", got, want)
		}
	}
}

// What an engine left on a node goes with its run, whoever ended that.
func TestSweep(t *testing.T) {
	f := newFixture(t)
	x := f.applying(store.Running, nil)
	dir, err := x.attemptDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, ended := range []bool{false, true} {
		if ended {
			x.run.State = store.Applied
			if err := x.save(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if exists(dir) == ended {
			t.Errorf("run ended: %v, its files are there: %v", ended, exists(dir))
		}
	}
}

// Several machines do not share a directory by themselves.
func TestNoStateDir(t *testing.T) {
	f := newFixture(t)
	f.StateDir = ""
	x := f.applying(store.Running, nil)
	x.in.Workspace.Backend.Ephemeral = true
	f.open(map[string]string{"a/main.tf": root("1")})
	x.in.At = f.host.pulls[1].HeadSHA
	_, _, err := x.module(t.Context())
	if text, ok := forPeople(err); !ok || text != (noStateDirError{}).Error() {
		t.Errorf("%v", err)
	}
}

// An event that was handled while a backend failed over may have left a record
// that names a run which the backend has forgotten. What retention removed is
// not made again.
func TestForgottenRunsAreMadeAgain(t *testing.T) {
	f := newFixture(t)
	files := map[string]string{"a/main.tf": root("a2")}
	look := func() {
		t.Helper()
		for range 2 { // the first may wait for the event that it finds missing
			if err := f.reconcile(t.Context(), f.repo); err != nil && !queue.IsSnooze(err) {
				t.Fatal(err)
			}
			f.work()
		}
	}
	forget := func(kind store.Kind) string {
		t.Helper()
		for _, run := range f.stored() {
			if run.Kind == kind {
				if err := f.Store.Runs.Delete(t.Context(), run.ID); err != nil {
					t.Fatal(err)
				}
				return run.ID
			}
		}
		t.Fatalf("there is no %s to forget: %v", kind, f.runs())
		return ""
	}
	f.open(files)
	look()
	forget(store.KindPlan)
	look()
	if got := f.runs(); !slices.Equal(got, []string{"a planned"}) {
		t.Errorf("after its plan was forgotten: %v", got)
	}
	f.merge(files)
	f.work()
	before := forget(store.KindApply)
	look()
	if again := forget(store.KindApply); again == before {
		t.Errorf("run %s was not forgotten", again)
	}
	f.pass(leastKept + time.Hour)
	look()
	for _, run := range f.stored() {
		if run.Kind == store.KindApply {
			t.Errorf("what was removed by its age is made again: %s", run.ID)
		}
	}
}
