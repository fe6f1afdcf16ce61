// Package azuretest is an Azure DevOps in a test's own process: the API calls that
// Holdfast makes, and service hooks with their password, in the shape of its REST
// API 7.1, over what package forge has for all fake hosts. Owners are
// ORGANISATION/PROJECT, unique names are logins, and each comment is a thread.
package azuretest

import (
	"cmp"
	"encoding/base64"
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

const zeroSHA = "0000000000000000000000000000000000000000"

// New starts a server that lives as long as the test.
func New(t forge.TB, cfg forge.Config) *forge.Server {
	t.Helper()
	return forge.New(t, forge.Dialect{
		Name: "azuredevops", PullRef: "refs/pull/%d/unseen", // no client can fetch it
		Routes: routes, Hooks: hooks, Refuse: refuse, OwnIssues: true,
	}, cfg)
}

func refuse(w http.ResponseWriter, status int, message string, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	forge.WriteJSON(w, status, object{"$id": "1", "message": message, "typeKey": "Exception", "errorCode": 0})
}

func fail(status int, message string) error { return &forge.Error{Status: status, Message: message} }

func routes(s *forge.Server) *http.ServeMux {
	mux := http.NewServeMux()
	const repo = "/{org}/{project}/_apis/git/repositories/{repo}"
	const work = "/{org}/{project}/_apis/wit"
	for pattern, h := range map[string]forge.Handler{
		"GET /_apis/profile/profiles/me":                             self,
		"GET /{org}/_apis/identities":                                identities,
		"GET /{org}/_apis/accesscontrollists/{ns}":                   access,
		"GET /{org}/{project}/_apis/git/repositories":                repositories,
		"GET /{org}/_apis/git/repositories":                          repositories,
		"GET " + repo:                                                getRepo,
		"GET " + repo + "/refs":                                      refs,
		"GET " + repo + "/pullrequests":                              list,
		"POST " + repo + "/pullrequests":                             create,
		"GET " + repo + "/pullrequests/{n}":                          get,
		"PATCH " + repo + "/pullrequests/{n}":                        complete,
		"GET " + repo + "/pullrequests/{n}/iterations":               iterations,
		"GET " + repo + "/pullrequests/{n}/threads":                  threads,
		"POST " + repo + "/pullrequests/{n}/threads":                 createThread,
		"PATCH " + repo + "/pullrequests/{n}/threads/{t}/comments/1": editComment,
		"POST " + repo + "/commits/{sha}/statuses":                   setStatus,
		"GET " + repo + "/commits/{sha}/statuses":                    statuses,
		"GET " + work + "/workitemtypes":                             kinds,
		"GET " + work + "/workitemtypes/{kind}/states":               kindStates,
		"POST " + work + "/wiql":                                     wiql,
		"POST " + work + "/workitemsbatch":                           batch,
		"POST " + work + "/workitems/{kind}":                         createItem,
		"GET " + work + "/workitems/{id}":                            getItem,
		"PATCH " + work + "/workitems/{id}":                          editItem,
		"GET " + work + "/workItems/{id}/comments":                   listItemComments,
		"POST " + work + "/workItems/{id}/comments":                  createItemComment,
	} {
		mux.HandleFunc(pattern, s.Serve(func(r *http.Request) string {
			if r.PathValue("repo") == "" {
				return ""
			}
			return r.PathValue("org") + "/" + r.PathValue("project") + "/" + r.PathValue("repo")
		}, h))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "not found", 0) })
	return mux
}

func value(list []object) object { return object{"count": len(list), "value": list} }

func self(r *forge.Request) (int, any, error) {
	return http.StatusOK, object{"displayName": r.User.Login, "emailAddress": r.User.Login, "id": "x"}, nil
}

func user(login string) object {
	return object{"displayName": login, "uniqueName": login, "id": "id-" + login}
}

