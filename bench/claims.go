package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"holdfast/queue"
	"holdfast/store"
)

// standing is what a store holds while jobs are claimed from it.
type standing struct {
	name    string
	prepare func(context.Context, *holdfast) error
}

var standings = []standing{
	{"100 jobs", func(ctx context.Context, h *holdfast) error { return free(ctx, h, 100) }},
	{"100,000 jobs in 10,000 groups", func(ctx context.Context, h *holdfast) error { return h.fill(ctx, 100_000) }},
	{"100 jobs, 100,000 finished runs", func(ctx context.Context, h *holdfast) error {
		if err := loadRuns(ctx, h, 100_000); err != nil {
			return err
		}
		return free(ctx, h, 100)
	}},
	{"100 jobs, 10,000 groups with one running and nine behind it", func(ctx context.Context, h *holdfast) error {
		if err := h.fill(ctx, 100_000); err != nil {
			return err
		}
		for taken := 0; taken < 10_000; {
			jobs, err := h.near.Queue.Claim(ctx, h.near.Now(), queue.Claim{Worker: kind, Lease: time.Hour, Max: 500})
			if err != nil {
				return err
			}
			if len(jobs) == 0 {
				return fmt.Errorf("only %d of 10,000 groups have a running job", taken)
			}
			taken += len(jobs)
		}
		return free(ctx, h, 100)
	}},
}

// free adds n jobs, each in a group of its own.
func free(ctx context.Context, h *holdfast, n int) error {
	for range n {
		if err := h.enqueue(ctx); err != nil {
			return err
		}
	}
	return nil
}

// claims measures whether a claim costs more where more is stored.
func claims(ctx context.Context, out io.Writer, server *redisServer, s settings) error {
	t := table{title: "One claim of one job, beside the first line of the same store"}
	t.add("store", "what is stored", "time", "ratio", "Redis CPU", "ratio")
	for _, onServer := range []bool{true, false} {
		var sides []*named
		defer func() { closeSides(sides) }()
		for i, standing := range standings {
			h, err := onSQLite(ctx, s.dir, fmt.Sprint("claim-", i))
			if onServer {
				h, err = onRedis(ctx, server, fmt.Sprint("claim-", i))
			}
			if err != nil {
				return err
			}
			sides = append(sides, &named{side: h, name: standing.name, redis: onServer})
			if err := standing.prepare(ctx, h); err != nil {
				return err
			}
		}
		for range 4 * s.rounds {
			for _, side := range sides {
				r, err := claimSome(ctx, server, side.side.(*holdfast))
				if err != nil {
					return err
				}
				side.rounds = append(side.rounds, r)
			}
		}
		for _, side := range sides {
			first, name := sides[0], "SQLite"
			cpu := "-"
			if onServer {
				name, cpu = "Redis", ratio(float64(side.cpuTime()), float64(first.cpuTime()))
			}
			t.add(name, side.name, micros(side.wall()), ratio(float64(side.wall()), float64(first.wall())), side.cpu(), cpu)
		}
	}
	return t.print(out)
}

// claimSome claims fifty jobs one by one, and then puts as many others in their
// place.
func claimSome(ctx context.Context, server *redisServer, h *holdfast) (round, error) {
	const n = 50
	var taken []queue.Job
	r, err := server.timed(ctx, n, func() error {
		for range n {
			jobs, err := h.near.Queue.Claim(ctx, h.near.Now(), queue.Claim{Worker: kind, Lease: time.Minute, Max: 1})
			if err != nil {
				return err
			}
			if len(jobs) != 1 {
				return fmt.Errorf("a claim of one job got %d", len(jobs))
			}
			taken = append(taken, jobs...)
		}
		return nil
	})
	if err != nil {
		return round{}, err
	}
	for _, j := range taken {
		if err := h.near.Queue.Finish(ctx, h.near.Now(), j.Ref(), queue.Outcome{Done: true}); err != nil {
			return round{}, err
		}
	}
	return r, free(ctx, h, n)
}

// loadRuns stores n plans that ended, of a hundred workspaces, with results of
// some 600 bytes.
func loadRuns(ctx context.Context, h *holdfast, n int) error {
	const batch = 500
	result, err := json.Marshal(map[string]string{"digest": strings.Repeat("d", 64), "summary": strings.Repeat("s", 510)})
	if err != nil {
		return err
	}
	now := h.near.Now()
	var items []store.Item
	for i := range n {
		workspace, commit := fmt.Sprint("network-", i%100), fmt.Sprintf("%040d", i)
		items = append(items, store.Item{Run: &store.Run{
			ID: runID(i), Key: fmt.Sprintf("plan/github.com/acme/infra/%d/%s/%s", i/100, workspace, commit), Kind: store.KindPlan, State: store.Planned,
			Repository: "github.com/acme/infra", Workspace: workspace, PullRequest: i/100 + 1, Commit: commit, Inputs: strings.Repeat("a", 64),
			Job: runID(i), Token: 1, Step: "plan", Node: "node-1", Result: result, CreatedAt: now, StartedAt: now, EndedAt: now, Version: 4,
		}})
		if len(items) < batch && i < n-1 {
			continue
		}
		if err := h.near.Load(ctx, items); err != nil {
			return err
		}
		items = items[:0]
	}
	return nil
}

// runID is as long as a ULID.
func runID(i int) string { return fmt.Sprintf("01%024d", i) }
