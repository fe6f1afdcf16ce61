package redis_test

import (
	"context"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"holdfast/queue"
	"holdfast/store/redis"
)

// TestIdleWorker has a worker that hardly ever looks for jobs: it is called, by
// another process too, and also where the call came while it was cut off.
func TestIdleWorker(t *testing.T) {
	m := miniredis.RunT(t)
	p := newProxy(t, m.Addr())
	cfg := installation(redis.Config{Addrs: []string{p.addr}})
	idle := open(t, at(cfg))
	ran := make(chan string)
	w := queue.NewWorker(queue.New(idle.Queue, queue.Config{}), queue.WorkerConfig{Poll: time.Hour, Handlers: map[string]queue.Handler{
		"call": func(_ context.Context, j queue.Job) error { ran <- j.Key; return nil },
	}})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	other := queue.New(open(t, at(cfg)).Queue, queue.Config{})
	for _, key := range []string{"first", "second"} {
		if _, err := other.Enqueue(ctx, queue.Job{Kind: "call", Key: key}); err != nil {
			t.Fatal(err)
		}
		if got := <-ran; got != key {
			t.Errorf("%s ran instead of %s", got, key)
		}
	}
	p.lead("127.0.0.1:1")
	cfg.Addrs = []string{m.Addr()}
	if _, err := queue.New(open(t, at(cfg)).Queue, queue.Config{}).Enqueue(ctx, queue.Job{Kind: "call", Key: "unheard"}); err != nil {
		t.Fatal(err)
	}
	p.lead(m.Addr())
	if got := <-ran; got != "unheard" {
		t.Errorf("%s ran", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestClock has two machines whose clocks are two minutes apart.
func TestClock(t *testing.T) {
	cfg := installation(redis.Config{Addrs: []string{miniredis.RunT(t).Addr()}})
	for _, skew := range []time.Duration{-time.Minute, time.Minute} {
		cfg.Now = func() time.Time { return time.Now().Add(skew) }
		if off := time.Until(open(t, at(cfg)).Clock()).Abs(); off > 30*time.Second {
			t.Errorf("a clock that is %s off is still %s off", skew, off)
		}
	}
}

// TestFailover has another server answer.
func TestFailover(t *testing.T) {
	t.Parallel()
	one := pretend(t, map[string]string{"server": "run_id:1\r\n", "replication": "master_replid:1\r\n"})
	two := pretend(t, map[string]string{"server": "run_id:2\r\n", "replication": "master_replid:1\r\n"})
	p := newProxy(t, one.Addr())
	s := open(t, fresh(redis.Config{Addrs: []string{p.addr}}))
	lost := s.Failovers(t.Context())
	select {
	case <-lost:
		t.Error("a signal without a failover")
	default:
	}
	p.lead(two.Addr())
	<-lost
}
