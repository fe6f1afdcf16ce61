package githubtest

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/gittest"
)

const zeroSHA = "0000000000000000000000000000000000000000"

// stamp is a time as GitHub writes it: whole seconds.
func stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

func user(s *forge.Server, login string) object {
	u := s.Users[login]
	if u == nil {
		u = &forge.User{Login: login}
	}
	kind := "User"
	if strings.HasSuffix(login, "[bot]") {
		kind = "Bot"
	}
	return object{"login": login, "id": u.ID, "type": kind, "site_admin": false, "html_url": s.PublicURL + "/" + login}
}

func repository(r *forge.Repository) object {
	return object{
		"id": r.ID, "name": r.Name, "full_name": r.Path(), "owner": user(r.Server, r.Owner), "private": true, "fork": r.ForkOf != nil,
		"html_url": r.Server.PublicURL + "/" + r.Path(), "url": r.Server.URL + "/api/v3/repos/" + r.Path(),
		"clone_url": r.Server.PublicURL + "/" + r.Path() + ".git", "default_branch": gittest.DefaultBranch, "archived": r.Archived, "disabled": false, "has_issues": !r.NoIssues,
		"permissions": object{"admin": true, "maintain": true, "push": true, "triage": true, "pull": true},
		"created_at":  stamp(r.Created), "visibility": "private",
	}
}

func branch(r *forge.Repository, name, sha string) object {
	return object{"label": r.Owner + ":" + name, "ref": name, "sha": sha, "user": user(r.Server, r.Owner), "repo": repository(r)}
}

func pull(r *forge.Repository, p *forge.PullRequest) object {
	base := p.BaseSHA
	if base == "" {
		base, _ = r.Git.Repo.Head(p.Base)
	}
	state, mergeable := "clean", r.NoConflict(p)
	if p.Mergeable != nil {
		mergeable = *p.Mergeable
	}
	switch {
	case p.State != "open":
		state = "unknown"
	case p.Draft:
		state = "draft"
	case !mergeable:
		state = "dirty"
	case r.Extra["blocked"] != nil:
		state = "blocked"
	}
	j := object{
		"id": p.ID, "number": p.Number, "state": p.State, "locked": false, "title": p.Title, "body": p.Body, "user": user(r.Server, p.Author),
		"html_url": fmt.Sprintf("%s/%s/pull/%d", r.Server.PublicURL, r.Path(), p.Number), "draft": p.Draft,
		"created_at": stamp(p.Created), "updated_at": stamp(p.Updated), "closed_at": nil, "merged_at": nil,
		"merge_commit_sha": r.HeadSHA(p), // of the test merge, which no branch has
		"head":             branch(p.HeadRepo, p.Head, r.HeadSHA(p)), "base": branch(r, p.Base, base),
		"merged": p.Merged, "mergeable": mergeable, "mergeable_state": state, "merged_by": nil, "comments": len(p.Comments),
	}
	if p.State != "open" {
		j["closed_at"], j["mergeable"] = stamp(p.Closed), nil
	}
	if p.Merged {
		j["merged_at"], j["merge_commit_sha"], j["merged_by"] = stamp(p.Closed), p.MergeSHA, user(r.Server, p.MergedBy)
	}
	return j
}

func comment(r *forge.Repository, p *forge.PullRequest, c *forge.Comment) object {
	return object{
		"id": c.ID, "html_url": fmt.Sprintf("%s/%s/pull/%d#issuecomment-%d", r.Server.PublicURL, r.Path(), p.Number, c.ID),
		"issue_url": fmt.Sprintf("%s/api/v3/repos/%s/issues/%d", r.Server.PublicURL, r.Path(), p.Number), "user": user(r.Server, c.Author),
		"body": c.Body, "created_at": stamp(c.Created), "updated_at": stamp(c.Updated), "author_association": "MEMBER",
	}
}

func issue(r *forge.Repository, i *forge.Issue) object {
	labels := []object{}
	for _, l := range i.Labels {
		labels = append(labels, object{"id": r.LabelID(l, false), "name": l, "color": "ededed", "default": false})
	}
	j := object{
		"id": i.ID, "number": i.Number, "state": i.State, "locked": false, "title": i.Title, "body": i.Body, "user": user(r.Server, i.Author), "labels": labels,
		"html_url": fmt.Sprintf("%s/%s/issues/%d", r.Server.PublicURL, r.Path(), i.Number), "comments": len(i.Comments),
		"created_at": stamp(i.Created), "updated_at": stamp(i.Updated), "closed_at": nil, "state_reason": nil,
	}
	if i.State != "open" {
		j["closed_at"], j["state_reason"] = stamp(i.Closed), "completed"
	}
	return j
}

// pullIssue is a pull request as an issue.
func pullIssue(r *forge.Repository, p *forge.PullRequest) object {
	at := fmt.Sprintf("%s/%s/pull/%d", r.Server.PublicURL, r.Path(), p.Number)
	return object{
		"id": p.ID, "number": p.Number, "state": p.State, "title": p.Title, "body": p.Body, "user": user(r.Server, p.Author), "labels": []object{},
		"html_url": at, "pull_request": object{"html_url": at, "merged_at": nil}, "created_at": stamp(p.Created), "updated_at": stamp(p.Updated),
	}
}

func issueComment(r *forge.Repository, i *forge.Issue, c *forge.Comment) object {
	return object{
		"id": c.ID, "html_url": fmt.Sprintf("%s/%s/issues/%d#issuecomment-%d", r.Server.PublicURL, r.Path(), i.Number, c.ID),
		"issue_url": fmt.Sprintf("%s/api/v3/repos/%s/issues/%d", r.Server.PublicURL, r.Path(), i.Number), "user": user(r.Server, c.Author),
		"body": c.Body, "created_at": stamp(c.Created), "updated_at": stamp(c.Updated), "author_association": "MEMBER",
	}
}

