package giteatest

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/vcs/vcstest/gittest"
)

func listPulls(r *request) (int, any, error) {
	state := cmp.Or(r.URL.Query().Get("state"), "open")
	pulls := slices.DeleteFunc(r.repo.sorted(), func(p *pull) bool { return state != "all" && p.state != state })
	slices.SortStableFunc(pulls, func(a, b *pull) int {
		if r.URL.Query().Get("sort") == "recentupdate" {
			return cmp.Or(b.updated.Truncate(time.Second).Compare(a.updated.Truncate(time.Second)), b.number-a.number)
		}
		return b.number - a.number
	})
	out := []object{}
	for _, p := range page(r, pulls) {
		out = append(out, r.repo.pullJSON(p))
	}
	return http.StatusOK, out, nil
}

func createPull(r *request) (int, any, error) {
	var in struct {
		Title, Head, Base, Body string
	}
	if err := r.read(&in); err != nil {
		return 0, nil, err
	}
	for name, value := range map[string]string{"Title": in.Title, "Head": in.Head, "Base": in.Base} {
		if value == "" {
			return 0, nil, &apiError{http.StatusUnprocessableEntity, "[" + name + "]: Required"}
		}
	}
	// Who only reads a public repository proposes from a fork.
	fork, _, ofFork := strings.Cut(in.Head, ":")
	if !r.user.isAdmin && r.repo.permissions[r.user.login] == "" && (!ofFork || fork != r.user.login) {
		return 0, nil, &apiError{http.StatusForbidden, "user must be a collaborator"}
	}
	p, err := r.repo.openPull(OpenPull{Head: in.Head, Base: in.Base, Title: in.Title, Body: in.Body, Author: r.user.login})
	if errors.Is(err, gittest.ErrNoBranch) {
		return 0, nil, notFound()
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, r.repo.pullJSON(p), nil
}

func getPull(r *request) (int, any, error) {
	p, err := r.pull()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, r.repo.pullJSON(p), nil
}

func editPull(r *request) (int, any, error) {
	p, err := r.pull()
	if err != nil {
		return 0, nil, err
	}
	if err := r.mustWrite(); err != nil && p.author != r.user.login {
		return 0, nil, err
	}
	var in struct {
		Title string  `json:"title"`
		Body  *string `json:"body"`
		State string  `json:"state"`
	}
	if err := r.read(&in); err != nil {
		return 0, nil, err
	}
	if in.Body != nil {
		p.body = *in.Body
	}
	if in.Title != "" && in.Title != p.title {
		r.repo.retitle(p, in.Title, r.user.login)
	}
	switch {
	case in.State != "" && p.merged:
		return 0, nil, &apiError{http.StatusPreconditionFailed, "cannot change state of this pull request, it was already merged"}
	case in.State == "closed" && p.state == "open":
		r.repo.close(p, r.user.login)
	case in.State == "open" && p.state == "closed":
		r.repo.reopen(p, r.user.login)
	case in.State != "" && in.State != "open" && in.State != "closed":
		return 0, nil, &apiError{http.StatusPreconditionFailed, "unknown state: " + in.State}
	}
	return http.StatusCreated, r.repo.pullJSON(p), nil
}

func mergePull(r *request) (int, any, error) {
	p, err := r.pull()
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Do           string
		HeadCommitID string `json:"head_commit_id"`
		DeleteBranch bool   `json:"delete_branch_after_merge"`
	}
	if err := r.read(&in); err != nil {
		return 0, nil, err
	}
	var refused *apiError
	switch err := r.repo.mergePull(p, r.user.login, in.Do, in.HeadCommitID); {
	case errors.As(err, &refused):
		return 0, nil, refused
	case errors.Is(err, gittest.ErrConflict):
		// Of all refusals this one has no message, but what Git printed.
		return http.StatusConflict, object{
			"Style": in.Do, "StdOut": fmt.Sprintf("CONFLICT (content): %v\nAutomatic merge failed; fix conflicts and then commit the result.\n", err),
			"StdErr": "", "Err": object{},
		}, nil
	case err != nil:
		return 0, nil, &apiError{http.StatusConflict, err.Error()}
	}
	used := false // Gitea keeps a branch that other pull requests come from
	r.repo.eachFrom(p.head, func(*Repository, *pull) { used = true })
	if in.DeleteBranch && p.headRepo == r.repo && !used {
		if old, err := r.repo.Git.Repo.Head(p.head); err == nil {
			r.repo.Git.DeleteBranch(p.head)
			r.repo.moved(r.user.login, gittest.Update{Ref: "refs/heads/" + p.head, Old: old})
		}
	}
	return http.StatusOK, nil, nil
}

func listReviews(r *request) (int, any, error) {
	p, err := r.pull()
	if err != nil {
		return 0, nil, err
	}
	out := []object{}
	for _, v := range p.reviews {
		out = append(out, r.repo.reviewJSON(p, v))
	}
	return http.StatusOK, page(r, out), nil
}

func createReview(r *request) (int, any, error) {
	p, err := r.pull()
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Event string `json:"event"`
		Body  string `json:"body"`
	}
	if err := r.read(&in); err != nil {
		return 0, nil, err
	}
	if p.author == r.user.login && in.Event != "COMMENT" {
		return 0, nil, &apiError{http.StatusUnprocessableEntity, "approve or reject your own pull is not allowed"}
	}
	return http.StatusOK, r.repo.reviewJSON(p, r.repo.addReview(p, r.user.login, in.Event, in.Body)), nil
}
