package forge

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Object is a JSON object.
type Object = map[string]any

// Request is what a handler of a dialect works with; the server's lock is held.
type Request struct {
	*http.Request
	W      http.ResponseWriter
	Server *Server
	User   *User
	Repo   *Repository // nil where the route names none
}

// ErrAnswered says that a handler has answered by itself.
var ErrAnswered = errors.New("answered")

// Handler answers a request. An *Error is answered by the dialect's Refuse, any
// other error as 422.
type Handler func(*Request) (status int, answer any, err error)

// Serve is a handler as a route of the API has it. Path returns OWNER/NAME of the
// repository that the request is about; empty: none. May be nil. One that the
// user may not read is not found.
func (s *Server) Serve(path func(*http.Request) string, h Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.Lock()
		defer s.Unlock()
		req := &Request{Request: r, W: w, Server: s, User: s.UserOf(r)}
		status, answer, err := http.StatusOK, any(nil), error(nil)
		switch name := pathOf(path, r); {
		case req.User == nil:
			err = &Error{http.StatusUnauthorized, "invalid username, password or token"}
		case name != "":
			req.Repo = s.RepoAt(name)
			if req.Repo == nil || req.Repo.Permission(req.User.Login) == "none" {
				err = NotFound()
			}
		}
		if err == nil {
			status, answer, err = h(req)
		}
		if errors.Is(err, ErrAnswered) {
			return
		}
		if err != nil {
			e := &Error{http.StatusUnprocessableEntity, err.Error()}
			if errors.Is(err, ErrNoPull) {
				e.Status = http.StatusNotFound
			}
			errors.As(err, &e)
			s.dialect.Refuse(w, e.Status, e.Message, 0)
			return
		}
		if answer == nil {
			w.WriteHeader(status)
			return
		}
		writeConditional(w, r, status, answer)
	}
}

func pathOf(path func(*http.Request) string, r *http.Request) string {
	if path == nil {
		return ""
	}
	return path(r)
}

// writeConditional answers with an ETag, and with 304 where the client has that
// answer.
func writeConditional(w http.ResponseWriter, r *http.Request, status int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // maps of plain values
	}
	sum := sha256.Sum256(append(body, w.Header().Get("Link")...))
	etag := `W/"` + hex.EncodeToString(sum[:16]) + `"`
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if r.Method == http.MethodGet && status == http.StatusOK {
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that went away
}

// WriteJSON answers without a condition.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that went away
}

// Read reads the request's body.
func (r *Request) Read(into any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		return &Error{http.StatusUnprocessableEntity, err.Error()}
	}
	return nil
}

// Pull is the pull request whose number the route has under that name.
func (r *Request) Pull(name string) (*PullRequest, error) {
	p := r.Repo.PullRequests[r.Number(name)]
	if p == nil {
		return nil, NotFound()
	}
	return p, nil
}

// Number is a number of the route; 0 where it is none.
func (r *Request) Number(name string) int {
	n, _ := strconv.Atoi(r.PathValue(name))
	return n
}

// MustWrite refuses a user that may not write.
func (r *Request) MustWrite() error {
	if !r.Repo.CanWrite(r.User) {
		return &Error{http.StatusForbidden, "user should have permission to write"}
	}
	return nil
}

// Query is a parameter of the address.
func (r *Request) Query(name string) string { return r.URL.Query().Get(name) }

// Since is a time in the address; zero where there is none.
func (r *Request) Since(name string) time.Time {
	at, _ := time.Parse(time.RFC3339, r.Query(name))
	return at
}

// Paging is how a host cuts a list into pages.
type Paging struct {
	Size    string // the parameter's name: "limit", "per_page"
	Default int
	Total   string // the header with the whole length; empty: none
}

// Page cuts a list as the query asks and the server allows, and announces the
// other pages in a Link header. It returns the page's number and that of the
// last one too.
func Page[T any](r *Request, p Paging, all []T) (page []T, number, last int) {
	number, _ = strconv.Atoi(r.Query("page"))
	limit, _ := strconv.Atoi(r.Query(p.Size))
	number = max(number, 1)
	if limit <= 0 {
		limit = p.Default
	}
	limit = min(limit, r.Server.MaxPage)
	if p.Total != "" {
		r.W.Header().Set(p.Total, strconv.Itoa(len(all)))
	}
	last = max((len(all)+limit-1)/limit, 1)
	link := func(n int, rel string) string {
		q := r.URL.Query()
		q.Set("page", strconv.Itoa(n))
		u := url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: q.Encode()}
		return fmt.Sprintf("<%s%s>; rel=%q", r.Server.PublicURL, u.RequestURI(), rel)
	}
	var links []string
	if number < last {
		links = append(links, link(number+1, "next"), link(last, "last"))
	}
	if number > 1 {
		links = append(links, link(1, "first"), link(number-1, "prev"))
	}
	if len(links) > 0 {
		r.W.Header().Set("Link", strings.Join(links, ", "))
	}
	from := min((number-1)*limit, len(all))
	return all[from:min(from+limit, len(all))], number, last
}
