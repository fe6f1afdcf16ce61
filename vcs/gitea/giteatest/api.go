package giteatest

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// apiError is an answer that refuses.
type apiError struct {
	status  int
	message string
}

func (e *apiError) Error() string {
	if e.message == "" {
		return http.StatusText(e.status)
	}
	return e.message
}

func notFound() error { return &apiError{http.StatusNotFound, "not found"} }

// request is what a handler works with; the server's lock is held.
type request struct {
	*http.Request
	w    http.ResponseWriter
	s    *Server
	user *user
	repo *Repository // nil outside of /repos
}

type handler func(*request) (status int, answer any, err error)

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	const repo = "/api/v1/repos/{owner}/{repo}"
	for pattern, h := range map[string]handler{
		"GET /api/v1/version":                               version,
		"GET /api/v1/user":                                  self,
		"GET " + repo:                                       getRepo,
		"GET " + repo + "/branches/{branch...}":             getBranch,
		"GET " + repo + "/pulls":                            listPulls,
		"POST " + repo + "/pulls":                           createPull,
		"GET " + repo + "/pulls/{n}":                        getPull,
		"PATCH " + repo + "/pulls/{n}":                      editPull,
		"POST " + repo + "/pulls/{n}/merge":                 mergePull,
		"GET " + repo + "/pulls/{n}/reviews":                listReviews,
		"POST " + repo + "/pulls/{n}/reviews":               createReview,
		"GET " + repo + "/issues/{n}/comments":              listComments,
		"POST " + repo + "/issues/{n}/comments":             createComment,
		"PATCH " + repo + "/issues/comments/{id}":           editComment,
		"DELETE " + repo + "/issues/comments/{id}":          deleteComment,
		"POST " + repo + "/statuses/{sha}":                  createStatus,
		"GET " + repo + "/commits/{sha}/statuses":           listStatuses,
		"GET " + repo + "/collaborators/{login}/permission": getPermission,
		"POST " + repo + "/hooks":                           createHook,
	} {
		mux.HandleFunc(pattern, s.handle(h))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, object{"errors": nil, "message": "not found", "url": s.cfg.PublicURL + "/api/swagger"})
	})
	return mux
}

// handle checks the token, finds the repository and writes what h answers.
func (s *Server) handle(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		req := &request{Request: r, w: w, s: s, user: s.userOf(r)}
		status, answer, err := http.StatusOK, any(nil), error(nil)
		switch owner := r.PathValue("owner"); {
		case req.user == nil:
			err = &apiError{http.StatusUnauthorized, "invalid username, password or token"}
		case owner != "":
			req.repo = s.repos[owner+"/"+r.PathValue("repo")]
			if req.repo == nil || req.repo.permission(req.user.login) == "none" {
				err = notFound()
			}
		}
		if err == nil {
			status, answer, err = h(req)
		}
		if err != nil {
			e := &apiError{http.StatusUnprocessableEntity, err.Error()}
			errors.As(err, &e)
			status, answer = e.status, object{"message": e.message, "url": s.cfg.PublicURL + "/api/swagger"}
			if status == http.StatusNotFound {
				answer.(object)["errors"] = nil
			}
		}
		if answer == nil {
			w.WriteHeader(status)
			return
		}
		writeJSON(w, status, answer)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that went away
}

func (r *request) read(into any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		return &apiError{http.StatusUnprocessableEntity, err.Error()}
	}
	return nil
}

func (r *request) pull() (*pull, error) {
	n, _ := strconv.Atoi(r.PathValue("n")) // 0 is no pull request
	p := r.repo.pulls[n]
	if p == nil {
		return nil, notFound()
	}
	return p, nil
}

func (r *request) mustWrite() error {
	if !r.repo.canWrite(r.user) {
		return &apiError{http.StatusForbidden, "user should have permission to write"}
	}
	return nil
}

