package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/store/sqlite"
	"holdfast/vcs"
	"holdfast/web"
)

const (
	repository = "git.example.com/platform/infra"
	commit     = "3f1c9a7be2d04c55a8c1f6f4a7d2b9e0c3d4e5f6"
)

// now is when every test happens.
var now = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// site is a front door with a real store behind it.
type site struct {
	*testing.T
	store   *store.Store
	handler http.Handler
}

func newSite(t *testing.T, c web.Config) *site {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "holdfast.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if c.Store == nil {
		c.Store = db
	}
	c.Now = func() time.Time { return now }
	handler, err := web.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return &site{t, db, handler}
}

// get returns the answer to a request with the headers given as "Name: value".
func (s *site) get(target string, headers ...string) *httptest.ResponseRecorder {
	s.Helper()
	r := httptest.NewRequest("GET", target, nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// page returns a page's text; the code must be 200.
func (s *site) page(target string) string {
	s.Helper()
	w := s.get(target)
	if w.Code != http.StatusOK {
		s.Fatalf("GET %s: %d\n%s", target, w.Code, w.Body)
	}
	return w.Body.String()
}

func (s *site) wants(text string, wants ...string) {
	s.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			s.Errorf("%q is missing in:\n%s", want, text)
		}
	}
}

func (s *site) run(r store.Run) store.Run {
	s.Helper()
	if r.Repository == "" {
		r.Repository = repository
	}
	if r.Workspace == "" {
		r.Workspace = "live/prod/vpc"
	}
	if r.Kind == "" {
		r.Kind = store.KindPlan
	}
	if r.Commit == "" {
		r.Commit = commit
	}
	r.Key = r.ID
	stored, _, err := s.store.Runs.Create(s.Context(), now.Add(-5*time.Minute), r)
	if err != nil {
		s.Fatal(err)
	}
	return stored
}

func (s *site) put(key string, v any) {
	s.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		s.Fatal(err)
	}
	if err := s.store.Artifacts.Put(s.Context(), now, key, data); err != nil {
		s.Fatal(err)
	}
}

func (s *site) log(id string, chunks ...string) {
	s.Helper()
	for _, c := range chunks {
		if err := s.store.Artifacts.Append(s.Context(), now, id+"/log", []byte(c)); err != nil {
			s.Fatal(err)
		}
	}
}

func (s *site) workspace(value string) {
	s.Helper()
	var w struct{ Repository, Name string }
	json.Unmarshal([]byte(value), &w)
	_, err := s.store.Records.Put(s.Context(), now, store.Record{Key: "workspace/" + w.Repository + "/" + w.Name, Value: json.RawMessage(value)})
	if err != nil {
		s.Fatal(err)
	}
}

func samplePlan() plan.Plan {
	return plan.Plan{Changes: []plan.Change{{
		Address: "smallcloud_server.web", Mode: "managed", Type: "smallcloud_server", Provider: "holdfast/smallcloud", Action: plan.Update,
		Before:          json.RawMessage(`{"name":"web","password":"swordfish","size":"small"}`),
		After:           json.RawMessage(`{"name":"web","password":"tunafish","size":"large"}`),
		SensitiveBefore: json.RawMessage(`{"password":true}`), SensitiveAfter: json.RawMessage(`{"password":true}`),
	}}}
}

