package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
)

// onNever is pullWorkspace.On where the pull request goes to another branch than the
// default one: nothing of it is applied, before or after its merge.
const onNever = "never"

// eventApplied is an event of Holdfast's own: an apply before the merge has
// ended, and the pull request may be ready to be merged.
const eventApplied vcs.EventKind = "applied"

const (
	// mergeDelay lets the report be posted before the merge: a host may ask for
	// its statuses.
	mergeDelay = 3 * time.Second
	// mergeRetry and maxMerges bound how often a host that does not merge is
	// asked again for one commit.
	mergeRetry = time.Minute
	maxMerges  = 10
)

// early decides about the apply of one workspace before the merge: it goes on
// showing the one that stands for this head, and makes one where a person asks
// for the plan that is shown.
func (r *Runner) early(ctx context.Context, pr vcs.PullRequest, before pullWorkspace, pw *pullWorkspace, shown store.Run, in runPayload, ask command) ([]plannedRun, error) {
	if before.Apply != "" {
		last, err := r.Store.Runs.Get(ctx, before.Apply)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		stands := last.Commit == pr.HeadSHA || last.Inputs == in.Inputs
		switch last.State {
		case store.Applied, store.NoChanges:
			pw.Applied = last.Commit
		case store.Running, store.Unknown:
			stands = true
		case store.Superseded:
			stands = false
		}
		// One whose plan was made again since is not what is shown.
		if stands && (before.Plan == pw.Plan || !last.State.Ended()) {
			pw.Apply = last.ID
		}
	}
	if pw.On != "comment" || !ask.asks(verbApply, pw.Name) {
		return nil, nil
	}
	seen, err := r.shownFor(ctx, ask, *pw, shown)
	if err != nil || seen == nil {
		return nil, err
	}
	result, err := json.Marshal(Result{Reviewed: seen.seen})
	if err != nil {
		return nil, err
	}
	in.Who, in.Author, in.Head, in.Early, in.Confirmed, in.Fresh, in.After = ask.who, pr.Author, pr.HeadSHA, true, true, seen.fresh, pw.After
	run, err := r.newRun(ctx, store.Run{
		Key:  fmt.Sprintf("early/%s#%d/%s/%s%s", pr.Repository, pr.Number, pw.Name, pr.HeadSHA, ask.key()),
		Kind: store.KindApply, Repository: pr.Repository.String(), PullRequest: pr.Number, Commit: pr.HeadSHA, Result: result,
	}, in)
	if err != nil {
		return nil, err
	}
	pw.Apply = run.ID
	if run.State.Ended() {
		return nil, nil
	}
	return []plannedRun{{run: run, in: in, priority: queue.PriorityApply}}, nil
}

// shownFor returns the run whose plan a person confirms for an apply before the
// merge: what the comment shows of this workspace, and showed when the person
// said so. It returns nil where nothing is to be applied.
func (r *Runner) shownFor(ctx context.Context, ask command, pw pullWorkspace, shown store.Run) (*repeated, error) {
	if pw.Apply != "" {
		return r.applyAgain(ctx, ask, pw)
	}
	if shown.State != store.Planned || !ask.saw(shown) {
		return nil, nil
	}
	return &repeated{seen: shown.ID}, nil
}

// lacks returns the commit that is applied to a workspace of a pull request and is
// not a part of its branch, which its apply before the merge would undo.
func (r *Runner) lacks(ctx context.Context, pr vcs.PullRequest, pw pullWorkspace) (string, error) {
	var rec WorkspaceRecord
	if _, err := r.load(ctx, workspaceName(pr.Repository, pw.Name), &rec); err != nil {
		return "", err
	}
	if pw.On != "comment" || rec.AppliedCommit == "" || rec.AppliedCommit == pw.Applied {
		return "", nil
	}
	has, err := r.Git.IsAncestor(ctx, pr.Repository, rec.AppliedCommit, pr.HeadSHA)
	if err != nil || has {
		return "", nil // also of a history that is gone
	}
	return rec.AppliedCommit, nil
}

