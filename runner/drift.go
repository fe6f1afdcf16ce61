package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/queue"
	"holdfast/runner/plan"
	"holdfast/runner/terraform"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/watch"
)

// checkLimit bounds one check: a cloud that does not answer costs its own
// workspace, and no more than this.
const checkLimit = time.Hour

// maxReported bounds the resources that are kept of one check; the plan has all.
const maxReported = 500

var errSlowCheck = errors.New("the check took more than an hour")

// drift plans what was applied last and classifies what it finds.
func (r *Runner) drift(ctx context.Context, x *execution) (verdict, error) {
	if v, err := x.overtaken(ctx); v != nil || err != nil {
		return deref(v), err
	}
	if v, err := x.current(ctx); v != nil || err != nil {
		return deref(v), err
	}
	return x.inTime(ctx, x.check)
}

// inTime does a check, and ends it where it takes too long.
func (x *execution) inTime(ctx context.Context, check func(context.Context) (verdict, error)) (verdict, error) {
	limited, cancel := context.WithTimeoutCause(ctx, checkLimit, errSlowCheck)
	defer cancel()
	v, err := check(limited)
	if err != nil && ctx.Err() == nil && errors.Is(context.Cause(limited), errSlowCheck) {
		x.result.Drift = &plan.DriftReport{Class: plan.CheckError}
		return verdict{store.Failed, "The check took more than an hour and was interrupted. Its log says what it waited for."}, nil
	}
	return v, err
}

// check is drift, within its time.
func (x *execution) check(ctx context.Context) (verdict, error) {
	m, release, err := x.driftModule(ctx)
	if err != nil {
		return x.checkFailed(ctx, err)
	}
	defer release()
	p, _, no, err := x.makePlan(ctx, m, terraform.PlanOptions{LockTimeout: lockTimeout, RefreshOnly: x.result.RefreshOnly})
	if err != nil {
		return verdict{}, err
	}
	if no != nil {
		x.result.Drift = &plan.DriftReport{Class: plan.CheckError}
		return *no, nil
	}
	report := p.DriftReport(!x.in.Unapplied)
	if x.result.RefreshOnly {
		report.Class = plan.UnappliedCommit
	}
	if report.Class == plan.CloudChange {
		if err := x.doubt(ctx, &report); err != nil {
			return verdict{}, err
		}
	}
	rules, err := x.r.ignores(ctx, x.repo, x.in.Workspace)
	if err != nil {
		return verdict{}, err
	}
	now := x.r.Clock()
	report = report.Without(covers(rules, now))
	for _, s := range endedRules(rules, report, now) {
		x.note(s)
	}
	x.result.DriftDigest = report.Digest(x.r.DigestKey)
	x.behind(&report)
	first := report.First(maxReported)
	x.result.Drift = &first
	switch {
	case report.Reason != "":
		return verdict{store.Failed, report.Reason}, nil
	case report.Class == plan.CheckError:
		return verdict{store.Failed, "The plan is not complete, so nobody knows what drifted."}, nil
	case report.Class == plan.InSync:
		return verdict{state: store.NoChanges}, nil
	}
	return verdict{state: store.Planned}, nil
}

