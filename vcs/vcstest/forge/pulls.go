package forge

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
	Title  string // defaults to Head
	Body   string
	Author string // defaults to the owner, or to LOGIN
	Draft  bool
}

// Error is an answer of the API that refuses.
type Error struct {
	Status  int
	Message string
}

func (e *Error) Error() string { return e.Message }

// ErrNoPull: there is no such pull request, or comment.
var ErrNoPull = errors.New("not found")

// ErrExists: there is an open pull request from that branch to that base.
type ErrExists struct{ Pull *PullRequest }

func (e *ErrExists) Error() string {
	return fmt.Sprintf("pull request %d exists already", e.Pull.Number)
}

// ErrSame: a pull request from a branch to itself.
var ErrSame = errors.New("there are no changes between head and base")

// maxTitle is where the hosts cut or refuse a title, in bytes.
const maxTitle = 255

// OpenPull opens a pull request and returns its number. It may have no changes,
// as long as its branches have different names.
func (r *Repository) OpenPull(o OpenPull) int {
	r.Server.t.Helper()
	r.Server.Lock()
	defer r.Server.Unlock()
	p, err := r.Propose(o)
	if err != nil {
		r.Server.t.Fatalf("fake %s: open pull request from %s: %v", r.Server.dialect.Name, o.Head, err)
	}
	return p.Number
}

// Propose is OpenPull for a dialect: the lock is held.
func (r *Repository) Propose(o OpenPull) (*PullRequest, error) {
	from, branch := r, o.Head
	if login, b, ok := strings.Cut(o.Head, ":"); ok {
		from, branch = r.Server.Repos[login+"/"+r.Name], b
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
		return nil, ErrSame
	}
	sha, err := from.Git.Repo.Head(branch)
	if err != nil {
		return nil, err
	}
	if _, err := r.Git.Repo.Head(o.Base); err != nil {
		return nil, err
	}
	if p := r.OpenFrom(from, branch, o.Base); p != nil {
		return nil, &ErrExists{p}
	}
	r.Server.addUser(o.Author, false)
	r.nextPull++
	now := r.Server.Now()
	if len(o.Title) > maxTitle {
		o.Title = strings.ToValidUTF8(o.Title[:maxTitle], "")
	}
	p := &PullRequest{
		Number: r.nextPull, ID: r.Server.NextID(), Title: o.Title, Body: o.Body, Author: o.Author, Draft: o.Draft,
		Head: branch, HeadRepo: from, Base: o.Base, State: "open", Created: now, Updated: now, Pushed: now,
	}
	r.PullRequests[p.Number] = p
	r.setPullRef(p, sha)
	r.Tell(Action{Kind: ActionPull, Name: "opened", Pull: p, Login: o.Author})
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
	r.Server.t.Helper()
	var found Pull
	r.do(number, func(p *PullRequest) error {
		found = r.describe(p)
		return nil
	})
	return found
}

// Pulls returns all pull requests, by number.
func (r *Repository) Pulls() []Pull {
	r.Server.t.Helper()
	r.Server.Lock()
	defer r.Server.Unlock()
	var all []Pull
	for _, p := range r.Sorted() {
		all = append(all, r.describe(p))
	}
	return all
}

// Opened is when a pull request was opened.
func (r *Repository) Opened(number int) time.Time {
	r.Server.t.Helper()
	var at time.Time
	r.do(number, func(p *PullRequest) error {
		at = p.Created
		return nil
	})
	return at
}

func (r *Repository) describe(p *PullRequest) Pull {
	return Pull{
		Number: p.Number, Title: p.Title, Body: p.Body, Author: p.Author, State: p.State,
		Merged: p.Merged, MergeSHA: p.MergeSHA, Head: p.Head, HeadSHA: r.HeadSHA(p), Base: p.Base,
	}
}

// CanMerge reports whether the host says that a pull request can be merged.
func (r *Repository) CanMerge(p *PullRequest) bool {
	if p.Merged {
		return true // as Gitea was recorded
	}
	if p.Mergeable != nil {
		return *p.Mergeable
	}
	return r.NoConflict(p) && !p.Draft
}

// NoConflict reports whether Git can merge it.
func (r *Repository) NoConflict(p *PullRequest) bool {
	ok, err := r.Git.Mergeable(r.HeadSHA(p), p.Base)
	return err == nil && ok
}

// SetMergeable makes the server claim that a pull request can or cannot be
// merged, whatever Git says.
func (r *Repository) SetMergeable(number int, ok bool) {
	r.Server.t.Helper()
	r.do(number, func(p *PullRequest) error {
		p.Mergeable = &ok
		return nil
	})
}

// Merge merges a pull request as the owner and returns the commit on the base
// branch. The head branch stays. Method is "merge", "squash", "rebase" or
// "fast-forward-only".
func (r *Repository) Merge(number int, method string) string {
	r.Server.t.Helper()
	var sha string
	r.do(number, func(p *PullRequest) error {
		err := r.Land(p, r.Owner, method)
		sha = p.MergeSHA
		return err
	})
	return sha
}

