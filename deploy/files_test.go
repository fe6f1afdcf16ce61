package deploy

import (
	"os"
	"regexp"
	"testing"
)

// readFile returns a file's content.
func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var envCall = regexp.MustCompile(`env\("([^"]+)"\)`)

// variables are those that a server file reads with env().
func variables(config string) []string {
	var names []string
	for _, m := range envCall.FindAllStringSubmatch(config, -1) {
		names = append(names, m[1])
	}
	return names
}
