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
			if d.Type != "" { // an output is no target, and follows
				in.Targets = append(in.Targets, d.Address)
			}
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
		if v, err := x.notNow(ctx); v != nil || err != nil {
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

// notNow ends a correction that nobody wants any more: the default branch may
// say something else by now, and a person may have to decide about an apply.
func (x *execution) notNow(ctx context.Context) (*verdict, error) {
	if v, err := x.overtaken(ctx); v != nil || err != nil {
		return v, err
	}
	if v, err := x.current(ctx); v != nil || err != nil {
		return v, err
	}
	wanted := "apply"
	if x.in.Propose {
		wanted = "propose"
	}
	if now := x.in.Workspace.Drift.Correct; now != wanted {
		return &verdict{store.Superseded, fmt.Sprintf("drift.correct is %q by now.", now)}, nil
	}
	var rec WorkspaceRecord
	if _, err := x.r.load(ctx, workspaceName(x.repo, x.run.Workspace), &rec); err != nil || rec.State != Held || x.in.Propose {
		return nil, err
	}
	return &verdict{store.Superseded, "The apply of a merged commit is held meanwhile; what becomes of it is decided first."}, nil
}

// mayCorrect says why a correction's own plan may not be applied; empty where
// it may. With an error it is not applied either, and tried again.
func (x *execution) mayCorrect(ctx context.Context, seen, now *plan.Plan) (string, error) {
	const later = "The gates could not be asked."
	if seen == nil {
		return "The plan of the drift check is not stored any more.", nil
	}
	if v, err := x.notNow(ctx); v != nil || err != nil {
		return or(deref(v).error, later), err // planning took its time
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
	if _, err := x.current(ctx); err != nil {
		return err
	}
	err := r.changeWorkspace(ctx, x.repo, x.in.Workspace, func(rec *WorkspaceRecord) {
		if rec.CheckedAt.After(x.run.EndedAt) || rec.AppliedAt.After(x.run.EndedAt) || rec.State == Held {
			return // a retry, after later news
		}
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
	if x.run.State == store.Held {
		return r.whenOpen(ctx, x)
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

// whenOpen queues a check for when the next window opens, of a correction that
// came too late for the last one.
func (r *Runner) whenOpen(ctx context.Context, x *execution) error {
	if len(x.result.Gates) != 1 || x.result.Gates[0].Name != GateWindow {
		return nil
	}
	in, opens, err := x.in.Workspace.Drift.InWindow(x.run.EndedAt)
	if in || err != nil {
		return nil // the gate has said what is wrong with it
	}
	return r.recheck(ctx, x, opens)
}
