package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
)

// report makes the report of pull request 1 now.
func (f *fixture) report() error {
	f.Helper()
	payload, err := json.Marshal(reportPayload{Repository: f.repo, Number: 1})
	if err != nil {
		f.Fatal(err)
	}
	return f.handleReport(f.Context(), queue.Job{Payload: payload})
}

// planned is a fixture whose pull request 1 is planned and reported.
func planned(t *testing.T, files map[string]string) (*fixture, string) {
	t.Helper()
	f := newFixture(t)
	sha := f.open(files)
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work()
	return f, sha
}

func TestReportChangesOnlyWhatChanged(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("1"), "b/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name string
		do   func()
		want []string
	}{
		{"queued", func() {}, []string{"create", "status holdfast/a pending", "status holdfast/b pending", "status holdfast pending"}},
		{"nothing new", func() {}, nil},
		{"one is planned", func() { f.next(JobPlan) }, []string{"edit", "status holdfast/a success", "status holdfast pending"}},
		{"both are", func() { f.next(JobPlan) }, []string{"edit", "status holdfast/b success", "status holdfast success"}},
		{"nothing new at the end", func() {}, nil},
		{"somebody deleted the comment", func() { clear(f.host.comments) }, nil},
	}
	for _, step := range steps {
		step.do()
		if err := f.report(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := f.host.take(); !slices.Equal(got, step.want) {
			t.Errorf("%s: %q instead of %q", step.name, got, step.want)
		}
	}
	// A new commit has statuses of its own; the deleted comment is made again.
	sha := f.open(map[string]string{"a/main.tf": root("2")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work()
	if len(f.host.comments) != 1 {
		t.Errorf("%d comments", len(f.host.comments))
	}
	for _, name := range []string{"holdfast", "holdfast/a", "holdfast/b"} {
		if got := f.host.statuses[sha+" "+name].State; got != vcs.StatusSuccess {
			t.Errorf("%s is %q", name, got)
		}
	}
}

// A comment that was made by an attempt that died before it said so is found.
func TestReportFindsItsComment(t *testing.T) {
	f, _ := planned(t, map[string]string{"a/main.tf": root("1")})
	if err := f.Store.Records.Delete(t.Context(), "report/"+pullName(f.repo, 1)); err != nil {
		t.Fatal(err)
	}
	f.host.take()
	if err := f.report(); err != nil {
		t.Fatal(err)
	}
	if got := f.host.take(); len(f.host.comments) != 1 || got[0] != "edit" {
		t.Errorf("%d comments after %q", len(f.host.comments), got)
	}
}

func TestReportGoesOnWhereTheHostFailed(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("1"), "b/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.host.fail = func(call string) error {
		if call == "status holdfast/b pending" {
			return errDown
		}
		return nil
	}
	if err := f.report(); !errors.Is(err, errDown) {
		t.Fatalf("a host that is down: %v", err)
	}
	f.host.fail = nil
	f.host.take()
	if err := f.report(); err != nil {
		t.Fatal(err)
	}
	if got, want := f.host.take(), []string{"status holdfast/b pending", "status holdfast pending"}; !slices.Equal(got, want) {
		t.Errorf("%q instead of %q", got, want)
	}
}

func TestReportToADifficultHost(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.host.fail = func(string) error { return &vcs.RateLimitError{RetryAt: f.clock().Add(time.Minute)} }
	if err := f.report(); !queue.IsSnooze(err) {
		t.Errorf("a rate limit: %v", err)
	}
	f.host.fail = func(call string) error {
		if call == "create" {
			return vcs.ErrNotFound
		}
		return nil
	}
	if err := f.report(); err == nil || queue.IsSnooze(err) || !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("a pull request that is gone: %v", err)
	}
}

func TestReportOfNothing(t *testing.T) {
	f, sha := planned(t, map[string]string{"README.md": "words"})
	if got, want := f.host.take(), []string{"status holdfast success"}; !slices.Equal(got, want) {
		t.Errorf("%q instead of %q", got, want)
	}
	if s := f.host.statuses[sha+" holdfast"]; !strings.Contains(s.Description, "No workspace") {
		t.Errorf("status %+v", s)
	}
	f.merge(map[string]string{"README.md": "words"})
	f.work()
	if s := f.host.statuses[sha+" holdfast"]; s.State != vcs.StatusSuccess || !strings.Contains(s.Description, "No workspace") {
		t.Errorf("status after the merge %+v", s)
	}
}

