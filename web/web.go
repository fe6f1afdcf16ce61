// Package web is Holdfast's front door: it takes what hosts send, so that
// nothing is acknowledged before it is durable, and shows people what every
// workspace and run is doing, so that nobody has to ask.
//
// The pages need no script; one small script follows a log that grows. All
// that they show comes from the store, so that they are the same after a
// restart and on every machine. Everything shown is hostile (names, plans and
// logs come from pull requests) and is escaped and stripped of what a terminal
// or a browser would obey.
//
// There are no users here. The pages carry plans and logs, which may be
// confidential: serve on a loopback address, which is the program's default,
// and put what authenticates people in front of it. Only /webhooks/ and
// /hooks/ have to be reachable from outside; their requests are signed.
package web

import (
	"context"
	"errors"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"holdfast/runner/markdown"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
)

// MaxWebhook is the largest webhook body in bytes; hosts send less.
const MaxWebhook = 5 << 20

// Config is what the front door is connected to.
type Config struct {
	// Store is read for the pages. Its Artifacts come unsealed. Required.
	Store *store.Store
	// Hosts are the webhook receivers by the name in the URL:
	// POST /webhooks/NAME.
	Hosts map[string]vcs.Webhooks
	// Receive makes an event durable; only when it has returned nil is the
	// webhook acknowledged. It returns vcs.ErrIgnored for an event of no use.
	// Required where there are Hosts.
	Receive func(ctx context.Context, e vcs.Event) error
	// CloudEvent takes a signed request that asks for drift checks; only when
	// it has returned nil is that acknowledged. It returns vcs.ErrSignature, or
	// vcs.ErrIgnored with the reason. Nil: /hooks/cloud-event is not there.
	CloudEvent func(ctx context.Context, header http.Header, body []byte) error
	// Ready says why the server cannot take work now (store not writable, disk
	// full), in words for people. Defaults to always ready.
	Ready func(ctx context.Context) error
	// Registry is what /metrics shows, with this package's own metrics added.
	// Defaults to a new one.
	Registry *prometheus.Registry
	// Repositories are those that are configured, as HOST/OWNER/NAME; the
	// overview names the ones that have no workspaces yet. Defaults to none.
	Repositories func() []string
	// Diff renders a plan's changes as text, sensitive values masked. Defaults
	// to markdown.PlanText.
	Diff func(*plan.Plan) string
	// PullURL returns the address of a pull request on its host, or "" where
	// it has none. Defaults to none.
	PullURL func(repository string, number int) string
	// BaseURL is the address that people know this server by. Its path is the
	// prefix of all links; requests are taken with and without it. Where it is
	// set, pages are served only under its host name, names without a dot and
	// IP addresses, so that a foreign page cannot read them through its
	// visitor's browser by rebinding a name of its own. Defaults to none.
	BaseURL string
	// Logger defaults to silence.
	Logger *slog.Logger
	// Poll is how often an open log looks for more. Defaults to 300 ms.
	Poll time.Duration
	// Heartbeat is the longest silence of an open log. Defaults to 15 s.
	Heartbeat time.Duration
	// BodyTimeout is how long a webhook's body may take. Defaults to 30 s.
	BodyTimeout time.Duration
	// MaxStreams is how many logs may be followed at once. Defaults to 256.
	MaxStreams int
	// Now defaults to time.Now.
	Now func() time.Time
}

// WithDefaults returns c with its defaults filled in.
func (c Config) WithDefaults() Config {
	if c.Ready == nil {
		c.Ready = func(context.Context) error { return nil }
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Repositories == nil {
		c.Repositories = func() []string { return nil }
	}
	if c.Diff == nil {
		c.Diff = markdown.PlanText
	}
	if c.PullURL == nil {
		c.PullURL = func(string, int) string { return "" }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Poll <= 0 {
		c.Poll = 300 * time.Millisecond
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.BodyTimeout <= 0 {
		c.BodyTimeout = 30 * time.Second
	}
	if c.MaxStreams <= 0 {
		c.MaxStreams = 256
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func (c Config) validate() error {
	if c.Store == nil {
		return errors.New("web: Config.Store is missing")
	}
	if len(c.Hosts) > 0 && c.Receive == nil {
		return errors.New("web: Config.Receive is missing")
	}
	if c.BaseURL != "" {
		u, err := url.Parse(c.BaseURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return errors.New("web: Config.BaseURL is not an http or https URL: " + c.BaseURL)
		}
	}
	return nil
}

// server holds what the handlers share.
type server struct {
	Config
	prefix    string // of all links, without a slash at the end
	hostname  string // of BaseURL
	templates map[string]*template.Template
	assets    map[string]asset
	metrics   *metrics
	streams   chan struct{} // one token per followed log
}

// New returns the handler of all paths. Logs that are being followed end with
// their request's context: give http.Server a BaseContext that ends when the
// program does, or Shutdown waits for them.
func New(c Config) (http.Handler, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	s := &server{Config: c.WithDefaults()}
	if u, err := url.Parse(s.BaseURL); err == nil {
		s.prefix, s.hostname = strings.TrimRight(u.EscapedPath(), "/"), u.Hostname()
	}
	var err error
	if s.metrics, err = newMetrics(s.Registry); err != nil {
		return nil, err
	}
	s.assets = loadAssets()
	s.templates = s.parseTemplates()
	s.streams = make(chan struct{}, s.MaxStreams)
	return s.routes(), nil
}

func (s *server) routes() http.Handler {
	pages := http.NewServeMux()
	pages.HandleFunc("GET /{$}", s.overview)
	pages.HandleFunc("GET /runs", s.runList)
	pages.HandleFunc("GET /runs/{id}", s.run)
	pages.HandleFunc("GET /runs/{id}/log", s.runLog)
	pages.HandleFunc("GET /runs/{id}/events", s.runEvents)
	pages.HandleFunc("GET /pulls/{path...}", s.pull)
	pages.HandleFunc("GET /drift", s.driftList)
	pages.HandleFunc("GET /drift/{path...}", s.driftHistory)
	pages.HandleFunc("GET /api/runs", s.apiRuns)
	pages.HandleFunc("GET /api/runs/{id}", s.apiRun)
	pages.HandleFunc("GET /api/workspaces", s.apiWorkspaces)
	pages.HandleFunc("GET /api/drift", s.apiDriftList)
	pages.HandleFunc("GET /api/drift/{path...}", s.apiDrift)
	pages.HandleFunc("GET /static/{name}", s.static)
	pages.HandleFunc("/", s.notFound)

	root := http.NewServeMux()
	root.HandleFunc("POST /webhooks/{host}", s.webhook)
	if s.CloudEvent != nil {
		root.HandleFunc("POST /hooks/cloud-event", s.cloudEvent)
	}
	root.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	root.HandleFunc("GET /readyz", s.ready)
	root.Handle("GET /metrics", promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{Registry: s.Registry}))
	root.Handle("/", s.guard(pages))
	return s.secure(s.strip(root))
}

// strip takes requests with the links' prefix too: some proxies remove it,
// some do not.
func (s *server) strip(next http.Handler) http.Handler {
	if s.prefix == "" {
		return next
	}
	stripped := http.StripPrefix(s.prefix, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.EscapedPath(); {
		case path == s.prefix:
			http.Redirect(w, r, s.prefix+"/", http.StatusMovedPermanently)
		case strings.HasPrefix(path, s.prefix+"/"):
			stripped.ServeHTTP(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ready answers 503 with the reason while the server cannot take work.
func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
}
