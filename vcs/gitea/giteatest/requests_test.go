package giteatest_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/google/go-cmp/cmp"

	"holdfast/vcs/gitea/giteatest"
)

// TestLimit makes more requests than the server answers, and Git's besides.
func TestLimit(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	srv := giteatest.New(t, giteatest.Config{Limit: 2, Window: 10 * time.Second, Now: func() time.Time { return now }})
	r := srv.CreateRepository("boss", "network", map[string]string{"f": "0"})
	token := srv.AddUser("holdfast", true)
	get := func(path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/api/v1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "token "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	for _, step := range []struct {
		after  time.Duration
		path   string
		status int
		retry  string
	}{
		{0, "/user", 200, ""},
		{4 * time.Second, "/repos/boss/network", 200, ""},
		{0, "/repos/boss/network/pulls", 429, "6"},
		{500 * time.Millisecond, "/nowhere", 429, "6"}, // rounded up
		{5499 * time.Millisecond, "/user", 429, "1"},
		{time.Millisecond, "/user", 200, ""}, // the first one is ten seconds ago
		{0, "/repos/boss/network", 429, "4"},
		{10 * time.Second, "/repos/boss/network", 200, ""},
		{0, "/nowhere", 404, ""},
	} {
		now = now.Add(step.after)
		if status, retry := get(step.path); status != step.status || retry != step.retry {
			t.Errorf("%s: %s has %d and Retry-After %q, want %d and %q", now.Format(time.StampMilli), step.path, status, retry, step.status, step.retry)
		}
		if _, err := git.PlainClone(t.TempDir(), true, &git.CloneOptions{URL: r.CloneURL(), Auth: &githttp.BasicAuth{Username: "x", Password: token}}); err != nil {
			t.Fatalf("Git is limited too: %v", err)
		}
	}
	// A fault of Git's requests is no API request either, one of the API's is.
	now = now.Add(time.Minute)
	srv.Fail(giteatest.Fault{Kind: giteatest.Fail500, Git: true})
	if _, err := git.PlainClone(t.TempDir(), true, &git.CloneOptions{URL: r.CloneURL()}); err == nil {
		t.Error("a fault of Git's requests did not happen")
	}
	srv.Fail(giteatest.Fault{Kind: giteatest.RateLimit})
	if status, _ := get("/user"); status != 429 {
		t.Errorf("with a fault: %d", status)
	}
	want := giteatest.Requests{
		Count: giteatest.Count{Total: 10, Refused: 4},
		Routes: map[string]giteatest.Count{
			"GET /user":                       {Total: 4, Refused: 1},
			"GET /repos/{owner}/{repo}":       {Total: 3, Refused: 1},
			"GET /repos/{owner}/{repo}/pulls": {Total: 1, Refused: 1},
			"GET unknown":                     {Total: 2, Refused: 1},
		},
	}
	if diff := cmp.Diff(want, srv.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestLimitAtOnce has many clients at the same moment.
func TestLimitAtOnce(t *testing.T) {
	srv := giteatest.New(t, giteatest.Config{Limit: 7, Window: time.Hour})
	token := srv.AddUser("holdfast", true)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { call(t, srv, token, "GET", "/user", "") })
	}
	wg.Wait()
	if got := srv.Requests(); got.Count != (giteatest.Count{Total: 20, Refused: 13}) {
		t.Errorf("requests: %+v, want 20 of which 13 are refused", got)
	}
}
