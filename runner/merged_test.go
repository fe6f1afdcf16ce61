package runner

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"holdfast/queue"
	"holdfast/vcs"
)

// merge merges pull request 1 as a new commit of main with these files.
func (f *fixture) merge(files map[string]string) {
	f.Helper()
	pr := f.host.pulls[1]
	pr.State, pr.MergeSHA = vcs.Merged, f.git.commit("main", files)
	f.host.set(pr)
	if err := f.told(); err != nil {
		f.Fatal(err)
	}
}

// applyPayload returns the payload of the only apply that is queued.
func (f *fixture) applyPayload() (in runPayload) {
	f.Helper()
	jobs := f.jobs(JobApply)
	if len(jobs) != 1 {
		f.Fatalf("%d applies are queued", len(jobs))
	}
	if err := json.Unmarshal(jobs[0].Payload, &in); err != nil {
		f.Fatal(err)
	}
	return in
}

// A pull request cannot relax the rules that it is applied under, also not by
// being merged.
func TestMergedUnderTheReviewedPolicy(t *testing.T) {
	const strict = "defaults {\n  apply {\n    requires = [\"approved\"]\n  }\n}\n"
	const lenient = "defaults {\n  apply {\n    when_plan_changed = \"always\"\n  }\n}\n"
	for _, test := range []struct {
		name, before, after string
		refused             bool
	}{
		{"relaxed", strict, lenient, true},
		{"made stricter", lenient, strict, true},
		{"as it was", strict, strict, true},
		{"asks for nothing", "", lenient, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			f.git.commit("main", map[string]string{"holdfast.hcl": test.before})
			files := map[string]string{"holdfast.hcl": test.after, "a/main.tf": root("new"), "b/main.tf": ""}
			f.open(files)
			if err := f.told(); err != nil {
				t.Fatal(err)
			}
			f.work(JobPlan)
			f.merge(files)
			in := f.applyPayload()
			if why := f.refused(); (why != "") != test.refused || in.Workspace.Apply.WhenPlanChanged != "hold" {
				t.Errorf("refused %q, policy %+v", why, in.Workspace.Apply)
			}
			c, err := f.configAt(t.Context(), f.repo, f.host.pulls[1].MergeSHA)
			if err != nil {
				t.Fatal(err)
			}
			if c.Workspaces[0].Apply.WhenPlanChanged == "hold" && strings.Contains(test.after, "always") {
				t.Error("the remembered configuration was changed")
			}
		})
	}
}

// A pull request that now goes to another branch concerns other workspaces.
// Where nobody told so, the merge finds out.
func TestMergedIntoAnotherBranchThanPlanned(t *testing.T) {
	for _, told := range []bool{false, true} {
		f := newFixture(t)
		first := map[string]string{"a/main.tf": root("new")}
		f.git.commit("feature", first)
		f.git.heads["change"] = f.git.heads["feature"]
		second := map[string]string{"b/main.tf": root("new")}
		f.open(second)
		pr := f.host.pulls[1]
		pr.BaseRef = "feature"
		f.host.set(pr)
		if err := f.told(); err != nil {
			t.Fatal(err)
		}
		f.work(JobPlan)
		if got, want := f.runs(), []string{"b planned"}; !slices.Equal(got, want) {
			t.Fatalf("runs %v instead of %v", got, want)
		}
		known := f.pull()
		pr.BaseRef = "main"
		f.host.set(pr)
		if !missed(pr, known) {
			t.Error("nobody would ever notice")
		}
		if told {
			if err := f.told(); err != nil {
				t.Fatal(err)
			}
			f.work(JobPlan)
		}
		both := maps.Clone(first)
		maps.Copy(both, second)
		f.merge(both)
		reviewed := map[string]bool{}
		for _, w := range f.pull().Workspaces {
			if w.Apply == "" {
				t.Errorf("%s is never applied", w.Name)
			}
			reviewed[w.Name] = w.Plan != ""
		}
		if !maps.Equal(reviewed, map[string]bool{"a": told, "b": true}) {
			t.Errorf("told %t: reviewed %v", told, reviewed)
		}
		jobs, err := f.queue.List(t.Context(), queue.Filter{Kind: JobApply})
		if err != nil || len(jobs) != 2 {
			t.Errorf("%d applies, %v", len(jobs), err)
		}
	}
}

// reviewedHost is a host with reviews, where only some may write.
type reviewedHost struct {
	*fakeHost
	reviews []vcs.Review
	writers []string
}

func (h *reviewedHost) Reviews(context.Context, vcs.Repository, int) ([]vcs.Review, error) {
	return h.reviews, nil
}

func (h *reviewedHost) Mergeable(context.Context, vcs.Repository, int) (bool, error) {
	return true, nil
}

func (h *reviewedHost) Permission(_ context.Context, _ vcs.Repository, user string) (vcs.Permission, error) {
	if slices.Contains(h.writers, user) {
		return vcs.PermissionWrite, nil
	}
	return vcs.PermissionRead, nil
}

// Whoever may only read a repository approves nothing in it, and keeps nothing
// from being applied.
func TestApprovalByReaders(t *testing.T) {
	for _, test := range []struct {
		name    string
		reviews []vcs.Review
		refused bool
	}{
		{"by a reader", []vcs.Review{{Author: "reader", State: vcs.Approved}}, true},
		{"by a writer", []vcs.Review{{Author: "writer", State: vcs.Approved}}, false},
		{"by a writer, against a reader", []vcs.Review{{Author: "writer", State: vcs.Approved}, {Author: "reader", State: vcs.ChangesRequested}}, false},
		{"by a reader, against a writer", []vcs.Review{{Author: "reader", State: vcs.Approved}, {Author: "writer", State: vcs.ChangesRequested}}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			h := &reviewedHost{f.host, test.reviews, []string{"writer"}}
			f.hosts[f.repo.Host] = host{Host: h, reviews: h}
			f.git.commit("main", map[string]string{"holdfast.hcl": "defaults {\n  apply {\n    requires = [\"approved\"]\n  }\n}\n"})
			files := map[string]string{"a/main.tf": root("new")}
			f.open(files)
			f.merge(files)
			if why := f.refused(); (why != "") != test.refused {
				t.Errorf("refused %q", why)
			}
		})
	}
}

// TestMergedWhileAnEventIsHandled keeps what was reviewed where the branch has
// been merged since the host was asked: an event that compared the pull request
// with a base that has it already forgot its workspaces, and nothing was
// applied.
func TestMergedWhileAnEventIsHandled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	head := f.open(map[string]string{"app/main.tf": root("x")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work(JobPlan, JobReport)
	before := f.pull()
	f.git.mu.Lock()
	f.git.heads["main"] = head // the host still says "open"
	f.git.mu.Unlock()
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	if after := f.pull(); len(after.Workspaces) != 1 || after.Workspaces[0].Plan != before.Workspaces[0].Plan {
		t.Fatalf("workspaces %+v became %+v", before.Workspaces, after.Workspaces)
	}
	pr := f.host.pulls[1]
	pr.State, pr.MergeSHA = vcs.Merged, head
	f.host.set(pr)
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	if jobs := f.jobs(JobApply); len(jobs) != 1 {
		t.Errorf("%d applies are queued", len(jobs))
	}
}

// refused says which requirement the apply that is queued does not meet.
func (f *fixture) refused() string {
	f.Helper()
	x := &execution{r: f.Runner, repo: f.repo, in: f.applyPayload()}
	var err error
	if x.run, err = f.Store.Runs.Get(f.Context(), x.in.Run); err != nil {
		f.Fatal(err)
	}
	v, err := x.required(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return deref(v).error
}
