package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// merged queues the applies of a merged pull request.
func (r *Runner) merged(ctx context.Context, pr vcs.PullRequest, old pullRecord, ask command) error {
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
	if err := r.earlierMerges(ctx, h, pr, old); err != nil {
		return err
	}
	dir, release, err := r.Git.Checkout(ctx, pr.Repository, pr.MergeSHA)
	if err != nil {
		return r.settleProblems(ctx, pr, old, next, content(err))
	}
	defer release()
	c, err := r.config(ctx, pr.Repository, pr.MergeSHA, dir)
	if err != nil {
		next.Notice = "Nothing of this merge was applied, because the configuration of the merge commit cannot be read. Mend it in another pull request that also touches these workspaces: its plans will have both changes."
		return r.settleProblems(ctx, pr, old, next, err)
	}
	if old.Head != pr.HeadSHA || old.MergeBase == "" || old.MergeBase == pr.HeadSHA || old.Base != pr.BaseRef || len(old.Workspaces) == 0 {
		// The last push, or the whole pull request, was never planned, or it was
		// compared with another branch, or with one that had it already.
		if next.Workspaces, err = r.unplanned(ctx, pr, old, c); err != nil {
			return err
		}
	}
	if c, err = r.reviewedUnder(ctx, pr.Repository, c, cmp.Or(old.Trusted, old.MergeBase)); err != nil {
		return err
	}
	for i := range next.Workspaces {
		if err := r.applyFor(ctx, pr, mergedConfig{c, dir, ask}, &next.Workspaces[i]); err != nil {
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
		if len(strict.Workspaces[i].RunsOn) == 0 {
			strict.Workspaces[i].RunsOn = w.RunsOn
		}
	}
	return &strict, nil
}

// earlierMerges has what was merged before be handled first, so that two merges of
// one second are applied in their order: events come in any order. It snoozes
// while there is such a merge, for a while.
func (r *Runner) earlierMerges(ctx context.Context, h host, pr vcs.PullRequest, old pullRecord) error {
	if r.Clock().Sub(pr.UpdatedAt) > maxMergeWait || old.Merge != "" {
		return nil
	}
	prefix := "pull/" + pr.Repository.String() + "#"
	records, err := r.Store.Records.List(ctx, prefix)
	if err != nil {
		return err
	}
	waits := false
	for _, stored := range records {
		var other pullRecord
		if err := json.Unmarshal(stored.Value, &other); err != nil {
			return fmt.Errorf("read %s: %w", stored.Key, err)
		}
		n, err := strconv.Atoi(strings.TrimPrefix(stored.Key, prefix))
		shares := slices.ContainsFunc(other.Workspaces, func(w pullWorkspace) bool { return old.workspace(w.Name).Name != "" })
		if err != nil || n == pr.Number || other.State != vcs.Open || other.Base != pr.BaseRef || !shares {
			continue
		}
		now, err := h.PullRequest(ctx, pr.Repository, n)
		if errors.Is(err, vcs.ErrNotFound) || err == nil && (now.State != vcs.Merged || now.MergeSHA == pr.MergeSHA) {
			continue
		}
		if err != nil {
			return fmt.Errorf("ask %s for pull request %d: %w", pr.Repository.Host, n, err)
		}
		if in, err := r.Git.IsAncestor(ctx, pr.Repository, now.MergeSHA, pr.MergeSHA); err != nil || !in {
			continue
		}
		waits = true
		if err := r.missedEvent(ctx, now); err != nil {
			return err
		}
	}
	if waits {
		return queue.Snooze(time.Second)
	}
	return nil
}

// maxMergeWait is how long a merge waits for the one before it to be handled.
const maxMergeWait = 2 * time.Minute

// mergedConfig is what the merge commit says.
type mergedConfig struct {
	*workspaces.Config
	dir string  // the commit's files
	ask command // what a person asks for on top
}

// applyFor queues the apply of one workspace of a merged pull request.
func (r *Runner) applyFor(ctx context.Context, pr vcs.PullRequest, c mergedConfig, pw *pullWorkspace) error {
	in := runPayload{Who: pr.Author, Author: pr.Author, Head: pr.HeadSHA, After: pw.After, Commands: pw.Commands}
	if pw.Deleted {
		if pw.Was == nil {
			return nil // nothing was made of it
		}
		in.Workspace, in.Destroy, in.At, in.Inputs = *pw.Was, true, pw.At, "destroy "+pw.At
	} else if ok, err := c.describe(pw, &in); err != nil || !ok {
		return err
	}
	w := in.Workspace
	key := fmt.Sprintf("apply/%s#%d/%s/%s", pr.Repository, pr.Number, w.Name, pr.MergeSHA)
	seen := pw.Plan
	again, err := r.applyAgain(ctx, c.ask, *pw)
	if err != nil {
		return err
	}
	if again != nil {
		key, seen = key+c.ask.key(), again.seen
		in.Who, in.Confirmed, in.Fresh = c.ask.who, true, again.fresh
	} else if pw.Apply != "" {
		before, done, err := r.applyBefore(ctx, pr, pw.Apply)
		if done || err != nil {
			return err
		}
		key = cmp.Or(before, key)
	}
	if again == nil {
		if seen, err = r.seenBefore(ctx, seen, pr.MergedAt); err != nil {
			return err
		}
	}
	result, err := json.Marshal(Result{Reviewed: seen})
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
		Key: key, Kind: store.KindApply, Repository: pr.Repository.String(), PullRequest: pr.Number,
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

// applyBefore looks at the apply that a workspace of a merged pull request has
// already: an answer to a command must not be undone by the next event. key is
// that of a run of this merge that has not begun; done, that nothing is left to
// ask for.
func (r *Runner) applyBefore(ctx context.Context, pr vcs.PullRequest, id string) (key string, done bool, err error) {
	run, err := r.Store.Runs.Get(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		// Forgotten in a failover, and to be made again; or removed by its age:
		// it was over long ago.
		return "", !r.young(id), nil
	case err != nil:
		return "", false, err
	case run.Commit != pr.MergeSHA:
		return "", false, r.supersedeWaiting(ctx, run.ID, "merged before this began")
	}
	return run.Key, run.State != store.Queued, nil
}

// seenBefore returns the run whose plan people may have seen before the merge; it
// is empty where the plan was made after it, while its event was on the way.
func (r *Runner) seenBefore(ctx context.Context, plan string, merged time.Time) (string, error) {
	if plan == "" || merged.IsZero() {
		return plan, nil
	}
	run, err := r.Store.Runs.Get(ctx, plan)
	if errors.Is(err, store.ErrNotFound) || err == nil && run.EndedAt.After(merged.Add(time.Second)) {
		return "", nil
	}
	return plan, err
}

// describe prepares the apply of a workspace that the merge commit has. It
// returns false where there is a mistake, which is then the workspace's.
func (c mergedConfig) describe(pw *pullWorkspace, in *runPayload) (bool, error) {
	w, ok := c.Workspace(pw.Name)
	if !ok {
		pw.Problem = workspaces.Problems{{Workspace: pw.Name, File: pw.Dir, Message: "The merge commit does not have this workspace any more, so nothing is applied."}}
		return false, nil
	}
	if pw.Problem = problemsOf(c.Config, w.Name); len(pw.Problem) > 0 {
		return false, nil
	}
	var err error
	if in.Inputs, err = c.Inputs(c.dir, w); err != nil {
		pw.Problem = workspaces.Problems{{Workspace: w.Name, File: w.Dir, Message: err.Error()}}
		return false, nil
	}
	in.Workspace, in.After = w, dependsOn(c.Config, w)
	return true, nil
}

// dependsOn returns the names of all workspaces that w depends on, however far.
func dependsOn(c *workspaces.Config, w workspaces.Workspace) []string {
	var names []string
	for left := w.DependsOn; len(left) > 0; left = left[1:] {
		name := left[0]
		if slices.Contains(names, name) {
			continue
		}
		names = append(names, name)
		if on, ok := c.Workspace(name); ok {
			left = append(slices.Clone(left), on.DependsOn...)
		}
	}
	return names
}

// repeated is an apply that a person asked to go on with.
type repeated struct {
	seen  string // the run whose plan was shown
	fresh bool   // that plan was tried, and failed
}

// applyAgain decides whether a command goes on with a workspace's apply: one
// that failed with the plan that was reviewed, one that is held with the plan
// that it shows. Nothing newer than that is applied. It returns nil where there
// is nothing to go on with.
func (r *Runner) applyAgain(ctx context.Context, ask command, pw pullWorkspace) (*repeated, error) {
	if pw.Apply == "" || !ask.asks(verbApply, pw.Name) {
		return nil, nil
	}
	run, err := r.Store.Runs.Get(ctx, pw.Apply)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var result Result
	if err := json.Unmarshal(run.Result, &result); err != nil {
		return nil, fmt.Errorf("read result of run %s: %w", run.ID, err)
	}
	switch {
	case !ask.saw(run):
	case run.State == store.Failed, run.State == store.Canceled:
		return &repeated{result.Reviewed, true}, nil
	case run.State == store.Held:
		shown, err := r.loadPlan(ctx, run.ID)
		if err != nil || shown == nil {
			return &repeated{seen: result.Reviewed}, err // held before it was planned
		}
		return &repeated{seen: run.ID}, nil
	}
	if strings.HasSuffix(run.Key, ask.key()) {
		return &repeated{seen: result.Reviewed}, nil // by an attempt that died before it was done
	}
	return nil, nil
}

// unplanned returns the workspaces of a merged pull request whose head has no
// plans here: they get applies all the same, which are held.
func (r *Runner) unplanned(ctx context.Context, pr vcs.PullRequest, old pullRecord, c *workspaces.Config) ([]pullWorkspace, error) {
	before := pr.BaseSHA
	if pr.MergeSHA != pr.HeadSHA || before == "" || before == pr.MergeSHA {
		var err error
		if before, err = r.beforeMerge(ctx, pr); err != nil {
			return nil, err
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
		if o := old.workspace(pw.Name); o.Name != "" {
			pw.Apply = o.Apply // a redelivered event finds its own runs again
			if old.Head == pr.HeadSHA {
				pw.Plan = o.Plan // of that head, whatever it was compared with
			}
		}
		if a.Deleted {
			if had, err := r.hadResources(ctx, pr.Repository, a.Workspace); err != nil {
				return nil, err
			} else if !had {
				continue
			}
			var in runPayload
			in.Workspace = a.Workspace
			if err := r.destruction(ctx, pr.Repository, &comparison{base: before, baseConfig: base, trusted: base}, &pw, &in); err != nil {
				return nil, err
			}
		}
		out = append(out, pw)
	}
	return out, nil
}
