package aws

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"holdfast/store"
	"holdfast/store/sqlite"
	"holdfast/store/storetest"
)

// bucket is an S3 server in memory with one bucket, "plans".
type bucket struct {
	*httptest.Server
	memory *s3mem.Backend

	mu       sync.Mutex
	requests []*http.Request
	// answer is asked first; false leaves the request to the server.
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func newBucket(t *testing.T) *bucket {
	t.Helper()
	environment(t)
	b := &bucket{memory: s3mem.New()}
	if err := b.memory.CreateBucket("plans"); err != nil {
		t.Fatal(err)
	}
	server := gofakes3.New(b.memory, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.requests = append(b.requests, r)
		b.mu.Unlock()
		if b.answer == nil || !b.answer(w, r) {
			server.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(b.Close)
	return b
}

// names are the objects in the bucket.
func (b *bucket) names(t *testing.T) []string {
	t.Helper()
	list, err := b.memory.ListBucket("plans", nil, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, o := range list.Contents {
		names = append(names, o.Key)
	}
	return names
}

func (b *bucket) open(t *testing.T, c S3Config) *S3 {
	t.Helper()
	c.Bucket, c.Endpoint, c.PathStyle = "plans", b.URL, true
	s, err := NewS3(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestArtifactsInS3 holds the whole to what every store of artifacts promises.
func TestArtifactsInS3(t *testing.T) {
	b := newBucket(t)
	db, err := sqlite.Open(t.Context(), t.TempDir()+"/store.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	key := store.DeriveKey([]byte("master"), "artifacts")
	open := func() store.Artifacts {
		return store.Sealed(store.Offloaded(db.Artifacts, b.open(t, S3Config{Prefix: "team/holdfast/"})), key)
	}
	storetest.RunArtifacts(t, open(), open())
	names := b.names(t)
	if len(names) != 4 {
		t.Errorf("%q", names)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "team/holdfast/artifacts/") {
			t.Errorf("%q", name)
		}
	}
}

func TestS3(t *testing.T) {
	b := newBucket(t)
	s := b.open(t, S3Config{KMSKey: "arn:aws:kms:eu-west-1:1:key/abc", Region: "eu-north-1"})
	if err := s.Check(t.Context()); err != nil || len(b.names(t)) > 0 {
		t.Errorf("%v, left %q", err, b.names(t))
	}
	put := b.requests[0]
	m := signed.FindStringSubmatch(put.Header.Get("Authorization"))
	if put.Method != http.MethodPut || put.Header.Get("X-Amz-Server-Side-Encryption") != "aws:kms" || put.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != "arn:aws:kms:eu-west-1:1:key/abc" || m == nil || m[1] != "eu-north-1" || m[2] != "s3" {
		t.Errorf("%s %v", put.Method, put.Header)
	}
	if _, err := s.Get(t.Context(), "nothing"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}

	// More objects than a page of a listing has.
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 130 {
				if err := s.Put(t.Context(), fmt.Sprintf("run/%d-%d", i, j), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Put(t.Context(), "run2/a", []byte("stays")); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "run/"); err != nil || !slices.Equal(b.names(t), []string{"run2/a"}) {
		t.Errorf("%v, left %q", err, b.names(t))
	}
}

func TestS3WithoutKMS(t *testing.T) {
	b := newBucket(t)
	if err := b.open(t, S3Config{}).Put(t.Context(), "a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for name := range b.requests[0].Header {
		if strings.HasPrefix(name, "X-Amz-Server-Side") {
			t.Errorf("%s: the bucket's own settings are what counts", name)
		}
	}
}

func TestS3Errors(t *testing.T) {
	for _, test := range []struct {
		name   string
		only   string // the method that is refused
		status int
		code   string
		text   string
		header map[string]string
		hint   string // empty: it may go away
	}{
		{name: "no bucket", status: 404, code: "NoSuchBucket", hint: "no such bucket"},
		{name: "may not write", status: 403, code: "AccessDenied", hint: "permission s3:PutObject"},
		{name: "may not read", only: "GET", status: 403, code: "AccessDenied", hint: "s3:ListBucket"},
		{name: "may not delete", only: "DELETE", status: 403, code: "AccessDenied", hint: "permission s3:DeleteObject"},
		{name: "may not use the key", status: 403, code: "AccessDenied", text: "not authorized to perform: kms:GenerateDataKey", hint: "kms:Decrypt"},
		{name: "no such key", status: 400, code: "KMS.NotFoundException", hint: "check kms_key"},
		{name: "elsewhere", status: 301, code: "PermanentRedirect", header: map[string]string{"X-Amz-Bucket-Region": "eu-south-2"}, hint: `region = "eu-south-2"`},
		{name: "elsewhere, says the signature", status: 400, code: "AuthorizationHeaderMalformed", hint: "another region"},
		{name: "unknown credentials", status: 403, code: "InvalidAccessKeyId", hint: "AWS_ACCESS_KEY_ID"},
		{name: "wrong credentials", status: 403, code: "SignatureDoesNotMatch", hint: "credentials"},
		{name: "an error of theirs", status: 400, code: "RequestTimeTooSkewedOrSo"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBucket(t)
			b.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if test.only != "" && r.Method != test.only {
					return false
				}
				for name, value := range test.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(test.status)
				fmt.Fprintf(w, "<Error><Code>%s</Code><Message>It says no&#x202e; %s</Message></Error>", test.code, test.text)
				return true
			}
			err := b.open(t, S3Config{}).Check(t.Context())
			var refused *AccessError
			if err == nil || errors.As(err, &refused) != (test.hint != "") || refused != nil && !strings.Contains(refused.Hint(), test.hint) {
				t.Errorf("%v, hint %+v", err, refused)
			}
			if !strings.Contains(err.Error(), "bucket plans") || !strings.Contains(err.Error(), test.code) || strings.Contains(err.Error(), "\u202e") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestS3TriesAgain(t *testing.T) {
	b := newBucket(t)
	b.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Amz-Sdk-Request") != "attempt=1; max=3" || r.Method != http.MethodPut {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "<Error><Code>SlowDown</Code></Error>")
		return true
	}
	if err := b.open(t, S3Config{}).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestS3OfAWS has AWS's own addresses.
func TestS3OfAWS(t *testing.T) {
	b := newBucket(t)
	to := strings.TrimPrefix(b.URL, "http://")
	s, err := NewS3(t.Context(), S3Config{Bucket: "plans", HTTPClient: &http.Client{Transport: aws(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme != "https" || r.URL.Host != "plans.s3.eu-west-1.amazonaws.com" {
			t.Errorf("%s", r.URL)
		}
		r.URL.Scheme, r.URL.Host, r.URL.Path = "http", to, "/plans"+r.URL.Path
		return http.DefaultTransport.RoundTrip(r)
	})}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	// python3 -c 'import zlib,base64; print(base64.b64encode(zlib.crc32(b"holdfast").to_bytes(4,"big")))'
	if sum := b.requests[0].Header.Get("X-Amz-Checksum-Crc32"); sum != "DHTQHw==" || b.requests[0].Header.Get("X-Amz-Trailer") != "" {
		t.Errorf("the checksum is %q: %v", sum, b.requests[0].Header)
	}
}

// aws is a way to AWS.
type aws func(*http.Request) (*http.Response, error)

func (a aws) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

// TestS3ReadsSomethingElse: a cache between us and the bucket, say.
func TestS3ReadsSomethingElse(t *testing.T) {
	b := newBucket(t)
	b.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || r.URL.Query().Has("list-type") {
			return false
		}
		fmt.Fprint(w, "old")
		return true
	}
	if err := b.open(t, S3Config{}).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("%v", err)
	}
}

func TestNewS3Refuses(t *testing.T) {
	environment(t)
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	if _, err := NewS3(t.Context(), S3Config{Bucket: "plans"}); err == nil || !strings.Contains(err.Error(), "region") {
		t.Errorf("%v", err)
	}
	if _, err := NewS3(t.Context(), S3Config{Bucket: "plans", Endpoint: "http://127.0.0.1:9000"}); err != nil {
		t.Errorf("with an endpoint: %v", err)
	}
}
