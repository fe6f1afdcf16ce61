//go:build linux

package integration

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

var (
	chaosTime = flag.Duration("chaos", 60*time.Second, "for how long TestChaos goes on killing while pull requests come")
	chaosSeed = flag.Uint64("chaos-seed", 1, "what TestChaos does, and when")
)

// What comes while nodes and Redis are killed: 150 pull requests, each opened and
// pushed to, are 300 events; 100 of them are merged, the others closed.
const (
	chaosPulls      = 150
	chaosMerges     = 100
	chaosWorkspaces = 25
)

// TestChaos kills and stops workers, web nodes and Redis at random while pull
// requests come, are merged and applied. In the end every event has its runs,
// every merge is applied exactly once, and no lease and no job is left.
//
// The seed says what is done and how long is waited between; what the machines
// make of it differs from run to run. -chaos 30m goes on for longer.
func TestChaos(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range chaosWorkspaces {
		files[chaosWorkspace(i)+"/main.tf"] = providers + "provider \"smallcloud\" {}\n"
	}
	f := newFleet(t, files)
	f.settings += "\nper_repository = 12\nworkers = 3\n"
	f.reconcile = "5s"
	for range 2 {
		f.node("serve", "--workers", "0").start()
	}
	for range 4 {
		f.node("worker").start()
	}
	c := &chaos{fleet: f, over: make(chan struct{})}
	var acting sync.WaitGroup
	acting.Go(func() { c.kill(rand.New(rand.NewPCG(*chaosSeed, 0))) })
	acting.Go(func() { c.stop(rand.New(rand.NewPCG(*chaosSeed, 1))) })
	rounds := c.stories()
	close(c.over)
	acting.Wait()
	c.calm()
	c.check(rounds)
}

func chaosWorkspace(i int) string { return fmt.Sprintf("w%02d", i%chaosWorkspaces) }

// chaos is what is done to a fleet.
type chaos struct {
	*fleet
	over chan struct{}

	mu   sync.Mutex
	done []string // what was done to whom, for messages
}

// kill kills workers, web nodes and Redis, one after the other, and starts each
// again after a while.
func (c *chaos) kill(random *rand.Rand) {
	for c.sleep(time.Duration(500+random.IntN(1500)) * time.Millisecond) {
		away := time.Duration(random.IntN(3000)) * time.Millisecond
		victim := random.IntN(len(c.nodes) + 1)
		if victim == len(c.nodes) {
			c.note("kill Redis for %s", away)
			c.redis.Kill()
			c.sleep(away)
			c.redis.Restart()
			continue
		}
		n := c.nodes[victim]
		c.note("kill %s for %s", n.name, away)
		n.kill()
		c.sleep(away)
		n.launch()
	}
}

// stop cuts workers and web nodes off, one after the other, for longer than a
// lease.
func (c *chaos) stop(random *rand.Rand) {
	for c.sleep(time.Duration(500+random.IntN(1500)) * time.Millisecond) {
		n, away := c.nodes[random.IntN(len(c.nodes))], 16*time.Second+time.Duration(random.IntN(3000))*time.Millisecond
		c.note("stop %s for %s", n.name, away)
		n.pause()
		c.sleep(away)
		n.resume()
	}
}

// sleep waits for d, and says whether to go on: until it is over.
func (c *chaos) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-c.over:
		return false
	}
}

func (c *chaos) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = append(c.done, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

// calm lets everything be up again.
func (c *chaos) calm() {
	c.Helper()
	c.redis.Restart()
	for _, n := range c.nodes {
		n.resume()
		c.until(n.name+" is ready", n.ready)
	}
	c.Logf("%d disturbances in %s", len(c.done), *chaosTime)
}

// story is a pull request and what became of it.
type story struct {
	number int
	head   string
	name   string // of the server that it makes
	merged bool
}

// stories opens pull requests, pushes to them, and merges or closes those that
// are planned, spread over the time that the chaos has; for longer than that
// time it begins again.
func (c *chaos) stories() []*story {
	c.Helper()
	var all []*story
	end := time.Now().Add(*chaosTime)
	for round := 0; round == 0 || time.Now().Before(end); round++ {
		var open []*story
		began := time.Now()
		for i := range chaosPulls {
			s := c.open(round, i)
			open, all = append(open, s), append(all, s)
			open = slices.DeleteFunc(open, func(s *story) bool { return c.finish(s) })
			// As many as fit into a bit more than half of the time.
			time.Sleep(time.Until(began.Add(time.Duration(i) * 35 * time.Second / chaosPulls)))
		}
		c.untilIn(5*time.Minute, "all pull requests are merged or closed", func() bool {
			open = slices.DeleteFunc(open, func(s *story) bool { return c.finish(s) })
			return len(open) == 0
		})
	}
	c.sleepUntil(end)
	return all
}

func (c *chaos) sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }

