package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"holdfast/store"
	"holdfast/vcs"
)

// maxJitter bounds how far a check is moved from its slot, so that workspaces
// with one schedule do not start at the same instant.
const maxJitter = 10 * time.Minute

const (
	// A scheduler looks at what changed on other nodes at least this often, and
	// at everything that is stored at least every rescan.
	lookEvery = 2 * time.Minute
	rescan    = 10 * time.Minute
	// leastPause is between two looks, and longestPause between two at one
	// workspace: what is later was noted by a clock that was wrong.
	leastPause   = time.Second
	longestPause = 24*time.Hour + time.Minute
)

// Schedule queues the drift checks that are due, until ctx ends. Any number of
// nodes may run it: a slot is a run's key.
func (r *Runner) Schedule(ctx context.Context) {
	s := &scheduler{Runner: r, repositories: map[vcs.Repository]*scheduled{}}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		case <-r.described:
			for _, known := range s.repositories {
				known.next = time.Time{}
			}
		case f := <-r.failed:
			s.tryAgain(f)
		}
		next, err := s.look(ctx)
		if err != nil && ctx.Err() == nil {
			r.Logger.Error("schedule drift checks", "error", err)
			next = r.Clock().Add(5 * time.Second)
		}
		pause.Reset(min(max(next.Sub(r.Clock()), leastPause), lookEvery))
	}
}

// ScheduleDue queues the drift checks that are due now.
func (r *Runner) ScheduleDue(ctx context.Context) error {
	s := &scheduler{Runner: r, repositories: map[vcs.Repository]*scheduled{}}
	_, err := s.look(ctx)
	return err
}

// scheduler remembers when each workspace has to be looked at next, so that a
// look costs what is due and not what there is.
type scheduler struct {
	*Runner
	repositories map[vcs.Repository]*scheduled
	swept        time.Time // the hour whose sweep is queued or done; see startRetain
}

// failedCheck is a workspace whose check failed, and when it is tried again.
type failedCheck struct {
	repository vcs.Repository
	workspace  string
	at         time.Time
}

// tryAgain remembers a retry that would else be found with the next rescan; on
// other nodes it is.
func (s *scheduler) tryAgain(f failedCheck) {
	known := s.repositories[f.repository]
	if known == nil {
		return
	}
	if at, ok := known.wake[f.workspace]; ok && f.at.Before(at) {
		known.wake[f.workspace] = f.at
	}
	if f.at.Before(known.next) {
		known.next = f.at
	}
}

// scheduled is what a scheduler remembers of a repository.
type scheduled struct {
	version int64 // of the repository's record
	known   repositoryRecord
	wake    map[string]time.Time // when each workspace is looked at next
	// versions are those of the workspaces' records when they were last listed:
	// another node may have changed when they are due.
	versions map[string]int64
	read     time.Time // when the repository's record was last read
	scanned  time.Time // when its workspaces were last listed
	next     time.Time // when there is something to do
}

// look queues what is due, and returns when something is due next.
func (s *scheduler) look(ctx context.Context) (next time.Time, err error) {
	now := s.Clock()
	if err := s.startRetain(ctx, now); err != nil {
		return next, err
	}
	all, err := s.all(ctx)
	if err != nil {
		return next, err
	}
	next = now.Add(lookEvery)
	for _, repo := range all {
		known := s.repositories[repo.Repository]
		if known == nil || !known.next.After(now) {
			if known, err = s.visit(ctx, repo, known, now); err != nil {
				return next, err
			}
			s.repositories[repo.Repository] = known
		}
		if known.next.Before(next) {
			next = known.next
		}
	}
	return next, nil
}

// visit looks at what is due of one repository: at all of it where its
// configuration is another one, or where that was not done for long.
func (s *scheduler) visit(ctx context.Context, repo Repository, known *scheduled, now time.Time) (*scheduled, error) {
	if known == nil {
		known = &scheduled{wake: map[string]time.Time{}, versions: map[string]int64{}}
	}
	if now.Sub(known.read) >= lookEvery || known.next.IsZero() {
		if err := s.read(ctx, repo, known, now); err != nil {
			return nil, err
		}
	}
	if err := s.due(ctx, repo, known, now); err != nil {
		return nil, err
	}
	known.next = now.Add(lookEvery)
	for _, at := range known.wake {
		if at.Before(known.next) {
			known.next = at
		}
	}
	return known, nil
}

// read brings what is remembered of a repository up to date. Workspaces that
// changed are due at once.
func (s *scheduler) read(ctx context.Context, repo Repository, known *scheduled, now time.Time) error {
	rec, err := s.Store.Records.Get(ctx, "repository/"+repo.String())
	if errors.Is(err, store.ErrNotFound) {
		known.read = now
		return nil
	}
	if err != nil {
		return err
	}
	if rec.Version != known.version {
		known.version, known.known = rec.Version, repositoryRecord{}
		if err := json.Unmarshal(rec.Value, &known.known); err != nil {
			return fmt.Errorf("read %s: %w", rec.Key, err)
		}
		known.scanned = time.Time{}
		clear(known.wake)
		for _, w := range known.known.Workspaces {
			if w.Drift.Schedule != "" && w.Problem == "" && !known.known.Gone {
				known.wake[w.Name] = now
			}
			if err := s.unscheduled(ctx, repo, w); err != nil {
				return err
			}
		}
	}
	known.read = now
	if now.Sub(known.scanned) < rescan {
		return nil
	}
	prefix := workspaceName(repo.Repository, "")
	stored, err := s.Store.Records.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, w := range stored {
		name := strings.TrimPrefix(w.Key, prefix)
		if _, scheduled := known.wake[name]; scheduled && known.versions[name] != w.Version {
			known.versions[name], known.wake[name] = w.Version, now
		}
	}
	known.scanned = now
	return nil
}

