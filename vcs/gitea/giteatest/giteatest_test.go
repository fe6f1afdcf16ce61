package giteatest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/google/go-cmp/cmp"

	"holdfast/vcs/gitea/giteatest"
)

// inbox records the webhooks that arrive.
type inbox struct {
	url string
	mu  sync.Mutex
	got []string // "EVENT-TYPE ACTION" in order
	ids []string
}

func newInbox(t *testing.T, status int) *inbox {
	t.Helper()
	in := &inbox{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the sender is being closed at the end of the test
		}
		var p struct{ Action string }
		if err := json.Unmarshal(body, &p); err != nil {
			t.Errorf("body: %v", err)
		}
		if want := giteatest.Sign("secret", body).Get("X-Gitea-Signature"); r.Header.Get("X-Gitea-Signature") != want {
			t.Errorf("signature %q, want %q", r.Header.Get("X-Gitea-Signature"), want)
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		in.got = append(in.got, strings.TrimSpace(r.Header.Get("X-Gitea-Event-Type")+" "+p.Action))
		in.ids = append(in.ids, r.Header.Get("X-Gitea-Delivery"))
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	in.url = s.URL
	return in
}

func (in *inbox) take(t *testing.T, srv *giteatest.Server) []string {
	t.Helper()
	if err := srv.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	got := in.got
	in.got = nil
	return got
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("webhooks (-want +got):\n%s", diff)
	}
}

func start(t *testing.T) (*giteatest.Server, *giteatest.Repository, *inbox) {
	t.Helper()
	srv := giteatest.New(t, giteatest.Config{})
	r := srv.CreateRepository("boss", "network", map[string]string{"f": "0"})
	in := newInbox(t, http.StatusAccepted)
	r.SetHook(in.url)
	return srv, r, in
}

// TestStory plays what people do and expects the webhooks that Gitea sends.
func TestStory(t *testing.T) {
	srv, r, in := start(t)
	r.Push("feature", map[string]string{"f": "1"}, "edit")
	expect(t, in.take(t, srv), "create", "push")
	n := r.OpenPull(giteatest.OpenPull{Head: "feature"})
	expect(t, in.take(t, srv), "pull_request opened")
	r.Push("feature", map[string]string{"f": "2"}, "edit")
	expect(t, in.take(t, srv), "push", "pull_request_sync synchronized")
	id := r.Comment(n, "ann", "holdfast plan")
	r.DeleteComment(n, id)
	expect(t, in.take(t, srv), "pull_request_comment created", "pull_request_comment deleted")
	r.Review(n, "ann", "REQUEST_CHANGES", "no")
	r.Review(n, "ann", "APPROVED", "ok")
	expect(t, in.take(t, srv), "pull_request_review_rejected reviewed", "pull_request_review_approved reviewed")
	r.Close(n)
	r.Reopen(n)
	r.Retitle(n, "Better")
	expect(t, in.take(t, srv), "pull_request closed", "pull_request reopened", "pull_request edited")
	r.Merge(n, "merge")
	r.DeleteBranch("feature")
	expect(t, in.take(t, srv), "pull_request closed", "push", "delete")
}

