//go:build linux

package integration

import (
	"slices"
	"strings"
	"testing"

	"holdfast/runner"
	"holdfast/store"
)

// TestFencing stops a worker in the middle of an apply and has it continue after
// another one took its leases: it cannot record, release or apply any more. Its
// engine, which is all that applies, is followed by the other one.
func TestFencing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{"README.md": "empty"})
	f.node("serve", "--workers", "0").start()
	stopped := f.node("worker", "--workers", "2").start()
	// The second server is only made when the first one is there, which takes
	// longer than the leases.
	text := providers + "provider \"smallcloud\" {}\n" + server("one", `delay = "25s"`) + server("two", "depends_on = [smallcloud_server.one]")
	number := f.openReviewed(text)
	other := f.node("worker", "--workers", "2").start()

	apply := func() store.Run {
		t.Helper()
		runs := f.runs(store.RunFilter{Kind: store.KindApply, PullRequest: number})
		if len(runs) == 0 {
			return store.Run{}
		}
		return runs[0]
	}
	f.repo.Merge(number, "merge")
	f.until("the engine applies", func() bool { return apply().Step == "apply" && len(f.cloud.journal()) > 0 })
	if apply().Node == other.id() {
		stopped, other = other, stopped
	}
	stopped.pause()
	f.until("the other worker has the job", func() bool { return apply().Node == other.id() })
	taken := apply()
	lease := f.workspaceLease("app")
	stopped.resume()
	f.until("the stopped worker finds that it lost the job", func() bool { return strings.Contains(stopped.log.String(), "job lost") })

	if run := apply(); run.Token != taken.Token || run.Node != other.id() {
		t.Errorf("the fenced worker wrote the run: %+v", run)
	}
	if now := f.workspaceLease("app"); now != lease {
		t.Errorf("the fenced worker touched the lock: token %d, then %d", lease, now)
	}
	f.made(number, "one", "two")
	if run := apply(); run.Node != other.id() {
		t.Errorf("the end was recorded by %s", run.Node)
	}
	log := f.runLog(apply().ID)
	for _, want := range []string{"asking there what became of it", "This is all of the engine's output", "2 added"} {
		if !strings.Contains(log, want) {
			t.Errorf("the run's log does not say %q:\n%s", want, log)
		}
	}
	f.until("it is in sync", func() bool { return f.workspace("app").State == runner.InSync })
}

// workspaceLease is the token of the lock that a run at work has; 0 where none
// has it.
func (f *fleet) workspaceLease(name string) int64 {
	f.Helper()
	st := f.open()
	defer st.Close()
	leases, err := st.Locks.List(f.Context(), st.Now(), "workspace/")
	if err != nil {
		f.Fatal(err)
	}
	for _, l := range leases {
		if strings.HasSuffix(string(l.Key), "/"+name) {
			return l.Token
		}
	}
	return 0
}

// runLog is what a run printed.
func (f *fleet) runLog(run string) string {
	f.Helper()
	st := f.open()
	defer st.Close()
	key := store.DeriveKey([]byte(fleetKey), "artifacts")
	chunks, err := store.Sealed(st.Artifacts, key).Chunks(f.Context(), run+"/log", 0)
	if err != nil {
		f.Fatal(err)
	}
	return string(slices.Concat(chunks...))
}
