package redis_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/store"
	"holdfast/store/redis"
	"holdfast/store/storetest"
)

var start = time.Date(2031, 5, 4, 3, 2, 1, 123456789, time.UTC)

// open returns a handle that is closed with the test.
func open(t *testing.T, open storetest.Open) *store.Store {
	t.Helper()
	s, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// proxy stands between client and server.
type proxy struct {
	addr string

	mu      sync.Mutex
	target  string
	armed   bool
	dropped int
	conns   []net.Conn
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), target: target}
	t.Cleanup(func() {
		l.Close()
		p.lead(target)
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

// dropNext has the next script's answer get lost, with its connection.
func (p *proxy) dropNext() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = true
}

// lead sends clients to another server, and cuts those that are connected.
func (p *proxy) lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		p.mu.Unlock()
		return
	}
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	var script sync.Map // "sent": the request that waits for its answer is a script
	go func() {
		defer server.Close()
		pass(server, client, func(request []byte) bool {
			if bytes.Contains(bytes.ToLower(request), []byte("eval")) {
				script.Store("sent", true)
			}
			return true
		})
	}()
	defer server.Close()
	pass(client, server, func(answer []byte) bool {
		_, isScript := script.LoadAndDelete("sent")
		return !isScript || !p.drops(answer)
	})
}

// drops reports whether an answer is to be lost; that the script is not known
// yet is none.
func (p *proxy) drops(answer []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.armed || bytes.HasPrefix(answer, []byte("-NOSCRIPT")) {
		return false
	}
	p.armed = false
	p.dropped++
	return true
}

// pass copies until may says no.
func pass(to io.Writer, from io.Reader, may func([]byte) bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !may(buffer[:n]) || err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestLostAnswers loses the answer of every kind of write, which is therefore
// made again: nothing may happen twice, nor be reported as refused.
func TestLostAnswers(t *testing.T) {
	p := newProxy(t, miniredis.RunT(t).Addr())
	s := open(t, fresh(redis.Config{Addrs: []string{p.addr}}))
	ctx := t.Context()
	job := func(id, key string) queue.Job {
		return queue.Job{ID: id, Kind: "k", Key: key, Again: true, Priority: queue.PriorityApply, RunAt: start, EnqueuedAt: start, OverdueAt: start.Add(time.Hour)}
	}
	var (
		claimed []queue.Job
		run     store.Run
		lease   lock.Lease
	)
	alice := lock.Holder{ID: "alice"}
	for _, step := range []struct {
		name string
		do   func() (got any, err error)
		want any
	}{
		{"Enqueue", func() (any, error) {
			jobs, err := s.Queue.Enqueue(ctx, start, []queue.Job{job("a", "a"), job("b", "")})
			return ids(jobs), err
		}, []string{"a", "b"}},
		{"Claim", func() (got any, err error) {
			claimed, err = s.Queue.Claim(ctx, start, queue.Claim{Worker: "w", Lease: time.Minute, Max: 1})
			return ids(claimed), err
		}, []string{"a"}},
		{"Enqueue again", func() (any, error) {
			jobs, err := s.Queue.Enqueue(ctx, start, []queue.Job{job("c", "a")})
			return ids(jobs), err
		}, []string{"a"}},
		{"Heartbeat", func() (any, error) {
			return s.Queue.Heartbeat(ctx, start, []queue.Ref{claimed[0].Ref()}, time.Minute)
		}, func() any { return []queue.Beat{{Ref: claimed[0].Ref()}} }},
		{"Finish", func() (any, error) {
			return nil, s.Queue.Finish(ctx, start, claimed[0].Ref(), queue.Outcome{Done: true})
		}, nil},
		{"Control", func() (any, error) {
			j, err := s.Queue.Control(ctx, start, "b", queue.ActionCancel)
			return j.ID, err
		}, "b"},
		{"what is left", func() (any, error) {
			jobs, err := s.Queue.List(ctx, queue.Filter{State: queue.StateWaiting})
			return ids(jobs), err
		}, []string{"a"}},
		{"Create", func() (got any, err error) {
			var created bool
			run, created, err = s.Runs.Create(ctx, start, store.Run{ID: "r", Key: "key"})
			return created, err
		}, true},
		{"Update", func() (got any, err error) {
			run, err = s.Runs.Update(ctx, start, run)
			return run.Version, err
		}, int64(2)},
		{"Delete", func() (any, error) { return nil, s.Runs.Delete(ctx, "r") }, nil},
		{"Put a record", func() (any, error) {
			r, err := s.Records.Put(ctx, start, store.Record{Key: "k", Value: []byte("1")})
			return r.Version, err
		}, int64(1)},
		{"Delete a record", func() (any, error) { return nil, s.Records.Delete(ctx, "k") }, nil},
		{"Append", func() (any, error) { return nil, s.Artifacts.Append(ctx, start, "a", []byte("x")) }, nil},
		{"Put", func() (any, error) { return nil, s.Artifacts.Put(ctx, start, "b", []byte("x")) }, nil},
		{"Append to the trail", func() (any, error) {
			return nil, s.Audit.Append(ctx, store.Entry{ID: "e", At: start})
		}, nil},
		{"Acquire", func() (got any, err error) {
			lease, err = s.Locks.Acquire(ctx, start, "l", alice, time.Minute)
			return lease.Holder, err
		}, alice},
		{"Renew", func() (got any, err error) {
			lease, err = s.Locks.Renew(ctx, start, lease, time.Hour)
			return lease.ExpireAt, err
		}, start.Add(time.Hour)},
		{"Release", func() (any, error) { return nil, s.Locks.Release(ctx, start, lease) }, nil},
	} {
		p.dropNext()
		before := p.dropped
		got, err := step.do()
		if want, later := step.want.(func() any); later {
			step.want = want()
		}
		if diff := cmp.Diff(step.want, got); diff != "" || err != nil {
			t.Errorf("%s: error %v (-want +got):\n%s", step.name, err, diff)
		}
		if p.dropped != before+1 {
			t.Errorf("%s: %d answers were lost", step.name, p.dropped-before)
		}
	}
	chunks, err := s.Artifacts.Chunks(ctx, "a", 0)
	if err != nil || len(chunks) != 1 {
		t.Errorf("%d chunks, %v", len(chunks), err)
	}
}

func ids(jobs []queue.Job) []string {
	var out []string
	for _, j := range jobs {
		out = append(out, j.ID)
	}
	return out
}

// TestGone cuts all connections and leads nowhere for a moment: calls fail in a
// way that may be tried again, and go on when the server is back.
func TestGone(t *testing.T) {
	m := miniredis.RunT(t)
	p := newProxy(t, m.Addr())
	s := open(t, fresh(redis.Config{Addrs: []string{p.addr}}))
	p.lead("127.0.0.1:1")
	if err := s.Records.Delete(t.Context(), "k"); !errors.Is(err, redis.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	p.lead(m.Addr())
	if err := s.Records.Delete(t.Context(), "k"); err != nil {
		t.Error(err)
	}
}
