package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
)

// The verbs of commands.
const (
	verbPlan    = "plan"
	verbApply   = "apply"
	verbDrift   = "drift"
	verbHold    = "hold"
	verbRelease = "release"
	verbHelp    = "help"

	verbUnlock   = "unlock"
	verbRollback = "rollback"
	verbImport   = "import"
	verbStateRm  = "state rm"
	verbReset    = "reset"

	verbAcknowledge = "acknowledge"
	verbIgnore      = "ignore"
	verbUnignore    = "unignore"
)

// verbs are all of them. Those of offByDefault need the server's consent.
var (
	verbs        = []string{verbPlan, verbApply, verbUnlock, verbRollback, verbDrift, verbHold, verbRelease, verbImport, verbStateRm, verbReset, verbAcknowledge, verbIgnore, verbUnignore, verbHelp}
	offByDefault = []string{verbImport, verbStateRm}
)

// command is what somebody wrote in a comment, or what Holdfast asks of itself
// in the same words. The zero command is no command: an event that nobody wrote.
type command struct {
	verb    string
	match   []string // globs of workspace names; none means all
	who     string   // empty: Holdfast itself
	comment int64
	at      time.Time     // of the comment, by the host's clock; zero where nobody says
	length  time.Duration // of a hold, or of a rule
	why     string        // of a hold, of who unlocks, of what is said about drift
	args    []string      // of ignore and unignore: an address, and attributes
	until   time.Time     // of ignore; zero: no end
	state   *stateCommand // of an import or a state rm
	after   string        // the applied commit that made plans stale
	event   string        // the delivery of an event that asks like a comment
}

// commandHelp is the answer to `holdfast help`.
const commandHelp = "Commands, as the first words of a new comment:\n\n" +
	"| command | what it does |\n| --- | --- |\n" +
	"| `holdfast plan` | plans again |\n" +
	"| `holdfast apply` | applies the plan that is shown, where `apply.on` is `comment`; tries a failed apply again; applies exactly the plan that a held one shows |\n" +
	"| `holdfast unlock` | gives back what this pull request has locked, so that others go on |\n" +
	"| `holdfast rollback` | after the merge: opens a pull request that takes it back |\n" +
	"| `holdfast drift` | checks the repository's workspaces for drift now |\n" +
	"| `holdfast hold 4h -m \"why\"` | nothing is applied or corrected for that time; plans go on |\n" +
	"| `holdfast release` | ends a hold |\n" +
	"| `holdfast import -w NAME ADDRESS ID` | takes something that exists into the state, as a part of this pull request's plan |\n" +
	"| `holdfast state rm -w NAME ADDRESS` | forgets a resource and leaves it in the cloud, as a part of this pull request's plan |\n" +
	"| `holdfast reset -w NAME` | takes back `import` and `state rm` |\n" +
	"| `holdfast acknowledge -w NAME`, `ignore`, `unignore` | about drift, as on its ticket |\n" +
	"| `holdfast help` | shows this |\n\n" +
	"`-w NAME` (or a glob, several times) names workspaces. Commands need write permission; edited and quoted comments count for nothing."

// asks reports whether c is of that verb and concerns the workspace.
func (c command) asks(verb, workspace string) bool {
	if c.verb != verb {
		return false
	}
	return matches(c.match, workspace)
}

// matches reports whether a workspace is named, or meant by a glob; without any,
// all are.
func matches(globs []string, workspace string) bool {
	for _, glob := range globs {
		if ok, err := doublestar.Match(glob, workspace); ok && err == nil || glob == workspace {
			return true
		}
	}
	return len(globs) == 0
}

// replans reports whether c asks for a new plan of the workspace.
func (c command) replans(workspace string) bool {
	return c.asks(verbPlan, workspace) || c.asks(verbImport, workspace) || c.asks(verbStateRm, workspace) || c.asks(verbReset, workspace)
}

