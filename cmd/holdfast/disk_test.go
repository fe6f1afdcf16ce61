package main

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckDisk(t *testing.T) {
	dir := t.TempDir()
	if err := checkFree(dir, 1); err != nil {
		t.Errorf("a byte: %v", err)
	}
	err := checkFree(dir, 1<<62)
	var hint interface{ Hint() string }
	if err == nil || !errors.As(err, &hint) || hint.Hint() == "" || !strings.Contains(err.Error(), dir) {
		t.Errorf("more than any disk has: %v", err)
	}
	if err := checkFree(dir+"/none", 1); err == nil {
		t.Error("a directory that is not there has room")
	}
}
