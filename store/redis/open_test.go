package redis_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/store/redis"
)

// hint returns what an error tells a person to do.
func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// pretend has a server answer INFO and CONFIG GET as another one does, or as
// one that refuses them.
func pretend(t *testing.T, answers map[string]string) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.RunT(t)
	m.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if cmd != "INFO" && cmd != "CONFIG" {
			return false
		}
		what := strings.ToLower(args[len(args)-1])
		answer, ok := answers[what]
		switch {
		case !ok:
			c.WriteError("ERR unknown command")
		case cmd == "INFO":
			c.WriteBulk(answer)
		default:
			c.WriteStrings([]string{what, answer})
		}
		return true
	})
	return m
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		answers map[string]string
		spoil   func(m *miniredis.Miniredis)
		change  func(cfg *redis.Config)
		want    string // in the error and its hint
		is      error
	}{
		"nobody":             {spoil: func(m *miniredis.Miniredis) { m.Close() }, want: "check that Redis runs", is: redis.ErrUnreachable},
		"no password":        {spoil: func(m *miniredis.Miniredis) { m.RequireAuth("hunter2") }, want: "HOLDFAST_REDIS_PASSWORD"},
		"a wrong password":   {spoil: func(m *miniredis.Miniredis) { m.RequireAuth("x") }, change: func(cfg *redis.Config) { cfg.Password = "hunter2" }, want: "refuses this user or password"},
		"no permission":      {spoil: func(m *miniredis.Miniredis) { m.SetError("NOPERM no permissions to run") }, want: "ACL SETUSER"},
		"loading":            {spoil: func(m *miniredis.Miniredis) { m.SetError("LOADING the dataset") }, is: redis.ErrUnreachable},
		"a cluster's node":   {spoil: func(m *miniredis.Miniredis) { m.SetError("MOVED 1 127.0.0.1:7000") }, want: "redis+cluster://"},
		"no cluster":         {change: func(cfg *redis.Config) { cfg.Cluster = true }, spoil: func(m *miniredis.Miniredis) { m.SetError("ERR This instance has cluster support disabled") }, want: "as redis://"},
		"an old server":      {answers: map[string]string{"server": "# Server\r\nredis_version:6.0.16\r\n"}, want: "Redis 6.0.16 is too old"},
		"a replica":          {answers: map[string]string{"replication": "role:slave\r\n"}, want: "replica", is: redis.ErrUnreachable},
		"evicts":             {answers: map[string]string{"maxmemory": "1", "maxmemory-policy": "allkeys-lru"}, want: "maxmemory-policy noeviction"},
		"evicts, by INFO":    {answers: map[string]string{"memory": "maxmemory:5\r\nmaxmemory_policy:volatile-ttl\r\n"}, want: "maxmemory-policy noeviction"},
		"volatile":           {answers: map[string]string{"appendonly": "no"}, want: "appendonly yes"},
		"volatile, by INFO":  {answers: map[string]string{"persistence": "aof_enabled:0\r\n"}, want: "appendonly yes"},
		"another's key":      {spoil: func(m *miniredis.Miniredis) { m.Set("{holdfast}:meta", "x") }, want: "another program's"},
		"another's hash":     {spoil: func(m *miniredis.Miniredis) { m.HSet("{holdfast}:meta", "version", "1") }, want: "?prefix=NAME"},
		"no mark":            {spoil: func(m *miniredis.Miniredis) { m.HSet("{holdfast}:token", "job", "1") }, want: "restore a backup"},
		"a newer version":    {spoil: func(m *miniredis.Miniredis) { m.HSet("{holdfast}:meta", "holdfast", "99") }, want: "version 99", is: store.ErrNewer},
		"an unknown version": {spoil: func(m *miniredis.Miniredis) { m.HSet("{holdfast}:meta", "holdfast", "x") }, want: "no version"},
		"a bad prefix":       {change: func(cfg *redis.Config) { cfg.Prefix = "a}b" }, want: "prefix"},
		"no address":         {change: func(cfg *redis.Config) { cfg.Addrs = nil }, want: "no address"},
	} {
		t.Run(name, func(t *testing.T) {
			m := pretend(t, c.answers)
			cfg := redis.Config{Addrs: []string{m.Addr()}, Logger: slog.New(slog.DiscardHandler)}
			if c.spoil != nil {
				c.spoil(m)
			}
			if c.change != nil {
				c.change(&cfg)
			}
			_, err := redis.Open(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error()+hint(err), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("got %v (%s), want %s", err, hint(err), c.want)
			}
			if !errors.Is(err, c.is) && c.is != nil || c.is == nil && errors.Is(err, redis.ErrUnreachable) {
				t.Errorf("got %v, want one that is %v", err, c.is)
			}
		})
	}
}

