package vcstest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/vcs"
)

// testRedelivered has a delivery sent again: it is the same event.
func testRedelivered(t *testing.T, h Harness) {
	host, ok := capability[vcs.Webhooks](t, h)
	sender, sends := h.(Sender)
	if !ok || !sends {
		return
	}
	h.Push("feature", change("one"))
	h.Open("feature", "Change")
	seen := map[string]bool{}
	for _, w := range sender.Sent() {
		first, err := host.ParseWebhook(w.Header, w.Body)
		if errors.Is(err, vcs.ErrIgnored) {
			continue
		}
		again, aerr := host.ParseWebhook(w.Header, w.Body)
		if err != nil || aerr != nil || first.Delivery == "" || first.Delivery != again.Delivery || first != again {
			t.Errorf("%+v, %v, then %+v, %v", first, err, again, aerr)
		}
		if seen[first.Delivery] {
			t.Errorf("two deliveries have the id %s", first.Delivery)
		}
		seen[first.Delivery] = true
	}
	if len(seen) == 0 {
		t.Error("nothing was sent")
	}
}

// testWebhookDamaged has bodies that do not fit their signature, and some that
// do and are no event: neither is an event, and none is a panic.
func testWebhookDamaged(t *testing.T, h Harness) {
	host, ok := capability[vcs.Webhooks](t, h)
	sender, sends := h.(Sender)
	if !ok || !sends {
		return
	}
	h.Push("feature", change("one"))
	h.Open("feature", "Change")
	for _, w := range sender.Sent() {
		for _, body := range [][]byte{nil, {}, []byte("null"), []byte("{}"), []byte("[]"), []byte(`"x"`), w.Body[:len(w.Body)/2], bytes.Repeat([]byte("["), 20_000)} {
			e, err := host.ParseWebhook(w.Header, body)
			if err == nil && e.Kind != vcs.EventRepositories {
				t.Errorf("%.40q is %+v", body, e)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Errorf("%q is unfit for a log line", err)
			}
		}
	}
}

func testForcePushed(t *testing.T, h Harness) {
	f, ok := h.(ForcePusher)
	if !ok {
		return
	}
	before := h.Push("feature", change("one"))
	n := h.Open("feature", "Change")
	head := f.ForcePush("feature", change("two"))
	pr := pullRequest(t, h, n)
	if head == before || pr.HeadSHA != head || pr.State != vcs.Open {
		t.Errorf("head %s (%s), want %s", pr.HeadSHA, pr.State, head)
	}
	if got := h.Fetch(remote(t, h), pr.FetchRef); got != head {
		t.Errorf("%s leads to %s, want %s", pr.FetchRef, got, head)
	}
}

func testRetargeted(t *testing.T, h Harness) {
	r, ok := h.(Retargeter)
	if !ok {
		return
	}
	h.Push("release", change("release"))
	h.Push("feature", change("one"))
	n := h.Open("feature", "Change")
	if s, ok := h.(Sender); ok {
		s.Sent()
	}
	r.Retarget(n, "release")
	if pr := pullRequest(t, h, n); pr.BaseRef != "release" || pr.State != vcs.Open {
		t.Errorf("goes to %s (%s), want release", pr.BaseRef, pr.State)
	}
	if pr := pullRequests(t, h, time.Now())[n]; pr.BaseRef != "release" {
		t.Errorf("is listed as going to %q", pr.BaseRef)
	}
	if _, ok := h.(Sender); ok {
		if _, ok := h.Host().(vcs.Webhooks); ok && !mentions(events(t, h), n) {
			t.Error("the host told of no new base")
		}
	}
}

func testMergedBy(t *testing.T, h Harness) {
	m, ok := h.(MergerBy)
	if !ok {
		return
	}
	for _, method := range []string{"squash", "rebase"} {
		h.Push(method, change(method))
		h.Push(method, change(method+"-more"))
		n := h.Open(method, "Change")
		h.Push("main", change("before-"+method))
		main := m.MergeBy(n, method)
		pr := pullRequest(t, h, n)
		if pr.State != vcs.Merged || pr.MergeSHA != main {
			t.Errorf("%s: %s at %s, want merged at %s", method, pr.State, pr.MergeSHA, main)
		}
		if got := pullRequests(t, h, longAgo)[n]; got.MergeSHA != main {
			t.Errorf("%s: it is listed with the merge commit %q", method, got.MergeSHA)
		}
	}
}

