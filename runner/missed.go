package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/queue"
	"holdfast/vcs"
)

const (
	// vanishedEvery is how often everything that is stored of a repository's
	// pull requests is compared with what the host has.
	vanishedEvery = time.Hour
	// maxVerify bounds the reports of one repository that one look verifies, the
	// longest unverified first: each costs two requests, of which nothing counts
	// where nothing changed.
	maxVerify = 10
	// maxDone bounds the comments of a pull request that are remembered.
	maxDone = 500
)

// vanished queues an event for each pull request that is open as far as is
// known, and that the host does not list: closed so long ago that the list of
// what was closed lately does not have it, or deleted.
func (r *Runner) vanished(ctx context.Context, repo vcs.Repository, listed []vcs.PullRequest) error {
	r.configMu.Lock()
	due := r.Clock().Sub(r.swept[repo]) >= vanishedEvery
	r.configMu.Unlock()
	if !due {
		return nil
	}
	prefix := "pull/" + repo.String() + "#"
	records, err := r.Store.Records.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, stored := range records {
		var rec pullRecord
		if err := json.Unmarshal(stored.Value, &rec); err != nil {
			return fmt.Errorf("read %s: %w", stored.Key, err)
		}
		n, err := strconv.Atoi(strings.TrimPrefix(stored.Key, prefix))
		if err != nil || rec.State != vcs.Open || slices.ContainsFunc(listed, func(pr vcs.PullRequest) bool { return pr.Number == n }) {
			continue
		}
		if err := r.missedEvent(ctx, vcs.PullRequest{Repository: repo, Number: n, State: "vanished"}); err != nil {
			return err
		}
	}
	r.configMu.Lock()
	defer r.configMu.Unlock()
	r.swept[repo] = r.Clock()
	return nil
}