func TestOpenAccepts(t *testing.T) {
	good := map[string]string{"server": "redis_version:7.2.4\r\n", "appendonly": "yes", "maxmemory": "0", "maxmemory-policy": "noeviction"}
	for name, c := range map[string]struct {
		answers map[string]string
		change  func(cfg *redis.Config)
		logged  string
	}{
		"a good server":         {answers: good},
		"one that tells little": {answers: map[string]string{"server": "redis_version:7.2.4\r\n", "appendonly": "yes"}, logged: "eviction policy"},
		"no limit of memory":    {answers: map[string]string{"server": "redis_version:7.2.4\r\n", "appendonly": "yes", "maxmemory": "0", "maxmemory-policy": "allkeys-lru"}},
		"who wants to": {answers: map[string]string{"server": "redis_version:7.2.4\r\n", "appendonly": "no", "maxmemory": "9", "maxmemory-policy": "allkeys-lru"},
			change: func(cfg *redis.Config) { cfg.AllowEviction, cfg.AllowVolatile = true, true }},
	} {
		t.Run(name, func(t *testing.T) {
			m := pretend(t, c.answers)
			var log bytes.Buffer
			cfg := redis.Config{Addrs: []string{m.Addr()}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			if c.change != nil {
				c.change(&cfg)
			}
			for range 2 { // a new store, and one that is there
				s, err := redis.Open(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if !strings.Contains(log.String(), c.logged) || c.logged == "" && log.Len() > 0 {
				t.Errorf("logged %q, want %q", log.String(), c.logged)
			}
		})
	}
}

// TestErrors has a server that serves no more.
func TestErrors(t *testing.T) {
	m := miniredis.RunT(t)
	s := open(t, fresh(redis.Config{Addrs: []string{m.Addr()}}))
	for answer, want := range map[string]error{
		"OOM command not allowed when used memory > 'maxmemory'.":            store.ErrFull,
		"MISCONF Errors writing to the AOF file":                             store.ErrFull,
		"READONLY You can't write against a read only replica.":              redis.ErrUnreachable,
		"CLUSTERDOWN The cluster is down":                                    redis.ErrUnreachable,
		"MASTERDOWN Link with MASTER is down":                                redis.ErrUnreachable,
		"TRYAGAIN Multiple keys request during rehashing of slot":            redis.ErrUnreachable,
		"NOREPLICAS Not enough good replicas to write.":                      redis.ErrUnreachable,
		"LOADING Redis is loading the dataset in memory":                     redis.ErrUnreachable,
		"ERR max number of clients reached":                                  redis.ErrUnreachable,
		"BUSY Redis is busy running a script. You can only call SCRIPT KILL": redis.ErrUnreachable,
	} {
		m.SetError(answer)
		_, err := s.Records.Put(t.Context(), start, store.Record{Key: "k"})
		if !errors.Is(err, want) || !strings.HasPrefix(fmt.Sprint(err), "put record k: ") {
			t.Errorf("%s: got %v, want %v", answer, err, want)
		}
	}
	m.SetError("")
	if _, err := s.Records.Put(t.Context(), start, store.Record{Key: "k"}); err != nil {
		t.Error(err)
	}
	m.Close()
	if _, err := s.Records.Get(t.Context(), "k"); !errors.Is(err, redis.ErrUnreachable) {
		t.Errorf("without a server: got %v", err)
	}
}

// TestObserve calls methods that succeed and that fail.
func TestObserve(t *testing.T) {
	type call struct {
		method string
		err    error
	}
	var calls []call
	cfg := installation(redis.Config{Addrs: []string{miniredis.RunT(t).Addr()}})
	cfg.Observe = func(method string, _ time.Duration, err error) { calls = append(calls, call{method, err}) }
	s := open(t, at(cfg))
	if _, err := s.Queue.Claim(t.Context(), start, queue.Claim{Max: 1}); err != nil {
		t.Fatal(err)
	}
	_, missing := s.Runs.Get(t.Context(), "none")
	if err := s.Dump(t.Context(), func(store.Item) error { return nil }); err != nil {
		t.Fatal(err)
	}
	want := []call{{"queue.claim", nil}, {"runs.get", missing}, {"dump", nil}}
	if !slices.Equal(calls, want) {
		t.Errorf("got %v, want %v", calls, want)
	}
}
