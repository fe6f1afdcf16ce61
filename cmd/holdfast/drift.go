package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/runner/plan"
)

func newDrift() *cobra.Command {
	var names []string
	cmd := &cobra.Command{
		Use:   "drift [DIR]",
		Short: "Check now whether the cloud is what the working tree says",
		Long: `Plan the workspaces of the working tree as it is and say for each whether the
cloud matches it, and if not, why. Nothing is applied. Run it on the commit that
was applied last, where the state can be reached. DIR is a directory of the
repository, the current one where it is left out.

The exit code is 0 where everything is in sync, 2 where something drifted, and 1
where a check failed.`,
		Example: "  holdfast drift\n  holdfast drift -w prod-vpc -o json",
		Args:    takes(0, 1),
	}
	cmd.AddCommand(newDriftList(), newDriftCheck(), newDriftExplain())
	format := outputFlag(cmd)
	cmd.Flags().StringSliceVarP(&names, "workspace", "w", nil, "check only these workspaces (`name`, or several with commas)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tree, c, err := openTree(args)
		if err != nil {
			return err
		}
		ws, err := selectWorkspaces(c, names)
		if err != nil {
			return err
		}
		results, err := planTree(cmd, tree.Root, c, ws)
		if err != nil {
			return err
		}
		return printDrift(cmd, *format, results)
	}
	return cmd
}

// driftRow is one workspace's answer.
type driftRow struct {
	Name      string `json:"name"`
	Dir       string `json:"dir"`
	Workspace string `json:"workspace"`
	State     string `json:"state"` // in_sync, drifted or unknown
	// Class is a plan.Class; empty when in sync.
	Class     plan.Class             `json:"class"`
	Resources []plan.DriftedResource `json:"resources,omitempty"`
	Error     string                 `json:"error,omitempty"`
	Notes     []string               `json:"notes,omitempty"`
}

func printDrift(cmd *cobra.Command, format string, results []localResult) error {
	code := exitError(0)
	rows := []driftRow{}
	for _, r := range results {
		row := driftRow{Name: r.workspace.Name, Dir: r.workspace.Dir, Workspace: r.workspace.Workspace, State: "in_sync"}
		if r.err != nil {
			row.State, row.Class, row.Error, code = "unknown", plan.CheckError, explained(r.err), 1
		} else if report := r.plan.DriftReport(false); report.Class != plan.InSync {
			row.Class, row.Resources = report.Class, report.Resources
			if report.Class != plan.ProviderNoise {
				row.State = "drifted"
				if code == 0 {
					code = 2
				}
			}
		}
		if row.State == "drifted" {
			row.Notes = localNotes(r.workspace)
		}
		rows = append(rows, row)
	}
	err := list(cmd, format, rows, "workspaces", "workspace state class resources", func(r driftRow) []string {
		what := resourcesOf(r.Resources, 0)
		if r.Error != "" {
			what = firstError(r.Error)
		}
		return []string{r.Name, r.State, string(r.Class), what}
	})
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	for _, r := range rows {
		if r.Error != "" && format == "text" {
			fmt.Fprintf(cmd.ErrOrStderr(), "\n%s: %s\n", r.Name, r.Error)
		}
		for _, note := range r.Notes {
			if format == "text" {
				fmt.Fprintf(cmd.ErrOrStderr(), "\n%s: %s\n", r.Name, note)
			}
		}
	}
	if code != 0 {
		return code
	}
	return nil
}

// firstError is the line of an engine's output that says what is wrong, for a
// table; all of it is shown below.
func firstError(text string) string {
	first := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if i := strings.Index(line, "Error: "); i >= 0 {
			return line[i:]
		}
		if first == "" {
			first = line
		}
	}
	return first
}
