package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"holdfast/store"
	"holdfast/web"
)

// record stores a record as the runner does: prefix/REPOSITORY/NAME.
func (s *site) record(prefix, value string) {
	s.Helper()
	var w struct{ Repository, Name string }
	if err := json.Unmarshal([]byte(value), &w); err != nil {
		s.Fatal(err)
	}
	s.recordAt(prefix+"/"+w.Repository+"/"+w.Name, value)
}

func (s *site) recordAt(key, value string) {
	s.Helper()
	if _, err := s.store.Records.Put(s.Context(), now, store.Record{Key: key, Value: json.RawMessage(value)}); err != nil {
		s.Fatal(err)
	}
}

func (s *site) lacks(text string, bad ...string) {
	s.Helper()
	for _, b := range bad {
		if strings.Contains(text, b) {
			s.Errorf("%q is in:\n%s", b, text)
		}
	}
}

// inOrder checks that texts come one after the other.
func (s *site) inOrder(text string, wants ...string) {
	s.Helper()
	for _, want := range wants {
		_, after, found := strings.Cut(text, want)
		if !found {
			s.Errorf("%q is missing, or before the one that should precede it", want)
		}
		text = after
	}
}

// driftValue is a workspace that drifted, is contested, and has a past.
const driftValue = `{"repository":"` + repository + `","name":"live/prod/vpc",
"contested":"2026-03-14T10:00:00Z",
"now":{"began":"2026-03-14T09:00:00Z","before":"2026-03-14T08:30:00Z","run":"R5","commit":"` + commit + `","class":"cloud_change","digest":"d1","more":3,
 "resources":[{"address":"smallcloud_server.web","change":"changed","type":"smallcloud_server","attributes":["size","tags.env","tags.owner"],
   "values":[{"attribute":"size","cloud":"\"large\"","git":"\"small\""},{"attribute":"tags.env","cloud":"(sensitive)","git":"(sensitive)"}]},
  {"address":"smallcloud_disk.data","change":"deleted","action":"create"},{"address":"output.address","change":"changed","values":[{"attribute":"","cloud":"10.0.0.1","git":"10.0.0.2"}]}],
 "ignored":[{"address":"smallcloud_server.db","attributes":["tags.scan"],"reason":"the scanner writes it"}],
 "who":[{"address":"smallcloud_server.web","actor":"mallory","call":"ec2:ModifyInstance","at":"2026-03-14T08:45:00Z","source":"192.0.2.7","url":"https://cloud.example.com/events/1"},{"address":"smallcloud_disk.data","actor":"bob","call":"ec2:DeleteVolume","at":"2026-03-14T08:50:00Z","source":"console"}],
 "blocked":[{"name":"flap_limit","why":"Contested: size was corrected 3 times within a day."},{"name":"windows","why":"The next window opens at 22:00."}],
 "acknowledged":{"who":"alice","at":"2026-03-14T09:30:00Z","why":"we look into it","digest":"d0"}},
"past":[{"began":"2026-03-12T10:00:00Z","ended":"2026-03-12T13:20:00Z","run":"R3","class":"cloud_change","resources":[{"address":"smallcloud_server.old","change":"changed","attributes":["a","b","c","d","e"]},{"address":"x.y","change":"deleted"}],"who":[{"actor":"carol"}],"corrected":"R4","fixed":"Holdfast corrected it."},
 {"began":"2026-03-01T10:00:00Z","ended":"2026-03-04T12:00:00Z","run":"R1","class":"output_only","fixed":"It was put right in the cloud."}],
"corrections":[{"run":"R4","at":"2026-03-12T13:00:00Z","state":"applied","attributes":["smallcloud_server.old a"]},{"run":"R6","at":"2026-03-14T09:40:00Z","state":"failed","attributes":["smallcloud_server.web size"]}],
"ignores":[{"address":"smallcloud_server.*","attributes":["tags.*"],"reason":"autoscaler","until":"2026-03-20T00:00:00Z","by":"dave"},{"address":"smallcloud_disk.*","reason":"migration","until":"2026-03-10T00:00:00Z","by":"erin"}],
"ticket":{"number":12,"url":"https://git.example.com/issues/12","open":true,"body":"secret-hash"},
"proposal":{"digest":"d1","run":"R7","branch":"holdfast/drift/vpc","number":34,"url":"https://git.example.com/pulls/34","open":true,"refused":["smallcloud_disk.data: it is not in the configuration"]}}`

