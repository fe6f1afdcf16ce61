//go:build unix

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/store"
	"holdfast/store/redis"
	"holdfast/store/redis/redistest"
	"holdfast/store/storetest"
)

func TestCluster(t *testing.T) {
	realServer(t)
	t.Parallel()
	nodes := redistest.Cluster(t)
	cfg, err := redis.ParseURL(fmt.Sprintf("redis+cluster://%s,%s", nodes[1].Addr, nodes[0].Addr))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(*testing.T) storetest.Open { return fresh(cfg) })
	for _, n := range nodes {
		if size := n.Client().DBSize(t.Context()).Val(); size == 0 {
			t.Errorf("no store was on %s", n.Addr)
		}
	}
}

// TestRestrictedUser has a user for each store who may do what the hint of a
// refusal says, over TLS: a script that touched a key beyond its prefix, or
// called an administrator's command, would be refused.
func TestRestrictedUser(t *testing.T) {
	realServer(t)
	t.Parallel()
	server, trust := redistest.StartTLS(t)
	admin := goredis.NewClient(&goredis.Options{Addr: server.Addr, TLSConfig: trust})
	t.Cleanup(func() { admin.Close() })
	storetest.Run(t, func(t *testing.T) storetest.Open {
		base, err := redis.ParseURL(strings.Replace(server.URL, "rediss", "valkeys", 1))
		if err != nil {
			t.Fatal(err)
		}
		cfg := installation(base)
		cfg.TLS, cfg.Username, cfg.Password = trust, cfg.Prefix, "secret"
		rules := strings.Fields("on >secret " + redis.UserRules(cfg.Prefix))
		if err := admin.ACLSetUser(t.Context(), cfg.Prefix, rules...).Err(); err != nil {
			t.Fatal(err)
		}
		return at(cfg)
	})
	_, err := redis.Open(t.Context(), redis.Config{Addrs: []string{server.Addr}})
	if err == nil {
		t.Error("a server that speaks TLS was opened without it")
	}
	cfg := installation(redis.Config{Addrs: []string{server.Addr}, TLS: trust, Username: "other", Password: "secret"})
	if err := admin.ACLSetUser(t.Context(), "other", "on", ">secret", "~other:*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := redis.Open(t.Context(), cfg); err == nil || !strings.Contains(hint(err), cfg.Prefix) {
		t.Errorf("a user without rights: got %v (%s)", err, hint(err))
	}
}

