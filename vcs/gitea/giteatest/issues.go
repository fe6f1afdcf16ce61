package giteatest

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/vcs/vcstest/forge"
)

func labelJSON(r *Repository, name string) object {
	return object{
		"id": r.LabelID(name, false), "name": name, "exclusive": false, "is_archived": false, "color": "d4a72c", "description": "",
		"url": fmt.Sprintf("%s/api/v1/repos/%s/labels/%d", r.Server.PublicURL, r.Path(), r.LabelID(name, false)),
	}
}

func issueJSON(r *Repository, i *forge.Issue) object {
	labels := []object{}
	for _, l := range i.Labels {
		labels = append(labels, labelJSON(r, l))
	}
	j := object{
		"id": i.ID, "url": fmt.Sprintf("%s/api/v1/repos/%s/issues/%d", r.Server.PublicURL, r.Path(), i.Number),
		"html_url": fmt.Sprintf("%s/%s/issues/%d", r.Server.PublicURL, r.Path(), i.Number), "number": i.Number, "user": userJSON(r.Server, i.Author),
		"original_author": "", "original_author_id": 0, "title": i.Title, "body": i.Body, "ref": "", "assets": []object{}, "labels": labels,
		"milestone": nil, "assignee": nil, "assignees": nil, "state": i.State, "is_locked": false, "comments": len(i.Comments),
		"created_at": stamp(i.Created), "updated_at": stamp(i.Updated), "closed_at": nil, "due_date": nil, "time_estimate": 0, "pull_request": nil,
		"repository": object{"id": r.ID, "name": r.Name, "owner": r.Owner, "full_name": r.Path()}, "pin_order": 0, "content_version": 0,
	}
	if i.State != "open" {
		j["closed_at"] = stamp(i.Closed)
	}
	return j
}

func issueCommentJSON(r *Repository, i *forge.Issue, c *forge.Comment) object {
	url := fmt.Sprintf("%s/%s/issues/%d", r.Server.PublicURL, r.Path(), i.Number)
	return object{
		"id": c.ID, "html_url": fmt.Sprintf("%s#issuecomment-%d", url, c.ID), "pull_request_url": "", "issue_url": url,
		"user": userJSON(r.Server, c.Author), "original_author": "", "original_author_id": 0, "body": c.Body, "assets": []object{},
		"created_at": stamp(c.Created), "updated_at": stamp(c.Updated),
	}
}

// issueAt is the issue that the route names; nil where that is a pull request.
func issueAt(r *forge.Request) (*forge.Issue, error) {
	n := r.Number("n")
	switch {
	case r.Repo.PullRequests[n] != nil:
		return nil, nil
	case r.Repo.NoIssues || r.Repo.Issues[n] == nil:
		return nil, forge.NotFound()
	}
	return r.Repo.Issues[n], nil
}

// listIssues takes no notice of labels that the repository has not, and is empty
// where issues are switched off.
func listIssues(r *forge.Request) (int, any, error) {
	state := cmp.Or(r.Query("state"), "open")
	var labels []string
	for _, l := range strings.Split(r.Query("labels"), ",") {
		if r.Repo.LabelID(l, false) > 0 {
			labels = append(labels, l)
		}
	}
	out := []object{}
	for _, i := range slices.Backward(r.Repo.SortedIssues()) {
		lacks := slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(i.Labels, l) })
		if !r.Repo.NoIssues && !lacks && (state == "all" || i.State == state) && (r.Query("created_by") == "" || r.Query("created_by") == i.Author) {
			out = append(out, issueJSON(r.Repo, i))
		}
	}
	return http.StatusOK, page(r, out), nil
}

func getIssue(r *forge.Request) (int, any, error) {
	i, err := issueAt(r)
	if err != nil {
		return 0, nil, err
	}
	if i == nil {
		p := r.Repo.PullRequests[r.Number("n")]
		return http.StatusOK, object{"id": p.ID, "number": p.Number, "title": p.Title, "body": p.Body, "state": p.State, "pull_request": object{"merged": p.Merged}}, nil
	}
	return http.StatusOK, issueJSON(r.Repo, i), nil
}

func refusedLabels() error {
	return &forge.Error{Status: http.StatusForbidden, Message: "user should have a permission to write to a repo"}
}

// createIssue opens one where issues are switched off too, for an administrator.
func createIssue(r *forge.Request) (int, any, error) {
	var in struct {
		Title, Body string
		Labels      []int
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	switch {
	case in.Title == "":
		return 0, nil, &forge.Error{Status: http.StatusUnprocessableEntity, Message: "[Title]: Required"}
	case len([]rune(in.Title)) > 255:
		return 0, nil, &forge.Error{Status: http.StatusInternalServerError, Message: "value too long for type character varying(255)"}
	case r.Repo.NoIssues && !administers(r):
		return 0, nil, refusedLabels()
	}
	made := forge.Issue{Title: in.Title, Body: in.Body, Author: r.User.Login}
	for _, id := range in.Labels {
		if id < 1 || id > len(r.Repo.Labels) {
			return 0, nil, &forge.Error{Status: http.StatusUnprocessableEntity, Message: "label does not exist"}
		}
		if !r.Repo.NoLabels { // dropped without a word
			made.Labels = append(made.Labels, r.Repo.Labels[id-1])
		}
	}
	return http.StatusCreated, issueJSON(r.Repo, r.Repo.AddIssue(made)), nil
}

func editIssue(r *forge.Request) (int, any, error) {
	i, err := issueAt(r)
	if err != nil || i == nil {
		return 0, nil, cmp.Or(err, forge.NotFound())
	}
	var in struct {
		Title string
		Body  *string
		State string
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if in.State != "" && in.State != "open" && in.State != "closed" {
		return 0, nil, &forge.Error{Status: http.StatusPreconditionFailed, Message: "unknown state: " + in.State}
	}
	r.Repo.ChangeIssue(i, forge.IssueChange{Title: in.Title, Body: in.Body, State: in.State}, r.User.Login)
	return http.StatusCreated, issueJSON(r.Repo, i), nil
}

func listLabels(r *forge.Request) (int, any, error) {
	out := []object{}
	for _, l := range page(r, r.Repo.Labels) {
		out = append(out, labelJSON(r.Repo, l))
	}
	return http.StatusOK, out, nil
}

func createLabel(r *forge.Request) (int, any, error) {
	var in struct{ Name, Color string }
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if r.Repo.NoLabels || !r.Repo.CanWrite(r.User) {
		return 0, nil, refusedLabels()
	}
	if in.Name == "" || len(strings.TrimPrefix(in.Color, "#")) != 6 {
		return 0, nil, &forge.Error{Status: http.StatusUnprocessableEntity, Message: "[Name]: Required"}
	}
	r.Repo.LabelID(in.Name, true)
	return http.StatusCreated, labelJSON(r.Repo, in.Name), nil
}

func listIssueComments(r *forge.Request, i *forge.Issue, err error) (int, any, error) {
	if err != nil {
		return 0, nil, err
	}
	out := []object{}
	for _, c := range i.Comments {
		if !c.Updated.Truncate(time.Second).Before(r.Since("since")) {
			out = append(out, issueCommentJSON(r.Repo, i, c))
		}
	}
	r.W.Header().Set("X-Total-Count", fmt.Sprint(len(out)))
	return http.StatusOK, out, nil
}

func createIssueComment(r *forge.Request, i *forge.Issue, err error) (int, any, error) {
	if err != nil {
		return 0, nil, err
	}
	text, err := body(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, issueCommentJSON(r.Repo, i, r.Repo.AddIssueComment(i, r.User.Login, text)), nil
}