// page cuts a list as the query asks and the server allows, and announces the
// total and the next pages.
func page[T any](r *request, all []T) []T {
	number, _ := strconv.Atoi(r.URL.Query().Get("page"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	number = max(number, 1)
	if limit <= 0 {
		limit = 30 // Gitea's DEFAULT_PAGING_NUM
	}
	limit = min(limit, r.s.cfg.MaxPage)
	r.w.Header().Set("X-Total-Count", strconv.Itoa(len(all)))
	last := max((len(all)+limit-1)/limit, 1)
	link := func(n int, rel string) string {
		u := *r.URL
		q := u.Query()
		q.Set("page", strconv.Itoa(n))
		u.RawQuery = q.Encode()
		return fmt.Sprintf("<%s%s>; rel=%q", r.s.cfg.PublicURL, u.RequestURI(), rel)
	}
	var links []string
	if number < last {
		links = append(links, link(number+1, "next"), link(last, "last"))
	}
	if number > 1 {
		links = append(links, link(1, "first"), link(number-1, "prev"))
	}
	if len(links) > 0 {
		r.w.Header().Set("Link", strings.Join(links, ","))
	}
	from := min((number-1)*limit, len(all))
	return all[from:min(from+limit, len(all))]
}

func version(*request) (int, any, error) { return http.StatusOK, object{"version": "1.26.0"}, nil }

func self(r *request) (int, any, error) { return http.StatusOK, r.s.userJSON(r.user.login), nil }

func getRepo(r *request) (int, any, error) { return http.StatusOK, r.repo.json(), nil }

func getBranch(r *request) (int, any, error) {
	sha, err := r.repo.Git.Repo.Head(r.PathValue("branch"))
	if err != nil {
		return 0, nil, notFound()
	}
	return http.StatusOK, object{"name": r.PathValue("branch"), "commit": object{"id": sha}, "protected": false}, nil
}

func getPermission(r *request) (int, any, error) {
	login := r.PathValue("login")
	mine := r.repo.permission(r.user.login)
	if mine != "admin" && mine != "owner" && login != r.user.login {
		return 0, nil, &apiError{http.StatusForbidden, "Only admins can query all permissions, repo admins can query all repo permissions, collaborators can query only their own"}
	}
	if r.s.users[login] == nil {
		return 0, nil, notFound()
	}
	p := r.repo.permission(login)
	return http.StatusOK, object{"permission": p, "role_name": p, "user": r.s.userJSON(login)}, nil
}

func createHook(r *request) (int, any, error) {
	var in struct {
		Config struct {
			URL    string `json:"url"`
			Secret string `json:"secret"`
		} `json:"config"`
	}
	if err := r.read(&in); err != nil {
		return 0, nil, err
	}
	if in.Config.Secret != r.s.Secret {
		return 0, nil, &apiError{http.StatusUnprocessableEntity, "this server signs all webhooks with one secret"}
	}
	r.repo.hookURL = in.Config.URL
	return http.StatusCreated, object{"id": r.s.id(), "type": "gitea", "active": true,
		"config": object{"url": in.Config.URL, "content_type": "json"}}, nil
}

func listComments(r *request) (int, any, error) {
	p, err := r.pull()
	if err != nil {
		return 0, nil, err
	}
	// This one of Gitea's lists has no pages: all of it, whatever is asked.
	out := []object{}
	for _, c := range p.comments {
		out = append(out, r.repo.commentJSON(p, c))
	}
	r.w.Header().Set("X-Total-Count", strconv.Itoa(len(out)))
	return http.StatusOK, out, nil
}

func (r *request) body() (string, error) {
	var in struct {
		Body string `json:"body"`
	}
	if err := r.read(&in); err != nil {
		return "", err
	}
	if in.Body == "" {
		return "", &apiError{http.StatusUnprocessableEntity, "[Body]: Required"}
	}
	return in.Body, nil
}

func createComment(r *request) (int, any, error) {
	p, err := r.pull()
	if err != nil {
		return 0, nil, err
	}
	body, err := r.body()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, r.repo.commentJSON(p, r.repo.addComment(p, r.user.login, body)), nil
}

// findComment finds a comment that the user may change.
func (r *request) findComment() (*pull, *comment, error) {
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	for _, p := range r.repo.pulls {
		for _, c := range p.comments {
			if c.id != id {
				continue
			}
			if c.author != r.user.login && !r.repo.canWrite(r.user) {
				return nil, nil, &apiError{http.StatusForbidden, "user should be the author"}
			}
			return p, c, nil
		}
	}
	return nil, nil, notFound()
}

func editComment(r *request) (int, any, error) {
	p, c, err := r.findComment()
	if err != nil {
		return 0, nil, err
	}
	body, err := r.body()
	if err != nil {
		return 0, nil, err
	}
	r.repo.editComment(p, c, body, r.user.login)
	return http.StatusOK, r.repo.commentJSON(p, c), nil
}

func deleteComment(r *request) (int, any, error) {
	p, c, err := r.findComment()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, r.repo.deleteComment(p, c.id, r.user.login)
}

func createStatus(r *request) (int, any, error) {
	if err := r.mustWrite(); err != nil {
		return 0, nil, err
	}
	sha := r.PathValue("sha")
	if b, err := hex.DecodeString(sha); err != nil || len(b) != 20 {
		return 0, nil, notFound()
	}
	var in struct {
		State       string `json:"state"`
		Context     string `json:"context"`
		Description string `json:"description"`
		TargetURL   string `json:"target_url"`
	}
	if err := r.read(&in); err != nil {
		return 0, nil, err
	}
	if !slices.Contains([]string{"pending", "success", "error", "failure", "warning"}, in.State) {
		return 0, nil, &apiError{http.StatusUnprocessableEntity, "invalid state " + in.State}
	}
	st := status{id: r.s.id(), author: r.user.login, at: r.s.cfg.Now(),
		state: in.State, context: in.Context, text: in.Description, target: in.TargetURL}
	r.repo.statuses[sha] = append(r.repo.statuses[sha], st)
	return http.StatusCreated, r.repo.statusJSON(sha, st), nil
}

func listStatuses(r *request) (int, any, error) {
	out := []object{}
	for _, st := range r.repo.statuses[r.PathValue("sha")] {
		out = append(out, r.repo.statusJSON(r.PathValue("sha"), st))
	}
	slices.Reverse(out) // the latest first
	return http.StatusOK, page(r, out), nil
}
