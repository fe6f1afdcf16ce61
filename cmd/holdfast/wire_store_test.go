package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"holdfast/aws"
	"holdfast/store"
	"holdfast/store/sqlite"
)

// storeStep is one start of a server on a store that is kept.
type storeStep struct {
	name    string
	key     string
	old     []string
	refused bool
}

// TestKeyRotation starts a server before, during and after a rotation, as
// docs/settings.md says how.
func TestKeyRotation(t *testing.T) {
	one, two := strings.Repeat("1", 32), strings.Repeat("2", 32)
	s := Settings{DataDir: t.TempDir(), Store: "sqlite"}
	// What an earlier version compared plans by.
	digestKey := store.DeriveKey([]byte(one), "plan digests")
	for _, step := range []storeStep{
		{name: "at first", key: one},
		{name: "with a wrong key", key: two, refused: true},
		{name: "with the next key", key: one, old: []string{two}},
		{name: "with the old key", key: two, old: []string{one}},
		{name: "with the old key as the only one", key: one, refused: true},
		{name: "after retention", key: two},
	} {
		t.Run(step.name, func(t *testing.T) {
			s.Key, s.OldKeys = step.key, step.old
			st, got, err := openStore(t.Context(), s, slog.New(slog.DiscardHandler), nil)
			if step.refused {
				if !errors.Is(err, store.ErrWrongKey) || !strings.Contains(hintOf(err), "old_keys") {
					t.Errorf("error %v, hint %q", err, hintOf(err))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			if !bytes.Equal(got, digestKey) {
				t.Error("plans that were reviewed compare as changed")
			}
			if err := st.Artifacts.Append(t.Context(), time.Now(), "log", []byte("x")); err != nil {
				t.Fatal(err)
			}
			_, err = st.Artifacts.Get(t.Context(), "log")
			if step.name == "after retention" {
				// It is not over for this one.
				if !errors.Is(err, store.ErrWrongKey) {
					t.Errorf("%v", err)
				}
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestArtifactsAreInTheBucket(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	bucket := s3mem.New()
	if err := bucket.CreateBucket("plans"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(bucket, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	s := Settings{DataDir: t.TempDir(), Store: "sqlite", Key: strings.Repeat("k", 32), S3: aws.S3Config{Bucket: "plans", Prefix: "team", Endpoint: server.URL, PathStyle: true}}
	st, _, err := openStore(t.Context(), s, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Artifacts.Put(t.Context(), time.Now(), "r/plan", []byte("hunter2")); err != nil {
		t.Fatal(err)
	}
	list, err := bucket.ListBucket("plans", nil, gofakes3.ListBucketPage{})
	if err != nil || len(list.Contents) != 1 || !strings.HasPrefix(list.Contents[0].Key, "team/artifacts/r/plan__") {
		t.Fatalf("%v %+v", err, list)
	}
	object, err := bucket.GetObject("plans", list.Contents[0].Key, nil)
	if err != nil {
		t.Fatal(err)
	}
	var stored bytes.Buffer
	if _, err := stored.ReadFrom(object.Contents); err != nil || bytes.Contains(stored.Bytes(), []byte("hunter2")) {
		t.Errorf("%v, stored %q", err, stored.Bytes())
	}

	d := &doctor{}
	d.artifacts(t.Context(), s)
	s.S3.Bucket = "plnas"
	d.artifacts(t.Context(), s)
	if len(d.rows) != 2 || d.rows[0].Result != checkOK || d.rows[1].Result != checkFail || !strings.Contains(d.rows[1].Hint, "no such bucket") {
		t.Errorf("%+v", d.rows)
	}
	if _, _, err := openStore(t.Context(), s, slog.New(slog.DiscardHandler), nil); err == nil || !strings.Contains(err.Error(), "artifacts: bucket plnas: ") || !strings.Contains(hintOf(err), "no such bucket") {
		t.Errorf("error %v, hint %q", err, hintOf(err))
	}
	// A server that does not answer keeps nobody from starting.
	server.Close()
	s.S3.Bucket = "plans"
	var log bytes.Buffer
	again, _, err := openStore(t.Context(), s, slog.New(slog.NewTextHandler(&log, nil)), nil)
	if err != nil || !strings.Contains(log.String(), "artifacts cannot be stored now") {
		t.Fatalf("%v, logged %s", err, log.String())
	}
	defer again.Close()
	if _, err := again.Artifacts.Get(t.Context(), "r/plan"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// TestStoreFromBefore: an installation that has no secret in its store yet keeps
// what it compared plans by.
func TestStoreFromBefore(t *testing.T) {
	s := Settings{DataDir: t.TempDir(), Store: "sqlite"}
	key, err := masterKey(s)
	if err != nil {
		t.Fatal(err)
	}
	before, err := sqlite.Open(t.Context(), filepath.Join(s.DataDir, "holdfast.db"))
	if err != nil {
		t.Fatal(err)
	}
	sealed := store.Sealed(before.Artifacts, store.DeriveKey(key, "artifacts"))
	if err := errors.Join(sealed.Put(t.Context(), time.Now(), "r/plan", []byte("plan")), before.Close()); err != nil {
		t.Fatal(err)
	}
	st, digestKey, err := openStore(t.Context(), s, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if !bytes.Equal(digestKey, store.DeriveKey(key, "plan digests")) {
		t.Error("plans that were reviewed compare as changed")
	}
	if data, err := st.Artifacts.Get(t.Context(), "r/plan"); err != nil || string(data) != "plan" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestStopWhileWaiting: a server that is told to end has ended well, also where
// its store never answered. systemd shows anything else as a failure.
func TestStopWhileWaiting(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "server.hcl")
	// Nobody can listen on port 1 but root, and nobody does.
	err := os.WriteFile(file, []byte(`
url      = "http://holdfast.example.com"
listen   = "127.0.0.1:0"
data_dir = "`+dir+`/data"
store    = "redis://127.0.0.1:1"
key      = "`+strings.Repeat("k", 32)+`"
host "github" "github.com" {
  token = "t"
  mode  = "pull"
}
repository "github.com/acme/net" {}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	log := &stopAt{words: "trying again", stop: stop}
	if code := run(ctx, []string{"serve", "--workers", "0", "--config", file}, io.Discard, log); code != 0 || log.stop != nil {
		t.Errorf("exit code %d", code)
	}
}

// stopAt calls stop once, when the words are written.
type stopAt struct {
	words string
	stop  func()
}

func (s *stopAt) Write(line []byte) (int, error) {
	if s.stop != nil && strings.Contains(string(line), s.words) {
		s.stop()
		s.stop = nil
	}
	return len(line), nil
}
