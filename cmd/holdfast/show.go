package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"holdfast/runner/markdown"
	"holdfast/runner/plan"
)

// maxPlanFile bounds what `show` and `diff` read, in bytes.
const maxPlanFile = 256 << 20

func newShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show PLAN.json",
		Short: "Print what would be posted for a plan",
		Long: `Print what would be posted on a pull request for a plan in Terraform's JSON
format, as "terraform show -json PLAN" prints it. "-" reads standard input.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := readPlan(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), markdown.Single(p, args[0], 1<<20))
			return nil
		},
	}
	return cmd
}

func newDiff() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "diff OLD.json NEW.json",
		Short: "Compare two plans: are they the same change?",
		Long: `Compare two plans in Terraform's JSON format as an apply does after a merge:
OLD is what was reviewed, NEW what a plan says now. The exit code is 0 where NEW
may be applied (identical, or narrower), 2 where it is another change.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			old, err := readPlan(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			now, err := readPlan(cmd.InOrStdin(), args[1])
			if err != nil {
				return err
			}
			c := plan.Compare(old, now)
			if output == "json" {
				err = list(cmd.OutOrStdout(), output, []plan.Comparison{c}, "", nil)
			} else {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), markdown.CompareText(c, old, now))
			}
			if err == nil && c.Verdict == plan.Changed {
				return exitError(2)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", `"text" or "json" (an array with one object)`)
	return cmd
}

// readPlan reads a plan in Terraform's JSON format.
func readPlan(stdin io.Reader, name string) (*plan.Plan, error) {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxPlanFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxPlanFile {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, maxPlanFile>>20)
	}
	p, err := plan.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}
