package gitea

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// pageSize is the largest page that Gitea gives with its default settings
// ([api] MAX_RESPONSE_ITEMS); a host set to less gives shorter pages.
const pageSize = 50

// maxPages bounds a listing: a host whose pages never end is broken.
const maxPages = 2000

// eachPage calls get for page 1, 2, … and hands on each item once, until visit
// returns false or there are no more.
//
// A short page is not the last one where the host's own limit is below
// pageSize, and some of Gitea's lists (comments) ignore the page and answer
// everything each time. So the end is the announced total, an empty page, or a
// page with nothing new.
func eachPage[T any](get func(sdk.ListOptions) ([]*T, *sdk.Response, error), id func(*T) int64, visit func(*T) bool) error {
	seen := map[int64]bool{}
	for page := 1; page <= maxPages; page++ {
		items, resp, err := get(sdk.ListOptions{Page: page, PageSize: pageSize})
		if err != nil {
			return err
		}
		fresh := false
		for _, item := range items {
			if item == nil || seen[id(item)] {
				continue
			}
			fresh, seen[id(item)] = true, true
			if !visit(item) {
				return nil
			}
		}
		if !fresh || len(seen) >= total(resp) {
			return nil
		}
	}
	return fmt.Errorf("the host's list has no end after %d pages", maxPages)
}

// total is how many items the host announces, or more than any list has where
// it doesn't.
func total(resp *sdk.Response) int {
	const unknown = maxPages * pageSize * 2
	if resp == nil || resp.Response == nil {
		return unknown
	}
	n, err := strconv.Atoi(resp.Header.Get("X-Total-Count"))
	if err != nil || n < 0 {
		return unknown
	}
	return n
}

// PullRequest returns one pull request as it is now.
func (h *Host) PullRequest(ctx context.Context, r vcs.Repository, number int) (vcs.PullRequest, error) {
	p, err := h.pull(ctx, r, number)
	if err != nil {
		return vcs.PullRequest{}, transport.Wrap(err, "read pull request %s#%d", r, number)
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
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	p, _, err := c.GetPullRequest(r.Owner, r.Name, int64(number))
	return p, err
}

// PullRequests returns the open ones and those closed since, by number. The
// open ones are listed first: one that is closed meanwhile is then in the
// second list, and the later answer counts.
func (h *Host) PullRequests(ctx context.Context, r vcs.Repository, since time.Time) ([]vcs.PullRequest, error) {
	found := map[int]vcs.PullRequest{}
	add := func(p *sdk.PullRequest) {
		pr, err := convertPull(r, p)
		if err != nil {
			// One broken pull request must not hide all others.
			h.cfg.Logger.WarnContext(ctx, "skip a pull request that the host describes badly",
				"repository", r.String(), "number", p.Index, "error", err)
			return
		}
		found[pr.Number] = pr
	}
	err := h.listPulls(ctx, r, sdk.StateOpen, func(p *sdk.PullRequest) bool {
		add(p)
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list open pull requests of %s", r)
	}
	since = since.Truncate(time.Second) // the host's times have whole seconds
	err = h.listPulls(ctx, r, sdk.StateClosed, func(p *sdk.PullRequest) bool {
		// By recent update: all that follow were touched before.
		if p.Updated != nil && p.Updated.Before(since) {
			return false
		}
		if p.Closed == nil || !p.Closed.Before(since) {
			add(p)
		} else {
			delete(found, int(p.Index))
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

func (h *Host) listPulls(ctx context.Context, r vcs.Repository, state sdk.StateType, visit func(*sdk.PullRequest) bool) error {
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	return eachPage(func(o sdk.ListOptions) ([]*sdk.PullRequest, *sdk.Response, error) {
		return c.ListRepoPullRequests(r.Owner, r.Name, sdk.ListPullRequestsOptions{ListOptions: o, State: state, Sort: "recentupdate"})
	}, func(p *sdk.PullRequest) int64 { return p.Index }, visit)
}

func convertPull(r vcs.Repository, p *sdk.PullRequest) (vcs.PullRequest, error) {
	if p == nil || p.Index <= 0 || p.Base == nil || p.Head == nil || p.Base.Ref == "" {
		return vcs.PullRequest{}, errors.New("the host's answer is not a pull request")
	}
	pr := vcs.PullRequest{
		Repository: r,
		Number:     int(p.Index),
		Title:      p.Title,
		Author:     login(p.Poster),
		URL:        p.HTMLURL,
		State:      state(p),
		Draft:      p.Draft || isWIP(p.Title),
		Fork:       isFork(p),
		HeadRef:    headRef(p.Head),
		HeadSHA:    p.Head.Sha,
		FetchRef:   fmt.Sprintf("refs/pull/%d/head", p.Index),
		BaseRef:    p.Base.Ref,
	}
	if transport.IsSHA(p.Base.Sha) {
		pr.BaseSHA = p.Base.Sha
	}
	if p.Updated != nil {
		pr.UpdatedAt = *p.Updated
	}
	if !transport.IsSHA(pr.HeadSHA) {
		if pr.State == vcs.Open {
			return vcs.PullRequest{}, fmt.Errorf("the host names no head commit but %q", pr.HeadSHA)
		}
		pr.HeadSHA = "" // an old one whose objects are gone
	}
	if pr.State == vcs.Merged {
		if p.MergedCommitID == nil || !transport.IsSHA(*p.MergedCommitID) {
			return vcs.PullRequest{}, errors.New("the host says that it is merged and names no merge commit")
		}
		// Of an open one this is a test merge that no branch has.
		pr.MergeSHA = *p.MergedCommitID
		if p.Merged != nil {
			pr.MergedAt = *p.Merged
		}
	}
	return pr, nil
}

func state(p *sdk.PullRequest) vcs.PullState {
	switch {
	case p.HasMerged:
		return vcs.Merged
	case p.State == sdk.StateClosed:
		return vcs.Closed
	default:
		return vcs.Open
	}
}

// isWIP knows Gitea's default prefixes ([repository.pull-request]
// WORK_IN_PROGRESS_PREFIXES), for versions that send no "draft".
func isWIP(title string) bool {
	t := strings.ToUpper(strings.TrimSpace(title))
	return strings.HasPrefix(t, "WIP:") || strings.HasPrefix(t, "[WIP]")
}

// isFork reports whether the head may come from somebody who cannot write to
// the base repository: from another repository, from one that is gone, or
// pushed to refs/for/BRANCH (AGit), which needs no more than reading and which
// the host describes as a head in the base repository without a label.
func isFork(p *sdk.PullRequest) bool {
	return p.Head.Repository == nil || p.Head.RepoID != p.Base.RepoID || p.Head.Name == ""
}

// headRef is the branch's name. Once the branch is deleted the host has
// refs/pull/N/head in its place, and the name in the label alone.
func headRef(b *sdk.PRBranchInfo) string {
	if strings.HasPrefix(b.Ref, "refs/") && b.Name != "" {
		return b.Name
	}
	return b.Ref
}

func login(u *sdk.User) string {
	if u == nil {
		return ""
	}
	return u.UserName
}
