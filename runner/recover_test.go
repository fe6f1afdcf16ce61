package runner

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/store"
)

// applying stores an apply that an earlier attempt had begun, with its shim's
// files, and returns it as the next attempt has it. Its commit is nowhere, so
// that nothing can be planned.
func (f *fixture) applying(state store.State, shim map[string]string) *execution {
	f.Helper()
	dir := f.TempDir()
	for name, text := range shim {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	x := &execution{r: f.Runner}
	x.in.Workspace.Name, x.in.Workspace.Dir = "a", "a"
	run, err := f.newRun(f.Context(), store.Run{Key: "apply", Kind: store.KindApply, Repository: f.repo.String(), PullRequest: 1, Commit: "gone"}, x.in)
	if err != nil {
		f.Fatal(err)
	}
	if err := f.enqueueRun(f.Context(), run, x.in, queue.PriorityApply); err != nil {
		f.Fatal(err)
	}
	if err := json.Unmarshal(run.Result, &x.result); err != nil {
		f.Fatal(err)
	}
	x.run, x.result.Shim = run, dir
	x.run.State, x.run.Step = state, stepApply
	if err := x.save(f.Context()); err != nil {
		f.Fatal(err)
	}
	jobs, err := f.queue.Claim(f.Context(), f.clock(), queue.Claim{Worker: "w", Lease: time.Minute, Max: 1})
	if err != nil || len(jobs) != 1 {
		f.Fatal(jobs, err)
	}
	if x, err = f.begin(f.Context(), jobs[0]); err != nil {
		f.Fatal(err)
	}
	return x
}

// An engine that was started and did not end by itself may have made what no
// state knows of: only a plan and a person decide what comes next.
func TestRecover(t *testing.T) {
	const started = `{"pid": 1, "at": "2026-03-02T10:00:00Z"}`
	for _, test := range []struct {
		name  string
		shim  map[string]string
		state store.State
		step  string
		over  store.State // of the verdict
	}{
		{"never started", nil, store.Running, "plan", ""},
		{"vanished", map[string]string{"owner": started}, store.Unknown, "checkout", ""},
		{"killed", map[string]string{"owner": started, "exit": `{"code": -1, "signal": "killed"}`}, store.Unknown, "checkout", ""},
		{"interrupted before it began", map[string]string{"owner": started, "exit": `{"code": -1, "signal": "interrupt", "interrupted": true}`}, store.Running, "plan", ""},
		{"ended", map[string]string{"owner": started, "exit": `{"code": 0}`}, store.Running, stepApply, store.Applied},
		{"failed", map[string]string{"owner": started, "exit": `{"code": 1}`, "stderr": "Error: no"}, store.Running, stepApply, store.Failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			x := f.applying(store.Running, test.shim)
			v, err := x.recover(t.Context())
			if unknown := test.state == store.Unknown; (err != nil) != unknown {
				t.Errorf("error %v", err) // the commit is gone, so nothing is found out yet
			}
			run := f.stored()[0]
			if run.State != test.state || run.Step != test.step || deref(v).state != test.over {
				t.Errorf("%s at %q, verdict %q", run.State, run.Step, deref(v).state)
			}
		})
	}
}

// A server that is told to stop while it finds out what an engine did must not
// forget that there was one.
func TestStoppedBeforeItIsKnown(t *testing.T) {
	for _, state := range []store.State{store.Running, store.Unknown} {
		f := newFixture(t)
		x := f.applying(state, map[string]string{"owner": `{"pid": 1}`})
		ctx, stop := context.WithCancelCause(t.Context())
		stopped := f.handleRun(func(ctx context.Context, x *execution) (verdict, error) {
			stop(queue.ErrShutdown)
			return f.apply(ctx, x)
		})
		if err := stopped(ctx, x.job); err == nil {
			t.Error("the job is done")
		}
		if run := f.stored()[0]; run.State != state || run.Step != stepApply {
			t.Errorf("a run that is %s is %s at %q afterwards", state, run.State, run.Step)
		}
	}
}

// What was interrupted is applied again only where the engine ended by itself.
func TestInterrupted(t *testing.T) {
	for _, test := range []struct {
		name     string
		shim     map[string]string
		detached bool
		step     string
	}{
		{"never started", nil, false, "plan"},
		{"saved its state", map[string]string{"owner": `{"pid": 1}`, "exit": `{"code": 1}`}, false, "plan"},
		{"killed", map[string]string{"owner": `{"pid": 1}`, "exit": `{"code": -1, "signal": "killed"}`}, true, stepApply},
		{"vanished", map[string]string{"owner": `{"pid": 1}`}, true, stepApply},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			x := f.applying(store.Running, test.shim)
			ctx, stop := context.WithCancelCause(t.Context())
			stop(queue.ErrShutdown)
			_, err := x.interrupted(ctx, errDown)
			if !errors.Is(err, errDown) || errors.Is(err, errDetached) != test.detached {
				t.Errorf("error %v", err)
			}
			if step := f.stored()[0].Step; step != test.step {
				t.Errorf("at %q instead of %q", step, test.step)
			}
		})
	}
}

// An attempt that begins when a later one has the run ends at once.
func TestLateAttemptDoesNotBegin(t *testing.T) {
	f := newFixture(t)
	x := f.applying(store.Running, nil)
	late := x.job
	late.Token--
	if got, err := f.begin(t.Context(), late); !errors.Is(err, errTaken) {
		t.Errorf("%v, %v", got, err)
	}
}