// testRenamed looks a renamed repository up under its former name: it is found,
// or not there; never another one.
func testRenamed(t *testing.T, h Harness) {
	r, ok := h.(Renamer)
	if !ok {
		return
	}
	h.Push("feature", change("one"))
	n := h.Open("feature", "Change")
	before := h.Repository()
	r.Rename("renamed")
	pr, err := h.Host().PullRequest(t.Context(), before, n)
	if err != nil && !errors.Is(err, vcs.ErrNotFound) || err == nil && (pr.Number != n || pr.Repository != before) {
		t.Errorf("under the former name: %+v, %v", pr, err)
	}
	if pr := pullRequest(t, h, n); pr.Repository.Name != "renamed" {
		t.Errorf("under the new name it is of %s", pr.Repository)
	}
}

func testRemoved(t *testing.T, h Harness) {
	r, ok := h.(Remover)
	if !ok {
		return
	}
	n, _ := opened(t, h)
	r.Remove()
	if _, err := h.Host().Remote(t.Context(), h.Repository()); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("Remote: %v, want ErrNotFound", err)
	}
	if _, err := h.Host().PullRequests(t.Context(), h.Repository(), longAgo); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("PullRequests: %v, want ErrNotFound", err)
	}
	if _, err := h.Host().PullRequest(t.Context(), h.Repository(), n); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("PullRequest: %v, want ErrNotFound", err)
	}
}

func testCommentsSince(t *testing.T, h Harness) {
	host, ok := capability[vcs.Comments](t, h)
	people, writes := h.(Commenter)
	if !ok || !writes {
		return
	}
	h.Push("one", change("one"))
	h.Push("two", change("two"))
	a, b := h.Open("one", "One"), h.Open("two", "Two")
	var want []vcs.Comment
	for i := range 130 { // more than a page of any host
		n := a
		if i%3 == 0 {
			n = b
		}
		body := fmt.Sprintf("holdfast plan %d", i)
		want = append(want, vcs.Comment{ID: people.CommentAs("ann", n, body), Number: n, Author: "ann", Body: body})
	}
	if e, ok := h.(Editor); ok {
		e.EditAs("ann", b, want[0].ID, "edited")
		want[0].Body = "edited"
	}
	got, err := host.CommentsSince(t.Context(), h.Repository(), time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if at := got[i].CreatedAt; at.Before(time.Now().Add(-time.Hour)) || at.After(time.Now().Add(time.Minute)) {
			t.Errorf("comment %d was created at %s", got[i].ID, at)
		}
		got[i].CreatedAt = time.Time{}
	}
	byID := func(x, y vcs.Comment) int { return int(x.ID - y.ID) }
	slices.SortFunc(got, byID)
	slices.SortFunc(want, byID)
	if !slices.Equal(got, want) {
		t.Errorf("%d comments since an hour ago, want %d: %+v", len(got), len(want), got[:min(len(got), 3)])
	}
	later, err := host.CommentsSince(t.Context(), h.Repository(), time.Now().Add(time.Hour))
	if err != nil || len(later) > 0 {
		t.Errorf("since a time to come: %+v, %v", later, err)
	}
}

func testAcknowledge(t *testing.T, h Harness) {
	host, ok := capability[vcs.Reactions](t, h)
	people, writes := h.(Commenter)
	if !ok || !writes {
		return
	}
	n, _ := opened(t, h)
	id := people.CommentAs("ann", n, "holdfast plan")
	for range 2 {
		if err := host.Acknowledge(t.Context(), h.Repository(), n, id); err != nil {
			t.Errorf("Acknowledge: %v", err)
		}
	}
	people.DeleteComment(n, id)
	if err := host.Acknowledge(t.Context(), h.Repository(), n, id); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("a comment that is gone: %v, want ErrNotFound", err)
	}
}

