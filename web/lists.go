package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"holdfast/store"
	"holdfast/vcs"
)

// Numbers of runs on a page.
const (
	recentRuns = 25
	pageRuns   = 100
	maxRuns    = 1000 // of one answer of the API
)

// runRow is a run in a list.
type runRow struct {
	store.Run
	R result
}

func (s *server) rows(runs []store.Run) []runRow {
	out := make([]runRow, len(runs))
	for i, r := range runs {
		out[i] = runRow{r, s.parseResult(r)}
	}
	return out
}

// group is a repository's workspaces.
type group struct {
	Repository string
	Workspaces []workspaceRecord
}

// tally is how many workspaces are in a state.
type tally struct {
	State string
	N     int
}

func (s *server) overview(w http.ResponseWriter, r *http.Request) {
	all, err := s.workspaces(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	runs, err := s.Store.Runs.List(r.Context(), store.RunFilter{Limit: recentRuns})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, http.StatusOK, "overview", struct {
		Tallies []tally
		Groups  []group
		Runs    []runRow
		Full    bool
	}{tallies(all), groups(all, s.Repositories()), s.rows(runs), len(runs) == recentRuns})
}

// order is how urgently a state wants to be seen.
func order(state string) int {
	return slices.Index([]string{"in_sync", "pending", "applying", "unknown", "drifted", "held", "overdue"}, state)
}

func tallies(all []workspaceRecord) []tally {
	n := map[string]int{}
	for _, w := range all {
		n[w.State]++
		if w.Overdue {
			n["overdue"]++
		}
	}
	out := make([]tally, 0, len(n))
	for state, count := range n {
		out = append(out, tally{state, count})
	}
	slices.SortFunc(out, func(a, b tally) int {
		return cmp.Or(cmp.Compare(order(b.State), order(a.State)), cmp.Compare(a.State, b.State))
	})
	return out
}

// yesFirst sorts those first for which something holds.
func yesFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// groups sorts workspaces into repositories, what wants attention first, and
// adds the repositories that have none yet.
func groups(all []workspaceRecord, repositories []string) []group {
	by := map[string][]workspaceRecord{}
	for _, name := range repositories {
		by[name] = nil
	}
	for _, w := range all {
		by[w.Repository] = append(by[w.Repository], w)
	}
	out := make([]group, 0, len(by))
	for name, workspaces := range by {
		slices.SortFunc(workspaces, func(a, b workspaceRecord) int {
			return cmp.Or(yesFirst(a.Overdue, b.Overdue), cmp.Compare(order(b.State), order(a.State)), cmp.Compare(a.Name, b.Name))
		})
		out = append(out, group{name, workspaces})
	}
	slices.SortFunc(out, func(a, b group) int { return cmp.Compare(a.Repository, b.Repository) })
	return out
}

// runsPage lists runs.
type runsPage struct {
	Title string
	Where string // of what, in words
	Link  string // to the pull request on its host
	Host  string // the name of that host
	Runs  []runRow
	Older string // the address of the next page
}

func (s *server) runList(w http.ResponseWriter, r *http.Request) {
	f, err := runFilter(r.URL.Query())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	page := runsPage{Title: "Runs"}
	if f.Workspace != "" {
		page.Title = f.Workspace
	}
	page.Where = f.Repository
	s.listRuns(w, r, f, page)
}

// pull shows all runs of one pull request: /pulls/HOST/OWNER/NAME/NUMBER.
func (s *server) pull(w http.ResponseWriter, r *http.Request) {
	path := r.PathValue("path")
	cut := strings.LastIndexByte(path, '/')
	if cut < 0 {
		s.notFound(w, r)
		return
	}
	number, err := strconv.Atoi(path[cut+1:])
	repository, badName := vcs.ParseRepository(path[:cut])
	if err != nil || number <= 0 || badName != nil {
		s.notFound(w, r)
		return
	}
	page := runsPage{Title: "Pull request #" + strconv.Itoa(number), Where: repository.String(), Host: repository.Host}
	page.Link = weblink(s.PullURL(repository.String(), number))
	f := store.RunFilter{Repository: repository.String(), PullRequest: number, Before: r.URL.Query().Get("before")}
	s.listRuns(w, r, f, page)
}

func (s *server) listRuns(w http.ResponseWriter, r *http.Request, f store.RunFilter, page runsPage) {
	f.Limit = pageRuns
	runs, err := s.Store.Runs.List(r.Context(), f)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	page.Runs = s.rows(runs)
	if len(runs) == pageRuns {
		q := r.URL.Query()
		q.Set("before", runs[len(runs)-1].ID)
		page.Older = "?" + q.Encode()
	}
	s.render(w, http.StatusOK, "runs", page)
}

// runFilter reads a query: repository, workspace, pull_request, kind, commit,
// state (repeatable), before and limit.
func runFilter(q url.Values) (store.RunFilter, error) {
	f := store.RunFilter{
		Repository: q.Get("repository"), Workspace: q.Get("workspace"),
		Kind: store.Kind(q.Get("kind")), Commit: q.Get("commit"), Before: q.Get("before"),
	}
	for _, state := range q["state"] {
		f.States = append(f.States, store.State(state))
	}
	if err := numberIn(q, "pull_request", 1<<31-1, &f.PullRequest); err != nil {
		return f, err
	}
	return f, numberIn(q, "limit", maxRuns, &f.Limit)
}

// numberIn reads a number from 1 to most out of a query; into stays as it is
// where there is none.
func numberIn(q url.Values, name string, most int, into *int) error {
	if !q.Has(name) {
		return nil
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil || n < 1 || n > most {
		return errBadRequest(name + " must be a number from 1 to " + strconv.Itoa(most) + ".")
	}
	*into = n
	return nil
}
