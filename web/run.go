package web

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/store"
)

// Bounds of what one page shows of a run.
const (
	pageLog   = 256 << 10 // bytes of the log's end; the rest is in the whole log
	pageAudit = 500       // entries of the repository that are looked through
)

// runPage is one run.
type runPage struct {
	store.Run
	R        result
	Live     bool
	Events   string // the address that a live log is followed at
	Diff     []span
	Reviewed []span // the plan that was reviewed, where this one differs
	PlanLost bool   // the plan could not be read
	Log      string
	LogCut   bool
	Removed  string // when plan and log were removed by their age; empty: they were not
	Audit    []store.Entry
}

// removed says after how long a run's plan and log were removed; empty where
// they were not.
func removed(run store.Run, r result) string {
	if r.Removed.IsZero() {
		return ""
	}
	days := int(r.Removed.Sub(run.EndedAt) / (24 * time.Hour))
	return fmt.Sprintf("The plan and the log of this run were removed %d days after it ended, as the server's settings say (retention).", days)
}

func (s *server) run(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	run, err := s.Store.Runs.Get(ctx, r.PathValue("id"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	page := runPage{Run: run, R: s.parseResult(run), Live: !run.State.Ended()}
	page.Removed = removed(run, page.R)
	page.Diff = s.diff(r, run.ID+"/plan.json", &page.PlanLost)
	if page.R.Reviewed != "" && run.State == store.Held {
		page.Reviewed = s.diff(r, page.R.Reviewed+"/plan.json", &page.PlanLost)
	}
	chunks, err := s.Store.Artifacts.Chunks(ctx, run.ID+"/log", 0)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	page.Log, page.LogCut = tail(chunks)
	page.Events = s.prefix + runPath(run.ID) + "/events?" + url.Values{"from": {strconv.Itoa(len(chunks))}}.Encode()
	entries, err := s.Store.Audit.List(ctx, run.Repository, pageAudit)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	for _, e := range entries {
		if e.Run == run.ID {
			page.Audit = append(page.Audit, e)
		}
	}
	s.render(w, http.StatusOK, "run", page)
}

// diff renders a stored plan. One that cannot be read spoils its own part of
// the page only.
func (s *server) diff(r *http.Request, key string, lost *bool) []span {
	p, err := s.loadPlan(r.Context(), key)
	if err != nil {
		s.Logger.Error("plan not shown", "key", key, "error", err)
		*lost = true
		return nil
	}
	if p == nil {
		return nil
	}
	return colour(clean(s.Diff(p)))
}

// tail is the end of a log, from the beginning of a line.
func tail(chunks [][]byte) (text string, cut bool) {
	var c cleaner
	var b strings.Builder
	for _, chunk := range chunks {
		b.WriteString(c.next(chunk))
	}
	text = b.String()
	if len(text) <= pageLog {
		return text, false
	}
	text = text[len(text)-pageLog:]
	if _, after, ok := strings.Cut(text, "\n"); ok {
		text = after
	}
	return strings.ToValidUTF8(text, ""), true
}

// runLog is the whole log as plain text.
func (s *server) runLog(w http.ResponseWriter, r *http.Request) {
	run, err := s.Store.Runs.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	chunks, err := s.Store.Artifacts.Chunks(r.Context(), run.ID+"/log", 0)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if why := removed(run, s.parseResult(run)); why != "" && len(chunks) == 0 {
		w.WriteHeader(http.StatusGone)
		io.WriteString(w, why+"\n")
		return
	}
	var c cleaner
	for _, chunk := range chunks {
		io.WriteString(w, c.next(chunk))
	}
}
