package giteatest

import (
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"time"

	"holdfast/vcs/vcstest/forge"
)

func routes(s *Server) *http.ServeMux {
	mux := http.NewServeMux()
	const repo = "/api/v1/repos/{owner}/{repo}"
	for pattern, h := range map[string]forge.Handler{
		"GET /api/v1/version":                               version,
		"GET /api/v1/user":                                  self,
		"GET /api/v1/orgs/{who}/repos":                      orgRepos,
		"GET /api/v1/users/{who}/repos":                     userRepos,
		"GET " + repo:                                       getRepo,
		"GET " + repo + "/branches/{branch...}":             getBranch,
		"GET " + repo + "/pulls":                            listPulls,
		"POST " + repo + "/pulls":                           createPull,
		"GET " + repo + "/pulls/{n}":                        getPull,
		"PATCH " + repo + "/pulls/{n}":                      editPull,
		"POST " + repo + "/pulls/{n}/merge":                 mergePull,
		"GET " + repo + "/pulls/{n}/reviews":                listReviews,
		"POST " + repo + "/pulls/{n}/reviews":               createReview,
		"GET " + repo + "/labels":                           listLabels,
		"POST " + repo + "/labels":                          createLabel,
		"GET " + repo + "/issues":                           listIssues,
		"POST " + repo + "/issues":                          createIssue,
		"GET " + repo + "/issues/{n}":                       getIssue,
		"PATCH " + repo + "/issues/{n}":                     editIssue,
		"GET " + repo + "/issues/comments":                  newComments,
		"GET " + repo + "/issues/{n}/comments":              listComments,
		"POST " + repo + "/issues/{n}/comments":             createComment,
		"PATCH " + repo + "/issues/comments/{id}":           editComment,
		"DELETE " + repo + "/issues/comments/{id}":          deleteComment,
		"POST " + repo + "/issues/comments/{id}/reactions":  react,
		"POST " + repo + "/statuses/{sha}":                  createStatus,
		"GET " + repo + "/commits/{sha}/statuses":           listStatuses,
		"GET " + repo + "/collaborators/{login}/permission": getPermission,
		"GET " + repo + "/hooks":                            listHooks,
		"POST " + repo + "/hooks":                           createHook,
		"PATCH " + repo + "/hooks/{id}":                     editHook,
	} {
		mux.HandleFunc(pattern, s.Serve(func(r *http.Request) string {
			if r.PathValue("owner") == "" {
				return ""
			}
			return r.PathValue("owner") + "/" + r.PathValue("repo")
		}, h))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "not found", 0) })
	return mux
}

// page cuts a list as the query asks and the server allows, and announces the
// total and the next pages.
func page[T any](r *forge.Request, all []T) []T {
	cut, _, _ := forge.Page(r, forge.Paging{Size: "limit", Default: 30, Total: "X-Total-Count"}, all) // DEFAULT_PAGING_NUM
	return cut
}

// orgRepos knows no organisations: all owners are users.
func orgRepos(*forge.Request) (int, any, error) { return 0, nil, forge.NotFound() }

func userRepos(r *forge.Request) (int, any, error) {
	var paths []string
	for path, repo := range r.Server.Repos {
		if repo.Owner == r.PathValue("who") && repo.Permission(r.User.Login) != "none" {
			paths = append(paths, path)
		}
	}
	if r.Server.Users[r.PathValue("who")] == nil {
		return 0, nil, forge.NotFound()
	}
	slices.Sort(paths)
	out := []object{}
	for _, path := range page(r, paths) {
		out = append(out, repoJSON(r.Server.Repos[path]))
	}
	return http.StatusOK, out, nil
}

func version(*forge.Request) (int, any, error) {
	return http.StatusOK, object{"version": "1.26.0"}, nil
}

func self(r *forge.Request) (int, any, error) {
	return http.StatusOK, userJSON(r.Server, r.User.Login), nil
}

func getRepo(r *forge.Request) (int, any, error) {
	j, p := repoJSON(r.Repo), r.Repo.Permission(r.User.Login)
	j["permissions"] = object{"admin": p == "admin" || p == "owner", "push": r.Repo.CanWrite(r.User), "pull": true}
	return http.StatusOK, j, nil
}

