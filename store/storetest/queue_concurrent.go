package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/queue"
)

// referee sees every claim and finish of many workers and says what went wrong.
type referee struct {
	mu     sync.Mutex
	groups map[string]string // the running job
	limits map[string]int
	ran    map[string]int
	wrong  error
	tokens map[int64]bool
	most   int
}

func newReferee(most int) *referee {
	return &referee{groups: map[string]string{}, limits: map[string]int{}, ran: map[string]int{}, tokens: map[int64]bool{}, most: most}
}

func (r *referee) began(j queue.Job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if was := r.groups[j.Group]; was != "" {
		r.wrong = errors.Join(r.wrong, fmt.Errorf("%s runs beside %s of its group %s", j.ID, was, j.Group))
	}
	if r.tokens[j.Token] {
		r.wrong = errors.Join(r.wrong, fmt.Errorf("token %d was given twice", j.Token))
	}
	r.tokens[j.Token] = true
	r.groups[j.Group] = j.ID
	r.ran[j.ID]++
	if r.limits[j.Limit]++; r.limits[j.Limit] > r.most {
		r.wrong = errors.Join(r.wrong, fmt.Errorf("%d of bucket %s run", r.limits[j.Limit], j.Limit))
	}
}

// ends is called before Finish: from then on another may begin.
func (r *referee) ends(j queue.Job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups[j.Group] = ""
	r.limits[j.Limit]--
}

// concurrent has eight workers on two handles work off jobs that are still
// being enqueued.
func (s *suite) concurrent() {
	const n, groups, perLimit = 240, 24, 3
	r := newReferee(perLimit)
	var wg sync.WaitGroup
	for w := range 8 {
		q := s.q
		if w%2 == 1 {
			q = s.other
		}
		wg.Go(func() {
			for i := range n / 8 {
				id := w*1000 + i
				j := queue.Job{ID: fmt.Sprintf("c-%d", id), Kind: "c", Group: fmt.Sprint(id % groups), Limit: fmt.Sprint(id % groups % 4),
					Priority: queue.PriorityDrift, RunAt: start, EnqueuedAt: start, OverdueAt: at(time.Hour)}
				if _, err := q.Enqueue(s.Context(), start, []queue.Job{j}); err != nil {
					s.Errorf("enqueue: %v", err)
					return
				}
				s.workOff(q, r, perLimit, 2)
			}
			for {
				left, err := q.List(s.Context(), queue.Filter{Limit: 1})
				if err != nil || len(left) == 0 {
					if err != nil {
						s.Errorf("list: %v", err)
					}
					return
				}
				s.workOff(q, r, perLimit, 3)
			}
		})
	}
	wg.Wait()
	if r.wrong != nil {
		s.Fatal(r.wrong)
	}
	for id, times := range r.ran {
		if times != 1 {
			s.Errorf("%s ran %d times", id, times)
		}
	}
	equal(s.T, "jobs that ran", len(r.ran), n)
}

// workOff claims up to most jobs and finishes them.
func (s *suite) workOff(q queue.Driver, r *referee, perLimit, most int) {
	jobs, err := q.Claim(s.Context(), at(time.Second), queue.Claim{Worker: "w", Lease: time.Hour, Max: most, PerLimit: perLimit})
	if err != nil {
		s.Errorf("claim: %v", err)
		return
	}
	for _, j := range jobs {
		r.began(j)
	}
	for _, j := range jobs {
		r.ends(j)
		if err := q.Finish(s.Context(), at(time.Second), j.Ref(), queue.Outcome{Done: true}); err != nil {
			s.Errorf("finish: %v", err)
		}
	}
}

// concurrentExpired has many workers reach for the same expired jobs: each is
// claimed by one of them, and only that one's Finish counts.
func (s *suite) concurrentExpired() {
	for range 20 {
		s.add(queue.Job{Group: "g" + fmt.Sprint(s.ids%5)})
	}
	first := s.claim(start, 20)
	var mu sync.Mutex
	taken := map[string]int{}
	var wg sync.WaitGroup
	for w := range 8 {
		q := s.q
		if w%2 == 1 {
			q = s.other
		}
		wg.Go(func() {
			jobs, err := q.Claim(s.Context(), at(lease), queue.Claim{Worker: "w", Lease: lease, Max: 3})
			if err != nil {
				s.Errorf("claim: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, j := range jobs {
				taken[j.ID]++
			}
		})
	}
	wg.Wait()
	for _, j := range first {
		if taken[j.ID] != 1 {
			s.Errorf("%s was claimed again %d times", j.ID, taken[j.ID])
		}
		is(s.T, "Finish of the lost claim", s.q.Finish(s.Context(), at(lease), j.Ref(), queue.Outcome{Done: true}), queue.ErrLost)
	}
}
