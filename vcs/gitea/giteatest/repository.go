package giteatest

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"holdfast/vcs/vcstest/gittest"
)

// Repository is one repository of the server. Its methods are what people do;
// each sends the webhooks that Gitea would send. What is done to Git directly
// sends none and is not noticed by pull requests.
type Repository struct {
	Owner, Name string
	// Git is the bare repository behind it.
	Git *gittest.Must

	s           *Server
	id          int64
	created     time.Time
	hookURL     string
	nextPull    int
	permissions map[string]string // "read", "write", "admin" or "owner" by login
	pulls       map[int]*pull
	statuses    map[string][]status // by commit, oldest first
	forkOf      *Repository
}

type pull struct {
	number    int
	id        int64
	title     string
	body      string
	author    string
	head      string // branch
	headRepo  *Repository
	base      string
	state     string // "open" or "closed"
	merged    bool
	mergeSHA  string
	mergedBy  string
	baseSHA   string // frozen when closed
	created   time.Time
	updated   time.Time
	closed    time.Time
	comments  []*comment
	reviews   []*review
	mergeable *bool // what a test wants the host to say
}

type comment struct {
	id               int64
	author, body     string
	edits            int
	created, updated time.Time
}

type review struct {
	id               int64
	author, state    string
	body, commit     string
	stale, dismissed bool
	at               time.Time
}

type status struct {
	id      int64
	author  string
	at      time.Time
	state   string
	context string
	text    string
	target  string
}

// CloneURL is the address for Git, without credentials.
func (r *Repository) CloneURL() string { return r.s.URL + "/" + r.Owner + "/" + r.Name + ".git" }

// SetHook makes the server send the repository's webhooks to url; empty sends
// none.
func (r *Repository) SetHook(url string) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.hookURL = url
}

// Grant gives a user "read", "write" or "admin"; "none" takes it away. A user
// without any may read, as in a public repository.
func (r *Repository) Grant(login, permission string) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.addUser(login, false)
	r.permissions[login] = permission
}

func (r *Repository) permission(login string) string {
	switch u := r.s.users[login]; {
	case u == nil:
		return "none"
	case r.permissions[login] == "owner":
		return "owner"
	case u.isAdmin:
		return "admin"
	case r.permissions[login] != "":
		return r.permissions[login]
	default:
		return "read"
	}
}

func (r *Repository) canWrite(u *user) bool {
	switch r.permission(u.login) {
	case "write", "admin", "owner":
		return true
	}
	return false
}

// Push commits files on top of branch as the owner and returns the commit. A
// new branch starts at main.
func (r *Repository) Push(branch string, files map[string]string, message string) string {
	r.s.t.Helper()
	return r.PushChange(gittest.Change{Branch: branch, Files: files, Message: message})
}

// PushChange commits any change and returns the commit.
func (r *Repository) PushChange(c gittest.Change) string {
	r.s.t.Helper()
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	old, _ := r.Git.Repo.Head(c.Branch) // "" for a new branch
	sha := r.Git.Apply(c)
	r.moved(r.Owner, gittest.Update{Ref: "refs/heads/" + c.Branch, Old: old, New: sha})
	return sha
}

// ForcePush moves branch to where rev is.
func (r *Repository) ForcePush(branch, rev string) {
	r.s.t.Helper()
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	old, _ := r.Git.Repo.Head(branch)
	r.Git.Branch(branch, rev)
	r.moved(r.Owner, gittest.Update{Ref: "refs/heads/" + branch, Old: old, New: r.Git.Head(branch)})
}

// DeleteBranch deletes a branch. Open pull requests that come from it are
// closed.
func (r *Repository) DeleteBranch(branch string) {
	r.s.t.Helper()
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	old := r.Git.Head(branch)
	r.Git.DeleteBranch(branch)
	r.moved(r.Owner, gittest.Update{Ref: "refs/heads/" + branch, Old: old})
}

