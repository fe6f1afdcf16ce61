package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
)

// eventReplan is an event of Holdfast's own: an apply made a pull request's
// plan of a workspace stale. Event.Branch is the workspace, Event.After the
// commit that was applied.
const eventReplan vcs.EventKind = "replan"

const (
	// maxReplans bounds the pull requests that one apply has planned again, the
	// newest first: those beyond it are planned again when they are merged.
	maxReplans = 25
	// replanDelay gathers the applies of a burst into one plan.
	replanDelay = 10 * time.Second
)

// staleAfter queues that the open pull requests with a plan for the applied
// workspace are planned again.
func (r *Runner) staleAfter(ctx context.Context, repo vcs.Repository, applied store.Run) error {
	prefix := "pull/" + repo.String() + "#"
	records, err := r.Store.Records.List(ctx, prefix)
	if err != nil {
		return err
	}
	var numbers []int
	for _, stored := range records {
		var rec pullRecord
		if err := json.Unmarshal(stored.Value, &rec); err != nil {
			return fmt.Errorf("read %s: %w", stored.Key, err)
		}
		n, err := strconv.Atoi(strings.TrimPrefix(stored.Key, prefix))
		if err != nil || rec.State != vcs.Open || n == applied.PullRequest {
			continue
		}
		if slices.ContainsFunc(rec.Workspaces, func(w pullWorkspace) bool { return w.Name == applied.Workspace && w.Plan != "" }) {
			numbers = append(numbers, n)
		}
	}
	slices.SortFunc(numbers, func(a, b int) int { return b - a })
	var jobs []queue.Job
	for _, n := range numbers[:min(len(numbers), maxReplans)] {
		e := vcs.Event{Kind: eventReplan, Repository: repo, Number: n, Branch: applied.Workspace, After: applied.Commit}
		payload, err := json.Marshal(e)
		if err != nil {
			return err
		}
		jobs = append(jobs, queue.Job{
			Kind: JobEvent, Group: pullName(repo, n), Key: fmt.Sprintf("replan/%s/%s", pullName(repo, n), applied.Workspace),
			Priority: queue.PriorityReplan, RunAt: r.Clock().Add(replanDelay), Payload: payload,
		})
	}
	if len(jobs) == 0 {
		return nil
	}
	_, err = r.Queue.Enqueue(ctx, jobs...)
	return err
}

// replan plans one workspace of an open pull request again, for what is applied
// by now: of a burst of applies the last one counts. A branch that lacks the
// applied commit would be planned as if it undid that commit, which its merge
// does not: of its plan is said that it is an older one.
func (r *Runner) replan(ctx context.Context, e vcs.Event) error {
	after := e.After
	var rec WorkspaceRecord
	if _, err := r.load(ctx, workspaceName(e.Repository, e.Branch), &rec); err != nil {
		return err
	}
	if rec.AppliedCommit != "" {
		after = rec.AppliedCommit
	}
	var pull pullRecord
	if _, err := r.load(ctx, pullName(e.Repository, e.Number), &pull); err != nil {
		return err
	}
	if pull.State != vcs.Open {
		return nil // merged or closed meanwhile
	}
	has, err := r.Git.IsAncestor(ctx, e.Repository, after, pull.Head)
	if err != nil {
		return fmt.Errorf("compare with the applied commit: %w", err)
	}
	if !has {
		err := change(ctx, r, pullName(e.Repository, e.Number), func(rec *pullRecord) {
			for i := range rec.Workspaces {
				if rec.Workspaces[i].Name == e.Branch {
					rec.Workspaces[i].Stale = after
				}
			}
		})
		if err != nil {
			return err
		}
		return r.enqueueReport(ctx, e.Repository, e.Number)
	}
	return r.pullRequest(ctx, e.Repository, e.Number, command{verb: verbPlan, match: []string{e.Branch}, after: after})
}
