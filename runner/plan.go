package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"holdfast/runner/plan"
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
	_, file, done, err := x.anyChanges(ctx, m)
	if done != nil || err != nil {
		return deref(done), err
	}
	return verdict{state: store.Planned}, x.keepPlanFile(ctx, file)
}

// makePlan plans the module and returns what the plan does, and its file; nil and
// a verdict where the engine says no. It keeps the plan as the run's.
func (x *execution) makePlan(ctx context.Context, m terraform.Module, o terraform.PlanOptions) (p *plan.Plan, file string, no *verdict, err error) {
	dir, err := x.attemptDir()
	if err != nil {
		return nil, "", nil, fmt.Errorf("make directory for the plan: %w", err)
	}
	if err := x.step(ctx, "plan"); err != nil {
		return nil, "", nil, err
	}
	file = filepath.Join(dir, "plan.tfplan")
	res, err := x.r.Engines.Plan(ctx, m, file, o)
	if err != nil {
		return nil, "", failure(ctx, err), failed(ctx, err)
	}
	x.result.Engine, x.result.Init = res.Versions, res.Init
	p = &plan.Plan{}
	if res.Changes {
		raw, err := x.r.Engines.Show(ctx, m, file)
		if err != nil {
			return nil, "", failure(ctx, err), failed(ctx, err)
		}
		if p, err = plan.Parse(raw); err != nil {
			return nil, "", &verdict{store.Failed, err.Error()}, nil
		}
	}
	x.result.Summary, x.result.Digest = p.Summary(), p.Digest(x.r.DigestKey)
	return p, file, nil, x.keepPlan(ctx, p)
}

// anyChanges is makePlan for a run that has nothing left to do where the plan
// is empty: that is a verdict too.
func (x *execution) anyChanges(ctx context.Context, m terraform.Module) (p *plan.Plan, file string, done *verdict, err error) {
	p, file, done, err = x.makePlan(ctx, m, terraform.PlanOptions{LockTimeout: lockTimeout})
	if err == nil && done == nil && p.Empty() {
		done = &verdict{state: store.NoChanges}
	}
	return p, file, done, err
}

// keepPlan stores the plan's normalised form.
func (x *execution) keepPlan(ctx context.Context, p *plan.Plan) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return x.r.Store.Artifacts.Put(ctx, x.r.Clock(), planKey(x.run.ID), data)
}

// loadPlan returns the plan of a run; nil where it has none.
func (r *Runner) loadPlan(ctx context.Context, run string) (*plan.Plan, error) {
	data, err := r.Store.Artifacts.Get(ctx, planKey(run))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := &plan.Plan{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("read plan of run %s: %w", run, err)
	}
	return p, nil
}

// keepPlanFile stores the engine's own plan file.
func (x *execution) keepPlanFile(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read plan file: %w", err)
	}
	return x.r.Store.Artifacts.Put(ctx, x.r.Clock(), planFileKey(x.run.ID), data)
}
