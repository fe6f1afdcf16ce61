//go:build linux

package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/queue"
	"holdfast/store"
)

// nextVersion builds the program as if it was another version.
func nextVersion(t testing.TB) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "holdfast")
	build := exec.Command("go", "build", "-ldflags", "-s -w -X main.version=next", "-o", binary, "holdfast/cmd/holdfast")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "version").Output(); err != nil || !strings.HasPrefix(string(out), "holdfast next ") {
		t.Fatalf("it says that it is %q: %v", out, err)
	}
	return binary
}

// TestTwoVersions runs two versions on one store, as a rolling upgrade does. Each
// applies what the other one planned. A job that only a later version knows is
// put back uncounted for as long as it takes, and what a later version has
// written into a run beside what this one knows stays there.
func TestTwoVersions(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{"app/main.tf": app(), "other/main.tf": app()})
	f.node("serve", "--workers", "0").start()
	older, newer := f.node("worker", "--workers", "2"), f.node("worker", "--workers", "2")
	newer.binary = nextVersion(t)
	file := filepath.Join(t.TempDir(), "go-on")

	older.start()
	f.fromTheFuture()
	first := f.openOne("first", "app/more.tf", server("one")+waits(file, ""))
	run := f.reaches(first, store.KindPlan, "plan")
	name := "{holdfast}:run:" + run.ID
	if err := f.redis.Client().HSet(context.Background(), name, "tomorrow", "kept").Err(); err != nil {
		t.Fatal(err)
	}
	touch(t, file)
	f.planned(first)
	if kept, err := f.redis.Client().HGet(context.Background(), name, "tomorrow").Result(); kept != "kept" {
		t.Errorf("what a later version stored of a run became %q: %v", kept, err)
	}

	newer.start()
	older.stop()
	f.repo.Merge(first, "merge")
	if run := f.appliedOnce(first, "one"); run.Node != newer.id() || run.State != store.Applied {
		t.Errorf("the plan of the older version is %s by %s", run.State, run.Node)
	}
	second := f.openOne("second", "other/more.tf", server("two"))
	f.planned(second)
	older.start()
	newer.stop()
	f.repo.Merge(second, "merge")
	if run := f.appliedOnce(second, "two"); run.Node != older.id() || run.State != store.Applied {
		t.Errorf("the plan of the newer version is %s by %s", run.State, run.Node)
	}
	for _, number := range []int{first, second} {
		f.comment(number, "pplied")
	}
	jobs := f.jobsOf("tomorrow")
	if len(jobs) != 1 || jobs[0].State == queue.StateDead || jobs[0].Attempt > 1 || !strings.Contains(jobs[0].LastError, "is it older than the others?") {
		t.Errorf("a job that nobody knows became %+v", jobs)
	}
}

// fromTheFuture queues a job of a kind that no version here knows, and waits
// until it was put back once.
func (f *fleet) fromTheFuture() {
	f.Helper()
	st := f.open()
	defer st.Close()
	q := queue.New(st.Queue, queue.Config{Clock: st.Clock})
	if _, err := q.Enqueue(context.Background(), queue.Job{Kind: "tomorrow", Key: "tomorrow"}); err != nil {
		f.Fatal(err)
	}
	f.until("the job is put back", func() bool {
		jobs := f.jobsOf("tomorrow")
		return len(jobs) == 1 && jobs[0].State == queue.StateWaiting && jobs[0].LastError != ""
	})
}
