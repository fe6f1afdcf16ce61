package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/queue"
	"holdfast/runner/markdown"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// commitRecord is what runs for a commit that is no pull request's head: of a
// merge queue, or pushed to the default branch. It is stored under
// "commit/HOST/OWNER/NAME@SHA".
type commitRecord struct {
	Workspaces []pullWorkspace `json:"workspaces,omitempty"`
	// Notice is the status's text where there are none.
	Notice   string              `json:"notice,omitempty"`
	Problems workspaces.Problems `json:"problems,omitempty"`
}

// commitName names a commit in keys and groups.
func commitName(repo vcs.Repository, sha string) string { return "commit/" + repo.String() + "@" + sha }

// mergeGroup plans what a merge queue is about to bring to the default branch,
// and compares it with the plans that were reviewed: the queue waits for the
// statuses of that commit.
func (r *Runner) mergeGroup(ctx context.Context, e vcs.Event) error {
	if err := r.fetch(ctx, e.Repository, ""); err != nil {
		return rateLimited(r.Clock(), err)
	}
	if _, err := r.Git.Resolve(ctx, e.Repository, e.After); errors.Is(err, vcs.ErrNotFound) {
		return queue.Discard(fmt.Errorf("merge group %s: %w", short(e.After), err)) // given up meanwhile
	} else if err != nil {
		return err
	}
	next := commitRecord{Notice: "No workspace is affected."}
	c, err := r.compareGroup(ctx, e)
	var jobs []plannedRun
	switch {
	case isProblems(err):
		next.Problems = problemsIn(err)
	case err != nil:
		return err
	default:
		defer c.release()
		if next.Workspaces, jobs, err = r.groupRuns(ctx, e, c); err != nil {
			return err
		}
	}
	if err := change(ctx, r, commitName(e.Repository, e.After), func(rec *commitRecord) { *rec = next }); err != nil {
		return err
	}
	if err := r.enqueueRuns(ctx, jobs...); err != nil {
		return err
	}
	return r.enqueueCommitReport(ctx, e.Repository, e.After, 0)
}

// compareGroup reads both sides of a merge group. What decides about safety is
// taken from the branch that it goes to.
func (r *Runner) compareGroup(ctx context.Context, e vcs.Event) (*comparison, error) {
	target, err := r.Git.Resolve(ctx, e.Repository, "refs/heads/"+e.Branch)
	if err != nil {
		return nil, err
	}
	c := &comparison{target: target, base: target}
	if in, err := r.Git.IsAncestor(ctx, e.Repository, e.Before, e.After); e.Before != "" && err == nil && in {
		c.base = e.Before // those that are ahead in the queue have groups of their own
	}
	return c, r.readBoth(ctx, e.Repository, c, e.After)
}

// groupRuns makes the plans of a merge group's commit.
func (r *Runner) groupRuns(ctx context.Context, e vcs.Event, c *comparison) (all []pullWorkspace, jobs []plannedRun, err error) {
	var pull pullRecord
	if e.Number != 0 {
		if _, err := r.load(ctx, pullName(e.Repository, e.Number), &pull); err != nil {
			return nil, nil, err
		}
	}
	for _, a := range inOrder(c.head, c.head.Affected(c.changed, c.baseConfig)) {
		pw := pullWorkspace{Name: a.Workspace.Name, Dir: a.Workspace.Dir, Because: a.Because, Deleted: a.Deleted}
		in := runPayload{Workspace: a.Workspace, Group: true, Ahead: c.base != c.target}
		if pw.Problem = problemsOf(c.head, pw.Name); len(pw.Problem) > 0 {
			all = append(all, pw)
			continue
		}
		if a.Deleted {
			had, err := r.hadResources(ctx, e.Repository, a.Workspace)
			if err != nil {
				return nil, nil, err
			}
			if !had {
				continue
			}
			if err := r.destruction(ctx, e.Repository, c, &pw, &in); err != nil {
				return nil, nil, err
			}
		} else if in.Inputs, err = c.head.Inputs(c.dir, a.Workspace); err != nil {
			pw.Problem = problemsOfInputs(a.Workspace, err)
			all = append(all, pw)
			continue
		}
		result, err := json.Marshal(Result{Reviewed: pull.workspace(pw.Name).Plan})
		if err != nil {
			return nil, nil, err
		}
		run, err := r.newRun(ctx, store.Run{
			Key: fmt.Sprintf("group/%s/%s/%s", e.Repository, pw.Name, e.After), Kind: store.KindPlan,
			Repository: e.Repository.String(), Commit: e.After, Result: result,
		}, in)
		if err != nil {
			return nil, nil, err
		}
		pw.Plan = run.ID
		all = append(all, pw)
		if !run.State.Ended() {
			jobs = append(jobs, plannedRun{run: run, in: in, priority: queue.PriorityInteractive})
		}
	}
	return all, jobs, nil
}

