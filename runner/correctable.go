package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/lock"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// Gate is one reason for which drift is not corrected without a person.
type Gate struct {
	Name string `json:"name"`
	Why  string `json:"why"` // a sentence
}

// The gates of a correction.
const (
	GateClass       = "class"         // it is no change in the cloud
	GateUnexplained = "unexplained"   // the plan would do more than put back what changed
	GateDestroy     = "destroy"       // something would be destroyed, replaced or forgotten
	GateMaxChanges  = "max_changes"   // too many resources
	GateIgnored     = "ignored"       // it would undo what a rule leaves alone
	GateHold        = "hold"          // a person's order
	GateWindow      = "windows"       // not at this time
	GatePulls       = "pull_requests" // somebody works on this workspace
	GateFlap        = "flap_limit"    // something keeps changing it back
	GateCompared    = "compared"      // what the correction found is not what the check saw
)

// circumstances are all that a correction is decided by.
type circumstances struct {
	plan   *plan.Plan
	report plan.DriftReport
	policy workspaces.Drift
	now    time.Time
	hold   *lock.Lease // nil where there is none
	pulls  []int       // open pull requests that would change the workspace
	drift  DriftRecord
}

// correctGates returns every reason for which drift may not be undone without
// a person, and when that may be otherwise only because time has passed: zero
// where it is not only a matter of time. None means that it may.
func correctGates(c circumstances) (gates []Gate, opens time.Time) {
	add := func(name, format string, args ...any) {
		gates = append(gates, Gate{name, fmt.Sprintf(format, args...)})
	}
	if c.report.Class != plan.CloudChange {
		add(GateClass, "Only a change in the cloud is corrected; this is %s.", c.report.Class)
	}
	if n := c.report.Unexplained; len(n) > 0 {
		add(GateUnexplained, "The correction would do more than put back what was changed in the cloud, at %s.", someOf(n))
	}
	s := c.plan.Summary()
	if names := destroyed(c.plan); !c.policy.AllowDestroy && len(names) > 0 {
		add(GateDestroy, "The correction would destroy, replace or forget %s, and drift.allow_destroy is not set.", someOf(names))
	}
	if n := s.Add + s.Change + s.Replace + s.Destroy + s.Forget - leftAlone(c.plan, c.report); c.policy.MaxChanges > 0 && n > c.policy.MaxChanges {
		add(GateMaxChanges, "The correction would change %d resources, and drift.max_changes is %d.", n, c.policy.MaxChanges)
	}
	if names := halfIgnored(c.report); len(names) > 0 {
		add(GateIgnored, "The correction would also undo what a rule leaves alone, at %s.", someOf(names))
	}
	if c.hold != nil {
		add(GateHold, "The workspace is %s.", holdText(*c.hold))
	}
	if len(c.pulls) > 0 {
		names := make([]string, len(c.pulls))
		for i, n := range c.pulls {
			names[i] = "#" + strconv.Itoa(n)
		}
		add(GatePulls, "Somebody works on this workspace: %s would change it.", someOf(names))
	}
	if names := c.drift.flaps(attributesOf(c.report), c.policy.FlapLimit, c.now); len(names) > 0 || !c.drift.Contested.IsZero() {
		what := "It"
		if len(names) > 0 {
			what = someOf(names)
		}
		add(GateFlap, "%s was corrected %d times within a day, and something changes it back each time. Find out what does; corrections go on once a check has found the workspace in sync and the day is over.", what, c.policy.FlapLimit)
	}
	onlyTime := len(gates) == 0
	in, at, err := c.policy.InWindow(c.now)
	switch {
	case err != nil:
		add(GateWindow, "The workspace's windows cannot be read: %v.", err)
	case !in:
		add(GateWindow, "Corrections are made only in the workspace's windows; the next one opens at %s.", at.Format("2006-01-02 15:04 MST"))
		if onlyTime {
			opens = at
		}
	}
	return gates, opens
}

// destroyed are the addresses that a plan destroys, replaces or forgets.
func destroyed(p *plan.Plan) (names []string) {
	if p == nil {
		return nil
	}
	for _, c := range p.Changes {
		switch c.Action {
		case plan.Delete, plan.Replace, plan.ReplaceCreateFirst, plan.ReplaceForget, plan.Forget:
			names = append(names, c.Address)
		}
	}
	return names
}

// leftAlone counts the changes of a plan that no correction makes, as a rule
// covers all of the resource's drift: what it leaves alone is not a target.
func leftAlone(p *plan.Plan, report plan.DriftReport) (n int) {
	for _, c := range p.Changes {
		ignored := slices.ContainsFunc(report.Ignored, func(i plan.IgnoredDrift) bool { return i.Address == c.Address })
		drifted := slices.ContainsFunc(report.Resources, func(r plan.DriftedResource) bool { return r.Address == c.Address })
		if ignored && !drifted && c.Action == plan.Update {
			n++ // a rule covers no other action
		}
	}
	return n
}

// halfIgnored are the resources that drifted in attributes of which a rule
// covers some: an engine corrects a resource as a whole.
func halfIgnored(report plan.DriftReport) (names []string) {
	for _, i := range report.Ignored {
		if slices.ContainsFunc(report.Resources, func(r plan.DriftedResource) bool { return r.Address == i.Address }) && !slices.Contains(names, i.Address) {
			names = append(names, i.Address)
		}
	}
	return names
}

// why puts gates into one text; empty where there are none.
func why(gates []Gate) string {
	var out []string
	for _, g := range gates {
		out = append(out, g.Why)
	}
	return strings.Join(out, " ")
}

// gatesOf asks all gates of a correction of what a check, or the correction
// itself, found.
func (x *execution) gatesOf(ctx context.Context, p *plan.Plan, report plan.DriftReport) (gates []Gate, opens time.Time, err error) {
	c := circumstances{plan: p, report: report, policy: x.in.Workspace.Drift, now: x.r.Clock()}
	if c.hold, err = x.onHold(ctx); err != nil {
		return nil, opens, err
	}
	if _, err := x.r.load(ctx, driftName(x.repo, x.run.Workspace), &c.drift); err != nil {
		return nil, opens, err
	}
	if c.pulls, err = x.r.openPulls(ctx, x.repo, x.run.Workspace, c.drift.Proposal.Number); err != nil {
		return nil, opens, err
	}
	gates, opens = correctGates(c)
	return gates, opens, nil
}

// openPulls are the open pull requests whose plan would change a workspace, but
// for one of Holdfast's own.
func (r *Runner) openPulls(ctx context.Context, repo vcs.Repository, workspace string, own int) ([]int, error) {
	prefix := "pull/" + repo.String() + "#"
	records, err := r.Store.Records.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, stored := range records {
		var rec pullRecord
		if err := json.Unmarshal(stored.Value, &rec); err != nil {
			return nil, fmt.Errorf("read %s: %w", stored.Key, err)
		}
		n, err := strconv.Atoi(strings.TrimPrefix(stored.Key, prefix))
		if err != nil || rec.State != vcs.Open || n == own {
			continue
		}
		plan := rec.workspace(workspace).Plan
		if plan == "" {
			continue
		}
		run, err := r.Store.Runs.Get(ctx, plan)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if err != nil || run.State != store.NoChanges {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}
