package azuredevops_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/azuredevops"
	"holdfast/vcs/azuredevops/azuretest"
	"holdfast/vcs/vcstest"
	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/harness"
)

// withoutRefs hides what Azure DevOps has no refs for: pull requests of forks, and
// those whose branch is deleted, cannot be fetched. The methods have another shape
// than those of vcstest.
type withoutRefs struct{ *harness.Harness }

func (withoutRefs) OpenFork()     {}
func (withoutRefs) DeleteBranch() {}

func TestConformance(t *testing.T) {
	vcstest.Run(t, func(t *testing.T) vcstest.Harness { return withoutRefs{newHarness(t)} })
}

func newHarness(t *testing.T) *harness.Harness {
	t.Helper()
	srv := azuretest.New(t, forge.Config{})
	h := harness.New(t, srv, "acme/platform")
	host, err := azuredevops.New(azuredevops.Config{URL: srv.URL, Token: srv.AddUser("holdfast", true), WebhookSecret: srv.Secret})
	if err != nil {
		t.Fatal(err)
	}
	h.Tested, h.NoTicketEvents = host, true
	h.States = map[string]vcs.StatusState{"succeeded": vcs.StatusSuccess, "failed": vcs.StatusFailure}
	return h
}

// TestForks has a pull request from a fork: it is one, and has nothing to fetch.
func TestForks(t *testing.T) {
	h := newHarness(t)
	n := h.OpenFork("theirs", map[string]string{"a": "1"})
	pr, err := h.Tested.PullRequest(t.Context(), h.Repository(), n)
	if err != nil || !pr.Fork || pr.FetchRef != "" || pr.State != vcs.Open {
		t.Errorf("%+v, %v", pr, err)
	}
}

// TestTicketKinds has processes with issues and without, and another repository of
// the project, which has tickets of its own.
func TestTicketKinds(t *testing.T) {
	for _, scrum := range []bool{false, true} {
		h := newHarness(t)
		h.Srv.Lock()
		if scrum {
			h.Repo.Extra["scrum"] = true
		}
		h.Srv.Unlock()
		h.Beside("other")
		other := h.Repository()
		other.Name = "other"
		host := h.Tested.(*azuredevops.Host)
		var made []vcs.Ticket
		for _, r := range []vcs.Repository{h.Repository(), other} {
			x, err := host.CreateTicket(t.Context(), r, vcs.NewTicket{Title: "T", Body: "x", Label: "it's drift"})
			if err != nil {
				t.Fatal(err)
			}
			made = append(made, x)
		}
		for i, r := range []vcs.Repository{h.Repository(), other} {
			if got, err := host.FindTickets(t.Context(), r, "it's drift"); err != nil || len(got) != 1 || got[0] != made[i] {
				t.Errorf("tickets of %s: %+v, %v, want %+v", r, got, err, made[i])
			}
		}
		want := "Issue"
		if scrum {
			want = "Task"
		}
		if calls := h.Srv.Calls("POST", "/_apis/wit/workitems/$"+want); len(calls) != 2 {
			t.Errorf("%d work items are of the kind %s, want 2", len(calls), want)
		}
	}
}

// TestDenied has a user whose groups may read, and who is denied it all the same.
func TestDenied(t *testing.T) {
	h := newHarness(t)
	for user, want := range map[string]vcs.Permission{"ann": vcs.PermissionWrite, "eve": vcs.PermissionNone, "kim": vcs.PermissionRead} {
		h.Repo.Grant(user, string(want))
		if got, err := h.Tested.Permission(t.Context(), h.Repository(), user); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", user, got, err, want)
		}
	}
}

func TestRequestLimit(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	srv := azuretest.New(t, forge.Config{Limit: 2, Window: 5 * time.Minute, Now: clock})
	srv.CreateRepository("acme/platform", "network", map[string]string{"f": "1"})
	host, err := azuredevops.New(azuredevops.Config{URL: srv.URL, Token: srv.AddUser("holdfast", true), Pull: true, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		_, err := host.Remote(t.Context(), vcs.Repository{Host: srv.Name, Owner: "acme/platform", Name: "network"})
		return err
	}
	for range 2 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		var limit *vcs.RateLimitError
		if err := ask(); !errors.As(err, &limit) || !limit.RetryAt.Equal(now.Add(5*time.Minute)) {
			t.Fatalf("%v, want a RateLimitError", err)
		}
	}
	if got := srv.Requests(); got.Total != 3 || got.Refused != 1 {
		t.Errorf("requests %+v, want 3 with 1 refused", got.Count)
	}
}

