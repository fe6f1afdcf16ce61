package gitea

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/vcs"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/transport"
)

const testSecret = "s3cret"

func testHost(t testing.TB, url string) *Host {
	t.Helper()
	h, err := New(Config{
		URL: url, Token: "token", WebhookSecret: testSecret,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// signed returns the headers of a delivery of body.
func signed(event, eventType string, body []byte) http.Header {
	h := giteatest.Sign(testSecret, body)
	h.Set("X-Gitea-Event", event)
	h.Set("X-Gitea-Event-Type", eventType)
	h.Set("X-Gitea-Delivery", "d-1")
	h.Set("Content-Type", "application/json")
	return h
}

const (
	shaA = "1111111111111111111111111111111111111111"
	shaB = "2222222222222222222222222222222222222222"
	zero = "0000000000000000000000000000000000000000"
	// tail is what every payload ends with.
	tail = `"repository":{"id":3,"name":"network","full_name":"boss/network","owner":{"id":1,"login":"boss","username":"boss"}},"sender":{"id":1,"login":"ann","username":"ann"}}`
)

func pullBody(action string) string {
	return `{"action":"` + action + `","number":7,"pull_request":{"id":9,"number":7,"state":"open"},"review":null,` + tail
}

func commentBody(action, more string) string {
	return `{"action":"` + action + `","issue":{"id":9,"number":7,"pull_request":{"merged":false}},"comment":{"id":55,"body":"holdfast plan"},"is_pull":true,` + more + tail
}

func issueBody(action string) string {
	return `{"action":"` + action + `","number":4,"issue":{"id":5,"number":4,"state":"open","pull_request":null},` + tail
}

func pushBody(ref, before, after string) string {
	return `{"ref":"` + ref + `","before":"` + before + `","after":"` + after + `","total_commits":1,` + tail
}

// event is what all cases have in common.
func event(e vcs.Event) vcs.Event {
	e.Delivery, e.Sender = "d-1", "ann"
	e.Repository = vcs.Repository{Host: "git.example.com", Owner: "boss", Name: "network"}
	return e
}

var webhookCases = []struct {
	name        string
	event, kind string // X-Gitea-Event and X-Gitea-Event-Type
	body        string
	want        vcs.Event
	ignored     bool
	err         string // part of another error
}{
	{name: "opened", event: "pull_request", kind: "pull_request", body: pullBody("opened"),
		want: vcs.Event{Kind: vcs.EventPullRequest, Number: 7}},
	{name: "synchronized", event: "pull_request", kind: "pull_request_sync", body: pullBody("synchronized"),
		want: vcs.Event{Kind: vcs.EventPullRequest, Number: 7}},
	{name: "edited", event: "pull_request", kind: "pull_request", body: pullBody("edited"),
		want: vcs.Event{Kind: vcs.EventPullRequest, Number: 7}},
	{name: "closed", event: "pull_request", kind: "pull_request", body: pullBody("closed"),
		want: vcs.Event{Kind: vcs.EventPullRequest, Number: 7}},
	{name: "reopened", event: "pull_request", kind: "pull_request", body: pullBody("reopened"),
		want: vcs.Event{Kind: vcs.EventPullRequest, Number: 7}},
	{name: "labels", event: "pull_request", kind: "pull_request_label", body: pullBody("label_updated"),
		want: vcs.Event{Kind: vcs.EventPullRequest, Number: 7}},
	{name: "approved", event: "pull_request_approved", kind: "pull_request_review_approved", body: pullBody("reviewed"),
		want: vcs.Event{Kind: vcs.EventPullRequest, Number: 7}},
	{name: "rejected", event: "pull_request_rejected", kind: "pull_request_review_rejected", body: pullBody("reviewed"),
		want: vcs.Event{Kind: vcs.EventPullRequest, Number: 7}},
	{name: "review comment", event: "pull_request_comment", kind: "pull_request_review_comment", body: pullBody("reviewed"),
		want: vcs.Event{Kind: vcs.EventPullRequest, Number: 7}},
	{name: "number only inside", event: "pull_request", body: strings.Replace(pullBody("opened"), `"number":7,"pull`, `"pull`, 1),
		want: vcs.Event{Kind: vcs.EventPullRequest, Number: 7}},
	{name: "unknown action", event: "pull_request", body: pullBody("sneezed"), ignored: true},
	{name: "no action", event: "pull_request", body: pullBody(""), ignored: true},
	{name: "negative number", event: "pull_request", body: strings.ReplaceAll(pullBody("opened"), "7", "-7"), err: "-7"},
	{name: "huge number", event: "pull_request", body: strings.ReplaceAll(pullBody("opened"), `"number":7`, `"number":99999999999`), err: "99999999999"},

	{name: "comment created", event: "issue_comment", kind: "pull_request_comment", body: commentBody("created", ""),
		want: vcs.Event{Kind: vcs.EventComment, Number: 7, CommentID: 55, Comment: "holdfast plan"}},
	{name: "comment edited", event: "issue_comment", kind: "pull_request_comment", body: commentBody("edited", ""), ignored: true},
	{name: "comment deleted", event: "issue_comment", kind: "pull_request_comment", body: commentBody("deleted", ""), ignored: true},
	{name: "comment on an issue", event: "issue_comment", kind: "issue_comment",
		body: `{"action":"created","issue":{"number":4,"pull_request":null},"comment":{"id":5,"body":"holdfast apply"},"is_pull":false,` + tail,
		want: vcs.Event{Kind: vcs.EventComment, Ticket: 4, CommentID: 5, Comment: "holdfast apply"}},
	{name: "comment on an issue edited", event: "issue_comment", kind: "issue_comment",
		body: `{"action":"edited","issue":{"number":4},"comment":{"id":5},"is_pull":false,` + tail, ignored: true},
	{name: "comment on an issue without a number", event: "issue_comment", body: `{"action":"created","comment":{"id":5},` + tail, err: "issue 0"},
	{name: "comment without id", event: "issue_comment", body: strings.Replace(commentBody("created", ""), `"id":55`, `"id":0`, 1), err: "id"},
	{name: "comment named as a pull request event", event: "pull_request", body: commentBody("created", ""), ignored: true},

	{name: "push", event: "push", kind: "push", body: pushBody("refs/heads/feature/one", shaA, shaB),
		want: vcs.Event{Kind: vcs.EventPush, Branch: "feature/one", Before: shaA, After: shaB}},
	{name: "new branch", event: "push", body: pushBody("refs/heads/new", zero, shaB),
		want: vcs.Event{Kind: vcs.EventPush, Branch: "new", After: shaB}},
	{name: "deleted branch", event: "push", body: pushBody("refs/heads/old", shaA, zero), ignored: true},
	{name: "tag", event: "push", body: pushBody("refs/tags/v1", zero, shaB), ignored: true},
	{name: "branch with a newline", event: "push", body: pushBody(`refs/heads/a\nb`, shaA, shaB), err: "branch"},
	{name: "push without commits", event: "push", body: pushBody("refs/heads/a", "x", "--upload-pack"), err: "commit"},

	{name: "create", event: "create", body: `{"ref":"main","ref_type":"branch",` + tail, ignored: true},
	{name: "issue", event: "issues", body: `{"action":"opened","number":4,"issue":{"number":4},` + tail, ignored: true},
	{name: "issue closed", event: "issues", kind: "issues", body: issueBody("closed"), want: vcs.Event{Kind: vcs.EventTicket, Ticket: 4}},
	{name: "issue reopened", event: "issues", kind: "issues", body: issueBody("reopened"), want: vcs.Event{Kind: vcs.EventTicket, Ticket: 4}},
	{name: "issue deleted", event: "issues", kind: "issues", body: issueBody("deleted"), want: vcs.Event{Kind: vcs.EventTicket, Ticket: 4}},
	{name: "issue edited", event: "issues", kind: "issues", body: issueBody("edited"), ignored: true},
	{name: "issue with labels", event: "issues", kind: "issue_label", body: issueBody("label_updated"), ignored: true},
	{name: "issue that is a pull request", event: "issues", body: strings.Replace(issueBody("closed"), "null", `{"merged":false}`, 1), ignored: true},
	{name: "no issue", event: "issues", body: `{"action":"closed","number":4,` + tail, err: "no issue"},
	{name: "huge issue", event: "issues", body: strings.ReplaceAll(issueBody("closed"), `"number":4`, `"number":99999999999`), err: "99999999999"},
	{name: "no event", event: "", body: "{" + tail, ignored: true},
	{name: "truncated", event: "push", body: `{"ref":"refs/he`, err: "unexpected end"},
	{name: "not an object", event: "push", body: `[]`, err: "cannot unmarshal"},
	{name: "no repository", event: "push", body: `{"ref":"refs/heads/main"}`, err: "repository"},
	{name: "repository elsewhere", event: "push", body: strings.Replace(pushBody("refs/heads/a", shaA, shaB), `"network"`, `"../../x"`, 1), err: "repository"},
	{name: "owner is a parent", event: "push", body: strings.Replace(pushBody("refs/heads/a", shaA, shaB), `"login":"boss"`, `"login":".."`, 1), err: "repository"},
}

func TestParseWebhook(t *testing.T) {
	h := testHost(t, "https://git.example.com")
	for _, tc := range webhookCases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := h.ParseWebhook(signed(tc.event, tc.kind, []byte(tc.body)), []byte(tc.body))
			switch {
			case tc.ignored:
				if !errors.Is(err, vcs.ErrIgnored) || err.Error() == vcs.ErrIgnored.Error() {
					t.Fatalf("%v, want ErrIgnored with a reason", err)
				}
			case tc.err != "":
				if err == nil || errors.Is(err, vcs.ErrIgnored) || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("%v, want an error with %q", err, tc.err)
				}
			default:
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(event(tc.want), got); diff != "" {
					t.Fatalf("event (-want +got):\n%s", diff)
				}
			}
			if err != nil && got != (vcs.Event{}) {
				t.Errorf("an error comes with an event: %+v", got)
			}
		})
	}
}

