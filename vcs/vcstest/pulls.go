package vcstest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/vcs"
)

func testRemote(t *testing.T, h Harness) {
	sha := h.Push("main", change("seed"))
	r := remote(t, h)
	if r.DefaultBranch != "main" {
		t.Errorf("DefaultBranch = %q, want main", r.DefaultBranch)
	}
	if r.Password != "" && strings.Contains(r.URL, r.Password) {
		t.Errorf("the URL %q holds the password", r.URL)
	}
	if got := h.Fetch(r, "refs/heads/main"); got != sha {
		t.Errorf("fetched main at %s, want %s", got, sha)
	}
}

func testOpened(t *testing.T, h Harness) {
	base := h.Push("main", change("seed"))
	head := h.Push("feature/one", change("one"))
	n := h.Open("feature/one", "Change one")
	pr := pullRequest(t, h, n)
	if pr.Repository != h.Repository() || pr.Number != n || pr.State != vcs.Open {
		t.Errorf("pull request = %+v, want number %d of %s, open", pr, n, h.Repository())
	}
	if pr.HeadRef != "feature/one" || pr.HeadSHA != head || pr.BaseRef != "main" {
		t.Errorf("head %s@%s into %s, want feature/one@%s into main", pr.HeadRef, pr.HeadSHA, pr.BaseRef, head)
	}
	if pr.BaseSHA != "" && pr.BaseSHA != base {
		t.Errorf("BaseSHA = %s, want %s", pr.BaseSHA, base)
	}
	if pr.Draft || pr.Fork || pr.MergeSHA != "" {
		t.Errorf("draft %v, fork %v, merge commit %q, want none of them", pr.Draft, pr.Fork, pr.MergeSHA)
	}
	if got := h.Fetch(remote(t, h), pr.FetchRef); got != head {
		t.Errorf("%s leads to %s, want %s", pr.FetchRef, got, head)
	}
	if got, ok := pullRequests(t, h, time.Now())[n]; !ok || got.HeadSHA != head {
		t.Errorf("the list has %+v, want the open pull request", got)
	}
}

func testPushed(t *testing.T, h Harness) {
	h.Push("feature", change("one"))
	n := h.Open("feature", "Change")
	head := h.Push("feature", change("two"))
	pr := pullRequest(t, h, n)
	if pr.HeadSHA != head || pr.State != vcs.Open {
		t.Errorf("head = %s (%s), want %s, open", pr.HeadSHA, pr.State, head)
	}
	if got := h.Fetch(remote(t, h), pr.FetchRef); got != head {
		t.Errorf("%s leads to %s, want %s", pr.FetchRef, got, head)
	}
}

func testMerged(t *testing.T, h Harness) {
	head := h.Push("feature", change("one"))
	n := h.Open("feature", "Change")
	pullRequest(t, h, n)
	h.Push("main", change("meanwhile"))
	merge := h.Merge(n)
	pr := pullRequest(t, h, n)
	if pr.State != vcs.Merged || pr.MergeSHA != merge || pr.HeadSHA != head {
		t.Errorf("state %s, merge commit %s, head %s, want merged, %s, %s", pr.State, pr.MergeSHA, pr.HeadSHA, merge, head)
	}
	if got := h.Fetch(remote(t, h), "refs/heads/main"); got != merge {
		t.Errorf("main is at %s, want %s", got, merge)
	}
	if at := pr.MergedAt; !at.IsZero() && (at.After(time.Now().Add(time.Minute)) || at.Before(time.Now().Add(-time.Hour))) {
		t.Errorf("merged at %s", at)
	}
	if got := pullRequests(t, h, longAgo)[n]; got.State != vcs.Merged || got.MergeSHA != merge {
		t.Errorf("the list has %+v, want it merged as %s", got, merge)
	}
}

func testClosed(t *testing.T, h Harness) {
	head := h.Push("feature", change("one"))
	n := h.Open("feature", "Change")
	pullRequest(t, h, n)
	h.Close(n)
	if pr := pullRequest(t, h, n); pr.State != vcs.Closed || pr.MergeSHA != "" || pr.HeadSHA != head {
		t.Errorf("%s at %s with merge commit %q, want closed at %s without", pr.State, pr.HeadSHA, pr.MergeSHA, head)
	}
	if got := pullRequests(t, h, longAgo)[n]; got.State != vcs.Closed {
		t.Errorf("the list has %+v, want it closed", got)
	}
	r, ok := h.(Reopener)
	if !ok {
		return
	}
	head = h.Push("feature", change("two"))
	r.Reopen(n)
	if pr := pullRequest(t, h, n); pr.State != vcs.Open || pr.HeadSHA != head {
		t.Errorf("reopened it is %s at %s, want open at %s", pr.State, pr.HeadSHA, head)
	}
	if got := pullRequests(t, h, time.Now())[n]; got.State != vcs.Open {
		t.Errorf("the list has %+v, want it open again", got)
	}
}

