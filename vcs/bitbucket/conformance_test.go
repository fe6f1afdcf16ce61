package bitbucket_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/bitbucket"
	"holdfast/vcs/bitbucket/bitbuckettest"
	"holdfast/vcs/vcstest"
	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/harness"
)

// withoutRefs hides what Bitbucket has no refs for: pull requests of forks, and
// those whose branch is deleted, cannot be fetched. The methods have another shape
// than those of vcstest.
type withoutRefs struct{ *harness.Harness }

func (withoutRefs) OpenFork()     {}
func (withoutRefs) DeleteBranch() {}

func TestConformance(t *testing.T) {
	vcstest.Run(t, func(t *testing.T) vcstest.Harness { return withoutRefs{newHarness(t, forge.Config{})} })
}

func TestConformanceShortPages(t *testing.T) {
	vcstest.Run(t, func(t *testing.T) vcstest.Harness { return withoutRefs{newHarness(t, forge.Config{MaxPage: 7})} })
}

func newHarness(t *testing.T, cfg forge.Config) *harness.Harness {
	t.Helper()
	srv := bitbuckettest.New(t, cfg)
	h := harness.New(t, srv, "boss")
	host, err := bitbucket.New(bitbucket.Config{URL: srv.URL, Token: srv.AddUser("holdfast", true), WebhookSecret: srv.Secret})
	if err != nil {
		t.Fatal(err)
	}
	h.Tested = host
	states := map[string]vcs.StatusState{"INPROGRESS": vcs.StatusPending, "SUCCESSFUL": vcs.StatusSuccess, "FAILED": vcs.StatusFailure, "STOPPED": vcs.StatusError}
	h.Shown = func(sha, context string) (vcs.Status, bool) {
		s, ok := h.Repo.Statuses(sha)[context]
		url := s.URL
		if url == srv.URL+"/boss/network" { // the host wants one with each
			url = ""
		}
		return vcs.Status{Context: context, State: states[s.State], Description: s.Description, URL: url}, ok
	}
	return h
}

// TestForks has a pull request from a fork: it is one, and has nothing to fetch.
func TestForks(t *testing.T) {
	h := newHarness(t, forge.Config{})
	n := h.OpenFork("theirs", map[string]string{"a": "1"})
	pr, err := h.Tested.PullRequest(t.Context(), h.Repository(), n)
	if err != nil || !pr.Fork || pr.FetchRef != "" || pr.State != vcs.Open {
		t.Errorf("%+v, %v", pr, err)
	}
}

func TestRequestLimit(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	srv := bitbuckettest.New(t, forge.Config{Limit: 3, Window: time.Hour, Now: clock})
	srv.CreateRepository("boss", "network", map[string]string{"f": "1"})
	host, err := bitbucket.New(bitbucket.Config{URL: srv.URL, Token: srv.AddUser("holdfast", true), WebhookSecret: srv.Secret, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		_, err := host.Remote(t.Context(), vcs.Repository{Host: srv.Name, Owner: "boss", Name: "network"})
		return err
	}
	for range 3 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		var limit *vcs.RateLimitError
		if err := ask(); !errors.As(err, &limit) || !limit.RetryAt.Equal(now.Add(time.Hour)) {
			t.Fatalf("%v, want a RateLimitError", err)
		}
	}
	if got := srv.Requests(); got.Total != 4 || got.Refused != 1 {
		t.Errorf("requests %+v, want 4 with 1 refused", got.Count)
	}
}

const (
	shaA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	shaB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	repo = `"actor":{"account_id":"ann"},"repository":{"full_name":"boss/network","links":{"html":{"href":"https://bitbucket.org/boss/network"}}}`
)

func parse(h *bitbucket.Host, event, body string) (vcs.Event, error) {
	return h.ParseWebhook(http.Header{"X-Event-Key": {event}, "X-Request-Uuid": {"d-1"}, "X-Hub-Signature": {"sha256=" + forge.MAC("secret", []byte(body))}}, []byte(body))
}

func webhookHost(t testing.TB) *bitbucket.Host {
	t.Helper()
	h, err := bitbucket.New(bitbucket.Config{Token: "t", WebhookSecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestPushOfSeveralBranches(t *testing.T) {
	branch := func(name string) string {
		return `{"new":{"type":"branch","name":"` + name + `","target":{"hash":"` + shaB + `"}},"old":{"type":"branch","name":"` + name + `","target":{"hash":"` + shaA + `"}}}`
	}
	for changes, want := range map[string]string{
		branch("a"): "a",
		branch("a") + "," + branch("main") + "," + branch("b"): "main",
		`{"new":null,"old":{"type":"branch"}},` + branch("c"):  "c",
	} {
		e, err := parse(webhookHost(t), "repo:push", `{"push":{"changes":[`+changes+`]},`+repo+`}`)
		if err != nil || e.Branch != want || e.Before != shaA || e.After != shaB || e.Kind != vcs.EventPush || e.Sender != "ann" {
			t.Errorf("%+v, %v, want a push of %s", e, err, want)
		}
	}
	for event, body := range map[string]string{
		"repo:push":                  `{"push":{"changes":[{"new":{"type":"tag","name":"v1"}}]},` + repo + `}`,
		"repo:fork":                  `{}`,
		"pullrequest:comment_edited": `{}`,
		"pullrequest:created":        `{"pullrequest":{"id":7},"repository":{"full_name":"a/b","links":{"html":{"href":"https://evil.example.com/a/b"}}}}`,
	} {
		if e, err := parse(webhookHost(t), event, body); !errors.Is(err, vcs.ErrIgnored) {
			t.Errorf("%s: %+v, %v, want it ignored", event, e, err)
		}
	}
}

// FuzzWebhook finds no body of any event that is a panic, or an event of nothing.
func FuzzWebhook(f *testing.F) {
	for _, event := range []string{"repo:push", "pullrequest:created", "pullrequest:comment_created", "repo:fork"} {
		f.Add(event, `{"push":{"changes":[{"new":{"type":"branch","name":"a/b","target":{"hash":"`+shaB+`"}},"old":null}]},`+repo+`}`)
		f.Add(event, `{"pullrequest":{"id":7},"comment":{"id":9,"content":{"raw":"holdfast plan"},"created_on":"2026-03-01T12:00:00.000000+00:00"},`+repo+`}`)
	}
	h := webhookHost(f)
	f.Fuzz(func(t *testing.T, event, body string) {
		e, err := parse(h, event, body)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Errorf("%q is unfit for a log line", err)
			}
			return
		}
		if _, err := vcs.ParseRepository(e.Repository.String()); err != nil || strings.Contains(e.Repository.Owner, "/") {
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
