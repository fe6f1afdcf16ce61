package runner

import (
	"context"
	"encoding/json"
	"fmt"

	"holdfast/queue"
	"holdfast/runner/markdown"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
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
