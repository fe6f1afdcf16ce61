package gitea

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	sdk "code.gitea.io/sdk/gitea"

	"holdfast/vcs"
)

// maxComment keeps a comment below the 65,535 bytes of the column that old
// installations on MySQL still have; Gitea itself sets no limit, but renders
// the text on every view and mails it.
const maxComment = 60_000

// maxDescription is what a status's line shows whole, in characters.
const maxDescription = 255

// MaxComment is the longest body, in bytes.
func (h *Host) MaxComment() int { return maxComment }

// Comments returns all comments, oldest first.
func (h *Host) Comments(ctx context.Context, r vcs.Repository, number int) ([]vcs.Comment, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	var found []*sdk.Comment
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.Comment, *sdk.Response, error) {
		return c.ListIssueComments(r.Owner, r.Name, int64(number), sdk.ListIssueCommentOptions{ListOptions: o})
	}, func(x *sdk.Comment) int64 { return x.ID }, func(x *sdk.Comment) bool {
		found = append(found, x)
		return true
	})
	if err != nil {
		return nil, wrap(err, "list comments of %s#%d", r, number)
	}
	slices.SortFunc(found, func(a, b *sdk.Comment) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	comments := make([]vcs.Comment, len(found))
	for i, x := range found {
		comments[i] = vcs.Comment{ID: x.ID, Author: login(x.Poster), Body: x.Body}
	}
	return comments, nil
}

// CreateComment adds a comment.
func (h *Host) CreateComment(ctx context.Context, r vcs.Repository, number int, body string) (vcs.Comment, error) {
	c, err := h.client(ctx)
	if err != nil {
		return vcs.Comment{}, err
	}
	x, _, err := c.CreateIssueComment(r.Owner, r.Name, int64(number), sdk.CreateIssueCommentOption{Body: storable(body)})
	if err == nil && x.ID <= 0 {
		err = errors.New("the host answered without the comment's id")
	}
	if err != nil {
		return vcs.Comment{}, wrap(err, "comment on %s#%d", r, number)
	}
	return vcs.Comment{ID: x.ID, Author: login(x.Poster), Body: x.Body}, nil
}

// EditComment replaces a comment's body; vcs.ErrNotFound where it is gone.
func (h *Host) EditComment(ctx context.Context, r vcs.Repository, number int, id int64, body string) error {
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	if _, _, err := c.EditIssueComment(r.Owner, r.Name, id, sdk.EditIssueCommentOption{Body: storable(body)}); err != nil {
		return wrap(err, "edit comment %d of %s#%d", id, r, number)
	}
	return nil
}

// storable drops NUL bytes, which PostgreSQL refuses, and what is not UTF-8.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// SetStatus adds a status; the host shows the latest of a context.
func (h *Host) SetStatus(ctx context.Context, r vcs.Repository, sha string, s vcs.Status) error {
	if !isSHA(sha) {
		return fmt.Errorf("set status %s on %s: %q is not a commit id", s.Context, r, sha)
	}
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	_, _, err = c.CreateStatus(r.Owner, r.Name, sha, sdk.CreateStatusOption{
		State:       sdk.StatusState(s.State), // the words are the same
		TargetURL:   s.URL,
		Description: cut(storable(s.Description), maxDescription),
		Context:     s.Context,
	})
	if err != nil {
		return wrap(err, "set status %s on %s@%.12s", s.Context, r, sha)
	}
	return nil
}

// cut shortens s to n characters, the last of them "…" where any were lost.
func cut(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n-1]) + "…"
}

// Reviews returns the verdicts, oldest first. Requests, pending reviews and
// plain comments are none.
func (h *Host) Reviews(ctx context.Context, r vcs.Repository, number int) ([]vcs.Review, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	var found []*sdk.PullReview
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.PullReview, *sdk.Response, error) {
		return c.ListPullReviews(r.Owner, r.Name, int64(number), sdk.ListPullReviewsOptions{ListOptions: o})
	}, func(x *sdk.PullReview) int64 { return x.ID }, func(x *sdk.PullReview) bool {
		found = append(found, x)
		return true
	})
	if err != nil {
		return nil, wrap(err, "list reviews of %s#%d", r, number)
	}
	slices.SortFunc(found, func(a, b *sdk.PullReview) int {
		return cmp.Or(a.Submitted.Compare(b.Submitted), cmp.Compare(a.ID, b.ID))
	})
	var reviews []vcs.Review
	for _, x := range found {
		rev := vcs.Review{Author: login(x.Reviewer), Stale: x.Stale, Dismissed: x.Dismissed, At: x.Submitted}
		switch x.State {
		case sdk.ReviewStateApproved:
			rev.State = vcs.Approved
		case sdk.ReviewStateRequestChanges:
			rev.State = vcs.ChangesRequested
		default:
			continue
		}
		reviews = append(reviews, rev)
	}
	return reviews, nil
}
