package forge

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"holdfast/vcs/vcstest/gittest"
)

// Delivery is one webhook.
type Delivery struct {
	ID       string
	Event    string // as its header names it, such as "pull_request"
	Type     string // the dialect's own finer name; may be empty
	Action   string // the body's, such as "opened"; empty for push
	URL      string
	Header   http.Header
	Body     []byte
	Attempts []Attempt
}

// Attempt is one try to deliver.
type Attempt struct {
	Status int   // 0 where there was no answer
	Err    error // why there was none
}

// hooks is the queue of webhooks.
type hooks struct {
	mu      sync.Mutex
	changed *sync.Cond
	all     []*Delivery
	queue   []*Delivery // to be sent now, in order
	held    []*Delivery
	hold    bool
	sending bool
	closed  bool
	ctx     context.Context
	cancel  context.CancelFunc
}

func (h *hooks) init() {
	h.changed = sync.NewCond(&h.mu)
	h.ctx, h.cancel = context.WithCancel(context.Background())
}

func (h *hooks) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.cancel()
	h.changed.Broadcast()
}

func (h *hooks) add(d *Delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, d)
	if h.hold {
		h.held = append(h.held, d)
	} else {
		h.queue = append(h.queue, d)
	}
	h.changed.Broadcast()
}

func (h *hooks) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.changed.Broadcast()
	})
	defer stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	for (len(h.queue) > 0 || h.sending) && !h.closed {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for webhooks: %w", err)
		}
		h.changed.Wait()
	}
	return nil
}

// dispatch sends what is queued, one after the other, until the server closes.
func (s *Server) dispatch() {
	h := &s.hooks
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		for len(h.queue) == 0 && !h.closed {
			h.changed.Wait()
		}
		if h.closed {
			return
		}
		d := h.queue[0]
		h.queue, h.sending = h.queue[1:], true
		h.mu.Unlock()
		s.post(d, d.Header)
		h.mu.Lock()
		h.sending = false
		h.changed.Broadcast()
	}
}

func (s *Server) post(d *Delivery, header http.Header) Attempt {
	ctx, cancel := context.WithTimeout(s.hooks.ctx, 10*time.Second)
	defer cancel()
	var a Attempt
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(d.Body))
	if err == nil {
		req.Header = header.Clone()
		var resp *http.Response
		if resp, err = http.DefaultClient.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
			resp.Body.Close()
			a.Status = resp.StatusCode
		}
	}
	a.Err = err
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	d.Attempts = append(d.Attempts, a)
	return a
}

// Hold keeps webhooks back until Release, Send or Drop.
func (s *Server) Hold() {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	s.hooks.hold = true
}

// Release queues all held webhooks in their order and holds no more.
func (s *Server) Release() {
	h := &s.hooks
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hold = false
	h.queue, h.held = append(h.queue, h.held...), nil
	h.changed.Broadcast()
}

// Held returns the webhooks that are kept back, oldest first.
func (s *Server) Held() []Delivery {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	return copies(s.hooks.held)
}

// Deliveries returns all webhooks so far, oldest first: sent, queued, held and
// dropped ones.
func (s *Server) Deliveries() []Delivery {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	return copies(s.hooks.all)
}

func copies(ds []*Delivery) []Delivery {
	out := make([]Delivery, len(ds))
	for i, d := range ds {
		out[i] = *d
		out[i].Attempts = slices.Clone(d.Attempts)
	}
	return out
}

// Send delivers webhooks now, in the order of ids, and returns when each was
// answered. An id that is there twice is sent twice. They are held no more.
func (s *Server) Send(ids ...string) []Attempt {
	s.t.Helper()
	var attempts []Attempt
	for _, id := range ids {
		d := s.take(id)
		attempts = append(attempts, s.post(d, d.Header))
	}
	return attempts
}

// Redeliver sends a webhook again, times over, as a network that repeats
// itself would: same id, same body.
func (s *Server) Redeliver(id string, times int) []Attempt {
	s.t.Helper()
	return s.Send(slices.Repeat([]string{id}, times)...)
}

// Replay sends a webhook again as a host's button for it does: same body,
// new id.
func (s *Server) Replay(id string) Attempt {
	s.t.Helper()
	d := s.take(id)
	h := d.Header.Clone()
	id = NewID()
	for name, values := range h {
		if len(values) == 1 && values[0] == d.ID {
			h.Set(name, id)
		}
	}
	return s.post(d, h)
}

// Drop loses held webhooks; without ids, all of them.
func (s *Server) Drop(ids ...string) {
	s.t.Helper()
	if len(ids) == 0 {
		s.hooks.mu.Lock()
		defer s.hooks.mu.Unlock()
		s.hooks.held = nil
		return
	}
	for _, id := range ids {
		s.take(id)
	}
}

// take finds a delivery and takes it out of the held ones.
func (s *Server) take(id string) *Delivery {
	s.t.Helper()
	h := &s.hooks
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = slices.DeleteFunc(h.held, func(d *Delivery) bool { return d.ID == id })
	for _, d := range h.all {
		if d.ID == id {
			return d
		}
	}
	s.t.Fatalf("fake %s: no delivery %s", s.dialect.Name, id)
	return nil
}

// What somebody did.
const (
	ActionPush    = "push"
	ActionCreate  = "create" // a branch
	ActionDelete  = "delete" // a branch
	ActionPull    = "pull"   // Name is opened, edited, synchronized, draft, ready, closed, reopened
	ActionComment = "comment"
	ActionReview  = "review"
	ActionQueue   = "queue" // a merge group wants checks; Update has its ref

	ActionIssue        = "issue" // Name is opened, edited, closed, reopened, deleted
	ActionIssueComment = "issue comment"
)

// Action is what somebody did.
type Action struct {
	Kind, Name string
	Login      string
	Branch     string
	Update     gittest.Update
	Pull       *PullRequest
	Before     string // the head before, of a synchronized one
	Comment    *Comment
	Review     *Review
	Issue      *Issue
}

// Message is a webhook to be sent.
type Message struct {
	ID     string // of the delivery
	Event  string
	Type   string
	Header http.Header
	Body   []byte
}

// Tell queues the webhooks that follow from an action. The lock is held.
func (r *Repository) Tell(a Action) {
	if r.HookURL == "" {
		return
	}
	for _, m := range r.Server.dialect.Hooks(r, a) {
		var body struct{ Action string }
		_ = json.Unmarshal(m.Body, &body) // lists have none
		r.Server.hooks.add(&Delivery{ID: m.ID, Event: m.Event, Type: m.Type, Action: body.Action, URL: r.HookURL, Header: m.Header, Body: m.Body})
	}
}

// JSON is a body; v is made of maps and plain values.
func JSON(v any) []byte {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err)
	}
	return data
}

// MAC is the hexadecimal HMAC-SHA256 of body.
func MAC(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// SigningSecret is what the repository's webhooks are signed with.
func (r *Repository) SigningSecret() string {
	if r.HookSecret != "" {
		return r.HookSecret
	}
	return r.Server.Secret
}

// NewID is a delivery's id.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
