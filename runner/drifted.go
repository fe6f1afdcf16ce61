package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/watch"
	"holdfast/workspaces"
)

// Bounds of what is kept of a workspace's drift.
const (
	maxPast      = 50 // earlier drifts
	maxKept      = 50 // resources of one
	maxPastKept  = 20 // resources of an earlier one, and attributes of each
	maxSummary   = 2000
	maxIgnores   = 100
	flapWindow   = 24 * time.Hour
	maxCorrected = 500
)

// DriftRecord is what is known of a workspace's drift, stored under
// "drift/HOST/OWNER/NAME/WORKSPACE".
type DriftRecord struct {
	Repository string `json:"repository"`
	Name       string `json:"name"`
	// Now is the drift that there is; nil where the last check that could tell
	// found none.
	Now *Episode `json:"now,omitempty"`
	// Past are earlier ones, the latest first.
	Past []Episode `json:"past,omitempty"`
	// Corrections are those that changed something, the latest last. Those
	// within a day count against flap_limit.
	Corrections []Correction `json:"corrections,omitempty"`
	// Held is the latest correction that ended before an engine was started: a
	// gate stopped it at the last moment, or its plan failed.
	Held string `json:"held,omitempty"`
	// Contested is since when something keeps changing back what is corrected.
	Contested time.Time `json:"contested,omitzero"`
	// Ignores are the rules that people made in comments.
	Ignores []workspaces.Ignore `json:"ignores,omitempty"`
	Ticket  DriftTicket         `json:"ticket,omitzero"`
	// Proposal is the pull request that takes the drift into the configuration.
	Proposal Proposal `json:"proposal,omitzero"`
	// Untold are events that are not with the notifications yet.
	Untold []watch.Event `json:"untold,omitempty"`
	// Failing is set where the last check failed, and that was told.
	Failing bool `json:"failing,omitempty"`
	// Seen is the latest check that is accounted for here.
	Seen time.Time `json:"seen,omitzero"`
}

// Episode is one drift from when it was found to when it was gone.
type Episode struct {
	Began time.Time `json:"began"` // when a check found it
	// Since is when a check first found it as it is, by its digest.
	Since time.Time `json:"since,omitzero"`
	// Before is the last check that found the workspace in sync: the cloud was
	// changed after it. Zero where there was none.
	Before time.Time  `json:"before,omitzero"`
	Ended  time.Time  `json:"ended,omitzero"`
	Run    string     `json:"run"` // the check that found it as it is
	Commit string     `json:"commit,omitempty"`
	Class  plan.Class `json:"class"`
	Digest string     `json:"digest,omitempty"`
	// Resources are the first of those that drifted; More counts the others.
	Resources []plan.DriftedResource `json:"resources,omitempty"`
	More      int                    `json:"more,omitempty"`
	Ignored   []plan.IgnoredDrift    `json:"ignored,omitempty"`
	Who       []watch.Answer         `json:"who,omitempty"`
	// Asked is the digest of the drift that the attributors were asked about.
	Asked string `json:"asked,omitempty"`
	// Blocked are the gates that keep it from being corrected.
	Blocked []Gate `json:"blocked,omitempty"`
	// Acknowledged says who knows of it and wants no more news of it.
	Acknowledged *Acknowledged `json:"acknowledged,omitempty"`
	// Corrected is the run that undid it, and Fixed how it ended, for people.
	Corrected string `json:"corrected,omitempty"`
	Fixed     string `json:"fixed,omitempty"`
	// Notes are the sentences of the check that found it.
	Notes []string `json:"notes,omitempty"`
}

// Acknowledged is a person's word that drift is known.
type Acknowledged struct {
	Who    string    `json:"who"`
	At     time.Time `json:"at"`
	Why    string    `json:"why,omitempty"`
	Digest string    `json:"digest"`
}

// Correction is one correction that changed the cloud, or may have.
type Correction struct {
	Run        string      `json:"run"`
	At         time.Time   `json:"at"`
	State      store.State `json:"state"`
	Attributes []string    `json:"attributes"` // "ADDRESS ATTRIBUTE"
}

// driftName names the record of a workspace's drift.
func driftName(repo vcs.Repository, workspace string) string {
	return "drift/" + repo.String() + "/" + workspace
}

