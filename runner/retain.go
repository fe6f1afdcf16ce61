package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"holdfast/queue"
	"holdfast/store"
)

// JobRetain removes what was kept for long enough; see Retention.
const JobRetain = "retain"

const (
	// retainEvery is how often a sweep begins, and retainPage how many runs one
	// attempt at it looks at before it gives way to other jobs.
	retainEvery = time.Hour
	retainPage  = 200
)

// Retention is for how long runs are kept after they ended. 0 is for ever.
type Retention struct {
	// Artifacts is for how long a run's plan and log are kept; what the run
	// found, in numbers, stays.
	Artifacts time.Duration
	// Checks is for how long drift checks are kept that found nothing.
	Checks time.Duration
	// Runs is for how long all other runs are kept.
	Runs time.Duration
}

// fate is what becomes of a run now: each includes those before it.
type fate int

const (
	stays fate = iota
	loses      // its artifacts
	goes
)

// fate decides by a run's age. Whether somebody needs it is not asked here.
func (k Retention) fate(run store.Run, now time.Time) fate {
	over := func(limit time.Duration) bool { return limit > 0 && now.Sub(run.EndedAt) >= limit }
	switch {
	case !run.State.Ended():
		return stays
	case over(k.Runs), over(k.Checks) && foundNothing(run):
		return goes
	case over(k.Artifacts):
		return loses
	}
	return stays
}

// foundNothing reports whether a run is a drift check of which nothing follows.
func foundNothing(run store.Run) bool {
	switch run.State {
	case store.NoChanges, store.Superseded, store.Canceled:
		return run.Kind == store.KindDrift
	}
	return false
}

// sweepStep is a part of a sweep.
type sweepStep string

// The steps of a sweep, in their order. The first three each go through the
// runs that came of their age since the last sweep; stepKept looks again at
// those that were needed then.
const (
	sweepChecks    sweepStep = "checks"
	sweepArtifacts sweepStep = "artifacts"
	sweepRuns      sweepStep = "runs"
	sweepKept      sweepStep = "kept"
	sweepEnd       sweepStep = ""
)

// next is the step after s.
func (s sweepStep) next() sweepStep {
	switch s {
	case sweepChecks:
		return sweepArtifacts
	case sweepArtifacts:
		return sweepRuns
	case sweepRuns:
		return sweepKept
	}
	return sweepEnd
}

// concerns reports whether a step is about a run at all.
func (s sweepStep) concerns(run store.Run) bool {
	return s != sweepChecks || foundNothing(run) || run.Kind == store.KindDrift && !run.State.Ended()
}

// want is what has to become of a run for a step to be done with it.
func (s sweepStep) want() fate {
	if s == sweepArtifacts {
		return loses
	}
	return goes
}

// age is how old the runs of a step are; 0 where there are none.
func (k Retention) age(s sweepStep) time.Duration {
	switch s {
	case sweepChecks:
		return k.Checks
	case sweepArtifacts:
		return k.Artifacts
	case sweepRuns:
		return k.Runs
	}
	return 0
}

const retentionName = "retention"

// retentionRecord is how far sweeps came, stored under "retention".
type retentionRecord struct {
	Slot time.Time `json:"slot"` // the hour of the latest sweep
	Step sweepStep `json:"step"` // of the sweep under way; empty: it is done
	// Top is below which runs are old enough for Step, and At how far down it
	// came: runs are listed newest first. In sweepKept At is the latest run
	// that was looked at.
	Top string `json:"top,omitempty"`
	At  string `json:"at,omitempty"`
	// Passed is by step the ID below which no run has to be looked at again:
	// it was done with, or is among the kept.
	Passed map[sweepStep]string `json:"passed,omitempty"`
}

// enter begins a step.
func (rec *retentionRecord) enter(s sweepStep) { rec.Step, rec.Top, rec.At = s, "", "" }

// comesBy reports whether a later sweep comes by a run, so that nobody has to
// remember it.
func (rec *retentionRecord) comesBy(run store.Run) bool {
	return run.ID >= rec.Passed[sweepRuns] && (!foundNothing(run) || run.ID >= rec.Passed[sweepChecks])
}

// keptName names the record that remembers a run which was old enough and could
// not be removed yet.
func keptName(run string) string { return keptPrefix + run }

const keptPrefix = "kept/"

// startRetain queues the sweep of this hour if no node has. There is one job:
// where it is dead, the next hour revives it.
func (s *scheduler) startRetain(ctx context.Context, now time.Time) error {
	slot := now.UTC().Truncate(retainEvery)
	if s.swept.Equal(slot) {
		return nil
	}
	var rec retentionRecord
	if _, err := s.load(ctx, retentionName, &rec); err != nil {
		return err
	}
	if !rec.Slot.Equal(slot) || rec.Step != sweepEnd {
		if _, err := s.Queue.Enqueue(ctx, queue.Job{Kind: JobRetain, Key: JobRetain, Priority: queue.PriorityDrift}); err != nil {
			return fmt.Errorf("queue the removal of what is old: %w", err)
		}
	}
	s.swept = slot
	return nil
}

