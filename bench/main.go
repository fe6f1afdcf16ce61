// Command bench measures Holdfast's queue on Redis beside hibiken/asynq on the
// same server and beside Holdfast's own SQLite, and what a store and an idle
// node cost. It is a module of its own, so that asynq is no part of the product.
//
// It starts redis-server from PATH with AOF, fsynced each second, for all sides.
// Sides take turns, and a figure is the median of their rounds: the machine may
// be slow or busy, and the ratios within one run hold nevertheless.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
)

// settings are how much is measured.
type settings struct {
	rounds int    // of which the median counts
	jobs   int    // of one round with several workers
	dir    string // for the files of all servers and stores
}

// section measures one thing and prints its table.
type section struct {
	name string
	run  func(context.Context, io.Writer, *redisServer, settings) error
}

var sections = []section{
	{"enqueue", enqueues}, {"latency", latencies}, {"throughput", throughputs},
	{"claim", claims}, {"memory", memories}, {"nodes", nodes},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&s.rounds, "rounds", 3, "`N` rounds of each side, of which the median counts")
	flags.IntVar(&s.jobs, "jobs", 2000, "`N` jobs in a round")
	only := flags.String("only", "", "comma-separated `sections`: enqueue, latency, throughput, claim, memory, nodes (default all)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s.dir = dir
	server, err := startRedis(ctx, dir)
	if err != nil {
		return err
	}
	defer server.stop()
	for _, section := range sections {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), section.name) {
			continue
		}
		if err := server.client.FlushAll(ctx).Err(); err != nil {
			return fmt.Errorf("empty the server: %w", err)
		}
		if err := section.run(ctx, out, server, s); err != nil {
			return fmt.Errorf("measure %s: %w", section.name, err)
		}
	}
	return nil
}
