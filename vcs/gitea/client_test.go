package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

var network = vcs.Repository{Host: "git.example.com", Owner: "boss", Name: "network"}

// answering returns a host that answers every request with handler.
func answering(t *testing.T, handler http.HandlerFunc) *Host {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return testHost(t, s.URL)
}

func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func TestNew(t *testing.T) {
	good := Config{URL: "https://Git.Example.com/gitea/", Token: "t0ken", WebhookSecret: "s"}
	h, err := New(good)
	if err != nil || h.Name() != "git.example.com" || h.base != "https://Git.Example.com/gitea" {
		t.Fatalf("New = %+v, %v", h, err)
	}
	for name, tc := range map[string]struct {
		change func(*Config)
		err    string
	}{
		"no url":          {func(c *Config) { c.URL = "" }, "url"},
		"no scheme":       {func(c *Config) { c.URL = "git.example.com" }, "url"},
		"ssh":             {func(c *Config) { c.URL = "ssh://git.example.com" }, "url"},
		"password in url": {func(c *Config) { c.URL = "https://a:hunter2@git.example.com" }, "credentials"},
		"query":           {func(c *Config) { c.URL = "https://git.example.com/?a=b" }, "query"},
		"no token":        {func(c *Config) { c.Token = "" }, "token"},
		"token with line": {func(c *Config) { c.Token = "abc\n" }, "token"},
		"no secret":       {func(c *Config) { c.WebhookSecret = "" }, "secret"},
		"bad name":        {func(c *Config) { c.Name = ".." }, "name"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			tc.change(&c)
			if _, err := New(c); err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("New: %v, want an error about %s", err, tc.err)
			}
		})
	}
}

// TestStart has a host that is down: starting asks it nothing.
func TestStart(t *testing.T) {
	var calls atomic.Int32
	h := answering(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	if n := calls.Load(); n != 0 {
		t.Fatalf("New made %d requests", n)
	}
	if _, err := h.Remote(t.Context(), network); err == nil {
		t.Fatal("an empty answer is a repository")
	}
}

func TestErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		header map[string]string
		body   string
		is     error  // nil means an error of no kind
		says   string // part of the message
		hint   string
	}{
		"unauthorized":  {status: 401, body: `{"message":"token expired"}`, is: vcs.ErrDenied, says: "token expired", hint: "new one"},
		"forbidden":     {status: 403, body: `{"message":"token lacks scope"}`, is: vcs.ErrDenied, says: "token lacks scope", hint: "scopes"},
		"missing":       {status: 404, body: `{"errors":["no such pull"],"message":"not found"}`, is: vcs.ErrNotFound, says: "no such pull"},
		"gone":          {status: 410, is: vcs.ErrNotFound},
		"internal":      {status: 500, body: `{"message":"database is locked"}`, says: "database is locked"},
		"bad gateway":   {status: 502, body: "<html>\n<body>nginx</body>", says: "an HTML page"},
		"not a teapot":  {status: 418, body: "line\x00one\r\nline two", says: "line one line two"},
		"long":          {status: 500, body: strings.Repeat("x", 100_000), says: "…"},
		"locked":        {status: 423, body: `{"message":"repository is archived"}`, says: "archived"},
		"html":          {status: 200, body: "<!doctype html>", says: "not the JSON"},
		"half":          {status: 200, body: `{"number":1,"ba`, says: "not the JSON"},
		"empty":         {status: 200, body: ``, says: "not the JSON"},
		"null":          {status: 200, body: `null`, says: "not a pull request"},
		"another type":  {status: 200, body: `{"number":"one"}`, says: "not the JSON"},
		"another pull":  {status: 200, body: pullJSON(2, `"ref":"b"`), says: "pull request 2"},
		"no head":       {status: 200, body: strings.ReplaceAll(pullJSON(1, `"ref":"b"`), shaB, "--output=x"), says: "no head commit"},
		"redirect away": {status: 302, header: map[string]string{"Location": "https://elsewhere.example.com/x"}, says: "https://elsewhere.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			h := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				for k, v := range tc.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			})
			_, err := h.PullRequest(t.Context(), network, 1)
			var limit *vcs.RateLimitError
			if err == nil || errors.As(err, &limit) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "git.example.com/boss/network#1") {
				t.Fatalf("%v, want %q and the pull request", err, tc.says)
			}
			for _, kind := range []error{vcs.ErrDenied, vcs.ErrNotFound} {
				if errors.Is(err, kind) != (kind == tc.is) {
					t.Errorf("%v: is %v", err, kind)
				}
			}
			if len(err.Error()) > 1200 || strings.ContainsAny(err.Error(), "\x00\n\r") {
				t.Errorf("unfit for a log line: %q", err)
			}
			var hint interface{ Hint() string }
			if tc.hint != "" && (!errors.As(err, &hint) || !strings.Contains(hint.Hint(), tc.hint)) {
				t.Errorf("no hint with %q", tc.hint)
			}
		})
	}
}

