package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"holdfast/queue"
	"holdfast/runner/terraform"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// execution is one attempt at one run: what its steps share.
type execution struct {
	r    *Runner
	job  queue.Job
	in   runPayload
	repo vcs.Repository
	run  store.Run
	// result becomes the run's Result with every save.
	result Result
	log    *runLog
	// earlier is the step that an earlier attempt had reached; empty on the
	// first.
	earlier string
	// moved is set where what the workspace depends on was applied since its
	// plan was made.
	moved bool
	// ended is set once the run's end is stored.
	ended bool
	// asked is set where another node was asked what became of the engine.
	asked bool
	// handling is the handler's own context, which outlives those of its steps.
	handling context.Context
	// endures is set once the engine applies: what it did is stored however long
	// the store is away, and its shim's files stay for whoever takes the run over.
	endures bool
}

// errTaken says that the run is not this attempt's to write any more: it was
// superseded, or a later attempt has it.
var errTaken = errors.New("the run was taken over")

// verdict is how a run ended, as its steps decided.
type verdict struct {
	state store.State
	error string
}

// handleRun makes a job's handler of the steps of a run: it claims the run,
// calls steps, and writes how it ended. Steps return an error only where
// Holdfast itself is the reason; that is retried.
func (r *Runner) handleRun(steps func(context.Context, *execution) (verdict, error)) queue.Handler {
	return func(ctx context.Context, job queue.Job) error {
		begin := ctx
		if isCanceled(ctx) {
			begin = context.WithoutCancel(ctx) // before it began: that is to be recorded
		}
		x, err := r.begin(begin, job)
		if err != nil || x == nil {
			return keepCanceled(ctx, err)
		}
		if job.Attempt > r.MaxAttempts && x.earlier != stepApply && x.run.State != store.Unknown {
			return x.finish(begin, verdict{store.Failed, fmt.Sprintf("Holdfast died %d times while it carried this out.", job.Attempt-1)})
		}
		v, err := steps(ctx, x)
		if no := failure(ctx, err); no != nil && x.run.Step != stepApply && x.run.State != store.Unknown {
			v, err = *no, nil
		}
		if err == nil {
			err = x.end(context.WithoutCancel(ctx), v)
		}
		x.log.Close()
		switch cause := context.Cause(ctx); {
		case errors.Is(err, errTaken) && !x.endures:
			return x.sweep() // superseded: nobody else removes what it left
		case err == nil, errors.Is(err, errTaken):
			return nil
		case errors.Is(cause, queue.ErrLost):
			return err
		case errors.Is(cause, queue.ErrCanceled):
			return keepCanceled(ctx, x.cancel(context.WithoutCancel(ctx), err))
		case x.ended, errors.Is(err, errDetached):
			return err // the next attempt does what follows from the end, or finds it out
		case errors.Is(cause, queue.ErrShutdown), queue.IsSnooze(err):
			// Back to the queue: somebody else, or this process later.
			return errors.Join(err, x.back(context.WithoutCancel(ctx)))
		case job.Attempt >= r.MaxAttempts && x.run.State != store.Unknown && x.run.Step != stepApply:
			r.Logger.Error("run failed", "run", x.run.ID, "kind", x.run.Kind, "error", err)
			return x.finish(ctx, verdict{store.Failed, "internal error in run " + x.run.ID + "; the server's log says more"})
		}
		return err
	}
}

