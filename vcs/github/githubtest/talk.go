package githubtest

import (
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"

	"holdfast/vcs/vcstest/forge"
)

func listComments(r *forge.Request) (int, any, error) {
	if i, err := issueAt(r); i != nil || err != nil {
		return listIssueComments(r, i, err)
	}
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	out := []object{}
	for _, c := range page(r, p.Comments) {
		out = append(out, comment(r.Repo, p, c))
	}
	return http.StatusOK, out, nil
}

// allComments are those of all pull requests and issues, and of one more issue.
func allComments(r *forge.Request) (int, any, error) {
	all := []object{}
	for _, p := range r.Repo.Sorted() {
		for _, c := range p.Comments {
			if !c.Updated.Before(r.Since("since")) {
				all = append(all, comment(r.Repo, p, c))
			}
		}
	}
	for _, i := range r.Repo.SortedIssues() {
		for _, c := range i.Comments {
			if !c.Updated.Before(r.Since("since")) {
				all = append(all, issueComment(r.Repo, i, c))
			}
		}
	}
	all = append(all, object{
		"id": 1, "html_url": r.Server.PublicURL + "/" + r.Repo.Path() + "/issues/9999#issuecomment-1", "user": user(r.Server, r.Repo.Owner),
		"body": "holdfast plan", "created_at": stamp(r.Server.Now()), "updated_at": stamp(r.Server.Now()),
	})
	if r.Server.Extra["noIssues"] != nil {
		all = all[:len(all)-1]
	}
	slices.SortStableFunc(all, func(a, b object) int {
		x, y := a["created_at"].(string), b["created_at"].(string)
		switch {
		case x == y:
			return 0
		case (x < y) == (r.Query("direction") != "desc"):
			return -1
		}
		return 1
	})
	return http.StatusOK, page(r, all), nil
}

func body(r *forge.Request) (string, error) {
	var in struct {
		Body string `json:"body"`
	}
	if err := r.Read(&in); err != nil {
		return "", err
	}
	switch {
	case in.Body == "":
		return "", invalid("Validation Failed: body can't be blank")
	case len([]rune(in.Body)) > 65536:
		return "", invalid("Validation Failed: Body is too long (maximum is 65536 characters)")
	}
	return in.Body, need(r, "issues")
}

