package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/runner/plan"
	"holdfast/runner/shim"
	"holdfast/runner/terraform"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// stepApply is the step from which on an engine may have changed the cloud.
const stepApply = "apply"

// errDetached says that an engine applies on behind its shim although this
// process gave up on it; the run stays as it is, for the next attempt.
var errDetached = errors.New("the engine goes on without this process")

// merged queues the applies of a merged pull request.
func (r *Runner) merged(ctx context.Context, pr vcs.PullRequest, old pullRecord) error {
	next := old
	next.Head, next.State, next.Merge, next.URL, next.Title, next.Author = pr.HeadSHA, pr.State, pr.MergeSHA, pr.URL, pr.Title, pr.Author
	next.Notice, next.Refused, next.Problems = "", false, nil
	next.Workspaces = slices.Clone(old.Workspaces)
	if err := r.fetch(ctx, pr.Repository, ""); err != nil {
		return err
	}
	h, err := r.host(pr.Repository)
	if err != nil {
		return err
	}
	remote, err := h.Remote(ctx, pr.Repository)
	if err != nil {
		return err
	}
	if pr.BaseRef != remote.DefaultBranch {
		next.Notice = fmt.Sprintf("Merged into %s. Only what is on %s is applied.", pr.BaseRef, remote.DefaultBranch)
		return r.settle(ctx, pr, old, next, nil)
	}
	dir, release, err := r.Git.Checkout(ctx, pr.Repository, pr.MergeSHA)
	if err != nil {
		return r.settleProblems(ctx, pr, old, next, content(err))
	}
	defer release()
	c, err := r.config(ctx, pr.Repository, pr.MergeSHA, dir)
	if err != nil {
		return r.settleProblems(ctx, pr, old, next, err)
	}
	if old.Head != pr.HeadSHA || old.MergeBase == "" || old.Base != pr.BaseRef {
		// The last push, or the whole pull request, was never planned, or it was
		// compared with another branch.
		if next.Workspaces, err = r.unplanned(ctx, pr, old, c); err != nil {
			return err
		}
	}
	if c, err = r.reviewedUnder(ctx, pr.Repository, c, cmp.Or(old.Trusted, old.MergeBase)); err != nil {
		return err
	}
	gates, err := r.gatesAt(ctx, h, pr, c)
	if err != nil {
		return err
	}
	for i := range next.Workspaces {
		if err := r.applyFor(ctx, pr, mergedConfig{c, dir, gates}, &next.Workspaces[i]); err != nil {
			return err
		}
	}
	// Queued already: after this only the record and the report are missing,
	// and doing all of it again changes nothing.
	return r.settle(ctx, pr, old, next, nil)
}

// reviewedUnder returns the merge commit's configuration with the policy of the
// commit that the pull request was reviewed under, where that is stricter: what
// a pull request relaxes counts from the next one on. Where trusted is empty
// nothing was reviewed, and no gate lets anything pass.
func (r *Runner) reviewedUnder(ctx context.Context, repo vcs.Repository, c *workspaces.Config, trusted string) (*workspaces.Config, error) {
	if trusted == "" {
		return c, nil
	}
	base, err := r.configAt(ctx, repo, trusted)
	if err != nil && !isProblems(err) {
		return nil, err
	}
	strict := *c // c is shared
	strict.Workspaces = slices.Clone(c.Workspaces)
	strict.TrustOnly(base)
	for i, w := range c.Workspaces {
		strict.Workspaces[i].Apply = w.Apply.Stricter(strict.Workspaces[i].Apply)
		strict.Workspaces[i].Drift = w.Drift
	}
	return &strict, nil
}

// mergedConfig is what the merge commit says, and what holds at the merge.
type mergedConfig struct {
	*workspaces.Config
	dir   string // the commit's files
	gates requirements
}

// applyFor queues the apply of one workspace of a merged pull request.
func (r *Runner) applyFor(ctx context.Context, pr vcs.PullRequest, c mergedConfig, pw *pullWorkspace) error {
	if pw.Deleted {
		return nil
	}
	i := slices.IndexFunc(c.Workspaces, func(w workspaces.Workspace) bool { return w.Name == pw.Name })
	if i < 0 {
		pw.Problem = workspaces.Problems{{Workspace: pw.Name, File: pw.Dir, Message: "The merge commit does not have this workspace any more, so nothing is applied."}}
		return nil
	}
	w := c.Workspaces[i]
	if pw.Problem = problemsOf(c.Config, w.Name); len(pw.Problem) > 0 {
		return nil
	}
	in := runPayload{Workspace: w, Who: pr.Author, Refused: c.gates.unmet(w.Apply.Requires)}
	var err error
	if in.Inputs, err = c.Inputs(c.dir, w); err != nil {
		pw.Problem = workspaces.Problems{{Workspace: w.Name, File: w.Dir, Message: err.Error()}}
		return nil
	}
	result, err := json.Marshal(Result{Reviewed: pw.Plan})
	if err != nil {
		return err
	}
	// An unfinished plan was not reviewed, and nobody needs it now.
	if pw.Plan != "" {
		if err := r.supersede(ctx, pw.Plan, "merged before the plan was finished"); err != nil {
			return err
		}
	}
	run, err := r.newRun(ctx, store.Run{
		Key:  fmt.Sprintf("apply/%s#%d/%s/%s", pr.Repository, pr.Number, w.Name, pr.MergeSHA),
		Kind: store.KindApply, Repository: pr.Repository.String(), PullRequest: pr.Number,
		Commit: pr.MergeSHA, Result: result,
	}, in)
	if err != nil {
		return err
	}
	pw.Apply = run.ID
	if run.State != store.Queued {
		return nil
	}
	if err := r.changeWorkspace(ctx, pr.Repository, w, func(rec *WorkspaceRecord) { rec.State = Pending }); err != nil {
		return err
	}
	return r.enqueueRun(ctx, run, in, queue.PriorityApply)
}

