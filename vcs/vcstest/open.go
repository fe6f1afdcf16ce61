package vcstest

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/vcs"
)

func testOpener(t *testing.T, h Harness) {
	host, ok := capability[vcs.Opener](t, h)
	if !ok {
		return
	}
	open := func(n vcs.NewPull) vcs.PullRequest {
		t.Helper()
		pr, err := host.OpenPull(t.Context(), h.Repository(), n)
		if err != nil {
			t.Fatalf("OpenPull(%q): %v", n.Branch, err)
		}
		return pr
	}
	head := h.Push("take/back", change("one"))
	if s, ok := h.(Sender); ok {
		s.Sent()
	}
	first := vcs.NewPull{Branch: "take/back", Base: "main", Title: "Take back ✓", Body: "Because.\n\n- [ ] <b>&amp;</b>"}
	pr := open(first)
	if pr.State != vcs.Open || pr.HeadRef != "take/back" || pr.HeadSHA != head || pr.BaseRef != "main" || pr.Fork || pr.Draft || pr.Repository != h.Repository() {
		t.Errorf("opened %+v, want take/back@%s into main", pr, head)
	}
	if got := pullRequest(t, h, pr.Number); got.State != vcs.Open || got.HeadSHA != head || got.Title != pr.Title || got.FetchRef != pr.FetchRef {
		t.Errorf("the host has %+v, want what was opened: %+v", got, pr)
	}
	if got, ok := pullRequests(t, h, time.Now())[pr.Number]; !ok || got.State != vcs.Open {
		t.Errorf("the list has %+v, want what was opened", got)
	}
	if _, ok := h.(Sender); ok {
		if !mentions(events(t, h), pr.Number) {
			t.Error("the host told of no new pull request")
		}
	}
	// A second try, after the answer was lost or by somebody else.
	if again := open(vcs.NewPull{Branch: "take/back", Base: "main", Title: "Another title"}); again.Number != pr.Number || again.Title != pr.Title {
		t.Errorf("opened again it is %d %q, want %d %q as it is", again.Number, again.Title, pr.Number, pr.Title)
	}
	head = h.Push("take/back", change("more"))
	if again := open(first); again.Number != pr.Number || again.HeadSHA != head {
		t.Errorf("after a push it is %d at %s, want %d at %s", again.Number, again.HeadSHA, pr.Number, head)
	}
	// What ended is not what a new one asks for.
	h.Merge(pr.Number)
	h.Push("take/back", change("next"))
	next := open(first)
	if next.Number == pr.Number || next.State != vcs.Open {
		t.Errorf("after its merge it is %d and %s, want a new one", next.Number, next.State)
	}
	h.Close(next.Number)
	if pr := pullRequest(t, h, next.Number); pr.State != vcs.Closed {
		t.Fatalf("closed it is %s", pr.State)
	}
	h.Push("take/back", change("last"))
	if last := open(first); last.Number == next.Number || last.State != vcs.Open {
		t.Errorf("after it was closed it is %d and %s, want a new one", last.Number, last.State)
	}
	h.Push("wordy", change("wordy"))
	if pr := open(vcs.NewPull{Branch: "wordy", Base: "main", Title: strings.Repeat("ö\n", 5000), Body: strings.Repeat("é\x00", 500_000)}); pr.State != vcs.Open || strings.Contains(pr.Title, "\n") {
		t.Errorf("with too long a title and body: %.80q is %s", pr.Title, pr.State)
	}
	h.Push("silent", change("silent"))
	if pr := open(vcs.NewPull{Branch: "silent", Base: "main"}); pr.State != vcs.Open || pr.Title == "" {
		t.Errorf("without a title: %q is %s", pr.Title, pr.State)
	}
}

func mentions(all []vcs.Event, number int) bool {
	for _, e := range all {
		if e.Kind == vcs.EventPullRequest && e.Number == number {
			return true
		}
	}
	return false
}

func testOpenerMistakes(t *testing.T, h Harness) {
	host, ok := capability[vcs.Opener](t, h)
	if !ok {
		return
	}
	h.Push("feature", change("one"))
	elsewhere := h.Repository()
	elsewhere.Name = "no-such-repository"
	for name, tc := range map[string]struct {
		repo    vcs.Repository
		pull    vcs.NewPull
		missing bool // vcs.ErrNotFound
	}{
		"no such repository": {elsewhere, vcs.NewPull{Branch: "feature", Base: "main", Title: "T"}, true},
		"no such branch":     {h.Repository(), vcs.NewPull{Branch: "nowhere", Base: "main", Title: "T"}, true},
		"no such base":       {h.Repository(), vcs.NewPull{Branch: "feature", Base: "nowhere", Title: "T"}, true},
		"onto itself":        {h.Repository(), vcs.NewPull{Branch: "main", Base: "main", Title: "T"}, false},
		"no branch":          {h.Repository(), vcs.NewPull{Base: "main", Title: "T"}, false},
		"no base":            {h.Repository(), vcs.NewPull{Branch: "feature", Title: "T"}, false},
		"somebody's fork":    {h.Repository(), vcs.NewPull{Branch: "eve:feature", Base: "main", Title: "T"}, false},
		"two lines":          {h.Repository(), vcs.NewPull{Branch: "feature\nx", Base: "main", Title: "T"}, false},
	} {
		pr, err := host.OpenPull(t.Context(), tc.repo, tc.pull)
		if err == nil || tc.missing && !errors.Is(err, vcs.ErrNotFound) {
			t.Errorf("%s: %+v, %v, want an error", name, pr, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%s: %q is unfit for a log line", name, err)
		}
	}
	f, ok := h.(Faulty)
	if !ok {
		return
	}
	n := vcs.NewPull{Branch: "feature", Base: "main", Title: "T"}
	for _, kind := range []FaultKind{Internal, Limited, Garbage, Denied} {
		if f.Fault(kind, 1) {
			_, err := host.OpenPull(t.Context(), h.Repository(), n)
			checkFault(t, "OpenPull", kind, err)
		}
	}
	pr, err := host.OpenPull(t.Context(), h.Repository(), n)
	if err != nil || pr.State != vcs.Open {
		t.Errorf("after the faults: %+v, %v, want it open", pr, err)
	}
}

// testOpenerConcurrent opens one pull request many times at once.
func testOpenerConcurrent(t *testing.T, h Harness) {
	host, ok := capability[vcs.Opener](t, h)
	if !ok {
		return
	}
	h.Push("feature", change("one"))
	numbers := make(chan int, 8)
	var wg sync.WaitGroup
	for range cap(numbers) {
		wg.Go(func() {
			pr, err := host.OpenPull(t.Context(), h.Repository(), vcs.NewPull{Branch: "feature", Base: "main", Title: "T"})
			if err != nil {
				t.Errorf("OpenPull: %v", err)
			}
			numbers <- pr.Number
		})
	}
	wg.Wait()
	if all := pullRequests(t, h, longAgo); len(all) != 1 {
		t.Errorf("%d pull requests are open, want one", len(all))
	}
	first := <-numbers
	for range cap(numbers) - 1 {
		if n := <-numbers; n != first {
			t.Errorf("one of the calls returned number %d, another %d", n, first)
		}
	}
}
