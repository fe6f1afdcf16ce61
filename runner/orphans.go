package runner

import (
	"context"
	"encoding/json"
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

// JobRequeue looks for runs whose jobs a backend has forgotten.
const JobRequeue = "requeue"

// Recover asks for the jobs and events that a backend may have forgotten when it
// failed over: the runs that it still has tell what their jobs were, and the
// hosts what happened.
func (r *Runner) Recover(ctx context.Context) error {
	if err := r.startRequeue(ctx); err != nil {
		return err
	}
	if err := r.lookEverywhere(ctx); err != nil {
		return err
	}
	return r.startDiscover(ctx, "")
}

func (r *Runner) startRequeue(ctx context.Context) error {
	_, err := r.Queue.Enqueue(ctx, queue.Job{Kind: JobRequeue, Key: JobRequeue, Again: true, Priority: queue.PriorityPrompt})
	return err
}

// handleRequeue queues again the jobs of all runs that have not ended. One that
// is there stays as it is, and one whose run ends meanwhile finds that out.
func (r *Runner) handleRequeue(ctx context.Context, _ queue.Job) error {
	before := ""
	for {
		runs, err := r.Store.Runs.List(ctx, store.RunFilter{States: []store.State{store.Queued, store.Running, store.Unknown}, Before: before, Limit: 200})
		if err != nil || len(runs) == 0 {
			return err
		}
		for _, run := range runs {
			if _, err := r.requeue(ctx, run); err != nil {
				return fmt.Errorf("queue the job of run %s again: %w", run.ID, err)
			}
		}
		before = runs[len(runs)-1].ID
	}
}

// requeue queues the job of a run that has not ended; false where it is not
// known what the job was.
func (r *Runner) requeue(ctx context.Context, run store.Run) (bool, error) {
	var result Result
	if len(run.Result) == 0 || json.Unmarshal(run.Result, &result) != nil || len(result.Order) == 0 {
		return false, nil
	}
	var in runPayload
	if err := json.Unmarshal(result.Order, &in); err != nil {
		return false, err
	}
	priority := queue.PriorityDrift
	switch run.Kind {
	case store.KindApply:
		priority = queue.PriorityApply
	case store.KindPlan:
		priority = queue.PriorityInteractive
	}
	return true, r.enqueueRun(ctx, run, in, priority)
}

// leastKept is how old a run is at least that was removed by its age.
const leastKept = 24 * time.Hour

// young reports whether a run of that ID, if it is not stored, was not removed
// by its age but forgotten by a backend that failed over.
func (r *Runner) young(id string) bool { return id > idAt(r.Clock().Add(-leastKept)) }

// unhandled reports whether a pull request is not as it was last seen, or its
// record names runs that the backend has forgotten: an event that was being
// handled during a failover may have stored its runs before it and the record
// after it.
func (r *Runner) unhandled(ctx context.Context, pr vcs.PullRequest, rec pullRecord) (bool, error) {
	if missed(pr, rec) {
		return true, nil
	}
	for _, w := range rec.Workspaces {
		id := w.Plan
		if rec.State == vcs.Merged {
			id = w.Apply
		}
		if rec.State == vcs.Closed || !r.young(id) {
			continue
		}
		if _, err := r.Store.Runs.Get(ctx, id); errors.Is(err, store.ErrNotFound) {
			return true, nil
		} else if err != nil {
			return false, err
		}
	}
	return false, nil
}

// endOrphans ends the runs that no job will ever carry out: of a process that
// died between the two, with nobody who asks for that run again (the branch was
// pushed to meanwhile, the slot has passed). One that may have changed the cloud
// gets its job again: what it did has to be found out.
func (r *Runner) endOrphans(ctx context.Context, repo vcs.Repository) error {
	runs, err := r.Store.Runs.List(ctx, store.RunFilter{
		Repository: repo.String(), States: []store.State{store.Queued, store.Running}, Limit: 1000,
	})
	if err != nil {
		return err
	}
	for _, run := range runs {
		if r.Clock().Sub(run.CreatedAt) < orphanAge {
			continue
		}
		jobs, err := r.Queue.List(ctx, queue.Filter{Key: "run/" + run.ID})
		if err != nil {
			return err
		}
		if len(jobs) > 0 && jobs[0].State != queue.StateDead {
			continue
		}
		if run.Step == stepApply {
			if len(jobs) == 0 {
				_, err = r.requeue(ctx, run)
			}
		} else {
			err = r.endOrphan(ctx, repo, run)
		}
		if err != nil {
			return fmt.Errorf("run %s, which has no job: %w", run.ID, err)
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
