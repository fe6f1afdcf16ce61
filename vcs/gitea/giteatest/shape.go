package giteatest

import (
	"fmt"
	"time"

	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/gittest"
)

// object is a JSON object. The fields are those that Gitea 1.26 sends and
// something might read.
type object = forge.Object

const zeroSHA = "0000000000000000000000000000000000000000"

func userJSON(s *Server, login string) object {
	u := s.Users[login]
	if u == nil {
		u = &forge.User{ID: -1, Login: "Ghost"}
	}
	return object{
		"id": u.ID, "login": u.Login, "login_name": "", "source_id": 0, "full_name": "",
		"email":      fmt.Sprintf("%d+%s@noreply.localhost", u.ID, u.Login),
		"avatar_url": s.PublicURL + "/avatars/" + u.Login, "html_url": s.PublicURL + "/" + u.Login,
		"language": "", "is_admin": false, "last_login": "0001-01-01T00:00:00Z", "created": "2026-01-01T00:00:00Z",
		"restricted": false, "active": true, "prohibit_login": false, "location": "", "website": "", "description": "",
		"visibility": "public", "followers_count": 0, "following_count": 0, "starred_repos_count": 0, "username": u.Login,
	}
}

func repoJSON(r *Repository) object {
	path := r.Owner + "/" + r.Name
	open := 0
	for _, p := range r.PullRequests {
		if p.State == "open" {
			open++
		}
	}
	return object{
		"id": r.ID, "owner": userJSON(r.Server, r.Owner), "name": r.Name, "full_name": path, "description": "",
		"empty": false, "private": false, "fork": r.ForkOf != nil, "template": false, "mirror": false, "size": 24, "language": "",
		"languages_url": r.Server.PublicURL + "/api/v1/repos/" + path + "/languages",
		"html_url":      r.Server.PublicURL + "/" + path, "url": r.Server.PublicURL + "/api/v1/repos/" + path, "link": "",
		"ssh_url": "git@localhost:" + path + ".git", "clone_url": r.Server.PublicURL + "/" + path + ".git",
		"original_url": "", "website": "", "stars_count": 0, "forks_count": 0, "watchers_count": 1,
		"open_issues_count": 0, "open_pr_counter": open, "release_counter": 0,
		"default_branch": gittest.DefaultBranch, "archived": r.Archived,
		"created_at": stamp(r.Created), "updated_at": stamp(r.Created), "archived_at": "1970-01-01T00:00:00Z",
		"permissions": object{"admin": true, "push": true, "pull": true},
		"has_code":    true, "has_issues": !r.NoIssues, "has_wiki": true, "has_pull_requests": true, "has_projects": true,
		"has_releases": true, "has_packages": true, "has_actions": true,
		"allow_merge_commits": true, "allow_rebase": true, "allow_rebase_explicit": true, "allow_squash_merge": true,
		"allow_fast_forward_only_merge": true, "default_delete_branch_after_merge": false, "default_merge_style": "merge",
		"avatar_url": "", "internal": false, "object_format_name": "sha1", "topics": []string{}, "licenses": []string{},
	}
}

func pullJSON(r *Repository, p *forge.PullRequest) object {
	url := fmt.Sprintf("%s/%s/%s/pulls/%d", r.Server.PublicURL, r.Owner, r.Name, p.Number)
	sha := r.HeadSHA(p)
	baseSHA := p.BaseSHA
	if baseSHA == "" {
		baseSHA, _ = r.Git.Repo.Head(p.Base)
	}
	mergeBase, _ := r.Git.MergeBase(sha, baseSHA)
	ref := p.Head
	if _, err := p.HeadRepo.Git.Repo.Head(p.Head); err != nil {
		ref = r.PullRef(p) // the branch is gone
	}
	j := object{
		"id": p.ID, "url": url, "number": p.Number, "user": userJSON(r.Server, p.Author), "title": p.Title, "body": p.Body,
		"labels": []object{}, "milestone": nil, "assignee": nil, "assignees": []object{},
		"requested_reviewers": []object{}, "requested_reviewers_teams": []object{},
		"state": p.State, "draft": draft(p), "is_locked": false, "comments": len(p.Comments),
		"html_url": url, "diff_url": url + ".diff", "patch_url": url + ".patch",
		"mergeable": canMerge(r, p), "merged": p.Merged, "merged_at": nil, "merge_commit_sha": nil, "merged_by": nil,
		"allow_maintainer_edit": true,
		"base":                  branchJSON(p.Base, p.Base, baseSHA, r),
		"head":                  branchJSON(p.Head, ref, sha, p.HeadRepo),
		"merge_base":            mergeBase, "due_date": nil,
		"created_at": stamp(p.Created), "updated_at": stamp(p.Updated), "closed_at": nil,
		"pin_order": 0, "content_version": 0,
	}
	if p.Merged {
		j["merged_at"], j["merge_commit_sha"], j["merged_by"] = stamp(p.Closed), p.MergeSHA, userJSON(r.Server, p.MergedBy)
	}
	if p.State == "closed" {
		j["closed_at"] = stamp(p.Closed)
	}
	return j
}

