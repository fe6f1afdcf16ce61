package giteatest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/vcs/vcstest/gittest"
)

// OpenPull describes a new pull request.
type OpenPull struct {
	Head   string // a branch, or LOGIN:BRANCH of a fork
	Base   string // defaults to main
	Title  string // defaults to Head; "WIP:" in front makes a draft
	Body   string
	Author string // defaults to the owner, or to LOGIN
}

var errNoPull = errors.New("not found")

// maxTitle is where Gitea cuts a title, in bytes.
const maxTitle = 255

// OpenPull opens a pull request and returns its number. As in Gitea it may have
// no changes, as long as its branches have different names.
func (r *Repository) OpenPull(o OpenPull) int {
	r.s.t.Helper()
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	p, err := r.openPull(o)
	if err != nil {
		r.s.t.Fatalf("fake gitea: open pull request from %s: %v", o.Head, err)
	}
	return p.number
}

func (r *Repository) openPull(o OpenPull) (*pull, error) {
	from, branch := r, o.Head
	if login, b, ok := strings.Cut(o.Head, ":"); ok {
		from, branch = r.s.repos[login+"/"+r.Name], b
		if from == nil {
			return nil, fmt.Errorf("%w: %s has no fork", gittest.ErrNoBranch, login)
		}
		if o.Author == "" {
			o.Author = login
		}
	}
	if o.Base == "" {
		o.Base = gittest.DefaultBranch
	}
	if o.Title == "" {
		o.Title = branch
	}
	if o.Author == "" {
		o.Author = r.Owner
	}
	if from == r && branch == o.Base {
		return nil, errors.New("Invalid PullRequest: There are no changes between the head and the base") //lint:ignore ST1005 Gitea's own words
	}
	sha, err := from.Git.Repo.Head(branch)
	if err != nil {
		return nil, err
	}
	if _, err := r.Git.Repo.Head(o.Base); err != nil {
		return nil, err
	}
	if p := r.openFrom(from, branch, o.Base); p != nil {
		return nil, &apiError{http.StatusConflict, fmt.Sprintf(
			"pull request already exists for these targets [id: %d, issue_id: %d, head_repo_id: %d, base_repo_id: %d, head_branch: %s, base_branch: %s]",
			p.id, p.number, from.id, r.id, p.head, p.base)}
	}
	r.s.addUser(o.Author, false)
	r.nextPull++
	now := r.s.cfg.Now()
	if len(o.Title) > maxTitle {
		o.Title = strings.ToValidUTF8(o.Title[:maxTitle], "")
	}
	p := &pull{
		number: r.nextPull, id: r.s.id(), title: o.Title, body: o.Body, author: o.Author,
		head: branch, headRepo: from, base: o.Base, state: "open", created: now, updated: now,
	}
	r.pulls[p.number] = p
	r.setPullRef(p, sha)
	r.notifyPull(p, "opened", "pull_request", o.Author, nil)
	return p, nil
}

// Pull is a pull request as it is now.
type Pull struct {
	Number   int
	Title    string
	Body     string
	Author   string
	State    string // "open" or "closed"
	Merged   bool
	MergeSHA string // only when Merged
	Head     string // the branch
	HeadSHA  string
	Base     string // the branch
}

// Pull returns a pull request.
func (r *Repository) Pull(number int) Pull {
	r.s.t.Helper()
	var found Pull
	r.do(number, func(p *pull) error {
		found = r.describe(p)
		return nil
	})
	return found
}

// Pulls returns all pull requests, by number.
func (r *Repository) Pulls() []Pull {
	r.s.t.Helper()
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	var all []Pull
	for _, p := range r.sorted() {
		all = append(all, r.describe(p))
	}
	return all
}

func (r *Repository) describe(p *pull) Pull {
	return Pull{
		Number: p.number, Title: p.title, Body: p.body, Author: p.author, State: p.state,
		Merged: p.merged, MergeSHA: p.mergeSHA, Head: p.head, HeadSHA: r.pullRef(p), Base: p.base,
	}
}

func (p *pull) draft() bool {
	t := strings.ToUpper(p.title)
	return strings.HasPrefix(t, "WIP:") || strings.HasPrefix(t, "[WIP]")
}

