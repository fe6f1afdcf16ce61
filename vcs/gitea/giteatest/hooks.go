package giteatest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Delivery is one webhook.
type Delivery struct {
	ID       string // X-Gitea-Delivery
	Event    string // X-Gitea-Event, such as "pull_request"
	Type     string // X-Gitea-Event-Type, such as "pull_request_sync"
	Action   string // the body's, such as "opened"; empty for push
	URL      string
	Header   http.Header
	Body     []byte
	Attempts []Attempt
}

// Attempt is one try to deliver. Gitea itself makes one and no more.
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

// Replay sends a webhook again as Gitea's "Replay" button does: same body,
// new id.
func (s *Server) Replay(id string) Attempt {
	s.t.Helper()
	d := s.take(id)
	h := d.Header.Clone()
	setDelivery(h, newUUID())
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
	s.t.Fatalf("fake gitea: no delivery %s", id)
	return nil
}

// notify makes a signed webhook and queues it. Called with s.mu held.
func (r *Repository) notify(event, eventType string, body object) {
	if r.hookURL == "" {
		return
	}
	data, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		panic(err) // maps of plain values
	}
	d := &Delivery{ID: newUUID(), Event: event, Type: eventType, URL: r.hookURL, Body: data}
	d.Action, _ = body["action"].(string)
	d.Header = Sign(r.s.Secret, data)
	d.Header.Set("Content-Type", "application/json")
	setDelivery(d.Header, d.ID)
	for _, prefix := range []string{"X-GitHub", "X-Gitea", "X-Gogs"} {
		d.Header.Set(prefix+"-Event", event)
		d.Header.Set(prefix+"-Event-Type", eventType)
	}
	d.Header.Set("X-GitHub-Hook-Installation-Target-Type", "repository")
	d.Header.Set("X-Gitea-Hook-Installation-Target-Type", "repository")
	r.s.hooks.add(d)
}

// Sign returns the signature headers that Gitea sends with body.
func Sign(secret string, body []byte) http.Header {
	sum256 := hmac.New(sha256.New, []byte(secret))
	sum256.Write(body)
	sum1 := hmac.New(sha1.New, []byte(secret))
	sum1.Write(body)
	hex256 := hex.EncodeToString(sum256.Sum(nil))
	h := http.Header{}
	h.Set("X-Gitea-Signature", hex256)
	h.Set("X-Gogs-Signature", hex256)
	h.Set("X-Hub-Signature", "sha1="+hex.EncodeToString(sum1.Sum(nil)))
	h.Set("X-Hub-Signature-256", "sha256="+hex256)
	return h
}

func setDelivery(h http.Header, id string) {
	for _, prefix := range []string{"X-GitHub", "X-Gitea", "X-Gogs"} {
		h.Set(prefix+"-Delivery", id)
	}
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
