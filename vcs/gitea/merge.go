package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	sdk "code.gitea.io/sdk/gitea"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// Mergeable is the host's own answer: no conflicts, not a draft. Right after a
// push to the head or to the base the host still checks and says no, and for a
// pull request that nobody looked at for long (Gitea's
// DELAY_CHECK_FOR_INACTIVE_DAYS) this question is what makes it check. Its
// branch protection has no part in the answer.
func (h *Host) Mergeable(ctx context.Context, r vcs.Repository, number int) (bool, error) {
	p, err := h.pull(ctx, r, number)
	if err != nil {
		return false, transport.Wrap(err, "read pull request %s#%d", r, number)
	}
	// Of an ended pull request the host still says what was true before.
	return p.Mergeable && state(p) == vcs.Open, nil
}

// Merge merges the pull request if its head is still sha. A pull request that
// was merged with that head already is a success: the answer to an earlier try
// may have been lost.
func (h *Host) Merge(ctx context.Context, r vcs.Repository, number int, sha, method string) error {
	if err := transport.CheckMerge(sha, method); err != nil {
		return fmt.Errorf("merge %s#%d: %w", r, number, err)
	}
	style := sdk.MergeStyle(method) // the words are the same
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	ok, _, err := c.MergePullRequest(r.Owner, r.Name, int64(number), sdk.MergePullRequestOption{Style: style, HeadCommitId: sha})
	if err == nil && ok {
		return nil
	}
	if err == nil {
		err = errors.New("the host neither merged it nor said why")
	}
	var re *transport.Error
	if errors.As(err, &re) && (re.Status == http.StatusMethodNotAllowed || re.Status == http.StatusConflict || re.Status == http.StatusNotFound) {
		// The answer alone does not tell a pull request that is merged already
		// from one that is closed, a draft, or moved on.
		p, perr := h.pull(ctx, r, number)
		switch {
		case perr != nil || p.Head == nil || p.Base == nil:
		case p.HasMerged && p.Head.Sha == sha:
			return nil
		default:
			return fmt.Errorf("merge %s#%d: %w", r, number, notMerged(p, sha, *re))
		}
	}
	return transport.Wrap(err, "merge %s#%d", r, number)
}

// notMerged finds the reason in the pull request as it is after the refusal,
// and else in the host's words.
func notMerged(p *sdk.PullRequest, sha string, re transport.Error) *vcs.NotMergedError {
	re.Kind = nil // a closed one is "not found" to be merged, and yet it is there
	e := &vcs.NotMergedError{Err: &re}
	says := re.Message
	if says == "" {
		says = fmt.Sprint(re.Status, " ", http.StatusText(re.Status))
	}
	base := transport.Printable(p.Base.Ref)
	switch {
	case p.HasMerged:
		e.Reason = fmt.Sprintf("it was merged already, with the head %.12s instead of %.12s", transport.Printable(p.Head.Sha), sha)
	case state(p) == vcs.Closed:
		e.Reason, e.Advice = "it is closed", "Reopen it to have it merged."
	case p.Head.Sha != sha:
		e.Reason = fmt.Sprintf("its head has moved from %.12s to %.12s", sha, transport.Printable(p.Head.Sha))
		e.Advice = "Look at what was pushed meanwhile."
	case p.Draft || isWIP(p.Title):
		e.Reason, e.Advice = "it is a draft", "Take \"WIP:\" out of its title when it is ready."
	case strings.Contains(says, "CONFLICT"):
		e.Reason, e.Advice = "it conflicts with "+base+": "+says, "Bring the branch up to date with "+base+"."
	case !p.Mergeable:
		e.Reason = "it conflicts with " + base + ", or the host has not finished looking for conflicts: " + says
		e.Advice = "Bring the branch up to date with " + base + " if there is a conflict, else try again in a moment."
		e.Again = true
	default:
		e.Reason = "the host says: " + says
		e.Again = strings.Contains(says, "out of date") || strings.Contains(says, "try again")
		if !e.Again {
			e.Advice = "The protection of " + base + " and the merge methods that the repository allows are in its settings on the host."
		}
	}
	return e
}
