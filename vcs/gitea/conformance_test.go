package gitea_test

import (
	"errors"
	"testing"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/gitea"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/vcstest"
	"holdfast/vcs/vcstest/harness"
)

func TestConformance(t *testing.T) {
	vcstest.Run(t, func(t *testing.T) vcstest.Harness { return newHarness(t, giteatest.Config{}) })
}

// TestConformanceBehindProxy has a host that calls itself by a wrong name and
// gives short pages.
func TestConformanceBehindProxy(t *testing.T) {
	vcstest.Run(t, func(t *testing.T) vcstest.Harness {
		return newHarness(t, giteatest.Config{PublicURL: "http://localhost:1", MaxPage: 7})
	})
}

func newHarness(t *testing.T, cfg giteatest.Config) *harness.Harness {
	t.Helper()
	srv := giteatest.New(t, cfg)
	h := harness.New(t, srv, "boss")
	h.DraftTitle = true
	host, err := gitea.New(gitea.Config{URL: srv.URL, Token: srv.AddUser("holdfast", true), WebhookSecret: srv.Secret})
	if err != nil {
		t.Fatal(err)
	}
	h.Tested = host
	return h
}

// TestRequestLimit has a host that answers three requests a minute: the fourth
// is told when to come back, and is answered then.
func TestRequestLimit(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	srv := giteatest.New(t, giteatest.Config{Limit: 3, Now: clock})
	srv.CreateRepository("boss", "network", map[string]string{"live/vpc/main.tf": "# one\n"})
	host, err := gitea.New(gitea.Config{URL: srv.URL, Token: srv.AddUser("holdfast", true), WebhookSecret: srv.Secret, Now: clock})
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
	var limit *vcs.RateLimitError
	if err := ask(); !errors.As(err, &limit) || !limit.RetryAt.Equal(first.Add(time.Minute)) {
		t.Fatalf("%v, want a RateLimitError until %v", err, first.Add(time.Minute))
	}
	now = limit.RetryAt
	if err := ask(); err != nil {
		t.Errorf("at the time that it said: %v", err)
	}
	if got := srv.Requests(); got.Total != 5 || got.Refused != 1 {
		t.Errorf("requests %+v, want 5 with 1 refused", got)
	}
}
