package gitea

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"holdfast/vcs"
)

func TestMergeAnswerLost(t *testing.T) {
	for head, want := range map[string]bool{shaB: true, shaA: false} {
		h := answering(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				text(405, `{"message":"already merged"}`)(w, r)
				return
			}
			text(200, strings.Replace(pullJSON(1, `"ref":"b"`), `"state":"open"`, `"state":"closed","merged":true,"merge_commit_sha":"`+shaA+`"`, 1))(w, r)
		})
		if err := h.Merge(t.Context(), network, 1, head, "merge"); (err == nil) != want {
			t.Errorf("merge of %s, merged at %s already: %v", head, shaB, err)
		}
	}
}

// TestMergeRefused has the answers of Gitea that refuse a merge, and expects
// reasons that are fit for people.
func TestMergeRefused(t *testing.T) {
	pull := func(more string) string {
		return strings.Replace(pullJSON(1, `"ref":"b"`), `"state":"open"`, more, 1)
	}
	const open = `"state":"open","mergeable":true`
	for name, tc := range map[string]struct {
		status       int
		body, pull   string
		reason, hint string // parts
		again        bool
	}{
		"conflict known": {405, `{"message":"Please try again later","url":"u"}`, pull(`"state":"open","mergeable":false`),
			"conflicts with main, or the host has not finished looking for conflicts: Please try again later", "up to date", true},
		"checked meanwhile": {405, `{"message":"Please try again later","url":"u"}`, pull(open),
			"the host says: Please try again later", "", true},
		"draft":   {405, `{"message":"Work in progress PRs cannot be merged"}`, pull(`"state":"open","draft":true`), "it is a draft", "WIP:", false},
		"closed":  {404, `{"message":"not found","errors":null}`, pull(`"state":"closed"`), "it is closed", "Reopen", false},
		"not us":  {405, `{"message":"User not allowed to merge PR"}`, pull(open), "the host says: User not allowed to merge PR", "protection of main", false},
		"reviews": {405, `{"message":"Does not have enough approvals"}`, pull(open), "the host says: Does not have enough approvals", "protection of main", false},
		"method":  {405, `{"message":"squash is not allowed an allowed merge style for this repository"}`, pull(open), "squash is not allowed", "merge methods", false},
		"head moved": {409, `{"message":"head out of date"}`, strings.ReplaceAll(pull(open), shaB, shaA),
			"its head has moved from 222222222222 to 111111111111", "pushed meanwhile", false},
		"base moved": {409, `{"message":"merge push out of date"}`, pull(open), "the host says: merge push out of date", "", true},
		"conflict found": {409, `{"Style":"merge","StdOut":"Auto-merging a.tf\nCONFLICT (content): Merge conflict in a.tf\n","StdErr":"","Err":{}}`, pull(open),
			"it conflicts with main: Auto-merging a.tf CONFLICT (content): Merge conflict in a.tf", "up to date with main", false},
		"merged elsewhere": {405, `{"message":"","url":"u"}`, strings.ReplaceAll(pull(`"state":"closed","merged":true,"merge_commit_sha":"`+shaA+`"`), shaB, shaA),
			"merged already, with the head 111111111111 instead of 222222222222", "", false},
		"no words": {405, ``, pull(open), "the host says: 405 Method Not Allowed", "protection", false},
	} {
		t.Run(name, func(t *testing.T) {
			h := answering(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					text(tc.status, tc.body)(w, r)
					return
				}
				text(200, tc.pull)(w, r)
			})
			err := h.Merge(t.Context(), network, 1, shaB, "merge")
			var refused *vcs.NotMergedError
			if !errors.As(err, &refused) {
				t.Fatalf("%v, want a NotMergedError", err)
			}
			if !strings.Contains(refused.Reason, tc.reason) || strings.Contains(refused.Reason, "POST") || !strings.Contains(refused.Hint(), tc.hint) {
				t.Errorf("reason %q, hint %q, want %q and %q", refused.Reason, refused.Hint(), tc.reason, tc.hint)
			}
			if tc.hint == "" && refused.Hint() != "" {
				t.Errorf("hint %q, want none", refused.Hint())
			}
			if refused.Again != tc.again {
				t.Errorf("Again = %v, want %v", refused.Again, tc.again)
			}
			if errors.Is(err, vcs.ErrNotFound) || !strings.Contains(err.Error(), "git.example.com/boss/network#1") {
				t.Errorf("%v, want the pull request's name and no ErrNotFound", err)
			}
		})
	}
}