// TestBranchGone deletes branches that pull requests come from and lead into.
func TestBranchGone(t *testing.T) {
	srv, r, in := start(t)
	admin := srv.AddUser("holdfast", true)
	r.Push("lower", map[string]string{"f": "1"}, "edit")
	r.Push("upper", map[string]string{"g": "1"}, "edit")
	lower := r.OpenPull(giteatest.OpenPull{Head: "lower"})
	upper := r.OpenPull(giteatest.OpenPull{Head: "upper", Base: "lower"})
	in.take(t, srv)
	state := func(n int) string {
		t.Helper()
		var p struct {
			State      string
			Base, Head struct{ Ref string }
		}
		_, body := call(t, srv, admin, "GET", fmt.Sprintf("/repos/boss/network/pulls/%d", n), "")
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatal(err)
		}
		if got := r.Pull(n); got.State != p.State || got.Base != p.Base.Ref {
			t.Errorf("Pull(%d) = %+v, and the API has %+v", n, got, p)
		}
		return p.State + " " + p.Head.Ref + " to " + p.Base.Ref
	}
	r.DeleteBranch("lower")
	expect(t, in.take(t, srv), "delete", "pull_request closed")
	if got, want := state(lower), "closed refs/pull/1/head to main"; got != want {
		t.Errorf("the pull request of the branch is %q, want %q", got, want)
	}
	if got, want := state(upper), "open upper to main"; got != want {
		t.Errorf("the pull request into the branch is %q, want %q", got, want)
	}
	// Closed it stays when somebody pushes the branch again, until it is
	// reopened.
	r.Push("lower", map[string]string{"f": "2"}, "edit")
	expect(t, in.take(t, srv), "create", "push")
	r.Reopen(lower)
	expect(t, in.take(t, srv), "pull_request reopened")
	if got, want := state(lower), "open lower to main"; got != want {
		t.Errorf("reopened it is %q, want %q", got, want)
	}
	merge := r.Merge(upper, "squash")
	want := []giteatest.Pull{
		{Number: lower, Title: "lower", Author: "boss", State: "open", Head: "lower", HeadSHA: r.Git.Head("lower"), Base: "main"},
		{Number: upper, Title: "upper", Author: "boss", State: "closed", Merged: true, MergeSHA: merge, Head: "upper", HeadSHA: r.Git.Head("upper"), Base: "main"},
	}
	if diff := cmp.Diff(want, r.Pulls()); diff != "" {
		t.Errorf("pull requests (-want +got):\n%s", diff)
	}
}

func TestDeliveries(t *testing.T) {
	srv, r, in := start(t)
	srv.Hold()
	r.Push("feature", map[string]string{"f": "1"}, "edit")
	r.OpenPull(giteatest.OpenPull{Head: "feature"})
	held := srv.Held()
	expect(t, in.take(t, srv))
	if len(held) != 3 {
		t.Fatalf("%d webhooks are held, want 3", len(held))
	}
	// Out of order and twice; then the lost one is lost.
	if got := srv.Send(held[2].ID, held[1].ID, held[2].ID); len(got) != 3 || got[0].Status != http.StatusAccepted {
		t.Fatalf("attempts: %+v", got)
	}
	expect(t, in.take(t, srv), "pull_request opened", "push", "pull_request opened")
	srv.Drop()
	srv.Release()
	expect(t, in.take(t, srv))
	srv.Redeliver(held[2].ID, 3)
	expect(t, in.take(t, srv), "pull_request opened", "pull_request opened", "pull_request opened")
	srv.Replay(held[2].ID)
	if ids := in.ids[len(in.ids)-4:]; ids[0] != ids[1] || ids[1] != ids[2] || ids[2] == ids[3] {
		t.Errorf("ids %v: a redelivery keeps its id, a replay has a new one", ids)
	}
	if all := srv.Deliveries(); len(all) != 3 || len(all[2].Attempts) != 6 || len(all[0].Attempts) != 0 {
		t.Errorf("deliveries: %+v", all)
	}
}

// TestUndelivered has nobody who listens: as in Gitea there is one attempt.
func TestUndelivered(t *testing.T) {
	srv, r, _ := start(t)
	r.SetHook("http://127.0.0.1:1/")
	r.Push("main", map[string]string{"f": "1"}, "edit")
	if err := srv.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := srv.Deliveries(); len(d) != 1 || len(d[0].Attempts) != 1 || d[0].Attempts[0].Err == nil {
		t.Errorf("deliveries: %+v", d)
	}
}

// call makes an API request and returns the status, 0 where there is no
// answer.
func call(t *testing.T, srv *giteatest.Server, token, method, path, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, srv.URL+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "token "+token)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(b)
}

