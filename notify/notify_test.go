package notify_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/notify"
	"holdfast/watch"
)

// local is a transport that leads every request to a test's server.
type local struct {
	server *httptest.Server
	asked  []string // the addresses that were meant
}

func (l *local) RoundTrip(r *http.Request) (*http.Response, error) {
	l.asked = append(l.asked, r.URL.String())
	to, _ := url.Parse(l.server.URL)
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = to.Scheme, to.Host
	return l.server.Client().Transport.RoundTrip(r)
}

// request is one that a test's server got.
type request struct {
	path   string
	header http.Header
	body   []byte
}

// serve answers each request with a status and a text, and keeps the last one.
func serve(t *testing.T, status int, header map[string]string, text string) (*local, *request) {
	t.Helper()
	var last request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		last = request{r.URL.String(), r.Header, body}
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		io.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	return &local{server: server}, &last
}

func open(t *testing.T, c notify.Config) watch.Notifier {
	t.Helper()
	n, err := notify.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var drift = watch.Message{
	ID: "m-1", Title: "Drift in prod", Text: "aws_security_group.web changed.\nBy alice.", Link: "https://holdfast.example/runs/1",
	Events: []watch.Event{{Kind: "drift", Repository: "acme/infra", Workspace: "prod", Resources: []string{"aws_security_group.web"}}},
}

func TestWebhook(t *testing.T) {
	key := []byte("0123456789abcdef01234567")
	for name, secret := range map[string]string{"Base64": "whsec_" + base64.StdEncoding.EncodeToString(key), "plain": string(key), "none": ""} {
		to, got := serve(t, 202, nil, "thanks")
		if err := open(t, notify.Config{URL: to.server.URL + "/in?token=abc", Secret: secret}).Notify(t.Context(), drift); err != nil {
			t.Fatal(err)
		}
		var m watch.Message
		if err := json.Unmarshal(got.body, &m); err != nil || m.ID != "m-1" || m.Events[0].Workspace != "prod" || got.path != "/in?token=abc" {
			t.Errorf("%s: %s %s: %v", name, got.path, got.body, err)
		}
		at := got.header.Get("webhook-timestamp")
		if seconds, err := strconv.ParseInt(at, 10, 64); err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute || got.header.Get("webhook-id") != "m-1" {
			t.Errorf("%s: %v", name, got.header)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte("m-1." + at + "." + string(got.body)))
		want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		if secret == "" {
			want = ""
		}
		if s := got.header.Get("webhook-signature"); s != want {
			t.Errorf("%s: signature %q, want %q", name, s, want)
		}
	}
}

func TestWebhookErrors(t *testing.T) {
	for _, test := range []struct {
		status    int
		header    map[string]string
		permanent bool
		after     time.Duration // -1: no RetryError
	}{
		{400, nil, true, -1}, {401, nil, true, -1}, {404, nil, true, -1}, {410, nil, true, -1}, {422, nil, true, -1},
		{408, nil, false, -1}, {500, nil, false, -1}, {503, nil, false, -1},
		{429, nil, false, time.Minute},
		{429, map[string]string{"Retry-After": "7"}, false, 7 * time.Second},
		{429, map[string]string{"Retry-After": "0.5"}, false, 500 * time.Millisecond},
		{429, map[string]string{"Retry-After": "-7"}, false, time.Minute},
		{503, map[string]string{"Retry-After": "99999999999999"}, false, 6 * time.Hour},
		{503, map[string]string{"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, false, 0},
		{503, map[string]string{"Retry-After": "soon"}, false, -1},
		{307, map[string]string{"Location": "/elsewhere"}, true, -1},
	} {
		to, got := serve(t, test.status, test.header, "no t0ps3cret here\x1b[31m\n")
		n := open(t, notify.Config{URL: to.server.URL + "/hooks/t0ps3cret?key=k3y"})
		err := n.Notify(t.Context(), drift)
		var (
			permanent *watch.PermanentError
			later     *watch.RetryError
		)
		if err == nil || errors.As(err, &permanent) != test.permanent || errors.As(err, &later) != (test.after >= 0) || later != nil && later.After != test.after {
			t.Errorf("%d %v: %T %v", test.status, test.header, err, err)
		}
		if err != nil && (strings.Contains(err.Error(), "t0ps3cret") || strings.ContainsAny(err.Error(), "\x1b\n") || !strings.Contains(err.Error(), strconv.Itoa(test.status))) {
			t.Errorf("%d: %q", test.status, err)
		}
		if !strings.HasPrefix(got.path, "/hooks/") {
			t.Errorf("%d led to %s", test.status, got.path)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer silent.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, base := range []string{silent.URL, closed.URL} {
		err := open(t, notify.Config{URL: base + "/hooks/t0ps3cret?key=k3ysecret", Timeout: 50 * time.Millisecond}).Notify(t.Context(), drift)
		if err == nil || strings.Contains(err.Error(), "t0ps3cret") || strings.Contains(err.Error(), "k3ysecret") || errors.As(err, new(*watch.PermanentError)) {
			t.Errorf("%v", err)
		}
		if base == silent.URL && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
}

func TestWrongAddresses(t *testing.T) {
	for _, test := range []struct{ url, secret, hint string }{
		{"", "", "slack://"},
		{"slak://hook:AAAAAAAAA-BBBBBBBBB-t0ps3crett0ps3crett0ps@webhook", "", `did you mean "slack"?`},
		{"telegran://t0ps3cret@telegram?chats=1", "", `did you mean "telegram"?`},
		{"htps://x.example/t0ps3cret", "", `did you mean "https"?`},
		{"nothing-alike-at-all://t0ps3cret", "", "possible: bark"},
		{"logger://t0ps3cret", "", ""},
		{"sns:arn:aws:sns:eu-west-1:123456789012:t0ps3cret", "", "sns:TOPIC-ARN"},
		{"slack://t0ps3cret@x", "", "shoutrrr"},
		{"slack://%zzt0ps3cret@x", "", "percent-encoded"},
		{"discord://t0ps3cret", "", "shoutrrr"},
		{"discord://t0ps3cret@1/raw", "", "/raw"},
		{"teams://t0ps3cret@x/y/z", "", "shoutrrr"},
		{"teams+http://x.example/t0ps3cret", "", "teams+https"},
		{"teams+https://x.webhook.office.com/t0ps3cret", "", "shoutrrr"},
		{"telegram://t0ps3cret@telegram", "", "shoutrrr"},
		{"generic://x.example/?disabletls=t0ps3cret", "", "shoutrrr"},
		{"pushover://shoutrrr:t0ps3cret@", "", "shoutrrr"},
		{"smtp+https://t0ps3cret:t0ps3cret@x", "", "shoutrrr"},
		{"ntfy://x/y", "s", "https://"},
		{"https://", "", ""},
		{"https://x.example/t0ps3cret", "whsec_!!!", "whsec_"},
	} {
		_, err := notify.New(notify.Config{URL: test.url, Secret: test.secret})
		var mistake *notify.AddressError
		if !errors.As(err, &mistake) {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if said := mistake.Error() + " " + mistake.Hint(); strings.Contains(said, "ps3cret") || !strings.Contains(said, test.hint) || strings.Contains(said, "sh0utrrr") {
			t.Errorf("%s: %s", test.url, said)
		}
	}
}

func TestOthers(t *testing.T) {
	to, got := serve(t, 200, nil, `{"id":"1"}`)
	host := strings.TrimPrefix(to.server.URL, "http://")
	n := open(t, notify.Config{URL: "generic://" + host + "/in?disabletls=yes"})
	if err := n.Notify(t.Context(), drift); err != nil {
		t.Fatal(err)
	}
	if want := "Drift in prod\naws_security_group.web changed.\nBy alice.\nhttps://holdfast.example/runs/1"; string(got.body) != want {
		t.Errorf("%q", got.body)
	}
	if err := open(t, notify.Config{URL: "generic+" + to.server.URL + "/in?template=json"}).Notify(t.Context(), drift); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got.body), `"title":"Drift in prod"`) {
		t.Errorf("%q", got.body)
	}
	m := drift
	m.Text = "@all <users/all> [click](https://evil.example)\n" + strings.Repeat("a line of a long text\n", 1000)
	if err := open(t, notify.Config{URL: "mattermost://" + host + "/t0kent0ken?disabletls=yes"}).Notify(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	var in struct{ Text string }
	if err := json.Unmarshal(got.body, &in); err != nil {
		t.Fatal(err)
	}
	if len(in.Text) > 4000 || strings.Contains(in.Text, "@all") || strings.Contains(in.Text, "<users") || strings.Contains(in.Text, "](") ||
		!strings.Contains(in.Text, "more lines.\nhttps://holdfast.example/runs/1") {
		t.Errorf("%d bytes: %.200s … %s", len(in.Text), in.Text, in.Text[len(in.Text)-100:])
	}
}

func TestOthersErrors(t *testing.T) {
	for status, permanent := range map[int]bool{404: true, 403: true, 500: false, 429: false} {
		to, _ := serve(t, status, nil, "t0ps3cret")
		host := strings.TrimPrefix(to.server.URL, "http://")
		for _, address := range []string{"generic://" + host + "/t0ps3cret?disabletls=yes", "mattermost://" + host + "/t0ps3cret?disabletls=yes", "ntfy://u5er:t0ps3cret@" + host + "/t0pic?scheme=http"} {
			err := open(t, notify.Config{URL: address}).Notify(t.Context(), drift)
			if err == nil || errors.As(err, new(*watch.PermanentError)) != permanent || errors.As(err, new(*watch.RetryError)) != (status == 429) || strings.Contains(err.Error(), "ps3cret") {
				t.Errorf("%d from %.7s: %T %v", status, address, err, err)
			}
		}
	}
}

func TestOthersThatHang(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	n := open(t, notify.Config{URL: "generic://" + strings.TrimPrefix(server.URL, "http://") + "/t0ps3cret?disabletls=yes", Timeout: 20 * time.Millisecond})
	for i := range 6 {
		err := n.Notify(t.Context(), drift)
		if i < 4 && !errors.Is(err, context.DeadlineExceeded) || i >= 4 && (err == nil || !strings.Contains(err.Error(), "has not answered")) {
			t.Errorf("%d: %v", i, err)
		}
	}
	// They end some day: their client has a limit.
	if http.DefaultClient.Timeout == 0 {
		t.Error("the senders' client waits for ever")
	}
}

// Matrix logs in when its address is read: that is no part of checking it.
func TestMatrixLogsInOnlyToSend(t *testing.T) {
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.Method+" "+r.URL.Path)
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"errcode":"M_FORBIDDEN","error":"no t0ps3cret"}`)
	}))
	defer server.Close()
	n := open(t, notify.Config{URL: "matrix://u5er:t0ps3cret@" + strings.TrimPrefix(server.URL, "http://") + "/?rooms=!r:x&disableTLS=yes"})
	if len(paths) > 0 {
		t.Errorf("asked for %q", paths)
	}
	if err := n.Notify(t.Context(), drift); err == nil || len(paths) == 0 || strings.Contains(err.Error(), "ps3cret") {
		t.Errorf("%v after %q", err, paths)
	}
}