func TestReportOfAClosedPullRequest(t *testing.T) {
	f, _ := planned(t, map[string]string{"a/main.tf": root("1")})
	pr := f.host.pulls[1]
	pr.State = vcs.Closed
	f.host.set(pr)
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work()
	for _, body := range f.host.comments {
		if !strings.Contains(body, "is closed") || strings.Contains(body, "erging") {
			t.Errorf("a closed pull request is told:\n%s", body)
		}
	}
}

func TestReportOfAFork(t *testing.T) {
	f := newFixture(t)
	sha := f.open(map[string]string{"a/main.tf": root("1")})
	pr := f.host.pulls[1]
	pr.Fork = true
	f.host.set(pr)
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work()
	if len(f.runs()) != 0 || len(f.host.comments) != 1 || f.host.statuses[sha+" holdfast"].State == vcs.StatusSuccess {
		t.Errorf("runs %v, %d comments, status %+v", f.runs(), len(f.host.comments), f.host.statuses)
	}
}

// TestManyStatuses sets a status for each workspace only up to a number, and
// beyond it for those that failed.
func TestManyStatuses(t *testing.T) {
	f := newFixture(t)
	f.engine = func(ctx context.Context, x *execution) (verdict, error) {
		if x.run.Workspace == "many/07" {
			return verdict{store.Failed, "no"}, nil
		}
		return changes(ctx, x)
	}
	files := map[string]string{}
	for i := range maxStatuses + 1 {
		files[fmt.Sprintf("many/%02d/main.tf", i)] = root("1")
	}
	f.open(files)
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work(JobPlan)
	f.host.take()
	if err := f.report(); err != nil {
		t.Fatal(err)
	}
	if got, want := f.host.take(), []string{"create", "status holdfast/many/07 failure", "status holdfast failure"}; !slices.Equal(got, want) {
		t.Errorf("%q instead of %q", got, want)
	}
}

// TestLastRunIsReportedAtOnce gathers what ends while more is to come, and
// lets nobody wait when it does not.
func TestLastRunIsReportedAtOnce(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("1"), "b/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	f.work(JobReport)
	f.next(JobPlan)
	if jobs := f.jobs(JobReport); len(jobs) != 1 || !jobs[0].RunAt.Equal(f.clock().Add(f.ReportDelay)) {
		t.Errorf("after the first plan: %+v", jobs)
	}
	f.next(JobPlan)
	if jobs := f.jobs(JobReport); len(jobs) != 1 || !jobs[0].RunAt.Equal(f.clock()) {
		t.Errorf("after the last plan: %+v", jobs)
	}
}

// TestReportRunsAgain tells of what ends while a report is made.
func TestReportRunsAgain(t *testing.T) {
	f := newFixture(t)
	sha := f.open(map[string]string{"a/main.tf": root("1")})
	if err := f.told(); err != nil {
		t.Fatal(err)
	}
	ended := false
	f.host.fail = func(call string) error {
		if call == "status holdfast pending" && !ended {
			ended = true // everything has been read; now the plan ends
			f.next(JobPlan)
		}
		return nil
	}
	f.next(JobReport)
	if got := f.host.statuses[sha+" holdfast"].State; !ended || got != vcs.StatusPending {
		t.Fatalf("the plan has ended: %t; the status is %q", ended, got)
	}
	f.work(JobReport)
	if got := f.host.statuses[sha+" holdfast"].State; got != vcs.StatusSuccess || len(f.host.comments) != 1 {
		t.Errorf("the status is %q, and there are %d comments", got, len(f.host.comments))
	}
}

// TestReportOfATokenThatMayNot shows what the token may show: a part that is
// refused is tried again later and keeps nothing else back.
func TestReportOfATokenThatMayNot(t *testing.T) {
	for refused, want := range map[string][]string{
		"create":                    {"create", "status holdfast/a pending", "status holdfast pending"},
		"status holdfast/a pending": {"create", "status holdfast/a pending"},
	} {
		f := newFixture(t)
		f.open(map[string]string{"a/main.tf": root("1")})
		if err := f.told(); err != nil {
			t.Fatal(err)
		}
		f.host.fail = func(call string) error {
			if call == refused {
				return vcs.ErrDenied
			}
			return nil
		}
		if err := f.report(); !errors.Is(err, vcs.ErrDenied) || queue.IsSnooze(err) {
			t.Errorf("without %s: %v, want it tried again", refused, err)
		}
		if got := f.host.take(); !slices.Equal(got, want) {
			t.Errorf("without %s: %q, want %q", refused, got, want)
		}
		f.host.fail = nil
		if err := f.report(); err != nil || len(f.host.comments) != 1 {
			t.Errorf("when it may: %v, %d comments", err, len(f.host.comments))
		}
	}
}
