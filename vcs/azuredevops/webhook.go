package azuredevops

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// payload is what is read of a service hook's body.
type payload struct {
	ID       string `json:"id"`
	Event    string `json:"eventType"`
	Resource struct {
		PullRequestID int64 `json:"pullRequestId"`
		PullRequest   *struct {
			ID         int64       `json:"pullRequestId"`
			Repository *repository `json:"repository"`
		} `json:"pullRequest"`
		Comment *struct {
			comment
			Links struct {
				Self, Threads struct {
					Href string `json:"href"`
				}
			} `json:"_links"`
		} `json:"comment"`
		Repository *repository `json:"repository"`
		PushedBy   identity    `json:"pushedBy"`
		CreatedBy  identity    `json:"createdBy"`
		Updates    []struct {
			Name string `json:"name"`
			Old  string `json:"oldObjectId"`
			New  string `json:"newObjectId"`
		} `json:"refUpdates"`
	} `json:"resource"`
}

// ParseWebhook compares the password of the request's basic authentication and
// reads a service hook. A password signs no body: whoever has it may send
// anything.
func (h *Host) ParseWebhook(header http.Header, body []byte) (vcs.Event, error) {
	if !h.knows(header) {
		return vcs.Event{}, vcs.ErrSignature
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return vcs.Event{}, fmt.Errorf("read service hook: %w", err)
	}
	e, err := h.parse(p, header, body)
	if err != nil && !errors.Is(err, vcs.ErrIgnored) {
		err = fmt.Errorf("read %s service hook: %w", transport.Printable(p.Event), err)
	}
	if err != nil {
		return vcs.Event{}, err
	}
	return e, nil
}

// knows compares hashes, which have one length, so that the time it takes tells
// nothing.
func (h *Host) knows(header http.Header) bool {
	encoded, _ := strings.CutPrefix(header.Get("Authorization"), "Basic ")
	plain, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	_, password, _ := strings.Cut(string(plain), ":")
	got, want := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(h.cfg.WebhookSecret))
	return h.cfg.WebhookSecret != "" && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

func (h *Host) parse(p payload, header http.Header, body []byte) (vcs.Event, error) {
	e := vcs.Event{Delivery: p.ID, Sender: p.Resource.CreatedBy.UniqueName}
	if e.Delivery == "" || len(e.Delivery) > 128 || strings.ContainsFunc(e.Delivery, func(r rune) bool { return r <= ' ' || r > '~' }) {
		e.Delivery = transport.Delivery(header, body)
	}
	repo := p.Resource.Repository
	var err error
	switch p.Event {
	case "git.push":
		err = push(&e, p)
	case "git.pullrequest.created", "git.pullrequest.updated", "git.pullrequest.merged":
		e.Kind = vcs.EventPullRequest
		err = transport.SetNumber(&e, p.Resource.PullRequestID)
	case "ms.vss-code.git-pullrequest-comment-event":
		if p.Resource.PullRequest != nil {
			repo = p.Resource.PullRequest.Repository
		}
		err = commented(&e, p)
	case "":
		err = errors.New("it does not say what it is")
	default:
		err = transport.Ignored("event %s", transport.Printable(p.Event))
	}
	if err != nil {
		return vcs.Event{}, err
	}
	if repo == nil {
		return vcs.Event{}, errors.New("it names no repository")
	}
	e.Repository, err = h.named(*repo)
	return e, err
}

// named reads a repository's name from its address, which has the organisation
// too: https://dev.azure.com/ORGANISATION/PROJECT/_git/NAME.
func (h *Host) named(repo repository) (vcs.Repository, error) {
	u, err := url.Parse(repo.RemoteURL)
	own, oerr := url.Parse(h.cfg.URL)
	if err != nil || oerr != nil || repo.RemoteURL == "" {
		return vcs.Repository{}, fmt.Errorf("%q is not the address of a repository", transport.Printable(repo.RemoteURL))
	}
	if !strings.EqualFold(u.Host, own.Host) {
		return vcs.Repository{}, transport.Ignored("a repository of another host, %s", transport.Printable(u.Host))
	}
	owner, name, ok := strings.Cut(strings.Trim(strings.TrimPrefix(u.Path, own.Path), "/"), "/_git/")
	if !ok || strings.Contains(name, "/") || strings.Count(owner, "/") != 1 {
		return vcs.Repository{}, fmt.Errorf("%q is not the address of a repository", transport.Printable(repo.RemoteURL))
	}
	return vcs.ParseRepository(h.cfg.Name + "/" + owner + "/" + name)
}

var threadIn = regexp.MustCompile(`/threads/(\d{1,12})(/|$)`)

func commented(e *vcs.Event, p payload) error {
	c := p.Resource.Comment
	if c == nil || p.Resource.PullRequest == nil || c.ID <= 0 || c.ID > 1<<20 {
		return errors.New("it has no comment on a pull request")
	}
	m := threadIn.FindStringSubmatch(c.Links.Self.Href)
	if m == nil {
		m = threadIn.FindStringSubmatch(c.Links.Threads.Href)
	}
	switch {
	case c.Deleted:
		return transport.Ignored("comment deleted")
	case !c.Changed.IsZero() && c.Changed.After(c.Published):
		return transport.Ignored("comment edited")
	case c.Type == "system":
		return transport.Ignored("comment of the host itself")
	case m == nil:
		return errors.New("the comment is in no thread")
	}
	t, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || t <= 0 || t >= 1<<threadBits {
		return fmt.Errorf("thread %s is not a number that a host gives", m[1])
	}
	e.Kind, e.CommentID, e.Comment, e.CommentedAt = vcs.EventComment, commentID(t, c.ID), c.Content, c.Published.UTC()
	e.Sender = c.Author.UniqueName
	return transport.SetNumber(e, p.Resource.PullRequest.ID)
}

// push is about main or master where several branches were pushed at once and one
// of them is that, else about the first: what else was pushed belongs to pull
// requests, which have events of their own.
func push(e *vcs.Event, p payload) error {
	e.Sender = p.Resource.PushedBy.UniqueName
	found := false
	for _, u := range p.Resource.Updates {
		name, isBranch := strings.CutPrefix(u.Name, "refs/heads/")
		if !isBranch || strings.Trim(u.New, "0") == "" && transport.IsSHA(u.New) {
			continue // a tag, or deleted
		}
		if main := name == "main" || name == "master"; found && !main {
			continue
		}
		next := *e
		next.Before = ""
		if err := transport.SetPush(&next, u.Name, u.Old, u.New); err != nil {
			return err
		}
		*e, found = next, true
	}
	if !found {
		return transport.Ignored("push of no branch")
	}
	return nil
}
