package gitea_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"holdfast/vcs"
	"holdfast/vcs/gitea"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/vcstest"
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

// harness is a gitea.Host on a giteatest.Server.
type harness struct {
	t    *testing.T
	srv  *giteatest.Server
	repo *giteatest.Repository
	host *gitea.Host

	mu   sync.Mutex
	sent []vcstest.Webhook
}

var (
	_ vcstest.BranchDeleter = (*harness)(nil)
	_ vcstest.Reopener      = (*harness)(nil)
	_ vcstest.Sender        = (*harness)(nil)
	_ vcstest.Faulty        = (*harness)(nil)
)

func newHarness(t *testing.T, cfg giteatest.Config) *harness {
	t.Helper()
	h := &harness{t: t, srv: giteatest.New(t, cfg)}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the sender is being closed at the end of the test
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.sent = append(h.sent, vcstest.Webhook{Header: r.Header.Clone(), Body: body})
	}))
	t.Cleanup(receiver.Close)
	h.repo = h.srv.CreateRepository("boss", "network", map[string]string{"live/vpc/main.tf": "# one\n"})
	h.repo.SetHook(receiver.URL)
	host, err := gitea.New(gitea.Config{URL: h.srv.URL, Token: h.srv.AddUser("holdfast", true), WebhookSecret: h.srv.Secret})
	if err != nil {
		t.Fatal(err)
	}
	h.host = host
	return h
}

func (h *harness) Host() vcs.Host { return h.host }

func (h *harness) Repository() vcs.Repository {
	return vcs.Repository{Host: h.srv.Name, Owner: "boss", Name: "network"}
}

func (h *harness) Push(branch string, files map[string]string) string {
	return h.repo.Push(branch, files, "change")
}

func (h *harness) Open(branch, title string) int {
	return h.repo.OpenPull(giteatest.OpenPull{Head: branch, Title: title})
}

func (h *harness) Merge(n int) string { return h.repo.Merge(n, "merge") }

func (h *harness) Close(n int) { h.repo.Close(n) }

func (h *harness) Reopen(n int) { h.repo.Reopen(n) }

func (h *harness) DeleteBranch(branch string) { h.repo.DeleteBranch(branch) }

func (h *harness) Fetch(remote vcs.Remote, ref string) string {
	h.t.Helper()
	g, err := git.PlainInit(h.t.TempDir(), true)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := g.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{remote.URL}})
	if err != nil {
		h.t.Fatal(err)
	}
	err = r.Fetch(&git.FetchOptions{
		Auth:     &githttp.BasicAuth{Username: remote.Username, Password: remote.Password},
		RefSpecs: []config.RefSpec{config.RefSpec("+" + ref + ":refs/fetched")},
		Tags:     git.NoTags,
	})
	if err != nil {
		h.t.Fatalf("fetch %s: %v", ref, err)
	}
	got, err := g.Reference("refs/fetched", false)
	if err != nil {
		h.t.Fatal(err)
	}
	return got.Hash().String()
}

func (h *harness) OpenFork(branch string, files map[string]string) int {
	fork := h.repo.Fork("stranger")
	fork.Push(branch, files, "theirs")
	return h.repo.OpenPull(giteatest.OpenPull{Head: "stranger:" + branch})
}

func (h *harness) SetDraft(n int, draft bool) {
	title := "Change"
	if draft {
		title = "wip: Change"
	}
	h.repo.Retitle(n, title)
}

func (h *harness) Grant(user string, p vcs.Permission) { h.repo.Grant(user, string(p)) }

func (h *harness) CommentAs(user string, n int, body string) int64 {
	return h.repo.Comment(n, user, body)
}

func (h *harness) DeleteComment(n int, id int64) { h.repo.DeleteComment(n, id) }

func (h *harness) Status(sha, context string) (vcs.Status, bool) {
	s, ok := h.repo.Statuses(sha)[context]
	return vcs.Status{Context: context, State: vcs.StatusState(s.State), Description: s.Description, URL: s.URL}, ok
}

func (h *harness) ReviewAs(user string, n int, state vcs.ReviewState) {
	h.repo.Review(n, user, map[vcs.ReviewState]string{
		vcs.Approved: "APPROVED", vcs.ChangesRequested: "REQUEST_CHANGES", "": "COMMENT",
	}[state], "because")
}

func (h *harness) DismissReviews(user string, n int) { h.repo.DismissReviews(n, user) }

func (h *harness) Sent() []vcstest.Webhook {
	h.t.Helper()
	if err := h.srv.Wait(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	sent := h.sent
	h.sent = nil
	return sent
}

func (h *harness) Fault(kind vcstest.FaultKind, n int) bool {
	kinds := map[vcstest.FaultKind]giteatest.FaultKind{
		vcstest.Internal: giteatest.Fail500, vcstest.Limited: giteatest.RateLimit, vcstest.Garbage: giteatest.Garbage,
		vcstest.Truncated: giteatest.Truncated, vcstest.Broken: giteatest.Reset, vcstest.Hanging: giteatest.Hang,
		vcstest.Denied: giteatest.Denied,
	}
	k, ok := kinds[kind]
	if ok {
		h.srv.Fail(giteatest.Fault{Kind: k, Times: n})
	}
	return ok
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
