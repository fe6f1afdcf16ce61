package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"

	"holdfast/watch"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// trail is a CloudTrail that speaks AWS JSON 1.1.
type trail struct {
	mu       sync.Mutex
	requests []asked
	answer   func(n int, in asked) (status int, body string) // n counts from 0
}

type asked struct {
	Region, Token      string
	StartTime, EndTime float64
	NextToken          string
	LookupAttributes   []struct{ AttributeKey, AttributeValue string }
}

var signed = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=AKIATEST/\d{8}/([a-z0-9-]+)/([a-z0-9]+)/aws4_request, SignedHeaders=[a-z0-9;-]*host[a-z0-9;-]*, Signature=[0-9a-f]{64}$`)

func (tr *trail) start(t *testing.T, c AttributorConfig) *Attributor {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "Action=AssumeRole") {
			if !strings.Contains(string(body), "ExternalId=ext") {
				w.WriteHeader(403)
				io.WriteString(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error><RequestId>1</RequestId></ErrorResponse>`)
				return
			}
			fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>AKIATEST</AccessKeyId><SecretAccessKey>x</SecretAccessKey><SessionToken>assumed</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
			return
		}
		m := signed.FindStringSubmatch(r.Header.Get("Authorization"))
		if m == nil || m[2] != "cloudtrail" || r.Header.Get("X-Amz-Date") == "" || !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".LookupEvents") || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
			t.Errorf("headers %v", r.Header)
			m = []string{"", "", ""}
		}
		in := asked{Region: m[1], Token: r.Header.Get("X-Amz-Security-Token")}
		if err := json.Unmarshal(body, &in); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		tr.mu.Lock()
		n := len(tr.requests)
		tr.requests = append(tr.requests, in)
		tr.mu.Unlock()
		status, reply := tr.answer(n, in)
		if status == 0 {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		io.WriteString(w, reply)
	}))
	t.Cleanup(server.Close)
	environment(t)
	c.Endpoint = server.URL
	if c.Interval == 0 {
		c.Interval = time.Microsecond
	}
	a, err := NewAttributor(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// environment has test credentials, and nothing of the machine's own.
func environment(t *testing.T) {
	t.Helper()
	for k, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "eu-west-1",
		"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CA_BUNDLE": "",
	} {
		t.Setenv(k, v)
	}
}

func (a asked) name() string { return a.LookupAttributes[0].AttributeValue }

// record is an event as CloudTrail returns it.
func record(id, name, readOnly string, at time.Time, inner string) string {
	escaped, _ := json.Marshal(inner)
	return fmt.Sprintf(`{"EventId":%q,"EventName":%q,"EventSource":"ec2.amazonaws.com","ReadOnly":%q,"EventTime":%d,"Username":"someone","CloudTrailEvent":%s}`, id, name, readOnly, at.Unix(), escaped)
}

func reply(token string, records ...string) string {
	body := `{"Events":[` + strings.Join(records, ",") + `]`
	if token != "" {
		body += fmt.Sprintf(`,"NextToken":%q`, token)
	}
	return body + "}"
}

func ask(resources ...watch.Resource) watch.Question {
	for i := range resources {
		if resources[i].Provider == "" {
			resources[i].Provider = "registry.terraform.io/hashicorp/aws"
		}
	}
	return watch.Question{Repository: "acme/infra", Workspace: "prod", Since: noon.Add(-time.Hour), Until: noon, Resources: resources}
}

const (
	bob   = `{"userIdentity":{"type":"IAMUser","userName":"bob","arn":"arn:aws:iam::123456789012:user/ops/bob"},"sourceIPAddress":"203.0.113.7","userAgent":"[S3Console/0.4]"}`
	admin = `{"userIdentity":{"type":"AssumedRole","arn":"arn:aws:sts::123456789012:assumed-role/Admin/alice@example.com"},"sourceIPAddress":"203.0.113.8","userAgent":"APN/1.0 HashiCorp/1.0 Terraform/1.9.0"}`
	uuid  = "0123abcd-0123-4123-8123-0123456789ab"
)

