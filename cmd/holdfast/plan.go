package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/runner/markdown"
	"holdfast/runner/plan"
	"holdfast/workspaces"
)

func newPlan() *cobra.Command {
	var since string
	var names []string
	cmd := &cobra.Command{
		Use:   "plan [DIR]",
		Short: "Plan what the working tree changes, and print what would be posted",
		Long: `Plan every workspace that the working tree changes since a ref, with the engine
and the credentials of this shell, and print the comment that a pull request
would get. What is not committed yet counts, untracked files too. Nothing is
applied, and the working tree stays as it is. DIR is a directory of the
repository, the current one where it is left out.

The exit code is 0 where everything could be planned, else 1.`,
		Example: "  holdfast plan\n  holdfast plan --since origin/main\n  holdfast plan -w prod-vpc",
		Args:    takes(0, 1),
	}
	format := outputFlag(cmd)
	cmd.Flags().StringVar(&since, "since", "", "the `ref` that changes are counted from (default: the remote's default branch, else main or master)")
	cmd.Flags().StringSliceVarP(&names, "workspace", "w", nil, "plan these workspaces, changed or not (`name`, or several with commas)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tree, c, err := openTree(args)
		if err != nil {
			return err
		}
		ws, err := selectWorkspaces(c, names)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			changed, err := tree.ChangedSince(cmd.Context(), since)
			if err != nil {
				return err
			}
			ws = affectedOnly(c, changed)
		}
		results, err := planTree(cmd, tree.Root, c, ws)
		if err != nil {
			return err
		}
		return printPlans(cmd, *format, results)
	}
	return cmd
}

// printPlans prints the comment, or one object for each workspace.
func printPlans(cmd *cobra.Command, format string, results []localResult) error {
	failed := false
	report := markdown.Report{}
	rows := []planRow{}
	for _, r := range results {
		w := markdown.Workspace{Name: r.workspace.Name, Dir: r.workspace.Dir, Kind: "plan", State: "planned", Plan: r.plan}
		row := planRow{Name: r.workspace.Name, Dir: r.workspace.Dir, Workspace: r.workspace.Workspace}
		switch {
		case r.err != nil:
			w.State, w.Error, failed = "failed", explained(r.err), true
		case r.plan.Empty():
			w.State = "no_changes"
		}
		if r.err == nil {
			w.Notes = localNotes(r.workspace)
		}
		row.State, row.Error, row.Notes = w.State, w.Error, w.Notes
		if r.plan != nil {
			row.Summary = r.plan.Summary()
		}
		rows = append(rows, row)
		report.Workspaces = append(report.Workspaces, w)
	}
	if len(results) == 0 {
		report.Notice = "No workspace is affected."
	}
	var err error
	if format == "json" {
		err = list(cmd, format, rows, "", "", nil)
	} else {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), markdown.Render(report, 1<<20))
	}
	if err == nil && failed {
		return exitError(1)
	}
	return err
}

type planRow struct {
	Name      string       `json:"name"`
	Dir       string       `json:"dir"`
	Workspace string       `json:"workspace"`
	State     string       `json:"state"`
	Summary   plan.Summary `json:"summary"`
	Error     string       `json:"error,omitempty"`
	Notes     []string     `json:"notes,omitempty"`
}

// localNotes are what a plan in the working tree cannot know.
func localNotes(w workspaces.Workspace) []string {
	if !w.Backend.Ephemeral {
		return nil
	}
	return []string{w.Name + " has no backend that outlives a checkout: the server keeps its state, and this plan knows only the state in the working tree."}
}

// sound separates the workspaces that can be planned from those that a
// mistake spoils.
func sound(c *workspaces.Config, ws []workspaces.Workspace) (good []workspaces.Workspace, broken []localResult) {
	for _, w := range ws {
		if p := c.Problems.Of(w.Name); len(p) > 0 {
			broken = append(broken, localResult{workspace: w, err: p})
		} else {
			good = append(good, w)
		}
	}
	return good, broken
}

// affectedOnly returns the workspaces that the changed paths concern.
func affectedOnly(c *workspaces.Config, changed []string) []workspaces.Workspace {
	var ws []workspaces.Workspace
	for _, a := range c.Affected(changed, nil) {
		ws = append(ws, a.Workspace)
	}
	return ws
}

// selectWorkspaces returns the named workspaces, or all where none is named.
func selectWorkspaces(c *workspaces.Config, names []string) ([]workspaces.Workspace, error) {
	if len(names) == 0 {
		return c.Workspaces, nil
	}
	var ws []workspaces.Workspace
	for _, name := range names {
		w, ok := c.Workspace(name)
		if !ok {
			var all []string
			for _, w := range c.Workspaces {
				all = append(all, w.Name)
			}
			hint := workspaces.Nearest(name, all)
			if hint == "" {
				hint = "`holdfast workspaces` lists all"
			}
			return nil, hinted{fmt.Errorf("there is no workspace %q", name), hint}
		}
		ws = append(ws, w)
	}
	return ws, nil
}

// inOrder sorts results by their workspaces' names.
func inOrder(results []localResult) []localResult {
	slices.SortFunc(results, func(a, b localResult) int { return strings.Compare(a.workspace.Name, b.workspace.Name) })
	return results
}

// explained is an error with what it advises.
func explained(err error) string {
	if hint := hintOf(err); hint != "" {
		return err.Error() + "\n" + hint
	}
	return err.Error()
}
