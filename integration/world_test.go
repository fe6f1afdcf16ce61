package integration

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/store"
	"holdfast/store/sqlite"
	"holdfast/vcs/gitea/giteatest"
)

// binaries are the programs under test, built once.
var binaries struct{ holdfast, cloud string }

func TestMain(m *testing.M) {
	os.Exit(func() int {
		sideBySide()
		dir, err := os.MkdirTemp("", "holdfast-integration-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		binaries.holdfast, binaries.cloud = filepath.Join(dir, "holdfast"), filepath.Join(dir, "smallcloud")
		for out, pkg := range map[string]string{binaries.holdfast: "holdfast/cmd/holdfast", binaries.cloud: "holdfast/smallcloud/cmd/smallcloud"} {
			build := exec.Command("go", "build", "-o", out, pkg)
			build.Stderr = os.Stderr
			if err := build.Run(); err != nil {
				fmt.Fprintln(os.Stderr, "build "+pkg+":", err)
				return 1
			}
		}
		return m.Run()
	}())
}

// sideBySide runs more tests at a time than there are processors, unless the
// command line says how many: most of the time each waits for an engine.
func sideBySide() {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		_ = flag.Set("test.parallel", "6")
	}
}

// patience bounds every wait of these tests in which nothing moves. It is no assertion about speed:
// a wait that runs into it means that the thing will not happen.
const patience = 90 * time.Second

// world is a forge, a cloud in a process of its own, and a Holdfast that a
// test may kill.
type world struct {
	testing.TB
	forge *giteatest.Server
	repo  *giteatest.Repository
	cloud *cloudProcess
	dir   string
	// env is added to Holdfast's environment.
	env []string
	// settings are added to the server file.
	settings string
	// hosts are the server file's host and repository blocks, where they are
	// not those of the forge; name is then the repository's.
	hosts, name string
	// backend, where set, opens the store in place of the data directory's.
	backend func() *store.Store
	// launch, where set, changes how the server is started.
	launch func(*exec.Cmd)

	server *exec.Cmd
	exited chan error
	log    *lockedBuffer
	url    string
}

// newWorld makes a world whose repository holds files. Holdfast is not started
// yet.
func newWorld(t testing.TB, files map[string]string) *world {
	t.Helper()
	return newWorldWith(t, giteatest.Config{}, files)
}

// newWorldWith is newWorld with a forge of that configuration.
func newWorldWith(t testing.TB, forge giteatest.Config, files map[string]string) *world {
	t.Helper()
	w := &world{TB: t, dir: t.TempDir(), log: &lockedBuffer{}}
	w.cloud = startCloud(t)
	w.forge = giteatest.New(t, forge)
	w.repo = w.forge.CreateRepository("platform", "network", files)
	w.url = "http://" + freeAddress(t)
	w.repo.SetHook(w.url + "/webhooks/gitea")
	t.Cleanup(func() {
		w.stop()
		if t.Failed() {
			t.Logf("the server's log:\n%s", w.log)
		}
	})
	return w
}

// repository is the repository's name in Holdfast.
func (w *world) repository() string {
	if w.name != "" {
		return w.name
	}
	return w.forge.Name + "/platform/network"
}

// blocks are the server file's host and repository blocks.
func (w *world) blocks() string {
	if w.hosts != "" {
		return w.hosts
	}
	return fmt.Sprintf(`host "gitea" %q {
  url            = %q
  token          = env("GITEA_TOKEN")
  webhook_secret = env("GITEA_WEBHOOK_SECRET")
}

repository %q {}
`, w.forge.Name, w.forge.URL, w.repository())
}

