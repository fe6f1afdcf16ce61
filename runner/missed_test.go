package runner

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/vcs"
)

// look reconciles, and does what follows from it.
func (f *fixture) look() {
	f.Helper()
	if err := f.reconcile(f.Context(), f.repo); err != nil {
		f.Fatal(err)
	}
	f.work()
}

func TestReconcileFindsCommands(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("a2")})
	f.host.written = []vcs.Comment{{ID: 900, Number: 1, Author: "ann", Body: "holdfast plan", CreatedAt: f.clock().Add(-time.Minute)}}
	f.look()
	if got := f.runs(); !slices.Equal(got, []string{"a planned"}) {
		t.Fatalf("runs %v: a comment from before the first look was taken for a command", got)
	}
	f.pass(time.Minute)
	f.host.written = append(f.host.written,
		vcs.Comment{ID: 901, Number: 1, Author: "ann", Body: "looks good", CreatedAt: f.clock()},
		vcs.Comment{ID: 902, Number: 1, Author: "ann", Body: "holdfast plan", CreatedAt: f.clock()})
	f.host.written = f.host.written[1:]
	for range 3 {
		f.look()
		if got, want := f.runs(), []string{"a superseded", "a planned"}; len(got) != 2 || got[1] != want[1] {
			t.Fatalf("runs %v, want one plan that the command asked for", got)
		}
		f.pass(time.Minute)
	}
	// The same comment by a late webhook is the same command.
	if err := f.Receive(t.Context(), vcs.Event{Delivery: "late", Kind: vcs.EventComment, Repository: f.repo, Number: 1, Sender: "ann", CommentID: 902, Comment: "holdfast plan"}); err != nil {
		t.Fatal(err)
	}
	calls := f.host.take()
	f.work()
	if again := f.host.take(); len(again) > 0 || len(f.runs()) != 2 {
		t.Errorf("the webhook of a comment that was carried out: %v and runs %v, after %v", again, f.runs(), calls)
	}
}

func TestReconcileShowsAgainWhatIsLost(t *testing.T) {
	f := newFixture(t)
	head := f.open(map[string]string{"a/main.tf": root("a2")})
	f.look()
	if len(f.host.comments) != 1 || f.host.statuses[head+" holdfast"].State != vcs.StatusSuccess {
		t.Fatalf("%d comments, statuses %v", len(f.host.comments), f.host.statuses)
	}
	f.pass(time.Minute)
	f.host.take()
	f.look()
	if calls := f.host.take(); len(calls) > 0 {
		t.Errorf("all is there, and it is written again: %v", calls)
	}
	clear(f.host.comments)
	delete(f.host.statuses, head+" holdfast/a")
	f.host.statuses[head+" holdfast"] = vcs.Status{Context: "holdfast", State: vcs.StatusPending}
	f.pass(time.Minute)
	f.look()
	if got, want := f.host.take(), []string{"create", "status holdfast/a success", "status holdfast success"}; !slices.Equal(got, want) {
		t.Errorf("after a comment and two statuses were lost: %v, want %v", got, want)
	}
}

func TestReconcileEndsWhatVanished(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("a2")})
	f.look()
	f.host.mu.Lock()
	delete(f.host.pulls, 1) // with all that belonged to it
	f.host.mu.Unlock()
	f.pass(2 * time.Hour)
	f.look()
	if got := f.pull().State; got != vcs.Closed {
		t.Errorf("a pull request that the host does not have is %s", got)
	}
}

