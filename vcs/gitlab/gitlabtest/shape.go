package gitlabtest

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/gittest"
)

const zeroSHA = "0000000000000000000000000000000000000000"

// stamp is a time as GitLab's API writes it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// hookStamp is a time as its webhooks write it.
func hookStamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func user(s *forge.Server, login string) object {
	id := int64(0)
	if u := s.Users[login]; u != nil {
		id = u.ID
	}
	return object{"id": id, "username": login, "name": login, "state": "active", "web_url": s.PublicURL + "/" + login}
}

func project(r *forge.Repository) object {
	return object{
		"id": r.ID, "name": r.Name, "path": r.Name, "path_with_namespace": r.Path(), "web_url": r.Server.PublicURL + "/" + r.Path(),
		"http_url_to_repo": r.Server.PublicURL + "/" + r.Path() + ".git", "default_branch": gittest.DefaultBranch, "archived": r.Archived,
		"merge_method": "merge", "issues_access_level": access(!r.NoIssues), "issues_enabled": !r.NoIssues, "merge_trains_enabled": r.Extra["train"] != nil, "visibility": "private",
		"permissions": object{"project_access": object{"access_level": 40}, "group_access": nil},
	}
}

func access(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

func stateOf(p *forge.PullRequest) string {
	switch {
	case p.Merged:
		return "merged"
	case p.State == "open":
		return "opened"
	}
	return "closed"
}

func mergeRequest(r *forge.Repository, p *forge.PullRequest) object {
	conflict := p.State == "open" && !r.NoConflict(p)
	detailed := "mergeable"
	switch {
	case p.State != "open":
		detailed = "not_open"
	case p.Draft:
		detailed = "draft_status"
	case conflict:
		detailed = "conflict"
	case p.Mergeable != nil && !*p.Mergeable:
		detailed = "checking"
	}
	j := object{
		"id": p.ID, "iid": p.Number, "project_id": r.ID, "title": p.Title, "description": p.Body, "state": stateOf(p), "author": user(r.Server, p.Author),
		"source_branch": p.Head, "target_branch": p.Base, "source_project_id": p.HeadRepo.ID, "target_project_id": r.ID,
		"draft": p.Draft, "work_in_progress": p.Draft, "sha": r.HeadSHA(p), "merge_commit_sha": nil, "squash_commit_sha": nil,
		"has_conflicts": conflict, "detailed_merge_status": detailed, "merge_status": "can_be_merged", "user_notes_count": len(p.Comments),
		"web_url":    fmt.Sprintf("%s/%s/-/merge_requests/%d", r.Server.PublicURL, r.Path(), p.Number),
		"created_at": stamp(p.Created), "updated_at": stamp(p.Updated), "merged_at": nil, "closed_at": nil,
	}
	switch {
	case p.Merged:
		j["merged_at"] = stamp(p.Closed)
		switch p.Method {
		case "rebase": // of the branch itself, and a fast-forward
			j["sha"] = p.MergeSHA
		case "squash": // and a fast-forward
			j["squash_commit_sha"] = p.MergeSHA
		default:
			j["merge_commit_sha"] = p.MergeSHA
		}
	case p.State != "open":
		j["closed_at"] = stamp(p.Closed)
	}
	return j
}

func note(r *forge.Repository, p *forge.PullRequest, c *forge.Comment) object {
	return object{
		"id": c.ID, "type": nil, "body": c.Body, "author": user(r.Server, c.Author), "system": false, "noteable_type": "MergeRequest", "noteable_iid": p.Number,
		"created_at": stamp(c.Created), "updated_at": stamp(c.Updated),
	}
}

func issueState(i *forge.Issue) string {
	if i.State == "open" {
		return "opened"
	}
	return "closed"
}

func issue(r *forge.Repository, i *forge.Issue) object {
	j := object{
		"id": i.ID, "iid": i.Number, "project_id": r.ID, "title": i.Title, "description": i.Body, "state": issueState(i), "labels": append([]string{}, i.Labels...),
		"author": user(r.Server, i.Author), "user_notes_count": len(i.Comments), "issue_type": "issue", "confidential": false,
		"web_url":    fmt.Sprintf("%s/%s/-/issues/%d", r.Server.PublicURL, r.Path(), i.Number),
		"created_at": stamp(i.Created), "updated_at": stamp(i.Updated), "closed_at": nil,
	}
	if i.State != "open" {
		j["closed_at"] = stamp(i.Closed)
	}
	return j
}

func issueNote(r *forge.Repository, i *forge.Issue, c *forge.Comment) object {
	return object{
		"id": c.ID, "type": nil, "body": c.Body, "author": user(r.Server, c.Author), "system": false, "noteable_type": "Issue", "noteable_iid": i.Number,
		"created_at": stamp(c.Created), "updated_at": stamp(c.Updated),
	}
}

func status(s *forge.Server, sha string, st forge.StatusEntry) object {
	return object{
		"id": st.ID, "sha": sha, "status": st.State, "name": st.Context, "description": st.Text, "target_url": st.Target, "author": user(s, st.Author), "created_at": stamp(st.At),
	}
}

func hook(r *forge.Repository) object {
	has := func(name string) bool { return slices.Contains(r.HookEvents, name) }
	return object{"id": r.ID, "url": r.HookURL, "push_events": has("push"), "merge_requests_events": has("merge"), "issues_events": has("issues"), "note_events": has("note"), "alert_status": "executable"}
}

// hooks are the webhooks that GitLab sends after an action.
func hooks(r *forge.Repository, a forge.Action) []forge.Message {
	body := object{
		"user": user(r.Server, a.Login), "project": project(r), "repository": object{"name": r.Name, "homepage": r.Server.PublicURL + "/" + r.Path()},
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
		delete(body, "user")
		body["object_kind"], body["event_name"], body["user_username"] = "push", "push", a.Login
		body["ref"], body["before"], body["after"] = a.Update.Ref, before, after
		return message(r, "Push Hook", body)
	case forge.ActionPull, forge.ActionReview:
		action := map[string]string{"opened": "open", "edited": "update", "synchronized": "update", "draft": "update", "ready": "update", "closed": "close", "reopened": "reopen"}[a.Name]
		if a.Kind == forge.ActionReview {
			action = map[string]string{"APPROVED": "approved", "REQUEST_CHANGES": "update"}[a.Review.State]
			if a.Name == "dismissed" {
				action = "unapproved"
			}
			if action == "" {
				return nil // a comment is a note
			}
		}
		if a.Pull.Merged && action == "close" {
			action = "merge"
		}
		p := a.Pull
		attributes := object{
			"id": p.ID, "iid": p.Number, "title": p.Title, "state": stateOf(p), "action": action, "draft": p.Draft, "work_in_progress": p.Draft,
			"source_branch": p.Head, "target_branch": p.Base, "source_project_id": p.HeadRepo.ID, "target_project_id": r.ID,
			"last_commit": object{"id": r.HeadSHA(p)}, "merge_commit_sha": nil, "created_at": hookStamp(p.Created), "updated_at": hookStamp(p.Updated),
		}
		if a.Before != "" {
			attributes["oldrev"] = a.Before
		}
		body["object_kind"], body["event_type"], body["object_attributes"] = "merge_request", "merge_request", attributes
		return message(r, "Merge Request Hook", body)
	case forge.ActionIssue:
		action := map[string]string{"opened": "open", "edited": "update", "closed": "close", "reopened": "reopen"}[a.Name]
		if action == "" {
			return nil // of a deleted one nothing is told
		}
		i := a.Issue
		body["object_kind"], body["event_type"] = "issue", "issue"
		body["object_attributes"] = object{
			"id": i.ID, "iid": i.Number, "title": i.Title, "description": i.Body, "state": issueState(i), "action": action, "type": "Issue",
			"created_at": hookStamp(i.Created), "updated_at": hookStamp(i.Updated),
		}
		return message(r, "Issue Hook", body)
	case forge.ActionIssueComment:
		c := a.Comment
		body["object_kind"], body["event_type"] = "note", "note"
		body["object_attributes"] = object{
			"id": c.ID, "note": c.Body, "noteable_type": "Issue", "action": "create", "system": false, "created_at": hookStamp(c.Created), "updated_at": hookStamp(c.Updated),
		}
		body["issue"] = object{"id": a.Issue.ID, "iid": a.Issue.Number, "state": issueState(a.Issue), "title": a.Issue.Title}
		return message(r, "Note Hook", body)
	case forge.ActionComment:
		if a.Name == "deleted" {
			return nil
		}
		action := map[string]string{"created": "create", "edited": "update"}[a.Name]
		body["object_kind"], body["event_type"] = "note", "note"
		body["object_attributes"] = object{
			"id": a.Comment.ID, "note": a.Comment.Body, "noteable_type": "MergeRequest", "action": action, "system": false,
			"created_at": hookStamp(a.Comment.Created), "updated_at": hookStamp(a.Comment.Updated),
		}
		body["merge_request"] = object{"id": a.Pull.ID, "iid": a.Pull.Number, "state": stateOf(a.Pull), "title": a.Pull.Title}
		return message(r, "Note Hook", body)
	}
	return nil
}

// message makes a webhook with its token.
func message(r *forge.Repository, event string, body object) []forge.Message {
	m := forge.Message{ID: forge.NewID(), Event: event, Body: forge.JSON(body), Header: http.Header{}}
	m.Header.Set("Content-Type", "application/json")
	m.Header.Set("X-Gitlab-Event", event)
	m.Header.Set("X-Gitlab-Token", r.SigningSecret())
	m.Header.Set("X-Gitlab-Instance", r.Server.PublicURL)
	m.Header.Set("X-Gitlab-Event-UUID", m.ID)
	m.Header.Set("X-Gitlab-Webhook-UUID", m.ID)
	m.Header.Set("Idempotency-Key", m.ID)
	return []forge.Message{m}
}