// afterEarly has a pull request looked at again after an apply before its merge.
// The workspace stays the pull request's until it is merged or closed: others
// would undo what only its branch says. Where nothing of its branch was applied
// there is nothing to undo, and nobody has to wait for it.
func (r *Runner) afterEarly(ctx context.Context, x *execution) error {
	var rec pullRecord
	if _, err := r.load(ctx, pullName(x.repo, x.run.PullRequest), &rec); err != nil {
		return err
	}
	done := x.run.State == store.Applied || x.run.State == store.NoChanges
	w := rec.workspace(x.run.Workspace)
	touched, err := r.touched(ctx, x, w)
	if err != nil {
		return err
	}
	over := rec.State == vcs.Closed || rec.State == vcs.Merged && (w.Apply == "" || w.Apply == x.run.ID) // else the merge's apply has it now
	if over || rec.State == vcs.Open && !done && !touched && x.in.Workspace.Apply.Lock != lockPlan {
		if _, err := r.disown(ctx, x.repo, x.run.Workspace, x.run.PullRequest); err != nil {
			return err
		}
	}
	if !done && rec.Head == x.run.Commit {
		return nil
	}
	return r.lookAgain(ctx, x.repo, x.run.PullRequest, x.run.ID, mergeDelay)
}

// touched reports whether a pull request has changed the cloud of a workspace, or
// may do so in a moment, beside the apply that has just ended.
func (r *Runner) touched(ctx context.Context, x *execution, w pullWorkspace) (bool, error) {
	if w.Applied != "" {
		return true, nil
	}
	if w.Apply != "" && w.Apply != x.run.ID {
		run, err := r.Store.Runs.Get(ctx, w.Apply)
		if err != nil || !run.State.Ended() || run.State == store.Applied || run.State == store.NoChanges {
			return true, err
		}
	}
	var rec WorkspaceRecord
	if _, err := r.load(ctx, workspaceName(x.repo, x.run.Workspace), &rec); err != nil || rec.Unfinished == "" {
		return false, err
	}
	// Of whatever commit: an apply that ended badly may be this pull request's.
	runs, err := r.Store.Runs.List(ctx, store.RunFilter{
		Repository: x.run.Repository, Workspace: x.run.Workspace, PullRequest: x.run.PullRequest, Kind: store.KindApply, Commit: rec.Unfinished, Limit: 1,
	})
	return len(runs) > 0, err
}

// lookAgain queues that a pull request is handled again after a while.
func (r *Runner) lookAgain(ctx context.Context, repo vcs.Repository, number int, why string, after time.Duration) error {
	e := vcs.Event{Kind: eventApplied, Repository: repo, Number: number}
	payload, err := json.Marshal(e)
	if err != nil {
		return err
	}
	name := pullName(repo, number)
	_, err = r.Queue.Enqueue(ctx, queue.Job{
		Kind: JobEvent, Group: name, Key: "again/" + name + "/" + why, Priority: queue.PriorityPrompt,
		RunAt: r.Clock().Add(after), Payload: payload,
	})
	return err
}

// automerge merges a pull request of which all is applied that is applied by
// comments, where its workspaces ask for that.
func (r *Runner) automerge(ctx context.Context, pr vcs.PullRequest, next *pullRecord, c *comparison) error {
	method, ready, err := r.ready(ctx, *next, c)
	if err != nil || !ready || pr.Draft {
		return err
	}
	h, err := r.host(pr.Repository)
	if err != nil {
		return err
	}
	if h.merger == nil {
		next.Notice = "All of this is applied. Holdfast cannot merge on " + pr.Repository.Host + ": merge the pull request, so that " + pr.BaseRef + " says what the cloud is."
		return nil
	}
	next.Merges++
	err = h.merger.Merge(ctx, pr.Repository, pr.Number, pr.HeadSHA, method)
	if err == nil {
		next.Notice = "All of this is applied, and the pull request is merged."
		if err := r.audit(ctx, store.Entry{
			ID: "merge/" + pullName(pr.Repository, pr.Number) + "/" + pr.HeadSHA, Action: "merge", Repository: pr.Repository.String(),
			Why: fmt.Sprintf("all of pull request #%d is applied", pr.Number),
		}); err != nil {
			return err
		}
		return r.lookAgain(ctx, pr.Repository, pr.Number, "merged", time.Second) // its webhook may get lost
	}
	if rateLimited(r.Clock(), err) != err {
		return err
	}
	next.Notice = fmt.Sprintf("All of this is applied, but %s did not merge the pull request: %s", pr.Repository.Host, whyNotMerged(err))
	if next.Merges >= maxMerges {
		next.Notice += fmt.Sprintf(" It was asked %d times. Merge it by hand, or comment `holdfast apply` to have it asked once more.", next.Merges)
		return nil
	}
	next.Notice += " It is asked again in a minute, and whenever somebody comments `holdfast apply`; merging by hand will do as well."
	return r.lookAgain(ctx, pr.Repository, pr.Number, fmt.Sprintf("merge/%s/%d", pr.HeadSHA, next.Merges), mergeRetry)
}

