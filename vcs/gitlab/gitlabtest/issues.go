package gitlabtest

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"holdfast/vcs/vcstest/forge"
)

// mayIssue refuses all of issues where they are switched off.
func mayIssue(r *forge.Request) error {
	if r.Repo.NoIssues {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	return nil
}

func issueAt(r *forge.Request) (*forge.Issue, error) {
	if err := mayIssue(r); err != nil {
		return nil, err
	}
	return r.Issue("n")
}

func listIssues(r *forge.Request) (int, any, error) {
	state, label := cmp.Or(r.Query("state"), "all"), r.Query("labels")
	all := slices.DeleteFunc(r.Repo.SortedIssues(), func(i *forge.Issue) bool {
		return state != "all" && state != issueState(i) || label != "" && !slices.Contains(i.Labels, label) || r.Query("author_username") != "" && r.Query("author_username") != i.Author
	})
	slices.Reverse(all)
	out := []object{}
	for _, i := range page(r, all) {
		out = append(out, issue(r.Repo, i))
	}
	return http.StatusOK, out, mayIssue(r)
}

func getIssue(r *forge.Request) (int, any, error) {
	i, err := issueAt(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, issue(r.Repo, i), nil
}

type issueInput struct {
	Title       string  `json:"title"`
	Description *string `json:"description"`
	State       string  `json:"state_event"`
	Labels      string  `json:"labels"` // separated by commas
}

func (in *issueInput) read(r *forge.Request) error {
	if err := r.Read(in); err != nil {
		return err
	}
	if len([]rune(in.Title)) > 255 || in.Description != nil && len([]rune(*in.Description)) > 1_048_576 {
		return fail(http.StatusBadRequest, "title is too long (maximum is 255 characters)")
	}
	return nil
}

func createIssue(r *forge.Request) (int, any, error) {
	if err := mayIssue(r); err != nil {
		return 0, nil, err
	}
	var in issueInput
	if err := in.read(r); err != nil {
		return 0, nil, err
	}
	if in.Title == "" {
		return 0, nil, fail(http.StatusBadRequest, "title is missing")
	}
	made := forge.Issue{Title: in.Title, Author: r.User.Login}
	if in.Description != nil {
		made.Body = *in.Description
	}
	if in.Labels != "" && !r.Repo.NoLabels {
		made.Labels = strings.Split(in.Labels, ",")
	}
	return http.StatusCreated, issue(r.Repo, r.Repo.AddIssue(made)), nil
}

func editIssue(r *forge.Request) (int, any, error) {
	i, err := issueAt(r)
	if err != nil {
		return 0, nil, err
	}
	var in issueInput
	if err := in.read(r); err != nil {
		return 0, nil, err
	}
	state, known := map[string]string{"": "", "close": "closed", "reopen": "open"}[in.State]
	if !known {
		return 0, nil, fail(http.StatusBadRequest, "state_event does not have a valid value")
	}
	r.Repo.ChangeIssue(i, forge.IssueChange{Title: in.Title, Body: in.Description, State: state}, r.User.Login)
	return http.StatusOK, issue(r.Repo, i), nil
}

// listIssueNotes has what the host writes itself too.
func listIssueNotes(r *forge.Request) (int, any, error) {
	i, err := issueAt(r)
	if err != nil {
		return 0, nil, err
	}
	all := []object{{"id": 1, "system": true, "body": "changed the description", "author": user(r.Server, i.Author), "created_at": stamp(i.Created)}}
	for _, c := range i.Comments {
		all = append(all, issueNote(r.Repo, i, c))
	}
	if r.Query("sort") != "asc" {
		slices.Reverse(all)
	}
	return http.StatusOK, page(r, all), nil
}

func createIssueNote(r *forge.Request) (int, any, error) {
	i, err := issueAt(r)
	if err != nil {
		return 0, nil, err
	}
	text, err := body(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, issueNote(r.Repo, i, r.Repo.AddIssueComment(i, r.User.Login, text)), nil
}
