package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"holdfast/queue"
	"holdfast/runner/plan"
	"holdfast/runner/shim"
	"holdfast/runner/terraform"
	"holdfast/store"
)

// startOver takes back the step: no engine is at work, and what it did, if
// anything, is in the state.
func (x *execution) startOver(ctx context.Context, err error) error {
	x.result.Shim, x.result.ShimNode, x.in.Fresh = "", "", true
	return errors.Join(err, x.step(context.WithoutCancel(ctx), "plan"))
}

// interrupted finds out whether the engine has ended by itself, with its state
// saved, after the server or a person had it stop. After the server the run is
// to be planned again from its start; after a person it ends with what the
// engine did. Where the engine has not ended the run stays as it is, for the
// next attempt to find out.
func (x *execution) interrupted(ctx context.Context, err error) (verdict, error) {
	if errors.Is(err, terraform.ErrApplying) {
		return verdict{}, errors.Join(errDetached, err)
	}
	canceled := errors.Is(context.Cause(ctx), queue.ErrCanceled)
	if !canceled && !errors.Is(context.Cause(ctx), queue.ErrShutdown) {
		return verdict{}, err
	}
	never, aerr := shim.Abandon(x.result.Shim)
	if aerr != nil {
		return verdict{}, errors.Join(errDetached, err, aerr)
	}
	if never {
		return verdict{}, x.startOver(ctx, err)
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	exit, ferr := shim.Follow(wait, x.result.Shim, io.Discard)
	if ferr != nil || exit.Killed() {
		return verdict{}, errors.Join(errDetached, err)
	}
	if canceled {
		x.result.Canceled = true
		v, ferr := x.followed(wait, exit)
		if ferr != nil || v == nil { // nothing was done, and the step was taken back
			return verdict{}, errors.Join(err, ferr)
		}
		return *v, nil
	}
	x.log.Printf("Holdfast is stopping; the engine was interrupted and has saved its state. The rest is applied after the restart.\n")
	return verdict{}, x.startOver(ctx, err)
}

// recover finds out what became of the engine that an earlier attempt started.
// It returns nil where none was, so that the run starts over.
func (x *execution) recover(ctx context.Context) (*verdict, error) {
	if x.run.State != store.Unknown {
		if x.result.Shim == "" {
			return nil, nil
		}
		if x.elsewhere() {
			return x.askNode(ctx)
		}
		never, err := shim.Abandon(x.result.Shim)
		if err != nil {
			return nil, fmt.Errorf("ask the shim: %w", err)
		}
		if never {
			x.log.Printf("The engine had not been started; starting over.\n")
			return nil, x.startOver(ctx, nil)
		}
		x.log.Printf("The engine was applying; this is all of its output.\n")
		exit, err := shim.Follow(ctx, x.result.Shim, x.log)
		switch {
		case errors.Is(err, shim.ErrGone), err == nil && exit.Killed():
			return x.vanished(ctx)
		case err != nil:
			if errors.Is(context.Cause(ctx), queue.ErrCanceled) {
				x.log.Printf("Canceled by a person: the engine is asked to stop.\n")
				err = errors.Join(err, shim.Interrupt(x.result.Shim))
			}
			return nil, errors.Join(errDetached, err)
		}
		return x.followed(ctx, exit)
	}
	return x.resolve(ctx)
}

// vanished says that nobody knows what the engine did, and finds it out.
func (x *execution) vanished(ctx context.Context) (*verdict, error) {
	x.run.State, x.run.Error = store.Unknown, "The engine's process is gone and left no result. Holdfast plans to find out what was done."
	if err := x.save(ctx); err != nil {
		return nil, err
	}
	if err := x.r.reportOf(ctx, x.repo, x.run); err != nil {
		return nil, err
	}
	return x.resolve(ctx)
}

// followed returns the verdict on an engine that ended behind its shim; nil
// where it changed nothing and has to be started again.
func (x *execution) followed(ctx context.Context, exit shim.Exit) (*verdict, error) {
	err := terraform.ApplyError(exit)
	if err == nil {
		return &verdict{state: store.Applied}, nil
	}
	locked := (*terraform.StateLockedError)(nil)
	if errors.Is(err, terraform.ErrStalePlan) || errors.As(err, &locked) {
		return nil, x.startOver(ctx, nil)
	}
	if x.result.Canceled {
		return &verdict{store.Canceled, "Canceled by a person while it was applied. The engine has saved its state; what it had not begun is left to do."}, x.account(ctx)
	}
	if exit.Interrupted {
		x.log.Printf("The engine was interrupted and has saved its state; the rest is planned and applied.\n")
		return nil, x.startOver(ctx, nil)
	}
	text, _ := forPeople(err)
	if text == "" {
		text = err.Error()
	}
	return &verdict{store.Failed, text}, x.account(ctx)
}

// resolve finds out by a plan what an engine that vanished has done. The plan
// waits for the state's own lock, should the engine live on where nobody sees
// it.
func (x *execution) resolve(ctx context.Context) (*verdict, error) {
	m, release, err := x.module(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	p, file, no, err := x.makePlan(ctx, m, terraform.PlanOptions{LockTimeout: "5m"})
	if err != nil {
		return nil, err
	}
	if no != nil {
		x.run.Error = "What the apply did is not known yet, because planning fails: " + no.error
		return nil, errors.Join(x.save(ctx), fmt.Errorf("resolve run %s: %s", x.run.ID, no.error))
	}
	if p.Empty() {
		x.note("The process that applied this was lost; a plan afterwards found nothing left to do.")
		return &verdict{state: store.Applied}, nil
	}
	seen, err := x.r.reviewedBy(ctx, x.result.Reviewed)
	if err != nil {
		return nil, err
	}
	if seen.plan != nil {
		c := plan.Compare(seen.plan, p)
		x.result.Comparison = &c
	}
	return &verdict{store.Held, lostOnTheWay(p)}, x.keepPlanFile(ctx, file)
}

// lostOnTheWay tells people what an engine that vanished may have left. What it
// was making may exist in the cloud while no state knows of it.
func lostOnTheWay(p *plan.Plan) string {
	text := "The process that applied this was lost on the way. The plan shows what is left to do as far as the state knows."
	var made []string
	for _, c := range p.Changes {
		switch c.Action {
		case plan.Create, plan.Replace, plan.ReplaceCreateFirst:
			made = append(made, c.Address)
		}
	}
	if len(made) > 0 {
		text += " Look in the cloud for " + strings.Join(made, ", ") + " first: what was being made may exist although the state does not know it, and applying again would make it a second time. Import what is there."
	}
	return text
}
