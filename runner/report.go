package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"holdfast/queue"
	"holdfast/runner/markdown"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
)

// maxStatuses is how many workspaces of one pull request get a status of
// their own. Beyond it only the failed ones do: each status is a request to
// the host, and a list of hundreds helps nobody.
const maxStatuses = 50

// noteSize bounds the report on a host with notes instead of comments, bytes.
const noteSize = 1 << 20

// handleReport makes the host show what is stored of a pull request: one
// comment edited in place, the statuses that changed, nothing else.
func (r *Runner) handleReport(ctx context.Context, job queue.Job) error {
	var in reportPayload
	if err := json.Unmarshal(job.Payload, &in); err != nil {
		return queue.Discard(fmt.Errorf("read payload: %w", err))
	}
	h, err := r.host(in.Repository)
	if err != nil {
		return err
	}
	if in.SHA != "" {
		return r.commitReport(ctx, h, in)
	}
	var rec pullRecord
	if _, err := r.load(ctx, pullName(in.Repository, in.Number), &rec); err != nil {
		return err
	}
	if rec.Head == "" {
		return nil
	}
	if old, err := r.tooOld(ctx, rec); err != nil || old {
		return err
	}
	report, err := r.pullReport(ctx, in.Repository, in.Number, rec)
	if err != nil {
		return err
	}
	posted := poster{r: r, host: h, repo: in.Repository, number: in.Number, sha: rec.Head, refused: rec.Refused, asks: in.Verify, name: "report/" + pullName(in.Repository, in.Number)}
	err = posted.post(ctx, report)
	if errors.Is(err, vcs.ErrNotFound) {
		return queue.Discard(fmt.Errorf("report on %s: %w", pullName(in.Repository, in.Number), err))
	}
	return rateLimited(r.Clock(), err)
}

// reportEnded asks for a pull request's report after one of its runs has ended:
// at once where that was the last, for which somebody waits. Of two that end
// together, the later one to be written finds the other ended.
func (r *Runner) reportEnded(ctx context.Context, repo vcs.Repository, number int) error {
	unfinished, err := r.Store.Runs.List(ctx, store.RunFilter{
		Repository: repo.String(), PullRequest: number, Limit: 1,
		States: []store.State{store.Queued, store.Running, store.Unknown},
	})
	if err != nil {
		return err
	}
	delay := r.ReportDelay
	if len(unfinished) == 0 {
		delay = 0
	}
	return r.enqueueReportIn(ctx, repo, number, delay)
}

// pullReport gathers what is stored of a pull request.
func (r *Runner) pullReport(ctx context.Context, repo vcs.Repository, number int, rec pullRecord) (markdown.Report, error) {
	report := markdown.Report{Commit: rec.Head, Merged: rec.State == vcs.Merged, Base: r.BaseURL, Problems: rec.Problems, Notice: rec.Notice}
	if report.Merged && rec.Merge != "" {
		report.Commit = rec.Merge // what is applied
	}
	if r.BaseURL != "" {
		report.Page = r.BaseURL + "/pulls/" + pathEscape(repo.String()) + "/" + fmt.Sprint(number)
	}
	for _, pw := range rec.Workspaces {
		w, err := r.workspaceReport(ctx, repo, rec, pw)
		if err != nil {
			return report, err
		}
		report.Workspaces = append(report.Workspaces, w)
	}
	return report, nil
}

