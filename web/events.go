package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"holdfast/store"
)

// writeTimeout is how long one write to a browser may take.
const writeTimeout = 30 * time.Second

// runEvents follows a run as server-sent events:
//
//	event: log    id: N   data: {"text":"…"}     N is the next chunk's index
//	event: state          data: {"state":"running","step":"plan"}
//	event: end            data: {"state":"planned"}
//
// A browser that reconnects, also after a restart of the server, sends the
// last id and goes on there: chunks are in the store, and their index never
// changes. The stream ends when the run has.
func (s *server) runEvents(w http.ResponseWriter, r *http.Request) {
	from, err := startAt(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	run, err := s.Store.Runs.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	select {
	case s.streams <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many logs are being followed; reload the page to see more of this one", http.StatusServiceUnavailable)
		return
	}
	s.metrics.streams.Inc()
	defer func() {
		<-s.streams
		s.metrics.streams.Dec()
	}()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back
	f := &follower{server: s, w: w, out: http.NewResponseController(w), key: run.ID + "/log", next: from}
	if err := f.follow(r.Context(), run.ID); err != nil && r.Context().Err() == nil {
		// The browser connects again and goes on where this ended.
		s.Logger.Warn("log stream ended early", "run", run.ID, "error", err)
	}
}

// startAt is the index of the first chunk that the browser lacks.
func startAt(r *http.Request) (int, error) {
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = r.URL.Query().Get("from")
	}
	if last == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(last)
	if err != nil || n < 0 {
		return 0, errBadRequest("from must be a number from 0.")
	}
	return n, nil
}

// follower is one browser that follows one run.
type follower struct {
	server *server
	w      http.ResponseWriter
	out    *http.ResponseController
	key    string
	next   int // index of the chunk to read next
	clean  cleaner
	shown  string    // the state event that was sent last
	sentAt time.Time // when anything was sent last
}

// follow sends what there is, then looks for more until the run has ended.
func (f *follower) follow(ctx context.Context, id string) error {
	if err := f.send("retry: 2000\n\n"); err != nil {
		return err
	}
	if err := f.prime(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(f.server.Poll)
	defer tick.Stop()
	for {
		// The run before its log: what was written before the end is then
		// there to be read.
		run, err := f.server.Store.Runs.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := f.log(ctx); err != nil {
			return err
		}
		if err := f.state(run); err != nil {
			return err
		}
		if run.State.Ended() {
			return f.event("end", "", map[string]string{"state": string(run.State)})
		}
		if time.Since(f.sentAt) >= f.server.Heartbeat {
			if err := f.send(": still here\n\n"); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// prime brings the cleaner to where the browser stopped: a chunk may have
// ended within a character.
func (f *follower) prime(ctx context.Context) error {
	if f.next == 0 {
		return nil
	}
	chunks, err := f.server.Store.Artifacts.Chunks(ctx, f.key, f.next-1)
	if err != nil {
		return err
	}
	if len(chunks) > 0 {
		f.clean.next(chunks[0])
	}
	return nil
}

func (f *follower) log(ctx context.Context) error {
	chunks, err := f.server.Store.Artifacts.Chunks(ctx, f.key, f.next)
	if err != nil {
		return err
	}
	for _, chunk := range chunks {
		f.next++
		text := f.clean.next(chunk)
		if text == "" {
			continue
		}
		if err := f.event("log", strconv.Itoa(f.next), map[string]string{"text": text}); err != nil {
			return err
		}
	}
	return nil
}

// state tells of the run's state where it is another than before.
func (f *follower) state(run store.Run) error {
	now := string(run.State) + " " + run.Step
	if now == f.shown {
		return nil
	}
	f.shown = now
	return f.event("state", "", map[string]string{"state": string(run.State), "words": words(string(run.State)), "step": clean(run.Step)})
}

// event sends one event. JSON keeps its data on one line.
func (f *follower) event(name, id string, data map[string]string) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	message := "event: " + name + "\n"
	if id != "" {
		message += "id: " + id + "\n"
	}
	return f.send(message + "data: " + string(text) + "\n\n")
}

func (f *follower) send(text string) error {
	// A browser that reads nothing must not hold its place for ever.
	if err := f.out.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := f.w.Write([]byte(text)); err != nil {
		return err
	}
	f.sentAt = time.Now()
	if err := f.out.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