// TestMergeFails has answers that refuse nothing: the same call may succeed
// later, or the token is wrong.
func TestMergeFails(t *testing.T) {
	for status, is := range map[int]error{500: nil, 502: nil, 401: vcs.ErrDenied, 403: vcs.ErrDenied, 404: vcs.ErrNotFound} {
		h := answering(t, text(status, `{"message":"no"}`))
		err := h.Merge(t.Context(), network, 1, shaB, "merge")
		var refused *vcs.NotMergedError
		if err == nil || errors.As(err, &refused) || is != nil && !errors.Is(err, is) {
			t.Errorf("%d: %v, want %v", status, err, is)
		}
	}
}

// TestOpenPullRequest looks at what is sent: whole words, within Gitea's
// limits.
func TestOpenPullRequest(t *testing.T) {
	var got struct{ Head, Base, Title, Body string }
	h := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		text(201, pullJSON(1, `"ref":"b"`))(w, r)
	})
	for name, tc := range map[string]struct{ title, body, wantTitle, wantBody string }{
		"as it is":   {"Take back #1", "one\n\ntwo ✓", "Take back #1", "one\n\ntwo ✓"},
		"two lines":  {"Take\r\n\tback\x00 \x7f#1 ", "a\x00b\xff", "Take back #1", "ab\uFFFD"},
		"no title":   {" \n", "", "b", ""},
		"just fits":  {strings.Repeat("ö", 255), strings.Repeat("x", maxComment), strings.Repeat("ö", 255), strings.Repeat("x", maxComment)},
		"too long":   {strings.Repeat("ö", 256), strings.Repeat("x", maxComment+1), strings.Repeat("ö", 254) + "…", strings.Repeat("x", maxComment-3) + "…"},
		"wide runes": {"T", strings.Repeat("é", maxComment), "T", strings.Repeat("é", maxComment/2-2) + "…"},
	} {
		pr, err := h.OpenPull(t.Context(), network, vcs.NewPull{Branch: "b", Base: "main", Title: tc.title, Body: tc.body})
		if err != nil || pr.Number != 1 || pr.HeadSHA != shaB {
			t.Fatalf("%s: %+v, %v", name, pr, err)
		}
		if got.Head != "b" || got.Base != "main" || got.Title != tc.wantTitle || got.Body != tc.wantBody {
			t.Errorf("%s: sent %s to %s, title %.40q, body of %d bytes", name, got.Head, got.Base, got.Title, len(got.Body))
		}
		if len(got.Body) > maxComment {
			t.Errorf("%s: a body of %d bytes", name, len(got.Body))
		}
	}
}

// TestOpenPullThatIsThere has a host that knows of one already: it is found
// among others, or else the answer is passed on.
func TestOpenPullThatIsThere(t *testing.T) {
	mine := pullJSON(3, `"ref":"b"`)
	other := pullJSON(2, `"ref":"c"`)
	fork := strings.Replace(pullJSON(4, `"ref":"b"`), `"repo_id":3,"repo":{"id":3},"ref"`, `"repo_id":8,"repo":{"id":8},"ref"`, 1)
	elsewhere := strings.Replace(pullJSON(5, `"ref":"b"`), `"ref":"main"`, `"ref":"next"`, 1)
	for name, tc := range map[string]struct {
		open string
		want int
	}{
		"among others": {fork + "," + other + "," + elsewhere + "," + mine, 3},
		"closed since": {fork + "," + other + "," + elsewhere, 0},
		"badly told":   {`null,{"number":9},` + mine, 3},
	} {
		h := answering(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				text(409, `{"message":"pull request already exists for these targets [id: 9]"}`)(w, r)
				return
			}
			if r.URL.Query().Get("state") != "open" {
				t.Errorf("%s: asked for %s", name, r.URL)
			}
			text(200, "["+tc.open+"]")(w, r)
		})
		pr, err := h.OpenPull(t.Context(), network, vcs.NewPull{Branch: "b", Base: "main", Title: "T"})
		switch {
		case tc.want != 0 && (err != nil || pr.Number != tc.want):
			t.Errorf("%s: %+v, %v, want number %d", name, pr, err, tc.want)
		case tc.want == 0 && (err == nil || !strings.Contains(err.Error(), "already exists")):
			t.Errorf("%s: %+v, %v, want what the host said", name, pr, err)
		}
	}
}
