// Package giteatest is a Gitea in a test's own process: real Git repositories
// behind a smart-HTTP server, the API calls that Holdfast makes, and signed
// webhooks, all in the shape of Gitea 1.26.
//
// A test acts as the people who use the host (Repository.Push, OpenPull,
// Review, Merge), decides which webhooks arrive and in what order (Hold, Send,
// Drop, Redeliver), makes calls fail (Fail) or limits them (Config.Limit), and
// reads what the program left behind (Comments, Statuses, Calls, Requests).
package giteatest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"holdfast/vcs/vcstest/gittest"
)

// TB is what the server needs of a *testing.T.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	TempDir() string
	Cleanup(func())
}

// Config says how the server behaves.
type Config struct {
	// Dir holds the repositories. Defaults to a temporary directory.
	Dir string
	// Addr is where it listens. Defaults to a free port of 127.0.0.1.
	Addr string
	// WebhookSecret signs the webhooks. Defaults to "secret".
	WebhookSecret string
	// MaxPage is the longest page that the API gives. Defaults to 50.
	MaxPage int
	// PublicURL is what the server calls itself in its answers (Gitea's
	// ROOT_URL). Defaults to URL.
	PublicURL string
	// Now is the server's clock. Defaults to time.Now.
	Now func() time.Time
	// Limit is how many API requests it answers in any Window; those beyond
	// get 429 with Retry-After, as from a proxy before Gitea, which itself has
	// no limit. Git's requests do not count. Defaults to 0, no limit.
	Limit int
	// Window is what Limit is for. Defaults to one minute.
	Window time.Duration
}

// Server is the fake. Safe for concurrent use.
type Server struct {
	// URL is the server's address, without a slash at its end.
	URL string
	// Name is the URL's host: the host in Holdfast's repository names.
	Name string
	// Secret signs the webhooks.
	Secret string

	t    TB
	cfg  Config
	git  *gittest.Handler
	api  *http.ServeMux
	stop chan struct{}

	mu     sync.Mutex
	users  map[string]*user
	repos  map[string]*Repository
	nextID int64
	calls  []Call
	passed []time.Time // requests within the limit in the last Window
	faults []*Fault
	hooks  hooks
}

type user struct {
	id      int64
	login   string
	token   string
	isAdmin bool
}

// Call is one API request, or a request of Git's that a Fault answered.
type Call struct {
	Method string
	Path   string // without "/api/v1"
	Route  string // the path with names in place of values, such as "/repos/{owner}/{repo}/pulls/{n}"; empty for Git's
	User   string // whose token it carried
	Status int    // 0 where the answer was withheld
	Over   bool   // refused for Config.Limit
	At     time.Time
}

// New starts a server that lives as long as the test.
func New(t TB, cfg Config) *Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.WebhookSecret == "" {
		cfg.WebhookSecret = "secret"
	}
	if cfg.MaxPage == 0 {
		cfg.MaxPage = 50
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Window == 0 {
		cfg.Window = time.Minute
	}
	ln, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		t.Fatalf("start fake gitea: %v", err)
	}
	s := &Server{
		URL: "http://" + ln.Addr().String(), Name: ln.Addr().String(), Secret: cfg.WebhookSecret,
		t: t, cfg: cfg, stop: make(chan struct{}),
		users: map[string]*user{}, repos: map[string]*Repository{},
	}
	if s.cfg.PublicURL == "" {
		s.cfg.PublicURL = s.URL
	}
	s.git = &gittest.Handler{Repo: s.gitRepo, Auth: s.gitAuth, OnPush: s.gitPushed}
	s.api = s.routes()
	s.hooks.init()
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("fake gitea: %v", err))
		}
	}()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		s.dispatch()
	}()
	t.Cleanup(func() {
		close(s.stop) // hanging requests end
		s.hooks.close()
		_ = srv.Close()
		<-done
		<-sent
	})
	return s
}

// ServeHTTP answers Git's requests and the API's.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isGit := gittest.IsGit(r)
	if !isGit && !s.withinLimit(w, r) {
		return
	}
	if f := s.fault(r); f != nil {
		f.answer(s, w, r)
		return
	}
	if isGit {
		s.git.ServeHTTP(w, r)
		return
	}
	s.serveAPI(w, r)
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	rec := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	s.api.ServeHTTP(rec, r)
	s.record(r, rec.status)
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// AddUser makes a user and returns an access token. A site administrator may
// do everything everywhere.
func (s *Server) AddUser(login string, siteAdmin bool) (token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addUser(login, siteAdmin).token
}

func (s *Server) addUser(login string, siteAdmin bool) *user {
	u := s.users[login]
	if u == nil {
		u = &user{id: s.id(), login: login, token: strings.ToLower(rand.Text())}
		s.users[login] = u
	}
	u.isAdmin = u.isAdmin || siteAdmin
	return u
}

// CreateRepository makes OWNER/NAME with one commit of files on main. The
// owner is made if there is no such user, and has a token (AddUser).
func (s *Server) CreateRepository(owner, name string, files map[string]string) *Repository {
	s.t.Helper()
	bare, err := gittest.Init(filepath.Join(s.cfg.Dir, owner, name+".git"))
	if err != nil {
		s.t.Fatalf("create repository: %v", err)
	}
	bare.Now, bare.Author = s.cfg.Now, owner
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addUser(owner, false)
	r := &Repository{
		Owner: owner, Name: name, Git: gittest.In(s.t, bare),
		s: s, id: s.id(), created: s.cfg.Now(), permissions: map[string]string{owner: "owner"},
		pulls: map[int]*pull{}, statuses: map[string][]status{},
	}
	s.repos[owner+"/"+name] = r
	if len(files) > 0 {
		r.Git.Commit(gittest.DefaultBranch, files, "init")
	}
	return r
}

func (s *Server) id() int64 {
	s.nextID++
	return s.nextID
}

// userOf finds the token's user: in the API's header, or as the password of
// basic authentication. Called with s.mu held.
func (s *Server) userOf(r *http.Request) *user {
	token := ""
	if kind, value, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok &&
		(strings.EqualFold(kind, "token") || strings.EqualFold(kind, "bearer")) {
		token = value
	} else if _, password, ok := r.BasicAuth(); ok {
		token = password
	}
	return s.byToken(token)
}

func (s *Server) byToken(token string) *user {
	for _, u := range s.users {
		if token != "" && u.token == token {
			return u
		}
	}
	return nil
}

func (s *Server) repoAt(path string) *Repository {
	return s.repos[strings.TrimSuffix(path, ".git")]
}

func (s *Server) gitRepo(path string) *gittest.Repo {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repoAt(path)
	if r == nil {
		return nil
	}
	return r.Git.Repo
}

func (s *Server) gitAuth(path, _, password string, write bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, u := s.repoAt(path), s.byToken(password)
	if r == nil || u == nil {
		return false
	}
	if write {
		return r.canWrite(u)
	}
	return r.permission(u.login) != "none"
}

// gitPushed does for a push by a Git client what Repository.Push does. A name
// that is no user's (Gitea looks at the token alone) counts as the owner's.
func (s *Server) gitPushed(path, name string, updates []gittest.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repoAt(path)
	if r == nil {
		return
	}
	if s.users[name] == nil {
		name = r.Owner
	}
	for _, u := range updates {
		r.moved(name, u)
	}
}

// Wait returns when all webhooks that are not held have been sent, or ctx ends.
func (s *Server) Wait(ctx context.Context) error { return s.hooks.wait(ctx) }
