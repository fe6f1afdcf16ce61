package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"holdfast/queue"
	"holdfast/runner/markdown"
	"holdfast/runner/plan"
	"holdfast/runner/propose"
	"holdfast/runner/terraform"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/watch"
	"holdfast/workspaces"
)

// JobPropose makes the host have the pull request of a proposal, or closes it.
const JobPropose = "propose"

// Proposal is the pull request that takes a workspace's drift into the
// configuration, as it was last made. There is one for each drift.
type Proposal struct {
	Digest string `json:"digest,omitempty"` // of the drift that it is about
	Run    string `json:"run,omitempty"`    // that made it
	Branch string `json:"branch,omitempty"` // where the host has it; empty: nothing could be written
	Number int    `json:"number,omitempty"`
	URL    string `json:"url,omitempty"`
	Open   bool   `json:"open,omitempty"`
	// Withdrawn is set before Holdfast closes it: what is closed then was not
	// closed by a person.
	Withdrawn bool `json:"withdrawn,omitempty"`
	// Refused is what could not be written, in sentences.
	Refused []string `json:"refused,omitempty"`
}

// stands reports whether p is the last word on the drift with that digest.
func (p Proposal) stands(digest string) bool { return p.Digest == digest && !p.Withdrawn }

// proposalArtifact is what a run wrote for the pull request.
type proposalArtifact struct {
	Head     string            `json:"head"` // the commit that the files are of
	Files    map[string][]byte `json:"files"`
	Proposal markdown.Proposal `json:"proposal"`
	Digest   string            `json:"digest"`
}

func proposalKey(run string) string { return run + "/proposal" }

// Bounds of a proposal.
const (
	maxTries   = 8       // plans that look for the edits that make the drift smaller
	maxFile    = 1 << 20 // bytes of a file that is read for it
	maxFiles   = 2000
	maxRefused = 30
)

// startProposal queues the run that writes the drift into the configuration,
// once for each drift: a pull request that somebody closed is not opened again
// for the same.
func (r *Runner) startProposal(ctx context.Context, check *execution, report plan.DriftReport, drift DriftRecord) (DriftRecord, error) {
	if drift.Proposal.stands(drift.Now.Digest) {
		return r.stillOpen(ctx, check, drift)
	}
	if drift.Now.quiet() {
		return drift, nil
	}
	if check.in.Pending || check.in.Unapplied {
		return r.blocked(ctx, check, []Gate{{GateClass, "The default branch has a commit that is not applied; what drifted is looked for in the configuration once it is."}})
	}
	result, err := json.Marshal(Result{Reviewed: check.run.ID, Drift: &report, DriftDigest: drift.Now.Digest})
	if err != nil {
		return drift, err
	}
	in := check.in
	in.Propose = true
	_, err = r.startRun(ctx, store.Run{
		Key: "propose/" + check.run.ID, Kind: store.KindCorrect,
		Repository: check.run.Repository, Commit: check.run.Commit, Result: result,
	}, in, queue.PriorityReplan)
	return drift, err
}

// stillOpen notes where somebody closed, or reopened, the pull request of the
// drift that there is: no other one is opened for it.
func (r *Runner) stillOpen(ctx context.Context, check *execution, drift DriftRecord) (DriftRecord, error) {
	if drift.Proposal.Number == 0 {
		return drift, nil
	}
	var pull pullRecord
	if _, err := r.load(ctx, pullName(check.repo, drift.Proposal.Number), &pull); err != nil {
		return drift, err
	}
	if open := pull.State != vcs.Closed; pull.State != "" && open != drift.Proposal.Open {
		var err error
		drift, err = r.changeDrift(ctx, check.repo, check.run.Workspace, func(rec *DriftRecord) {
			if rec.Proposal.Run == drift.Proposal.Run {
				rec.Proposal.Open = open
			}
		})
		if err != nil {
			return drift, err
		}
	}
	if pull.State != vcs.Closed {
		return drift, nil
	}
	return r.blocked(ctx, check, []Gate{{GatePulls, fmt.Sprintf("Pull request #%d, which would have taken it into the configuration, was closed; no other one is opened for the same drift.", drift.Proposal.Number)}})
}