// changeDrift changes what is known of a workspace's drift, and returns it.
func (r *Runner) changeDrift(ctx context.Context, repo vcs.Repository, workspace string, f func(*DriftRecord)) (now DriftRecord, err error) {
	err = change(ctx, r, driftName(repo, workspace), func(rec *DriftRecord) {
		rec.Repository, rec.Name = repo.String(), workspace
		f(rec)
		now = *rec
	})
	return now, err
}

// quiet reports whether somebody knows of exactly this drift.
func (e *Episode) quiet() bool {
	return e != nil && e.Acknowledged != nil && e.Acknowledged.Digest == e.Digest
}

// at is the episode at a moment: the one that there is, or an earlier one. What
// is corrected at once is over before anybody is told of it.
func (d *DriftRecord) at(t time.Time) *Episode {
	if d.Now != nil && !t.Before(d.Now.Began) {
		return d.Now
	}
	for i := range d.Past {
		if e := &d.Past[i]; !t.Before(e.Began) && !t.After(e.Ended) {
			return e
		}
	}
	return nil
}

// observe takes in what a check found: drift that began, is another one, or is
// gone. A check that is older than what is known changes nothing.
func (d *DriftRecord) observe(run store.Run, result Result, report plan.DriftReport, before time.Time) {
	if !run.EndedAt.After(d.Seen) {
		return
	}
	d.Seen = run.EndedAt
	switch stateOf(report.Class) {
	case Drifted:
		d.drifted(run, result, report, before)
	case InSync:
		d.settle(run.EndedAt, "")
	case Pending:
		if result.Clean {
			d.settle(run.EndedAt, "")
		}
	}
}

// drifted begins an episode, or makes the one there is what the check found.
func (d *DriftRecord) drifted(run store.Run, result Result, report plan.DriftReport, before time.Time) {
	e := d.Now
	if e == nil {
		e = &Episode{Began: run.EndedAt, Before: before}
	}
	changed := e.Digest != result.DriftDigest
	e.Run, e.Commit, e.Class, e.Digest = run.ID, run.Commit, report.Class, result.DriftDigest
	e.Resources = report.Resources[:min(len(report.Resources), maxKept)]
	e.More, e.Ignored = report.More+len(report.Resources)-len(e.Resources), report.Ignored[:min(len(report.Ignored), maxKept)]
	e.Blocked = nil // asked again after each check, by what the team wants now
	if changed {
		e.Who, e.Since = nil, run.EndedAt // of what was there before
	}
	e.Notes = result.Notes[:min(len(result.Notes), 20)]
	d.Now = e
	if changed && !e.quiet() {
		d.tell(watch.Event{Kind: "drift", Run: run.ID, At: run.EndedAt, Class: string(report.Class), Summary: summaryOf(report)}, report)
	}
}

// settle ends the episode.
func (d *DriftRecord) settle(at time.Time, how string) {
	d.Contested = time.Time{}
	if d.Now == nil {
		return
	}
	e := *d.Now
	e.Ended, e.Blocked = at, nil
	if how == "" {
		how = "It was put right in the cloud, or a later commit asks for it as it is."
		if n := len(d.Corrections); n > 0 && d.Corrections[n-1].At.After(e.Began) && d.Corrections[n-1].State == store.Applied {
			e.Corrected = d.Corrections[n-1].Run
			how = "Holdfast corrected it."
		}
	}
	e.Fixed = how
	quiet := e.quiet()
	e.shorten()
	d.Now = nil
	d.Past = append([]Episode{e}, d.Past...)
	d.Past = d.Past[:min(len(d.Past), maxPast)]
	if !quiet {
		d.tell(watch.Event{Kind: "in_sync", Run: e.Run, At: at, Summary: how}, plan.DriftReport{})
	}
}

// shorten leaves what is worth keeping of drift that is over; the run's page has
// the rest.
func (e *Episode) shorten() {
	e.More += len(e.Resources) - min(len(e.Resources), maxPastKept)
	e.Resources = slices.Clone(e.Resources[:min(len(e.Resources), maxPastKept)])
	for i := range e.Resources {
		d := &e.Resources[i]
		d.Values, d.Attributes = nil, slices.Clip(d.Attributes[:min(len(d.Attributes), maxPastKept)])
	}
	e.Ignored = slices.Clone(e.Ignored[:min(len(e.Ignored), maxPastKept)])
	for i := range e.Ignored {
		e.Ignored[i].Attributes = slices.Clip(e.Ignored[i].Attributes[:min(len(e.Ignored[i].Attributes), maxPastKept)])
	}
	e.Who = e.Who[:min(len(e.Who), maxPastKept)]
}

