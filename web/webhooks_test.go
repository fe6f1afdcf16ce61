package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/vcs"
	"holdfast/web"
)

// parser answers as its body says.
type parser struct{}

func (parser) ParseWebhook(h http.Header, body []byte) (vcs.Event, error) {
	switch {
	case h.Get("X-Signature") != "good":
		return vcs.Event{}, fmt.Errorf("check webhook: %w", vcs.ErrSignature)
	case string(body) == "ignored":
		return vcs.Event{}, fmt.Errorf("%w: the issue is no pull request", vcs.ErrIgnored)
	case string(body) == "nonsense":
		return vcs.Event{}, errors.New("no repository in the body")
	}
	return vcs.Event{Delivery: "d1", Kind: vcs.EventPush}, nil
}

func TestWebhook(t *testing.T) {
	var received []vcs.Event
	var storing error
	s := newSite(t, web.Config{
		Hosts: map[string]vcs.Webhooks{"main": parser{}},
		Receive: func(_ context.Context, e vcs.Event) error {
			if storing == nil {
				received = append(received, e)
			}
			return storing
		},
	})
	for _, tc := range []struct {
		name, host, contentType, signature, body string
		storing                                  error
		code                                     int
		says                                     string
	}{
		{"good", "main", "application/json", "good", "{}", nil, http.StatusAccepted, "accepted"},
		{"charset", "main", "application/json; charset=utf-8", "good", "{}", nil, http.StatusAccepted, "accepted"},
		{"as large as may be", "main", "application/json", "good", strings.Repeat(" ", web.MaxWebhook), nil, http.StatusAccepted, "accepted"},
		{"too large", "main", "application/json", "good", strings.Repeat(" ", web.MaxWebhook+1), nil, http.StatusRequestEntityTooLarge, "5 MiB"},
		{"unsigned", "main", "application/json", "", "{}", nil, http.StatusUnauthorized, "secret"},
		{"unsigned nonsense", "main", "application/json", "bad", "nonsense", nil, http.StatusUnauthorized, "secret"},
		{"ignored", "main", "application/json", "good", "ignored", nil, http.StatusOK, "no pull request"},
		{"nonsense", "main", "application/json", "good", "nonsense", nil, http.StatusBadRequest, "no repository"},
		{"form", "main", "application/x-www-form-urlencoded", "good", "{}", nil, http.StatusUnsupportedMediaType, "application/json"},
		{"no type", "main", "", "good", "{}", nil, http.StatusUnsupportedMediaType, "application/json"},
		{"unknown host", "other", "application/json", "good", "{}", nil, http.StatusNotFound, "unknown host"},
		{"not served", "main", "application/json", "good", "{}", fmt.Errorf("%w: acme/secret", vcs.ErrNotServed), http.StatusAccepted, "accepted"},
		{"not stored", "main", "application/json", "good", "{}", errors.New("disk full at /secret/path"), http.StatusServiceUnavailable, "send it again"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			received, storing = nil, tc.storing
			r := httptest.NewRequest("POST", "/webhooks/"+tc.host, strings.NewReader(tc.body))
			r.Header.Set("Content-Type", tc.contentType)
			r.Header.Set("X-Signature", tc.signature)
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			if w.Code != tc.code || !strings.Contains(w.Body.String(), tc.says) {
				t.Errorf("%d %s, want %d %q", w.Code, w.Body, tc.code, tc.says)
			}
			if got, want := len(received) == 1, tc.code == http.StatusAccepted && tc.storing == nil; got != want {
				t.Errorf("received %v", received)
			}
			if strings.Contains(w.Body.String(), "/secret/path") {
				t.Error("the host is told what only the log should say")
			}
			if tc.code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
	s.wants(s.page("/metrics"), `holdfast_webhooks_total{host="main",result="accepted"} 3`,
		`holdfast_webhooks_total{host="main",result="failed"} 1`, `holdfast_webhooks_total{host="main",result="refused"} 6`)
}

// A host that hangs up does not undo what is half stored.
func TestWebhookOutlivesItsRequest(t *testing.T) {
	s := newSite(t, web.Config{
		Hosts:   map[string]vcs.Webhooks{"main": parser{}},
		Receive: func(ctx context.Context, _ vcs.Event) error { return ctx.Err() },
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "POST", "/webhooks/main", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Signature", "good")
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != http.StatusAccepted {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A body that does not come ends the request, and the connection can be used
// for no more.
func TestWebhookThatNeverCame(t *testing.T) {
	s := newSite(t, web.Config{
		Hosts: map[string]vcs.Webhooks{"main": parser{}}, BodyTimeout: 50 * time.Millisecond,
		Receive: func(context.Context, vcs.Event) error { return errors.New("received") },
	})
	server := httptest.NewServer(s.handler)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /webhooks/main HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(answer, "400") {
		t.Errorf("%q, %v", answer, err)
	}
}
