package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// Two hundred workspaces, of which the first forty are four rows of ten: each
// depends on the one above it.
const (
	manyWorkspaces = 200
	manyRows       = 4
	manyColumns    = 10
)

func manyName(i int) string { return fmt.Sprintf("ws%03d", i) }

// manyFiles are the root modules and the order of them.
func manyFiles() map[string]string {
	var order strings.Builder
	files := map[string]string{}
	for i := range manyWorkspaces {
		files["live/"+manyName(i)+"/main.tf"] = "resource \"terraform_data\" \"x\" {\n  input = \"" + strings.Repeat("words ", 40) + "\"\n}\n"
		fmt.Fprintf(&order, "workspace %q {\n  dir = %q\n", manyName(i), "live/"+manyName(i))
		if on := i - manyColumns; on >= 0 && i < manyRows*manyColumns {
			fmt.Fprintf(&order, "  depends_on = [%q]\n", manyName(on))
		}
		order.WriteString("}\n")
	}
	files["holdfast.hcl"] = order.String()
	return files
}

// TestTwoHundredWorkspaces plans a large pull request and applies its merge with
// four workers: in the order of what depends on what, in one comment that fits,
// and within the forge's limit of requests.
func TestTwoHundredWorkspaces(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, giteatest.Config{Limit: 300, Window: time.Minute}, map[string]string{"README.md": "many\n"})
	w.start()
	sha := w.repo.Push("many", manyFiles(), "many")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "many"})
	w.allSaid(number, store.KindPlan, store.Planned)
	w.statuses(sha, "success", "holdfast")
	w.repo.Merge(number, "merge")
	runs := w.allSaid(number, store.KindApply, store.Applied)
	w.quiet()

	began, byName, saved := w.began(), map[string]store.Run{}, 0
	for _, r := range runs {
		byName[r.Workspace] = r
		if resultOf(t, r).Saved {
			saved++
		}
	}
	for i := manyColumns; i < manyRows*manyColumns; i++ {
		on := byName[manyName(i-manyColumns)]
		if at := began[byName[manyName(i)].ID]; !at.After(on.EndedAt) {
			t.Errorf("%s began at %s, and %s, which it depends on, ended at %s", manyName(i), at, on.Workspace, on.EndedAt)
		}
	}
	// Those that depend on something are planned again once that is applied.
	if want := manyWorkspaces - (manyRows-1)*manyColumns; saved != want {
		t.Errorf("%d saved plans were applied instead of %d", saved, want)
	}
	requests := w.forge.Requests()
	if requests.Refused != 0 {
		t.Errorf("the forge refused %d of %d requests", requests.Refused, requests.Total)
	}
	for route, n := range requests.Routes {
		t.Logf("%4d %s", n.Total, route)
	}
}

// allSaid waits until all workspaces have such a run and the one comment says so
// of each, and returns the runs.
func (w *world) allSaid(number int, kind store.Kind, state store.State) []store.Run {
	w.Helper()
	runs := w.ended(manyWorkspaces, store.RunFilter{PullRequest: number, Kind: kind})
	body := w.comment(number, w.url+"/pulls/", fmt.Sprintf("%s of", kind))
	w.until("the comment has the last of them", func() bool {
		body = w.comment(number)
		return strings.Count(body, string(state)) >= manyWorkspaces
	})
	if len(body) > 65_536 {
		w.Errorf("the comment has %d bytes", len(body))
	}
	for _, r := range runs {
		if r.State != state || !strings.Contains(body, r.Workspace) {
			w.Errorf("%s is %s: %s; in the comment: %t", r.Workspace, r.State, r.Error, strings.Contains(body, r.Workspace))
		}
	}
	return runs
}

// began returns when the engine of each apply was about to be started.
func (w *world) began() map[string]time.Time {
	w.Helper()
	st := w.open()
	defer st.Close()
	entries, err := st.Audit.List(context.Background(), w.repository(), 10_000)
	if err != nil {
		w.Fatal(err)
	}
	at := map[string]time.Time{}
	for _, e := range entries {
		if e.Action == string(store.KindApply) {
			at[e.Run] = e.At
		}
	}
	return at
}
