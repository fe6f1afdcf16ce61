package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"holdfast/queue"
	"holdfast/runner"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// explain says what a table of drift has no room for.
func explain(w io.Writer, r plan.DriftReport) error {
	var lines []string
	if r.Reason != "" {
		lines = append(lines, r.Reason)
	}
	for _, address := range r.Unexplained {
		lines = append(lines, address+": its change would do more than put back what the refresh found changed in the cloud")
	}
	for _, c := range r.Checks {
		lines = append(lines, strings.TrimSpace(c.Address+" does not hold. "+c.Message))
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, "\n"+line); err != nil {
			return err
		}
	}
	return nil
}

// driftState is a workspace with its drift, now and before.
type driftState struct {
	Repository string                `json:"repository"`
	Workspace  string                `json:"workspace"`
	State      runner.WorkspaceState `json:"state"`
	Class      string                `json:"class"`
	Contested  bool                  `json:"contested"`
	Overdue    bool                  `json:"overdue"`
	CheckedAt  time.Time             `json:"checked_at,omitzero"`
	// GoodAt is the last check that could tell, RetryAt when a failed one is
	// tried again.
	GoodAt      time.Time           `json:"good_at,omitzero"`
	RetryAt     time.Time           `json:"retry_at,omitzero"`
	Error       string              `json:"error,omitempty"`
	Now         *runner.Episode     `json:"now,omitempty"`
	Past        []runner.Episode    `json:"past,omitempty"`
	Corrections []runner.Correction `json:"corrections,omitempty"`
	Ticket      string              `json:"ticket,omitempty"`
	Proposal    string              `json:"proposal,omitempty"`
}

func newDriftList() *cobra.Command {
	var f serverFlags
	var repository string
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what drifted on the server: now, and before",
		Long: `List the workspaces that are drifted, contested, unknown or overdue, with since
when, what, and who did it. --all has those in sync too. With -o json the whole
history of each is there: when drift began, what it was, how it ended and who
corrected it. It reads the server's store; the server may be running or not.`,
		Example: "  holdfast drift list --config server.hcl\n  holdfast drift list --all -o json",
		Args:    takes(0, 0),
	}
	f.register(cmd)
	format := outputFlag(cmd)
	cmd.Flags().StringVar(&repository, "repository", "", "only those of this repository (`HOST/OWNER/NAME`)")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that are in sync")
	cmd.RunE = withStore(&f, func(ctx context.Context, st *store.Store) error {
		states, err := driftStates(ctx, st, repository)
		if err != nil {
			return err
		}
		if repository != "" && len(states) == 0 {
			return hinted{fmt.Errorf("the server knows no workspaces of %s", repository), "repositories are named HOST/OWNER/NAME; \"holdfast drift list --all\" names those it knows"}
		}
		if !all {
			states = slices.DeleteFunc(states, func(s driftState) bool {
				return s.Now == nil && !s.Overdue && s.State != runner.Unknown && s.State != runner.Drifted
			})
		}
		return list(cmd, *format, states, "workspaces", "repository workspace state class since what who", func(s driftState) []string {
			state := string(s.State)
			if s.Contested {
				state = "contested"
			}
			if s.Overdue {
				state += " (overdue)"
			}
			since, what, who := "", firstError(s.Error), ""
			if s.Now != nil {
				since, what = s.Now.Began.Local().Format(time.DateTime), resourcesOf(s.Now.Resources, s.Now.More)
				for _, a := range s.Now.Who[:min(len(s.Now.Who), 2)] {
					who = strings.TrimPrefix(who+", "+a.Actor, ", ")
				}
			}
			return []string{s.Repository, s.Workspace, state, s.Class, since, what, who}
		})
	})
	return cmd
}

