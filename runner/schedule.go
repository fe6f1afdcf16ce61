package runner

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"time"

	"github.com/robfig/cron/v3"

	"holdfast/workspaces"
)

// maxJitter bounds how far a check is moved from its slot, so that workspaces
// with one schedule do not start at the same instant.
const maxJitter = 10 * time.Minute

// Schedule queues the drift checks that are due, every few seconds, until ctx
// ends. Any number of nodes may run it: a slot is a run's key.
func (r *Runner) Schedule(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		if err := r.ScheduleDue(ctx); err != nil && ctx.Err() == nil {
			r.Logger.Error("schedule drift checks", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ScheduleDue queues the drift checks that are due now.
func (r *Runner) ScheduleDue(ctx context.Context) error {
	all, err := r.all(ctx)
	if err != nil {
		return err
	}
	for _, repo := range all {
		var known repositoryRecord
		if _, err := r.load(ctx, "repository/"+repo.String(), &known); err != nil {
			return err
		}
		if known.Gone {
			continue
		}
		stored, err := r.Store.Records.List(ctx, "workspace/"+repo.String()+"/")
		if err != nil {
			return err
		}
		records := map[string]WorkspaceRecord{}
		for _, s := range stored {
			var rec WorkspaceRecord
			if err := json.Unmarshal(s.Value, &rec); err != nil {
				return err
			}
			records[rec.Name] = rec
		}
		for _, w := range known.Workspaces {
			if w.Drift.Schedule == "" || w.Problem != "" {
				continue
			}
			if err := r.scheduleOne(ctx, repo, w, known.described(), records[w.Name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// scheduleOne queues one workspace's check if it is due.
func (r *Runner) scheduleOne(ctx context.Context, repo Repository, w knownWorkspace, head string, rec WorkspaceRecord) error {
	schedule, err := workspaces.ParseCron(w.Drift.Schedule)
	if err != nil {
		return nil // a Problem of the configuration, reported where that is read
	}
	now := r.Clock()
	slot := now
	if !rec.Slot.IsZero() {
		var due bool
		if slot, due = dueSlot(schedule, rec.Slot, now, seed(workspaceName(repo.Repository, w.Name))); !due {
			return nil
		}
		// The last check is still waiting: another behind it would only pile up.
		unfinished, err := r.isUnfinished(ctx, rec.CheckRun)
		if err != nil {
			return err
		}
		if !unfinished {
			if _, err := r.startDrift(ctx, repo, w, head, slot.UTC().Format(time.RFC3339)); err != nil {
				return err
			}
		}
	}
	return r.changeWorkspace(ctx, repo.Repository, w.Workspace, func(rec *WorkspaceRecord) {
		if slot.After(rec.Slot) {
			rec.Slot = slot
		}
	})
}

// dueSlot returns the latest slot after last whose time, moved by the jitter,
// has come. Slots that were missed while nothing ran count once.
func dueSlot(s cron.Schedule, last, now time.Time, seed uint64) (time.Time, bool) {
	var due time.Time
	if early := now.Add(-31 * 24 * time.Hour); last.Before(early) {
		last = early // a schedule of minutes after a year's rest is found quickly
	}
	for slot := s.Next(last); !slot.IsZero() && !slot.Add(jitter(s, slot, seed)).After(now); slot = s.Next(slot) {
		due = slot
	}
	return due, !due.IsZero()
}

// jitter is how far a slot is moved: the same for one workspace, and at most a
// tenth of the time to the next slot.
func jitter(s cron.Schedule, slot time.Time, seed uint64) time.Duration {
	window := min(s.Next(slot).Sub(slot)/10, maxJitter)
	if window <= 0 {
		return 0
	}
	return time.Duration(seed % uint64(window))
}

// seed is a number that is always the same for a name.
func seed(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64()
}