// whyNotMerged says why a host did not merge, in sentences.
func whyNotMerged(err error) string {
	refused := (*vcs.NotMergedError)(nil)
	if !errors.As(err, &refused) {
		return strings.TrimSuffix(plainText(err.Error()), ".") + "."
	}
	why := strings.TrimSuffix(plainText(refused.Reason), ".") + "."
	if refused.Advice != "" {
		why += " " + plainText(refused.Advice)
	}
	return why
}

// ready reports whether a pull request can be merged because of what is applied,
// and by which method.
func (r *Runner) ready(ctx context.Context, next pullRecord, c *comparison) (method string, ready bool, err error) {
	if !slices.ContainsFunc(next.Workspaces, func(w pullWorkspace) bool { return w.Applied != "" }) {
		return "", false, nil
	}
	for _, pw := range next.Workspaces {
		if len(pw.Problem) > 0 {
			return "", false, nil
		}
		run, err := r.Store.Runs.Get(ctx, pw.Plan)
		if err != nil {
			return "", false, err
		}
		if pw.On != "comment" {
			if run.State != store.Planned && run.State != store.NoChanges {
				return "", false, nil
			}
			continue
		}
		if pw.Apply != "" {
			if run, err = r.Store.Runs.Get(ctx, pw.Apply); err != nil {
				return "", false, err
			}
		}
		if !pw.Automerge || run.State != store.Applied && run.State != store.NoChanges {
			return "", false, nil
		}
		if policy, _ := c.policy(pw.Name); method == "" {
			method = policy.MergeMethod
		}
	}
	return method, true, nil
}

// leaveApplied says of the workspaces that a closed pull request has applied that
// the default branch does not know of it.
func (r *Runner) leaveApplied(ctx context.Context, pr vcs.PullRequest, old pullRecord) error {
	for _, w := range old.Workspaces {
		applied, tried := w.Applied, ""
		if w.Apply != "" {
			if err := r.supersedeWaiting(ctx, w.Apply, "the pull request was closed"); err != nil {
				return err
			}
			run, err := r.Store.Runs.Get(ctx, w.Apply)
			switch {
			case err == nil && (run.State == store.Applied || run.State == store.NoChanges):
				applied = run.Commit
			case err == nil:
				tried = run.Commit
			}
		}
		if applied == "" && tried == "" {
			continue
		}
		err := change(ctx, r, workspaceName(pr.Repository, w.Name), func(rec *WorkspaceRecord) {
			switch {
			case tried != "" && rec.Unfinished == tried:
				rec.State = Pending
				rec.Error = fmt.Sprintf("The apply of pull request #%d did not end well here at commit %s, and it was closed without a merge: the default branch does not say what the cloud is. Open a pull request that touches this workspace: its apply undoes what is left.", pr.Number, short(tried))
			case applied != "" && rec.AppliedCommit == applied:
				rec.State = Pending
				rec.Error = fmt.Sprintf("Pull request #%d was applied here at commit %s and closed without a merge: the default branch does not say what the cloud is. Reopen and merge it, or open a pull request that touches this workspace: its apply undoes it.", pr.Number, short(applied))
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// plainText is a host's words without what would format them.
func plainText(s string) string {
	out := []rune(s)
	out = slices.DeleteFunc(out, func(c rune) bool { return c < ' ' || c == '`' || c == '<' || c == '>' || c == '[' || c == ']' })
	return string(out[:min(len(out), 300)])
}
