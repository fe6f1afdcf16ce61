package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/vcstest/gittest"
)

// between is what happens between the review of a pull request and its merge.
// The pull request makes two small servers large.
type between struct {
	base  string // "elsewhere": another directory changed; "here": this root module did
	state string // "same"; "moved": somebody wrote it
	drift string // "none"; "other": the first server was made medium by hand; "gone": deleted; "done": made large
	other string // "none"; "applied": another pull request was, on this workspace
	when  string // apply.when_plan_changed
}

func (b between) String() string {
	return strings.Join([]string{b.base, b.state, b.drift, b.other, b.when}, " ")
}

// outcome is what becomes of the apply.
type outcome struct {
	state   store.State
	saved   bool         // the plan that was reviewed was given to the engine as it was
	verdict plan.Verdict // of a fresh plan
}

// expect is what is promised: the saved plan is applied where the inputs and the
// state are those that it was made from; else a fresh plan that is the reviewed
// change, or less of it; another change by policy only.
func expect(b between) outcome {
	if b.base == "elsewhere" && b.state == "same" && b.other == "none" {
		if b.drift == "gone" {
			return outcome{state: store.Failed, saved: true} // the cloud refuses to change what is not there
		}
		return outcome{state: store.Applied, saved: true}
	}
	verdict, same := plan.Identical, true
	switch b.drift {
	case "other": // the same change from another value
		verdict = plan.Changed
	case "gone": // a server is made instead of changed
		verdict, same = plan.Changed, false
	case "done":
		verdict, same = plan.Narrower, false
	}
	if b.base == "here" { // a third server that nobody reviewed
		verdict, same = plan.Changed, false
	}
	allowed := verdict != plan.Changed || b.when == "always" || b.when == "same_resources" && same
	if allowed {
		return outcome{state: store.Applied, verdict: verdict}
	}
	return outcome{state: store.Held, verdict: verdict}
}

// matrix is every combination that differs in what is promised: a policy matters
// only where the plan is another one.
func matrix() []between {
	var rows []between
	for _, base := range []string{"elsewhere", "here"} {
		for _, state := range []string{"same", "moved"} {
			for _, drift := range []string{"none", "other", "gone", "done"} {
				for _, other := range []string{"none", "applied"} {
					for _, when := range []string{"hold", "same_resources", "always"} {
						b := between{base, state, drift, other, when}
						if when == "hold" || expect(between{base, state, drift, other, "hold"}).state == store.Held {
							rows = append(rows, b)
						}
					}
				}
			}
		}
	}
	return rows
}

// row is one combination, as a root module of its own.
type row struct {
	between
	dir    string
	number int
}

func (r row) server(i int) string { return fmt.Sprintf("%s-%d", r.dir, i) }

func (r row) servers(size string) string {
	return server(r.server(1), `size = "`+size+`"`) + server(r.server(2), `size = "`+size+`"`)
}

// TestMatrix plays what can happen between a review and its merge, and says what
// is applied, held and told.
func TestMatrix(t *testing.T) {
	t.Parallel()
	var rows []row
	files := map[string]string{}
	var config strings.Builder
	for i, b := range matrix() {
		r := row{between: b, dir: fmt.Sprintf("r%03d", i)}
		rows = append(rows, r)
		files[r.dir+"/main.tf"], files[r.dir+"/servers.tf"] = app(), r.servers("small")
		fmt.Fprintf(&config, "workspace %q {\n  dir = %q\n  apply {\n    when_plan_changed = %q\n  }\n}\n", r.dir, r.dir, b.when)
	}
	w := newWorld(t, map[string]string{"holdfast.hcl": config.String(), "README.md": "x"})
	w.start()
	w.applied(len(rows), "start", files)
	for i, r := range rows {
		w.repo.PushChange(gittest.Change{Branch: r.dir, From: "start", Files: map[string]string{r.dir + "/servers.tf": r.servers("large")}})
		rows[i].number = w.repo.OpenPull(giteatest.OpenPull{Head: r.dir})
	}
	for _, r := range rows {
		w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: r.number})
	}
	w.quietly()
	w.between(rows)
	for _, r := range rows {
		w.repo.Merge(r.number, "merge")
	}
	for _, r := range rows {
		w.check(t, r)
	}
}