// missedComments queues the commands that were written since then, and that no
// webhook brought.
func (r *Runner) missedComments(ctx context.Context, h host, repo vcs.Repository, since time.Time) error {
	all, err := h.comments.CommentsSince(ctx, repo, since)
	if errors.Is(err, vcs.ErrDenied) {
		// What else a look finds does not need it.
		r.Logger.Error("the host does not let commands be read", "repository", repo.String(), "error", err, "hint", hintOf(err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("list comments: %w", err)
	}
	for _, c := range all {
		if _, isCommand, _ := parseCommand(c.Body); !isCommand {
			continue
		}
		if done, err := r.carriedOut(ctx, commentsName(repo, c.Number), c.ID); err != nil {
			return err
		} else if done {
			continue
		}
		err := r.Receive(ctx, vcs.Event{
			Delivery: fmt.Sprintf("reconcile/%s/%d/comment/%d", repo, c.Number, c.ID), Kind: vcs.EventComment,
			Repository: repo, Number: c.Number, Sender: c.Author, CommentID: c.ID, Comment: c.Body, CommentedAt: c.CreatedAt,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// queueBranches is where GitHub's merge queue has its branches, which are named
// gh-readonly-queue/BASE/pr-NUMBER-COMMIT: the commit is what it was made on.
const queueBranches = "gh-readonly-queue/"

// missedGroups queues the commits of a merge queue that no webhook told of: it
// waits for their statuses.
func (r *Runner) missedGroups(ctx context.Context, repo vcs.Repository) error {
	branches, err := r.Git.Branches(ctx, repo)
	if err != nil {
		return fmt.Errorf("look for merge groups: %w", err)
	}
	for name, sha := range branches {
		e, ok := queueEvent(name)
		if !ok {
			continue
		}
		var rec commitRecord
		if version, err := r.load(ctx, commitName(repo, sha), &rec); err != nil {
			return err
		} else if version > 0 {
			continue
		}
		e.Delivery, e.Repository, e.After = "reconcile/"+commitName(repo, sha), repo, sha
		if err := r.Receive(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// queueEvent reads the name of a merge queue's branch.
func queueEvent(name string) (e vcs.Event, ok bool) {
	rest, found := strings.CutPrefix(name, queueBranches)
	i := strings.LastIndex(rest, "/pr-")
	if !found || i <= 0 {
		return e, false
	}
	number, before, found := strings.Cut(rest[i+len("/pr-"):], "-")
	n, err := strconv.Atoi(number)
	if !found || err != nil || n <= 0 || len(before) != 40 {
		return e, false
	}
	return vcs.Event{Kind: vcs.EventMergeGroup, Number: n, Branch: rest[:i], Before: before}, true
}

// commentsName names the record of a pull request's comments.
func commentsName(repo vcs.Repository, number int) string {
	return fmt.Sprintf("comments/%s#%d", repo, number)
}

// carriedOut reports whether the command in a comment was carried out, by the
// record of that name.
func (r *Runner) carriedOut(ctx context.Context, name string, comment int64) (bool, error) {
	var rec commentsRecord
	if _, err := r.load(ctx, name, &rec); err != nil {
		return false, err
	}
	return slices.Contains(rec.Done, comment), nil
}

// carryOut notes that the command in a comment was carried out: the same comment
// may come from a webhook and from a look at the host.
func (r *Runner) carryOut(ctx context.Context, name string, comment int64) error {
	return change(ctx, r, name, func(rec *commentsRecord) {
		if !slices.Contains(rec.Done, comment) {
			rec.Done = append(rec.Done, comment)
		}
		rec.Done = rec.Done[max(len(rec.Done)-maxDone, 0):]
	})
}

// verifyReports has the host asked whether it still shows what it was made to
// show: somebody may have deleted a comment, or a status was lost.
func (r *Runner) verifyReports(ctx context.Context, repo vcs.Repository, prs []vcs.PullRequest) error {
	type due struct {
		number int
		last   time.Time
	}
	var all []due
	for _, pr := range prs {
		var shown reportRecord
		version, err := r.load(ctx, "report/"+pullName(repo, pr.Number), &shown)
		if err != nil {
			return err
		}
		if version > 0 {
			all = append(all, due{pr.Number, shown.Verified})
		}
	}
	slices.SortFunc(all, func(a, b due) int { return a.last.Compare(b.last) })
	for _, d := range all[:min(len(all), maxVerify)] {
		payload, err := json.Marshal(reportPayload{Repository: repo, Number: d.number, Verify: true})
		if err != nil {
			return err
		}
		name := "report/" + pullName(repo, d.number)
		_, err = r.Queue.Enqueue(ctx, queue.Job{
			Kind: JobReport, Group: name, Key: name + "/verify", Priority: queue.PriorityInteractive, Payload: payload,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// verify drops from what is known to be shown what the host does not have, so
// that it is shown again.
func (p *poster) verify(ctx context.Context) error {
	if p.host.comments != nil && p.shown.Comment != 0 {
		all, err := p.host.comments.Comments(ctx, p.repo, p.number)
		if err != nil {
			return fmt.Errorf("list comments: %w", err)
		}
		if !slices.ContainsFunc(all, func(c vcs.Comment) bool { return c.ID == p.shown.Comment }) {
			p.r.Logger.Info("the report was deleted on the host", "repository", p.repo.String(), "pull_request", p.number)
			p.shown.Comment, p.shown.Body = 0, ""
		}
	}
	if p.host.seen != nil && p.shown.SHA == p.sha && p.sha != "" {
		has, err := p.host.seen.Statuses(ctx, p.repo, p.sha)
		if err != nil && !errors.Is(err, vcs.ErrNotFound) {
			return fmt.Errorf("list statuses: %w", err)
		}
		for name, now := range p.shown.Statuses {
			if !slices.ContainsFunc(has, func(s vcs.Status) bool {
				return s.Context == name && strings.HasPrefix(now, string(s.State)+"\n")
			}) {
				delete(p.shown.Statuses, name)
			}
		}
	}
	p.shown.Verified = p.r.Clock()
	return p.save(ctx)
}
