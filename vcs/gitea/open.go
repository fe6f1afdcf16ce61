package gitea

import (
	"context"
	"errors"
	"net/http"

	sdk "code.gitea.io/sdk/gitea"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// maxTitle is the title's column, in characters.
const maxTitle = 255

// OpenPull opens a pull request, or returns the one that is open already. Gitea
// opens one without changes, too, where the branch has nothing that its base
// lacks.
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
	c, err := h.client(ctx)
	if err != nil {
		return vcs.PullRequest{}, err
	}
	p, _, err := c.CreatePullRequest(r.Owner, r.Name, sdk.CreatePullRequestOption{
		Head: n.Branch, Base: n.Base, Title: transport.Title(n, maxTitle), Body: transport.CutText(transport.Storable(n.Body), maxComment),
	})
	var re *transport.Error
	if errors.As(err, &re) && re.Status == http.StatusConflict {
		return h.openFrom(ctx, r, n, re)
	}
	if err != nil {
		return vcs.PullRequest{}, err
	}
	return convertPull(r, p)
}

// openFrom finds the pull request that the host says is there already; exists
// is how it said so.
func (h *Host) openFrom(ctx context.Context, r vcs.Repository, n vcs.NewPull, exists error) (vcs.PullRequest, error) {
	var found *sdk.PullRequest
	err := h.listPulls(ctx, r, sdk.StateOpen, func(p *sdk.PullRequest) bool {
		if p.Head != nil && p.Base != nil && headRef(p.Head) == n.Branch && p.Base.Ref == n.Base && !isFork(p) {
			found = p
		}
		return found == nil
	})
	if err != nil {
		return vcs.PullRequest{}, err
	}
	if found == nil {
		return vcs.PullRequest{}, exists // it was closed meanwhile
	}
	return convertPull(r, found)
}
