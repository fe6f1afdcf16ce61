package gitea

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/vcs"
)

// maxResponse bounds a response's body. A page of 50 pull requests with long
// texts and full repositories is under 2 MiB; a host that sends more than this
// sends nonsense.
const maxResponse = 32 << 20

// maxMessage bounds what is kept of an answer that refuses, in bytes.
const maxMessage = 500

// maxRetryAfter bounds how long a host can make us wait: what it says beyond
// is a mistake or malice, and asking again costs one request.
const maxRetryAfter = time.Hour

// responseError is an answer of the host that is not a success.
type responseError struct {
	method  string
	path    string
	status  int
	message string // what the host said, in one short line
	kind    error  // vcs.ErrNotFound, vcs.ErrDenied, a *vcs.RateLimitError, or nil
}

func (e *responseError) Error() string {
	s := fmt.Sprintf("%s %s: the host answered %d %s", e.method, e.path, e.status, http.StatusText(e.status))
	if e.message != "" {
		s += ": " + e.message
	}
	if e.kind != nil {
		s += ": " + e.kind.Error()
	}
	return s
}

func (e *responseError) Unwrap() error { return e.kind }

// Hint says what to do.
func (e *responseError) Hint() string {
	switch {
	case e.status == http.StatusUnauthorized:
		return "The token is wrong or has expired: make a new one in Gitea under Settings, Applications."
	case e.status == http.StatusForbidden && strings.HasSuffix(e.path, "/permission"):
		return "Make the token's user an administrator of the repository: Gitea tells only those what others may do."
	case e.status == http.StatusForbidden:
		return "The token needs the scopes read:user, write:issue and write:repository, and its user access to the repository."
	default:
		return ""
	}
}

// newHTTPClient returns the configured client with errors, limits and the
// redirect rule of this package.
func (h *Host) newHTTPClient() *http.Client {
	c := *h.cfg.HTTPClient
	next := c.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	c.Transport = &transport{next: next, now: h.cfg.Now}
	c.CheckRedirect = sameHost
	if c.Timeout == 0 {
		c.Timeout = requestTimeout
	}
	return &c
}

// sameHost follows a redirect only within the host and with the same method:
// that is what Gitea answers for a renamed repository. One that leads
// elsewhere would take the token along or turn a POST into a GET.
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

// transport turns an answer that is not a success into a *responseError and
// bounds bodies. The official client drops the body of some answers and reads
// all of others, so both are done below it.
type transport struct {
	next http.RoundTripper
	now  func() time.Time
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 400 {
		resp.Body = &boundedBody{rc: resp.Body, left: maxResponse}
		return resp, nil
	}
	defer resp.Body.Close()
	// A body that ends early still leaves the status to report.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return nil, &responseError{
		method: req.Method, path: req.URL.Path, status: resp.StatusCode,
		message: message(body), kind: t.kind(resp),
	}
}

func (t *transport) kind(resp *http.Response) error {
	wait := resp.Header.Get("Retry-After")
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests,
		s == http.StatusForbidden && resp.Header.Get("X-RateLimit-Remaining") == "0",
		s == http.StatusServiceUnavailable && wait != "":
		return &vcs.RateLimitError{RetryAt: retryAt(resp.Header, t.now())}
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return vcs.ErrDenied
	case s == http.StatusNotFound, s == http.StatusGone:
		return vcs.ErrNotFound
	default:
		return nil
	}
}

// retryAt reads Retry-After (seconds or a date, RFC 9110 section 10.2.3), else
// X-RateLimit-Reset (seconds since 1970). Zero where neither can be read.
func retryAt(h http.Header, now time.Time) time.Time {
	var at time.Time
	after, reset := strings.TrimSpace(h.Get("Retry-After")), strings.TrimSpace(h.Get("X-RateLimit-Reset"))
	if s, err := strconv.ParseInt(after, 10, 64); err == nil {
		// Compared before multiplying: a large number would overflow.
		at = now.Add(time.Duration(min(max(s, 0), int64(maxRetryAfter/time.Second))) * time.Second)
	} else if d, err := http.ParseTime(after); err == nil {
		at = d
	} else if s, err := strconv.ParseInt(reset, 10, 64); err == nil {
		at = time.Unix(s, 0)
	} else {
		return time.Time{}
	}
	if limit := now.Add(maxRetryAfter); at.After(limit) {
		return limit
	}
	if at.Before(now) {
		return now
	}
	return at
}

// message takes what the host said out of its JSON, else the text itself, as
// one short line without control characters. A merge that conflicts is answered
// with what Git printed and without a message.
func message(body []byte) string {
	var j struct {
		Message *string  `json:"message"`
		Errors  []string `json:"errors"`
		StdOut  string   `json:"StdOut"`
		StdErr  string   `json:"StdErr"`
	}
	s := string(body)
	if json.Unmarshal(body, &j) == nil && (j.Message != nil || len(j.Errors) > 0 || j.StdOut+j.StdErr != "") {
		if s = j.StdOut + " " + j.StdErr; j.Message != nil {
			s = *j.Message
		}
		if len(j.Errors) > 0 {
			s += " (" + strings.Join(j.Errors, "; ") + ")"
		}
	} else if strings.HasPrefix(strings.TrimSpace(s), "<") {
		return "an HTML page"
	}
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	if len(s) > maxMessage {
		s = s[:maxMessage] + "…"
	}
	return strings.ToValidUTF8(s, "")
}

// boundedBody is a body that fails where it grows too long, so that it is not
// taken for a whole one.
type boundedBody struct {
	rc   io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the host's answer is longer than %d MiB", maxResponse>>20)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.rc.Read(p)
	b.left -= int64(n)
	return n, err
}

func (b *boundedBody) Close() error { return b.rc.Close() }

// wrap names the action. The official client and net/http put the whole URL
// and the method before a *responseError, which has both already.
func wrap(err error, format string, args ...any) error {
	var re *responseError
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &re):
		err = re
	case errors.As(err, &syntax), errors.As(err, &typ):
		err = fmt.Errorf("the host's answer is not the JSON that its API has: %w", err)
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
