//go:build linux

package integration

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"testing"

	redisserver "github.com/alicebob/miniredis/v2/server"

	"holdfast/store/redis/redistest"
)

// oldRedis is a server that says of itself that it is Redis 5, and does nothing
// else.
func oldRedis(t testing.TB) (url string) {
	t.Helper()
	s, err := redisserver.NewServer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	err = s.Register("PING", func(c *redisserver.Peer, _ string, _ []string) { c.WriteInline("PONG") })
	if err == nil {
		err = s.Register("INFO", func(c *redisserver.Peer, _ string, _ []string) { c.WriteBulk("# Server\r\nredis_version:5.0.14\r\n") })
	}
	if err != nil {
		t.Fatal(err)
	}
	return "redis://" + s.Addr().String()
}

// badStart is a process that ends with 1, and says why and what to do.
type badStart struct {
	name  string
	role  string
	store string
	key   string // none where it is "-"
	noURL bool
	says  []string
	// starts is what is added to the server file to have it start all the same.
	starts string
}

// TestBadStarts refuses to start where a person has to change something first.
func TestBadStarts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{"README.md": "empty"})
	f.node("serve", "--workers", "0").start().stop() // the store is this key's
	locked := redistest.Start(t, "--requirepass", "secret")
	newer := redistest.Start(t)
	if err := newer.Client().HSet(context.Background(), "{holdfast}:meta", "holdfast", 99).Err(); err != nil {
		t.Fatal(err)
	}
	evicting := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	volatile := redistest.Start(t, "--appendonly", "no")
	for _, test := range []badStart{
		{name: "no password", store: locked.URL, says: []string{"Redis asks for a password", "HOLDFAST_REDIS_PASSWORD"}},
		{name: "a wrong password", store: "redis://:wrong@" + locked.Addr, says: []string{"refuses this user or password", "check HOLDFAST_REDIS_PASSWORD"}},
		{name: "too old", store: oldRedis(t), says: []string{"Redis 5.0.14 is too old", "6.2 or later"}},
		{name: "it may evict", store: evicting.URL, says: []string{"maxmemory-policy allkeys-lru", "noeviction"}, starts: "redis {\n  allow_eviction = true\n}\n"},
		{name: "it forgets", store: volatile.URL, says: []string{"appendonly no", "CONFIG SET appendonly yes"}, starts: "redis {\n  allow_volatile = true\n}\n"},
		{name: "a newer store", store: newer.URL, says: []string{"schema version 99, this program knows 1", "start the newer version"}},
		{name: "no key", key: "-", says: []string{"key is not set", "openssl rand -hex 32"}},
		{name: "a wrong key", key: strings.Repeat("x", 32), says: []string{"key is not the one of this store", "old_keys"}},
		{name: "no url", noURL: true, says: []string{"url is not set", "set url"}},
		{name: "a worker on a file", role: "worker", store: "sqlite", says: []string{"which machines cannot share", "holdfast serve"}},
	} {
		t.Run(test.name, func(t *testing.T) { f.refuses(t, test) })
	}
}

// refuses starts a process that must not start, and then as an operator does who
// insists on it.
func (f *fleet) refuses(t *testing.T, test badStart) {
	n := f.node(cmp.Or(test.role, "serve"))
	n.store, n.key, n.noURL = test.store, test.key, test.noURL
	n.launch()
	err := <-n.exited
	n.exited <- err
	if n.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	for _, want := range test.says {
		if !strings.Contains(n.log.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, n.log)
		}
	}
	if test.starts == "" {
		return
	}
	n.extra = test.starts
	n.start()
	n.stop()
}

// TestStartWithoutRedis stays up while Redis cannot be reached, says so, and is
// ready once it can.
func TestStartWithoutRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{"README.md": "empty"})
	f.redis.Stop()
	for _, role := range []string{"serve", "worker"} {
		n := f.node(role)
		n.launch()
		n.logs("the store cannot be reached; trying again", "connection refused")
		status, says := n.says("/readyz")
		if status != http.StatusServiceUnavailable || !strings.Contains(says, "not ready: open store") {
			t.Errorf("%s is ready without a store: %d %s", role, status, says)
		}
		if status, says := n.says("/healthz"); status != http.StatusOK {
			t.Errorf("%s is not healthy without its store: %d %s", role, status, says)
		}
	}
	f.redis.Restart()
	for _, n := range f.nodes {
		f.until(n.name+" is ready", n.ready)
	}
}
