package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
)

// newRun stores a run, or returns the run that has its key already.
func (r *Runner) newRun(ctx context.Context, run store.Run, in runPayload) (store.Run, error) {
	id, err := ulid.New(ulid.Timestamp(r.Clock()), r.entropy)
	if err != nil {
		return run, fmt.Errorf("make an ID: %w", err)
	}
	run.ID, run.State = id.String(), store.Queued
	run.Workspace, run.Inputs = in.Workspace.Name, in.Inputs
	if run.Result, err = withOrder(run.Result, in); err != nil {
		return run, err
	}
	run, created, err := r.Store.Runs.Create(ctx, r.Clock(), run)
	if err != nil {
		return run, fmt.Errorf("create run: %w", err)
	}
	// Also for a run that is there already: its maker may have died before this.
	if run.Kind == store.KindPlan && !run.State.Ended() {
		err = r.audit(ctx, store.Entry{ID: run.ID, Who: in.Who, Action: string(run.Kind), Repository: run.Repository, Workspace: run.Workspace, Run: run.ID, Why: "commit " + short(run.Commit)})
		if err != nil {
			return run, err
		}
	}
	if created {
		r.Logger.Info("run queued", "run", run.ID, "kind", run.Kind, "repository", run.Repository, "workspace", run.Workspace, "pull_request", run.PullRequest, "commit", run.Commit)
	}
	return run, nil
}

// withOrder puts what the run's job will be given into its result.
func withOrder(result json.RawMessage, in runPayload) (json.RawMessage, error) {
	var r Result
	if len(result) > 0 {
		if err := json.Unmarshal(result, &r); err != nil {
			return nil, err
		}
	}
	if len(in.Workspace.RunsOn) > 0 && r.Waiting == "" {
		r.Waiting = "waits for a worker with " + strings.Join(in.Workspace.RunsOn, ", ") + " (runs_on)"
	}
	var err error
	if r.Order, err = json.Marshal(in); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// startRun stores a run and queues its job. The run's key makes it one run
// however often it is asked for; one of that key that has ended is left alone.
func (r *Runner) startRun(ctx context.Context, run store.Run, in runPayload, p queue.Priority) (store.Run, error) {
	run, err := r.newRun(ctx, run, in)
	if err != nil || run.State.Ended() {
		return run, err
	}
	return run, r.enqueueRun(ctx, run, in, p)
}

// LimitDrift is the Job.Limit of drift checks: they have a cap of their own.
const LimitDrift = "drift"

// enqueueRun queues the job of a run that has not ended.
func (r *Runner) enqueueRun(ctx context.Context, run store.Run, in runPayload, p queue.Priority) error {
	return r.enqueueRuns(ctx, plannedRun{run: run, in: in, priority: p})
}

// enqueueRuns queues the jobs of runs that have not ended, all or none: one
// durable write, whatever their number.
func (r *Runner) enqueueRuns(ctx context.Context, runs ...plannedRun) error {
	jobs := make([]queue.Job, len(runs))
	for i, x := range runs {
		x.in.Run = x.run.ID
		payload, err := json.Marshal(x.in)
		if err != nil {
			return err
		}
		jobs[i] = queue.Job{
			Kind: string(x.run.Kind), Group: "workspace/" + x.run.Repository + "/" + x.run.Workspace,
			Key: "run/" + x.run.ID, Limit: x.run.Repository, RunsOn: x.in.Workspace.RunsOn, Priority: x.priority, RunAt: x.at, Payload: payload,
		}
		if x.run.Kind == store.KindDrift {
			jobs[i].Limit = LimitDrift
		}
	}
	_, err := r.Queue.Enqueue(ctx, jobs...)
	return err
}

// supersede ends a run that nobody needs any more, and interrupts its engine
// where it has one.
func (r *Runner) supersede(ctx context.Context, id, why string) error {
	for {
		run, err := r.Store.Runs.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if run.State == store.Superseded {
			return r.cancelJob(ctx, "run/"+id) // perhaps the process died before it
		}
		if run.State.Ended() {
			return nil
		}
		run.State, run.Error, run.EndedAt, run.Step = store.Superseded, why, r.Clock(), ""
		_, err = r.Store.Runs.Update(ctx, r.Clock(), run)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return err
		}
		return r.cancelJob(ctx, "run/"+id)
	}
}

// supersedeWaiting ends a run that has not begun; one that has goes on.
func (r *Runner) supersedeWaiting(ctx context.Context, id, why string) error {
	for {
		run, err := r.Store.Runs.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && run.State != store.Queued {
			return nil
		}
		if err != nil {
			return err
		}
		run.State, run.Error, run.EndedAt = store.Superseded, why, r.Clock()
		if _, err = r.Store.Runs.Update(ctx, r.Clock(), run); !errors.Is(err, store.ErrConflict) {
			return err // its job finds the run ended
		}
	}
}

// cancelJob cancels the unfinished job of that key, if there is one.
func (r *Runner) cancelJob(ctx context.Context, key string) error {
	jobs, err := r.Queue.List(ctx, queue.Filter{Key: key})
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if _, err := r.Queue.Cancel(ctx, j.ID); err != nil && !errors.Is(err, queue.ErrNotFound) {
			return err
		}
	}
	return nil
}

// audit writes a line of the audit trail; id makes a repeated step one line.
func (r *Runner) audit(ctx context.Context, e store.Entry) error {
	e.At = r.Clock()
	if e.Who == "" {
		e.Who = "holdfast"
	}
	if err := r.Store.Audit.Append(ctx, e); err != nil {
		return fmt.Errorf("write audit trail: %w", err)
	}
	return nil
}

// enqueueReport asks for a pull request's report: soon, gathering what else
// happens; at once where now is the time to tell.
func (r *Runner) enqueueReport(ctx context.Context, repo vcs.Repository, number int) error {
	return r.enqueueReportIn(ctx, repo, number, r.ReportDelay)
}

func (r *Runner) enqueueReportIn(ctx context.Context, repo vcs.Repository, number int, delay time.Duration) error {
	payload, err := json.Marshal(reportPayload{Repository: repo, Number: number})
	if err != nil {
		return err
	}
	name := "report/" + pullName(repo, number)
	_, err = r.Queue.Enqueue(ctx, queue.Job{
		Kind: JobReport, Group: name, Key: name, Again: true,
		Priority: queue.PriorityPrompt, RunAt: r.Clock().Add(delay), Payload: payload,
	})
	return err
}
