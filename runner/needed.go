package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/store"
	"holdfast/vcs"
)

// needs finds out which ended runs are still read by somebody. It remembers
// what each pull request, commit and workspace needs, for a short time.
type needs struct {
	*Runner
	ids map[string]idSet // by the name of a pull request, commit or workspace
}

// idSet are IDs of runs.
type idSet map[string]bool

// run reports whether somebody needs a run: the change that it is of, or its
// workspace.
func (n needs) run(ctx context.Context, run store.Run) (bool, error) {
	repo, err := vcs.ParseRepository(run.Repository)
	if err != nil {
		return false, nil // no record names it
	}
	change, err := n.once(changeOf(repo, run), func() (idSet, error) { return n.byChange(ctx, repo, run) })
	if err != nil || change[run.ID] {
		return change[run.ID], err
	}
	workspace, err := n.once(workspaceName(repo, run.Workspace), func() (idSet, error) { return n.byWorkspace(ctx, repo, run.Workspace) })
	return workspace[run.ID], err
}

// changeOf names the pull request or the commit whose record names a run.
func changeOf(repo vcs.Repository, run store.Run) string {
	if run.PullRequest != 0 {
		return pullName(repo, run.PullRequest)
	}
	return commitName(repo, run.Commit)
}

func (n needs) once(name string, find func() (idSet, error)) (idSet, error) {
	if ids, ok := n.ids[name]; ok {
		return ids, nil
	}
	ids, err := find()
	if err == nil {
		n.ids[name] = ids
	}
	return ids, err
}

// byChange are the runs that a pull request, or a commit, needs: all that it
// names, with the plans that were reviewed, while it is open or one of its
// applies is not over. Then its plans are compared and applied, and all of them
// are shown together.
func (n needs) byChange(ctx context.Context, repo vcs.Repository, run store.Run) (idSet, error) {
	var rec pullRecord
	if run.PullRequest != 0 {
		if _, err := n.load(ctx, changeOf(repo, run), &rec); err != nil {
			return nil, err
		}
	} else {
		var commit commitRecord
		if _, err := n.load(ctx, changeOf(repo, run), &commit); err != nil {
			return nil, err
		}
		rec.State, rec.Workspaces = vcs.Merged, commit.Workspaces
	}
	ids, needed := idSet{}, rec.State == vcs.Open
	for _, w := range rec.Workspaces {
		ids[w.Plan], ids[w.Apply] = true, true
		if w.Apply == "" {
			continue
		}
		apply, err := n.Store.Runs.Get(ctx, w.Apply)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := ids.addReviewed(apply); err != nil {
			return nil, err
		}
		over, err := n.isOver(ctx, repo, apply, rec.State)
		if err != nil {
			return nil, err
		}
		needed = needed || !over
	}
	if !needed {
		return nil, nil
	}
	return ids, nil
}

// isOver reports whether nothing can follow from an apply any more. One that
// failed or is held waits for a person, until its pull request is closed or
// another apply has gone past it.
func (n needs) isOver(ctx context.Context, repo vcs.Repository, apply store.Run, pull vcs.PullState) (bool, error) {
	switch apply.State {
	case store.Held, store.Failed, store.Canceled:
	default:
		return apply.State.Ended(), nil
	}
	if pull == vcs.Closed {
		return true, nil
	}
	var rec WorkspaceRecord
	version, err := n.load(ctx, workspaceName(repo, apply.Workspace), &rec)
	return version == 0 || rec.AppliedAt.After(apply.EndedAt), err
}

// byWorkspace are the runs that a workspace needs: its latest check, those of
// the drift that there is, and what the runs that have not ended go by.
func (n needs) byWorkspace(ctx context.Context, repo vcs.Repository, workspace string) (idSet, error) {
	var rec WorkspaceRecord
	if _, err := n.load(ctx, workspaceName(repo, workspace), &rec); err != nil {
		return nil, err
	}
	var drift DriftRecord
	if _, err := n.load(ctx, driftName(repo, workspace), &drift); err != nil {
		return nil, err
	}
	ids := idSet{rec.CheckRun: true, drift.Held: true}
	if drift.Now != nil {
		ids[drift.Now.Run] = true
	}
	if drift.Proposal.Open {
		ids[drift.Proposal.Run] = true
	}
	for _, e := range drift.Untold {
		ids[e.Run] = true
	}
	unfinished, err := n.Store.Runs.List(ctx, store.RunFilter{
		Repository: repo.String(), Workspace: workspace, States: []store.State{store.Queued, store.Running, store.Unknown}, Limit: maxApplies,
	})
	if err != nil {
		return nil, err
	}
	for _, run := range unfinished {
		if err := ids.addReviewed(run); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// addReviewed adds the run whose plan a run goes by.
func (ids idSet) addReviewed(run store.Run) error {
	if len(run.Result) == 0 {
		return nil
	}
	var result Result
	if err := json.Unmarshal(run.Result, &result); err != nil {
		return fmt.Errorf("read result of run %s: %w", run.ID, err)
	}
	ids[result.Reviewed] = true
	return nil
}

// tooOld reports whether what is stored of a pull request is less than what the
// host shows of it: that was removed by its age, and the host's word stays.
func (r *Runner) tooOld(ctx context.Context, rec pullRecord) (bool, error) {
	old := false
	for _, w := range rec.Workspaces {
		id := cmp.Or(w.Apply, w.Plan)
		if id == "" {
			continue
		}
		run, err := r.Store.Runs.Get(ctx, id)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
		if err == nil && !artifactsRemoved(run) {
			return false, nil // it is not over, or one of its runs is new
		}
		old = true
	}
	return old, nil
}

// removedNote says where a run's plan and log are.
func removedNote(run store.Run, result Result) string {
	days := int(result.Removed.Sub(run.EndedAt) / (24 * time.Hour))
	return fmt.Sprintf("Plan and log were removed %d days after this run ended (retention in the server file).", days)
}

// artifactsRemoved reports whether a run's plan and log were removed by their
// age.
func artifactsRemoved(run store.Run) bool {
	var result struct {
		Removed time.Time `json:"removed"`
	}
	// What cannot be read is told by those who need all of it.
	return len(run.Result) > 0 && json.Unmarshal(run.Result, &result) == nil && !result.Removed.IsZero()
}