// propose writes the cloud's values into a copy of the configuration, and plans
// that: only what makes the drift smaller is proposed.
func (r *Runner) propose(ctx context.Context, x *execution) (verdict, error) {
	if v, err := x.notNow(ctx); v != nil || err != nil {
		return deref(v), err
	}
	seen, err := r.reviewedBy(ctx, x.result.Reviewed)
	if err != nil || seen.plan == nil {
		return verdict{store.Failed, "The plan of the drift check is not stored any more."}, err
	}
	m, release, err := x.module(ctx)
	if err != nil {
		return verdict{}, err
	}
	defer release()
	e, err := x.newEditor(ctx, m, seen.plan)
	if err != nil {
		return verdict{}, err
	}
	if v, err := e.search(ctx); v != nil || err != nil {
		return deref(v), err
	}
	artifact := proposalArtifact{Head: x.run.Commit, Files: e.best.Files, Digest: x.result.DriftDigest, Proposal: e.proposal()}
	data, err := json.Marshal(artifact)
	if err != nil {
		return verdict{}, err
	}
	if err := r.Store.Artifacts.Put(ctx, r.Clock(), proposalKey(x.run.ID), data); err != nil {
		return verdict{}, err
	}
	if len(e.best.Files) == 0 {
		return verdict{store.Held, "Nothing of this drift could be written into the configuration."}, nil
	}
	return verdict{state: store.Planned}, nil
}

// editor looks for the edits of a configuration that make drift smaller.
type editor struct {
	x      *execution
	m      terraform.Module // the run's own copy
	config propose.Config
	drift  []propose.Drift
	rules  func(address, attribute string) (string, bool)
	was    *plan.Plan

	written map[string]bool // files of the copy that are not as they were
	best    propose.Result
	left    *plan.Plan        // with best
	refused []propose.Refusal // edits that do something else too
}

func (x *execution) newEditor(ctx context.Context, m terraform.Module, was *plan.Plan) (*editor, error) {
	dir, err := x.attemptDir()
	if err != nil {
		return nil, err
	}
	to := filepath.Join(dir, "proposal")
	if err := os.RemoveAll(to); err != nil {
		return nil, err
	}
	own, err := terraform.CopyModule(m, to)
	if err != nil {
		return nil, err
	}
	all, err := x.r.configAt(ctx, x.repo, x.run.Commit)
	if err != nil {
		return nil, err
	}
	files, err := x.sources(own.Root)
	if err != nil {
		return nil, err
	}
	rules, err := x.r.ignores(ctx, x.repo, x.in.Workspace)
	if err != nil {
		return nil, err
	}
	e := &editor{x: x, m: own, was: was, written: map[string]bool{}, rules: covers(rules, x.r.Clock())}
	e.config = propose.Config{Files: files, Dir: x.in.Workspace.Dir, VarFiles: x.in.Workspace.VarFiles, Shared: sharedWith(all.Workspaces, x.in.Workspace)}
	gone := map[string]bool{}
	for _, d := range was.Drift {
		gone[d.Address] = d.Action == plan.Delete
	}
	for _, c := range was.Changes {
		before, after := c.Values()
		e.drift = append(e.drift, propose.Drift{Address: c.Address, Before: before, After: after, Deleted: c.Action == plan.Create, Created: c.Action == plan.Delete && !gone[c.Address]})
	}
	return e, nil
}

