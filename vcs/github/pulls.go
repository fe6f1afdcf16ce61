package github

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	sdk "github.com/google/go-github/v88/github"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// pageSize is the largest page that GitHub gives.
const pageSize = 100

// maxPages bounds a listing: a host whose pages never end is broken.
const maxPages = 2000

// eachPage calls get for each page, and hands on each item until visit returns
// false or there are no more.
func eachPage[T any](get func(sdk.ListOptions) ([]T, *sdk.Response, error), visit func(T) bool) error {
	o := sdk.ListOptions{PerPage: pageSize}
	for range maxPages {
		items, resp, err := get(o)
		if err != nil {
			return err
		}
		for _, item := range items {
			if !visit(item) {
				return nil
			}
		}
		if resp == nil || resp.NextPage <= o.Page {
			return nil
		}
		o.Page = resp.NextPage
	}
	return fmt.Errorf("the host's list has no end after %d pages", maxPages)
}

// PullRequest returns one pull request as it is now.
func (h *Host) PullRequest(ctx context.Context, r vcs.Repository, number int) (vcs.PullRequest, error) {
	p, err := h.pull(ctx, r, number)
	if err != nil {
		return vcs.PullRequest{}, err
	}
	pr, err := convertPull(r, p)
	if err == nil && pr.Number != number {
		err = fmt.Errorf("the host answered pull request %d", pr.Number)
	}
	if err != nil {
		return vcs.PullRequest{}, fmt.Errorf("read pull request %s#%d: %w", r, number, err)
	}
	return pr, nil
}

func (h *Host) pull(ctx context.Context, r vcs.Repository, number int) (*sdk.PullRequest, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return nil, err
	}
	p, _, err := c.PullRequests.Get(ctx, r.Owner, r.Name, number)
	if err != nil {
		return nil, transport.Wrap(err, "read pull request %s#%d", r, number)
	}
	return p, nil
}

// PullRequests returns the open ones and those closed since, by number. The
// open ones are listed first: one that is closed meanwhile is then in the
// second list, and the later answer counts. The addresses of both lists are
// always the same, so that nothing counts where nothing changed.
func (h *Host) PullRequests(ctx context.Context, r vcs.Repository, since time.Time) ([]vcs.PullRequest, error) {
	found := map[int]vcs.PullRequest{}
	add := func(p *sdk.PullRequest) {
		pr, err := convertPull(r, p)
		if err != nil {
			// One broken pull request must not hide all others.
			h.cfg.Logger.WarnContext(ctx, "skip a pull request that the host describes badly",
				"repository", r.String(), "number", p.GetNumber(), "error", err)
			return
		}
		found[pr.Number] = pr
	}
	err := h.listPulls(ctx, r, "open", func(p *sdk.PullRequest) bool {
		add(p)
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list open pull requests of %s", r)
	}
	since = since.Truncate(time.Second) // the host's times have whole seconds
	err = h.listPulls(ctx, r, "closed", func(p *sdk.PullRequest) bool {
		// By recent update: all that follow were touched before.
		if p.UpdatedAt != nil && p.UpdatedAt.Before(since) {
			return false
		}
		if p.ClosedAt == nil || !p.ClosedAt.Before(since) {
			add(p)
		} else {
			delete(found, p.GetNumber())
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list closed pull requests of %s", r)
	}
	pulls := make([]vcs.PullRequest, 0, len(found))
	for _, pr := range found {
		pulls = append(pulls, pr)
	}
	slices.SortFunc(pulls, func(a, b vcs.PullRequest) int { return a.Number - b.Number })
	return pulls, nil
}

func (h *Host) listPulls(ctx context.Context, r vcs.Repository, state string, visit func(*sdk.PullRequest) bool) error {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return err
	}
	return eachPage(func(o sdk.ListOptions) ([]*sdk.PullRequest, *sdk.Response, error) {
		return c.PullRequests.List(ctx, r.Owner, r.Name, &sdk.PullRequestListOptions{State: state, Sort: "updated", Direction: "desc", ListOptions: o})
	}, visit)
}

func convertPull(r vcs.Repository, p *sdk.PullRequest) (vcs.PullRequest, error) {
	if p.GetNumber() <= 0 || p.GetBase().GetRef() == "" || p.Head == nil {
		return vcs.PullRequest{}, errors.New("the host's answer is not a pull request")
	}
	pr := vcs.PullRequest{
		Repository: r,
		Number:     p.GetNumber(),
		Title:      p.GetTitle(),
		Author:     p.GetUser().GetLogin(),
		URL:        p.GetHTMLURL(),
		State:      state(p),
		Draft:      p.GetDraft(),
		// A head without a repository is a fork's that was deleted.
		Fork:      p.Head.GetRepo().GetID() == 0 || p.Head.GetRepo().GetID() != p.Base.GetRepo().GetID(),
		HeadRef:   p.Head.GetRef(),
		HeadSHA:   p.Head.GetSHA(),
		FetchRef:  fmt.Sprintf("refs/pull/%d/head", p.GetNumber()),
		BaseRef:   p.Base.GetRef(),
		UpdatedAt: p.GetUpdatedAt().Time,
	}
	if transport.IsSHA(p.Base.GetSHA()) {
		pr.BaseSHA = p.Base.GetSHA()
	}
	if !transport.IsSHA(pr.HeadSHA) {
		if pr.State == vcs.Open {
			return vcs.PullRequest{}, fmt.Errorf("the host names no head commit but %q", transport.Printable(pr.HeadSHA))
		}
		pr.HeadSHA = ""
	}
	if pr.State == vcs.Merged {
		// Of an open one this is a test merge that no branch has.
		if pr.MergeSHA = p.GetMergeCommitSHA(); !transport.IsSHA(pr.MergeSHA) {
			return vcs.PullRequest{}, errors.New("the host says that it is merged and names no merge commit")
		}
		pr.MergedAt = p.GetMergedAt().Time
	}
	return pr, nil
}

// state reads merged_at, which lists have too; they leave "merged" out.
func state(p *sdk.PullRequest) vcs.PullState {
	switch {
	case p.GetMerged() || p.MergedAt != nil:
		return vcs.Merged
	case p.GetState() == "closed":
		return vcs.Closed
	default:
		return vcs.Open
	}
}
