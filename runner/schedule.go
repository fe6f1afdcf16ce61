package runner

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"time"

	"github.com/robfig/cron/v3"
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

// scheduleOne queues one workspace's check if it is due, or the retry of one
// that failed, and notes where the last good one is too old.
func (r *Runner) scheduleOne(ctx context.Context, repo Repository, w knownWorkspace, head string, rec WorkspaceRecord) error {
	schedule, err := w.Drift.Cron()
	if err != nil || schedule == nil {
		return nil // a Problem of the configuration, reported where that is read
	}
	now := r.Clock()
	if err := r.overdue(ctx, repo, w, schedule, rec, now); err != nil {
		return err
	}
	slot := now
	if !rec.Slot.IsZero() {
		var due bool
		if slot, due = dueSlot(schedule, rec.Slot, now, seed(workspaceName(repo.Repository, w.Name))); !due {
			return r.retryCheck(ctx, repo, w, head, rec, now)
		}
		// The last check is still waiting: another behind it would only pile up.
		unfinished, err := r.isUnfinished(ctx, rec.CheckRun)
		if err != nil {
			return err
		}
		if !unfinished {
			at := lateStart(schedule, slot, now, seed(workspaceName(repo.Repository, w.Name)))
			if _, err := r.startDrift(ctx, repo, w, head, slot.UTC().Format(time.RFC3339), at); err != nil {
				return err
			}
		}
	}
	return r.changeWorkspace(ctx, repo.Repository, w.Workspace, func(rec *WorkspaceRecord) {
		if slot.After(rec.Slot) {
			rec.Slot = slot
		}
		if rec.KnownAt.IsZero() {
			rec.KnownAt = now
		}
	})
}

// lateStart spreads the checks whose slot came while nothing ran, as their
// slots' jitter would have: a server that was down for a night does not start
// them all at once.
func lateStart(s cron.Schedule, slot, now time.Time, seed uint64) time.Time {
	j := jitter(s, slot, seed)
	if late := now.Sub(slot.Add(j)); late < time.Minute {
		return time.Time{}
	}
	return now.Add(j)
}

// retryCheck queues the check of a workspace whose last one failed, at its time.
func (r *Runner) retryCheck(ctx context.Context, repo Repository, w knownWorkspace, head string, rec WorkspaceRecord, now time.Time) error {
	if rec.RetryAt.IsZero() || now.Before(rec.RetryAt) {
		return nil
	}
	unfinished, err := r.isUnfinished(ctx, rec.CheckRun)
	if err != nil || unfinished {
		return err
	}
	if _, err := r.startDrift(ctx, repo, w, head, "retry/"+rec.RetryAt.UTC().Format(time.RFC3339Nano), time.Time{}); err != nil {
		return err
	}
	return r.changeWorkspace(ctx, repo.Repository, w.Workspace, func(now *WorkspaceRecord) {
		if now.RetryAt.Equal(rec.RetryAt) {
			now.RetryAt = time.Time{}
		}
	})
}

// overdue notes once that no check has succeeded for too long: what is unknown
// is not shown as in sync.
func (r *Runner) overdue(ctx context.Context, repo Repository, w knownWorkspace, schedule cron.Schedule, rec WorkspaceRecord, now time.Time) error {
	if rec.Overdue || !isOverdue(schedule, w.Drift.Freshness, rec, now) {
		return nil
	}
	return r.changeWorkspace(ctx, repo.Repository, w.Workspace, func(rec *WorkspaceRecord) {
		if !isOverdue(schedule, w.Drift.Freshness, *rec, now) {
			return // a check came in between
		}
		rec.Overdue = true
		if rec.State == InSync {
			rec.State = Unknown
		}
		if rec.State == Unknown && rec.Error == "" {
			rec.Error = "No check has succeeded since " + lastGood(*rec).UTC().Format("2006-01-02 15:04 MST") + "."
		}
	})
}

// lastGood is when the workspace was last known for certain: checked or
// applied, or else when it was first to be checked.
func lastGood(rec WorkspaceRecord) time.Time {
	last := rec.KnownAt
	for _, t := range []time.Time{rec.GoodAt, rec.AppliedAt} {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// isOverdue reports whether the last good check is older than it may be:
// freshness, or two slots of the schedule.
func isOverdue(s cron.Schedule, freshness time.Duration, rec WorkspaceRecord, now time.Time) bool {
	last := lastGood(rec)
	if last.IsZero() {
		return false
	}
	if freshness > 0 {
		return now.Sub(last) > freshness
	}
	second := s.Next(s.Next(last))
	return !second.IsZero() && now.After(second.Add(maxJitter))
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
