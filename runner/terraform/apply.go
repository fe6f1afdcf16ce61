package terraform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"

	"holdfast/runner/shim"
)

// applyLockTimeout is how long an apply waits for the state's lock. Whoever is
// to wait longer does so without a process.
const applyLockTimeout = "10s"

// Apply applies exactly the saved plan planFile, made by Plan of the same m, or
// of another checkout of it: the engine takes the configuration from the plan,
// and from m where to run, the Terraform workspace, and the providers, which
// have to be the plan's. Init runs first where it has not run for m here. The
// engine runs behind a shim, whose files are in shimDir (absolute, one per
// attempt): it outlives this process, and shim.Abandon and shim.Follow tell
// its successor what became of it.
//
// When ctx ends with the cause ErrDetach, Apply leaves the engine alone and
// returns ErrApplying. When it ends otherwise, the engine is interrupted: it
// finishes what it is at and saves its state. After Config.Grace it is interrupted once more, and stops
// at once. Where not even that helps, the error is ErrApplying. ErrStalePlan
// says that the plan cannot be applied, and *StateLockedError that the state
// was locked for ten seconds; nothing was done then. Else errors are those of
// Plan.
func (e *Engines) Apply(ctx context.Context, m Module, planFile, shimDir string) error {
	if !filepath.IsAbs(shimDir) || !filepath.IsAbs(planFile) {
		return fmt.Errorf("apply: %q and %q must be absolute paths", planFile, shimDir)
	}
	s, err := e.open(ctx, m, false)
	if err != nil {
		return err
	}
	defer s.close()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	if used, err := shim.Used(shimDir); err != nil || used {
		return fmt.Errorf("apply: %w", errors.Join(err, fmt.Errorf("%s was used by another attempt", shimDir)))
	}
	if err := s.fits(planFile); err != nil {
		return err
	}
	tf, err := s.behindShim(shimDir)
	if err != nil {
		return err
	}
	// terraform-exec does not get ctx itself: it may return an unusable error
	// and leave the process behind when a context ends just after the start.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- tf.Apply(run, tfexec.DirOrPlan(planFile), tfexec.LockTimeout(e.lockTimeout)) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), ErrDetach) && shim.Detach(shimDir) == nil {
			stop() // the front, which tells nobody; the engine is not its child
			err = <-ended
		} else {
			err = e.interruptApply(shimDir, ended, stop)
		}
	}
	return applied(ctx, shimDir, err)
}

// behindShim returns a terraform-exec whose engine is the shim in shimDir.
func (s *session) behindShim(shimDir string) (*tfexec.Terraform, error) {
	tf, err := tfexec.NewTerraform(s.m.Dir, s.e.config.Self)
	if err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	env := s.environ()
	env[shim.Dir], env[shim.Engine] = shimDir, s.eng.path
	// What terraform-exec refuses to pass on or sets itself goes around it.
	around := tfexec.ProhibitedEnv(env)
	for _, name := range around {
		env[shim.EnvPrefix+name] = env[name]
		delete(env, name)
	}
	if err := tf.SetEnv(env); err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	if err := tf.SetWaitDelay(time.Second); err != nil { // of the front, which has nothing to save
		return nil, fmt.Errorf("apply: %w", err)
	}
	tf.SetStdout(s.log)
	tf.SetStderr(s.log)
	return tf, nil
}

// interruptApply has an apply stop: gently, then at once, and then leaves it
// alone. It returns terraform-exec's error.
func (e *Engines) interruptApply(shimDir string, ended <-chan error, stop func()) error {
	limits := []time.Duration{e.config.Grace, e.config.PlanGrace}
	for _, limit := range limits {
		deadline := time.NewTimer(limit)
		defer deadline.Stop()
		if ok, err := askToStop(shimDir, ended, deadline.C); ok {
			return err
		}
	}
	stop() // the front; the engine is not its child
	return <-ended
}

// askToStop sends one request to stop and waits for the end until the
// deadline. It returns false where that came first.
func askToStop(shimDir string, ended <-chan error, deadline <-chan time.Time) (bool, error) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	retry := ticker.C
	for {
		// A supervisor that has not begun must not; one that begins right now
		// listens soon.
		if abandoned, err := shim.Abandon(shimDir); retry != nil && err == nil && (abandoned || shim.Interrupt(shimDir) == nil) {
			retry = nil
		}
		select {
		case err := <-ended:
			return true, err
		case <-deadline:
			return false, nil
		case <-retry:
		}
	}
}

// applied is Apply's error after terraform-exec returned err.
func applied(ctx context.Context, shimDir string, err error) error {
	exit, readErr := shim.Read(shimDir)
	switch {
	case readErr == nil:
		err = ApplyError(exit)
		var failed *EngineError
		if errors.As(err, &failed) && ctx.Err() != nil && !errors.Is(err, ErrStalePlan) {
			return &EngineError{Command: failed.Command, Output: failed.Output, Err: ctx.Err()}
		}
		return err
	case !errors.Is(readErr, os.ErrNotExist):
		return fmt.Errorf("apply: %w", readErr)
	}
	lives, aliveErr := shim.Alive(shimDir)
	if aliveErr != nil {
		return fmt.Errorf("apply: %w", aliveErr)
	}
	if lives {
		return ErrApplying
	}
	if abandoned, abandonErr := shim.Abandon(shimDir); abandonErr == nil && abandoned {
		if ctx.Err() != nil {
			return fmt.Errorf("apply: %w", ctx.Err())
		}
		return fmt.Errorf("start the apply: %w", err)
	}
	return fmt.Errorf("apply: %w", errors.Join(shim.ErrGone, err))
}

// ApplyError is the error of an apply that ended as exit says: the one that
// Apply returned, or would have. It is nil for a success, and ErrKilled where
// the engine did not end by itself.
func ApplyError(exit shim.Exit) error {
	if exit.Success() {
		return nil
	}
	e := &EngineError{Command: "apply", Output: clean(exit.Output), Err: errors.New(exit.String())}
	if exit.Killed() {
		e.Err = fmt.Errorf("%w: %w", ErrKilled, e.Err)
		return e
	}
	switch {
	case declined(refusals, e.Output, exit.Printed):
		e.Err = ErrStalePlan
	case declined(lockErrors, e.Output, exit.Printed):
		return stateLocked(e)
	}
	return e
}