func TestRunPage(t *testing.T) {
	s := newSite(t, web.Config{})
	r := s.run(store.Run{ID: "R1", State: store.Planned, PullRequest: 7, StartedAt: now.Add(-2 * time.Minute), EndedAt: now.Add(-2*time.Minute + 3400*time.Millisecond),
		Result: json.RawMessage(`{"summary":{"change":1,"outputs":2},"engine":"Terraform 1.11.4","notes":["State is kept by Holdfast."],"comparison":null,"drift":null}`)})
	s.put("R1/plan.json", samplePlan())
	s.log("R1", "\x1b[1mInitializing\x1b[0m\r\n", "done <b>\n")
	page := s.page("/runs/" + r.ID)
	s.wants(page, "live/prod/vpc", ">planned<", "3f1c9a7be2<", "Terraform 1.11.4", "3.4 s", `/pulls/git.example.com/platform/infra/7`,
		"~ 1 <span>to change</span>", "2 <span>outputs</span>", "smallcloud_server.web", "State is kept by Holdfast.",
		"Initializing\ndone &lt;b&gt;\n", `class="chg"`)
	for _, bad := range []string{"swordfish", "tunafish", "data-events", "<script", "\x1b"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if got := s.page("/runs/R1/log"); got != "Initializing\ndone <b>\n" {
		t.Errorf("log as text: %q", got)
	}
	if api := s.page("/api/runs/R1"); strings.Contains(api, "swordfish") {
		t.Error("the API shows a sensitive value")
	} else {
		s.wants(api, `"state": "planned"`, `"diff": "`)
	}
}

// A page without plan and log says why they are not there, and keeps the rest.
func TestRunWhosePlanWasRemoved(t *testing.T) {
	s := newSite(t, web.Config{})
	ended := now.AddDate(0, 0, -40)
	s.run(store.Run{ID: "R1", State: store.Applied, StartedAt: ended, EndedAt: ended,
		Result: json.RawMessage(`{"summary":{"change":1},"notes":["A note."],"removed":"` + ended.AddDate(0, 0, 30).Format(time.RFC3339) + `"}`)})
	const why = "The plan and the log of this run were removed 30 days after it ended"
	page := s.page("/runs/R1")
	s.wants(page, ">applied<", "~ 1 <span>to change</span>", "A note.", why)
	if strings.Contains(page, "Nothing was written") {
		t.Error("the page says that there was no log")
	}
	if got := s.get("/runs/R1/log"); got.Code != http.StatusGone || !strings.HasPrefix(got.Body.String(), why) {
		t.Errorf("log as text: %d %q", got.Code, got.Body)
	}
}

func TestHeldRunShowsBothPlans(t *testing.T) {
	s := newSite(t, web.Config{})
	s.run(store.Run{ID: "R1", Kind: store.KindApply, State: store.Held, Error: "The plan is not the one that was reviewed.",
		Result: json.RawMessage(`{"summary":{"change":1},"reviewed":"R0","comparison":{"verdict":"changed","differences":[{"address":"smallcloud_server.web","attribute":"size","reviewed":"medium","now":"large"}],"same_resources":true}}`)})
	now, reviewed := samplePlan(), samplePlan()
	reviewed.Changes[0].After = json.RawMessage(`{"name":"web","size":"medium"}`)
	s.put("R1/plan.json", now)
	s.put("R0/plan.json", reviewed)
	if err := s.store.Audit.Append(t.Context(), store.Entry{ID: "A1", At: time.Now(), Who: "holdfast", Action: "hold", Repository: repository, Run: "R1", Why: "plans differ"}); err != nil {
		t.Fatal(err)
	}
	s.wants(s.page("/runs/R1"), "Not what was reviewed", "<code>medium</code>", "<code>large</code>", "The plan that was reviewed", "plans differ",
		"The plan is not the one that was reviewed.")
}

func TestDriftRun(t *testing.T) {
	s := newSite(t, web.Config{})
	s.run(store.Run{ID: "R1", Kind: store.KindDrift, State: store.Planned,
		Result: json.RawMessage(`{"drift":{"class":"cloud_change","resources":[{"address":"smallcloud_server.web","change":"changed","attributes":["size","tags.env"]}]}}`)})
	s.run(store.Run{ID: "R2", Kind: store.KindDrift, State: store.NoChanges, Result: json.RawMessage(`{"drift":{"class":""}}`)})
	s.wants(s.page("/runs/R1"), "Drift: changed in the cloud", "tags.env")
	s.wants(s.page("/runs/R2"), "In sync")
}

// What comes from a pull request is shown and never obeyed.
func TestHostileValuesAreHarmless(t *testing.T) {
	s := newSite(t, web.Config{})
	evil := "<script>alert(1)</script>\u202e\x1b]8;;http://evil\x07"
	quoted, _ := json.Marshal(evil)
	s.run(store.Run{ID: "R1", State: store.Failed, Workspace: evil, Repository: "h/o/<img src=x>", Commit: "<i>", Step: evil, Node: evil, Error: evil,
		Result: json.RawMessage(`{"engine":` + string(quoted) + `,"notes":[` + string(quoted) + `]}`)})
	p := samplePlan()
	p.Changes[0].Address = evil
	s.put("R1/plan.json", p)
	s.log("R1", evil)
	for _, target := range []string{"/runs/R1", "/", "/runs", "/runs?workspace=" + "%3Cscript%3E", "/nothing/%3Cscript%3E"} {
		body := s.get(target).Body.String()
		for _, bad := range []string{"<script>", "<img src=x", "<i>", "\x1b", "javascript:"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s has %q in:\n%s", target, bad, body)
			}
		}
	}
}

