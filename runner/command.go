package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/bmatcuk/doublestar/v4"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// The verbs of commands.
const (
	verbPlan    = "plan"
	verbApply   = "apply"
	verbDrift   = "drift"
	verbHold    = "hold"
	verbRelease = "release"
	verbHelp    = "help"
)

// command is what somebody wrote in a comment, or what Holdfast asks of itself
// in the same words. The zero command is no command: an event that nobody wrote.
type command struct {
	verb    string
	match   []string // globs of workspace names; none means all
	who     string   // empty: Holdfast itself
	comment int64
	length  time.Duration // of a hold
	why     string        // of a hold
	after   string        // the applied commit that made plans stale
}

// commandHelp is the answer to `holdfast help`.
const commandHelp = "Commands, as the first words of a new comment:\n\n" +
	"| command | what it does |\n| --- | --- |\n" +
	"| `holdfast plan` | plans again |\n" +
	"| `holdfast apply` | after the merge: tries a failed apply again, and applies exactly the plan that a held one shows |\n" +
	"| `holdfast drift` | checks the repository's workspaces for drift now |\n" +
	"| `holdfast hold 4h -m \"why\"` | nothing is applied or corrected for that time; plans go on |\n" +
	"| `holdfast release` | ends a hold |\n" +
	"| `holdfast help` | shows this |\n\n" +
	"`-w NAME` (or a glob, several times) names workspaces. Commands need write permission; edited and quoted comments count for nothing."

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
	verbs := []string{verbPlan, verbApply, verbDrift, verbHold, verbRelease, verbHelp}
	if !slices.Contains(verbs, c.verb) {
		text := fmt.Sprintf("There is no command `%s`.", plainWord(c.verb))
		if near := workspaces.Nearest(c.verb, verbs); near != "" {
			text += " D" + strings.TrimPrefix(near, "d") // "did you mean …?"
		}
		return c, true, &commandError{text + " `holdfast help` lists all."}
	}
	args := words[2:]
	if c.verb == verbHold {
		if len(args) > 0 {
			c.length, err = ParseHold(args[0])
		}
		if len(args) == 0 || err != nil {
			return c, true, &commandError{"For how long? For example `holdfast hold 4h -m \"incident 42\"`; 90d at most."}
		}
		args = args[1:]
	}
	for len(args) > 0 {
		name, joined := strings.CutPrefix(args[0], "-w=")
		switch {
		case joined:
			args = args[1:]
		case args[0] == "-w" && len(args) > 1:
			name, args = args[1], args[2:]
		case args[0] == "-m" && len(args) > 1 && c.verb == verbHold:
			c.why, args = args[1], args[2:]
			continue
		default:
			return c, true, &commandError{fmt.Sprintf("`%s` is not understood here. Workspaces are named with `-w NAME`.", plainWord(args[0]))}
		}
		if !doublestar.ValidatePattern(name) {
			return c, true, &commandError{fmt.Sprintf("`%s` is not a name or a glob.", plainWord(name))}
		}
		c.match = append(c.match, name)
	}
	return c, true, nil
}