func testBranchDeleted(t *testing.T, h Harness) {
	d, ok := h.(BranchDeleter)
	if !ok {
		return
	}
	head := h.Push("feature", change("one"))
	n := h.Open("feature", "Change")
	h.Merge(n)
	d.DeleteBranch("feature")
	pr := pullRequest(t, h, n)
	if pr.HeadRef != "feature" || pr.HeadSHA != head || pr.State != vcs.Merged {
		t.Errorf("%s@%s is %s, want feature@%s merged", pr.HeadRef, pr.HeadSHA, pr.State, head)
	}
	if got := h.Fetch(remote(t, h), pr.FetchRef); got != head {
		t.Errorf("%s leads to %s after the branch is gone, want %s", pr.FetchRef, got, head)
	}
	// Of an open pull request nothing is left to be merged.
	head = h.Push("other", change("two"))
	n = h.Open("other", "Another")
	d.DeleteBranch("other")
	pr = pullRequest(t, h, n)
	if pr.HeadRef != "other" || pr.HeadSHA != head || pr.State != vcs.Closed {
		t.Errorf("%s@%s is %s, want other@%s closed", pr.HeadRef, pr.HeadSHA, pr.State, head)
	}
	if got := h.Fetch(remote(t, h), pr.FetchRef); got != head {
		t.Errorf("%s leads to %s after the branch is gone, want %s", pr.FetchRef, got, head)
	}
}

func testNotFound(t *testing.T, h Harness) {
	if _, err := h.Host().PullRequest(t.Context(), h.Repository(), 4711); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("PullRequest of a missing one: %v, want ErrNotFound", err)
	}
	other := h.Repository()
	other.Name = "no-such-repository"
	if _, err := h.Host().Remote(t.Context(), other); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("Remote of a missing repository: %v, want ErrNotFound", err)
	}
	if _, err := h.Host().PullRequests(t.Context(), other, longAgo); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("PullRequests of a missing repository: %v, want ErrNotFound", err)
	}
}

func testList(t *testing.T, h Harness) {
	if got := pullRequests(t, h, longAgo); len(got) != 0 {
		t.Fatalf("an empty repository has pull requests: %v", got)
	}
	numbers := map[string]int{}
	for _, name := range []string{"stays", "merges", "closes"} {
		h.Push(name, change(name))
		numbers[name] = h.Open(name, name)
	}
	pullRequests(t, h, longAgo)
	h.Merge(numbers["merges"])
	h.Close(numbers["closes"])
	all := pullRequests(t, h, longAgo)
	want := map[string]vcs.PullState{"stays": vcs.Open, "merges": vcs.Merged, "closes": vcs.Closed}
	for name, state := range want {
		if got := all[numbers[name]].State; got != state {
			t.Errorf("%s is %q in the list, want %s", name, got, state)
		}
	}
	// Nothing has been closed in the future, and what is open is always there.
	later := pullRequests(t, h, time.Now().Add(24*time.Hour))
	if len(later) != 1 || later[numbers["stays"]].State != vcs.Open {
		t.Errorf("the list since tomorrow is %v, want the open one only", later)
	}
}

func testListPages(t *testing.T, h Harness) {
	const many = 53 // more than the page of any host's default
	want := map[int]bool{}
	for i := range many {
		name := fmt.Sprintf("b%02d", i)
		h.Push(name, map[string]string{name + ".tf": "# " + name + "\n"})
		want[h.Open(name, name)] = true
	}
	got := pullRequests(t, h, time.Now())
	for n := range want {
		if _, ok := got[n]; !ok {
			t.Errorf("pull request %d is not in the list", n)
		}
	}
	if len(got) != many {
		t.Errorf("%d pull requests are listed, want %d", len(got), many)
	}
}

func testFork(t *testing.T, h Harness) {
	f, ok := h.(Forker)
	if !ok {
		return
	}
	n := f.OpenFork("feature", change("theirs"))
	pr := pullRequest(t, h, n)
	if !pr.Fork {
		t.Error("a pull request from a fork is not marked as one")
	}
	if got := h.Fetch(remote(t, h), pr.FetchRef); got != pr.HeadSHA {
		t.Errorf("%s leads to %s in the base repository, want the fork's head %s", pr.FetchRef, got, pr.HeadSHA)
	}
	if !pullRequests(t, h, longAgo)[n].Fork {
		t.Error("the list does not mark the fork")
	}
}

func testDraft(t *testing.T, h Harness) {
	d, ok := h.(Drafter)
	if !ok {
		return
	}
	h.Push("feature", change("one"))
	n := h.Open("feature", "Change")
	for _, draft := range []bool{true, false} {
		d.SetDraft(n, draft)
		if got := pullRequest(t, h, n).Draft; got != draft {
			t.Errorf("Draft = %v, want %v", got, draft)
		}
	}
}

func testPermission(t *testing.T, h Harness) {
	g, ok := h.(Granter)
	if !ok {
		return
	}
	for user, want := range map[string]vcs.Permission{
		"ann": vcs.PermissionRead, "bob": vcs.PermissionWrite, "cat": vcs.PermissionAdmin,
	} {
		g.Grant(user, want)
		if got, err := h.Host().Permission(t.Context(), h.Repository(), user); err != nil || got != want {
			t.Errorf("Permission(%s) = %v, %v, want %v", user, got, err, want)
		}
	}
	// Asked at this moment, not remembered.
	g.Grant("bob", vcs.PermissionRead)
	if got, err := h.Host().Permission(t.Context(), h.Repository(), "bob"); err != nil || got.CanWrite() {
		t.Errorf("Permission after it was taken away = %v, %v", got, err)
	}
	for _, user := range []string{"nobody-of-that-name", "", "..", "a/b", "x y"} {
		if got, err := h.Host().Permission(t.Context(), h.Repository(), user); err != nil || got != vcs.PermissionNone {
			t.Errorf("Permission(%q) = %v, %v, want none", user, got, err)
		}
	}
}
