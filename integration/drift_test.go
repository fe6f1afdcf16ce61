package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/hook"
	"holdfast/runner"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/vcstest/gittest"
	"holdfast/watch"
)

// A change by hand gets a ticket that says what, who and what next; undoing it
// closes the ticket; another change reopens it. Nothing is corrected unless the
// team asked for it.
func TestDriftTicket(t *testing.T) {
	t.Parallel()
	messages := &inbox{}
	hooks := httptest.NewServer(messages)
	t.Cleanup(hooks.Close)
	w := &drifting{}
	{
		files := map[string]string{"holdfast.hcl": "defaults {\n  drift {\n    " + never + "\n  }\n}\n", "app/main.tf": providers + "provider \"smallcloud\" {}\n"}
		w.world = newWorld(t, files)
	}
	w.settings = fmt.Sprintf(`
notify "team" {
  url    = %q
  secret = "0123456789abcdef"
  delay  = "1s"
  events = ["drift", "in_sync"]
}
attributor "http" {
  url    = %q
  secret = "fedcba9876543210"
}
cloud_event {
  secret = "a secret of sixteen"
}
`, hooks.URL+"/team", hooks.URL+"/who")
	w.repo.Grant("ada", "write")
	w.start()
	w.repo.Push("app", map[string]string{"app/main.tf": providers + "provider \"smallcloud\" {}\n" + server("web", `size = "small"`, `tags = { env = "prod" }`)}, "app")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "app", Title: "app"})
	w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	w.repo.Merge(number, "merge")
	w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})
	w.until("app is in sync", func() bool { return w.workspace("app").State == runner.InSync })
	if r := w.check(); r.State != store.NoChanges || len(w.repo.AllIssues()) > 0 {
		t.Errorf("in sync: %s %s, %d tickets", r.State, r.Result, len(w.repo.AllIssues()))
	}

	w.cloud.set("web", "size", "xl")
	if code := w.cloudEvent("a secret of sixteen", "app"); code != http.StatusAccepted {
		t.Errorf("a cloud event is answered %d", code)
	}
	if code := w.cloudEvent("another secret 16", "app"); code != http.StatusUnauthorized {
		t.Errorf("a cloud event with a wrong signature is answered %d", code)
	}
	first := w.ticket(true, "smallcloud_server.web", "`size`", `"xl"`, `"small"`, "mallory", "`drift.correct` is off")
	list := w.holdfast("drift", "list", "--output", "json")
	var states []struct {
		State string
		Now   *runner.Episode
	}
	if err := json.Unmarshal([]byte(list), &states); err != nil || len(states) != 1 || states[0].State != "drifted" || states[0].Now.Class != plan.CloudChange || states[0].Now.Who[0].Actor != "mallory" {
		t.Errorf("drift list: %v\n%s", err, list)
	}

	// Acknowledged, it is quiet until it is another one.
	id := w.repo.CommentIssue(first.Number, "ada", `holdfast acknowledge -m "we know"`)
	w.answered(first.Number, id, "Acknowledged")
	w.ticket(true, "Acknowledged by ada", "we know")
	w.check()
	w.cloud.set("web", "tags.env", "dev")
	w.check()
	second := w.ticket(true, "tags.env", `"dev"`)
	if strings.Contains(second.Body, "Acknowledged") {
		t.Errorf("another drift is acknowledged:\n%s", second.Body)
	}

	// A rule hides what it covers, and no more.
	id = w.repo.CommentIssue(first.Number, "ada", `holdfast ignore smallcloud_server.* tags -m "the tagger owns them" --until 30d`)
	w.answered(first.Number, id, "left alone")
	w.ticket(true, "Left alone by a rule", "the tagger owns them")
	id = w.repo.CommentIssue(first.Number, "eve", `holdfast ignore smallcloud_server.web -m "mine"`)
	w.answered(first.Number, id, "write permission")

	// Closed by hand it stays closed, until the drift is another one.
	w.repo.SetIssueOpen(first.Number, "ada", false)
	w.until("closing is an acknowledgement", func() bool { n := w.drift().Now; return n != nil && n.Acknowledged != nil })
	w.check()
	w.quiet()
	w.ticket(false)
	w.cloud.set("web", "size", "xxl")
	w.check()
	w.ticket(true, `"xxl"`)

	w.cloud.set("web", "size", "small")
	w.check()
	w.ticket(false, "in sync again")
	if s := w.workspace("app").State; s != runner.InSync {
		t.Errorf("app is %s", s)
	}
	d := w.drift()
	if d.Now != nil || len(d.Past) != 1 || d.Past[0].Ended.IsZero() {
		t.Errorf("history: %+v", d)
	}
	if n := len(w.runs(store.RunFilter{Kind: store.KindCorrect})); n != 0 {
		t.Errorf("%d corrections", n)
	}
	kinds := messages.kinds(t, w.world, "drift", "in_sync")
	if !slices.Contains(kinds, "drift") || !slices.Contains(kinds, "in_sync") {
		t.Errorf("told %q", kinds)
	}
}