func branchJSON(label, ref, sha string, r *Repository) object {
	return object{"label": label, "ref": ref, "sha": sha, "repo_id": r.ID, "repo": repoJSON(r)}
}

func commentJSON(r *Repository, p *forge.PullRequest, c *forge.Comment) object {
	url := fmt.Sprintf("%s/%s/%s/pulls/%d", r.Server.PublicURL, r.Owner, r.Name, p.Number)
	return object{
		"id": c.ID, "html_url": fmt.Sprintf("%s#issuecomment-%d", url, c.ID), "pull_request_url": url, "issue_url": "",
		"user": userJSON(r.Server, c.Author), "original_author": "", "original_author_id": 0, "body": c.Body, "assets": []object{},
		"created_at": stamp(c.Created), "updated_at": stamp(c.Updated),
	}
}

func reviewJSON(r *Repository, p *forge.PullRequest, v *forge.Review) object {
	url := fmt.Sprintf("%s/%s/%s/pulls/%d", r.Server.PublicURL, r.Owner, r.Name, p.Number)
	return object{
		"id": v.ID, "user": userJSON(r.Server, v.Author), "team": nil, "state": v.State, "body": v.Body, "commit_id": v.Commit,
		"stale": v.Stale, "official": r.Permission(v.Author) != "read", "dismissed": v.Dismissed, "comments_count": 0,
		"submitted_at": stamp(v.At), "updated_at": stamp(v.At),
		"html_url": fmt.Sprintf("%s#issuecomment-%d", url, v.ID), "pull_request_url": url,
	}
}

func statusJSON(r *Repository, sha string, st forge.StatusEntry) object {
	return object{
		"id": st.ID, "status": st.State, "target_url": st.Target, "description": st.Text,
		"url":     fmt.Sprintf("%s/api/v1/repos/%s/%s/statuses/%s", r.Server.PublicURL, r.Owner, r.Name, sha),
		"context": st.Context, "creator": userJSON(r.Server, st.Author),
		"created_at": stamp(st.At), "updated_at": stamp(st.At),
	}
}

func pushJSON(r *Repository, login string, u gittest.Update) object {
	old := u.Old
	if old == "" {
		old = zeroSHA
	}
	commit := object{
		"id": u.New, "message": "change", "url": fmt.Sprintf("%s/%s/%s/commit/%s", r.Server.PublicURL, r.Owner, r.Name, u.New),
		"author":       object{"name": login, "email": login + "@example.com", "username": login},
		"committer":    object{"name": login, "email": login + "@example.com", "username": login},
		"verification": nil, "timestamp": stamp(r.Server.Now()), "added": []string{}, "removed": []string{}, "modified": []string{},
	}
	return object{
		"ref": u.Ref, "before": old, "after": u.New, "compare_url": r.Server.PublicURL + "/",
		"commits": []object{commit}, "total_commits": 1, "head_commit": commit,
		"repository": repoJSON(r), "pusher": userJSON(r.Server, login), "sender": userJSON(r.Server, login),
	}
}

// eventOf is the event's name where its type has one of its own (Gitea's
// HookEventType.Event).
func eventOf(eventType string) string {
	switch eventType {
	case "pull_request_review_approved":
		return "pull_request_approved"
	case "pull_request_review_rejected":
		return "pull_request_rejected"
	case "pull_request_review_comment":
		return "pull_request_comment"
	case "pull_request_comment":
		return "issue_comment"
	case "pull_request_sync":
		return "pull_request"
	default:
		return eventType
	}
}

