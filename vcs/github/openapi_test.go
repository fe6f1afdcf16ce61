package github_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"holdfast/vcs"
	"holdfast/vcs/github"
	"holdfast/vcs/github/githubtest"
	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/harness"
)

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// TestRoutesAreGitHubs compares the requests that are made with the operations of
// GitHub's OpenAPI description, as go-github lists them in its module.
func TestRoutesAreGitHubs(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-github/v88").Output()
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "openapi_operations.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  - name: ([A-Z]+ \S+)$`).FindAllStringSubmatch(string(list), -1) {
		known[placeholder.ReplaceAllString(m[1], "{}")] = true
	}
	if len(known) < 500 {
		t.Fatalf("only %d operations are known", len(known))
	}
	made := map[string]bool{}
	for _, h := range []*harness.Harness{newHarness(t, forge.Config{}), newAppHarness(t)} {
		everything(t, h)
		for _, c := range h.Srv.Calls("", "") {
			if c.Route != "" {
				made[c.Method+" "+placeholder.ReplaceAllString(c.Route, "{}")] = true
			}
		}
	}
	if len(made) < 25 {
		t.Errorf("only %d operations were used: %v", len(made), made)
	}
	for route := range made {
		if !known[route] {
			t.Errorf("%s is no operation of GitHub's", route)
		}
	}
}

// everything makes each kind of request once.
func everything(t *testing.T, h *harness.Harness) {
	t.Helper()
	host, r, ctx := h.Tested.(*github.Host), h.Repository(), t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	head := h.Push("feature", map[string]string{"a": "1"})
	n := h.Open("feature", "Change")
	id := h.CommentAs("ann", n, "holdfast plan")
	_, err := host.Remote(ctx, r)
	check(err)
	_, err = host.PullRequest(ctx, r, n)
	check(err)
	_, err = host.PullRequests(ctx, r, h.Repo.Opened(n))
	check(err)
	_, err = host.Permission(ctx, r, "ann")
	check(err)
	c, err := host.CreateComment(ctx, r, n, "x")
	check(err)
	check(host.EditComment(ctx, r, n, c.ID, "y"))
	_, err = host.Comments(ctx, r, n)
	check(err)
	_, err = host.CommentsSince(ctx, r, h.Repo.Opened(n))
	check(err)
	check(host.Acknowledge(ctx, r, n, id))
	_, err = host.Self(ctx)
	check(err)
	for _, state := range []vcs.StatusState{vcs.StatusPending, vcs.StatusSuccess} {
		check(host.SetStatus(ctx, r, head, vcs.Status{Context: "holdfast", State: state, Description: "x", URL: "https://example.com", Details: "x", Annotations: []vcs.Annotation{{Path: "a", Line: 1, Title: "t", Message: "m"}}}))
	}
	_, err = host.Statuses(ctx, r, head)
	check(err)
	_, err = host.Reviews(ctx, r, n)
	check(err)
	_, err = host.Mergeable(ctx, r, n)
	check(err)
	_, err = host.SetDeployment(ctx, r, vcs.Deployment{SHA: head, Environment: "vpc", State: vcs.DeploymentRunning})
	check(err)
	_, err = host.Repositories(ctx, r.Owner)
	check(err)
	_, err = host.Grants(ctx, r)
	check(err)
	for range 2 {
		_, err = host.SetHook(ctx, r, "https://example.com/hook")
		check(err)
	}
	_, err = host.Deliveries(ctx, r, "https://example.com/hook")
	check(err)
	_, err = host.Time(ctx)
	check(err)
	h.Push("other", map[string]string{"b": "1"})
	for range 2 {
		_, err = host.OpenPull(ctx, r, vcs.NewPull{Branch: "other", Base: "main", Title: "T", Body: "B"})
		check(err)
	}
	check(host.EditPull(ctx, r, n, vcs.PullEdit{Title: "T", Body: "B"}))
	ticket, err := host.CreateTicket(ctx, r, vcs.NewTicket{Title: "T", Body: "B", Label: "holdfast"})
	check(err)
	check(host.EditTicket(ctx, r, ticket.Number, vcs.TicketEdit{Title: "T", Body: "C", Open: true}))
	check(host.CommentTicket(ctx, r, ticket.Number, "x"))
	_, err = host.TicketComments(ctx, r, ticket.Number, h.Repo.Opened(n))
	check(err)
	_, err = host.Ticket(ctx, r, ticket.Number)
	check(err)
	_, err = host.FindTickets(ctx, r, "holdfast")
	check(err)
	check(host.Merge(ctx, r, n, head, "squash"))
	_, err = github.Convert(ctx, github.Config{URL: h.Srv.URL}, "good")
	check(err)
}

// TestOwnCheckBlocks has a branch whose required check is Holdfast's own: that is
// no reason not to be mergeable.
func TestOwnCheckBlocks(t *testing.T) {
	h := newHarness(t, forge.Config{})
	h.Push("feature", map[string]string{"a": "1"})
	n := h.Open("feature", "Change")
	h.Srv.Lock()
	h.Repo.Extra["blocked"] = true
	h.Srv.Unlock()
	if ok, err := h.Tested.(*github.Host).Mergeable(t.Context(), h.Repository(), n); err != nil || !ok {
		t.Errorf("Mergeable: %v, %v, want true", ok, err)
	}
}

// TestAppWithoutChecks shows commit statuses where the App may write no check
// runs.
func TestAppWithoutChecks(t *testing.T) {
	h := newAppHarness(t)
	head := h.Push("feature", map[string]string{"a": "1"})
	githubtest.Forbid(h.Srv, "checks")
	for range 2 {
		if err := h.Tested.(*github.Host).SetStatus(t.Context(), h.Repository(), head, vcs.Status{Context: "holdfast", State: vcs.StatusSuccess}); err != nil {
			t.Fatal(err)
		}
	}
	if s := h.Repo.Statuses(head)["holdfast"]; s.State != "success" || s.Count != 2 {
		t.Errorf("the status is %+v", s)
	}
}
