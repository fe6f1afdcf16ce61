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
	// maxComment is a quarter of what GitLab takes, in bytes: larger notes make
	// its pages slow.
	maxComment = 250_000
	// maxDescription is a status's, in characters.
	maxDescription = 255
)

// MaxComment is the longest body, in bytes.
func (h *Host) MaxComment() int { return maxComment }

// Comments returns all notes of people and programs, oldest first. Those that
// GitLab writes itself are none.
func (h *Host) Comments(ctx context.Context, r vcs.Repository, number int) ([]vcs.Comment, error) {
	found, err := h.mergeNotes(ctx, r, number, time.Time{})
	if err != nil {
		return nil, transport.Wrap(err, "list comments of %s!%d", r, number)
	}
	return found, nil
}

// mergeNotes returns the notes of a merge request that were created since, oldest
// first.
func (h *Host) mergeNotes(ctx context.Context, r vcs.Repository, number int, since time.Time) ([]vcs.Comment, error) {
	return notes(number, since, func(o sdk.ListOptions) ([]*sdk.Note, *sdk.Response, error) {
		return h.client.Notes.ListMergeRequestNotes(id(r), int64(number), &sdk.ListMergeRequestNotesOptions{ListOptions: o, OrderBy: ptr("created_at"), Sort: ptr("desc")}, with(ctx))
	})
}

// notes takes those that were created since from a list that has the newest
// first, and returns them oldest first. Those that GitLab writes itself are none.
func notes(number int, since time.Time, get func(sdk.ListOptions) ([]*sdk.Note, *sdk.Response, error)) ([]vcs.Comment, error) {
	var found []vcs.Comment
	err := eachPage(get, func(n *sdk.Note) bool {
		if n.CreatedAt != nil && n.CreatedAt.Before(since) {
			return false
		}
		if !n.System {
			found = append(found, convertNote(n, number))
		}
		return true
	})
	oldestFirst(found)
	return slices.CompactFunc(found, func(a, b vcs.Comment) bool { return a.ID == b.ID }), err
}

