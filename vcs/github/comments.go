package github

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/google/go-github/v88/github"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// maxComment is what GitHub takes, in characters; bytes are never fewer.
const maxComment = 65_536

// MaxComment is the longest body, in bytes.
func (h *Host) MaxComment() int { return maxComment }

// Comments returns all comments, oldest first.
func (h *Host) Comments(ctx context.Context, r vcs.Repository, number int) ([]vcs.Comment, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return nil, err
	}
	var found []vcs.Comment
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.IssueComment, *sdk.Response, error) {
		return c.Issues.ListComments(ctx, r.Owner, r.Name, number, &sdk.IssueListCommentsOptions{ListOptions: o})
	}, func(x *sdk.IssueComment) bool {
		found = append(found, convertComment(x, number))
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list comments of %s#%d", r, number)
	}
	oldestFirst(found)
	return slices.CompactFunc(found, func(a, b vcs.Comment) bool { return a.ID == b.ID }), nil
}

func oldestFirst(all []vcs.Comment) {
	slices.SortFunc(all, func(a, b vcs.Comment) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

func convertComment(x *sdk.IssueComment, number int) vcs.Comment {
	return vcs.Comment{ID: x.GetID(), Number: number, Author: x.GetUser().GetLogin(), Body: x.GetBody(), CreatedAt: x.GetCreatedAt().Time}
}

// CommentsSince asks for the newest first, without naming a time: the address is
// then always the same, and the answer counts only where it is another one.
// Comments on issues are left out.
func (h *Host) CommentsSince(ctx context.Context, r vcs.Repository, since time.Time) ([]vcs.Comment, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return nil, err
	}
	since = since.Truncate(time.Second) // the host's times have whole seconds
	newest, down := "created", "desc"
	var found []vcs.Comment
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.IssueComment, *sdk.Response, error) {
		return c.Issues.ListComments(ctx, r.Owner, r.Name, 0, &sdk.IssueListCommentsOptions{Sort: &newest, Direction: &down, ListOptions: o})
	}, func(x *sdk.IssueComment) bool {
		if x.GetCreatedAt().Before(since) {
			return false
		}
		if number := pullNumber(x.GetHTMLURL()); number > 0 {
			found = append(found, convertComment(x, number))
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list new comments of %s", r)
	}
	oldestFirst(found)
	return slices.CompactFunc(found, func(a, b vcs.Comment) bool { return a.ID == b.ID }), nil
}

// pullNumber is the number in the address of a pull request's comment
// (…/pull/1#issuecomment-2); 0 where it is an issue's.
func pullNumber(address string) int {
	address, _, _ = strings.Cut(address, "#")
	if path.Base(path.Dir(address)) != "pull" {
		return 0
	}
	n, err := strconv.Atoi(path.Base(address))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// CreateComment adds a comment.
func (h *Host) CreateComment(ctx context.Context, r vcs.Repository, number int, body string) (vcs.Comment, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return vcs.Comment{}, err
	}
	body = transport.Storable(body)
	x, _, err := c.Issues.CreateComment(ctx, r.Owner, r.Name, number, &sdk.IssueComment{Body: &body})
	if err == nil && x.GetID() <= 0 {
		err = errors.New("the host answered without the comment's id")
	}
	if err != nil {
		return vcs.Comment{}, transport.Wrap(err, "comment on %s#%d", r, number)
	}
	return convertComment(x, number), nil
}

// EditComment replaces a comment's body; vcs.ErrNotFound where it is gone.
func (h *Host) EditComment(ctx context.Context, r vcs.Repository, number int, id int64, body string) error {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return err
	}
	body = transport.Storable(body)
	if _, _, err := c.Issues.EditComment(ctx, r.Owner, r.Name, id, &sdk.IssueComment{Body: &body}); err != nil {
		return transport.Wrap(err, "edit comment %d of %s#%d", id, r, number)
	}
	return nil
}

// Acknowledge adds a pair of eyes to a comment; the host keeps one of each user.
func (h *Host) Acknowledge(ctx context.Context, r vcs.Repository, number int, comment int64) error {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return err
	}
	if _, _, err := c.Reactions.CreateIssueCommentReaction(ctx, r.Owner, r.Name, comment, "eyes"); err != nil {
		return transport.Wrap(err, "mark comment %d of %s#%d as read", comment, r, number)
	}
	return nil
}

// Reviews returns the verdicts, oldest first. Pending ones and plain comments
// are none. One of an older head is stale.
func (h *Host) Reviews(ctx context.Context, r vcs.Repository, number int) ([]vcs.Review, error) {
	p, err := h.pull(ctx, r, number)
	if err != nil {
		return nil, err
	}
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return nil, err
	}
	var found []vcs.Review
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.PullRequestReview, *sdk.Response, error) {
		return c.PullRequests.ListReviews(ctx, r.Owner, r.Name, number, &o)
	}, func(x *sdk.PullRequestReview) bool {
		rev := vcs.Review{Author: x.GetUser().GetLogin(), Stale: x.GetCommitID() != p.GetHead().GetSHA(), At: x.GetSubmittedAt().Time}
		switch x.GetState() {
		case "APPROVED":
			rev.State = vcs.Approved
		case "CHANGES_REQUESTED":
			rev.State = vcs.ChangesRequested
		case "DISMISSED": // what it was is not told, and does not matter
			rev.State, rev.Dismissed = vcs.ChangesRequested, true
		default:
			return true
		}
		found = append(found, rev)
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list reviews of %s#%d", r, number)
	}
	slices.SortStableFunc(found, func(a, b vcs.Review) int { return a.At.Compare(b.At) })
	return found, nil
}

// Mergeable reports whether the pull request could be merged now. "blocked" and
// "behind" are rules of the branch, of which a check of Holdfast's own may be
// one: they are not part of it.
func (h *Host) Mergeable(ctx context.Context, r vcs.Repository, number int) (bool, error) {
	p, err := h.pull(ctx, r, number)
	if err != nil {
		return false, err
	}
	if state(p) != vcs.Open || p.GetDraft() {
		return false, nil
	}
	return p.GetMergeable() && p.GetMergeableState() != "dirty", nil
}
