package gitea

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"holdfast/vcs"
	"holdfast/vcs/transport"
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
		return nil, transport.Wrap(err, "list comments of %s#%d", r, number)
	}
	slices.SortFunc(found, func(a, b *sdk.Comment) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	comments := make([]vcs.Comment, len(found))
	for i, x := range found {
		comments[i] = convertComment(x, number)
	}
	return comments, nil
}

func convertComment(x *sdk.Comment, number int) vcs.Comment {
	return vcs.Comment{ID: x.ID, Number: number, Author: login(x.Poster), Body: x.Body, CreatedAt: x.Created}
}

// CommentsSince asks for what was touched since then, edited comments too, and
// leaves out those that are older or on issues.
func (h *Host) CommentsSince(ctx context.Context, r vcs.Repository, since time.Time) ([]vcs.Comment, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	since = since.Truncate(time.Second) // the host's times have whole seconds
	var found []vcs.Comment
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.Comment, *sdk.Response, error) {
		return c.ListRepoIssueComments(r.Owner, r.Name, sdk.ListIssueCommentOptions{ListOptions: o, Since: since})
	}, func(x *sdk.Comment) int64 { return x.ID }, func(x *sdk.Comment) bool {
		if number := lastNumber(x.PRURL); number > 0 && !x.Created.Before(since) {
			found = append(found, convertComment(x, number))
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list new comments of %s", r)
	}
	slices.SortFunc(found, func(a, b vcs.Comment) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return found, nil
}

// lastNumber is the number at the end of a pull request's address; 0 where
// there is none, as for an issue.
func lastNumber(address string) int {
	n, err := strconv.Atoi(path.Base(address))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// Acknowledge adds a pair of eyes to a comment; the host keeps one of each user.
func (h *Host) Acknowledge(ctx context.Context, r vcs.Repository, number int, comment int64) error {
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	if _, _, err := c.PostIssueCommentReaction(r.Owner, r.Name, comment, "eyes"); err != nil {
		return transport.Wrap(err, "mark comment %d of %s#%d as read", comment, r, number)
	}
	return nil
}

// CreateComment adds a comment.
func (h *Host) CreateComment(ctx context.Context, r vcs.Repository, number int, body string) (vcs.Comment, error) {
	c, err := h.client(ctx)
	if err != nil {
		return vcs.Comment{}, err
	}
	x, _, err := c.CreateIssueComment(r.Owner, r.Name, int64(number), sdk.CreateIssueCommentOption{Body: transport.Storable(body)})
	if err == nil && x.ID <= 0 {
		err = errors.New("the host answered without the comment's id")
	}
	if err != nil {
		return vcs.Comment{}, transport.Wrap(err, "comment on %s#%d", r, number)
	}
	return convertComment(x, number), nil
}

// EditComment replaces a comment's body; vcs.ErrNotFound where it is gone.
func (h *Host) EditComment(ctx context.Context, r vcs.Repository, number int, id int64, body string) error {
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	if _, _, err := c.EditIssueComment(r.Owner, r.Name, id, sdk.EditIssueCommentOption{Body: transport.Storable(body)}); err != nil {
		return transport.Wrap(err, "edit comment %d of %s#%d", id, r, number)
	}
	return nil
}

// SetStatus adds a status; the host shows the latest of a context.
func (h *Host) SetStatus(ctx context.Context, r vcs.Repository, sha string, s vcs.Status) error {
	if !transport.IsSHA(sha) {
		return fmt.Errorf("set status %s on %s: %q is not a commit id", s.Context, r, sha)
	}
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	_, _, err = c.CreateStatus(r.Owner, r.Name, sha, sdk.CreateStatusOption{
		State:       sdk.StatusState(s.State), // the words are the same
		TargetURL:   s.URL,
		Description: transport.Cut(transport.Storable(s.Description), maxDescription),
		Context:     s.Context,
	})
	if err != nil {
		return transport.Wrap(err, "set status %s on %s@%.12s", s.Context, r, sha)
	}
	return nil
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
		return nil, transport.Wrap(err, "list reviews of %s#%d", r, number)
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

// Statuses lists a commit's statuses, the latest first, and keeps one of each
// context.
func (h *Host) Statuses(ctx context.Context, r vcs.Repository, sha string) ([]vcs.Status, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	latest := map[string]*sdk.Status{}
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.Status, *sdk.Response, error) {
		return c.ListStatuses(r.Owner, r.Name, sha, sdk.ListStatusesOption{ListOptions: o})
	}, func(x *sdk.Status) int64 { return x.ID }, func(x *sdk.Status) bool {
		if old := latest[x.Context]; old == nil || old.ID < x.ID {
			latest[x.Context] = x
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list statuses of %s@%.12s", r, sha)
	}
	var found []vcs.Status
	for name, x := range latest {
		found = append(found, vcs.Status{Context: name, State: vcs.StatusState(x.State)})
	}
	return found, nil
}