// unplanned returns the workspaces of a merged pull request whose head has no
// plans here: they get applies all the same, which are held.
func (r *Runner) unplanned(ctx context.Context, pr vcs.PullRequest, old pullRecord, c *workspaces.Config) ([]pullWorkspace, error) {
	before := pr.BaseSHA
	if pr.MergeSHA != pr.HeadSHA || before == "" || before == pr.MergeSHA {
		var err error
		if before, err = r.Git.Resolve(ctx, pr.Repository, pr.MergeSHA+"^1"); err != nil {
			return nil, fmt.Errorf("commit before the merge: %w", err)
		}
	}
	changed, err := r.Git.ChangedPaths(ctx, pr.Repository, before, pr.MergeSHA)
	if err != nil {
		return nil, fmt.Errorf("changed files: %w", err)
	}
	base, err := r.configAt(ctx, pr.Repository, before)
	if err != nil && !isProblems(err) {
		return nil, err
	}
	var out []pullWorkspace
	for _, a := range inOrder(c, c.Affected(changed, base)) {
		pw := pullWorkspace{Name: a.Workspace.Name, Dir: a.Workspace.Dir, Because: a.Because, Deleted: a.Deleted}
		for _, o := range old.Workspaces {
			if o.Name == pw.Name {
				pw.Apply = o.Apply // a redelivered event finds its own runs again
				if old.Head == pr.HeadSHA {
					pw.Plan = o.Plan // of that head, whatever it was compared with
				}
			}
		}
		out = append(out, pw)
	}
	return out, nil
}

// apply carries out a merged change of one workspace.
func (r *Runner) apply(ctx context.Context, x *execution) (verdict, error) {
	if x.earlier != stepApply && x.run.State != store.Unknown {
		if v, err := x.outdated(ctx); v != nil || err != nil {
			return deref(v), err
		}
		if x.in.Workspace.Apply.On == "comment" {
			return verdict{store.Held, "This workspace is applied on a comment (apply.on), not on the merge."}, nil
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
		c, why := applyGate(seen, p, x.in.Workspace.Apply)
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
			return nil, queue.Snooze(2 * time.Second)
		}
	}
	return nil, nil
}

