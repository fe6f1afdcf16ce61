package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/workspaces"
)

// takes returns a check of a command's arguments, whose answer shows how the
// command is used. least and most bound their number.
func takes(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		var err error
		switch {
		case len(args) > most && most == 0:
			err = fmt.Errorf("%s takes no arguments, and got %q", cmd.CommandPath(), args[0])
		case len(args) > most:
			err = fmt.Errorf("%q is one argument too many", args[most])
		case len(args) < least:
			missing := strings.Fields(cmd.Use)[1+len(args)]
			err = fmt.Errorf("%s needs %s", cmd.CommandPath(), missing)
		default:
			return nil
		}
		return hinted{err, usageOf(cmd)}
	}
}

// usageOf says how a command is used, in one line.
func usageOf(cmd *cobra.Command) string {
	return fmt.Sprintf("write: %s (`%s --help` says more)", cmd.UseLine(), cmd.CommandPath())
}

// unknownCommand is what the program does with a first word that is none of
// its commands.
func unknownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return root.Help()
	}
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	hint := "`holdfast --help` lists all commands"
	if near := workspaces.Nearest(args[0], names); strings.HasPrefix(near, "did you mean") {
		hint = near
	}
	return hinted{fmt.Errorf("there is no command %q", args[0]), hint}
}

// flagMistake explains what is wrong with a command's flags, and names the
// nearest of those that there are.
func flagMistake(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return hinted{err, usageOf(cmd)}
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	word := "--" + unknown.GetSpecifiedName()
	hint := usageOf(cmd)
	if near := workspaces.Nearest(word, names); strings.HasPrefix(near, "did you mean") {
		hint = near
	}
	return hinted{fmt.Errorf("%s has no flag %s", cmd.CommandPath(), word), hint}
}

// choice is the value of a flag that is one of some words.
type choice struct {
	to    *string
	words []string
}

// Set refuses other words before any work is done.
func (c choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("it is one of: %s", strings.Join(c.words, ", "))
	}
	*c.to = s
	return nil
}

func (c choice) String() string {
	if c.to == nil {
		return ""
	}
	return *c.to
}

// Type is what help texts call the value.
func (c choice) Type() string { return strings.Join(c.words, "|") }

var _ pflag.Value = choice{}

// choiceFlag adds a flag that is one of some words.
func choiceFlag(cmd *cobra.Command, to *string, name, short, usage string, words ...string) {
	cmd.Flags().VarP(choice{to, words}, name, short, usage)
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// directory is a command's first argument, which has to be a directory, else
// the current one.
func directory(args []string) (string, error) {
	if len(args) == 0 {
		return ".", nil
	}
	info, err := os.Stat(args[0])
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no directory %s", args[0])
	}
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", hinted{fmt.Errorf("%s is not a directory", args[0]), "name a directory of the repository, or none for the current one"}
	}
	return args[0], nil
}
