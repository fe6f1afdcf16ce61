package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"holdfast/store"
	"holdfast/vcs"
)

// maxReverted bounds the commits that one merge may have put on the default
// branch, for finding the one before them.
const maxReverted = 250

// rollback opens a pull request that takes a merge back. It is planned, reviewed
// and applied like any other.
func (r *Runner) rollback(ctx context.Context, h host, e vcs.Event) (answer string, err error) {
	if h.opener == nil {
		return e.Repository.Host + " takes no pull requests from Holdfast. Revert the merge with Git, and open one.", nil
	}
	pr, err := h.PullRequest(ctx, e.Repository, e.Number)
	if err != nil {
		return "", fmt.Errorf("ask %s for pull request %d: %w", e.Repository.Host, e.Number, err)
	}
	if pr.State != vcs.Merged {
		return "Only a merge is rolled back. This pull request is " + string(pr.State) + ".", nil
	}
	remote, err := h.Remote(ctx, e.Repository)
	if err != nil {
		return "", err
	}
	if err := r.Git.Fetch(ctx, e.Repository, remote); err != nil {
		return "", fmt.Errorf("fetch %s: %w", e.Repository, err)
	}
	onto, err := r.Git.Resolve(ctx, e.Repository, "refs/heads/"+pr.BaseRef)
	if err != nil {
		return "", err
	}
	before, err := r.beforeMerge(ctx, pr)
	if err != nil {
		return "", err
	}
	title := fmt.Sprintf("Roll back #%d: %s", pr.Number, pr.Title)
	branch := fmt.Sprintf("holdfast/rollback-%d", pr.Number)
	_, err = r.Git.Revert(ctx, e.Repository, remote, vcs.Revert{
		From: before, To: pr.MergeSHA, Onto: onto, Branch: branch, When: r.Clock().Truncate(time.Second),
		Message: title + "\n\nTakes back " + pr.MergeSHA + ".\n",
	})
	if answer := notReverted(err); answer != "" {
		return answer, nil
	}
	if err != nil && !errors.Is(err, vcs.ErrExists) {
		return "", err
	}
	opened, err := h.opener.OpenPull(ctx, e.Repository, vcs.NewPull{
		Branch: branch, Base: pr.BaseRef, Title: title,
		Body: fmt.Sprintf("Takes back what #%d changed (commit %s), as %s asked. Its plan says what that does; merging it applies that plan.", pr.Number, short(pr.MergeSHA), plainWord(e.Sender)),
	})
	if err != nil {
		return "", fmt.Errorf("open a pull request from %s: %w", branch, err)
	}
	err = r.audit(ctx, store.Entry{
		ID: ulid.Make().String(), Who: e.Sender, Action: verbRollback, Repository: e.Repository.String(),
		Why: fmt.Sprintf("pull request #%d, by #%d", pr.Number, opened.Number),
	})
	return fmt.Sprintf("Pull request #%d takes this back: %s. Nothing changes before it is merged.", opened.Number, opened.URL), err
}

// notReverted is the answer where Git cannot take a merge back; empty where it
// could, or where the error is another.
func notReverted(err error) string {
	var conflict *vcs.ConflictError
	switch {
	case errors.As(err, &conflict):
		var names []string
		for _, p := range conflict.Paths[:min(len(conflict.Paths), 20)] {
			names = append(names, "`"+plainWord(p)+"`")
		}
		return "This cannot be taken back without a person: later commits changed the same places in " + strings.Join(names, ", ") + ". Revert the merge with Git, and open a pull request."
	case errors.Is(err, vcs.ErrNothing):
		return "There is nothing to take back: the branch has nothing of this merge any more."
	}
	return ""
}

// beforeMerge returns the commit before everything that a merge put on its
// branch: before the first of several commits where they were rebased. That is
// the nearest that has the changed files as the pull request found them.
func (r *Runner) beforeMerge(ctx context.Context, pr vcs.PullRequest) (string, error) {
	parent, err := r.Git.Resolve(ctx, pr.Repository, pr.MergeSHA+"^1")
	if err != nil {
		return "", fmt.Errorf("commit before the merge: %w", err)
	}
	var rec pullRecord
	if _, err := r.load(ctx, pullName(pr.Repository, pr.Number), &rec); err != nil || rec.MergeBase == "" || rec.Head != pr.HeadSHA {
		return parent, err
	}
	changed, err := r.Git.ChangedPaths(ctx, pr.Repository, rec.MergeBase, pr.HeadSHA)
	if err != nil {
		return parent, nil // the branch is gone
	}
	was, err := r.Git.Files(ctx, pr.Repository, rec.MergeBase)
	if err != nil {
		return parent, nil
	}
	at := parent
	for range maxReverted {
		files, err := r.Git.Files(ctx, pr.Repository, at)
		if err != nil {
			return "", err
		}
		same := true
		for _, path := range changed {
			same = same && files[path] == was[path]
		}
		if same {
			return at, nil
		}
		if at, err = r.Git.Resolve(ctx, pr.Repository, at+"^1"); err != nil {
			break // the first commit of all
		}
	}
	return parent, nil
}