// unscheduled forgets that a workspace is overdue which is not checked any more.
func (s *scheduler) unscheduled(ctx context.Context, repo Repository, w knownWorkspace) error {
	if w.Drift.Schedule != "" {
		return nil
	}
	var rec WorkspaceRecord
	if _, err := s.load(ctx, workspaceName(repo.Repository, w.Name), &rec); err != nil || !rec.Overdue && rec.RetryAt.IsZero() {
		return err
	}
	return s.changeWorkspace(ctx, repo.Repository, w.Workspace, func(rec *WorkspaceRecord) {
		rec.Overdue, rec.RetryAt, rec.KnownAt = false, time.Time{}, time.Time{}
	})
}

// due looks at the workspaces of a repository whose time has come.
func (s *scheduler) due(ctx context.Context, repo Repository, known *scheduled, now time.Time) error {
	for _, w := range known.known.Workspaces {
		at, ok := known.wake[w.Name]
		if !ok || at.After(now) && !at.After(now.Add(longestPause)) {
			continue
		}
		var rec WorkspaceRecord // zero where it was never heard of
		if _, err := s.load(ctx, workspaceName(repo.Repository, w.Name), &rec); err != nil {
			return err
		}
		var err error
		if known.wake[w.Name], err = s.scheduleOne(ctx, repo, w, known.known.described(), rec); err != nil {
			return err
		}
	}
	return nil
}

// scheduleOne queues one workspace's check if it is due, or the retry of one
// that failed, and notes where the last good one is too old. It returns when to
// look again.
func (r *Runner) scheduleOne(ctx context.Context, repo Repository, w knownWorkspace, head string, rec WorkspaceRecord) (time.Time, error) {
	now := r.Clock()
	schedule, err := w.Drift.Cron()
	if err != nil || schedule == nil {
		return now.Add(24 * time.Hour), nil // a Problem of the configuration, reported where that is read
	}
	spread := seed(workspaceName(repo.Repository, w.Name))
	if err := r.overdue(ctx, repo, w, schedule, rec, now); err != nil {
		return now, err
	}
	slot := now
	if rec.Slot.After(now.Add(maxSkew)) {
		// It was noted by a clock that was wrong, which a check may wait for.
		waiting, err := r.waitingSlot(ctx, repo.Repository, rec)
		if err == nil && waiting != "" {
			_, err = r.startDrift(ctx, repo, w, head, waiting, time.Time{})
		}
		if err != nil {
			return now, err
		}
	} else if !rec.Slot.IsZero() {
		var due bool
		if slot, due = dueSlot(schedule, rec.Slot, now, spread); !due {
			return nextLook(schedule, w.Drift.Freshness, rec, now, spread), r.retryCheck(ctx, repo, w, head, rec, now)
		}
		// The last check is still waiting: another behind it would only pile up.
		unfinished, err := r.isUnfinished(ctx, rec.CheckRun)
		if err != nil {
			return now, err
		}
		if !unfinished {
			at := lateStart(schedule, slot, now, spread)
			if _, err := r.startDrift(ctx, repo, w, head, slot.UTC().Format(time.RFC3339), at); err != nil {
				return now, err
			}
		}
	}
	err = r.changeWorkspace(ctx, repo.Repository, w.Workspace, func(known *WorkspaceRecord) {
		known.inTime(now, now)
		if slot.After(known.Slot) {
			known.Slot = slot
		}
		if known.KnownAt.IsZero() {
			known.KnownAt = slot
		}
		rec = *known
	})
	return nextLook(schedule, w.Drift.Freshness, rec, now, spread), err
}

// nextLook is when a workspace may be due next: for its slot, its retry, or
// because its last good check is too old.
func nextLook(s cron.Schedule, freshness time.Duration, rec WorkspaceRecord, now time.Time, seed uint64) time.Time {
	next := now.Add(24 * time.Hour) // what changes its record shows earlier
	soonest := func(at time.Time) {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	if slot := s.Next(rec.Slot); !slot.IsZero() {
		soonest(slot.Add(jitter(s, slot, seed)))
	}
	soonest(rec.RetryAt)
	if !rec.Overdue {
		soonest(overdueAt(s, freshness, rec))
	}
	if next.Before(now.Add(leastPause)) {
		next = now.Add(5 * time.Second) // it is due, and something is in its way
	}
	return next
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

// isOverdue reports whether the last good check is older than it may be.
func isOverdue(s cron.Schedule, freshness time.Duration, rec WorkspaceRecord, now time.Time) bool {
	at := overdueAt(s, freshness, rec)
	return !at.IsZero() && now.After(at)
}

// overdueAt is when the last good check is older than it may be: freshness, or
// two slots of the schedule. Zero where nothing is known yet.
func overdueAt(s cron.Schedule, freshness time.Duration, rec WorkspaceRecord) time.Time {
	last := lastGood(rec)
	if last.IsZero() {
		return last
	}
	if freshness > 0 {
		return last.Add(freshness)
	}
	second := s.Next(s.Next(last))
	if second.IsZero() {
		return second
	}
	return second.Add(maxJitter)
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
