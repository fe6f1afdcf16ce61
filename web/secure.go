package web

import (
	"net"
	"net/http"
	"strings"
)

// policy lets a page load its own style sheet, script and icon, follow its own
// events, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secure sets the headers of every answer.
func (s *server) secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		// What is shown may be confidential and is old in a moment.
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// guard serves pages only under names that can be this server's; see
// Config.BaseURL.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.knownHost(r.Host) {
			http.Error(w, "This server is known as "+s.BaseURL+". Open it there, or set its url to the name that you use.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) knownHost(host string) bool {
	if s.hostname == "" {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	return strings.EqualFold(host, s.hostname) || !strings.Contains(host, ".") || net.ParseIP(host) != nil ||
		strings.HasSuffix(strings.ToLower(host), ".localhost")
}
