package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/runner"
	"holdfast/store"
)

// workerState is a process that carries out jobs, as the command shows it.
type workerState struct {
	runner.NodeState
	State string `json:"state"` // "working", or "gone" after a minute of silence
}

func newWorkers() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "List the processes that carry out jobs, and what each does now",
		Long: `List the processes that carry out jobs, with how many of their slots are busy and
with what. One that was not heard of for a minute is shown as gone, for a day. On
the standard error it says which waiting jobs no process may take. It reads the
server's store; the server may be running or not.`,
		Args: takes(0, 0),
	}
	f.register(cmd)
	format := outputFlag(cmd)
	cmd.RunE = withStore(&f, func(ctx context.Context, st *store.Store) error {
		now := st.Now()
		nodes, err := runner.Nodes(ctx, st.Records)
		if err != nil {
			return err
		}
		unserved, err := runner.UnservedJobs(ctx, st.Queue, nodes, now)
		if err != nil {
			return err
		}
		rows := make([]workerState, len(nodes))
		for i, n := range nodes {
			rows[i] = workerState{n, "working"}
			if n.Gone(now) {
				rows[i].State = "gone"
			}
		}
		err = list(cmd, *format, rows, "workers", "worker role state busy jobs labels version host seen", workerCells)
		for _, u := range unserved {
			if err == nil {
				_, err = fmt.Fprintln(cmd.ErrOrStderr(), unservedText(u))
			}
		}
		return err
	})
	return cmd
}

// workerCells are a worker's columns.
func workerCells(n workerState) []string {
	var kinds []string
	if n.State != "gone" { // else it is what it last said
		for _, j := range n.Running {
			kinds = append(kinds, j.Kind)
		}
	}
	slices.Sort(kinds)
	return []string{
		n.Name, n.Role, n.State, fmt.Sprintf("%d/%d", len(kinds), n.Slots), strings.Join(kinds, ","), strings.Join(n.Labels, ","),
		n.Version, n.Host, n.Seen.Local().Format(time.DateTime),
	}
}

// unservedText says which jobs nobody may take.
func unservedText(u runner.Unserved) string {
	jobs := count(u.Jobs, "job waits", "jobs wait")
	if len(u.Labels) == 0 {
		return jobs + ", and no worker is running"
	}
	return fmt.Sprintf("%s for labels [%s] that no worker has", jobs, strings.Join(u.Labels, " "))
}