// behind keeps a workspace pending in which nothing drifted while a commit is
// not applied.
func (x *execution) behind(report *plan.DriftReport) {
	if stateOf(report.Class) == InSync && x.in.Pending {
		report.Class, x.result.Clean = plan.UnappliedCommit, true
	}
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

// current takes the workspace's policy, and whether it has a commit that is not
// applied, from the default branch as it is known now: a run may have waited
// for days. It ends one of a workspace that is not there any more.
func (x *execution) current(ctx context.Context) (*verdict, error) {
	var known repositoryRecord
	if _, err := x.r.load(ctx, "repository/"+x.repo.String(), &known); err != nil || known.unread() {
		return nil, err
	}
	i := slices.IndexFunc(known.Workspaces, func(w knownWorkspace) bool { return w.Name == x.run.Workspace })
	if i < 0 {
		return &verdict{store.Superseded, "The workspace is not in the configuration any more."}, nil
	}
	w := known.Workspaces[i]
	x.in.Workspace.Apply, x.in.Workspace.Drift = w.Apply, w.Drift
	if x.in.Unapplied || w.Problem != "" {
		return nil, nil
	}
	var rec WorkspaceRecord
	if _, err := x.r.load(ctx, workspaceName(x.repo, x.run.Workspace), &rec); err != nil {
		return nil, err
	}
	x.in.Pending = w.Inputs != x.run.Inputs && (rec.AppliedEarly || x.r.isPending(ctx, x.repo, known.described(), rec.AppliedCommit))
	return nil, nil
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
	if x.in.Elsewhere {
		c, err := x.r.configAt(ctx, x.repo, x.run.Commit)
		if err != nil && x.in.Head != "" && x.isGone(ctx) {
			return x.headModule(ctx)
		}
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

// isGone reports whether the mirror lacks the run's commit after a fetch:
// somebody pushed it away.
func (x *execution) isGone(ctx context.Context) bool {
	if err := x.r.fetch(ctx, x.repo, ""); err != nil {
		return false
	}
	_, err := x.r.Git.Resolve(ctx, x.repo, x.run.Commit)
	return err != nil && ctx.Err() == nil
}

// headModule is the root module at the default branch's head, for a check of
// which the applied commit is gone: only what the state has can be compared
// with the cloud then.
func (x *execution) headModule(ctx context.Context) (terraform.Module, func(), error) {
	x.note("Commit " + short(x.run.Commit) + ", which was applied last, is not in the repository any more. Only what the state has was compared with the cloud.")
	x.result.RefreshOnly = true
	x.in.At = x.in.Head
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

// afterDrift keeps what the check found, lets people know, and queues the
// correction where the team wants one. It may be done twice.
func (r *Runner) afterDrift(ctx context.Context, x *execution) error {
	if x.run.State == store.Superseded || x.run.State == store.Canceled {
		return nil // it found nothing out
	}
	if gone, err := x.current(ctx); gone != nil || err != nil {
		return err
	}
	report := plan.DriftReport{Class: plan.CheckError}
	if x.result.Drift != nil && x.run.State != store.Failed {
		report = *x.result.Drift
	}
	known, before, err := r.knownAfterCheck(ctx, x, report)
	if err != nil || !known.CheckedAt.Equal(x.run.EndedAt) || known.AppliedAt.After(x.run.EndedAt) {
		return err // a retry, after later news
	}
	if !known.RetryAt.IsZero() {
		select {
		case r.failed <- failedCheck{x.repo, x.run.Workspace, known.RetryAt}:
		default: // the scheduler finds it with its next look at everything
		}
	}
	r.Logger.Info("drift checked", "run", x.run.ID, "repository", x.run.Repository, "workspace", x.run.Workspace, "class", report.Class, "error", x.run.Error)
	drift, err := r.driftAfterCheck(ctx, x, report, before)
	if err != nil {
		return err
	}
	if drift.Now == nil || drift.Now.Run != x.run.ID {
		return r.shown(ctx, x.repo, drift) // in sync, or a later check knows better
	}
	if known.State == Held || known.State == Applying {
		drift, err = r.blocked(ctx, x, []Gate{{GatePulls, "A merged commit of this workspace is not applied yet: what becomes of it is decided first."}})
	} else {
		drift, err = r.resolveDrift(ctx, x, report, drift)
	}
	if err == nil {
		err = r.outdated(ctx, x, report, drift)
	}
	if err == nil {
		err = r.attribute(ctx, x.repo, drift)
	}
	if err != nil {
		return err
	}
	return r.shown(ctx, x.repo, drift)
}

// driftApplied ends the drift that an apply has put right, or taken over.
func (r *Runner) driftApplied(ctx context.Context, x *execution) error {
	var known DriftRecord
	if _, err := r.load(ctx, driftName(x.repo, x.run.Workspace), &known); err != nil || known.Now == nil {
		return err
	}
	drift, err := r.changeDrift(ctx, x.repo, x.run.Workspace, func(rec *DriftRecord) {
		if x.run.EndedAt.After(rec.Seen) {
			rec.Seen = x.run.EndedAt
			rec.settle(x.run.EndedAt, "It ended when commit "+short(x.run.Commit)+" was applied.")
		}
	})
	if err != nil {
		return err
	}
	return r.shown(ctx, x.repo, drift)
}

// retries of a check that failed: the first after retryCheck, each next one
// after twice the time, maxRetries of them; then the schedule's next slot.
const (
	retryCheck = 5 * time.Minute
	maxRetries = 5
)

// knownAfterCheck takes a check into what is known of the workspace, which it
// returns, with the time of the check that last found it in sync before.
func (r *Runner) knownAfterCheck(ctx context.Context, x *execution, report plan.DriftReport) (known WorkspaceRecord, before time.Time, err error) {
	err = r.changeWorkspace(ctx, x.repo, x.in.Workspace, func(rec *WorkspaceRecord) {
		defer func() { known = *rec }()
		rec.inTime(x.run.EndedAt, r.Clock())
		before = rec.SyncedAt
		if rec.AppliedAt.After(x.run.EndedAt) || rec.CheckedAt.After(x.run.EndedAt) {
			return // a retry, after later ones: its news are old
		}
		first := rec.CheckedAt.Before(x.run.EndedAt)
		rec.CheckedAt, rec.Class, rec.Checks = x.run.EndedAt, string(report.Class), len(report.Checks)
		if report.Class == plan.CheckError {
			if first {
				rec.fail(x.run.EndedAt)
			}
		} else {
			rec.GoodAt, rec.Failures, rec.RetryAt, rec.Overdue = x.run.EndedAt, 0, time.Time{}, false
		}
		if stateOf(report.Class) == InSync {
			rec.SyncedAt = x.run.EndedAt
		}
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
	return known, before, err
}

// maxSkew is how far the clocks of machines may differ. A time beyond it in the
// future was written by a clock that was wrong, and is no news.
const maxSkew = time.Hour

// inTime takes back times that lie in the future: what ended at a time would
// never be news again.
func (w *WorkspaceRecord) inTime(ended, now time.Time) {
	for _, t := range []*time.Time{&w.AppliedAt, &w.CheckedAt, &w.GoodAt, &w.SyncedAt, &w.KnownAt, &w.Slot} {
		if t.After(now.Add(maxSkew)) {
			*t = ended.Add(-time.Second)
		}
	}
}

// fail counts a failed check, and says when it is tried again.
func (w *WorkspaceRecord) fail(at time.Time) {
	w.Failures++
	w.RetryAt = time.Time{}
	if w.Failures <= maxRetries {
		w.RetryAt = at.Add(retryCheck << (w.Failures - 1))
	}
}

// driftAfterCheck takes a check into what is known of the workspace's drift.
func (r *Runner) driftAfterCheck(ctx context.Context, x *execution, report plan.DriftReport, before time.Time) (DriftRecord, error) {
	var known DriftRecord
	version, err := r.load(ctx, driftName(x.repo, x.run.Workspace), &known)
	if err != nil || version == 0 && stateOf(report.Class) == InSync {
		return known, err // there is nothing to remember of most workspaces
	}
	return r.changeDrift(ctx, x.repo, x.run.Workspace, func(rec *DriftRecord) {
		if rec.Seen.After(r.Clock().Add(maxSkew)) {
			rec.Seen = time.Time{} // written by a clock that was wrong
		}
		if report.Class == plan.CheckError && x.run.EndedAt.After(rec.Seen) {
			rec.Seen = x.run.EndedAt
			if !rec.Failing {
				rec.tell(watch.Event{Kind: "failed", Run: x.run.ID, At: x.run.EndedAt, Summary: "The drift check failed: " + firstLine(x.run.Error)}, report)
			}
			rec.Failing = true
			return
		}
		rec.Failing = rec.Failing && report.Class == plan.CheckError
		rec.observe(x.run, x.result, report, before)
	})
}

// resolveDrift queues what the team wants done about drift in the cloud, or
// notes what keeps it from being done. It returns the drift as it is then.
func (r *Runner) resolveDrift(ctx context.Context, x *execution, report plan.DriftReport, drift DriftRecord) (DriftRecord, error) {
	if report.Class != plan.CloudChange {
		return drift, nil
	}
	switch x.in.Workspace.Drift.Correct {
	case "propose":
		return r.startProposal(ctx, x, report, drift)
	case "apply":
	default:
		return drift, nil
	}
	if n := len(drift.Corrections); n > 0 && drift.Corrections[n-1].At.After(x.run.EndedAt) {
		return drift, nil // a retry: what this check found was corrected, and is being checked
	}
	p, err := r.loadPlan(ctx, x.run.ID)
	if err != nil || p == nil {
		return drift, err
	}
	gates, opens, err := x.gatesOf(ctx, p, report)
	if err != nil {
		return drift, err
	}
	if len(gates) == 0 {
		return drift, r.startCorrect(ctx, x, report)
	}
	if drift, err = r.blocked(ctx, x, gates); err != nil || opens.IsZero() {
		return drift, err
	}
	// Only the time is not right: a check when the window opens decides again.
	return drift, r.recheck(ctx, x, opens)
}

// blocked notes what keeps the drift that a check found from being corrected.
func (r *Runner) blocked(ctx context.Context, x *execution, gates []Gate) (DriftRecord, error) {
	return r.changeDrift(ctx, x.repo, x.run.Workspace, func(rec *DriftRecord) {
		if rec.Now == nil || rec.Now.Run != x.run.ID {
			return
		}
		rec.Now.Blocked = gates
		if rec.Contested.IsZero() && slices.ContainsFunc(gates, func(g Gate) bool { return g.Name == GateFlap }) {
			rec.Contested = x.run.EndedAt
			rec.tell(watch.Event{Kind: "contested", Run: x.run.ID, At: x.run.EndedAt, Class: string(rec.Now.Class), Summary: why(gates)}, plan.DriftReport{Resources: rec.Now.Resources})
		}
	})
}

// recheck queues another check of what x checked or was to correct, for when a
// window opens: one, however often it is asked for.
func (r *Runner) recheck(ctx context.Context, x *execution, opens time.Time) error {
	in := x.in
	in.Targets = nil
	run, err := r.newRun(ctx, store.Run{
		Key: fmt.Sprintf("drift/%s/%s/window/%s", x.repo, x.run.Workspace, opens.UTC().Format(time.RFC3339)), Kind: store.KindDrift,
		Repository: x.run.Repository, Commit: x.run.Commit,
	}, in)
	if err != nil || run.State.Ended() {
		return err
	}
	return r.enqueueRuns(ctx, plannedRun{run: run, in: in, priority: queue.PriorityDrift, at: opens})
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
// makes it one run however often it is asked for. It is made at a time, or at
// once where that is zero.
func (r *Runner) startDrift(ctx context.Context, repo Repository, w knownWorkspace, head, slot string, at time.Time) (store.Run, error) {
	var rec WorkspaceRecord
	if _, err := r.load(ctx, workspaceName(repo.Repository, w.Name), &rec); err != nil {
		return store.Run{}, err
	}
	run := store.Run{
		Key:  fmt.Sprintf("drift/%s/%s/%s", repo.Repository, w.Name, slot),
		Kind: store.KindDrift, Repository: repo.String(), Commit: head,
	}
	in := runPayload{Workspace: w.Workspace, Inputs: w.Inputs, Head: head}
	switch rec.AppliedInputs {
	case "":
		in.Unapplied = true
	case w.Inputs: // the head is what was applied
	default:
		run.Commit, in.Inputs, in.Elsewhere = rec.AppliedCommit, rec.AppliedInputs, true
		in.Pending = rec.AppliedEarly || r.isPending(ctx, repo.Repository, head, rec.AppliedCommit)
	}
	run, err := r.newRun(ctx, run, in)
	if err != nil || run.State.Ended() {
		return run, err
	}
	if err := r.enqueueRuns(ctx, plannedRun{run: run, in: in, priority: queue.PriorityDrift, at: at}); err != nil {
		return run, err
	}
	return run, r.changeWorkspace(ctx, repo.Repository, w.Workspace, func(rec *WorkspaceRecord) { rec.CheckRun = run.ID })
}

// isPending reports whether the default branch, as it is known, has something
// that is not applied. What is known may be older than the applied commit, for
// the moment between an apply and the next look at the branch.
func (r *Runner) isPending(ctx context.Context, repo vcs.Repository, head, applied string) bool {
	older, err := r.Git.IsAncestor(ctx, repo, head, applied)
	return err != nil || !older
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
