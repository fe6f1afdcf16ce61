package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// outputFlag adds --output to a command that lists things.
func outputFlag(cmd *cobra.Command) *string {
	format := cmd.Flags().StringP("output", "o", "text", `"text" or "json" (an array of objects)`)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return format
}

// list prints rows as a JSON array, or as a table with the given header and
// one line of cells for each row.
func list[T any](w io.Writer, format string, rows []T, header string, cells func(T) []string) error {
	switch format {
	case "json":
		if rows == nil {
			rows = []T{}
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	case "text":
		if len(rows) == 0 {
			return nil
		}
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, strings.ToUpper(strings.ReplaceAll(header, " ", "\t")))
		for _, r := range rows {
			fmt.Fprintln(tw, strings.Join(cells(r), "\t"))
		}
		return tw.Flush()
	}
	return fmt.Errorf(`--output %q is neither "text" nor "json"`, format)
}

// progress tells what long work does: one line that changes on a terminal,
// plain lines elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	color    bool

	mu    sync.Mutex
	width int // of the changing line now shown
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
	}
	p.color = p.terminal && os.Getenv("NO_COLOR") == ""
	return p
}

// Step shows what is done now, until the next Step or Line.
func (p *progress) Step(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminal {
		fmt.Fprintln(p.w, s)
		return
	}
	pad := max(0, p.width-len(s))
	fmt.Fprintf(p.w, "\r%s%s", s, strings.Repeat(" ", pad))
	p.width = len(s)
}

// Line prints a line that stays.
func (p *progress) Line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.width))
		p.width = 0
	}
	fmt.Fprintf(p.w, format+"\n", args...)
}

// Clear removes the changing line.
func (p *progress) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.width))
		p.width = 0
	}
}

// bold and the colours return s unchanged where colours are not wanted.
func (p *progress) bold(s string) string  { return p.paint("1", s) }
func (p *progress) green(s string) string { return p.paint("32", s) }
func (p *progress) red(s string) string   { return p.paint("31", s) }
func (p *progress) faint(s string) string { return p.paint("2", s) }

func (p *progress) paint(code, s string) string {
	if !p.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
