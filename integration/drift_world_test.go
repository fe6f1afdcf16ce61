package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"holdfast/runner"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/gittest"
)

// drifting is a world with one applied workspace, app, whose drift is checked
// when a test asks for it.
type drifting struct {
	*world
	first string // the default branch's first commit
}

// never is a schedule that no test sees, so that checks come when asked for.
const never = "schedule = \"0 0 1 1 *\"\n    "

// newDrifting applies app with that configuration under a drift policy.
func newDrifting(t *testing.T, policy, app string, more map[string]string) *drifting {
	t.Helper()
	files := map[string]string{"holdfast.hcl": "defaults {\n  drift {\n    " + never + policy + "\n  }\n}\n", "app/main.tf": providers + "provider \"smallcloud\" {}\n"}
	for name, text := range more {
		files[name] = text
	}
	w := &drifting{world: newWorld(t, files)}
	w.first = w.repo.Git.Head(gittest.DefaultBranch)
	w.repo.Grant("ada", "write")
	w.start()
	w.repo.Push("app", map[string]string{"app/main.tf": providers + "provider \"smallcloud\" {}\n" + app}, "app")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "app", Title: "app"})
	w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	w.repo.Merge(number, "merge")
	if r := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]; r.State != store.Applied {
		t.Fatalf("apply: %s %s", r.State, r.Error)
	}
	w.until("app is in sync", func() bool { return w.workspace("app").State == runner.InSync })
	return w
}

// check has the server check app, and returns the run.
func (w *drifting) check() store.Run {
	w.Helper()
	last := ""
	if before := w.runs(store.RunFilter{Kind: store.KindDrift, Workspace: "app", Limit: 1}); len(before) > 0 {
		last = before[0].ID
	}
	w.holdfast("drift", "check", w.repository(), "-w", "app")
	var run store.Run
	w.until("app was checked", func() bool {
		now := w.runs(store.RunFilter{Kind: store.KindDrift, Workspace: "app", Limit: 1})
		if len(now) == 0 || now[0].ID == last || !now[0].State.Ended() {
			return false
		}
		run = now[0]
		return true
	})
	return run
}

// drift is what is known of app's drift.
func (w *drifting) drift() runner.DriftRecord {
	w.Helper()
	st := w.open()
	defer st.Close()
	all, err := runner.ReadDrift(context.Background(), st.Records, w.repository()+"/app")
	if err != nil {
		w.Fatal(err)
	}
	if len(all) == 0 {
		return runner.DriftRecord{}
	}
	return all[0]
}

// ticket waits until there is exactly one ticket, that is open or not, and says
// all of want.
func (w *drifting) ticket(open bool, want ...string) (now forge.Issue) {
	w.Helper()
	defer func() {
		if w.Failed() {
			w.Logf("the ticket, %s:\n%s", now.State, now.Body)
		}
	}()
	w.until(fmt.Sprintf("the ticket is open: %v, and says %q", open, want), func() bool {
		all := w.repo.AllIssues()
		if len(all) > 1 {
			w.Fatalf("there are %d tickets", len(all))
		}
		if len(all) == 0 {
			return false
		}
		now = all[0]
		for _, s := range want {
			if !strings.Contains(now.Body, s) {
				return false
			}
		}
		return (now.State == "open") == open
	})
	return now
}
