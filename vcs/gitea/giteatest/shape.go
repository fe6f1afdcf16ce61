package giteatest

import (
	"fmt"
	"time"

	"holdfast/vcs/vcstest/gittest"
)

// object is a JSON object. The fields are those that Gitea 1.26 sends and
// something might read.
type object = map[string]any

const zeroSHA = "0000000000000000000000000000000000000000"

func (s *Server) userJSON(login string) object {
	u := s.users[login]
	if u == nil {
		u = &user{id: -1, login: "Ghost"}
	}
	return object{
		"id": u.id, "login": u.login, "login_name": "", "source_id": 0, "full_name": "",
		"email":      fmt.Sprintf("%d+%s@noreply.localhost", u.id, u.login),
		"avatar_url": s.cfg.PublicURL + "/avatars/" + u.login, "html_url": s.cfg.PublicURL + "/" + u.login,
		"language": "", "is_admin": false, "last_login": "0001-01-01T00:00:00Z", "created": "2026-01-01T00:00:00Z",
		"restricted": false, "active": true, "prohibit_login": false, "location": "", "website": "", "description": "",
		"visibility": "public", "followers_count": 0, "following_count": 0, "starred_repos_count": 0, "username": u.login,
	}
}

func (r *Repository) json() object {
	path := r.Owner + "/" + r.Name
	open := 0
	for _, p := range r.pulls {
		if p.state == "open" {
			open++
		}
	}
	return object{
		"id": r.id, "owner": r.s.userJSON(r.Owner), "name": r.Name, "full_name": path, "description": "",
		"empty": false, "private": false, "fork": r.forkOf != nil, "template": false, "mirror": false, "size": 24, "language": "",
		"languages_url": r.s.cfg.PublicURL + "/api/v1/repos/" + path + "/languages",
		"html_url":      r.s.cfg.PublicURL + "/" + path, "url": r.s.cfg.PublicURL + "/api/v1/repos/" + path, "link": "",
		"ssh_url": "git@localhost:" + path + ".git", "clone_url": r.s.cfg.PublicURL + "/" + path + ".git",
		"original_url": "", "website": "", "stars_count": 0, "forks_count": 0, "watchers_count": 1,
		"open_issues_count": 0, "open_pr_counter": open, "release_counter": 0,
		"default_branch": gittest.DefaultBranch, "archived": false,
		"created_at": stamp(r.created), "updated_at": stamp(r.created), "archived_at": "1970-01-01T00:00:00Z",
		"permissions": object{"admin": true, "push": true, "pull": true},
		"has_code":    true, "has_issues": true, "has_wiki": true, "has_pull_requests": true, "has_projects": true,
		"has_releases": true, "has_packages": true, "has_actions": true,
		"allow_merge_commits": true, "allow_rebase": true, "allow_rebase_explicit": true, "allow_squash_merge": true,
		"allow_fast_forward_only_merge": true, "default_delete_branch_after_merge": false, "default_merge_style": "merge",
		"avatar_url": "", "internal": false, "object_format_name": "sha1", "topics": []string{}, "licenses": []string{},
	}
}

func (r *Repository) pullJSON(p *pull) object {
	url := fmt.Sprintf("%s/%s/%s/pulls/%d", r.s.cfg.PublicURL, r.Owner, r.Name, p.number)
	sha := r.pullRef(p)
	baseSHA := p.baseSHA
	if baseSHA == "" {
		baseSHA, _ = r.Git.Repo.Head(p.base)
	}
	mergeBase, _ := r.Git.MergeBase(sha, baseSHA)
	ref := p.head
	if _, err := p.headRepo.Git.Repo.Head(p.head); err != nil {
		ref = fmt.Sprintf("refs/pull/%d/head", p.number) // the branch is gone
	}
	j := object{
		"id": p.id, "url": url, "number": p.number, "user": r.s.userJSON(p.author), "title": p.title, "body": p.body,
		"labels": []object{}, "milestone": nil, "assignee": nil, "assignees": []object{},
		"requested_reviewers": []object{}, "requested_reviewers_teams": []object{},
		"state": p.state, "draft": p.draft(), "is_locked": false, "comments": len(p.comments),
		"html_url": url, "diff_url": url + ".diff", "patch_url": url + ".patch",
		"mergeable": r.canMerge(p), "merged": p.merged, "merged_at": nil, "merge_commit_sha": nil, "merged_by": nil,
		"allow_maintainer_edit": true,
		"base":                  branchJSON(p.base, p.base, baseSHA, r),
		"head":                  branchJSON(p.head, ref, sha, p.headRepo),
		"merge_base":            mergeBase, "due_date": nil,
		"created_at": stamp(p.created), "updated_at": stamp(p.updated), "closed_at": nil,
		"pin_order": 0, "content_version": 0,
	}
	if p.merged {
		j["merged_at"], j["merge_commit_sha"], j["merged_by"] = stamp(p.closed), p.mergeSHA, r.s.userJSON(p.mergedBy)
	}
	if p.state == "closed" {
		j["closed_at"] = stamp(p.closed)
	}
	return j
}