func TestRepositoryDisappears(t *testing.T) {
	f := newFixture(t)
	f.git.commit("main", map[string]string{"holdfast.hcl": "defaults {\n  drift {\n    schedule = \"* * * * *\"\n  }\n}\n"})
	f.open(map[string]string{"a/main.tf": root("a2")})
	f.look()
	due := func() int {
		t.Helper()
		f.pass(2 * time.Minute)
		if err := f.ScheduleDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := len(f.jobs(JobDrift))
		f.work(JobDrift)
		return n
	}
	due()
	if due() == 0 {
		t.Fatal("nothing is scheduled while it is there")
	}
	history := len(f.runs())
	f.host.mu.Lock()
	f.host.gone = true
	f.host.mu.Unlock()
	turn := func() {
		t.Helper()
		job := queue.Job{Kind: JobReconcile, Payload: []byte(`{"Host":"git.test","Owner":"team","Name":"infra"}`)}
		if err := f.handleReconcile(t.Context(), job); !queue.IsSnooze(err) {
			t.Fatalf("reconcile: %v", err)
		}
	}
	known := func() (rec repositoryRecord) {
		t.Helper()
		if _, err := f.load(t.Context(), "repository/"+f.repo.String(), &rec); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	turn()
	if known().Gone {
		t.Error("gone at the first look that does not find it")
	}
	f.pass(goneAfter)
	for range 3 {
		turn()
	}
	said := 0
	entries, err := f.Store.Audit.List(t.Context(), f.repo.String(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Action == "repository gone" {
			said++
		}
	}
	if !known().Gone || said != 1 || len(f.runs()) != history {
		t.Errorf("gone %v, said %d times, runs %v: want it said once and the history kept", known().Gone, said, f.runs())
	}
	if due() > 0 {
		t.Error("its schedules go on")
	}
	f.host.mu.Lock()
	f.host.gone = false
	f.host.mu.Unlock()
	turn()
	if rec := known(); rec.Gone || !rec.Missing.IsZero() {
		t.Errorf("it is back, and %+v", rec)
	}
}

func TestRepositoriesByPattern(t *testing.T) {
	f := newFixture(t)
	f.Patterns = []Pattern{{Host: "git.test", Glob: "acme/*", Exclude: []string{"sandbox-*"}}, {Host: "git.test", Glob: "acme/sub/**"}}
	repo := func(owner, name string) vcs.Repository {
		return vcs.Repository{Host: "git.test", Owner: owner, Name: name}
	}
	for r, want := range map[vcs.Repository]bool{
		repo("acme", "net"): true, repo("acme", "sandbox-1"): false, repo("acme/sub", "deep"): true,
		repo("acme/sub/more", "deep"): true, repo("acme/other", "x"): false, repo("evil", "net"): false,
		repo("team", "infra"):                           true, // by its name
		{Host: "elsewhere", Owner: "acme", Name: "net"}: false,
	} {
		if _, got := f.served(r); got != want {
			t.Errorf("%s is served: %v", r, got)
		}
	}
	f.host.found = []vcs.Repository{repo("acme", "net"), repo("acme", "sandbox-1"), repo("acme", "dns")}
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, j := range f.jobs(JobDiscover) {
		if err := f.handleDiscover(t.Context(), j); !queue.IsSnooze(err) {
			t.Fatalf("%s: %v", j.Key, err)
		}
	}
	var keys []string
	for _, j := range f.jobs(JobReconcile) {
		keys = append(keys, strings.TrimPrefix(j.Key, "reconcile/git.test/"))
	}
	slices.Sort(keys)
	if want := []string{"acme/dns", "acme/net", "team/infra"}; !slices.Equal(keys, want) {
		t.Errorf("looks at %v, want %v", keys, want)
	}
	if err := f.reconcile(t.Context(), repo("acme", "net")); err != nil {
		t.Fatal(err)
	}
	if got, want := f.Repositories(), []string{"git.test/acme/net", "git.test/team/infra"}; !slices.Equal(got, want) {
		t.Errorf("repositories %v, want those that were seen: %v", got, want)
	}
}

// TestReconcileFindsMergeGroups plans a merge queue's commit of which no webhook
// told.
func TestReconcileFindsMergeGroups(t *testing.T) {
	f := newFixture(t)
	f.open(map[string]string{"a/main.tf": root("a2")})
	f.look()
	main := f.git.heads["main"]
	group := f.git.commit("gh-readonly-queue/main/pr-1-"+main, map[string]string{"a/main.tf": root("a2")})
	f.git.commit("gh-readonly-queue/main/mine", map[string]string{"b/main.tf": root("x")})
	for range 2 {
		f.pass(time.Minute)
		f.look()
		f.pass(f.ReportDelay)
		f.work()
		if got, want := f.runs(), []string{"a planned", "a planned"}; !slices.Equal(got, want) {
			t.Errorf("runs %v, want %v", got, want)
		}
		if s := f.host.statuses[group+" holdfast"]; s.State != vcs.StatusSuccess {
			t.Errorf("the queue is told %+v", s)
		}
	}
	for name, want := range map[string]vcs.Event{
		"gh-readonly-queue/a/pr-3-x/pr-12-" + main: {Kind: vcs.EventMergeGroup, Number: 12, Branch: "a/pr-3-x", Before: main},
		"gh-readonly-queue/main/pr-0-" + main:      {},
		"gh-readonly-queue/pr-1-" + main:           {},
		"gh-readonly-queue/main/pr-1":              {},
		"feature":                                  {},
	} {
		if got, ok := queueEvent(name); got != want || ok != (want.Kind != "") {
			t.Errorf("%s is %+v, %v", name, got, ok)
		}
	}
}
