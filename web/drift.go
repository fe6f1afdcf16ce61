package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/watch"
)

// driftRecord is what the runner keeps under "drift/REPOSITORY/NAME".
type driftRecord struct {
	Repository  string       `json:"repository"`
	Name        string       `json:"name"`
	Now         *episode     `json:"now"`  // nil where there is no drift
	Past        []episode    `json:"past"` // the latest first
	Corrections []correction `json:"corrections"`
	Contested   time.Time    `json:"contested"` // since when
	Ignores     []rule       `json:"ignores"`
	Ticket      ticket       `json:"ticket"`
	Proposal    proposal     `json:"proposal"`
}

// episode is one drift from when it was found to when it was gone.
type episode struct {
	Began        time.Time              `json:"began"`
	Before       time.Time              `json:"before,omitzero"` // the last check that found it in sync
	Ended        time.Time              `json:"ended,omitzero"`
	Run          string                 `json:"run"` // the check that found it as it is
	Commit       string                 `json:"commit,omitempty"`
	Class        plan.Class             `json:"class"`
	Digest       string                 `json:"digest,omitempty"`
	Resources    []plan.DriftedResource `json:"resources,omitempty"`
	More         int                    `json:"more,omitempty"` // resources that are not kept
	Ignored      []plan.IgnoredDrift    `json:"ignored,omitempty"`
	Who          []watch.Answer         `json:"who,omitempty"`
	Blocked      []gate                 `json:"blocked,omitempty"`
	Acknowledged *acknowledged          `json:"acknowledged,omitempty"`
	Corrected    string                 `json:"corrected,omitempty"` // the run that undid it
	Fixed        string                 `json:"fixed,omitempty"`     // how it ended, in words
	Notes        []string               `json:"notes,omitempty"`     // what the check noted, in sentences
}

// Known says who knows of exactly this drift; nil where nobody does.
func (e *episode) Known() *acknowledged {
	if e == nil || e.Acknowledged == nil || e.Acknowledged.Digest != e.Digest {
		return nil
	}
	return e.Acknowledged
}

// Table is what drifted.
func (e *episode) Table() driftTable { return tableOf(e.Resources, e.More) }

// acknowledged is a person's word that drift is known.
type acknowledged struct {
	Who    string    `json:"who"`
	At     time.Time `json:"at"`
	Why    string    `json:"why,omitempty"`
	Digest string    `json:"digest,omitempty"`
}

// gate is one reason for which drift is not corrected without a person.
type gate struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// correction is one that changed the cloud, or may have.
type correction struct {
	Run        string      `json:"run"`
	At         time.Time   `json:"at"`
	State      store.State `json:"state"`
	Attributes []string    `json:"attributes"` // "ADDRESS ATTRIBUTE"
}

// rule is one for drift that is left alone, made in a comment.
type rule struct {
	Address    string    `json:"address"`
	Attributes []string  `json:"attributes,omitempty"` // none means all of them
	Reason     string    `json:"reason"`
	Until      time.Time `json:"until,omitzero"` // zero: no end
	By         string    `json:"by,omitempty"`
}

func (r rule) ended(now time.Time) bool { return !r.Until.IsZero() && !now.Before(r.Until) }

// ticket is the issue on the host that tells of the drift.
type ticket struct {
	Number int    `json:"number,omitempty"` // 0: none was opened
	URL    string `json:"url,omitempty"`
	Open   bool   `json:"open,omitempty"`
}

// proposal is the pull request that takes the drift into the configuration.
type proposal struct {
	Digest  string   `json:"digest,omitempty"` // of the drift that it is about
	Run     string   `json:"run,omitempty"`
	Branch  string   `json:"branch,omitempty"`
	Number  int      `json:"number,omitempty"` // 0 on plain Git, where Branch is all
	URL     string   `json:"url,omitempty"`
	Open    bool     `json:"open,omitempty"`
	Refused []string `json:"refused,omitempty"` // what could not be written, in sentences
}

