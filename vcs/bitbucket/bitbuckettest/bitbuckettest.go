// Package bitbuckettest is a Bitbucket Cloud in a test's own process: the API
// calls that Holdfast makes, and signed webhooks, in the shape of its API 2.0,
// over what package forge has for all fake hosts. Account ids are logins.
package bitbuckettest

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
		Name: "bitbucket", Prefix: "/2.0", PullRef: "refs/pull/%d/unseen", // no client can fetch it
		Routes: routes, Hooks: hooks, Refuse: refuse,
	}, cfg)
}

func refuse(w http.ResponseWriter, status int, message string, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	forge.WriteJSON(w, status, object{"type": "error", "error": object{"message": message}})
}

func fail(status int, message string) error { return &forge.Error{Status: status, Message: message} }

func routes(s *forge.Server) *http.ServeMux {
	mux := http.NewServeMux()
	const repo = "/2.0/repositories/{owner}/{repo}"
	for pattern, h := range map[string]forge.Handler{
		"GET /2.0/user":               self,
		"GET /2.0/repositories/{who}": repositories,
		"GET /2.0/workspaces/{owner}/permissions/repositories/{repo}": permission,
		"GET " + repo: getRepo,
		"GET " + repo + "/refs/branches/{branch}":         getBranch,
		"GET " + repo + "/commit/{sha}":                   commit,
		"GET " + repo + "/commit/{sha}/statuses":          listStatuses,
		"POST " + repo + "/commit/{sha}/statuses/build":   setStatus,
		"GET " + repo + "/pullrequests":                   list,
		"POST " + repo + "/pullrequests":                  create,
		"GET " + repo + "/pullrequests/{n}":               get,
		"PUT " + repo + "/pullrequests/{n}":               edit,
		"POST " + repo + "/pullrequests/{n}/decline":      decline,
		"POST " + repo + "/pullrequests/{n}/merge":        merge,
		"GET " + repo + "/pullrequests/{n}/activity":      activity,
		"GET " + repo + "/pullrequests/{n}/diffstat":      diffstat,
		"GET " + repo + "/pullrequests/{n}/comments":      listComments,
		"POST " + repo + "/pullrequests/{n}/comments":     createComment,
		"PUT " + repo + "/pullrequests/{n}/comments/{id}": editComment,
		"GET " + repo + "/hooks":                          listHooks,
		"POST " + repo + "/hooks":                         createHook,
		"PUT " + repo + "/hooks/{id}":                     editHook,
	} {
		mux.HandleFunc(pattern, s.Serve(func(r *http.Request) string {
			if r.PathValue("repo") == "" {
				return ""
			}
			return r.PathValue("owner") + "/" + r.PathValue("repo")
		}, h))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "not found", 0) })
	return mux
}

// page is a list as Bitbucket gives it, with the address of the next page.
func page[T any](r *forge.Request, all []T, render func(T) object) object {
	cut, number, last := forge.Page(r, forge.Paging{Size: "pagelen", Default: 10}, all)
	r.W.Header().Del("Link")
	values := []object{}
	for _, v := range cut {
		values = append(values, render(v))
	}
	out := object{"values": values, "pagelen": len(cut), "size": len(all), "page": number}
	if number < last {
		q := r.URL.Query()
		q.Set("page", strconv.Itoa(number+1))
		out["next"] = r.Server.URL + r.URL.EscapedPath() + "?" + q.Encode()
	}
	return out
}

func self(r *forge.Request) (int, any, error) { return http.StatusOK, account(r.User.Login), nil }

func account(login string) object {
	return object{"type": "user", "account_id": login, "uuid": "{" + login + "}", "display_name": login, "nickname": login}
}

func repositories(r *forge.Request) (int, any, error) {
	var all []*forge.Repository
	for _, repo := range r.Server.Repos {
		if repo.Owner == r.PathValue("who") {
			all = append(all, repo)
		}
	}
	if r.Server.Users[r.PathValue("who")] == nil {
		return 0, nil, forge.NotFound()
	}
	slices.SortFunc(all, func(a, b *forge.Repository) int { return int(a.ID - b.ID) })
	return http.StatusOK, page(r, all, repository), nil
}

func repository(r *forge.Repository) object {
	return object{
		"type": "repository", "full_name": r.Path(), "name": r.Name, "is_private": true, "mainbranch": object{"type": "branch", "name": gittest.DefaultBranch},
		"links": object{"html": object{"href": r.Server.PublicURL + "/" + r.Path()}},
	}
}

func getRepo(r *forge.Request) (int, any, error) { return http.StatusOK, repository(r.Repo), nil }

func permission(r *forge.Request) (int, any, error) {
	login := strings.TrimSuffix(strings.TrimPrefix(r.Query("q"), `user.account_id="`), `"`)
	var rows []object
	if r.Server.Users[login] != nil {
		p := r.Repo.Permission(login)
		if p == "owner" {
			p = "admin"
		}
		if p != "none" {
			rows = append(rows, object{"permission": p, "user": account(login)})
		}
	}
	return http.StatusOK, page(r, rows, func(o object) object { return o }), nil
}

func getBranch(r *forge.Request) (int, any, error) {
	sha, err := r.Repo.Git.Repo.Head(r.PathValue("branch"))
	if err != nil {
		return 0, nil, forge.NotFound()
	}
	return http.StatusOK, object{"name": r.PathValue("branch"), "target": object{"hash": sha}}, nil
}

// commit finds a commit by the beginning of its id: at the heads, which is where
// pull requests are.
func commit(r *forge.Request) (int, any, error) {
	short := r.PathValue("sha")
	for _, p := range r.Repo.PullRequests {
		for _, sha := range []string{r.Repo.HeadSHA(p), p.MergeSHA} {
			if strings.HasPrefix(sha, short) {
				return http.StatusOK, object{"type": "commit", "hash": sha}, nil
			}
		}
	}
	return commitOfForks(r, short)
}

// commitOfForks looks where the pull requests of others come from.
func commitOfForks(r *forge.Request, short string) (int, any, error) {
	for _, other := range r.Server.Repos {
		for _, p := range other.PullRequests {
			if sha := other.HeadSHA(p); p.HeadRepo == r.Repo && strings.HasPrefix(sha, short) {
				return http.StatusOK, object{"type": "commit", "hash": sha}, nil
			}
		}
	}
	return 0, nil, forge.NotFound()
}

func stateOf(p *forge.PullRequest) string {
	switch {
	case p.Merged:
		return "MERGED"
	case p.State == "open":
		return "OPEN"
	}
	return "DECLINED"
}

