package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/runner/markdown"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/watch"
	"holdfast/workspaces"
)

// corrects makes a fixture with one workspace that drifted, with the plan that
// would undo it, whose policy is what set makes of it.
func corrects(t *testing.T, set func(*workspaces.Drift)) *fixture {
	f := drifts(t, 1, changedInCloud)
	find := f.engine
	f.engine = func(ctx context.Context, x *execution) (verdict, error) {
		if x.run.Kind == store.KindCorrect {
			return f.correct(ctx, x)
		}
		if err := x.keepPlan(ctx, planOf("update x.a 1")); err != nil {
			return verdict{}, err
		}
		return find(ctx, x)
	}
	f.policy(set)
	return f
}

// policy changes what the default branch says of the workspace.
func (f *fixture) policy(set func(*workspaces.Drift)) {
	f.Helper()
	err := change(f.Context(), f.Runner, "repository/"+f.repo.String(), func(rec *repositoryRecord) {
		d := &rec.Workspaces[0].Drift
		d.Correct, d.MaxChanges, d.FlapLimit = "apply", 10, 3
		set(d)
	})
	if err != nil {
		f.Fatal(err)
	}
}

// check queues a check of the first workspace, and returns its job, claimed.
func (f *fixture) check() queue.Job {
	f.Helper()
	f.pass(time.Minute)
	if _, err := f.checkAsked(f.Context(), f.repo, command{verb: verbDrift, comment: f.clock().UnixNano()}); err != nil {
		f.Fatal(err)
	}
	return f.claim(JobDrift)
}

func (f *fixture) claim(kind string) queue.Job {
	f.Helper()
	jobs, err := f.queue.Claim(f.Context(), f.clock(), queue.Claim{Worker: "w", Lease: time.Minute, Max: 100})
	if err != nil {
		f.Fatal(err)
	}
	var found queue.Job
	for _, j := range jobs {
		if j.Kind == kind {
			found = j
			continue
		}
		if err := f.queue.Finish(f.Context(), f.clock(), j.Ref(), queue.Outcome{RunAt: j.RunAt, Uncounted: true}); err != nil {
			f.Fatal(err)
		}
	}
	return found
}

func (f *fixture) done(j queue.Job) {
	f.Helper()
	if err := f.queue.Finish(f.Context(), f.clock(), j.Ref(), queue.Outcome{Done: true}); err != nil {
		f.Fatal(err)
	}
}

// do carries out a job, twice: as if its process died before it said so.
func (f *fixture) do(j queue.Job) {
	f.Helper()
	for range 2 {
		if err := f.handlers[j.Kind](f.Context(), j); err != nil {
			f.Fatal(err)
		}
	}
	f.done(j)
}

// A run whose end is stored keeps it, whatever fails behind it, also on the last
// attempt.
func TestEndedRunKeepsItsEnd(t *testing.T) {
	f := drifts(t, 1, changedInCloud)
	f.Attributors = []watch.Attributor{&fakeAttributor{}}
	job := f.check()
	last := job
	last.Attempt = f.MaxAttempts
	f.queue.failAfter = 1
	if err := f.handlers[JobDrift](t.Context(), last); err == nil {
		t.Fatal("nothing failed")
	}
	if got := f.runs(); !slices.Equal(got, []string{"ws0 planned"}) {
		t.Fatalf("runs %v", got)
	}
	f.do(job)
	if d := f.driftRecord("ws0"); d.Now == nil || f.workspaceRecord("ws0").State != Drifted {
		t.Errorf("the drift is lost: %+v", d)
	}
	if n := len(f.jobs(JobAttribute)); n != 1 {
		t.Errorf("%d jobs ask who did it", n)
	}
}

