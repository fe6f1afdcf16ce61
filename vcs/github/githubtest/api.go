package githubtest

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/gittest"
)

func routes(s *forge.Server) *http.ServeMux {
	mux := http.NewServeMux()
	const repo = "/api/v3/repos/{owner}/{repo}"
	for pattern, h := range map[string]forge.Handler{
		"GET /api/v3/user":                                  self,
		"GET /api/v3/meta":                                  meta,
		"GET /api/v3/app":                                   app,
		"GET /api/v3/users/{who}/installation":              installationOf,
		"GET /api/v3/app/installations/{id}":                installation,
		"POST /api/v3/app/installations/{id}/access_tokens": accessToken,
		"GET /api/v3/app/hook/config":                       appHook,
		"PATCH /api/v3/app/hook/config":                     setAppHook,
		"GET /api/v3/app/hook/deliveries":                   deliveries,
		"GET /api/v3/installation/repositories":             installed,
		"GET /api/v3/orgs/{who}/repos":                      orgRepos,
		"GET /api/v3/users/{who}/repos":                     userRepos,
		"GET " + repo:                                       getRepo,
		"GET " + repo + "/pulls":                            listPulls,
		"POST " + repo + "/pulls":                           createPull,
		"GET " + repo + "/pulls/{n}":                        getPull,
		"PATCH " + repo + "/pulls/{n}":                      editPull,
		"GET " + repo + "/issues":                           listIssues,
		"POST " + repo + "/issues":                          createIssue,
		"GET " + repo + "/issues/{n}":                       getIssue,
		"PATCH " + repo + "/issues/{n}":                     editIssue,
		"PUT " + repo + "/pulls/{n}/merge":                  mergePull,
		"GET " + repo + "/pulls/{n}/reviews":                listReviews,
		"GET " + repo + "/issues/comments":                  allComments,
		"GET " + repo + "/issues/{n}/comments":              listComments,
		"POST " + repo + "/issues/{n}/comments":             createComment,
		"PATCH " + repo + "/issues/comments/{id}":           editComment,
		"POST " + repo + "/issues/comments/{id}/reactions":  react,
		"POST " + repo + "/statuses/{sha}":                  createStatus,
		"GET " + repo + "/commits/{sha}/status":             combined,
		"GET " + repo + "/commits/{sha}/check-runs":         listRuns,
		"POST " + repo + "/check-runs":                      createRun,
		"PATCH " + repo + "/check-runs/{id}":                editRun,
		"GET " + repo + "/collaborators/{login}/permission": permission,
		"POST " + repo + "/deployments":                     createDeployment,
		"POST " + repo + "/deployments/{id}/statuses":       deploymentStatus,
		"GET " + repo + "/hooks":                            listHooks,
		"POST " + repo + "/hooks":                           createHook,
		"PATCH " + repo + "/hooks/{id}":                     editHook,
		"GET " + repo + "/hooks/{id}/deliveries":            deliveries,
	} {
		mux.HandleFunc(pattern, s.Serve(func(r *http.Request) string {
			if r.PathValue("owner") == "" {
				return ""
			}
			return r.PathValue("owner") + "/" + r.PathValue("repo")
		}, h))
	}
	mux.HandleFunc("POST /api/v3/app-manifests/{code}/conversions", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("code") != "good" {
			refuse(w, http.StatusNotFound, "Not Found", 0)
			return
		}
		forge.WriteJSON(w, http.StatusCreated, object{"id": AppID, "slug": strings.TrimSuffix(Bot, "[bot]"), "name": "Holdfast", "pem": string(PrivateKey()), "webhook_secret": "made by GitHub",
			"html_url": s.PublicURL + "/apps/" + strings.TrimSuffix(Bot, "[bot]")})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "Not Found", 0) })
	return mux
}

func page[T any](r *forge.Request, all []T) []T {
	cut, _, _ := forge.Page(r, forge.Paging{Size: "per_page", Default: 30}, all)
	return cut
}

// need refuses what Forbid took away.
func need(r *forge.Request, permission string) error {
	if r.Server.Extra["forbidden "+permission] == nil {
		return nil
	}
	r.W.Header().Set("X-Accepted-GitHub-Permissions", permission+"=write")
	return &forge.Error{Status: http.StatusForbidden, Message: "Resource not accessible by integration"}
}

func invalid(message string) error {
	return &forge.Error{Status: http.StatusUnprocessableEntity, Message: message}
}

func self(r *forge.Request) (int, any, error) {
	return http.StatusOK, user(r.Server, r.User.Login), nil
}

func meta(*forge.Request) (int, any, error) {
	return http.StatusOK, object{"verifiable_password_authentication": false}, nil
}

func app(*forge.Request) (int, any, error) {
	return http.StatusOK, object{"id": AppID, "slug": strings.TrimSuffix(Bot, "[bot]"), "name": "Holdfast"}, nil
}

