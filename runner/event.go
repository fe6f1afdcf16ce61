package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// handleEvent turns what a webhook or a poll said into runs. The event is only
// a hint: what counts is what the host says now, so that events may come
// twice, late or in any order.
func (r *Runner) handleEvent(ctx context.Context, job queue.Job) error {
	var e vcs.Event
	if err := json.Unmarshal(job.Payload, &e); err != nil {
		return queue.Discard(fmt.Errorf("read payload: %w", err))
	}
	switch e.Kind {
	case vcs.EventPullRequest:
		return r.pullRequest(ctx, e.Repository, e.Number, command{})
	case vcs.EventPush:
		return r.pushed(ctx, e)
	case vcs.EventComment:
		if e.Ticket != 0 {
			return r.ticketCommented(ctx, e)
		}
		return r.commented(ctx, e)
	case vcs.EventTicket:
		return r.ticketChanged(ctx, e)
	case vcs.EventMergeGroup:
		return r.mergeGroup(ctx, e)
	case vcs.EventRerun:
		return r.rerun(ctx, e)
	case eventCheck:
		return r.checkWanted(ctx, e, job)
	case eventReplan:
		return r.replan(ctx, e)
	case eventApplied:
		return r.pullRequest(ctx, e.Repository, e.Number, command{})
	}
	return nil
}

// pushed handles a branch that moved. Branches of pull requests have events
// of their own.
func (r *Runner) pushed(ctx context.Context, e vcs.Event) error {
	h, err := r.host(e.Repository)
	if err != nil {
		return err
	}
	remote, err := h.Remote(ctx, e.Repository)
	if errors.Is(err, vcs.ErrNotFound) {
		return queue.Discard(fmt.Errorf("%s: %w", e.Repository, err))
	}
	if err != nil {
		return rateLimited(r.Clock(), err)
	}
	if e.Branch != remote.DefaultBranch {
		return nil
	}
	return rateLimited(r.Clock(), r.refresh(ctx, e.Repository, e.Sender))
}

// pullRequest makes a pull request's runs what its state asks for, and what a
// person asks for on top of it.
func (r *Runner) pullRequest(ctx context.Context, repo vcs.Repository, number int, ask command) error {
	h, err := r.host(repo)
	if err != nil {
		return err
	}
	pr, err := h.PullRequest(ctx, repo, number)
	if errors.Is(err, vcs.ErrNotFound) {
		return r.deleted(ctx, h, repo, number, err)
	}
	if err != nil {
		return rateLimited(r.Clock(), fmt.Errorf("ask %s for pull request %d: %w", repo.Host, number, err))
	}
	var rec pullRecord
	if _, err := r.load(ctx, pullName(repo, number), &rec); err != nil {
		return err
	}
	switch {
	case pr.State == vcs.Merged:
		err = r.merged(ctx, pr, rec, ask)
	case pr.State == vcs.Closed:
		err = r.closed(ctx, pr, rec)
	default:
		err = r.opened(ctx, pr, rec, ask)
	}
	return rateLimited(r.Clock(), err)
}

// deleted ends a pull request that the host does not have any more, like one
// that was closed. Where the host denies the whole repository nothing is known of
// the pull request.
func (r *Runner) deleted(ctx context.Context, h host, repo vcs.Repository, number int, cause error) error {
	cause = queue.Discard(fmt.Errorf("pull request %s#%d: %w", repo, number, cause))
	var rec pullRecord
	if _, err := r.load(ctx, pullName(repo, number), &rec); err != nil {
		return err
	}
	if rec.State != vcs.Open {
		return cause
	}
	switch _, err := h.Remote(ctx, repo); {
	case errors.Is(err, vcs.ErrNotFound):
		return cause
	case err != nil:
		return rateLimited(r.Clock(), err)
	}
	return r.closed(ctx, vcs.PullRequest{Repository: repo, Number: number, State: vcs.Closed, HeadSHA: rec.Head, BaseRef: rec.Base}, rec)
}

