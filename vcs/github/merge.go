package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	sdk "github.com/google/go-github/v88/github"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// Merge merges the pull request if its head is still sha. A pull request that
// was merged with that head already is a success: the answer to an earlier try
// may have been lost. Where the branch has a merge queue the host refuses, and
// says so: whoever may add to the queue is a person.
func (h *Host) Merge(ctx context.Context, r vcs.Repository, number int, sha, method string) error {
	if err := transport.CheckMerge(sha, method); err != nil {
		return fmt.Errorf("merge %s#%d: %w", r, number, err)
	}
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return err
	}
	res, _, err := c.PullRequests.Merge(ctx, r.Owner, r.Name, number, "", &sdk.PullRequestOptions{SHA: sha, MergeMethod: method})
	if err == nil && res.GetMerged() {
		return nil
	}
	if err == nil {
		err = errors.New("the host neither merged it nor said why")
	}
	var e *transport.Error
	if errors.As(err, &e) && (e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusConflict || e.Status == http.StatusUnprocessableEntity || e.Status == http.StatusNotFound) {
		// The answer alone does not tell a pull request that is merged already
		// from one that cannot be.
		p, perr := h.pull(ctx, r, number)
		switch {
		case errors.Is(perr, vcs.ErrNotFound), p == nil && perr == nil:
		case perr != nil:
			return perr
		case state(p) == vcs.Merged && p.GetHead().GetSHA() == sha:
			return nil
		default:
			return fmt.Errorf("merge %s#%d: %w", r, number, notMerged(p, sha, *e))
		}
	}
	return transport.Wrap(err, "merge %s#%d", r, number)
}

// notMerged finds the reason in the pull request as it is after the refusal, and
// else in the host's words.
func notMerged(p *sdk.PullRequest, sha string, refused transport.Error) *vcs.NotMergedError {
	refused.Kind = nil // it is there
	e := &vcs.NotMergedError{Err: &refused}
	base := transport.Printable(p.GetBase().GetRef())
	says := refused.Message
	switch {
	case state(p) == vcs.Merged:
		e.Reason = fmt.Sprintf("it was merged already, with the head %.12s instead of %.12s", transport.Printable(p.GetHead().GetSHA()), sha)
	case state(p) == vcs.Closed:
		e.Reason, e.Advice = "it is closed", "Reopen it to have it merged."
	case p.GetHead().GetSHA() != sha:
		e.Reason = fmt.Sprintf("its head has moved from %.12s to %.12s", sha, transport.Printable(p.GetHead().GetSHA()))
		e.Advice = "Look at what was pushed meanwhile."
	case p.GetDraft():
		e.Reason, e.Advice = "it is a draft", "Mark it as ready for review."
	case strings.Contains(strings.ToLower(says), "merge queue"):
		e.Reason, e.Advice = base+" has a merge queue", "Add the pull request to the queue: Holdfast applies it when the queue has merged it."
	case p.GetMergeableState() == "dirty":
		e.Reason, e.Advice = "it conflicts with "+base, "Bring the branch up to date with "+base+"."
	case p.Mergeable == nil || p.GetMergeableState() == "unknown":
		e.Reason, e.Again = "the host is still looking for conflicts with "+base, true
	default:
		e.Reason = "the host says: " + says
		e.Again = strings.Contains(says, "Base branch was modified") || strings.Contains(says, "try again")
		if !e.Again {
			e.Advice = "The rules of " + base + " and the merge methods that the repository allows are in its settings on the host."
		}
	}
	return e
}

// OpenPull opens a pull request, or returns the one that is open already. A
// branch that has nothing which its base lacks is refused by the host.
func (h *Host) OpenPull(ctx context.Context, r vcs.Repository, n vcs.NewPull) (vcs.PullRequest, error) {
	pr, err := h.openPull(ctx, r, n)
	if err != nil {
		return vcs.PullRequest{}, transport.Wrap(err, "open pull request from %s to %s in %s", transport.Printable(n.Branch), transport.Printable(n.Base), r)
	}
	return pr, nil
}

func (h *Host) openPull(ctx context.Context, r vcs.Repository, n vcs.NewPull) (vcs.PullRequest, error) {
	if err := transport.CheckBranches(n); err != nil {
		return vcs.PullRequest{}, err
	}
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return vcs.PullRequest{}, err
	}
	p, _, err := c.PullRequests.Create(ctx, r.Owner, r.Name, &sdk.NewPullRequest{
		Title: ptr(transport.Title(n, maxTitle)), Head: &n.Branch, Base: &n.Base, Body: ptr(transport.CutText(transport.Storable(n.Body), maxComment)),
	})
	var e *transport.Error
	if errors.As(err, &e) && e.Status == http.StatusUnprocessableEntity {
		return h.openFrom(ctx, c, r, n, e)
	}
	if err != nil {
		return vcs.PullRequest{}, err
	}
	return convertPull(r, p)
}

// openFrom finds the pull request that may be there already; refused is what the
// host said.
func (h *Host) openFrom(ctx context.Context, c *client, r vcs.Repository, n vcs.NewPull, refused *transport.Error) (vcs.PullRequest, error) {
	list, _, err := c.PullRequests.List(ctx, r.Owner, r.Name, &sdk.PullRequestListOptions{
		State: "open", Head: r.Owner + ":" + n.Branch, Base: n.Base, ListOptions: sdk.ListOptions{PerPage: pageSize},
	})
	if err != nil {
		return vcs.PullRequest{}, err
	}
	for _, p := range list {
		if pr, err := convertPull(r, p); err == nil && !pr.Fork && pr.HeadRef == n.Branch && pr.BaseRef == n.Base {
			return pr, nil
		}
	}
	if strings.Contains(refused.Message, "invalid") && (strings.Contains(refused.Message, "head") || strings.Contains(refused.Message, "base")) {
		refused.Kind = vcs.ErrNotFound // a branch that the host does not know
	}
	return vcs.PullRequest{}, refused
}