// workspaceReport is one workspace's part of a report.
func (r *Runner) workspaceReport(ctx context.Context, repo vcs.Repository, rec pullRecord, pw pullWorkspace) (markdown.Workspace, error) {
	w := markdown.Workspace{Name: pw.Name, Dir: pw.Dir, Kind: string(store.KindPlan), RunID: pw.Plan}
	if pw.Apply != "" {
		w.Kind, w.RunID = string(store.KindApply), pw.Apply
	}
	switch {
	case len(pw.Problem) > 0:
		w.State, w.Error = string(store.Failed), pw.Problem.Error()
		return w, nil
	case w.RunID == "":
		w.State = string(store.NoChanges)
		w.Notes = []string{"This pull request deletes the root module, and Holdfast knows of nothing that it made."}
		return w, nil
	}
	run, err := r.Store.Runs.Get(ctx, w.RunID)
	if errors.Is(err, store.ErrNotFound) {
		w.RunID, w.State, w.Notes = "", string(store.NoChanges), []string{"Its run was over long ago, and Holdfast does not keep it any more."}
		return w, nil
	}
	if err != nil {
		return w, fmt.Errorf("run %s of %s: %w", w.RunID, pw.Name, err)
	}
	var result Result
	if len(run.Result) > 0 {
		if err := json.Unmarshal(run.Result, &result); err != nil {
			return w, fmt.Errorf("read result of run %s: %w", run.ID, err)
		}
	}
	if w.Waiting = result.Waiting; run.State == store.Running && w.Waiting != "" {
		run.State = store.Queued // it only looks whether its time has come
	}
	w.State, w.Step, w.Error, w.Notes = string(run.State), run.Step, run.Error, result.Notes
	if !result.Removed.IsZero() {
		w.Notes = append(w.Notes, removedNote(run, result))
	}
	if w.Plan, err = r.loadPlan(ctx, run.ID); err != nil {
		return w, err
	}
	t := told{pull: rec, pw: pw, run: run, own: w.Plan != nil, began: result.Shim != "", commands: r.hosts[repo.Host].comments != nil}
	if err := r.shownBeside(ctx, &w, run, result); err != nil {
		return w, err
	}
	w.Notes = slices.Concat(w.Notes, notesOn(rec, pw, run, result, w.Plan))
	w.Next = t.next()
	return w, nil
}

// shownBeside adds what is shown of the reviewed plan with an apply: all of it
// and what differs where another one is held, or just it while there is no other.
func (r *Runner) shownBeside(ctx context.Context, w *markdown.Workspace, run store.Run, result Result) error {
	if run.Kind != store.KindApply || result.Reviewed == "" {
		return nil
	}
	seen, err := r.loadPlan(ctx, result.Reviewed)
	if err != nil {
		return err
	}
	switch c := result.Comparison; {
	case run.State == store.Held && c != nil && c.Verdict != plan.Identical:
		w.Comparison, w.Reviewed = c, seen
	case w.Plan == nil && (run.State == store.Held || run.State == store.Queued || run.State == store.Running):
		w.Plan = seen
	}
	return nil
}

// notesOn are the sentences under a workspace's plan, beside those of its run.
func notesOn(rec pullRecord, pw pullWorkspace, run store.Run, result Result, p *plan.Plan) (notes []string) {
	open := rec.State == vcs.Open && run.Kind == store.KindPlan
	for _, other := range rec.Workspaces {
		switch {
		case !open || pw.Deleted || !slices.Contains(pw.After, other.Name):
		case pw.On == "comment":
			notes = append(notes, "It depends on "+other.Name+", which is applied first. Then this is planned again, and applied only if that is this change or less of it.")
		default:
			notes = append(notes, "Planned before "+other.Name+", which it depends on, is applied. After the merge it is planned again, once that is done.")
		}
	}
	if pw.Applied != "" && open {
		notes = append(notes, "Commit "+short(pw.Applied)+" of this pull request is applied to this workspace already; this plan is what is left to do.")
	}
	switch {
	case pw.Lacks != "" && open:
		notes = append(notes, "Commit "+short(pw.Lacks)+" is applied to this workspace and is not in this branch, so this plan undoes what that commit did. If that is not wanted, wait until the commit is in "+rec.Base+", and update the branch: it is then planned again.")
	case pw.Stale != "" && open && pw.On == "comment":
		notes = append(notes, "Planned before commit "+short(pw.Stale)+" was applied to this workspace, which is not in this branch. Once that commit is in "+rec.Base+", update the branch: it is then planned again.")
	case pw.Stale != "" && open:
		notes = append(notes, "Planned before commit "+short(pw.Stale)+" was applied to this workspace. After the merge it is planned again, and applied only if that is this change or less of it.")
	}
	if pw.Deleted && run.State != store.Applied && run.State != store.NoChanges {
		notes = append(notes, "This pull request deletes the root module, so this plan destroys what it made. Do not apply it if the root module only moved, with its state, to another directory.")
	}
	for _, c := range pw.Commands {
		notes = append(notes, fmt.Sprintf("With `%s`, which %s asked for. `holdfast reset -w %s` takes that back.", plainWord(c.String()), c.Who, plainWord(pw.Name)))
	}
	if pw.Unlocked != "" && run.State != store.Applied {
		notes = append(notes, pw.Unlocked+" unlocked this workspace: other pull requests may go first.")
	}
	if result.Saved && run.State == store.Applied {
		notes = append(notes, "The plan that was reviewed was applied as it was saved.")
	}
	if run.Kind == store.KindApply && run.State == store.Failed && p != nil {
		notes = append(notes, accountOf(p, result.Done))
	}
	return notes
}