func TestAttribute(t *testing.T) {
	tr := &trail{answer: func(_ int, in asked) (int, string) {
		if in.NextToken == "" && in.name() == "sg-1" {
			return 200, reply("more",
				record(uuid, "RevokeSecurityGroupIngress", "false", noon.Add(-10*time.Minute), bob),
				record("r", "DescribeSecurityGroups", "true", noon.Add(-9*time.Minute), bob),
				record("e", "AuthorizeSecurityGroupIngress", "false", noon.Add(-8*time.Minute), `{"errorCode":"Client.UnauthorizedOperation","userIdentity":{"type":"IAMUser","userName":"eve"}}`),
				record("late", "AuthorizeSecurityGroupIngress", "false", noon.Add(time.Minute), bob))
		}
		if in.NextToken == "more" {
			return 200, reply("", record("2", "AuthorizeSecurityGroupIngress", "false", noon.Add(-5*time.Minute), admin))
		}
		return 200, reply("", record(uuid, "RevokeSecurityGroupIngress", "false", noon.Add(-10*time.Minute), bob))
	}}
	a := tr.start(t, AttributorConfig{})
	got, err := a.Attribute(t.Context(), ask(
		watch.Resource{Address: "aws_security_group.web", Type: "aws_security_group", ID: "sg-1", Names: []string{"web", "sg-1", ""}, Change: "changed"},
		watch.Resource{Address: "google_x.y", Type: "google_x", ID: "x", Provider: "registry.terraform.io/hashicorp/google", Change: "changed"}))
	if err != nil {
		t.Fatal(err)
	}
	want := []watch.Answer{
		{Address: "aws_security_group.web", Actor: "Admin/alice@example.com", Call: "ec2:AuthorizeSecurityGroupIngress", At: noon.Add(-5 * time.Minute), Source: "Terraform (203.0.113.8)"},
		{Address: "aws_security_group.web", Actor: "bob", Call: "ec2:RevokeSecurityGroupIngress", At: noon.Add(-10 * time.Minute), Source: "console (203.0.113.7)",
			URL: "https://eu-west-1.console.aws.amazon.com/cloudtrailv2/home?region=eu-west-1#/events/" + uuid},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	if len(tr.requests) != 3 || tr.requests[0].StartTime != float64(noon.Add(-time.Hour).Unix()) || tr.requests[0].EndTime != float64(noon.Unix()) || tr.requests[0].LookupAttributes[0].AttributeKey != "ResourceName" || tr.requests[2].name() != "web" {
		t.Errorf("%+v", tr.requests)
	}
}

func TestWhereItLooks(t *testing.T) {
	tr := &trail{answer: func(int, asked) (int, string) { return 200, reply("") }}
	a := tr.start(t, AttributorConfig{Regions: []string{"eu-west-1", "eu-central-1"}})
	_, err := a.Attribute(t.Context(), ask(
		watch.Resource{Type: "aws_iam_role", ID: "role"}, watch.Resource{Type: "aws_route53_record", ID: "rec"}, watch.Resource{Type: "aws_cloudfront_distribution", ID: "cf"},
		watch.Resource{Type: "aws_route53_resolver_rule", ID: "rule"},
		watch.Resource{Type: "aws_sqs_queue", ID: "queue", Names: []string{"arn:aws:sqs:eu-central-1:1:queue"}},
		watch.Resource{Type: "aws_s3_bucket", ID: "b"}, watch.Resource{Type: "aws_s3_bucket_policy", ID: "b"}, watch.Resource{Type: "aws_x"}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range tr.requests {
		got = append(got, r.Region+" "+r.name())
	}
	want := []string{"us-east-1 role", "us-east-1 rec", "us-east-1 cf", "eu-west-1 rule", "eu-central-1 rule", "eu-central-1 queue", "eu-west-1 b", "eu-central-1 b", "eu-central-1 arn:aws:sqs:eu-central-1:1:queue"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestBounds(t *testing.T) {
	tr := &trail{answer: func(n int, in asked) (int, string) {
		var records []string
		for i := range 10 {
			records = append(records, record(fmt.Sprint(n, i), "ModifyX", "false", noon.Add(-time.Duration(i)*time.Minute), bob))
		}
		return 200, reply("again", records...)
	}}
	a := tr.start(t, AttributorConfig{})
	var resources []watch.Resource
	for i := range 30 {
		resources = append(resources, watch.Resource{Address: fmt.Sprint("aws_x.", i), Type: "aws_x", ID: fmt.Sprint(i), Names: []string{"a", "b", "c", "d", "e", "f", "g"}, Change: "changed"})
	}
	got, err := a.Attribute(t.Context(), ask(resources...))
	if err != nil || len(tr.requests) != maxRequests {
		t.Errorf("%d requests: %v", len(tr.requests), err)
	}
	// 50 requests are twelve and a half names.
	if len(got) != 13*maxAnswers {
		t.Errorf("%d answers", len(got))
	}
}

func TestErrors(t *testing.T) {
	for name, test := range map[string]struct {
		status    int
		code      string
		requests  int
		hint      string
		permanent bool
	}{
		"denied":    {400, "AccessDeniedException", 1, "permission cloudtrail:LookupEvents", true},
		"expired":   {400, "ExpiredTokenException", 1, "not valid any more", true},
		"throttled": {400, "ThrottlingException", attempts, "", false},
		"broken":    {500, "InternalFailure", attempts, "", false},
	} {
		tr := &trail{answer: func(int, asked) (int, string) {
			return test.status, fmt.Sprintf(`{"__type":"com.amazonaws.cloudtrail.v20131101#%s","message":"User: arn:aws:iam::1:user/x is not\u001b authorized"}`, test.code)
		}}
		got, err := tr.start(t, AttributorConfig{}).Attribute(t.Context(), ask(watch.Resource{ID: "a", Names: []string{"b"}, Type: "aws_x"}))
		var refused *AccessError
		if err == nil || len(got) > 0 || errors.As(err, &refused) != test.permanent || refused != nil && !strings.Contains(refused.Hint(), test.hint) ||
			!strings.Contains(err.Error(), "cloudtrail:LookupEvents") || !strings.Contains(err.Error(), test.code) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", name, err)
		}
		if len(tr.requests) != test.requests {
			t.Errorf("%s: %d requests", name, len(tr.requests))
		}
	}
}

func TestThrottledOnce(t *testing.T) {
	tr := &trail{answer: func(n int, _ asked) (int, string) {
		if n == 0 {
			return 400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`
		}
		return 200, reply("", record("1", "ModifyX", "false", noon.Add(-time.Minute), bob))
	}}
	got, err := tr.start(t, AttributorConfig{}).Attribute(t.Context(), ask(watch.Resource{ID: "a", Type: "aws_x"}))
	if err != nil || len(got) != 1 {
		t.Errorf("%v %v", got, err)
	}
}

func TestOneRegionFails(t *testing.T) {
	tr := &trail{answer: func(_ int, in asked) (int, string) {
		if in.Region == "eu-west-1" {
			return 400, `{"__type":"AccessDeniedException","message":"no"}`
		}
		return 200, reply("", record("1", "ModifyX", "false", noon.Add(-time.Minute), bob))
	}}
	got, err := tr.start(t, AttributorConfig{Regions: []string{"eu-west-1", "eu-central-1"}}).Attribute(t.Context(), ask(watch.Resource{ID: "a", Names: []string{"b"}, Type: "aws_x"}))
	if len(got) != 1 || err == nil || !strings.Contains(err.Error(), "region eu-west-1") || len(tr.requests) != 3 {
		t.Errorf("%v %v %d", got, err, len(tr.requests))
	}
}

func TestTime(t *testing.T) {
	silent := &trail{answer: func(int, asked) (int, string) { return 0, "" }}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := silent.start(t, AttributorConfig{}).Attribute(ctx, ask(watch.Resource{ID: "a", Type: "aws_x"})); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	// The second request's turn would come after the deadline.
	fast := &trail{answer: func(int, asked) (int, string) {
		return 200, reply("", record("1", "ModifyX", "false", noon.Add(-time.Minute), bob))
	}}
	ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	got, err := fast.start(t, AttributorConfig{Interval: time.Hour}).Attribute(ctx, ask(watch.Resource{ID: "a", Names: []string{"b"}, Type: "aws_x"}))
	if !errors.Is(err, context.DeadlineExceeded) || len(got) != 1 || time.Since(began) > 4*time.Second {
		t.Errorf("%v %v", got, err)
	}
	// And between two in time, there is the interval.
	began = time.Now()
	if _, err := fast.start(t, AttributorConfig{Interval: 100 * time.Millisecond}).Attribute(t.Context(), ask(watch.Resource{ID: "a", Names: []string{"b", "c"}, Type: "aws_x"})); err != nil || time.Since(began) < 200*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if got, err := fast.start(t, AttributorConfig{}).Attribute(t.Context(), watch.Question{Since: noon, Until: noon}); got != nil || err != nil {
		t.Errorf("%v %v", got, err)
	}
}

func TestRole(t *testing.T) {
	tr := &trail{answer: func(int, asked) (int, string) { return 200, reply("") }}
	a := tr.start(t, AttributorConfig{RoleARN: "arn:aws:iam::1:role/reader", ExternalID: "ext"})
	if _, err := a.Attribute(t.Context(), ask(watch.Resource{ID: "a", Type: "aws_x"})); err != nil || tr.requests[0].Token != "assumed" {
		t.Errorf("%v %+v", err, tr.requests)
	}
	a = tr.start(t, AttributorConfig{RoleARN: "arn:aws:iam::1:role/reader"})
	_, err := a.Attribute(t.Context(), ask(watch.Resource{ID: "a", Type: "aws_x"}))
	if refused := new(AccessError); !errors.As(err, &refused) || refused.Action != "sts:AssumeRole" || !strings.Contains(refused.Hint(), "role/reader") {
		t.Errorf("%v", err)
	}
}

func TestNoCredentials(t *testing.T) {
	tr := &trail{}
	tr.start(t, AttributorConfig{})
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	a, err := NewAttributor(t.Context(), AttributorConfig{Endpoint: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Attribute(t.Context(), ask(watch.Resource{ID: "a", Type: "aws_x"}))
	if refused := new(AccessError); !errors.As(err, &refused) || !strings.Contains(refused.Hint(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("%v", err)
	}
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	if _, err := NewAttributor(t.Context(), AttributorConfig{}); err == nil || !strings.Contains(err.Error(), "region") {
		t.Errorf("%v", err)
	}
}

func TestActorAndSource(t *testing.T) {
	for record, want := range map[string]string{
		bob:   "bob | console (203.0.113.7)",
		admin: "Admin/alice@example.com | Terraform (203.0.113.8)",
		`{"userIdentity":{"type":"Root","arn":"arn:aws:iam::1:root"},"sourceIPAddress":"1.2.3.4","userAgent":"Mozilla","sessionCredentialFromConsole":"true"}`:        "root | console (1.2.3.4)",
		`{"userIdentity":{"type":"AWSService","invokedBy":"autoscaling.amazonaws.com"},"sourceIPAddress":"autoscaling.amazonaws.com"}`:                                "autoscaling.amazonaws.com | autoscaling.amazonaws.com",
		`{"userIdentity":{"type":"AssumedRole","principalId":"AROA:alice","sessionContext":{"sessionIssuer":{"userName":"Admin"}}},"sourceIPAddress":"AWS Internal"}`: "Admin/alice | AWS Internal",
		`{"userIdentity":{"type":"AWSAccount","accountId":"999999999999","principalId":"X"},"userAgent":"aws-cli/2.1"}`:                                               "account 999999999999 | AWS CLI",
		`{"userIdentity":{"type":"FederatedUser","arn":"arn:aws:sts::1:federated-user/carol"}}`:                                                                       "carol | ",
		`{"userIdentity":{"type":"WebIdentityUser","userName":"dave"}}`:                                                                                               "dave | ",
		`{"userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::1:user/ops/erin"}}`:                                                                                    "erin | ",
		`not JSON`:             "someone | ",
		`{"userIdentity":"x"}`: "someone | ",
		`{"userIdentity":{"type":"IAMUser","userName":"a\u0000\u001b[1m\u202e\nb"},"sourceIPAddress":"` + strings.Repeat("9", 999) + `"}`: "a[1m b | " + strings.Repeat("9", maxText),
	} {
		c, ok := read(types.Event{ReadOnly: sdk.String("false"), EventName: sdk.String("X"), EventTime: &noon, Username: sdk.String("someone"), CloudTrailEvent: &record}, "eu-west-1")
		if got := c.answer.Actor + " | " + c.answer.Source; !ok || got != want {
			t.Errorf("%.100s: %q", record, got)
		}
	}
}

func TestFits(t *testing.T) {
	for _, test := range []struct {
		change, name string
		want         bool
	}{
		{"deleted", "DeleteBucket", true}, {"deleted", "TerminateInstances", true}, {"deleted", "DetachRolePolicy", true}, {"deleted", "PutBucketPolicy", false},
		{"created", "RunInstances", true}, {"created", "DeleteBucket", false}, {"changed", "DeleteTags", true}, {"changed", "ModifyInstanceAttribute", true},
	} {
		if fits(test.change, test.name) != test.want {
			t.Errorf("%s %s", test.change, test.name)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(bob, "someone", uuid)
	f.Add(admin, "", "../../x")
	f.Fuzz(func(t *testing.T, record, username, id string) {
		c, ok := read(types.Event{ReadOnly: sdk.String("false"), EventName: &username, EventId: &id, EventTime: &noon, Username: &username, CloudTrailEvent: &record}, "eu-west-1")
		for _, s := range []string{c.answer.Actor, c.answer.Call, c.answer.Source} {
			if len(s) > maxText || strings.ContainsFunc(s, unicode.IsControl) {
				t.Fatalf("%q", s)
			}
		}
		if ok && c.answer.URL != "" && strings.ContainsAny(c.answer.URL, " <>\"'\n") {
			t.Fatalf("%q", c.answer.URL)
		}
	})
}
