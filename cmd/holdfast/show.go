package main

import (
	"errors"
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
		Example: "  terraform show -json plan.bin | holdfast show -",
		Args:    takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := readPlan(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), markdown.Single(p, args[0], 1<<20))
			return err
		},
	}
	return cmd
}

func newDiff() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff OLD.json NEW.json",
		Short: "Compare two plans: are they the same change?",
		Long: `Compare two plans in Terraform's JSON format as an apply does after a merge:
OLD is what was reviewed, NEW what a plan says now. The exit code is 0 where NEW
may be applied (identical, or narrower), 2 where it is another change, and 1
where a plan cannot be read. "-" reads one of them from standard input.`,
		Args: takes(2, 2),
	}
	format := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if args[0] == "-" && args[1] == "-" {
			return hinted{errors.New("both plans are standard input"), usageOf(cmd)}
		}
		old, err := readPlan(cmd.InOrStdin(), args[0])
		if err != nil {
			return err
		}
		now, err := readPlan(cmd.InOrStdin(), args[1])
		if err != nil {
			return err
		}
		c := plan.Compare(old, now)
		if *format == "json" {
			err = list(cmd, *format, []plan.Comparison{c}, "", "", nil)
		} else {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), markdown.CompareText(c, old, now))
		}
		if err == nil && c.Verdict == plan.Changed {
			return exitError(2)
		}
		return err
	}
	return cmd
}

// readPlan reads a plan in Terraform's JSON format.
func readPlan(stdin io.Reader, name string) (*plan.Plan, error) {
	in := stdin
	if name == "-" {
		name = "standard input"
	} else {
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