// What a failed check had found before it failed counts for nothing.
func TestFailedCheckIsNeverInSync(t *testing.T) {
	f := drifts(t, 1, nil)
	x := &execution{r: f.Runner, repo: f.repo, in: runPayload{Workspace: workspaces.Workspace{Name: "ws0"}}}
	f.pass(time.Minute)
	x.run = store.Run{ID: "1", Kind: store.KindDrift, State: store.Failed, Error: "internal error", Workspace: "ws0", Repository: f.repo.String(), Inputs: "in", EndedAt: f.clock()}
	x.result.Drift = &plan.DriftReport{Class: plan.InSync}
	if err := x.after(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rec := f.workspaceRecord("ws0"); rec.State != Unknown || rec.RetryAt.IsZero() {
		t.Errorf("%+v", rec)
	}
}

// Noise behind a commit that is not applied leaves the workspace pending.
func TestNoiseBehindACommit(t *testing.T) {
	for class, want := range map[plan.Class]plan.Class{
		plan.InSync: plan.UnappliedCommit, plan.ProviderNoise: plan.UnappliedCommit, plan.CloudChange: plan.CloudChange, plan.CheckError: plan.CheckError,
	} {
		x := &execution{in: runPayload{Pending: true}}
		report := plan.DriftReport{Class: class}
		if x.behind(&report); report.Class != want || x.result.Clean != (class != want) {
			t.Errorf("%q is %q, clean %v", class, report.Class, x.result.Clean)
		}
	}
}

// A check that waited for days goes by the policy of today, and one of a
// workspace that is gone finds nothing out.
func TestPolicyOfToday(t *testing.T) {
	f := corrects(t, func(*workspaces.Drift) {})
	job := f.check()
	f.policy(func(d *workspaces.Drift) { d.Correct = "off" })
	f.do(job)
	if n := len(f.jobs(JobCorrect)); n != 0 {
		t.Error("a correction was queued that nobody wants any more")
	}
	f.policy(func(*workspaces.Drift) {})
	f.do(f.check())
	if n := len(f.jobs(JobCorrect)); n != 1 {
		t.Fatalf("%d corrections", n)
	}
	f.policy(func(d *workspaces.Drift) { d.Correct = "propose" })
	f.work(JobCorrect)
	if runs := f.stored(); runs[len(runs)-1].State != store.Superseded || !strings.Contains(runs[len(runs)-1].Error, "propose") {
		t.Errorf("the correction is %+v", runs[len(runs)-1])
	}
	err := change(t.Context(), f.Runner, "repository/"+f.repo.String(), func(rec *repositoryRecord) { rec.Workspaces = nil })
	if err != nil {
		t.Fatal(err)
	}
	x := &execution{r: f.Runner, repo: f.repo, run: store.Run{Kind: store.KindDrift, Workspace: "ws0", Inputs: "in"}}
	if v, err := f.drift(t.Context(), x); err != nil || v.state != store.Superseded {
		t.Errorf("a check of what is gone: %+v, %v", v, err)
	}
}

// A merged commit that a person has to decide about comes first.
func TestNoCorrectionWhileHeld(t *testing.T) {
	f := corrects(t, func(*workspaces.Drift) {})
	job := f.check()
	f.do(job)
	hold := func() {
		err := f.changeWorkspace(t.Context(), f.repo, workspaces.Workspace{Name: "ws0"}, func(rec *WorkspaceRecord) { rec.State = Held })
		if err != nil {
			t.Fatal(err)
		}
	}
	hold()
	f.work(JobCorrect)
	if runs := f.stored(); runs[len(runs)-1].State != store.Superseded {
		t.Errorf("the correction is %s", runs[len(runs)-1].State)
	}
	f.do(f.check())
	d := f.driftRecord("ws0")
	if f.workspaceRecord("ws0").State != Held || len(d.Now.Blocked) != 1 || !strings.Contains(d.Now.Blocked[0].Why, "decided first") {
		t.Errorf("%+v", d.Now)
	}
	if n := len(f.jobs(JobCorrect)); n != 0 {
		t.Errorf("%d corrections", n)
	}
}

// Checks before a window opens are one check when it does.
func TestOneCheckWhenTheWindowOpens(t *testing.T) {
	f := corrects(t, func(d *workspaces.Drift) { d.Windows = []string{"12:00-13:00"} })
	for range 3 {
		f.do(f.check())
	}
	jobs := f.jobs(JobDrift)
	if len(jobs) != 1 || !jobs[0].RunAt.Equal(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)) {
		t.Fatalf("jobs %+v", jobs)
	}
	// A correction that came too late for the window waits for the next one.
	f.pass(3 * time.Hour)
	x := &execution{r: f.Runner, repo: f.repo, in: runPayload{Workspace: workspaces.Workspace{Name: "ws0"}, Targets: []string{"x.a"}}}
	x.run = store.Run{ID: "late", Kind: store.KindCorrect, State: store.Held, Error: "closed", Workspace: "ws0", Repository: f.repo.String(), EndedAt: f.clock()}
	x.result.Gates = []Gate{{GateWindow, "closed"}}
	if err := x.after(t.Context()); err != nil {
		t.Fatal(err)
	}
	jobs = f.jobs(JobDrift)
	var in runPayload
	if len(jobs) != 2 || json.Unmarshal(jobs[1].Payload, &in) != nil || len(in.Targets) != 0 || jobs[1].RunAt.Day() != 3 {
		t.Errorf("jobs %+v", jobs)
	}
}