func (r *Repository) canMerge(p *pull) bool {
	if p.merged {
		return true // as recorded
	}
	if p.mergeable != nil {
		return *p.mergeable
	}
	ok, err := r.Git.Mergeable(r.pullRef(p), p.base)
	return err == nil && ok && !p.draft()
}

// SetMergeable makes the server claim that a pull request can or cannot be
// merged, whatever Git says.
func (r *Repository) SetMergeable(number int, ok bool) {
	r.s.t.Helper()
	r.do(number, func(p *pull) error {
		p.mergeable = &ok
		return nil
	})
}

// Merge merges a pull request as the owner and returns the commit on the base
// branch. The head branch stays.
func (r *Repository) Merge(number int, method string) string {
	r.s.t.Helper()
	var sha string
	r.do(number, func(p *pull) error {
		err := r.mergePull(p, r.Owner, method, "")
		sha = p.mergeSHA
		return err
	})
	return sha
}

// mergePull merges, if the head is still the commit head (empty: whatever it
// is). The refusals and their order are Gitea's.
func (r *Repository) mergePull(p *pull, login, method, head string) error {
	u := r.s.users[login]
	how, known := map[string]gittest.MergeMethod{
		"": gittest.MergeCommit, "merge": gittest.MergeCommit, "squash": gittest.MergeSquash,
		"rebase": gittest.MergeRebase, "fast-forward-only": gittest.MergeFF,
	}[method]
	switch {
	case p.merged:
		return &apiError{http.StatusMethodNotAllowed, ""}
	case p.state != "open":
		return notFound()
	case u == nil || !r.canWrite(u):
		return &apiError{http.StatusMethodNotAllowed, "User not allowed to merge PR"}
	case p.draft():
		return &apiError{http.StatusMethodNotAllowed, "Work in progress PRs cannot be merged"}
	case !r.canMerge(p):
		return &apiError{http.StatusMethodNotAllowed, "Please try again later"}
	case !known:
		return &apiError{http.StatusMethodNotAllowed, method + " is not allowed an allowed merge style for this repository"}
	case head != "" && head != r.pullRef(p):
		return &apiError{http.StatusConflict, "head out of date"}
	}
	old := r.Git.Head(p.base)
	sha, err := r.Git.MergeAs(r.pullRef(p), p.base, how, gittest.MergeOptions{
		Message: fmt.Sprintf("%s (#%d)", p.title, p.number), Author: login,
	})
	if err != nil {
		return err
	}
	p.merged, p.mergeSHA, p.mergedBy = true, sha, login
	p.baseSHA = sha
	r.close(p, login)
	r.moved(login, gittest.Update{Ref: "refs/heads/" + p.base, Old: old, New: sha})
	return nil
}

func (r *Repository) close(p *pull, login string) {
	if p.baseSHA == "" {
		p.baseSHA = r.Git.Head(p.base)
	}
	p.state, p.closed = "closed", r.s.cfg.Now()
	p.updated = p.closed
	r.notifyPull(p, "closed", "pull_request", login, nil)
}

// Close closes a pull request without a merge.
func (r *Repository) Close(number int) {
	r.s.t.Helper()
	r.do(number, func(p *pull) error {
		if p.state != "open" {
			return errors.New("is closed already")
		}
		r.close(p, r.Owner)
		return nil
	})
}

// Reopen opens a closed pull request again. As in Gitea its branch must exist,
// and have no other pull request to the same base.
func (r *Repository) Reopen(number int) {
	r.s.t.Helper()
	r.do(number, func(p *pull) error {
		if p.state == "open" || p.merged {
			return errors.New("cannot be opened again")
		}
		if _, err := p.headRepo.Git.Repo.Head(p.head); err != nil {
			return fmt.Errorf("the origin branch is deleted, cannot reopen: %w", err)
		}
		if other := r.openFrom(p.headRepo, p.head, p.base); other != nil {
			return fmt.Errorf("cannot reopen because of #%d", other.number)
		}
		r.reopen(p, r.Owner)
		return nil
	})
}

func (r *Repository) reopen(p *pull, login string) {
	p.state, p.closed, p.baseSHA = "open", time.Time{}, ""
	p.updated = r.s.cfg.Now()
	if sha, err := p.headRepo.Git.Repo.Head(p.head); err == nil {
		r.setPullRef(p, sha)
	}
	r.notifyPull(p, "reopened", "pull_request", login, nil)
}

