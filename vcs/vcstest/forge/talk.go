package forge

import "time"

// Comment is a comment on a pull request.
type Comment struct {
	ID        int64
	Author    string
	Body      string
	Edits     int             // how often it was edited
	Reactions map[string]bool // as LOGIN:NAME

	Created, Updated time.Time
}

// Comment adds a comment by a user and returns its id.
func (r *Repository) Comment(number int, login, body string) int64 {
	r.Server.t.Helper()
	var id int64
	r.do(number, func(p *PullRequest) error {
		r.Server.addUser(login, false)
		id = r.AddComment(p, login, body).ID
		return nil
	})
	return id
}

// AddComment adds a comment. The lock is held.
func (r *Repository) AddComment(p *PullRequest, login, body string) *Comment {
	now := r.Server.Now()
	c := &Comment{ID: r.Server.NextID(), Author: login, Body: body, Created: now, Updated: now, Reactions: map[string]bool{}}
	p.Comments = append(p.Comments, c)
	p.Updated = now
	r.Tell(Action{Kind: ActionComment, Name: "created", Pull: p, Comment: c, Login: login})
	return c
}

// Comments returns a pull request's comments, oldest first.
func (r *Repository) Comments(number int) []Comment {
	r.Server.t.Helper()
	var out []Comment
	r.do(number, func(p *PullRequest) error {
		for _, c := range p.Comments {
			out = append(out, *c)
		}
		return nil
	})
	return out
}

// FindComment returns a comment by its id, and its pull request; nil where there
// is none. The lock is held.
func (r *Repository) FindComment(id int64) (*PullRequest, *Comment) {
	for _, p := range r.PullRequests {
		for _, c := range p.Comments {
			if c.ID == id {
				return p, c
			}
		}
	}
	return nil, nil
}

// DeleteComment deletes a comment, as a person may.
func (r *Repository) DeleteComment(number int, id int64) {
	r.Server.t.Helper()
	r.do(number, func(p *PullRequest) error { return r.RemoveComment(p, id, r.Owner) })
}

// RemoveComment deletes a comment. The lock is held.
func (r *Repository) RemoveComment(p *PullRequest, id int64, login string) error {
	for i, c := range p.Comments {
		if c.ID == id {
			p.Comments = append(p.Comments[:i], p.Comments[i+1:]...)
			r.Tell(Action{Kind: ActionComment, Name: "deleted", Pull: p, Comment: c, Login: login})
			return nil
		}
	}
	return ErrNoPull
}

// ChangeComment edits a comment. The lock is held.
func (r *Repository) ChangeComment(p *PullRequest, c *Comment, body, login string) {
	c.Body, c.Updated = body, r.Server.Now()
	c.Edits++
	r.Tell(Action{Kind: ActionComment, Name: "edited", Pull: p, Comment: c, Login: login})
}

// Review adds a review: state is "APPROVED", "REQUEST_CHANGES", "COMMENT",
// "PENDING" or "REQUEST_REVIEW".
func (r *Repository) Review(number int, login, state, body string) {
	r.Server.t.Helper()
	r.do(number, func(p *PullRequest) error {
		r.Server.addUser(login, false)
		r.AddReview(p, login, state, body)
		return nil
	})
}

// AddReview adds a review. The lock is held.
func (r *Repository) AddReview(p *PullRequest, login, state, body string) *Review {
	now := r.Server.Now()
	if state == "APPROVED" || state == "REQUEST_CHANGES" {
		for _, old := range p.Reviews {
			// As recorded: a later verdict dismisses a rejection.
			if old.Author == login && old.State == "REQUEST_CHANGES" {
				old.Dismissed = true
			}
		}
	}
	rev := &Review{ID: r.Server.NextID(), Author: login, State: state, Body: body, Commit: r.HeadSHA(p), At: now}
	p.Reviews = append(p.Reviews, rev)
	p.Updated = now
	r.Tell(Action{Kind: ActionReview, Name: "submitted", Pull: p, Review: rev, Login: login})
	return rev
}

// DismissReviews dismisses all reviews of a user.
func (r *Repository) DismissReviews(number int, login string) {
	r.Server.t.Helper()
	r.do(number, func(p *PullRequest) error {
		for _, rev := range p.Reviews {
			if rev.Author == login && !rev.Dismissed {
				rev.Dismissed = true
				r.Tell(Action{Kind: ActionReview, Name: "dismissed", Pull: p, Review: rev, Login: login})
			}
		}
		return nil
	})
}

// Status is a commit status as it is now.
type Status struct {
	State       string
	Description string
	URL         string
	Author      string
	Count       int // how often it was set
}

// Statuses returns the latest status of each context of a commit, by context.
func (r *Repository) Statuses(sha string) map[string]Status {
	r.Server.Lock()
	defer r.Server.Unlock()
	out := map[string]Status{}
	for _, st := range r.StatusesOf[sha] {
		prev := out[st.Context]
		out[st.Context] = Status{State: st.State, Description: st.Text, URL: st.Target, Author: st.Author, Count: prev.Count + 1}
	}
	return out
}
