package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"
	"unicode"

	"holdfast/queue"
	"holdfast/runner/markdown"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/watch"
)

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
