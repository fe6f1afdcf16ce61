package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/store/sqlite"
	"holdfast/store/storetest"
)

// ends are the two stores of a move.
type ends struct {
	testing.TB
	from, to string // files
}

// newEnds makes a source with something of every kind in it, whose running jobs
// are of a server that is gone, and a directory for the target.
func newEnds(t *testing.T) ends {
	t.Helper()
	e := ends{t, filepath.Join(t.TempDir(), "from.db"), filepath.Join(t.TempDir(), "to.db")}
	s := e.open(e.from)
	defer s.Close()
	storetest.Fill(t, s)
	jobs, err := s.Queue.List(t.Context(), queue.Filter{State: queue.StateRunning})
	if err != nil || len(jobs) == 0 {
		t.Fatal(jobs, err)
	}
	for _, j := range jobs {
		if _, err := s.Queue.Heartbeat(t.Context(), time.Unix(1e9, 0), []queue.Ref{j.Ref()}, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func (e ends) open(file string) *store.Store {
	e.Helper()
	s, err := sqlite.Open(e.Context(), file)
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = s.Close() })
	return s
}

// migrate runs the command and returns its exit code and what it prints.
func (e ends) migrate(more ...string) (code int, stdout, stderr string) {
	e.Helper()
	var out, errs strings.Builder
	code = run(e.Context(), append([]string{"migrate", "--from", "sqlite:" + e.from, "--to", "sqlite:" + e.to}, more...), &out, &errs)
	return code, out.String(), errs.String()
}

// refuses fails the test unless the command ends with an error that says this.
func (e ends) refuses(what string, more ...string) {
	e.Helper()
	if code, stdout, stderr := e.migrate(more...); code != 1 || !strings.Contains(stderr, what) || stdout != "" {
		e.Fatalf("exit code %d, printed %q and %q, which does not say %q", code, stdout, stderr, what)
	}
}

// moves fails the test unless the command moves everything.
func (e ends) moves(says ...string) {
	e.Helper()
	code, stdout, stderr := e.migrate()
	if code != 0 {
		e.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range append(says, "Moved from sqlite:"+e.from+" to sqlite:"+e.to+": 3") {
		if !strings.Contains(stdout+stderr, want) {
			e.Errorf("%q is not in %s%s", want, stdout, stderr)
		}
	}
}

// same fails the test unless the target is as the source, but for the line in
// its audit trail.
func (e ends) same(t *testing.T) {
	t.Helper()
	from, to := e.open(e.from), e.open(e.to)
	if err := migrating(t.Context(), to); err != nil {
		t.Errorf("after the move: %v", err)
	}
	entries, err := to.Audit.List(t.Context(), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, entry := range entries {
		if entry.Action == "migrate" {
			lines++
			if err := from.Audit.Append(t.Context(), entry); err != nil {
				t.Fatal(err)
			}
		}
	}
	if lines != 1 {
		t.Errorf("the audit trail has %d lines about the move", lines)
	}
	if err := migrating(t.Context(), from); err == nil || !strings.Contains(err.Error(), "moved to") {
		t.Errorf("a server may start on the source: %v", err)
	}
	if err := from.Records.Delete(t.Context(), migrationKey); err != nil {
		t.Fatal(err)
	}
	storetest.Same(t, from, to)
}

func TestMigrate(t *testing.T) {
	e := newEnds(t)
	if err := os.WriteFile(filepath.Join(filepath.Dir(e.from), "key"), []byte("secret-secret-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.moves("cat > /etc/holdfast/key' < "+filepath.Join(filepath.Dir(e.from), "key"), "make sure that none does", "never start a server on it again")
	if code, stdout, stderr := e.migrate(); code != 1 || strings.Contains(stdout+stderr, "secret-") {
		t.Errorf("again: exit code %d, %s%s", code, stdout, stderr)
	}
	e.refuses("this store was moved to")
	e.same(t)
}

func TestMigrateRefuses(t *testing.T) {
	e := newEnds(t)
	e.refuses("the same store", "--to", "sqlite:"+e.from)
	e.refuses("no store at", "--from", "sqlite:"+e.from+".other")
	e.refuses("--to has a password in it", "--to", "mysql://someone:hunter2@db/holdfast")
	e.refuses("--to has a password in it", "--to", "redis+sentinel://a,b/main?sentinel_password=hunter2")
	if _, _, stderr := e.migrate("--to", "mysql://someone:hunter2@db/holdfast"); strings.Contains(stderr, "hunter2") {
		t.Errorf("a password is printed: %s", stderr)
	}

	// Servers that use one of the two.
	for _, file := range []string{e.from, e.to} {
		unlock, err := lockDataDir(filepath.Dir(file))
		if err != nil {
			t.Fatal(err)
		}
		e.refuses("another Holdfast uses the data directory " + filepath.Dir(file))
		unlock()
	}
	s := e.open(e.from)
	jobs, err := s.Queue.Claim(t.Context(), time.Now().AddDate(50, 0, 0), queue.Claim{Worker: "node-7", Lease: time.Minute, Max: 1})
	if err != nil || len(jobs) != 1 {
		t.Fatal(jobs, err)
	}
	e.refuses("node-7 is running a job")
	if err := s.Queue.Finish(t.Context(), time.Now(), jobs[0].Ref(), queue.Outcome{Done: true}); err != nil {
		t.Fatal(err)
	}
	e.moves()
}

// half moves a part of the source, as a process does that is killed.
func (e ends) half(t *testing.T) {
	t.Helper()
	m := &move{progress: newProgress(&strings.Builder{})}
	defer m.close()
	if err := m.open(t.Context(), "sqlite:"+e.from, "sqlite:"+e.to); err != nil {
		t.Fatal(err)
	}
	if _, err := m.mark(t.Context()); err != nil {
		t.Fatal(err)
	}
	var items []store.Item
	errKilled := errors.New("killed")
	if err := m.from.Dump(t.Context(), func(item store.Item) error {
		if items = append(items, item); len(items) == 30 {
			return errKilled
		}
		return nil
	}); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	if err := m.to.Load(t.Context(), items); err != nil {
		t.Fatal(err)
	}
}

func TestMigrateGoesOn(t *testing.T) {
	e := newEnds(t)
	e.half(t)
	if err := migrating(t.Context(), e.open(e.to)); err == nil || !strings.Contains(err.Error(), e.from) {
		t.Errorf("half a store: %v", err)
	}
	other := newEnds(t)
	other.to = e.to
	other.refuses("being filled from sqlite:" + e.from)
	onwards := ends{t, e.to, filepath.Join(t.TempDir(), "third.db")}
	onwards.refuses("being filled from sqlite:" + e.from)
	e.moves("Going on with the move")
	e.same(t)
}

// A source that was used after a move was cut off has less than was moved: a
// job that has ended must not be done once more.
func TestMigrateNoticesWhatIsTooMuch(t *testing.T) {
	e := newEnds(t)
	e.half(t)
	s := e.open(e.from)
	jobs, err := s.Queue.List(t.Context(), queue.Filter{State: queue.StateWaiting})
	if err != nil {
		t.Fatal(err)
	}
	next := jobs[0]
	if _, err := s.Queue.Control(t.Context(), time.Now(), next.ID, queue.ActionCancel); err != nil {
		t.Fatal(err)
	}
	next.ID, next.Key = "another", ""
	if _, err := s.Queue.Enqueue(t.Context(), time.Now(), []queue.Job{next}); err != nil {
		t.Fatal(err)
	}
	e.refuses("does not have the same jobs")
	if err := migrating(t.Context(), e.open(e.to)); err == nil {
		t.Error("a server may start on it")
	}
}