func installationJSON(r *forge.Request, owner string, id int64) object {
	permissions := object{}
	for _, p := range []string{"contents", "pull_requests", "issues", "checks", "statuses", "deployments"} {
		if r.Server.Extra["forbidden "+p] == nil {
			permissions[p] = "write"
		}
	}
	permissions["metadata"], permissions["merge_queues"] = "read", "read"
	return object{
		"id": id, "app_id": AppID, "account": user(r.Server, owner), "target_type": "Organization", "repository_selection": "all",
		"html_url": r.Server.PublicURL + "/organizations/" + owner + "/settings/installations/" + strconv.FormatInt(id, 10), "permissions": permissions, "suspended_at": nil,
	}
}

func mustBeApp(r *forge.Request) error {
	if r.User.Token != appToken {
		return &forge.Error{Status: http.StatusUnauthorized, Message: "A JSON web token could not be decoded"}
	}
	return nil
}

func installationOf(r *forge.Request) (int, any, error) {
	if err := mustBeApp(r); err != nil {
		return 0, nil, err
	}
	u := r.Server.Users[r.PathValue("who")]
	if u == nil {
		return 0, nil, forge.NotFound()
	}
	return http.StatusOK, installationJSON(r, u.Login, u.ID), nil
}

func ownerOf(r *forge.Request) (string, error) {
	for _, u := range r.Server.Users {
		if u.ID == int64(r.Number("id")) && u.Token != appToken {
			return u.Login, mustBeApp(r)
		}
	}
	return "", forge.NotFound()
}

func installation(r *forge.Request) (int, any, error) {
	owner, err := ownerOf(r)
	return http.StatusOK, installationJSON(r, owner, int64(r.Number("id"))), err
}

