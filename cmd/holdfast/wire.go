package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/aws"
	"holdfast/runner/terraform"
	"holdfast/store"
)

// openStore opens the store that the settings name, with its artifacts where they
// want them, sealed under the server's key. It also returns the key that plans
// are compared by. observe, where it is not nil, is told of calls of a store on
// another machine.
func openStore(ctx context.Context, s Settings, logger *slog.Logger, observe func(string, time.Duration, error)) (*store.Store, []byte, error) {
	// First: a store is only made with a key, and a missing key is said at once.
	key, err := masterKey(s)
	if err != nil {
		return nil, nil, err
	}
	st, err := openBackend(ctx, s, logger, observe)
	if err != nil {
		return nil, nil, err
	}
	var digestKey []byte
	if err = migrating(ctx, st); err == nil {
		digestKey, err = openDigestKey(ctx, st, s, key)
	}
	if err == nil {
		err = openArtifacts(ctx, st, s, key, logger)
	}
	if err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	return st, digestKey, nil
}

// keysFor derives the keys for a purpose: the server's own first, then the old
// ones.
func (s Settings) keysFor(purpose string, key []byte) [][]byte {
	all := [][]byte{store.DeriveKey(key, purpose)}
	for _, old := range s.OldKeys {
		all = append(all, store.DeriveKey([]byte(old), purpose))
	}
	return all
}

// openDigestKey returns the key that plans are compared by. It stays what it was
// at the first start, whatever becomes of the server's key: else every plan that
// was reviewed would compare as changed. Opening it also finds out whether the
// server's key is the right one, before anything is sealed with it.
func openDigestKey(ctx context.Context, st *store.Store, s Settings, key []byte) ([]byte, error) {
	digestKey, err := st.Secret(ctx, "digests", store.DeriveKey(key, "plan digests"), s.keysFor("secrets", key)...)
	if errors.Is(err, store.ErrWrongKey) {
		return nil, hinted{fmt.Errorf("the server's key is not the one of this store: %w", err),
			`start with the key that the store was used with (key, HOLDFAST_KEY, or the file "key" in the data directory), or name that one in old_keys (HOLDFAST_OLD_KEYS)`}
	}
	return digestKey, err
}

// openArtifacts puts the store's artifacts where the settings want them.
func openArtifacts(ctx context.Context, st *store.Store, s Settings, key []byte, logger *slog.Logger) error {
	if s.S3.Bucket != "" {
		bucket, err := openBucket(ctx, s.S3, logger)
		if err != nil {
			return hinted{fmt.Errorf("artifacts: %w", err), hintOf(err)}
		}
		st.Artifacts = store.Offloaded(st.Artifacts, bucket)
	}
	keys := s.keysFor("artifacts", key)
	st.Artifacts = store.Sealed(st.Artifacts, keys[0], keys[1:]...)
	return nil
}

// openBucket opens the bucket for plans and tries it, for half a minute at most.
// What a person has to change is an error. What may go away is only logged:
// events are taken and kept while the bucket does not answer.
func openBucket(ctx context.Context, c aws.S3Config, logger *slog.Logger) (*aws.S3, error) {
	bucket, err := aws.NewS3(ctx, c)
	if err != nil {
		return nil, err
	}
	trial, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := bucket.Check(trial); errors.As(err, new(*aws.AccessError)) || ctx.Err() != nil {
		return nil, err
	} else if err != nil {
		logger.Warn("artifacts cannot be stored now", "error", err)
	}
	return bucket, nil
}

// masterKey returns the key that all others are derived from: the settings'
// own, else the one in the data directory, which is made on the first start.
// None is made for a store that is there already: what it holds could not be
// read with it, and the right key would have no place to come back to.
func masterKey(s Settings) ([]byte, error) {
	if s.Key != "" {
		if len(s.Key) < 32 {
			return nil, hinted{errors.New("key is shorter than 32 characters"), "make one with: openssl rand -hex 32"}
		}
		return []byte(s.Key), nil
	}
	if s.Shared() {
		return nil, hinted{errors.New("key is not set, and machines that share a store need the same one"),
			`make one with "openssl rand -hex 32", and give it to all of them: key = env("HOLDFAST_KEY"). A store that came from one machine is read with that machine's own, the file "key" in its data directory`}
	}
	if err := makeDataDir(s.DataDir); err != nil {
		return nil, err
	}
	file := filepath.Join(s.DataDir, "key")
	// Looked at before the key, which is there before its store is.
	info, err := os.Stat(s.StorePath())
	stored := err == nil && info.Size() > 0
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		if stored {
			return nil, hinted{fmt.Errorf("the server's key %s is missing, and the store %s was made with one", file, s.StorePath()),
				`restore the file "key" from the backup, or set HOLDFAST_KEY to the key that this store was used with`}
		}
		fresh := make([]byte, 32)
		_, _ = rand.Read(fresh) // never fails
		if err := writeOnce(file, hex.EncodeToString(fresh)+"\n"); err != nil {
			return nil, fmt.Errorf("write the server's key: %w", err)
		}
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read the server's key: %w", err)
	}
	key := strings.TrimSpace(string(data))
	if len(key) < 32 {
		return nil, hinted{fmt.Errorf("the server's key in %s is damaged", file), "restore it from a backup: without it stored plans and logs cannot be read"}
	}
	return []byte(key), nil
}

// writeOnce creates a private file with all of its content at once, or leaves
// the one that is there: two processes that start together must agree on it.
func writeOnce(file, content string) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".key-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), file); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// makeDataDir makes the data directory and finds out whether it can be
// written.
func makeDataDir(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".write-test-*"); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if err != nil {
		return hinted{fmt.Errorf("the data directory %s cannot be written: %w", dir, err), "give this user the right to write there, or set data_dir in the server file (HOLDFAST_DATA_DIR, --data-dir)"}
	}
	return nil
}

// newEngines prepares engines for the server.
func newEngines(s Settings, o serverOptions) (*terraform.Engines, error) {
	return terraform.New(terraform.Config{DataDir: o.EngineDir, Pass: s.Engine.Pass, Set: s.Engine.Set, Progress: o.Progress})
}