func branchJSON(label, ref, sha string, r *Repository) object {
	return object{"label": label, "ref": ref, "sha": sha, "repo_id": r.id, "repo": r.json()}
}

func (r *Repository) commentJSON(p *pull, c *comment) object {
	url := fmt.Sprintf("%s/%s/%s/pulls/%d", r.s.cfg.PublicURL, r.Owner, r.Name, p.number)
	return object{
		"id": c.id, "html_url": fmt.Sprintf("%s#issuecomment-%d", url, c.id), "pull_request_url": url, "issue_url": "",
		"user": r.s.userJSON(c.author), "original_author": "", "original_author_id": 0, "body": c.body, "assets": []object{},
		"created_at": stamp(c.created), "updated_at": stamp(c.updated),
	}
}

func (r *Repository) reviewJSON(p *pull, v *review) object {
	url := fmt.Sprintf("%s/%s/%s/pulls/%d", r.s.cfg.PublicURL, r.Owner, r.Name, p.number)
	return object{
		"id": v.id, "user": r.s.userJSON(v.author), "team": nil, "state": v.state, "body": v.body, "commit_id": v.commit,
		"stale": v.stale, "official": r.permission(v.author) != "read", "dismissed": v.dismissed, "comments_count": 0,
		"submitted_at": stamp(v.at), "updated_at": stamp(v.at),
		"html_url": fmt.Sprintf("%s#issuecomment-%d", url, v.id), "pull_request_url": url,
	}
}

func (r *Repository) statusJSON(sha string, st status) object {
	return object{
		"id": st.id, "status": st.state, "target_url": st.target, "description": st.text,
		"url":     fmt.Sprintf("%s/api/v1/repos/%s/%s/statuses/%s", r.s.cfg.PublicURL, r.Owner, r.Name, sha),
		"context": st.context, "creator": r.s.userJSON(st.author),
		"created_at": stamp(st.at), "updated_at": stamp(st.at),
	}
}

func (r *Repository) pushJSON(login string, u gittest.Update) object {
	old := u.Old
	if old == "" {
		old = zeroSHA
	}
	commit := object{
		"id": u.New, "message": "change", "url": fmt.Sprintf("%s/%s/%s/commit/%s", r.s.cfg.PublicURL, r.Owner, r.Name, u.New),
		"author":       object{"name": login, "email": login + "@example.com", "username": login},
		"committer":    object{"name": login, "email": login + "@example.com", "username": login},
		"verification": nil, "timestamp": stamp(r.s.cfg.Now()), "added": []string{}, "removed": []string{}, "modified": []string{},
	}
	return object{
		"ref": u.Ref, "before": old, "after": u.New, "compare_url": r.s.cfg.PublicURL + "/",
		"commits": []object{commit}, "total_commits": 1, "head_commit": commit,
		"repository": r.json(), "pusher": r.s.userJSON(login), "sender": r.s.userJSON(login),
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

func (r *Repository) notifyPull(p *pull, action, eventType, login string, review object) {
	body := object{
		"action": action, "number": p.number, "pull_request": r.pullJSON(p), "requested_reviewer": nil,
		"repository": r.json(), "sender": r.s.userJSON(login), "commit_id": "", "review": nil,
	}
	if review != nil {
		body["review"] = review
	}
	r.notify(eventOf(eventType), eventType, body)
}

func (r *Repository) notifyComment(p *pull, c *comment, action, login string) {
	pr := r.pullJSON(p)
	r.notify("issue_comment", "pull_request_comment", object{
		"action": action,
		"issue": object{
			"id": p.id, "number": p.number, "url": fmt.Sprintf("%s/api/v1/repos/%s/%s/issues/%d", r.s.cfg.PublicURL, r.Owner, r.Name, p.number),
			"html_url": pr["html_url"], "user": pr["user"], "title": p.title, "body": p.body, "ref": "", "state": p.state,
			"comments": len(p.comments), "created_at": stamp(p.created), "updated_at": stamp(p.updated),
			"pull_request": object{"merged": p.merged, "merged_at": pr["merged_at"], "draft": p.draft(), "html_url": pr["html_url"]},
			"repository":   object{"id": r.id, "name": r.Name, "owner": r.Owner, "full_name": r.Owner + "/" + r.Name},
		},
		"pull_request": pr, "comment": r.commentJSON(p, c),
		"repository": r.json(), "sender": r.s.userJSON(login), "is_pull": true,
	})
}

// stamp is a time as Gitea writes it: whole seconds.
func stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }
