package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"holdfast/lock"
	"holdfast/runner"
	"holdfast/store"
)

func newHold() *cobra.Command {
	var f serverFlags
	var why string
	cmd := &cobra.Command{
		Use:   "hold DURATION",
		Short: "Freeze the whole server: nothing is applied or corrected for that time",
		Long: `Freeze the whole server: until the time is over or "holdfast release" ends it,
nothing is applied or corrected. Plans and drift checks go on, and pull requests
say what their applies wait for. An apply that is under way is not interrupted.

A single repository or workspace is held by a comment: holdfast hold 4h -w NAME`,
		Example: `  holdfast hold 4h -m "incident 42"`,
		Args:    takes(1, 1),
	}
	f.register(cmd)
	cmd.Flags().StringVarP(&why, "message", "m", "", "why, for everybody who waits")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		length, err := runner.ParseHold(args[0])
		if err != nil {
			return hinted{fmt.Errorf("%q is not a length of time for a hold", args[0]), "for example 90m, 4h or 2d; 90d at most"}
		}
		return withStore(&f, func(ctx context.Context, st *store.Store) error {
			lease, err := lock.New(st.Locks, lock.Config{Clock: st.Clock}).Acquire(ctx, runner.HoldEverything, runner.Holder(whoAmI(), why), length)
			if err != nil {
				return fmt.Errorf("hold: %w", err)
			}
			if err := auditHold(ctx, st, "hold", why); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "on hold until %s\n", lease.ExpireAt.Local().Format(time.DateTime))
			return err
		})(cmd, args)
	}
	return cmd
}

func newRelease() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "release",
		Short: "End a freeze of the whole server",
		Args:  takes(0, 0),
	}
	f.register(cmd)
	cmd.RunE = withStore(&f, func(ctx context.Context, st *store.Store) error {
		locker := lock.New(st.Locks, lock.Config{Clock: st.Clock})
		leases, err := locker.List(ctx, string(runner.HoldEverything))
		if err != nil {
			return fmt.Errorf("list holds: %w", err)
		}
		if len(leases) == 0 {
			return hinted{errors.New("the server is not on hold"), "a hold that a comment made is released by a comment"}
		}
		for _, l := range leases {
			if err := locker.Release(ctx, l); err != nil && !errors.Is(err, lock.ErrLost) {
				return fmt.Errorf("release: %w", err)
			}
		}
		if err := auditHold(ctx, st, "release", ""); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "released; what waited goes on by itself")
		return err
	})
	return cmd
}

// auditHold writes who froze the server, or ended that.
func auditHold(ctx context.Context, st *store.Store, action, why string) error {
	err := st.Audit.Append(ctx, store.Entry{ID: ulid.Make().String(), At: st.Now(), Who: whoAmI(), Action: action, Why: why})
	if err != nil {
		return fmt.Errorf("write audit trail: %w", err)
	}
	return nil
}

// whoAmI is the person at the command line, as far as the machine knows.
func whoAmI() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprintf("user %d", os.Getuid())
}