// identities finds a user, who is in a group that may read everything.
func identities(r *forge.Request) (int, any, error) {
	login := r.Query("filterValue")
	out := []object{}
	if r.Server.Users[login] != nil {
		out = append(out, object{"descriptor": "Microsoft.Identity;" + login, "memberOf": []string{"group;readers"}, "properties": object{"Account": object{"$value": login}}})
	}
	return http.StatusOK, value(out), nil
}

// access has the bits of each identity. What a user may do is told as inherited.
func access(r *forge.Request) (int, any, error) {
	var repo *forge.Repository
	for _, x := range r.Server.Repos {
		if strings.HasSuffix(r.Query("token"), "/"+strconv.FormatInt(x.ID, 10)) {
			repo = x
		}
	}
	if repo == nil {
		return http.StatusOK, value(nil), nil
	}
	entries := object{}
	for _, d := range strings.Split(r.Query("descriptors"), ",") {
		bits, denied := 0, 0
		login, isUser := strings.CutPrefix(d, "Microsoft.Identity;")
		switch p := repo.Permission(login); {
		case !isUser:
			bits = 2
		case p == "none":
			denied = 2 | 4
		default:
			bits = map[string]int{"read": 2, "write": 2 | 4, "admin": 1 | 2 | 4, "owner": 1 | 2 | 4}[p]
		}
		entries[d] = object{"descriptor": d, "allow": 0, "deny": denied, "extendedInfo": object{"effectiveAllow": bits}}
	}
	return http.StatusOK, value([]object{{"inheritPermissions": true, "token": r.Query("token"), "acesDictionary": entries}}), nil
}

func repository(r *forge.Repository) object {
	project := r.Owner[strings.IndexByte(r.Owner, '/')+1:]
	return object{
		"id": strconv.FormatInt(r.ID, 10), "name": r.Name, "defaultBranch": "refs/heads/" + gittest.DefaultBranch, "isDisabled": r.Archived,
		"remoteUrl": r.Server.PublicURL + "/" + r.Owner + "/_git/" + r.Name, "project": object{"id": "p", "name": project},
	}
}

func repositories(r *forge.Request) (int, any, error) {
	owner := strings.TrimSuffix(r.PathValue("org")+"/"+r.PathValue("project"), "/")
	var all []*forge.Repository
	for _, repo := range r.Server.Repos {
		if repo.Owner == owner || strings.HasPrefix(repo.Owner, owner+"/") {
			all = append(all, repo)
		}
	}
	if len(all) == 0 {
		return 0, nil, forge.NotFound()
	}
	slices.SortFunc(all, func(a, b *forge.Repository) int { return int(b.ID - a.ID) })
	var out []object
	for _, repo := range all {
		out = append(out, repository(repo))
	}
	return http.StatusOK, value(out), nil
}

func getRepo(r *forge.Request) (int, any, error) { return http.StatusOK, repository(r.Repo), nil }

func refs(r *forge.Request) (int, any, error) {
	out := []object{}
	branch := strings.TrimPrefix(r.Query("filter"), "heads/")
	if sha, err := r.Repo.Git.Repo.Head(branch); err == nil {
		out = append(out, object{"name": "refs/heads/" + branch, "objectId": sha})
	}
	return http.StatusOK, value(out), nil
}