// command takes in what somebody asks for beside the configuration; the last
// word on an address counts.
func (w *pullWorkspace) command(c command) {
	switch {
	case c.asks(verbReset, w.Name):
		w.Commands = nil
	case c.state != nil && c.asks(c.verb, w.Name):
		next := *c.state
		next.Who = c.who
		w.Commands = slices.DeleteFunc(slices.Clone(w.Commands), func(o stateCommand) bool { return o.Address == next.Address })
		w.Commands = append(w.Commands, next)
	}
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
	if done, err := r.carriedOut(ctx, commentsName(e.Repository, e.Number), e.CommentID); err != nil || done {
		return err
	}
	c.who, c.comment, c.at = e.Sender, e.CommentID, e.CommentedAt
	r.acknowledge(ctx, h, e)
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
	case slices.Contains(offByDefault, c.verb) && !slices.Contains(r.Commands, c.verb):
		answer = fmt.Sprintf("`%s` is off on this server; `commands` in its server file allows it.", c.verb)
	case c.verb == verbHelp:
		answer = commandHelp
	case c.verb == verbUnlock:
		answer, err = r.unlock(ctx, e, c)
	case c.verb == verbRollback:
		answer, err = r.rollback(ctx, h, e)
	case c.verb == verbHold, c.verb == verbRelease:
		answer, err = r.hold(ctx, e.Repository, c)
	case c.verb == verbAcknowledge, c.verb == verbIgnore, c.verb == verbUnignore:
		answer, err = r.aboutDrift(ctx, e.Repository, c)
	case c.verb == verbDrift:
		answer, err = r.checkAsked(ctx, e.Repository, c)
	default:
		answer, err = r.asked(ctx, e, c)
	}
	if err != nil && wrong == nil {
		return rateLimited(r.Clock(), err)
	}
	if err := r.reply(ctx, h, e, answer); err != nil {
		return rateLimited(r.Clock(), err)
	}
	return r.carryOut(ctx, commentsName(e.Repository, e.Number), e.CommentID)
}

// acknowledge shows that a command was read. What it is does not depend on it.
func (r *Runner) acknowledge(ctx context.Context, h host, e vcs.Event) {
	if h.reactions == nil {
		return
	}
	if err := h.reactions.Acknowledge(ctx, e.Repository, e.Number, e.CommentID); err != nil && ctx.Err() == nil {
		r.Logger.Warn("mark a comment as read", "repository", e.Repository.String(), "pull_request", e.Number, "error", err, "hint", hintOf(err))
	}
}

// rerun plans again what somebody asked the host to check again, as a comment
// would. Only a pull request's head is planned again.
func (r *Runner) rerun(ctx context.Context, e vcs.Event) error {
	h, err := r.host(e.Repository)
	if err != nil {
		return err
	}
	number, err := r.numberOf(ctx, e)
	if err != nil || number == 0 {
		return err
	}
	permission, err := h.Permission(ctx, e.Repository, e.Sender)
	if err != nil {
		return rateLimited(r.Clock(), fmt.Errorf("ask %s what %s may do: %w", e.Repository.Host, e.Sender, err))
	}
	if !permission.CanWrite() {
		return nil
	}
	c := command{verb: verbPlan, who: e.Sender, event: e.Delivery}
	if name, ok := strings.CutPrefix(e.Check, "holdfast/"); ok {
		c.match = []string{name}
	}
	return r.pullRequest(ctx, e.Repository, number, c)
}

