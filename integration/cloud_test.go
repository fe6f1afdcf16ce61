package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// cloudProcess is the small cloud, which outlives a killed Holdfast.
type cloudProcess struct {
	testing.TB
	url, reattach string
}

type cloudResource struct {
	ID         string         `json:"id"`
	Kind       string         `json:"kind"`
	Name       string         `json:"name"`
	Attributes map[string]any `json:"attributes"`
}

type cloudEntry struct {
	Op     string `json:"op"`
	Name   string `json:"name"`
	ByHand bool   `json:"by_hand"`
}

func startCloud(t testing.TB) *cloudProcess {
	t.Helper()
	cmd := exec.Command(binaries.cloud)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("start the small cloud: %v", err)
	}
	var ready struct{ URL, Reattach string }
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatal(err)
	}
	return &cloudProcess{TB: t, url: ready.URL, reattach: ready.Reattach}
}

// resources returns all that exists in the cloud.
func (c *cloudProcess) resources() []cloudResource {
	c.Helper()
	var out []cloudResource
	c.get("/api/resources", &out)
	return out
}

// journal returns what was done in the cloud, reads left out.
func (c *cloudProcess) journal() []cloudEntry {
	c.Helper()
	var all, out []cloudEntry
	c.get("/api/journal", &all)
	for _, e := range all {
		if e.Op != "read" {
			out = append(out, e)
		}
	}
	return out
}

// created counts how often a resource of that name was made.
func (c *cloudProcess) created(name string) int {
	n := 0
	for _, e := range c.journal() {
		if e.Op == "create" && e.Name == name {
			n++
		}
	}
	return n
}

// set changes an attribute by hand.
func (c *cloudProcess) set(name, attribute, value string) {
	c.Helper()
	for _, r := range c.resources() {
		if r.Name != name {
			continue
		}
		body, err := json.Marshal(map[string]string{attribute: value})
		if err != nil {
			c.Fatal(err)
		}
		req, err := http.NewRequest(http.MethodPatch, c.url+"/api/resources/"+r.ID, bytes.NewReader(body))
		if err != nil {
			c.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			c.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			c.Fatalf("change %s: %s %s", name, resp.Status, answer)
		}
		return
	}
	c.Fatalf("the cloud has no %s", name)
}

// attribute returns an attribute of the only resource with that name.
func (c *cloudProcess) attribute(name, attribute string) any {
	c.Helper()
	for _, r := range c.resources() {
		if r.Name == name {
			return r.Attributes[attribute]
		}
	}
	return nil
}

func (c *cloudProcess) get(path string, v any) {
	c.Helper()
	resp, err := http.Get(c.url + path)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		c.Fatalf("GET %s: %v", path, err)
	}
}
