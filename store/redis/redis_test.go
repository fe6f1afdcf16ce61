package redis_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"holdfast/store"
	"holdfast/store/redis"
	"holdfast/store/storetest"
)

// installations counts prefixes, so that each test has a store of its own.
var installations atomic.Int64

// installation returns cfg with a prefix that is not in use.
func installation(cfg redis.Config) redis.Config {
	cfg.Prefix = fmt.Sprintf("test-%d-%d", os.Getpid(), installations.Add(1))
	cfg.Logger = slog.New(slog.DiscardHandler)
	return cfg
}

// at returns what opens the store of cfg.
func at(cfg redis.Config) storetest.Open {
	return func(ctx context.Context) (*store.Store, error) { return redis.Open(ctx, cfg) }
}

// fresh returns what opens an empty store on the server of cfg.
func fresh(cfg redis.Config) storetest.Open { return at(installation(cfg)) }

// realServer returns the server to test on. Tests that start servers of their own call
// it as well: without HOLDFAST_TEST_REDIS there need not be a redis-server.
func realServer(tb testing.TB) redis.Config {
	tb.Helper()
	url := os.Getenv("HOLDFAST_TEST_REDIS")
	if url == "" {
		tb.Skip("needs a real server: set HOLDFAST_TEST_REDIS to its address, as redis://127.0.0.1:6379, and have redis-server on PATH")
	}
	cfg, err := redis.ParseURL(url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { cleanUp(tb, cfg) })
	return cfg
}

// cleanUp deletes what the tests of this process stored on the server of cfg.
func cleanUp(tb testing.TB, cfg redis.Config) {
	tb.Helper()
	ctx := context.Background()
	client := goredis.NewUniversalClient(&goredis.UniversalOptions{Addrs: cfg.Addrs, Username: cfg.Username, Password: cfg.Password, DB: cfg.DB, TLSConfig: cfg.TLS})
	defer client.Close()
	keys := client.Scan(ctx, 0, fmt.Sprintf("{test-%d-*", os.Getpid()), 1000).Iterator()
	for keys.Next(ctx) {
		client.Unlink(ctx, keys.Val())
	}
	if err := keys.Err(); err != nil {
		tb.Errorf("clean up: %v", err)
	}
}

// TestMain keeps the client's log out of the tests' output.
func TestMain(m *testing.M) {
	redis.LogTo(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

func TestStore(t *testing.T) {
	server := miniredis.RunT(t)
	storetest.Run(t, func(*testing.T) storetest.Open { return fresh(redis.Config{Addrs: []string{server.Addr()}}) })
}

func TestServer(t *testing.T) {
	cfg := realServer(t)
	storetest.Run(t, func(*testing.T) storetest.Open { return fresh(cfg) })
}

// TestOlderVersion updates a run that a newer version has added a field to: both
// may be at work while an installation is upgraded, machine by machine.
func TestOlderVersion(t *testing.T) {
	m := miniredis.RunT(t)
	cfg := installation(redis.Config{Addrs: []string{m.Addr()}})
	s := open(t, at(cfg))
	r, _, err := s.Runs.Create(t.Context(), start, store.Run{ID: "r", Key: "key", State: store.Running, Result: []byte(`1`)})
	if err != nil {
		t.Fatal(err)
	}
	key := "{" + cfg.Prefix + "}:run:r"
	m.HSet(key, "added_later", "kept")
	r.State, r.Result = store.Planned, nil
	if _, err := s.Runs.Update(t.Context(), start, r); err != nil {
		t.Fatal(err)
	}
	if got := m.HGet(key, "added_later"); got != "kept" {
		t.Errorf("the field is %q", got)
	}
	if err := s.Runs.Delete(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	left := slices.DeleteFunc(m.Keys(), func(name string) bool { return strings.Contains(name, "}:answer:") })
	if want := []string{"{" + cfg.Prefix + "}:meta"}; !slices.Equal(left, want) {
		t.Errorf("a deleted run leaves %v", left)
	}
}
