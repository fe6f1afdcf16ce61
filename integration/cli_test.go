package integration

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/runner"
	"holdfast/store"
	"holdfast/store/sqlite"
)

var updateScripts = flag.Bool("update-scripts", false, "write what commands print into the scripts' files that it is compared with")

// TestCommandLine plays testdata/script: the built program as users meet it,
// with real Terraform. These are the scripts' own commands:
//
//	exits CODE PROGRAM [ARG...]   run it, and check its exit code
//	repository DIR                make DIR a Git repository, all files committed on main
//	commit DIR BRANCH             commit all that changed, on a branch made where it is missing
//	clean DIR                     check that Git sees nothing changed
//	cloud                         start a small cloud, with its provider for engines; $CLOUD is its address
//	byhand NAME ATTRIBUTE VALUE   change a resource in the cloud by hand
//	mirror FILE                   write a CLI configuration with the provider to be installed from a directory
//	store DIR                     make a server's store with a run and a lock
//	jobs DIR                      put unfinished jobs into the store that "store DIR" made
//	audited DIR PATTERN           check that the latest line of the store's audit trail matches
//	copies FILE                   check that FILE is a store with that run and that lock
//	busy VARIABLE                 listen on an address of this machine
//	await FILE                    wait until it exists
//	says PATTERN PROGRAM [ARG...] run it again and again until its output matches
//	quick VARIABLE                check that what began when VARIABLE was set took no longer than 30 s
//	strays                        check that no process of this script runs any more
func TestCommandLine(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		UpdateScripts:      *updateScripts,
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Values[cloudKey{}] = &scriptCloud{}
			e.Setenv("BIN", filepath.Dir(binaries.holdfast))
			e.Setenv("PATH", filepath.Dir(binaries.holdfast)+string(filepath.ListSeparator)+os.Getenv("PATH"))
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("TZ", "UTC")
			// Nothing that a script does needs a network.
			e.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
			return os.Mkdir(filepath.Join(e.WorkDir, "home"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":      scriptExits,
			"repository": scriptRepository,
			"commit":     scriptCommit,
			"clean":      scriptClean,
			"cloud":      scriptCloudStart,
			"byhand":     scriptByHand,
			"mirror":     scriptMirror,
			"store":      scriptStore,
			"jobs":       scriptJobs,
			"audited":    scriptAudited,
			"copies":     scriptCopies,
			"busy":       scriptBusy,
			"await":      scriptAwait,
			"says":       scriptSays,
			"quick":      scriptQuick,
			"strays":     scriptStrays,
		},
	})
}

// needs ends the script where a command was not written as it has to be.
func needs(ts *testscript.TestScript, neg bool, args []string, n int) {
	if neg || len(args) != n {
		ts.Fatalf("not with !, and with %d arguments: %q", n, args)
	}
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case err == nil && want == 0:
	case errors.As(err, &exit) && exit.ExitCode() == want:
	default:
		ts.Fatalf("ended with %v instead of exit code %d", err, want)
	}
}

// The Git commands: no git binary is needed.

func scriptRepository(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 1)
	_, err := gogit.PlainInitWithOptions(ts.MkAbs(args[0]), &gogit.PlainInitOptions{InitOptions: gogit.InitOptions{DefaultBranch: "refs/heads/main"}})
	ts.Check(err)
	commitAll(ts, ts.MkAbs(args[0]))
}

func scriptCommit(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 2)
	dir, branch := ts.MkAbs(args[0]), plumbing.NewBranchReferenceName(args[1])
	repo, err := gogit.PlainOpen(dir)
	ts.Check(err)
	head, err := repo.Head()
	ts.Check(err)
	if _, err := repo.Reference(branch, false); errors.Is(err, plumbing.ErrReferenceNotFound) {
		ts.Check(repo.Storer.SetReference(plumbing.NewHashReference(branch, head.Hash())))
	}
	ts.Check(repo.Storer.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, branch)))
	commitAll(ts, dir)
}

func commitAll(ts *testscript.TestScript, dir string) {
	repo, err := gogit.PlainOpen(dir)
	ts.Check(err)
	tree, err := repo.Worktree()
	ts.Check(err)
	ts.Check(tree.AddWithOptions(&gogit.AddOptions{All: true}))
	_, err = tree.Commit("change", &gogit.CommitOptions{Author: &object.Signature{Name: "Ada", Email: "ada@example.com", When: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}})
	ts.Check(err)
}

