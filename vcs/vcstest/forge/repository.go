package forge

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"holdfast/vcs/vcstest/gittest"
)

// Repository is one repository of the server. Its methods are what people do;
// each sends the webhooks that the host would send. What is done to Git directly
// sends none and is not noticed by pull requests.
//
// Those of its fields and of a PullRequest's that are exported are for dialects,
// which read and change them under the server's lock.
type Repository struct {
	Owner, Name string // Owner may have slashes
	// Git is the bare repository behind it.
	Git *gittest.Must

	Server   *Server
	ID       int64
	Created  time.Time
	Archived bool
	ForkOf   *Repository
	// HookURL gets the webhooks, HookSecret signs them; empty: none are sent,
	// and the server's own.
	HookURL, HookSecret string
	HookEvents          []string          // as an API call set them
	Permissions         map[string]string // "read", "write", "admin" or "owner" by login
	PullRequests        map[int]*PullRequest
	Issues              map[int]*Issue
	Labels              []string                 // of issues; the first has the number 1
	NoIssues            bool                     // issues are switched off
	NoLabels            bool                     // tokens may give no labels
	StatusesOf          map[string][]StatusEntry // by commit, oldest first
	// Extra is what a dialect keeps besides.
	Extra map[string]any

	nextPull, nextIssue int
}

// PullRequest is a pull request as a dialect works with it.
type PullRequest struct {
	Number    int
	ID        int64
	Title     string
	Body      string
	Author    string
	Head      string // branch
	HeadRepo  *Repository
	Base      string
	State     string // "open" or "closed"
	Draft     bool
	Merged    bool
	MergeSHA  string
	MergedBy  string
	Method    string // of the merge
	BaseSHA   string // frozen when closed
	Created   time.Time
	Updated   time.Time
	Pushed    time.Time // when the head was last moved
	Closed    time.Time
	Comments  []*Comment
	Reviews   []*Review
	Mergeable *bool // what a test wants the host to say
	Queued    bool  // in the merge queue
}

// Review is a review.
type Review struct {
	ID               int64
	Author, State    string
	Body, Commit     string
	Stale, Dismissed bool
	At               time.Time
}

// StatusEntry is a status as it was set.
type StatusEntry struct {
	ID      int64
	Author  string
	At      time.Time
	State   string
	Context string
	Text    string
	Target  string
}

// CloneURL is the address for Git, without credentials.
func (r *Repository) CloneURL() string { return r.Server.URL + "/" + r.Owner + "/" + r.Name + ".git" }

// SetHook makes the server send the repository's webhooks to url; empty sends
// none.
func (r *Repository) SetHook(url string) {
	r.Server.Lock()
	defer r.Server.Unlock()
	r.HookURL = url
}

// Grant gives a user "read", "write" or "admin"; "none" takes it away. A user
// without any may read, as in a public repository.
func (r *Repository) Grant(login, permission string) {
	r.Server.Lock()
	defer r.Server.Unlock()
	r.Server.addUser(login, false)
	r.Permissions[login] = permission
}

// Permission is what a user may do. The lock is held.
func (r *Repository) Permission(login string) string {
	switch u := r.Server.Users[login]; {
	case u == nil:
		return "none"
	case r.Permissions[login] == "owner":
		return "owner"
	case u.IsAdmin:
		return "admin"
	case r.Permissions[login] != "":
		return r.Permissions[login]
	default:
		return "read"
	}
}

// CanWrite reports whether a user may write. The lock is held.
func (r *Repository) CanWrite(u *User) bool {
	switch r.Permission(u.Login) {
	case "write", "admin", "owner":
		return true
	}
	return false
}

// Push commits files on top of branch as the owner and returns the commit. A
// new branch starts at main.
func (r *Repository) Push(branch string, files map[string]string, message string) string {
	r.Server.t.Helper()
	return r.PushChange(gittest.Change{Branch: branch, Files: files, Message: message})
}

// PushChange commits any change and returns the commit.
func (r *Repository) PushChange(c gittest.Change) string {
	r.Server.t.Helper()
	r.Server.Lock()
	defer r.Server.Unlock()
	old, _ := r.Git.Repo.Head(c.Branch) // "" for a new branch
	sha := r.Git.Apply(c)
	r.Moved(r.Owner, gittest.Update{Ref: "refs/heads/" + c.Branch, Old: old, New: sha})
	return sha
}

// ForcePush moves branch to where rev is.
func (r *Repository) ForcePush(branch, rev string) {
	r.Server.t.Helper()
	r.Server.Lock()
	defer r.Server.Unlock()
	old, _ := r.Git.Repo.Head(branch)
	r.Git.Branch(branch, rev)
	r.Moved(r.Owner, gittest.Update{Ref: "refs/heads/" + branch, Old: old, New: r.Git.Head(branch)})
}

// DeleteBranch deletes a branch. Open pull requests that come from it are
// closed.
func (r *Repository) DeleteBranch(branch string) {
	r.Server.t.Helper()
	r.Server.Lock()
	defer r.Server.Unlock()
	old := r.Git.Head(branch)
	r.Git.DeleteBranch(branch)
	r.Moved(r.Owner, gittest.Update{Ref: "refs/heads/" + branch, Old: old})
}

