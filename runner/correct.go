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
func (r *Runner) startCorrect(ctx context.Context, check *execution, report plan.DriftReport) error {
	result, err := json.Marshal(Result{Reviewed: check.run.ID})
	if err != nil {
		return err
	}
	in := check.in
	if len(report.Ignored) > 0 {
		// An engine corrects everything that is not as Git says: what a rule
		// leaves alone is not among the targets.
		for _, d := range report.Resources {
			in.Targets = append(in.Targets, d.Address)
		}
	}
	_, err = r.startRun(ctx, store.Run{
		Key: "correct/" + check.run.ID, Kind: store.KindCorrect,
		Repository: check.run.Repository, Commit: check.run.Commit, Result: result,
	}, in, queue.PriorityReplan)
	return err
}

// correct undoes drift: it plans again, passes all gates again, and applies
// only what the check has seen, or less.
func (r *Runner) correct(ctx context.Context, x *execution) (verdict, error) {
	if x.in.Propose {
		return r.propose(ctx, x)
	}
	if x.earlier != stepApply && x.run.State != store.Unknown {
		if v, err := x.overtaken(ctx); v != nil || err != nil {
			return deref(v), err
		}
	}
	seen, err := r.reviewedBy(ctx, x.result.Reviewed)
	if err != nil {
		return verdict{}, err
	}
	var gateErr error
	v, err := x.carryOut(ctx, "drift correction", reviewed{}, func(p *plan.Plan) string {
		var why string
		why, gateErr = x.mayCorrect(ctx, seen.plan, p)
		return why
	})
	if gateErr != nil {
		return verdict{}, gateErr
	}
	return v, err
}

// mayCorrect says why a correction's own plan may not be applied; empty where
// it may. With an error it is not applied either, and tried again.
func (x *execution) mayCorrect(ctx context.Context, seen, now *plan.Plan) (string, error) {
	const later = "The gates could not be asked."
	if seen == nil {
		return "The plan of the drift check is not stored any more.", nil
	}
	rules, err := x.r.ignores(ctx, x.repo, x.in.Workspace)
	if err != nil {
		return later, err
	}
	report := now.DriftReport(true)
	x.result.Corrects = attributesOf(report)
	if ignored := report.Without(covers(rules, x.r.Clock())).Ignored; len(ignored) > 0 {
		x.result.Gates = []Gate{{GateIgnored, fmt.Sprintf("The correction would also undo what a rule leaves alone, at %s.", ignored[0].Address)}}
		return why(x.result.Gates), nil
	}
	if x.result.Gates, _, err = x.gatesOf(ctx, now, report); err != nil {
		return later, err
	}
	if len(x.result.Gates) > 0 {
		return why(x.result.Gates), nil
	}
	c := plan.Compare(seen, now)
	x.result.Comparison = &c
	if c.Verdict == plan.Changed {
		x.result.Gates = []Gate{{GateCompared, "The drift is not the one that the check saw; the next check decides again."}}
		return why(x.result.Gates), nil
	}
	return "", nil
}

// afterCorrect keeps what became of a correction, and checks that it held. It
// may be done twice.
func (r *Runner) afterCorrect(ctx context.Context, x *execution) error {
	if x.in.Propose {
		return r.afterPropose(ctx, x)
	}
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
	if err != nil {
		return err
	}
	drift, err := r.changeDrift(ctx, x.repo, x.run.Workspace, func(rec *DriftRecord) {
		rec.corrected(x.run, x.result)
	})
	if err != nil {
		return err
	}
	if err := r.shown(ctx, x.repo, drift); err != nil {
		return err
	}
	if x.run.State != store.Applied && x.run.State != store.NoChanges {
		return nil
	}
	in := x.in
	in.Targets = nil
	run, err := r.startRun(ctx, store.Run{
		Key: fmt.Sprintf("drift/%s/%s/after/%s", x.repo, x.run.Workspace, x.run.ID), Kind: store.KindDrift,
		Repository: x.run.Repository, Commit: x.run.Commit,
	}, in, queue.PriorityReplan)
	if err != nil {
		return err
	}
	return r.changeWorkspace(ctx, x.repo, x.in.Workspace, func(rec *WorkspaceRecord) { rec.CheckRun = run.ID })
}