// numberOf returns the open pull request that has an event's commit at its head;
// 0 where none has.
func (r *Runner) numberOf(ctx context.Context, e vcs.Event) (int, error) {
	prefix := "pull/" + e.Repository.String() + "#"
	if e.Number != 0 {
		var rec pullRecord
		_, err := r.load(ctx, pullName(e.Repository, e.Number), &rec)
		if err != nil || rec.State != vcs.Open || rec.Head != e.After {
			return 0, err
		}
		return e.Number, nil
	}
	records, err := r.Store.Records.List(ctx, prefix)
	if err != nil {
		return 0, err
	}
	for _, stored := range records {
		var rec pullRecord
		if err := json.Unmarshal(stored.Value, &rec); err != nil {
			return 0, fmt.Errorf("read %s: %w", stored.Key, err)
		}
		if rec.State == vcs.Open && rec.Head == e.After {
			return strconv.Atoi(strings.TrimPrefix(stored.Key, prefix))
		}
	}
	return 0, nil
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
	list := strings.Join(names, ", ")
	switch {
	case len(names) > 0 && c.verb == verbPlan:
		return "Planning again: " + list + ".", nil
	case len(names) > 0 && c.verb == verbApply:
		return "Applying: " + list + ". What is applied is the plan that was shown, or less of it.", nil
	case len(names) > 0 && c.verb == verbReset:
		return "Taken back; planning again: " + list + ".", nil
	case len(names) > 0:
		return "Planning " + list + " with it. It is done when that plan is applied, and `holdfast reset` takes it back.", nil
	case c.verb == verbApply && r.newerThan(ctx, rec, c):
		return "What is shown now is newer than this comment, so nothing was applied. Look at it, and comment again.", nil
	case c.verb == verbApply && rec.State == vcs.Open:
		return r.nothingToApply(ctx, rec, c)
	case c.verb == verbApply && rec.State == vcs.Closed:
		return "This pull request is closed, so nothing of it is applied. Reopen it first.", nil
	case c.verb == verbApply:
		return "There is no failed or held apply here to go on with.", nil
	case rec.State != vcs.Open:
		return "Only an open pull request is planned.", nil
	}
	return "No workspace of this pull request has that name.", nil
}

// saw reports whether who commented may have seen what a run shows: a comment that
// was on its way for long is no answer to what was found out meanwhile.
func (c command) saw(run store.Run) bool {
	return c.at.IsZero() || !run.EndedAt.After(c.at.Add(time.Second))
}

// newerThan reports whether a command would apply something now that was not there
// when its comment was made.
func (r *Runner) newerThan(ctx context.Context, rec pullRecord, c command) bool {
	return slices.ContainsFunc(rec.Workspaces, func(w pullWorkspace) bool {
		run, err := r.Store.Runs.Get(ctx, cmp.Or(w.Apply, w.Plan))
		open := run.State == store.Planned && w.On == "comment" && rec.State == vcs.Open || run.State == store.Held || run.State == store.Failed
		return err == nil && c.asks(verbApply, w.Name) && run.Kind != "" && open && !c.saw(run)
	})
}

// nothingToApply says why `holdfast apply` did nothing on an open pull request.
func (r *Runner) nothingToApply(ctx context.Context, rec pullRecord, c command) (string, error) {
	for _, w := range rec.Workspaces {
		if w.On != "comment" || !c.asks(verbApply, w.Name) || w.Plan == "" {
			continue
		}
		run, err := r.Store.Runs.Get(ctx, cmp.Or(w.Apply, w.Plan))
		if err != nil {
			return "", err
		}
		if run.Kind == store.KindApply && w.Automerge && (run.State == store.Applied || run.State == store.NoChanges) && rec.Notice != "" {
			return rec.Notice, nil // what became of the merge
		}
		return fmt.Sprintf("There is nothing to apply now: the %s of `%s` is %s.", run.Kind, plainWord(w.Name), strings.ReplaceAll(string(run.State), "_", " ")), nil
	}
	if slices.ContainsFunc(rec.Workspaces, func(w pullWorkspace) bool { return w.On == onNever }) {
		return "This pull request does not go to the default branch, so nothing of it is applied.", nil
	}
	if !slices.ContainsFunc(rec.Workspaces, func(w pullWorkspace) bool { return c.asks(verbApply, w.Name) }) {
		return "No workspace of this pull request has that name.", nil
	}
	return "Merging this pull request applies its plans.", nil
}

// key is the end of the keys of the runs that a command asked for.
func (c command) key() string {
	if c.after != "" {
		return "/after/" + c.after
	}
	if c.event != "" {
		return "/e" + hashOf(c.event)[:16]
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
	served, _ := r.served(repo)
	n := 0
	for _, w := range known.Workspaces {
		if !c.asks(verbDrift, w.Name) || w.Problem != "" {
			continue
		}
		if _, err := r.startDrift(ctx, served, w, known.described(), "asked"+c.key(), time.Time{}); err != nil {
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
