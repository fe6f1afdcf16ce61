package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
)

// orphanAge is how old a run without a job has to be: between storing a run and
// queueing its job there are moments, also on other machines.
const orphanAge = 10 * time.Minute

// endOrphans ends the runs that no job will ever carry out: of a process that
// died between the two, with nobody who asks for that run again (the branch was
// pushed to meanwhile, the slot has passed).
func (r *Runner) endOrphans(ctx context.Context, repo vcs.Repository) error {
	runs, err := r.Store.Runs.List(ctx, store.RunFilter{
		Repository: repo.String(), States: []store.State{store.Queued, store.Running}, Limit: 1000,
	})
	if err != nil {
		return err
	}
	for _, run := range runs {
		// What may have changed the cloud is nothing to be ended by the way.
		if run.Step == stepApply || r.Clock().Sub(run.CreatedAt) < orphanAge {
			continue
		}
		jobs, err := r.Queue.List(ctx, queue.Filter{Key: "run/" + run.ID})
		if err != nil {
			return err
		}
		if len(jobs) > 0 && jobs[0].State != queue.StateDead {
			continue
		}
		if err := r.endOrphan(ctx, repo, run); err != nil {
			return fmt.Errorf("end run %s, which has no job: %w", run.ID, err)
		}
	}
	return nil
}

// endOrphan ends the run if it is still as it was when its job was missing: a
// job ends after its run, so one that ended in between has changed the run.
func (r *Runner) endOrphan(ctx context.Context, repo vcs.Repository, run store.Run) error {
	run.State, run.Step, run.EndedAt = store.Failed, "", r.Clock()
	run.Error = "Holdfast lost the job of this run before it was carried out."
	_, err := r.Store.Runs.Update(ctx, r.Clock(), run)
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	if err != nil {
		return err
	}
	if run.PullRequest == 0 {
		return r.reportOf(ctx, repo, run)
	}
	return r.reportEnded(ctx, repo, run.PullRequest)
}
