package gitea

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// payload is what is read of a webhook's body: the events have their fields in
// common.
type payload struct {
	Action string `json:"action"`
	Number int64  `json:"number"`

	PullRequest *struct {
		Number int64 `json:"number"`
	} `json:"pull_request"`

	Issue *struct {
		Number      int64           `json:"number"`
		PullRequest json.RawMessage `json:"pull_request"`
	} `json:"issue"`
	Comment *struct {
		ID      int64  `json:"id"`
		Body    string `json:"body"`
		Created string `json:"created_at"`
	} `json:"comment"`
	IsPull bool `json:"is_pull"`

	Ref    string `json:"ref"`
	Before string `json:"before"`
	After  string `json:"after"`

	Repository struct {
		Name  string `json:"name"`
		Owner struct {
			Login    string `json:"login"`
			UserName string `json:"username"`
		} `json:"owner"`
	} `json:"repository"`
	Sender struct {
		Login string `json:"login"`
	} `json:"sender"`
}

// ParseWebhook verifies and reads a delivery. The headers are not signed: the
// event's name only chooses how the signed body is read, and the body must fit.
func (h *Host) ParseWebhook(header http.Header, body []byte) (vcs.Event, error) {
	if err := h.verify(header, body); err != nil {
		return vcs.Event{}, err
	}
	name := transport.First(header, "X-Gitea-Event", "X-Forgejo-Event", "X-Gogs-Event")
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return vcs.Event{}, fmt.Errorf("read %s webhook: %w", transport.Printable(name), err)
	}
	repo, err := h.repository(p)
	if err != nil {
		return vcs.Event{}, fmt.Errorf("read %s webhook: %w", transport.Printable(name), err)
	}
	e := vcs.Event{Delivery: transport.Delivery(header, body, "X-Gitea-Delivery", "X-Forgejo-Delivery", "X-Gogs-Delivery"), Repository: repo, Sender: p.Sender.Login}
	switch {
	case name == "push":
		err = transport.SetPush(&e, p.Ref, p.Before, p.After)
	case p.Comment != nil && (name == "issue_comment" || name == "pull_request_comment"):
		err = comment(&e, p)
	case name == "issues":
		err = issue(&e, p)
	case name == "pull_request" || strings.HasPrefix(name, "pull_request_"):
		err = pullRequest(&e, p)
	default:
		err = transport.Ignored("event %s", transport.Printable(name))
	}
	if err != nil && !errors.Is(err, vcs.ErrIgnored) {
		err = fmt.Errorf("read %s webhook: %w", transport.Printable(name), err)
	}
	if err != nil {
		return vcs.Event{}, err
	}
	return e, nil
}

// verify accepts the signature under any of the names that Gitea and Forgejo
// send it by; all are hex HMAC-SHA256 of the body.
func (h *Host) verify(header http.Header, body []byte) error {
	for _, name := range []string{"X-Gitea-Signature", "X-Forgejo-Signature", "X-Hub-Signature-256"} {
		if transport.ValidMAC(h.cfg.WebhookSecret, header.Get(name), body) {
			return nil
		}
	}
	if strings.HasPrefix(header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return fmt.Errorf("%w: set the webhook's content type to application/json", vcs.ErrSignature)
	}
	return vcs.ErrSignature
}

func (h *Host) repository(p payload) (vcs.Repository, error) {
	owner := p.Repository.Owner.Login
	if owner == "" {
		owner = p.Repository.Owner.UserName
	}
	r := vcs.Repository{Host: h.cfg.Name, Owner: owner, Name: p.Repository.Name}
	// The parts come from outside: a slash in one would name another place.
	if strings.Contains(owner+r.Name, "/") {
		return vcs.Repository{}, fmt.Errorf("repository %q is not OWNER/NAME", transport.Printable(owner+"/"+r.Name))
	}
	return vcs.ParseRepository(r.String())
}

func comment(e *vcs.Event, p payload) error {
	onPull := p.IsPull || p.PullRequest != nil
	var number int64
	if p.Issue != nil {
		number = p.Issue.Number
		onPull = onPull || (len(p.Issue.PullRequest) > 0 && string(p.Issue.PullRequest) != "null")
	} else if p.PullRequest != nil {
		number = p.PullRequest.Number
	}
	switch {
	case p.Action != "created":
		return transport.Ignored("comment %s", transport.Printable(p.Action))
	case p.Comment.ID <= 0:
		return errors.New("comment without an id")
	}
	e.Kind, e.CommentID, e.Comment = vcs.EventComment, p.Comment.ID, p.Comment.Body
	if at, err := time.Parse(time.RFC3339, p.Comment.Created); err == nil {
		e.CommentedAt = at.UTC()
	}
	if onPull {
		return transport.SetNumber(e, number)
	}
	return transport.SetTicket(e, number)
}

// issue takes what a ticket's owner has to know of: whether it is still open. Few
// versions tell of deleted ones.
func issue(e *vcs.Event, p payload) error {
	switch p.Action {
	case "closed", "reopened", "deleted":
	default: // opened, edited, labels, assignees, milestones
		return transport.Ignored("issue %s", transport.Printable(p.Action))
	}
	if p.Issue == nil {
		return errors.New("it has no issue")
	}
	if len(p.Issue.PullRequest) > 0 && string(p.Issue.PullRequest) != "null" {
		return transport.Ignored("issue that is a pull request")
	}
	e.Kind = vcs.EventTicket
	return transport.SetTicket(e, p.Issue.Number)
}

func pullRequest(e *vcs.Event, p payload) error {
	switch p.Action {
	case "opened", "closed", "reopened", "edited", "synchronized",
		"reviewed", "review_requested", "review_request_removed",
		"assigned", "unassigned", "label_updated", "label_cleared",
		"milestoned", "demilestoned":
	default:
		return transport.Ignored("pull request %s", transport.Printable(p.Action))
	}
	e.Kind = vcs.EventPullRequest
	number := p.Number
	if number == 0 && p.PullRequest != nil {
		number = p.PullRequest.Number
	}
	return transport.SetNumber(e, number)
}
