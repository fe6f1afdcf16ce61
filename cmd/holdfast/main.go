// Command holdfast keeps the cloud where Git says it is: it plans pull
// requests, applies what was merged, and finds drift.
//
// Each subcommand has a file of its own; wire.go opens the store and the
// hosts.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"holdfast/runner/shim"
)

// version is set by the linker.
var version = "dev"

func main() {
	// This executable is also the shim around an engine that applies: then it
	// does only that.
	shim.Main()
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup ignores it
		ends = append(ends, syscall.SIGHUP) // the terminal was closed
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// exitError ends the program with a code of its own and no message: what
// there was to say has been printed.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// run is the program. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var code exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "holdfast: interrupted")
		return exitInterrupted
	}
	hint := hintOf(err)
	fmt.Fprintln(stderr, "holdfast: "+withoutHint(err, hint))
	if hint != "" {
		fmt.Fprintln(stderr, "hint: "+hint)
	}
	return 1
}

// withoutHint is an error's text without the hint, which some have in it for
// logs.
func withoutHint(err error, hint string) string {
	if hint == "" {
		return err.Error()
	}
	return strings.Replace(err.Error(), " ("+hint+")", "", 1)
}

// exitInterrupted is the exit code after Ctrl-C and SIGTERM: what shells give a
// program that an interrupt has ended.
const exitInterrupted = 130

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Keep the cloud where Git says it is",
		Long: `Holdfast runs Terraform or OpenTofu for a team: a pull request gets a plan, a
merge gets that plan applied, and every workspace is planned again on a schedule
so that drift is found and, where the team wants it, undone.

Try it on this machine: holdfast demo

Exit codes: 0 where all is well, 1 after a mistake or a failure, 130 when
interrupted ("serve", "worker", and "demo" without --auto, end that way with 0);
"drift" and "diff" end with 2 where they found a difference.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		Args:          cobra.ArbitraryArgs,
		RunE:          unknownCommand,
	}
	root.SetFlagErrorFunc(flagMistake)
	root.AddCommand(
		newServe(), newWorkerCommand(), newDemo(), newSetup(), newDoctor(),
		newPlan(), newDrift(), newWorkspaces(), newValidate(),
		newShow(), newDiff(),
		newRuns(), newJobs(), newWorkers(), newLocks(), newHold(), newRelease(), newUnlock(), newBackup(), newMigrate(), newVersion(),
	)
	return root
}

// hinted is an error with advice on what to do.
type hinted struct {
	error
	hint string
}

func (e hinted) Hint() string  { return e.hint }
func (e hinted) Unwrap() error { return e.error }
