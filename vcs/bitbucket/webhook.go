package bitbucket

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// payload is what is read of a webhook's body.
type payload struct {
	Actor      account `json:"actor"`
	Repository *struct {
		FullName string `json:"full_name"`
		Links    struct {
			HTML struct {
				Href string `json:"href"`
			} `json:"html"`
		} `json:"links"`
	} `json:"repository"`
	PullRequest *struct {
		ID int64 `json:"id"`
	} `json:"pullrequest"`
	Comment *comment `json:"comment"`
	Push    *struct {
		Changes []struct {
			New, Old *struct {
				Type   string `json:"type"`
				Name   string `json:"name"`
				Target struct {
					Hash string `json:"hash"`
				} `json:"target"`
			}
		} `json:"changes"`
	} `json:"push"`
}

// ParseWebhook verifies and reads a delivery. A push of several branches is one
// event, about main or master where one of them is that, else about the first:
// what else was pushed belongs to pull requests, which have events of their own.
func (h *Host) ParseWebhook(header http.Header, body []byte) (vcs.Event, error) {
	if !transport.ValidMAC(h.cfg.WebhookSecret, header.Get("X-Hub-Signature"), body) {
		return vcs.Event{}, vcs.ErrSignature
	}
	name := header.Get("X-Event-Key")
	e, err := h.parse(name, header, body)
	if err != nil && !errors.Is(err, vcs.ErrIgnored) {
		err = fmt.Errorf("read %s webhook: %w", transport.Printable(name), err)
	}
	if err != nil {
		return vcs.Event{}, err
	}
	return e, nil
}

func (h *Host) parse(name string, header http.Header, body []byte) (vcs.Event, error) {
	if !json.Valid(body) {
		return vcs.Event{}, errors.New("the body is not JSON")
	}
	var of func(*vcs.Event, payload) error
	switch name {
	case "repo:push":
		of = push
	case "pullrequest:comment_created":
		of = commented
	case "pullrequest:created", "pullrequest:updated", "pullrequest:fulfilled", "pullrequest:rejected", "pullrequest:approved", "pullrequest:unapproved",
		"pullrequest:changes_request_created", "pullrequest:changes_request_removed", "pullrequest:push":
		of = pullRequest
	default:
		return vcs.Event{}, transport.Ignored("event %s", transport.Printable(name))
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return vcs.Event{}, err
	}
	e := vcs.Event{Delivery: transport.Delivery(header, body, "X-Request-UUID"), Sender: p.Actor.AccountID}
	if err := of(&e, p); err != nil {
		return vcs.Event{}, err
	}
	if p.Repository == nil {
		return vcs.Event{}, errors.New("it names no repository")
	}
	own, err := url.Parse(h.cfg.URL)
	if err != nil {
		return vcs.Event{}, err
	}
	if u, err := url.Parse(p.Repository.Links.HTML.Href); err == nil && u.Host != "" && !strings.EqualFold(u.Host, own.Host) {
		return vcs.Event{}, transport.Ignored("a repository of another host, %s", transport.Printable(u.Host))
	}
	if strings.Count(p.Repository.FullName, "/") != 1 {
		return vcs.Event{}, fmt.Errorf("repository %q is not OWNER/NAME", transport.Printable(p.Repository.FullName))
	}
	e.Repository, err = vcs.ParseRepository(h.cfg.Name + "/" + p.Repository.FullName)
	return e, err
}

func pullRequest(e *vcs.Event, p payload) error {
	if p.PullRequest == nil {
		return errors.New("it has no pull request")
	}
	e.Kind = vcs.EventPullRequest
	return transport.SetNumber(e, p.PullRequest.ID)
}

func commented(e *vcs.Event, p payload) error {
	if p.Comment == nil || p.Comment.ID <= 0 || p.PullRequest == nil {
		return errors.New("it has no comment on a pull request")
	}
	e.Kind, e.CommentID, e.Comment, e.CommentedAt = vcs.EventComment, p.Comment.ID, p.Comment.Content.Raw, p.Comment.CreatedOn.UTC()
	if p.Comment.User.AccountID != "" {
		e.Sender = p.Comment.User.AccountID
	}
	return transport.SetNumber(e, p.PullRequest.ID)
}

const zeroSHA = "0000000000000000000000000000000000000000"

func push(e *vcs.Event, p payload) error {
	if p.Push == nil {
		return errors.New("it has no changes")
	}
	found := false
	for _, c := range p.Push.Changes {
		if c.New == nil || c.New.Type != "branch" { // deleted, or a tag
			continue
		}
		if main := c.New.Name == "main" || c.New.Name == "master"; found && !main {
			continue
		}
		before := zeroSHA
		if c.Old != nil {
			before = c.Old.Target.Hash
		}
		next := *e
		next.Before = ""
		if err := transport.SetPush(&next, "refs/heads/"+c.New.Name, before, c.New.Target.Hash); err != nil {
			return err
		}
		*e, found = next, true
	}
	if !found {
		return transport.Ignored("push of no branch")
	}
	return nil
}
