package integration

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/runner"
	"holdfast/store"
	"holdfast/store/sqlite"
	"holdfast/vcs"
	"holdfast/vcs/gitea"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/github"
	"holdfast/vcs/github/githubtest"
	"holdfast/vcs/gitlab"
	"holdfast/vcs/gitlab/gitlabtest"
	"holdfast/vcs/vcstest/forge"
)

// idleRepositories are those in which nothing happens.
const idleRepositories = 500

// TestIdleDay looks at 500 idle repositories in pull mode, with a clock that is
// set on from job to job, and counts what the host is asked in each hour. It
// plays one hour, two where the first is another one than those after it, or what
// HOLDFAST_TEST_HOURS says: a day takes some minutes.
func TestIdleDay(t *testing.T) {
	t.Parallel()
	asked, _ := strconv.Atoi(os.Getenv("HOLDFAST_TEST_HOURS"))
	const repositories = idleRepositories
	for name, of := range map[string]struct {
		fake func(forge.TB, forge.Config) *forge.Server
		host func(*forge.Server, func() time.Time) (vcs.Host, error)
		// limit is what the host answers in an hour; free, whether an answer that
		// says "as before" counts.
		limit int
		free  bool
	}{
		"gitea": {giteatest.New, func(s *forge.Server, now func() time.Time) (vcs.Host, error) {
			return gitea.New(gitea.Config{URL: s.URL, Token: s.AddUser("holdfast", true), Pull: true, Now: now})
		}, 2000 * 60, false},
		"github": {githubtest.New, func(s *forge.Server, now func() time.Time) (vcs.Host, error) {
			return github.New(github.Config{URL: s.URL, Token: s.AddUser("holdfast", true), Pull: true, Now: now})
		}, 5000, true},
		"gitlab": {gitlabtest.New, func(s *forge.Server, now func() time.Time) (vcs.Host, error) {
			return gitlab.New(gitlab.Config{URL: s.URL, Token: s.AddUser("holdfast", true), Pull: true, Now: now})
		}, 2000 * 60, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hours := asked
			if hours == 0 {
				hours = 1
				if of.free {
					hours = 2 // nothing is remembered in the first
				}
			}
			clock := &setClock{now: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)}
			srv := of.fake(t, forge.Config{Now: clock.Now})
			srv.Lock()
			srv.Extra["noIssues"] = true
			srv.Unlock()
			host, err := of.host(srv, clock.Now)
			if err != nil {
				t.Fatal(err)
			}
			var repos []runner.Repository
			for i := range repositories {
				r := vcs.Repository{Host: srv.Name, Owner: "acme", Name: fmt.Sprintf("r%03d", i)}
				srv.CreateRepository(r.Owner, r.Name, map[string]string{"README.md": "x"})
				repos = append(repos, runner.Repository{Repository: r})
			}
			start := clock.Now()
			looks := idle(t, clock, host, srv.Name, repos, time.Duration(hours)*time.Hour)
			for hour, n := range perHour(srv, start, hours) {
				counted := n.Total
				if of.free {
					counted -= n.Same
				}
				t.Logf("hour %d: %d requests, %d as before; %d count, of %d that the host allows", hour, n.Total, n.Same, counted, of.limit)
				if first := of.free && hour == 0; counted*10 > of.limit && !first || counted > of.limit/2 {
					t.Errorf("hour %d: %d requests count, more than a tenth of %d", hour, counted, of.limit)
				}
			}
			if looks < repositories {
				t.Errorf("only %d looks at %d repositories", looks, repositories)
			}
		})
	}
}

// setClock is a clock that is set.
type setClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *setClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *setClock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// idle carries out the jobs of a runner that has nothing to do but to look, and
// returns how many looks that were.
func idle(t *testing.T, clock *setClock, host vcs.Host, name string, repos []runner.Repository, length time.Duration) int {
	t.Helper()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "holdfast.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	r, err := runner.New(runner.Config{
		Store: st, Queue: queue.New(st.Queue, queue.Config{Clock: clock.Now}), Locker: lock.New(st.Locks, lock.Config{Clock: clock.Now}),
		Git: emptyGit{t.TempDir()}, Hosts: map[string]vcs.Host{name: host}, Repositories: repos, Pull: map[string]bool{name: true},
		DataDir: t.TempDir(), DigestKey: []byte(strings.Repeat("k", 32)), Clock: clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	handlers, end, looks := r.Handlers(), clock.Now().Add(length), 0
	for {
		jobs, err := st.Queue.Claim(t.Context(), clock.Now(), queue.Claim{Worker: "w", Lease: time.Minute, Max: 50})
		if err != nil {
			t.Fatal(err)
		}
		if len(jobs) == 0 {
			next := nextDue(t, st)
			if !next.Before(end) {
				return looks
			}
			clock.set(next)
			continue
		}
		for _, j := range jobs {
			err := handlers[j.Kind](t.Context(), j)
			wait, again := queue.SnoozeOf(err)
			if !again {
				t.Fatalf("%s: %v", j.Key, err)
			}
			looks++
			if err := st.Queue.Finish(t.Context(), clock.Now(), j.Ref(), queue.Outcome{RunAt: clock.Now().Add(wait), Uncounted: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func nextDue(t *testing.T, st *store.Store) time.Time {
	t.Helper()
	jobs, err := st.Queue.List(t.Context(), queue.Filter{Limit: 10_000})
	if err != nil || len(jobs) == 0 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	return slices.MinFunc(jobs, func(a, b queue.Job) int { return a.RunAt.Compare(b.RunAt) }).RunAt
}

// perHour counts a host's requests.
func perHour(srv *forge.Server, start time.Time, hours int) []forge.Count {
	all := make([]forge.Count, hours)
	for _, c := range srv.Calls("", "") {
		hour := int(c.At.Sub(start) / time.Hour)
		if c.Route == "" || hour >= hours {
			continue
		}
		all[hour].Total++
		if c.Status == http.StatusNotModified {
			all[hour].Same++
		}
	}
	return all
}

// emptyGit is mirrors of repositories that hold nothing of interest.
type emptyGit struct{ dir string }

const idleSHA = "1111111111111111111111111111111111111111"

func (emptyGit) Fetch(context.Context, vcs.Repository, vcs.Remote, ...string) error { return nil }
func (emptyGit) Resolve(context.Context, vcs.Repository, string) (string, error)    { return idleSHA, nil }
func (emptyGit) Branches(context.Context, vcs.Repository) (map[string]string, error) {
	return nil, nil
}
func (emptyGit) MergeBase(context.Context, vcs.Repository, string, string) (string, error) {
	return idleSHA, nil
}
func (emptyGit) ChangedPaths(context.Context, vcs.Repository, string, string) ([]string, error) {
	return nil, nil
}
func (emptyGit) IsAncestor(context.Context, vcs.Repository, string, string) (bool, error) {
	return true, nil
}
func (emptyGit) Files(context.Context, vcs.Repository, string) (map[string]string, error) {
	return maps.Clone(map[string]string{}), nil
}
func (g emptyGit) Checkout(context.Context, vcs.Repository, string) (string, func(), error) {
	return g.dir, func() {}, nil
}
func (emptyGit) Commit(context.Context, vcs.Repository, vcs.Remote, vcs.Commit) (string, error) {
	return "", vcs.ErrNothing
}
func (emptyGit) DeleteBranch(context.Context, vcs.Repository, vcs.Remote, string) error { return nil }
func (emptyGit) Revert(context.Context, vcs.Repository, vcs.Remote, vcs.Revert) (string, error) {
	return "", vcs.ErrNothing
}
