package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"holdfast/runner/terraform"
	"holdfast/store"
	"holdfast/store/sqlite"
)

// openStore opens the store that the settings name, with its artifacts sealed
// under the server's key.
func openStore(ctx context.Context, s Settings) (*store.Store, []byte, error) {
	key, err := masterKey(s)
	if err != nil {
		return nil, nil, err
	}
	st, err := sqlite.Open(ctx, s.StorePath())
	if err != nil {
		return nil, nil, err
	}
	st.Artifacts = store.Sealed(st.Artifacts, store.DeriveKey(key, "artifacts"))
	return st, key, nil
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

// nodeName is what this machine is called in runs and listings.
func nodeName() string {
	name, err := os.Hostname()
	if err != nil {
		return "local"
	}
	return name
}