// pullJSON is a pull request as the API answers it; head is put into the head.
func pullJSON(number int, head string) string {
	return fmt.Sprintf(`{"number":%d,"title":"t","state":"open","user":{"login":"ann"},
		"base":{"label":"main","ref":"main","sha":"%s","repo_id":3,"repo":{"id":3}},
		"head":{"label":"b","sha":"%s","repo_id":3,"repo":{"id":3},%s},
		"updated_at":"2026-01-02T03:04:05Z"}`, number, shaA, shaB, head)
}

func TestRateLimit(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, tc := range map[string]struct {
		status int
		header map[string]string
		want   time.Time
	}{
		"seconds":        {429, map[string]string{"Retry-After": "30"}, now.Add(30 * time.Second)},
		"date":           {429, map[string]string{"Retry-After": "Fri, 02 Jan 2026 03:05:05 GMT"}, now.Add(time.Minute)},
		"reset":          {429, map[string]string{"X-RateLimit-Reset": fmt.Sprint(now.Unix() + 7)}, now.Add(7 * time.Second)},
		"nothing said":   {429, nil, time.Time{}},
		"nonsense":       {429, map[string]string{"Retry-After": "soon"}, time.Time{}},
		"negative":       {429, map[string]string{"Retry-After": "-5"}, now},
		"in the past":    {429, map[string]string{"X-RateLimit-Reset": "1"}, now},
		"too long":       {429, map[string]string{"Retry-After": "99999999999"}, now.Add(transport.MaxRetryAfter)},
		"forbidden":      {403, map[string]string{"X-RateLimit-Remaining": "0", "Retry-After": "1"}, now.Add(time.Second)},
		"overloaded":     {503, map[string]string{"Retry-After": "2"}, now.Add(2 * time.Second)},
		"date far ahead": {429, map[string]string{"Retry-After": "Fri, 02 Jan 2099 03:05:05 GMT"}, now.Add(transport.MaxRetryAfter)},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for k, v := range tc.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(tc.status)
			}))
			defer s.Close()
			h, err := New(Config{URL: s.URL, Token: "t", WebhookSecret: "s", Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			var limit *vcs.RateLimitError
			_, err = h.Remote(t.Context(), network)
			if !errors.As(err, &limit) || errors.Is(err, vcs.ErrDenied) {
				t.Fatalf("%v, want a RateLimitError", err)
			}
			if !limit.RetryAt.Equal(tc.want) {
				t.Errorf("RetryAt = %v, want %v", limit.RetryAt, tc.want)
			}
		})
	}
}

func TestEndlessAnswer(t *testing.T) {
	h := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"title":"`)
		chunk := strings.Repeat("x", 1<<20)
		for range transport.MaxResponse>>20 + 8 {
			if _, err := fmt.Fprint(w, chunk); err != nil {
				return // the client has had enough
			}
		}
	})
	if _, err := h.PullRequest(t.Context(), network, 1); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Fatalf("%v, want the answer to be cut off", err)
	}
}