// handleRetain does one page of this hour's sweep, and comes back for the next
// one until the sweep is done. A page that is done twice is as good as once.
func (r *Runner) handleRetain(ctx context.Context, _ queue.Job) error {
	var rec retentionRecord
	if _, err := r.load(ctx, retentionName, &rec); err != nil {
		return err
	}
	now := r.Clock()
	if rec.Step == sweepEnd {
		slot := now.UTC().Truncate(retainEvery)
		if rec.Slot.Equal(slot) {
			return nil
		}
		if err := r.forgetNodes(ctx, now); err != nil {
			return err
		}
		rec.Slot = slot
		rec.enter(sweepChecks)
	}
	s := &sweep{Runner: r, now: now, needs: needs{Runner: r, ids: map[string]idSet{}}}
	do := s.page
	if rec.Step == sweepKept {
		do = s.keptPage
	}
	done, err := do(ctx, &rec)
	if err != nil {
		return err
	}
	if done {
		rec.enter(rec.Step.next())
	}
	if err := change(ctx, r, retentionName, func(stored *retentionRecord) { *stored = rec }); err != nil {
		return err
	}
	if rec.Step != sweepEnd {
		return queue.Snooze(0)
	}
	return nil
}

// sweep is one page of a sweep.
type sweep struct {
	*Runner
	now   time.Time
	needs needs
}

// page looks at the next runs that came of a step's age, and reports whether
// they were the last.
func (s *sweep) page(ctx context.Context, rec *retentionRecord) (done bool, err error) {
	age := s.Retention.age(rec.Step)
	if age == 0 {
		return true, nil
	}
	if rec.Top == "" {
		rec.Top = idAt(s.now.Add(-age))
		rec.At = rec.Top
	}
	runs, err := s.Store.Runs.List(ctx, store.RunFilter{After: rec.Passed[rec.Step], Before: rec.At, Limit: retainPage})
	if err != nil {
		return false, err
	}
	for _, run := range runs {
		if !rec.Step.concerns(run) {
			continue
		}
		became, err := s.expire(ctx, run)
		if err != nil {
			return false, err
		}
		if became < rec.Step.want() {
			if err := change(ctx, s.Runner, keptName(run.ID), func(*struct{}) {}); err != nil {
				return false, err
			}
		}
	}
	if len(runs) == retainPage {
		rec.At = runs[len(runs)-1].ID
		return false, nil
	}
	if rec.Passed == nil {
		rec.Passed = map[sweepStep]string{}
	}
	rec.Passed[rec.Step] = max(rec.Passed[rec.Step], rec.Top)
	return true, nil
}

// keptPage looks again at runs that could not be removed before, and reports
// whether they were the last.
func (s *sweep) keptPage(ctx context.Context, rec *retentionRecord) (done bool, err error) {
	kept, err := s.Store.Records.List(ctx, keptPrefix)
	if err != nil {
		return false, err
	}
	looked := 0
	for _, k := range kept {
		id := strings.TrimPrefix(k.Key, keptPrefix)
		if id <= rec.At {
			continue
		}
		if looked++; looked > retainPage {
			return false, nil
		}
		rec.At = id
		run, err := s.Store.Runs.Get(ctx, id)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
		if err == nil {
			became, err := s.expire(ctx, run)
			if err != nil {
				return false, err
			}
			if became == stays || became == loses && !rec.comesBy(run) {
				continue
			}
		}
		if err := s.Store.Records.Delete(ctx, k.Key); err != nil {
			return false, err
		}
	}
	return true, nil
}

// expire removes of a run what its age allows and nobody needs, and returns
// what became of it.
func (s *sweep) expire(ctx context.Context, run store.Run) (fate, error) {
	f := s.Retention.fate(run, s.now)
	if f == stays {
		return f, nil
	}
	needed, err := s.needs.run(ctx, run)
	if err != nil {
		return stays, fmt.Errorf("find out who needs run %s: %w", run.ID, err)
	}
	if needed {
		return stays, nil
	}
	if f == loses {
		return s.removeArtifacts(ctx, run)
	}
	// The run last: while it is there, somebody comes by again.
	if err := s.Store.Artifacts.Delete(ctx, run.ID+"/"); err != nil {
		return stays, err
	}
	if err := s.Store.Runs.Delete(ctx, run.ID); err != nil {
		return stays, err
	}
	what := sweepRuns
	if foundNothing(run) {
		what = sweepChecks
	}
	s.Removed(string(what))
	return goes, nil
}

// removeArtifacts removes a run's plan and log. That is written into the run
// first, so that nobody takes a plan for one that can be applied as it is
// removed.
func (s *sweep) removeArtifacts(ctx context.Context, run store.Run) (fate, error) {
	var result Result
	if len(run.Result) > 0 {
		if err := json.Unmarshal(run.Result, &result); err != nil {
			return stays, fmt.Errorf("read result of run %s: %w", run.ID, err)
		}
	}
	first := result.Removed.IsZero() && !run.StartedAt.IsZero() // one that never began has none
	if first {
		result.Removed = s.now
		var err error
		if run.Result, err = json.Marshal(result); err != nil {
			return stays, err
		}
		_, err = s.Store.Runs.Update(ctx, s.now, run)
		if errors.Is(err, store.ErrConflict) {
			return stays, nil // it is in use
		}
		if err != nil {
			return stays, err
		}
	}
	if err := s.Store.Artifacts.Delete(ctx, run.ID+"/"); err != nil {
		return stays, err
	}
	if first {
		s.Removed(string(sweepArtifacts))
	}
	return loses, nil
}

// idAt is the smallest ID that a run made at a time can have.
func idAt(t time.Time) string {
	var id ulid.ULID
	if t.Unix() > 0 { // else by a clock that is not set
		_ = id.SetTime(ulid.Timestamp(t)) // fails in the year 10889
	}
	return id.String()
}
