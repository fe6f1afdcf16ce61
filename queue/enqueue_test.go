package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)

// recorder is a driver that keeps what was enqueued.
type recorder struct {
	Driver
	jobs []Job
}

func (r *recorder) Enqueue(_ context.Context, _ time.Time, jobs []Job) ([]Job, error) {
	r.jobs = append(r.jobs, jobs...)
	return jobs, nil
}

func TestEnqueueCompletes(t *testing.T) {
	r := &recorder{}
	q := New(r, Config{Clock: func() time.Time { return now }, Patience: map[Priority]time.Duration{PriorityApply: time.Minute}})
	in := []Job{
		{Kind: "a", State: StateDead, Attempt: 7, Token: 8, ID: "mine", Canceled: true, LastError: "x"},
		{Kind: "b", Priority: PriorityDrift, RunAt: now.Add(time.Hour), Payload: []byte(`{}`), Group: "g", Key: "k", Again: true, Limit: "l"},
		{Kind: "c", Priority: PriorityReplan}, {Kind: "d", Priority: PriorityApply + 5}, {Kind: "e", Priority: 1},
	}
	if _, err := q.Enqueue(t.Context(), in...); err != nil {
		t.Fatal(err)
	}
	want := []Job{
		{Kind: "a", Priority: PriorityInteractive, RunAt: now, OverdueAt: now.Add(10 * time.Minute)},
		{Kind: "b", Priority: PriorityDrift, RunAt: now.Add(time.Hour), OverdueAt: now.Add(3 * time.Hour), Payload: []byte(`{}`), Group: "g", Key: "k", Again: true, Limit: "l"},
		{Kind: "c", Priority: PriorityReplan, RunAt: now, OverdueAt: now.Add(30 * time.Minute)},
		{Kind: "d", Priority: PriorityApply + 5, RunAt: now, OverdueAt: now.Add(time.Minute)},
		{Kind: "e", Priority: 1, RunAt: now, OverdueAt: now.Add(2 * time.Hour)},
	}
	last := ""
	for i, j := range r.jobs {
		if j.ID <= last || len(j.ID) != 26 {
			t.Errorf("ID %q after %q", j.ID, last)
		}
		last = j.ID
		want[i].ID, want[i].State, want[i].EnqueuedAt = j.ID, StateWaiting, now
	}
	if diff := cmp.Diff(want, r.jobs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if jobs, err := q.Enqueue(t.Context()); len(jobs) != 0 || err != nil {
		t.Errorf("nothing: %v, %v", jobs, err)
	}
}

func TestEnqueueRefuses(t *testing.T) {
	r := &recorder{}
	q := New(r, Config{Clock: func() time.Time { return now }})
	long := strings.Repeat("x", MaxName+1)
	for name, j := range map[string]Job{
		"no kind":        {},
		"long kind":      {Kind: long},
		"long group":     {Kind: "k", Group: long},
		"long key":       {Kind: "k", Key: long},
		"long limit":     {Kind: "k", Limit: long},
		"not UTF-8":      {Kind: "k", Group: "\xff"},
		"large payload":  {Kind: "k", Payload: []byte(`"` + strings.Repeat("x", MaxPayload) + `"`)},
		"broken payload": {Kind: "k", Payload: []byte(`{`)},
		"low priority":   {Kind: "k", Priority: -1},
		"high priority":  {Kind: "k", Priority: MaxPriority + 1},
		"far future":     {Kind: "k", RunAt: now.AddDate(20, 0, 0)},
	} {
		if _, err := q.Enqueue(t.Context(), Job{Kind: "good"}, j); err == nil {
			t.Errorf("%s: no error", name)
		} else if !strings.Contains(err.Error(), j.Kind) {
			t.Errorf("%s: the error does not name the kind: %v", name, err)
		}
	}
	if len(r.jobs) != 0 {
		t.Errorf("%d jobs were stored", len(r.jobs))
	}
}

func TestBackoff(t *testing.T) {
	for attempt, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 10: 512 * time.Second,
		11: 10 * time.Minute, 40: 10 * time.Minute, 1 << 40: 10 * time.Minute,
	} {
		if got := backoff(attempt, 0.5); got != want {
			t.Errorf("attempt %d: %s, want %s", attempt, got, want)
		}
		if low, high := backoff(attempt, 0), backoff(attempt, 1); low != want*3/4 || high != want*5/4 {
			t.Errorf("attempt %d: from %s to %s", attempt, low, high)
		}
	}
}

func TestDecide(t *testing.T) {
	broke := errors.New("broke")
	job := Job{Attempt: 2, LastError: "before"}
	for name, c := range map[string]struct {
		err, cause error
		most       int
		want       Outcome
		unrecorded bool
	}{
		"done":                    {want: Outcome{Done: true}},
		"done in spite of stop":   {cause: ErrShutdown, want: Outcome{Done: true}},
		"lost":                    {err: broke, cause: ErrLost, unrecorded: true},
		"lost though done":        {cause: ErrLost, unrecorded: true},
		"canceled":                {err: broke, cause: ErrCanceled, want: Outcome{Done: true}},
		"canceled and snoozed":    {err: Snooze(time.Hour), cause: ErrCanceled, want: Outcome{RunAt: now.Add(time.Hour), Uncounted: true}},
		"discarded":               {err: Discard(broke), want: Outcome{Dead: true, Error: "broke"}},
		"discarded while stopped": {err: Discard(broke), cause: ErrShutdown, want: Outcome{Dead: true, Error: "broke"}},
		"snoozed":                 {err: Snooze(time.Hour), want: Outcome{RunAt: now.Add(time.Hour), Uncounted: true}},
		"snoozed backwards":       {err: Snooze(-time.Hour), want: Outcome{RunAt: now, Uncounted: true}},
		"stopped":                 {err: broke, cause: ErrShutdown, want: Outcome{RunAt: now, Uncounted: true, Error: "before"}},
		"failed":                  {err: broke, want: Outcome{RunAt: now.Add(2 * time.Second), Error: "broke"}},
		"failed for the last":     {err: broke, most: 2, want: Outcome{Dead: true, Error: "broke"}},
		"no cause of ours":        {err: broke, cause: context.Canceled, want: Outcome{RunAt: now.Add(2 * time.Second), Error: "broke"}},
	} {
		t.Run(name, func(t *testing.T) {
			most := c.most
			if most == 0 {
				most = 3
			}
			o, record := decide(job, ending{err: c.err, cause: c.cause, now: now, most: most, random: 0.5})
			if o != c.want || record == c.unrecorded {
				t.Errorf("got %+v, %v", o, record)
			}
		})
	}
	if Discard(nil) != nil || !errors.Is(Discard(broke), broke) {
		t.Error("Discard")
	}
}

func TestCut(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("ü", 100), "\xff\xfe", strings.Repeat("\xff", 100)} {
		got := cut(s, 20)
		if len(got) > 20 || !utf8.ValidString(got) {
			t.Errorf("%q became %q", s, got)
		}
	}
	if got := cut("exactly 20 bytes, ok", 20); got != "exactly 20 bytes, ok" {
		t.Errorf("got %q", got)
	}
}
