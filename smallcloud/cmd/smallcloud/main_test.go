package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cloud.jsonl")
	for round, want := range []int{1, 2} { // the second finds what the first kept
		ctx, cancel := context.WithCancel(t.Context())
		out, in := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- run(ctx, []string{"-file", file}, in, io.Discard)
			in.Close()
		}()
		line, err := bufio.NewReader(out).ReadBytes('\n')
		if err != nil {
			t.Fatalf("%v: %v", err, <-ended)
		}
		var r ready
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		var attached map[string]struct {
			Addr struct{ Network, String string }
		}
		if err := json.Unmarshal([]byte(r.Reattach), &attached); err != nil {
			t.Fatal(err)
		}
		addr := attached["registry.terraform.io/holdfast/smallcloud"].Addr
		if addr.String == "" || r.PID != os.Getpid() {
			t.Errorf("first line %s", line)
		}
		resp, err := http.Post(r.URL+"/api/resources", "application/json", strings.NewReader(`{"kind":"server","name":"a"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		resp, err = http.Get(r.URL + "/api/resources")
		if err != nil {
			t.Fatal(err)
		}
		var all []any
		err = json.NewDecoder(resp.Body).Decode(&all)
		resp.Body.Close()
		if err != nil || len(all) != want {
			t.Errorf("round %d: %d resources, %v", round, len(all), err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(addr.String); addr.Network == "unix" && err == nil {
			t.Errorf("socket %s was left", addr.String)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	for name, args := range map[string][]string{
		"flag":    {"-nonsense"},
		"address": {"-listen", "127.0.0.1:99999"},
		"file":    {"-file", filepath.Join(t.TempDir(), "missing", "file")},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := run(t.Context(), args, &out, io.Discard); err == nil || out.Len() > 0 {
				t.Errorf("error %v, output %q", err, &out)
			}
		})
	}
}
