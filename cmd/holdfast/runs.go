package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/lock"
	"holdfast/store"
)

// withStore opens the server's store for a command; a running server does not
// mind.
func withStore(f *serverFlags, do func(context.Context, *store.Store) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		s, err := f.settings()
		if err != nil {
			return err
		}
		st, _, err := openStore(cmd.Context(), s)
		if err != nil {
			return err
		}
		defer st.Close()
		return do(cmd.Context(), st)
	}
}

func newRuns() *cobra.Command {
	var f serverFlags
	var filter store.RunFilter
	var kind string
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List the server's runs, newest first",
		Args:  cobra.NoArgs,
	}
	f.register(cmd)
	format := outputFlag(cmd)
	cmd.Flags().StringVar(&filter.Repository, "repository", "", "only those of HOST/OWNER/NAME")
	cmd.Flags().StringVarP(&filter.Workspace, "workspace", "w", "", "only those of this workspace")
	cmd.Flags().IntVar(&filter.PullRequest, "pull-request", 0, "only those of this pull request")
	cmd.Flags().StringVar(&kind, "kind", "", "only plan, apply, drift or correct")
	cmd.Flags().IntVarP(&filter.Limit, "limit", "n", 50, "at most this many")
	cmd.RunE = withStore(&f, func(ctx context.Context, st *store.Store) error {
		filter.Kind = store.Kind(kind)
		runs, err := st.Runs.List(ctx, filter)
		if err != nil {
			return err
		}
		return list(cmd.OutOrStdout(), *format, runs, "run kind state workspace pull commit created", func(r store.Run) []string {
			pull := "-"
			if r.PullRequest != 0 {
				pull = fmt.Sprintf("#%d", r.PullRequest)
			}
			return []string{r.ID, string(r.Kind), string(r.State), r.Workspace, pull, r.Commit[:min(8, len(r.Commit))], r.CreatedAt.Local().Format(time.DateTime)}
		})
	})
	return cmd
}

func newLocks() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "locks",
		Short: "List the locks that are held, by whom, since when and why",
		Args:  cobra.NoArgs,
	}
	f.register(cmd)
	format := outputFlag(cmd)
	cmd.RunE = withStore(&f, func(ctx context.Context, st *store.Store) error {
		leases, err := st.Locks.List(ctx, time.Now(), "")
		if err != nil {
			return err
		}
		return list(cmd.OutOrStdout(), *format, leases, "lock holder why since", func(l lock.Lease) []string {
			return []string{string(l.Key), l.Holder.Who, strings.ReplaceAll(l.Holder.Why, "\n", " "), l.Since.Local().Format(time.DateTime)}
		})
	})
	return cmd
}

func newBackup() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a consistent copy of the store while the server runs",
		Long: `Write a consistent copy of the store to a new file while the server runs: queue,
locks, runs with their plans and logs, and the audit trail. Keep the server's key
(the file "key" in the data directory) with it: plans and logs are encrypted.`,
		Args: cobra.ExactArgs(1),
	}
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withStore(&f, func(ctx context.Context, st *store.Store) error {
			if err := st.Backup(ctx, args[0]); err != nil {
				return fmt.Errorf("back up to %s: %w", args[0], err)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "written to %s\n", args[0])
			return err
		})(cmd, args)
	}
	return cmd
}
