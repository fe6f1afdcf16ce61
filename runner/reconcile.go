package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// Start makes sure that every repository is reconciled from now on, first at
// once: what happened while nothing ran is found, and so is what the store forgot
// in a failover that nobody noticed, because all processes were down with it.
func (r *Runner) Start(ctx context.Context) error {
	if r.Store.Failovers != nil {
		if err := r.startRequeue(ctx); err != nil {
			return err
		}
	}
	if err := r.lookEverywhere(ctx); err != nil {
		return err
	}
	return r.startDiscover(ctx, "")
}

// lookEverywhere queues a look at every repository, now.
func (r *Runner) lookEverywhere(ctx context.Context) error {
	all, err := r.all(ctx)
	if err != nil {
		return err
	}
	repos := make([]vcs.Repository, len(all))
	for i, repo := range all {
		repos[i] = repo.Repository
	}
	if err := r.startReconcile(ctx, repos...); err != nil {
		return fmt.Errorf("queue a look at %d repositories: %w", len(repos), err)
	}
	return nil
}

// Sweep removes the files of runs that have ended, which a killed process could
// not, and one that lost a run to another node may not. It is for every process
// that carries out jobs, before it does.
func (r *Runner) Sweep(ctx context.Context) error {
	if err := r.sweep(ctx); err != nil {
		return fmt.Errorf("remove what ended runs left: %w", err)
	}
	return nil
}