func TestBrokenPiecesSpoilOnlyThemselves(t *testing.T) {
	s := newSite(t, web.Config{})
	s.run(store.Run{ID: "R1", State: store.Planned, Result: json.RawMessage(`{"summary":"many"}`)})
	if err := s.store.Artifacts.Put(t.Context(), now, "R1/plan.json", []byte("not JSON")); err != nil {
		t.Fatal(err)
	}
	s.log("R1", "still here\n")
	s.wants(s.page("/runs/R1"), "could not be read", "still here")
	s.workspace(`{"repository":"h/o/n","name":"broken","state":3}`)
	s.wants(s.page("/"), "its record cannot be read", "unknown")
}

func TestLongLogIsCutAtALine(t *testing.T) {
	s := newSite(t, web.Config{})
	s.run(store.Run{ID: "R1", State: store.Planned})
	s.log("R1", "first line\n"+strings.Repeat("ä line of the middle\n", 30_000), "last line\n")
	page := s.page("/runs/R1")
	s.wants(page, "Only the end", "last line")
	if strings.Contains(page, "first line") || len(page) > 300<<10 {
		t.Errorf("page of %d bytes has the beginning", len(page))
	}
	s.wants(s.page("/runs/R1/log"), "first line", "last line")
}

func TestOverview(t *testing.T) {
	s := newSite(t, web.Config{Repositories: func() []string { return []string{repository, "git.example.com/platform/empty"} }})
	s.wants(s.page("/"), "No workspaces seen yet", "git.example.com/platform/empty", "No runs yet")
	s.workspace(`{"repository":"` + repository + `","name":"a-quiet","dir":"a","state":"in_sync","applied_commit":"` + commit + `","applied_at":"2026-03-12T12:00:00Z","checked_at":"2026-03-14T11:30:00Z","check_run":"R9"}`)
	s.workspace(`{"repository":"` + repository + `","name":"z-loud","dir":"z","state":"drifted","class":"cloud_change"}`)
	s.run(store.Run{ID: "R1", State: store.Planned, Workspace: "z-loud", Result: json.RawMessage(`{"summary":{"add":3,"destroy":1}}`)})
	page := s.page("/")
	s.wants(page, "changed in the cloud", "30 min ago", "2 days ago", `href="/runs/R9"`, "&#43; 3", "− 1", "never")
	if strings.Index(page, "z-loud") > strings.Index(page, "a-quiet") {
		t.Error("what wants attention is not first")
	}
	api := s.page("/api/workspaces")
	var list []map[string]any
	if err := json.Unmarshal([]byte(api), &list); err != nil || len(list) != 2 || list[0]["name"] != "a-quiet" {
		t.Errorf("workspaces as JSON: %v %s", err, api)
	}
}

