// Package gitlabtest is a GitLab in a test's own process: the API calls that
// Holdfast makes, and webhooks with their token, in the shape of GitLab's REST
// API v4, over what package forge has for all fake hosts. Owners may have
// slashes: they are subgroups.
package gitlabtest

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/gittest"
)

type object = forge.Object

// New starts a server that lives as long as the test.
func New(t forge.TB, cfg forge.Config) *forge.Server {
	t.Helper()
	if cfg.MaxPage == 0 {
		cfg.MaxPage = 100
	}
	return forge.New(t, forge.Dialect{
		Name: "gitlab", Prefix: "/api/v4", PullRef: "refs/merge-requests/%d/head", OwnIssues: true,
		Routes: routes, Hooks: hooks, Refuse: refuse, Limits: limits,
		Token: func(r *http.Request) string { return r.Header.Get("Private-Token") },
	}, cfg)
}

func refuse(w http.ResponseWriter, status int, message string, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	if status == http.StatusNotFound {
		message = "404 Not Found"
	}
	forge.WriteJSON(w, status, object{"message": message})
}

func limits(h http.Header, limit, left int, reset time.Time) {
	h.Set("RateLimit-Limit", strconv.Itoa(limit))
	h.Set("RateLimit-Remaining", strconv.Itoa(left))
	h.Set("RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
}

func routes(s *forge.Server) *http.ServeMux {
	mux := http.NewServeMux()
	const project = "/api/v4/projects/{id}"
	const mr = project + "/merge_requests/{n}"
	for pattern, h := range map[string]forge.Handler{
		"GET /api/v4/user":                                      self,
		"GET /api/v4/users":                                     findUser,
		"GET /api/v4/users/{who}/projects":                      userProjects,
		"GET /api/v4/groups/{who}/projects":                     groupProjects,
		"GET /api/v4/personal_access_tokens/self":               ownToken,
		"GET " + project:                                        getProject,
		"GET " + project + "/members/all/{user}":                member,
		"GET " + project + "/repository/branches/{branch}":      getBranch,
		"GET " + project + "/repository/commits/{sha}/statuses": listStatuses,
		"POST " + project + "/statuses/{sha}":                   setStatus,
		"GET " + project + "/merge_requests":                    list,
		"POST " + project + "/merge_requests":                   create,
		"GET " + mr:                                             get,
		"PUT " + mr:                                             edit,
		"PUT " + mr + "/merge":                                  accept,
		"GET " + project + "/issues":                            listIssues,
		"POST " + project + "/issues":                           createIssue,
		"GET " + project + "/issues/{n}":                        getIssue,
		"PUT " + project + "/issues/{n}":                        editIssue,
		"GET " + project + "/issues/{n}/notes":                  listIssueNotes,
		"POST " + project + "/issues/{n}/notes":                 createIssueNote,
		"POST " + project + "/merge_trains/merge_requests/{n}":  board,
		"GET " + mr + "/notes":                                  listNotes,
		"POST " + mr + "/notes":                                 createNote,
		"PUT " + mr + "/notes/{note}":                           editNote,
		"POST " + mr + "/notes/{note}/award_emoji":              award,
		"GET " + mr + "/approvals":                              approvals,
		"GET " + mr + "/versions":                               versions,
		"GET " + mr + "/reviewers":                              reviewers,
		"POST " + project + "/deployments":                      deploy,
		"PUT " + project + "/deployments/{d}":                   redeploy,
		"GET " + project + "/hooks":                             listHooks,
		"POST " + project + "/hooks":                            createHook,
		"PUT " + project + "/hooks/{hook}":                      editHook,
	} {
		mux.HandleFunc(pattern, s.Serve(func(r *http.Request) string { return r.PathValue("id") }, h))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "", 0) })
	return mux
}

func page[T any](r *forge.Request, all []T) []T {
	cut, number, last := forge.Page(r, forge.Paging{Size: "per_page", Default: 20, Total: "X-Total"}, all)
	r.W.Header().Set("X-Page", strconv.Itoa(number))
	r.W.Header().Set("X-Total-Pages", strconv.Itoa(last))
	next := ""
	if number < last {
		next = strconv.Itoa(number + 1)
	}
	r.W.Header().Set("X-Next-Page", next)
	return cut
}

func fail(status int, message string) error { return &forge.Error{Status: status, Message: message} }

func self(r *forge.Request) (int, any, error) {
	return http.StatusOK, user(r.Server, r.User.Login), nil
}

func findUser(r *forge.Request) (int, any, error) {
	out := []object{}
	if u := r.Server.Users[r.Query("username")]; u != nil {
		out = append(out, user(r.Server, u.Login))
	}
	return http.StatusOK, out, nil
}

