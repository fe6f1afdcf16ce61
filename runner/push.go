package runner

import (
	"context"
	"fmt"
	"slices"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// maxPushWait is how long a push waits for the merges in it to be handled.
const maxPushWait = 2 * time.Minute

// pushedSince plans, or applies where the repository says so, what came to the
// default branch without a pull request. It snoozes while merges among the new
// commits are not handled yet: what these apply is none of it.
func (r *Runner) pushedSince(ctx context.Context, repo vcs.Repository, from string, now mergedConfig, to, who string) error {
	if from == "" {
		return nil // the first look: nobody pushed this to us
	}
	changed, err := r.Git.ChangedPaths(ctx, repo, from, to)
	if err != nil {
		r.Logger.Warn("what was pushed is not known", "repository", repo.String(), "from", from, "to", to, "error", err)
		return nil // the commit before is gone, with a history that was replaced
	}
	before, err := r.configAt(ctx, repo, from)
	if err != nil && !isProblems(err) {
		return err
	}
	affected := now.Affected(changed, before)
	if len(affected) == 0 {
		return nil
	}
	if err := r.mergesIn(ctx, repo, from, to); err != nil {
		return err
	}
	strict, err := r.reviewedUnder(ctx, repo, now.Config, from)
	if err != nil {
		return err
	}
	for _, a := range affected {
		w, ok := strict.Workspace(a.Workspace.Name)
		if a.Deleted || !ok || len(problemsOf(now.Config, w.Name)) > 0 {
			continue
		}
		inputs, err := now.Inputs(now.dir, w)
		if err != nil {
			continue // told where the repository is described
		}
		if err := r.pushedTo(ctx, repo, from, to, runPayload{Workspace: w, Inputs: inputs, Who: who, Pushed: true, After: dependsOn(strict, w)}); err != nil {
			return err
		}
	}
	return nil
}

// mergesIn makes sure that the merges between two commits have their applies. It
// snoozes while they do not.
func (r *Runner) mergesIn(ctx context.Context, repo vcs.Repository, from, to string) error {
	h, err := r.host(repo)
	if err != nil {
		return err
	}
	var known repositoryRecord
	if _, err := r.load(ctx, "repository/"+repo.String(), &known); err != nil {
		return err
	}
	since := r.Clock().Add(-time.Hour)
	if !known.SeenTo.IsZero() && known.SeenTo.Before(since) {
		since = known.SeenTo.Add(-10 * time.Minute)
	}
	pulls, err := h.PullRequests(ctx, repo, since)
	if err != nil {
		return fmt.Errorf("list pull requests: %w", err)
	}
	waits := false
	for _, pr := range pulls {
		if pr.State != vcs.Merged || pr.MergeSHA == "" {
			continue
		}
		var rec pullRecord
		if _, err := r.load(ctx, pullName(repo, pr.Number), &rec); err != nil {
			return err
		}
		if in, err := r.Git.IsAncestor(ctx, repo, pr.MergeSHA, to); err != nil || !in {
			continue
		}
		if unhandled, err := r.unhandled(ctx, pr, rec); err != nil {
			return err
		} else if !unhandled {
			continue
		}
		if err := r.missedEvent(ctx, pr); err != nil {
			return err
		}
		waits = true
	}
	if waits && r.patient(repo.String()+"@"+to) {
		return queue.Snooze(time.Second)
	}
	return nil
}

// patient reports whether something that this process waits for may still
// happen.
func (r *Runner) patient(what string) bool {
	r.configMu.Lock()
	defer r.configMu.Unlock()
	first, ok := r.waiting[what]
	if !ok {
		if len(r.waiting) >= maxConfigs {
			clear(r.waiting)
		}
		first = r.Clock()
		r.waiting[what] = first
	}
	return r.Clock().Sub(first) < maxPushWait
}

// pushedTo plans one workspace at a commit that was pushed, or applies it, unless
// a pull request brought the same since from, or it is applied already.
func (r *Runner) pushedTo(ctx context.Context, repo vcs.Repository, from, sha string, in runPayload) error {
	w := in.Workspace
	var rec WorkspaceRecord
	if _, err := r.load(ctx, workspaceName(repo, w.Name), &rec); err != nil {
		return err
	}
	applies, err := r.Store.Runs.List(ctx, store.RunFilter{Repository: repo.String(), Workspace: w.Name, Kind: store.KindApply})
	if err != nil {
		return err
	}
	brought := slices.ContainsFunc(applies, func(run store.Run) bool {
		if run.PullRequest == 0 || run.Inputs != in.Inputs {
			return false
		}
		before, err := r.Git.IsAncestor(ctx, repo, run.Commit, from) // a push may have undone it since
		return err == nil && !before
	})
	if brought || rec.AppliedInputs == in.Inputs {
		return nil
	}
	run, priority := store.Run{Kind: store.KindPlan, Repository: repo.String(), Commit: sha}, queue.PriorityInteractive
	why := fmt.Sprintf("Commit %s was pushed to the default branch without a pull request, so it is planned but not applied (apply.on_push). A pull request that touches this workspace applies it too.", short(sha))
	if w.Apply.OnPush {
		run.Kind, priority, why = store.KindApply, queue.PriorityApply, ""
	}
	run.Key = fmt.Sprintf("push/%s/%s/%s", repo, w.Name, sha)
	if run, err = r.startRun(ctx, run, in, priority); err != nil {
		return err
	}
	if err := r.pushReported(ctx, repo, run, pullWorkspace{Name: w.Name, Dir: w.Dir}); err != nil || run.State.Ended() {
		return err
	}
	return r.changeWorkspace(ctx, repo, w, func(rec *WorkspaceRecord) { rec.State, rec.Error = Pending, why })
}

// afterPushed keeps what the plan of a push found: where nothing is to be done the
// cloud is as the commit says. It may be done twice.
func (r *Runner) afterPushed(ctx context.Context, x *execution) error {
	if x.run.State != store.NoChanges {
		return nil
	}
	return r.changeWorkspace(ctx, x.repo, x.in.Workspace, func(rec *WorkspaceRecord) {
		if rec.AppliedAt.After(x.run.EndedAt) || rec.Unfinished != "" {
			return
		}
		rec.AppliedCommit, rec.AppliedInputs, rec.AppliedAt = x.run.Commit, x.run.Inputs, x.run.EndedAt
		rec.State, rec.Error, rec.Class = InSync, "", ""
	})
}

// describe reads the configuration of the default branch's head; problems are
// what is wrong with all of it.
func (r *Runner) describe(ctx context.Context, repo vcs.Repository, sha string) (c mergedConfig, problems workspaces.Problems, release func(), err error) {
	dir, release, err := r.Git.Checkout(ctx, repo, sha)
	if err != nil {
		err, release = content(err), func() {}
	} else if c.Config, err = r.config(ctx, repo, sha, dir); err == nil {
		c.dir = dir
		return c, c.Problems, release, nil
	}
	if problems = problemsIn(err); problems == nil {
		release()
		return c, nil, nil, err
	}
	return c, problems, release, nil
}
