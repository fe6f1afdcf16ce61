package runner

import (
	"cmp"
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
		if v, err := x.mayBegin(ctx); v != nil || err != nil {
			return deref(v), err
		}
	}
	seen, err := r.reviewedBy(ctx, x.result.Reviewed)
	if err != nil {
		return verdict{}, err
	}
	who := fmt.Sprintf("pull request #%d", x.run.PullRequest)
	if x.in.Pushed {
		who = "the push of " + short(x.run.Commit)
	}
	return x.carryOut(ctx, who, seen, func(p *plan.Plan) string {
		if x.in.Pushed && x.in.Workspace.Apply.OnPush {
			return ""
		}
		c, why := applyGate(seen, p, x.in.Workspace.Apply, x.in.Confirmed)
		x.result.Comparison = c
		if why != "" && c != nil {
			why += fmt.Sprintf(" The reviewed plan is %s, today's is %s; what differs is shown with them.", short(seen.plan.Digest(r.DigestKey)), short(x.result.Digest))
		}
		if why == "" && x.in.Workspace.Apply.On == "comment" && !x.in.Confirmed && !x.in.Destroy {
			why = "This workspace is applied on a comment (apply.on), not by the merge."
		}
		if why == "" && x.in.Destroy && !x.in.Confirmed {
			why = "Its root module is gone from the default branch, and this plan destroys what it made. Nothing is destroyed unless somebody asks for it."
		}
		return why
	})
}

// mayBegin asks all that can keep an apply from beginning: nil where nothing
// does, a verdict where a person has to act, a snooze where it has to wait. The
// workspace is taken early, so that it is kept while the apply waits.
func (x *execution) mayBegin(ctx context.Context) (*verdict, error) {
	for _, ask := range []func(context.Context) (*verdict, error){
		x.outdated, wait(x.own), x.branchStands, x.appliedEarly, x.madeAgain, x.dependencies, wait(x.whileHeld), x.required,
	} {
		if v, err := ask(ctx); v != nil || err != nil {
			return v, err
		}
	}
	return nil, nil
}

// wait makes a question without a verdict one of mayBegin's.
func wait(ask func(context.Context) error) func(context.Context) (*verdict, error) {
	return func(ctx context.Context) (*verdict, error) { return nil, ask(ctx) }
}

// appliedEarly ends the apply of a merge whose content was applied before it.
func (x *execution) appliedEarly(ctx context.Context) (*verdict, error) {
	if x.in.Workspace.Apply.On != "comment" || x.in.Early || x.in.Destroy {
		return nil, nil
	}
	var rec WorkspaceRecord
	if _, err := x.r.load(ctx, workspaceName(x.repo, x.run.Workspace), &rec); err != nil {
		return nil, err
	}
	if rec.AppliedInputs == "" || rec.AppliedInputs != x.run.Inputs || rec.Unfinished != "" {
		return nil, nil
	}
	x.note("Applied before the merge, at commit " + short(rec.AppliedCommit) + ".")
	return &verdict{state: store.NoChanges}, nil
}

// madeAgain ends the destruction of a root module that is there again.
func (x *execution) madeAgain(ctx context.Context) (*verdict, error) {
	if !x.in.Destroy {
		return nil, nil
	}
	var known repositoryRecord
	if _, err := x.r.load(ctx, "repository/"+x.repo.String(), &known); err != nil {
		return nil, err
	}
	again := slices.ContainsFunc(known.Workspaces, func(w knownWorkspace) bool {
		return w.Name == x.run.Workspace || w.Dir == x.in.Workspace.Dir && w.Workspace.Workspace == x.in.Workspace.Workspace
	})
	if in, err := x.r.Git.IsAncestor(ctx, x.repo, x.run.Commit, known.SHA); err != nil || !in || !again {
		return nil, nil // also while the default branch is not known as far as this merge
	}
	x.note("The default branch has this root module again, so nothing is destroyed.")
	x.result.Contained = true
	return &verdict{state: store.NoChanges}, nil
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
			x.result.Contained = true
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
			why := fmt.Sprintf("waits for the apply of pull request #%d, which was merged before", b.PullRequest)
			if b.PullRequest == x.run.PullRequest {
				why = "waits for the apply of commit " + short(b.Commit) + ", which has not ended"
			}
			return nil, x.wait(ctx, why, 2*time.Second)
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
			if v, err := x.notYet(ctx, name); v != nil || err != nil {
				return v, err
			}
			continue // not a part of this merge, or gone from it
		}
		switch runs[i].State {
		case store.NoChanges:
		case store.Applied:
			x.moved = true
		case store.Queued, store.Running, store.Unknown:
			return nil, x.wait(ctx, "waits for "+name+", which it depends on", time.Second)
		default:
			return &verdict{store.Held, fmt.Sprintf("It depends on %s, whose apply is %s, so nothing was applied here.", name, runs[i].State)}, nil
		}
	}
	return nil, nil
}

