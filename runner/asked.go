package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
)

// eventCheck is an event of Holdfast's own: somebody outside of the host's
// comments wants a workspace checked for drift. Event.Branch is the workspace,
// or a glob of names; Event.Sender who asks.
const eventCheck vcs.EventKind = "check"

// checkDelay gathers the events of one change in a cloud into one check, which
// begins after the last of them.
const checkDelay = 15 * time.Second

// CheckSoon queues a drift check of one workspace, as an audit log asks for it:
// what is asked for again until it begins is one check. Returns
// vcs.ErrNotServed.
func (r *Runner) CheckSoon(ctx context.Context, repo vcs.Repository, workspace string) error {
	if _, ok := r.served(repo); !ok {
		return fmt.Errorf("%w: %s", vcs.ErrNotServed, repo)
	}
	return AskForChecks(ctx, r.Queue, r.Clock().Add(checkDelay), vcs.Event{Repository: repo, Branch: workspace, Sender: "cloud event"})
}

// AskForChecks queues drift checks of the workspaces of e.Repository that
// e.Branch names, a name or a glob, for e.Sender; also for those who only have
// the queue.
func AskForChecks(ctx context.Context, q *queue.Queue, at time.Time, e vcs.Event) error {
	e.Kind = eventCheck
	payload, err := json.Marshal(e)
	if err != nil {
		return err
	}
	name := "check/" + e.Repository.String() + "/" + e.Branch
	_, err = q.Enqueue(ctx, queue.Job{Kind: JobEvent, Group: name, Key: name, Again: true, Priority: queue.PriorityPrompt, RunAt: at, Payload: payload})
	return err
}

// checkWanted queues the checks that an event asks for. One that is queued and
// has not begun will do; one that has begun may have looked too early.
func (r *Runner) checkWanted(ctx context.Context, e vcs.Event, job queue.Job) error {
	var known repositoryRecord
	if _, err := r.load(ctx, "repository/"+e.Repository.String(), &known); err != nil {
		return err
	}
	served, ok := r.served(e.Repository)
	if !ok {
		return queue.Discard(fmt.Errorf("repository %s is not served any more", e.Repository))
	}
	n := 0
	for _, w := range known.Workspaces {
		if !matches([]string{e.Branch}, w.Name) || w.Problem != "" {
			continue
		}
		n++
		var rec WorkspaceRecord
		if _, err := r.load(ctx, workspaceName(e.Repository, w.Name), &rec); err != nil {
			return err
		}
		slot, err := r.waitingSlot(ctx, e.Repository, rec)
		if err != nil {
			return err
		}
		if slot == "" {
			slot = fmt.Sprintf("event/%s/%d", job.ID, job.Token)
		}
		if _, err := r.startDrift(ctx, served, w, known.described(), slot, time.Time{}); err != nil {
			return err
		}
	}
	if n == 0 {
		r.Logger.Warn("a check was asked for, and there is no such workspace", "repository", e.Repository.String(), "workspace", e.Branch, "by", e.Sender)
	}
	return nil
}

// waitingSlot is the slot of a workspace's check that has not begun; empty where
// there is none. To start it again, at once, moves it to now.
func (r *Runner) waitingSlot(ctx context.Context, repo vcs.Repository, rec WorkspaceRecord) (string, error) {
	run, err := r.Store.Runs.Get(ctx, rec.CheckRun)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	slot, ok := strings.CutPrefix(run.Key, fmt.Sprintf("drift/%s/%s/", repo, rec.Name))
	if err != nil || !ok || run.State != store.Queued {
		return "", err
	}
	return slot, nil
}
