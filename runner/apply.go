package runner

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"holdfast/lock"
	"holdfast/runner/plan"
	"holdfast/runner/terraform"
	"holdfast/store"
)

// stepApply is the step from which on an engine may have changed the cloud.
const stepApply = "apply"

// errDetached says that an engine applies on behind its shim although this
// process gave up on it; the run stays as it is, for the next attempt.
var errDetached = errors.New("the engine goes on without this process")

// apply carries out a merged change of one workspace.
func (r *Runner) apply(ctx context.Context, x *execution) (verdict, error) {
	if x.earlier != stepApply && x.run.State != store.Unknown {
		if v, err := x.outdated(ctx); v != nil || err != nil {
			return deref(v), err
		}
		if v, err := x.dependencies(ctx); v != nil || err != nil {
			return deref(v), err
		}
		if err := x.whileHeld(ctx); err != nil {
			return verdict{}, err
		}
		if x.in.Workspace.Apply.On == "comment" && !x.in.Confirmed {
			return verdict{store.Held, "This workspace is applied on a comment (apply.on), not by the merge."}, nil
		}
		if x.in.Refused != "" {
			return verdict{store.Held, x.in.Refused}, nil
		}
	}
	seen, err := r.reviewedBy(ctx, x.result.Reviewed)
	if err != nil {
		return verdict{}, err
	}
	return x.carryOut(ctx, "pull request #"+fmt.Sprint(x.run.PullRequest), func(p *plan.Plan) string {
		c, why := applyGate(seen, p, x.in.Workspace.Apply, x.in.Confirmed)
		x.result.Comparison = c
		return why
	})
}

// reviewedBy returns a run with its plan.
func (r *Runner) reviewedBy(ctx context.Context, id string) (seen reviewed, err error) {
	if id == "" {
		return seen, nil
	}
	if seen.run, err = r.Store.Runs.Get(ctx, id); err != nil && !errors.Is(err, store.ErrNotFound) {
		return seen, err
	}
	seen.plan, err = r.loadPlan(ctx, id)
	return seen, err
}

// outdated keeps merges of one workspace in their order: a merge that a later
// applied commit contains has nothing left to do, and one whose predecessor is
// still to be applied waits.
func (x *execution) outdated(ctx context.Context) (*verdict, error) {
	var rec WorkspaceRecord
	if _, err := x.r.load(ctx, workspaceName(x.repo, x.run.Workspace), &rec); err != nil {
		return nil, err
	}
	if rec.AppliedCommit != "" && rec.AppliedCommit != x.run.Commit {
		in, err := x.r.Git.IsAncestor(ctx, x.repo, x.run.Commit, rec.AppliedCommit)
		if err == nil && in {
			x.note("Commit " + short(rec.AppliedCommit) + ", which contains this merge, is applied already.")
			return &verdict{state: store.NoChanges}, nil
		}
	}
	before, err := x.r.Store.Runs.List(ctx, store.RunFilter{
		Repository: x.run.Repository, Workspace: x.run.Workspace, Kind: store.KindApply,
		States: []store.State{store.Queued, store.Running, store.Unknown},
	})
	if err != nil {
		return nil, err
	}
	for _, b := range before {
		if b.ID == x.run.ID || b.Commit == x.run.Commit {
			continue
		}
		if in, err := x.r.Git.IsAncestor(ctx, x.repo, b.Commit, x.run.Commit); err == nil && in {
			return nil, x.wait(ctx, fmt.Sprintf("waits for the apply of pull request #%d, which was merged before", b.PullRequest), 2*time.Second)
		}
	}
	return nil, nil
}

// dependencies keeps the order of a pull request's applies: what this workspace
// depends on goes first, and where that is not applied this one is held.
func (x *execution) dependencies(ctx context.Context) (*verdict, error) {
	if len(x.in.After) == 0 {
		return nil, nil
	}
	runs, err := x.r.Store.Runs.List(ctx, store.RunFilter{
		Repository: x.run.Repository, PullRequest: x.run.PullRequest, Kind: store.KindApply, Commit: x.run.Commit, Limit: maxApplies,
	})
	if err != nil {
		return nil, err
	}
	for _, name := range x.in.After {
		i := slices.IndexFunc(runs, func(r store.Run) bool { return r.Workspace == name }) // the newest
		if i < 0 {
			continue // not a part of this merge, or gone from it
		}
		switch runs[i].State {
		case store.Applied, store.NoChanges:
		case store.Queued, store.Running, store.Unknown:
			return nil, x.wait(ctx, "waits for "+name+", which it depends on", time.Second)
		default:
			return &verdict{store.Held, fmt.Sprintf("It depends on %s, whose apply is %s, so nothing was applied here.", name, runs[i].State)}, nil
		}
	}
	return nil, nil
}

// maxApplies bounds the applies of one merge that are looked at.
const maxApplies = 10_000

