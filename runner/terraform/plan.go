package terraform

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// checkFailed is what engines call the warning about a check block that does
// not hold; nothing else tells of it where a plan has no changes.
const checkFailed = "check block assertion failed"

// Exit codes of plan with -detailed-exitcode.
const (
	planEmpty   = 0
	planChanges = 2
)

// Plan makes a plan of m and saves it as planFile (absolute, mode 0600). Where
// nothing that init reads has changed it starts one engine process. A failed
// command is an *EngineError or a *StateLockedError, a missing engine a
// *NotInstalledError, a mistake in m a *ModuleError.
func (e *Engines) Plan(ctx context.Context, m Module, planFile string, o PlanOptions) (PlanResult, error) {
	if !filepath.IsAbs(planFile) {
		return PlanResult{}, fmt.Errorf("plan file %q is not an absolute path", planFile)
	}
	s, err := e.open(ctx, m, true)
	if err != nil {
		return PlanResult{}, err
	}
	defer s.close()
	failed := func(code int) bool { return code != planEmpty && code != planChanges }
	code, text, err := s.run(ctx, s.command(planArgs(m, planFile, o)...), failed)
	if err != nil {
		return PlanResult{}, wrap("plan", text, err)
	}
	if failed(code) {
		return PlanResult{}, engineError("plan", code, text)
	}
	// It has all values, sensitive ones too.
	if err := os.Chmod(planFile, 0o600); err != nil {
		return PlanResult{}, fmt.Errorf("protect plan file: %w", err)
	}
	return PlanResult{
		Changes:  code == planChanges,
		Checks:   strings.Contains(unwrap(clean(text)), checkFailed),
		Version:  s.eng.version,
		Versions: s.eng.String(),
		Init:     s.inited,
	}, nil
}

func planArgs(m Module, planFile string, o PlanOptions) []string {
	args := []string{"plan", "-input=false", "-no-color", "-detailed-exitcode", "-out=" + planFile}
	if o.Destroy {
		args = append(args, "-destroy")
	}
	if o.RefreshOnly {
		args = append(args, "-refresh-only")
	}
	if o.LockTimeout != "" {
		args = append(args, "-lock-timeout="+o.LockTimeout)
	}
	for _, t := range o.Targets {
		args = append(args, "-target="+t)
	}
	for _, f := range m.VarFiles {
		args = append(args, "-var-file="+f)
	}
	return args
}

// Show returns a saved plan in the engine's JSON format. Sensitive values are
// in it. Its errors are those of Plan.
func (e *Engines) Show(ctx context.Context, m Module, planFile string) ([]byte, error) {
	s, err := e.open(ctx, m, false)
	if err != nil {
		return nil, err
	}
	defer s.close()
	failed := func(code int) bool { return code != 0 }
	out := &bounded{max: maxJSON}
	p := s.command("show", "-json", "-no-color", planFile)
	p.stdout = out // and not to the log
	code, text, err := s.run(ctx, p, failed)
	if err != nil {
		return nil, wrap("show", text, err)
	}
	if failed(code) {
		return nil, engineError("show", code, text)
	}
	if out.over > 0 {
		return nil, fmt.Errorf("show: the plan in JSON has more than %d bytes", maxJSON)
	}
	return out.buf.Bytes(), nil
}

// wrap names the command in an error that is not the engine's own, and keeps
// what the engine said before it was interrupted.
func wrap(command, text string, err error) error {
	if text = clean(text); text != "" {
		return &EngineError{Command: command, Output: text, Err: err}
	}
	return fmt.Errorf("%s: %w", command, err)
}
