package runner

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/lock"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/workspaces"
)

// Each gate alone stops a correction, and says that it did.
func TestCorrectGates(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) // a Wednesday
	one := plan.DriftReport{Class: plan.CloudChange, Resources: []plan.DriftedResource{{Address: "x.a", Change: "changed", Attributes: []string{"size"}, Action: plan.Update}}}
	corrected := func(n int, ago time.Duration, attribute string) (d DriftRecord) {
		for range n {
			d.Corrections = append(d.Corrections, Correction{At: now.Add(-ago), State: store.Applied, Attributes: []string{attribute}})
		}
		return d
	}
	policy := workspaces.Drift{Correct: "apply", MaxChanges: 10, FlapLimit: 3}
	with := func(f func(*workspaces.Drift)) workspaces.Drift { p := policy; f(&p); return p }
	class := func(c plan.Class) plan.DriftReport { r := one; r.Class = c; return r }
	for _, test := range []struct {
		name  string
		c     circumstances
		gate  string // empty: none
		why   string
		opens time.Time
	}{
		{name: "an update", c: circumstances{}},
		{name: "what is gone is made again", c: circumstances{plan: planOf("create x.a 1")}},
		{name: "an unapplied commit", c: circumstances{report: class(plan.UnappliedCommit)}, gate: GateClass, why: "unapplied_commit"},
		{name: "a failed check", c: circumstances{report: class(plan.CheckError)}, gate: GateClass, why: "error"},
		{name: "noise", c: circumstances{report: class(plan.ProviderNoise)}, gate: GateClass, why: "provider_noise"},
		{name: "outputs only", c: circumstances{report: class(plan.OutputOnly)}, gate: GateClass, why: "output_only"},
		{name: "what no refresh explains", c: circumstances{report: plan.DriftReport{Class: plan.CloudChange, Unexplained: []string{"x.b"}}}, gate: GateUnexplained, why: "x.b"},
		{name: "a destroy", c: circumstances{plan: planOf("update x.a 1", "delete x.b")}, gate: GateDestroy, why: "x.b"},
		{name: "a replacement", c: circumstances{plan: planOf("replace x.a 1")}, gate: GateDestroy, why: "x.a"},
		{name: "a replacement, made first", c: circumstances{plan: planOf("replace_create_before x.a 1")}, gate: GateDestroy, why: "x.a"},
		{name: "a forget", c: circumstances{plan: planOf("forget x.a")}, gate: GateDestroy, why: "x.a"},
		{name: "forget and make anew", c: circumstances{plan: planOf("replace_forget x.a 1")}, gate: GateDestroy, why: "x.a"},
		{name: "a destroy, allowed", c: circumstances{plan: planOf("delete x.b"), policy: with(func(p *workspaces.Drift) { p.AllowDestroy = true })}},
		{name: "as many as allowed", c: circumstances{plan: planOf("update x.a 1", "create x.b 1"), policy: with(func(p *workspaces.Drift) { p.MaxChanges = 2 })}},
		{name: "more than allowed", c: circumstances{plan: planOf("update x.a 1", "create x.b 1", "update x.c 1"), policy: with(func(p *workspaces.Drift) { p.MaxChanges = 2 })}, gate: GateMaxChanges, why: "3 resources"},
		{name: "what a rule leaves alone does not count", c: circumstances{
			plan: planOf("update x.a 1", "update x.b 1"), policy: with(func(p *workspaces.Drift) { p.MaxChanges = 1 }),
			report: plan.DriftReport{Class: plan.CloudChange, Resources: one.Resources, Ignored: []plan.IgnoredDrift{{Address: "x.b"}}},
		}},
		{name: "destroys count too", c: circumstances{plan: planOf("delete x.a", "replace x.b 1"), policy: with(func(p *workspaces.Drift) { p.AllowDestroy, p.MaxChanges = true, 1 })}, gate: GateMaxChanges, why: "2 resources"},
		{name: "half ignored", c: circumstances{report: plan.DriftReport{Class: plan.CloudChange, Resources: one.Resources, Ignored: []plan.IgnoredDrift{{Address: "x.a"}}}}, gate: GateIgnored, why: "x.a"},
		{name: "another one ignored", c: circumstances{report: plan.DriftReport{Class: plan.CloudChange, Resources: one.Resources, Ignored: []plan.IgnoredDrift{{Address: "x.b"}}}}},
		{name: "a hold", c: circumstances{hold: &lock.Lease{Holder: Holder("kim", "incident 42")}}, gate: GateHold, why: "incident 42"},
		{name: "open pull requests", c: circumstances{pulls: []int{7, 9}}, gate: GatePulls, why: "#7, #9"},
		{name: "within a window", c: circumstances{policy: with(func(p *workspaces.Drift) { p.Windows = []string{"Wed 11:00-13:00"} })}},
		{
			name: "outside of all windows", c: circumstances{policy: with(func(p *workspaces.Drift) { p.Windows = []string{"Mon-Fri 02:00-04:00", "Wed 13:30-14:00"} })},
			gate: GateWindow, why: "13:30", opens: now.Add(90 * time.Minute),
		},
		{name: "corrected twice", c: circumstances{drift: corrected(2, time.Hour, "x.a size")}},
		{name: "corrected three times", c: circumstances{drift: corrected(3, time.Hour, "x.a size")}, gate: GateFlap, why: "x.a size"},
		{name: "corrected three times, long ago", c: circumstances{drift: corrected(3, 25*time.Hour, "x.a size")}},
		{name: "another attribute corrected three times", c: circumstances{drift: corrected(3, time.Hour, "x.a tags")}},
		{name: "contested before", c: circumstances{drift: DriftRecord{Contested: now.Add(-48 * time.Hour)}}, gate: GateFlap, why: "It was corrected"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := test.c
			c.now = now
			if c.plan == nil {
				c.plan = planOf("update x.a 1")
			}
			if c.report.Class == "" && len(c.report.Resources) == 0 {
				c.report = one
			}
			if c.policy.Correct == "" {
				c.policy = policy
			}
			gates, opens := correctGates(c)
			var names []string
			for _, g := range gates {
				names = append(names, g.Name)
			}
			if want := slices.DeleteFunc([]string{test.gate}, func(s string) bool { return s == "" }); !slices.Equal(names, want) {
				t.Errorf("stopped by %q instead of %q", names, want)
			}
			if !strings.Contains(why(gates), test.why) {
				t.Errorf("%q does not say %q", why(gates), test.why)
			}
			if !opens.Equal(test.opens) {
				t.Errorf("opens at %s instead of %s", opens, test.opens)
			}
		})
	}
}
