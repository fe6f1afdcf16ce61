// Package transport is what the adapters of hosts with an HTTP API share: one
// error for every answer that is no success, limits on what an answer may be,
// requests that cost nothing where nothing has changed, and the parts of
// reading a webhook that do not depend on the host.
//
// It sits below the hosts' official clients, because these drop the body of
// some answers and read all of others.
package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/vcs"
)

const (
	// MaxResponse bounds a response's body. A page of 100 pull requests with
	// long texts and full repositories is under 4 MiB; a host that sends more
	// than this sends nonsense.
	MaxResponse = 32 << 20
	// maxMessage bounds what is kept of an answer that refuses, in bytes.
	maxMessage = 500
	// MaxRetryAfter bounds how long a host can make us wait: what it says
	// beyond is a mistake or malice, and asking again costs one request.
	MaxRetryAfter = time.Hour
	// RequestTimeout bounds one request, its body included. A page of pull
	// requests takes a slow host some seconds.
	RequestTimeout = 30 * time.Second
)

// Config is how an adapter's requests are made.
type Config struct {
	// Client makes the requests. Its Transport and Timeout are used. Defaults
	// to a client of its own with a timeout of 30 seconds.
	Client *http.Client
	// Now is the clock that relative retry times are added to. Defaults to
	// time.Now.
	Now func() time.Time
	// Hint says what to do about an answer that refuses, in the host's own
	// words; empty where there is nothing to say. May be nil.
	Hint func(*Error) string
	// Kind tells what an answer that is no success means where the host has a
	// way of its own to say it: vcs.ErrNotFound, vcs.ErrDenied, a
	// *vcs.RateLimitError. nil leaves it to what HTTP says. May be nil.
	Kind func(status int, header http.Header, body []byte) error
	// CacheSize bounds the answers kept for conditional requests, in bytes.
	// Defaults to 64 MiB; negative keeps none.
	CacheSize int64
}

// New returns a client with errors, limits, the redirect rule and the cache of
// this package.
func New(cfg Config) *http.Client {
	if cfg.Client == nil {
		cfg.Client = &http.Client{}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.CacheSize == 0 {
		cfg.CacheSize = 64 << 20
	}
	c := *cfg.Client
	next := c.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	if cfg.CacheSize > 0 {
		next = &conditional{next: next, max: cfg.CacheSize, entries: map[string]*answer{}}
	}
	c.Transport = &transport{next: next, cfg: cfg}
	c.CheckRedirect = sameHost
	if c.Timeout == 0 {
		c.Timeout = RequestTimeout
	}
	return &c
}

// Error is an answer of the host that is not a success.
type Error struct {
	Method  string
	Path    string
	Status  int
	Message string // what the host said, in one short line
	Kind    error  // vcs.ErrNotFound, vcs.ErrDenied, a *vcs.RateLimitError, or nil
	Header  http.Header
	Body    []byte // the first 64 KiB

	hint func(*Error) string
}

// Error is one line.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s %s: the host answered %d %s", e.Method, e.Path, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Kind != nil {
		s += ": " + e.Kind.Error()
	}
	return s
}

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

// Hint says what to do.
func (e *Error) Hint() string {
	if e.hint == nil {
		return ""
	}
	return e.hint(e)
}

