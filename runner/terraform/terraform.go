// Package terraform runs the engine, terraform or tofu, found on PATH or
// installed by hc-install. It knows what `init` reads and skips it when none
// of that changed, and it builds the engine's environment from an allow list,
// so that nothing of Holdfast's own leaks into a pull request's code.
//
// An apply goes through terraform-exec, with the shim in the engine's place.
// The other commands are started by this package: terraform-exec would start
// `version` before them, has no raw `show -json`, and refuses an environment
// with TF_VAR_* or TF_LOG.
package terraform

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Config says where engines live and what their processes see.
type Config struct {
	// DataDir is an absolute directory for installed engines, the provider
	// cache and TF_DATA_DIRs.
	DataDir string
	// Pass are names of environment variables (path.Match patterns such as
	// "AWS_*") that engines get besides the built-in allow list. HOLDFAST_*
	// is never passed.
	Pass []string
	// Set are variables that engines get with these values.
	Set map[string]string
	// MaxDataDirs bounds the TF_DATA_DIRs that are kept between runs; the
	// least recently used go first. Defaults to 500.
	MaxDataDirs int
	// Self is Holdfast's own executable, started as the shim around an engine
	// that applies. Defaults to os.Executable.
	Self string
	// Progress, where set, is told of installations, a line at a time.
	Progress func(line string)
	// Grace is how long an interrupted apply may take to finish what it is at
	// and to save its state, before it is interrupted a second time, which
	// makes it stop at once. Defaults to 5 minutes.
	Grace time.Duration
	// PlanGrace is how long any other interrupted command may take before it
	// is killed; after a third of it, it is interrupted a second time. Defaults
	// to 30 seconds.
	PlanGrace time.Duration
	// InstallTimeout bounds the installation of an engine. Defaults to 5
	// minutes; a network that is not there is noticed within seconds.
	InstallTimeout time.Duration
}

// Module is a root module in a checkout, ready to be planned.
type Module struct {
	// Key identifies the workspace over all repositories
	// ("HOST/OWNER/NAME/WORKSPACE"); its TF_DATA_DIRs are kept under it. One
	// operation per Key at a time.
	Key string
	// Root is the checkout's directory, Dir the root module's in it; both
	// absolute.
	Root, Dir string
	// Modules are the absolute directories of the local modules it uses; init
	// reads them.
	Modules []string
	// Workspace is the Terraform workspace; empty means "default". One that
	// does not exist yet is created.
	Workspace string
	// VarFiles as on the command line, relative to Dir.
	VarFiles []string
	// Engine is "terraform" or "tofu", Version a constraint or empty.
	Engine, Version string
	// StateFile, where set, keeps the state of the default Terraform workspace
	// in that absolute file, and of others beside it, by an override file in
	// Dir. For root modules whose state would be lost with the checkout. It has
	// to be the same for all Terraform workspaces of a root module, as they
	// share the checkout.
	StateFile string
	// Log gets what the engine prints, as it comes.
	Log io.Writer
}

// PlanOptions vary a plan.
type PlanOptions struct {
	Destroy     bool
	RefreshOnly bool
	LockTimeout string // as the engine takes it ("5m"); empty: the engine's default
	// Targets are the addresses that the plan is limited to, with what they
	// depend on; none means everything.
	Targets []string
}

// PlanResult is how a plan went.
type PlanResult struct {
	Changes  bool   // the plan file has something to do or to record
	Checks   bool   // a check block of the configuration does not hold
	Version  string // the engine's
	Init     bool   // init ran
	Versions string // the engine's name and version, for people: "Terraform 1.11.4"
}

// ErrStalePlan says that the engine refused a saved plan, or would have to,
// because the state has moved on, or because it cannot use that file: it is
// damaged, or was made by another version, with other providers, or for another
// state. Nothing was applied; a new plan can be.
var ErrStalePlan = errors.New("the saved plan is stale")

// ErrKilled says that a signal ended the engine while it applied: what it did is
// not in its state, and has to be found out by a plan.
var ErrKilled = errors.New("the engine was killed")

// ErrApplying says that the engine did not stop when it was asked to and is
// still applying, behind its shim. Follow the shim to learn its end.
var ErrApplying = errors.New("the engine is still applying")

// ErrDetach is the cause with which a context ends when an engine that applies
// is to go on without its caller; see Engines.Apply.
var ErrDetach = errors.New("the engine is left to somebody else")

// NotInstalledError says that no suitable engine is there or could be
// installed.
type NotInstalledError struct {
	Engine, Constraint string
	// Broken is the path of an executable that has the name and does not tell
	// its version, Why what it says instead. Empty where there is none.
	Broken string
	Why    error
	Err    error // why none was installed
}

// Error says what was looked for and why it is not there.
func (e *NotInstalledError) Error() string {
	name := e.Engine
	if e.Constraint != "" {
		name += " " + e.Constraint
	}
	if e.Broken != "" {
		return fmt.Sprintf("%s does not work: %v; and %s could not be installed: %v", e.Broken, e.Why, name, e.Err)
	}
	return fmt.Sprintf("%s is not on PATH and could not be installed: %v", name, e.Err)
}

// Unwrap returns the cause.
func (e *NotInstalledError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *NotInstalledError) Hint() string {
	if e.Broken != "" {
		return "make `" + e.Broken + " version` work, or install another " + e.Engine + " so that it is on PATH"
	}
	return "install " + e.Engine + " so that it is on PATH, or let this machine reach the network"
}

// EngineError is a failed engine command, with what the engine said.
type EngineError struct {
	Command string // "init", "plan", "apply", "show"
	Output  string // the engine's error output, without colours; 64 KiB at most
	Err     error  // ErrStalePlan, a context's error, or how the process ended
}

// Error returns the command and the engine's own words.
func (e *EngineError) Error() string {
	if e.Output == "" {
		return fmt.Sprintf("%s: %v", e.Command, e.Err)
	}
	return e.Command + ": " + e.Output
}

// Unwrap returns the cause.
func (e *EngineError) Unwrap() error { return e.Err }

// StateLockedError says that somebody else has locked the state.
type StateLockedError struct {
	ID        string
	Path      string // of the state or its lock, where the backend has such
	Who       string // "user@host"
	Operation string // "OperationTypeApply"
	Created   time.Time
	Info      string // what a backend adds; mostly empty
	Err       *EngineError
}

// Error says who has the lock, and since when.
func (e *StateLockedError) Error() string {
	s := "the state is locked"
	if e.Who != "" {
		s += " by " + e.Who
	}
	if !e.Created.IsZero() {
		s += " since " + e.Created.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return s
}

// Unwrap returns the failed command.
func (e *StateLockedError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *StateLockedError) Hint() string {
	return "wait for that operation to end; where it has died, remove its lock with `force-unlock " + e.ID + "`"
}

// ModuleError is a mistake in a root module or in how it is configured, found
// before an engine was started.
type ModuleError struct {
	Message, Advice string
}

// Error says what is wrong.
func (e *ModuleError) Error() string { return e.Message }

// Hint says what to do.
func (e *ModuleError) Hint() string { return e.Advice }