// TestParseFullWebhooks reads payloads with all the fields that Gitea sends.
func TestParseFullWebhooks(t *testing.T) {
	h := testHost(t, "https://git.example.com")
	for file, want := range map[string]vcs.Event{
		"push.json":                         {Kind: vcs.EventPush, Branch: "main", Before: shaA, After: shaB},
		"pull_request_synchronized.json":    {Kind: vcs.EventPullRequest, Number: 7},
		"pull_request_comment_created.json": {Kind: vcs.EventComment, Number: 7, CommentID: 55, Comment: "holdfast plan -w \"prod-*\"", CommentedAt: time.Date(2026, 1, 2, 3, 4, 7, 0, time.UTC)},
	} {
		body, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		name := "pull_request"
		switch want.Kind {
		case vcs.EventPush:
			name = "push"
		case vcs.EventComment:
			name = "issue_comment"
		}
		got, err := h.ParseWebhook(signed(name, name, body), body)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if diff := cmp.Diff(event(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestWebhookSignature(t *testing.T) {
	h := testHost(t, "https://git.example.com")
	body := []byte(pullBody("opened"))
	good := giteatest.Sign(testSecret, body).Get("X-Gitea-Signature")
	for name, tc := range map[string]struct {
		header map[string]string
		ok     bool
	}{
		"gitea":          {map[string]string{"X-Gitea-Signature": good, "X-Gitea-Event": "pull_request"}, true},
		"forgejo":        {map[string]string{"X-Forgejo-Signature": good, "X-Forgejo-Event": "pull_request"}, true},
		"hub":            {map[string]string{"X-Hub-Signature-256": "sha256=" + good, "X-Gitea-Event": "pull_request"}, true},
		"upper case":     {map[string]string{"X-Gitea-Signature": strings.ToUpper(good), "X-Gitea-Event": "pull_request"}, true},
		"none":           {map[string]string{"X-Gitea-Event": "pull_request"}, false},
		"empty":          {map[string]string{"X-Gitea-Signature": "", "X-Hub-Signature-256": "sha256="}, false},
		"wrong":          {map[string]string{"X-Gitea-Signature": "00" + good[2:]}, false},
		"short":          {map[string]string{"X-Gitea-Signature": good[:62]}, false},
		"not hex":        {map[string]string{"X-Gitea-Signature": "zz" + good[2:]}, false},
		"sha1 only":      {map[string]string{"X-Hub-Signature": giteatest.Sign(testSecret, body).Get("X-Hub-Signature")}, false},
		"another secret": {map[string]string{"X-Gitea-Signature": giteatest.Sign("other", body).Get("X-Gitea-Signature")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{}
			for k, v := range tc.header {
				header.Set(k, v)
			}
			_, err := h.ParseWebhook(header, body)
			if tc.ok != (err == nil) || (!tc.ok && !errors.Is(err, vcs.ErrSignature)) {
				t.Fatalf("%v, accepted must be %v", err, tc.ok)
			}
		})
	}

	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	if _, err := h.ParseWebhook(form, []byte("payload=%7B%7D")); !errors.Is(err, vcs.ErrSignature) || !strings.Contains(err.Error(), "application/json") {
		t.Errorf("a form: %v, want ErrSignature that names the content type", err)
	}
}

func TestDeliveryID(t *testing.T) {
	h := testHost(t, "https://git.example.com")
	body := []byte(pullBody("opened"))
	ids := map[string]string{}
	for name, id := range map[string]string{"missing": "", "long": strings.Repeat("x", 500), "control": "a\x01b", "good": "7ed07c65-c760"} {
		header := signed("pull_request", "pull_request", body)
		header["X-Gitea-Delivery"] = []string{id}
		e, err := h.ParseWebhook(header, body)
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = e.Delivery
	}
	if ids["good"] != "7ed07c65-c760" || ids["missing"] == "" || ids["missing"] != ids["long"] || ids["long"] != ids["control"] {
		t.Fatalf("ids: %v, want one made of the body for all that are no ids", ids)
	}
}

func FuzzParseWebhook(f *testing.F) {
	for _, tc := range webhookCases {
		f.Add(tc.event, []byte(tc.body))
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("issue_comment", body)
	}
	h := testHost(f, "https://git.example.com:3000")
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		e, err := h.ParseWebhook(signed(name, name, body), body)
		if err != nil {
			if errors.Is(err, vcs.ErrSignature) {
				t.Fatal("a signed body was refused")
			}
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Fatalf("the error is not one line: %q", err)
			}
			return
		}
		if r, perr := vcs.ParseRepository(e.Repository.String()); perr != nil || r != e.Repository || r.Host != h.Name() {
			t.Fatalf("repository %q does not survive: %v", e.Repository, perr)
		}
		switch e.Kind {
		case vcs.EventPush:
			if e.Branch == "" || !transport.IsSHA(e.After) || (e.Before != "" && !transport.IsSHA(e.Before)) {
				t.Fatalf("push: %+v", e)
			}
		case vcs.EventPullRequest:
			if e.Number <= 0 || e.CommentID != 0 {
				t.Fatalf("pull request: %+v", e)
			}
		case vcs.EventComment:
			if e.Number <= 0 == (e.Ticket <= 0) || e.CommentID <= 0 {
				t.Fatalf("comment: %+v", e)
			}
		case vcs.EventTicket:
			if e.Ticket <= 0 || e.Number != 0 {
				t.Fatalf("ticket: %+v", e)
			}
		default:
			t.Fatalf("kind %q", e.Kind)
		}
	})
}