// tell puts an event where the notifications are made from, once.
func (d *DriftRecord) tell(e watch.Event, report plan.DriftReport) {
	if slices.ContainsFunc(d.Untold, func(o watch.Event) bool { return o.Run == e.Run && o.Kind == e.Kind }) {
		return
	}
	e.Repository, e.Workspace, e.Summary = d.Repository, d.Name, watch.Clean(e.Summary, maxSummary)
	for _, r := range report.Resources[:min(len(report.Resources), 20)] {
		e.Resources = append(e.Resources, r.Address)
	}
	d.Untold = append(d.Untold, e)
	d.Untold = d.Untold[max(0, len(d.Untold)-100):]
}

// corrected takes in what became of a correction.
func (d *DriftRecord) corrected(run store.Run, result Result) {
	if slices.ContainsFunc(d.Corrections, func(c Correction) bool { return c.Run == run.ID }) || d.Held == run.ID {
		return
	}
	kind, summary := "corrected", "The drift was undone."
	switch run.State {
	case store.Failed, store.Unknown:
		kind, summary = "failed", "The correction failed: "+firstLine(run.Error)
	case store.Held:
		kind, summary = "held", run.Error
	case store.Applied:
	default:
		return // there was nothing to do, or nothing was done
	}
	if d.Now != nil && run.State == store.Held {
		d.Now.Blocked = result.Gates
		if len(d.Now.Blocked) == 0 {
			d.Now.Blocked = []Gate{{GateCompared, run.Error}}
		}
	}
	d.forgetAttributes(run.EndedAt)
	if result.Shim == "" {
		d.Held = run.ID
	} else { // an engine was started
		d.Corrections = append(d.Corrections, Correction{Run: run.ID, At: run.EndedAt, State: run.State, Attributes: result.Corrects})
		d.Corrections = d.Corrections[max(0, len(d.Corrections)-maxCorrected):]
	}
	d.tell(watch.Event{Kind: kind, Run: run.ID, At: run.EndedAt, Summary: summary}, plan.DriftReport{})
}

// forgetAttributes shortens corrections that do not count against flap_limit any
// more.
func (d *DriftRecord) forgetAttributes(now time.Time) {
	for i := range d.Corrections {
		if c := &d.Corrections[i]; now.Sub(c.At) >= flapWindow {
			c.Attributes = slices.Clip(c.Attributes[:min(len(c.Attributes), maxPastKept)])
		}
	}
}

// attributesOf are the attributes that putting a report's drift right corrects,
// by which flapping is counted.
func attributesOf(report plan.DriftReport) (out []string) {
	for _, r := range report.Resources {
		if len(r.Attributes) == 0 {
			out = append(out, r.Address+" ("+r.Change+")")
		}
		for _, a := range r.Attributes {
			out = append(out, r.Address+" "+a)
		}
	}
	return out[:min(len(out), maxCorrected)]
}

// flaps returns the attributes that were corrected limit times within a day
// before now.
func (d DriftRecord) flaps(attributes []string, limit int, now time.Time) (out []string) {
	for _, a := range attributes {
		n := 0
		for _, c := range d.Corrections {
			if now.Sub(c.At) < flapWindow && slices.Contains(c.Attributes, a) {
				n++
			}
		}
		if limit > 0 && n >= limit {
			out = append(out, a)
		}
	}
	return out
}

