package gitlab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	sdk "gitlab.com/gitlab-org/api/client-go/v2"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

const (
	// pageSize is the largest page that GitLab gives.
	pageSize = 100
	// maxPages bounds a listing: a host whose pages never end is broken.
	maxPages = 2000
	// maxTitle is the title's column, in characters.
	maxTitle = 255
)

// eachPage calls get for each page, and hands on each item until visit returns
// false or there are no more.
func eachPage[T any](get func(sdk.ListOptions) ([]T, *sdk.Response, error), visit func(T) bool) error {
	o := sdk.ListOptions{PerPage: pageSize, Page: 1}
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

// PullRequest returns one merge request as it is now.
func (h *Host) PullRequest(ctx context.Context, r vcs.Repository, number int) (vcs.PullRequest, error) {
	m, err := h.pull(ctx, r, number)
	if err != nil {
		return vcs.PullRequest{}, err
	}
	pr, err := convert(r, &m.BasicMergeRequest)
	if err == nil && pr.Number != number {
		err = fmt.Errorf("the host answered merge request %d", pr.Number)
	}
	if err != nil {
		return vcs.PullRequest{}, fmt.Errorf("read merge request %s!%d: %w", r, number, err)
	}
	return pr, nil
}

func (h *Host) pull(ctx context.Context, r vcs.Repository, number int) (*sdk.MergeRequest, error) {
	m, _, err := h.client.MergeRequests.GetMergeRequest(id(r), int64(number), nil, with(ctx))
	if err != nil {
		return nil, transport.Wrap(err, "read merge request %s!%d", r, number)
	}
	return m, nil
}

// PullRequests returns the open ones and those ended since, by number. The open
// ones are listed first: one that ends meanwhile is then in the second list, and
// the later answer counts. The addresses of both lists are always the same, so
// that the host need not send again what has not changed.
func (h *Host) PullRequests(ctx context.Context, r vcs.Repository, since time.Time) ([]vcs.PullRequest, error) {
	found := map[int]vcs.PullRequest{}
	add := func(m *sdk.BasicMergeRequest) {
		pr, err := convert(r, m)
		if err != nil {
			// One broken merge request must not hide all others.
			h.cfg.Logger.WarnContext(ctx, "skip a merge request that the host describes badly",
				"repository", r.String(), "number", m.IID, "error", err)
			return
		}
		found[pr.Number] = pr
	}
	err := h.list(ctx, r, "opened", func(m *sdk.BasicMergeRequest) bool {
		add(m)
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list open merge requests of %s", r)
	}
	err = h.list(ctx, r, "all", func(m *sdk.BasicMergeRequest) bool {
		// By recent update: all that follow were touched before.
		if m.UpdatedAt != nil && m.UpdatedAt.Before(since) {
			return false
		}
		if m.State == "opened" || m.State == "locked" {
			add(m)
		} else if ended := cmp.Or(m.MergedAt, m.ClosedAt); ended == nil || !ended.Before(since) {
			add(m)
		} else {
			delete(found, int(m.IID))
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list recent merge requests of %s", r)
	}
	pulls := make([]vcs.PullRequest, 0, len(found))
	for _, pr := range found {
		pulls = append(pulls, pr)
	}
	slices.SortFunc(pulls, func(a, b vcs.PullRequest) int { return a.Number - b.Number })
	return pulls, nil
}

func (h *Host) list(ctx context.Context, r vcs.Repository, state string, visit func(*sdk.BasicMergeRequest) bool) error {
	return eachPage(func(o sdk.ListOptions) ([]*sdk.BasicMergeRequest, *sdk.Response, error) {
		return h.client.MergeRequests.ListProjectMergeRequests(id(r), &sdk.ListProjectMergeRequestsOptions{
			ListOptions: o, State: &state, OrderBy: ptr("updated_at"), Sort: ptr("desc"),
		}, with(ctx))
	}, visit)
}

func convert(r vcs.Repository, m *sdk.BasicMergeRequest) (vcs.PullRequest, error) {
	if m == nil || m.IID <= 0 || m.TargetBranch == "" {
		return vcs.PullRequest{}, errors.New("the host's answer is not a merge request")
	}
	pr := vcs.PullRequest{
		Repository: r,
		Number:     int(m.IID),
		Title:      m.Title,
		URL:        m.WebURL,
		State:      state(m),
		Draft:      m.Draft || strings.HasPrefix(strings.ToLower(m.Title), "draft:"),
		Fork:       m.SourceProjectID == 0 || m.SourceProjectID != m.TargetProjectID,
		HeadRef:    m.SourceBranch,
		HeadSHA:    m.SHA,
		FetchRef:   fmt.Sprintf("refs/merge-requests/%d/head", m.IID),
		BaseRef:    m.TargetBranch,
	}
	if m.Author != nil {
		pr.Author = m.Author.Username
	}
	if m.UpdatedAt != nil {
		pr.UpdatedAt = *m.UpdatedAt
	}
	if !transport.IsSHA(pr.HeadSHA) {
		if pr.State == vcs.Open {
			return vcs.PullRequest{}, fmt.Errorf("the host names no head commit but %q", transport.Printable(pr.HeadSHA))
		}
		pr.HeadSHA = ""
	}
	if pr.State == vcs.Merged {
		// A fast-forward makes no commit: the head itself, squashed or not, is on
		// the target then.
		pr.MergeSHA = cmp.Or(m.MergeCommitSHA, m.SquashCommitSHA, m.SHA)
		if !transport.IsSHA(pr.MergeSHA) {
			return vcs.PullRequest{}, errors.New("the host says that it is merged and names no merge commit")
		}
		if m.MergedAt != nil {
			pr.MergedAt = *m.MergedAt
		}
	}
	return pr, nil
}

// state has "locked", which is being merged, as open.
func state(m *sdk.BasicMergeRequest) vcs.PullState {
	switch m.State {
	case "merged":
		return vcs.Merged
	case "closed":
		return vcs.Closed
	default:
		return vcs.Open
	}
}

// Mergeable reports whether the merge request could be merged now. Rules of the
// project (approvals, pipelines, discussions) are not part of it.
func (h *Host) Mergeable(ctx context.Context, r vcs.Repository, number int) (bool, error) {
	m, err := h.pull(ctx, r, number)
	if err != nil {
		return false, err
	}
	if state(&m.BasicMergeRequest) != vcs.Open || m.Draft || m.HasConflicts {
		return false, nil
	}
	switch m.DetailedMergeStatus {
	case "", "conflict", "draft_status", "checking", "unchecked", "preparing", "broken_status", "not_open", "commits_status":
		return false, nil // still looking, or cannot
	}
	return true, nil
}

// Merge merges the merge request if its head is still sha. One that was merged
// with that head already is a success: the answer to an earlier try may have been
// lost. "squash" squashes; how the result gets onto the target is the project's
// own setting. Where the project has merge trains, it gets onto one.
func (h *Host) Merge(ctx context.Context, r vcs.Repository, number int, sha, method string) error {
	if err := transport.CheckMerge(sha, method); err != nil {
		return fmt.Errorf("merge %s!%d: %w", r, number, err)
	}
	p, err := h.project(ctx, r)
	if err != nil {
		return err
	}
	squash := method == "squash"
	if p.MergeTrainsEnabled {
		_, _, err = h.client.MergeTrains.AddMergeRequestToMergeTrain(id(r), int64(number), &sdk.AddMergeRequestToMergeTrainOptions{SHA: &sha, Squash: &squash}, with(ctx))
		if err == nil || transport.StatusOf(err) == http.StatusConflict {
			return h.onTrain(ctx, r, number, sha, err)
		}
	} else {
		_, _, err = h.client.MergeRequests.AcceptMergeRequest(id(r), int64(number), &sdk.AcceptMergeRequestOptions{SHA: &sha, Squash: &squash}, with(ctx))
		if err == nil {
			return nil
		}
	}
	var e *transport.Error
	if errors.As(err, &e) && slices.Contains([]int{http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusBadRequest, http.StatusUnauthorized}, e.Status) {
		// GitLab answers 401 where the user may not merge this one.
		m, perr := h.pull(ctx, r, number)
		switch {
		case errors.Is(perr, vcs.ErrNotFound), errors.Is(perr, vcs.ErrDenied):
		case perr != nil:
			return perr
		case state(&m.BasicMergeRequest) == vcs.Merged && m.SHA == sha:
			return nil
		default:
			return fmt.Errorf("merge %s!%d: %w", r, number, notMerged(m, sha, *e))
		}
	}
	return transport.Wrap(err, "merge %s!%d", r, number)
}

// onTrain says that the merge request waits on a merge train; nil where it is
// merged.
func (h *Host) onTrain(ctx context.Context, r vcs.Repository, number int, sha string, cause error) error {
	if m, err := h.pull(ctx, r, number); err == nil && state(&m.BasicMergeRequest) == vcs.Merged && m.SHA == sha {
		return nil
	}
	return fmt.Errorf("merge %s!%d: %w", r, number, &vcs.NotMergedError{Reason: "it waits on the merge train", Again: true, Err: cause})
}

// notMerged finds the reason in the merge request as it is after the refusal, and
// else in the host's words.
func notMerged(m *sdk.MergeRequest, sha string, refused transport.Error) *vcs.NotMergedError {
	refused.Kind = nil // it is there
	e := &vcs.NotMergedError{Err: &refused}
	base := transport.Printable(m.TargetBranch)
	switch {
	case state(&m.BasicMergeRequest) == vcs.Merged:
		e.Reason = fmt.Sprintf("it was merged already, with the head %.12s instead of %.12s", transport.Printable(m.SHA), sha)
	case state(&m.BasicMergeRequest) == vcs.Closed:
		e.Reason, e.Advice = "it is closed", "Reopen it to have it merged."
	case m.SHA != sha:
		e.Reason = fmt.Sprintf("its head has moved from %.12s to %.12s", sha, transport.Printable(m.SHA))
		e.Advice = "Look at what was pushed meanwhile."
	case m.Draft:
		e.Reason, e.Advice = "it is a draft", "Mark it as ready."
	case m.HasConflicts || m.DetailedMergeStatus == "conflict":
		e.Reason, e.Advice = "it conflicts with "+base, "Bring the branch up to date with "+base+"."
	case slices.Contains([]string{"checking", "unchecked", "preparing"}, m.DetailedMergeStatus):
		e.Reason, e.Again = "the host is still looking for conflicts with "+base, true
	case refused.Status == http.StatusUnauthorized || refused.Status == http.StatusForbidden:
		e.Reason, e.Advice = "the token's user may not merge into "+base, "Give it the role that the branch's protection asks for, Maintainer as a rule."
	default:
		e.Reason = "the host says: " + refused.Message
		if m.DetailedMergeStatus != "" && m.DetailedMergeStatus != "mergeable" {
			e.Reason += " (" + transport.Printable(strings.ReplaceAll(m.DetailedMergeStatus, "_", "-")) + ")"
		}
		e.Advice = "What a merge request needs is in the project's Settings, Merge requests."
	}
	return e
}

// OpenPull opens a merge request, or returns the one that is open already.
func (h *Host) OpenPull(ctx context.Context, r vcs.Repository, n vcs.NewPull) (vcs.PullRequest, error) {
	pr, err := h.openPull(ctx, r, n)
	if err != nil {
		return vcs.PullRequest{}, transport.Wrap(err, "open merge request from %s to %s in %s", transport.Printable(n.Branch), transport.Printable(n.Base), r)
	}
	return pr, nil
}

func (h *Host) openPull(ctx context.Context, r vcs.Repository, n vcs.NewPull) (vcs.PullRequest, error) {
	if err := transport.CheckBranches(n); err != nil {
		return vcs.PullRequest{}, err
	}
	// GitLab opens one from a branch that is not there, too.
	for _, branch := range []string{n.Branch, n.Base} {
		if _, _, err := h.client.Branches.GetBranch(id(r), branch, with(ctx)); err != nil {
			return vcs.PullRequest{}, err
		}
	}
	m, _, err := h.client.MergeRequests.CreateMergeRequest(id(r), &sdk.CreateMergeRequestOptions{
		Title: ptr(transport.Title(n, maxTitle)), Description: ptr(transport.CutText(transport.Storable(n.Body), maxComment)),
		SourceBranch: &n.Branch, TargetBranch: &n.Base,
	}, with(ctx))
	if transport.StatusOf(err) == http.StatusConflict {
		return h.openFrom(ctx, r, n, err)
	}
	if err != nil {
		return vcs.PullRequest{}, err
	}
	return convert(r, &m.BasicMergeRequest)
}

// openFrom finds the merge request that the host says is there already; exists is
// how it said so.
func (h *Host) openFrom(ctx context.Context, r vcs.Repository, n vcs.NewPull, exists error) (vcs.PullRequest, error) {
	list, _, err := h.client.MergeRequests.ListProjectMergeRequests(id(r), &sdk.ListProjectMergeRequestsOptions{
		State: ptr("opened"), SourceBranch: &n.Branch, TargetBranch: &n.Base, ListOptions: sdk.ListOptions{PerPage: pageSize},
	}, with(ctx))
	if err != nil {
		return vcs.PullRequest{}, err
	}
	for _, m := range list {
		if pr, err := convert(r, m); err == nil && !pr.Fork && pr.HeadRef == n.Branch && pr.BaseRef == n.Base {
			return pr, nil
		}
	}
	return vcs.PullRequest{}, exists // it was closed meanwhile
}
