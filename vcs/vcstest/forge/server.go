// Package forge is what fake hosts share: real Git repositories behind a
// smart-HTTP server, people who push, open, review, comment and merge, webhooks
// that are queued, held back, dropped or sent twice, calls that fail or are
// limited, and a record of them.
//
// A fake host is a Dialect over it: the routes of its API, and the webhooks that
// follow from what people do. Its handlers run under Serve, which checks the
// token, finds the repository, and holds the server's lock.
package forge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
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
	// PublicURL is what the server calls itself in its answers. Defaults to URL.
	PublicURL string
	// Now is the server's clock. Defaults to time.Now.
	Now func() time.Time
	// Limit is how many API requests it answers in any Window; those beyond are
	// refused, as the dialect does it. Git's requests do not count, and those
	// answered 304 count only where the dialect says so. Defaults to 0, no
	// limit.
	Limit int
	// Window is what Limit is for. Defaults to one minute.
	Window time.Duration
}

// Dialect is one kind of host.
type Dialect struct {
	Name   string // "gitea", for messages
	Prefix string // of the API's paths: "/api/v1"
	// PullRef leads to a pull request's head: "refs/pull/%d/head".
	PullRef string
	// OwnIssues is set where issues are numbered apart from pull requests.
	OwnIssues bool
	// Routes is the API.
	Routes func(*Server) *http.ServeMux
	// Hooks returns the webhooks that follow from what somebody did. The lock
	// is held.
	Hooks func(*Repository, Action) []Message
	// Refuse answers a request that fails: with 401, 403, 429 or 500. Wait is how
	// long to stay away, for the rate limit.
	Refuse func(w http.ResponseWriter, status int, message string, wait time.Duration)
	// Limits sets the headers that tell what is left of Config.Limit. May be nil.
	Limits func(h http.Header, limit, left int, reset time.Time)
	// FreeNotModified is set where answers of 304 do not count against the limit.
	FreeNotModified bool
	// Token finds the token of a request whose Authorization header has none that
	// is known. May be nil.
	Token func(*http.Request) string
}

// Server is the fake. Safe for concurrent use.
type Server struct {
	// URL is the server's address, without a slash at its end.
	URL string
	// Name is the URL's host: the host in Holdfast's repository names.
	Name string
	// Secret signs the webhooks.
	Secret string
	// PublicURL is what the server calls itself.
	PublicURL string
	// MaxPage is the longest page that the API gives.
	MaxPage int

	// For dialects, under the lock:

	Users   map[string]*User
	Repos   map[string]*Repository // by OWNER/NAME
	Renamed map[string]*Repository // by their former names
	Extra   map[string]any         // what a dialect keeps besides

	t       TB
	cfg     Config
	dialect Dialect
	git     *gittest.Handler
	api     *http.ServeMux
	stop    chan struct{}

	mu     sync.Mutex
	nextID int64
	calls  []Call
	passed []time.Time // requests within the limit in the last Window
	faults []*Fault
	hooks  hooks
}

// Lock and Unlock guard everything that dialects see.
func (s *Server) Lock() { s.mu.Lock() }

// Unlock ends Lock.
func (s *Server) Unlock() { s.mu.Unlock() }

// Now is the server's clock.
func (s *Server) Now() time.Time { return s.cfg.Now() }

// User is somebody with a token.
type User struct {
	ID      int64
	Login   string
	Token   string
	IsAdmin bool
}

// Call is one API request, or a request of Git's that a Fault answered.
type Call struct {
	Method string
	Path   string // without the dialect's prefix
	Route  string // the path with names in place of values, such as "/repos/{owner}/{repo}/pulls/{n}"; empty for Git's
	User   string // whose token it carried
	Status int    // 0 where the answer was withheld
	Over   bool   // refused for Config.Limit
	First  bool   // asks for the first page of a list, or for no list
	At     time.Time
}

