package storetest

import (
	"time"

	"holdfast/queue"
)

func (s *suite) keyWaiting() {
	id := s.add(queue.Job{Key: "k", RunAt: at(time.Hour), OverdueAt: at(2 * time.Hour), Priority: queue.PriorityReplan, Payload: []byte(`1`)})
	again := s.add(queue.Job{Key: "k", RunAt: at(2 * time.Hour), OverdueAt: at(90 * time.Minute), Priority: queue.PriorityDrift, Payload: []byte(`2`)})
	equal(s.T, "the existing job", again, id)
	jobs := s.all()
	equal(s.T, "RunAt, Priority and Payload", []any{jobs[0].RunAt, jobs[0].Priority, string(jobs[0].Payload)}, []any{at(time.Hour), queue.PriorityReplan, "1"})
	equal(s.T, "the earlier OverdueAt", jobs[0].OverdueAt, at(90*time.Minute))
	s.add(queue.Job{Key: "k", RunAt: start, Priority: queue.PriorityApply})
	jobs = s.all()
	equal(s.T, "the earlier RunAt and the higher Priority", []any{len(jobs), jobs[0].RunAt, jobs[0].Priority}, []any{1, start, queue.PriorityApply})
	s.claims("due at once", start, 10, id...)
}

func (s *suite) keyRunning() {
	id := s.add(queue.Job{Key: "k"})
	j := s.one(start)
	equal(s.T, "the running job", s.add(queue.Job{Key: "k"}), id)
	s.end(start, j, queue.Outcome{Done: true})
	equal(s.T, "left", len(s.all()), 0)
	if next := s.add(queue.Job{Key: "k"}); next[0] == id[0] {
		s.Fatal("a finished key gave the old job")
	}
}

func (s *suite) keyAgain() {
	id := s.add(queue.Job{Key: "k", Group: "g", Again: true, OverdueAt: at(time.Hour)})
	j := s.one(start)
	equal(s.T, "the running job", s.add(queue.Job{Key: "k", Again: true, Priority: queue.PriorityApply}), id)
	other := s.add(queue.Job{Group: "g", Priority: queue.PriorityApply})
	s.end(at(time.Minute), j, queue.Outcome{Done: true})
	jobs := s.all()
	equal(s.T, "behind what arrived before", ids(jobs), []string{other[0], id[0]})
	got := jobs[1]
	equal(s.T, "as new", []any{got.State, got.Attempt, got.RunAt, got.EnqueuedAt, got.OverdueAt, got.Priority},
		[]any{queue.StateWaiting, 0, at(time.Minute), at(time.Minute), at(time.Hour + time.Minute), queue.PriorityApply})
	done := s.claims("in order of arrival", at(time.Minute), 10, other[0])
	s.end(at(time.Minute), done[0], queue.Outcome{Done: true})
	j = s.one(at(time.Minute))
	equal(s.T, "first attempt", j.Attempt, 1)
	s.end(at(time.Minute), j, queue.Outcome{Done: true})
	equal(s.T, "once more, not for ever", len(s.all()), 0)

	s.add(queue.Job{Key: "dies"})
	j = s.one(start)
	s.add(queue.Job{Key: "dies", Again: true})
	s.end(start, j, queue.Outcome{Dead: true, Error: "broken"})
	j = s.one(start)
	equal(s.T, "a dead one runs again as well", []any{j.Attempt, j.LastError}, []any{1, "broken"})
}

func (s *suite) keyAgainRetried() {
	s.add(queue.Job{Key: "k"})
	j := s.one(start)
	s.add(queue.Job{Key: "k", Again: true})
	s.end(start, j, queue.Outcome{RunAt: start, Error: "next time"})
	j = s.one(start)
	equal(s.T, "the retry", j.Attempt, 2)
	s.end(start, j, queue.Outcome{Done: true})
	equal(s.T, "the retry began after Again was asked", len(s.all()), 0)
}

func (s *suite) keyDead() {
	id := s.add(queue.Job{Key: "k", Group: "g"})
	j := s.one(start)
	s.end(start, j, queue.Outcome{Dead: true, Error: "broken"})
	equal(s.T, "the dead job", s.add(queue.Job{Key: "k", RunAt: at(time.Minute), OverdueAt: at(time.Hour), Priority: queue.PriorityApply}), id)
	got := s.all()[0]
	equal(s.T, "back to waiting", []any{got.State, got.Attempt, got.RunAt, got.OverdueAt, got.Priority, got.LastError},
		[]any{queue.StateWaiting, 0, at(time.Minute), at(time.Hour), queue.PriorityApply, "broken"})
	s.claims("not yet", start, 10)
	s.claims("now", at(time.Minute), 10, id...)
}

func (s *suite) keyCanceled() {
	s.add(queue.Job{Key: "k"})
	j := s.one(start)
	must[queue.Job](s.T)(s.q.Control(s.Context(), start, j.ID, queue.ActionCancel))
	s.add(queue.Job{Key: "k"})
	s.end(start, j, queue.Outcome{Done: true})
	j = s.one(start)
	equal(s.T, "enqueued after it was cancelled: runs once more", []any{j.Attempt, j.Canceled}, []any{1, false})
}

func (s *suite) keyInOneCall() {
	id := s.add(queue.Job{Key: "k"}, queue.Job{}, queue.Job{Key: "k", Priority: queue.PriorityApply})
	equal(s.T, "one job for one key", []any{id[2], len(s.all()), s.all()[0].Priority}, []any{id[0], 2, queue.PriorityApply})
	s.add(queue.Job{}, queue.Job{}) // no key is no key of its own
	equal(s.T, "jobs", len(s.all()), 4)
}