func TestAPI(t *testing.T) {
	srv, r, _ := start(t)
	admin, reader, stranger := srv.AddUser("holdfast", true), srv.AddUser("ann", false), srv.AddUser("eve", false)
	r.Grant("ann", "read")
	r.Push("feature", map[string]string{"f": "1"}, "edit")
	r.Git.Branch("even", "main")
	repo := "/repos/boss/network"
	for _, tc := range []struct {
		token, method, path, body string
		status                    int
		has                       string
	}{
		{admin, "GET", "/version", "", 200, "1.26.0"},
		{"wrong", "GET", repo, "", 401, "invalid username, password or token"},
		{"", "GET", repo, "", 401, "invalid"},
		{admin, "GET", "/user", "", 200, `"login":"holdfast"`},
		{admin, "GET", "/repos/boss/other", "", 404, `"errors":null`},
		{reader, "POST", repo + "/pulls", `{"title":"T","head":"feature","base":"main"}`, 201, `"number":1`},
		{reader, "POST", repo + "/pulls", `{"title":"T","head":"nowhere","base":"main"}`, 404, "not found"},
		{reader, "POST", repo + "/pulls", `{"title":"T","head":"feature","base":"nowhere"}`, 404, "not found"},
		{reader, "POST", repo + "/pulls", `{"title":"T","head":"eve:feature","base":"main"}`, 404, "not found"},
		{reader, "POST", repo + "/pulls", `{"title":"T","head":"feature","base":"main"}`, 409, "pull request already exists for these targets [id: "},
		{reader, "POST", repo + "/pulls", `{"title":"T","head":"feature","base":"main"}`, 409, ", issue_id: 1, "},
		{reader, "POST", repo + "/pulls", `{"title":"T","head":"main","base":"main"}`, 422, "There are no changes between the head and the base"},
		{reader, "POST", repo + "/pulls", `{"title":"","head":"feature","base":"main"}`, 422, "[Title]: Required"},
		{stranger, "POST", repo + "/pulls", `{"title":"T","head":"feature","base":"main"}`, 403, "collaborator"},
		{admin, "GET", repo + "/pulls/1", "", 200, `"mergeable":true`},
		{admin, "GET", repo + "/pulls/2", "", 404, "not found"},
		{admin, "GET", repo + "/branches/feature", "", 200, `"name":"feature"`},
		{reader, "GET", repo + "/collaborators/boss/permission", "", 403, "Only admins"},
		{admin, "GET", repo + "/collaborators/boss/permission", "", 200, `"permission":"owner"`},
		{admin, "GET", repo + "/collaborators/ghost/permission", "", 404, "not found"},
		{reader, "POST", repo + "/pulls/1/reviews", `{"event":"APPROVED"}`, 422, "your own"},
		{admin, "POST", repo + "/pulls/1/reviews", `{"event":"APPROVED","body":"ok"}`, 200, "APPROVED"},
		{admin, "POST", repo + "/issues/1/comments", `{"body":""}`, 422, "Required"},
		{admin, "POST", repo + "/issues/1/comments", `nonsense`, 422, "invalid"},
		{reader, "POST", repo + "/statuses/" + r.Git.Head("feature"), `{"state":"success","context":"c"}`, 403, "write"},
		{admin, "POST", repo + "/statuses/" + r.Git.Head("feature"), `{"state":"great","context":"c"}`, 422, "invalid state"},
		{admin, "POST", repo + "/statuses/" + r.Git.Head("feature"), `{"state":"success","context":"c"}`, 201, `"status":"success"`},
		{admin, "GET", repo + "/commits/" + r.Git.Head("feature") + "/statuses", "", 200, `"context":"c"`},
		{reader, "POST", repo + "/pulls/1/merge", `{"Do":"merge"}`, 405, "not allowed"},
		{admin, "POST", repo + "/pulls/1/merge", `{"Do":"merge","head_commit_id":"` + r.Git.Head("main") + `"}`, 409, "out of date"},
		{admin, "PATCH", repo + "/pulls/1", `{"title":"WIP: T"}`, 201, `"draft":true`},
		{admin, "POST", repo + "/pulls/1/merge", `{"Do":"merge"}`, 405, "Work in progress"},
		{admin, "PATCH", repo + "/pulls/1", `{"title":"T","state":"closed"}`, 201, `"state":"closed"`},
		{admin, "POST", repo + "/pulls/1/merge", `{"Do":"merge"}`, 404, "not found"},
		{admin, "PATCH", repo + "/pulls/1", `{"state":"open"}`, 201, `"state":"open"`},
		{admin, "POST", repo + "/pulls/1/merge", `{"Do":"octopus"}`, 405, "octopus is not allowed"},
		{admin, "POST", repo + "/pulls/1/merge", `{"Do":"squash","delete_branch_after_merge":true}`, 200, ""},
		{admin, "POST", repo + "/pulls/1/merge", `{"Do":"squash"}`, 405, `"message":""`},
		{admin, "GET", repo + "/pulls/1", "", 200, `"ref":"refs/pull/1/head"`},
		{admin, "GET", repo + "/branches/feature", "", 404, "not found"},
		{admin, "PATCH", repo + "/pulls/1", `{"state":"open"}`, 412, "already merged"},
		{admin, "POST", repo + "/pulls", `{"title":"T","head":"even","base":"main"}`, 201, `"number":2`}, // without changes
		{admin, "GET", "/nowhere", "", 404, "not found"},
	} {
		status, body := call(t, srv, tc.token, tc.method, tc.path, tc.body)
		if status != tc.status || !strings.Contains(body, tc.has) {
			t.Errorf("%s %s: %d %.300s, want %d with %s", tc.method, tc.path, status, body, tc.status, tc.has)
		}
	}
}

