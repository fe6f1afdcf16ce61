package storetest

import (
	"time"

	"holdfast/queue"
)

// by claims with labels and compares what was claimed.
func (s *suite) by(what string, now time.Time, c queue.Claim, want ...string) []queue.Job {
	s.Helper()
	c.Max = 10
	jobs := s.claimWith(now, c)
	equal(s.T, what, ids(jobs), append([]string{}, want...))
	return jobs
}

func labels(l ...string) queue.Claim { return queue.Claim{Labels: l} }

func (s *suite) runsOn() {
	id := s.add(queue.Job{RunsOn: []string{"prod"}}, queue.Job{RunsOn: []string{"arm", "prod"}}, queue.Job{}, queue.Job{RunsOn: []string{"pro"}}, queue.Job{RunsOn: []string{"prod"}})
	s.by("a worker without labels", start, labels(), id[2])
	s.by("one label of two is not enough", start, labels("arm"))
	s.by("a dedicated one only what asks for its labels", start, queue.Claim{Labels: []string{"prod"}, Dedicated: true}, id[0], id[4])
	s.by("labels beyond those asked for, in any order", start, labels("x", "prod", "arm"), id[1])
	s.by("a label is no prefix", start, labels("prod", "pr", "pro"), id[3])
	s.add(queue.Job{})
	s.by("never what asks for none", start, queue.Claim{Labels: []string{"prod"}, Dedicated: true})
}

func (s *suite) runsOnOrder() {
	id := s.add(
		queue.Job{RunsOn: []string{"b"}, Priority: queue.PriorityReplan},
		queue.Job{RunsOn: []string{"a"}, Priority: queue.PriorityInteractive},
		queue.Job{Priority: queue.PriorityApply},
		queue.Job{RunsOn: []string{"b"}, Priority: queue.PriorityInteractive},
		queue.Job{Priority: queue.PriorityInteractive},
		queue.Job{RunsOn: []string{"c"}, Priority: queue.PriorityApply},
		queue.Job{RunsOn: []string{"a"}, Priority: queue.PriorityDrift, OverdueAt: at(20 * time.Minute)},
		queue.Job{Priority: queue.PriorityDrift, OverdueAt: at(10 * time.Minute)})
	s.by("one order over all that a worker serves", at(time.Hour), labels("a", "b"), id[7], id[6], id[2], id[1], id[3], id[4], id[0])
	s.by("which is not touched by what it does not", at(time.Hour), labels("c"), id[5])
}

func (s *suite) runsOnGroup() {
	id := s.add(
		queue.Job{Group: "g", RunsOn: []string{"gone"}, Priority: queue.PriorityApply},
		queue.Job{Group: "g"},
		queue.Job{Group: "g", RunsOn: []string{"a"}},
		queue.Job{Group: "h", RunsOn: []string{"a"}},
		queue.Job{Priority: queue.PriorityDrift})
	s.by("a group waits for whom its head is for, and nothing else does", start, labels("a"), id[3], id[4])
	j := s.by("its worker comes", start, labels("gone"), id[0])
	s.by("one of a group at once, also over pools", start, labels("a"))
	s.end(start, j[0], queue.Outcome{Done: true})
	j = s.by("the next is for all", start, labels("a"), id[1])
	s.end(start, j[0], queue.Outcome{Done: true})
	s.by("the last is not", start, labels())
	s.by("the last", start, labels("a"), id[2])
}

func (s *suite) runsOnLimit() {
	id := s.add(
		queue.Job{Limit: "repo", RunsOn: []string{"a"}, Priority: queue.PriorityApply},
		queue.Job{Limit: "repo", RunsOn: []string{"a"}, Priority: queue.PriorityApply},
		queue.Job{Limit: "repo", RunsOn: []string{"b"}},
		queue.Job{Limit: "repo", RunsOn: []string{"b"}},
		queue.Job{Limit: "repo", Priority: queue.PriorityDrift})
	capped := func(labels ...string) queue.Claim { return queue.Claim{PerLimit: 2, Labels: labels} }
	jobs := s.by("the bucket's head is for others, and holds up nobody", start, capped("b"), id[2], id[3])
	s.by("the cap counts the jobs of all pools", start, capped("a", "b"))
	s.end(start, jobs[0], queue.Outcome{Done: true})
	jobs = s.by("the first of all pools gets the room", start, capped("a", "b"), id[0])
	s.end(start, jobs[0], queue.Outcome{Done: true})
	jobs = s.by("then the next, for whom it is", start, capped(), id[4])
	s.end(start, jobs[0], queue.Outcome{RunAt: start})
	s.by("and again", start, capped("b", "a"), id[1])
	s.by("full", start, capped("b", "a"))
}

func (s *suite) runsOnExpired() {
	id := s.add(queue.Job{Group: "g", RunsOn: []string{"a"}}, queue.Job{Limit: "l", RunsOn: []string{"b"}})
	s.by("all", start, labels("a", "b"), id...)
	next := s.add(queue.Job{Group: "g", Priority: queue.PriorityApply}, queue.Job{Limit: "l"})
	now := at(lease)
	s.by("their workers died, and these are others", now, queue.Claim{PerLimit: 1, Labels: []string{"c"}})
	jobs := s.by("one who may have it", now, queue.Claim{PerLimit: 1, Labels: []string{"a"}}, id[0])
	equal(s.T, "the second attempt", jobs[0].Attempt, 2)
	s.end(now, jobs[0], queue.Outcome{Done: true})
	s.by("the group goes on, the bucket is full", now, queue.Claim{PerLimit: 1}, next[0])
	jobs = s.by("the other", now, queue.Claim{PerLimit: 1, Labels: []string{"b"}}, id[1])
	s.end(now, jobs[0], queue.Outcome{Done: true})
	s.by("there is room", now, queue.Claim{PerLimit: 1}, next[1])
}

