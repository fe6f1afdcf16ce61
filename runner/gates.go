package runner

import (
	"context"
	"fmt"
	"slices"

	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// reviewed is the plan that people saw in a pull request.
type reviewed struct {
	run  store.Run // zero where there is none
	plan *plan.Plan
}

// applyGate decides whether a plan of the merge commit may be applied: why is
// empty where it may. A person may have confirmed the plan of an apply that was
// held.
func applyGate(seen reviewed, now *plan.Plan, policy workspaces.Apply, confirmed bool) (c *plan.Comparison, why string) {
	state := seen.run.State
	if state == store.Held && confirmed {
		state = store.Planned
	}
	switch state {
	case store.Planned, store.NoChanges:
	case "":
		return nil, "No plan of this workspace was made before the merge, so nobody reviewed this change."
	case store.Failed:
		return nil, "The plan in this pull request failed, so nobody reviewed this change."
	default:
		return nil, "The pull request was merged before its plan was finished, so nobody reviewed this change."
	}
	if seen.plan == nil {
		return nil, "The reviewed plan is not stored any more, so this change cannot be compared with it."
	}
	got := plan.Compare(seen.plan, now)
	switch {
	case got.Verdict == plan.Identical, got.Verdict == plan.Narrower:
		return &got, ""
	case policy.WhenPlanChanged == "always":
		return &got, ""
	case policy.WhenPlanChanged == "same_resources" && got.SameResources:
		return &got, ""
	}
	return &got, "The plan is not the one that was reviewed: something changed between the review and the merge."
}

// approval says why reviews by people who may write are no approval; empty where they are. The last
// verdict of each reviewer counts; one that was dismissed, that was given
// before the latest push, or that is the author's own does not.
func approval(reviews []vcs.Review, author string) string {
	last := map[string]vcs.Review{}
	for _, r := range reviews {
		last[r.Author] = r
	}
	approved := false
	for who, r := range last {
		switch {
		case r.Dismissed || who == author:
		case r.State == vcs.ChangesRequested:
			return who + " requested changes."
		case r.State == vcs.Approved && !r.Stale:
			approved = true
		}
	}
	if !approved {
		return "Nobody approved the last commit of this pull request."
	}
	return ""
}

// byWriters returns the reviews of those who may write to the repository:
// whoever can read it can review on some hosts, and decides nothing.
func byWriters(ctx context.Context, h host, repo vcs.Repository, reviews []vcs.Review) ([]vcs.Review, error) {
	writes := map[string]bool{}
	for _, r := range reviews {
		if _, asked := writes[r.Author]; asked {
			continue
		}
		may, err := h.Permission(ctx, repo, r.Author)
		if err != nil {
			return nil, fmt.Errorf("ask %s what %s may do: %w", repo.Host, r.Author, err)
		}
		writes[r.Author] = may.CanWrite()
	}
	return slices.DeleteFunc(slices.Clone(reviews), func(r vcs.Review) bool { return !writes[r.Author] }), nil
}
