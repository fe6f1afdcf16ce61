package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/store"
	"holdfast/web"
)

// stream is a browser that follows a run.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	close func()
}

type event struct {
	name, id string
	data     map[string]string
	comment  string
}

func follow(t *testing.T, server *httptest.Server, target, lastID string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %s %s", target, resp.Status, resp.Header)
	}
	closeAll := func() { cancel(); resp.Body.Close() }
	t.Cleanup(closeAll)
	return &stream{t, bufio.NewScanner(resp.Body), closeAll}
}

// next returns the next event, or false at the end of the stream.
func (s *stream) next() (event, bool) {
	s.t.Helper()
	var e event
	for s.lines.Scan() {
		switch name, value, _ := strings.Cut(s.lines.Text(), ": "); name {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e.data); err != nil {
				s.t.Fatalf("data %q: %v", value, err)
			}
		case "retry":
			e.name = "retry"
		case "": // a comment, or the end of an event
			if value != "" {
				e.comment = value
				continue
			}
			if e.name == "retry" {
				e = event{}
				continue
			}
			return e, true
		}
	}
	return e, false
}

func (s *stream) want(name, id, key, value string) {
	s.t.Helper()
	e, ok := s.next()
	if !ok || e.name != name || e.id != id || e.data[key] != value {
		s.t.Fatalf("event %+v (%v), want %s %s %s=%q", e, ok, name, id, key, value)
	}
}

func (s *stream) wantEnd() {
	s.t.Helper()
	if e, ok := s.next(); ok {
		s.t.Errorf("%+v after the end", e)
	}
}

func (s *site) update(r store.Run, state store.State, step string) store.Run {
	s.Helper()
	r.State, r.Step = state, step
	r, err := s.store.Runs.Update(s.Context(), now, r)
	if err != nil {
		s.Fatal(err)
	}
	return r
}

func TestEventsFollowARunOverARestart(t *testing.T) {
	s := newSite(t, web.Config{Poll: 2 * time.Millisecond})
	server := httptest.NewServer(s.handler)
	t.Cleanup(server.Close)
	r := s.run(store.Run{ID: "R1", State: store.Queued})
	first := follow(t, server, "/runs/R1/events", "")
	first.want("state", "", "state", "queued")
	r = s.update(r, store.Running, "init")
	first.want("state", "", "step", "init")
	s.log("R1", "one\n\x1b[3")
	first.want("log", "1", "text", "one\n")
	s.log("R1", "1mtwo\x1b[0m\n")
	first.want("log", "2", "text", "two\n")
	first.close()

	// The server restarts, and what was written meanwhile is not lost.
	s.log("R1", "three \xc3")
	again, err := web.New(web.Config{Store: s.store, Poll: 2 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	restarted := httptest.NewServer(again)
	t.Cleanup(restarted.Close)
	second := follow(t, restarted, "/runs/R1/events?from=0", "2")
	second.want("log", "3", "text", "three ")
	second.want("state", "", "state", "running")
	third := follow(t, restarted, "/runs/R1/events?from=3", "") // within the character
	third.want("state", "", "state", "running")
	s.log("R1", "\xa4\n")
	second.want("log", "4", "text", "ä\n")
	third.want("log", "4", "text", "ä\n")
	s.log("R1", "last\n")
	s.update(r, store.Planned, "")
	for _, f := range []*stream{second, third} {
		f.want("log", "5", "text", "last\n")
		f.want("state", "", "state", "planned")
		f.want("end", "", "state", "planned")
		f.wantEnd()
	}
}

func TestEventsOfAnEndedRun(t *testing.T) {
	s := newSite(t, web.Config{})
	s.run(store.Run{ID: "R1", State: store.Failed})
	s.log("R1", "a\n", "b\n")
	body := s.page("/runs/R1/events?from=1")
	s.wants(body, "id: 2", `{"text":"b\n"}`, "event: end")
	if strings.Contains(body, `"a`) {
		t.Errorf("what the browser has was sent again:\n%s", body)
	}
}

// An unknown run is still being found out about.
func TestEventsOfAnUnknownRunGoOn(t *testing.T) {
	s := newSite(t, web.Config{Poll: time.Millisecond, Heartbeat: 3 * time.Millisecond})
	server := httptest.NewServer(s.handler)
	t.Cleanup(server.Close)
	r := s.run(store.Run{ID: "R1", State: store.Unknown})
	f := follow(t, server, "/runs/R1/events", "")
	f.want("state", "", "state", "unknown")
	if e, ok := f.next(); !ok || e.comment == "" {
		t.Errorf("%+v is no heartbeat", e)
	}
	s.update(r, store.Applied, "")
	for {
		e, ok := f.next()
		if !ok {
			t.Fatal("ended without saying so")
		}
		if e.name == "end" {
			break
		}
	}
}

func TestEventsAreBounded(t *testing.T) {
	s := newSite(t, web.Config{Poll: time.Millisecond, MaxStreams: 1})
	server := httptest.NewServer(s.handler)
	t.Cleanup(server.Close)
	s.run(store.Run{ID: "R1", State: store.Running})
	first := follow(t, server, "/runs/R1/events", "")
	first.want("state", "", "state", "running")
	if w := s.get("/runs/R1/events"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d", w.Code)
	}
	s.wants(s.page("/metrics"), "holdfast_log_streams 1")
}
