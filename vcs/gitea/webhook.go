package gitea

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"holdfast/vcs"
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
	name := first(header, "X-Gitea-Event", "X-Forgejo-Event", "X-Gogs-Event")
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return vcs.Event{}, fmt.Errorf("read %s webhook: %w", printable(name), err)
	}
	repo, err := h.repository(p)
	if err != nil {
		return vcs.Event{}, fmt.Errorf("read %s webhook: %w", printable(name), err)
	}
	e := vcs.Event{Delivery: delivery(header, body), Repository: repo, Sender: p.Sender.Login}
	switch {
	case name == "push":
		err = push(&e, p)
	case p.Comment != nil && (name == "issue_comment" || name == "pull_request_comment"):
		err = comment(&e, p)
	case name == "pull_request" || strings.HasPrefix(name, "pull_request_"):
		err = pullRequest(&e, p)
	default:
		err = ignored("event %s", printable(name))
	}
	if err != nil && !errors.Is(err, vcs.ErrIgnored) {
		err = fmt.Errorf("read %s webhook: %w", printable(name), err)
	}
	if err != nil {
		return vcs.Event{}, err
	}
	return e, nil
}

// verify accepts the signature under any of the names that Gitea and Forgejo
// send it by; all are hex HMAC-SHA256 of the body.
func (h *Host) verify(header http.Header, body []byte) error {
	mac := hmac.New(sha256.New, []byte(h.cfg.WebhookSecret))
	mac.Write(body)
	want := mac.Sum(nil)
	for _, name := range []string{"X-Gitea-Signature", "X-Forgejo-Signature", "X-Hub-Signature-256"} {
		got, err := hex.DecodeString(strings.TrimPrefix(header.Get(name), "sha256="))
		if err == nil && hmac.Equal(got, want) {
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
		return vcs.Repository{}, fmt.Errorf("repository %q is not OWNER/NAME", printable(owner+"/"+r.Name))
	}
	return vcs.ParseRepository(r.String())
}

func push(e *vcs.Event, p payload) error {
	branch, ok := strings.CutPrefix(p.Ref, "refs/heads/")
	if !ok || branch == "" {
		return ignored("push to %s, which is no branch", printable(p.Ref))
	}
	if strings.ContainsFunc(branch, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("branch %q is not a name that Git allows", branch)
	}
	if !isSHA(p.Before) || !isSHA(p.After) {
		return fmt.Errorf("push from %q to %q: not commit ids", printable(p.Before), printable(p.After))
	}
	if strings.Trim(p.After, "0") == "" {
		return ignored("branch %s was deleted", printable(branch))
	}
	e.Kind, e.Branch, e.After = vcs.EventPush, branch, p.After
	if strings.Trim(p.Before, "0") != "" { // all zeros: the branch is new
		e.Before = p.Before
	}
	return nil
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
	case !onPull:
		return ignored("comment on an issue that is no pull request")
	case p.Action != "created":
		return ignored("comment %s", printable(p.Action))
	case p.Comment.ID <= 0:
		return errors.New("comment without an id")
	}
	e.Kind, e.CommentID, e.Comment = vcs.EventComment, p.Comment.ID, p.Comment.Body
	if at, err := time.Parse(time.RFC3339, p.Comment.Created); err == nil {
		e.CommentedAt = at.UTC()
	}
	return setNumber(e, number)
}

func pullRequest(e *vcs.Event, p payload) error {
	switch p.Action {
	case "opened", "closed", "reopened", "edited", "synchronized",
		"reviewed", "review_requested", "review_request_removed",
		"assigned", "unassigned", "label_updated", "label_cleared",
		"milestoned", "demilestoned":
	default:
		return ignored("pull request %s", printable(p.Action))
	}
	e.Kind = vcs.EventPullRequest
	number := p.Number
	if number == 0 && p.PullRequest != nil {
		number = p.PullRequest.Number
	}
	return setNumber(e, number)
}

func setNumber(e *vcs.Event, n int64) error {
	if n <= 0 || n > math.MaxInt32 {
		return fmt.Errorf("pull request %d is not a number that a host gives", n)
	}
	e.Number = int(n)
	return nil
}

// delivery is the host's id, else one made of the body: the same body sent
// again is then the same delivery.
func delivery(header http.Header, body []byte) string {
	id := first(header, "X-Gitea-Delivery", "X-Forgejo-Delivery", "X-Gogs-Delivery")
	if id != "" && len(id) <= 128 && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return id
	}
	sum := sha256.Sum256(body)
	return "body-" + hex.EncodeToString(sum[:])
}

func first(header http.Header, names ...string) string {
	for _, n := range names {
		if v := header.Get(n); v != "" {
			return v
		}
	}
	return ""
}

func ignored(format string, args ...any) error {
	return fmt.Errorf("%w: %s", vcs.ErrIgnored, fmt.Sprintf(format, args...))
}

// printable makes a word from outside fit for a log line.
func printable(s string) string {
	if s == "" {
		return "unnamed"
	}
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
	return cut(s, 80)
}