// asReviewed compares the plan of a merge group with the one that was reviewed;
// it returns what is wrong, or nil. Where other pull requests are ahead in the
// queue, or merges are not applied yet, the plan has their changes too, and the
// merge compares again when these are applied.
func (x *execution) asReviewed(ctx context.Context) (*verdict, error) {
	seen, err := x.r.reviewedBy(ctx, x.result.Reviewed)
	if err != nil || x.result.Reviewed == "" {
		return nil, err
	}
	now, err := x.r.loadPlan(ctx, x.run.ID)
	if err != nil || now == nil {
		return nil, err
	}
	c, why := applyGate(seen, now, x.in.Workspace.Apply, false)
	if x.result.Comparison = c; why == "" {
		return nil, nil
	}
	var rec WorkspaceRecord
	if _, err := x.r.load(ctx, workspaceName(x.repo, x.run.Workspace), &rec); err != nil {
		return nil, err
	}
	if c != nil && c.Verdict == plan.Changed && (x.in.Ahead || rec.State == Pending || rec.State == Applying) {
		x.note("This plan has the changes of other pull requests, which are merged before and not applied yet. The plan is compared again before it is applied.")
		return nil, nil
	}
	return &verdict{store.Held, why}, nil
}

// pushReported keeps that a run is for a pushed commit, so that the commit's
// statuses say what becomes of it.
func (r *Runner) pushReported(ctx context.Context, repo vcs.Repository, run store.Run, w pullWorkspace) error {
	w.Plan = run.ID
	if run.Kind == store.KindApply {
		w.Plan, w.Apply = "", run.ID
	}
	err := change(ctx, r, commitName(repo, run.Commit), func(rec *commitRecord) {
		rec.Workspaces = slices.DeleteFunc(rec.Workspaces, func(o pullWorkspace) bool { return o.Name == w.Name })
		rec.Workspaces = append(rec.Workspaces, w)
	})
	if err != nil {
		return err
	}
	return r.enqueueCommitReport(ctx, repo, run.Commit, r.ReportDelay)
}

// enqueueCommitReport asks for the statuses of a commit that is no pull
// request's head.
func (r *Runner) enqueueCommitReport(ctx context.Context, repo vcs.Repository, sha string, delay time.Duration) error {
	payload, err := json.Marshal(reportPayload{Repository: repo, SHA: sha})
	if err != nil {
		return err
	}
	name := "report/" + commitName(repo, sha)
	_, err = r.Queue.Enqueue(ctx, queue.Job{
		Kind: JobReport, Group: name, Key: name, Again: true,
		Priority: queue.PriorityPrompt, RunAt: r.Clock().Add(delay), Payload: payload,
	})
	return err
}

// reportOf asks for the report that shows a run, where there is one.
func (r *Runner) reportOf(ctx context.Context, repo vcs.Repository, run store.Run) error {
	switch {
	case run.PullRequest != 0:
		return r.enqueueReport(ctx, repo, run.PullRequest)
	case run.Kind == store.KindPlan || run.Kind == store.KindApply:
		return r.enqueueCommitReport(ctx, repo, run.Commit, r.ReportDelay)
	}
	return nil
}

// commitReport makes the host show the statuses of a commit that is no pull
// request's head.
func (r *Runner) commitReport(ctx context.Context, h host, in reportPayload) error {
	var rec commitRecord
	version, err := r.load(ctx, commitName(in.Repository, in.SHA), &rec)
	if err != nil || version == 0 || h.statuses == nil {
		return err
	}
	report := markdown.Report{Commit: in.SHA, Base: r.BaseURL, Notice: rec.Notice, Problems: rec.Problems}
	for _, pw := range rec.Workspaces {
		w, err := r.workspaceReport(ctx, in.Repository, pullRecord{Head: in.SHA, State: vcs.Merged}, pw)
		if err != nil {
			return err
		}
		report.Workspaces = append(report.Workspaces, w)
	}
	p := poster{r: r, host: h, repo: in.Repository, sha: in.SHA, name: "report/" + commitName(in.Repository, in.SHA)}
	if _, err := r.load(ctx, p.name, &p.shown); err != nil {
		return err
	}
	err = p.statuses(ctx, report)
	if errors.Is(err, vcs.ErrNotFound) {
		return queue.Discard(fmt.Errorf("statuses of %s: %w", short(in.SHA), err)) // forced away, or a group that was given up
	}
	return rateLimited(r.Clock(), err)
}
