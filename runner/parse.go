package runner

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/bmatcuk/doublestar/v4"

	"holdfast/workspaces"
)

// commandError is a command that cannot be understood, in words for who wrote
// it.
type commandError struct{ text string }

func (e *commandError) Error() string { return e.text }

// parseCommand reads the command of a comment. ok is false where its first
// word makes it no command at all.
func parseCommand(body string) (c command, ok bool, err error) {
	line, _, _ := strings.Cut(strings.TrimLeft(body, " \t\r\n"), "\n")
	words := splitWords(line)
	if len(words) == 0 || words[0] != "holdfast" && words[0] != "/holdfast" {
		return c, false, nil
	}
	if len(words) == 1 {
		return command{verb: verbHelp}, true, nil
	}
	c.verb = words[1]
	args := words[2:]
	if c.verb == "state" && len(args) > 0 {
		c.verb, args = c.verb+" "+args[0], args[1:]
	}
	if !slices.Contains(verbs, c.verb) {
		text := fmt.Sprintf("There is no command `%s`.", plainWord(c.verb))
		if near := workspaces.Nearest(c.verb, verbs); near != "" {
			text += " D" + strings.TrimPrefix(near, "d") // "did you mean …?"
		}
		return c, true, &commandError{text + " `holdfast help` lists all."}
	}
	if c.verb == verbHold {
		if len(args) > 0 {
			c.length, err = ParseHold(args[0])
		}
		if len(args) == 0 || err != nil {
			return c, true, &commandError{"For how long? For example `holdfast hold 4h -m \"incident 42\"`; 90d at most."}
		}
		args = args[1:]
	}
	rest, err := c.flags(args)
	if err != nil {
		return c, true, err
	}
	if c.verb == verbIgnore || c.verb == verbUnignore {
		return c, true, c.rule(rest)
	}
	return c, true, c.positional(rest)
}

// flags reads -w and -m, and returns the other words.
func (c *command) flags(args []string) (rest []string, err error) {
	for len(args) > 0 {
		name, joined := strings.CutPrefix(args[0], "-w=")
		switch {
		case joined:
			args = args[1:]
		case args[0] == "-w" && len(args) > 1:
			name, args = args[1], args[2:]
		case args[0] == "-m" && len(args) > 1 && slices.Contains(withReason, c.verb):
			c.why, args = args[1], args[2:]
			continue
		case args[0] == "--until" && len(args) > 1 && c.verb == verbIgnore:
			if err := c.end(args[1]); err != nil {
				return nil, err
			}
			args = args[2:]
			continue
		default:
			rest, args = append(rest, args[0]), args[1:]
			continue
		}
		if !doublestar.ValidatePattern(name) {
			return nil, &commandError{fmt.Sprintf("`%s` is not a name or a glob.", plainWord(name))}
		}
		c.match = append(c.match, name)
	}
	return rest, nil
}

// withReason are the commands that take -m.
var withReason = []string{verbHold, verbUnlock, verbAcknowledge, verbIgnore}

// end reads the end of a rule: a date, or a length of time.
func (c *command) end(s string) (err error) {
	if c.length, err = ParseHold(s); err == nil {
		return nil
	}
	if c.until, err = workspaces.ParseUntil(s); err != nil {
		return &commandError{fmt.Sprintf("`%s` is no end. Write `--until 2027-03-31` or `--until 30d`.", plainWord(s))}
	}
	return nil
}

// rule reads the address and the attributes of a rule about drift.
func (c *command) rule(rest []string) error {
	if len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
		return &commandError{"It is written `holdfast ignore ADDRESS [ATTRIBUTE …] -m \"why\" --until 30d`, or `holdfast unignore ADDRESS`."}
	}
	c.args = rest
	if c.verb == verbUnignore {
		return nil
	}
	hint, err := workspaces.CheckAddress(rest[0])
	for _, a := range rest[1:] {
		if err == nil {
			hint, err = workspaces.CheckAttribute(a)
		}
	}
	if err != nil {
		return &commandError{fmt.Sprintf("`%s` is no pattern: %s.", plainWord(strings.Join(rest, " ")), plainHint(hint))}
	}
	if strings.TrimSpace(c.why) == "" {
		return &commandError{"Why? Add `-m \"…\"`: who finds the rule in a year wants to know."}
	}
	c.why = c.why[:min(len(c.why), maxWhy)]
	return nil
}

// plainHint is a hint in a sentence.
func plainHint(s string) string {
	return strings.TrimSuffix(strings.Map(func(r rune) rune {
		if r < ' ' || r == '`' {
			return '?'
		}
		return r
	}, s), ".")
}

// positional reads the words that are no flags.
func (c *command) positional(rest []string) error {
	want := map[string]int{verbImport: 2, verbStateRm: 1}[c.verb]
	if len(rest) > want || want > 0 && strings.HasPrefix(strings.Join(rest, ""), "-") {
		return &commandError{fmt.Sprintf("`%s` is not understood here. Workspaces are named with `-w NAME`.", plainWord(rest[min(want, len(rest)-1)]))}
	}
	if want == 0 {
		return nil
	}
	if len(rest) < want || len(c.match) != 1 {
		return &commandError{"It is written `holdfast import -w NAME ADDRESS ID` or `holdfast state rm -w NAME ADDRESS`, with one workspace."}
	}
	c.state = &stateCommand{Address: rest[0]}
	if c.verb == verbImport {
		c.state.ID = rest[1]
	}
	return nil
}

// splitWords splits a line at its blanks; what is between quotes is one word.
// Quotes inside a word are a part of it, as in addresses: x.y["key"].
func splitWords(line string) []string {
	var words []string
	var word strings.Builder
	quote, inside := rune(0), false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\'') && (!inside || strings.HasSuffix(word.String(), "=")):
			quote, inside = r, true
		case quote == 0 && unicode.IsSpace(r):
			if inside {
				words = append(words, word.String())
				word.Reset()
			}
			inside = false
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	if inside {
		words = append(words, word.String())
	}
	return words
}

// ParseHold reads the length of a hold, such as 90m, 4h or 2d.
func ParseHold(s string) (time.Duration, error) {
	unit := time.Duration(1)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		s, unit = days+"h", 24
	}
	d, err := time.ParseDuration(s)
	if err == nil && (d <= 0 || d > MaxHold/unit) {
		err = errors.New("out of range")
	}
	return d * unit, err
}

// plainWord is a word of somebody's that is safe between backquotes.
func plainWord(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '`' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 60)]
}