func ownToken(r *forge.Request) (int, any, error) {
	return http.StatusOK, object{"id": 1, "name": "holdfast", "scopes": []string{"api"}, "active": true}, nil
}

func projectsOf(r *forge.Request, match func(owner string) bool) []object {
	var all []*forge.Repository
	for _, repo := range r.Server.Repos {
		if match(repo.Owner) {
			all = append(all, repo)
		}
	}
	slices.SortFunc(all, func(a, b *forge.Repository) int { return int(b.ID - a.ID) })
	out := []object{}
	for _, repo := range page(r, all) {
		out = append(out, project(repo))
	}
	return out
}

// userProjects knows no users with projects: all owners are groups.
func userProjects(*forge.Request) (int, any, error) { return 0, nil, forge.NotFound() }

func groupProjects(r *forge.Request) (int, any, error) {
	group := r.PathValue("who")
	in := func(owner string) bool { return owner == group || strings.HasPrefix(owner, group+"/") }
	known := false
	for _, repo := range r.Server.Repos {
		known = known || in(repo.Owner)
	}
	if !known {
		return 0, nil, forge.NotFound()
	}
	return http.StatusOK, projectsOf(r, in), nil
}

func getProject(r *forge.Request) (int, any, error) { return http.StatusOK, project(r.Repo), nil }

var levels = map[string]int{"read": 20, "write": 30, "admin": 40, "owner": 50}

func member(r *forge.Request) (int, any, error) {
	for _, u := range r.Server.Users {
		if u.ID != int64(r.Number("user")) {
			continue
		}
		level := levels[r.Repo.Permissions[u.Login]]
		if u.IsAdmin {
			level = max(level, 40)
		}
		if level == 0 {
			break
		}
		m := user(r.Server, u.Login)
		m["access_level"], m["expires_at"] = level, nil
		return http.StatusOK, m, nil
	}
	return 0, nil, forge.NotFound()
}

func getBranch(r *forge.Request) (int, any, error) {
	sha, err := r.Repo.Git.Repo.Head(r.PathValue("branch"))
	if err != nil {
		return 0, nil, forge.NotFound()
	}
	return http.StatusOK, object{"name": r.PathValue("branch"), "commit": object{"id": sha}}, nil
}

func list(r *forge.Request) (int, any, error) {
	state := cmp.Or(r.Query("state"), "all")
	all := slices.DeleteFunc(r.Repo.Sorted(), func(p *forge.PullRequest) bool {
		return state != "all" && state != stateOf(p) || r.Query("source_branch") != "" && r.Query("source_branch") != p.Head || r.Query("target_branch") != "" && r.Query("target_branch") != p.Base
	})
	slices.SortStableFunc(all, func(a, b *forge.PullRequest) int {
		if r.Query("order_by") == "updated_at" {
			return cmp.Or(b.Updated.Compare(a.Updated), b.Number-a.Number)
		}
		return b.Number - a.Number
	})
	out := []object{}
	for _, p := range page(r, all) {
		out = append(out, mergeRequest(r.Repo, p))
	}
	return http.StatusOK, out, nil
}