func contested(t *testing.T, c web.Config) *site {
	s := newSite(t, c)
	s.workspace(`{"repository":"` + repository + `","name":"live/prod/vpc","dir":"live/prod/vpc","correct":"apply","state":"drifted","class":"cloud_change","checked_at":"2026-03-14T11:00:00Z","check_run":"R5","good_at":"2026-03-14T11:00:00Z","synced_at":"2026-03-14T08:30:00Z"}`)
	s.record("drift", driftValue)
	return s
}

func TestDriftList(t *testing.T) {
	s := contested(t, web.Config{})
	add := func(name, rest string) {
		s.workspace(`{"repository":"` + repository + `","name":"` + name + `",` + rest + `}`)
	}
	add("a-good", `"state":"in_sync"`)
	add("b-checks", `"state":"in_sync","checks":2`)
	add("c-unknown", `"state":"unknown","class":"error","error":"no credentials","failures":2,"retry_at":"2026-03-14T12:10:00Z","good_at":"2026-03-14T09:00:00Z"`)
	add("d-late", `"state":"unknown","overdue":true,"good_at":"2026-03-10T12:00:00Z"`)
	add("e-ignored", `"state":"in_sync","check_run":"R8"`)
	add("f-drifted", `"state":"drifted"`)
	add("g-known", `"state":"drifted"`)
	add("a-pending", `"state":"pending"`)
	s.record("drift", `{"repository":"`+repository+`","name":"a-known","now":{"began":"2026-03-13T12:00:00Z","run":"R9","class":"output_only","digest":"x","acknowledged":{"who":"alice","at":"2026-03-13T12:00:00Z","why":"on purpose","digest":"x"}}}`)
	s.recordAt("repository/"+repository, `{"workspaces":[{"name":"e-ignored","drift":{"ignore":[{"address":"a.b","reason":"r"}]}}]}`)
	s.run(store.Run{ID: "R8", Kind: store.KindDrift, State: store.NoChanges, Workspace: "e-ignored", Result: json.RawMessage(`{"drift":{"class":"","ignored":[{"address":"a.b","reason":"known"}]}}`)})

	page := s.page("/drift")
	s.inOrder(page, ">live/prod/vpc<", ">f-drifted<", ">g-known<", ">a-known<", ">d-late<", ">c-unknown<", ">b-checks<", ">e-ignored<")
	s.lacks(page, "a-good", "a-pending", "Everything is in sync", "No drift is known")
	s.wants(page, `<b>1</b> <span class="state contested">`, `<b>4</b> <span class="state drifted">`, `<b>1</b> <span class="state overdue">`, `<b>2</b> <span class="state unknown">`,
		`<b>1</b> <span class="state failing_checks">failing checks<`, `<b>2</b> <span class="state ignored_drift">`, `<b>3</b> <span class="state in_sync">`,
		`href="/drift/git.example.com/platform/infra/live/prod/vpc"`,
		"smallcloud_server.web changed (size, tags.env, tags.owner), smallcloud_disk.data deleted, output.address changed and 3 more",
		"mallory", "ec2:ModifyInstance", "and 1 more", `href="https://git.example.com/issues/12"`, `href="https://git.example.com/pulls/34"`,
		"Contested: size was corrected", "(flap limit)", "3 h ago", "Known to alice: on purpose",
		"The check failed 2 times. Next try: ", "14 Mar 12:10", "no credentials", "2 failing checks", "1 left alone by a rule", "4 days ago")

	s.inOrder(s.page("/drift?state=overdue&state=contested"), "live/prod/vpc", "d-late")
	s.lacks(s.page("/drift?state=overdue"), "live/prod/vpc", "c-unknown")
	s.wants(s.page("/drift?repository=h/o/other"), "h/o/other", "Nothing is known yet")
	s.wants(s.page("/drift?state=held"), "No such workspaces")
	if w := s.get("/drift?from=0"); w.Code != http.StatusBadRequest {
		t.Errorf("page from 0: %d", w.Code)
	}
}

// Checks are read for what rules leave alone, but not without end.
func TestManyWorkspacesWithRules(t *testing.T) {
	s := newSite(t, web.Config{})
	for i := range 1001 {
		s.workspace(fmt.Sprintf(`{"repository":"h/o/n","name":"w%04d","state":"in_sync","check_run":"R%d"}`, i, i))
		s.record("drift", fmt.Sprintf(`{"repository":"h/o/n","name":"w%04d","ignores":[{"address":"a.b","reason":"r"}]}`, i))
	}
	s.record("drift", `{"repository":"h/o/n","name":"z","now":{"began":"2026-03-14T09:00:00Z","run":"R1","class":"cloud_change","ignored":[{"address":"a.b","reason":"r"}]}}`)
	s.wants(s.page("/drift"), "not all drift that they leave alone was counted", "1 left alone by a rule")
}

