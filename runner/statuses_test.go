package runner

import (
	"strings"
	"testing"

	"holdfast/vcs"
)

// pending returns the statuses that say that something is still to come, on
// any commit.
func (h *fakeHost) pending() (names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, s := range h.statuses {
		if s.State == vcs.StatusPending {
			names = append(names, name)
		}
	}
	return names
}

// Whatever becomes of a pull request while it is planned, no status promises
// for ever that something will come.
func TestNoStatusIsPendingForEver(t *testing.T) {
	for _, test := range []struct {
		name string
		then func(*fixture, *vcs.PullRequest)
		says string // by the status of workspace b, on the first commit
	}{
		{"closed", func(_ *fixture, pr *vcs.PullRequest) { pr.State = vcs.Closed }, "success The pull request was closed"},
		{"pushed to", func(f *fixture, pr *vcs.PullRequest) {
			pr.HeadSHA = f.git.commit("change", map[string]string{"b/main.tf": root("2")})
		}, "error Superseded by commit"},
		{"another base, that has b already", func(f *fixture, pr *vcs.PullRequest) {
			f.git.heads["other"] = f.git.parent[pr.HeadSHA]
			pr.BaseRef = "other"
		}, "success Not affected any more"},
		{"finished", func(*fixture, *vcs.PullRequest) {}, "success 1 to add"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			f.open(map[string]string{"b/main.tf": root("1")})
			first := f.open(map[string]string{"a/main.tf": root("1")})
			if err := f.told(); err != nil {
				t.Fatal(err)
			}
			f.work(JobReport)
			if n := len(f.host.pending()); n != 3 { // a, b and the whole
				t.Fatalf("pending at first: %v", f.host.pending())
			}
			pr := f.host.pulls[1]
			test.then(f, &pr)
			f.host.set(pr)
			if err := f.told(); err != nil {
				t.Fatal(err)
			}
			f.work()
			f.pass(f.ReportDelay)
			f.work()
			if left := f.host.pending(); len(left) > 0 {
				t.Errorf("pending: %v", left)
			}
			s := f.host.statuses[first+" holdfast/b"]
			if got := string(s.State) + " " + s.Description; !strings.HasPrefix(got, test.says) {
				t.Errorf("b: %s", got)
			}
		})
	}
}