// A change by hand is corrected, and the ticket closed; what flaps is contested
// after as many corrections as allowed, over a restart.
func TestDriftCorrectedThenContested(t *testing.T) {
	t.Parallel()
	w := newDrifting(t, "correct = \"apply\"\n    flap_limit = 2", server("web", `size = "small"`), nil)
	for i := range 2 {
		w.cloud.set("web", "size", fmt.Sprintf("x%dl", i))
		w.check()
		w.until("it is corrected", func() bool { return w.cloud.attribute("web", "size") == "small" })
		w.ticket(false, "Holdfast corrected it")
		w.quiet()
	}
	w.cloud.set("web", "size", "xxl")
	w.check()
	w.ticket(true, "Contested", "web` size was corrected 2 times", "flap_limit")
	w.stop()
	w.start()
	w.check()
	w.quiet()
	w.ticket(true, "Contested")
	if w.cloud.attribute("web", "size") != "xxl" || len(w.runs(store.RunFilter{Kind: store.KindCorrect})) != 2 {
		t.Errorf("corrected again:\n%s", w.describe())
	}
	if w.drift().Contested.IsZero() {
		t.Error("not contested after a restart")
	}
	// A person puts it right: from then on it is in sync, and the day counts on.
	w.cloud.set("web", "size", "small")
	w.check()
	w.ticket(false)
	w.cloud.set("web", "size", "xl")
	w.check()
	w.ticket(true, "Contested")
}

// What was changed by hand becomes a pull request whose plan is empty of that
// drift, also after its merge.
func TestDriftProposed(t *testing.T) {
	t.Parallel()
	w := newDrifting(t, `correct = "propose"`, `
locals {
  size = "small" # what finance allows
}
variable "env" { default = "prod" }
`+server("web", "size = local.size", "tags = { env = var.env, team = \"net\" }"), nil)
	w.cloud.set("web", "size", "xl")
	w.cloud.set("web", "tags.env", "dev")
	w.check()
	ticket := w.ticket(true, "A pull request takes the cloud's values")
	number := w.drift().Proposal.Number
	if number == 0 {
		t.Fatalf("no proposal: %+v", w.drift().Proposal)
	}
	w.until("it is planned", func() bool {
		runs := w.runs(store.RunFilter{Kind: store.KindPlan, PullRequest: number})
		return len(runs) > 0 && runs[0].State.Ended()
	})
	if r := w.runs(store.RunFilter{Kind: store.KindPlan, PullRequest: number})[0]; r.State != store.NoChanges {
		t.Errorf("the pull request's plan is %s: %s", r.State, r.Result)
	}
	head := w.repo.Pull(number)
	if !strings.Contains(head.Body, "local.size") || !strings.Contains(head.Body, "nothing left to do") {
		t.Errorf("the pull request says:\n%s", head.Body)
	}
	// Another change becomes the same pull request.
	w.cloud.set("web", "size", "xxl")
	w.check()
	w.until("the pull request is edited", func() bool { return strings.Contains(w.repo.Pull(number).Body, `"xxl"`) })
	if n := w.drift().Proposal.Number; n != number {
		t.Errorf("a second pull request, %d", n)
	}
	w.until("it is planned again", func() bool {
		runs := w.runs(store.RunFilter{Kind: store.KindPlan, PullRequest: number})
		return len(runs) > 1 && runs[0].State == store.NoChanges && runs[0].Commit == w.repo.Pull(number).HeadSHA
	})
	w.repo.Merge(number, "merge")
	w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})
	w.ticket(false)
	if r := w.check(); r.State != store.NoChanges {
		t.Errorf("after the merge: %s %s", r.State, r.Result)
	}
	if got := w.repo.Git.Files("main")["app/main.tf"]; !strings.Contains(got, "size = \"xxl\" # what finance allows") || !strings.Contains(got, `default = "dev"`) {
		t.Errorf("the configuration is now:\n%s", got)
	}
	if w.cloud.attribute("web", "size") != "xxl" {
		t.Error("the merge undid the change")
	}
	w.ticket(false)
	_ = ticket

	// What is put back closes its pull request.
	w.cloud.set("web", "size", "tiny")
	w.check()
	w.until("there is another proposal", func() bool { p := w.drift().Proposal; return p.Open && p.Number != number })
	next := w.drift().Proposal.Number
	w.cloud.set("web", "size", "xxl")
	w.check()
	w.until("it is closed", func() bool { return w.repo.Pull(next).State == "closed" })
	w.ticket(false)
}

