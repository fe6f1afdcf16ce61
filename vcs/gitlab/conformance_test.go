package gitlab_test

import (
	"errors"
	"testing"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/gitlab"
	"holdfast/vcs/gitlab/gitlabtest"
	"holdfast/vcs/vcstest"
	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/harness"
)

func TestConformance(t *testing.T) {
	vcstest.Run(t, func(t *testing.T) vcstest.Harness { return newHarness(t, forge.Config{}, "boss") })
}

// TestConformanceSubgroup has a project in a group in a group, and short pages.
func TestConformanceSubgroup(t *testing.T) {
	vcstest.Run(t, func(t *testing.T) vcstest.Harness {
		return newHarness(t, forge.Config{MaxPage: 7}, "acme/platform/core")
	})
}

func newHarness(t *testing.T, cfg forge.Config, owner string) *harness.Harness {
	t.Helper()
	srv := gitlabtest.New(t, cfg)
	h := harness.New(t, srv, owner)
	host, err := gitlab.New(gitlab.Config{URL: srv.URL, Token: srv.AddUser("holdfast", true), WebhookSecret: srv.Secret})
	if err != nil {
		t.Fatal(err)
	}
	h.Tested = host
	h.States = map[string]vcs.StatusState{"failed": vcs.StatusFailure, "canceled": vcs.StatusError, "running": vcs.StatusPending}
	return h
}

// TestRequestLimit has a host that answers three requests a minute: the fourth is
// told when to come back, the fifth is not even sent, and is answered then.
func TestRequestLimit(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	srv := gitlabtest.New(t, forge.Config{Limit: 3, Now: clock})
	srv.CreateRepository("boss", "network", map[string]string{"f": "1"})
	host, err := gitlab.New(gitlab.Config{URL: srv.URL, Token: srv.AddUser("holdfast", true), WebhookSecret: srv.Secret, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		_, err := host.Remote(t.Context(), vcs.Repository{Host: srv.Name, Owner: "boss", Name: "network"})
		return err
	}
	first := now
	for range 3 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		now = now.Add(10 * time.Second)
	}
	for range 2 {
		var limit *vcs.RateLimitError
		if err := ask(); !errors.As(err, &limit) || !limit.RetryAt.Equal(first.Add(time.Minute)) {
			t.Fatalf("%v, want a RateLimitError until %v", err, first.Add(time.Minute))
		}
	}
	now = first.Add(time.Minute)
	if err := ask(); err != nil {
		t.Errorf("at the time that it said: %v", err)
	}
	if got := srv.Requests(); got.Total != 5 || got.Refused != 1 {
		t.Errorf("requests %+v, want 5 with 1 refused", got.Count)
	}
}

// TestMergeTrain puts a merge request on the train, and finds it merged later.
func TestMergeTrain(t *testing.T) {
	h := newHarness(t, forge.Config{}, "boss")
	head := h.Push("feature", map[string]string{"a": "1"})
	n := h.Open("feature", "Change")
	h.Srv.Lock()
	h.Repo.Extra["train"] = true
	h.Srv.Unlock()
	host := h.Tested.(*gitlab.Host)
	for range 2 {
		var waits *vcs.NotMergedError
		if err := host.Merge(t.Context(), h.Repository(), n, head, "merge"); !errors.As(err, &waits) || !waits.Again {
			t.Fatalf("Merge: %v, want it to wait", err)
		}
	}
	h.Merge(n)
	if err := host.Merge(t.Context(), h.Repository(), n, head, "merge"); err != nil {
		t.Errorf("after the train: %v", err)
	}
}

// TestNothingChanged looks twice: the second look gets nothing new.
func TestNothingChanged(t *testing.T) {
	h := newHarness(t, forge.Config{}, "boss")
	h.Push("feature", map[string]string{"a": "1"})
	h.Open("feature", "Change")
	look := func() {
		t.Helper()
		host, r := h.Tested.(*gitlab.Host), h.Repository()
		if _, err := host.Remote(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if got, err := host.PullRequests(t.Context(), r, time.Now().Add(-time.Hour)); err != nil || len(got) != 1 {
			t.Fatalf("%d merge requests, %v", len(got), err)
		}
		if got, err := host.CommentsSince(t.Context(), r, time.Now().Add(-time.Hour)); err != nil || len(got) != 0 {
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
}

// TestOlderApprovals has a host that does not tell when something was approved,
// but in what it writes itself.
func TestOlderApprovals(t *testing.T) {
	h := newHarness(t, forge.Config{}, "boss")
	h.Srv.Lock()
	h.Srv.Extra["older"] = true
	h.Srv.Unlock()
	h.Push("feature", map[string]string{"a": "1"})
	n := h.Open("feature", "Change")
	h.ReviewAs("ann", n, vcs.Approved)
	stale := func(want bool) {
		t.Helper()
		got, err := h.Tested.(*gitlab.Host).Reviews(t.Context(), h.Repository(), n)
		if err != nil || len(got) != 1 || got[0].Stale != want || got[0].At.IsZero() {
			t.Errorf("%+v, %v, want one that is stale: %v", got, err, want)
		}
	}
	stale(false)
	h.Push("feature", map[string]string{"a": "2"})
	stale(true)
}
