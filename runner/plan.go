package runner

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"holdfast/runner/terraform"
	"holdfast/store"
)

// lockTimeout is how long an engine waits for the state's own lock before it
// says who holds it.
const lockTimeout = "1m"

// plan plans one workspace at a pull request's head.
func (r *Runner) plan(ctx context.Context, x *execution) (verdict, error) {
	m, release, err := x.module(ctx)
	if err != nil {
		return verdict{}, err
	}
	defer release()
	file, err := x.planFile()
	if err != nil {
		return verdict{}, err
	}
	p, no, err := x.makePlan(ctx, m, file, terraform.PlanOptions{LockTimeout: lockTimeout})
	switch {
	case err != nil:
		return verdict{}, err
	case no != nil:
		return *no, nil
	case p.Empty():
		return verdict{state: store.NoChanges}, nil
	}
	if err := x.keepPlanFile(ctx, file); err != nil {
		return verdict{}, err
	}
	return verdict{state: store.Planned}, nil
}

// planFile names a new file for this attempt's plan.
func (x *execution) planFile() (string, error) {
	dir, err := x.attemptDir()
	if err != nil {
		return "", fmt.Errorf("make directory for the plan: %w", err)
	}
	return filepath.Join(dir, "plan.tfplan"), nil
}

// keepPlanFile stores the engine's own plan file.
func (x *execution) keepPlanFile(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read plan file: %w", err)
	}
	return x.r.Store.Artifacts.Put(ctx, x.r.Clock(), planFileKey(x.run.ID), data)
}