// Land merges an open pull request whatever its rules say: for dialects, which
// ask before. The lock is held.
func (r *Repository) Land(p *PullRequest, login, method string) error {
	how, known := map[string]gittest.MergeMethod{
		"": gittest.MergeCommit, "merge": gittest.MergeCommit, "squash": gittest.MergeSquash,
		"rebase": gittest.MergeRebase, "fast-forward-only": gittest.MergeFF,
	}[method]
	if !known || p.State != "open" {
		return fmt.Errorf("cannot be merged by %q: it is %s", method, p.State)
	}
	old := r.Git.Head(p.Base)
	sha, err := r.Git.MergeAs(r.HeadSHA(p), p.Base, how, gittest.MergeOptions{
		Message: fmt.Sprintf("%s (#%d)", p.Title, p.Number), Author: login,
	})
	if err != nil {
		return err
	}
	p.Merged, p.MergeSHA, p.MergedBy, p.Method = true, sha, login, method
	p.BaseSHA = sha
	r.End(p, login)
	r.Moved(login, gittest.Update{Ref: "refs/heads/" + p.Base, Old: old, New: sha})
	return nil
}

// End closes a pull request. The lock is held.
func (r *Repository) End(p *PullRequest, login string) {
	if p.BaseSHA == "" {
		p.BaseSHA = r.Git.Head(p.Base)
	}
	p.State, p.Closed = "closed", r.Server.Now()
	p.Updated = p.Closed
	r.Tell(Action{Kind: ActionPull, Name: "closed", Pull: p, Login: login})
}

// Close closes a pull request without a merge.
func (r *Repository) Close(number int) {
	r.Server.t.Helper()
	r.do(number, func(p *PullRequest) error {
		if p.State != "open" {
			return errors.New("is closed already")
		}
		r.End(p, r.Owner)
		return nil
	})
}

// Reopen opens a closed pull request again. Its branch must exist, and have no
// other pull request to the same base.
func (r *Repository) Reopen(number int) {
	r.Server.t.Helper()
	r.do(number, func(p *PullRequest) error {
		if p.State == "open" || p.Merged {
			return errors.New("cannot be opened again")
		}
		if _, err := p.HeadRepo.Git.Repo.Head(p.Head); err != nil {
			return fmt.Errorf("the origin branch is deleted, cannot reopen: %w", err)
		}
		if other := r.OpenFrom(p.HeadRepo, p.Head, p.Base); other != nil {
			return fmt.Errorf("cannot reopen because of #%d", other.Number)
		}
		r.Restart(p, r.Owner)
		return nil
	})
}

// Restart opens a closed pull request again. The lock is held.
func (r *Repository) Restart(p *PullRequest, login string) {
	p.State, p.Closed, p.BaseSHA = "open", time.Time{}, ""
	p.Updated = r.Server.Now()
	if sha, err := p.HeadRepo.Git.Repo.Head(p.Head); err == nil {
		r.setPullRef(p, sha)
	}
	r.Tell(Action{Kind: ActionPull, Name: "reopened", Pull: p, Login: login})
}

// Retitle changes a pull request's title.
func (r *Repository) Retitle(number int, title string) {
	r.Server.t.Helper()
	r.do(number, func(p *PullRequest) error {
		r.SetTitle(p, title, r.Owner)
		return nil
	})
}

// SetTitle changes the title. The lock is held.
func (r *Repository) SetTitle(p *PullRequest, title, login string) {
	p.Title, p.Updated = title, r.Server.Now()
	r.Tell(Action{Kind: ActionPull, Name: "edited", Pull: p, Login: login})
}

// EditPull changes the title, where it is not empty, and the body, where it is not
// nil. The lock is held.
func (r *Repository) EditPull(p *PullRequest, title string, body *string, login string) {
	if body == nil {
		body = &p.Body
	}
	if title == "" {
		title = p.Title
	}
	if title == p.Title && *body == p.Body {
		return
	}
	p.Body = *body
	r.SetTitle(p, title, login)
}

// SetDraft turns a pull request into a draft, or back.
func (r *Repository) SetDraft(number int, draft bool) {
	r.Server.t.Helper()
	r.do(number, func(p *PullRequest) error {
		p.Draft, p.Updated = draft, r.Server.Now()
		name := "ready"
		if draft {
			name = "draft"
		}
		r.Tell(Action{Kind: ActionPull, Name: name, Pull: p, Login: r.Owner})
		return nil
	})
}

// Retarget has a pull request go to another branch.
func (r *Repository) Retarget(number int, base string) {
	r.Server.t.Helper()
	r.do(number, func(p *PullRequest) error {
		if _, err := r.Git.Repo.Head(base); err != nil {
			return err
		}
		p.Base, p.Updated = base, r.Server.Now()
		r.Tell(Action{Kind: ActionPull, Name: "edited", Pull: p, Login: r.Owner})
		return nil
	})
}

// do acts on a pull request under the server's lock, and ends the test where
// that fails.
func (r *Repository) do(number int, act func(*PullRequest) error) {
	r.Server.t.Helper()
	r.Server.Lock()
	defer r.Server.Unlock()
	p := r.PullRequests[number]
	err := ErrNoPull
	if p != nil {
		err = act(p)
	}
	if err != nil {
		r.Server.t.Fatalf("fake %s: %s/%s#%d: %v", r.Server.dialect.Name, r.Owner, r.Name, number, err)
	}
}

// NotFound is the answer to what is not there.
func NotFound() error { return &Error{http.StatusNotFound, "not found"} }