func review(r *forge.Repository, p *forge.PullRequest, v *forge.Review) object {
	state := map[string]string{"APPROVED": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED", "PENDING": "PENDING"}[v.State]
	if v.Dismissed && state != "COMMENTED" {
		state = "DISMISSED"
	}
	return object{
		"id": v.ID, "user": user(r.Server, v.Author), "body": v.Body, "state": state, "commit_id": v.Commit, "submitted_at": stamp(v.At),
		"html_url": fmt.Sprintf("%s/%s/pull/%d#pullrequestreview-%d", r.Server.PublicURL, r.Path(), p.Number, v.ID),
	}
}

func status(r *forge.Repository, st forge.StatusEntry) object {
	return object{
		"id": st.ID, "state": st.State, "context": st.Context, "description": st.Text, "target_url": st.Target,
		"creator": user(r.Server, st.Author), "created_at": stamp(st.At), "updated_at": stamp(st.At),
	}
}

func checkRun(r *forge.Repository, run *Run) object {
	j := object{
		"id": run.ID, "name": run.Name, "head_sha": run.SHA, "status": run.Status, "conclusion": nil, "details_url": run.URL, "external_id": run.Name,
		"app":    object{"id": AppID, "slug": strings.TrimSuffix(Bot, "[bot]")},
		"output": object{"title": run.Title, "summary": run.Summary, "annotations_count": len(run.Annotations)}, "pull_requests": []object{},
	}
	if run.Conclusion != "" {
		j["conclusion"] = run.Conclusion
	}
	return j
}

// hooks are the webhooks that GitHub sends after an action.
func hooks(r *forge.Repository, a forge.Action) []forge.Message {
	body := object{"repository": repository(r), "sender": user(r.Server, a.Login), "installation": object{"id": 1}}
	if a.Pull != nil {
		body["number"] = a.Pull.Number
	}
	switch a.Kind {
	case forge.ActionPush, forge.ActionDelete:
		before, after := a.Update.Old, a.Update.New
		if before == "" {
			before = zeroSHA
		}
		if after == "" {
			after = zeroSHA
		}
		body["ref"], body["before"], body["after"] = "refs/heads/"+a.Branch, before, after
		body["created"], body["deleted"], body["forced"] = before == zeroSHA, after == zeroSHA, false
		body["pusher"] = object{"name": a.Login, "email": a.Login + "@example.com"}
		delete(body, "number")
		return message(r, "push", body)
	case forge.ActionCreate:
		body["ref"], body["ref_type"], body["master_branch"] = a.Branch, "branch", gittest.DefaultBranch
		return message(r, "create", body)
	case forge.ActionPull:
		body["action"] = map[string]string{"synchronized": "synchronize", "draft": "converted_to_draft", "ready": "ready_for_review"}[a.Name]
		if body["action"] == "" {
			body["action"] = a.Name
		}
		body["pull_request"] = pull(r, a.Pull)
		if a.Before != "" {
			body["before"], body["after"] = a.Before, r.HeadSHA(a.Pull)
		}
		return message(r, "pull_request", body)
	case forge.ActionComment:
		body["action"], body["comment"] = a.Name, comment(r, a.Pull, a.Comment)
		body["issue"] = object{"id": a.Pull.ID, "number": a.Pull.Number, "state": a.Pull.State, "title": a.Pull.Title, "user": user(r.Server, a.Pull.Author),
			"pull_request": object{"html_url": fmt.Sprintf("%s/%s/pull/%d", r.Server.PublicURL, r.Path(), a.Pull.Number), "merged_at": nil}}
		delete(body, "number")
		return message(r, "issue_comment", body)
	case forge.ActionIssueComment:
		body["action"], body["comment"], body["issue"] = a.Name, issueComment(r, a.Issue, a.Comment), issue(r, a.Issue)
		return message(r, "issue_comment", body)
	case forge.ActionIssue:
		body["action"], body["issue"] = a.Name, issue(r, a.Issue)
		return message(r, "issues", body)
	case forge.ActionReview:
		v := review(r, a.Pull, a.Review)
		v["state"] = strings.ToLower(v["state"].(string)) // as the webhooks have it
		body["action"], body["review"], body["pull_request"] = a.Name, v, pull(r, a.Pull)
		delete(body, "number")
		return message(r, "pull_request_review", body)
	case actionRerun:
		body["action"] = "rerequested"
		body["check_run"] = object{"id": 1, "name": a.Name, "head_sha": a.Update.New, "status": "completed", "pull_requests": []object{}}
		return message(r, "check_run", body)
	case forge.ActionQueue:
		delete(body, "number")
		body["action"] = a.Name
		body["merge_group"] = object{"head_sha": a.Update.New, "head_ref": a.Update.Ref, "base_sha": a.Update.Old, "base_ref": "refs/heads/" + gittest.DefaultBranch,
			"head_commit": object{"id": a.Update.New, "message": "Merge pull request"}}
		return message(r, "merge_group", body)
	}
	return nil
}

// message makes a signed webhook.
func message(r *forge.Repository, event string, body object) []forge.Message {
	m := forge.Message{ID: forge.NewID(), Event: event, Body: forge.JSON(body), Header: http.Header{}}
	m.Header.Set("Content-Type", "application/json")
	m.Header.Set("X-GitHub-Event", event)
	m.Header.Set("X-GitHub-Delivery", m.ID)
	m.Header.Set("X-Hub-Signature-256", "sha256="+forge.MAC(r.SigningSecret(), m.Body))
	return []forge.Message{m}
}