// TestMergeMethods merges through the API by each method, and looks at what
// the base branch has then and at the webhooks.
func TestMergeMethods(t *testing.T) {
	for _, method := range []string{"merge", "squash", "rebase"} {
		t.Run(method, func(t *testing.T) {
			srv, r, in := start(t)
			token := srv.AddUser("holdfast", true)
			r.Push("feature", map[string]string{"a": "1"}, "first")
			head := r.Push("feature", map[string]string{"a": "2"}, "second")
			n := r.OpenPull(giteatest.OpenPull{Head: "feature"})
			before := r.Push("main", map[string]string{"b": "1"}, "meanwhile")
			in.take(t, srv)
			path := fmt.Sprintf("/repos/boss/network/pulls/%d", n)
			if status, body := call(t, srv, token, "POST", path+"/merge", `{"Do":"`+method+`","head_commit_id":"`+head+`"}`); status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			expect(t, in.take(t, srv), "pull_request closed", "push")
			merge := r.Git.Head("main")
			if _, body := call(t, srv, token, "GET", path, ""); !strings.Contains(body, `"merge_commit_sha":"`+merge+`"`) ||
				!strings.Contains(body, `"merged":true`) || !strings.Contains(body, `"merged_by":{"active"`) {
				t.Errorf("main is at %s, the pull request is %s", merge, body)
			}
			if diff := cmp.Diff(map[string]string{"f": "0", "a": "2", "b": "1"}, r.Git.Files("main")); diff != "" {
				t.Errorf("files of main (-want +got):\n%s", diff)
			}
			g, err := git.PlainOpen(r.Git.Dir)
			if err != nil {
				t.Fatal(err)
			}
			c, err := g.CommitObject(plumbing.NewHash(merge))
			if err != nil {
				t.Fatal(err)
			}
			switch method {
			case "merge":
				if c.NumParents() != 2 || c.ParentHashes[0].String() != before || c.ParentHashes[1].String() != head {
					t.Errorf("parents %v, want %s and %s", c.ParentHashes, before, head)
				}
			case "squash":
				if c.NumParents() != 1 || c.ParentHashes[0].String() != before {
					t.Errorf("parents %v, want %s", c.ParentHashes, before)
				}
			case "rebase":
				first, err := c.Parent(0)
				if err != nil || c.Message != "second" || first.Message != "first" || first.ParentHashes[0].String() != before {
					t.Errorf("the branch's commits are not on top of %s: %v, %v", before, first, err)
				}
			}
		})
	}
}

// TestMergeConflict has a host that finds out only while it merges.
func TestMergeConflict(t *testing.T) {
	srv, r, _ := start(t)
	token := srv.AddUser("holdfast", true)
	r.Push("feature", map[string]string{"f": "1"}, "edit")
	n := r.OpenPull(giteatest.OpenPull{Head: "feature"})
	r.Push("main", map[string]string{"f": "2"}, "meanwhile")
	const merge = "/repos/boss/network/pulls/1/merge"
	if status, body := call(t, srv, token, "POST", merge, `{"Do":"merge"}`); status != 405 || !strings.Contains(body, "Please try again later") {
		t.Errorf("with a conflict: %d %s", status, body)
	}
	r.SetMergeable(n, true)
	if status, body := call(t, srv, token, "POST", merge, `{"Do":"merge"}`); status != 409 || !strings.Contains(body, `"StdOut":"CONFLICT`) {
		t.Errorf("with a conflict that was not known: %d %s", status, body)
	}
}