// applied merges a pull request with n workspaces and waits until all are applied.
func (w *world) applied(n int, branch string, files map[string]string) {
	w.Helper()
	if n == 0 {
		return
	}
	w.repo.PushChange(gittest.Change{Branch: branch, From: "main", Files: files})
	number := w.repo.OpenPull(giteatest.OpenPull{Head: branch})
	w.ended(n, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	w.quietly()
	w.repo.Merge(number, "merge")
	for _, r := range w.ended(n, store.RunFilter{Kind: store.KindApply, PullRequest: number}) {
		if r.State != store.Applied {
			w.Fatalf("%s is %s: %s", r.Workspace, r.State, r.Error)
		}
	}
	w.quietly()
}

// between has happen what each row says.
func (w *world) between(rows []row) {
	w.Helper()
	others, here := map[string]string{}, map[string]string{"README.md": "moved\n"}
	for _, r := range rows {
		if r.other == "applied" {
			others[r.dir+"/other.tf"] = server(r.dir + "-other")
		}
	}
	w.applied(len(others), "others", others)
	for _, r := range rows {
		if r.base == "here" {
			here[r.dir+"/third.tf"] = server(r.server(3))
		}
	}
	w.repo.Push("main", here, "past the review")
	w.until("the push is known", func() bool { return len(w.runs(store.RunFilter{Kind: store.KindPlan})) >= len(here)-1 })
	w.quietly()
	for _, r := range rows {
		if r.state == "moved" {
			w.moveState(r.dir)
		}
		switch r.drift {
		case "other":
			w.cloud.set(r.server(1), "size", "medium")
		case "done":
			w.cloud.set(r.server(1), "size", "large")
		case "gone":
			w.cloud.remove(r.server(1))
		}
	}
}

// moveState writes a kept state as if somebody had used it: with the next serial.
func (w *world) moveState(workspace string) {
	w.Helper()
	file := filepath.Join(w.dir, "data", "state", filepath.FromSlash(w.repository()), workspace, "terraform.tfstate")
	data, err := os.ReadFile(file)
	if err != nil {
		w.Fatal(err)
	}
	var state map[string]json.RawMessage
	var serial int
	if err := json.Unmarshal(data, &state); err != nil {
		w.Fatal(err)
	}
	if err := json.Unmarshal(state["serial"], &serial); err != nil {
		w.Fatal(err)
	}
	state["serial"] = json.RawMessage(fmt.Sprint(serial + 1))
	if data, err = json.Marshal(state); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		w.Fatal(err)
	}
}

// remove deletes the only resource of that name by hand.
func (c *cloudProcess) remove(name string) {
	c.Helper()
	for _, r := range c.resources() {
		if r.Name != name {
			continue
		}
		req, err := http.NewRequest(http.MethodDelete, c.url+"/api/resources/"+r.ID, nil)
		if err != nil {
			c.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			c.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			c.Fatalf("delete %s: %s", name, resp.Status)
		}
		return
	}
	c.Fatalf("the cloud has no %s", name)
}

// check compares what became of a row with what is promised.
func (w *world) check(t *testing.T, r row) {
	t.Helper()
	run := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: r.number})[0]
	result, want := resultOf(t, run), expect(r.between)
	got := outcome{state: run.State, saved: result.Saved}
	if !result.Saved && result.Comparison != nil {
		got.verdict = result.Comparison.Verdict
	}
	if got != want {
		t.Errorf("%s: %+v instead of %+v: %s", r.between, got, want, run.Error)
		return
	}
	words := map[store.State][]string{
		store.Held:   {"The reviewed plan is", "today's is", "holdfast apply -w " + r.dir},
		store.Failed: {"Done: ", "Not done: "},
	}[run.State]
	if want.state == store.Applied && want.saved {
		words = []string{"applied as it was saved"}
	}
	for _, s := range words {
		w.fork(r.number, s)
	}
	size := map[store.State]any{store.Applied: "large", store.Held: "small"}[run.State]
	if got := w.cloud.attribute(r.server(2), "size"); size != nil && got != size {
		t.Errorf("%s: the second server is %v instead of %v", r.between, got, size)
	}
	if third := w.cloud.created(r.server(3)) > 0; third != (want.state == store.Applied && r.base == "here") {
		t.Errorf("%s: the third server was made: %t", r.between, third)
	}
}
