package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"holdfast/watch"
)

const (
	maxBody    = 1 << 20 // bytes of an answer
	maxText    = 300     // bytes of each of its strings
	maxURL     = 2000    // bytes; a longer one is left out, since half of one is of no use
	maxAnswers = 5       // per resource
)

// Config says whom to ask.
type Config struct {
	URL    string // http:// or https://
	Secret string // signs the questions
	// Timeout is for one question with its answer. Defaults to 15 seconds.
	Timeout time.Duration
	// Client defaults to one of its own. Redirects are never followed.
	Client *http.Client
}

// Attributor is a watch.Attributor. Safe for concurrent use.
type Attributor struct {
	url, host, secret string
	timeout           time.Duration
	client            http.Client
	now               func() time.Time
}

var _ watch.Attributor = (*Attributor)(nil)

// NewAttributor checks the configuration and makes no request. Its errors do not
// have the address in them, which may hold a password.
func NewAttributor(c Config) (*Attributor, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return nil, errors.New("the hook's address is not one that begins with https:// or http://")
	case c.Secret == "":
		return nil, errors.New("the hook has no secret to sign questions with")
	}
	a := &Attributor{url: c.URL, host: u.Host, secret: c.Secret, timeout: c.Timeout, now: time.Now}
	if a.timeout <= 0 {
		a.timeout = 15 * time.Second
	}
	if c.Client != nil {
		a.client = *c.Client
	}
	// A redirect could take the question, which names what is in the cloud, to
	// somebody else.
	a.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return a, nil
}

// Attribute asks once. Only answers about the resources of the question are
// returned, five for each at most. An answer with the status 204, or without
// answers, is none and no error; every other status but 200 is an error.
func (a *Attributor) Attribute(ctx context.Context, q watch.Question) ([]watch.Answer, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("write the question: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: the request cannot be made", a.host)
	}
	req.Header = Sign(a.secret, body, a.now())
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "holdfast")
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.host, withoutAddress(err))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNoContent:
		return nil, nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, fmt.Errorf("ask %s: it leads elsewhere (%d), which is not followed", a.host, resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("ask %s: it answered %d %s", a.host, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", a.host, withoutAddress(err))
	}
	if len(data) > maxBody {
		return nil, fmt.Errorf("the answer of %s is larger than 1 MiB", a.host)
	}
	answers, err := parse(data, q)
	if err != nil {
		return nil, fmt.Errorf("the answer of %s: %w", a.host, err)
	}
	return answers, nil
}

// parse reads {"answers": [...]}, which others wrote.
func parse(data []byte, q watch.Question) ([]watch.Answer, error) {
	var in struct {
		Answers []watch.Answer `json:"answers"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, errors.New(watch.Clean("not the JSON that was expected: "+err.Error(), maxText))
	}
	left := map[string]int{}
	for _, r := range q.Resources {
		left[r.Address] = maxAnswers
	}
	var out []watch.Answer
	for _, answer := range in.Answers {
		a := watch.Answer{
			Address: answer.Address,
			Actor:   watch.Clean(answer.Actor, maxText),
			Call:    watch.Clean(answer.Call, maxText),
			At:      answer.At,
			Source:  watch.Clean(answer.Source, maxText),
			URL:     link(answer.URL),
		}
		if left[a.Address] == 0 || a.Actor == "" && a.Call == "" {
			continue
		}
		left[a.Address]--
		out = append(out, a)
	}
	return out, nil
}

// link returns an address that a page may show as a link, or "".
func link(s string) string {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxURL || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") ||
		watch.Clean(s, maxURL) != s || strings.ContainsAny(s, " <>\"'`\\") {
		return ""
	}
	return s
}

// withoutAddress drops the address from what net/http says.
func withoutAddress(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
