package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/runner/shim"
	"holdfast/runner/terraform"
	"holdfast/store"
)

// An engine that applies outlives the process that started it, and the job may
// go on at another node, which cannot see that engine. So each node tells, in a
// record for each such run, what became of the engines in its data directory.

// engineRecord is what a node tells of an engine that applied there.
type engineRecord struct {
	Shim string    `json:"shim"` // the directory, as in Result.Shim
	At   time.Time `json:"at"`   // by the clock of all nodes
	// One of these, or none while the engine is at work.
	Never bool       `json:"never,omitempty"` // it was not started, and never will be
	Gone  bool       `json:"gone,omitempty"`  // it is dead and left no result
	Exit  *shim.Exit `json:"exit,omitempty"`
	// Output and Printed are those of Exit.
	Output  string `json:"output,omitempty"`
	Printed string `json:"printed,omitempty"`
}

func (e engineRecord) ended() bool { return e.Never || e.Gone || e.Exit != nil }

func engineName(run string) string { return "engine/" + run }

const (
	// tellEvery is how often a node looks for engines of its own that others ask
	// about, and says that they are still at work.
	tellEvery = 2 * time.Second
	// askEvery is how often the node that has the job reads the answer.
	askEvery = 500 * time.Millisecond
)

// elsewhere reports whether the engine of this run was started on another node.
func (x *execution) elsewhere() bool {
	if x.result.ShimNode == "" { // by a version that knew of one node only
		return !exists(x.result.Shim)
	}
	return x.result.ShimNode != x.r.Node
}

// askNode waits until the node where the engine was started says what became of
// it. One that says nothing for NodePatience is gone, for all that is known.
func (x *execution) askNode(ctx context.Context) (*verdict, error) {
	x.log.Printf("The engine was started on %s; asking there what became of it.\n", x.result.ShimNode)
	x.asked = true
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	// By this process's own clock: that of the store jumps where another server
	// takes over.
	heard, last := time.Now(), time.Time{}
	for {
		var told engineRecord
		if _, err := x.r.load(ctx, engineName(x.run.ID), &told); err != nil {
			return nil, errors.Join(errDetached, err)
		}
		if told.Shim == x.result.Shim {
			if !told.At.Equal(last) {
				heard, last = time.Now(), told.At
			}
			if told.ended() {
				return x.answered(ctx, told)
			}
		}
		if time.Since(heard) > x.r.NodePatience {
			x.log.Printf("%s has said nothing for %s.\n", x.result.ShimNode, x.r.NodePatience)
			return x.vanished(ctx)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(errDetached, ctx.Err())
		case <-tick.C:
		}
	}
}

// answered goes on with what another node said.
func (x *execution) answered(ctx context.Context, told engineRecord) (*verdict, error) {
	if told.Never {
		x.log.Printf("The engine had not been started; starting over.\n")
		return nil, x.startOver(ctx, nil)
	}
	text, err := x.r.Store.Artifacts.Get(ctx, engineKey(x.run.ID))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, errors.Join(errDetached, err)
	}
	x.log.Printf("This is all of the engine's output.\n")
	_, _ = x.log.Write(text)
	if told.Gone || told.Exit.Killed() {
		return x.vanished(ctx)
	}
	exit := *told.Exit
	exit.Output, exit.Printed = told.Output, told.Printed
	return x.followed(ctx, exit)
}