// notYet holds an apply before the merge while something that it depends on has
// a plan in the same pull request that is not applied.
func (x *execution) notYet(ctx context.Context, name string) (*verdict, error) {
	if !x.in.Early {
		return nil, nil
	}
	var rec pullRecord
	if _, err := x.r.load(ctx, pullName(x.repo, x.run.PullRequest), &rec); err != nil {
		return nil, err
	}
	on := rec.workspace(name)
	if on.Plan == "" {
		return nil, nil
	}
	run, err := x.r.Store.Runs.Get(ctx, cmp.Or(on.Apply, on.Plan)) // an apply of an earlier head, with the same inputs
	if err != nil || run.State == store.NoChanges {
		return nil, err
	}
	switch run.State {
	case store.Applied:
		x.moved = true
		return nil, nil
	case store.Running, store.Unknown:
		if run.Kind == store.KindApply {
			return nil, x.wait(ctx, "waits for "+name+", which it depends on", time.Second)
		}
	}
	how := "Comment `holdfast apply -w " + plainWord(name) + "` first."
	if on.On != "comment" {
		how = "The merge applies that one."
	}
	return &verdict{store.Held, fmt.Sprintf("It depends on %s, which is not applied yet. %s", name, how)}, nil
}

// maxApplies bounds the applies of one merge that are looked at.
const maxApplies = 10_000

// carryOut makes the cloud match the run's commit if gate lets the plan pass:
// it takes the workspace's lock, finds out what an earlier attempt left, plans
// unless the plan that was seen still stands, asks gate (which answers why not),
// and applies.
func (x *execution) carryOut(ctx context.Context, who string, seen reviewed, gate func(*plan.Plan) string) (verdict, error) {
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
		if x.result.Canceled {
			return canceledByPerson, nil
		}
	}
	m, release, err := x.module(ctx)
	if err != nil {
		return verdict{}, err
	}
	defer release()
	p, file, err := x.savedPlan(ctx, m, seen)
	if err != nil {
		return verdict{}, err
	}
	for range 4 {
		if p == nil {
			var done *verdict
			x.result.Saved = false
			if p, file, done, err = x.anyChanges(ctx, m); done != nil || err != nil {
				return deref(done), err
			}
		}
		if why := gate(p); why != "" {
			return verdict{store.Held, why}, x.keepHeld(ctx, m, file)
		}
		v, err := x.applyFile(ctx, m, lease, file)
		if !errors.Is(err, terraform.ErrStalePlan) {
			return v, err
		}
		x.log.Printf("The engine does not take this plan any more: the state has moved on since it was made, or the engine is another one. Planning again.\n")
		p = nil
	}
	return verdict{store.Held, "The state was changed by somebody else each time between plan and apply."}, nil
}

// keepHeld keeps the plan of an apply that is held, for the person who lets it
// go on.
func (x *execution) keepHeld(ctx context.Context, m terraform.Module, file string) error {
	if err := x.lookForLeftovers(ctx, m); err != nil {
		return err
	}
	return x.keepPlanFile(ctx, file)
}