func scriptClean(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 1)
	repo, err := gogit.PlainOpen(ts.MkAbs(args[0]))
	ts.Check(err)
	tree, err := repo.Worktree()
	ts.Check(err)
	status, err := tree.Status()
	ts.Check(err)
	if !status.IsClean() {
		ts.Fatalf("changed:\n%s", status)
	}
}

// scriptCloud is a script's small cloud, once it is started.
type scriptCloud struct{ process *cloudProcess }

type cloudKey struct{}

func scriptCloudStart(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 0)
	cloud := startCloud(scriptTB{ts: ts})
	ts.Value(cloudKey{}).(*scriptCloud).process = cloud
	ts.Setenv("CLOUD", cloud.url)
	ts.Setenv("TF_REATTACH_PROVIDERS", cloud.reattach)
}

func scriptByHand(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 3)
	ts.Value(cloudKey{}).(*scriptCloud).process.set(args[0], args[1], args[2])
}

// scriptTB makes a script what helpers of tests want.
type scriptTB struct {
	testing.TB
	ts *testscript.TestScript
}

func (s scriptTB) Helper()                      {}
func (s scriptTB) Cleanup(f func())             { s.ts.Defer(f) }
func (s scriptTB) Fatal(args ...any)            { s.ts.Fatalf("%s", fmt.Sprint(args...)) }
func (s scriptTB) Fatalf(f string, args ...any) { s.ts.Fatalf(f, args...) }

// buildProvider builds the small cloud's provider once, for the scripts that
// install it.
var buildProvider = sync.OnceValues(func() (string, error) {
	out := filepath.Join(filepath.Dir(binaries.holdfast), "terraform-provider-smallcloud")
	text, err := exec.Command("go", "build", "-o", out, "holdfast/smallcloud/cmd/terraform-provider-smallcloud").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, text)
	}
	return out, nil
})

func scriptMirror(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 1)
	provider, err := buildProvider()
	ts.Check(err)
	mirror := ts.MkAbs("mirror")
	dir := filepath.Join(mirror, "registry.terraform.io/holdfast/smallcloud/1.0.0", runtime.GOOS+"_"+runtime.GOARCH)
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(os.Symlink(provider, filepath.Join(dir, "terraform-provider-smallcloud_v1.0.0")))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), fmt.Appendf(nil, "provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", mirror), 0o644))
}

func scriptStore(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args[:min(len(args), 1)], 1)
	ctx, at := context.Background(), time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	ts.Check(os.MkdirAll(ts.MkAbs(args[0]), 0o700))
	st, err := sqlite.Open(ctx, filepath.Join(ts.MkAbs(args[0]), "holdfast.db"))
	ts.Check(err)
	defer st.Close()
	_, _, err = st.Runs.Create(ctx, at, store.Run{
		ID: "01JNGZ9K1R0000000000000001", Key: "plan/7/web", Kind: store.KindPlan, State: store.Planned,
		Repository: "git.example.com/platform/network", Workspace: "web", PullRequest: 7, Commit: strings.Repeat("c0ffee12", 5),
	})
	ts.Check(err)
	holder := lock.Holder{ID: "hold/ada", Who: "ada", Why: "looking into\nthe \x1b[31moutage"}
	_, err = st.Locks.Acquire(ctx, at, "git.example.com/platform/network/web", holder, 0)
	ts.Check(err)
	for _, n := range []runner.NodeState{
		{Name: "east-1", Role: "serve", Host: "east", Version: "1.2.3", Started: at, Slots: 4, Running: []runner.NodeJob{{ID: "2", Kind: "plan"}, {ID: "1", Kind: "apply"}}, Seen: at.AddDate(1000, 0, 0)}, // not gone yet
		{Name: "west-1", Role: "worker", Host: "west", Version: "1.2.3", Labels: []string{"eu", "prod"}, Started: at, Slots: 8, Running: []runner.NodeJob{{ID: "3", Kind: "drift"}}, Seen: at},
	} {
		if len(args) > 1 && n.Seen.After(at) { // "store DIR stopped"
			n.Seen = at
		}
		value, err := json.Marshal(n)
		ts.Check(err)
		_, err = st.Records.Put(ctx, at, store.Record{Key: "node/" + n.Name, Value: value})
		ts.Check(err)
	}
}

