//go:build linux

package integration

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// TestWorkerKilled kills a worker while it plans and applies, and starts it again
// when another one has its jobs. That one makes the plan; of the apply it asks
// the worker that began it, which finds the engine where it left it and says how
// it ended.
func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{"app/main.tf": app(), "other/main.tf": app()})
	f.node("serve", "--workers", "0").start()
	first := f.node("worker", "--workers", "2").start()
	file := filepath.Join(t.TempDir(), "go-on")
	merged := f.openOne("apply", "app/more.tf", server("one", `delay = "3s"`)+server("two", `delay = "3s"`, "depends_on = [smallcloud_server.one]"))
	f.planned(merged)
	open := f.openOne("plan", "other/more.tf", server("three")+waits(file, ""))
	f.reaches(open, store.KindPlan, "plan")
	f.repo.Merge(merged, "merge")
	began := f.reaches(merged, store.KindApply, "apply")
	f.until("the cloud is at work", func() bool { return len(f.cloud.journal()) > 0 })
	first.kill()
	touch(t, file)

	second := f.node("worker", "--workers", "2").start()
	f.planned(open)
	f.until("the second worker has the apply", func() bool {
		run, err := f.run(began.ID)
		return err == nil && run.Node == second.id() && run.State == store.Running
	})
	first.start()
	run := f.appliedOnce(merged, "one", "two")
	if run.State != store.Applied || run.Node != second.id() {
		t.Errorf("the apply is recorded as %s by %s", run.State, run.Node)
	}
	f.comment(merged, "pplied")
	f.quiet()
}

// TestWebNodeKilled kills the process that has just acknowledged a webhook: what
// it took is done without it, and webhooks go to the other one.
func TestWebNodeKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{"app/main.tf": app(), "other/main.tf": app()})
	first, second := f.node("serve", "--workers", "0"), f.node("serve", "--workers", "0")
	first.start()
	f.forge.Hold()
	before := f.openOne("before", "app/more.tf", server("one"))
	for _, d := range f.forge.Held() {
		for _, a := range f.forge.Send(d.ID) {
			if a.Status/100 != 2 {
				t.Fatalf("webhook answered %d %v", a.Status, a.Err)
			}
		}
	}
	f.forge.Release()
	first.kill() // at once after the last 202
	if n := len(f.jobsOf("event")); n == 0 {
		t.Error("no event is in the queue")
	}
	second.start()
	after := f.openOne("after", "other/more.tf", server("two"))
	f.node("worker", "--workers", "2").start()
	f.planned(before)
	f.planned(after)
	f.quiet()
}

// jobsOf returns the unfinished jobs of a kind.
func (f *fleet) jobsOf(kind string) (jobs []queue.Job) {
	f.Helper()
	st := f.open()
	defer st.Close()
	all, err := st.Queue.List(context.Background(), queue.Filter{})
	if err != nil {
		f.Fatal(err)
	}
	for _, j := range all {
		if j.Kind == kind {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// TestRollingRestart ends and starts each node in turn while pull requests are
// planned and merged. Nobody sees that: no run fails, and nothing is applied
// twice.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 5 {
		files[fmt.Sprintf("app%d/main.tf", i)] = app()
	}
	f := newFleet(t, files)
	for _, role := range []string{"serve", "worker", "serve", "worker"} {
		f.node(role, "--workers", map[string]string{"serve": "0", "worker": "2"}[role]).start()
	}
	open := func(i int) int {
		name := fmt.Sprintf("server%d", i)
		// What is interrupted is a reading: a provider that is asked to stop
		// while it makes something may leave it to nobody.
		return f.openOne(name, fmt.Sprintf("app%d/more.tf", i), server(name)+
			"data \"smallcloud_image\" \"slow\" {\n  name = \"image\"\n  delay = \"2s\"\n  depends_on = [smallcloud_server."+name+"]\n}\n"+
			server(name+"-last", "depends_on = [data.smallcloud_image.slow]"))
	}
	pulls := []int{open(0)}
	for i, n := range f.nodes {
		f.planned(pulls[i])
		f.repo.Merge(pulls[i], "merge")
		pulls = append(pulls, open(i+1))
		f.until("there is something to apply", func() bool {
			return len(f.runs(store.RunFilter{Kind: store.KindApply, PullRequest: pulls[i]})) == 1
		})
		n.stop()
		n.start()
	}
	for i, number := range pulls[:len(f.nodes)] {
		f.appliedOnce(number, fmt.Sprintf("server%d", i), fmt.Sprintf("server%d-last", i))
		f.comment(number, "pplied")
	}
	f.planned(pulls[len(f.nodes)])
	for _, r := range f.runs(store.RunFilter{}) {
		if r.State != store.Planned && r.State != store.Applied && r.State != store.NoChanges && r.State != store.Superseded {
			t.Errorf("the %s of %s is %s: %s\n%s", r.Kind, r.Workspace, r.State, r.Error, f.page("/runs/"+r.ID+"/log"))
		}
	}
	f.quiet()
}

// TestAcrossNodes follows a run on a page of one node while another one carries
// it out, and interrupts its engine there by a push. Then it counts what nodes
// with nothing to do ask of Redis.
func TestAcrossNodes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{"app/main.tf": app()})
	web := f.node("serve", "--workers", "0").start()
	worker := f.node("worker", "--workers", "2").start()
	file := filepath.Join(t.TempDir(), "go-on")
	number := f.openOne("change", "app/more.tf", server("one")+waits(file, ""))
	run := f.reaches(number, store.KindPlan, "plan")
	if run.Node != worker.id() {
		t.Errorf("the plan runs on %s", run.Node)
	}
	resp, err := http.Get("http://" + web.addr + "/runs/" + run.ID + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	follow := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("the stream ended without %q: %v", want, lines.Err())
	}
	follow("data.smallcloud_image.slow: Reading...")

	f.repo.Push("change", map[string]string{"app/more.tf": server("two")}, "quick")
	follow(`"state":"superseded"`)
	follow("event: end")
	// The only slot is free although the engine would have waited for a minute,
	// and its worker was not told to end.
	f.until("the new plan is made", func() bool {
		runs := f.runs(store.RunFilter{PullRequest: number, States: []store.State{store.Planned}})
		return len(runs) == 1
	})
	f.until("the engine has ended", func() bool {
		for _, pid := range f.processes() {
			if engine, _, _ := strings.Cut(commandOf(pid), "\x00"); filepath.Base(engine) == "terraform" {
				return false
			}
		}
		return true
	})
	f.comment(number, "smallcloud_server.two")
	f.quiet()

	const seconds = 3
	before := f.commands()
	time.Sleep(seconds * time.Second)
	each := float64(f.commands()-before) / seconds / float64(len(f.nodes))
	t.Logf("an idle node sends %.1f commands each second", each)
	if each >= 50 {
		t.Errorf("%.1f commands each second of an idle node", each)
	}
}

