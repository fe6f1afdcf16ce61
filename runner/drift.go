package runner

import (
	"context"
	"errors"
	"fmt"

	"holdfast/queue"
	"holdfast/runner/plan"
	"holdfast/runner/terraform"
	"holdfast/store"
)

// drift plans what was applied last and classifies what it finds.
func (r *Runner) drift(ctx context.Context, x *execution) (verdict, error) {
	if v, err := x.overtaken(ctx); v != nil || err != nil {
		return deref(v), err
	}
	m, release, err := x.driftModule(ctx)
	if err != nil {
		return x.checkFailed(ctx, err)
	}
	defer release()
	p, _, no, err := x.makePlan(ctx, m, terraform.PlanOptions{LockTimeout: lockTimeout})
	if err != nil {
		return verdict{}, err
	}
	if no != nil {
		x.result.Drift = &plan.DriftReport{Class: plan.CheckError}
		return *no, nil
	}
	report := p.DriftReport(!x.in.Unapplied)
	if report.Class == plan.InSync && x.in.Pending {
		report.Class = plan.UnappliedCommit
	}
	if report.Class == plan.CloudChange {
		if err := x.doubt(ctx, &report); err != nil {
			return verdict{}, err
		}
	}
	x.result.Drift = &report
	if report.Class == plan.InSync {
		return verdict{state: store.NoChanges}, nil
	}
	if report.Class == plan.CloudChange && x.in.Workspace.Drift.Correct == "apply" {
		if why := correctGate(p, report, x.in.Workspace.Drift); why != "" {
			x.note("Not corrected: " + why)
		}
	}
	return verdict{state: store.Planned}, nil
}

// overtaken ends a check, or a correction, of a commit that is not the applied
// one any more: it would take the later commit for drift, and undo it.
func (x *execution) overtaken(ctx context.Context) (*verdict, error) {
	var rec WorkspaceRecord
	if _, err := x.r.load(ctx, workspaceName(x.repo, x.run.Workspace), &rec); err != nil {
		return nil, err
	}
	if x.run.Kind == store.KindCorrect && rec.Unfinished != "" {
		return &verdict{store.Superseded, "The apply of commit " + short(rec.Unfinished) + " began meanwhile and did not end well; its changes are not undone."}, nil
	}
	if rec.AppliedInputs == "" || rec.AppliedInputs == x.run.Inputs {
		return nil, nil
	}
	return &verdict{store.Superseded, "Commit " + short(rec.AppliedCommit) + " was applied meanwhile; the next check starts from it."}, nil
}

// doubt calls no change one of the cloud's while an apply may have made it.
func (x *execution) doubt(ctx context.Context, report *plan.DriftReport) error {
	var rec WorkspaceRecord
	if _, err := x.r.load(ctx, workspaceName(x.repo, x.run.Workspace), &rec); err != nil || rec.Unfinished == "" {
		return err
	}
	report.Class = plan.UnappliedCommit
	x.note("The apply of commit " + short(rec.Unfinished) + " began and did not end well. What it did cannot be told from a change made in the cloud, so nothing is corrected until an apply succeeds.")
	return nil
}

// driftModule is module, with the workspace as the checked commit describes
// it where that is not the default branch's head. The policy stays the head's.
func (x *execution) driftModule(ctx context.Context) (terraform.Module, func(), error) {
	if x.in.Pending {
		c, err := x.r.configAt(ctx, x.repo, x.run.Commit)
		if err != nil {
			return terraform.Module{}, nil, err
		}
		for _, w := range c.Workspaces {
			if w.Name == x.in.Workspace.Name {
				w.Apply, w.Drift = x.in.Workspace.Apply, x.in.Workspace.Drift
				x.in.Workspace = w
			}
		}
	}
	return x.module(ctx)
}

// checkFailed ends a check that could not even start for a reason in the
// repository; other errors are retried.
func (x *execution) checkFailed(ctx context.Context, err error) (verdict, error) {
	if isProblems(err) && ctx.Err() == nil {
		x.result.Drift = &plan.DriftReport{Class: plan.CheckError}
		return verdict{store.Failed, err.Error()}, nil
	}
	return verdict{}, err
}