func (s *suite) runsOnKey() {
	id := s.add(queue.Job{Key: "k", Limit: "l", RunsOn: []string{"a"}}, queue.Job{Key: "later", RunsOn: []string{"a"}, RunAt: at(time.Minute)})
	s.add(queue.Job{Key: "k", Limit: "l", RunsOn: []string{"b"}}, queue.Job{Key: "later", RunAt: at(time.Minute)})
	equal(s.T, "the newer", [][]string{s.all()[0].RunsOn, s.all()[1].RunsOn}, [][]string{{"b"}, nil})
	s.by("for others now", start, labels("a"))
	j := s.by("for these", start, labels("b"), id[0])
	s.add(queue.Job{Key: "k", Limit: "l", RunsOn: []string{"c"}})
	equal(s.T, "an attempt that runs keeps its own", s.all()[0].RunsOn, []string{"b"})
	s.end(start, j[0], queue.Outcome{Dead: true})
	s.add(queue.Job{Key: "k", Limit: "l", RunsOn: []string{"c"}})
	s.by("a dead one has the newer", start, labels("b"))
	s.by("to be waited for by these", start, labels("c"), id[0])
	s.by("its time has come", at(time.Minute), labels(), id[1])
}

func (s *suite) runsOnAgain() {
	id := s.add(queue.Job{Key: "k", Group: "g", Limit: "l", RunsOn: []string{"a"}})
	j := s.by("first", start, labels("a"), id[0])
	s.add(queue.Job{Key: "k", Again: true, RunsOn: []string{"b"}})
	s.end(start, j[0], queue.Outcome{Done: true})
	s.by("once more, but not for these", start, labels("a"))
	j = s.by("for the newer", start, labels("b"), id[0])
	equal(s.T, "what it runs on", j[0].RunsOn, []string{"b"})
	s.add(queue.Job{Key: "k", Again: true})
	s.end(start, j[0], queue.Outcome{RunAt: start})
	s.by("a retry is that once more", start, labels(), id[0])
	s.add(queue.Job{Key: "k", Again: true, RunsOn: []string{"c"}})
	s.by("so is the next attempt after its worker died", at(lease), labels())
	s.by("for the newer again", at(lease), labels("c"), id[0])
}

// runsOnMoved has heads of buckets and groups change their pool: what they left
// behind must be claimable, and they must not go before what was there first.
func (s *suite) runsOnMoved() {
	id := s.add(
		queue.Job{Key: "k", Limit: "l", RunsOn: []string{"a"}}, queue.Job{Limit: "l", RunsOn: []string{"a"}},
		queue.Job{Key: "g", Group: "g", Limit: "l", RunsOn: []string{"a"}}, queue.Job{Limit: "l", RunsOn: []string{"b"}, Priority: queue.PriorityApply})
	s.add(queue.Job{Key: "k", RunsOn: []string{"b"}}, queue.Job{Key: "g", RunsOn: []string{"b"}})
	c := func(labels ...string) queue.Claim { return queue.Claim{PerLimit: 4, Labels: labels} }
	s.by("left behind", start, c("a"), id[1])
	s.by("moved", start, c("b"), id[3], id[0], id[2])
}

func (s *suite) counts() {
	check := func(what string, want ...queue.Count) {
		s.Helper()
		equal(s.T, what, counted(s.T, must[[]queue.Count](s.T)(s.count(s.Context()))), counted(s.T, want))
	}
	check("none")
	id := s.add(queue.Job{Kind: "x", Key: "k", Again: true}, queue.Job{Kind: "x", RunAt: at(time.Hour)}, queue.Job{Kind: "y"})
	waiting, running, dead := queue.StateWaiting, queue.StateRunning, queue.StateDead
	check("enqueued", queue.Count{Kind: "x", State: waiting, N: 2}, queue.Count{Kind: "y", State: waiting, N: 1})
	jobs := s.claims("claimed", start, 10, id[0], id[2])
	check("claimed", queue.Count{Kind: "x", State: waiting, N: 1}, queue.Count{Kind: "x", State: running, N: 1}, queue.Count{Kind: "y", State: running, N: 1})
	jobs = append(jobs, s.claims("claimed again", at(lease), 1, id[0])...)
	s.end(at(lease), jobs[1], queue.Outcome{Dead: true})
	s.add(queue.Job{Kind: "x", Key: "k", Again: true})
	check("one dead", queue.Count{Kind: "x", State: waiting, N: 1}, queue.Count{Kind: "x", State: running, N: 1}, queue.Count{Kind: "y", State: dead, N: 1})
	s.end(at(lease), jobs[2], queue.Outcome{Done: true})
	must[queue.Job](s.T)(s.q.Control(s.Context(), at(lease), id[2], queue.ActionRetry))
	check("all wait", queue.Count{Kind: "x", State: waiting, N: 2}, queue.Count{Kind: "y", State: waiting, N: 1})
	for _, i := range id {
		must[queue.Job](s.T)(s.q.Control(s.Context(), at(lease), i, queue.ActionCancel))
	}
	check("none left")
	if _, err := s.q.Enqueue(s.Context(), start, []queue.Job{s.job(queue.Job{ID: "new"}), s.job(queue.Job{ID: "twice"}), s.job(queue.Job{ID: "twice"})}); err == nil {
		s.Fatal("an ID was stored twice")
	}
	check("none of what was taken back")
}