// summaryOf says in one line what drifted.
func summaryOf(report plan.DriftReport) string {
	if len(report.Resources) == 0 {
		return string(report.Class)
	}
	var names []string
	for _, r := range report.Resources[:min(len(report.Resources), 3)] {
		s := r.Address + " " + r.Change
		if n := len(r.Attributes); n > 0 {
			s += " (" + strings.Join(r.Attributes[:min(n, 3)], ", ")
			if n > 3 {
				s += fmt.Sprintf(" and %d more", n-3)
			}
			s += ")"
		}
		names = append(names, s)
	}
	s := strings.Join(names, ", ")
	if more := len(report.Resources) - 3; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// firstLine is the first line of a text that says something.
func firstLine(s string) string {
	for line := range strings.Lines(s) {
		if line = strings.Trim(line, " \t\r\n│╷╵"); line != "" {
			return line
		}
	}
	return ""
}

// covers returns the function that says which rule leaves an attribute alone at
// a time, and the sentences on rules that have ended and would still cover
// something.
func covers(rules []workspaces.Ignore, now time.Time) func(address, attribute string) (why string, ok bool) {
	return func(address, attribute string) (string, bool) {
		for _, i := range rules {
			if (i.Until.IsZero() || now.Before(i.Until)) && ruleMatches(i, address, attribute) {
				return i.Reason, true
			}
		}
		return "", false
	}
}

func ruleMatches(i workspaces.Ignore, address, attribute string) bool {
	if !workspaces.MatchAddress(i.Address, address) {
		return false
	}
	return len(i.Attributes) == 0 || slices.ContainsFunc(i.Attributes, func(p string) bool { return workspaces.MatchAttribute(p, attribute) })
}

// endedRules says which rules would cover what drifted if they had not ended.
func endedRules(rules []workspaces.Ignore, report plan.DriftReport, now time.Time) (out []string) {
	for _, i := range rules {
		if i.Until.IsZero() || now.Before(i.Until) {
			continue
		}
		hit := slices.ContainsFunc(report.Resources, func(r plan.DriftedResource) bool {
			return ruleMatches(i, r.Address, "") && len(r.Attributes) == 0 ||
				slices.ContainsFunc(r.Attributes, func(a string) bool { return ruleMatches(i, r.Address, a) })
		})
		if hit {
			out = append(out, fmt.Sprintf("The rule that left %s alone (%s) ended on %s.", i.Address, strings.TrimSuffix(i.Reason, "."), i.Until.UTC().Format("2006-01-02 15:04 MST")))
		}
	}
	return out
}

// ignores are the rules of a workspace: its configuration's, and those that
// people made in comments.
func (r *Runner) ignores(ctx context.Context, repo vcs.Repository, w workspaces.Workspace) ([]workspaces.Ignore, error) {
	var rec DriftRecord
	if _, err := r.load(ctx, driftName(repo, w.Name), &rec); err != nil {
		return nil, err
	}
	return slices.Concat(w.Drift.Ignore, rec.Ignores), nil
}

// ReadWorkspaces decodes the records of workspaces that a store has under a
// prefix, for those who show them.
func ReadWorkspaces(ctx context.Context, records store.Records, prefix string) ([]WorkspaceRecord, error) {
	stored, err := records.List(ctx, "workspace/"+prefix)
	if err != nil {
		return nil, err
	}
	out := make([]WorkspaceRecord, len(stored))
	for i, s := range stored {
		if err := json.Unmarshal(s.Value, &out[i]); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.Key, err)
		}
	}
	return out, nil
}

// KnownWorkspaces returns the names of a repository's workspaces, as the default
// branch has them. Returns store.ErrNotFound for a repository that the server
// never looked at.
func KnownWorkspaces(ctx context.Context, records store.Records, repo vcs.Repository) ([]string, error) {
	rec, err := records.Get(ctx, "repository/"+repo.String())
	if err != nil {
		return nil, err
	}
	var known repositoryRecord
	if err := json.Unmarshal(rec.Value, &known); err != nil {
		return nil, fmt.Errorf("read %s: %w", rec.Key, err)
	}
	names := make([]string, len(known.Workspaces))
	for i, w := range known.Workspaces {
		names[i] = w.Name
	}
	return names, nil
}

// ReadDrift decodes the records of drift that a store has under a prefix, for
// those who show them.
func ReadDrift(ctx context.Context, records store.Records, prefix string) ([]DriftRecord, error) {
	stored, err := records.List(ctx, "drift/"+prefix)
	if err != nil {
		return nil, err
	}
	out := make([]DriftRecord, len(stored))
	for i, s := range stored {
		if err := json.Unmarshal(s.Value, &out[i]); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.Key, err)
		}
	}
	return out, nil
}