func TestDeadline(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	defer close(release)
	h, err := New(Config{URL: s.URL, Token: "t", WebhookSecret: "s", HTTPClient: &http.Client{Timeout: 30 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Remote(context.Background(), network); err == nil {
		t.Fatal("a host that does not answer is waited for")
	}
	if h.cfg.HTTPClient.Transport != nil || testHost(t, s.URL).http.Timeout != transport.RequestTimeout {
		t.Error("the caller's client was changed, or a client without a timeout got none")
	}
}

// TestRenamed follows the redirect that Gitea answers for a renamed
// repository, with the token, and with the body of a POST.
func TestRenamed(t *testing.T) {
	h := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/network") {
			http.Redirect(w, r, strings.Replace(r.URL.Path, "/network", "/net", 1), http.StatusTemporaryRedirect)
			return
		}
		if r.Header.Get("Authorization") != "token token" || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"id":5,"body":"x","user":{"login":"holdfast"}}`)
	})
	if c, err := h.CreateComment(t.Context(), network, 1, "x"); err != nil || c.ID != 5 {
		t.Fatalf("CreateComment = %+v, %v", c, err)
	}
	// A 301 would turn the POST into a GET, whose answer is not a comment.
	h = answering(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusMovedPermanently)
	})
	if _, err := h.CreateComment(t.Context(), network, 1, "x"); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Fatalf("%v, want the redirect refused", err)
	}
}

func TestPages(t *testing.T) {
	comments := func(from, n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`{"id":%d,"body":"c","user":null}`, from+i))
		}
		return "[" + strings.Join(append(all, "null"), ",") + "]"
	}
	for name, tc := range map[string]struct {
		page func(page string) string
		want int
	}{
		"all at once, whatever is asked": {func(string) string { return comments(1, 50) }, 50},
		"short pages": {func(p string) string {
			return map[string]string{"1": comments(1, 20), "2": comments(21, 20), "3": comments(41, 3)}[p] + map[bool]string{true: "[]"}[p > "3"]
		}, 43},
		"null": {func(string) string { return "null" }, 0},
		"shifted": {func(p string) string {
			return map[string]string{"1": comments(1, 50), "2": comments(50, 3)}[p] + map[bool]string{true: "[]"}[p > "2"]
		}, 52},
	} {
		t.Run(name, func(t *testing.T) {
			h := answering(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, tc.page(r.URL.Query().Get("page"))) })
			got, err := h.Comments(t.Context(), network, 1)
			if err != nil || len(got) != tc.want {
				t.Fatalf("%d comments, %v, want %d", len(got), err, tc.want)
			}
		})
	}

	var id atomic.Int64
	h := answering(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, comments(int(id.Add(1)), 1)) })
	if _, err := h.Comments(t.Context(), network, 1); err == nil || !strings.Contains(err.Error(), "no end") {
		t.Errorf("a list without an end: %v", err)
	}
}

func TestSkipsBrokenPullRequests(t *testing.T) {
	h := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("state") == "closed" {
			fmt.Fprint(w, "[]")
			return
		}
		w.Header().Set("X-Total-Count", "3")
		fmt.Fprintf(w, `[%s,{"number":2},%s]`, pullJSON(1, `"ref":"a"`), pullJSON(3, `"ref":"c"`))
	})
	prs, err := h.PullRequests(t.Context(), network, time.Time{})
	if err != nil || len(prs) != 2 || prs[0].Number != 1 || prs[1].Number != 3 {
		t.Fatalf("PullRequests = %+v, %v", prs, err)
	}
}

// TestUntrustedHeads marks what somebody without write permission may have
// pushed.
func TestUntrustedHeads(t *testing.T) {
	own := pullJSON(1, `"ref":"b"`)
	for name, tc := range map[string]struct {
		body string
		fork bool
	}{
		"own branch":   {own, false},
		"fork":         {strings.Replace(own, `"repo_id":3,"repo":{"id":3},"ref"`, `"repo_id":8,"repo":{"id":8},"ref"`, 1), true},
		"deleted fork": {strings.Replace(own, `"repo_id":3,"repo":{"id":3},"ref"`, `"repo_id":0,"repo":null,"ref"`, 1), true},
		"agit":         {strings.Replace(own, `"label":"b"`, `"label":""`, 1), true},
	} {
		h := answering(t, text(200, tc.body))
		pr, err := h.PullRequest(t.Context(), network, 1)
		if err != nil || pr.Fork != tc.fork {
			t.Errorf("%s: Fork = %v, %v, want %v", name, pr.Fork, err, tc.fork)
		}
	}
}

func TestSelfIsRemembered(t *testing.T) {
	var calls atomic.Int32
	h := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		text(200, `{"login":"holdfast"}`)(w, r)
	})
	if _, err := h.Self(t.Context()); err == nil {
		t.Fatal("a failure is a name")
	}
	for range 3 {
		if self, err := h.Self(t.Context()); err != nil || self != "holdfast" {
			t.Fatalf("Self = %q, %v", self, err)
		}
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestPermissionWords(t *testing.T) {
	for word, want := range map[string]vcs.Permission{
		"owner": vcs.PermissionAdmin, "admin": vcs.PermissionAdmin, "write": vcs.PermissionWrite,
		"read": vcs.PermissionRead, "none": vcs.PermissionNone, "": vcs.PermissionNone, "superuser": vcs.PermissionNone,
	} {
		h := answering(t, text(200, `{"permission":"`+word+`"}`))
		if got, err := h.Permission(t.Context(), network, "ann"); err != nil || got != want {
			t.Errorf("%q = %v, %v, want %v", word, got, err, want)
		}
	}
	h := answering(t, text(403, `{"message":"Only admins can query all permissions"}`))
	_, err := h.Permission(t.Context(), network, "ann")
	var hint interface{ Hint() string }
	if !errors.Is(err, vcs.ErrDenied) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "administrator") {
		t.Errorf("%v, want ErrDenied with a hint", err)
	}
}

func TestCut(t *testing.T) {
	if got := transport.Cut(strings.Repeat("é", 255), 255); got != strings.Repeat("é", 255) {
		t.Error("what fits was cut")
	}
	if got := transport.Cut(strings.Repeat("é", 256), 255); got != strings.Repeat("é", 254)+"…" {
		t.Errorf("cut to %d characters", len([]rune(got)))
	}
}