func TestFaults(t *testing.T) {
	srv, r, _ := start(t)
	token := srv.AddUser("holdfast", true)
	r.Push("feature", map[string]string{"f": "1"}, "edit")
	n := r.OpenPull(giteatest.OpenPull{Head: "feature"})
	const comments = "/repos/boss/network/issues/1/comments"
	post := func() int {
		status, _ := call(t, srv, token, "POST", comments, `{"body":"x"}`)
		return status
	}
	for _, tc := range []struct {
		kind   giteatest.FaultKind
		status int
		done   int // how many comments it leaves
	}{
		{giteatest.Fail500, 500, 0}, {giteatest.RateLimit, 429, 0}, {giteatest.Denied, 401, 0}, {giteatest.Garbage, 200, 0},
		{giteatest.Reset, 0, 0}, {giteatest.Lost, 0, 1}, {giteatest.Truncated, 201, 1},
	} {
		before := len(r.Comments(n))
		srv.Fail(giteatest.Fault{Kind: tc.kind, Method: "POST", Path: "/comments"})
		if status, _ := call(t, srv, token, "GET", comments, ""); status != 200 {
			t.Errorf("%s: a call that does not fit failed", tc.kind)
		}
		if got := post(); got != tc.status {
			t.Errorf("%s: status %d, want %d", tc.kind, got, tc.status)
		}
		if got := len(r.Comments(n)) - before; got != tc.done {
			t.Errorf("%s: left %d comments, want %d", tc.kind, got, tc.done)
		}
		if got := post(); got != 201 {
			t.Errorf("%s: the call after it has status %d", tc.kind, got)
		}
	}
	srv.Fail(giteatest.Fault{Kind: giteatest.Fail500, Times: -1})
	post()
	if got := post(); got != 500 {
		t.Errorf("a fault without end ended: %d", got)
	}
	srv.ClearFaults()
	if got := post(); got != 201 {
		t.Errorf("after ClearFaults: %d", got)
	}
	statuses := []int{}
	for _, c := range srv.Calls("POST", "/comments") {
		statuses = append(statuses, c.Status)
	}
	if !slices.Contains(statuses, 429) || len(statuses) != 17 {
		t.Errorf("calls: %v", statuses)
	}
}

// TestGitPush pushes with a Git client: the same as Repository.Push.
func TestGitPush(t *testing.T) {
	srv, r, in := start(t)
	writer, stranger := srv.AddUser("ann", false), srv.AddUser("eve", false)
	r.Grant("ann", "write")
	r.Push("feature", map[string]string{"f": "1"}, "edit")
	n := r.OpenPull(giteatest.OpenPull{Head: "feature"})
	in.take(t, srv)

	g, err := git.PlainClone(t.TempDir(), true, &git.CloneOptions{URL: r.CloneURL(), Auth: &githttp.BasicAuth{Username: "x", Password: stranger}})
	if err != nil {
		t.Fatal(err)
	}
	main := r.Git.Head("main")
	fetch := func() error {
		return g.Fetch(&git.FetchOptions{Auth: &githttp.BasicAuth{Username: "x", Password: stranger}, Force: true})
	}
	srv.Fail(giteatest.Fault{Kind: giteatest.Fail500})
	if err := fetch(); !errors.Is(err, git.NoErrAlreadyUpToDate) {
		t.Fatalf("a fault of the API met Git: %v", err)
	}
	srv.ClearFaults()
	srv.Fail(giteatest.Fault{Kind: giteatest.Fail500, Git: true})
	if err := fetch(); err == nil || errors.Is(err, git.NoErrAlreadyUpToDate) {
		t.Fatalf("a fault of Git's requests did not happen: %v", err)
	}
	push := func(token string) error {
		return g.Push(&git.PushOptions{
			Auth: &githttp.BasicAuth{Username: "ann", Password: token}, Force: true,
			RefSpecs: []config.RefSpec{"+refs/heads/main:refs/heads/feature"},
		})
	}
	if err := push(stranger); err == nil {
		t.Fatal("a reader pushed")
	}
	if err := push(writer); err != nil {
		t.Fatal(err)
	}
	expect(t, in.take(t, srv), "push", "pull_request_sync synchronized")
	if got := r.Git.Ref("refs/pull/1/head"); got != main {
		t.Errorf("pull request %d is at %s, want %s", n, got, main)
	}
	err = g.Push(&git.PushOptions{
		Auth: &githttp.BasicAuth{Username: "ann", Password: writer}, RefSpecs: []config.RefSpec{":refs/heads/feature"},
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, in.take(t, srv), "delete", "pull_request closed")
}
