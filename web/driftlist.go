package web

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Bounds of lists of drift.
const (
	pageDrift = 500  // workspaces on a page
	maxDrift  = 1000 // workspaces in one answer of the API
	maxLooked = 1000 // workspaces whose check is read for what rules leave alone
)

// driftPage lists the workspaces that are not simply in sync.
type driftPage struct {
	Tallies  []tally
	Sentence string // where nothing drifted
	Where    string // the repository, where only one is asked for
	Rows     []standing
	First    int // numbers of the rows, from 1
	Last     int
	Total    int
	Next     string // the address of the next page
	Unlooked bool   // not all that rules leave alone was looked up
}

func (s *server) driftList(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	from := 0
	if err := numberIn(q, "from", 1<<31-1, &from); err != nil {
		s.fail(w, r, err)
		return
	}
	all, err := s.standings(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	all = slices.DeleteFunc(all, func(d standing) bool { return !d.matches(q.Get("repository"), nil) })
	page := driftPage{Where: q.Get("repository")}
	if page.Unlooked, err = s.lookUpIgnored(r.Context(), all); err != nil {
		s.fail(w, r, err)
		return
	}
	page.Tallies, page.Sentence = driftTallies(all), driftSentence(all)
	rows := slices.DeleteFunc(all, func(d standing) bool { return d.rank() == fine || !d.matches("", q["state"]) })
	worstFirst(rows)
	page.Total = len(rows)
	from = min(max(from-1, 0), len(rows))
	page.Rows = rows[from:min(len(rows), from+pageDrift)]
	page.First, page.Last = from+1, from+len(page.Rows)
	if page.Last < page.Total {
		q.Set("from", strconv.Itoa(page.Last+1))
		page.Next = "?" + q.Encode()
	}
	s.render(w, http.StatusOK, "drift", page)
}

// worstFirst sorts what wants attention to the beginning, and what somebody
// knows of behind the rest of its kind.
func worstFirst(all []standing) {
	slices.SortStableFunc(all, func(a, b standing) int {
		return cmp.Or(cmp.Compare(b.rank(), a.rank()), yesFirst(a.Overdue, b.Overdue),
			yesFirst(a.Drift.Now.Known() == nil, b.Drift.Now.Known() == nil),
			cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Name, b.Name))
	})
}

// driftTallies counts what is said of workspaces, the worst first.
func driftTallies(all []standing) []tally {
	n := map[string]int{}
	for _, d := range all {
		for _, word := range d.Words() {
			n[word]++
		}
		if d.Checks > 0 {
			n["failing_checks"]++
		}
		if len(d.Ignored) > 0 {
			n["ignored_drift"]++
		}
	}
	var out []tally
	for _, word := range []string{"contested", "drifted", "overdue", "unknown", "failing_checks", "ignored_drift", "in_sync"} {
		if n[word] > 0 {
			out = append(out, tally{word, n[word]})
		}
	}
	return out
}

// driftSentence says that nothing drifted, and is empty where something did or
// nobody knows.
func driftSentence(all []standing) string {
	if len(all) == 0 {
		return "Nothing is known yet. Workspaces appear here with their first check."
	}
	synced := 0
	for _, d := range all {
		if d.rank() > noted {
			return ""
		}
		if d.State == "in_sync" {
			synced++
		}
	}
	total := strconv.Itoa(len(all)) + " " + plural(len(all), "workspace", "workspaces")
	if synced == len(all) {
		return "Everything is in sync: the cloud is as Git says in " + total + "."
	}
	return "No drift is known. Of " + total + ", " + strconv.Itoa(synced) + " " + plural(synced, "is", "are") +
		" in sync; the others wait for an apply, or for somebody who decides."
}

// driftAnswer is a workspace's drift in the API.
type driftAnswer struct {
	Repository  string       `json:"repository"`
	Workspace   string       `json:"workspace"`
	State       string       `json:"state"`
	Class       string       `json:"class,omitempty"`
	Overdue     bool         `json:"overdue,omitempty"`
	Contested   time.Time    `json:"contested,omitzero"` // since when
	Now         *episode     `json:"now,omitempty"`
	Past        []episode    `json:"past,omitempty"` // the latest first
	Corrections []correction `json:"corrections,omitempty"`
	Ignores     []rule       `json:"ignores,omitempty"` // made in comments
	Ticket      ticket       `json:"ticket,omitzero"`
	Proposal    *proposal    `json:"proposal,omitempty"`
}

func (d standing) answer() driftAnswer {
	out := driftAnswer{
		Repository: d.Repository, Workspace: d.Name, State: d.State, Class: d.Class, Overdue: d.Overdue,
		Contested: d.Drift.Contested, Now: d.Drift.Now, Past: d.Drift.Past, Corrections: d.Drift.Corrections,
		Ignores: d.Drift.Ignores, Ticket: d.Drift.Ticket,
	}
	if p := d.Drift.Proposal; p.Digest != "" {
		out.Proposal = &p
	}
	return out
}

// apiDriftList lists the workspaces that have drifted, now or earlier, by
// repository and name. The query has repository, state (repeatable: a
// workspace's state, contested or overdue), after (REPOSITORY/WORKSPACE, for
// paging) and limit.
func (s *server) apiDriftList(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit := pageDrift
	if err := numberIn(q, "limit", maxDrift, &limit); err != nil {
		s.fail(w, r, err)
		return
	}
	all, err := s.standings(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := []driftAnswer{}
	for _, d := range all {
		has := d.Drift.Now != nil || len(d.Drift.Past) > 0
		if has && d.matches(q.Get("repository"), q["state"]) && workspaceID(d.Repository, d.Name) > q.Get("after") && len(out) < limit {
			out = append(out, d.answer())
		}
	}
	writeJSON(w, http.StatusOK, out)
}

// apiDrift is one workspace's drift.
func (s *server) apiDrift(w http.ResponseWriter, r *http.Request) {
	d, err := s.standing(r.Context(), r.PathValue("path"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, d.answer())
}