const (
	driftPrefix      = "drift/"
	repositoryPrefix = "repository/"
)

// workspaceID names a workspace in the keys of records. A record that cannot be read
// has only a name, which is all of its key.
func workspaceID(repository, name string) string {
	if repository == "" {
		return name
	}
	return repository + "/" + name
}

// standing is a workspace with its drift.
type standing struct {
	workspaceRecord
	Drift   driftRecord
	Ignored []plan.IgnoredDrift // what rules leave alone now, as far as it was looked up
}

// How bad a workspace's standing is.
const (
	fine   = iota // or somebody else's matter: an apply's, a pull request's
	noted         // rules leave drift alone, or the configuration's checks fail
	unsure        // nobody knows whether there is drift
	adrift
	fought // something keeps changing back what is corrected
)

func (d standing) rank() int {
	switch {
	case d.IsContested():
		return fought
	case d.drifted():
		return adrift
	case d.Overdue || d.Failures > 0 || d.State == "unknown":
		return unsure
	case len(d.Ignored) > 0 || d.Checks > 0:
		return noted
	}
	return fine
}

func (d standing) drifted() bool { return d.Drift.Now != nil || d.State == "drifted" }

// IsContested reports whether something keeps changing back what is corrected.
func (d standing) IsContested() bool { return !d.Drift.Contested.IsZero() }

// Words are all that is said of a standing in a word each, the worst first.
func (d standing) Words() (out []string) {
	if d.IsContested() {
		out = append(out, "contested")
	}
	if d.Overdue {
		out = append(out, "overdue")
	}
	if d.drifted() {
		out = append(out, "drifted")
	}
	if d.State != "" && d.State != "drifted" {
		out = append(out, d.State)
	}
	return out
}

// Kind is the class of the drift, or else of the latest check.
func (d standing) Kind() string {
	if d.Drift.Now != nil {
		return string(d.Drift.Now.Class)
	}
	return d.Class
}

// Proposal is the pull request that is about the drift that there is.
func (d standing) Proposal() *proposal {
	if p := d.Drift.Proposal; d.Drift.Now != nil && p.Digest != "" && p.Digest == d.Drift.Now.Digest {
		return &p
	}
	return nil
}

// parseDrift reads a record of drift. Of one that cannot be read the workspace
// is shown as unknown rather than left out.
func (s *server) parseDrift(r store.Record, d *standing) {
	err := json.Unmarshal(r.Value, &d.Drift)
	if err == nil && d.Drift.Repository != "" && d.Drift.Name != "" {
		if d.Name == "" { // it has no other record
			d.Repository, d.Name = d.Drift.Repository, d.Drift.Name
			if d.Drift.Now != nil {
				d.State = "drifted"
			}
		}
		return
	}
	s.Logger.Warn("drift record cannot be read", "key", r.Key, "error", err)
	d.Drift = driftRecord{}
	if d.Name == "" {
		d.Name = strings.TrimPrefix(r.Key, driftPrefix)
	}
	d.State, d.Error = "unknown", "the record of its drift cannot be read"
}

// standings returns all workspaces with their drift, by the keys of their
// records.
func (s *server) standings(ctx context.Context) ([]standing, error) {
	known, err := s.workspaces(ctx)
	if err != nil {
		return nil, err
	}
	records, err := s.Store.Records.List(ctx, driftPrefix)
	if err != nil {
		return nil, fmt.Errorf("list drift: %w", err)
	}
	all := make([]standing, len(known))
	at := make(map[string]int, len(known))
	for i, w := range known {
		all[i].workspaceRecord = w
		at[workspaceID(w.Repository, w.Name)] = i
	}
	for _, r := range records {
		i, ok := at[strings.TrimPrefix(r.Key, driftPrefix)]
		if !ok {
			i = len(all)
			all = append(all, standing{})
		}
		s.parseDrift(r, &all[i])
	}
	slices.SortStableFunc(all, func(a, b standing) int {
		return strings.Compare(workspaceID(a.Repository, a.Name), workspaceID(b.Repository, b.Name))
	})
	return all, nil
}

