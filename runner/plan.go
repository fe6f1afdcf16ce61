package runner

import (
	"cmp"
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
// says who holds it. The run then waits on without a process.
const lockTimeout = "10s"

// plan plans one workspace at a pull request's head.
func (r *Runner) plan(ctx context.Context, x *execution) (verdict, error) {
	if x.in.Workspace.Apply.Lock == lockPlan && !x.in.Group {
		if err := x.own(ctx); err != nil {
			return verdict{}, err
		}
	}
	m, release, err := x.module(ctx)
	if err != nil {
		return verdict{}, err
	}
	defer release()
	_, file, done, err := x.anyChanges(ctx, m)
	if done != nil || err != nil {
		return deref(done), err
	}
	if x.in.Group {
		if no, err := x.asReviewed(ctx); no != nil || err != nil {
			return deref(no), err
		}
	}
	if err := x.lookForLeftovers(ctx, m); err != nil {
		return verdict{}, err
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
	o.Destroy, o.Targets = x.in.Destroy, x.in.Targets
	res, err := x.r.Engines.Plan(ctx, m, file, o)
	if locked := (*terraform.StateLockedError)(nil); errors.As(err, &locked) && x.run.Kind != store.KindDrift && x.run.State != store.Unknown {
		return nil, "", nil, x.waitForState(ctx, locked)
	}
	if err != nil {
		return nil, "", failure(ctx, err), failed(ctx, err)
	}
	x.result.Engine, x.result.Init = res.Versions, res.Init
	p = &plan.Plan{}
	if res.Changes || res.Checks {
		raw, err := x.r.Engines.Show(ctx, m, file)
		if err != nil {
			return nil, "", failure(ctx, err), failed(ctx, err)
		}
		if p, err = plan.Parse(raw); err != nil {
			return nil, "", &verdict{store.Failed, err.Error()}, nil
		}
	}
	x.result.Summary, x.result.Digest = p.Summary(), p.Digest(x.r.DigestKey)
	x.result.Lines = destroyedLines(m.Dir, p)
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

// maxLines bounds the lines of destroyed resources that are kept of a plan.
const maxLines = 100

// destroyedLines finds the blocks of what a plan destroys or replaces.
func destroyedLines(dir string, p *plan.Plan) map[string]terraform.Line {
	var lines, found map[string]terraform.Line
	for _, c := range p.Changes {
		if !destroys(c.Action) || len(found) >= maxLines {
			continue
		}
		if lines == nil {
			lines, found = terraform.Lines(dir), map[string]terraform.Line{}
		}
		if l, ok := terraform.LineOf(lines, c.Address); ok {
			found[c.Address] = l
		}
	}
	return found
}

func destroys(a plan.Action) bool {
	switch a {
	case plan.Delete, plan.Replace, plan.ReplaceCreateFirst:
		return true
	}
	return false
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

// lookForLeftovers notes whether the plan wrote files that its apply will look
// for: another checkout does not have them.
func (x *execution) lookForLeftovers(ctx context.Context, m terraform.Module) error {
	files, err := x.r.Git.Files(ctx, x.repo, cmp.Or(x.in.At, x.run.Commit))
	if err != nil {
		return fmt.Errorf("list the files of %s: %w", short(x.run.Commit), err)
	}
	left, err := m.Leftovers(func(path string) bool { return files[path] != "" })
	x.result.Leftovers = len(left) > 0
	return err
}

// savedPlan returns the plan that was seen, with its file, where it still stands:
// nothing that it was made from has changed, as far as one can tell without the
// engine, which refuses it where the state has moved on.
func (x *execution) savedPlan(ctx context.Context, m terraform.Module, seen reviewed) (p *plan.Plan, file string, err error) {
	var result Result
	if len(seen.run.Result) > 0 {
		if err := json.Unmarshal(seen.run.Result, &result); err != nil {
			return nil, "", fmt.Errorf("read result of run %s: %w", seen.run.ID, err)
		}
	}
	planned := seen.run.State == store.Planned || seen.run.State == store.Held && x.in.Confirmed
	age := x.r.Clock().Sub(seen.run.EndedAt)
	switch {
	case seen.plan == nil, !planned, x.in.Fresh, x.moved, result.Leftovers, len(x.in.Commands) > 0:
		return nil, "", nil
	case seen.run.Inputs == "", seen.run.Inputs != x.run.Inputs, age > x.in.Workspace.Apply.MaxPlanAge:
		return nil, "", nil
	}
	engine, err := x.r.Engines.Version(ctx, m)
	if err != nil || engine != result.Engine {
		return nil, "", failed(ctx, err) // planning says what is wrong with the engine
	}
	data, err := x.r.Store.Artifacts.Get(ctx, planFileKey(seen.run.ID))
	if errors.Is(err, store.ErrNotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	dir, err := x.attemptDir()
	if err != nil {
		return nil, "", err
	}
	file = filepath.Join(dir, "saved.tfplan")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, "", fmt.Errorf("write the saved plan: %w", err)
	}
	x.result.Summary, x.result.Digest, x.result.Engine, x.result.Saved = seen.plan.Summary(), seen.plan.Digest(x.r.DigestKey), engine, true
	x.log.Printf("The plan of run %s still stands, and is applied as it is.\n", seen.run.ID)
	return seen.plan, file, x.keepPlan(ctx, seen.plan)
}

// keepPlanFile stores the engine's own plan file.
func (x *execution) keepPlanFile(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read plan file: %w", err)
	}
	return x.r.Store.Artifacts.Put(ctx, x.r.Clock(), planFileKey(x.run.ID), data)
}