// opened plans what an open pull request changes, as far as that is not
// planned yet.
func (r *Runner) opened(ctx context.Context, pr vcs.PullRequest, old pullRecord, ask command) error {
	next := pullRecord{Head: pr.HeadSHA, Base: pr.BaseRef, State: pr.State, URL: pr.URL, Title: pr.Title, Author: pr.Author}
	if next.Allowed = old.Allowed; ask.verb == verbPlan && ask.who != "" {
		next.Allowed = pr.HeadSHA
	}
	if pr.Fork && next.Allowed != pr.HeadSHA {
		next.Refused = true
		next.Notice = "This pull request comes from a fork, so nothing is planned: its code would run with this server's credentials. Somebody with write permission who has read it may comment `holdfast plan`."
		return r.settle(ctx, pr, old, next, nil)
	}
	c, err := r.compare(ctx, pr)
	if err != nil {
		return r.settleProblems(ctx, pr, old, next, err)
	}
	defer c.release()
	if c.base == pr.HeadSHA && old.Head == pr.HeadSHA {
		// Merged since the host was asked: compared with a branch that has it
		// already it changes nothing, and what was reviewed would be forgotten.
		// The event of the merge follows.
		return nil
	}
	next.MergeBase, next.Trusted = c.base, c.target
	affected, err := r.concerned(ctx, pr.Repository, old, c)
	if err != nil {
		return err
	}
	if len(affected) == 0 {
		next.Notice = "No workspace is affected."
		return r.settle(ctx, pr, old, next, nil)
	}
	if c.base != c.target {
		next.Notice = "This branch is behind " + pr.BaseRef + ". What is planned is the branch as it is; after the merge the plan is made again, and applied only if it is the same change."
	}
	var jobs []plannedRun
	for _, a := range affected {
		pw, runs, err := r.planned(ctx, pr, old, c, a, ask)
		if err != nil {
			return err
		}
		if pw == nil {
			continue
		}
		next.Workspaces = append(next.Workspaces, *pw)
		jobs = append(jobs, runs...)
	}
	if c.base != c.target && slices.ContainsFunc(next.Workspaces, func(w pullWorkspace) bool { return w.On == "comment" }) {
		next.Notice = "This branch is behind " + pr.BaseRef + ". What is planned, and applied before the merge, is the branch as it is: update it first to have what is on " + pr.BaseRef + " as well."
	}
	if next.Merges = old.Merges; old.Head != pr.HeadSHA {
		next.Merges = 0
	}
	if err := r.automerge(ctx, pr, &next, c); err != nil {
		return err
	}
	return r.settle(ctx, pr, old, next, jobs)
}

// concerned returns the workspaces that a pull request concerns, each after
// those that it depends on: what it changes, and what it has applied already.
func (r *Runner) concerned(ctx context.Context, repo vcs.Repository, old pullRecord, c *comparison) ([]workspaces.Affected, error) {
	affected := c.head.Affected(c.changed, c.baseConfig)
	for _, w := range old.Workspaces {
		if w.Applied == "" || slices.ContainsFunc(affected, func(a workspaces.Affected) bool { return a.Workspace.Name == w.Name }) {
			continue
		}
		const because = "applied from this pull request before"
		if now, ok := c.head.Workspace(w.Name); ok {
			affected = append(affected, workspaces.Affected{Workspace: now, Because: because})
			continue
		}
		was, err := r.configAt(ctx, repo, w.Applied)
		if err != nil {
			return nil, err
		}
		if gone, ok := was.Workspace(w.Name); ok {
			affected = append(affected, workspaces.Affected{Workspace: gone, Because: because, Deleted: true})
		}
	}
	return inOrder(c.head, affected), nil
}

// planned makes the runs that one workspace of an open pull request asks for; it
// returns nil where nothing is to be said of the workspace.
func (r *Runner) planned(ctx context.Context, pr vcs.PullRequest, old pullRecord, c *comparison, a workspaces.Affected, ask command) (*pullWorkspace, []plannedRun, error) {
	before := old.workspace(a.Workspace.Name)
	pw := &pullWorkspace{
		Name: a.Workspace.Name, Dir: a.Workspace.Dir, Because: a.Because, Deleted: a.Deleted, After: dependsOn(c.head, a.Workspace),
		Applied: before.Applied, Unlocked: before.Unlocked, Commands: before.Commands,
	}
	in := runPayload{Workspace: a.Workspace, FetchRef: pr.FetchRef, Who: pr.Author}
	if pw.Problem = problemsOf(c.head, pw.Name); len(pw.Problem) > 0 {
		return pw, nil, nil
	}
	if a.Deleted {
		if had, err := r.hadResources(ctx, pr.Repository, a.Workspace); err != nil || !had {
			return nil, nil, err
		}
		if err := r.destruction(ctx, pr.Repository, c, pw, &in); err != nil {
			return nil, nil, err
		}
	} else {
		var err error
		if in.Inputs, err = c.head.Inputs(c.dir, a.Workspace); err != nil {
			pw.Problem = problemsOfInputs(a.Workspace, err)
			return pw, nil, nil
		}
	}
	pw.On, pw.Automerge = in.Workspace.Apply.On, in.Workspace.Apply.Automerge
	main, err := r.defaultBranch(ctx, pr.Repository)
	if err != nil {
		return nil, nil, err
	}
	if pr.BaseRef != main {
		pw.On, pw.Automerge = onNever, false
	}
	pw.command(ask)
	in.Commands = pw.Commands
	run, fresh, err := r.planFor(ctx, pr, old, in, ask)
	if err != nil {
		return nil, nil, err
	}
	pw.Plan = run.ID
	if before.Plan == run.ID {
		pw.Stale, pw.Lacks = before.Stale, before.Lacks
	} else {
		pw.Unlocked = ""
		if pw.Lacks, err = r.lacks(ctx, pr, *pw); err != nil {
			return nil, nil, err
		}
	}
	var jobs []plannedRun
	if fresh {
		jobs = append(jobs, plannedRun{run: run, in: in, priority: ask.priority()})
	}
	early, err := r.early(ctx, pr, before, pw, run, in, ask)
	return pw, append(jobs, early...), err
}

