package runner

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/runner/plan"
	"holdfast/runner/terraform"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// planOf is a plan of changes written as "ACTION ADDRESS VALUE".
func planOf(changes ...string) *plan.Plan {
	p := &plan.Plan{}
	for _, s := range changes {
		words := append(strings.Fields(s), "")
		p.Changes = append(p.Changes, plan.Change{
			Address: words[1], Mode: "managed", Type: "x", Action: plan.Action(words[0]),
			Before: []byte(`{"v":"old"}`), After: fmt.Appendf(nil, `{"v":%q}`, words[2]),
		})
	}
	return p
}

func TestApplyGate(t *testing.T) {
	seen := planOf("update x.a 1", "update x.b 1")
	for _, test := range []struct {
		name   string
		state  store.State
		seen   *plan.Plan
		now    *plan.Plan
		policy string
		why    string // empty: it is applied
	}{
		{name: "the reviewed change", state: store.Planned, seen: seen, now: seen},
		{name: "a part of it is left", state: store.Planned, seen: seen, now: planOf("update x.b 1")},
		{name: "more", state: store.Planned, seen: seen, now: planOf("update x.a 1", "update x.b 1", "create x.c 1"), why: "not the one that was reviewed"},
		{name: "another value", state: store.Planned, seen: seen, now: planOf("update x.a 2", "update x.b 1"), why: "not the one that was reviewed"},
		{name: "another value of the same resources, allowed", state: store.Planned, seen: seen, now: planOf("update x.a 2", "update x.b 1"), policy: "same_resources"},
		{name: "another action is no same resource", state: store.Planned, seen: seen, now: planOf("delete x.a 1", "update x.b 1"), policy: "same_resources", why: "not the one that was reviewed"},
		{name: "more is no same resource", state: store.Planned, seen: seen, now: planOf("update x.a 1", "update x.b 1", "create x.c 1"), policy: "same_resources", why: "not the one that was reviewed"},
		{name: "anything, allowed", state: store.Planned, seen: seen, now: planOf("delete x.z 1"), policy: "always"},
		{name: "a word that is no policy", state: store.Planned, seen: seen, now: planOf("delete x.z 1"), policy: "ALWAYS", why: "not the one that was reviewed"},
		{name: "nothing was to change", state: store.NoChanges, seen: &plan.Plan{}, now: planOf("create x.a 1"), why: "not the one that was reviewed"},
		{name: "never planned", now: seen, why: "No plan of this workspace was made", policy: "always"},
		{name: "failed", state: store.Failed, now: seen, why: "failed", policy: "always"},
		{name: "not finished", state: store.Running, now: seen, why: "before its plan was finished", policy: "always"},
		{name: "queued", state: store.Queued, now: seen, why: "before its plan was finished"},
		{name: "superseded", state: store.Superseded, seen: seen, now: seen, why: "before its plan was finished"},
		{name: "canceled", state: store.Canceled, seen: seen, now: seen, why: "before its plan was finished"},
		{name: "the plan is lost", state: store.Planned, now: seen, why: "not stored any more", policy: "always"},
		{name: "planning fails half way now", state: store.Planned, seen: seen, now: &plan.Plan{Changes: seen.Changes, Errored: true}, why: "not the one that was reviewed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, why := applyGate(reviewed{store.Run{State: test.state}, test.seen}, test.now, workspaces.Apply{WhenPlanChanged: test.policy}, false)
			if test.why == "" && why != "" || !strings.Contains(why, test.why) {
				t.Errorf("%q instead of %q", why, test.why)
			}
		})
	}
}

