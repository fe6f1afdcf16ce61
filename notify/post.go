package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"holdfast/watch"
)

const (
	maxReply  = 64 << 10        // bytes that are read of an answer
	maxAfter  = 6 * time.Hour   // the longest time that a receiver can put us off
	someAfter = 1 * time.Minute // where it does not say how long
)

// poster makes the requests. The client follows no redirects.
type poster struct {
	client  http.Client
	now     func() time.Time
	secrets secrets
}

// post sends JSON and returns the beginning of the answer. Its errors are typed
// as a watch.Notifier's.
func (p *poster) post(ctx context.Context, address string, header http.Header, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, &watch.PermanentError{Err: errors.New("the request cannot be made"), Advice: "check the address"}
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "holdfast")
	resp, err := p.client.Do(req)
	if err != nil {
		if e := new(url.Error); errors.As(err, &e) {
			err = e.Err // without the address
		}
		return nil, fmt.Errorf("send to %s: %w", req.URL.Hostname(), err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		// The message is there, whatever happens to the rest of the answer; only
		// Slack and Teams have something to say in it.
		return reply, nil
	}
	if err != nil {
		reply = nil
	}
	said := fmt.Errorf("%s answered %d %s", req.URL.Hostname(), resp.StatusCode, http.StatusText(resp.StatusCode))
	if text := watch.Clean(string(reply), 200); text != "" {
		said = fmt.Errorf("%w: %s", said, text)
	}
	return nil, classify(said, resp.StatusCode, p.after(resp))
}

// classify types an error by its HTTP status.
func classify(err error, status int, after time.Duration) error {
	switch {
	case status == http.StatusTooManyRequests:
		if after < 0 {
			after = someAfter
		}
		return &watch.RetryError{After: after, Err: err}
	case after >= 0 && status >= 500:
		return &watch.RetryError{After: after, Err: err}
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return &watch.PermanentError{Err: err, Advice: "check the token or the secret in the configuration"}
	case status == http.StatusNotFound || status == http.StatusGone:
		return &watch.PermanentError{Err: err, Advice: "the receiver is not there any more: make a new address"}
	case status >= 300 && status < 400:
		return &watch.PermanentError{Err: err, Advice: "redirects are not followed: configure the address to which it leads"}
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
		return &watch.PermanentError{Err: err}
	}
	return err
}

// after reads Retry-After, in seconds or as a date; -1 is none.
func (p *poster) after(resp *http.Response) time.Duration {
	text := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, maxAfter.Seconds()) * float64(time.Second))
	}
	if t, err := http.ParseTime(text); err == nil {
		return min(max(t.Sub(p.now()), 0), maxAfter)
	}
	return -1
}

// encode writes JSON as it is: escaping < and > as \u003c would count against
// the limits of the services.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		// Only what cannot be JSON fails, and all that comes here is made of strings.
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}