func testDeployments(t *testing.T, h Harness) {
	host, ok := capability[vcs.Deployments](t, h)
	if !ok {
		return
	}
	_, head := opened(t, h)
	d := vcs.Deployment{SHA: head, Environment: "live/vpc", State: vcs.DeploymentRunning, Description: strings.Repeat("ö", 500), URL: "https://example.com/runs/1"}
	id, err := host.SetDeployment(t.Context(), h.Repository(), d)
	if err != nil || id == 0 {
		t.Fatalf("SetDeployment: %d, %v", id, err)
	}
	for _, state := range []vcs.DeploymentState{vcs.DeploymentSuccess, vcs.DeploymentFailure} {
		d.ID, d.State = id, state
		if again, err := host.SetDeployment(t.Context(), h.Repository(), d); err != nil || again != id {
			t.Errorf("%s: %d, %v, want the same %d", state, again, err, id)
		}
	}
}

func testLister(t *testing.T, h Harness) {
	host, ok := capability[vcs.Lister](t, h)
	if !ok {
		return
	}
	want := []vcs.Repository{h.Repository()}
	if n, ok := h.(Neighbour); ok {
		for i := range 120 {
			n.Beside(fmt.Sprintf("other-%03d", i))
			want = append(want, vcs.Repository{Host: h.Repository().Host, Owner: h.Repository().Owner, Name: fmt.Sprintf("other-%03d", i)})
		}
	}
	got, err := host.Repositories(t.Context(), h.Repository().Owner)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d repositories, %v, want %d by name", len(got), err, len(want))
	}
	if got, err := host.Repositories(t.Context(), "nobody-has-this-name"); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("of nobody: %v, %v, want ErrNotFound", got, err)
	}
}

func testGrants(t *testing.T, h Harness) {
	host, ok := capability[vcs.Grants](t, h)
	if !ok {
		return
	}
	grants, err := host.Grants(t.Context(), h.Repository())
	if err != nil || len(grants) == 0 {
		t.Fatalf("Grants: %+v, %v", grants, err)
	}
	for _, g := range grants {
		if !g.Granted && !g.Optional || g.Permission == "" || g.For == "" {
			t.Errorf("%+v, of a token that may do everything", g)
		}
	}
}

func testHooks(t *testing.T, h Harness) {
	host, ok := capability[vcs.Hooks](t, h)
	if !ok {
		return
	}
	const address = "https://holdfast.example.com/webhooks/x"
	did, err := host.SetHook(t.Context(), h.Repository(), address)
	if err != nil || did == "" {
		t.Fatalf("SetHook: %q, %v, want it to say what it did", did, err)
	}
	if did, err = host.SetHook(t.Context(), h.Repository(), address); err != nil || did != "" {
		t.Errorf("SetHook again: %q, %v, want nothing to do", did, err)
	}
	if _, err := host.Deliveries(t.Context(), h.Repository(), address); err != nil {
		t.Errorf("Deliveries: %v", err)
	}
}

// testSizes writes as much as a host takes, and more.
func testSizes(t *testing.T, h Harness) {
	n, head := opened(t, h)
	if c, ok := h.Host().(vcs.Comments); ok {
		body := strings.Repeat("x", c.MaxComment())
		made, err := c.CreateComment(t.Context(), h.Repository(), n, body)
		if err != nil || len(made.Body) != len(body) {
			t.Errorf("a comment of %d bytes: %d of them, %v", len(body), len(made.Body), err)
		}
	}
	if s, ok := h.Host().(vcs.Statuses); ok {
		big := vcs.Status{Context: "holdfast/vpc", State: vcs.StatusSuccess, Description: strings.Repeat("ö ", 5000), Details: strings.Repeat("| a line |\n", 20_000)}
		for i := range 120 {
			big.Annotations = append(big.Annotations, vcs.Annotation{Path: "live/vpc/main.tf", Line: i + 1, Title: strings.Repeat("t", 1000), Message: strings.Repeat("m\n", 50_000)})
		}
		if err := s.SetStatus(t.Context(), h.Repository(), head, big); err != nil {
			t.Errorf("a status that is too long: %v", err)
		}
	}
	if r, ok := h.Host().(vcs.StatusReader); ok {
		got, err := r.Statuses(t.Context(), h.Repository(), head)
		if err != nil || len(got) != 1 || got[0].Context != "holdfast/vpc" || got[0].State != vcs.StatusSuccess {
			t.Errorf("Statuses: %+v, %v", got, err)
		}
	}
}