func accessToken(r *forge.Request) (int, any, error) {
	owner, err := ownerOf(r)
	if err != nil {
		return 0, nil, err
	}
	token := "ghs_" + owner
	r.Server.AddToken(Bot, token)
	return http.StatusCreated, object{"token": token, "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "permissions": object{"contents": "write"}}, nil
}

func appHook(r *forge.Request) (int, any, error) {
	address, _ := r.Server.Extra["hook"].(string)
	return http.StatusOK, object{"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": address}, mustBeApp(r)
}

func setAppHook(r *forge.Request) (int, any, error) {
	var in struct {
		URL string `json:"url"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	r.Server.Extra["hook"] = in.URL
	return appHook(r)
}

func deliveries(r *forge.Request) (int, any, error) {
	out := []object{}
	for i, d := range r.Server.Deliveries() {
		status := 0
		if n := len(d.Attempts); n > 0 {
			status = d.Attempts[n-1].Status
		}
		out = append(out, object{"id": i + 1, "guid": d.ID, "event": d.Event, "action": d.Action, "status_code": status, "status": http.StatusText(status), "delivered_at": stamp(r.Server.Now())})
	}
	slices.Reverse(out)
	return http.StatusOK, out[:min(len(out), 100)], nil
}

func repositoriesOf(r *forge.Request, owner string) []object {
	var all []*forge.Repository
	for _, repo := range r.Server.Repos {
		if repo.Owner == owner {
			all = append(all, repo)
		}
	}
	slices.SortFunc(all, func(a, b *forge.Repository) int { return int(a.ID - b.ID) })
	out := []object{}
	for _, repo := range page(r, all) {
		out = append(out, repository(repo))
	}
	return out
}

func installed(r *forge.Request) (int, any, error) {
	owner := strings.TrimPrefix(r.User.Token, "ghs_")
	return http.StatusOK, object{"total_count": 1, "repositories": repositoriesOf(r, owner)}, nil
}

// orgRepos knows no organisations: all owners are users.
func orgRepos(*forge.Request) (int, any, error) { return 0, nil, forge.NotFound() }

func userRepos(r *forge.Request) (int, any, error) {
	if r.Server.Users[r.PathValue("who")] == nil {
		return 0, nil, forge.NotFound()
	}
	return http.StatusOK, repositoriesOf(r, r.PathValue("who")), nil
}

func getRepo(r *forge.Request) (int, any, error) {
	r.W.Header().Set("X-OAuth-Scopes", "repo, admin:repo_hook")
	j, p := repository(r.Repo), r.Repo.Permission(r.User.Login)
	admin := p == "admin" || p == "owner"
	j["permissions"] = object{"admin": admin, "push": r.Repo.CanWrite(r.User), "pull": true}
	return http.StatusOK, j, nil
}

func permission(r *forge.Request) (int, any, error) {
	login := r.PathValue("login")
	if r.Server.Users[login] == nil {
		return 0, nil, forge.NotFound()
	}
	p := r.Repo.Permission(login)
	if p == "owner" {
		p = "admin"
	}
	return http.StatusOK, object{"permission": p, "role_name": p, "user": user(r.Server, login)}, need(r, "metadata")
}

func listPulls(r *forge.Request) (int, any, error) {
	state := cmp.Or(r.Query("state"), "open")
	pulls := slices.DeleteFunc(r.Repo.Sorted(), func(p *forge.PullRequest) bool {
		from := p.HeadRepo.Owner + ":" + p.Head
		return state != "all" && p.State != state || r.Query("head") != "" && r.Query("head") != from || r.Query("base") != "" && r.Query("base") != p.Base
	})
	slices.SortStableFunc(pulls, func(a, b *forge.PullRequest) int {
		if r.Query("sort") == "updated" {
			return cmp.Or(b.Updated.Truncate(time.Second).Compare(a.Updated.Truncate(time.Second)), b.Number-a.Number)
		}
		return b.Number - a.Number
	})
	out := []object{}
	for _, p := range page(r, pulls) {
		listed := pull(r.Repo, p)
		for _, only := range []string{"merged", "mergeable", "mergeable_state", "merged_by", "comments"} {
			delete(listed, only) // only a single one has these
		}
		out = append(out, listed)
	}
	return http.StatusOK, out, nil
}

func createPull(r *forge.Request) (int, any, error) {
	var in struct{ Title, Head, Base, Body string }
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if err := need(r, "pull_requests"); err != nil {
		return 0, nil, err
	}
	if len([]rune(in.Title)) > 256 || len(in.Body) > 65536 {
		return 0, nil, invalid("Validation Failed: is too long")
	}
	p, err := r.Repo.Propose(forge.OpenPull{Head: in.Head, Base: in.Base, Title: in.Title, Body: in.Body, Author: r.User.Login})
	var exists *forge.ErrExists
	switch {
	case errors.Is(err, gittest.ErrNoBranch):
		which := "head"
		if _, herr := r.Repo.Git.Repo.Head(in.Head); herr == nil {
			which = "base"
		}
		forge.WriteJSON(r.W, http.StatusUnprocessableEntity, object{"message": "Validation Failed", "errors": []object{{"resource": "PullRequest", "field": which, "code": "invalid"}}})
		return http.StatusUnprocessableEntity, nil, forge.ErrAnswered
	case errors.As(err, &exists):
		return 0, nil, invalid("Validation Failed: A pull request already exists for " + r.Repo.Owner + ":" + in.Head + ".")
	case err != nil:
		return 0, nil, invalid("Validation Failed: " + err.Error())
	}
	return http.StatusCreated, pull(r.Repo, p), nil
}

func getPull(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, pull(r.Repo, p), nil
}

func editPull(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Title, State string
		Body         *string
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if err := need(r, "pull_requests"); err != nil {
		return 0, nil, err
	}
	switch {
	case len([]rune(in.Title)) > 256 || in.Body != nil && len([]rune(*in.Body)) > 65536:
		return 0, nil, invalid("Validation Failed: is too long")
	case in.State == "closed" && p.Merged:
		return 0, nil, invalid("Validation Failed: state cannot be changed. The pull request has been merged.")
	}
	r.Repo.EditPull(p, in.Title, in.Body, r.User.Login)
	if in.State == "closed" && p.State == "open" {
		r.Repo.End(p, r.User.Login)
	}
	return http.StatusOK, pull(r.Repo, p), nil
}

func mergePull(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		SHA    string `json:"sha"`
		Method string `json:"merge_method"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	refused := func(status int, message string) (int, any, error) {
		return 0, nil, &forge.Error{Status: status, Message: message}
	}
	switch {
	case !r.Repo.CanWrite(r.User):
		return refused(http.StatusForbidden, "Resource not accessible by personal access token")
	case p.State != "open" || p.Draft:
		return refused(http.StatusMethodNotAllowed, "Pull Request is not mergeable")
	case in.SHA != "" && in.SHA != r.Repo.HeadSHA(p):
		return refused(http.StatusConflict, "Head branch was modified. Review and try the merge again.")
	case !r.Repo.NoConflict(p) || p.Mergeable != nil && !*p.Mergeable:
		return refused(http.StatusMethodNotAllowed, "Pull Request is not mergeable")
	case r.Repo.Extra["queue"] != nil:
		return refused(http.StatusMethodNotAllowed, "Changes must be made through the merge queue")
	}
	if err := r.Repo.Land(p, r.User.Login, in.Method); err != nil {
		return refused(http.StatusMethodNotAllowed, err.Error())
	}
	return http.StatusOK, object{"sha": p.MergeSHA, "merged": true, "message": "Pull Request successfully merged"}, nil
}

func listReviews(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	out := []object{}
	for _, v := range page(r, p.Reviews) {
		out = append(out, review(r.Repo, p, v))
	}
	return http.StatusOK, out, nil
}
