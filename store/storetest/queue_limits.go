package storetest

import (
	"time"

	"holdfast/queue"
)

func (s *suite) perLimit() {
	id := s.add(queue.Job{Limit: "a"}, queue.Job{Limit: "a"}, queue.Job{Limit: "a"}, queue.Job{Limit: "b", Priority: queue.PriorityDrift}, queue.Job{Priority: queue.PriorityDrift})
	c := queue.Claim{Max: 10, PerLimit: 2}
	jobs := s.claimWith(start, c)
	equal(s.T, "two of a", ids(jobs), []string{id[0], id[1], id[3], id[4]})
	equal(s.T, "a is full", len(s.claimWith(start, c)), 0)
	s.end(start, jobs[0], queue.Outcome{RunAt: start})
	equal(s.T, "room for one", ids(s.claimWith(start, c)), []string{id[0]})
	equal(s.T, "without a cap", ids(s.claimWith(start, queue.Claim{Max: 10})), []string{id[2]})
}

func (s *suite) limits() {
	id := s.add(queue.Job{Limit: "a"}, queue.Job{Limit: "a"}, queue.Job{Limit: "drift"}, queue.Job{Limit: "drift"}, queue.Job{Limit: "drift"}, queue.Job{Limit: "free"}, queue.Job{Limit: "free"})
	c := queue.Claim{Max: 10, PerLimit: 1, Limits: map[string]int{"drift": 2, "free": 0}}
	jobs := s.claimWith(start, c)
	equal(s.T, "one of a, two checks, and all of the free ones", ids(jobs), []string{id[0], id[2], id[3], id[5], id[6]})
	s.end(start, jobs[1], queue.Outcome{Done: true})
	equal(s.T, "room for one check", ids(s.claimWith(start, c)), []string{id[4]})
}

func (s *suite) perLimitExpired() {
	id := s.add(queue.Job{Limit: "a", Priority: queue.PriorityDrift}, queue.Job{Limit: "a", Priority: queue.PriorityDrift})
	s.claim(start, 10)
	late := s.add(queue.Job{Limit: "a", Priority: queue.PriorityApply})
	now := at(lease)
	jobs := s.claimWith(now, queue.Claim{Max: 10, PerLimit: 1})
	equal(s.T, "expired jobs keep their place, and only theirs", ids(jobs), id)
	s.end(now, jobs[0], queue.Outcome{Done: true})
	equal(s.T, "still one running", len(s.claimWith(now, queue.Claim{Max: 10, PerLimit: 1})), 0)
	s.end(now, jobs[1], queue.Outcome{Done: true})
	equal(s.T, "room", ids(s.claimWith(now, queue.Claim{Max: 10, PerLimit: 1})), late)
}

func (s *suite) perLimitHead() {
	id := s.add(queue.Job{Limit: "a"}, queue.Job{Group: "g", Limit: "a", Priority: queue.PriorityApply},
		queue.Job{Group: "g", Limit: "b"}, queue.Job{Limit: "b", Priority: queue.PriorityDrift})
	c := queue.Claim{Max: 10, PerLimit: 1}
	jobs := s.claimWith(start, c)
	equal(s.T, "the first of each bucket", ids(jobs), []string{id[1], id[3]})
	s.end(start, jobs[1], queue.Outcome{Done: true})
	equal(s.T, "the group is busy", len(s.claimWith(start, c)), 0)
	s.end(start, jobs[0], queue.Outcome{Done: true})
	equal(s.T, "both", ids(s.claimWith(start, c)), []string{id[0], id[2]})
}

func (s *suite) overdueBehindItsCap() {
	id := s.add(
		queue.Job{Limit: "drift", Priority: queue.PriorityDrift},
		queue.Job{Group: "g", Limit: "drift", Priority: queue.PriorityDrift, OverdueAt: at(time.Minute)},
		queue.Job{Group: "g", Limit: "repo", Priority: queue.PriorityInteractive})
	c := queue.Claim{Max: 10, Limits: map[string]int{"drift": 1}}
	jobs := s.claimWith(start, c)
	equal(s.T, "a check, and what goes before the other in its group", ids(jobs), []string{id[2], id[0]})
	s.end(start, jobs[0], queue.Outcome{Done: true})
	next := s.add(queue.Job{Group: "g", Limit: "repo", Priority: queue.PriorityInteractive})
	equal(s.T, "the overdue check waits for room, and keeps nobody waiting", ids(s.claimWith(at(time.Hour), queue.Claim{Max: 10, Limits: map[string]int{"drift": 1}, Lease: lease})), append(next, id[0]))
}
