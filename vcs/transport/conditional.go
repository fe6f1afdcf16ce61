package transport

import (
	"bytes"
	"container/list"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
)

// maxAnswer is the longest body that is kept, in bytes.
const maxAnswer = 4 << 20

// conditional asks with If-None-Match for what it was answered before, and
// gives the former answer where the host says 304 Not Modified. Nothing is ever
// answered without asking: permissions and states are wanted as they are now.
// (A cache by RFC 9111 would not ask for as long as the host allows, which
// GitHub does for a minute.)
type conditional struct {
	next http.RoundTripper
	max  int64 // of all bodies, in bytes

	mu      sync.Mutex
	size    int64
	entries map[string]*answer
	used    list.List // of *answer, the latest first
}

// answer is a former answer.
type answer struct {
	key    string
	header http.Header
	body   []byte
	place  *list.Element
}

func (c *conditional) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet || req.Header.Get("If-None-Match") != "" || req.Header.Get("Range") != "" {
		return c.next.RoundTrip(req)
	}
	// One host may be asked under several tokens, and in several forms.
	key := req.URL.String() + "\n" + req.Header.Get("Accept") + "\n" + req.Header.Get("Authorization")
	former := c.find(key)
	if former != nil {
		req = req.Clone(req.Context())
		req.Header.Set("If-None-Match", former.header.Get("ETag"))
	}
	resp, err := c.next.RoundTrip(req)
	switch {
	case err != nil:
		return nil, err
	case former != nil && resp.StatusCode == http.StatusNotModified:
		resp.Body.Close()
		return former.again(req, resp), nil
	case resp.StatusCode == http.StatusOK && resp.Header.Get("ETag") != "":
		resp.Body = &recording{ReadCloser: resp.Body, done: func(body []byte) {
			if json.Valid(body) { // anything else must not come back
				c.keep(&answer{key: key, header: resp.Header.Clone(), body: body})
			}
		}}
	}
	return resp, nil
}

// again is the former answer with what the host says of it now.
func (a *answer) again(req *http.Request, now *http.Response) *http.Response {
	header := a.header.Clone()
	for name, values := range now.Header {
		if name != "Content-Length" && name != "Content-Type" && name != "Content-Encoding" {
			header[name] = slices.Clone(values)
		}
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK,
		Proto: now.Proto, ProtoMajor: now.ProtoMajor, ProtoMinor: now.ProtoMinor,
		Header: header, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)),
		Request: req, TLS: now.TLS, Uncompressed: true,
	}
}

func (c *conditional) find(key string) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.entries[key]
	if a != nil {
		c.used.MoveToFront(a.place)
	}
	return a
}

// keep adds an answer, and drops those not used for the longest time.
func (c *conditional) keep(a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.entries[a.key])
	a.place = c.used.PushFront(a)
	c.entries[a.key] = a
	c.size += a.cost()
	for c.size > c.max {
		c.drop(c.used.Back().Value.(*answer))
	}
}

func (c *conditional) drop(a *answer) {
	if a == nil {
		return
	}
	delete(c.entries, a.key)
	c.used.Remove(a.place)
	c.size -= a.cost()
}

// cost is what an answer takes, its headers by a guess.
func (a *answer) cost() int64 { return int64(len(a.body)+len(a.key)) + 2048 }

// recording hands on a body and its copy once it was read to its end.
type recording struct {
	io.ReadCloser
	buf  bytes.Buffer
	done func([]byte)
}

func (r *recording) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if r.done == nil {
		return n, err
	}
	r.buf.Write(p[:n])
	switch {
	case r.buf.Len() > maxAnswer, err != nil && err != io.EOF:
		r.done, r.buf = nil, bytes.Buffer{}
	case err == io.EOF:
		r.done(r.buf.Bytes())
		r.done = nil
	}
	return n, err
}
