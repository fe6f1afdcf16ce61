package github_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/github"
	"holdfast/vcs/vcstest/forge"
)

const (
	shaA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	shaB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	zero = "0000000000000000000000000000000000000000"
)

func host(t testing.TB) *github.Host {
	t.Helper()
	h, err := github.New(github.Config{Token: "t", WebhookSecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func parse(h *github.Host, event, body string) (vcs.Event, error) {
	header := http.Header{}
	header.Set("X-GitHub-Event", event)
	header.Set("X-GitHub-Delivery", "d-1")
	header.Set("Content-Type", "application/json")
	header.Set("X-Hub-Signature-256", "sha256="+forge.MAC("secret", []byte(body)))
	return h.ParseWebhook(header, []byte(body))
}

const (
	repo   = `"repository":{"name":"network","html_url":"https://github.com/boss/network","owner":{"login":"boss"}}`
	sender = `"sender":{"login":"ann"}`
)

func TestEvents(t *testing.T) {
	network := vcs.Repository{Host: "github.com", Owner: "boss", Name: "network"}
	base := vcs.Event{Delivery: "d-1", Repository: network, Sender: "ann"}
	with := func(f func(*vcs.Event)) vcs.Event {
		e := base
		f(&e)
		return e
	}
	pull := with(func(e *vcs.Event) { e.Kind, e.Number = vcs.EventPullRequest, 7 })
	ticket := with(func(e *vcs.Event) { e.Kind, e.Ticket = vcs.EventTicket, 7 })
	for name, tc := range map[string]struct {
		event, body string
		want        vcs.Event
		ignored     bool
	}{
		"opened":       {"pull_request", `{"action":"opened","number":7,"pull_request":{"number":7},` + repo + `,` + sender + `}`, pull, false},
		"pushed to":    {"pull_request", `{"action":"synchronize","number":7,` + repo + `,` + sender + `}`, pull, false},
		"ready":        {"pull_request", `{"action":"ready_for_review","pull_request":{"number":7},` + repo + `,` + sender + `}`, pull, false},
		"labeled":      {"pull_request", `{"action":"labeled","number":7,` + repo + `}`, vcs.Event{}, true},
		"review":       {"pull_request_review", `{"action":"submitted","review":{"state":"approved"},"pull_request":{"number":7},` + repo + `,` + sender + `}`, pull, false},
		"dismissed":    {"pull_request_review", `{"action":"dismissed","pull_request":{"number":7},` + repo + `,` + sender + `}`, pull, false},
		"review moved": {"pull_request_review", `{"action":"edited","pull_request":{"number":7},` + repo + `}`, vcs.Event{}, true},
		"comment": {"issue_comment", `{"action":"created","issue":{"number":7,"pull_request":{"url":"x"}},"comment":{"id":9,"body":"holdfast plan","created_at":"2026-03-01T12:00:00Z","user":{"login":"kim"}},` + repo + `,` + sender + `}`,
			with(func(e *vcs.Event) {
				e.Kind, e.Number, e.CommentID, e.Comment, e.Sender = vcs.EventComment, 7, 9, "holdfast plan", "kim"
				e.CommentedAt = at("2026-03-01T12:00:00Z")
			}), false},
		"comment edited": {"issue_comment", `{"action":"edited","issue":{"number":7,"pull_request":{}},"comment":{"id":9},` + repo + `}`, vcs.Event{}, true},
		"comment on issue": {"issue_comment", `{"action":"created","issue":{"number":7},"comment":{"id":9,"body":"holdfast ignore","user":{"login":"kim"}},` + repo + `,` + sender + `}`,
			with(func(e *vcs.Event) {
				e.Kind, e.Ticket, e.CommentID, e.Comment, e.Sender = vcs.EventComment, 7, 9, "holdfast ignore", "kim"
			}), false},
		"comment on issue edited": {"issue_comment", `{"action":"edited","issue":{"number":7,"pull_request":null},"comment":{"id":9},` + repo + `}`, vcs.Event{}, true},
		"issue closed":            {"issues", `{"action":"closed","issue":{"number":7},` + repo + `,` + sender + `}`, ticket, false},
		"issue reopened":          {"issues", `{"action":"reopened","issue":{"number":7},` + repo + `,` + sender + `}`, ticket, false},
		"issue deleted":           {"issues", `{"action":"deleted","issue":{"number":7},` + repo + `,` + sender + `}`, ticket, false},
		"issue opened":            {"issues", `{"action":"opened","issue":{"number":7},` + repo + `,` + sender + `}`, vcs.Event{}, true},
		"issue labeled":           {"issues", `{"action":"labeled","issue":{"number":7},` + repo + `,` + sender + `}`, vcs.Event{}, true},
		"issue of a pull request": {"issues", `{"action":"closed","issue":{"number":7,"pull_request":{"url":"x"}},` + repo + `,` + sender + `}`, vcs.Event{}, true},
		"push": {"push", `{"ref":"refs/heads/a/b","before":"` + shaA + `","after":"` + shaB + `","repository":{"name":"network","html_url":"https://github.com/boss/network","owner":{"name":"boss"}},` + sender + `}`,
			with(func(e *vcs.Event) { e.Kind, e.Branch, e.Before, e.After = vcs.EventPush, "a/b", shaA, shaB }), false},
		"new branch": {"push", `{"ref":"refs/heads/b","before":"` + zero + `","after":"` + shaB + `",` + repo + `,` + sender + `}`,
			with(func(e *vcs.Event) { e.Kind, e.Branch, e.After = vcs.EventPush, "b", shaB }), false},
		"deleted branch": {"push", `{"ref":"refs/heads/b","before":"` + shaB + `","after":"` + zero + `",` + repo + `}`, vcs.Event{}, true},
		"tag":            {"push", `{"ref":"refs/tags/v1","before":"` + shaA + `","after":"` + shaB + `",` + repo + `}`, vcs.Event{}, true},
		"merge group": {"merge_group", `{"action":"checks_requested","merge_group":{"head_sha":"` + shaB + `","head_ref":"refs/heads/gh-readonly-queue/main/pr-104-` + shaA + `","base_sha":"` + shaA + `","base_ref":"refs/heads/main"},` + repo + `,` + sender + `}`,
			with(func(e *vcs.Event) {
				e.Kind, e.Number, e.Branch, e.Before, e.After = vcs.EventMergeGroup, 104, "main", shaA, shaB
			}), false},
		"merge group of a branch with a number": {"merge_group", `{"action":"checks_requested","merge_group":{"head_sha":"` + shaB + `","head_ref":"refs/heads/gh-readonly-queue/a/pr-9-x/pr-104-` + shaA + `","base_sha":"` + shaA + `","base_ref":"refs/heads/a/pr-9-x"},` + repo + `,` + sender + `}`,
			with(func(e *vcs.Event) {
				e.Kind, e.Number, e.Branch, e.Before, e.After = vcs.EventMergeGroup, 104, "a/pr-9-x", shaA, shaB
			}), false},
		"merge group gone": {"merge_group", `{"action":"destroyed",` + repo + `}`, vcs.Event{}, true},
		"run again": {"check_run", `{"action":"rerequested","check_run":{"name":"holdfast/vpc","head_sha":"` + shaA + `","pull_requests":[{"number":7}]},` + repo + `,` + sender + `}`,
			with(func(e *vcs.Event) { e.Kind, e.Number, e.After, e.Check = vcs.EventRerun, 7, shaA, "holdfast/vpc" }), false},
		"run again of a fork": {"check_run", `{"action":"rerequested","check_run":{"name":"holdfast","head_sha":"` + shaA + `","pull_requests":[]},` + repo + `,` + sender + `}`,
			with(func(e *vcs.Event) { e.Kind, e.After, e.Check = vcs.EventRerun, shaA, "holdfast" }), false},
		"run made": {"check_run", `{"action":"created","check_run":{"name":"holdfast/vpc"},` + repo + `}`, vcs.Event{}, true},
		"suite again": {"check_suite", `{"action":"rerequested","check_suite":{"head_sha":"` + shaA + `"},` + repo + `,` + sender + `}`,
			with(func(e *vcs.Event) { e.Kind, e.After = vcs.EventRerun, shaA }), false},
		"installed":       {"installation", `{"action":"created","installation":{"id":1},"repositories":[],` + sender + `}`, vcs.Event{Delivery: "d-1", Kind: vcs.EventRepositories, Sender: "ann"}, false},
		"added":           {"installation_repositories", `{"action":"added",` + sender + `}`, vcs.Event{Delivery: "d-1", Kind: vcs.EventRepositories, Sender: "ann"}, false},
		"renamed":         {"repository", `{"action":"renamed",` + repo + `,` + sender + `}`, vcs.Event{Delivery: "d-1", Kind: vcs.EventRepositories, Sender: "ann"}, false},
		"ping":            {"ping", `{"zen":"x","hook_id":1}`, vcs.Event{}, true},
		"of no use":       {"star", `{"action":"created"}`, vcs.Event{}, true},
		"to be invented":  {"quantum_merge", `{"action":"entangled"}`, vcs.Event{}, true},
		"no event":        {"", `{}`, vcs.Event{}, true},
		"of another host": {"pull_request", `{"action":"opened","number":7,"repository":{"name":"network","html_url":"https://evil.example.com/boss/network","owner":{"login":"boss"}}}`, vcs.Event{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(host(t), tc.event, tc.body)
			if tc.ignored {
				if !errors.Is(err, vcs.ErrIgnored) || len(err.Error()) < len(vcs.ErrIgnored.Error())+3 {
					t.Fatalf("%+v, %v, want it ignored with a reason", got, err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("%+v, %v\nwant %+v", got, err, tc.want)
			}
		})
	}
}

func TestEventsThatLackSomething(t *testing.T) {
	for name, tc := range map[string][2]string{
		"no repository":  {"push", `{"ref":"refs/heads/b","before":"` + shaA + `","after":"` + shaB + `"}`},
		"no number":      {"pull_request", `{"action":"opened",` + repo + `}`},
		"huge number":    {"pull_request", `{"action":"opened","number":99999999999,` + repo + `}`},
		"slash in name":  {"pull_request", `{"action":"opened","number":7,"repository":{"name":"a/b","owner":{"login":"boss"}}}`},
		"dots as name":   {"pull_request", `{"action":"opened","number":7,"repository":{"name":"..","owner":{"login":"boss"}}}`},
		"no owner":       {"pull_request", `{"action":"opened","number":7,"repository":{"name":"network"}}`},
		"no comment":     {"issue_comment", `{"action":"created","issue":{"number":7,"pull_request":{}},` + repo + `}`},
		"no id":          {"issue_comment", `{"action":"created","issue":{"number":7,"pull_request":{}},"comment":{"body":"x"},` + repo + `}`},
		"no issue":       {"issues", `{"action":"closed",` + repo + `}`},
		"no issue's id":  {"issues", `{"action":"closed","issue":{},` + repo + `}`},
		"huge ticket":    {"issue_comment", `{"action":"created","issue":{"number":99999999999},"comment":{"id":9},` + repo + `}`},
		"no commits":     {"push", `{"ref":"refs/heads/b","before":"HEAD","after":"--output=x",` + repo + `}`},
		"odd branch":     {"push", `{"ref":"refs/heads/a b","before":"` + shaA + `","after":"` + shaB + `",` + repo + `}`},
		"no merge group": {"merge_group", `{"action":"checks_requested",` + repo + `}`},
		"no check run":   {"check_run", `{"action":"rerequested",` + repo + `}`},
		"another type":   {"push", `{"ref":7}`},
		"a list":         {"push", `[]`},
		"no JSON":        {"star", `{`},
	} {
		if e, err := parse(host(t), tc[0], tc[1]); err == nil || errors.Is(err, vcs.ErrIgnored) || errors.Is(err, vcs.ErrSignature) {
			t.Errorf("%s: %+v, %v, want an error", name, e, err)
		}
	}
}

func TestSignatures(t *testing.T) {
	h := host(t)
	body := []byte(`{"zen":"x"}`)
	good := forge.MAC("secret", body)
	for name, signature := range map[string]string{
		"none": "", "empty": "sha256=", "of another secret": "sha256=" + forge.MAC("other", body), "of another body": "sha256=" + forge.MAC("secret", []byte("{}")),
		"cut": "sha256=" + good[:40], "no hex": "sha256=zz" + good[2:], "longer": "sha256=" + good + "00", "of an empty secret": "sha256=" + forge.MAC("", body),
	} {
		header := http.Header{"X-Github-Event": {"ping"}, "X-Hub-Signature-256": {signature}}
		if _, err := h.ParseWebhook(header, body); !errors.Is(err, vcs.ErrSignature) {
			t.Errorf("%s: %v, want ErrSignature", name, err)
		}
	}
	pulling, err := github.New(github.Config{Token: "t", Pull: true})
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"X-Github-Event": {"ping"}, "X-Hub-Signature-256": {"sha256=" + forge.MAC("", body)}}
	if _, err := pulling.ParseWebhook(header, body); !errors.Is(err, vcs.ErrSignature) {
		t.Errorf("a host that is asked: %v, want ErrSignature", err)
	}
}

// FuzzWebhook finds no body of any event that is a panic, or an event of nothing.
func FuzzWebhook(f *testing.F) {
	for _, event := range []string{"pull_request", "pull_request_review", "issue_comment", "issues", "push", "merge_group", "check_run", "check_suite", "installation", "repository", "ping"} {
		f.Add(event, `{"action":"opened","number":7,"pull_request":{"number":7},`+repo+`,`+sender+`}`)
		f.Add(event, `{"action":"created","issue":{"number":7,"pull_request":{"url":"x"}},"comment":{"id":9,"body":"holdfast plan","created_at":"2026-03-01T12:00:00Z"},`+repo+`}`)
		f.Add(event, `{"action":"closed","issue":{"number":7},`+repo+`,`+sender+`}`)
		f.Add(event, `{"ref":"refs/heads/a/b","before":"`+shaA+`","after":"`+shaB+`",`+repo+`}`)
		f.Add(event, `{"action":"checks_requested","merge_group":{"head_sha":"`+shaB+`","head_ref":"refs/heads/gh-readonly-queue/main/pr-104-`+shaA+`","base_sha":"`+shaA+`","base_ref":"refs/heads/main"},`+repo+`}`)
		f.Add(event, `{"action":"rerequested","check_run":{"name":"holdfast/vpc","head_sha":"`+shaA+`","pull_requests":[{"number":7}]},`+repo+`}`)
	}
	h := host(f)
	f.Fuzz(func(t *testing.T, event, body string) {
		e, err := parse(h, event, body)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Errorf("%q is unfit for a log line", err)
			}
			return
		}
		if e.Kind == vcs.EventRepositories {
			return
		}
		if _, err := vcs.ParseRepository(e.Repository.String()); err != nil || e.Repository.Host != "github.com" || strings.Contains(e.Repository.Owner, "/") {
			t.Errorf("repository %q: %v", e.Repository, err)
		}
		if e.Kind == vcs.EventPullRequest && e.Number <= 0 || e.Kind == vcs.EventComment && (e.Number <= 0 == (e.Ticket <= 0) || e.CommentID <= 0) || e.Kind == vcs.EventTicket && e.Ticket <= 0 || e.Kind == "" || e.Delivery == "" {
			t.Errorf("event of nothing: %+v", e)
		}
		if _, err := json.Marshal(e); err != nil {
			t.Error(err)
		}
	})
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}