func TestDriftListWithoutDrift(t *testing.T) {
	s := newSite(t, web.Config{})
	s.wants(s.page("/drift"), "Nothing is known yet", `<a href="/drift">Drift</a>`)
	if got := strings.TrimSpace(s.page("/api/drift")); got != "[]" {
		t.Errorf("no drift as JSON: %s", got)
	}
	s.workspace(`{"repository":"` + repository + `","name":"a","state":"in_sync"}`)
	s.record("drift", `{"repository":"`+repository+`","name":"a","past":[{"began":"2026-03-01T10:00:00Z","ended":"2026-03-01T10:00:20Z","run":"R1","class":"cloud_change"}]}`)
	s.wants(s.page("/drift"), "Everything is in sync: the cloud is as Git says in 1 workspace.")
	s.workspace(`{"repository":"` + repository + `","name":"b","state":"pending"}`)
	page := s.page("/drift")
	s.wants(page, "No drift is known. Of 2 workspaces, 1 is in sync;")
	s.lacks(page, "<table", "Everything is in sync")
	// A workspace that is not there any more keeps its history and is no news.
	s.record("drift", `{"repository":"`+repository+`","name":"gone","past":[{"began":"2026-03-01T10:00:00Z","ended":"2026-03-01T10:00:20Z","run":"R1","class":"cloud_change"}]}`)
	s.lacks(s.page("/drift"), "gone")
	s.wants(s.page("/drift/"+repository+"/gone"), "Earlier drift", "20 s")
	// Without one good check nothing is called in sync.
	s.workspace(`{"repository":"` + repository + `","name":"c","state":"unknown"}`)
	s.lacks(s.page("/drift"), "No drift is known", "in sync:")
}