func create(r *forge.Request) (int, any, error) {
	var in struct {
		Title       string `json:"title"`
		Description string `json:"description"`
		Source      string `json:"source_branch"`
		Target      string `json:"target_branch"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if in.Title == "" || len([]rune(in.Title)) > 255 || len([]rune(in.Description)) > 1_000_000 {
		return 0, nil, fail(http.StatusBadRequest, "title is too long (maximum is 255 characters)")
	}
	p, err := r.Repo.Propose(forge.OpenPull{Head: in.Source, Base: in.Target, Title: in.Title, Body: in.Description, Author: r.User.Login})
	var exists *forge.ErrExists
	switch {
	case errors.Is(err, gittest.ErrNoBranch):
		return 0, nil, fail(http.StatusUnprocessableEntity, "source branch does not exist")
	case errors.As(err, &exists):
		forge.WriteJSON(r.W, http.StatusConflict, object{"message": []string{fmt.Sprintf("Another open merge request already exists for this source branch: !%d", exists.Pull.Number)}})
		return 0, nil, forge.ErrAnswered
	case err != nil:
		return 0, nil, fail(http.StatusUnprocessableEntity, err.Error())
	}
	return http.StatusCreated, mergeRequest(r.Repo, p), nil
}

func get(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, mergeRequest(r.Repo, p), nil
}

func edit(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Title       string  `json:"title"`
		Description *string `json:"description"`
		State       string  `json:"state_event"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if len([]rune(in.Title)) > 255 || in.Description != nil && len(*in.Description) > 1_048_576 || in.State != "" && in.State != "close" && in.State != "reopen" {
		return 0, nil, fail(http.StatusBadRequest, "400 Bad request")
	}
	r.Repo.EditPull(p, in.Title, in.Description, r.User.Login)
	if in.State == "close" && p.State == "open" {
		r.Repo.End(p, r.User.Login)
	}
	return http.StatusOK, mergeRequest(r.Repo, p), nil
}

func accept(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		SHA    string `json:"sha"`
		Squash bool   `json:"squash"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	switch {
	case !r.Repo.CanWrite(r.User):
		return 0, nil, fail(http.StatusUnauthorized, "401 Unauthorized")
	case p.State != "open" || p.Draft || !r.Repo.NoConflict(p) || p.Mergeable != nil && !*p.Mergeable:
		return 0, nil, fail(http.StatusMethodNotAllowed, "405 Method Not Allowed")
	case in.SHA != "" && in.SHA != r.Repo.HeadSHA(p):
		return 0, nil, fail(http.StatusConflict, "SHA does not match HEAD of source branch: "+r.Repo.HeadSHA(p))
	}
	method := "merge"
	if in.Squash {
		method = "squash"
	}
	if err := r.Repo.Land(p, r.User.Login, method); err != nil {
		return 0, nil, fail(http.StatusUnprocessableEntity, err.Error())
	}
	return http.StatusOK, mergeRequest(r.Repo, p), nil
}

// board puts a merge request on the merge train, where it stays until a test
// lands it.
func board(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	if p.Queued || p.State != "open" {
		return 0, nil, fail(http.StatusConflict, "409 Conflict")
	}
	p.Queued = true
	return http.StatusCreated, []object{{"id": 1, "status": "idle", "merge_request": object{"iid": p.Number}}}, nil
}

func listNotes(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	all := slices.Clone(p.Comments)
	if r.Query("sort") != "asc" {
		slices.Reverse(all)
	}
	out := []object{}
	if r.Query("page") == "1" {
		for _, v := range p.Reviews {
			if v.State == "APPROVED" {
				out = append(out, object{"id": v.ID, "system": true, "body": "approved this merge request", "author": user(r.Server, v.Author), "created_at": v.At.UTC().Format(time.RFC3339Nano)})
			}
		}
	}
	for _, c := range page(r, all) {
		out = append(out, note(r.Repo, p, c))
	}
	return http.StatusOK, out, nil
}

func body(r *forge.Request) (string, error) {
	var in struct {
		Body string `json:"body"`
	}
	if err := r.Read(&in); err != nil {
		return "", err
	}
	if in.Body == "" || len([]rune(in.Body)) > 1_000_000 {
		return "", fail(http.StatusBadRequest, "400 Bad request - Note {:note=>[\"can't be blank\"]}")
	}
	return in.Body, nil
}

func createNote(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	text, err := body(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, note(r.Repo, p, r.Repo.AddComment(p, r.User.Login, text)), nil
}

func editNote(r *forge.Request) (int, any, error) {
	p, c := r.Repo.FindComment(int64(r.Number("note")))
	if c == nil {
		return 0, nil, forge.NotFound()
	}
	text, err := body(r)
	if err != nil {
		return 0, nil, err
	}
	r.Repo.ChangeComment(p, c, text, r.User.Login)
	return http.StatusOK, note(r.Repo, p, c), nil
}

func award(r *forge.Request) (int, any, error) {
	_, c := r.Repo.FindComment(int64(r.Number("note")))
	if c == nil {
		return 0, nil, forge.NotFound()
	}
	var in struct {
		Name string `json:"name"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	key := r.User.Login + ":" + in.Name
	if c.Reactions[key] {
		forge.WriteJSON(r.W, http.StatusNotFound, object{"message": "404 Award Emoji Name has already been taken Not Found"})
		return 0, nil, forge.ErrAnswered
	}
	c.Reactions[key] = true
	return http.StatusCreated, object{"id": r.Server.NextID(), "name": in.Name, "user": user(r.Server, r.User.Login)}, nil
}

// verdicts are the last ones of each reviewer, in their order.
func verdicts(p *forge.PullRequest, state string) []*forge.Review {
	last := map[string]*forge.Review{}
	for _, v := range p.Reviews {
		if v.State == "APPROVED" || v.State == "REQUEST_CHANGES" {
			last[v.Author] = v
		}
	}
	return slices.DeleteFunc(slices.Clone(p.Reviews), func(v *forge.Review) bool {
		return last[v.Author] != v || v.State != state || v.Dismissed
	})
}

func approvals(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	by := []object{}
	for _, v := range verdicts(p, "APPROVED") {
		approval := object{"user": user(r.Server, v.Author), "approved_at": v.At.UTC().Format(time.RFC3339Nano)}
		if r.Server.Extra["older"] != nil {
			delete(approval, "approved_at")
		}
		by = append(by, approval)
	}
	return http.StatusOK, object{"iid": p.Number, "approved": len(by) > 0, "approved_by": by}, nil
}

func reviewers(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	out := []object{}
	for _, v := range verdicts(p, "REQUEST_CHANGES") {
		out = append(out, object{"user": user(r.Server, v.Author), "state": "requested_changes", "created_at": stamp(v.At)})
	}
	return http.StatusOK, out, nil
}

func versions(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, []object{{"id": 2, "head_commit_sha": r.Repo.HeadSHA(p), "created_at": p.Pushed.UTC().Format(time.RFC3339Nano), "state": "collected"},
		{"id": 1, "head_commit_sha": zeroSHA, "created_at": stamp(p.Created), "state": "collected"}}, nil
}

func setStatus(r *forge.Request) (int, any, error) {
	sha := r.PathValue("sha")
	if b, err := hex.DecodeString(sha); err != nil || len(b) != 20 {
		return 0, nil, forge.NotFound()
	}
	var in struct {
		State       string `json:"state"`
		Name        string `json:"name"`
		Description string `json:"description"`
		TargetURL   string `json:"target_url"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if !slices.Contains([]string{"pending", "running", "success", "failed", "canceled", "skipped"}, in.State) || len([]rune(in.Description)) > 255 || len([]rune(in.Name)) > 255 {
		return 0, nil, fail(http.StatusBadRequest, "state or description does not have a valid value")
	}
	for _, st := range slices.Backward(r.Repo.StatusesOf[sha]) {
		if st.Context == in.Name {
			if st.State == in.State && in.State == "pending" {
				return 0, nil, fail(http.StatusBadRequest, "Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via \"enqueue\")")
			}
			break
		}
	}
	st := forge.StatusEntry{ID: r.Server.NextID(), Author: r.User.Login, At: r.Server.Now(), State: in.State, Context: in.Name, Text: in.Description, Target: in.TargetURL}
	r.Repo.StatusesOf[sha] = append(r.Repo.StatusesOf[sha], st)
	return http.StatusCreated, status(r.Server, sha, st), nil
}

func listStatuses(r *forge.Request) (int, any, error) {
	out := []object{}
	for _, st := range page(r, r.Repo.StatusesOf[r.PathValue("sha")]) {
		out = append(out, status(r.Server, r.PathValue("sha"), st))
	}
	return http.StatusOK, out, nil
}

func deploy(r *forge.Request) (int, any, error) {
	var in struct{ Environment, Ref, SHA, Status string }
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if in.Environment == "" || in.Ref == "" || in.SHA == "" {
		return 0, nil, fail(http.StatusBadRequest, "environment, ref or sha is missing")
	}
	id := r.Server.NextID()
	r.Repo.Extra[fmt.Sprint("deployment ", id)] = []string{in.Environment, in.Status}
	return http.StatusCreated, object{"id": id, "status": in.Status, "sha": in.SHA, "ref": in.Ref}, nil
}

func redeploy(r *forge.Request) (int, any, error) {
	var in struct{ Status string }
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	key := fmt.Sprint("deployment ", r.Number("d"))
	was, ok := r.Repo.Extra[key].([]string)
	if !ok {
		return 0, nil, forge.NotFound()
	}
	r.Repo.Extra[key] = append(was, in.Status)
	return http.StatusOK, object{"id": r.Number("d"), "status": in.Status}, nil
}

func listHooks(r *forge.Request) (int, any, error) {
	out := []object{}
	if r.Repo.HookURL != "" {
		out = append(out, hook(r.Repo))
	}
	return http.StatusOK, page(r, out), nil
}

func createHook(r *forge.Request) (int, any, error) { return setHook(r, http.StatusCreated) }

func editHook(r *forge.Request) (int, any, error) {
	if int64(r.Number("hook")) != r.Repo.ID {
		return 0, nil, forge.NotFound()
	}
	return setHook(r, http.StatusOK)
}

func setHook(r *forge.Request, status int) (int, any, error) {
	var in struct {
		URL   string `json:"url"`
		Token string `json:"token"`
		Push  bool   `json:"push_events"`
		Merge bool   `json:"merge_requests_events"`
		Issue bool   `json:"issues_events"`
		Note  bool   `json:"note_events"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if !r.Repo.CanWrite(r.User) {
		return 0, nil, fail(http.StatusForbidden, "403 Forbidden")
	}
	r.Repo.HookURL, r.Repo.HookSecret, r.Repo.HookEvents = in.URL, in.Token, nil
	for name, on := range map[string]bool{"push": in.Push, "merge": in.Merge, "issues": in.Issue, "note": in.Note} {
		if on {
			r.Repo.HookEvents = append(r.Repo.HookEvents, name)
		}
	}
	return status, hook(r.Repo), nil
}