func oldestFirst(all []vcs.Comment) {
	slices.SortFunc(all, func(a, b vcs.Comment) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

func convertNote(n *sdk.Note, number int) vcs.Comment {
	c := vcs.Comment{ID: n.ID, Number: number, Author: n.Author.Username, Body: n.Body}
	if n.CreatedAt != nil {
		c.CreatedAt = *n.CreatedAt
	}
	return c
}

// CommentsSince asks the merge requests that were touched since then: a note
// touches its own.
func (h *Host) CommentsSince(ctx context.Context, r vcs.Repository, since time.Time) ([]vcs.Comment, error) {
	var numbers []int
	err := h.list(ctx, r, "all", func(m *sdk.BasicMergeRequest) bool {
		if m.UpdatedAt != nil && m.UpdatedAt.Before(since) {
			return false
		}
		if m.UserNotesCount > 0 {
			numbers = append(numbers, int(m.IID))
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list recent merge requests of %s", r)
	}
	var found []vcs.Comment
	for _, n := range numbers {
		some, err := h.mergeNotes(ctx, r, n, since)
		if errors.Is(err, vcs.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, transport.Wrap(err, "list new comments of %s!%d", r, n)
		}
		found = append(found, some...)
	}
	oldestFirst(found)
	return found, nil
}

// CreateComment adds a note.
func (h *Host) CreateComment(ctx context.Context, r vcs.Repository, number int, body string) (vcs.Comment, error) {
	n, _, err := h.client.Notes.CreateMergeRequestNote(id(r), int64(number), &sdk.CreateMergeRequestNoteOptions{Body: ptr(transport.Storable(body))}, with(ctx))
	if err == nil && n.ID <= 0 {
		err = errors.New("the host answered without the note's id")
	}
	if err != nil {
		return vcs.Comment{}, transport.Wrap(err, "comment on %s!%d", r, number)
	}
	return convertNote(n, number), nil
}

// EditComment replaces a note's body; vcs.ErrNotFound where it is gone.
func (h *Host) EditComment(ctx context.Context, r vcs.Repository, number int, note int64, body string) error {
	_, _, err := h.client.Notes.UpdateMergeRequestNote(id(r), int64(number), note, &sdk.UpdateMergeRequestNoteOptions{Body: ptr(transport.Storable(body))}, with(ctx))
	if err != nil {
		return transport.Wrap(err, "edit comment %d of %s!%d", note, r, number)
	}
	return nil
}

// Acknowledge adds a pair of eyes to a note; the host keeps one of each user.
func (h *Host) Acknowledge(ctx context.Context, r vcs.Repository, number int, note int64) error {
	_, _, err := h.client.AwardEmoji.CreateMergeRequestAwardEmojiOnNote(id(r), int64(number), note, &sdk.CreateAwardEmojiOptions{Name: "eyes"}, with(ctx))
	var e *transport.Error
	if errors.As(err, &e) && strings.Contains(e.Message, "already been taken") {
		return nil // GitLab says 404 to a second one
	}
	if err != nil {
		return transport.Wrap(err, "mark comment %d of %s!%d as read", note, r, number)
	}
	return nil
}

// The words for states. A failed status and one that is an error of Holdfast's
// or of the host's differ, so that Statuses can tell them apart.
var (
	toGitLab = map[vcs.StatusState]sdk.BuildStateValue{
		vcs.StatusPending: sdk.Pending, vcs.StatusSuccess: sdk.Success, vcs.StatusFailure: sdk.Failed, vcs.StatusError: sdk.Canceled,
	}
	fromGitLab = map[string]vcs.StatusState{
		"pending": vcs.StatusPending, "running": vcs.StatusPending, "created": vcs.StatusPending,
		"success": vcs.StatusSuccess, "failed": vcs.StatusFailure, "canceled": vcs.StatusError,
	}
)

// SetStatus sets a commit's external status, which is a job of an external
// pipeline.
func (h *Host) SetStatus(ctx context.Context, r vcs.Repository, sha string, s vcs.Status) error {
	if !transport.IsSHA(sha) {
		return fmt.Errorf("set status %s on %s: %q is not a commit id", s.Context, r, sha)
	}
	o := &sdk.SetCommitStatusOptions{
		State: toGitLab[s.State], Name: ptr(transport.Cut(s.Context, maxDescription)), Description: ptr(transport.Cut(transport.Storable(s.Description), maxDescription)),
	}
	if s.URL != "" {
		o.TargetURL = &s.URL
	}
	_, _, err := h.client.Commits.SetCommitStatus(id(r), sha, o, with(ctx))
	var e *transport.Error
	if errors.As(err, &e) && e.Status == http.StatusBadRequest && strings.Contains(e.Message, "Cannot transition status") {
		return nil // it has that state already, and keeps its former text
	}
	if err != nil {
		return transport.Wrap(err, "set status %s on %s@%.12s", s.Context, r, sha)
	}
	return nil
}

// Statuses returns the latest status of each name.
func (h *Host) Statuses(ctx context.Context, r vcs.Repository, sha string) ([]vcs.Status, error) {
	latest := map[string]*sdk.CommitStatus{}
	err := eachPage(func(o sdk.ListOptions) ([]*sdk.CommitStatus, *sdk.Response, error) {
		return h.client.Commits.GetCommitStatuses(id(r), sha, &sdk.GetCommitStatusesOptions{ListOptions: o}, with(ctx))
	}, func(s *sdk.CommitStatus) bool {
		if old := latest[s.Name]; old == nil || old.ID < s.ID {
			latest[s.Name] = s
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list statuses of %s@%.12s", r, sha)
	}
	var found []vcs.Status
	for name, s := range latest {
		found = append(found, vcs.Status{Context: name, State: cmp.Or(fromGitLab[s.Status], vcs.StatusState(s.Status))})
	}
	return found, nil
}

// Reviews returns the approvals that count now, and the reviewers who asked for
// changes. Where the project takes approvals back at a push, the host leaves them
// out itself; else one from before the latest push is stale.
func (h *Host) Reviews(ctx context.Context, r vcs.Repository, number int) ([]vcs.Review, error) {
	a, _, err := h.client.MergeRequestApprovals.GetConfiguration(id(r), int64(number), with(ctx))
	if err != nil {
		return nil, transport.Wrap(err, "list approvals of %s!%d", r, number)
	}
	var found []vcs.Review
	var pushed time.Time
	if len(a.ApprovedBy) > 0 {
		if pushed, err = h.pushed(ctx, r, number); err != nil {
			return nil, err
		}
	}
	for _, u := range a.ApprovedBy {
		if u == nil || u.User == nil {
			continue
		}
		rev := vcs.Review{Author: u.User.Username, State: vcs.Approved}
		if u.ApprovedAt != nil {
			rev.At = *u.ApprovedAt
		} else if rev.At, err = h.approvedAt(ctx, r, number, rev.Author); err != nil {
			return nil, err
		}
		rev.Stale = !rev.At.After(pushed)
		found = append(found, rev)
	}
	reviewers, _, err := h.client.MergeRequests.GetMergeRequestReviewers(id(r), int64(number), with(ctx))
	if err != nil {
		return nil, transport.Wrap(err, "list reviewers of %s!%d", r, number)
	}
	for _, u := range reviewers {
		if u == nil || u.User == nil || u.State != "requested_changes" {
			continue
		}
		rev := vcs.Review{Author: u.User.Username, State: vcs.ChangesRequested}
		if u.CreatedAt != nil {
			rev.At = *u.CreatedAt
		}
		found = append(found, rev)
	}
	slices.SortStableFunc(found, func(a, b vcs.Review) int { return a.At.Compare(b.At) })
	return found, nil
}

// pushed is when the merge request got its head, by the host's clock.
func (h *Host) pushed(ctx context.Context, r vcs.Repository, number int) (time.Time, error) {
	versions, _, err := h.client.MergeRequests.GetMergeRequestDiffVersions(id(r), int64(number), nil, with(ctx))
	if err != nil {
		return time.Time{}, transport.Wrap(err, "list versions of %s!%d", r, number)
	}
	if len(versions) == 0 || versions[0].CreatedAt == nil { // newest first
		return time.Time{}, fmt.Errorf("list versions of %s!%d: the host has none", r, number)
	}
	return *versions[0].CreatedAt, nil
}

// approvedAt finds an approval in what the host writes itself: older ones do not
// tell its time otherwise. Zero where there is none.
func (h *Host) approvedAt(ctx context.Context, r vcs.Repository, number int, user string) (at time.Time, err error) {
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.Note, *sdk.Response, error) {
		return h.client.Notes.ListMergeRequestNotes(id(r), int64(number), &sdk.ListMergeRequestNotesOptions{ListOptions: o, OrderBy: ptr("created_at"), Sort: ptr("desc")}, with(ctx))
	}, func(n *sdk.Note) bool {
		if n.System && n.Author.Username == user && strings.HasPrefix(n.Body, "approved this merge request") && n.CreatedAt != nil {
			at = *n.CreatedAt
		}
		return at.IsZero()
	})
	if err != nil {
		return at, transport.Wrap(err, "list comments of %s!%d", r, number)
	}
	return at, nil
}