// StatusOf returns the status of the answer that err is about; 0 where it is
// about none.
func StatusOf(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

// sameHost follows a redirect only within the host and with the same method:
// that is what hosts answer for a renamed repository. One that leads elsewhere
// would take the token along or turn a POST into a GET.
func sameHost(req *http.Request, via []*http.Request) error {
	from := via[0]
	switch {
	case req.URL.Host != from.URL.Host || req.URL.Scheme != from.URL.Scheme:
		return fmt.Errorf("the host redirects to %s://%s: configure that as its url", req.URL.Scheme, req.URL.Host)
	case req.Method != from.Method:
		return fmt.Errorf("the host redirects %s to %s %s", from.Method, req.Method, req.URL.Path)
	case len(via) >= 5:
		return errors.New("the host redirects in a circle")
	}
	return nil
}

// minAway is the shortest time for which a limited host is left alone: what is
// shorter is over before the next request.
const minAway = 2 * time.Second

// transport turns an answer that is not a success into an *Error and bounds
// bodies. A host that said when it answers again is not asked before.
type transport struct {
	next http.RoundTripper
	cfg  Config

	mu   sync.Mutex
	away time.Time
}

// limited returns the limit that holds still; nil where there is none.
func (t *transport) limited() *vcs.RateLimitError {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.cfg.Now().Before(t.away) {
		return nil
	}
	return &vcs.RateLimitError{RetryAt: t.away}
}

// leave has the host left alone until a time.
func (t *transport) leave(until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if until.Sub(t.cfg.Now()) >= minAway && until.After(t.away) {
		t.away = until
	}
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if limit := t.limited(); limit != nil {
		return nil, &Error{Method: req.Method, Path: req.URL.Path, Status: http.StatusTooManyRequests, Message: "not asked, as it said to stay away", Kind: limit}
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 400 {
		resp.Body = &boundedBody{rc: resp.Body, left: MaxResponse}
		return resp, nil
	}
	defer resp.Body.Close()
	// A body that ends early still leaves the status to report.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	kind := t.kind(resp, body)
	if limit, ok := kind.(*vcs.RateLimitError); ok {
		t.leave(limit.RetryAt)
	}
	return nil, &Error{
		Method: req.Method, Path: req.URL.Path, Status: resp.StatusCode,
		Message: Message(body), Kind: kind, Header: resp.Header, Body: body, hint: t.cfg.Hint,
	}
}

func (t *transport) kind(resp *http.Response, body []byte) error {
	if t.cfg.Kind != nil {
		if kind := t.cfg.Kind(resp.StatusCode, resp.Header, body); kind != nil {
			return kind
		}
	}
	wait := resp.Header.Get("Retry-After")
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests,
		s == http.StatusForbidden && (wait != "" || resp.Header.Get("X-RateLimit-Remaining") == "0"),
		s == http.StatusServiceUnavailable && wait != "":
		return &vcs.RateLimitError{RetryAt: RetryAt(resp.Header, t.cfg.Now())}
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return vcs.ErrDenied
	case s == http.StatusNotFound, s == http.StatusGone:
		return vcs.ErrNotFound
	default:
		return nil
	}
}

// RetryAt reads Retry-After (seconds or a date, RFC 9110 section 10.2.3), else
// X-RateLimit-Reset or RateLimit-Reset (seconds since 1970). Zero where none
// can be read; never in the past, and an hour from now at most.
func RetryAt(h http.Header, now time.Time) time.Time {
	var at time.Time
	after, reset := strings.TrimSpace(h.Get("Retry-After")), strings.TrimSpace(h.Get("X-RateLimit-Reset"))
	if reset == "" {
		reset = strings.TrimSpace(h.Get("RateLimit-Reset"))
	}
	if s, err := strconv.ParseInt(after, 10, 64); err == nil {
		// Compared before multiplying: a large number would overflow.
		at = now.Add(time.Duration(min(max(s, 0), int64(MaxRetryAfter/time.Second))) * time.Second)
	} else if d, err := http.ParseTime(after); err == nil {
		at = d
	} else if s, err := strconv.ParseInt(reset, 10, 64); err == nil {
		at = time.Unix(s, 0)
	} else {
		return time.Time{}
	}
	if limit := now.Add(MaxRetryAfter); at.After(limit) {
		return limit
	}
	if at.Before(now) {
		return now
	}
	return at
}

// Message takes what the host said out of its JSON, else the text itself, as
// one short line without control characters. It knows the forms of Gitea
// (where a merge that conflicts is answered with what Git printed), GitHub,
// GitLab, Bitbucket and Azure DevOps.
func Message(body []byte) string {
	s := string(body)
	if found := strings.Join(said(body), " "); found != "" {
		s = found
	} else if strings.HasPrefix(strings.TrimSpace(s), "<") {
		return "an HTML page"
	}
	return OneLine(s, maxMessage)
}

// said collects the texts of an answer's known fields.
func said(body []byte) []string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return nil
	}
	var found []string
	for _, name := range []string{"message", "error", "error_description", "StdOut", "StdErr"} {
		found = append(found, texts(fields[name])...)
	}
	if errs := texts(fields["errors"]); len(errs) > 0 {
		found = append(found, "("+strings.Join(errs, "; ")+")")
	}
	if len(found) == 0 && fields["message"] != nil {
		return []string{" "} // it says that it says nothing
	}
	return found
}

// texts are the strings in a JSON value: itself, the elements of a list, and of
// an object its message or, for each field, the field's texts.
func texts(raw json.RawMessage) []string {
	var s string
	var list []json.RawMessage
	var object map[string]json.RawMessage
	switch {
	case len(raw) == 0:
	case json.Unmarshal(raw, &s) == nil:
		if s != "" {
			return []string{s}
		}
	case json.Unmarshal(raw, &list) == nil:
		var found []string
		for _, e := range list[:min(len(list), 20)] {
			found = append(found, texts(e)...)
		}
		return found
	case json.Unmarshal(raw, &object) == nil:
		if m := texts(object["message"]); len(m) > 0 {
			return m
		}
		var words []string
		for _, name := range []string{"resource", "field", "code"} {
			words = append(words, texts(object[name])...)
		}
		if len(words) > 0 {
			return []string{strings.Join(words, " ")}
		}
		var found []string
		for name, value := range object {
			for _, t := range texts(value) {
				found = append(found, name+" "+t)
			}
		}
		return found
	}
	return nil
}

// boundedBody is a body that fails where it grows too long, so that it is not
// taken for a whole one.
type boundedBody struct {
	rc   io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the host's answer is longer than %d MiB", MaxResponse>>20)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.rc.Read(p)
	b.left -= int64(n)
	return n, err
}

func (b *boundedBody) Close() error { return b.rc.Close() }

// Wrap names the action. The official clients and net/http put the whole URL
// and the method before an *Error, which has both already.
func Wrap(err error, format string, args ...any) error {
	var e *Error
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &e):
		err = e
	case errors.As(err, &syntax), errors.As(err, &typ):
		err = fmt.Errorf("the host's answer is not the JSON that its API has: %w", err)
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