// carryOut makes the cloud match the run's commit if gate lets the plan pass:
// it takes the workspace's lock, finds out what an earlier attempt left, plans,
// asks gate (which answers why not), and applies.
func (x *execution) carryOut(ctx context.Context, who string, gate func(*plan.Plan) string) (verdict, error) {
	ctx, lease, err := x.r.Locker.Hold(ctx, lock.Key(workspaceName(x.repo, x.run.Workspace)), lock.Holder{
		ID: "run/" + x.run.ID, Who: who, Why: string(x.run.Kind) + " of " + short(x.run.Commit),
	}, x.r.LeaseTTL)
	if held := (*lock.HeldError)(nil); errors.As(err, &held) {
		return verdict{}, x.wait(ctx, fmt.Sprintf("waits for %s, which has the workspace's lock (%s)", held.Lease.Holder.Who, held.Lease.Holder.Why), 5*time.Second)
	}
	if err != nil {
		return verdict{}, err
	}
	defer func() { _ = lease.Release(context.WithoutCancel(ctx)) }()
	if x.earlier == stepApply || x.run.State == store.Unknown {
		if v, err := x.recover(ctx); v != nil || err != nil {
			return deref(v), err
		}
	}
	m, release, err := x.module(ctx)
	if err != nil {
		return verdict{}, err
	}
	defer release()
	for range 3 {
		v, err := x.planAndApply(ctx, m, lease, gate)
		if !errors.Is(err, terraform.ErrStalePlan) {
			return v, err
		}
		x.log.Printf("The state moved between plan and apply; planning again.\n")
	}
	return verdict{store.Held, "The state was changed by somebody else each time between plan and apply."}, nil
}

// planAndApply plans, asks gate, and applies that very plan file.
func (x *execution) planAndApply(ctx context.Context, m terraform.Module, lease *lock.Held, gate func(*plan.Plan) string) (verdict, error) {
	p, file, done, err := x.anyChanges(ctx, m)
	if done != nil || err != nil {
		return deref(done), err
	}
	if why := gate(p); why != "" {
		return verdict{store.Held, why}, x.keepPlanFile(ctx, file)
	}
	return x.applyFile(ctx, m, lease, file)
}

// applyFile applies a plan file that passed the gate. From here on the cloud
// may change: that must be durable before the engine starts.
func (x *execution) applyFile(ctx context.Context, m terraform.Module, lease *lock.Held, file string) (verdict, error) {
	x.result.Shim = filepath.Join(filepath.Dir(file), "shim-"+fmt.Sprint(x.r.Clock().UnixNano()))
	if err := x.step(ctx, stepApply); err != nil {
		return verdict{}, err
	}
	if err := x.auditApply(ctx); err != nil {
		return verdict{}, err
	}
	if x.run.PullRequest != 0 {
		if err := x.r.enqueueReport(ctx, x.repo, x.run.PullRequest); err != nil {
			return verdict{}, err
		}
	}
	err := x.r.changeWorkspace(ctx, x.repo, x.in.Workspace, func(rec *WorkspaceRecord) {
		rec.State = Applying
		if x.run.Kind == store.KindApply {
			rec.Unfinished = x.run.Commit
		}
	})
	if err == nil {
		err = lease.Check(ctx)
	}
	if err != nil {
		return verdict{}, x.startOver(ctx, err)
	}
	err = x.r.Engines.Apply(ctx, m, file, x.result.Shim)
	if err == nil {
		return verdict{state: store.Applied}, nil
	}
	if errors.Is(err, terraform.ErrStalePlan) {
		return verdict{}, x.startOver(ctx, err)
	}
	if ctx.Err() != nil {
		return verdict{}, x.interrupted(ctx, err)
	}
	if errors.Is(err, terraform.ErrKilled) {
		v, err := x.vanished(ctx)
		return deref(v), err
	}
	if v := failure(ctx, err); v != nil {
		return *v, nil
	}
	return verdict{}, err
}

// auditApply writes who applies what into the audit trail.
func (x *execution) auditApply(ctx context.Context) error {
	return x.r.audit(ctx, store.Entry{
		ID: x.run.ID + "/apply", Who: x.in.Who, Action: string(x.run.Kind), Repository: x.run.Repository, Workspace: x.run.Workspace, Run: x.run.ID,
		Why: fmt.Sprintf("commit %s, plan %s", short(x.run.Commit), short(x.result.Digest)),
	})
}

// afterApply keeps what is known of the workspace, and has the plans that it
// made stale made again. It may be done twice.
func (r *Runner) afterApply(ctx context.Context, x *execution) error {
	if x.run.State == store.Applied {
		if err := r.staleAfter(ctx, x.repo, x.run); err != nil {
			return err
		}
	}
	return r.changeWorkspace(ctx, x.repo, x.in.Workspace, func(rec *WorkspaceRecord) {
		if rec.AppliedAt.After(x.run.EndedAt) {
			return // a retry, after a later apply: its news are old
		}
		rec.Error = ""
		switch x.run.State {
		case store.Applied, store.NoChanges:
			rec.State = InSync
			if contained := len(x.result.Engine) == 0; contained {
				return // a later commit is applied already; see outdated
			}
			rec.AppliedCommit, rec.AppliedInputs, rec.AppliedAt = x.run.Commit, x.run.Inputs, x.run.EndedAt
			rec.Class, rec.Unfinished = "", ""
			rec.KeptState = rec.KeptState || exists(x.keptState())
		case store.Held:
			rec.State, rec.Error = Held, x.run.Error
		case store.Unknown:
			rec.State, rec.Error = Unknown, x.run.Error
		default:
			rec.State, rec.Error = Pending, x.run.Error
		}
	})
}

func deref(v *verdict) verdict {
	if v == nil {
		return verdict{}
	}
	return *v
}
