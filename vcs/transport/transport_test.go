package transport_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

func get(t *testing.T, c *http.Client, url string, header ...string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// TestConditional asks with the ETag of the last answer, keeps tokens apart, and
// keeps nothing that is no JSON.
func TestConditional(t *testing.T) {
	var asked, same atomic.Int32
	value := atomic.Value{}
	value.Store(`{"a":1}`)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body := value.Load().(string)
		etag := fmt.Sprintf("%q", body+r.Header.Get("Authorization"))
		w.Header().Set("ETag", etag)
		w.Header().Set("Link", "<x>; rel=next")
		w.Header().Set("X-Left", fmt.Sprint(asked.Load()))
		if r.Header.Get("If-None-Match") == etag {
			same.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, body)
	}))
	defer srv.Close()
	c := transport.New(transport.Config{})
	for i, step := range []struct {
		value, token string
		same         int32
	}{{`{"a":1}`, "", 0}, {`{"a":1}`, "", 1}, {`{"a":1}`, "b", 1}, {`{"a":1}`, "b", 2}, {`{"a":2}`, "", 2}, {`{"a":2}`, "", 3}, {`<html>`, "", 3}, {`<html>`, "", 3}} {
		value.Store(step.value)
		got, err := get(t, c, srv.URL, "Authorization", step.token)
		if err != nil || got != step.value || same.Load() != step.same {
			t.Fatalf("step %d: %q, %v, %d as before, want %q and %d", i, got, err, same.Load(), step.value, step.same)
		}
	}
	value.Store(`{"a":3}`)
	small := transport.New(transport.Config{CacheSize: 4096})
	for i := range 10 {
		if _, err := get(t, small, fmt.Sprintf("%s/%d", srv.URL, i)); err != nil {
			t.Fatal(err)
		}
	}
	before := same.Load()
	if _, err := get(t, small, srv.URL+"/9"); err != nil || same.Load() != before+1 {
		t.Errorf("the last answer is not kept: %v", err)
	}
	if _, err := get(t, small, srv.URL+"/0"); err != nil || same.Load() != before+1 {
		t.Errorf("more is kept than there is room for: %v", err)
	}
}

// TestAway does not ask a host before the time that it said.
func TestAway(t *testing.T) {
	var asked atomic.Int32
	wait := atomic.Value{}
	wait.Store("60")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Retry-After", wait.Load().(string))
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer srv.Close()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := transport.New(transport.Config{Now: func() time.Time { return now }})
	limited := func(want time.Duration) {
		t.Helper()
		var limit *vcs.RateLimitError
		if _, err := get(t, c, srv.URL); !errors.As(err, &limit) || !limit.RetryAt.Equal(now.Add(want)) {
			t.Fatalf("%v, want to stay away for %s", err, want)
		}
	}
	limited(time.Minute)
	now = now.Add(20 * time.Second)
	limited(40 * time.Second)
	if n := asked.Load(); n != 1 {
		t.Errorf("the host was asked %d times", n)
	}
	now = now.Add(40 * time.Second)
	wait.Store("1")
	limited(time.Second)
	limited(time.Second) // so short that it is asked
	if n := asked.Load(); n != 3 {
		t.Errorf("the host was asked %d times", n)
	}
	wait.Store("99999999999999999999") // and no time at all
	var limit *vcs.RateLimitError
	if _, err := get(t, c, srv.URL); !errors.As(err, &limit) || !limit.RetryAt.IsZero() {
		t.Errorf("%v", err)
	}
}

func TestMessage(t *testing.T) {
	for body, want := range map[string]string{
		`{"message":"Validation Failed","errors":[{"resource":"PullRequest","field":"head","code":"invalid"}]}`: "Validation Failed (PullRequest head invalid)",
		`{"message":["Another open merge request already exists: !1"]}`:                                         "Another open merge request already exists: !1",
		`{"message":{"base":["is wrong"]}}`:                                                                     "base is wrong",
		`{"type":"error","error":{"message":"Resource not found"}}`:                                             "Resource not found",
		`{"error":"invalid_token","error_description":"Token was revoked."}`:                                    "invalid_token Token was revoked.",
		"line\x00one\r\nline two":                                                                               "line one line two",
		"<html>":                                                                                                "an HTML page",
		"":                                                                                                      "",
		`{"message":""}`:                                                                                        "",
		`[1,2]`:                                                                                                 "[1,2]",
	} {
		if got := transport.Message([]byte(body)); got != want {
			t.Errorf("%s is %q, want %q", body, got, want)
		}
	}
	if got := transport.Message([]byte(strings.Repeat("x", 10_000))); len(got) > 600 {
		t.Errorf("%d bytes", len(got))
	}
}

// TestClient asks only below its base: a list may lead anywhere.
func TestClient(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"a":1}`)
	}))
	defer srv.Close()
	c := &transport.Client{Base: srv.URL + "/2.0", HTTP: transport.New(transport.Config{}), Auth: func(r *http.Request) { r.Header.Set("Authorization", "token") }}
	var out struct{ A int }
	for _, path := range []string{"/x", srv.URL + "/2.0/x?page=2"} {
		if _, err := c.Do(t.Context(), http.MethodGet, path, nil, &out); err != nil || out.A != 1 {
			t.Errorf("%s: %+v, %v", path, out, err)
		}
	}
	for _, path := range []string{"https://evil.example.com/2.0/x", srv.URL + "/2.0evil", srv.URL + "/admin"} {
		if _, err := c.Do(t.Context(), http.MethodGet, path, nil, &out); err == nil {
			t.Errorf("%s was asked", path)
		}
	}
}

func TestValidMAC(t *testing.T) {
	if transport.ValidMAC("", "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad", nil) {
		t.Error("an empty secret signs")
	}
}
