// Package githubtest is a GitHub in a test's own process: the API calls that
// Holdfast makes, and signed webhooks, in the shape of GitHub's REST API of
// 2022-11-28, over what package forge has for all fake hosts. Its API is at
// /api/v3, as on GitHub Enterprise Server.
package githubtest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/vcs/vcstest/forge"
	"holdfast/vcs/vcstest/gittest"
)

type object = forge.Object

// AppID is the number of the App that every server has, Bot its user's login.
const (
	AppID = 4711
	Bot   = "holdfast-test[bot]"
)

// appToken stands for a request that the App signed.
const appToken = "signed by the app"

// appKey is the App's key: made once, as that takes a while.
var appKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// PrivateKey is the App's key, in PEM.
func PrivateKey() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(appKey())})
}

// New starts a server that lives as long as the test.
func New(t forge.TB, cfg forge.Config) *forge.Server {
	t.Helper()
	if cfg.MaxPage == 0 {
		cfg.MaxPage = 100
	}
	s := forge.New(t, forge.Dialect{
		Name: "github", Prefix: "/api/v3", PullRef: "refs/pull/%d/head",
		Routes: routes, Hooks: hooks, Refuse: refuse, Limits: limits, FreeNotModified: true, Token: signed,
	}, cfg)
	s.Lock()
	defer s.Unlock()
	s.AddToken(Bot, appToken)
	return s
}

// Forbid takes a permission, such as "checks", from all tokens.
func Forbid(s *forge.Server, permission string) {
	s.Lock()
	defer s.Unlock()
	s.Extra["forbidden "+permission] = true
}

func refuse(w http.ResponseWriter, status int, message string, wait time.Duration) {
	if status == http.StatusTooManyRequests {
		// The primary limit.
		status, message = http.StatusForbidden, "API rate limit exceeded for user ID 1."
		w.Header().Set("X-RateLimit-Remaining", "0")
		if w.Header().Get("X-RateLimit-Reset") == "" {
			w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(time.Now().Add(wait).Unix(), 10))
		}
	}
	if message == "not found" {
		message = "Not Found"
	}
	forge.WriteJSON(w, status, object{"message": message, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status)})
}

func limits(h http.Header, limit, left int, reset time.Time) {
	h.Set("X-RateLimit-Limit", strconv.Itoa(limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(left))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
	h.Set("X-RateLimit-Resource", "core")
}

// signed knows the App's signature (a JSON web token by RS256).
func signed(r *http.Request) string {
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if rsa.VerifyPKCS1v15(&appKey().PublicKey, crypto.SHA256, sum[:], signature) != nil || !strings.Contains(string(claims), fmt.Sprintf(`"iss":"%d"`, AppID)) {
		return ""
	}
	return appToken
}

// Run is a check run as it is now.
type Run struct {
	ID          int64
	Name, SHA   string
	Status      string // queued, in_progress, completed
	Conclusion  string
	Title       string
	Summary     string
	URL         string
	Annotations []Annotation
	Edits       int
}

// Annotation is one of a check run's.
type Annotation struct {
	Path      string `json:"path"`
	StartLine int    `json:"start_line"`
	EndLine   int    `json:"end_line"`
	Level     string `json:"annotation_level"`
	Message   string `json:"message"`
	Title     string `json:"title"`
}

// Runs are a repository's check runs, oldest first.
func Runs(r *forge.Repository) []Run {
	r.Server.Lock()
	defer r.Server.Unlock()
	var out []Run
	for _, run := range runsOf(r) {
		out = append(out, *run)
	}
	return out
}

func runsOf(r *forge.Repository) []*Run {
	all, _ := r.Extra["runs"].([]*Run)
	return all
}

// Deployment is a deployment as it is now.
type Deployment struct {
	ID               int64
	SHA, Environment string
	States           []string
}

// Deployments are a repository's deployments, oldest first.
func Deployments(r *forge.Repository) []Deployment {
	r.Server.Lock()
	defer r.Server.Unlock()
	var out []Deployment
	for _, d := range deploymentsOf(r) {
		out = append(out, *d)
	}
	return out
}

func deploymentsOf(r *forge.Repository) []*Deployment {
	all, _ := r.Extra["deployments"].([]*Deployment)
	return all
}

// Enqueue adds a pull request to the merge queue: a commit is made of it and the
// base, on a branch of the queue's, and checks of that commit are requested.
// Returns the commit. Land it with forge's Merge.
func Enqueue(r *forge.Repository, number int) string {
	r.Server.Lock()
	head := r.HeadSHA(r.PullRequests[number])
	base := r.Git.Head("main")
	r.Server.Unlock()
	branch := fmt.Sprintf("gh-readonly-queue/main/pr-%d-%s", number, base)
	r.Git.Branch(branch, base)
	sha := r.Git.Merge(head, branch, gittest.MergeCommit)
	r.Server.Lock()
	defer r.Server.Unlock()
	r.Tell(forge.Action{Kind: forge.ActionQueue, Name: "checks_requested", Login: r.Owner, Branch: branch, Update: gittest.Update{Ref: "refs/heads/" + branch, Old: base, New: sha}, Pull: r.PullRequests[number]})
	return sha
}

// Rerequest is what follows from somebody pressing "Re-run" on a check run: give
// it to Repository.Tell under the lock.
func Rerequest(r *forge.Repository, login, name, sha string) forge.Action {
	return forge.Action{Kind: actionRerun, Name: name, Login: login, Update: gittest.Update{New: sha}}
}

const actionRerun = "rerun"

var formField = regexp.MustCompile(`(?s)action="([^"]*)".*name="manifest" value="([^"]*)"`)

// PressCreate does what a browser does with the page that leads to a new App, up
// to GitHub's own button, and returns the state that GitHub would send back.
func PressCreate(page string) (state string, err error) {
	resp, err := http.Get(page)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	m := formField.FindStringSubmatch(string(body))
	if m == nil {
		return "", fmt.Errorf("the page has no form:\n%s", body)
	}
	action, err := url.Parse(html.UnescapeString(m[1]))
	if err != nil {
		return "", err
	}
	var manifest struct {
		Permissions map[string]string    `json:"default_permissions"`
		Events      []string             `json:"default_events"`
		Redirect    string               `json:"redirect_url"`
		Hook        struct{ URL string } `json:"hook_attributes"`
	}
	if err := json.Unmarshal([]byte(html.UnescapeString(m[2])), &manifest); err != nil {
		return "", err
	}
	if manifest.Permissions["checks"] != "write" || len(manifest.Events) == 0 || manifest.Hook.URL == "" || manifest.Redirect != page+"/created" {
		return "", fmt.Errorf("the manifest is %+v", manifest)
	}
	return action.Query().Get("state"), nil
}