// maxNamed bounds the resources that a sentence names.
const maxNamed = 20

// accountOf says what a failed apply completed of its plan, and what it did not.
func accountOf(p *plan.Plan, done []string) string {
	var yes, no []string
	for _, c := range p.Changes {
		if slices.Contains(done, c.Address) {
			yes = append(yes, c.Address)
		} else {
			no = append(no, c.Address)
		}
	}
	return "Done: " + someOf(yes) + ". Not done: " + someOf(no) + "."
}

// someOf lists names, the first of them where they are many.
func someOf(names []string) string {
	switch n := len(names); {
	case n == 0:
		return "nothing"
	case n > maxNamed:
		return strings.Join(names[:maxNamed], ", ") + fmt.Sprintf(" and %d more", n-maxNamed)
	}
	return strings.Join(names, ", ")
}

// poster makes one pull request on a host show one report.
type poster struct {
	r      *Runner
	host   host
	repo   vcs.Repository
	number int
	sha    string // the commit with the statuses
	// refused is set where nothing is planned and people must know.
	refused bool
	// asks is set where the host is asked what it still shows.
	asks  bool
	name  string // of the record of what is shown
	shown reportRecord
}

// post writes comment or note first and statuses last, so that a green status
// means that the comment is there.
func (p *poster) post(ctx context.Context, report markdown.Report) error {
	if _, err := p.r.load(ctx, p.name, &p.shown); err != nil {
		return err
	}
	if p.asks {
		if err := p.verify(ctx); err != nil {
			return err
		}
	}
	var denied error
	for _, part := range []func(context.Context, markdown.Report) error{p.text, p.statuses, p.deployments} {
		err := part(ctx, report)
		if errors.Is(err, vcs.ErrDenied) {
			// A token that may not do this may do the rest.
			p.r.Logger.Error("the host refuses a part of the report", "repository", p.repo.String(), "pull_request", p.number, "error", err, "hint", hintOf(err))
			denied = errors.Join(denied, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return denied
}

// text writes the report as a comment, or as a note.
func (p *poster) text(ctx context.Context, report markdown.Report) error {
	if p.host.comments != nil {
		return p.comment(ctx, report)
	}
	if p.host.notes == nil {
		return nil
	}
	text := markdown.Render(report, noteSize)
	hash := hashOf(p.sha + text)
	if hash == p.shown.Body {
		return nil
	}
	if err := p.host.notes.SetNote(ctx, p.repo, p.sha, text); err != nil {
		return fmt.Errorf("write note: %w", err)
	}
	p.shown.Body = hash
	return p.save(ctx)
}

// comment creates the comment, or edits the one that is there. A pull request
// that concerns no workspace gets none, but one that it already has is kept
// true.
func (p *poster) comment(ctx context.Context, report markdown.Report) error {
	text := markdown.Render(report, p.host.comments.MaxComment())
	hash := hashOf(text)
	quiet := len(report.Workspaces) == 0 && len(report.Problems) == 0 && !p.refused
	if hash == p.shown.Body || quiet && p.shown.Comment == 0 {
		return nil
	}
	if p.shown.Comment == 0 {
		// Perhaps it was created by an attempt that died before it said so.
		id, err := p.findComment(ctx)
		if err != nil {
			return err
		}
		p.shown.Comment = id
	}
	if p.shown.Comment != 0 {
		err := p.host.comments.EditComment(ctx, p.repo, p.number, p.shown.Comment, text)
		if err == nil {
			p.shown.Body = hash
			return p.save(ctx)
		}
		if !errors.Is(err, vcs.ErrNotFound) {
			return fmt.Errorf("edit comment: %w", err)
		}
	}
	c, err := p.host.comments.CreateComment(ctx, p.repo, p.number, text)
	if err != nil {
		return fmt.Errorf("create comment: %w", err)
	}
	p.shown.Comment, p.shown.Body = c.ID, hash
	return p.save(ctx)
}

// findComment returns the id of the comment that Holdfast made earlier; 0
// where there is none.
func (p *poster) findComment(ctx context.Context) (int64, error) {
	self, err := p.host.comments.Self(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask whose token this is: %w", err)
	}
	all, err := p.host.comments.Comments(ctx, p.repo, p.number)
	if err != nil {
		return 0, fmt.Errorf("list comments: %w", err)
	}
	for _, c := range all {
		if c.Author == self && strings.HasPrefix(c.Body, markdown.Marker) {
			return c.ID, nil
		}
	}
	return 0, nil
}

// statuses sets those that changed: one for the whole, and one for each
// workspace.
func (p *poster) statuses(ctx context.Context, report markdown.Report) error {
	if p.host.statuses == nil {
		return nil
	}
	if p.shown.SHA != p.sha {
		if err := p.leave(ctx); err != nil {
			return err
		}
		p.shown.SHA, p.shown.Statuses = p.sha, nil
	}
	if p.shown.Statuses == nil {
		p.shown.Statuses = map[string]string{}
	}
	var want []vcs.Status
	for _, w := range report.Workspaces {
		state, description := markdown.WorkspaceStatus(w)
		name := "holdfast/" + w.Name
		_, has := p.shown.Statuses[name]
		if len(report.Workspaces) > maxStatuses && !has && vcs.StatusState(state) != vcs.StatusFailure {
			continue
		}
		link := report.Page
		if p.r.BaseURL != "" && w.RunID != "" {
			link = p.r.BaseURL + "/runs/" + w.RunID
		}
		s := vcs.Status{Context: name, State: vcs.StatusState(state), Description: description, URL: link}
		if p.host.details {
			if err := p.detail(ctx, &s, report, w); err != nil {
				return err
			}
		}
		want = append(want, s)
	}
	want = append(want, p.overall(report))
	want = append(want, p.unaffected(want)...)
	for _, s := range want {
		now := string(s.State) + "\n" + s.Description + "\n" + s.URL
		if s.Details != "" {
			now += "\n" + hashOf(s.Details)
		}
		if p.shown.Statuses[s.Context] == now {
			continue
		}
		if err := p.host.statuses.SetStatus(ctx, p.repo, p.sha, s); err != nil {
			return errors.Join(fmt.Errorf("set status %s: %w", s.Context, err), p.save(ctx))
		}
		p.shown.Statuses[s.Context] = now
	}
	return p.save(ctx)
}

// leave ends what is still pending on the commit that had the statuses before:
// nothing else ever would.
func (p *poster) leave(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(p.shown.Statuses)) {
		if !strings.HasPrefix(p.shown.Statuses[name], string(vcs.StatusPending)+"\n") {
			continue
		}
		// Not a success: nobody has seen a plan of it.
		s := vcs.Status{Context: name, State: vcs.StatusError, Description: "Superseded by commit " + short(p.sha)}
		// A commit that was forced away may be gone from the host.
		if err := p.host.statuses.SetStatus(ctx, p.repo, p.shown.SHA, s); err != nil && !errors.Is(err, vcs.ErrNotFound) {
			return fmt.Errorf("set status %s of the commit before: %w", name, err)
		}
	}
	return nil
}

// unaffected returns the statuses that end those of workspaces that the pull
// request does not concern any more, with the same commit at its head.
func (p *poster) unaffected(want []vcs.Status) []vcs.Status {
	var out []vcs.Status
	for _, name := range slices.Sorted(maps.Keys(p.shown.Statuses)) {
		if !slices.ContainsFunc(want, func(s vcs.Status) bool { return s.Context == name }) {
			out = append(out, vcs.Status{Context: name, State: vcs.StatusSuccess, Description: "Not affected any more"})
		}
	}
	return out
}

// overall is the status of the pull request as a whole.
func (p *poster) overall(report markdown.Report) vcs.Status {
	s := vcs.Status{Context: "holdfast", URL: report.Page}
	switch {
	case len(report.Problems) > 0:
		s.State, s.Description = vcs.StatusFailure, "The repository's configuration has a mistake."
	case p.refused:
		s.State, s.Description = vcs.StatusPending, report.Notice
	case len(report.Workspaces) == 0 && report.Notice != "":
		s.State, s.Description = vcs.StatusSuccess, report.Notice
	default:
		state, description := markdown.Status(report.Workspaces)
		s.State, s.Description = vcs.StatusState(state), description
	}
	return s
}

// save keeps what the host shows now. Reports of one pull request are made one
// at a time, so nobody else has written it.
func (p *poster) save(ctx context.Context) error {
	return change(context.WithoutCancel(ctx), p.r, p.name, func(rec *reportRecord) { *rec = p.shown })
}

func hashOf(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// pathEscape escapes each segment of a path.
func pathEscape(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}
