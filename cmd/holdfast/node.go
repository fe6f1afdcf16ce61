package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// nodeName is what this machine is called in runs and listings: its host's name
// and a few characters that stay with the data directory. An engine that applied
// is looked for where that directory is, and two machines may have one name.
func nodeName(dataDir string) (string, error) {
	file := filepath.Join(dataDir, "node")
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		host, herr := os.Hostname()
		if herr != nil || host == "" {
			host = "local"
		}
		suffix := make([]byte, 3)
		_, _ = rand.Read(suffix) // never fails
		if err := writeOnce(file, host+"-"+hex.EncodeToString(suffix)+"\n"); err != nil {
			return "", fmt.Errorf("write the node's name: %w", err)
		}
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return "", fmt.Errorf("read the node's name: %w", err)
	}
	name := strings.TrimSpace(string(data))
	if name == "" {
		return "", hinted{fmt.Errorf("the node's name in %s is empty", file), "delete that file; it is made anew"}
	}
	return name, nil
}
