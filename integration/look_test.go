package integration

import (
	"context"
	"encoding/json"
	"fmt"

	"holdfast/runner"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// statuses waits until the commit's statuses of these contexts, and no others,
// are all in state.
func (w *world) statuses(sha, state string, contexts ...string) {
	w.Helper()
	w.until(fmt.Sprintf("%.8s has the statuses %v, all %s", sha, contexts, state), func() bool {
		got := w.repo.Statuses(sha)
		if len(got) > len(contexts) {
			w.Fatalf("statuses: %+v", got)
		}
		for _, c := range contexts {
			if got[c].State != state {
				return false
			}
		}
		return true
	})
}

// run returns one run from the database.
func (w *world) run(id string) (store.Run, error) {
	w.Helper()
	st := w.open()
	defer st.Close()
	return st.Runs.Get(context.Background(), id)
}

// workspace returns what is known of a workspace.
func (w *world) workspace(name string) runner.WorkspaceRecord {
	w.Helper()
	st := w.open()
	defer st.Close()
	var out runner.WorkspaceRecord
	rec, err := st.Records.Get(context.Background(), "workspace/"+w.repository()+"/"+name)
	if err != nil {
		return out
	}
	if err := json.Unmarshal(rec.Value, &out); err != nil {
		w.Fatal(err)
	}
	return out
}

// openReviewed opens a pull request that writes app/servers.tf and waits until
// its plan is posted.
func (w *world) openReviewed(text string) int {
	w.Helper()
	w.repo.Push("change", map[string]string{"app/servers.tf": text}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	w.comment(number, "planned")
	return number
}