// cloudEvent asks for a check as an audit log's trigger would.
func (w *world) cloudEvent(secret, workspace string) int {
	w.Helper()
	body := fmt.Sprintf(`{"repository":%q,"workspace":%q}`, w.repository(), workspace)
	req, err := http.NewRequest(http.MethodPost, w.url+"/hooks/cloud-event", strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header = hook.Sign(secret, []byte(body), time.Now())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// answered waits for the answer to a comment on a ticket.
func (w *drifting) answered(number int, comment int64, want string) {
	w.Helper()
	marker := fmt.Sprintf("<!-- holdfast answers %d -->", comment)
	w.until(fmt.Sprintf("comment %d is answered with %q", comment, want), func() bool {
		for _, c := range w.repo.Issue(number).Comments {
			if strings.HasPrefix(c.Body, marker) {
				if !strings.Contains(c.Body, want) {
					w.Fatalf("the answer is %q instead of %q", c.Body, want)
				}
				return true
			}
		}
		return false
	})
}

// inbox takes the messages of a webhook, and answers who did it.
type inbox struct {
	mu       sync.Mutex
	messages []watch.Message
}

func (in *inbox) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	in.mu.Lock()
	defer in.mu.Unlock()
	if r.URL.Path == "/who" {
		var q watch.Question
		if hook.Verify("fedcba9876543210", r.Header, body, time.Now()) != nil || json.Unmarshal(body, &q) != nil || len(q.Resources) == 0 {
			rw.WriteHeader(http.StatusForbidden)
			return
		}
		answer := map[string][]watch.Answer{"answers": {{Address: q.Resources[0].Address, Actor: "mallory", Call: "compute:resize", At: time.Now(), Source: "console"}}}
		_ = json.NewEncoder(rw).Encode(answer)
		return
	}
	var m watch.Message
	if json.Unmarshal(body, &m) == nil {
		in.messages = append(in.messages, m)
	}
}

// kinds waits until all wanted kinds of events were told, and returns all.
func (in *inbox) kinds(t *testing.T, w *world, want ...string) (kinds []string) {
	t.Helper()
	w.until(fmt.Sprintf("people are told of %q", want), func() bool {
		in.mu.Lock()
		defer in.mu.Unlock()
		kinds = nil
		for _, m := range in.messages {
			for _, e := range m.Events {
				kinds = append(kinds, e.Kind)
			}
		}
		return !slices.ContainsFunc(want, func(k string) bool { return !slices.Contains(kinds, k) })
	})
	return kinds
}

// Where the commit that was applied last was pushed away, what the state has is
// compared with the cloud, and nothing is called in sync.
func TestDriftOfACommitThatIsGone(t *testing.T) {
	t.Parallel()
	w := newDrifting(t, `correct = "apply"`, server("web", `size = "small"`), nil)
	w.cloud.set("web", "size", "xl")
	w.stop()
	w.repo.ForcePush(gittest.DefaultBranch, w.first)
	head := w.repo.Push(gittest.DefaultBranch, map[string]string{"app/main.tf": providers + "provider \"smallcloud\" {}\n" + server("web", `size = "tiny"`)}, "begin anew")
	// The mirror forgets what the remote does not have any more.
	if err := os.RemoveAll(filepath.Join(w.dir, "data", "mirrors")); err != nil {
		t.Fatal(err)
	}
	w.start()
	st := w.open()
	defer st.Close()
	w.until("the branch is known anew", func() bool {
		rec, err := st.Records.Get(t.Context(), "repository/"+w.repository())
		return err == nil && strings.Contains(string(rec.Value), head)
	})
	run := w.check()
	result := resultOf(t, run)
	if d := result.Drift; d == nil || d.Class != plan.UnappliedCommit || !result.RefreshOnly || len(d.Resources) != 1 || d.Resources[0].Address != "smallcloud_server.web" {
		t.Errorf("the check is %s: %s %s", run.State, run.Error, run.Result)
	}
	if s := w.workspace("app").State; s != runner.Pending {
		t.Errorf("app is %s", s)
	}
	if n := len(w.runs(store.RunFilter{Kind: store.KindCorrect})); n != 0 || w.cloud.attribute("web", "size") != "xl" {
		t.Errorf("%d corrections", n)
	}
}

// A correction leaves alone what a rule leaves alone.
func TestDriftCorrectedBesideARule(t *testing.T) {
	t.Parallel()
	w := newDrifting(t, "correct = \"apply\"\n    ignore \"smallcloud_server.scaled\" {\n      attributes = [\"size\"]\n      reason = \"the scaler owns it\"\n    }",
		server("scaled", `size = "small"`)+server("web", `size = "small"`), nil)
	w.cloud.set("scaled", "size", "huge")
	if r := w.check(); r.State != store.NoChanges || len(resultOf(t, r).Drift.Ignored) != 1 || len(w.repo.AllIssues()) != 0 {
		t.Errorf("what a rule covers: %s %s", r.State, r.Result)
	}
	w.cloud.set("web", "size", "xl")
	w.check()
	w.until("web is corrected", func() bool { return w.cloud.attribute("web", "size") == "small" })
	w.ticket(false, "Holdfast corrected it")
	if got := w.cloud.attribute("scaled", "size"); got != "huge" {
		t.Errorf("scaled was made %v", got)
	}
	// It never hides that something is gone.
	w.cloud.remove("scaled")
	w.check()
	w.until("scaled is made again", func() bool { return w.cloud.attribute("scaled", "size") == "small" })
}