// sources reads the files that say what a root module is: its own, its variable
// files, and those of the local modules that it uses.
func (x *execution) sources(root string) (map[string][]byte, error) {
	w := x.in.Workspace
	within, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer within.Close()
	files := map[string][]byte{}
	read := func(name string) error {
		info, err := within.Lstat(filepath.FromSlash(name))
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxFile || len(files) >= maxFiles {
			return nil // not there, a link, or nothing that anybody would edit
		}
		data, err := within.ReadFile(filepath.FromSlash(name))
		files[name] = data
		return err
	}
	for i, dir := range append([]string{w.Dir}, w.Modules...) {
		entries, err := fs.ReadDir(within.FS(), dir)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", dir, err)
		}
		for _, entry := range entries {
			name := entry.Name()
			tf := strings.HasSuffix(name, ".tf") || strings.HasSuffix(name, ".tf.json") || strings.HasSuffix(name, ".tofu")
			vars := i == 0 && (strings.HasSuffix(name, ".tfvars") || strings.HasSuffix(name, ".tfvars.json"))
			if (tf || vars) && !strings.Contains(name, "holdfast") {
				if err := read(path.Join(dir, name)); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, name := range w.VarFiles {
		if err := read(path.Join(w.Dir, name)); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// sharedWith says which other workspaces read a file.
func sharedWith(all []workspaces.Workspace, own workspaces.Workspace) func(string) string {
	return func(file string) string {
		var users []string
		for _, w := range all {
			if w.Name == own.Name {
				continue
			}
			dir := path.Dir(file)
			varFile := strings.HasSuffix(file, ".tfvars") && !strings.HasSuffix(file, ".auto.tfvars") && path.Base(file) != "terraform.tfvars"
			reads := !varFile && (w.Dir == dir || slices.Contains(w.Modules, dir))
			if reads || slices.ContainsFunc(w.VarFiles, func(v string) bool { return path.Join(w.Dir, v) == file }) {
				users = append(users, w.Name)
			}
		}
		if len(users) == 0 {
			return ""
		}
		return "other workspaces read " + file + " too: " + someOf(users)
	}
}

// search finds the edits: all of them if that makes the drift smaller, else
// one after the other those that do. A verdict ends the run.
func (e *editor) search(ctx context.Context) (*verdict, error) {
	all := propose.Propose(e.config, e.drift, e.ignored)
	e.best.Refused = all.Refused
	if len(all.Edits) == 0 {
		return nil, nil
	}
	ok, left, reason, no, err := e.try(ctx, all, e.was)
	if no != nil || err != nil {
		return no, err
	}
	if ok {
		e.best, e.left = all, left
		return nil, nil
	}
	if len(all.Edits) == 1 {
		e.refuse(all.Edits[0], reason)
		return nil, nil
	}
	return e.oneByOne(ctx, all)
}

// oneByOne adds one attribute's edit at a time to those that are good.
func (e *editor) oneByOne(ctx context.Context, all propose.Result) (*verdict, error) {
	type attribute struct{ address, name string }
	good, current := map[attribute]bool{}, e.was
	for i, edit := range all.Edits {
		if i >= maxTries {
			e.refuse(edit, "it was not tried: too much drifted at once")
			continue
		}
		this := attribute{edit.Address, edit.Attribute}
		part := propose.Propose(e.config, e.drift, func(address, name string) bool {
			a := attribute{address, name}
			return e.ignored(address, name) || a != this && !good[a]
		})
		ok, left, reason, no, err := e.try(ctx, part, current)
		if no != nil || err != nil {
			return no, err
		}
		if !ok {
			e.refuse(edit, reason)
			continue
		}
		good[this], current = true, left
		refused := e.best.Refused
		e.best, e.left = part, left
		e.best.Refused = refused
	}
	return nil, nil
}

func (e *editor) ignored(address, attribute string) bool {
	_, ok := e.rules(address, attribute)
	return ok
}

func (e *editor) refuse(edit propose.Edit, reason string) {
	e.refused = append(e.refused, propose.Refusal{Address: edit.Address, Attribute: edit.Attribute, Reason: "with the cloud's value in " + edit.Path + ", " + or(reason, "the drift would be no smaller")})
}

// try plans the configuration with some edits, and reports whether that makes
// the drift smaller.
func (e *editor) try(ctx context.Context, res propose.Result, than *plan.Plan) (ok bool, left *plan.Plan, reason string, no *verdict, err error) {
	if err := e.write(res.Files); err != nil {
		return false, nil, "", nil, err
	}
	left, _, no, err = e.x.makePlan(ctx, e.m, terraform.PlanOptions{LockTimeout: lockTimeout})
	if err != nil {
		return false, nil, "", nil, err
	}
	if no != nil {
		// The engine does not take this edit, or the cloud does not answer: the
		// plan of the check went well.
		return false, nil, "planning fails: " + firstError(no.error), nil, nil
	}
	ok, reason = plan.Smaller(than, left)
	return ok, left, reason, nil, nil
}

// write makes the copy have these files, and the rest as it was.
func (e *editor) write(files map[string][]byte) error {
	root, err := os.OpenRoot(e.m.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	for name := range e.written {
		if _, again := files[name]; !again {
			if err := root.WriteFile(filepath.FromSlash(name), e.config.Files[name], 0o600); err != nil {
				return err
			}
		}
	}
	e.written = map[string]bool{}
	for name, data := range files {
		if err := root.WriteFile(filepath.FromSlash(name), data, 0o600); err != nil {
			return err
		}
		e.written[name] = true
	}
	return nil
}

// proposal is what the pull request and the ticket say.
func (e *editor) proposal() markdown.Proposal {
	p := markdown.Proposal{Workspace: e.x.in.Workspace.Name, Left: e.left}
	for _, d := range e.best.Edits {
		p.Edits = append(p.Edits, markdown.ProposalEdit{Address: d.Address, Attribute: d.Attribute, File: d.Path, Line: d.Line, From: d.From, To: d.To, Via: d.Via})
	}
	for _, d := range append(slices.Clone(e.best.Refused), e.refused...) {
		s := d.Address
		if d.Attribute != "" {
			s += ", " + d.Attribute
		}
		p.Refused = append(p.Refused, s+": "+d.Reason)
	}
	if more := len(p.Refused) - maxRefused; more > 0 {
		p.Refused = append(p.Refused[:maxRefused], fmt.Sprintf("and %d more", more))
	}
	return p
}

// afterPropose has the host show the proposal. It may be done twice.
func (r *Runner) afterPropose(ctx context.Context, x *execution) error {
	if x.run.State != store.Planned && x.run.State != store.Held {
		// The next check tries again. What is open is about another drift.
		return r.enqueuePropose(ctx, proposePayload{Repository: x.repo, Workspace: x.run.Workspace})
	}
	return r.enqueuePropose(ctx, proposePayload{Repository: x.repo, Workspace: x.run.Workspace, Run: x.run.ID})
}

// proposePayload is the payload of a propose job. Without a Run the pull
// request is closed where the drift that it is about is gone.
type proposePayload struct {
	Repository vcs.Repository `json:"repository"`
	Workspace  string         `json:"workspace"`
	Run        string         `json:"run,omitempty"`
}

func (r *Runner) enqueuePropose(ctx context.Context, in proposePayload) error {
	payload, err := json.Marshal(in)
	if err != nil {
		return err
	}
	name := "propose/" + in.Repository.String() + "/" + in.Workspace
	_, err = r.Queue.Enqueue(ctx, queue.Job{
		Kind: JobPropose, Group: name, Key: name + "/" + in.Run, Again: true, Priority: queue.PriorityInteractive, Payload: payload,
	})
	return err
}

// handlePropose makes the host have what a run proposed, as one pull request of
// the workspace; or closes that.
func (r *Runner) handlePropose(ctx context.Context, job queue.Job) error {
	var in proposePayload
	if err := json.Unmarshal(job.Payload, &in); err != nil {
		return queue.Discard(fmt.Errorf("read payload: %w", err))
	}
	h, err := r.host(in.Repository)
	if err != nil {
		return err
	}
	var drift DriftRecord
	if _, err := r.load(ctx, driftName(in.Repository, in.Workspace), &drift); err != nil {
		return err
	}
	if in.Run == "" {
		return rateLimited(r.Clock(), r.withdraw(ctx, h, in, drift))
	}
	data, err := r.Store.Artifacts.Get(ctx, proposalKey(in.Run))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var made proposalArtifact
	if err := json.Unmarshal(data, &made); err != nil {
		return queue.Discard(fmt.Errorf("read proposal of run %s: %w", in.Run, err))
	}
	if drift.Proposal.stands(made.Digest) {
		// A retry: whoever closed or merged it meanwhile has decided.
		return r.shown(ctx, in.Repository, drift)
	}
	if drift.Now == nil || drift.Now.Digest != made.Digest {
		return nil // the drift is another one by now
	}
	return rateLimited(r.Clock(), r.open(ctx, h, in, drift, made))
}

// open makes the branch and the pull request of a proposal, or makes the one
// that is open be it.
func (r *Runner) open(ctx context.Context, h host, in proposePayload, drift DriftRecord, made proposalArtifact) error {
	now := Proposal{Digest: made.Digest, Run: in.Run, Refused: made.Proposal.Refused}
	if len(made.Files) == 0 {
		return r.nothing(ctx, h, in, drift, now)
	}
	remote, err := h.Remote(ctx, in.Repository)
	if err != nil {
		return err
	}
	now.Branch, now.Open = branchOf(in.Workspace), true
	title := markdown.ProposalTitle(in.Workspace)
	body := markdown.RenderProposal(made.Proposal, r.checkLink(drift), drift.Ticket.URL)
	_, err = r.Git.Commit(ctx, in.Repository, remote, vcs.Commit{
		Onto: made.Head, Branch: now.Branch, Files: made.Files, Message: title + "\n\n" + markdown.ProposalMessage(made.Proposal), When: drift.Now.Began.Truncate(time.Second),
	})
	if errors.Is(err, vcs.ErrNothing) {
		now.Open, now.Branch = false, ""
		return r.nothing(ctx, h, in, drift, now)
	}
	if err != nil {
		return fmt.Errorf("push %s: %w", now.Branch, err)
	}
	if h.opener == nil {
		return r.proposed(ctx, in, now) // on plain Git the branch is the pull request
	}
	pr, err := h.opener.OpenPull(ctx, in.Repository, vcs.NewPull{Branch: now.Branch, Base: remote.DefaultBranch, Title: title, Body: body})
	if err != nil {
		return fmt.Errorf("open a pull request from %s: %w", now.Branch, err)
	}
	now.Number, now.URL = pr.Number, pr.URL
	if h.editor != nil {
		if err := h.editor.EditPull(ctx, in.Repository, pr.Number, vcs.PullEdit{Title: title, Body: body}); err != nil {
			return fmt.Errorf("edit pull request %d: %w", pr.Number, err)
		}
	}
	return r.proposed(ctx, in, now)
}

// nothing takes back the pull request of another drift, in place of which there
// is none.
func (r *Runner) nothing(ctx context.Context, h host, in proposePayload, drift DriftRecord, now Proposal) error {
	if drift.Proposal.Open {
		if _, err := r.withdrawn(ctx, h, in, drift.Proposal, "What drifted is another change now, and nothing of it can be written into the configuration."); err != nil {
			return err
		}
	}
	return r.proposed(ctx, in, now)
}

// proposed keeps what the host has, and lets people know.
func (r *Runner) proposed(ctx context.Context, in proposePayload, now Proposal) error {
	drift, err := r.changeDrift(ctx, in.Repository, in.Workspace, func(rec *DriftRecord) {
		if now.Open && (rec.Proposal.Run != now.Run || !rec.Proposal.Open) {
			rec.tell(watch.Event{Kind: "proposed", Run: now.Run, At: r.Clock(), Summary: "A pull request takes the cloud's values into the configuration: " + cmp.Or(now.URL, now.Branch)}, plan.DriftReport{})
		}
		rec.Proposal = now
	})
	if err != nil {
		return err
	}
	return r.shown(ctx, in.Repository, drift)
}

// withdraw closes a pull request whose drift is gone.
func (r *Runner) withdraw(ctx context.Context, h host, in proposePayload, drift DriftRecord) error {
	p := drift.Proposal
	if !p.Open || drift.Now != nil && p.stands(drift.Now.Digest) {
		return nil
	}
	closed, err := r.withdrawn(ctx, h, in, p, "The drift that this is about is gone.")
	if err != nil {
		return err
	}
	_, err = r.changeDrift(ctx, in.Repository, in.Workspace, func(rec *DriftRecord) {
		switch {
		case rec.Proposal.Run != p.Run:
		case closed:
			rec.Proposal.Open = false // a person's no to this drift stays
		default:
			rec.Proposal = Proposal{}
		}
	})
	return err
}

// withdrawn closes the pull request, unless it was merged or closed, and
// removes its branch. It reports whether a person had closed it.
func (r *Runner) withdrawn(ctx context.Context, h host, in proposePayload, p Proposal, why string) (closed bool, err error) {
	if p.Number != 0 {
		pr, err := h.PullRequest(ctx, in.Repository, p.Number)
		if err != nil && !errors.Is(err, vcs.ErrNotFound) {
			return false, err
		}
		if err == nil && (pr.State == vcs.Merged || pr.State != vcs.Open && !p.Withdrawn) {
			return pr.State == vcs.Closed, nil // whoever merged or closed it decides about the branch
		}
		if _, err := r.changeDrift(ctx, in.Repository, in.Workspace, func(rec *DriftRecord) {
			rec.Proposal.Withdrawn = rec.Proposal.Withdrawn || rec.Proposal.Run == p.Run
		}); err != nil {
			return false, err
		}
		if err == nil && pr.State == vcs.Open && h.editor != nil {
			err := h.editor.EditPull(ctx, in.Repository, p.Number, vcs.PullEdit{Title: markdown.ProposalTitle(in.Workspace), Body: why + "\n", Close: true})
			if err != nil && !errors.Is(err, vcs.ErrNotFound) {
				return false, fmt.Errorf("close pull request %d: %w", p.Number, err)
			}
		}
	}
	remote, err := h.Remote(ctx, in.Repository)
	if err != nil {
		return false, err
	}
	return false, r.Git.DeleteBranch(ctx, in.Repository, remote, p.Branch)
}

// withdrawal asks for a pull request to be closed whose drift is gone.
func (r *Runner) withdrawal(ctx context.Context, repo vcs.Repository, d DriftRecord) error {
	if !d.Proposal.Open || d.Now != nil {
		return nil // another drift's proposal takes its place; see outdated
	}
	return r.enqueuePropose(ctx, proposePayload{Repository: repo, Workspace: d.Name})
}

// outdated asks for a pull request to be closed that is about another drift than
// a check found, where none takes its place.
func (r *Runner) outdated(ctx context.Context, check *execution, report plan.DriftReport, d DriftRecord) error {
	if !d.Proposal.Open || d.Now == nil || d.Proposal.Digest == d.Now.Digest {
		return nil
	}
	if check.in.Workspace.Drift.Correct == "propose" && report.Class == plan.CloudChange && !d.Now.quiet() && len(d.Now.Blocked) == 0 {
		return nil // the run that was queued decides
	}
	return r.enqueuePropose(ctx, proposePayload{Repository: check.repo, Workspace: d.Name})
}

func (r *Runner) checkLink(d DriftRecord) string { return runLink(r.BaseURL, d.Now.Run) }

// branchOf names the branch of a workspace's proposal: readable, and another
// one for each workspace.
func branchOf(workspace string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(workspace))
	plain := strings.Trim(strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '-'
	}, workspace), "-")
	return fmt.Sprintf("holdfast/drift/%s-%08x", plain[:min(len(plain), 60)], h.Sum32())
}

// firstError is the line of an engine's output that says what is wrong.
func firstError(text string) string {
	for line := range strings.Lines(text) {
		if i := strings.Index(line, "Error: "); i >= 0 {
			return strings.TrimSpace(line[i+len("Error: "):])
		}
	}
	return firstLine(text)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
