package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"holdfast/queue"
	"holdfast/runner"
	"holdfast/store"
)

// allJobs is more than there ever are.
const allJobs = 10_000_000

func newJobs() *cobra.Command {
	var f serverFlags
	var state, kind string
	var most int
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "List the server's unfinished jobs, oldest first",
		Long: `List what the server still has to do, oldest first: jobs that wait, that run, and
dead ones, which were tried in vain and are kept until somebody retries or
cancels them. DUE is the time from which on it may run, or might. A waiting job
has the labels that its worker needs, if any. It reads the server's store and needs the right to
do so; the server may be running or not.`,
		Example: "  holdfast jobs --config server.hcl\n  holdfast jobs --state dead -o json",
		Args:    takes(0, 0),
	}
	cmd.AddCommand(newJobsRetry(), newJobsCancel())
	f.register(cmd)
	format := outputFlag(cmd)
	choiceFlag(cmd, &state, "state", "", "only those in this state", "waiting", "running", "dead")
	cmd.Flags().StringVar(&kind, "kind", "", "only those of this `kind` (event, plan, apply, report, drift, ...)")
	cmd.Flags().IntVarP(&most, "limit", "n", 50, "at most this `many`")
	read := withStore(&f, func(ctx context.Context, st *store.Store) error {
		// One more than asked for tells whether there are more.
		jobs, err := st.Queue.List(ctx, queue.Filter{State: queue.State(state), Kind: kind, Limit: most + 1})
		if err != nil {
			return err
		}
		shown := jobs[:min(most, len(jobs))]
		now := st.Now()
		err = list(cmd, *format, shown, "jobs", "job kind state about attempt due worker error", func(j queue.Job) []string {
			return jobCells(j, now)
		})
		if err == nil && len(jobs) > most {
			_, err = fmt.Fprintln(cmd.ErrOrStderr(), "there are more; --limit says how many are listed")
		}
		return err
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if most < 1 {
			return hinted{fmt.Errorf("--limit is %d, and at least one job has to be listed", most), usageOf(cmd)}
		}
		return read(cmd, args)
	}
	return cmd
}

// jobCells is a job's line in the table.
func jobCells(j queue.Job, now time.Time) []string {
	due, worker := j.RunAt.Local().Format(time.DateTime), j.Worker
	if j.RunAt.After(now) {
		due = "in " + j.RunAt.Sub(now).Round(time.Second).String()
	}
	if j.State == queue.StateWaiting && len(j.RunsOn) > 0 {
		worker = "needs " + strings.Join(j.RunsOn, ", ")
	}
	state := string(j.State)
	if j.Canceled {
		state += " (canceled)"
	}
	return []string{j.ID, j.Kind, state, aboutJob(j), fmt.Sprint(j.Attempt), due, worker, shortened(j.LastError, 80)}
}

// aboutJob is what a job is about, for people: its group without the word that
// says what kind of group that is.
func aboutJob(j queue.Job) string {
	about := j.Group
	for _, word := range []string{j.Kind + "/", "pull/", "commit/", "repository/", "workspace/", "ticket/"} {
		about = strings.TrimPrefix(about, word)
	}
	return about
}

// shortened cuts text to one line of at most n characters.
func shortened(text string, n int) string {
	runes := []rune(oneLine(text))
	if len(runes) <= n {
		return string(runes)
	}
	return string(runes[:n-1]) + "…"
}

func newJobsRetry() *cobra.Command {
	var f serverFlags
	var dead bool
	var why string
	cmd := &cobra.Command{
		Use:   "retry ID...",
		Short: "Have jobs run now, from their first attempt",
		Long: `Have jobs run now, from their first attempt: dead ones, and those that wait for
their next attempt. One that is running is left alone. Find out first what made
it fail, "holdfast jobs" shows the latest error. Who retried what is written into
the audit trail.`,
		Example: "  holdfast jobs retry 01JNGZ9K1R0000000000000001\n  holdfast jobs retry --all-dead -m \"the host is back\"",
		Args:    takes(0, allJobs),
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&dead, "all-dead", false, "all dead jobs")
	cmd.Flags().StringVarP(&why, "message", "m", "", "why, for the audit trail")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case dead && len(args) > 0:
			return hinted{errors.New("--all-dead and IDs do not go together"), usageOf(cmd)}
		case !dead && len(args) == 0:
			return hinted{fmt.Errorf("%s needs IDs of jobs, or --all-dead", cmd.CommandPath()), usageOf(cmd)}
		}
		return withStore(&f, func(ctx context.Context, st *store.Store) error {
			jobs, err := st.Queue.List(ctx, queue.Filter{State: queue.StateDead, Limit: allJobs})
			if !dead {
				jobs, err = jobsOf(ctx, st, args)
			}
			if err != nil {
				return err
			}
			if len(jobs) == 0 {
				_, err := fmt.Fprintln(cmd.ErrOrStderr(), "no jobs are dead")
				return err
			}
			for _, j := range jobs {
				if err := retryJob(ctx, st, cmd.OutOrStdout(), j, why); err != nil {
					return err
				}
			}
			return nil
		})(cmd, args)
	}
	return cmd
}