// begin claims the job's run for this attempt. It returns nil where there is
// nothing left to do.
func (r *Runner) begin(ctx context.Context, job queue.Job) (*execution, error) {
	x := &execution{r: r, job: job, handling: ctx}
	if err := json.Unmarshal(job.Payload, &x.in); err != nil {
		return nil, queue.Discard(fmt.Errorf("read payload: %w", err))
	}
	for {
		run, err := r.Store.Runs.Get(ctx, x.in.Run)
		if errors.Is(err, store.ErrNotFound) {
			// Removed, or forgotten in a failover: whoever still wants it asks again.
			r.Logger.Error("a job's run is not stored", "run", x.in.Run, "job", job.ID, "kind", job.Kind)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if run.Token > job.Token {
			return nil, errTaken // this attempt is the late one: it may write nothing
		}
		ended, err := x.claim(ctx, run)
		if errors.Is(err, errTaken) {
			// Superseded meanwhile, or the last write of an earlier attempt.
			continue
		}
		if err != nil {
			return nil, err
		}
		if ended {
			// An earlier attempt wrote the end and died before it said so.
			return nil, x.after(ctx)
		}
		break
	}
	x.log = newRunLog(ctx, r.Store.Artifacts, logKey(x.run.ID), r.Clock)
	if x.earlier != "" {
		x.log.Printf("Holdfast was interrupted here and goes on (attempt %d).\n", job.Attempt)
	}
	return x, nil
}

// claim writes into the run that this attempt has it, and reports whether the
// run has ended already.
func (x *execution) claim(ctx context.Context, run store.Run) (ended bool, err error) {
	if x.repo, err = vcs.ParseRepository(run.Repository); err != nil {
		return false, queue.Discard(err)
	}
	x.run, x.result, x.earlier = run, Result{}, run.Step
	if len(run.Result) > 0 {
		if err := json.Unmarshal(run.Result, &x.result); err != nil {
			return false, queue.Discard(fmt.Errorf("read result of run %s: %w", run.ID, err))
		}
	}
	if run.State.Ended() {
		return true, nil
	}
	if run.State != store.Unknown {
		x.run.State = store.Running
	}
	x.run.Job, x.run.Token, x.run.Node = x.job.ID, x.job.Token, x.r.Node
	if x.run.StartedAt.IsZero() {
		x.run.StartedAt = x.r.Clock()
	}
	return false, x.save(ctx)
}

// save writes the run. Returns errTaken where it is not this attempt's.
func (x *execution) save(ctx context.Context) error {
	result, err := json.Marshal(x.result)
	if err != nil {
		return err
	}
	x.run.Result = result
	var run store.Run
	err = x.untilAnswered(ctx, func() (err error) {
		run, err = x.r.Store.Runs.Update(ctx, x.r.Clock(), x.run)
		if errors.Is(err, store.ErrConflict) {
			run, err = x.again(ctx, err)
		}
		return err
	})
	if errors.Is(err, store.ErrConflict) {
		return errTaken
	}
	if err != nil {
		return fmt.Errorf("save run %s: %w", x.run.ID, err)
	}
	x.run = run
	return nil
}

// step records how far the run came, before it goes there.
func (x *execution) step(ctx context.Context, name string) error {
	x.run.Step, x.result.Waiting = name, ""
	return x.save(ctx)
}

// end writes the verdict and lets others know.
func (x *execution) end(ctx context.Context, v verdict) error {
	x.log.Close()
	x.run.State, x.run.Error = v.state, v.error
	if v.state.Ended() {
		x.run.Step, x.run.EndedAt, x.result.Order = "", x.r.Clock(), nil
	}
	if err := x.save(ctx); err != nil {
		return err
	}
	x.log.Close() // what could not be stored while the store was away
	x.ended = v.state.Ended()
	x.r.Logger.Info("run ended", "run", x.run.ID, "kind", x.run.Kind, "state", x.run.State, "repository", x.run.Repository, "workspace", x.run.Workspace, "pull_request", x.run.PullRequest, "why", firstLine(x.run.Error))
	if err := x.after(ctx); err != nil {
		return err
	}
	if x.asked {
		if err := x.r.Store.Records.Delete(ctx, engineName(x.run.ID)); err != nil {
			return err
		}
	}
	return os.RemoveAll(x.runDir())
}

// finish is end for a handler that has nothing else to do: a run that was
// taken over is not its business.
func (x *execution) finish(ctx context.Context, v verdict) error {
	if err := x.end(ctx, v); err != nil && !errors.Is(err, errTaken) {
		return err
	}
	return nil
}

// wait returns the run to the queue for d, and tells people why, once.
func (x *execution) wait(ctx context.Context, why string, d time.Duration) error {
	if x.result.Waiting != why {
		x.result.Waiting = why
		x.log.Printf("Waiting: %s\n", why)
		// Stored before the report is asked for, which may begin at once.
		if err := x.back(ctx); err != nil {
			return err
		}
		if err := x.r.reportOf(ctx, x.repo, x.run); err != nil {
			return err
		}
	}
	return queue.Snooze(d)
}

// back returns the run to the queue, to start over there. One whose engine may
// have changed the cloud stays as it is: the next attempt has to find out first.
func (x *execution) back(ctx context.Context) error {
	if x.run.Step == stepApply || x.run.State == store.Unknown {
		return nil
	}
	x.run.State, x.run.Step = store.Queued, ""
	if err := x.save(ctx); err != nil && !errors.Is(err, errTaken) {
		return err
	}
	return nil
}

// after does what follows from an ended run. It may be done twice.
func (x *execution) after(ctx context.Context) error {
	switch x.run.Kind {
	case store.KindDrift:
		return x.r.afterDrift(ctx, x)
	case store.KindCorrect:
		return x.r.afterCorrect(ctx, x)
	case store.KindApply:
		if err := x.r.afterApply(ctx, x); err != nil {
			return err
		}
	case store.KindPlan:
		if x.in.Pushed {
			if err := x.r.afterPushed(ctx, x); err != nil {
				return err
			}
		}
	}
	if x.run.PullRequest == 0 {
		return x.r.reportOf(ctx, x.repo, x.run)
	}
	return x.r.reportEnded(ctx, x.repo, x.run.PullRequest)
}

// runDir is where the run keeps files while it is under way.
func (x *execution) runDir() string { return filepath.Join(x.r.DataDir, "runs", x.run.ID) }

// sweep removes what this attempt left. A later one has a directory of its own.
func (x *execution) sweep() error {
	dir, err := x.attemptDir()
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// attemptDir is runDir's part for this attempt, made now.
func (x *execution) attemptDir() (string, error) {
	dir := filepath.Join(x.runDir(), strconv.FormatInt(x.job.Token, 10))
	return dir, os.MkdirAll(dir, 0o700)
}

// module checks the run's commit out and describes its root module to the
// engine. Call release when nothing runs in it any more.
func (x *execution) module(ctx context.Context) (m terraform.Module, release func(), err error) {
	if err := x.step(ctx, "checkout"); err != nil {
		return m, nil, err
	}
	root, release, err := x.r.checkout(ctx, x.repo, cmp.Or(x.in.At, x.run.Commit), x.in.FetchRef)
	if err != nil {
		return m, nil, err
	}
	m = Module(x.in.Workspace, root, x.repo.String()+"/"+x.in.Workspace.Name)
	m.Log = x.log
	if len(x.in.Commands) > 0 {
		if m, err = x.withCommands(m); err != nil {
			release()
			return m, nil, err
		}
	}
	if m.StateFile = x.keptState(); m.StateFile != "" {
		if x.r.StateDir == "" {
			release()
			return m, nil, noStateDirError{}
		}
		if err := x.stateIsThere(ctx); err != nil {
			release()
			return m, nil, err
		}
		x.note("This root module has no backend that outlives a checkout, so Holdfast keeps its state in the server's data directory.")
	}
	return m, release, nil
}

// withCommands is the module in a directory of this run's own, with what people
// asked for beside the configuration: others share the checkout.
func (x *execution) withCommands(m terraform.Module) (terraform.Module, error) {
	dir, err := x.attemptDir()
	if err != nil {
		return m, err
	}
	own, err := terraform.CopyModule(m, filepath.Join(dir, "checkout"))
	if err != nil {
		return m, err
	}
	var blocks []terraform.Block
	for _, c := range x.in.Commands {
		blocks = append(blocks, terraform.Block{Import: c.ID != "", Address: c.Address, ID: c.ID})
	}
	return own, terraform.WriteBlocks(own, blocks)
}

// keptState is the file in which Holdfast keeps the root module's state; empty
// where a backend does.
func (x *execution) keptState() string {
	if !x.in.Workspace.Backend.Ephemeral {
		return ""
	}
	return filepath.Join(x.r.StateDir, filepath.FromSlash(x.repo.String()), filepath.FromSlash(x.in.Workspace.Dir), "terraform.tfstate")
}

// noStateDirError says that a root module has nowhere to keep its state.
type noStateDirError struct{}

func (noStateDirError) Error() string {
	return "This root module has no backend that outlives a checkout, and this Holdfast runs on several machines: the next run would not find the state. Give it a backend. Where all machines share a directory, the server's state_dir may name it."
}

// lostStateError says that a state that Holdfast kept is gone.
type lostStateError struct{ file string }

func (e *lostStateError) Error() string {
	return "The state that Holdfast kept of this root module is gone from the server (" + e.file + "). A plan without it would make everything a second time. Restore the directory (state_dir, or data_dir/state) from a backup."
}

// stateIsThere refuses to go on without a state that an apply has left:
// somebody restored the store and forgot the states.
func (x *execution) stateIsThere(ctx context.Context) error {
	if x.in.Workspace.Workspace != "default" {
		return nil // kept beside that file, by the engine's own rules
	}
	var rec WorkspaceRecord
	if _, err := x.r.load(ctx, workspaceName(x.repo, x.run.Workspace), &rec); err != nil {
		return err
	}
	if file := x.keptState(); rec.KeptState && !exists(file) {
		rel, err := filepath.Rel(x.r.StateDir, file)
		if err != nil {
			return err
		}
		return &lostStateError{filepath.Join("state_dir", rel)}
	}
	return nil
}

// exists reports whether there is a file of that name.
func exists(file string) bool {
	_, err := os.Stat(file)
	return file != "" && err == nil
}

// Module describes a workspace in a checkout at root to the engine.
func Module(w workspaces.Workspace, root, key string) terraform.Module {
	m := terraform.Module{
		Key: key, Root: root, Dir: filepath.Join(root, filepath.FromSlash(w.Dir)),
		Workspace: w.Workspace, VarFiles: w.VarFiles, Engine: w.Engine, Version: w.Version,
	}
	for _, dir := range w.Modules {
		m.Modules = append(m.Modules, filepath.Join(root, filepath.FromSlash(dir)))
	}
	return m
}

// checkout returns the commit's files, and fetches where the mirror does not
// have the commit.
func (r *Runner) checkout(ctx context.Context, repo vcs.Repository, sha, ref string) (string, func(), error) {
	dir, release, err := r.Git.Checkout(ctx, repo, sha)
	if err == nil {
		return dir, release, nil
	}
	if ferr := r.fetch(ctx, repo, ref); ferr != nil {
		return "", nil, errors.Join(err, ferr)
	}
	dir, release, err = r.Git.Checkout(ctx, repo, sha)
	return dir, release, content(err)
}

// fetch brings the mirror up to date; ref may be empty.
func (r *Runner) fetch(ctx context.Context, repo vcs.Repository, ref string) error {
	h, err := r.host(repo)
	if err != nil {
		return err
	}
	remote, err := h.Remote(ctx, repo)
	if err != nil {
		return fmt.Errorf("ask %s for the repository: %w", repo.Host, err)
	}
	var refs []string
	if ref != "" {
		refs = append(refs, ref)
	}
	if err := r.Git.Fetch(ctx, repo, remote, refs...); err != nil {
		return fmt.Errorf("fetch %s: %w", repo, err)
	}
	return nil
}

// failure is the verdict on an error that the engine, or the lack of one, is
// the reason of; nil where the reason lies elsewhere.
func failure(ctx context.Context, err error) *verdict {
	if ctx.Err() != nil {
		return nil
	}
	if text, ok := forPeople(err); ok {
		return &verdict{store.Failed, text}
	}
	return nil
}

// failed returns err where failure has no verdict on it.
func failed(ctx context.Context, err error) error {
	if failure(ctx, err) != nil {
		return nil
	}
	return err
}

// forPeople returns what may be shown of an error in a pull request: what the
// engine said, and what can be mended there. Everything else stays in the log.
func forPeople(err error) (string, bool) {
	var engine *terraform.EngineError
	var locked *terraform.StateLockedError
	var missing *terraform.NotInstalledError
	var module *terraform.ModuleError
	var problems workspaces.Problems
	var state *lostStateError
	switch {
	case errors.As(err, &state):
		return state.Error(), true
	case errors.As(err, new(noStateDirError)):
		return noStateDirError{}.Error(), true
	case errors.As(err, &module):
		return module.Error() + "\n" + module.Hint(), true
	case errors.As(err, &locked):
		return locked.Error() + "\n" + locked.Hint(), true
	case errors.As(err, &engine):
		return engine.Output, true
	case errors.As(err, &missing):
		return missing.Error() + "\n" + missing.Hint(), true
	case errors.As(err, &problems):
		return problems.Error(), true
	}
	return "", false
}

// note adds a sentence for the report, once.
func (x *execution) note(s string) {
	for _, n := range x.result.Notes {
		if n == s {
			return
		}
	}
	x.result.Notes = append(x.result.Notes, s)
}