func stateOf(p *forge.PullRequest) string {
	switch {
	case p.Merged:
		return "completed"
	case p.State == "open":
		return "active"
	}
	return "abandoned"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

func pull(r *forge.Repository, p *forge.PullRequest) object {
	base := p.BaseSHA
	if base == "" {
		base, _ = r.Git.Repo.Head(p.Base)
	}
	merge := "succeeded"
	switch {
	case p.State == "open" && !r.NoConflict(p):
		merge = "conflicts"
	case p.Mergeable != nil && !*p.Mergeable:
		merge = "queued"
	}
	reviewers := []object{}
	last := map[string]*forge.Review{}
	for _, v := range p.Reviews {
		if v.State == "APPROVED" || v.State == "REQUEST_CHANGES" {
			last[v.Author] = v
		}
	}
	for _, v := range p.Reviews {
		if last[v.Author] == v && !v.Dismissed {
			u := user(v.Author)
			u["vote"] = map[string]int{"APPROVED": 10, "REQUEST_CHANGES": -10}[v.State]
			reviewers = append(reviewers, u)
		}
	}
	j := object{
		"pullRequestId": p.Number, "status": stateOf(p), "title": p.Title, "description": p.Body, "isDraft": p.Draft, "createdBy": user(p.Author),
		"creationDate": stamp(p.Created), "sourceRefName": "refs/heads/" + p.Head, "targetRefName": "refs/heads/" + p.Base, "mergeStatus": merge,
		"lastMergeSourceCommit": object{"commitId": r.HeadSHA(p)}, "lastMergeTargetCommit": object{"commitId": base}, "lastMergeCommit": object{"commitId": r.HeadSHA(p)},
		"reviewers": reviewers, "repository": repository(r),
	}
	if p.HeadRepo != r {
		j["forkSource"] = object{"name": "refs/heads/" + p.Head}
	}
	if p.State != "open" {
		j["closedDate"] = stamp(p.Closed)
	}
	if p.Merged {
		j["lastMergeCommit"] = object{"commitId": p.MergeSHA}
	}
	return j
}

func list(r *forge.Request) (int, any, error) {
	state := cmp.Or(r.Query("searchCriteria.status"), "active")
	since := r.Since("searchCriteria.minTime")
	all := slices.DeleteFunc(r.Repo.Sorted(), func(p *forge.PullRequest) bool {
		source := r.Query("searchCriteria.sourceRefName")
		return state != stateOf(p) || !since.IsZero() && p.Closed.Before(since) || source != "" && source != "refs/heads/"+p.Head
	})
	slices.Reverse(all)
	top, _ := strconv.Atoi(r.Query("$top"))
	skip, _ := strconv.Atoi(r.Query("$skip"))
	all = all[min(skip, len(all)):]
	all = all[:min(cmp.Or(top, 100), len(all))]
	out := []object{}
	for _, p := range all {
		out = append(out, pull(r.Repo, p))
	}
	return http.StatusOK, value(out), nil
}

func create(r *forge.Request) (int, any, error) {
	var in struct{ SourceRefName, TargetRefName, Title, Description string }
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if in.Title == "" || len([]rune(in.Title)) > 400 || len([]rune(in.Description)) > 4000 {
		return 0, nil, fail(http.StatusBadRequest, "TF401: title or description is too long")
	}
	p, err := r.Repo.Propose(forge.OpenPull{
		Head: strings.TrimPrefix(in.SourceRefName, "refs/heads/"), Base: strings.TrimPrefix(in.TargetRefName, "refs/heads/"), Title: in.Title, Body: in.Description, Author: r.User.Login,
	})
	var exists *forge.ErrExists
	switch {
	case errors.Is(err, gittest.ErrNoBranch):
		return 0, nil, fail(http.StatusBadRequest, "TF401398: The pull request cannot be activated because the source and/or the target branch no longer exists.")
	case errors.As(err, &exists):
		return 0, nil, fail(http.StatusConflict, "TF401179: An active pull request for the source and target branch already exists.")
	case err != nil:
		return 0, nil, fail(http.StatusBadRequest, err.Error())
	}
	return http.StatusCreated, pull(r.Repo, p), nil
}

func find(r *forge.Request) (*forge.PullRequest, error) {
	p, err := r.Pull("n")
	if err != nil {
		return nil, fail(http.StatusNotFound, "TF401180: The requested pull request was not found.")
	}
	return p, nil
}

func get(r *forge.Request) (int, any, error) {
	p, err := find(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, pull(r.Repo, p), nil
}

func complete(r *forge.Request) (int, any, error) {
	p, err := find(r)
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Status, Title         string
		Description           *string
		LastMergeSourceCommit struct{ CommitID string }
		CompletionOptions     struct{ MergeStrategy string }
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if in.Status == "" || in.Status == "abandoned" {
		return edit(r, p, in.Title, in.Description, in.Status == "abandoned")
	}
	method := map[string]string{"noFastForward": "merge", "squash": "squash", "rebase": "rebase"}[in.CompletionOptions.MergeStrategy]
	switch {
	case !r.Repo.CanWrite(r.User):
		return 0, nil, fail(http.StatusForbidden, "TF401027: You need the Git 'PullRequestContribute' permission")
	case in.Status != "completed" || p.State != "open" || p.Draft || method == "":
		return 0, nil, fail(http.StatusBadRequest, "TF401181: The pull request cannot be edited due to its state.")
	case in.LastMergeSourceCommit.CommitID != r.Repo.HeadSHA(p):
		return 0, nil, fail(http.StatusConflict, "TF401192: The source branch has been modified since the last merge attempt.")
	case !r.Repo.NoConflict(p) || p.Mergeable != nil && !*p.Mergeable:
		return http.StatusOK, pull(r.Repo, p), nil // it stays active
	}
	if err := r.Repo.Land(p, r.User.Login, method); err != nil {
		return 0, nil, fail(http.StatusConflict, err.Error())
	}
	return http.StatusOK, pull(r.Repo, p), nil
}

// edit changes what a pull request says, or abandons it.
func edit(r *forge.Request, p *forge.PullRequest, title string, body *string, abandon bool) (int, any, error) {
	switch {
	case p.State != "open":
		return 0, nil, fail(http.StatusBadRequest, "TF401181: The pull request cannot be edited due to its state.")
	case abandon && (title != "" || body != nil):
		return 0, nil, fail(http.StatusBadRequest, "the status is set on its own")
	case len([]rune(title)) > 400 || body != nil && len([]rune(*body)) > 4000:
		return 0, nil, fail(http.StatusBadRequest, "TF401: title or description is too long")
	}
	r.Repo.EditPull(p, title, body, r.User.Login)
	if abandon {
		r.Repo.End(p, r.User.Login)
	}
	return http.StatusOK, pull(r.Repo, p), nil
}

func comment(c *forge.Comment) object {
	return object{"id": 1, "parentCommentId": 0, "author": user(c.Author), "content": c.Body, "commentType": "text", "isDeleted": false,
		"publishedDate": stamp(c.Created), "lastUpdatedDate": stamp(c.Updated), "lastContentUpdatedDate": stamp(c.Updated)}
}

func threads(r *forge.Request) (int, any, error) {
	p, err := find(r)
	if err != nil {
		return 0, nil, err
	}
	out := []object{{"id": 1, "comments": []object{{"id": 1, "commentType": "system", "content": "The reference refs/heads/x was updated.", "author": user("x"), "publishedDate": stamp(p.Created)}}}}
	for _, v := range p.Reviews {
		out = append(out, object{"id": v.ID, "properties": object{"CodeReviewThreadType": object{"$type": "System.String", "$value": "VoteUpdate"}},
			"comments": []object{{"id": 1, "commentType": "system", "content": v.Author + " voted 10", "author": user(v.Author), "publishedDate": stamp(v.At)}}})
	}
	for _, c := range p.Comments {
		out = append(out, object{"id": c.ID, "comments": []object{comment(c)}, "isDeleted": false})
	}
	return http.StatusOK, value(out), nil
}

func iterations(r *forge.Request) (int, any, error) {
	p, err := find(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, value([]object{{"id": 1, "createdDate": stamp(p.Created)}, {"id": 2, "createdDate": stamp(p.Pushed)}}), nil
}

func createThread(r *forge.Request) (int, any, error) {
	p, err := find(r)
	if err != nil {
		return 0, nil, err
	}
	var in struct{ Comments []struct{ Content string } }
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if len(in.Comments) != 1 || in.Comments[0].Content == "" || len(in.Comments[0].Content) > 150_000 {
		return 0, nil, fail(http.StatusBadRequest, "the comment is empty or too long")
	}
	c := r.Repo.AddComment(p, r.User.Login, in.Comments[0].Content)
	return http.StatusOK, object{"id": c.ID, "comments": []object{comment(c)}}, nil
}

func editComment(r *forge.Request) (int, any, error) {
	p, c := r.Repo.FindComment(int64(r.Number("t")))
	if c == nil {
		return 0, nil, forge.NotFound()
	}
	var in struct{ Content string }
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	r.Repo.ChangeComment(p, c, in.Content, r.User.Login)
	return http.StatusOK, comment(c), nil
}

func setStatus(r *forge.Request) (int, any, error) {
	sha := r.PathValue("sha")
	if b, err := hex.DecodeString(sha); err != nil || len(b) != 20 {
		return 0, nil, forge.NotFound()
	}
	var in struct {
		State, Description, TargetURL string
		Context                       struct{ Name, Genre string }
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if in.Context.Name == "" || in.Context.Genre != "holdfast" || !slices.Contains([]string{"pending", "succeeded", "failed", "error"}, in.State) || len([]rune(in.Description)) > 256 {
		return 0, nil, fail(http.StatusBadRequest, "state, context or description is not right")
	}
	st := forge.StatusEntry{ID: r.Server.NextID(), Author: r.User.Login, At: r.Server.Now(), State: in.State, Context: in.Context.Name, Text: in.Description, Target: in.TargetURL}
	r.Repo.StatusesOf[sha] = append(r.Repo.StatusesOf[sha], st)
	return http.StatusCreated, status(st), nil
}

func status(st forge.StatusEntry) object {
	return object{"id": st.ID, "state": st.State, "description": st.Text, "targetUrl": st.Target, "context": object{"name": st.Context, "genre": "holdfast"}}
}

func statuses(r *forge.Request) (int, any, error) {
	latest := map[string]object{}
	for _, st := range r.Repo.StatusesOf[r.PathValue("sha")] {
		latest[st.Context] = status(st)
	}
	var out []object
	for _, st := range latest {
		out = append(out, st)
	}
	return http.StatusOK, value(out), nil
}

// hooks are the service hooks that Azure DevOps sends after an action.
func hooks(r *forge.Repository, a forge.Action) []forge.Message {
	switch a.Kind {
	case forge.ActionPush, forge.ActionDelete:
		return message(r, "git.push", object{
			"refUpdates": []object{{"name": a.Update.Ref, "oldObjectId": cmp.Or(a.Update.Old, zeroSHA), "newObjectId": cmp.Or(a.Update.New, zeroSHA)}},
			"repository": repository(r), "pushedBy": user(a.Login),
		})
	case forge.ActionPull, forge.ActionReview:
		event := "git.pullrequest.updated"
		switch {
		case a.Name == "opened":
			event = "git.pullrequest.created"
		case a.Kind == forge.ActionPull && a.Pull.Merged:
			event = "git.pullrequest.merged"
		}
		return message(r, event, pull(r, a.Pull))
	case forge.ActionComment:
		if a.Name == "deleted" {
			return nil
		}
		c := comment(a.Comment)
		if a.Name == "edited" {
			c["lastContentUpdatedDate"] = stamp(a.Comment.Updated.Add(time.Millisecond))
		}
		c["_links"] = object{"self": object{"href": fmt.Sprintf("%s/x/_apis/git/repositories/1/pullRequests/%d/threads/%d/comments/1", r.Server.PublicURL, a.Pull.Number, a.Comment.ID)}}
		return message(r, "ms.vss-code.git-pullrequest-comment-event", object{"comment": c, "pullRequest": pull(r, a.Pull)})
	}
	return nil
}

func message(r *forge.Repository, event string, resource object) []forge.Message {
	m := forge.Message{ID: forge.NewID(), Event: event, Header: http.Header{}}
	m.Body = forge.JSON(object{"id": m.ID, "eventType": event, "publisherId": "tfs", "resource": resource, "resourceVersion": "1.0"})
	m.Header.Set("Content-Type", "application/json; charset=utf-8")
	m.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("holdfast:"+r.SigningSecret())))
	return []forge.Message{m}
}
