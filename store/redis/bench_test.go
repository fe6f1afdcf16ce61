//go:build unix

package redis_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"holdfast/store"
	"holdfast/store/redis/redistest"
	"holdfast/store/storetest"

	"holdfast/store/redis"
)

func BenchmarkQueue(b *testing.B) {
	cfg := realServer(b)
	storetest.Benchmark(b, func(*testing.B) storetest.Open { return fresh(cfg) })
}

// BenchmarkRunMemory reports how much of the server's memory a finished run
// takes, with a Result of 600 bytes, in workspaces that have fifty of them.
func BenchmarkRunMemory(b *testing.B) {
	realServer(b)
	server := redistest.Start(b, "--appendfsync", "no")
	s, err := fresh(redis.Config{Addrs: []string{server.Addr}})(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	client := server.Client()
	result := []byte(`{"add": "` + strings.Repeat("x", 588) + `"}`)
	before, n := usedMemory(b, client), 0
	for b.Loop() {
		n++
		r := store.Run{
			ID: fmt.Sprintf("01JD%022d", n), Key: fmt.Sprintf("pr/github.com/acme/estate/%d/%040d/workspace-%d", n/50, n, n%50), Kind: store.KindPlan, State: store.Running,
			Repository: "github.com/acme/estate", Workspace: fmt.Sprint("production-network-", n/50), PullRequest: n / 20, Commit: fmt.Sprintf("%040d", n),
			Inputs: fmt.Sprintf("%064d", n), Job: fmt.Sprintf("01JD%022d", n), Token: 1764000000000000, Step: "plan", Node: "holdfast-7d9c6b8f5-x2x9z", StartedAt: time.Now(),
		}
		r, _, err := s.Runs.Create(b.Context(), time.Now(), r)
		if err != nil {
			b.Fatal(err)
		}
		r.State, r.Result, r.EndedAt = store.Planned, result, time.Now()
		if _, err := s.Runs.Update(b.Context(), time.Now(), r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(usedMemory(b, client)-before)/float64(n), "B/run")
}

// usedMemory returns the bytes that the server's data take, without what it
// remembers of calls for a minute.
func usedMemory(b *testing.B, client *goredis.Client) int64 {
	b.Helper()
	answers := client.Scan(b.Context(), 0, "*:answer:*", 1000).Iterator()
	for answers.Next(b.Context()) {
		if err := client.Del(b.Context(), answers.Val()).Err(); err != nil {
			b.Fatal(err)
		}
	}
	info := client.InfoMap(b.Context(), "memory")
	if info.Err() != nil || answers.Err() != nil {
		b.Fatal(info.Err(), answers.Err())
	}
	var n int64
	if _, err := fmt.Sscan(info.Item("Memory", "used_memory_dataset"), &n); err != nil {
		b.Fatal(err)
	}
	return n
}
