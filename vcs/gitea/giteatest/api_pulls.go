package giteatest

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/gittest"
)

func listPulls(r *forge.Request) (int, any, error) {
	state := cmp.Or(r.URL.Query().Get("state"), "open")
	pulls := slices.DeleteFunc(r.Repo.Sorted(), func(p *forge.PullRequest) bool { return state != "all" && p.State != state })
	slices.SortStableFunc(pulls, func(a, b *forge.PullRequest) int {
		if r.URL.Query().Get("sort") == "recentupdate" {
			return cmp.Or(b.Updated.Truncate(time.Second).Compare(a.Updated.Truncate(time.Second)), b.Number-a.Number)
		}
		return b.Number - a.Number
	})
	out := []object{}
	for _, p := range page(r, pulls) {
		out = append(out, pullJSON(r.Repo, p))
	}
	return http.StatusOK, out, nil
}

func createPull(r *forge.Request) (int, any, error) {
	var in struct {
		Title, Head, Base, Body string
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	for name, value := range map[string]string{"Title": in.Title, "Head": in.Head, "Base": in.Base} {
		if value == "" {
			return 0, nil, &forge.Error{Status: http.StatusUnprocessableEntity, Message: "[" + name + "]: Required"}
		}
	}
	// Who only reads a public repository proposes from a fork.
	fork, _, ofFork := strings.Cut(in.Head, ":")
	if !r.User.IsAdmin && r.Repo.Permissions[r.User.Login] == "" && (!ofFork || fork != r.User.Login) {
		return 0, nil, &forge.Error{Status: http.StatusForbidden, Message: "user must be a collaborator"}
	}
	p, err := r.Repo.Propose(OpenPull{Head: in.Head, Base: in.Base, Title: in.Title, Body: in.Body, Author: r.User.Login})
	var exists *forge.ErrExists
	switch {
	case errors.Is(err, gittest.ErrNoBranch):
		return 0, nil, forge.NotFound()
	case errors.Is(err, forge.ErrSame):
		err = &forge.Error{Status: http.StatusUnprocessableEntity, Message: "Invalid PullRequest: There are no changes between the head and the base"}
	case errors.As(err, &exists):
		o := exists.Pull
		err = &forge.Error{Status: http.StatusConflict, Message: fmt.Sprintf(
			"pull request already exists for these targets [id: %d, issue_id: %d, head_repo_id: %d, base_repo_id: %d, head_branch: %s, base_branch: %s]",
			o.ID, o.Number, o.HeadRepo.ID, r.Repo.ID, o.Head, o.Base)}
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, pullJSON(r.Repo, p), nil
}

func getPull(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, pullJSON(r.Repo, p), nil
}

func editPull(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	if err := r.MustWrite(); err != nil && p.Author != r.User.Login {
		return 0, nil, err
	}
	var in struct {
		Title string  `json:"title"`
		Body  *string `json:"body"`
		State string  `json:"state"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	r.Repo.EditPull(p, in.Title, in.Body, r.User.Login)
	switch {
	case in.State != "" && p.Merged:
		return 0, nil, &forge.Error{Status: http.StatusPreconditionFailed, Message: "cannot change state of this pull request, it was already merged"}
	case in.State == "closed" && p.State == "open":
		r.Repo.End(p, r.User.Login)
	case in.State == "open" && p.State == "closed":
		r.Repo.Restart(p, r.User.Login)
	case in.State != "" && in.State != "open" && in.State != "closed":
		return 0, nil, &forge.Error{Status: http.StatusPreconditionFailed, Message: "unknown state: " + in.State}
	}
	return http.StatusCreated, pullJSON(r.Repo, p), nil
}

// land merges, if the head is still the commit head (empty: whatever it is). The
// refusals and their order are Gitea's.
func land(r *Repository, p *forge.PullRequest, login, method, head string) error {
	refused := func(status int, message string) error { return &forge.Error{Status: status, Message: message} }
	u := r.Server.Users[login]
	switch {
	case p.Merged:
		return refused(http.StatusMethodNotAllowed, "")
	case p.State != "open":
		return forge.NotFound()
	case u == nil || !r.CanWrite(u):
		return refused(http.StatusMethodNotAllowed, "User not allowed to merge PR")
	case draft(p):
		return refused(http.StatusMethodNotAllowed, "Work in progress PRs cannot be merged")
	case !canMerge(r, p):
		return refused(http.StatusMethodNotAllowed, "Please try again later")
	case !slices.Contains([]string{"", "merge", "squash", "rebase", "fast-forward-only"}, method):
		return refused(http.StatusMethodNotAllowed, method+" is not allowed an allowed merge style for this repository")
	case head != "" && head != r.HeadSHA(p):
		return refused(http.StatusConflict, "head out of date")
	}
	return r.Land(p, login, method)
}

// draft knows Gitea's default prefixes of a title.
func draft(p *forge.PullRequest) bool {
	t := strings.ToUpper(p.Title)
	return strings.HasPrefix(t, "WIP:") || strings.HasPrefix(t, "[WIP]")
}

func canMerge(r *Repository, p *forge.PullRequest) bool {
	return r.CanMerge(p) && (p.Merged || p.Mergeable != nil || !draft(p))
}

func mergePull(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Do           string
		HeadCommitID string `json:"head_commit_id"`
		DeleteBranch bool   `json:"delete_branch_after_merge"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	var refused *forge.Error
	switch err := land(r.Repo, p, r.User.Login, in.Do, in.HeadCommitID); {
	case errors.As(err, &refused):
		return 0, nil, refused
	case errors.Is(err, gittest.ErrConflict):
		// Of all refusals this one has no message, but what Git printed.
		return http.StatusConflict, object{
			"Style": in.Do, "StdOut": fmt.Sprintf("CONFLICT (content): %v\nAutomatic merge failed; fix conflicts and then commit the result.\n", err),
			"StdErr": "", "Err": object{},
		}, nil
	case err != nil:
		return 0, nil, &forge.Error{Status: http.StatusConflict, Message: err.Error()}
	}
	used := false // Gitea keeps a branch that other pull requests come from
	r.Repo.EachFrom(p.Head, func(*Repository, *forge.PullRequest) { used = true })
	if in.DeleteBranch && p.HeadRepo == r.Repo && !used {
		if old, err := r.Repo.Git.Repo.Head(p.Head); err == nil {
			r.Repo.Git.DeleteBranch(p.Head)
			r.Repo.Moved(r.User.Login, gittest.Update{Ref: "refs/heads/" + p.Head, Old: old})
		}
	}
	return http.StatusOK, nil, nil
}

func listReviews(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	out := []object{}
	for _, v := range p.Reviews {
		out = append(out, reviewJSON(r.Repo, p, v))
	}
	return http.StatusOK, page(r, out), nil
}

func createReview(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Event string `json:"event"`
		Body  string `json:"body"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if p.Author == r.User.Login && in.Event != "COMMENT" {
		return 0, nil, &forge.Error{Status: http.StatusUnprocessableEntity, Message: "approve or reject your own pull is not allowed"}
	}
	return http.StatusOK, reviewJSON(r.Repo, p, r.Repo.AddReview(p, r.User.Login, in.Event, in.Body)), nil
}