// commands is how many commands Redis was sent since it started, those of
// scripts among them.
func (f *fleet) commands() int {
	f.Helper()
	info, err := f.redis.Client().Info(context.Background(), "stats").Result()
	if err != nil {
		f.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "total_commands_processed:")
	text, _, _ := strings.Cut(rest, "\r\n")
	n, err := strconv.Atoi(text)
	if err != nil {
		f.Fatal(err)
	}
	return n
}

// TestRunsOn gives a workspace with a label to the worker that has it, and to
// nobody while there is none. A pull request cannot choose: what counts is the
// default branch. One that sets a label where there was none is applied under it:
// that takes a right away, and gives none.
func TestRunsOn(t *testing.T) {
	t.Parallel()
	labelled := func(name string) string {
		return fmt.Sprintf("workspace %q {\n  dir     = %q\n  runs_on = [\"prod\"]\n}\n", name, name)
	}
	f := newFleet(t, map[string]string{"app/main.tf": app(), "other/main.tf": app(), "holdfast.hcl": labelled("app")})
	f.node("serve", "--workers", "0").start()
	plain := f.node("worker", "--workers", "2").start()
	f.repo.Push("change", map[string]string{"app/more.tf": server("one"), "other/more.tf": server("two"), "holdfast.hcl": labelled("other")}, "change")
	number := f.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	of := func(kind store.Kind, workspace string) (run store.Run) {
		for _, r := range f.runs(store.RunFilter{Kind: kind, PullRequest: number, Workspace: workspace}) {
			run = r
		}
		return run
	}
	f.until("the other workspace is planned", func() bool { return of(store.KindPlan, "other").State == store.Planned })
	if run := of(store.KindPlan, "other"); run.Node != plain.id() {
		t.Errorf("the plan of a workspace without a label ran on %q", run.Node)
	}
	if run := of(store.KindPlan, "app"); run.State != store.Queued || run.Node != "" {
		t.Errorf("without a worker that has the label the plan is %s on %q", run.State, run.Node)
	}
	prod := f.node("worker", "--workers", "2", "--label", "prod").start()
	f.ended(2, store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	f.comment(number, "smallcloud_server.one")
	if run := of(store.KindPlan, "app"); run.Node != prod.id() {
		t.Errorf("the plan ran on %q", run.Node)
	}
	f.repo.Merge(number, "merge")
	for _, run := range f.ended(2, store.RunFilter{Kind: store.KindApply, PullRequest: number}) {
		if run.State != store.Applied || run.Node != prod.id() {
			t.Errorf("the apply of %s is %s on %q: %s", run.Workspace, run.State, run.Node, run.Error)
		}
	}
	f.comment(number, "pplied")
	f.quiet()
}

// commandOf is the command line of a process; empty where it has ended.
func commandOf(pid int) string {
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return string(text)
}