// Attend tells other nodes what becomes of the engines that applied on this one
// and whose jobs they have now, until ctx ends.
func (r *Runner) Attend(ctx context.Context) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	failed := false // so that an outage is one line of the log
	for {
		err := r.tellOfEngines(ctx)
		if err != nil && ctx.Err() == nil && !failed {
			r.Logger.Warn("tell other nodes of engines here", "error", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *Runner) tellOfEngines(ctx context.Context) error {
	runs, err := r.Store.Runs.List(ctx, store.RunFilter{States: []store.State{store.Running}, Limit: 1000})
	if err != nil {
		return err
	}
	var problems []error // one engine's must not keep the others' runs waiting
	for _, run := range runs {
		if run.Step != stepApply || run.Node == r.Node {
			continue
		}
		var result Result
		if err := json.Unmarshal(run.Result, &result); err != nil || result.ShimNode != r.Node {
			continue
		}
		if err := r.tellOfEngine(ctx, run.ID, result.Shim); err != nil {
			problems = append(problems, fmt.Errorf("engine of run %s: %w", run.ID, err))
		}
	}
	return errors.Join(problems...)
}

// tellOfEngine writes what became of the engine in dir. What it printed is
// stored before it is said to have ended.
func (r *Runner) tellOfEngine(ctx context.Context, run, dir string) error {
	var told engineRecord
	_, err := r.load(ctx, engineName(run), &told)
	if err != nil || told.Shim == dir && told.ended() {
		return err
	}
	told = engineRecord{Shim: dir, At: r.Clock()}
	if told.Never, err = shim.Abandon(dir); err != nil {
		return err
	}
	if !told.Never {
		if err := r.readEngine(ctx, run, dir, &told); err != nil {
			return err
		}
	}
	return change(ctx, r, engineName(run), func(rec *engineRecord) { *rec = told })
}

func (r *Runner) readEngine(ctx context.Context, run, dir string, told *engineRecord) error {
	lives, err := shim.Alive(dir)
	if err != nil || lives {
		return err
	}
	var text capped
	exit, err := shim.Follow(ctx, dir, &text)
	if errors.Is(err, shim.ErrGone) {
		told.Gone = true
	} else if err != nil {
		return err
	} else {
		told.Exit, told.Output, told.Printed = &exit, exit.Output, exit.Printed
	}
	return r.Store.Artifacts.Put(ctx, r.Clock(), engineKey(run), text)
}

// capped keeps the first maxLog bytes that are written to it.
type capped []byte

func (c *capped) Write(p []byte) (int, error) {
	*c = append(*c, p[:min(len(p), maxLog-len(*c))]...)
	return len(p), nil
}

// endure has this attempt go on while the store does not answer: from here on
// the engine may change the cloud, and cutting it off does more harm than
// going on alone. Only who is told that somebody else has the workspace or the
// job stops.
func (x *execution) endure(ctx context.Context, lease *lock.Held) error {
	if err := lease.Endure(); err != nil {
		return err
	}
	if err := queue.Endure(ctx); err != nil {
		return err
	}
	x.endures = true
	return nil
}

// untilGivenUp returns the context under which the engine applies. Where this
// attempt lost the job or the lock, and whoever has them now waits for this very
// engine, the engine is left to it: interrupting one makes orphans of what it is
// making. One that nobody waits for any more is interrupted.
func (x *execution) untilGivenUp(ctx context.Context) (context.Context, context.CancelFunc) {
	applying, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if (errors.Is(cause, queue.ErrLost) || errors.Is(cause, lock.ErrLost)) && x.waitedFor(applying) {
			cause = terraform.ErrDetach
		}
		end(cause)
	})
	return applying, func() {
		stop()
		end(nil)
	}
}

// waitedFor reports whether the run's engine is still the one that x started. A
// store that cannot say so is as good as one that does: the state's own lock
// keeps others from it.
func (x *execution) waitedFor(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	run, err := x.r.Store.Runs.Get(ctx, x.run.ID)
	if err != nil {
		return !errors.Is(err, store.ErrNotFound)
	}
	var result Result
	return run.State == store.Running && run.Step == stepApply && json.Unmarshal(run.Result, &result) == nil && result.Shim == x.result.Shim
}

// untilAnswered calls f once; for an attempt that endures, until the store
// answers, or the attempt was lost or has to stop.
func (x *execution) untilAnswered(ctx context.Context, f func() error) error {
	wait := 100 * time.Millisecond
	for {
		err := f()
		if err == nil || !x.endures || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			return err
		}
		x.r.Logger.Warn("the store does not answer; what was applied is recorded when it does", "run", x.run.ID, "error", err)
		select {
		case <-x.handling.Done():
			return err
		case <-ctx.Done():
			return err
		case <-time.After(wait):
			wait = min(2*wait, 2*time.Second)
		}
	}
}

// again is for an update that was refused. A backend may have kept the update
// although its answer was lost, or too few replicas had it in time: then it is
// done. One that failed over may have forgotten this attempt's own latest
// writes, and nothing was written since: then they are made again.
func (x *execution) again(ctx context.Context, refused error) (store.Run, error) {
	stored, err := x.r.Store.Runs.Get(ctx, x.run.ID)
	if err != nil {
		return stored, err
	}
	if x.wrote(stored) {
		return stored, nil
	}
	if stored.Version >= x.run.Version || stored.Token > x.run.Token || stored.State.Ended() {
		return stored, refused
	}
	x.r.Logger.Warn("the store has forgotten writes of this run; writing them again", "run", x.run.ID, "version", stored.Version, "written", x.run.Version)
	run := x.run
	run.Version = stored.Version
	return x.r.Store.Runs.Update(ctx, x.r.Clock(), run)
}

// wrote reports whether what is stored is what this attempt was about to write.
func (x *execution) wrote(stored store.Run) bool {
	return stored.Version == x.run.Version+1 && stored.Token == x.run.Token &&
		stored.State == x.run.State && stored.Step == x.run.Step && stored.Error == x.run.Error && bytes.Equal(stored.Result, x.run.Result)
}