// scriptJobs leaves a job in each state: a report that waits, a plan whose run
// is queued, an apply that runs, a dead event, and a check for another worker.
func scriptJobs(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 1)
	const repo = "git.example.com/platform/network"
	ctx, at := context.Background(), time.Date(2020, 3, 4, 5, 6, 7, 0, time.UTC)
	st, err := sqlite.Open(ctx, filepath.Join(ts.MkAbs(args[0]), "holdfast.db"))
	ts.Check(err)
	defer st.Close()
	run := store.Run{ID: "01JNGZ9K1R0000000000000002", Key: "plan/8/web", Kind: store.KindPlan, State: store.Queued, Repository: repo, Workspace: "web", PullRequest: 8}
	_, _, err = st.Runs.Create(ctx, at, run)
	ts.Check(err)
	jobs := []queue.Job{
		{ID: "APPLY", Kind: "apply", Group: "workspace/" + repo + "/dns", Key: "run/elsewhere", Priority: queue.PriorityApply},
		{ID: "EVENT", Kind: "event", Group: "pull/" + repo + "#7", Priority: queue.PriorityPrompt},
		{ID: "PLAN", Kind: "plan", Group: "workspace/" + repo + "/web", Key: "run/" + run.ID},
		{ID: "REPORT", Kind: "report", Group: "report/pull/" + repo + "#7"},
		{ID: "CHECK", Kind: "drift", Group: "workspace/" + repo + "/mail", RunsOn: []string{"eu", "prod"}},
	}
	for i := range jobs {
		jobs[i].RunAt, jobs[i].EnqueuedAt, jobs[i].OverdueAt = at, at, at.Add(time.Hour)
	}
	_, err = st.Queue.Enqueue(ctx, at, jobs)
	ts.Check(err)
	claimed, err := st.Queue.Claim(ctx, at, queue.Claim{Worker: "node-1/42", Lease: time.Minute, Max: 2})
	ts.Check(err)
	ts.Check(st.Queue.Finish(ctx, at, claimed[1].Ref(), queue.Outcome{Dead: true, Error: "ask git.example.com:\nno \x1b[31manswer " + strings.Repeat("for ever and ", 9)}))
}

func scriptAudited(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 2)
	ctx := context.Background()
	st, err := sqlite.Open(ctx, filepath.Join(ts.MkAbs(args[0]), "holdfast.db"))
	ts.Check(err)
	defer st.Close()
	entries, err := st.Audit.List(ctx, "", 1)
	ts.Check(err)
	if len(entries) != 1 || entries[0].Who == "" || !regexp.MustCompile(args[1]).MatchString(entries[0].Action+": "+entries[0].Why) {
		ts.Fatalf("the latest line is %+v", entries)
	}
}

func scriptCopies(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 1)
	ctx := context.Background()
	st, err := sqlite.Open(ctx, ts.MkAbs(args[0]))
	ts.Check(err)
	defer st.Close()
	runs, err := st.Runs.List(ctx, store.RunFilter{})
	ts.Check(err)
	locks, err := st.Locks.List(ctx, time.Now(), "")
	ts.Check(err)
	if len(runs) != 1 || runs[0].Workspace != "web" || len(locks) != 1 {
		ts.Fatalf("the copy has %+v and %+v", runs, locks)
	}
}

func scriptBusy(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 1)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never came", args[0])
		}
	}
}

func scriptSays(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: says PATTERN PROGRAM [ARG...]")
	}
	pattern := regexp.MustCompile("(?m)" + args[0])
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q was never said; at the end: %v", args[0], err)
		}
	}
}

// scriptQuick is a stopwatch: a refusal must not be a wait for a network.
func scriptQuick(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 1)
	began := ts.Getenv(args[0])
	if began == "" {
		ts.Setenv(args[0], time.Now().Format(time.RFC3339Nano))
		return
	}
	at, err := time.Parse(time.RFC3339Nano, began)
	ts.Check(err)
	if took := time.Since(at); took > 30*time.Second {
		ts.Fatalf("it took %s", took)
	}
}

// scriptStrays looks for processes whose command line names the script's
// directory, as every plan's does.
func scriptStrays(ts *testscript.TestScript, neg bool, args []string) {
	needs(ts, neg, args, 0)
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	for _, file := range lines {
		line, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(line), ts.Getenv("WORK")) {
			ts.Fatalf("still there: %s: %q", file, line)
		}
	}
}