func TestDriftHistory(t *testing.T) {
	s := contested(t, web.Config{})
	s.run(store.Run{ID: "R5", Kind: store.KindDrift, State: store.Planned, Result: json.RawMessage(`{"drift":{"class":"cloud_change","checks":[{"address":"check.health","message":"it does not answer"}]}}`)})
	page := s.page("/drift/" + repository + "/live/prod/vpc")
	s.inOrder(page, "Contested: something", "Drift: changed in the cloud", "Who did it", "Why it is not corrected", "Not written into the configuration",
		"Checks of the configuration that fail", "Left alone by a rule", "Rules made in comments", "Corrections", "Earlier drift")
	s.wants(page, `<a href="/runs/R5">by a check</a>`, "<code>&#34;large&#34;</code></td><td><code>&#34;small&#34;</code>", "<code>10.0.0.1</code></td><td><code>10.0.0.2</code>",
		"was changed; also tags.owner", "<code>smallcloud_disk.data</code> was deleted", "<code>output.address</code> has another value", "And 3 more.",
		"mallory", "192.0.2.7", `href="https://cloud.example.com/events/1"`, "The next window opens at 22:00.",
		"Acknowledged by alice", "we look into it", "It has become another drift since.",
		"the scanner writes it", "it is not in the configuration", "check.health", "it does not answer",
		"autoscaler", "dave", "<b>ended</b>", "2026-03-10 00:00:00 UTC", `href="/runs/R6"`,
		"smallcloud_server.old changed (a, b, c and 2 more), x.y deleted", "carol", "Holdfast corrected it.", `<a href="/runs/R4">the correction</a>`,
		"3 h 20 min", "3 days 2 h", `href="/runs/R1"`, `href="https://git.example.com/issues/12"`)
	if n := strings.Count(page, "<b>ended</b>"); n != 1 {
		t.Errorf("%d rules have ended, not 1", n)
	}
	s.inOrder(page, "<h2>Corrections</h2>", "/runs/R6", "/runs/R4")
	s.lacks(page, "secret-hash", "<script", " style=")

	for _, bad := range []string{"/drift/", "/drift/x", "/drift/" + repository, "/drift/" + repository + "/live", "/drift/" + repository + "/live/prod/vpc/", "/drift/%00", "/api/drift/x"} {
		if w := s.get(bad); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
}

// Owners and workspaces may have slashes, the root directory is a workspace
// whose name browsers drop, and some names have what a path has to escape.
func TestDriftHistoryIsFoundByItsLink(t *testing.T) {
	s := newSite(t, web.Config{BaseURL: "https://infra.example.com/holdfast"})
	names := [][2]string{
		{"git.example.com/group/sub/infra", "live/prod/vpc@blue"}, {repository, "."}, {repository, "ümlaut/a%2Fb?c#d e"}, {repository, "x"},
	}
	for i, n := range names {
		value, _ := json.Marshal(map[string]any{"repository": n[0], "name": n[1], "state": "unknown", "error": fmt.Sprint("number ", i)})
		s.record("workspace", string(value))
	}
	list := s.get("/drift", "Host: infra.example.com").Body.String()
	if n := strings.Count(list, `href="/holdfast/drift/`); n != len(names) {
		t.Fatalf("%d links, not %d:\n%s", n, len(names), list)
	}
	for _, part := range strings.Split(list, `<td class="name"><a href="`)[1:] {
		target, rest, _ := strings.Cut(part, `"`)
		_, rest, _ = strings.Cut(rest, "number ")
		if w := s.get(target, "Host: infra.example.com"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "number "+rest[:1]) {
			t.Errorf("%s does not lead to number %s: %d", target, rest[:1], w.Code)
		}
		if w := s.get("/api"+strings.TrimPrefix(target, "/holdfast"), "Host: infra.example.com"); w.Code != http.StatusOK {
			t.Errorf("%s as JSON: %d", target, w.Code)
		}
	}
	// No path can have these; they lead to their runs.
	s.record("workspace", `{"repository":"`+repository+`","name":"../../evil","state":"unknown"}`)
	s.wants(s.get("/drift", "Host: infra.example.com").Body.String(), `href="/holdfast/runs?repository=git.example.com%2Fplatform%2Finfra&amp;workspace=..%2F..%2Fevil"`)
}

// What comes from the cloud and from comments is shown and never obeyed.
func TestHostileDriftIsHarmless(t *testing.T) {
	s := newSite(t, web.Config{})
	evil := "<script>alert(1)</script>\u202e\x1b]8;;http://evil\x07\"'><img src=x onerror=y>"
	link := "javascript:alert(1)"
	resource := map[string]any{"address": evil, "change": evil, "type": evil, "attributes": []string{evil, evil + "2"}, "values": []any{map[string]string{"attribute": evil, "cloud": evil, "git": evil}}}
	ignored := []any{map[string]any{"address": evil, "attributes": []string{evil}, "reason": evil}}
	gates := []any{map[string]string{"name": evil, "why": evil}}
	one := map[string]any{
		"began": now, "ended": now, "run": evil, "commit": evil, "class": evil, "digest": "d", "resources": []any{resource}, "ignored": ignored,
		"who":     []any{map[string]any{"address": evil, "actor": evil, "call": evil, "source": evil, "url": link, "at": now}},
		"blocked": gates, "acknowledged": map[string]any{"who": evil, "at": now, "why": evil, "digest": "d"}, "corrected": evil, "fixed": evil,
	}
	drift, _ := json.Marshal(map[string]any{
		"repository": repository, "name": evil, "now": one, "past": []any{one}, "contested": now,
		"corrections": []any{map[string]any{"run": evil, "at": now, "state": evil, "attributes": []string{evil}}},
		"ignores":     []any{map[string]any{"address": evil, "attributes": []string{evil}, "reason": evil, "by": evil}},
		"ticket":      map[string]any{"number": 1, "url": link}, "proposal": map[string]any{"digest": "d", "number": 2, "branch": evil, "url": link, "open": true, "refused": []string{evil}},
	})
	workspace, _ := json.Marshal(map[string]any{"repository": repository, "name": evil, "dir": evil, "correct": evil, "state": evil, "class": evil, "error": evil, "check_run": evil, "failures": 1, "checks": 1})
	s.record("drift", string(drift))
	s.record("workspace", string(workspace))
	found, _ := json.Marshal(map[string]any{
		"drift": map[string]any{"class": evil, "resources": []any{resource}, "ignored": ignored, "unexplained": []string{evil}, "reason": evil, "checks": []any{map[string]string{"address": evil, "message": evil}}},
		"gates": gates, "corrects": []string{evil}, "notes": []string{evil},
	})
	s.run(store.Run{ID: "R1", Kind: store.KindDrift, State: store.Planned, Workspace: evil, Result: found})
	s.run(store.Run{ID: "R2", Kind: store.KindDrift, State: store.Planned, Workspace: "other", Result: found})
	for _, target := range []string{"/", "/drift", "/runs/R1", "/runs/R2", "/drift/" + repository + "/" + url.PathEscape(evil), "/drift?repository=%3Cscript%3E", "/drift?state=%3Cscript%3E&repository=" + repository} {
		s.lacks(s.page(target), "<script>", "<img src=x", "\x1b", "\u202e", "javascript:", "\x07")
	}
	api := s.page("/api/drift")
	s.lacks(api, "<script>", "\x1b")
	if !json.Valid([]byte(api)) {
		t.Error("not JSON")
	}
}

func TestDriftRecordsThatCannotBeRead(t *testing.T) {
	s := newSite(t, web.Config{})
	s.workspace(`{"repository":"h/o/n","name":"a","state":"in_sync"}`)
	s.recordAt("drift/h/o/n/a", `{"repository":"h/o/n","name":"a","now":3}`)
	s.recordAt("drift/h/o/n/b", `[]`)
	s.recordAt("workspace/h/o/n/c", `[]`)
	s.recordAt("repository/h/o/n", `[]`)
	s.recordAt("drift/h/o/n/d", `{"repository":"h/o/n","name":"d","now":{"began":"2026-03-14T09:00:00Z","run":"R1","class":"cloud_change"}}`)
	page := s.page("/drift")
	s.wants(page, "the record of its drift cannot be read", "h/o/n/b", "its record cannot be read", "h/o/n/c", ">d<")
	s.lacks(page, "is in sync")
	for _, name := range []string{"a", "b", "c", "d"} {
		s.page("/drift/h/o/n/" + name)
		s.page("/api/drift/h/o/n/" + name)
	}
}

func TestManyDriftedWorkspaces(t *testing.T) {
	s := newSite(t, web.Config{})
	const all = 5000
	for i := range all {
		s.record("drift", fmt.Sprintf(`{"repository":%q,"name":"w%04d","now":{"began":"2026-03-14T09:00:00Z","run":"R1","class":"cloud_change","resources":[{"address":"a.b","change":"changed"}]}}`, repository, i))
	}
	first := s.page("/drift")
	s.wants(first, "<b>5000</b>", "1 to 500 of 5000", "w0000", "w0499", `href="?from=501"`)
	s.lacks(first, "w0500")
	if len(first) > 1<<20 {
		t.Errorf("a page of %d bytes", len(first))
	}
	last := s.page("/drift?from=4501&repository=" + repository)
	s.wants(last, "4501 to 5000 of 5000", "w4500", "w4999")
	s.lacks(last, "w4499", "The next ones")
	s.wants(s.page("/drift?from=9999"), "No such workspaces")

	var list []map[string]any
	seen, after := 0, ""
	for {
		if err := json.Unmarshal([]byte(s.page("/api/drift?limit=1000&after="+url.QueryEscape(after))), &list); err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		seen += len(list)
		after = repository + "/" + list[len(list)-1]["workspace"].(string)
	}
	if seen != all {
		t.Errorf("paging through the API gave %d, not %d", seen, all)
	}
}

func TestDriftAPI(t *testing.T) {
	s := contested(t, web.Config{})
	s.workspace(`{"repository":"h/o/n","name":"late","state":"unknown","overdue":true}`)
	s.record("drift", `{"repository":"h/o/n","name":"late","past":[{"began":"2026-03-01T10:00:00Z","run":"R1","class":"cloud_change"}]}`)
	s.workspace(`{"repository":"h/o/n","name":"never","state":"in_sync"}`)
	s.record("drift", `{"repository":"h/o/n","name":"never","ignores":[{"address":"a.b","reason":"r"}]}`)
	for query, want := range map[string]string{
		"":                             "live/prod/vpc late",
		"?repository=h/o/n":            "late",
		"?state=drifted":               "live/prod/vpc",
		"?state=contested":             "live/prod/vpc",
		"?state=unknown&state=drifted": "live/prod/vpc late",
		"?state=overdue":               "late",
		"?state=nothing":               "",
		"?limit=1":                     "live/prod/vpc",
		"?after=" + repository + "/live/prod/vpc": "late",
	} {
		var list []struct {
			Repository, Workspace, State string
		}
		if err := json.Unmarshal([]byte(s.page("/api/drift"+query)), &list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range list {
			names = append(names, d.Workspace)
		}
		if got := strings.Join(names, " "); got != want || list == nil {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
	for _, bad := range []string{"?limit=0", "?limit=1001", "?limit=x"} {
		if w := s.get("/api/drift" + bad); w.Code != http.StatusBadRequest || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s", bad, w.Code, w.Body)
		}
	}
	one := s.page("/api/drift/" + repository + "/live/prod/vpc")
	var d struct {
		Contested   string
		Now         struct{ Resources []any }
		Past        []any
		Corrections []any
		Ticket      struct{ Number int }
		Proposal    struct{ Number int }
	}
	if err := json.Unmarshal([]byte(one), &d); err != nil || d.Contested == "" || len(d.Now.Resources) != 3 || len(d.Past) != 2 || len(d.Corrections) != 2 || d.Ticket.Number != 12 || d.Proposal.Number != 34 {
		t.Errorf("%v\n%s", err, one)
	}
	s.lacks(one, "secret-hash")
	if never := s.page("/api/drift/h/o/n/never"); strings.Contains(never, `"now"`) || strings.Contains(never, `"ticket"`) {
		t.Errorf("%s", never)
	}
}

func TestOverviewShowsOverdue(t *testing.T) {
	s := newSite(t, web.Config{})
	s.workspace(`{"repository":"` + repository + `","name":"a-drifted","state":"drifted"}`)
	s.workspace(`{"repository":"` + repository + `","name":"z-late","state":"unknown","overdue":true,"checks":1,"failures":3,"retry_at":"2026-03-14T12:20:00Z"}`)
	page := s.page("/")
	s.inOrder(page, `<b>1</b> <span class="state overdue">overdue</span>`, ">z-late<", `<span class="state overdue">overdue</span>`, "1 failing check<", "The check failed 3 times. Next try: ", "14 Mar 12:20",
		`href="/drift/git.example.com/platform/infra/z-late"`, ">a-drifted<")
	s.wants(s.page("/api/workspaces"), `"overdue": true`, `"retry_at"`)
	s.wants(s.page("/static/style.css"), ".overdue")
}

func TestCorrectRun(t *testing.T) {
	s := newSite(t, web.Config{})
	s.run(store.Run{ID: "R1", Kind: store.KindCorrect, State: store.Held, Error: "Somebody works on this workspace.", Result: json.RawMessage(`{
		"drift":{"class":"cloud_change","reason":"","resources":[{"address":"smallcloud_server.web","change":"changed","type":"smallcloud_server","action":"replace","attributes":["size"],"values":[{"attribute":"size","cloud":"large","git":"small"}]}],
			"ignored":[{"address":"smallcloud_server.db","attributes":["tags.scan"],"reason":"the scanner writes it"}],"unexplained":["data.x.y"],"checks":[{"address":"check.health","message":"no answer"}]},
		"gates":[{"name":"pull_requests","why":"Somebody works on this workspace: #7 would change it."}],"corrects":["smallcloud_server.web size"],"notes":["The rule that left a.b alone ended."]}`)})
	page := s.page("/runs/R1")
	s.wants(page, `href="/drift/git.example.com/platform/infra/live/prod/vpc">history`, "<code>large</code></td><td><code>small</code>", "putting it right replaces it", "Left alone by a rule", "the scanner writes it", "data.x.y", "check.health", "no answer",
		"Why it is not corrected", "#7 would change it.", "(pull requests)", "What the correction puts back", "smallcloud_server.web size", "The rule that left a.b alone ended.")
	s.run(store.Run{ID: "R2", Kind: store.KindDrift, State: store.NoChanges, Result: json.RawMessage(`{"drift":{"class":"","ignored":[{"address":"a.b","reason":"known"}]}}`)})
	s.wants(s.page("/runs/R2"), "In sync: the cloud is as Git says, but for what rules leave alone.", "known")

	var many strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&many, `,{"address":"a.b%04d","change":"deleted"}`, i)
	}
	s.run(store.Run{ID: "R3", Kind: store.KindDrift, State: store.Planned, Result: json.RawMessage(`{"drift":{"class":"cloud_change","resources":[` + many.String()[1:] + `]}}`)})
	page = s.page("/runs/R3")
	s.wants(page, "a.b0499", "And 2500 more.")
	s.lacks(page, "a.b0500")
}

func TestDriftPagesWithoutStore(t *testing.T) {
	s := newSite(t, web.Config{})
	s.store.Close()
	for _, target := range []string{"/drift", "/drift/h/o/n/w", "/api/drift", "/api/drift/h/o/n/w"} {
		if w := s.get(target); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "sql") {
			t.Errorf("%s: %d\n%s", target, w.Code, w.Body)
		}
	}
}
