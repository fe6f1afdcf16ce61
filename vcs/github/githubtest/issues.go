package githubtest

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"holdfast/vcs/vcstest/forge"
)

// issueAt is the issue that the route names; nil where that is a pull request.
// What was deleted is gone, and so is all where issues are switched off.
func issueAt(r *forge.Request) (*forge.Issue, error) {
	n := r.Number("n")
	switch {
	case r.Repo.PullRequests[n] != nil:
		return nil, nil
	case r.Repo.NoIssues:
		return nil, &forge.Error{Status: http.StatusGone, Message: "Issues are disabled for this repo"}
	case r.Repo.Issues[n] == nil && n < 1000:
		return nil, &forge.Error{Status: http.StatusGone, Message: "This issue was deleted"}
	case r.Repo.Issues[n] == nil:
		return nil, forge.NotFound()
	}
	return r.Repo.Issues[n], nil
}

func labelsOf(i *forge.Issue) []string {
	var all []string
	for _, l := range i.Labels {
		all = append(all, strings.ToLower(l))
	}
	return all
}

// listIssues has pull requests too.
func listIssues(r *forge.Request) (int, any, error) {
	state := cmp.Or(r.Query("state"), "open")
	all := []object{}
	for _, i := range r.Repo.SortedIssues() {
		label := strings.ToLower(r.Query("labels"))
		if !r.Repo.NoIssues && (state == "all" || i.State == state) && (r.Query("creator") == "" || r.Query("creator") == i.Author) && (label == "" || slices.Contains(labelsOf(i), label)) {
			all = append(all, issue(r.Repo, i))
		}
	}
	for _, p := range r.Repo.Sorted() {
		if (state == "all" || p.State == state) && (r.Query("creator") == "" || r.Query("creator") == p.Author) && r.Query("labels") == "" {
			all = append(all, pullIssue(r.Repo, p))
		}
	}
	slices.SortFunc(all, func(a, b object) int { return b["number"].(int) - a["number"].(int) })
	return http.StatusOK, page(r, all), need(r, "issues")
}

func getIssue(r *forge.Request) (int, any, error) {
	i, err := issueAt(r)
	if err != nil {
		return 0, nil, err
	}
	if i == nil {
		return http.StatusOK, pullIssue(r.Repo, r.Repo.PullRequests[r.Number("n")]), nil
	}
	return http.StatusOK, issue(r.Repo, i), need(r, "issues")
}

type issueInput struct {
	Title  string   `json:"title"`
	Body   *string  `json:"body"`
	State  string   `json:"state"`
	Labels []string `json:"labels"`
}

func (in *issueInput) read(r *forge.Request) error {
	if err := r.Read(in); err != nil {
		return err
	}
	switch {
	case len([]rune(in.Title)) > 256:
		return invalid("Validation Failed: title is too long (maximum is 256 characters)")
	case in.Body != nil && len([]rune(*in.Body)) > 65536:
		return invalid("Validation Failed: body is too long (maximum is 65536 characters)")
	case in.State != "" && in.State != "open" && in.State != "closed":
		return invalid("Validation Failed: state is none")
	}
	return need(r, "issues")
}

func createIssue(r *forge.Request) (int, any, error) {
	if r.Repo.NoIssues {
		return 0, nil, &forge.Error{Status: http.StatusGone, Message: "Issues are disabled for this repo"}
	}
	var in issueInput
	if err := in.read(r); err != nil {
		return 0, nil, err
	}
	if in.Title == "" {
		return 0, nil, invalid("Validation Failed: title can't be blank")
	}
	if r.Repo.NoLabels || !r.Repo.CanWrite(r.User) {
		in.Labels = nil // dropped without a word
	}
	body := ""
	if in.Body != nil {
		body = *in.Body
	}
	return http.StatusCreated, issue(r.Repo, r.Repo.AddIssue(forge.Issue{Title: in.Title, Body: body, Author: r.User.Login, Labels: in.Labels})), nil
}

func editIssue(r *forge.Request) (int, any, error) {
	i, err := issueAt(r)
	if err != nil || i == nil {
		return 0, nil, cmp.Or(err, forge.NotFound())
	}
	var in issueInput
	if err := in.read(r); err != nil {
		return 0, nil, err
	}
	r.Repo.ChangeIssue(i, forge.IssueChange{Title: in.Title, Body: in.Body, State: in.State}, r.User.Login)
	return http.StatusOK, issue(r.Repo, i), nil
}

func listIssueComments(r *forge.Request, i *forge.Issue, err error) (int, any, error) {
	if err != nil {
		return 0, nil, err
	}
	out := []object{}
	for _, c := range i.Comments {
		if !c.Updated.Before(r.Since("since")) {
			out = append(out, issueComment(r.Repo, i, c))
		}
	}
	return http.StatusOK, page(r, out), nil
}

func createIssueComment(r *forge.Request, i *forge.Issue, err error) (int, any, error) {
	if err != nil {
		return 0, nil, err
	}
	text, err := body(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, issueComment(r.Repo, i, r.Repo.AddIssueComment(i, r.User.Login, text)), nil
}
