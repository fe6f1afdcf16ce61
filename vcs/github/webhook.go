package github

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
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

	Issue   *issueRef `json:"issue"`
	Comment *struct {
		ID      int64  `json:"id"`
		Body    string `json:"body"`
		Created string `json:"created_at"`
		User    struct {
			Login string `json:"login"`
		} `json:"user"`
	} `json:"comment"`

	Ref    string `json:"ref"`
	Before string `json:"before"`
	After  string `json:"after"`

	MergeGroup *struct {
		HeadSHA string `json:"head_sha"`
		HeadRef string `json:"head_ref"`
		BaseSHA string `json:"base_sha"`
		BaseRef string `json:"base_ref"`
	} `json:"merge_group"`

	CheckRun   *check `json:"check_run"`
	CheckSuite *check `json:"check_suite"`

	Repository *struct {
		Name    string `json:"name"`
		HTMLURL string `json:"html_url"`
		Owner   struct {
			Login string `json:"login"`
			Name  string `json:"name"` // of a push
		} `json:"owner"`
	} `json:"repository"`
	Sender struct {
		Login string `json:"login"`
	} `json:"sender"`
}

// issueRef is an issue, or a pull request as one.
type issueRef struct {
	Number      int64           `json:"number"`
	PullRequest json.RawMessage `json:"pull_request"`
}

func (i *issueRef) isPull() bool {
	return len(i.PullRequest) > 0 && string(i.PullRequest) != "null"
}

// check is a check run or a suite of them.
type check struct {
	Name         string `json:"name"`
	HeadSHA      string `json:"head_sha"`
	PullRequests []struct {
		Number int64 `json:"number"`
	} `json:"pull_requests"`
}

// read reads one event; body fits it.
type read func(e *vcs.Event, p payload) error

// events are those that are read. All others that GitHub has are ignored.
var events = map[string]read{
	"pull_request":              pullRequest,
	"pull_request_review":       review,
	"issue_comment":             comment,
	"issues":                    issue,
	"push":                      push,
	"merge_group":               mergeGroup,
	"check_run":                 checkRun,
	"check_suite":               checkSuite,
	"installation":              repositories,
	"installation_repositories": repositories,
	"repository":                repositories,
}

// ParseWebhook verifies and reads a delivery. The headers are not signed: the
// event's name only chooses how the signed body is read, and the body must fit.
func (h *Host) ParseWebhook(header http.Header, body []byte) (vcs.Event, error) {
	if !transport.ValidMAC(h.cfg.WebhookSecret, header.Get("X-Hub-Signature-256"), body) {
		if strings.HasPrefix(header.Get("Content-Type"), "application/x-www-form-urlencoded") {
			return vcs.Event{}, fmt.Errorf("%w: set the webhook's content type to application/json", vcs.ErrSignature)
		}
		return vcs.Event{}, vcs.ErrSignature
	}
	name := header.Get("X-GitHub-Event")
	of := events[name]
	if of == nil {
		if !json.Valid(body) {
			return vcs.Event{}, fmt.Errorf("read %s webhook: the body is not JSON", transport.Printable(name))
		}
		return vcs.Event{}, transport.Ignored("event %s", transport.Printable(name))
	}
	e, err := h.parse(of, header, body)
	if err != nil && !errors.Is(err, vcs.ErrIgnored) {
		err = fmt.Errorf("read %s webhook: %w", name, err)
	}
	if err != nil {
		return vcs.Event{}, err
	}
	return e, nil
}

func (h *Host) parse(of read, header http.Header, body []byte) (vcs.Event, error) {
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return vcs.Event{}, err
	}
	e := vcs.Event{Delivery: transport.Delivery(header, body, "X-GitHub-Delivery"), Sender: p.Sender.Login}
	if err := of(&e, p); err != nil {
		return vcs.Event{}, err
	}
	if e.Kind == vcs.EventRepositories {
		return e, nil
	}
	var err error
	e.Repository, err = h.repository(p)
	return e, err
}

// repository is the one that a payload is about.
func (h *Host) repository(p payload) (vcs.Repository, error) {
	if p.Repository == nil {
		return vcs.Repository{}, errors.New("it names no repository")
	}
	own, err := url.Parse(h.cfg.URL)
	if err != nil {
		return vcs.Repository{}, err
	}
	if u, err := url.Parse(p.Repository.HTMLURL); err == nil && u.Host != "" && !strings.EqualFold(u.Host, own.Host) {
		return vcs.Repository{}, transport.Ignored("a repository of another host, %s", transport.Printable(u.Host))
	}
	owner := p.Repository.Owner.Login
	if owner == "" {
		owner = p.Repository.Owner.Name
	}
	r := vcs.Repository{Host: h.cfg.Name, Owner: owner, Name: p.Repository.Name}
	// The parts come from outside: a slash in one would name another place.
	if strings.Contains(owner+r.Name, "/") {
		return vcs.Repository{}, fmt.Errorf("repository %q is not OWNER/NAME", transport.Printable(owner+"/"+r.Name))
	}
	return vcs.ParseRepository(r.String())
}

