package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/vcstest/gittest"
)

// early is a world whose workspaces are applied by comments, before the merge.
type early struct{ *world }

// onComment is a holdfast.hcl that has everything applied on comments, with these
// settings besides.
func onComment(settings ...string) string {
	return "defaults {\n  apply {\n    on = \"comment\"\n    " + strings.Join(settings, "\n    ") + "\n  }\n}\n"
}

// newEarly starts a server for a repository with that holdfast.hcl and these root
// modules.
func newEarly(t *testing.T, config string, modules ...string) *early {
	t.Helper()
	files := map[string]string{"holdfast.hcl": config}
	for _, name := range modules {
		files[name+"/main.tf"] = app()
	}
	w := newWorld(t, files)
	w.repo.Grant("ada", "write")
	w.repo.Grant("grace", "write")
	w.start()
	return &early{w}
}

// propose opens a pull request with these files, on top of the default branch,
// and waits for its plans.
func (w *early) propose(branch string, files map[string]string) (number int, head string) {
	w.Helper()
	head = w.repo.Push(branch, files, branch)
	number = w.repo.OpenPull(giteatest.OpenPull{Head: branch, Author: "heidi"})
	w.until("it is planned", func() bool {
		runs := w.runs(store.RunFilter{Kind: store.KindPlan, PullRequest: number})
		return len(runs) > 0 && !slices.ContainsFunc(runs, func(r store.Run) bool { return !r.State.Ended() })
	})
	w.says(number, "planned")
	return number, head
}

// updated brings a branch up to date with the default branch.
func (w *early) updated(branch string) string {
	w.Helper()
	w.repo.Git.Branch(branch+"-next", branch)
	head := w.repo.Git.Merge(gittest.DefaultBranch, branch+"-next", gittest.MergeCommit)
	w.repo.ForcePush(branch, branch+"-next")
	return head
}

// tell comments a command and waits for the answer to it.
func (w *early) tell(number int, command, want string) {
	w.Helper()
	marker := fmt.Sprintf("<!-- holdfast answers %d -->", w.repo.Comment(number, "ada", command))
	w.until(fmt.Sprintf("%q is answered with %q", command, want), func() bool {
		for _, c := range w.repo.Comments(number) {
			if strings.HasPrefix(c.Body, marker) {
				if !strings.Contains(c.Body, want) {
					w.Fatalf("%q is answered with %q instead of %q", command, c.Body, want)
				}
				return true
			}
		}
		return false
	})
}

// says waits until Holdfast's own comment on a pull request says all of want.
func (w *early) says(number int, want ...string) string {
	w.Helper()
	body := ""
	defer func() {
		if w.Failed() || testing.Verbose() {
			w.Logf("the comment on #%d:\n%s", number, body)
		}
	}()
	w.until(fmt.Sprintf("the comment on #%d says %q", number, want), func() bool {
		for _, c := range w.repo.Comments(number) {
			if strings.HasPrefix(c.Body, "<!-- holdfast -->") {
				body = c.Body
			}
		}
		return body != "" && !slices.ContainsFunc(want, func(s string) bool { return !strings.Contains(body, s) })
	})
	return body
}

// stands waits until the latest run of a pull request in a workspace is as said,
// such as "apply applied", and returns it.
func (w *early) stands(number int, workspace, want string) (run store.Run) {
	w.Helper()
	w.until(fmt.Sprintf("%s stands at %q in #%d", workspace, want, number), func() bool {
		runs := w.runs(store.RunFilter{PullRequest: number, Workspace: workspace, Limit: 1})
		if len(runs) == 0 || string(runs[0].Kind)+" "+string(runs[0].State) != want {
			return false
		}
		run = runs[0]
		return true
	})
	return run
}

// has waits until exactly these workspaces are a pull request's, and no other
// has any.
func (w *early) has(number int, workspaces ...string) {
	w.Helper()
	var want []string
	for _, name := range workspaces {
		want = append(want, fmt.Sprintf("owner/%s/%s pull/%s#%d", w.repository(), name, w.repository(), number))
	}
	w.until(fmt.Sprintf("#%d has %v", number, workspaces), func() bool {
		got := w.owners()
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

// once checks that the cloud has these servers and no others, each made once.
func (w *early) once(names ...string) {
	w.Helper()
	if got := w.cloud.resources(); len(got) != len(names) {
		w.Errorf("the cloud has %+v instead of %v", got, names)
	}
	for _, name := range names {
		if n := w.cloud.created(name); n != 1 {
			w.Errorf("%s was made %d times", name, n)
		}
	}
}

// report is Holdfast's own comment on a pull request; empty where there is none.
func (w *early) report(number int) string {
	for _, c := range w.repo.Comments(number) {
		if strings.HasPrefix(c.Body, "<!-- holdfast -->") {
			return c.Body
		}
	}
	return ""
}