func pull(r *forge.Repository, p *forge.PullRequest) object {
	short := func(sha string) object { return object{"type": "commit", "hash": sha[:12]} }
	base, _ := r.Git.Repo.Head(p.Base)
	participants := []object{}
	last := map[string]*forge.Review{}
	for _, v := range p.Reviews {
		if v.State == "APPROVED" || v.State == "REQUEST_CHANGES" {
			last[v.Author] = v
		}
	}
	for _, v := range p.Reviews {
		state := map[string]string{"APPROVED": "approved", "REQUEST_CHANGES": "changes_requested"}[v.State]
		if last[v.Author] == v && !v.Dismissed {
			participants = append(participants, object{"type": "participant", "user": account(v.Author), "state": state, "approved": state == "approved", "participated_on": stamp(v.At)})
		}
	}
	j := object{
		"type": "pullrequest", "id": p.Number, "title": p.Title, "description": p.Body, "state": stateOf(p), "draft": p.Draft, "author": account(p.Author),
		"source":       object{"branch": object{"name": p.Head}, "commit": short(r.HeadSHA(p)), "repository": object{"full_name": p.HeadRepo.Path()}},
		"destination":  object{"branch": object{"name": p.Base}, "commit": nil, "repository": object{"full_name": r.Path()}},
		"merge_commit": nil, "participants": participants, "reviewers": []object{account("rob")}, "comment_count": len(p.Comments),
		"created_on": stamp(p.Created), "updated_on": stamp(p.Updated),
		"links": object{"html": object{"href": fmt.Sprintf("%s/%s/pull-requests/%d", r.Server.PublicURL, r.Path(), p.Number)}},
	}
	if base != "" {
		j["destination"].(object)["commit"] = short(base)
	}
	if p.Merged {
		j["merge_commit"] = short(p.MergeSHA)
	}
	return j
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000+00:00") }

func list(r *forge.Request) (int, any, error) {
	states := r.URL.Query()["state"]
	all := slices.DeleteFunc(r.Repo.Sorted(), func(p *forge.PullRequest) bool { return len(states) > 0 && !slices.Contains(states, stateOf(p)) })
	slices.SortStableFunc(all, func(a, b *forge.PullRequest) int { return cmp.Or(b.Updated.Compare(a.Updated), b.Number-a.Number) })
	return http.StatusOK, page(r, all, func(p *forge.PullRequest) object { return pull(r.Repo, p) }), nil
}

func create(r *forge.Request) (int, any, error) {
	var in struct {
		Title, Description  string
		Source, Destination struct{ Branch struct{ Name string } }
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if in.Title == "" || len([]rune(in.Title)) > 255 || len([]rune(in.Description)) > 32_768 {
		return 0, nil, fail(http.StatusBadRequest, "title or description is too long")
	}
	p, err := r.Repo.Propose(forge.OpenPull{Head: in.Source.Branch.Name, Base: in.Destination.Branch.Name, Title: in.Title, Body: in.Description, Author: r.User.Login})
	if errors.Is(err, gittest.ErrNoBranch) {
		return 0, nil, fail(http.StatusBadRequest, "branch not found")
	}
	if err != nil {
		return 0, nil, fail(http.StatusBadRequest, err.Error())
	}
	return http.StatusCreated, pull(r.Repo, p), nil
}

func get(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, pull(r.Repo, p), nil
}

func edit(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Title       string
		Description *string
		Reviewers   []struct{ UUID string }
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	switch {
	case in.Title == "" || len([]rune(in.Title)) > 255 || in.Description != nil && len([]rune(*in.Description)) > 32_768:
		return 0, nil, fail(http.StatusBadRequest, "title or description is too long")
	case p.State != "open":
		return 0, nil, fail(http.StatusBadRequest, "This pull request is already closed.")
	case len(in.Reviewers) != 1 || in.Reviewers[0].UUID != "{rob}":
		return 0, nil, fail(http.StatusBadRequest, "the reviewers would be lost") // the host's own answer: 200
	}
	r.Repo.EditPull(p, in.Title, in.Description, r.User.Login)
	return http.StatusOK, pull(r.Repo, p), nil
}

func decline(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	if p.State != "open" {
		return 0, nil, fail(http.StatusBadRequest, "This pull request is already closed.")
	}
	r.Repo.End(p, r.User.Login)
	return http.StatusOK, pull(r.Repo, p), nil
}

func merge(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Strategy string `json:"merge_strategy"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	method := map[string]string{"merge_commit": "merge", "squash": "squash", "rebase_fast_forward": "rebase"}[in.Strategy]
	switch {
	case !r.Repo.CanWrite(r.User):
		return 0, nil, fail(http.StatusForbidden, "you may not merge")
	case p.State != "open" || !r.Repo.NoConflict(p) || p.Mergeable != nil && !*p.Mergeable || method == "":
		return 0, nil, fail(http.StatusBadRequest, "You can't merge until you resolve all merge conflicts.")
	}
	if err := r.Repo.Land(p, r.User.Login, method); err != nil {
		return 0, nil, fail(http.StatusConflict, err.Error())
	}
	return http.StatusOK, pull(r.Repo, p), nil
}

// activity has the latest push, and what came after it.
func activity(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	update := func(at time.Time, sha string) object {
		return object{"update": object{"date": stamp(at), "state": "OPEN", "source": object{"commit": object{"hash": sha[:12]}}}}
	}
	head := r.Repo.HeadSHA(p)
	all := []object{{"comment": object{"id": 1}}, update(p.Pushed.Add(time.Second), head), {"approval": object{"date": stamp(p.Pushed)}}, update(p.Pushed, head), update(p.Created, strings.Repeat("0", 40))}
	return http.StatusOK, page(r, all, func(o object) object { return o }), nil
}

func diffstat(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	status := "modified"
	if p.State == "open" && (!r.Repo.NoConflict(p) || p.Mergeable != nil && !*p.Mergeable) {
		status = "merge conflict"
	}
	return http.StatusOK, page(r, []string{"modified", status}, func(s string) object { return object{"type": "diffstat", "status": s} }), nil
}

func comment(c *forge.Comment) object {
	return object{"type": "pullrequest_comment", "id": c.ID, "user": account(c.Author), "content": object{"raw": c.Body}, "deleted": false, "created_on": stamp(c.Created), "updated_on": stamp(c.Updated)}
}

func listComments(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, page(r, p.Comments, comment), nil
}

func body(r *forge.Request) (string, error) {
	var in struct{ Content struct{ Raw string } }
	if err := r.Read(&in); err != nil {
		return "", err
	}
	if in.Content.Raw == "" || len([]rune(in.Content.Raw)) > 32_768 {
		return "", fail(http.StatusBadRequest, "content is empty or too long")
	}
	return in.Content.Raw, nil
}

func createComment(r *forge.Request) (int, any, error) {
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	text, err := body(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, comment(r.Repo.AddComment(p, r.User.Login, text)), nil
}

func editComment(r *forge.Request) (int, any, error) {
	p, c := r.Repo.FindComment(int64(r.Number("id")))
	if c == nil {
		return 0, nil, forge.NotFound()
	}
	text, err := body(r)
	if err != nil {
		return 0, nil, err
	}
	r.Repo.ChangeComment(p, c, text, r.User.Login)
	return http.StatusOK, comment(c), nil
}

func setStatus(r *forge.Request) (int, any, error) {
	sha := r.PathValue("sha")
	if b, err := hex.DecodeString(sha); err != nil || len(b) != 20 {
		return 0, nil, forge.NotFound()
	}
	var in struct{ Key, Name, State, URL, Description string }
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if in.Key == "" || len(in.Key) > 40 || in.URL == "" || len([]rune(in.Description)) > 255 || len([]rune(in.Name)) > 255 || !slices.Contains([]string{"INPROGRESS", "SUCCESSFUL", "FAILED", "STOPPED"}, in.State) {
		return 0, nil, fail(http.StatusBadRequest, "key, url, state or description is not right")
	}
	st := forge.StatusEntry{ID: r.Server.NextID(), Author: r.User.Login, At: r.Server.Now(), State: in.State, Context: in.Name, Text: in.Description, Target: in.URL}
	r.Repo.StatusesOf[sha] = append(slices.DeleteFunc(r.Repo.StatusesOf[sha], func(o forge.StatusEntry) bool { return o.Context == in.Name }), st)
	return http.StatusCreated, status(st), nil
}

func status(st forge.StatusEntry) object {
	return object{"type": "build", "key": st.Context, "name": st.Context, "state": st.State, "url": st.Target, "description": st.Text}
}

func listStatuses(r *forge.Request) (int, any, error) {
	return http.StatusOK, page(r, r.Repo.StatusesOf[r.PathValue("sha")], status), nil
}

func hook(r *forge.Repository) object {
	return object{"uuid": fmt.Sprintf("{%d}", r.ID), "url": r.HookURL, "active": true, "events": r.HookEvents, "description": "x"}
}

func listHooks(r *forge.Request) (int, any, error) {
	var all []*forge.Repository
	if r.Repo.HookURL != "" {
		all = append(all, r.Repo)
	}
	return http.StatusOK, page(r, all, hook), nil
}

func createHook(r *forge.Request) (int, any, error) { return setHook(r, http.StatusCreated) }

func editHook(r *forge.Request) (int, any, error) {
	if r.PathValue("id") != fmt.Sprintf("{%d}", r.Repo.ID) {
		return 0, nil, forge.NotFound()
	}
	return setHook(r, http.StatusOK)
}

func setHook(r *forge.Request, status int) (int, any, error) {
	var in struct {
		URL, Secret string
		Events      []string
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	r.Repo.HookURL, r.Repo.HookSecret, r.Repo.HookEvents = in.URL, in.Secret, in.Events
	return status, hook(r.Repo), nil
}

// hooks are the webhooks that Bitbucket sends after an action.
func hooks(r *forge.Repository, a forge.Action) []forge.Message {
	body := object{"actor": account(a.Login), "repository": repository(r)}
	if a.Pull != nil {
		body["pullrequest"] = pull(r, a.Pull)
	}
	switch a.Kind {
	case forge.ActionPush, forge.ActionDelete:
		at := func(sha string) any {
			if sha == "" {
				return nil
			}
			return object{"type": "branch", "name": a.Branch, "target": object{"type": "commit", "hash": sha}}
		}
		body["push"] = object{"changes": []object{{"new": at(a.Update.New), "old": at(a.Update.Old), "created": a.Update.Old == "", "closed": a.Update.New == "", "forced": false}}}
		return message(r, "repo:push", body)
	case forge.ActionPull:
		key := map[string]string{"opened": "created", "closed": "rejected", "reopened": "updated", "edited": "updated", "synchronized": "updated", "draft": "updated", "ready": "updated"}[a.Name]
		if a.Pull.Merged && a.Name == "closed" {
			key = "fulfilled"
		}
		return message(r, "pullrequest:"+key, body)
	case forge.ActionReview:
		key := map[string]string{"APPROVED": "approved", "REQUEST_CHANGES": "changes_request_created"}[a.Review.State]
		if a.Name == "dismissed" {
			key = "unapproved"
		}
		if key == "" {
			return nil
		}
		return message(r, "pullrequest:"+key, body)
	case forge.ActionComment:
		body["comment"] = comment(a.Comment)
		return message(r, "pullrequest:comment_"+map[string]string{"created": "created", "edited": "updated", "deleted": "deleted"}[a.Name], body)
	}
	return nil
}

func message(r *forge.Repository, event string, body object) []forge.Message {
	m := forge.Message{ID: forge.NewID(), Event: event, Body: forge.JSON(body), Header: http.Header{}}
	m.Header.Set("Content-Type", "application/json")
	m.Header.Set("X-Event-Key", event)
	m.Header.Set("X-Request-UUID", m.ID)
	m.Header.Set("X-Hub-Signature", "sha256="+forge.MAC(r.SigningSecret(), m.Body))
	return []forge.Message{m}
}