// Retitle changes a pull request's title.
func (r *Repository) Retitle(number int, title string) {
	r.s.t.Helper()
	r.do(number, func(p *pull) error {
		r.retitle(p, title, r.Owner)
		return nil
	})
}

func (r *Repository) retitle(p *pull, title, login string) {
	p.title, p.updated = title, r.s.cfg.Now()
	r.notifyPull(p, "edited", "pull_request", login, nil)
}

// Comment is a comment on a pull request.
type Comment struct {
	ID     int64
	Author string
	Body   string
	Edits  int // how often it was edited through the API or EditComment
}

// Comment adds a comment by a user and returns its id.
func (r *Repository) Comment(number int, login, body string) int64 {
	r.s.t.Helper()
	var id int64
	r.do(number, func(p *pull) error {
		r.s.addUser(login, false)
		id = r.addComment(p, login, body).id
		return nil
	})
	return id
}

func (r *Repository) addComment(p *pull, login, body string) *comment {
	now := r.s.cfg.Now()
	c := &comment{id: r.s.id(), author: login, body: body, created: now, updated: now}
	p.comments = append(p.comments, c)
	p.updated = now
	r.notifyComment(p, c, "created", login)
	return c
}

// Comments returns a pull request's comments, oldest first.
func (r *Repository) Comments(number int) []Comment {
	r.s.t.Helper()
	var out []Comment
	r.do(number, func(p *pull) error {
		for _, c := range p.comments {
			out = append(out, Comment{ID: c.id, Author: c.author, Body: c.body, Edits: c.edits})
		}
		return nil
	})
	return out
}

// DeleteComment deletes a comment, as a person may.
func (r *Repository) DeleteComment(number int, id int64) {
	r.s.t.Helper()
	r.do(number, func(p *pull) error { return r.deleteComment(p, id, r.Owner) })
}

func (r *Repository) deleteComment(p *pull, id int64, login string) error {
	for i, c := range p.comments {
		if c.id == id {
			p.comments = append(p.comments[:i], p.comments[i+1:]...)
			r.notifyComment(p, c, "deleted", login)
			return nil
		}
	}
	return errNoPull
}

func (r *Repository) editComment(p *pull, c *comment, body, login string) {
	c.body, c.updated = body, r.s.cfg.Now()
	c.edits++
	r.notifyComment(p, c, "edited", login)
}

// Review adds a review: state is "APPROVED", "REQUEST_CHANGES", "COMMENT",
// "PENDING" or "REQUEST_REVIEW".
func (r *Repository) Review(number int, login, state, body string) {
	r.s.t.Helper()
	r.do(number, func(p *pull) error {
		r.s.addUser(login, false)
		r.addReview(p, login, state, body)
		return nil
	})
}

func (r *Repository) addReview(p *pull, login, state, body string) *review {
	now := r.s.cfg.Now()
	if state == "APPROVED" || state == "REQUEST_CHANGES" {
		for _, old := range p.reviews {
			// As recorded: a later verdict dismisses a rejection.
			if old.author == login && old.state == "REQUEST_CHANGES" {
				old.dismissed = true
			}
		}
	}
	rev := &review{id: r.s.id(), author: login, state: state, body: body, commit: r.pullRef(p), at: now}
	p.reviews = append(p.reviews, rev)
	p.updated = now
	word := map[string]string{"APPROVED": "approved", "REQUEST_CHANGES": "rejected", "COMMENT": "comment"}[state]
	if word != "" {
		r.notifyPull(p, "reviewed", "pull_request_review_"+word, login, object{"type": "pull_request_review_" + word, "content": body})
	}
	return rev
}

// DismissReviews dismisses all reviews of a user.
func (r *Repository) DismissReviews(number int, login string) {
	r.s.t.Helper()
	r.do(number, func(p *pull) error {
		for _, rev := range p.reviews {
			rev.dismissed = rev.dismissed || rev.author == login
		}
		return nil
	})
}

// do acts on a pull request under the server's lock, and ends the test where
// that fails.
func (r *Repository) do(number int, act func(*pull) error) {
	r.s.t.Helper()
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	p := r.pulls[number]
	err := errNoPull
	if p != nil {
		err = act(p)
	}
	if err != nil {
		r.s.t.Fatalf("fake gitea: %s/%s#%d: %v", r.Owner, r.Name, number, err)
	}
}
