package vcstest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/vcs"
)

func opened(t *testing.T, h Harness) (number int, head string) {
	t.Helper()
	head = h.Push("feature", change("one"))
	return h.Open("feature", "Change"), head
}

func testComments(t *testing.T, h Harness) {
	host, ok := capability[vcs.Comments](t, h)
	if !ok {
		return
	}
	n, _ := opened(t, h)
	ctx, r := t.Context(), h.Repository()
	self, err := host.Self(ctx)
	if err != nil || self == "" {
		t.Fatalf("Self = %q, %v", self, err)
	}
	c, err := host.CreateComment(ctx, r, n, "first ✓ <b>&amp;</b>\n```diff\n+ a\n```")
	if err != nil {
		t.Fatalf("CreateComment: %v", err)
	}
	if err := host.EditComment(ctx, r, n, c.ID, "edited"); err != nil {
		t.Fatalf("EditComment: %v", err)
	}
	long := strings.Repeat("é", host.MaxComment()/2)
	if err := host.EditComment(ctx, r, n, c.ID, long); err != nil {
		t.Fatalf("EditComment with MaxComment bytes: %v", err)
	}
	people, byPeople := h.(Commenter)
	want := []vcs.Comment{{ID: c.ID, Author: self, Body: long}}
	if byPeople {
		id := people.CommentAs("ann", n, "holdfast plan")
		want = append(want, vcs.Comment{ID: id, Author: "ann", Body: "holdfast plan"})
	}
	got, err := host.Comments(ctx, r, n)
	if err != nil || len(got) != len(want) {
		t.Fatalf("Comments: %d of them, %v, want %d", len(got), err, len(want))
	}
	for i := range want {
		want[i].Number, want[i].CreatedAt = n, got[i].CreatedAt
		if got[i] != want[i] || got[i].CreatedAt.Before(time.Now().Add(-time.Hour)) {
			t.Errorf("comment %d is %+v, want %+v of now", i, got[i], want[i])
		}
	}
	if byPeople {
		people.DeleteComment(n, c.ID)
		if err := host.EditComment(ctx, r, n, c.ID, "again"); !errors.Is(err, vcs.ErrNotFound) {
			t.Errorf("EditComment of a deleted one: %v, want ErrNotFound", err)
		}
	}
	if _, err := host.CreateComment(ctx, r, 4711, "x"); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("CreateComment on a missing pull request: %v, want ErrNotFound", err)
	}
}

func testManyComments(t *testing.T, h Harness) {
	host, ok := capability[vcs.Comments](t, h)
	people, byPeople := h.(Commenter)
	if !ok || !byPeople {
		return
	}
	n, _ := opened(t, h)
	const many = 1001 // one more than ten pages of 100
	for i := range many {
		people.CommentAs("ann", n, fmt.Sprint(i))
	}
	got, err := host.Comments(t.Context(), h.Repository(), n)
	if err != nil || len(got) != many {
		t.Fatalf("Comments: %d of them, %v, want %d", len(got), err, many)
	}
	for i, c := range got {
		if c.Body != fmt.Sprint(i) {
			t.Fatalf("comment %d is %q: not oldest first", i, c.Body)
		}
	}
}

func testStatuses(t *testing.T, h Harness) {
	host, ok := capability[vcs.Statuses](t, h)
	reader, seen := h.(StatusReader)
	if !ok || !seen {
		return
	}
	_, head := opened(t, h)
	for _, s := range []vcs.Status{
		{Context: "holdfast/vpc", State: vcs.StatusPending, Description: "planning", URL: "https://example.com/runs/1"},
		{Context: "holdfast/vpc", State: vcs.StatusSuccess, Description: "1 to add", URL: "https://example.com/runs/1"},
		{Context: "holdfast/dns", State: vcs.StatusFailure, Description: "no"},
		{Context: "holdfast", State: vcs.StatusError},
	} {
		if err := host.SetStatus(t.Context(), h.Repository(), head, s); err != nil {
			t.Fatalf("SetStatus(%+v): %v", s, err)
		}
		if got, ok := reader.Status(head, s.Context); !ok || !reflect.DeepEqual(got, s) {
			t.Errorf("status is %+v, want %+v", got, s)
		}
	}
	// Another context is left alone, and a long description is cut to fit.
	if got, _ := reader.Status(head, "holdfast/vpc"); got.State != vcs.StatusSuccess {
		t.Errorf("status of holdfast/vpc became %+v", got)
	}
	long := vcs.Status{Context: "holdfast", State: vcs.StatusSuccess, Description: strings.Repeat("ö", 5000)}
	if err := host.SetStatus(t.Context(), h.Repository(), head, long); err != nil {
		t.Fatalf("SetStatus with a long description: %v", err)
	}
	if got, _ := reader.Status(head, "holdfast"); !strings.HasPrefix(got.Description, "öö") {
		t.Errorf("description %.20q does not begin as the long one", got.Description)
	}
	if err := host.SetStatus(t.Context(), h.Repository(), "no commit", long); err == nil {
		t.Error("SetStatus on what is no commit id succeeded")
	}
}

func testNotes(t *testing.T, h Harness) {
	host, ok := capability[vcs.Notes](t, h)
	reader, seen := h.(NoteReader)
	if !ok || !seen {
		return
	}
	_, head := opened(t, h)
	for _, text := range []string{"planned: 1 to add\n", "applied\n"} {
		if err := host.SetNote(t.Context(), h.Repository(), head, text); err != nil {
			t.Fatalf("SetNote: %v", err)
		}
		if got := reader.Note(head); got != text {
			t.Errorf("note is %q, want %q", got, text)
		}
	}
}

