package hook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"holdfast/watch"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func TestSignAndVerify(t *testing.T) {
	body := []byte(`{"a":1}`)
	signed := Sign("s3cret", body, noon)
	// Computed with openssl dgst -sha256 -hmac, so that other programs can sign.
	if got, want := signed.Get(SignatureHeader), "sha256=15b3a9bb4d6a7e64aebaceaed8b8ff2ebf0cdcf68a23771bb46c74708a6b798a"; got != want {
		t.Errorf("signature %q, want %q", got, want)
	}
	with := func(name, value string) http.Header {
		h := signed.Clone()
		h.Set(name, value)
		return h
	}
	for name, test := range map[string]struct {
		secret string
		header http.Header
		body   string
		at     time.Duration
		want   error
	}{
		"right":             {"s3cret", signed, string(body), 0, nil},
		"almost late":       {"s3cret", signed, string(body), Tolerance, nil},
		"late":              {"s3cret", signed, string(body), Tolerance + time.Second, ErrStale},
		"early":             {"s3cret", signed, string(body), -Tolerance - time.Second, ErrStale},
		"other body":        {"s3cret", signed, `{"a":2}`, 0, ErrSignature},
		"other secret":      {"secret", signed, string(body), 0, ErrSignature},
		"other time":        {"s3cret", with(TimestampHeader, strconv.FormatInt(noon.Unix()+1, 10)), string(body), 0, ErrSignature},
		"no header":         {"s3cret", http.Header{}, string(body), 0, ErrSignature},
		"no hexadecimals":   {"s3cret", with(SignatureHeader, "sha256=zz"), string(body), 0, ErrSignature},
		"no name":           {"s3cret", with(SignatureHeader, strings.TrimPrefix(signed.Get(SignatureHeader), "sha256=")), string(body), 0, ErrSignature},
		"empty secret":      {"", Sign("", body, noon), string(body), 0, ErrSignature},
		"forged late":       {"s3cret", Sign("other", body, noon.Add(-time.Hour)), string(body), 0, ErrSignature},
		"far in the future": {"s3cret", Sign("s3cret", body, time.Unix(1<<62, 0)), string(body), 0, ErrStale},
	} {
		if err := Verify(test.secret, test.header, []byte(test.body), noon.Add(test.at)); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

var question = watch.Question{
	Repository: "acme/infra", Workspace: "prod", Since: noon.Add(-time.Hour), Until: noon,
	Resources: []watch.Resource{{Address: "null_resource.a", Change: "changed"}, {Address: "null_resource.b", Change: "deleted"}},
}

func ask(t *testing.T, handler http.HandlerFunc) ([]watch.Answer, error) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	a, err := NewAttributor(Config{URL: server.URL + "/who?token=t0psecret", Secret: "s3cret", Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return a.Attribute(t.Context(), question)
}

func TestAttribute(t *testing.T) {
	answers, err := ask(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := Verify("s3cret", r.Header, body, time.Now()); err != nil {
			t.Error(err)
		}
		var q watch.Question
		if err := json.Unmarshal(body, &q); err != nil || q.Workspace != "prod" || len(q.Resources) != 2 {
			t.Errorf("question %s: %v", body, err)
		}
		many := strings.Repeat(`,{"address":"null_resource.b","actor":"bob","call":"x"}`, 20)
		io.WriteString(w, `{"answers":[
			{"address":"null_resource.a","actor":"eve\u001b[31m\n\u202e","call":"`+strings.Repeat("c", 999)+`","at":"2026-07-01T11:30:00Z","source":"console","url":"javascript:alert(1)"},
			{"address":"null_resource.other","actor":"mallory","call":"x"},
			{"address":"null_resource.a"}`+many+`]}`)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(answers) != 1+maxAnswers {
		t.Fatalf("%d answers: %+v", len(answers), answers)
	}
	a := answers[0]
	if a.Actor != "eve[31m" || len(a.Call) != maxText || a.URL != "" || a.Source != "console" || !a.At.Equal(noon.Add(-30*time.Minute)) {
		t.Errorf("%+v", a)
	}
}

func TestAttributeWithoutAnAnswer(t *testing.T) {
	elsewhere := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere = true }))
	defer other.Close()
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    string // of the error; "" for none
	}{
		"204":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, ""},
		"empty": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{}`) }, ""},
		"500":   {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", http.StatusInternalServerError) }, "500 Internal Server Error"},
		"401":   {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", http.StatusUnauthorized) }, "401 Unauthorized"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}, "not followed"},
		"no JSON":   {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>\x1b") }, "not the JSON"},
		"too large": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat(" ", maxBody+1)) }, "larger than 1 MiB"},
		"silence":   {func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }, context.DeadlineExceeded.Error()},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, "{")
		}, "unexpected EOF"},
	} {
		answers, err := ask(t, test.handler)
		switch {
		case len(answers) > 0:
			t.Errorf("%s: %+v", name, answers)
		case test.want == "" && err != nil, test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		case err != nil && strings.Contains(err.Error(), "t0psecret"):
			t.Errorf("%s: %v has the address's secret", name, err)
		}
	}
	if elsewhere {
		t.Error("a redirect was followed")
	}
}

func TestNewAttributorRefuses(t *testing.T) {
	for _, c := range []Config{{}, {URL: "ftp://h0st", Secret: "x"}, {URL: "https://", Secret: "x"}, {URL: "https://h0st"}, {URL: "https://h0st:pass%zz@", Secret: "x"}} {
		if _, err := NewAttributor(c); err == nil || strings.Contains(err.Error(), "h0st") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"answers":[{"address":"null_resource.a","actor":"a","call":"b","at":"2026-07-01T11:30:00Z","source":"s","url":"https://x/y"}]}`))
	f.Add([]byte(`{"answers":[{"address":"null_resource.a","actor":"\u0000\u202e\ud800","url":"javascript:x"}]}`))
	f.Add([]byte(`{"answers":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		answers, err := parse(data, question)
		if err != nil && len(answers) > 0 {
			t.Fatal("answers with an error")
		}
		if len(answers) > maxAnswers*len(question.Resources) {
			t.Fatalf("%d answers", len(answers))
		}
		for _, a := range answers {
			if !slices.ContainsFunc(question.Resources, func(r watch.Resource) bool { return r.Address == a.Address }) {
				t.Fatalf("nobody asked about %q", a.Address)
			}
			for _, s := range []string{a.Actor, a.Call, a.Source} {
				if len(s) > maxText || strings.ContainsFunc(s, unicode.IsControl) {
					t.Fatalf("%q", s)
				}
			}
			if a.URL != "" && !strings.HasPrefix(strings.ToLower(a.URL), "http") || len(a.URL) > maxURL {
				t.Fatalf("%q", a.URL)
			}
			if _, err := json.Marshal(a); err != nil {
				t.Fatal(err)
			}
		}
	})
}