// afterDrift keeps what the check found, and queues the correction where the
// team wants one. It may be done twice.
func (r *Runner) afterDrift(ctx context.Context, x *execution) error {
	if x.run.State == store.Superseded {
		return nil // it found nothing out
	}
	report := plan.DriftReport{Class: plan.CheckError}
	if x.result.Drift != nil {
		report = *x.result.Drift
	}
	var known WorkspaceRecord
	err := r.changeWorkspace(ctx, x.repo, x.in.Workspace, func(rec *WorkspaceRecord) {
		defer func() { known = *rec }()
		if rec.AppliedAt.After(x.run.EndedAt) || rec.CheckedAt.After(x.run.EndedAt) {
			return // a retry, after later ones: its news are old
		}
		rec.CheckedAt, rec.Class = x.run.EndedAt, string(report.Class)
		if x.run.Error != "" || rec.State != Pending || stateOf(report.Class) != Pending {
			rec.Error = x.run.Error // else it says still why the commit is not applied
		}
		if rec.State == Held || rec.State == Applying {
			return // an apply decides about these
		}
		rec.State = stateOf(report.Class)
		if report.Class == plan.InSync && x.in.Unapplied {
			// Nobody applied it here, and nothing is left to do: the cloud
			// matches this commit, and from now on that is known.
			rec.AppliedCommit, rec.AppliedInputs, rec.AppliedAt = x.run.Commit, x.run.Inputs, x.run.EndedAt
			rec.Unfinished = ""
		}
	})
	if err != nil {
		return err
	}
	r.Logger.Info("drift checked", "run", x.run.ID, "repository", x.run.Repository, "workspace", x.run.Workspace, "class", report.Class, "error", x.run.Error)
	if report.Class != plan.CloudChange || x.in.Workspace.Drift.Correct != "apply" {
		return nil
	}
	if known.State == Held || known.State == Applying {
		return nil // a person, or an apply, decides what happens next
	}
	p, err := r.loadPlan(ctx, x.run.ID)
	if err != nil || p == nil || correctGate(p, report, x.in.Workspace.Drift) != "" {
		return err
	}
	return r.startCorrect(ctx, x)
}

// stateOf is the state of a workspace in which a check found this class.
func stateOf(c plan.Class) WorkspaceState {
	switch c {
	case plan.InSync, plan.ProviderNoise:
		return InSync
	case plan.UnappliedCommit:
		return Pending
	case plan.CloudChange, plan.OutputOnly:
		return Drifted
	}
	return Unknown
}

// startDrift queues a check of a workspace that the default branch has; slot
// makes it one run however often it is asked for.
func (r *Runner) startDrift(ctx context.Context, repo Repository, w knownWorkspace, head, slot string) (store.Run, error) {
	var rec WorkspaceRecord
	if _, err := r.load(ctx, workspaceName(repo.Repository, w.Name), &rec); err != nil {
		return store.Run{}, err
	}
	run := store.Run{
		Key:  fmt.Sprintf("drift/%s/%s/%s", repo.Repository, w.Name, slot),
		Kind: store.KindDrift, Repository: repo.String(), Commit: head,
	}
	in := runPayload{Workspace: w.Workspace, Inputs: w.Inputs}
	switch rec.AppliedInputs {
	case "":
		in.Unapplied = true
	case w.Inputs: // the head is what was applied
	default:
		run.Commit, in.Inputs, in.Pending = rec.AppliedCommit, rec.AppliedInputs, true
	}
	run, err := r.startRun(ctx, run, in, queue.PriorityDrift)
	if err != nil {
		return run, err
	}
	return run, r.changeWorkspace(ctx, repo.Repository, w.Workspace, func(rec *WorkspaceRecord) { rec.CheckRun = run.ID })
}

// isUnfinished reports whether a run with that id is stored and has not ended.
func (r *Runner) isUnfinished(ctx context.Context, id string) (bool, error) {
	if id == "" {
		return false, nil
	}
	run, err := r.Store.Runs.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && !run.State.Ended(), err
}
