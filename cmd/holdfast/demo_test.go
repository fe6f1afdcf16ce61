package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDemoEngineDir(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for cache, want := range map[string]string{
		filepath.Join(dir, "cache"): filepath.Join(dir, "cache", "holdfast"),
		file:                        "/demo/engines", // as good as read-only, for root too
		"relative":                  "/demo/engines",
	} {
		t.Setenv("XDG_CACHE_HOME", cache)
		if got := demoEngineDir("/demo"); got != want {
			t.Errorf("with %s: %s, want %s", cache, got, want)
		}
	}
}
