package giteatest

import (
	"fmt"
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
	now := s.cfg.Now()
	s.mu.Lock()
	s.passed = slices.DeleteFunc(s.passed, func(t time.Time) bool { return now.Sub(t) >= s.cfg.Window })
	var wait time.Duration
	if len(s.passed) < s.cfg.Limit {
		s.passed = append(s.passed, now)
	} else {
		wait = s.passed[0].Add(s.cfg.Window).Sub(now)
	}
	s.mu.Unlock()
	if wait <= 0 {
		return true
	}
	s.add(r, Call{Status: http.StatusTooManyRequests, Over: true})
	w.Header().Set("Retry-After", fmt.Sprint(int64((wait+time.Second-1)/time.Second)))
	http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
	return false
}

func (s *Server) record(r *http.Request, status int) { s.add(r, Call{Status: status}) }

// add keeps a call, of which c has what r does not tell.
func (s *Server) add(r *http.Request, c Call) {
	c.Method, c.Path, c.At = r.Method, strings.TrimPrefix(r.URL.Path, "/api/v1"), s.cfg.Now()
	if !gittest.IsGit(r) {
		_, pattern := s.api.Handler(r)
		_, route, _ := strings.Cut(pattern, " ")
		c.Route = "unknown"
		if route != "" {
			c.Route = strings.TrimPrefix(route, "/api/v1")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.userOf(r); u != nil {
		c.User = u.login
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
}

func (c *Count) add(over bool) {
	c.Total++
	if over {
		c.Refused++
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
		all.add(c.Over)
		of := all.Routes[c.Method+" "+c.Route]
		of.add(c.Over)
		all.Routes[c.Method+" "+c.Route] = of
	}
	return all
}
