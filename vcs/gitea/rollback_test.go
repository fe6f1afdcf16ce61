package gitea_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/vcs"
	"holdfast/vcs/git"
	"holdfast/vcs/gitea"
	"holdfast/vcs/gitea/giteatest"
)

// TestRollback takes a merged pull request back by another one, over the wire:
// the branch is pushed with the host's own remote, and the events come as for
// a person's.
func TestRollback(t *testing.T) {
	for _, method := range []string{"merge", "squash", "rebase"} {
		t.Run(method, func(t *testing.T) {
			h := newHarness(t, giteatest.Config{})
			ctx, r := t.Context(), h.Repository()
			mirrors, err := git.New(git.Config{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			h.Push("feature", map[string]string{"live/vpc/main.tf": "# two\n"})
			head := h.Push("feature", map[string]string{"live/dns/main.tf": "# new\n"})
			n := h.Open("feature", "Two")
			before := h.Push("main", map[string]string{"README": "meanwhile\n"})
			if err := h.Tested.(*gitea.Host).Merge(ctx, r, n, head, method); err != nil {
				t.Fatal(err)
			}
			onto := h.Push("main", map[string]string{"later.tf": "# later\n"})
			h.Sent()

			remote, err := h.Tested.(*gitea.Host).Remote(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			if err := mirrors.Fetch(ctx, r, remote); err != nil {
				t.Fatal(err)
			}
			rev := vcs.Revert{
				From: before, To: pullOf(t, h.Tested.(*gitea.Host), r, n).MergeSHA, Onto: onto,
				Branch: "holdfast/rollback-1", Message: "Roll back #1", When: time.Unix(1_780_000_000, 0),
			}
			sha, err := mirrors.Revert(ctx, r, remote, rev)
			if err != nil {
				t.Fatal(err)
			}
			pr, err := h.Tested.(*gitea.Host).OpenPull(ctx, r, vcs.NewPull{Branch: rev.Branch, Base: "main", Title: "Roll back #1", Body: "Why."})
			if err != nil || pr.HeadSHA != sha || pr.Author != "holdfast" {
				t.Fatalf("opened %+v, %v, want it at %s", pr, err, sha)
			}
			var kinds []string
			for _, w := range h.Sent() {
				kinds = append(kinds, w.Header.Get("X-Gitea-Event"))
			}
			if diff := cmp.Diff([]string{"create", "push", "pull_request"}, kinds); diff != "" {
				t.Errorf("webhooks (-want +got):\n%s", diff)
			}
			if got := h.Repo.Pull(pr.Number); got.Title != "Roll back #1" || got.Body != "Why." {
				t.Errorf("the host has %+v", got)
			}
			// All of it again, as after a crash: nothing is made twice.
			if again, err := mirrors.Revert(ctx, r, remote, rev); err != nil || again != sha {
				t.Errorf("again: %s, %v, want %s", again, err, sha)
			}
			if again, err := h.Tested.(*gitea.Host).OpenPull(ctx, r, vcs.NewPull{Branch: rev.Branch, Base: "main", Title: "Roll back #1"}); err != nil || again.Number != pr.Number {
				t.Errorf("again: %+v, %v, want number %d", again, err, pr.Number)
			}
			if got := h.Sent(); len(got) != 0 {
				t.Errorf("%d webhooks for what was done before", len(got))
			}
			if err := h.Tested.(*gitea.Host).Merge(ctx, r, pr.Number, sha, method); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"live/vpc/main.tf": "# one\n", "README": "meanwhile\n", "later.tf": "# later\n"}
			if diff := cmp.Diff(want, h.Repo.Git.Files("main")); diff != "" {
				t.Errorf("files of main (-want +got):\n%s", diff)
			}
		})
	}
}

func pullOf(t *testing.T, h *gitea.Host, r vcs.Repository, number int) vcs.PullRequest {
	t.Helper()
	pr, err := h.PullRequest(t.Context(), r, number)
	if err != nil {
		t.Fatal(err)
	}
	return pr
}