// moved does what follows from a moved ref: webhooks, and the refs, reviews
// and webhooks of the pull requests that come from it. Called with s.mu held.
func (r *Repository) moved(login string, u gittest.Update) {
	branch, ok := strings.CutPrefix(u.Ref, "refs/heads/")
	if !ok {
		return
	}
	if u.New == "" {
		r.notify("delete", "delete", object{
			"ref": branch, "ref_type": "branch", "pusher_type": "user",
			"repository": r.json(), "sender": r.s.userJSON(login),
		})
		r.branchGone(login, branch)
		return
	}
	if u.Old == "" {
		r.notify("create", "create", object{
			"sha": u.New, "ref": branch, "ref_type": "branch",
			"repository": r.json(), "sender": r.s.userJSON(login),
		})
	}
	r.notify("push", "push", r.pushJSON(login, u))
	r.eachFrom(branch, func(target *Repository, p *pull) { target.synchronize(p, login, u.New) })
}

// eachFrom visits the open pull requests, of target repositories, that come
// from a branch of r.
func (r *Repository) eachFrom(branch string, visit func(target *Repository, p *pull)) {
	for _, target := range r.s.repos {
		for _, p := range target.sorted() {
			if p.headRepo == r && p.head == branch && p.state == "open" {
				visit(target, p)
			}
		}
	}
}

// branchGone closes the open pull requests that come from a deleted branch.
// Those that lead into it go on to the default branch, of which no webhook
// tells (Gitea's RETARGET_CHILDREN_ON_MERGE, which is on by default).
func (r *Repository) branchGone(login, branch string) {
	r.eachFrom(branch, func(target *Repository, p *pull) { target.close(p, login) })
	for _, p := range r.pulls {
		if p.state == "open" && p.base == branch {
			p.base = gittest.DefaultBranch
		}
	}
}

// openFrom returns the open pull request from a branch to another, nil where
// there is none.
func (r *Repository) openFrom(from *Repository, head, base string) *pull {
	for _, p := range r.sorted() {
		if p.state == "open" && p.headRepo == from && p.head == head && p.base == base {
			return p
		}
	}
	return nil
}

func (r *Repository) synchronize(p *pull, login, sha string) {
	if r.pullRef(p) == sha {
		return
	}
	r.setPullRef(p, sha)
	for _, rev := range p.reviews {
		rev.stale = true
	}
	p.updated = r.s.cfg.Now()
	r.notifyPull(p, "synchronized", "pull_request_sync", login, nil)
}

// setPullRef keeps refs/pull/N/head, with the objects of a fork copied.
func (r *Repository) setPullRef(p *pull, sha string) {
	if p.headRepo != r {
		if err := p.headRepo.Git.CopyObjects(r.Git.Repo, sha); err != nil {
			r.s.t.Fatalf("fake gitea: %v", err)
		}
	}
	r.Git.SetRef(fmt.Sprintf("refs/pull/%d/head", p.number), sha)
}

func (r *Repository) pullRef(p *pull) string {
	return r.Git.Ref(fmt.Sprintf("refs/pull/%d/head", p.number))
}

func (r *Repository) sorted() []*pull {
	ps := make([]*pull, 0, len(r.pulls))
	for _, p := range r.pulls {
		ps = append(ps, p)
	}
	sort.Slice(ps, func(i, j int) bool { return ps[i].number < ps[j].number })
	return ps
}

// Fork makes login's fork of the repository. Push there, and give its
// OpenPull.Head as "LOGIN:BRANCH".
func (r *Repository) Fork(login string) *Repository {
	r.s.t.Helper()
	f := r.s.CreateRepository(login, r.Name, nil)
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	f.forkOf = r
	head := r.Git.Head(gittest.DefaultBranch)
	if err := r.Git.CopyObjects(f.Git.Repo, head); err != nil {
		r.s.t.Fatalf("fake gitea: fork: %v", err)
	}
	f.Git.SetRef("refs/heads/"+gittest.DefaultBranch, head)
	return f
}

// Statuses returns the latest status of each context of a commit, by context.
func (r *Repository) Statuses(sha string) map[string]Status {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	out := map[string]Status{}
	for _, st := range r.statuses[sha] {
		prev := out[st.context]
		out[st.context] = Status{State: st.state, Description: st.text, URL: st.target, Author: st.author, Count: prev.Count + 1}
	}
	return out
}

// Status is a commit status as it is now.
type Status struct {
	State       string
	Description string
	URL         string
	Author      string
	Count       int // how often it was set
}