func testReviews(t *testing.T, h Harness) {
	host, ok := capability[vcs.Reviews](t, h)
	_, canReview := h.(Reviewer)
	if !ok {
		return
	}
	n, _ := opened(t, h)
	list := func() []vcs.Review {
		t.Helper()
		rs, err := host.Reviews(t.Context(), h.Repository(), n)
		if err != nil {
			t.Fatalf("Reviews: %v", err)
		}
		return rs
	}
	if got := list(); len(got) != 0 {
		t.Fatalf("a new pull request has reviews: %+v", got)
	}
	if ok, err := host.Mergeable(t.Context(), h.Repository(), n); err != nil || !ok {
		t.Errorf("Mergeable = %v, %v, want true", ok, err)
	}
	if canReview {
		testVerdicts(t, h, n, list)
	}
	h.Push("main", map[string]string{"live/one/main.tf": "# somebody else's\n"})
	if ok, err := host.Mergeable(t.Context(), h.Repository(), n); err != nil || ok {
		t.Errorf("Mergeable with a conflict = %v, %v, want false", ok, err)
	}
}

func testVerdicts(t *testing.T, h Harness, n int, list func() []vcs.Review) {
	reviewer := h.(Reviewer)
	reviewer.ReviewAs("ann", n, "")
	if got := list(); len(got) != 0 {
		t.Errorf("a review without a verdict is listed: %+v", got)
	}
	reviewer.ReviewAs("ann", n, vcs.ChangesRequested)
	reviewer.ReviewAs("bob", n, vcs.Approved)
	reviewer.ReviewAs("ann", n, vcs.Approved)
	last := map[string]vcs.Review{}
	for _, r := range list() {
		if r.At.Before(last[r.Author].At) {
			t.Error("reviews are not oldest first")
		}
		last[r.Author] = r
	}
	for _, who := range []string{"ann", "bob"} {
		if r := last[who]; r.State != vcs.Approved || r.Stale || r.Dismissed {
			t.Errorf("%s's last review is %+v, want a fresh approval", who, r)
		}
	}
	reviewer.DismissReviews("bob", n)
	h.Push("feature", change("more"))
	for _, r := range list() {
		if r.State == vcs.Approved && !r.Stale {
			t.Errorf("%s's approval is not stale after a push", r.Author)
		}
		if r.Author == "bob" && !r.Dismissed {
			t.Error("bob's review is not dismissed")
		}
	}
}

func testMerger(t *testing.T, h Harness) {
	host, ok := capability[vcs.Merger](t, h)
	if !ok {
		return
	}
	merge := func(n int, sha, method string) error {
		return host.Merge(t.Context(), h.Repository(), n, sha, method)
	}
	for _, method := range []string{"merge", "squash", "rebase"} {
		branch := "by-" + method
		old := h.Push(branch, change(branch))
		n := h.Open(branch, branch)
		head := h.Push(branch, change(branch+"-more"))
		mustNotMerge(t, method+" of a head that has moved", merge(n, old, method))
		if pr := pullRequest(t, h, n); pr.State != vcs.Open {
			t.Fatalf("%s: a refused merge left it %s", method, pr.State)
		}
		h.Push("main", change("before-"+branch)) // so that a rebase makes new commits
		if err := merge(n, head, method); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		pr := pullRequest(t, h, n)
		if main := h.Fetch(remote(t, h), "refs/heads/main"); pr.State != vcs.Merged || pr.MergeSHA != main || pr.HeadSHA != head {
			t.Errorf("%s: state %s, merge commit %s, head %s, main at %s", method, pr.State, pr.MergeSHA, pr.HeadSHA, main)
		}
		// The answer may have been lost: asked again it is a success.
		if err := merge(n, head, method); err != nil {
			t.Errorf("%s: asked again: %v", method, err)
		}
		mustNotMerge(t, method+" of one that was merged with another head", merge(n, old, method))
	}
	n, head := opened(t, h)
	if err := merge(n, head, "octopus"); err == nil {
		t.Error("an unknown method was taken")
	}
	if err := merge(4711, head, "merge"); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("Merge of a missing pull request: %v, want ErrNotFound", err)
	}
	h.Push("main", map[string]string{"live/one/main.tf": "# somebody else's\n"})
	mustNotMerge(t, "one with a conflict", merge(n, head, "merge"))
	h.Close(n)
	mustNotMerge(t, "a closed one", merge(n, head, "merge"))
}

// mustNotMerge expects a refusal with a reason for people.
func mustNotMerge(t *testing.T, what string, err error) {
	t.Helper()
	var refused *vcs.NotMergedError
	if !errors.As(err, &refused) || refused.Reason == "" || strings.ContainsAny(refused.Reason, "\n{<") {
		t.Errorf("merge of %s: %v, want a NotMergedError with a reason", what, err)
	}
}

func testConcurrent(t *testing.T, h Harness) {
	n, _ := opened(t, h)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if pr, err := h.Host().PullRequest(t.Context(), h.Repository(), n); err != nil || pr.Number != n {
				t.Errorf("PullRequest = %d, %v", pr.Number, err)
			}
			if _, err := h.Host().PullRequests(t.Context(), h.Repository(), longAgo); err != nil {
				t.Errorf("PullRequests: %v", err)
			}
		})
	}
	wg.Wait()
}
