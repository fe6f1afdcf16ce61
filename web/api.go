package web

import (
	"net/http"
	"strings"

	"holdfast/store"
)

func isAPI(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/") }

// apiRuns lists runs, newest first; see runFilter for the query.
func (s *server) apiRuns(w http.ResponseWriter, r *http.Request) {
	f, err := runFilter(r.URL.Query())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	runs, err := s.Store.Runs.List(r.Context(), f)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if runs == nil {
		runs = []store.Run{}
	}
	writeJSON(w, http.StatusOK, runs)
}

// apiRun is one run with its changes as text. The plan itself stays in the
// store: it has sensitive values.
func (s *server) apiRun(w http.ResponseWriter, r *http.Request) {
	run, err := s.Store.Runs.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	p, err := s.loadPlan(r.Context(), run.ID+"/plan.json")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := struct {
		store.Run
		Diff string `json:"diff,omitempty"`
	}{Run: run}
	if p != nil {
		out.Diff = s.Diff(p)
	}
	writeJSON(w, http.StatusOK, out)
}

// apiWorkspaces lists workspaces by repository and name.
func (s *server) apiWorkspaces(w http.ResponseWriter, r *http.Request) {
	all, err := s.workspaces(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, all)
}