func TestApproval(t *testing.T) {
	yes := vcs.Review{Author: "kim", State: vcs.Approved}
	no := vcs.Review{Author: "lee", State: vcs.ChangesRequested}
	changed := func(r vcs.Review, f func(*vcs.Review)) vcs.Review { f(&r); return r }
	for _, test := range []struct {
		name    string
		reviews []vcs.Review
		why     string
	}{
		{"nobody", nil, "Nobody"},
		{"one", []vcs.Review{yes}, ""},
		{"the author's own", []vcs.Review{changed(yes, func(r *vcs.Review) { r.Author = "author" })}, "Nobody"},
		{"of an older commit", []vcs.Review{changed(yes, func(r *vcs.Review) { r.Stale = true })}, "Nobody"},
		{"dismissed", []vcs.Review{changed(yes, func(r *vcs.Review) { r.Dismissed = true })}, "Nobody"},
		{"changes requested by another", []vcs.Review{yes, no}, "lee"},
		{"changes requested before a push", []vcs.Review{yes, changed(no, func(r *vcs.Review) { r.Stale = true })}, "lee"},
		{"changes requested, dismissed", []vcs.Review{yes, changed(no, func(r *vcs.Review) { r.Dismissed = true })}, ""},
		{"changes requested, then approved", []vcs.Review{no, changed(yes, func(r *vcs.Review) { r.Author = "lee" })}, ""},
		{"approved, then changes requested", []vcs.Review{changed(yes, func(r *vcs.Review) { r.Author = "lee" }), no}, "lee"},
	} {
		why := approval(test.reviews, "author")
		if test.why == "" && why != "" || !strings.Contains(why, test.why) {
			t.Errorf("%s: %q instead of %q", test.name, why, test.why)
		}
	}
}

func TestStateOf(t *testing.T) {
	for class, want := range map[plan.Class]WorkspaceState{
		plan.InSync: InSync, plan.ProviderNoise: InSync, plan.UnappliedCommit: Pending, plan.CloudChange: Drifted,
		plan.OutputOnly: Drifted, plan.CheckError: Unknown, "of a later version": Unknown,
	} {
		if got := stateOf(class); got != want {
			t.Errorf("%q: %s instead of %s", class, got, want)
		}
	}
}

func TestNextStep(t *testing.T) {
	for _, test := range []struct {
		pull  vcs.PullState
		kind  store.Kind
		state store.State
		want  string
	}{
		{vcs.Open, store.KindPlan, store.Planned, "Merging this pull request applies this plan."},
		{vcs.Merged, store.KindPlan, store.Planned, ""},
		{vcs.Closed, store.KindPlan, store.Planned, "nothing is applied"},
		{vcs.Open, store.KindPlan, store.NoChanges, ""},
		{vcs.Open, store.KindPlan, store.Failed, "planned again"},
		{vcs.Merged, store.KindApply, store.Failed, "in the state"},
		{vcs.Merged, store.KindApply, store.Held, "Nothing more is applied"},
		{vcs.Merged, store.KindApply, store.Applied, ""},
		{vcs.Merged, store.KindApply, store.Unknown, "finding out"},
		{vcs.Open, store.KindApply, store.Applied, "Merge this pull request now"},
		{vcs.Open, store.KindApply, store.NoChanges, "Merge this pull request now"},
		{vcs.Open, store.KindApply, store.Held, "exactly the plan shown here"},
		{vcs.Open, store.KindApply, store.Failed, "Nothing was applied"},
		{vcs.Open, store.KindApply, store.Canceled, "To try again"},
		{vcs.Open, store.KindApply, store.Queued, ""},
		{vcs.Closed, store.KindApply, store.Applied, "its apply undoes it"},
		{vcs.Closed, store.KindApply, store.Held, "closed, so nothing more"},
		{vcs.Closed, store.KindApply, store.Superseded, ""},
	} {
		got := told{pull: pullRecord{State: test.pull}, run: store.Run{Kind: test.kind, State: test.state}, own: true}.next()
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s %s of a pull request that is %s: %q instead of %q", test.kind, test.state, test.pull, got, test.want)
		}
	}
}

// What Holdfast itself stumbles over stays in the log: it may name paths and
// hosts.
func TestForPeople(t *testing.T) {
	engine := &terraform.EngineError{Command: "plan", Output: "Error: no", Err: errors.New("exit code 1")}
	for _, test := range []struct {
		name string
		err  error
		want string // empty: not for people
	}{
		{"the engine's words", fmt.Errorf("run: %w", engine), "Error: no"},
		{"who has the state", &terraform.StateLockedError{Who: "kim@laptop", Err: engine}, "locked by kim@laptop"},
		{"no engine", &terraform.NotInstalledError{Engine: "tofu", Constraint: "~> 1.9", Err: errors.New("no network")}, "tofu ~> 1.9"},
		{"mistakes in the repository", workspaces.Problems{{File: "holdfast.hcl", Line: 3, Message: "no such attribute"}}, "no such attribute"},
		{"a store that is down", fmt.Errorf("save run: %w", errDown), ""},
	} {
		text, ok := forPeople(test.err)
		if ok != (test.want != "") || !strings.Contains(text, test.want) {
			t.Errorf("%s: %q, %t", test.name, text, ok)
		}
	}
}
