package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// outputFlag adds --output to a command that lists things.
func outputFlag(cmd *cobra.Command) *string {
	format := "text"
	choiceFlag(cmd, &format, "output", "o", "how to print: json is an array of objects", "text", "json")
	return &format
}

// list prints rows as a JSON array, or as a table with the given header and
// one line of cells for each row. An empty table is an empty output, and a word
// on the standard error that there are no such things.
func list[T any](cmd *cobra.Command, format string, rows []T, things, header string, cells func(T) []string) error {
	w := cmd.OutOrStdout()
	if format == "json" {
		if rows == nil {
			rows = []T{}
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(cmd.ErrOrStderr(), "no "+things)
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.ToUpper(strings.ReplaceAll(header, " ", "\t")))
	for _, r := range rows {
		row := cells(r)
		for i, c := range row {
			if row[i] = oneLine(c); row[i] == "" {
				row[i] = "-" // so that columns stay countable
			}
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// oneLine makes text fit for a cell: what comes from hosts and engines may have
// control characters in it.
func oneLine(s string) string {
	return printable(strings.Join(strings.Fields(s), " "))
}

// count is a number of things, in words that agree.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// progress tells what long work does: one line that changes on a terminal,
// plain lines elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	color    bool
	columns  func() int // of the terminal; nil where that is not known

	mu    sync.Mutex
	width int // of the changing line now shown
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
		p.columns = func() int {
			n, _, err := term.GetSize(int(f.Fd()))
			if err != nil || n < 1 {
				return 80
			}
			return n
		}
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
	// A line that wraps could not be written over.
	if runes := []rune(s); p.columns != nil && len(runes) >= p.columns() {
		s = string(runes[:max(0, p.columns()-2)]) + "…"
	}
	n := utf8.RuneCountInString(s)
	fmt.Fprintf(p.w, "\r%s%s", s, strings.Repeat(" ", max(0, p.width-n)))
	p.width = n
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
