package runner

import (
	"context"
	"encoding/json"
	"fmt"

	"holdfast/queue"
	"holdfast/runner/plan"
	"holdfast/store"
)

// startCorrect queues the correction of the drift that a check found.
func (r *Runner) startCorrect(ctx context.Context, check *execution) error {
	result, err := json.Marshal(Result{Reviewed: check.run.ID})
	if err != nil {
		return err
	}
	in := check.in
	_, err = r.startRun(ctx, store.Run{
		Key: "correct/" + check.run.ID, Kind: store.KindCorrect,
		Repository: check.run.Repository, Commit: check.run.Commit, Result: result,
	}, in, queue.PriorityReplan)
	return err
}

// correct undoes drift: it plans again, passes the gate again, and applies
// only what the check has seen, or less.
func (r *Runner) correct(ctx context.Context, x *execution) (verdict, error) {
	if x.earlier != stepApply && x.run.State != store.Unknown {
		if v, err := x.overtaken(ctx); v != nil || err != nil {
			return deref(v), err
		}
	}
	if x.earlier != stepApply && x.run.State != store.Unknown {
		if err := x.whileHeld(ctx); err != nil {
			return verdict{}, err
		}
	}
	seen, err := r.reviewedBy(ctx, x.result.Reviewed)
	if err != nil {
		return verdict{}, err
	}
	return x.carryOut(ctx, "drift correction", reviewed{}, func(p *plan.Plan) string {
		if seen.plan == nil {
			return "The plan of the drift check is not stored any more."
		}
		if why := correctGate(p, plan.DriftReport{Class: plan.CloudChange}, x.in.Workspace.Drift); why != "" {
			return why
		}
		c := plan.Compare(seen.plan, p)
		x.result.Comparison = &c
		if c.Verdict == plan.Changed {
			return "The drift is not the one that the check saw; the next check decides again."
		}
		return ""
	})
}

// afterCorrect keeps what became of a correction, and checks that it held. It
// may be done twice.
func (r *Runner) afterCorrect(ctx context.Context, x *execution) error {
	if x.run.State == store.Superseded {
		return nil // it changed nothing
	}
	err := r.changeWorkspace(ctx, x.repo, x.in.Workspace, func(rec *WorkspaceRecord) {
		// In sync only when the check below has seen it.
		rec.State, rec.Error = Drifted, x.run.Error
		if x.run.State == store.Unknown {
			rec.State = Unknown
		}
	})
	if err != nil || (x.run.State != store.Applied && x.run.State != store.NoChanges) {
		return err
	}
	run, err := r.startRun(ctx, store.Run{
		Key: fmt.Sprintf("drift/%s/%s/after/%s", x.repo, x.run.Workspace, x.run.ID), Kind: store.KindDrift,
		Repository: x.run.Repository, Commit: x.run.Commit,
	}, x.in, queue.PriorityReplan)
	if err != nil {
		return err
	}
	return r.changeWorkspace(ctx, x.repo, x.in.Workspace, func(rec *WorkspaceRecord) { rec.CheckRun = run.ID })
}
