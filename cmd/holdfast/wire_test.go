package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMasterKeyIsMadeOnce(t *testing.T) {
	s := Settings{DataDir: filepath.Join(t.TempDir(), "data"), Store: "sqlite"}
	first, err := masterKey(s)
	if err != nil || len(first) != 64 {
		t.Fatalf("the first key: %q, %v", first, err)
	}
	if err := os.WriteFile(s.StorePath(), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := masterKey(s); err != nil || string(again) != string(first) {
		t.Errorf("the second time: %q, %v", again, err)
	}
}

func TestMasterKeyOfARestoredStore(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(t.TempDir(), "store.db")
	own := strings.Repeat("k", 32)
	for _, tc := range []struct {
		name, path, content string
		settings            Settings
		refused             bool
	}{
		{"in the data directory", filepath.Join(dir, "a/holdfast.db"), "content", Settings{DataDir: filepath.Join(dir, "a"), Store: "sqlite"}, true},
		{"elsewhere", elsewhere, "content", Settings{DataDir: filepath.Join(dir, "b"), Store: "sqlite:" + elsewhere}, true},
		{"with a key of the settings", elsewhere, "content", Settings{DataDir: filepath.Join(dir, "c"), Store: "sqlite:" + elsewhere, Key: own}, false},
		{"empty", filepath.Join(dir, "d/holdfast.db"), "", Settings{DataDir: filepath.Join(dir, "d"), Store: "sqlite"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := os.MkdirAll(filepath.Dir(tc.path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(tc.path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := masterKey(tc.settings)
			if !tc.refused {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "is missing") || !strings.Contains(hintOf(err), "HOLDFAST_KEY") {
				t.Errorf("error %v, hint %q", err, hintOf(err))
			}
			if _, err := os.Stat(filepath.Join(tc.settings.DataDir, "key")); err == nil {
				t.Error("a key was made")
			}
		})
	}
}

// TestStoreName has names that are logged and written into the audit trail.
func TestStoreName(t *testing.T) {
	for address, want := range map[string]string{
		"redis://redis:6379":                                                                       "redis://redis:6379",
		"redis://holdfast:hunter2@redis:6379/1?prefix=a":                                           "redis://redis:6379/1?prefix=a",
		"unix://:hunter2@/run/redis.sock?db=1":                                                     "unix:///run/redis.sock?db=1",
		"redis+cluster://:hunter2@a,b?wait_replicas=1":                                             "redis+cluster://a,b?wait_replicas=1",
		"redis+sentinel://a,b/main?sentinel_password=h@r2":                                         "redis+sentinel://a,b/main",
		"redis+sentinel://u:hunter2@a/main?prefix=a&sentinel_username=u&sentinel_password=hunter2": "redis+sentinel://a/main?prefix=a",
	} {
		if got := (Settings{Store: address}).storeName(); got != want {
			t.Errorf("%s is named %s", address, got)
		}
	}
}