// resourcesOf names what drifted.
func resourcesOf(resources []plan.DriftedResource, more int) string {
	var names []string
	for _, d := range resources {
		name := d.Address + " " + d.Change
		if len(d.Attributes) > 0 {
			name += " (" + strings.Join(d.Attributes, ", ") + ")"
		}
		names = append(names, name)
	}
	if more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// driftStates reads what the store knows of workspaces and their drift.
func driftStates(ctx context.Context, st *store.Store, repository string) ([]driftState, error) {
	prefix := ""
	if repository != "" {
		prefix = repository + "/"
	}
	drifts, err := runner.ReadDrift(ctx, st.Records, prefix)
	if err != nil {
		return nil, err
	}
	known := map[[2]string]runner.DriftRecord{}
	for _, d := range drifts {
		known[[2]string{d.Repository, d.Name}] = d
	}
	all, err := runner.ReadWorkspaces(ctx, st.Records, prefix)
	if err != nil {
		return nil, err
	}
	states := []driftState{}
	for _, w := range all {
		d := known[[2]string{w.Repository, w.Name}]
		s := driftState{
			Repository: w.Repository, Workspace: w.Name, State: w.State, Class: w.Class, Contested: !d.Contested.IsZero(), Overdue: w.Overdue,
			CheckedAt: w.CheckedAt, GoodAt: w.GoodAt, RetryAt: w.RetryAt, Error: w.Error, Now: d.Now, Past: d.Past, Corrections: d.Corrections, Ticket: d.Ticket.URL,
		}
		if d.Proposal.Open {
			s.Proposal = cmp.Or(d.Proposal.URL, d.Proposal.Branch) // plain Git has no address for it
		}
		states = append(states, s)
	}
	return states, nil
}

func newDriftCheck() *cobra.Command {
	var f serverFlags
	var names []string
	cmd := &cobra.Command{
		Use:   "check HOST/OWNER/NAME",
		Short: "Have the server check a repository's workspaces for drift now",
		Long: `Have the server check the workspaces of a repository for drift now, at its own
priority: all of them, or those that -w names. What is found is in "drift list",
on the pages and in the tickets. A server that is not running checks when it is.`,
		Example: "  holdfast drift check github.com/acme/infra -w 'prod-*'",
		Args:    takes(1, 1),
	}
	f.register(cmd)
	cmd.Flags().StringSliceVarP(&names, "workspace", "w", nil, "check only these workspaces (`name` or glob, or several with commas)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		repo, err := vcs.ParseRepository(args[0])
		if err != nil {
			return hinted{err, `for example "github.com/acme/infra"`}
		}
		if len(names) == 0 {
			names = []string{"**"}
		}
		for _, n := range names {
			if err := checkGlob(n); err != nil {
				return hinted{fmt.Errorf("-w %w", err), hintOf(err)}
			}
		}
		return withStore(&f, func(ctx context.Context, st *store.Store) error {
			known, err := runner.KnownWorkspaces(ctx, st.Records, repo)
			if err != nil {
				return hinted{fmt.Errorf("the server knows no repository %s", repo), "\"holdfast drift list --all\" names those it knows"}
			}
			if err := namesMatch(names, known); err != nil {
				return err
			}
			q := queue.New(st.Queue, queue.Config{Clock: st.Clock})
			for _, n := range names {
				err := runner.AskForChecks(ctx, q, time.Time{}, vcs.Event{Repository: repo, Branch: n, Sender: whoAmI()})
				if err != nil {
					return err
				}
			}
			err = st.Audit.Append(ctx, store.Entry{ID: ulid.Make().String(), At: st.Now(), Who: whoAmI(), Action: "drift", Repository: repo.String(), Why: strings.Join(names, ", ")})
			if err != nil {
				return fmt.Errorf("write audit trail: %w", err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "asked for; the server checks within seconds")
			return err
		})(cmd, args)
	}
	return cmd
}

// namesMatch refuses a name, or a glob, that means none of the workspaces.
func namesMatch(names, known []string) error {
	for _, n := range names {
		if !slices.ContainsFunc(known, func(w string) bool { ok, _ := doublestar.Match(n, w); return ok || n == w }) {
			return hinted{fmt.Errorf("there is no workspace %q", n), workspaces.Nearest(n, known)}
		}
	}
	return nil
}

func newDriftExplain() *cobra.Command {
	var applied bool
	cmd := &cobra.Command{
		Use:   "explain PLAN.json",
		Short: "Say which kind of drift a plan shows",
		Long: `Say which kind of drift a plan in Terraform's JSON format shows, and why, as a
check would. "-" reads standard input. The exit code is 0 where it shows none, 2
where it shows some, and 1 where the plan cannot be read.`,
		Example: "  terraform show -json plan.bin | holdfast drift explain --applied -",
		Args:    takes(1, 1),
	}
	format := outputFlag(cmd)
	cmd.Flags().BoolVar(&applied, "applied", false, "the plan was made at the commit that was applied last")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := readPlan(cmd.InOrStdin(), args[0])
		if err != nil {
			return err
		}
		report := p.DriftReport(applied)
		err = list(cmd, *format, []plan.DriftReport{report}, "reports", "class resources", func(r plan.DriftReport) []string {
			class := string(r.Class)
			if class == "" {
				class = "in_sync"
			}
			return []string{class, resourcesOf(r.Resources, 0)}
		})
		if err == nil && *format == "text" {
			err = explain(cmd.OutOrStdout(), report)
		}
		if err != nil {
			return err
		}
		if report.Class != plan.InSync && report.Class != plan.ProviderNoise {
			return exitError(2)
		}
		return nil
	}
	return cmd
}
