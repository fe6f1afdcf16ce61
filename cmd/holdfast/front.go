package main

import (
	"errors"
	"net/http"
	"sync/atomic"
)

// front answers while a process starts, and hands on to its handler from then
// on: a store that cannot be reached yet is no reason to be killed for.
type front struct {
	handler atomic.Pointer[http.Handler]
	waiting atomic.Pointer[error]
}

var errStarting = errors.New("starting")

// wait notes what the start waits for.
func (f *front) wait(err error) { f.waiting.Store(&err) }

// serve hands all requests on to h.
func (f *front) serve(h http.Handler) { f.handler.Store(&h) }

// ServeHTTP answers /healthz, and everything else with what is waited for.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := f.handler.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	if r.URL.Path == "/healthz" {
		_, _ = w.Write([]byte("ok\n"))
		return
	}
	why := errStarting
	if p := f.waiting.Load(); p != nil {
		why = *p
	}
	w.Header().Set("Retry-After", "5")
	http.Error(w, "not ready: "+why.Error(), http.StatusServiceUnavailable)
}