// splitWords splits a line at its blanks; what is between quotes is one word.
func splitWords(line string) []string {
	var words []string
	var word strings.Builder
	quote, inside := rune(0), false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
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

// asks reports whether c is of that verb and concerns the workspace.
func (c command) asks(verb, workspace string) bool {
	if c.verb != verb {
		return false
	}
	for _, glob := range c.match {
		if ok, err := doublestar.Match(glob, workspace); ok && err == nil || glob == workspace {
			return true
		}
	}
	return len(c.match) == 0
}

// commented carries out the command in a comment, or answers why not. Doing it
// twice is the same as doing it once: its runs have the comment in their keys,
// and its answer carries the comment's id.
func (r *Runner) commented(ctx context.Context, e vcs.Event) error {
	c, ok, err := parseCommand(e.Comment)
	if !ok {
		return nil
	}
	h, herr := r.host(e.Repository)
	if herr != nil {
		return herr
	}
	c.who, c.comment = e.Sender, e.CommentID
	permission, perr := h.Permission(ctx, e.Repository, e.Sender)
	if perr != nil {
		return rateLimited(r.Clock(), fmt.Errorf("ask %s what %s may do: %w", e.Repository.Host, e.Sender, perr))
	}
	answer := ""
	var wrong *commandError
	switch {
	case !permission.CanWrite():
		answer = "Commands need write permission in this repository, so nothing was done."
	case errors.As(err, &wrong):
		answer = wrong.text
	case c.verb == verbHelp:
		answer = commandHelp
	case c.verb == verbHold, c.verb == verbRelease:
		answer, err = r.hold(ctx, e.Repository, c)
	case c.verb == verbDrift:
		answer, err = r.checkAsked(ctx, e.Repository, c)
	default:
		answer, err = r.asked(ctx, e, c)
	}
	if err != nil && wrong == nil {
		return rateLimited(r.Clock(), err)
	}
	return rateLimited(r.Clock(), r.reply(ctx, h, e, answer))
}

// asked carries out a plan or an apply on a pull request.
func (r *Runner) asked(ctx context.Context, e vcs.Event, c command) (answer string, err error) {
	if err := r.pullRequest(ctx, e.Repository, e.Number, c); err != nil {
		return "", err
	}
	var rec pullRecord
	if _, err := r.load(ctx, pullName(e.Repository, e.Number), &rec); err != nil {
		return "", err
	}
	var names []string
	for _, w := range rec.Workspaces {
		for _, id := range []string{w.Plan, w.Apply} {
			if id == "" {
				continue
			}
			run, err := r.Store.Runs.Get(ctx, id)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return "", err
			}
			if strings.HasSuffix(run.Key, c.key()) {
				names = append(names, "`"+plainWord(w.Name)+"`")
			}
		}
	}
	switch {
	case len(names) > 0 && c.verb == verbPlan:
		return "Planning again: " + strings.Join(names, ", ") + ".", nil
	case len(names) > 0:
		return "Applying: " + strings.Join(names, ", ") + ". What is applied is the plan that was shown, or less of it.", nil
	case c.verb == verbApply && rec.State == vcs.Open:
		return "Merging this pull request applies its plans.", nil
	case c.verb == verbApply:
		return "There is no failed or held apply here to go on with.", nil
	case rec.State != vcs.Open:
		return "Only an open pull request is planned.", nil
	}
	return "No workspace of this pull request has that name.", nil
}

// key is the end of the keys of the runs that a command asked for.
func (c command) key() string {
	if c.after != "" {
		return "/after/" + c.after
	}
	return fmt.Sprintf("/c%d", c.comment)
}

// priority is how urgent the plans are that c asks for.
func (c command) priority() queue.Priority {
	if c.after != "" {
		return queue.PriorityReplan
	}
	return queue.PriorityInteractive
}

// checkAsked queues drift checks of the workspaces that a command names.
func (r *Runner) checkAsked(ctx context.Context, repo vcs.Repository, c command) (answer string, err error) {
	var known repositoryRecord
	if _, err := r.load(ctx, "repository/"+repo.String(), &known); err != nil {
		return "", err
	}
	n := 0
	for _, w := range known.Workspaces {
		if !c.asks(verbDrift, w.Name) || w.Problem != "" {
			continue
		}
		if _, err := r.startDrift(ctx, r.repositories[repo], w, known.described(), "asked"+c.key()); err != nil {
			return "", err
		}
		n++
	}
	if n == 0 {
		return "No workspace has that name.", nil
	}
	return fmt.Sprintf("Checking %d workspaces for drift. The server's pages show what is found.", n), nil
}

// reply answers a comment, once.
func (r *Runner) reply(ctx context.Context, h host, e vcs.Event, text string) error {
	if h.comments == nil || text == "" {
		return nil
	}
	marker := fmt.Sprintf("<!-- holdfast answers %d -->", e.CommentID)
	all, err := h.comments.Comments(ctx, e.Repository, e.Number)
	if errors.Is(err, vcs.ErrNotFound) {
		return queue.Discard(err)
	}
	if err != nil {
		return fmt.Errorf("list comments: %w", err)
	}
	for _, c := range all {
		if strings.HasPrefix(c.Body, marker) {
			return nil // by an attempt that died before it said so
		}
	}
	if _, err := h.comments.CreateComment(ctx, e.Repository, e.Number, marker+"\n"+text); err != nil {
		return fmt.Errorf("answer comment %d: %w", e.CommentID, err)
	}
	return nil
}
