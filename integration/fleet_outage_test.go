//go:build linux

package integration

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// says is what a page of this process says; 0 where it does not answer.
func (n *node) says(path string) (status int, text string) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + n.addr + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// unready waits until the process says that it cannot reach its store, and
// checks that it is not to be killed for that.
func (n *node) unready() {
	n.Helper()
	var says string
	deadline := time.Now().Add(patience)
	for status := 0; status != http.StatusServiceUnavailable; status, says = n.says("/readyz") {
		if time.Now().After(deadline) {
			n.Fatalf("%s does not say that it is not ready: %d %s", n.name, status, says)
		}
	}
	if !strings.Contains(says, "not ready: store: ") || !strings.Contains(says, "cannot be reached") {
		n.Errorf("%s says no reason: %q", n.name, says)
	}
	if status, says := n.says("/healthz"); status != http.StatusOK {
		n.Errorf("%s is not healthy without its store: %d %s", n.name, status, says)
	}
}

// logs waits until the process has logged a line that has all of words.
func (n *node) logs(words ...string) {
	n.Helper()
	deadline := time.Now().Add(patience)
	for !hasLine(n.log.String(), words...) {
		if time.Now().After(deadline) {
			n.Fatalf("%s never logged %q", n.name, words)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func hasLine(text string, words ...string) bool {
	for line := range strings.Lines(text) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			return true
		}
	}
	return false
}

// openOne opens a pull request that writes one file.
func (w *world) openOne(branch, file, text string) int {
	w.Helper()
	w.repo.Push(branch, map[string]string{file: text}, branch)
	return w.repo.OpenPull(giteatest.OpenPull{Head: branch})
}

// planned waits until the pull request's only plan is made and shown.
func (w *world) planned(number int) {
	w.Helper()
	if r := w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: number})[0]; r.State != store.Planned {
		w.Fatalf("the plan is %s: %s", r.State, r.Error)
	}
	w.comment(number, "planned")
}

// reaches waits until the pull request's only run of a kind is at a step, and
// returns it.
func (w *world) reaches(number int, kind store.Kind, step string) (run store.Run) {
	w.Helper()
	w.until("the "+string(kind)+" is at "+step, func() bool {
		runs := w.runs(store.RunFilter{Kind: kind, PullRequest: number})
		if len(runs) != 1 || runs[0].Step != step {
			return false
		}
		run = runs[0]
		return true
	})
	return run
}

// appliedOnce waits until the pull request's apply has ended well, and checks
// that the cloud was asked for each server once.
func (w *world) appliedOnce(number int, names ...string) store.Run {
	w.Helper()
	run := w.ended(1, store.RunFilter{Kind: store.KindApply, PullRequest: number})[0]
	if run.State != store.Applied && run.State != store.NoChanges {
		w.Errorf("the apply is %s: %s", run.State, run.Error)
	}
	for _, name := range names {
		if n := w.cloud.created(name); n != 1 {
			w.Errorf("%s was made %d times", name, n)
		}
	}
	return run
}

// nodeNamed is the node that a run names.
func (f *fleet) nodeNamed(id string) *node {
	f.Helper()
	for _, n := range f.nodes {
		if n.id() == id {
			return n
		}
	}
	f.Fatalf("there is no node %q", id)
	return nil
}

// unlocked waits until no process has a workspace any more: a lock that could
// not be given back while the store was away ends by itself.
func (f *fleet) unlocked() {
	f.Helper()
	st := f.open()
	defer st.Close()
	f.until("no workspace is locked", func() bool {
		leases, err := st.Locks.List(context.Background(), time.Now(), "workspace/")
		if err != nil {
			f.Fatal(err)
		}
		return len(leases) == 0
	})
}