// start starts the server and waits until it is ready.
func (w *world) start() {
	w.Helper()
	file := filepath.Join(w.dir, "server.hcl")
	text := fmt.Sprintf(`url      = %q
listen   = %q
data_dir = %q
workers  = 4

engine {
  pass = ["TF_VAR_*"]
  # An engine that lives for a moment takes a quarter less of a processor where
  # it collects no garbage.
  set  = { TF_REATTACH_PROVIDERS = env("REATTACH"), GOGC = "off" }
}

`, w.url, strings.TrimPrefix(w.url, "http://"), filepath.Join(w.dir, "data")) + w.blocks() + w.settings
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	cmd := exec.Command(binaries.holdfast, "serve", "--config", file)
	cmd.Env = append(os.Environ(), "REATTACH="+w.cloud.reattach)
	if w.forge != nil {
		cmd.Env = append(cmd.Env, "GITEA_TOKEN="+w.forge.AddUser("holdfast", true), "GITEA_WEBHOOK_SECRET="+w.forge.Secret)
	}
	cmd.Env = append(cmd.Env, w.env...)
	cmd.Stdout, cmd.Stderr = w.log, w.log
	if w.launch != nil {
		w.launch(cmd)
	}
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	w.server, w.exited = cmd, exited
	w.until("the server is ready", func() bool {
		select {
		case err := <-exited:
			exited <- err
			w.Fatalf("the server ended: %v\n%s", err, w.log)
		default:
		}
		return w.status("/readyz") == http.StatusOK
	})
}

// kill is kill -9.
func (w *world) kill() {
	w.Helper()
	if err := w.server.Process.Kill(); err != nil {
		w.Fatal(err)
	}
	<-w.exited
	w.server = nil
}

// stop ends the server as an operator would.
func (w *world) stop() {
	if w.server == nil {
		return
	}
	_ = w.server.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.exited:
	case <-time.After(patience):
		_ = w.server.Process.Kill()
		<-w.exited
		w.Errorf("the server did not end")
	}
	w.server = nil
}

// until waits for what is true in the end.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	w.untilIn(patience, what, ok)
}

// untilIn is until for what takes longer.
func (w *world) untilIn(patience time.Duration, what string, ok func() bool) {
	w.Helper()
	w.advancesIn(patience, what, func() (int, bool) { return 0, ok() })
}

// advances waits for what is true in the end, and has patience for as long as
// it comes nearer: a number that step returns changes.
func (w *world) advances(what string, step func() (int, bool)) {
	w.Helper()
	w.advancesIn(patience, what, step)
}

