package smallcloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// maxBody bounds a request's body in bytes.
const maxBody = 1 << 20

// Image is what the data source of the provider reads.
type Image struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (c *Cloud) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/resources", c.apiList)
	mux.HandleFunc("POST /api/resources", c.apiCreate)
	mux.HandleFunc("GET /api/resources/{id}", c.apiRead)
	mux.HandleFunc("PUT /api/resources/{id}", c.apiUpdate)
	mux.HandleFunc("PATCH /api/resources/{id}", c.apiPatch)
	mux.HandleFunc("DELETE /api/resources/{id}", c.apiDelete)
	mux.HandleFunc("GET /api/images/{name}", c.apiImage)
	mux.HandleFunc("GET /api/journal", c.apiJournal)
	mux.HandleFunc("GET /{$}", c.page)
	mux.HandleFunc("GET /style.css", serveStyle)
	mux.HandleFunc("POST /resources/{id}", c.pageChange)
	mux.HandleFunc("POST /resources/{id}/delete", c.pageDelete)
	// A page somewhere else must not change this cloud through its visitor's
	// browser. Terraform's requests carry no browser headers and pass.
	return http.NewCrossOriginProtection().Handler(mux)
}

func (c *Cloud) apiList(w http.ResponseWriter, r *http.Request) {
	all := c.Resources()
	if kind := r.URL.Query().Get("kind"); kind != "" {
		kept := all[:0]
		for _, resource := range all {
			if resource.Kind == kind {
				kept = append(kept, resource)
			}
		}
		all = kept
	}
	reply(w, http.StatusOK, all)
}

func (c *Cloud) apiCreate(w http.ResponseWriter, r *http.Request) {
	var spec Spec
	if !decode(w, r, &spec) {
		return
	}
	resource, err := c.create(r.Context(), spec)
	answer(w, http.StatusCreated, resource, err)
}

func (c *Cloud) apiRead(w http.ResponseWriter, r *http.Request) {
	resource, err := c.read(r.PathValue("id"))
	answer(w, http.StatusOK, resource, err)
}

func (c *Cloud) apiUpdate(w http.ResponseWriter, r *http.Request) {
	var spec Spec
	if !decode(w, r, &spec) {
		return
	}
	resource, err := c.update(r.Context(), r.PathValue("id"), spec)
	answer(w, http.StatusOK, resource, err)
}

// apiPatch changes some attributes by hand: strings, by the names that Set
// takes.
func (c *Cloud) apiPatch(w http.ResponseWriter, r *http.Request) {
	var attributes map[string]string
	if !decode(w, r, &attributes) {
		return
	}
	id := r.PathValue("id")
	for name, value := range attributes {
		if err := c.Set(id, name, value); err != nil {
			answer(w, 0, Resource{}, err)
			return
		}
	}
	resource, err := c.read(id)
	answer(w, http.StatusOK, resource, err)
}

// apiDelete takes "?by=hand", for tests that delete behind Terraform's back.
func (c *Cloud) apiDelete(w http.ResponseWriter, r *http.Request) {
	if err := c.remove(r.PathValue("id"), r.URL.Query().Get("by") == "hand"); err != nil {
		answer(w, 0, Resource{}, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// apiImage takes "?delay=3s": a slow data source makes a slow plan.
func (c *Cloud) apiImage(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	delay, err := delayOf(map[string]any{"delay": r.URL.Query().Get("delay")}, 0)
	if err != nil {
		answer(w, 0, Resource{}, err)
		return
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	if err := c.note(Entry{Op: OpRead, Kind: "image", Name: name}); err != nil {
		answer(w, 0, Resource{}, err)
		return
	}
	sum := sha256.Sum256([]byte(name))
	reply(w, http.StatusOK, Image{ID: "image-" + hex.EncodeToString(sum[:4]), Name: name})
}

func (c *Cloud) apiJournal(w http.ResponseWriter, _ *http.Request) {
	entries := c.Journal()
	if entries == nil {
		entries = []Entry{}
	}
	reply(w, http.StatusOK, entries)
}

// decode reads a JSON body, or answers why not.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(into)
	if err == nil {
		return true
	}
	code := http.StatusBadRequest
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		code = http.StatusRequestEntityTooLarge
	}
	reply(w, code, map[string]string{"error": "request body: " + err.Error()})
	return false
}

func answer(w http.ResponseWriter, code int, resource Resource, err error) {
	if err == nil {
		reply(w, code, resource)
		return
	}
	reply(w, statusOf(err), map[string]string{"error": err.Error()})
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, ErrRefused):
		return http.StatusConflict
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrClosed):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func reply(w http.ResponseWriter, code int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, fmt.Sprintf("write answer: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	w.Write(append(data, '\n'))
}

// shown is how the page writes an attribute's value.
func shown(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}