// touch makes an empty file.
func touch(t testing.TB, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRedisRestarts kills Redis while nothing happens, and then for longer than
// a lease while one workspace is planned and another one is applied. The plan is
// given up and made again. The apply goes on by itself, ends without a store,
// and is recorded as soon as there is one; nobody else takes it over, although
// its lease has ended when the workers are back.
func TestRedisRestarts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{"app/main.tf": app(), "other/main.tf": app()})
	web := f.node("serve", "--workers", "0").start()
	one, two := f.node("worker", "--workers", "2").start(), f.node("worker", "--workers", "2").start()
	f.redis.Kill()
	for _, n := range f.nodes {
		n.unready()
	}
	f.redis.Restart()
	f.until("all are ready again", func() bool { return web.ready() && one.ready() && two.ready() })

	file := filepath.Join(t.TempDir(), "go-on")
	merged := f.openOne("apply", "app/more.tf", server("first", `delay = "18s"`))
	f.planned(merged)
	f.repo.Merge(merged, "merge")
	began := f.reaches(merged, store.KindApply, "apply")
	f.until("the cloud is at work", func() bool { return len(f.cloud.journal()) > 0 })
	open := f.openOne("plan", "other/more.tf", server("second")+waits(file, ""))
	plan := f.reaches(open, store.KindPlan, "plan")

	f.redis.Kill()
	f.nodeNamed(plan.Node).logs("job lost", "kind=plan")
	f.nodeNamed(began.Node).logs("the store does not answer", began.ID)
	for _, n := range f.nodes {
		n.unready()
	}
	touch(t, file)
	f.redis.Restart()

	run := f.appliedOnce(merged, "first")
	if run.State != store.Applied || run.Node != began.Node || run.Token != began.Token {
		t.Errorf("attempt %d on %s applied, and attempt %d on %s recorded it as %s", began.Token, began.Node, run.Token, run.Node, run.State)
	}
	f.planned(open)
	f.comment(merged, "pplied")
	f.unlocked()
	f.quiet()
}

// TestCutOffWorker cuts one worker off for longer than a lease while it plans
// and applies. Another one makes its plan. Of the apply that one asks, and waits
// for an answer: the engine may be at work. When the cable is mended, the first
// worker is told that its job is somebody else's, interrupts the engine, says
// how it ended, and writes nothing else; the rest is applied by the other.
func TestCutOffWorker(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{"app/main.tf": app(), "other/main.tf": app()})
	f.node("serve", "--workers", "0").start()
	wire := newCable(t, f.redis.Addr)
	far := f.node("worker", "--workers", "2")
	far.store = wire.url()
	far.start()

	files := []string{filepath.Join(t.TempDir(), "apply"), filepath.Join(t.TempDir(), "plan")}
	merged := f.openOne("apply", "app/more.tf", server("first")+waits(files[0], "smallcloud_server.first")+server("last", "depends_on = [data.smallcloud_image.slow]"))
	f.planned(merged)
	f.repo.Merge(merged, "merge")
	began := f.reaches(merged, store.KindApply, "apply")
	open := f.openOne("plan", "other/more.tf", server("second")+waits(files[1], ""))
	f.reaches(open, store.KindPlan, "plan")
	f.until("the first is made", func() bool { return f.cloud.created("first") == 1 })

	near := f.node("worker", "--workers", "2").start()
	wire.cut()
	far.unready()
	touch(t, files[1])
	f.planned(open)
	f.until("the other worker has the apply", func() bool {
		run, err := f.run(began.ID)
		return err == nil && run.Node == near.id()
	})
	if n := f.cloud.created("last"); n != 0 {
		t.Errorf("an apply that goes on elsewhere was taken for lost")
	}
	touch(t, files[0]) // for who plans again; the engine that waits does not see it
	wire.mend()
	far.logs("job lost", "kind=apply")
	if run := f.appliedOnce(merged, "first", "last"); run.Node != near.id() {
		t.Errorf("%s is recorded by %s, which had lost it", run.State, run.Node)
	}
	f.comment(merged, "pplied")
	f.until("the worker that was cut off is ready", far.ready)
	f.quiet()
}