// TestLostWrites promotes a replica that lacks the master's last writes, as a
// failover does. The tokens that were lost must not be given out again.
func TestLostWrites(t *testing.T) {
	realServer(t)
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.Replica(t, master)
	p := newProxy(t, master.Addr)
	s := open(t, fresh(redis.Config{Addrs: []string{p.addr}}))
	lost := s.Failovers(t.Context())
	q := queue.New(s.Queue, queue.Config{Clock: s.Clock})
	claim := func() queue.Job {
		t.Helper()
		jobs, err := s.Queue.Claim(t.Context(), s.Clock(), queue.Claim{Worker: "w", Lease: time.Hour, Max: 1})
		if err != nil || len(jobs) != 1 {
			t.Fatalf("claimed %v, %v", jobs, err)
		}
		return jobs[0]
	}
	acquire := func() lock.Lease {
		t.Helper()
		l, err := s.Locks.Acquire(t.Context(), s.Clock(), "l", lock.Holder{ID: "me"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for range 10 {
		if _, err := q.Enqueue(t.Context(), queue.Job{Kind: "k"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := master.Client().Do(t.Context(), "WAIT", 1, 0).Val(); n == int64(0) {
		t.Fatal("the replica does not follow")
	}
	settled(t, master, replica)
	if err := replica.Client().Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	var lastJob queue.Job
	var lastLease lock.Lease
	for range 5 {
		lastJob, lastLease = claim(), acquire()
	}
	p.lead(replica.Addr)
	if j := claim(); j.Token <= lastJob.Token {
		t.Errorf("token %d of a job after %d was given out", j.Token, lastJob.Token)
	}
	if l := acquire(); l.Token <= lastLease.Token {
		t.Errorf("token %d of a lock after %d was given out", l.Token, lastLease.Token)
	}
	err := s.Queue.Finish(t.Context(), s.Clock(), lastJob.Ref(), queue.Outcome{Done: true})
	if !errors.Is(err, queue.ErrLost) {
		t.Errorf("Finish of a claim that is lost: %v", err)
	}
	<-lost
}

// settled waits until replica has all that master has.
func settled(t *testing.T, master, replica *redistest.Server) {
	t.Helper()
	offset := func(s *redistest.Server, name string) string {
		info := s.Client().InfoMap(t.Context(), "replication")
		if info.Err() != nil {
			t.Fatal(info.Err())
		}
		return info.Item("Replication", name)
	}
	for offset(master, "master_repl_offset") != offset(replica, "slave_repl_offset") {
		time.Sleep(10 * time.Millisecond)
	}
}

func TestSentinel(t *testing.T) {
	realServer(t)
	t.Parallel()
	master := redistest.Start(t)
	redistest.Replica(t, master)
	cfg, err := redis.ParseURL("redis+sentinel://" + redistest.Sentinel(t, master, "holdfast") + "/holdfast?wait_replicas=1")
	if err != nil {
		t.Fatal(err)
	}
	cfg = installation(cfg)
	s := open(t, at(cfg))
	lost := s.Failovers(t.Context())
	wake := s.Queue.Wake(t.Context())
	r, err := s.Records.Put(t.Context(), start, store.Record{Key: "k", Value: []byte(`1`)})
	if err != nil {
		t.Fatal(err)
	}
	master.Kill()
	<-lost
	got, err := s.Records.Get(t.Context(), "k")
	if err != nil || got.Version != r.Version {
		t.Errorf("after the failover: %+v, %v", got, err)
	}
	drain(wake)
	cfg.WaitReplicas = 0 // none is left
	other := queue.New(open(t, at(cfg)).Queue, queue.Config{})
	if _, err := other.Enqueue(t.Context(), queue.Job{Kind: "k"}); err != nil {
		t.Error(err)
	}
	<-wake
}

func drain(c <-chan struct{}) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}

func TestWaitReplicas(t *testing.T) {
	realServer(t)
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.Replica(t, master)
	s := open(t, fresh(redis.Config{Addrs: []string{master.Addr}, WaitReplicas: 1}))
	put := func(key string) error {
		_, err := s.Records.Put(t.Context(), start, store.Record{Key: key})
		return err
	}
	if err := put("followed"); err != nil {
		t.Error(err)
	}
	if _, err := s.Locks.Renew(t.Context(), start, lock.Lease{Key: "none"}, 0); !errors.Is(err, lock.ErrLost) {
		t.Errorf("a write that answers nothing: %v", err)
	}
	replica.Pause()
	if err := put("alone"); !errors.Is(err, redis.ErrUnreachable) || !strings.Contains(err.Error(), "it may be kept or not") {
		t.Errorf("got %v", err)
	}
	replica.Resume()
	if err := put("again"); err != nil {
		t.Error(err)
	}
}

// TestRestart kills the server: what was acknowledged is there again.
func TestRestart(t *testing.T) {
	realServer(t)
	t.Parallel()
	server := redistest.Start(t)
	install := fresh(redis.Config{Addrs: []string{server.Addr}})
	s := open(t, install)
	lost := s.Failovers(t.Context())
	storetest.Fill(t, s)
	before := dump(t, s)
	server.Kill()
	if _, err := install(t.Context()); !errors.Is(err, redis.ErrUnreachable) {
		t.Errorf("Open: got %v", err)
	}
	server.Restart()
	<-lost
	if after := dump(t, s); len(after) != len(before) {
		t.Errorf("%d of %d things are left", len(after), len(before))
	}
}

func dump(t *testing.T, s *store.Store) (items []store.Item) {
	t.Helper()
	err := s.Dump(t.Context(), func(i store.Item) error {
		items = append(items, i)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// TestHang closes a store whose server does not answer any more.
func TestHang(t *testing.T) {
	realServer(t)
	t.Parallel()
	server := redistest.Start(t)
	s, err := fresh(redis.Config{Addrs: []string{server.Addr}})(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Queue.Wake(t.Context())
	server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Records.Get(ctx, "k"); !errors.Is(err, redis.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestFull fills the server's memory: nothing new is taken, and what is running
// can be finished.
func TestFull(t *testing.T) {
	realServer(t)
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, fresh(redis.Config{Addrs: []string{server.Addr}}))
	job := func(id string) []queue.Job {
		return []queue.Job{{ID: id, Kind: "k", Group: "g", Priority: queue.PriorityApply, RunAt: start, EnqueuedAt: start, OverdueAt: start.Add(time.Hour)}}
	}
	if _, err := s.Queue.Enqueue(t.Context(), start, append(job("a"), job("b")...)); err != nil {
		t.Fatal(err)
	}
	limit := func(bytes string) {
		t.Helper()
		if err := server.Client().ConfigSet(context.Background(), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit("1")
	if _, err := s.Queue.Enqueue(t.Context(), start, job("c")); !errors.Is(err, store.ErrFull) {
		t.Errorf("Enqueue: got %v", err)
	}
	jobs, err := s.Queue.Claim(t.Context(), start, queue.Claim{Worker: "w", Lease: time.Minute, Max: 1})
	if err != nil || len(jobs) != 1 {
		t.Fatalf("claimed %v, %v", jobs, err)
	}
	if err := s.Queue.Finish(t.Context(), start, jobs[0].Ref(), queue.Outcome{Done: true}); err != nil {
		t.Errorf("Finish: %v", err)
	}
	limit("0")
	left, err := s.Queue.Claim(t.Context(), start, queue.Claim{Worker: "w", Lease: time.Minute, Max: 9})
	if err != nil || len(left) != 1 || left[0].ID != "b" {
		t.Errorf("left: %v, %v", left, err)
	}
}
