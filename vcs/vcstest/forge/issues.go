package forge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Issue is an issue, which is a ticket to Holdfast.
type Issue struct {
	Number   int
	ID       int64
	Title    string
	Body     string
	Author   string
	State    string // "open" or "closed"
	Labels   []string
	Comments []*Comment
	Edits    int // how often title or body were edited

	Created, Updated, Closed time.Time
}

// ErrNoIssue: there is no such issue.
var ErrNoIssue = errors.New("issue not found")

// OpenIssue opens an issue by a user and returns its number.
func (r *Repository) OpenIssue(login, title, body string, labels ...string) int {
	r.Server.Lock()
	defer r.Server.Unlock()
	r.Server.addUser(login, false)
	return r.AddIssue(Issue{Title: title, Body: body, Author: login, Labels: labels}).Number
}

// AddIssue opens an issue, of which in has title, body, author and labels. The
// lock is held.
func (r *Repository) AddIssue(in Issue) *Issue {
	in.Number = r.nextIssueNumber()
	in.ID, in.State, in.Created = r.Server.NextID(), "open", r.Server.Now()
	in.Updated = in.Created
	for _, l := range in.Labels {
		r.LabelID(l, true)
	}
	r.Issues[in.Number] = &in
	r.Tell(Action{Kind: ActionIssue, Name: "opened", Issue: &in, Login: in.Author})
	return &in
}

// nextIssueNumber counts on where pull requests are, or apart from them.
func (r *Repository) nextIssueNumber() int {
	if r.Server.dialect.OwnIssues {
		r.nextIssue++
		return r.nextIssue
	}
	r.nextPull++
	return r.nextPull
}

// LabelID is the number of a label of the repository's; 0 where there is none
// and create is not set. The lock is held.
func (r *Repository) LabelID(name string, create bool) int {
	i := slices.IndexFunc(r.Labels, func(l string) bool { return strings.EqualFold(l, name) })
	if i < 0 && create {
		r.Labels = append(r.Labels, name)
		return len(r.Labels)
	}
	return i + 1
}

// Issue returns an issue as it is now.
func (r *Repository) Issue(number int) Issue {
	r.Server.t.Helper()
	var found Issue
	r.doIssue(number, func(i *Issue) { found = *i })
	return found
}

// AllIssues returns all issues, by number.
func (r *Repository) AllIssues() []Issue {
	r.Server.Lock()
	defer r.Server.Unlock()
	var all []Issue
	for _, i := range r.SortedIssues() {
		all = append(all, *i)
	}
	return all
}

// SortedIssues are the issues, by number. The lock is held.
func (r *Repository) SortedIssues() []*Issue {
	all := make([]*Issue, 0, len(r.Issues))
	for _, i := range r.Issues {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *Issue) int { return a.Number - b.Number })
	return all
}

// CommentIssue adds a comment by a user to an issue and returns its id.
func (r *Repository) CommentIssue(number int, login, body string) int64 {
	r.Server.t.Helper()
	var id int64
	r.doIssue(number, func(i *Issue) {
		r.Server.addUser(login, false)
		id = r.AddIssueComment(i, login, body).ID
	})
	return id
}

// AddIssueComment adds a comment to an issue. The lock is held.
func (r *Repository) AddIssueComment(i *Issue, login, body string) *Comment {
	now := r.Server.Now()
	c := &Comment{ID: r.Server.NextID(), Author: login, Body: body, Created: now, Updated: now, Reactions: map[string]bool{}}
	i.Comments = append(i.Comments, c)
	i.Updated = now
	r.Tell(Action{Kind: ActionIssueComment, Name: "created", Issue: i, Comment: c, Login: login})
	return c
}

// FindIssueComment returns a comment on an issue by its id, and the issue; nil
// where there is none. The lock is held.
func (r *Repository) FindIssueComment(id int64) (*Issue, *Comment) {
	for _, i := range r.Issues {
		for _, c := range i.Comments {
			if c.ID == id {
				return i, c
			}
		}
	}
	return nil, nil
}

// SetIssueOpen closes an issue, or opens it again, as a user may.
func (r *Repository) SetIssueOpen(number int, login string, open bool) {
	r.Server.t.Helper()
	state := "closed"
	if open {
		state = "open"
	}
	r.doIssue(number, func(i *Issue) {
		r.Server.addUser(login, false)
		r.ChangeIssue(i, IssueChange{State: state}, login)
	})
}

// IssueChange is what is changed of an issue; empty parts stay.
type IssueChange struct {
	Title string
	Body  *string
	State string // "open" or "closed"
}

// ChangeIssue edits an issue. The lock is held.
func (r *Repository) ChangeIssue(i *Issue, c IssueChange, login string) {
	body := i.Body
	if c.Body != nil {
		body = *c.Body
	}
	if c.Title != "" && c.Title != i.Title || body != i.Body {
		if c.Title != "" {
			i.Title = c.Title
		}
		i.Body, i.Updated = body, r.Server.Now()
		i.Edits++
		r.Tell(Action{Kind: ActionIssue, Name: "edited", Issue: i, Login: login})
	}
	if c.State == "" || c.State == i.State {
		return
	}
	i.State, i.Updated, i.Closed = c.State, r.Server.Now(), time.Time{}
	name := "reopened"
	if c.State == "closed" {
		i.Closed, name = i.Updated, "closed"
	}
	r.Tell(Action{Kind: ActionIssue, Name: name, Issue: i, Login: login})
}

// DeleteIssue deletes an issue, as an administrator may.
func (r *Repository) DeleteIssue(number int) {
	r.Server.t.Helper()
	r.doIssue(number, func(i *Issue) {
		delete(r.Issues, number)
		r.Tell(Action{Kind: ActionIssue, Name: "deleted", Issue: i, Login: r.Owner})
	})
}

// SwitchIssues switches the repository's issues off, or on again.
func (r *Repository) SwitchIssues(on bool) {
	r.Server.Lock()
	defer r.Server.Unlock()
	r.NoIssues = !on
}

// RefuseLabels has the host take no labels from who does not administrate the
// repository, nor from tokens.
func (r *Repository) RefuseLabels() {
	r.Server.Lock()
	defer r.Server.Unlock()
	r.NoLabels = true
}

func (r *Repository) doIssue(number int, act func(*Issue)) {
	r.Server.t.Helper()
	r.Server.Lock()
	defer r.Server.Unlock()
	i := r.Issues[number]
	if i == nil {
		r.Server.t.Fatalf("fake %s: issue %d: %v", r.Server.dialect.Name, number, fmt.Errorf("%s/%s: %w", r.Owner, r.Name, ErrNoIssue))
		return
	}
	act(i)
}

// Issue is the issue whose number the route has under that name.
func (r *Request) Issue(name string) (*Issue, error) {
	i := r.Repo.Issues[r.Number(name)]
	if i == nil {
		return nil, NotFound()
	}
	return i, nil
}