// A workspace is contested once a check finds what was corrected flap_limit
// times, and people hear of it then.
func TestContested(t *testing.T) {
	f := corrects(t, func(*workspaces.Drift) {})
	n := &fakeNotifier{}
	f.Notify = []Notify{{Name: "n", Notifier: n, Events: []string{"contested"}}}
	correct := func(id int, at time.Time) {
		run := store.Run{ID: fmt.Sprint("c", id), State: store.Applied, EndedAt: at}
		_, err := f.changeDrift(t.Context(), f.repo, "ws0", func(rec *DriftRecord) {
			for range 2 { // each of them counts once
				rec.corrected(run, Result{Shim: "dir", Corrects: []string{"x.a size"}})
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	correct(1, f.clock())
	correct(2, f.clock())
	job := f.check()
	if err := f.handlers[JobDrift](t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if d := f.driftRecord("ws0"); !d.Contested.IsZero() || len(d.Corrections) != 2 || len(f.jobs(JobCorrect)) != 1 {
		t.Fatalf("after two: %+v", d)
	}
	// The third correction of what this check found; then its job comes again.
	f.pass(time.Minute)
	correct(3, f.clock())
	f.do(job)
	if d := f.driftRecord("ws0"); !d.Contested.IsZero() || len(d.Now.Blocked) > 0 {
		t.Fatalf("contested before anything changed it back: %+v", d)
	}
	f.done(f.claim(JobCorrect)) // that was the third
	f.do(f.check())
	if d := f.driftRecord("ws0"); d.Contested.IsZero() {
		t.Fatal("not contested after three")
	}
	f.pass(f.NotifyDelay)
	f.work(JobNotify)
	if len(n.messages) != 1 {
		t.Errorf("told %+v", n.messages)
	}
}

// A correction whose plan failed is told once, and its late news are none.
func TestAfterCorrectAgain(t *testing.T) {
	f := corrects(t, func(*workspaces.Drift) {})
	f.do(f.check())
	x := &execution{r: f.Runner, repo: f.repo, in: runPayload{Workspace: workspaces.Workspace{Name: "ws0"}}}
	x.run = store.Run{ID: "c1", Kind: store.KindCorrect, State: store.Failed, Error: "Error: no", Workspace: "ws0", Repository: f.repo.String(), EndedAt: f.clock()}
	n := &fakeNotifier{}
	f.Notify = []Notify{{Name: "n", Notifier: n, Events: []string{"failed"}}}
	for range 3 {
		if err := x.after(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.pass(f.NotifyDelay)
		f.work(JobNotify)
	}
	if len(n.messages) != 1 {
		t.Errorf("told %d times", len(n.messages))
	}
	err := f.changeWorkspace(t.Context(), f.repo, workspaces.Workspace{Name: "ws0"}, func(rec *WorkspaceRecord) {
		rec.State, rec.Error, rec.CheckedAt = InSync, "", f.clock()
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.after(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rec := f.workspaceRecord("ws0"); rec.State != InSync || rec.Error != "" {
		t.Errorf("old news: %+v", rec)
	}
}

// A check whose job comes again after an apply began no drift.
func TestCheckAgainAfterApply(t *testing.T) {
	f := drifts(t, 1, nil)
	f.pass(time.Minute)
	x := &execution{r: f.Runner, repo: f.repo, in: runPayload{Workspace: workspaces.Workspace{Name: "ws0"}}}
	x.run = store.Run{ID: "1", Kind: store.KindDrift, State: store.Planned, Workspace: "ws0", Repository: f.repo.String(), Inputs: "in", EndedAt: f.clock()}
	report, _ := changedInCloud(nil)
	x.result.Drift, x.result.DriftDigest = &report, "d"
	if _, _, err := f.knownAfterCheck(t.Context(), x, report); err != nil { // and then it died
		t.Fatal(err)
	}
	err := f.changeWorkspace(t.Context(), f.repo, workspaces.Workspace{Name: "ws0"}, func(rec *WorkspaceRecord) {
		rec.State, rec.AppliedAt = InSync, f.clock().Add(time.Minute)
	})
	if err != nil {
		t.Fatal(err)
	}
	f.pass(2 * time.Minute)
	if err := x.after(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := f.driftRecord("ws0"); d.Now != nil || f.workspaceRecord("ws0").State != InSync {
		t.Errorf("%+v", d.Now)
	}
}

// What is kept of drift that is over stays small.
func TestPastIsShort(t *testing.T) {
	report := plan.DriftReport{Class: plan.CloudChange}
	for i := range 500 {
		d := plan.DriftedResource{Address: fmt.Sprintf("module.of_some_length.x.resource_%d", i), Change: "changed", Type: "x", Action: plan.Update}
		for a := range 200 {
			d.Attributes = append(d.Attributes, fmt.Sprintf("some.attribute[%d]", a))
		}
		report.Resources = append(report.Resources, d)
	}
	var d DriftRecord
	at := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	for i := range 100 {
		at = at.Add(25 * time.Hour)
		d.observe(store.Run{ID: fmt.Sprint(i), EndedAt: at}, Result{DriftDigest: fmt.Sprint(i)}, report, at)
		d.corrected(store.Run{ID: fmt.Sprint("c", i), State: store.Applied, EndedAt: at.Add(time.Minute)}, Result{Shim: "x", Corrects: attributesOf(report)})
		d.observe(store.Run{ID: fmt.Sprint("s", i), EndedAt: at.Add(time.Hour)}, Result{}, plan.DriftReport{}, at)
	}
	if data, err := json.Marshal(d); err != nil || len(data) > 2<<20 || len(d.Past) != maxPast || d.Past[0].More != 480 {
		t.Errorf("%d bytes, %d past, %d more, %v", len(data), len(d.Past), d.Past[0].More, err)
	}
}

// Who did it is asked once for each drift, however often it is checked.
func TestAskedOnce(t *testing.T) {
	report, _ := changedInCloud(nil)
	f := drifts(t, 1, func(*execution) (plan.DriftReport, error) { return report, nil })
	silent := &fakeAttributor{from: 1 << 20}
	f.Attributors = []watch.Attributor{silent}
	for range 20 {
		f.do(f.check())
		f.work(JobAttribute)
		f.pass(10 * time.Minute)
	}
	if len(silent.asked) != 1+len(attributeAgain) {
		t.Errorf("asked %d times", len(silent.asked))
	}
	report.Resources = slices.Clone(report.Resources)
	report.Resources[0].Address = "x.b"
	f.do(f.check())
	f.work(JobAttribute)
	if len(silent.asked) != 2+len(attributeAgain) {
		t.Error("another drift was not asked about")
	}
}

// What comes while a check is being queued is not lost, and a check that waits
// for its time is made now.
func TestCheckWantedNow(t *testing.T) {
	f := drifts(t, 1, changedInCloud)
	var known repositoryRecord
	if _, err := f.load(t.Context(), "repository/"+f.repo.String(), &known); err != nil {
		t.Fatal(err)
	}
	later := f.clock().Add(10 * time.Minute)
	if _, err := f.startDrift(t.Context(), Repository{Repository: f.repo}, known.Workspaces[0], "c0ffee", "slot", later); err != nil {
		t.Fatal(err)
	}
	ask := func() {
		if err := f.CheckSoon(t.Context(), f.repo, "ws0"); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	f.pass(time.Minute)
	job := f.claim(JobEvent)
	f.do(job)
	if jobs := f.jobs(JobDrift); len(jobs) != 1 || jobs[0].RunAt.After(f.clock()) {
		t.Fatalf("the check that waited: %+v", jobs)
	}
	f.work(JobDrift)
	for range 2 { // the second comes while the first is carried out
		ask()
		f.pass(time.Minute)
		job = f.claim(JobEvent)
		if err := f.handlers[JobEvent](t.Context(), job); err != nil {
			t.Fatal(err)
		}
		f.work(JobDrift)
		ask()
		f.done(job)
		f.pass(time.Minute)
		f.work(JobEvent, JobDrift)
	}
	if n := len(f.stored()); n != 5 {
		t.Errorf("%d checks instead of 5", n)
	}
}

// A clock that was wrong for a moment does not end all checks, and a workspace
// that is not checked any more is not overdue.
func TestScheduleAfterAWrongClock(t *testing.T) {
	f := drifts(t, 1, func(*execution) (plan.DriftReport, error) { return plan.DriftReport{}, nil })
	look := func() {
		if err := f.ScheduleDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.work(JobDrift)
	}
	f.pass(365 * 24 * time.Hour)
	look()
	f.pass(time.Hour + 6*time.Minute)
	look() // that one waits a moment
	f.pass(-365 * 24 * time.Hour)
	for range 3 {
		f.pass(time.Hour)
		look()
	}
	if rec := f.workspaceRecord("ws0"); rec.CheckedAt.After(f.clock()) || f.clock().Sub(rec.CheckedAt) > 2*time.Hour || rec.State != InSync {
		t.Errorf("%+v", rec)
	}
	f.engine = func(context.Context, *execution) (verdict, error) { return verdict{store.Failed, "no"}, nil }
	f.pass(24 * time.Hour)
	look()
	if rec := f.workspaceRecord("ws0"); !rec.Overdue {
		t.Fatalf("%+v", rec)
	}
	f.policy(func(d *workspaces.Drift) { d.Schedule = "" })
	look()
	if rec := f.workspaceRecord("ws0"); rec.Overdue || !rec.RetryAt.IsZero() {
		t.Errorf("%+v", rec)
	}
}

// What a clock that was wrong has noted does not make all later checks old news.
func TestCheckAfterAWrongClock(t *testing.T) {
	f := drifts(t, 1, changedInCloud)
	wrong := f.clock().Add(365 * 24 * time.Hour)
	err := f.changeWorkspace(t.Context(), f.repo, workspaces.Workspace{Name: "ws0"}, func(rec *WorkspaceRecord) {
		rec.CheckedAt, rec.AppliedAt, rec.SyncedAt = wrong, wrong, wrong
	})
	if err == nil {
		_, err = f.changeDrift(t.Context(), f.repo, "ws0", func(rec *DriftRecord) { rec.Seen = wrong })
	}
	if err != nil {
		t.Fatal(err)
	}
	f.do(f.check())
	if d := f.driftRecord("ws0"); d.Now == nil || f.workspaceRecord("ws0").State != Drifted || d.Seen.After(f.clock()) {
		t.Errorf("%+v, %+v", d, f.workspaceRecord("ws0"))
	}
}

// fakeTickets is a host's issues in memory.
type fakeTickets struct {
	*fakeHost
	all      []vcs.Ticket
	comments []vcs.Comment
	// before is called before each ticket is made.
	before func()
	// lost is a call whose answer is lost.
	lost string
}

func (h *fakeTickets) answer(call string) error {
	if h.lost == call {
		h.lost = ""
		return errDown
	}
	return nil
}

func (h *fakeTickets) Ticket(_ context.Context, _ vcs.Repository, n int) (vcs.Ticket, error) {
	if n > len(h.all) || h.all[n-1].Number == 0 {
		return vcs.Ticket{}, vcs.ErrNotFound
	}
	return h.all[n-1], nil
}

func (h *fakeTickets) FindTickets(context.Context, vcs.Repository, string) ([]vcs.Ticket, error) {
	return h.all, nil
}

func (h *fakeTickets) CreateTicket(_ context.Context, _ vcs.Repository, t vcs.NewTicket) (vcs.Ticket, error) {
	if h.before != nil {
		h.before()
	}
	made := vcs.Ticket{Number: len(h.all) + 1, Title: t.Title, Body: t.Body, Open: true}
	h.all = append(h.all, made)
	return made, h.answer("create")
}

func (h *fakeTickets) EditTicket(_ context.Context, _ vcs.Repository, n int, e vcs.TicketEdit) error {
	if n > len(h.all) || h.all[n-1].Number == 0 {
		return vcs.ErrNotFound
	}
	h.all[n-1].Body, h.all[n-1].Open = e.Body, e.Open
	return h.answer("edit")
}

func (h *fakeTickets) CommentTicket(_ context.Context, _ vcs.Repository, n int, body string) error {
	h.comments = append(h.comments, vcs.Comment{ID: int64(len(h.comments) + 1), Number: n, Author: "holdfast", Body: body})
	return nil
}

func (h *fakeTickets) TicketComments(_ context.Context, _ vcs.Repository, _ int, since time.Time) ([]vcs.Comment, error) {
	return slices.DeleteFunc(slices.Clone(h.comments), func(c vcs.Comment) bool { return c.CreatedAt.Before(since) }), nil
}

func (h *fakeTickets) MaxTicket() int { return 60_000 }

func (f *fixture) withTickets() *fakeTickets {
	fake := &fakeTickets{fakeHost: f.host}
	h := f.hosts[f.repo.Host]
	h.tickets = fake
	f.hosts[f.repo.Host] = h
	f.mayFail = true
	return fake
}

// A ticket that Holdfast closed is not taken for one that a person closed, also
// where the host's answer was lost and the drift is back by then; one that a
// person closed is.
func TestWhoClosedTheTicket(t *testing.T) {
	there := true
	f := drifts(t, 1, func(*execution) (plan.DriftReport, error) {
		if there {
			return changedInCloud(nil)
		}
		return plan.DriftReport{}, nil
	})
	tickets := f.withTickets()
	tickets.lost = "create"
	f.do(f.check())
	f.work(JobTicket)
	f.pass(time.Minute)
	f.work(JobTicket)
	if len(tickets.all) != 1 || !tickets.all[0].Open || len(tickets.comments) != 0 {
		t.Fatalf("tickets %+v", tickets.all)
	}
	there = false
	tickets.lost = "edit"
	f.do(f.check())
	f.work(JobTicket)
	if tickets.all[0].Open {
		t.Fatal("the ticket is open")
	}
	there = true
	f.do(f.check())
	f.pass(time.Minute)
	f.work(JobTicket)
	if d := f.driftRecord("ws0"); d.Now.quiet() || !tickets.all[0].Open || len(tickets.all) != 1 {
		t.Fatalf("the drift that came back is acknowledged: %+v, tickets %+v", d.Now, tickets.all)
	}
	if len(tickets.comments) != 1 || !strings.Contains(tickets.comments[0].Body, "drifted again") {
		t.Errorf("comments %+v", tickets.comments)
	}
	tickets.all[0].Open = false
	f.do(f.check())
	f.work(JobTicket)
	if d := f.driftRecord("ws0"); !d.Now.quiet() || tickets.all[0].Open {
		t.Errorf("closed by hand: %+v", d.Now)
	}
}

// Of two attempts that open a ticket at once one stays, and a ticket that the
// host lists and does not have is given up.
func TestOneTicket(t *testing.T) {
	f := drifts(t, 1, changedInCloud)
	tickets := f.withTickets()
	tickets.before = func() { // the other one, of which nobody knew
		tickets.before = nil
		job := queue.Job{Payload: f.jobs(JobTicket)[0].Payload}
		if err := f.handleTicket(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	f.do(f.check())
	f.work(JobTicket)
	d := f.driftRecord("ws0")
	if len(tickets.all) != 2 || d.Ticket.Number != 1 || !tickets.all[0].Open || tickets.all[1].Open || strings.HasPrefix(tickets.all[1].Body, vcs.TicketMarker) {
		t.Fatalf("number %d of %+v", d.Ticket.Number, tickets.all)
	}
	tickets.all[0].Number = 0 // deleted, and still listed
	f.do(f.check())
	f.work(JobTicket)
	if d := f.driftRecord("ws0"); d.Ticket.Number != 0 {
		t.Errorf("ticket %+v", d.Ticket)
	}
}

// A word on drift is for the drift that its writer saw, and one that is too
// long is cut.
func TestAcknowledgeWhatWasSeen(t *testing.T) {
	f := drifts(t, 1, changedInCloud)
	f.do(f.check())
	say := func(at time.Time) string {
		answer, err := f.aboutDrift(t.Context(), f.repo, command{verb: verbAcknowledge, who: "ada", why: strings.Repeat("because\n", 500), match: []string{"ws0"}, at: at, comment: 7})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	if got := say(f.clock().Add(-time.Hour)); !strings.Contains(got, "another one") || f.driftRecord("ws0").Now.quiet() {
		t.Errorf("an old comment: %s", got)
	}
	say(f.clock())
	now := f.driftRecord("ws0").Now
	if !now.quiet() || len(now.Acknowledged.Why) > maxWhy || strings.Contains(now.Acknowledged.Why, "\n") {
		t.Errorf("%+v", now.Acknowledged)
	}
	lines, err := f.Store.Audit.List(t.Context(), "", 10)
	if err != nil || len(lines) != 1 {
		t.Errorf("%d lines in the audit trail, %v", len(lines), err)
	}
	body := markdown.RenderTicket(ticketOf(*now, f.driftRecord("ws0"), WorkspaceRecord{}, f.clock()), 60_000)
	if !strings.Contains(body, "What drifted") {
		t.Errorf("the ticket:\n%s", body)
	}
}

// Comments on a ticket that was closed lately are read, old ones are not
// carried out, and drift of a configuration without workspaces ends.
func TestMissedTickets(t *testing.T) {
	there := true
	f := drifts(t, 1, func(*execution) (plan.DriftReport, error) {
		if there {
			return changedInCloud(nil)
		}
		return plan.DriftReport{}, nil
	})
	tickets := f.withTickets()
	look := func() {
		if err := f.missedTickets(t.Context(), f.hosts[f.repo.Host], f.repo); err != nil {
			t.Fatal(err)
		}
	}
	comment := func() {
		tickets.comments = append(tickets.comments, vcs.Comment{ID: int64(1000 + len(tickets.comments)), Number: 1, Author: "ada", Body: "holdfast unignore x.a", CreatedAt: f.clock()})
	}
	f.do(f.check())
	f.work(JobTicket)
	there = false
	f.do(f.check())
	f.work(JobTicket)
	comment()
	look()
	if n := len(f.jobs(JobEvent)); n != 1 {
		t.Errorf("%d comments found on the closed ticket", n)
	}
	f.work(JobEvent)
	comment()
	f.pass(30 * 24 * time.Hour)
	there = true
	f.do(f.check())
	look()
	if n := len(f.jobs(JobEvent)); n != 0 {
		t.Errorf("a comment of last month is carried out")
	}
	err := change(t.Context(), f.Runner, "repository/"+f.repo.String(), func(rec *repositoryRecord) { rec.Workspaces = nil })
	if err != nil {
		t.Fatal(err)
	}
	look()
	f.work(JobTicket)
	if d := f.driftRecord("ws0"); d.Now != nil || tickets.all[0].Open {
		t.Errorf("the drift of a workspace that is gone: %+v", d.Now)
	}
}

// proposals is a host and a Git on which proposals can be made.
type proposals struct {
	*fakeHost
	*fakeGit
	branch string
	lost   string // a call whose answer is lost
}

func (p *proposals) Commit(_ context.Context, _ vcs.Repository, _ vcs.Remote, c vcs.Commit) (string, error) {
	p.branch = c.Branch
	return "sha", nil
}

func (p *proposals) DeleteBranch(_ context.Context, _ vcs.Repository, _ vcs.Remote, branch string) error {
	p.branch = strings.TrimPrefix(p.branch, branch)
	return nil
}

func (p *proposals) OpenPull(_ context.Context, _ vcs.Repository, n vcs.NewPull) (vcs.PullRequest, error) {
	p.fakeHost.mu.Lock()
	defer p.fakeHost.mu.Unlock()
	for _, pr := range p.pulls {
		if pr.State == vcs.Open {
			return pr, nil
		}
	}
	pr := vcs.PullRequest{Number: len(p.pulls) + 1, State: vcs.Open, HeadRef: n.Branch, URL: "https://git.test/1"}
	p.pulls[pr.Number] = pr
	return pr, nil
}

func (p *proposals) EditPull(_ context.Context, _ vcs.Repository, number int, e vcs.PullEdit) error {
	p.fakeHost.mu.Lock()
	defer p.fakeHost.mu.Unlock()
	if pr := p.pulls[number]; e.Close {
		pr.State = vcs.Closed
		p.pulls[number] = pr
		if p.lost == "close" {
			p.lost = ""
			return errDown
		}
	}
	return nil
}

// proposes makes a fixture whose drift, by digest, is proposed.
func proposes(t *testing.T) (*fixture, *proposals, *string) {
	digest := "one"
	f := corrects(t, func(d *workspaces.Drift) { d.Correct = "propose" })
	p := &proposals{fakeHost: f.host, fakeGit: f.git}
	f.Git = p
	h := f.hosts[f.repo.Host]
	h.opener, h.editor = p, p
	f.hosts[f.repo.Host] = h
	f.mayFail = true
	f.engine = func(ctx context.Context, x *execution) (verdict, error) {
		if x.run.Kind == store.KindDrift {
			if digest == "" {
				x.result.Drift = &plan.DriftReport{}
				return verdict{state: store.NoChanges}, nil
			}
			report, _ := changedInCloud(nil)
			x.result.Drift, x.result.DriftDigest = &report, digest
			return verdict{state: store.Planned}, nil
		}
		if v, err := x.notNow(ctx); v != nil || err != nil {
			return deref(v), err
		}
		data, err := json.Marshal(proposalArtifact{Head: "c0ffee", Files: map[string][]byte{"main.tf": []byte(digest)}, Digest: x.result.DriftDigest})
		if err != nil {
			return verdict{}, err
		}
		return verdict{state: store.Planned}, f.Store.Artifacts.Put(ctx, f.clock(), proposalKey(x.run.ID), data)
	}
	return f, p, &digest
}

func (f *fixture) states() (out []vcs.PullState) {
	for n := range len(f.host.pulls) {
		out = append(out, f.host.pulls[n+1].State)
	}
	return out
}

// A person's no to a proposal stands: for a job that comes again, for the next
// check, and for the same drift that went and came back.
func TestClosedProposal(t *testing.T) {
	f, _, digest := proposes(t)
	f.do(f.check())
	f.work(JobCorrect)
	job := f.claim(JobPropose)
	if err := f.handlers[JobPropose](t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if p := f.driftRecord("ws0").Proposal; !p.Open || p.Number != 1 {
		t.Fatalf("%+v", p)
	}
	f.host.set(vcs.PullRequest{Number: 1, State: vcs.Closed})
	err := change(t.Context(), f.Runner, pullName(f.repo, 1), func(rec *pullRecord) { rec.State = vcs.Closed })
	if err != nil {
		t.Fatal(err)
	}
	f.do(job)
	f.do(f.check())
	f.work(JobCorrect, JobPropose)
	d := f.driftRecord("ws0")
	if d.Proposal.Open || len(d.Now.Blocked) != 1 || !strings.Contains(d.Now.Blocked[0].Why, "#1") {
		t.Errorf("proposal %+v, blocked %+v", d.Proposal, d.Now.Blocked)
	}
	reopen := func(state vcs.PullState) {
		f.host.set(vcs.PullRequest{Number: 1, State: state})
		if err := change(t.Context(), f.Runner, pullName(f.repo, 1), func(rec *pullRecord) { rec.State = state }); err != nil {
			t.Fatal(err)
		}
		f.do(f.check())
	}
	if reopen(vcs.Open); !f.driftRecord("ws0").Proposal.Open {
		t.Error("reopened by hand, and not known to be open")
	}
	reopen(vcs.Closed)
	for _, now := range []string{"", "one"} {
		*digest = now
		f.do(f.check())
		f.work(JobCorrect, JobPropose)
	}
	if got := f.states(); !slices.Equal(got, []vcs.PullState{vcs.Closed}) {
		t.Errorf("pull requests %v", got)
	}
	*digest = "two"
	f.do(f.check())
	f.work(JobCorrect, JobPropose)
	if got := f.states(); !slices.Equal(got, []vcs.PullState{vcs.Closed, vcs.Open}) {
		t.Errorf("with another drift: pull requests %v", got)
	}
}

// What Holdfast closed itself is no person's no, also where the answer to that
// was lost, and its branch is removed.
func TestWithdrawnProposal(t *testing.T) {
	f, p, digest := proposes(t)
	f.do(f.check())
	f.work(JobCorrect, JobPropose)
	*digest, p.lost = "", "close"
	f.do(f.check())
	f.work(JobPropose)
	f.pass(time.Minute)
	f.work(JobPropose)
	if d := f.driftRecord("ws0"); d.Proposal.Digest != "" || p.branch != "" {
		t.Fatalf("%+v, branch %q", d.Proposal, p.branch)
	}
	*digest = "one"
	f.do(f.check())
	f.work(JobCorrect, JobPropose)
	if got := f.states(); !slices.Equal(got, []vcs.PullState{vcs.Closed, vcs.Open}) {
		t.Errorf("pull requests %v", got)
	}
}

// A proposal does not outlive its drift where none takes its place: nobody wants
// one any more, or the next one cannot be made.
func TestProposalOfAnotherDrift(t *testing.T) {
	for name, spoil := range map[string]func(*fixture){
		"off": func(f *fixture) { f.policy(func(d *workspaces.Drift) { d.Correct = "off" }) },
		"failing": func(f *fixture) {
			was := f.engine
			f.engine = func(ctx context.Context, x *execution) (verdict, error) {
				if x.run.Kind == store.KindCorrect {
					return verdict{store.Failed, "no"}, nil
				}
				return was(ctx, x)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, _, digest := proposes(t)
			f.do(f.check())
			f.work(JobCorrect, JobPropose)
			spoil(f)
			f.do(f.check())
			f.work(JobCorrect, JobPropose)
			if got := f.states(); !slices.Equal(got, []vcs.PullState{vcs.Open}) {
				t.Fatalf("the drift is still there: %v", got)
			}
			*digest = "two"
			f.do(f.check())
			f.work(JobCorrect, JobPropose)
			if got := f.states(); !slices.Equal(got, []vcs.PullState{vcs.Closed}) {
				t.Errorf("pull requests %v", got)
			}
		})
	}
}
