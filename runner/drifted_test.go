package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/queue"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/watch"
	"holdfast/workspaces"
)

// drifts makes a fixture with workspaces ws0, ws1, … that are applied, whose
// checks find what found says.
func drifts(t *testing.T, n int, found func(x *execution) (plan.DriftReport, error)) *fixture {
	f := newFixture(t)
	var known []knownWorkspace
	for i := range n {
		w := workspaces.Workspace{Name: fmt.Sprint("ws", i), Dir: fmt.Sprint("ws", i), Drift: workspaces.Drift{Schedule: "@every 1h", Correct: "off"}}
		known = append(known, knownWorkspace{Workspace: w, Inputs: "in"})
		err := f.changeWorkspace(t.Context(), f.repo, w, func(rec *WorkspaceRecord) {
			rec.State, rec.AppliedCommit, rec.AppliedInputs, rec.AppliedAt = InSync, "c0ffee", "in", f.clock()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := change(t.Context(), f.Runner, "repository/"+f.repo.String(), func(rec *repositoryRecord) {
		rec.DefaultBranch, rec.SHA, rec.Described, rec.Workspaces = "main", "c0ffee", "c0ffee", known
	})
	if err != nil {
		t.Fatal(err)
	}
	f.engine = func(_ context.Context, x *execution) (verdict, error) {
		report, err := found(x)
		if err != nil {
			x.result.Drift = &plan.DriftReport{Class: plan.CheckError}
			return verdict{store.Failed, err.Error()}, nil
		}
		x.result.Drift, x.result.DriftDigest = &report, report.Digest(x.r.DigestKey)
		if report.Class == plan.InSync {
			return verdict{state: store.NoChanges}, nil
		}
		return verdict{state: store.Planned}, nil
	}
	return f
}

func changedInCloud(*execution) (plan.DriftReport, error) {
	return plan.DriftReport{Class: plan.CloudChange, Resources: []plan.DriftedResource{{Address: "x.a", Change: "changed", Attributes: []string{"size"}, Type: "x", ID: "id-1", Action: plan.Update}}}, nil
}

// checkAll has all workspaces checked.
func (f *fixture) checkAll() {
	f.Helper()
	f.pass(time.Minute)
	if _, err := f.checkAsked(f.Context(), f.repo, command{verb: verbDrift, comment: f.clock().Unix()}); err != nil {
		f.Fatal(err)
	}
	// All of them at once: work takes one job after the other.
	jobs, err := f.queue.Claim(f.Context(), f.clock(), queue.Claim{Worker: "w", Lease: time.Minute, Max: 1000})
	if err != nil {
		f.Fatal(err)
	}
	for _, j := range jobs {
		o := queue.Outcome{RunAt: j.RunAt, Uncounted: true}
		if j.Kind == JobDrift {
			o = queue.Outcome{Done: true}
			if err := f.handlers[j.Kind](f.Context(), j); err != nil {
				f.Fatal(err)
			}
		}
		if err := f.queue.Finish(f.Context(), f.clock(), j.Ref(), o); err != nil {
			f.Fatal(err)
		}
	}
}

func (f *fixture) workspaceRecord(name string) (rec WorkspaceRecord) {
	f.Helper()
	if _, err := f.load(f.Context(), workspaceName(f.repo, name), &rec); err != nil {
		f.Fatal(err)
	}
	return rec
}

func (f *fixture) driftRecord(name string) (rec DriftRecord) {
	f.Helper()
	if _, err := f.load(f.Context(), driftName(f.repo, name), &rec); err != nil {
		f.Fatal(err)
	}
	return rec
}

// fakeNotifier keeps what it is told, unless it fails.
type fakeNotifier struct {
	messages []watch.Message
	ids      []string // also of failed attempts
	err      error
}

func (n *fakeNotifier) Notify(_ context.Context, m watch.Message) error {
	n.ids = append(n.ids, m.ID)
	if n.err != nil {
		return n.err
	}
	n.messages = append(n.messages, m)
	return nil
}

// A hundred workspaces that drift at once are one message, which is delivered
// once, when that is possible.
func TestNotifyInOneMessage(t *testing.T) {
	f := drifts(t, 100, changedInCloud)
	f.mayFail = true
	good, bad := &fakeNotifier{}, &fakeNotifier{err: errors.New("503")}
	only := &fakeNotifier{}
	f.Notify = []Notify{
		{Name: "good", Notifier: good}, {Name: "bad", Notifier: bad},
		{Name: "one", Notifier: only, Events: []string{"in_sync", "drift"}, Workspaces: []string{"ws7"}},
	}
	f.checkAll()
	f.pass(f.NotifyDelay)
	f.work(JobNotify)
	if len(good.messages) != 1 || len(good.messages[0].Events) != 100 || !strings.Contains(good.messages[0].Title, "100 workspaces drifted") {
		t.Fatalf("told %+v", good.messages)
	}
	if text := good.messages[0].Text; !strings.Contains(text, "x.a changed (size)") || !strings.Contains(text, "and 80 more") {
		t.Errorf("the text:\n%s", text)
	}
	if len(only.messages) != 1 || len(only.messages[0].Events) != 1 || only.messages[0].Events[0].Workspace != "ws7" {
		t.Errorf("the one for ws7 was told %+v", only.messages)
	}
	// The same drift again is no news.
	f.checkAll()
	f.pass(f.NotifyDelay)
	f.work(JobNotify)
	if len(good.messages) != 1 {
		t.Errorf("told again: %+v", good.messages[1:])
	}
	// What could not be delivered is, later, with the same id.
	bad.err = nil
	f.pass(time.Hour)
	f.work(JobNotify)
	if len(bad.messages) != 1 || len(bad.messages[0].Events) != 100 || bad.ids[0] != bad.messages[0].ID {
		t.Errorf("the other was told %d messages, ids %q", len(bad.messages), bad.ids)
	}
	left, err := f.Store.Records.List(t.Context(), "untold/")
	if err != nil || len(left) > 0 {
		t.Errorf("%d events are left, %v", len(left), err)
	}
}

func TestNotifyWaitsAsLongAsItIsAsked(t *testing.T) {
	f := drifts(t, 1, changedInCloud)
	f.mayFail = true
	n := &fakeNotifier{err: &watch.RetryError{After: 7 * time.Minute, Err: errors.New("429")}}
	f.Notify = []Notify{{Name: "n", Notifier: n}}
	f.checkAll()
	f.pass(f.NotifyDelay)
	f.work(JobNotify)
	job := f.jobs(JobNotify)
	if len(job) != 1 || !job[0].RunAt.Equal(f.clock().Add(7*time.Minute)) {
		t.Fatalf("jobs %+v", job)
	}
	n.err = &watch.PermanentError{Err: errors.New("no such channel"), Advice: "make it"}
	f.pass(7 * time.Minute)
	f.work(JobNotify)
	if job := f.jobs(JobNotify); len(job) != 1 || job[0].State != queue.StateWaiting {
		t.Fatalf("what cannot be delivered is dropped: %+v", job)
	}
	n.err = nil
	f.pass(time.Hour)
	f.work(JobNotify)
	if len(n.messages) != 1 {
		t.Errorf("told %+v", n.messages)
	}
}

// fakeAttributor answers from the n-th question on.
type fakeAttributor struct {
	from  int
	asked []watch.Question
	err   error
}

func (a *fakeAttributor) Attribute(_ context.Context, q watch.Question) ([]watch.Answer, error) {
	a.asked = append(a.asked, q)
	if len(a.asked) < a.from {
		return nil, a.err
	}
	return []watch.Answer{{Address: "x.a", Actor: "mallory\x1b[31m", Call: "resize", At: q.Until, Source: "console"}}, nil
}

// Audit logs are late, and one of those who are asked may fail: no check waits
// for either.
func TestAttributeLater(t *testing.T) {
	f := drifts(t, 1, changedInCloud)
	late, broken := &fakeAttributor{from: 3, err: errors.New("AccessDenied")}, &fakeAttributor{from: 1 << 20, err: errors.New("no answer")}
	f.Attributors = []watch.Attributor{broken, late}
	f.pass(time.Minute)
	f.checkAll()
	if f.workspaceRecord("ws0").State != Drifted {
		t.Fatal("the check waited")
	}
	for range 3 {
		f.work(JobAttribute)
		f.pass(20 * time.Minute)
	}
	who := f.driftRecord("ws0").Now.Who
	if len(who) != 1 || who[0].Actor != "mallory[31m" || who[0].Call != "resize" {
		t.Errorf("who: %+v", who)
	}
	if len(late.asked) != 3 || len(f.jobs(JobAttribute)) != 0 {
		t.Errorf("asked %d times, %d jobs left", len(late.asked), len(f.jobs(JobAttribute)))
	}
	q := late.asked[0]
	if q.Workspace != "ws0" || len(q.Resources) != 1 || q.Resources[0].ID != "id-1" || !q.Since.Before(q.Until) {
		t.Errorf("the question: %+v", q)
	}
}

// Drift that is undone at once is over before an audit log tells of it. Who did
// it is found out and told all the same.
func TestAttributeWhatIsOver(t *testing.T) {
	over := false
	f := drifts(t, 1, func(x *execution) (plan.DriftReport, error) {
		if over {
			return plan.DriftReport{}, nil
		}
		return changedInCloud(x)
	})
	late, n := &fakeAttributor{from: 2}, &fakeNotifier{}
	f.Attributors, f.Notify = []watch.Attributor{late}, []Notify{{Name: "ops", Notifier: n}}
	f.pass(time.Minute)
	f.checkAll()
	began := f.driftRecord("ws0").Now.Began
	f.work(JobAttribute) // nobody knows yet
	_, err := f.changeDrift(t.Context(), f.repo, "ws0", func(rec *DriftRecord) {
		rec.Corrections = append(rec.Corrections, Correction{Run: "c", At: began.Add(time.Second), State: store.Applied})
	})
	if err != nil {
		t.Fatal(err)
	}
	over = true
	f.checkAll()
	f.pass(20 * time.Minute)
	f.work(JobAttribute)
	rec := f.driftRecord("ws0")
	if rec.Now != nil || len(rec.Past) != 1 || len(rec.Past[0].Who) != 1 || rec.Past[0].Corrected != "c" {
		t.Fatalf("%+v", rec)
	}
	if q := late.asked[len(late.asked)-1]; len(late.asked) != 2 || !q.Until.Equal(began) {
		t.Errorf("asked %d times, the last time until %s, and not %s, when the correction began", len(late.asked), q.Until, began)
	}
	f.work(JobNotify)
	if len(n.messages) != 1 || len(n.messages[0].Events[0].Who) != 1 {
		t.Errorf("told %+v", n.messages)
	}
}

// A check that fails is unknown with its error and its next try, never in sync;
// tries end, and the schedule goes on.
func TestFailedChecks(t *testing.T) {
	fails := true
	f := drifts(t, 1, func(*execution) (plan.DriftReport, error) {
		if fails {
			return plan.DriftReport{}, errors.New("Error: 429 Too Many Requests")
		}
		return plan.DriftReport{}, nil
	})
	n := &fakeNotifier{}
	f.Notify = []Notify{{Name: "n", Notifier: n}}
	if err := f.ScheduleDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.checkAll()
	var waits []time.Duration
	for range 40 {
		rec := f.workspaceRecord("ws0")
		if rec.State != Unknown || !strings.Contains(rec.Error, "429") {
			t.Fatalf("after a failed check: %+v", rec)
		}
		if !rec.RetryAt.IsZero() && rec.RetryAt.After(rec.CheckedAt) {
			waits = append(waits, rec.RetryAt.Sub(rec.CheckedAt).Round(time.Minute))
		}
		f.pass(5 * time.Minute)
		if err := f.ScheduleDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.work(JobDrift)
	}
	waits = slices.Compact(waits)
	if want := []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 80 * time.Minute}; !slices.Equal(waits, want) {
		t.Errorf("waits %v instead of %v", waits, want)
	}
	f.pass(time.Hour)
	f.work(JobNotify)
	if len(n.messages) != 1 || n.messages[0].Events[0].Kind != "failed" {
		t.Errorf("told %+v", n.messages)
	}
	fails = false
	f.checkAll()
	if rec := f.workspaceRecord("ws0"); rec.State != InSync || rec.Failures != 0 || !rec.RetryAt.IsZero() || rec.Overdue {
		t.Errorf("after a good check: %+v", rec)
	}
}

// Without a good check for two slots, what was in sync is unknown.
func TestOverdue(t *testing.T) {
	f := drifts(t, 1, func(*execution) (plan.DriftReport, error) { return plan.DriftReport{}, nil })
	look := func(d time.Duration) WorkspaceRecord {
		f.pass(d)
		if err := f.ScheduleDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		return f.workspaceRecord("ws0")
	}
	look(0)
	if rec := look(2 * time.Hour); rec.Overdue || rec.State != InSync {
		t.Errorf("after two hours: %+v", rec)
	}
	if rec := look(15 * time.Minute); !rec.Overdue || rec.State != Unknown || rec.Error == "" {
		t.Errorf("after two slots: %+v", rec)
	}
	f.work(JobDrift)
	if rec := look(0); rec.Overdue || rec.State != InSync || rec.Error != "" {
		t.Errorf("after a check: %+v", rec)
	}
}

// What is told is not lost with the process that was to tell it, and what an
// older check found is no news.
func TestObserve(t *testing.T) {
	at := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	report, _ := changedInCloud(nil)
	var d DriftRecord
	see := func(id string, minutes int, r plan.DriftReport, digest string) {
		d.observe(store.Run{ID: id, EndedAt: at.Add(time.Duration(minutes) * time.Minute)}, Result{DriftDigest: digest}, r, at)
	}
	see("1", 1, report, "a")
	see("1", 1, report, "a") // again
	see("0", 0, plan.DriftReport{}, "")
	if d.Now == nil || len(d.Untold) != 1 || d.Now.Run != "1" {
		t.Fatalf("%+v", d)
	}
	see("2", 2, report, "a")
	if len(d.Untold) != 1 || !d.Now.Began.Equal(at.Add(time.Minute)) {
		t.Errorf("the same drift is told again: %+v", d.Untold)
	}
	d.heed(command{verb: verbAcknowledge, who: "ada"}, at)
	see("3", 3, report, "a")
	see("4", 4, report, "b")
	if len(d.Untold) != 2 {
		t.Errorf("another drift is not told: %+v", d.Untold)
	}
	see("5", 5, plan.DriftReport{Class: plan.CheckError}, "")
	if d.Now == nil {
		t.Error("a failed check ended the drift")
	}
	see("6", 6, plan.DriftReport{}, "")
	if d.Now != nil || len(d.Past) != 1 || d.Past[0].Ended.IsZero() || len(d.Untold) != 3 {
		t.Errorf("%+v", d)
	}
}

// A rule that has ended says so, where it would still cover something.
func TestEndedRules(t *testing.T) {
	report, _ := changedInCloud(nil)
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	rules := []workspaces.Ignore{
		{Address: "x.*", Attributes: []string{"size"}, Reason: "the scaler", Until: now},
		{Address: "x.*", Attributes: []string{"tags"}, Reason: "the tagger", Until: now},
		{Address: "x.a", Attributes: []string{"name"}, Reason: "later", Until: now.Add(time.Hour)},
	}
	if got := report.Without(covers(rules, now)); got.Class != plan.CloudChange {
		t.Error("an ended rule counts")
	}
	if got := report.Without(covers(rules, now.Add(-time.Second))); got.Class != plan.InSync || len(got.Ignored) != 1 {
		t.Errorf("a rule that has not ended does not count: %+v", got)
	}
	if got := endedRules(rules, report, now); len(got) != 1 || !strings.Contains(got[0], "the scaler") || !strings.Contains(got[0], "ended on 2026-03-04") {
		t.Errorf("%q", got)
	}
}

// What kept drift from being corrected is asked again with each check: it is
// not said for ever where the team does not want corrections any more.
func TestBlockedAgain(t *testing.T) {
	report, _ := changedInCloud(nil)
	at := time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	var d DriftRecord
	d.observe(store.Run{ID: "1", EndedAt: at}, Result{DriftDigest: "a"}, report, at)
	d.Now.Blocked = []Gate{{GateHold, "The workspace is on hold."}}
	d.observe(store.Run{ID: "1", EndedAt: at}, Result{DriftDigest: "a"}, report, at) // a retry
	if len(d.Now.Blocked) != 1 {
		t.Errorf("after a retry: %+v", d.Now.Blocked)
	}
	d.observe(store.Run{ID: "2", EndedAt: at.Add(time.Hour)}, Result{DriftDigest: "a"}, report, at)
	if len(d.Now.Blocked) != 0 {
		t.Errorf("after another check: %+v", d.Now.Blocked)
	}
}

// A cloud that does not answer costs its own workspace an hour, and ends in a
// failed check; a server that stops is another thing.
func TestSlowCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := func(ctx context.Context) (verdict, error) {
			<-ctx.Done()
			return verdict{}, ctx.Err()
		}
		x, began := &execution{}, time.Now()
		v, err := x.inTime(t.Context(), hangs)
		if v.state != store.Failed || err != nil || x.result.Drift.Class != plan.CheckError || time.Since(began) != checkLimit {
			t.Errorf("%+v, %v after %s", v, err, time.Since(began))
		}
		stopped, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { stop(queue.ErrShutdown) })
		if v, err := (&execution{}).inTime(stopped, hangs); err == nil || v.state != "" {
			t.Errorf("a server that stops: %+v, %v", v, err)
		}
		if v, err := (&execution{}).inTime(t.Context(), func(context.Context) (verdict, error) { return verdict{state: store.NoChanges}, nil }); err != nil || v.state != store.NoChanges {
			t.Errorf("one that ends: %+v, %v", v, err)
		}
	})
}