// open opens a pull request and pushes to it once more.
func (c *chaos) open(round, i int) *story {
	c.Helper()
	s := &story{name: fmt.Sprintf("s%d-%d", round, i), merged: i%3 != 2}
	file := fmt.Sprintf("%s/%s.tf", chaosWorkspace(i), s.name)
	c.repo.Push(s.name, map[string]string{file: server(s.name)}, s.name)
	s.number = c.repo.OpenPull(giteatest.OpenPull{Head: s.name})
	s.head = c.repo.Push(s.name, map[string]string{file: server(s.name, `size = "large"`)}, s.name+", larger")
	return s
}

// finish merges or closes a pull request whose latest head is planned, and says
// whether it did.
func (c *chaos) finish(s *story) bool {
	c.Helper()
	runs, err := c.list(store.RunFilter{Kind: store.KindPlan, PullRequest: s.number, Commit: s.head})
	if err != nil || len(runs) == 0 || runs[0].State != store.Planned {
		return false // Redis may be away
	}
	if s.merged {
		c.repo.Merge(s.number, "merge")
	} else {
		c.repo.Close(s.number)
	}
	return true
}

// list lists runs, which fails while Redis is away.
func (c *chaos) list(f store.RunFilter) ([]store.Run, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.shared().Runs.List(ctx, f)
}

// check compares what came with what became of it.
func (c *chaos) check(stories []*story) {
	t := c.TB
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d; what was done:\n%s", *chaosSeed, strings.Join(c.done, "\n"))
		}
	}()
	st := c.shared()
	ctx := context.Background()
	c.untilIn(5*time.Minute, "all jobs are done", func() bool {
		jobs, err := st.Queue.List(ctx, queue.Filter{Limit: 10_000})
		return err == nil && len(unfinished(jobs)) == 0
	})
	merges := 0
	for _, s := range stories {
		plans, err := c.list(store.RunFilter{Kind: store.KindPlan, PullRequest: s.number, Commit: s.head})
		if err != nil || len(plans) == 0 {
			t.Errorf("#%d has no plan of its head: %v", s.number, err)
		}
		want := 0
		if s.merged {
			want = 1
			merges++
			applies, err := c.list(store.RunFilter{Kind: store.KindApply, PullRequest: s.number})
			if err != nil || len(applies) != 1 || applies[0].State != store.Applied {
				t.Errorf("#%d: applies %+v, %v", s.number, applies, err)
			}
		}
		if n := c.cloud.created(s.name); n != want {
			t.Errorf("#%d: %s was made %d times instead of %d", s.number, s.name, n, want)
		}
		if comments := c.repo.Comments(s.number); len(comments) != 1 {
			t.Errorf("#%d has %d comments", s.number, len(comments))
		}
	}
	if n := len(c.cloud.resources()); n != merges {
		t.Errorf("the cloud has %d resources after %d merges", n, merges)
	}
	runs, err := c.list(store.RunFilter{States: []store.State{store.Queued, store.Running, store.Unknown, store.Failed, store.Held}, Limit: 1000})
	if err != nil || len(runs) > 0 {
		t.Errorf("%d runs have not ended well: %+v, %v", len(runs), runs, err)
	}
	leases, err := lock.New(st.Locks, lock.Config{Clock: st.Clock}).List(ctx, "")
	if err != nil || len(leases) > 0 {
		t.Errorf("leases are left: %+v, %v", leases, err)
	}
	t.Logf("%d pull requests, %d merges", len(stories), merges)
}
