package integration

import (
	"strings"
	"testing"
	"time"

	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// TestHostInTrouble delays reports while the host is in trouble, loses
// nothing, and leaves one comment in the end.
func TestHostInTrouble(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		fault giteatest.Fault
	}{
		{"fails", giteatest.Fault{Kind: giteatest.Fail500, Times: -1}},
		{"limits the rate", giteatest.Fault{Kind: giteatest.RateLimit, Times: -1, RetryAfter: 2 * time.Second}},
		{"breaks connections", giteatest.Fault{Kind: giteatest.Reset, Times: -1}},
		{"answers a page", giteatest.Fault{Kind: giteatest.Garbage, Times: -1}},
		{"hangs", giteatest.Fault{Kind: giteatest.Hang, Times: -1}},
		{"takes no comments", giteatest.Fault{Kind: giteatest.Fail500, Path: "/comments", Times: -1}},
		{"takes no statuses", giteatest.Fault{Kind: giteatest.Fail500, Path: "/statuses", Times: -1}},
		{"has no Git", giteatest.Fault{Kind: giteatest.Fail500, Git: true, Times: -1}},
		{"has another's Git", giteatest.Fault{Kind: giteatest.Garbage, Git: true, Times: -1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fiveWorkspaces())
			w.start()
			w.forge.Fail(tc.fault)
			sha := w.repo.Push("change", map[string]string{"c/more.tf": server("more")}, "change")
			number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
			// Tried at least twice; with comments refused, the plan is made.
			w.until("the server has met it", func() bool { return w.met(tc.fault) })
			if tc.fault.Path != "" {
				w.ended(1, store.RunFilter{Kind: store.KindPlan})
			} else if c := w.repo.Comments(number); len(c) > 0 {
				t.Errorf("comments: %+v", c)
			}
			// What waits outlives the process.
			w.kill()
			w.start()
			w.forge.ClearFaults()
			w.comment(number, "smallcloud_server.more")
			w.hasStatus(sha, "holdfast", "success")
			w.hasStatus(sha, "holdfast/c", "success")
			w.quiet()
			if runs := w.runs(store.RunFilter{}); len(runs) != 1 {
				t.Errorf("there are %d runs:\n%s", len(runs), w.describe())
			}
			w.comment(number, "smallcloud_server.more")
		})
	}
}

// met reports whether the server has run into a fault, and more than once
// where it does not have to wait long for that.
func (w *world) met(f giteatest.Fault) bool {
	if f.Git {
		return strings.Contains(w.log.String(), "fetch")
	}
	n := 0
	for _, c := range w.forge.Calls("", f.Path) {
		switch {
		case c.User == "" && f.Kind != giteatest.Hang:
		case c.Status == 0, c.Status >= 429, f.Kind == giteatest.Garbage:
			n++
		}
	}
	return n >= 2 || n == 1 && (f.Kind == giteatest.Hang || f.Kind == giteatest.RateLimit)
}

// TestLostAnswers finds what the host did although its answer never came.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, kind := range []giteatest.FaultKind{giteatest.Lost, giteatest.Truncated} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fiveWorkspaces())
			w.start()
			w.forge.Fail(giteatest.Fault{Kind: kind, Method: "POST", Path: "/comments", Times: 1})
			w.forge.Fail(giteatest.Fault{Kind: kind, Method: "PATCH", Path: "/comments", Times: 1})
			w.forge.Fail(giteatest.Fault{Kind: kind, Method: "POST", Path: "/statuses", Times: 2})
			sha := w.repo.Push("change", map[string]string{"c/more.tf": server("more")}, "change")
			number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
			w.comment(number, "smallcloud_server.more")
			w.hasStatus(sha, "holdfast", "success")
			w.hasStatus(sha, "holdfast/c", "success")
			w.repo.Merge(number, "merge")
			w.comment(number, "pplied")
			w.quiet()
			if n := len(w.repo.Comments(number)); n != 1 {
				t.Errorf("there are %d comments", n)
			}
		})
	}
}

// TestDeletedComment makes a comment that somebody deleted again with the next
// change, and not before.
func TestDeletedComment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	w.repo.Push("change", map[string]string{"c/more.tf": server("more")}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	w.comment(number, "smallcloud_server.more")
	w.quiet()
	w.repo.DeleteComment(number, w.repo.Comments(number)[0].ID)
	w.quiet()
	w.repo.Comment(number, "ada", "<!-- holdfast -->\nthis is how I would have put it")
	sha := w.repo.Push("change", map[string]string{"c/more.tf": server("again")}, "again")
	w.until("the comment is made again", func() bool {
		comments := w.repo.Comments(number)
		return len(comments) == 2 && strings.Contains(comments[1].Body, "smallcloud_server.again")
	})
	if c := w.repo.Comments(number)[0]; c.Author != "ada" || c.Edits != 0 {
		t.Errorf("somebody else's comment was touched: %+v", c)
	}
	w.hasStatus(sha, "holdfast", "success")
	w.quiet()
}

// TestApplyWhileHostIsDown applies what it knows to be merged although the
// host goes away then, and reports later.
func TestApplyWhileHostIsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	w.repo.Push("change", map[string]string{"c/more.tf": server("more", `delay = "3s"`)}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	w.comment(number, "smallcloud_server.more")
	w.repo.Merge(number, "merge")
	w.until("the apply has begun", func() bool {
		runs := w.runs(store.RunFilter{Kind: store.KindApply})
		return len(runs) == 1 && runs[0].Step == "apply"
	})
	w.forge.Fail(giteatest.Fault{Kind: giteatest.Fail500, Times: -1})
	if r := w.ended(1, store.RunFilter{Kind: store.KindApply})[0]; r.State != store.Applied {
		t.Errorf("the apply is %s: %s", r.State, r.Error)
	}
	w.forge.ClearFaults()
	w.comment(number, "pplied")
	w.quiet()
	if n := w.cloud.created("more"); n != 1 {
		t.Errorf("it was made %d times", n)
	}
}