func TestPullRequestPage(t *testing.T) {
	s := newSite(t, web.Config{PullURL: func(repository string, n int) string { return fmt.Sprintf("https://%s/pulls/%d", repository, n) }})
	s.run(store.Run{ID: "R1", State: store.Planned, PullRequest: 7, Workspace: "mine"})
	s.run(store.Run{ID: "R2", State: store.Planned, PullRequest: 8, Workspace: "other"})
	page := s.page("/pulls/" + repository + "/7")
	s.wants(page, "Pull request #7", "mine", `href="https://git.example.com/platform/infra/pulls/7"`)
	if strings.Contains(page, "other") {
		t.Error("another pull request's run is shown")
	}
	for _, bad := range []string{"/pulls/", "/pulls/x", "/pulls/" + repository, "/pulls/" + repository + "/0", "/pulls/" + repository + "/x"} {
		if code := s.get(bad).Code; code != http.StatusNotFound {
			t.Errorf("%s: %d", bad, code)
		}
	}
}

func TestRunListPages(t *testing.T) {
	s := newSite(t, web.Config{})
	for i := range 101 {
		s.run(store.Run{ID: fmt.Sprintf("R%03d", i), State: store.Planned, Workspace: fmt.Sprintf("w%03d", i)})
	}
	first := s.page("/runs?repository=" + repository)
	s.wants(first, "w100", `href="?before=R001&amp;repository=git.example.com%2Fplatform%2Finfra"`)
	second := s.page("/runs?before=R001")
	if s.wants(second, "w000"); strings.Contains(second, "Older") {
		t.Error("the last page leads on")
	}
}

func TestAPIQueries(t *testing.T) {
	s := newSite(t, web.Config{})
	s.run(store.Run{ID: "R1", State: store.Planned, PullRequest: 1})
	s.run(store.Run{ID: "R2", State: store.Failed, PullRequest: 2})
	for target, want := range map[string]string{
		"/api/runs":                             "R2 R1",
		"/api/runs?limit=1":                     "R2",
		"/api/runs?pull_request=1":              "R1",
		"/api/runs?state=planned&state=applied": "R1",
		"/api/runs?workspace=nothing":           "",
		"/api/runs?before=R2":                   "R1",
		"/api/runs?kind=plan&commit=" + commit:  "R2 R1",
		"/api/runs?repository=" + repository:    "R2 R1",
		"/api/runs?repository=h/o/n&kind=apply": "",
		"/api/runs?workspace=live%2Fprod%2Fvpc": "R2 R1",
	} {
		var runs []store.Run
		if err := json.Unmarshal([]byte(s.page(target)), &runs); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, r := range runs {
			ids = append(ids, r.ID)
		}
		if got := strings.Join(ids, " "); got != want || runs == nil {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	for target, want := range map[string]int{
		"/api/runs?limit=0":              http.StatusBadRequest,
		"/api/runs?limit=1001":           http.StatusBadRequest,
		"/api/runs?pull_request=x":       http.StatusBadRequest,
		"/api/runs/unknown":              http.StatusNotFound,
		"/api/nothing":                   http.StatusNotFound,
		"/runs/unknown":                  http.StatusNotFound,
		"/runs/unknown/log":              http.StatusNotFound,
		"/runs/unknown/events":           http.StatusNotFound,
		"/runs/R1/events?from=-1":        http.StatusBadRequest,
		"/runs?limit=x":                  http.StatusBadRequest,
		"/static/../web.go":              http.StatusTemporaryRedirect,
		"/static/nothing":                http.StatusNotFound,
		"/nothing":                       http.StatusNotFound,
		"/webhooks/x":                    http.StatusNotFound, // only POST
		"/runs/%2e%2e%2f%2e%2e%2fpasswd": http.StatusNotFound,
	} {
		if w := s.get(target); w.Code != want {
			t.Errorf("%s: %d, want %d\n%s", target, w.Code, want, w.Body)
		} else if strings.HasPrefix(target, "/api/") && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: not JSON: %s", target, w.Body)
		}
	}
}

func TestStoreThatDoesNotAnswer(t *testing.T) {
	s := newSite(t, web.Config{})
	s.store.Close()
	for _, target := range []string{"/", "/runs", "/runs/R1", "/api/runs", "/api/workspaces", "/runs/R1/events"} {
		if w := s.get(target); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "sql") {
			t.Errorf("%s: %d\n%s", target, w.Code, w.Body)
		}
	}
}

