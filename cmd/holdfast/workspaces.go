package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/vcs/git"
	"holdfast/workspaces"
)

func newWorkspaces() *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:     "workspaces [DIR]",
		Aliases: []string{"ws"},
		Short:   "List the workspaces of the working tree",
		Long: `List the workspaces of the repository that DIR, or the current directory, is in,
as its files are now. A mistake that spoils one of them is told on the standard
error; one that spoils all of them ends with exit code 1.`,
		Example: "  holdfast workspaces\n  holdfast workspaces --changed-since main -o json",
		Args:    takes(0, 1),
	}
	format := outputFlag(cmd)
	cmd.Flags().StringVar(&since, "changed-since", "", "only those that differ from this `ref`, uncommitted changes included")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tree, c, err := openTree(args)
		if err != nil {
			return err
		}
		ws := c.Workspaces
		if since != "" {
			changed, err := tree.ChangedSince(cmd.Context(), since)
			if err != nil {
				return err
			}
			ws = affectedOnly(c, changed)
		}
		for _, p := range c.Problems {
			fmt.Fprintln(cmd.ErrOrStderr(), p)
		}
		var rows []workspaceRow
		for _, w := range ws {
			rows = append(rows, workspaceRow{w, applyRow{w.Apply, shortDuration(w.Apply.MaxPlanAge)}})
		}
		return list(cmd, *format, rows, "workspaces", "name dir workspace engine", func(w workspaceRow) []string {
			return []string{w.Name, w.Dir, w.Workspace.Workspace, w.Engine}
		})
	}
	return cmd
}

// workspaceRow is a workspace as it is printed: lengths of time as people write
// them.
type workspaceRow struct {
	workspaces.Workspace
	Apply applyRow `json:"apply"`
}

type applyRow struct {
	workspaces.Apply
	MaxPlanAge string `json:"max_plan_age"`
}

// shortDuration writes "24h" where time.Duration writes "24h0m0s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func newValidate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate [DIR]",
		Short: "Check holdfast.hcl and what it names",
		Long: `Check holdfast.hcl of the repository that DIR, or the current directory, is in:
its own words, the directories, files and workspaces that it names, and whether
the configurations there can be read. Each mistake is shown with its place.

The exit code is 0 without mistakes, else 1.`,
		Args: takes(0, 1),
	}
	format := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir, err := directory(args)
		if err != nil {
			return err
		}
		if tree, err := git.OpenWorkingTree(dir); err == nil {
			dir = tree.Root
		}
		c, err := workspaces.Load(dir)
		var problems workspaces.Problems
		if err != nil && !errors.As(err, &problems) {
			return err
		}
		if c != nil {
			problems = append(problems, c.Problems...)
		}
		if err := printProblems(cmd, *format, c, problems); err != nil {
			return err
		}
		if len(problems) > 0 {
			return exitError(1)
		}
		return nil
	}
	return cmd
}

// printProblems prints what validate found; c is nil where nothing could be
// read.
func printProblems(cmd *cobra.Command, format string, c *workspaces.Config, problems workspaces.Problems) error {
	if format == "json" {
		return list(cmd, format, problems, "", "", nil)
	}
	if len(problems) == 0 {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s, no mistakes\n", count(len(c.Workspaces), "workspace", "workspaces"))
		return err
	}
	_, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s\n\n%s\n", problems, count(len(problems), "mistake", "mistakes"))
	return err
}