// standing returns one workspace by HOST/OWNER/NAME/WORKSPACE, which only the
// records' keys can tell apart: owners and workspaces may have slashes. The
// repository alone means the workspace of its root directory. Returns
// store.ErrNotFound for one that is not known.
func (s *server) standing(ctx context.Context, path string) (d standing, err error) {
	for _, key := range []string{path, path + "/."} {
		known, err := s.record(ctx, workspacePrefix+key)
		if err != nil {
			return d, err
		}
		drift, err := s.record(ctx, driftPrefix+key)
		if err != nil {
			return d, err
		}
		if known == nil && drift == nil {
			continue
		}
		if known != nil {
			d.workspaceRecord = s.parseWorkspace(*known)
		}
		if drift != nil {
			s.parseDrift(*drift, &d)
		}
		return d, nil
	}
	return d, store.ErrNotFound
}

// record reads a record; nil where there is none.
func (s *server) record(ctx context.Context, key string) (*store.Record, error) {
	r, err := s.Store.Records.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return &r, nil
}

// lookUpIgnored fills in what rules leave alone in workspaces without drift. It
// is only in the results of their checks, so only workspaces that have rules
// are looked up, and maxLooked of them; more says whether that was not all.
func (s *server) lookUpIgnored(ctx context.Context, all []standing) (more bool, err error) {
	ruled, err := s.ruled(ctx)
	if err != nil {
		return false, err
	}
	looked := 0
	for i := range all {
		d := &all[i]
		if now := d.Drift.Now; now != nil {
			d.Ignored = now.Ignored
			continue
		}
		if d.CheckRun == "" || len(d.Drift.Ignores) == 0 && !ruled[workspaceID(d.Repository, d.Name)] {
			continue
		}
		if looked == maxLooked {
			more = true
			continue
		}
		looked++
		found, err := s.latestCheck(ctx, d.Repository, d.Name)
		if err != nil {
			return false, err
		}
		if found.Drift != nil {
			d.Ignored = found.Drift.Ignored
		}
	}
	return more, nil
}

// ruled are the workspaces whose configuration has rules for drift.
func (s *server) ruled(ctx context.Context) (map[string]bool, error) {
	records, err := s.Store.Records.List(ctx, repositoryPrefix)
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	out := map[string]bool{}
	for _, r := range records {
		var known struct {
			Workspaces []struct {
				Name  string `json:"name"`
				Drift struct {
					Ignore []json.RawMessage `json:"ignore"`
				} `json:"drift"`
			} `json:"workspaces"`
		}
		if err := json.Unmarshal(r.Value, &known); err != nil {
			s.Logger.Warn("repository record cannot be read", "key", r.Key, "error", err)
			continue
		}
		for _, w := range known.Workspaces {
			if len(w.Drift.Ignore) > 0 {
				out[workspaceID(strings.TrimPrefix(r.Key, repositoryPrefix), w.Name)] = true
			}
		}
	}
	return out, nil
}

// latestCheck is what the latest check of a workspace that has ended found;
// empty where there is none.
func (s *server) latestCheck(ctx context.Context, repository, name string) (result, error) {
	if repository == "" { // a record that cannot be read
		return result{}, nil
	}
	runs, err := s.Store.Runs.List(ctx, store.RunFilter{
		Repository: repository, Workspace: name, Kind: store.KindDrift,
		States: []store.State{store.NoChanges, store.Planned, store.Failed}, Limit: 1,
	})
	if err != nil || len(runs) == 0 {
		return result{}, err
	}
	return s.parseResult(runs[0]), nil
}

// matches reports whether a standing is of a repository and is said to be one
// of some things; nothing asked for matches everything.
func (d standing) matches(repository string, states []string) bool {
	if repository != "" && d.Repository != repository {
		return false
	}
	return len(states) == 0 || slices.ContainsFunc(states, func(s string) bool { return slices.Contains(d.Words(), s) })
}
