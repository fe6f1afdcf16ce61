package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"time"

	"holdfast/runner/plan"
	"holdfast/store"
)

//go:embed templates static
var files embed.FS

// asset is a file that pages load.
type asset struct {
	data        []byte
	contentType string
	url         string // with the content's hash, so that it may be kept for ever
}

// loadAssets reads what is embedded; it cannot fail but by a mistake in the
// program.
func loadAssets() map[string]asset {
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	entries, err := fs.ReadDir(files, "static")
	if err != nil {
		panic(err)
	}
	out := map[string]asset{}
	for _, e := range entries {
		data, err := files.ReadFile("static/" + e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(data)
		out[e.Name()] = asset{data, types[path.Ext(e.Name())], "/static/" + e.Name() + "?v=" + hex.EncodeToString(sum[:6])}
	}
	return out
}

func (s *server) static(w http.ResponseWriter, r *http.Request) {
	a, ok := s.assets[r.PathValue("name")]
	if !ok {
		s.notFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Write(a.data)
}

func (s *server) parseTemplates() map[string]*template.Template {
	funcs := template.FuncMap{
		"link":      func(p string) string { return s.prefix + p },
		"asset":     func(name string) string { return s.prefix + s.assets[name].url },
		"run":       func(id string) string { return s.prefix + runPath(id) },
		"pull":      func(repository string, n int) string { return s.prefix + pullPath(repository, n) },
		"workspace": func(repository, name string) string { return s.prefix + workspacePath(repository, name) },
		"drift":     func(repository, name string) string { return s.prefix + driftPath(repository, name) },
		"words":     words,
		"short":     short,
		"counts":    counts,
		"clean":     clean,
		"ago":       func(t time.Time) string { return ago(s.Now(), t) },
		"utc":       func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"iso":       func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"took":      func(r store.Run) string { return took(s.Now(), r) },
		"lasted":    lasted,
		"gist":      gist,
		"some":      func(list []string) string { return some(list, 5) },
		"table":     func(r *plan.DriftReport) driftTable { return tableOf(r.Resources, 0) },
		"happened":  happened,
		"unvalued":  unvalued,
		"first":     func(list []string) []string { return list[:min(len(list), maxHistory)] },
		"beyond":    func(list []string) int { return max(len(list)-maxHistory, 0) },
		"weblink":   weblink,
		"plural":    plural,
	}
	out := map[string]*template.Template{}
	for _, name := range []string{"overview", "runs", "run", "drift", "history", "message"} {
		out[name] = template.Must(template.New("").Funcs(funcs).ParseFS(files, "templates/layout.html", "templates/"+name+".html"))
	}
	return out
}

// render writes a page whole or not at all.
func (s *server) render(w http.ResponseWriter, code int, name string, data any) {
	var b bytes.Buffer
	if err := s.templates[name].ExecuteTemplate(&b, "layout", data); err != nil {
		s.Logger.Error("page not rendered", "page", name, "error", err)
		http.Error(w, "This page could not be made. The server's log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	w.Write(b.Bytes())
}

// message is a page with a sentence.
type message struct{ Title, Text string }

func (s *server) notFound(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, store.ErrNotFound)
}

// errBadRequest is a query that cannot be answered; its text is for people.
type errBadRequest string

func (e errBadRequest) Error() string { return string(e) }

// fail answers an error: what is missing or wrong is said, the rest is only
// logged.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	code, m := http.StatusServiceUnavailable, message{"Try again soon", "The store does not answer. The server's log says why."}
	bad, isBad := errors.AsType[errBadRequest](err)
	switch {
	case errors.Is(err, store.ErrNotFound):
		code, m = http.StatusNotFound, message{"Not found", "There is nothing here. It may have been removed since the link was made."}
	case isBad:
		code, m = http.StatusBadRequest, message{"Not understood", string(bad)}
	case r.Context().Err() != nil:
		return // nobody is waiting for the answer
	default:
		s.Logger.Error("page not served", "path", r.URL.Path, "error", err)
	}
	if isAPI(r) {
		writeJSON(w, code, map[string]string{"error": m.Text})
		return
	}
	s.render(w, code, "message", m)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, fmt.Sprintf("write answer: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(data, '\n'))
}