func createComment(r *forge.Request) (int, any, error) {
	if i, err := issueAt(r); i != nil || err != nil {
		return createIssueComment(r, i, err)
	}
	p, err := r.Pull("n")
	if err != nil {
		return 0, nil, err
	}
	text, err := body(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, comment(r.Repo, p, r.Repo.AddComment(p, r.User.Login, text)), nil
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
	return http.StatusOK, comment(r.Repo, p, c), nil
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
	status, key := http.StatusCreated, r.User.Login+":"+in.Content
	if c.Reactions[key] {
		status = http.StatusOK
	}
	c.Reactions[key] = true
	return status, object{"id": 1, "content": in.Content, "user": user(r.Server, r.User.Login)}, nil
}

func commit(r *forge.Request, sha string) error {
	if b, err := hex.DecodeString(sha); err != nil || len(b) != 20 {
		return invalid("No commit found for SHA: " + sha)
	}
	return nil
}

func createStatus(r *forge.Request) (int, any, error) {
	sha := r.PathValue("sha")
	var in struct {
		State       string `json:"state"`
		Context     string `json:"context"`
		Description string `json:"description"`
		TargetURL   string `json:"target_url"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if err := need(r, "statuses"); err != nil {
		return 0, nil, err
	}
	switch {
	case commit(r, sha) != nil:
		return 0, nil, commit(r, sha)
	case !slices.Contains([]string{"pending", "success", "error", "failure"}, in.State):
		return 0, nil, invalid("Validation Failed: state")
	case len([]rune(in.Description)) > 140:
		return 0, nil, invalid("Validation Failed: description is too long (maximum is 140 characters)")
	}
	st := forge.StatusEntry{ID: r.Server.NextID(), Author: r.User.Login, At: r.Server.Now(), State: in.State, Context: in.Context, Text: in.Description, Target: in.TargetURL}
	r.Repo.StatusesOf[sha] = append(r.Repo.StatusesOf[sha], st)
	return http.StatusCreated, status(r.Repo, st), nil
}

func combined(r *forge.Request) (int, any, error) {
	latest := map[string]forge.StatusEntry{}
	var names []string
	for _, st := range r.Repo.StatusesOf[r.PathValue("sha")] {
		if _, ok := latest[st.Context]; !ok {
			names = append(names, st.Context)
		}
		latest[st.Context] = st
	}
	out := []object{}
	for _, name := range page(r, names) {
		out = append(out, status(r.Repo, latest[name]))
	}
	return http.StatusOK, object{"state": "success", "statuses": out, "sha": r.PathValue("sha"), "total_count": len(names)}, nil
}

func listRuns(r *forge.Request) (int, any, error) {
	if err := need(r, "checks"); err != nil {
		return 0, nil, err
	}
	var all []*Run
	for _, run := range runsOf(r.Repo) {
		if run.SHA == r.PathValue("sha") && (r.Query("check_name") == "" || run.Name == r.Query("check_name")) && r.Query("app_id") == strconv.Itoa(AppID) {
			all = append(all, run)
		}
	}
	out := []object{}
	for _, run := range page(r, all) {
		out = append(out, checkRun(r.Repo, run))
	}
	return http.StatusOK, object{"total_count": len(all), "check_runs": out}, nil
}

type runInput struct {
	Name       string `json:"name"`
	HeadSHA    string `json:"head_sha"`
	URL        string `json:"details_url"`
	Status     string `json:"status"`
	Conclusion string `json:"conclusion"`
	Output     *struct {
		Title       string       `json:"title"`
		Summary     string       `json:"summary"`
		Annotations []Annotation `json:"annotations"`
	} `json:"output"`
}

// put is what creating and editing have in common, with GitHub's limits.
func (in runInput) put(r *forge.Request, run *Run) error {
	if in.Name == "" {
		return invalid("Invalid request.\n\n\"name\" wasn't supplied.")
	}
	run.Name, run.Status, run.Conclusion, run.URL = in.Name, in.Status, in.Conclusion, in.URL
	switch {
	case in.Conclusion != "" && !slices.Contains([]string{"success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required"}, in.Conclusion):
		return invalid("conclusion is none")
	case in.Status == "completed" && in.Conclusion == "":
		return invalid("a completed run needs a conclusion")
	case in.Output == nil:
		return nil
	case in.Output.Title == "" || in.Output.Summary == "" || len([]rune(in.Output.Summary)) > 65535:
		return invalid("output needs a title and a summary of 65535 characters at most")
	case len(in.Output.Annotations) > 50:
		return invalid("No more than 50 annotations")
	}
	for _, a := range in.Output.Annotations {
		if a.Path == "" || a.StartLine <= 0 || a.Message == "" || len(a.Message) > 64<<10 || len(a.Title) > 255 || !slices.Contains([]string{"notice", "warning", "failure"}, a.Level) {
			return invalid("annotation is none")
		}
	}
	run.Title, run.Summary = in.Output.Title, in.Output.Summary
	run.Annotations = append(run.Annotations, in.Output.Annotations...)
	return need(r, "checks")
}

func mustBeBot(r *forge.Request) error {
	if r.User.Login != Bot {
		return &forge.Error{Status: http.StatusForbidden, Message: "You must authenticate via a GitHub App."}
	}
	return need(r, "checks")
}

func createRun(r *forge.Request) (int, any, error) {
	var in runInput
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if err := mustBeBot(r); err != nil {
		return 0, nil, err
	}
	if err := commit(r, in.HeadSHA); err != nil {
		return 0, nil, err
	}
	run := &Run{ID: r.Server.NextID(), SHA: in.HeadSHA}
	if err := in.put(r, run); err != nil {
		return 0, nil, err
	}
	r.Repo.Extra["runs"] = append(runsOf(r.Repo), run)
	return http.StatusCreated, checkRun(r.Repo, run), nil
}

func editRun(r *forge.Request) (int, any, error) {
	var in runInput
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if err := mustBeBot(r); err != nil {
		return 0, nil, err
	}
	for _, run := range runsOf(r.Repo) {
		if run.ID == int64(r.Number("id")) {
			run.Edits++
			return http.StatusOK, checkRun(r.Repo, run), in.put(r, run)
		}
	}
	return 0, nil, forge.NotFound()
}

func createDeployment(r *forge.Request) (int, any, error) {
	var in struct {
		Ref              string    `json:"ref"`
		Environment      string    `json:"environment"`
		Description      string    `json:"description"`
		AutoMerge        *bool     `json:"auto_merge"`
		RequiredContexts *[]string `json:"required_contexts"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if err := need(r, "deployments"); err != nil {
		return 0, nil, err
	}
	if in.AutoMerge == nil || *in.AutoMerge || in.RequiredContexts == nil || len(*in.RequiredContexts) > 0 {
		return 0, nil, &forge.Error{Status: http.StatusConflict, Message: "Conflict: Commit status checks failed for " + in.Ref}
	}
	if len([]rune(in.Description)) > 140 {
		return 0, nil, invalid("description is too long (maximum is 140 characters)")
	}
	d := &Deployment{ID: r.Server.NextID(), SHA: in.Ref, Environment: in.Environment}
	r.Repo.Extra["deployments"] = append(deploymentsOf(r.Repo), d)
	return http.StatusCreated, object{"id": d.ID, "sha": d.SHA, "ref": in.Ref, "environment": d.Environment}, nil
}

func deploymentStatus(r *forge.Request) (int, any, error) {
	var in struct {
		State       string `json:"state"`
		Description string `json:"description"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if !slices.Contains([]string{"error", "failure", "inactive", "in_progress", "queued", "pending", "success"}, in.State) || len([]rune(in.Description)) > 140 {
		return 0, nil, invalid("state or description")
	}
	for _, d := range deploymentsOf(r.Repo) {
		if d.ID == int64(r.Number("id")) {
			d.States = append(d.States, in.State)
			return http.StatusCreated, object{"id": r.Server.NextID(), "state": in.State}, nil
		}
	}
	return 0, nil, forge.NotFound()
}

func hookJSON(r *forge.Repository) object {
	return object{
		"id": r.ID, "name": "web", "type": "Repository", "active": r.Extra["inactive"] == nil, "events": r.HookEvents,
		"config": object{"url": r.HookURL, "content_type": "json", "insecure_ssl": "0", "secret": "********"},
	}
}

func listHooks(r *forge.Request) (int, any, error) {
	out := []object{}
	if r.Repo.HookURL != "" {
		out = append(out, hookJSON(r.Repo))
	}
	return http.StatusOK, page(r, out), need(r, "repository_hooks")
}

func createHook(r *forge.Request) (int, any, error) { return setHook(r, http.StatusCreated) }

func editHook(r *forge.Request) (int, any, error) {
	if r.Repo.ID != int64(r.Number("id")) {
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
	if err := need(r, "repository_hooks"); err != nil {
		return 0, nil, err
	}
	r.Repo.HookURL, r.Repo.HookSecret, r.Repo.HookEvents = in.Config.URL, in.Config.Secret, in.Events
	delete(r.Repo.Extra, "inactive")
	if !in.Active {
		r.Repo.Extra["inactive"] = true
	}
	return status, hookJSON(r.Repo), nil
}