// applyFile applies a plan file that passed the gate. From here on the cloud
// may change: that must be durable before the engine starts.
func (x *execution) applyFile(ctx context.Context, m terraform.Module, lease *lock.Held, file string) (verdict, error) {
	x.result.Shim, x.result.ShimNode = filepath.Join(filepath.Dir(file), "shim-"+fmt.Sprint(x.r.Clock().UnixNano())), x.r.Node
	if err := x.step(ctx, stepApply); err != nil {
		return verdict{}, err
	}
	if err := x.auditApply(ctx); err != nil {
		return verdict{}, err
	}
	if err := x.r.reportOf(ctx, x.repo, x.run); err != nil {
		return verdict{}, err
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
	if err == nil {
		err = x.endure(ctx, lease)
	}
	if err != nil {
		return verdict{}, x.startOver(ctx, err)
	}
	applying, done := x.untilGivenUp(ctx)
	err = x.r.Engines.Apply(applying, m, file, x.result.Shim)
	done()
	if err == nil {
		return verdict{state: store.Applied}, nil
	}
	if errors.Is(err, terraform.ErrStalePlan) {
		return verdict{}, x.startOver(ctx, err)
	}
	if locked := (*terraform.StateLockedError)(nil); errors.As(err, &locked) {
		if err := x.startOver(ctx, nil); err != nil {
			return verdict{}, err
		}
		return verdict{}, x.waitForState(ctx, locked)
	}
	if ctx.Err() != nil {
		return x.interrupted(ctx, err)
	}
	if errors.Is(err, terraform.ErrKilled) {
		v, err := x.vanished(ctx)
		return deref(v), err
	}
	if v := failure(ctx, err); v != nil {
		return *v, x.account(ctx)
	}
	return verdict{}, err
}

// account keeps what a failed apply completed, for people.
func (x *execution) account(ctx context.Context) error {
	x.log.Close()
	var text []byte
	err := x.untilAnswered(ctx, func() (err error) {
		text, err = x.r.Store.Artifacts.Get(ctx, logKey(x.run.ID))
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read the log of run %s: %w", x.run.ID, err)
	}
	x.result.Done = nil
	for _, step := range terraform.Done(text) {
		if !step.Failed {
			x.result.Done = append(x.result.Done, step.Address)
		}
	}
	return nil
}

// auditApply writes who applies what into the audit trail.
func (x *execution) auditApply(ctx context.Context) error {
	return x.r.audit(ctx, store.Entry{
		ID: x.run.ID + "/apply", Who: x.in.Who, Action: string(x.run.Kind), Repository: x.run.Repository, Workspace: x.run.Workspace, Run: x.run.ID,
		Why: fmt.Sprintf("commit %s, plan %s", short(x.run.Commit), short(x.result.Digest)),
	})
}

// afterApply keeps what is known of the workspace, gives it back, and has the
// plans that it made stale made again. It may be done twice.
func (r *Runner) afterApply(ctx context.Context, x *execution) error {
	if x.run.State == store.Applied {
		if err := r.staleAfter(ctx, x.repo, x.run); err != nil {
			return err
		}
	}
	done := x.run.State == store.Applied || x.run.State == store.NoChanges
	var err error
	if x.in.Destroy && done && !x.result.Contained {
		err = r.Store.Records.Delete(ctx, workspaceName(x.repo, x.run.Workspace))
	} else if x.run.State != store.Superseded {
		err = r.knownAfter(ctx, x)
	}
	if err != nil {
		return err
	}
	if done && !x.result.Contained {
		if err := r.driftApplied(ctx, x); err != nil {
			return err
		}
	}
	if x.in.Early {
		return r.afterEarly(ctx, x)
	}
	if done {
		_, err = r.disown(ctx, x.repo, x.run.Workspace, x.run.PullRequest)
	}
	return err
}

// knownAfter keeps what is known of the workspace after an apply.
func (r *Runner) knownAfter(ctx context.Context, x *execution) error {
	return r.changeWorkspace(ctx, x.repo, x.in.Workspace, func(rec *WorkspaceRecord) {
		if rec.AppliedAt.After(x.run.EndedAt) {
			return // a retry, after a later apply: its news are old
		}
		if x.in.Early && x.run.State != store.Applied && x.run.State != store.NoChanges && rec.Unfinished != x.run.Commit {
			return // nothing was merged, and nothing was done
		}
		rec.Error = ""
		switch x.run.State {
		case store.Applied, store.NoChanges:
			rec.State = InSync
			if x.result.Contained {
				return
			}
			rec.AppliedCommit, rec.AppliedInputs, rec.AppliedAt = x.run.Commit, x.run.Inputs, x.run.EndedAt
			rec.AppliedEarly = x.in.Early
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
