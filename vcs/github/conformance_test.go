package github_test

import (
	"errors"
	"testing"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/github"
	"holdfast/vcs/github/githubtest"
	"holdfast/vcs/vcstest"
	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/harness"
)

func TestConformance(t *testing.T) {
	vcstest.Run(t, func(t *testing.T) vcstest.Harness { return newHarness(t, forge.Config{}) })
}

// TestConformanceShortPages has a host that gives short pages.
func TestConformanceShortPages(t *testing.T) {
	vcstest.Run(t, func(t *testing.T) vcstest.Harness { return newHarness(t, forge.Config{MaxPage: 7}) })
}

func TestConformanceApp(t *testing.T) {
	vcstest.Run(t, func(t *testing.T) vcstest.Harness { return newAppHarness(t) })
}

func newHarness(t *testing.T, cfg forge.Config) *harness.Harness {
	t.Helper()
	srv := githubtest.New(t, cfg)
	h := harness.New(t, srv, "boss")
	host, err := github.New(github.Config{URL: srv.URL, Token: srv.AddUser("holdfast", true), WebhookSecret: srv.Secret})
	if err != nil {
		t.Fatal(err)
	}
	h.Tested = host
	return h
}

func newAppHarness(t *testing.T) *harness.Harness {
	t.Helper()
	srv := githubtest.New(t, forge.Config{})
	h := harness.New(t, srv, "boss")
	host, err := github.New(github.Config{URL: srv.URL, App: &github.App{ID: githubtest.AppID, PrivateKey: githubtest.PrivateKey()}, WebhookSecret: srv.Secret})
	if err != nil {
		t.Fatal(err)
	}
	h.Tested = host
	h.Shown = func(sha, context string) (vcs.Status, bool) {
		runs := githubtest.Runs(h.Repo)
		for i := len(runs) - 1; i >= 0; i-- {
			if run := runs[i]; run.SHA == sha && run.Name == context {
				s := vcs.Status{Context: context, State: vcs.StatusPending, Description: run.Title, URL: run.URL}
				if run.Status == "completed" {
					s.State = map[string]vcs.StatusState{"success": vcs.StatusSuccess, "failure": vcs.StatusFailure, "cancelled": vcs.StatusError}[run.Conclusion]
				}
				if s.Description == context {
					s.Description = ""
				}
				return s, true
			}
		}
		return vcs.Status{}, false
	}
	return h
}

// TestRequestLimit has a host that answers three requests an hour: the fourth is
// told when to come back, the fifth is not even sent, and is answered then.
func TestRequestLimit(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	srv := githubtest.New(t, forge.Config{Limit: 3, Window: time.Hour, Now: clock})
	srv.CreateRepository("boss", "network", map[string]string{"f": "1"})
	host, err := github.New(github.Config{URL: srv.URL, Token: srv.AddUser("holdfast", true), WebhookSecret: srv.Secret, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(user string) error {
		_, err := host.Permission(t.Context(), vcs.Repository{Host: srv.Name, Owner: "boss", Name: "network"}, user)
		return err
	}
	first := now
	for _, user := range []string{"a", "b", "c"} {
		if err := ask(user); err != nil {
			t.Fatal(err)
		}
		now = now.Add(10 * time.Second)
	}
	for range 2 {
		var limit *vcs.RateLimitError
		if err := ask("d"); !errors.As(err, &limit) || !limit.RetryAt.Equal(first.Add(time.Hour)) {
			t.Fatalf("%v, want a RateLimitError until %v", err, first.Add(time.Hour))
		}
	}
	now = first.Add(time.Hour)
	if err := ask("d"); err != nil {
		t.Errorf("at the time that it said: %v", err)
	}
	if got := srv.Requests(); got.Total != 5 || got.Refused != 1 {
		t.Errorf("requests %+v, want 5 with 1 refused", got.Count)
	}
}

// TestNothingChanged looks twice: the second look costs nothing.
func TestNothingChanged(t *testing.T) {
	h := newHarness(t, forge.Config{})
	h.Push("feature", map[string]string{"a": "1"})
	n := h.Open("feature", "Change")
	h.CommentAs("ann", n, "holdfast plan")
	h.Srv.Lock()
	h.Srv.Extra["noIssues"] = true
	h.Srv.Unlock()
	look := func() {
		t.Helper()
		host, r := h.Tested.(*github.Host), h.Repository()
		if _, err := host.Remote(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if got, err := host.PullRequests(t.Context(), r, time.Now().Add(-time.Hour)); err != nil || len(got) != 1 {
			t.Fatalf("%d pull requests, %v", len(got), err)
		}
		if got, err := host.CommentsSince(t.Context(), r, time.Now().Add(-time.Hour)); err != nil || len(got) != 1 {
			t.Fatalf("%d comments, %v", len(got), err)
		}
	}
	look()
	before := h.Srv.Requests()
	look()
	after := h.Srv.Requests()
	if asked, same := after.Total-before.Total, after.Same-before.Same; asked != 4 || same != 4 {
		t.Errorf("%d requests, %d of them answered as before, want 4 and 4", asked, same)
	}
	h.CommentAs("ann", n, "more")
	if got, err := h.Tested.(*github.Host).CommentsSince(t.Context(), h.Repository(), time.Now().Add(-time.Hour)); err != nil || len(got) != 2 {
		t.Errorf("after another comment: %d, %v", len(got), err)
	}
}
