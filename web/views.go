package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"holdfast/runner/plan"
	"holdfast/store"
)

// result is what the runner writes into store.Run.Result.
type result struct {
	Summary    plan.Summary      `json:"summary"`
	Digest     string            `json:"digest"`
	Comparison *plan.Comparison  `json:"comparison"`
	Reviewed   string            `json:"reviewed"` // the run whose plan was reviewed
	Drift      *plan.DriftReport `json:"drift"`
	Corrects   []string          `json:"corrects"` // "ADDRESS ATTRIBUTE", of a correction
	Gates      []gate            `json:"gates"`    // what kept it from that
	Engine     string            `json:"engine"`
	Notes      []string          `json:"notes"`
	Removed    time.Time         `json:"removed,omitzero"` // when plan and log were, by their age
}

// workspaceRecord is what the runner keeps under "workspace/REPOSITORY/NAME".
type workspaceRecord struct {
	Repository    string    `json:"repository"`
	Name          string    `json:"name"`
	Dir           string    `json:"dir"`
	Correct       string    `json:"correct,omitempty"` // drift.correct: off, propose, apply
	State         string    `json:"state"`             // in_sync, drifted, pending, applying, held, unknown
	AppliedCommit string    `json:"applied_commit,omitempty"`
	AppliedInputs string    `json:"applied_inputs,omitempty"`
	AppliedAt     time.Time `json:"applied_at,omitzero"`
	CheckedAt     time.Time `json:"checked_at,omitzero"`
	CheckRun      string    `json:"check_run,omitempty"`
	GoodAt        time.Time `json:"good_at,omitzero"`   // the last check that could tell
	SyncedAt      time.Time `json:"synced_at,omitzero"` // the last that found it in sync
	Overdue       bool      `json:"overdue,omitempty"`  // the last good check is too old
	Failures      int       `json:"failures,omitempty"` // checks that failed one after another
	RetryAt       time.Time `json:"retry_at,omitzero"`  // of the next; zero: with the schedule
	Checks        int       `json:"checks,omitempty"`   // the configuration's own that fail
	Class         string    `json:"class,omitempty"`
	Error         string    `json:"error,omitempty"`
}

const workspacePrefix = "workspace/"

// workspaces returns what is known of all workspaces, by key. A record that
// cannot be read is shown as unknown rather than left out.
func (s *server) workspaces(ctx context.Context) ([]workspaceRecord, error) {
	records, err := s.Store.Records.List(ctx, workspacePrefix)
	if err != nil {
		return nil, fmt.Errorf("list workspaces: %w", err)
	}
	out := make([]workspaceRecord, 0, len(records))
	for _, r := range records {
		out = append(out, s.parseWorkspace(r))
	}
	return out, nil
}

func (s *server) parseWorkspace(r store.Record) workspaceRecord {
	var w workspaceRecord
	if err := json.Unmarshal(r.Value, &w); err != nil || w.Repository == "" || w.Name == "" {
		s.Logger.Warn("workspace record cannot be read", "key", r.Key, "error", err)
		w = workspaceRecord{Name: strings.TrimPrefix(r.Key, workspacePrefix), State: "unknown", Error: "its record cannot be read"}
	}
	return w
}

// parseResult reads a run's result; one that cannot be read is empty.
func (s *server) parseResult(r store.Run) result {
	var out result
	if len(r.Result) == 0 {
		return out
	}
	if err := json.Unmarshal(r.Result, &out); err != nil {
		s.Logger.Warn("result of a run cannot be read", "run", r.ID, "error", err)
		return result{}
	}
	return out
}

// loadPlan reads a plan that the runner left; nil where there is none.
func (s *server) loadPlan(ctx context.Context, key string) (*plan.Plan, error) {
	data, err := s.Store.Artifacts.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	var p plan.Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return &p, nil
}

// Count is a number of resources with what happens to them.
type count struct {
	Class, Sign, Word string
	N                 int
}

// counts lists what a summary counts, without zeros.
func counts(s plan.Summary) []count {
	all := []count{
		{"add", "+", "to add", s.Add},
		{"chg", "~", "to change", s.Change},
		{"rep", "±", "to replace", s.Replace},
		{"del", "−", "to destroy", s.Destroy},
		{"del", "×", "to forget", s.Forget},
		{"add", "↓", "to import", s.Import},
		{"chg", "→", "to move", s.Move},
		{"out", "", plural(s.Outputs, "output", "outputs"), s.Outputs},
	}
	kept := all[:0]
	for _, c := range all {
		if c.N > 0 {
			kept = append(kept, c)
		}
	}
	return kept
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// span is a stretch of diff lines of one colour.
type span struct{ Class, Text string }

// colour groups a diff's lines by the mark in their first column.
func colour(diff string) []span {
	var out []span
	for line := range strings.Lines(diff) {
		class := ""
		switch line[0] {
		case '+':
			class = "add"
		case '-':
			class = "del"
		case '!', '~':
			class = "chg"
		default:
			if strings.HasPrefix(strings.TrimLeft(line, " "), "#") {
				class = "cmt"
			}
		}
		if last := len(out) - 1; last >= 0 && out[last].Class == class {
			out[last].Text += line
			continue
		}
		out = append(out, span{class, line})
	}
	return out
}

// words are how states, kinds and classes read on a page. What the runner does
// not know is cleaned as all else.
func words(s string) string {
	switch s {
	case string(plan.CloudChange):
		return "changed in the cloud"
	case string(plan.UnappliedCommit):
		return "commit not applied"
	case string(plan.CheckError):
		return "check failed"
	}
	return strings.ReplaceAll(clean(s), "_", " ")
}

func short(sha string) string {
	if len(sha) > 10 {
		return sha[:10]
	}
	return sha
}

// ago says how long before now t is, in the largest unit that fits.
func ago(now, t time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "never"
	case d < 0:
		return t.UTC().Format("2 Jan 15:04")
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(d.Hours()/24))
	}
}

// took is how long a run lasted, or has lasted until now.
func took(now time.Time, r store.Run) string {
	if r.StartedAt.IsZero() {
		return ""
	}
	end := r.EndedAt
	if end.IsZero() {
		end = now
	}
	d := max(end.Sub(r.StartedAt), 0)
	if d < time.Minute {
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	}
	return d.Round(time.Second).String()
}

// The paths of pages, without the prefix.

func runPath(id string) string { return "/runs/" + url.PathEscape(id) }

func pullPath(repository string, number int) string {
	return "/pulls/" + escapeParts(repository) + "/" + strconv.Itoa(number)
}

// driftPath is the path of a workspace's drift history. A name that a path
// cannot have has only its list of runs.
func driftPath(repository, name string) string {
	p := workspaceID(repository, name)
	if name == "." && repository != "" {
		p = repository // browsers drop a part that is a dot
	}
	if path.Clean("/"+p) != "/"+p {
		return workspacePath(repository, name)
	}
	return "/drift/" + escapeParts(p)
}

// escapeParts escapes what is between a path's slashes.
func escapeParts(p string) string {
	parts := strings.Split(p, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}

func workspacePath(repository, name string) string {
	return "/runs?" + url.Values{"repository": {repository}, "workspace": {name}}.Encode()
}
