package gitlab_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/gitlab"
)

const (
	shaA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	shaB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	zero = "0000000000000000000000000000000000000000"
)

func host(t testing.TB) *gitlab.Host {
	t.Helper()
	h, err := gitlab.New(gitlab.Config{Token: "t", WebhookSecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func parse(h *gitlab.Host, event, body string) (vcs.Event, error) {
	return h.ParseWebhook(http.Header{"X-Gitlab-Event": {event}, "X-Gitlab-Token": {"secret"}, "Idempotency-Key": {"d-1"}, "X-Gitlab-Event-Uuid": {"shared"}}, []byte(body))
}

const project = `"user":{"username":"ann"},"project":{"path_with_namespace":"acme/core/network","web_url":"https://gitlab.com/acme/core/network"}`

func TestEvents(t *testing.T) {
	base := vcs.Event{Delivery: "d-1", Repository: vcs.Repository{Host: "gitlab.com", Owner: "acme/core", Name: "network"}, Sender: "ann"}
	with := func(f func(*vcs.Event)) vcs.Event {
		e := base
		f(&e)
		return e
	}
	pull := with(func(e *vcs.Event) { e.Kind, e.Number = vcs.EventPullRequest, 7 })
	said := with(func(e *vcs.Event) {
		e.Kind, e.Number, e.CommentID, e.Comment = vcs.EventComment, 7, 9, "holdfast plan"
		e.CommentedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	})
	mr := func(action string) string {
		return `{"object_kind":"merge_request","object_attributes":{"iid":7,"action":"` + action + `"},` + project + `}`
	}
	note := func(more string) string {
		return `{"object_kind":"note","object_attributes":{"id":9,"note":"holdfast plan","noteable_type":"MergeRequest","created_at":"2026-03-01 12:00:00 UTC"` + more + `},"merge_request":{"iid":7},` + project + `}`
	}
	ticket := with(func(e *vcs.Event) { e.Kind, e.Ticket = vcs.EventTicket, 7 })
	asked := with(func(e *vcs.Event) {
		e.Kind, e.Ticket, e.CommentID, e.Comment = vcs.EventComment, 7, 9, "holdfast ignore"
	})
	noted := func(on, action string) string {
		return `{"object_kind":"note","object_attributes":{"id":9,"note":"holdfast ignore","noteable_type":"` + on + `","action":"` + action + `"},"issue":{"iid":7},` + project + `}`
	}
	issue := func(kind, action string) string {
		return `{"object_kind":"` + kind + `","object_attributes":{"iid":7,"action":"` + action + `"},` + project + `}`
	}
	for name, tc := range map[string]struct {
		event, body string
		want        vcs.Event
		ignored     bool
	}{
		"open": {"Merge Request Hook", mr("open"), pull, false}, "pushed": {"Merge Request Hook", mr("update"), pull, false},
		"merged": {"Merge Request Hook", mr("merge"), pull, false}, "approved": {"Merge Request Hook", mr("approved"), pull, false},
		"by a system hook": {"System Hook", mr("close"), pull, false}, "of a later version": {"Merge Request Hook", mr("teleported"), vcs.Event{}, true},
		"comment":                    {"Note Hook", note(`,"action":"create","updated_at":"2026-03-01 12:00:01 UTC"`), said, false},
		"comment, older":             {"Note Hook", note(`,"updated_at":"2026-03-01 12:00:00 UTC"`), said, false},
		"edited":                     {"Note Hook", note(`,"action":"update"`), vcs.Event{}, true},
		"edited, older":              {"Note Hook", note(`,"updated_at":"2026-03-01 12:00:09 UTC"`), vcs.Event{}, true},
		"of the host":                {"Note Hook", note(`,"action":"create","system":true`), vcs.Event{}, true},
		"comment on issue":           {"Note Hook", noted("Issue", "create"), asked, false},
		"comment on work item":       {"Note Hook", strings.Replace(noted("WorkItem", "create"), `"issue"`, `"work_item"`, 1), asked, false},
		"comment on an issue's item": {"Note Hook", noted("WorkItem", "create"), asked, false},
		"comment on issue edited":    {"Note Hook", noted("Issue", "update"), vcs.Event{}, true},
		"comment on commit":          {"Note Hook", noted("Commit", "create"), vcs.Event{}, true},
		"issue closed":               {"Issue Hook", issue("issue", "close"), ticket, false},
		"issue reopened":             {"Issue Hook", issue("issue", "reopen"), ticket, false},
		"work item closed":           {"Work Item Hook", issue("work_item", "close"), ticket, false},
		"issue opened":               {"Issue Hook", issue("issue", "open"), vcs.Event{}, true},
		"issue updated":              {"Issue Hook", issue("issue", "update"), vcs.Event{}, true},
		"push": {"Push Hook", `{"object_kind":"push","event_name":"push","user_username":"kim","ref":"refs/heads/a/b","before":"` + shaA + `","after":"` + shaB + `","project":{"path_with_namespace":"acme/core/network","web_url":"https://gitlab.com/acme/core/network"}}`,
			with(func(e *vcs.Event) {
				e.Kind, e.Branch, e.Before, e.After, e.Sender = vcs.EventPush, "a/b", shaA, shaB, "kim"
			}), false},
		"deleted branch":  {"Push Hook", `{"object_kind":"push","ref":"refs/heads/b","before":"` + shaB + `","after":"` + zero + `",` + project + `}`, vcs.Event{}, true},
		"tag":             {"Tag Push Hook", `{"object_kind":"tag_push","ref":"refs/tags/v1",` + project + `}`, vcs.Event{}, true},
		"pipeline":        {"Pipeline Hook", `{"object_kind":"pipeline"}`, vcs.Event{}, true},
		"user is made":    {"System Hook", `{"event_name":"user_create","created_at":"x"}`, vcs.Event{}, true},
		"of another host": {"Merge Request Hook", `{"object_kind":"merge_request","object_attributes":{"iid":7,"action":"open"},"project":{"path_with_namespace":"a/b","web_url":"https://evil.example.com/a/b"}}`, vcs.Event{}, true},
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
	for name, body := range map[string]string{
		"no kind": `{}`, "no project": `{"object_kind":"merge_request","object_attributes":{"iid":7,"action":"open"}}`,
		"no number":     `{"object_kind":"merge_request","object_attributes":{"action":"open"},` + project + `}`,
		"dots":          `{"object_kind":"merge_request","object_attributes":{"iid":7,"action":"open"},"project":{"path_with_namespace":"a/../b"}}`,
		"one part":      `{"object_kind":"merge_request","object_attributes":{"iid":7,"action":"open"},"project":{"path_with_namespace":"b"}}`,
		"no commits":    `{"object_kind":"push","ref":"refs/heads/b","before":"HEAD","after":"x",` + project + `}`,
		"no merge":      `{"object_kind":"note","object_attributes":{"id":9,"noteable_type":"MergeRequest","action":"create"},` + project + `}`,
		"no issue":      `{"object_kind":"note","object_attributes":{"id":9,"noteable_type":"Issue","action":"create"},` + project + `}`,
		"no ticket":     `{"object_kind":"issue","object_attributes":{"action":"close"},` + project + `}`,
		"no id":         `{"object_kind":"note","object_attributes":{"noteable_type":"MergeRequest","action":"create"},"merge_request":{"iid":7},` + project + `}`,
		"a list":        `[]`,
		"half":          `{"object_kind":"push"`,
		"another type":  `{"object_kind":7}`,
		"huge number":   `{"object_kind":"merge_request","object_attributes":{"iid":99999999999,"action":"open"},` + project + `}`,
		"a list inside": `{"object_kind":"merge_request","object_attributes":[],` + project + `}`,
	} {
		if e, err := parse(host(t), "Merge Request Hook", body); err == nil || errors.Is(err, vcs.ErrIgnored) || errors.Is(err, vcs.ErrSignature) {
			t.Errorf("%s: %+v, %v, want an error", name, e, err)
		}
	}
}

func TestTokens(t *testing.T) {
	body := []byte(`{"object_kind":"pipeline"}`)
	for _, token := range []string{"", "Secret", "secret ", "secre", "secretsecret"} {
		if _, err := host(t).ParseWebhook(http.Header{"X-Gitlab-Token": {token}}, body); !errors.Is(err, vcs.ErrSignature) {
			t.Errorf("%q: %v, want ErrSignature", token, err)
		}
	}
	pulling, err := gitlab.New(gitlab.Config{Token: "t", Pull: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pulling.ParseWebhook(http.Header{"X-Gitlab-Token": {""}}, body); !errors.Is(err, vcs.ErrSignature) {
		t.Errorf("a host that is asked: %v, want ErrSignature", err)
	}
}

// TestOwnCA speaks to a host whose certificate only its own authority signed.
func TestOwnCA(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"default_branch":"main"}`))
	}))
	t.Cleanup(srv.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	ask := func(ca []byte) error {
		h, err := gitlab.New(gitlab.Config{URL: srv.URL, Token: "t", Pull: true, CA: ca})
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Remote(t.Context(), vcs.Repository{Host: h.Name(), Owner: "a", Name: "b"})
		return err
	}
	if err := ask(ca); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	if err := ask(nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without: %v", err)
	}
	if _, err := gitlab.New(gitlab.Config{Token: "t", Pull: true, CA: []byte("none")}); err == nil {
		t.Error("a file without certificates is accepted")
	}
}

// FuzzWebhook finds no body that is a panic, or an event of nothing.
func FuzzWebhook(f *testing.F) {
	f.Add(`{"object_kind":"merge_request","object_attributes":{"iid":7,"action":"open"},` + project + `}`)
	f.Add(`{"object_kind":"note","object_attributes":{"id":9,"note":"holdfast plan","noteable_type":"MergeRequest","action":"create","created_at":"2026-03-01 12:00:00 UTC"},"merge_request":{"iid":7},` + project + `}`)
	f.Add(`{"object_kind":"push","user_username":"kim","ref":"refs/heads/a/b","before":"` + shaA + `","after":"` + shaB + `",` + project + `}`)
	f.Add(`{"object_kind":"note","object_attributes":{"id":9,"note":"holdfast ignore","noteable_type":"Issue","action":"create"},"issue":{"iid":7},` + project + `}`)
	f.Add(`{"object_kind":"issue","object_attributes":{"iid":7,"action":"close"},` + project + `}`)
	f.Add(`{"event_name":"repository_update"}`)
	h := host(f)
	f.Fuzz(func(t *testing.T, body string) {
		e, err := parse(h, "Merge Request Hook", body)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Errorf("%q is unfit for a log line", err)
			}
			return
		}
		if _, err := vcs.ParseRepository(e.Repository.String()); err != nil || e.Repository.Host != "gitlab.com" {
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