func (r *Runner) sweep(ctx context.Context) error {
	runs := filepath.Join(r.DataDir, "runs")
	entries, err := os.ReadDir(runs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		run, err := r.Store.Runs.Get(ctx, e.Name())
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil && !old(e, r.Clock()) {
			// Forgotten by a backend that failed over, perhaps, while an engine is
			// at work there.
			continue
		}
		if err != nil || run.State.Ended() {
			if err := os.RemoveAll(filepath.Join(runs, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// old reports whether a directory has not been changed for a day.
func old(e fs.DirEntry, now time.Time) bool {
	info, err := e.Info()
	return err == nil && now.Sub(info.ModTime()) > 24*time.Hour
}

// handleReconcile compares what the host has with what is stored, and queues
// events for what differs. The job never ends: it waits for its next turn.
func (r *Runner) handleReconcile(ctx context.Context, job queue.Job) error {
	var repo vcs.Repository
	if err := json.Unmarshal(job.Payload, &repo); err != nil {
		return queue.Discard(fmt.Errorf("read payload: %w", err))
	}
	served, ok := r.served(repo)
	if !ok {
		return queue.Discard(fmt.Errorf("repository %s is not served any more", repo))
	}
	next, err := r.interval(ctx, served)
	if err != nil {
		return err
	}
	err = r.reconcile(ctx, repo)
	if errors.Is(err, vcs.ErrNotFound) {
		if next, err = r.missing(ctx, repo, next, err); err != nil {
			return err
		}
		return queue.Snooze(next)
	}
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		if !queue.IsSnooze(err) {
			r.Logger.Warn("reconcile", "repository", repo.String(), "error", err, "hint", hintOf(err))
		}
		if limit := rateLimited(r.Clock(), err); queue.IsSnooze(limit) {
			return limit
		}
		next = min(next, time.Minute)
	}
	return queue.Snooze(next)
}

func (r *Runner) reconcile(ctx context.Context, repo vcs.Repository) error {
	h, err := r.host(repo)
	if err != nil {
		return err
	}
	var known repositoryRecord
	if _, err := r.load(ctx, "repository/"+repo.String(), &known); err != nil {
		return err
	}
	started := r.Clock()
	since := started
	if !known.SeenTo.IsZero() {
		since = known.SeenTo.Add(-10 * time.Minute) // clocks differ
	}
	if err := r.refresh(ctx, repo, ""); err != nil {
		return err
	}
	prs, err := h.PullRequests(ctx, repo, since)
	if err != nil {
		return fmt.Errorf("list pull requests: %w", err)
	}
	if err := r.found(ctx, repo, known); err != nil {
		return err
	}
	for _, pr := range prs {
		var rec pullRecord
		if _, err := r.load(ctx, pullName(repo, pr.Number), &rec); err != nil {
			return err
		}
		if unhandled, err := r.unhandled(ctx, pr, rec); err != nil {
			return err
		} else if !unhandled {
			continue
		}
		if err := r.missedEvent(ctx, pr); err != nil {
			return err
		}
	}
	if err := r.vanished(ctx, repo, prs); err != nil {
		return err
	}
	if h.comments != nil && !known.SeenTo.IsZero() {
		if err := r.missedComments(ctx, h, repo, since); err != nil {
			return err
		}
	}
	if err := r.missedTickets(ctx, h, repo); err != nil {
		return err
	}
	if err := r.missedGroups(ctx, repo); err != nil {
		return err
	}
	if err := r.verifyReports(ctx, repo, prs); err != nil {
		return err
	}
	if err := r.endOrphans(ctx, repo); err != nil {
		return err
	}
	return change(ctx, r, "repository/"+repo.String(), func(rec *repositoryRecord) { rec.SeenTo = started })
}

// missedEvent queues what no event has told yet of a pull request.
func (r *Runner) missedEvent(ctx context.Context, pr vcs.PullRequest) error {
	return r.Receive(ctx, vcs.Event{
		Delivery: fmt.Sprintf("reconcile/%s/%d/%s/%s", pr.Repository, pr.Number, pr.HeadSHA, pr.State),
		Kind:     vcs.EventPullRequest, Repository: pr.Repository, Number: pr.Number,
	})
}

// missed reports whether a pull request is not as it was last seen.
func missed(pr vcs.PullRequest, rec pullRecord) bool {
	switch pr.State {
	case vcs.Merged:
		return rec.State != vcs.Merged || rec.Merge != pr.MergeSHA
	case vcs.Closed:
		return rec.State == vcs.Open
	}
	return rec.Head != pr.HeadSHA || rec.State != pr.State || rec.Base != pr.BaseRef
}

// refresh keeps what the default branch's head says of the workspaces, and looks
// at what was pushed to it; who pushed it may be unknown.
func (r *Runner) refresh(ctx context.Context, repo vcs.Repository, who string) error {
	h, err := r.host(repo)
	if err != nil {
		return err
	}
	remote, err := h.Remote(ctx, repo)
	if err != nil {
		return fmt.Errorf("ask %s for the repository: %w", repo.Host, err)
	}
	if err := r.Git.Fetch(ctx, repo, remote); err != nil {
		return fmt.Errorf("fetch %s: %w", repo, err)
	}
	sha, err := r.Git.Resolve(ctx, repo, "refs/heads/"+remote.DefaultBranch)
	if err != nil {
		return fmt.Errorf("default branch %s: %w", remote.DefaultBranch, err)
	}
	var known repositoryRecord
	if _, err := r.load(ctx, "repository/"+repo.String(), &known); err != nil {
		return err
	}
	if known.SHA == sha {
		return nil
	}
	next := repositoryRecord{DefaultBranch: remote.DefaultBranch, SHA: sha, Described: sha}
	c, problems, release, err := r.describe(ctx, repo, sha)
	if err != nil {
		return err
	}
	defer release()
	next.Problems = problems
	if c.Config != nil {
		next.Workspaces = inventory(c.Config, c.dir)
		// First: once the record is written nobody looks at these commits again.
		if err := r.pushedSince(ctx, repo, known.described(), c, sha, who); err != nil {
			return err
		}
	} else {
		// A configuration that cannot be read changes nothing about what is
		// checked: the last readable one stands.
		next.Workspaces, next.Described = known.Workspaces, known.described()
		r.Logger.Error("the default branch's configuration cannot be read", "repository", repo.String(), "commit", sha, "error", next.Problems)
	}
	err = change(ctx, r, "repository/"+repo.String(), func(rec *repositoryRecord) {
		next.SeenTo = rec.SeenTo
		*rec = next
	})
	select {
	case r.described <- struct{}{}:
	default: // the scheduler looks already
	}
	return err
}

// inventory returns the workspaces of a configuration with their inputs.
func inventory(c *workspaces.Config, dir string) []knownWorkspace {
	var out []knownWorkspace
	for _, w := range c.Workspaces {
		k := knownWorkspace{Workspace: w}
		var err error
		if k.Inputs, err = c.Inputs(dir, w); err != nil {
			k.Problem = err.Error()
		}
		if p := problemsOf(c, w.Name); len(p) > 0 {
			k.Problem = p.Error()
		}
		out = append(out, k)
	}
	return out
}
