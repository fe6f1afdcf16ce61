package forge

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"holdfast/vcs/vcstest/gittest"
)

// FaultKind is how a call goes wrong.
type FaultKind string

// The ways for a call to go wrong.
const (
	Fail500   FaultKind = "500"       // an internal error
	RateLimit FaultKind = "429"       // with Retry-After
	Denied    FaultKind = "401"       // the token is refused
	Hang      FaultKind = "hang"      // no answer until the client gives up
	Garbage   FaultKind = "garbage"   // a proxy's HTML page, with status 200
	Truncated FaultKind = "truncated" // the call is carried out, half of the answer arrives
	Reset     FaultKind = "reset"     // the connection breaks before anything is done
	Lost      FaultKind = "lost"      // the call is carried out, the connection breaks before the answer
)

// Fault makes API calls go wrong, or Git's requests.
type Fault struct {
	Kind FaultKind
	// Git chooses Git's requests in place of the API's. Truncated and Lost are
	// then as Reset.
	Git bool
	// Method and Path choose the calls: Path is a part of the URL's path.
	// Default to all.
	Method, Path string
	// Times is how many calls go wrong; negative means all until ClearFaults.
	// Defaults to 1.
	Times int
	// RetryAfter is what RateLimit tells the client. Defaults to one second.
	RetryAfter time.Duration
}

// Fail makes the next calls that fit go wrong.
func (s *Server) Fail(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	if f.RetryAfter == 0 {
		f.RetryAfter = time.Second
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults lets all calls succeed again.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

func (s *Server) fault(r *http.Request) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Git != gittest.IsGit(r) || (f.Method != "" && f.Method != r.Method) || !strings.Contains(r.URL.Path, f.Path) {
			continue
		}
		if f.Times > 0 {
			f.Times--
			if f.Times == 0 {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			}
		}
		return f
	}
	return nil
}

func (f *Fault) answer(s *Server, w http.ResponseWriter, r *http.Request) {
	kind := f.Kind
	if f.Git && (kind == Truncated || kind == Lost) {
		kind = Reset
	}
	switch kind {
	case Fail500:
		s.record(r, http.StatusInternalServerError)
		s.dialect.Refuse(w, http.StatusInternalServerError, "database is locked", 0)
	case RateLimit:
		s.record(r, http.StatusTooManyRequests)
		s.dialect.Refuse(w, http.StatusTooManyRequests, "too many requests", f.RetryAfter)
	case Denied:
		s.record(r, http.StatusUnauthorized)
		s.dialect.Refuse(w, http.StatusUnauthorized, "invalid username, password or token", 0)
	case Hang:
		s.record(r, 0)
		select {
		case <-r.Context().Done():
		case <-s.stop:
		}
		panic(http.ErrAbortHandler)
	case Garbage:
		s.record(r, http.StatusOK)
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>Sign in</title><p>Sign in to go on.")
	case Truncated:
		r.Header.Del("If-None-Match") // "as before" cannot be half
		rec := httptest.NewRecorder()
		s.serveAPI(rec, r)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(rec.Code)
		body := rec.Body.Bytes()
		_, _ = w.Write(body[:len(body)/2])
	case Lost:
		s.serveAPI(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	default:
		s.record(r, 0)
		panic(http.ErrAbortHandler) // net/http closes the connection without an answer
	}
}
