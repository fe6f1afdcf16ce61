package forge

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/vcs/vcstest/gittest"
)

// withinLimit answers a request that is one too many, and reports whether it
// is not.
func (s *Server) withinLimit(w http.ResponseWriter, r *http.Request) bool {
	if s.cfg.Limit <= 0 {
		return true
	}
	now := s.Now()
	s.mu.Lock()
	s.passed = slices.DeleteFunc(s.passed, func(t time.Time) bool { return now.Sub(t) >= s.cfg.Window })
	var wait time.Duration
	if len(s.passed) < s.cfg.Limit {
		s.passed = append(s.passed, now)
	} else {
		wait = s.passed[0].Add(s.cfg.Window).Sub(now)
	}
	left, reset := s.cfg.Limit-len(s.passed), s.passed[0].Add(s.cfg.Window)
	s.mu.Unlock()
	if s.dialect.Limits != nil {
		s.dialect.Limits(w.Header(), s.cfg.Limit, left, reset)
	}
	if wait <= 0 {
		return true
	}
	s.add(r, Call{Status: http.StatusTooManyRequests, Over: true})
	s.dialect.Refuse(w, http.StatusTooManyRequests, "too many requests", wait)
	return false
}

// free takes back what an answer of 304 counted.
func (s *Server) free(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status == http.StatusNotModified && s.dialect.FreeNotModified && len(s.passed) > 0 {
		s.passed = s.passed[:len(s.passed)-1]
	}
}

func (s *Server) record(r *http.Request, status int) { s.add(r, Call{Status: status}) }

// add keeps a call, of which c has what r does not tell.
func (s *Server) add(r *http.Request, c Call) {
	c.Method, c.Path, c.At = r.Method, strings.TrimPrefix(r.URL.Path, s.dialect.Prefix), s.Now()
	if !gittest.IsGit(r) {
		_, pattern := s.api.Handler(r)
		_, route, _ := strings.Cut(pattern, " ")
		c.Route = "unknown"
		if route != "" {
			c.Route = strings.TrimPrefix(route, s.dialect.Prefix)
		}
	}
	c.First = r.URL.Query().Get("page") == "" || r.URL.Query().Get("page") == "1"
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.UserOf(r); u != nil {
		c.User = u.Login
	}
	s.calls = append(s.calls, c)
}

// Calls returns the API requests so far whose method is method (or any, if it
// is empty) and whose path contains part.
func (s *Server) Calls(method, part string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Call
	for _, c := range s.calls {
		if (method == "" || c.Method == method) && strings.Contains(c.Path, part) {
			found = append(found, c)
		}
	}
	return found
}

// Count is how many requests came.
type Count struct {
	Total   int
	Refused int // of these, for Config.Limit
	Same    int // of these, answered with 304 Not Modified
}

func (c *Count) add(call Call) {
	c.Total++
	if call.Over {
		c.Refused++
	}
	if call.Status == http.StatusNotModified {
		c.Same++
	}
}

// Requests are the API requests so far; Git's do not count.
type Requests struct {
	Count
	// Routes has them by method and route, such as
	// "GET /repos/{owner}/{repo}/pulls/{n}".
	Routes map[string]Count
}

// Requests counts the API requests so far.
func (s *Server) Requests() Requests {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := Requests{Routes: map[string]Count{}}
	for _, c := range s.calls {
		if c.Route == "" {
			continue
		}
		all.add(c)
		of := all.Routes[c.Method+" "+c.Route]
		of.add(c)
		all.Routes[c.Method+" "+c.Route] = of
	}
	return all
}
