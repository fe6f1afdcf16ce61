package main

import (
	"errors"
	"fmt"

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
		Args:    cobra.MaximumNArgs(1),
	}
	format := outputFlag(cmd)
	cmd.Flags().StringVar(&since, "changed-since", "", "only those that differ from this ref, uncommitted changes included")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tree, c, err := openTree(argOr(args, "."))
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
		return list(cmd.OutOrStdout(), *format, ws, "name dir workspace engine", func(w workspaces.Workspace) []string {
			return []string{w.Name, w.Dir, w.Workspace, w.Engine}
		})
	}
	return cmd
}

func newValidate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate [DIR]",
		Short: "Check holdfast.hcl and what it names",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := argOr(args, ".")
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
			for _, p := range problems {
				fmt.Fprintln(cmd.ErrOrStderr(), p)
			}
			if len(problems) > 0 {
				return exitError(1)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d workspaces, no mistakes\n", len(c.Workspaces))
			return nil
		},
	}
}