// destruction prepares the plan of a root module that a pull request deletes: of
// what was applied last, so that everything which it made is destroyed.
func (r *Runner) destruction(ctx context.Context, repo vcs.Repository, c *comparison, pw *pullWorkspace, in *runPayload) error {
	var rec WorkspaceRecord
	if _, err := r.load(ctx, workspaceName(repo, pw.Name), &rec); err != nil {
		return err
	}
	in.Destroy, in.At = true, c.base
	if rec.AppliedCommit != "" {
		was, err := r.configAt(ctx, repo, rec.AppliedCommit)
		if err == nil {
			if w, ok := was.Workspace(pw.Name); ok {
				in.Workspace, in.At = w, rec.AppliedCommit
			}
		} else if !isProblems(err) {
			r.Logger.Warn("the applied commit is gone; what the base has is destroyed instead", "repository", repo.String(), "workspace", pw.Name, "commit", rec.AppliedCommit, "error", err)
		}
	}
	in.Workspace.Apply, in.Workspace.Drift = c.policy(pw.Name)
	in.Inputs = "destroy " + in.At
	pw.After = c.dependants(pw.Name)
	was := in.Workspace
	pw.Was, pw.At = &was, in.At
	return nil
}

// hadResources reports whether a workspace may have resources: one whose state
// only Holdfast keeps, and that Holdfast never applied, has none. A module that
// somebody begins to call was such a workspace.
func (r *Runner) hadResources(ctx context.Context, repo vcs.Repository, w workspaces.Workspace) (bool, error) {
	if !w.Backend.Ephemeral {
		return true, nil
	}
	var rec WorkspaceRecord
	_, err := r.load(ctx, workspaceName(repo, w.Name), &rec)
	return rec.AppliedCommit != "", err
}

// defaultBranch is a repository's default branch, of which the host is asked
// where no look at the repository has told it yet.
func (r *Runner) defaultBranch(ctx context.Context, repo vcs.Repository) (string, error) {
	var known repositoryRecord
	if _, err := r.load(ctx, "repository/"+repo.String(), &known); err != nil || known.DefaultBranch != "" {
		return known.DefaultBranch, err
	}
	h, err := r.host(repo)
	if err != nil {
		return "", err
	}
	remote, err := h.Remote(ctx, repo)
	if err != nil {
		return "", rateLimited(r.Clock(), fmt.Errorf("ask %s for the repository: %w", repo.Host, err))
	}
	return remote.DefaultBranch, nil
}

// plannedRun is a run whose job is to be queued.
type plannedRun struct {
	run      store.Run
	in       runPayload
	priority queue.Priority
	at       time.Time // not before; zero: at once
}

// settle ends the runs that nobody needs any more, writes what a pull request
// is now, queues the new runs and asks for a report, in an order in which
// it may stop anywhere and be done again.
func (r *Runner) settle(ctx context.Context, pr vcs.PullRequest, old, next pullRecord, jobs []plannedRun) error {
	// First, as what is no longer needed is known by the old record only.
	needed := map[string]bool{}
	for _, w := range next.Workspaces {
		needed[w.Plan] = true
	}
	why := "superseded by commit " + short(pr.HeadSHA)
	if old.Head == pr.HeadSHA {
		why = "planned again"
	}
	for _, w := range old.Workspaces {
		if w.Plan != "" && !needed[w.Plan] {
			if err := r.supersede(ctx, w.Plan, why); err != nil {
				return err
			}
		}
		if now := next.workspace(w.Name); w.Apply != "" && w.Apply != now.Apply {
			if err := r.supersedeWaiting(ctx, w.Apply, why); err != nil {
				return err
			}
		}
	}
	name := pullName(pr.Repository, pr.Number)
	if err := change(ctx, r, name, func(rec *pullRecord) { *rec = next }); err != nil {
		return err
	}
	if err := r.enqueueRuns(ctx, jobs...); err != nil {
		return err
	}
	err := r.disownAll(ctx, pr.Repository, pr.Number, func(workspace string) bool { return next.keeps(workspace) })
	if err != nil {
		return err
	}
	return r.enqueueReportIn(ctx, pr.Repository, pr.Number, 0)
}