func getBranch(r *forge.Request) (int, any, error) {
	sha, err := r.Repo.Git.Repo.Head(r.PathValue("branch"))
	if err != nil {
		return 0, nil, forge.NotFound()
	}
	return http.StatusOK, object{"name": r.PathValue("branch"), "commit": object{"id": sha}, "protected": false}, nil
}

func getPermission(r *forge.Request) (int, any, error) {
	login := r.PathValue("login")
	mine := r.Repo.Permission(r.User.Login)
	if mine != "admin" && mine != "owner" && login != r.User.Login {
		return 0, nil, &forge.Error{Status: http.StatusForbidden, Message: "Only admins can query all permissions, repo admins can query all repo permissions, collaborators can query only their own"}
	}
	if r.Server.Users[login] == nil {
		return 0, nil, forge.NotFound()
	}
	p := r.Repo.Permission(login)
	return http.StatusOK, object{"permission": p, "role_name": p, "user": userJSON(r.Server, login)}, nil
}

func hookJSON(r *Repository) object {
	return object{
		"id": r.ID, "type": "gitea", "active": r.Extra["inactive"] == nil, "events": r.HookEvents,
		"config": object{"url": r.HookURL, "content_type": "json"},
	}
}

func listHooks(r *forge.Request) (int, any, error) {
	if !administers(r) {
		return 0, nil, &forge.Error{Status: http.StatusForbidden, Message: "user should be an owner or a collaborator with admin write of a repository"}
	}
	out := []object{}
	if r.Repo.HookURL != "" {
		out = append(out, hookJSON(r.Repo))
	}
	return http.StatusOK, page(r, out), nil
}

func createHook(r *forge.Request) (int, any, error) {
	return setHook(r, http.StatusCreated)
}

func editHook(r *forge.Request) (int, any, error) {
	if strconv.FormatInt(r.Repo.ID, 10) != r.PathValue("id") || r.Repo.HookURL == "" {
		return 0, nil, forge.NotFound()
	}
	return setHook(r, http.StatusOK)
}