// carryOut makes the cloud match the run's commit if gate lets the plan pass:
// it takes the workspace's lock, finds out what an earlier attempt left, plans,
// asks gate (which answers why not), and applies.
func (x *execution) carryOut(ctx context.Context, who string, gate func(*plan.Plan) string) (verdict, error) {
	ctx, lease, err := x.r.Locker.Hold(ctx, lock.Key(workspaceName(x.repo, x.run.Workspace)), lock.Holder{
		ID: "run/" + x.run.ID, Who: who, Why: string(x.run.Kind) + " of " + short(x.run.Commit),
	}, x.r.LeaseTTL)
	if held := (*lock.HeldError)(nil); errors.As(err, &held) {
		x.log.Printf("Waiting: %v\n", held)
		return verdict{}, queue.Snooze(5 * time.Second)
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
	file, err := x.planFile()
	if err != nil {
		return verdict{}, err
	}
	p, no, err := x.makePlan(ctx, m, file, terraform.PlanOptions{LockTimeout: lockTimeout})
	switch {
	case err != nil:
		return verdict{}, err
	case no != nil:
		return *no, nil
	case p.Empty():
		return verdict{state: store.NoChanges}, nil
	}
	if why := gate(p); why != "" {
		return verdict{store.Held, why}, x.keepPlanFile(ctx, file)
	}
	// From here on the cloud may change: who does it must be durable first.
	x.result.Shim = filepath.Join(filepath.Dir(file), "shim-"+fmt.Sprint(x.r.Clock().UnixNano()))
	if err := x.step(ctx, stepApply); err != nil {
		return verdict{}, err
	}
	if err := x.auditApply(ctx); err != nil {
		return verdict{}, err
	}
	err = x.r.changeWorkspace(ctx, x.repo, x.in.Workspace, func(rec *WorkspaceRecord) {
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

// startOver takes back the step: no engine is at work, and what it did, if
// anything, is in the state.
func (x *execution) startOver(ctx context.Context, err error) error {
	x.result.Shim = ""
	return errors.Join(err, x.step(context.WithoutCancel(ctx), "plan"))
}

// interrupted finds out whether the engine has ended by itself, with its state
// saved. If it has, the run is to be planned again from its start; else it stays
// as it is, for the next attempt to find out.
func (x *execution) interrupted(ctx context.Context, err error) error {
	if !errors.Is(context.Cause(ctx), queue.ErrShutdown) {
		return err
	}
	never, aerr := shim.Abandon(x.result.Shim)
	if aerr != nil {
		return errors.Join(errDetached, err, aerr)
	}
	if never {
		return x.startOver(ctx, err)
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if exit, ferr := shim.Follow(wait, x.result.Shim, io.Discard); ferr != nil || exit.Killed() {
		return errors.Join(errDetached, err)
	}
	x.log.Printf("Holdfast is stopping; the engine was interrupted and has saved its state. The rest is applied after the restart.\n")
	return x.startOver(ctx, err)
}

// recover finds out what became of the engine that an earlier attempt started.
// It returns nil where none was, so that the run starts over.
func (x *execution) recover(ctx context.Context) (*verdict, error) {
	if x.run.State != store.Unknown {
		if x.result.Shim == "" {
			return nil, nil
		}
		never, err := shim.Abandon(x.result.Shim)
		if err != nil {
			return nil, fmt.Errorf("ask the shim: %w", err)
		}
		if never {
			x.log.Printf("The engine had not been started; starting over.\n")
			return nil, x.startOver(ctx, nil)
		}
		x.log.Printf("The engine was applying; this is all of its output.\n")
		exit, err := shim.Follow(ctx, x.result.Shim, x.log)
		switch {
		case errors.Is(err, shim.ErrGone), err == nil && exit.Killed():
			return x.vanished(ctx)
		case err != nil:
			return nil, errors.Join(errDetached, err)
		}
		return x.followed(ctx, exit)
	}
	return x.resolve(ctx)
}

// vanished says that nobody knows what the engine did, and finds it out.
func (x *execution) vanished(ctx context.Context) (*verdict, error) {
	x.run.State, x.run.Error = store.Unknown, "The engine's process is gone and left no result. Holdfast plans to find out what was done."
	if err := x.save(ctx); err != nil {
		return nil, err
	}
	if err := x.r.enqueueReport(ctx, x.repo, x.run.PullRequest); err != nil {
		return nil, err
	}
	return x.resolve(ctx)
}

// followed returns the verdict on an engine that ended behind its shim; nil
// where it changed nothing and has to be started again.
func (x *execution) followed(ctx context.Context, exit shim.Exit) (*verdict, error) {
	err := terraform.ApplyError(exit)
	if err == nil {
		return &verdict{state: store.Applied}, nil
	}
	if errors.Is(err, terraform.ErrStalePlan) {
		return nil, x.startOver(ctx, nil)
	}
	text, _ := forPeople(err)
	if text == "" {
		text = err.Error()
	}
	return &verdict{store.Failed, text}, nil
}

// resolve finds out by a plan what an engine that vanished has done. The plan
// waits for the state's own lock, should the engine live on where nobody sees
// it.
func (x *execution) resolve(ctx context.Context) (*verdict, error) {
	m, release, err := x.module(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	file, err := x.planFile()
	if err != nil {
		return nil, err
	}
	p, no, err := x.makePlan(ctx, m, file, terraform.PlanOptions{LockTimeout: "5m"})
	if err != nil {
		return nil, err
	}
	if no != nil {
		x.run.Error = "What the apply did is not known yet, because planning fails: " + no.error
		return nil, errors.Join(x.save(ctx), fmt.Errorf("resolve run %s: %s", x.run.ID, no.error))
	}
	if p.Empty() {
		x.note("The process that applied this was lost; a plan afterwards found nothing left to do.")
		return &verdict{state: store.Applied}, nil
	}
	seen, err := x.r.reviewedBy(ctx, x.result.Reviewed)
	if err != nil {
		return nil, err
	}
	if seen.plan != nil {
		c := plan.Compare(seen.plan, p)
		x.result.Comparison = &c
	}
	return &verdict{store.Held, "The process that applied this was lost on the way. The plan shows what is left to do."}, x.keepPlanFile(ctx, file)
}

// auditApply writes who applies what into the audit trail.
func (x *execution) auditApply(ctx context.Context) error {
	return x.r.audit(ctx, store.Entry{
		ID: x.run.ID + "/apply", Who: x.in.Who, Action: string(x.run.Kind), Repository: x.run.Repository, Workspace: x.run.Workspace, Run: x.run.ID,
		Why: fmt.Sprintf("commit %s, plan %s", short(x.run.Commit), short(x.result.Digest)),
	})
}

// afterApply keeps what is known of the workspace. It may be done twice.
func (r *Runner) afterApply(ctx context.Context, x *execution) error {
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