// pullRequest takes what may change what is planned, merged or shown.
func pullRequest(e *vcs.Event, p payload) error {
	switch p.Action {
	case "opened", "reopened", "closed", "synchronize", "edited", "ready_for_review", "converted_to_draft",
		"enqueued", "dequeued", "auto_merge_enabled", "auto_merge_disabled":
	default: // labels, assignees, milestones, requests for review, locks
		return transport.Ignored("pull request %s", transport.Printable(p.Action))
	}
	return ofPull(e, p)
}

func ofPull(e *vcs.Event, p payload) error {
	e.Kind = vcs.EventPullRequest
	number := p.Number
	if number == 0 && p.PullRequest != nil {
		number = p.PullRequest.Number
	}
	return transport.SetNumber(e, number)
}

func review(e *vcs.Event, p payload) error {
	if p.Action != "submitted" && p.Action != "dismissed" {
		return transport.Ignored("review %s", transport.Printable(p.Action)) // edited: the verdict stays
	}
	return ofPull(e, p)
}

func comment(e *vcs.Event, p payload) error {
	switch {
	case p.Issue == nil || p.Comment == nil:
		return errors.New("it has no comment, or no issue")
	case p.Action != "created":
		return transport.Ignored("comment %s", transport.Printable(p.Action))
	case p.Comment.ID <= 0:
		return errors.New("comment without an id")
	}
	e.Kind, e.CommentID, e.Comment = vcs.EventComment, p.Comment.ID, p.Comment.Body
	if p.Comment.User.Login != "" {
		e.Sender = p.Comment.User.Login
	}
	if at, err := time.Parse(time.RFC3339, p.Comment.Created); err == nil {
		e.CommentedAt = at.UTC()
	}
	if p.Issue.isPull() {
		return transport.SetNumber(e, p.Issue.Number)
	}
	return transport.SetTicket(e, p.Issue.Number)
}

// issue takes what a ticket's owner has to know of: whether it is still open.
func issue(e *vcs.Event, p payload) error {
	switch p.Action {
	case "closed", "reopened", "deleted":
	default: // opened, edited, labels, assignees, locks; transferred comes with deleted
		return transport.Ignored("issue %s", transport.Printable(p.Action))
	}
	switch {
	case p.Issue == nil:
		return errors.New("it has no issue")
	case p.Issue.isPull():
		return transport.Ignored("issue that is a pull request")
	}
	e.Kind = vcs.EventTicket
	return transport.SetTicket(e, p.Issue.Number)
}

func push(e *vcs.Event, p payload) error { return transport.SetPush(e, p.Ref, p.Before, p.After) }

// mergeGroup is the merge queue's: its branch is named
// gh-readonly-queue/BASE/pr-NUMBER-SHA.
func mergeGroup(e *vcs.Event, p payload) error {
	if p.Action != "checks_requested" {
		return transport.Ignored("merge group %s", transport.Printable(p.Action))
	}
	g := p.MergeGroup
	if g == nil || !transport.IsSHA(g.HeadSHA) || !transport.IsSHA(g.BaseSHA) {
		return errors.New("it has no merge group with its commits")
	}
	if err := transport.SetPush(e, g.BaseRef, g.BaseSHA, g.HeadSHA); err != nil {
		return err
	}
	e.Kind = vcs.EventMergeGroup
	_, of, _ := strings.Cut(g.HeadRef, "/pr-")
	if i := strings.LastIndex(g.HeadRef, "/pr-"); i >= 0 {
		of = g.HeadRef[i+len("/pr-"):]
	}
	of, _, _ = strings.Cut(of, "-")
	if n, err := strconv.ParseInt(of, 10, 32); err == nil && n > 0 {
		return transport.SetNumber(e, n)
	}
	return nil // of several pull requests
}

// checkRun is a check run that somebody wants made again.
func checkRun(e *vcs.Event, p payload) error {
	if p.Action != "rerequested" {
		return transport.Ignored("check run %s", transport.Printable(p.Action))
	}
	if p.CheckRun == nil || p.CheckRun.Name == "" {
		return errors.New("it has no check run with a name")
	}
	e.Check = p.CheckRun.Name
	return again(e, *p.CheckRun)
}

func checkSuite(e *vcs.Event, p payload) error {
	if p.Action != "rerequested" {
		return transport.Ignored("check suite %s", transport.Printable(p.Action))
	}
	if p.CheckSuite == nil {
		return errors.New("it has no check suite")
	}
	return again(e, *p.CheckSuite)
}

func again(e *vcs.Event, c check) error {
	if !transport.IsSHA(c.HeadSHA) {
		return fmt.Errorf("head %q is not a commit id", transport.Printable(c.HeadSHA))
	}
	e.Kind, e.After = vcs.EventRerun, c.HeadSHA
	if len(c.PullRequests) == 1 {
		return transport.SetNumber(e, c.PullRequests[0].Number)
	}
	return nil
}

// repositories is about which there are: installed, taken away, renamed, made,
// deleted, archived.
func repositories(e *vcs.Event, p payload) error {
	switch p.Action {
	case "edited", "privatized", "publicized", "new_permissions_accepted":
		return transport.Ignored("repositories %s", transport.Printable(p.Action))
	}
	e.Kind = vcs.EventRepositories
	return nil
}