func setHook(r *forge.Request, status int) (int, any, error) {
	var in struct {
		Config struct {
			URL    string `json:"url"`
			Secret string `json:"secret"`
		} `json:"config"`
		Events []string `json:"events"`
		Active bool     `json:"active"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if !administers(r) {
		return 0, nil, &forge.Error{Status: http.StatusForbidden, Message: "user should be an owner or a collaborator with admin write of a repository"}
	}
	r.Repo.HookURL, r.Repo.HookSecret, r.Repo.HookEvents = in.Config.URL, in.Config.Secret, in.Events
	delete(r.Repo.Extra, "inactive")
	if !in.Active {
		r.Repo.Extra["inactive"] = true
	}
	return status, hookJSON(r.Repo), nil
}

func administers(r *forge.Request) bool {
	p := r.Repo.Permission(r.User.Login)
	return p == "admin" || p == "owner"
}

// newComments are those of all issues that were touched since, oldest first.
func newComments(r *forge.Request) (int, any, error) {
	type both struct {
		c *forge.Comment
		j object
	}
	var all []both
	for _, p := range r.Repo.Sorted() {
		for _, c := range p.Comments {
			if !c.Updated.Truncate(time.Second).Before(r.Since("since")) {
				all = append(all, both{c, commentJSON(r.Repo, p, c)})
			}
		}
	}
	for _, i := range r.Repo.SortedIssues() {
		for _, c := range i.Comments {
			if !c.Updated.Truncate(time.Second).Before(r.Since("since")) {
				all = append(all, both{c, issueCommentJSON(r.Repo, i, c)})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b both) int { return a.c.Created.Compare(b.c.Created) })
	out := []object{}
	for _, x := range page(r, all) {
		out = append(out, x.j)
	}
	return http.StatusOK, out, nil
}

func react(r *forge.Request) (int, any, error) {
	_, c := r.Repo.FindComment(int64(r.Number("id")))
	if c == nil {
		return 0, nil, forge.NotFound()
	}
	var in struct {
		Content string `json:"content"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	status := http.StatusCreated
	if c.Reactions[r.User.Login+":"+in.Content] {
		status = http.StatusOK
	}
	c.Reactions[r.User.Login+":"+in.Content] = true
	return status, object{"user": userJSON(r.Server, r.User.Login), "content": in.Content}, nil
}

func listComments(r *forge.Request) (int, any, error) {
	if i, err := issueAt(r); i != nil || err != nil {
		return listIssueComments(r, i, err)
	}
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	// This one of Gitea's lists has no pages: all of it, whatever is asked.
	out := []object{}
	for _, c := range p.Comments {
		out = append(out, commentJSON(r.Repo, p, c))
	}
	r.W.Header().Set("X-Total-Count", strconv.Itoa(len(out)))
	return http.StatusOK, out, nil
}

func body(r *forge.Request) (string, error) {
	var in struct {
		Body string `json:"body"`
	}
	if err := r.Read(&in); err != nil {
		return "", err
	}
	if in.Body == "" {
		return "", &forge.Error{Status: http.StatusUnprocessableEntity, Message: "[Body]: Required"}
	}
	return in.Body, nil
}

func createComment(r *forge.Request) (int, any, error) {
	if i, err := issueAt(r); i != nil || err != nil {
		return createIssueComment(r, i, err)
	}
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	body, err := body(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, commentJSON(r.Repo, p, r.Repo.AddComment(p, r.User.Login, body)), nil
}

// findComment finds a comment that the user may change.
func findComment(r *forge.Request) (*forge.PullRequest, *forge.Comment, error) {
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	for _, p := range r.Repo.PullRequests {
		for _, c := range p.Comments {
			if c.ID != id {
				continue
			}
			if c.Author != r.User.Login && !r.Repo.CanWrite(r.User) {
				return nil, nil, &forge.Error{Status: http.StatusForbidden, Message: "user should be the author"}
			}
			return p, c, nil
		}
	}
	return nil, nil, forge.NotFound()
}

func editComment(r *forge.Request) (int, any, error) {
	p, c, err := findComment(r)
	if err != nil {
		return 0, nil, err
	}
	body, err := body(r)
	if err != nil {
		return 0, nil, err
	}
	r.Repo.ChangeComment(p, c, body, r.User.Login)
	return http.StatusOK, commentJSON(r.Repo, p, c), nil
}

func deleteComment(r *forge.Request) (int, any, error) {
	p, c, err := findComment(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, r.Repo.RemoveComment(p, c.ID, r.User.Login)
}

func createStatus(r *forge.Request) (int, any, error) {
	if err := r.MustWrite(); err != nil {
		return 0, nil, err
	}
	sha := r.PathValue("sha")
	if b, err := hex.DecodeString(sha); err != nil || len(b) != 20 {
		return 0, nil, forge.NotFound()
	}
	var in struct {
		State       string `json:"state"`
		Context     string `json:"context"`
		Description string `json:"description"`
		TargetURL   string `json:"target_url"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if !slices.Contains([]string{"pending", "success", "error", "failure", "warning"}, in.State) {
		return 0, nil, &forge.Error{Status: http.StatusUnprocessableEntity, Message: "invalid state " + in.State}
	}
	st := forge.StatusEntry{ID: r.Server.NextID(), Author: r.User.Login, At: r.Server.Now(),
		State: in.State, Context: in.Context, Text: in.Description, Target: in.TargetURL}
	r.Repo.StatusesOf[sha] = append(r.Repo.StatusesOf[sha], st)
	return http.StatusCreated, statusJSON(r.Repo, sha, st), nil
}

func listStatuses(r *forge.Request) (int, any, error) {
	out := []object{}
	for _, st := range r.Repo.StatusesOf[r.PathValue("sha")] {
		out = append(out, statusJSON(r.Repo, r.PathValue("sha"), st))
	}
	slices.Reverse(out) // the latest first
	return http.StatusOK, page(r, out), nil
}