// New starts a server that lives as long as the test.
func New(t TB, d Dialect, cfg Config) *Server {
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
		t.Fatalf("start fake %s: %v", d.Name, err)
	}
	s := &Server{
		URL: "http://" + ln.Addr().String(), Name: ln.Addr().String(), Secret: cfg.WebhookSecret,
		PublicURL: cfg.PublicURL, MaxPage: cfg.MaxPage,
		t: t, cfg: cfg, dialect: d, stop: make(chan struct{}),
		Users: map[string]*User{}, Repos: map[string]*Repository{}, Renamed: map[string]*Repository{}, Extra: map[string]any{},
	}
	if s.PublicURL == "" {
		s.PublicURL = s.URL
	}
	s.git = &gittest.Handler{Repo: s.gitRepo, Auth: s.gitAuth, OnPush: s.gitPushed}
	s.api = d.Routes(s)
	s.hooks.init()
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("fake %s: %v", d.Name, err))
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
	s.free(rec.status)
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
	return s.addUser(login, siteAdmin).Token
}

func (s *Server) addUser(login string, siteAdmin bool) *User {
	u := s.Users[login]
	if u == nil {
		u = &User{ID: s.NextID(), Login: login, Token: strings.ToLower(rand.Text())}
		s.Users[login] = u
	}
	u.IsAdmin = u.IsAdmin || siteAdmin
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
		Server: s, ID: s.NextID(), Created: s.cfg.Now(), Permissions: map[string]string{owner: "owner"},
		PullRequests: map[int]*PullRequest{}, Issues: map[int]*Issue{}, StatusesOf: map[string][]StatusEntry{}, Extra: map[string]any{},
	}
	s.Repos[owner+"/"+name] = r
	if len(files) > 0 {
		r.Git.Commit(gittest.DefaultBranch, files, "init")
	}
	return r
}

// NextID is a number that nothing has yet. The lock is held.
func (s *Server) NextID() int64 {
	s.nextID++
	return s.nextID
}

// UserOf finds the token's user: in a header, or as the password of basic
// authentication. The lock is held.
func (s *Server) UserOf(r *http.Request) *User {
	token := ""
	if kind, value, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok &&
		(strings.EqualFold(kind, "token") || strings.EqualFold(kind, "bearer")) {
		token = value
	} else if _, password, ok := r.BasicAuth(); ok {
		token = password
	}
	if u := s.byToken(token); u != nil || s.dialect.Token == nil {
		return u
	}
	return s.byToken(s.dialect.Token(r))
}

// AddToken gives a site administrator another token. The lock is held.
func (s *Server) AddToken(login, token string) {
	s.Users["token:"+token] = &User{ID: s.addUser(login, true).ID, Login: login, Token: token, IsAdmin: true}
}

func (s *Server) byToken(token string) *User {
	for _, u := range s.Users {
		if token != "" && u.Token == token {
			return u
		}
	}
	return nil
}

// RepoAt finds a repository by OWNER/NAME, or by a former name. The lock is held.
func (s *Server) RepoAt(path string) *Repository {
	path = strings.Trim(strings.TrimSuffix(path, ".git"), "/")
	path = strings.Replace(path, "/_git/", "/", 1) // where Azure DevOps has them
	if r := s.Repos[path]; r != nil {
		return r
	}
	if r := s.Renamed[path]; r != nil && s.Repos[r.Path()] == r {
		return r
	}
	return nil
}

// sortedRepos are the repositories, by their ids.
func (s *Server) sortedRepos() []*Repository {
	all := slices.Collect(maps.Values(s.Repos))
	slices.SortFunc(all, func(a, b *Repository) int { return int(a.ID - b.ID) })
	return all
}

func (s *Server) gitRepo(path string) *gittest.Repo {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.RepoAt(path)
	if r == nil {
		return nil
	}
	return r.Git.Repo
}

func (s *Server) gitAuth(path, _, password string, write bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, u := s.RepoAt(path), s.byToken(password)
	if r == nil || u == nil {
		return false
	}
	if write {
		return r.CanWrite(u)
	}
	return r.Permission(u.Login) != "none"
}

// gitPushed does for a push by a Git client what Repository.Push does. A name
// that is no user's (Gitea looks at the token alone) counts as the owner's.
func (s *Server) gitPushed(path, name string, updates []gittest.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.RepoAt(path)
	if r == nil {
		return
	}
	if s.Users[name] == nil {
		name = r.Owner
	}
	for _, u := range updates {
		r.Moved(name, u)
	}
}

// Wait returns when all webhooks that are not held have been sent, or ctx ends.
func (s *Server) Wait(ctx context.Context) error { return s.hooks.wait(ctx) }
