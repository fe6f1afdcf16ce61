package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"holdfast/lock"
	"holdfast/store"
)

// withStore opens the server's store for a command; a running server does not
// mind. Where there is none, none is made.
func withStore(f *serverFlags, do func(context.Context, *store.Store) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		s, err := f.settings(LoadStoreSettings)
		if err != nil {
			return err
		}
		// Without the server's key: nothing that is encrypted is read.
		st, err := openRead(cmd.Context(), s, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
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
		Long: `List what the server planned, applied, checked and corrected, newest first. It
reads the server's store and needs the right to do so; the server may be running
or not.`,
		Example: "  holdfast runs --config server.hcl\n  holdfast runs -w prod-vpc --kind apply -n 5",
		Args:    takes(0, 0),
	}
	f.register(cmd)
	format := outputFlag(cmd)
	cmd.Flags().StringVar(&filter.Repository, "repository", "", "only those of this repository (`HOST/OWNER/NAME`)")
	cmd.Flags().StringVarP(&filter.Workspace, "workspace", "w", "", "only those of this workspace, by `name`")
	cmd.Flags().IntVar(&filter.PullRequest, "pull-request", 0, "only those of the pull request with this `number`")
	choiceFlag(cmd, &kind, "kind", "", "only those of this kind", "plan", "apply", "drift", "correct")
	cmd.Flags().IntVarP(&filter.Limit, "limit", "n", 50, "at most this `many`")
	read := withStore(&f, func(ctx context.Context, st *store.Store) error {
		filter.Kind = store.Kind(kind)
		runs, err := st.Runs.List(ctx, filter)
		if err != nil {
			return err
		}
		return list(cmd, *format, runs, "runs", "run kind state workspace pull commit created", func(r store.Run) []string {
			pull := ""
			if r.PullRequest != 0 {
				pull = fmt.Sprintf("#%d", r.PullRequest)
			}
			return []string{r.ID, string(r.Kind), string(r.State), r.Workspace, pull, r.Commit[:min(8, len(r.Commit))], r.CreatedAt.Local().Format(time.DateTime)}
		})
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if filter.Limit < 1 {
			return hinted{fmt.Errorf("--limit is %d, and at least one run has to be listed", filter.Limit), usageOf(cmd)}
		}
		return read(cmd, args)
	}
	return cmd
}

func newLocks() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "locks",
		Short: "List the locks that are held, by whom, since when and why",
		Long: `List the locks that the server's processes, pull requests and people hold. It
reads the server's store; the server may be running or not.`,
		Args: takes(0, 0),
	}
	f.register(cmd)
	format := outputFlag(cmd)
	cmd.RunE = withStore(&f, func(ctx context.Context, st *store.Store) error {
		leases, err := st.Locks.List(ctx, st.Now(), "")
		if err != nil {
			return err
		}
		return list(cmd, *format, leases, "locks are held", "lock holder why since", func(l lock.Lease) []string {
			return []string{string(l.Key), l.Holder.Who, l.Holder.Why, l.Since.Local().Format(time.DateTime)}
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
(the file "key" in the data directory) with it: plans and logs are encrypted.
Keep its directory "state" too, if any: the state of root modules that have no
backend is only there, and without it the next plan makes everything once more.
A file that exists is never written over. To restore, stop the server and put
the copy in the place of "holdfast.db" in the data directory, with "key" and
"state" beside it.`,
		Example: "  holdfast backup --config server.hcl /var/backups/holdfast-$(date +%F).db",
		Args:    takes(1, 1),
	}
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withStore(&f, func(ctx context.Context, st *store.Store) error {
			if st.Backup == nil {
				return hinted{errors.New("this store is not a file of Holdfast's: it is backed up with its own means"), "copy the Redis server's files (its directory of RDB and append-only files), and keep HOLDFAST_KEY; or move everything into a file: holdfast migrate --from redis://… --to sqlite:PATH"}
			}
			if err := st.Backup(ctx, args[0]); err != nil {
				if errors.Is(err, store.ErrExists) {
					return hinted{fmt.Errorf("back up to %s: the file exists", args[0]), "name a file that does not exist yet"}
				}
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "written to %s\n", args[0])
			return err
		})(cmd, args)
	}
	return cmd
}