// keeps reports whether a pull request still needs a workspace that it has: to
// be merged with a plan, or to be applied.
func (p pullRecord) keeps(workspace string) bool {
	w := p.workspace(workspace)
	return w.Apply != "" || p.State == vcs.Open && (w.Plan != "" || w.Applied != "")
}

// settleProblems settles a pull request whose own content is at fault. Other
// errors are returned for a retry.
func (r *Runner) settleProblems(ctx context.Context, pr vcs.PullRequest, old, next pullRecord, err error) error {
	if next.Problems = problemsIn(err); next.Problems == nil {
		return err
	}
	return r.settle(ctx, pr, old, next, nil)
}

// planFor returns the plan run of a workspace at the pull request's head, and
// whether its job has to be queued. A plan of the same inputs is not made
// again.
func (r *Runner) planFor(ctx context.Context, pr vcs.PullRequest, old pullRecord, in runPayload, ask command) (store.Run, bool, error) {
	next := store.Run{
		Key: fmt.Sprintf("plan/%s#%d/%s/%s", pr.Repository, pr.Number, in.Workspace.Name, pr.HeadSHA), Kind: store.KindPlan,
		Repository: pr.Repository.String(), PullRequest: pr.Number, Commit: pr.HeadSHA,
	}
	asked := ask.replans(in.Workspace.Name)
	if w := old.workspace(in.Workspace.Name); w.Plan != "" {
		run, err := r.Store.Runs.Get(ctx, w.Plan)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return run, false, err
		}
		if err == nil && !asked && run.Inputs == in.Inputs && reusable(run) {
			// Queue it again all the same: its job may have been lost between
			// two steps of an earlier attempt, and has a key.
			return run, !run.State.Ended(), nil
		}
		if next.Result, err = placeOf(run); err != nil {
			return run, false, err
		}
	}
	key := next.Key
	if asked {
		if ask.who != "" {
			in.Who = ask.who
		}
		next.Key += ask.key()
		run, err := r.newRun(ctx, next, in)
		return run, !run.State.Ended(), err
	}
	for n := 1; ; n++ {
		next.Key = fmt.Sprintf("%s/%d", key, n)
		run, err := r.newRun(ctx, next, in)
		// A branch may be pushed back to a commit whose plan was superseded, or
		// removed by its age.
		if err != nil || (run.State != store.Superseded && run.State != store.Canceled && !artifactsRemoved(run)) {
			return run, !run.State.Ended(), err
		}
	}
}

// placeOf returns the result with which the plan after run begins: it keeps the
// place in the line that run had.
func placeOf(run store.Run) (json.RawMessage, error) {
	var result Result
	if run.State != store.Queued || len(run.Result) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(run.Result, &result); err != nil || result.Since.IsZero() {
		return nil, err
	}
	return json.Marshal(Result{Since: result.Since})
}

// reusable reports whether a plan stands for the same inputs.
func reusable(run store.Run) bool {
	switch run.State {
	case store.Queued, store.Running, store.Planned, store.NoChanges:
		return !artifactsRemoved(run) // of a pull request that was closed for long
	}
	return false
}

// closed ends the plans of a pull request that was closed without a merge, and
// says so.
func (r *Runner) closed(ctx context.Context, pr vcs.PullRequest, old pullRecord) error {
	for _, w := range old.Workspaces {
		if w.Plan != "" {
			if err := r.supersede(ctx, w.Plan, "the pull request was closed"); err != nil {
				return err
			}
		}
	}
	if old.Head == "" {
		return nil // never seen while it was open
	}
	name := pullName(pr.Repository, pr.Number)
	if err := change(ctx, r, name, func(rec *pullRecord) { rec.State = pr.State }); err != nil {
		return err
	}
	if err := r.leaveApplied(ctx, pr, old); err != nil {
		return err
	}
	// After the record: an apply that ends now finds the pull request closed.
	if err := r.disownAll(ctx, pr.Repository, pr.Number, func(string) bool { return false }); err != nil {
		return err
	}
	return r.enqueueReportIn(ctx, pr.Repository, pr.Number, 0)
}
