package gitlab

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// payload is what is read of a webhook's body: the events have their fields in
// common.
type payload struct {
	Kind      string `json:"object_kind"`
	EventName string `json:"event_name"` // of system hooks

	User struct {
		Username string `json:"username"`
	} `json:"user"`
	UserUsername string `json:"user_username"` // of a push

	Project struct {
		Path   string `json:"path_with_namespace"`
		WebURL string `json:"web_url"`
	} `json:"project"`

	Attributes struct {
		ID           int64  `json:"id"`
		IID          int64  `json:"iid"`
		Action       string `json:"action"`
		Note         string `json:"note"`
		NoteableType string `json:"noteable_type"`
		System       bool   `json:"system"`
		CreatedAt    string `json:"created_at"`
		UpdatedAt    string `json:"updated_at"`
	} `json:"object_attributes"`
	MergeRequest *numbered `json:"merge_request"`
	Issue        *numbered `json:"issue"`
	WorkItem     *numbered `json:"work_item"`

	Ref    string `json:"ref"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// numbered is what a note is on.
type numbered struct {
	IID int64 `json:"iid"`
}

// ParseWebhook compares the secret token and reads a delivery. A token signs no
// body: whoever has it may send anything, and a connection without TLS gives it
// away.
func (h *Host) ParseWebhook(header http.Header, body []byte) (vcs.Event, error) {
	if !h.knows(header.Get("X-Gitlab-Token")) {
		return vcs.Event{}, vcs.ErrSignature
	}
	name := header.Get("X-Gitlab-Event")
	e, err := h.parse(header, body)
	if err != nil && !errors.Is(err, vcs.ErrIgnored) {
		err = fmt.Errorf("read %s webhook: %w", transport.Printable(name), err)
	}
	if err != nil {
		return vcs.Event{}, err
	}
	return e, nil
}

// knows compares hashes, which have one length, so that the time it takes tells
// nothing.
func (h *Host) knows(token string) bool {
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(h.cfg.WebhookSecret))
	return h.cfg.WebhookSecret != "" && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

func (h *Host) parse(header http.Header, body []byte) (vcs.Event, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		return vcs.Event{}, err
	}
	var kind struct {
		Kind string `json:"object_kind"`
		Name string `json:"event_name"`
	}
	if err := json.Unmarshal(body, &kind); err != nil {
		return vcs.Event{}, err
	}
	if kind.Kind == "" {
		kind.Kind = kind.Name
	}
	var of func(*vcs.Event, payload) error
	switch kind.Kind {
	case "merge_request":
		of = mergeRequest
	case "note":
		of = note
	case "issue", "work_item":
		of = issue
	case "push":
		of = push
	case "":
		return vcs.Event{}, errors.New("it does not say what it is")
	default:
		return vcs.Event{}, transport.Ignored("event %s", transport.Printable(kind.Kind))
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return vcs.Event{}, err
	}
	e := vcs.Event{
		// Both are one delivery's, its retries included; X-Gitlab-Event-UUID is
		// shared by what follows from one event.
		Delivery: transport.Delivery(header, body, "Idempotency-Key", "X-Gitlab-Webhook-UUID"),
		Sender:   p.User.Username,
	}
	if e.Sender == "" {
		e.Sender = p.UserUsername
	}
	if err := of(&e, p); err != nil {
		return vcs.Event{}, err
	}
	var err error
	e.Repository, err = h.repository(p)
	return e, err
}

func (h *Host) repository(p payload) (vcs.Repository, error) {
	own, err := url.Parse(h.cfg.URL)
	if err != nil {
		return vcs.Repository{}, err
	}
	if u, err := url.Parse(p.Project.WebURL); err == nil && u.Host != "" && !strings.EqualFold(u.Host, own.Host) {
		return vcs.Repository{}, transport.Ignored("a repository of another host, %s", transport.Printable(u.Host))
	}
	return vcs.ParseRepository(h.cfg.Name + "/" + p.Project.Path)
}

// mergeRequest takes all that happens to one: an update may be a push, a new
// target, a draft that is ready.
func mergeRequest(e *vcs.Event, p payload) error {
	switch p.Attributes.Action {
	case "open", "reopen", "close", "merge", "update", "approved", "unapproved", "approval", "unapproval":
	default:
		return transport.Ignored("merge request %s", transport.Printable(p.Attributes.Action))
	}
	e.Kind = vcs.EventPullRequest
	return transport.SetNumber(e, p.Attributes.IID)
}

// issue takes what a ticket's owner has to know of: whether it is still open.
// Newer hosts call issues work items. They do not tell of deleted ones.
func issue(e *vcs.Event, p payload) error {
	if a := p.Attributes.Action; a != "close" && a != "reopen" {
		return transport.Ignored("issue %s", transport.Printable(a))
	}
	e.Kind = vcs.EventTicket
	return transport.SetTicket(e, p.Attributes.IID)
}

// note takes what was newly written on a merge request or an issue. Older hosts do
// not say whether it was.
func note(e *vcs.Event, p payload) error {
	a := p.Attributes
	var on *numbered
	set := transport.SetTicket
	switch a.NoteableType {
	case "MergeRequest":
		on, set = p.MergeRequest, transport.SetNumber
	case "Issue":
		on = p.Issue
	case "WorkItem":
		if on = p.WorkItem; on == nil {
			on = p.Issue
		}
	}
	switch {
	case !slices.Contains([]string{"MergeRequest", "Issue", "WorkItem"}, a.NoteableType):
		return transport.Ignored("comment on %s", transport.Printable(a.NoteableType))
	case a.System:
		return transport.Ignored("comment of the host itself")
	case a.Action != "" && a.Action != "create":
		return transport.Ignored("comment %s", transport.Printable(a.Action))
	case a.Action == "" && a.CreatedAt != a.UpdatedAt:
		return transport.Ignored("comment edited")
	case on == nil:
		return errors.New("comment on nothing")
	case a.ID <= 0:
		return errors.New("comment without an id")
	}
	e.Kind, e.CommentID, e.Comment = vcs.EventComment, a.ID, a.Note
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05 MST", "2006-01-02 15:04:05 -0700"} {
		if at, err := time.Parse(layout, a.CreatedAt); err == nil {
			e.CommentedAt = at.UTC()
		}
	}
	return set(e, on.IID)
}

func push(e *vcs.Event, p payload) error { return transport.SetPush(e, p.Ref, p.Before, p.After) }