const (
	shaA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	shaB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	repo = `"repository":{"name":"network","remoteUrl":"https://dev.azure.com/acme/my%20project/_git/network"}`
)

func webhookHost(t testing.TB) *azuredevops.Host {
	t.Helper()
	h, err := azuredevops.New(azuredevops.Config{Token: "t", WebhookSecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func parse(h *azuredevops.Host, password, body string) (vcs.Event, error) {
	return h.ParseWebhook(http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+password))}}, []byte(body))
}

func TestEvents(t *testing.T) {
	network := vcs.Repository{Host: "dev.azure.com", Owner: "acme/my project", Name: "network"}
	e, err := parse(webhookHost(t), "secret", `{"id":"d-1","eventType":"git.push","resource":{"refUpdates":[{"name":"refs/heads/a","oldObjectId":"`+shaA+`","newObjectId":"`+shaB+`"},{"name":"refs/heads/main","oldObjectId":"`+shaA+`","newObjectId":"`+shaB+`"}],"pushedBy":{"uniqueName":"ann"},`+repo+`}}`)
	if want := (vcs.Event{Delivery: "d-1", Kind: vcs.EventPush, Repository: network, Branch: "main", Before: shaA, After: shaB, Sender: "ann"}); err != nil || e != want {
		t.Errorf("%+v, %v, want %+v", e, err, want)
	}
	reply := `{"id":"d-2","eventType":"ms.vss-code.git-pullrequest-comment-event","resource":{"comment":{"id":3,"author":{"uniqueName":"ann"},"content":"holdfast plan","publishedDate":"2026-03-01T12:00:00Z","_links":{"threads":{"href":"https://dev.azure.com/x/threads/9"}}},"pullRequest":{"pullRequestId":7,` + repo + `}}}`
	e, err = parse(webhookHost(t), "secret", reply)
	if err != nil || e.CommentID != 2<<40|9 || e.Number != 7 || e.Comment != "holdfast plan" {
		t.Errorf("a reply: %+v, %v", e, err)
	}
	for _, password := range []string{"", "Secret", "secrets"} {
		if _, err := parse(webhookHost(t), password, reply); !errors.Is(err, vcs.ErrSignature) {
			t.Errorf("password %q: %v, want ErrSignature", password, err)
		}
	}
	for _, body := range []string{
		`{"eventType":"build.complete"}`, `{"eventType":"git.push","resource":{"refUpdates":[{"name":"refs/tags/v1"}],` + repo + `}}`,
		strings.ReplaceAll(reply, "dev.azure.com/acme", "evil.example.com/acme"), strings.ReplaceAll(reply, `"content"`, `"lastContentUpdatedDate":"2026-03-01T12:00:09Z","content"`),
	} {
		if e, err := parse(webhookHost(t), "secret", body); !errors.Is(err, vcs.ErrIgnored) {
			t.Errorf("%.60s: %+v, %v, want it ignored", body, e, err)
		}
	}
}

// FuzzWebhook finds no body that is a panic, or an event of nothing.
func FuzzWebhook(f *testing.F) {
	f.Add(`{"id":"d","eventType":"git.push","resource":{"refUpdates":[{"name":"refs/heads/main","oldObjectId":"` + shaA + `","newObjectId":"` + shaB + `"}],` + repo + `}}`)
	f.Add(`{"id":"d","eventType":"git.pullrequest.updated","resource":{"pullRequestId":7,` + repo + `}}`)
	f.Add(`{"id":"d","eventType":"ms.vss-code.git-pullrequest-comment-event","resource":{"comment":{"id":1,"content":"x","_links":{"self":{"href":"/threads/9/comments/1"}}},"pullRequest":{"pullRequestId":7,` + repo + `}}}`)
	h := webhookHost(f)
	f.Fuzz(func(t *testing.T, body string) {
		e, err := parse(h, "secret", body)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Errorf("%q is unfit for a log line", err)
			}
			return
		}
		if _, err := vcs.ParseRepository(e.Repository.String()); err != nil || strings.Count(e.Repository.Owner, "/") != 1 {
			t.Errorf("repository %q: %v", e.Repository, err)
		}
		if e.Kind == vcs.EventPullRequest && e.Number <= 0 || e.Kind == vcs.EventComment && (e.Number <= 0 || e.CommentID <= 0) || e.Kind == "" || e.Delivery == "" {
			t.Errorf("event of nothing: %+v", e)
		}
		if _, err := json.Marshal(e); err != nil {
			t.Error(err)
		}
	})
}