func (w *world) advancesIn(patience time.Duration, what string, step func() (int, bool)) {
	w.Helper()
	last, deadline := 0, time.Now().Add(patience)
	for {
		now, ok := step()
		if ok {
			return
		}
		if now != last {
			last, deadline = now, time.Now().Add(patience)
		}
		if time.Now().After(deadline) {
			w.Fatalf("it never came true that %s; runs:\n%s", what, w.describe())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// status returns the HTTP status of a page; 0 where nobody answers.
func (w *world) status(path string) int {
	resp, err := http.Get(w.url + path)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// open opens the server's database, which a running server does not mind.
func (w *world) open() *store.Store {
	w.Helper()
	if w.backend != nil {
		return w.backend()
	}
	st, err := sqlite.Open(context.Background(), filepath.Join(w.dir, "data", "holdfast.db"))
	if err != nil {
		w.Fatal(err)
	}
	return st
}

// runs returns runs from the database, newest first.
func (w *world) runs(f store.RunFilter) []store.Run {
	w.Helper()
	st := w.open()
	defer st.Close()
	return w.runsIn(st, f)
}

// runsIn is runs of a database that is open, for those that ask often.
func (w *world) runsIn(st *store.Store, f store.RunFilter) []store.Run {
	w.Helper()
	if f.Limit == 0 {
		f.Limit = 1000
	}
	runs, err := st.Runs.List(context.Background(), f)
	if err != nil {
		w.Fatal(err)
	}
	return runs
}

// ended waits until there are n runs that match and all of them have ended.
func (w *world) ended(n int, f store.RunFilter) []store.Run {
	w.Helper()
	st := w.open()
	defer st.Close()
	var runs []store.Run
	w.advances(fmt.Sprintf("%d runs %+v have ended", n, f), func() (int, bool) {
		runs = w.runsIn(st, f)
		over := 0
		for _, r := range runs {
			if r.State.Ended() {
				over++
			}
		}
		return over, len(runs) >= n && over == len(runs)
	})
	if len(runs) != n {
		w.Fatalf("there are %d runs instead of %d:\n%s", len(runs), n, w.describe())
	}
	return runs
}

// describe lists all runs, unfinished jobs and webhooks, for messages.
func (w *world) describe() string {
	var b strings.Builder
	for _, r := range w.runs(store.RunFilter{}) {
		fmt.Fprintf(&b, "  %s %-7s %-10s %-12s #%d %.8s step=%q %s\n", r.ID, r.Kind, r.State, r.Workspace, r.PullRequest, r.Commit, r.Step, r.Error)
	}
	st := w.open()
	defer st.Close()
	for _, j := range w.busy(context.Background(), st) {
		fmt.Fprintf(&b, "  job %s %s %s group %s key %s attempt %d at %s: %s\n", j.ID, j.Kind, j.State, j.Group, j.Key, j.Attempt, j.RunAt.Format(time.TimeOnly), j.LastError)
	}
	if w.forge != nil {
		for _, d := range w.forge.Deliveries() {
			fmt.Fprintf(&b, "  webhook %s %s %s answered %+v\n", d.ID, d.Event, d.Action, d.Attempts)
		}
	}
	return b.String()
}

// comment waits until the pull request has exactly one comment that says all
// of want, and returns it.
func (w *world) comment(number int, want ...string) string {
	w.Helper()
	body := ""
	defer func() {
		if w.Failed() {
			w.Logf("the comment on #%d:\n%s", number, body)
		}
	}()
	w.until(fmt.Sprintf("the comment on #%d says %q", number, want), func() bool {
		comments := w.repo.Comments(number)
		if len(comments) > 1 {
			w.Fatalf("#%d has %d comments", number, len(comments))
		}
		if len(comments) == 0 {
			return false
		}
		body = comments[0].Body
		for _, s := range want {
			if !strings.Contains(body, s) {
				return false
			}
		}
		return true
	})
	return body
}

// quiet waits until no job is left but those that wait for their next turn,
// and checks that no lock is, but what pull requests own that are not applied.
func (w *world) quiet() {
	w.Helper()
	st := w.open()
	defer st.Close()
	ctx := context.Background()
	w.until("all jobs are done", func() bool {
		return len(w.busy(ctx, st)) == 0
	})
	leases, err := st.Locks.List(ctx, time.Now(), "")
	if err != nil {
		w.Fatal(err)
	}
	for _, l := range leases {
		if !w.rightly(ctx, st, l) {
			w.Errorf("a lock is left: %+v", l)
		}
	}
}

// rightly reports whether a lock is one that a pull request owns whose apply has
// not gone well, or that is open.
func (w *world) rightly(ctx context.Context, st *store.Store, l lock.Lease) bool {
	w.Helper()
	name, ok := strings.CutPrefix(string(l.Key), "owner/"+w.repository()+"/")
	_, number, _ := strings.Cut(l.Holder.ID, "#")
	n, err := strconv.Atoi(number)
	if !ok || err != nil {
		return false
	}
	runs, err := st.Runs.List(ctx, store.RunFilter{Workspace: name, PullRequest: n, Kind: store.KindApply, Limit: 1})
	if err != nil {
		w.Fatal(err)
	}
	return len(runs) == 0 || runs[0].State == store.Held || runs[0].State == store.Failed
}

// busy returns the jobs that are not only waiting for their next turn.
func (w *world) busy(ctx context.Context, st *store.Store) []queue.Job {
	w.Helper()
	jobs, err := st.Queue.List(ctx, queue.Filter{})
	if err != nil {
		w.Fatal(err)
	}
	return unfinished(jobs)
}

// unfinished leaves out the jobs that only wait for their next turn.
func unfinished(jobs []queue.Job) []queue.Job {
	now := time.Now()
	return slices.DeleteFunc(jobs, func(j queue.Job) bool {
		return (j.Kind == "reconcile" || j.Kind == "discover") && j.State == queue.StateWaiting && j.RunAt.After(now)
	})
}

// lockedBuffer is a buffer that a process writes while a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// freeAddress returns an address of this machine that nobody uses now.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