func TestHeaders(t *testing.T) {
	s := newSite(t, web.Config{})
	for _, target := range []string{"/", "/healthz", "/nothing", "/api/runs"} {
		h := s.get(target).Header()
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		} {
			if !strings.Contains(h.Get(name), want) {
				t.Errorf("%s: %s is %q", target, name, h.Get(name))
			}
		}
	}
	page := s.page("/")
	for _, name := range []string{"style.css", "icon.svg"} {
		_, after, _ := strings.Cut(page, `"/static/`+name)
		version, _, _ := strings.Cut(after, `"`)
		w := s.get("/static/" + name + version)
		if w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %s", name, w.Code, w.Header())
		}
	}
	if strings.Contains(page, " style=") || strings.Contains(page, "<style") {
		t.Error("the page has styles that its own policy forbids")
	}
}

func TestBaseURL(t *testing.T) {
	s := newSite(t, web.Config{BaseURL: "https://infra.example.com/holdfast/"})
	s.run(store.Run{ID: "R1", State: store.Running})
	for _, target := range []string{"/holdfast/runs/R1", "/runs/R1"} { // proxies strip the prefix, or not
		w := s.get(target, "Host: infra.example.com")
		s.wants(w.Body.String(), `href="/holdfast/static/style.css`, `data-events="/holdfast/runs/R1/events?from=0"`, `href="/holdfast/"`)
	}
	if w := s.get("/holdfast", "Host: infra.example.com"); w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != "/holdfast/" {
		t.Errorf("prefix alone: %d %s", w.Code, w.Header())
	}
	for host, want := range map[string]int{
		"infra.example.com": 200, "INFRA.example.com.:8080": 200, "localhost:8080": 200, "127.0.0.1:8080": 200, "[::1]:8080": 200, "holdfast:8080": 200,
		"evil.example.net": 421, "infra.example.com.evil.net": 421, "127.0.0.1.evil.net": 421,
	} {
		if w := s.get("/", "Host: "+host); w.Code != want {
			t.Errorf("Host %s: %d, want %d", host, w.Code, want)
		}
	}
	if w := s.get("/healthz", "Host: anything.example.net"); w.Code != http.StatusOK {
		t.Errorf("health under another name: %d", w.Code)
	}
}

func TestHealth(t *testing.T) {
	ready := errors.New("the disk with the data directory is full; free some space")
	s := newSite(t, web.Config{Ready: func(context.Context) error { return ready }})
	if got := s.page("/healthz"); got != "ok\n" {
		t.Error(got)
	}
	if w := s.get("/readyz"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "disk") {
		t.Errorf("not ready: %d %s", w.Code, w.Body)
	}
	ready = nil
	if got := s.page("/readyz"); got != "ready\n" {
		t.Error(got)
	}
	s.wants(s.page("/metrics"), "holdfast_log_streams 0", "promhttp_metric_handler_errors_total")
}

func TestConfigIsChecked(t *testing.T) {
	for name, c := range map[string]web.Config{
		"no store":   {},
		"no receive": {Store: &store.Store{}, Hosts: map[string]vcs.Webhooks{"a": nil}},
		"base URL":   {Store: &store.Store{}, BaseURL: "infra.example.com"},
	} {
		if _, err := web.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
