package aws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"holdfast/watch"
)

const topic = "arn:aws:sns:eu-north-1:123456789012:drift"

// sns is an SNS that speaks the query protocol.
func snsServer(t *testing.T, status int, code string) (*httptest.Server, *url.Values, *int) {
	t.Helper()
	got, requests := &url.Values{}, new(int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*requests++
		m := signed.FindStringSubmatch(r.Header.Get("Authorization"))
		if m == nil || m[1] != "eu-north-1" || m[2] != "sns" || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
			t.Errorf("headers %v", r.Header)
		}
		*got, _ = url.ParseQuery(string(body))
		switch {
		case status == 0:
			<-r.Context().Done()
		case status == 200:
			io.WriteString(w, `<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>1</MessageId></PublishResult><ResponseMetadata><RequestId>2</RequestId></ResponseMetadata></PublishResponse>`)
		default:
			w.WriteHeader(status)
			fmt.Fprintf(w, `<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type><Code>%s</Code><Message>It says no</Message></Error><RequestId>2</RequestId></ErrorResponse>`, code)
		}
	}))
	t.Cleanup(server.Close)
	environment(t)
	return server, got, requests
}

func openSNS(t *testing.T, url, endpoint string) *SNS {
	t.Helper()
	s, err := NewSNS(t.Context(), url, SNSConfig{Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPublish(t *testing.T) {
	server, got, _ := snsServer(t, 200, "")
	m := watch.Message{
		ID: "m-1", Title: "Drift in prod:\r\n größer \x00" + strings.Repeat("x", 200), Text: "One.\nTwo\x00\x1b \xff.", Link: "https://holdfast.example/1",
		Events: []watch.Event{{Kind: "drift"}, {Kind: "drift"}},
	}
	if err := openSNS(t, "sns:"+topic, server.URL).Notify(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	subject := got.Get("Subject")
	if !strings.HasPrefix(subject, "Drift in prod: gr??er x") || len(subject) != 100 || got.Get("Message") != "One.\nTwo .\n\nhttps://holdfast.example/1" || got.Get("TopicArn") != topic || got.Get("Action") != "Publish" ||
		got.Get("MessageAttributes.entry.1.Name") != "kind" || got.Get("MessageAttributes.entry.1.Value.DataType") != "String" || got.Get("MessageAttributes.entry.1.Value.StringValue") != "drift" || got.Has("MessageGroupId") {
		t.Errorf("%v", got)
	}

	m.Events = append(m.Events, watch.Event{Kind: "corrected"})
	m.Title, m.Text = "", strings.Repeat("日本語 line\n", 100_000)
	if err := openSNS(t, "sns:"+topic+".fifo", server.URL).Notify(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if text := got.Get("Message"); len(text) > 256<<10-1000 || !utf8.ValidString(text) || !strings.HasSuffix(text, "more lines.\n\nhttps://holdfast.example/1") || got.Get("Subject") != "Holdfast" {
		t.Errorf("%d bytes, subject %q", len(text), got.Get("Subject"))
	}
	if got.Get("MessageGroupId") != "holdfast" || got.Get("MessageDeduplicationId") != "m-1" || got.Get("MessageAttributes.entry.1.Value.DataType") != "String.Array" || got.Get("MessageAttributes.entry.1.Value.StringValue") != `["corrected","drift"]` {
		t.Errorf("%v", got.Get("MessageDeduplicationId"))
	}
	if err := openSNS(t, "sns:"+topic+".fifo", server.URL).Notify(t.Context(), watch.Message{ID: "pull request 1"}); err != nil || len(got.Get("MessageDeduplicationId")) != 64 || got.Get("Message") == "" {
		t.Errorf("%v %v", err, got)
	}
}

func TestPublishErrors(t *testing.T) {
	for _, test := range []struct {
		status    int
		code      string
		permanent bool
		hint      string
		requests  int
	}{
		{403, "AuthorizationError", true, "sns:Publish", 1},
		{403, "AccessDenied", true, "sns:Publish", 1},
		{404, "NotFound", true, "ARN", 1},
		{400, "InvalidParameter", true, "settings", 1},
		{400, "KMSAccessDenied", true, "kms:", 1},
		{403, "InvalidClientTokenId", true, "credentials", 1},
		{400, "Throttling", false, "", attempts},
		{500, "InternalError", false, "", attempts},
	} {
		server, _, requests := snsServer(t, test.status, test.code)
		err := openSNS(t, "sns:"+topic, server.URL).Notify(t.Context(), watch.Message{ID: "1", Title: "t", Text: "x"})
		var permanent *watch.PermanentError
		if err == nil || errors.As(err, &permanent) != test.permanent || permanent != nil && !strings.Contains(permanent.Hint(), test.hint) || !strings.Contains(err.Error(), "It says no") {
			t.Errorf("%s: %v", test.code, err)
		}
		if *requests != test.requests {
			t.Errorf("%s: %d requests", test.code, *requests)
		}
	}
	server, _, _ := snsServer(t, 0, "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := openSNS(t, "sns:"+topic, server.URL).Notify(ctx, watch.Message{ID: "1"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestNewSNSRefuses(t *testing.T) {
	environment(t)
	for _, address := range []string{"", "sns:", topic, "sns:arn:aws:sqs:eu-west-1:1:x", "sns:arn:aws:sns::1:x", "sns:arn:aws:sns:eu-west-1:1:x:subscription", "sns://" + topic} {
		if _, err := NewSNS(t.Context(), address, SNSConfig{}); !errors.As(err, new(*watch.PermanentError)) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