// hooks are the webhooks that Gitea sends after an action.
func hooks(r *Repository, a forge.Action) []forge.Message {
	switch a.Kind {
	case forge.ActionPush:
		return notify(r, "push", "push", pushJSON(r, a.Login, a.Update))
	case forge.ActionCreate, forge.ActionDelete:
		body := object{
			"ref": a.Branch, "ref_type": "branch", "repository": repoJSON(r), "sender": userJSON(r.Server, a.Login),
		}
		if body["sha"] = a.Update.New; a.Kind == forge.ActionDelete {
			delete(body, "sha")
			body["pusher_type"] = "user"
		}
		return notify(r, a.Kind, a.Kind, body)
	case forge.ActionComment:
		return notify(r, "issue_comment", "pull_request_comment", commentHook(r, a))
	case forge.ActionIssue:
		if a.Name == "deleted" {
			return nil
		}
		return notify(r, "issues", "issues", object{
			"action": a.Name, "number": a.Issue.Number, "issue": issueJSON(r, a.Issue), "repository": repoJSON(r), "sender": userJSON(r.Server, a.Login), "commit_id": "",
		})
	case forge.ActionIssueComment:
		return notify(r, "issue_comment", "issue_comment", object{
			"action": a.Name, "issue": issueJSON(r, a.Issue), "pull_request": nil, "comment": issueCommentJSON(r, a.Issue, a.Comment),
			"repository": repoJSON(r), "sender": userJSON(r.Server, a.Login), "is_pull": false,
		})
	case forge.ActionPull:
		switch a.Name {
		case "synchronized":
			return notifyPull(r, a, a.Name, "pull_request_sync", nil)
		case "draft", "ready":
			return nil // a matter of the title
		}
		return notifyPull(r, a, a.Name, "pull_request", nil)
	case forge.ActionReview:
		word := map[string]string{"APPROVED": "approved", "REQUEST_CHANGES": "rejected", "COMMENT": "comment"}[a.Review.State]
		if word == "" || a.Name != "submitted" {
			return nil
		}
		eventType := "pull_request_review_" + word
		return notifyPull(r, a, "reviewed", eventType, object{"type": eventType, "content": a.Review.Body})
	}
	return nil
}

func notifyPull(r *Repository, a forge.Action, action, eventType string, review object) []forge.Message {
	body := object{
		"action": action, "number": a.Pull.Number, "pull_request": pullJSON(r, a.Pull), "requested_reviewer": nil,
		"repository": repoJSON(r), "sender": userJSON(r.Server, a.Login), "commit_id": "", "review": nil,
	}
	if review != nil {
		body["review"] = review
	}
	return notify(r, eventOf(eventType), eventType, body)
}

func commentHook(r *Repository, a forge.Action) object {
	p, pr := a.Pull, pullJSON(r, a.Pull)
	return object{
		"action": a.Name,
		"issue": object{
			"id": p.ID, "number": p.Number, "url": fmt.Sprintf("%s/api/v1/repos/%s/issues/%d", r.Server.PublicURL, r.Path(), p.Number),
			"html_url": pr["html_url"], "user": pr["user"], "title": p.Title, "body": p.Body, "ref": "", "state": p.State,
			"comments": len(p.Comments), "created_at": stamp(p.Created), "updated_at": stamp(p.Updated),
			"pull_request": object{"merged": p.Merged, "merged_at": pr["merged_at"], "draft": draft(p), "html_url": pr["html_url"]},
			"repository":   object{"id": r.ID, "name": r.Name, "owner": r.Owner, "full_name": r.Path()},
		},
		"pull_request": pr, "comment": commentJSON(r, p, a.Comment),
		"repository": repoJSON(r), "sender": userJSON(r.Server, a.Login), "is_pull": true,
	}
}

// notify makes a signed webhook.
func notify(r *Repository, event, eventType string, body object) []forge.Message {
	m := forge.Message{ID: forge.NewID(), Event: event, Type: eventType, Body: forge.JSON(body)}
	m.Header = Sign(r.SigningSecret(), m.Body)
	m.Header.Set("Content-Type", "application/json")
	for _, prefix := range []string{"X-GitHub", "X-Gitea", "X-Gogs"} {
		m.Header.Set(prefix+"-Delivery", m.ID)
		m.Header.Set(prefix+"-Event", event)
		m.Header.Set(prefix+"-Event-Type", eventType)
	}
	m.Header.Set("X-GitHub-Hook-Installation-Target-Type", "repository")
	m.Header.Set("X-Gitea-Hook-Installation-Target-Type", "repository")
	return []forge.Message{m}
}

// stamp is a time as Gitea writes it: whole seconds.
func stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }
