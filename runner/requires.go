package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"holdfast/runner/terraform"
	"holdfast/store"
	"holdfast/vcs"
)

// gates remembers for a moment what hosts said of requirements, so that the
// applies of one merge ask once. The zero value is ready.
type gates struct {
	mu      sync.Mutex
	answers map[string]gateAnswer // by pull request, commit and requirement
}

type gateAnswer struct {
	at  time.Time
	why string
}

// gateMoment is how long an answer of a host stands, for runs that were there
// when it was given: who approves and then comments is not told what was before.
const gateMoment = 10 * time.Second

// required checks the workspace's requirements as they are now. While the host
// does not answer, the run waits.
func (x *execution) required(ctx context.Context) (*verdict, error) {
	for _, name := range x.in.Workspace.Apply.Requires {
		why, err := x.unmet(ctx, name)
		if err != nil {
			return nil, x.waitForHost(ctx, err)
		}
		if why != "" {
			return &verdict{store.Held, why + " (apply.requires has \"" + name + "\".)"}, nil
		}
	}
	return nil, nil
}

// waitForHost puts the run back after a host gave no answer.
func (x *execution) waitForHost(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, errTaken) {
		return err
	}
	x.r.Logger.Warn("a host does not answer", "run", x.run.ID, "host", x.repo.Host, "error", err)
	wait := 15 * time.Second
	if limit := (*vcs.RateLimitError)(nil); errors.As(err, &limit) && !limit.RetryAt.IsZero() {
		wait = min(max(limit.RetryAt.Sub(x.r.Clock()), time.Second), time.Hour)
	}
	return x.wait(ctx, "waits for an answer of "+x.repo.Host+", which is asked whether this may be applied", wait)
}

// unmet says why one requirement is not met; empty where it is.
func (x *execution) unmet(ctx context.Context, name string) (string, error) {
	if x.run.PullRequest == 0 {
		if name == "approved" {
			return "It was pushed without a pull request, so nobody approved it.", nil
		}
		return "", nil
	}
	g := &x.r.gates
	key := strings.Join([]string{pullName(x.repo, x.run.PullRequest), x.run.Commit, x.in.Head, name}, "\n")
	g.mu.Lock()
	known, ok := g.answers[key]
	g.mu.Unlock()
	if now := x.r.Clock(); ok && now.Sub(known.at) < gateMoment && !known.at.Before(x.run.CreatedAt) {
		return known.why, nil
	}
	h, err := x.r.host(x.repo)
	if err != nil {
		return "", err
	}
	why, err := x.ask(ctx, h, name)
	if err != nil {
		return "", err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.answers) >= maxConfigs {
		clear(g.answers)
	}
	if g.answers == nil {
		g.answers = map[string]gateAnswer{}
	}
	g.answers[key] = gateAnswer{x.r.Clock(), why}
	return why, nil
}

// ask finds out whether a requirement is met.
func (x *execution) ask(ctx context.Context, h host, name string) (why string, err error) {
	number := x.run.PullRequest
	switch name {
	case "approved":
		if h.reviews == nil {
			return x.repo.Host + " has no reviews.", nil
		}
		reviews, err := h.reviews.Reviews(ctx, x.repo, number)
		if err != nil {
			return "", fmt.Errorf("ask %s for reviews: %w", x.repo.Host, err)
		}
		if reviews, err = byWriters(ctx, h, x.repo, reviews); err != nil {
			return "", err
		}
		return approval(reviews, x.in.Author), nil
	case "mergeable":
		if !x.in.Early {
			return "", nil // as the merge has shown
		}
		if h.reviews == nil {
			return x.repo.Host + " does not say whether a pull request can be merged.", nil
		}
		ok, err := h.reviews.Mergeable(ctx, x.repo, number)
		if err != nil {
			return "", fmt.Errorf("ask %s whether it can be merged: %w", x.repo.Host, err)
		}
		if !ok {
			return x.repo.Host + " would not merge this pull request now: it conflicts with its base, is a draft, or " + x.repo.Host + " is still looking for conflicts.", nil
		}
	case "up_to_date":
		return x.upToDate(ctx)
	}
	return "", nil
}

// upToDate says whether the branch has all of its base: of the base as it is now
// or, after the merge, as it was before it.
func (x *execution) upToDate(ctx context.Context) (why string, err error) {
	var before string
	if x.in.Early {
		var rec pullRecord
		if _, err := x.r.load(ctx, pullName(x.repo, x.run.PullRequest), &rec); err != nil {
			return "", err
		}
		if err := x.r.fetch(ctx, x.repo, x.in.FetchRef); err != nil {
			return "", err
		}
		before, err = x.r.Git.Resolve(ctx, x.repo, "refs/heads/"+rec.Base)
	} else {
		before, err = x.r.beforeMerge(ctx, vcs.PullRequest{Repository: x.repo, Number: x.run.PullRequest, HeadSHA: x.in.Head, MergeSHA: x.run.Commit})
	}
	if err != nil {
		return "", fmt.Errorf("find the base: %w", err)
	}
	current, err := x.r.Git.IsAncestor(ctx, x.repo, before, x.in.Head)
	if err != nil {
		return "", fmt.Errorf("compare with the base: %w", err)
	}
	switch {
	case current:
		return "", nil
	case x.in.Early:
		return "The branch does not have all of its base. Update it: it is then planned again, and that plan is the one to apply.", nil
	}
	return "The branch did not have all of its base when it was merged. Another pull request that touches this workspace applies it too.", nil
}

// branchStands makes sure that what is applied before the merge is still the
// head of an open pull request, and undoes nothing that its base has and that is
// applied.
func (x *execution) branchStands(ctx context.Context) (*verdict, error) {
	if !x.in.Early {
		return nil, nil
	}
	h, err := x.r.host(x.repo)
	if err != nil {
		return nil, err
	}
	pr, err := h.PullRequest(ctx, x.repo, x.run.PullRequest)
	if err != nil && !errors.Is(err, vcs.ErrNotFound) {
		return nil, x.waitForHost(ctx, err)
	}
	switch {
	case err != nil, pr.State == vcs.Closed:
		return &verdict{store.Superseded, "The pull request was closed."}, nil
	case pr.State == vcs.Merged:
		return &verdict{store.Superseded, "The pull request was merged before this began."}, nil
	case pr.HeadSHA != x.run.Commit:
		return &verdict{store.Superseded, "The branch was pushed to; what it is now has to be planned and seen first."}, nil
	}
	var rec WorkspaceRecord
	if _, err := x.r.load(ctx, workspaceName(x.repo, x.run.Workspace), &rec); err != nil || rec.AppliedCommit == "" {
		return nil, err
	}
	// As the base is now: what is known of it may be older than the merge that
	// this apply waited for.
	if err := x.r.fetch(ctx, x.repo, x.in.FetchRef); err != nil {
		return nil, x.waitForHost(ctx, err)
	}
	base, err := x.r.Git.Resolve(ctx, x.repo, "refs/heads/"+pr.BaseRef)
	if err != nil {
		return nil, fmt.Errorf("find the base: %w", err)
	}
	merged, err := x.r.Git.IsAncestor(ctx, x.repo, rec.AppliedCommit, base)
	if err != nil || !merged {
		return nil, nil // of this pull request, or of a history that is gone
	}
	has, err := x.r.Git.IsAncestor(ctx, x.repo, rec.AppliedCommit, x.run.Commit)
	if err != nil {
		return nil, fmt.Errorf("compare with the applied commit: %w", err)
	}
	if !has {
		return &verdict{store.Held, "The branch lacks commit " + short(rec.AppliedCommit) + ", which is applied to this workspace: applying the branch would undo it. Update the branch: it is then planned again, and that plan is the one to apply."}, nil
	}
	return nil, nil
}

// waitForState puts the run back while somebody else has the state's own lock,
// which is never forced.
func (x *execution) waitForState(ctx context.Context, locked *terraform.StateLockedError) error {
	x.result.Busy++
	wait := min(2*time.Second<<min(x.result.Busy, 5), time.Minute)
	return x.wait(ctx, locked.Error()+"; "+locked.Hint(), wait)
}
