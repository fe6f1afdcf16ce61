package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/runner"
	"holdfast/store"
	"holdfast/vcs"
)

func newUnlock() *cobra.Command {
	var f serverFlags
	var u runner.Unlocking
	cmd := &cobra.Command{
		Use:   "unlock HOST/OWNER/NAME",
		Short: "Take workspaces back from pull requests, so that others go on",
		Long: `Take workspaces back from the pull requests that have locked them, so that those
that wait go on. A pull request locks a workspace from its merge, or from its
plan, until it is applied; one whose apply failed or is held keeps it, so that
nothing piles on a broken workspace. See who has what with "holdfast locks".

An apply that has not ended keeps its workspace. Who unlocked what, and why, is
written into the audit trail. In a pull request the comment "holdfast unlock"
does the same for what that pull request has.`,
		Example: `  holdfast unlock git.example.com/platform/network -w prod-vpc -m "mended by hand"
  holdfast unlock git.example.com/platform/network -w 'live/**'`,
		Args: takes(1, 1),
	}
	f.register(cmd)
	cmd.Flags().StringArrayVarP(&u.Match, "workspace", "w", nil, "only workspaces of this `name` or glob (several times)")
	cmd.Flags().IntVar(&u.Number, "pull-request", 0, "only what the pull request with this `number` has")
	cmd.Flags().StringVarP(&u.Why, "message", "m", "", "why, for the audit trail")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if u.Repository, err = vcs.ParseRepository(args[0]); err != nil {
			return hinted{err, `"holdfast locks" shows how repositories are written`}
		}
		u.Who = whoAmI()
		return withStore(&f, func(ctx context.Context, st *store.Store) error {
			done, err := runner.Unlock(ctx, st, queue.New(st.Queue, queue.Config{Clock: st.Clock}), lock.New(st.Locks, lock.Config{Clock: st.Clock}), u, func(e store.Entry) error {
				e.At = st.Now()
				return st.Audit.Append(ctx, e)
			})
			if err != nil {
				return err
			}
			return sayUnlocked(cmd, done)
		})(cmd, args)
	}
	return cmd
}

// sayUnlocked prints what was unlocked; an error says what was not.
func sayUnlocked(cmd *cobra.Command, done runner.Unlocked) error {
	for i, name := range done.Workspaces {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "unlocked %s (pull request #%d)\n", name, done.Owners[i]); err != nil {
			return err
		}
	}
	switch {
	case len(done.Busy) > 0:
		return hinted{fmt.Errorf("an apply of %s has not ended", done.Busy[0]), "wait until it has, and see what became of it"}
	case len(done.Workspaces) == 0:
		return hinted{errors.New("no pull request has locked that"), `"holdfast locks" shows who has what`}
	}
	return nil
}