func retryJob(ctx context.Context, st *store.Store, out io.Writer, j queue.Job, why string) error {
	after, err := queue.New(st.Queue, queue.Config{Clock: st.Clock}).Retry(ctx, j.ID)
	if errors.Is(err, queue.ErrNotFound) {
		return hasEnded(j.ID)
	}
	if err != nil {
		return err
	}
	if after.State == queue.StateRunning {
		_, err := fmt.Fprintf(out, "%s is running, and left alone\n", j.ID)
		return err
	}
	run, err := auditJob(ctx, st, "retry job", j, why)
	if err != nil {
		return err
	}
	text := "is due now"
	if run.ID != "" && run.State.Ended() {
		text = fmt.Sprintf("is due now; its run %s has ended (%s), so it only does what follows from that", run.ID, run.State)
	}
	_, err = fmt.Fprintln(out, j.ID, text)
	return err
}

func newJobsCancel() *cobra.Command {
	var f serverFlags
	var why string
	cmd := &cobra.Command{
		Use:   "cancel ID...",
		Short: "Cancel jobs: drop those that wait or are dead, stop those that run",
		Long: `Cancel jobs. One that waits or is dead is dropped; where it would have planned,
applied or checked a workspace, that run is canceled, and its pull request says
so. One that is running is asked to stop: a plan is interrupted, and an engine
that applies finishes what it is at and saves its state. What it did by then is
recorded, and nothing is undone. Who canceled what is written into the audit
trail.`,
		Example: `  holdfast jobs cancel 01JNGZ9K1R0000000000000001 -m "not today"`,
		Args:    takes(1, allJobs),
	}
	f.register(cmd)
	cmd.Flags().StringVarP(&why, "message", "m", "", "why, for the audit trail")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withStore(&f, func(ctx context.Context, st *store.Store) error {
			jobs, err := jobsOf(ctx, st, args)
			if err != nil {
				return err
			}
			for _, j := range jobs {
				if err := cancelJob(ctx, st, cmd.OutOrStdout(), j, why); err != nil {
					return err
				}
			}
			return nil
		})(cmd, args)
	}
	return cmd
}

func cancelJob(ctx context.Context, st *store.Store, out io.Writer, j queue.Job, why string) error {
	became, err := runner.CancelJob(ctx, st, queue.New(st.Queue, queue.Config{Clock: st.Clock}), st.Now(), j, whoAmI())
	switch {
	case errors.Is(err, queue.ErrNotFound):
		return hasEnded(j.ID)
	case errors.Is(err, runner.ErrApplying):
		return hinted{err, "the job has to find that out; have it do so now: holdfast jobs retry " + j.ID}
	case err != nil:
		return err
	}
	run, err := auditJob(ctx, st, "cancel job", j, why)
	if err != nil {
		return err
	}
	var text string
	switch became {
	case runner.Asked:
		text = "is running, and was asked to stop"
		if run.ID != "" {
			text += `; "holdfast runs" shows how run ` + run.ID + " ends"
		}
	case runner.Ended:
		text = "will end; its run " + run.ID + " is canceled"
	default:
		text = "is dropped"
	}
	_, err = fmt.Fprintln(out, j.ID, text)
	return err
}

// jobsOf returns the unfinished jobs with these IDs; an error where one of them
// is not there.
func jobsOf(ctx context.Context, st *store.Store, ids []string) ([]queue.Job, error) {
	all, err := st.Queue.List(ctx, queue.Filter{Limit: allJobs})
	if err != nil {
		return nil, err
	}
	byID, byKey := map[string]queue.Job{}, map[string]queue.Job{}
	for _, j := range all {
		byID[j.ID], byKey[j.Key] = j, j
	}
	var out []queue.Job
	for _, id := range ids {
		j, ok := byID[id]
		if !ok {
			return nil, unknownJob(ctx, st, id, byKey)
		}
		out = append(out, j)
	}
	return out, nil
}

// unknownJob says that no unfinished job has the ID, and knows those of runs.
func unknownJob(ctx context.Context, st *store.Store, id string, byKey map[string]queue.Job) error {
	run, err := st.Runs.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return hasEnded(id)
	}
	if err != nil {
		return err
	}
	hint := fmt.Sprintf("the run is %s, and no job is left of it", run.State)
	if j, ok := byKey["run/"+id]; ok {
		hint = "the job that carries it out is " + j.ID
	}
	return hinted{fmt.Errorf("%s is the ID of a run, not of a job", id), hint}
}

func hasEnded(id string) error {
	return hinted{fmt.Errorf("no unfinished job has the ID %s: it has ended, or never was", id), `"holdfast jobs" lists those that there are`}
}

// auditJob writes what a person did to a job into the audit trail, and returns
// the run that the job carries out, if any.
func auditJob(ctx context.Context, st *store.Store, action string, j queue.Job, why string) (store.Run, error) {
	var run store.Run
	if id, ok := strings.CutPrefix(j.Key, "run/"); ok {
		var err error
		if run, err = st.Runs.Get(ctx, id); err != nil && !errors.Is(err, store.ErrNotFound) {
			return run, err
		}
	}
	about := strings.TrimSuffix(fmt.Sprintf("%s job %s about %s: %s", j.Kind, j.ID, aboutJob(j), why), ": ")
	err := st.Audit.Append(ctx, store.Entry{
		ID: ulid.Make().String(), At: st.Now(), Who: whoAmI(), Action: action,
		Repository: run.Repository, Workspace: run.Workspace, Run: run.ID, Why: about,
	})
	if err != nil {
		return run, fmt.Errorf("write audit trail: %w", err)
	}
	return run, nil
}