// Moved does what follows from a moved ref: webhooks, and the refs, reviews
// and webhooks of the pull requests that come from it. Called with s.mu held.
func (r *Repository) Moved(login string, u gittest.Update) {
	branch, ok := strings.CutPrefix(u.Ref, "refs/heads/")
	if !ok {
		return
	}
	if u.New == "" {
		r.Tell(Action{Kind: ActionDelete, Branch: branch, Update: u, Login: login})
		r.branchGone(login, branch)
		return
	}
	if u.Old == "" {
		r.Tell(Action{Kind: ActionCreate, Branch: branch, Update: u, Login: login})
	}
	r.Tell(Action{Kind: ActionPush, Branch: branch, Update: u, Login: login})
	r.EachFrom(branch, func(target *Repository, p *PullRequest) { target.synchronize(p, login, u.New) })
}

// EachFrom visits the open pull requests, of target repositories, that come
// from a branch of r.
func (r *Repository) EachFrom(branch string, visit func(target *Repository, p *PullRequest)) {
	for _, target := range r.Server.sortedRepos() {
		for _, p := range target.Sorted() {
			if p.HeadRepo == r && p.Head == branch && p.State == "open" {
				visit(target, p)
			}
		}
	}
}

// branchGone closes the open pull requests that come from a deleted branch.
// Those that lead into it go on to the default branch, of which no webhook
// tells (Gitea's RETARGET_CHILDREN_ON_MERGE, which is on by default).
func (r *Repository) branchGone(login, branch string) {
	r.EachFrom(branch, func(target *Repository, p *PullRequest) { target.End(p, login) })
	for _, p := range r.PullRequests {
		if p.State == "open" && p.Base == branch {
			p.Base = gittest.DefaultBranch
		}
	}
}

// OpenFrom returns the open pull request from a branch to another, nil where
// there is none.
func (r *Repository) OpenFrom(from *Repository, head, base string) *PullRequest {
	for _, p := range r.Sorted() {
		if p.State == "open" && p.HeadRepo == from && p.Head == head && p.Base == base {
			return p
		}
	}
	return nil
}

func (r *Repository) synchronize(p *PullRequest, login, sha string) {
	before := r.HeadSHA(p)
	if before == sha {
		return
	}
	r.setPullRef(p, sha)
	for _, rev := range p.Reviews {
		rev.Stale = true
	}
	p.Updated = r.Server.Now()
	p.Pushed = p.Updated
	r.Tell(Action{Kind: ActionPull, Name: "synchronized", Pull: p, Before: before, Login: login})
}

// setPullRef keeps refs/pull/N/head, with the objects of a fork copied.
func (r *Repository) setPullRef(p *PullRequest, sha string) {
	if p.HeadRepo != r {
		if err := p.HeadRepo.Git.CopyObjects(r.Git.Repo, sha); err != nil {
			r.Server.t.Fatalf("fake %s: %v", r.Server.dialect.Name, err)
		}
	}
	r.Git.SetRef(r.PullRef(p), sha)
}

// HeadSHA is the commit at the pull request's head. The lock is held.
func (r *Repository) HeadSHA(p *PullRequest) string {
	return r.Git.Ref(r.PullRef(p))
}

// Sorted are the pull requests, by number. The lock is held.
func (r *Repository) Sorted() []*PullRequest {
	ps := make([]*PullRequest, 0, len(r.PullRequests))
	for _, p := range r.PullRequests {
		ps = append(ps, p)
	}
	sort.Slice(ps, func(i, j int) bool { return ps[i].Number < ps[j].Number })
	return ps
}

// Fork makes login's fork of the repository. Push there, and give its
// OpenPull.Head as "LOGIN:BRANCH".
func (r *Repository) Fork(login string) *Repository {
	r.Server.t.Helper()
	f := r.Server.CreateRepository(login, r.Name, nil)
	r.Server.Lock()
	defer r.Server.Unlock()
	f.ForkOf = r
	head := r.Git.Head(gittest.DefaultBranch)
	if err := r.Git.CopyObjects(f.Git.Repo, head); err != nil {
		r.Server.t.Fatalf("fake %s: fork: %v", r.Server.dialect.Name, err)
	}
	f.Git.SetRef("refs/heads/"+gittest.DefaultBranch, head)
	return f
}

// PullRef is the ref that leads to a pull request's head.
func (r *Repository) PullRef(p *PullRequest) string {
	return fmt.Sprintf(r.Server.dialect.PullRef, p.Number)
}

// Rename gives the repository another name. The old one leads to it still.
func (r *Repository) Rename(name string) {
	r.Server.Lock()
	defer r.Server.Unlock()
	delete(r.Server.Repos, r.Path())
	r.Server.Renamed[r.Path()] = r
	r.Name = name
	r.Server.Repos[r.Path()] = r
}

// Remove makes the repository disappear.
func (r *Repository) Remove() {
	r.Server.Lock()
	defer r.Server.Unlock()
	delete(r.Server.Repos, r.Path())
}

// Path is OWNER/NAME.
func (r *Repository) Path() string { return r.Owner + "/" + r.Name }
