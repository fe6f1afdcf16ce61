package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"holdfast/store"
)

// memories measures what Redis needs for what a store holds.
func memories(ctx context.Context, out io.Writer, server *redisServer, _ settings) error {
	const n = 10_000
	h, err := onRedis(ctx, server, "memory")
	if err != nil {
		return err
	}
	defer h.close()
	t := table{title: "Memory of Redis for 10,000 of each (used_memory)",
		note: "Runs have a result of 600 bytes. Beside them, each write leaves its answer in Redis for a minute.\n"}
	t.add("what", "memory", "each")
	last, err := server.memory(ctx)
	if err != nil {
		return err
	}
	// add measures what do adds to what was there at the last call, or at base.
	add := func(what string, do func() error) error {
		if err := do(); err != nil {
			return err
		}
		now, err := server.memory(ctx)
		if err != nil {
			return err
		}
		t.add(what, fmt.Sprintf("%.1f MB", (now-last)/1e6), fmt.Sprintf("%.2f kB", (now-last)/n/1e3))
		return nil
	}
	if err := add("finished runs", func() error { return loadRuns(ctx, h, n) }); err != nil {
		return err
	}
	if err := add("finished runs, each with a plan of 4 KiB and a log of 2 KiB", func() error { return putArtifacts(ctx, h, n) }); err != nil {
		return err
	}
	if err := add("the same after retention removed plans and logs", func() error { return deleteArtifacts(ctx, h, n) }); err != nil {
		return err
	}
	if last, err = server.memory(ctx); err != nil {
		return err
	}
	if err := add("waiting jobs in 1,000 groups", func() error { return h.fill(ctx, n) }); err != nil {
		return err
	}
	return t.print(out)
}

// putArtifacts stores the plan and the log of n runs.
func putArtifacts(ctx context.Context, h *holdfast, n int) error {
	secret := make([]byte, store.KeySize)
	rand.Read(secret)
	artifacts := store.Sealed(h.near.Artifacts, secret)
	plan, log := make([]byte, 4<<10), make([]byte, 2<<10)
	return together(ctx, 16, n, func(ctx context.Context, i int) error {
		if err := artifacts.Put(ctx, time.Now(), runID(i)+"/plan", plan); err != nil {
			return err
		}
		return artifacts.Append(ctx, time.Now(), runID(i)+"/log", log)
	})
}

func deleteArtifacts(ctx context.Context, h *holdfast, n int) error {
	return together(ctx, 16, n, func(ctx context.Context, i int) error { return h.near.Artifacts.Delete(ctx, runID(i)+"/") })
}
