package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"holdfast/queue"
	"holdfast/vcs"
	"holdfast/watch"
)

// JobAttribute finds out who made a workspace drift.
const JobAttribute = "attribute"

// Cloud's audit logs come late: AWS says within 15 minutes. Who is not found is
// asked for again after these times.
var attributeAgain = []time.Duration{5 * time.Minute, 15 * time.Minute, 30 * time.Minute}

const (
	// attributeLimit bounds one question to all attributors.
	attributeLimit = time.Minute
	// attributeMargin is how far clocks may differ.
	attributeMargin = 10 * time.Minute
	// attributeSince bounds how far back is looked where no check was ever in sync.
	attributeSince = 7 * 24 * time.Hour
	maxAnswers     = 50
)

type attributePayload struct {
	Repository vcs.Repository `json:"repository"`
	Workspace  string         `json:"workspace"`
	Digest     string         `json:"digest"`
	Began      time.Time      `json:"began"` // of the drift that it is about
	Try        int            `json:"try,omitempty"`
}

// attribute asks who made the workspace drift, once for each drift, beside
// everything else: no check waits for the answer, and none fails for it.
func (r *Runner) attribute(ctx context.Context, repo vcs.Repository, d DriftRecord) error {
	if len(r.Attributors) == 0 || d.Now == nil || d.Now.Asked == d.Now.Digest || len(d.Now.Who) > 0 || d.Now.quiet() {
		return nil
	}
	digest := d.Now.Digest
	if err := r.enqueueAttribute(ctx, attributePayload{Repository: repo, Workspace: d.Name, Digest: digest, Began: d.Now.Began}, 0); err != nil {
		return err
	}
	_, err := r.changeDrift(ctx, repo, d.Name, func(rec *DriftRecord) {
		if rec.Now != nil && rec.Now.Digest == digest {
			rec.Now.Asked = digest
		}
	})
	return err
}

func (r *Runner) enqueueAttribute(ctx context.Context, in attributePayload, in2 time.Duration) error {
	payload, err := json.Marshal(in)
	if err != nil {
		return err
	}
	name := "attribute/" + in.Repository.String() + "/" + in.Workspace
	_, err = r.Queue.Enqueue(ctx, queue.Job{
		Kind: JobAttribute, Group: name, Key: fmt.Sprintf("%s/%s/%d/%d", name, in.Digest, in.Began.UnixNano(), in.Try), RunAt: r.Clock().Add(in2),
		Priority: queue.PriorityReplan, Payload: payload,
	})
	return err
}

// asked is the episode that a question is about. It may be over: what is
// corrected at once is gone before any audit log tells of it.
func (d *DriftRecord) asked(in attributePayload) *Episode {
	is := func(e *Episode) bool { return e.Digest == in.Digest && e.Began.Equal(in.Began) }
	if d.Now != nil && is(d.Now) {
		return d.Now
	}
	for i := range d.Past {
		if is(&d.Past[i]) {
			return &d.Past[i]
		}
	}
	return nil
}

// handleAttribute asks all attributors once, and comes back where nobody knew.
func (r *Runner) handleAttribute(ctx context.Context, job queue.Job) error {
	var in attributePayload
	if err := json.Unmarshal(job.Payload, &in); err != nil {
		return queue.Discard(fmt.Errorf("read payload: %w", err))
	}
	var rec DriftRecord
	if _, err := r.load(ctx, driftName(in.Repository, in.Workspace), &rec); err != nil {
		return err
	}
	e := rec.asked(in)
	if e == nil || len(e.Who) > 0 {
		return nil
	}
	answers := r.askAttributors(ctx, questionOf(rec, *e, r.Clock()))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(answers) == 0 {
		if in.Try >= len(attributeAgain) {
			return nil
		}
		again := in
		again.Try++
		return r.enqueueAttribute(ctx, again, attributeAgain[in.Try])
	}
	rec, err := r.changeDrift(ctx, in.Repository, in.Workspace, func(rec *DriftRecord) {
		if e := rec.asked(in); e != nil {
			e.Who = answers
		}
	})
	if err != nil {
		return err
	}
	return r.shown(ctx, in.Repository, rec)
}

// askAttributors puts what all of them know together. What one of them cannot
// say is logged, and fails nothing.
func (r *Runner) askAttributors(ctx context.Context, q watch.Question) (answers []watch.Answer) {
	for _, a := range r.Attributors {
		limited, cancel := context.WithTimeout(ctx, attributeLimit)
		found, err := a.Attribute(limited, q)
		cancel()
		if err != nil && ctx.Err() == nil {
			r.Logger.Warn("nobody says who changed the cloud", "repository", q.Repository, "workspace", q.Workspace, "error", err, "hint", hintOf(err))
		}
		answers = append(answers, found...)
	}
	answers = answers[:min(len(answers), maxAnswers)]
	for i, a := range answers {
		answers[i] = watch.Answer{
			Address: a.Address, Actor: watch.Clean(a.Actor, 300), Call: watch.Clean(a.Call, 300), At: a.At,
			Source: watch.Clean(a.Source, 300), URL: watch.Clean(a.URL, 1000),
		}
	}
	return answers
}

// questionOf asks about an episode: from the last check that found the
// workspace in sync to the one that found it drifted.
func questionOf(rec DriftRecord, e Episode, now time.Time) watch.Question {
	q := watch.Question{Repository: rec.Repository, Workspace: rec.Name, Since: e.Before.Add(-attributeMargin), Until: e.Began.Add(attributeMargin)}
	if e.Before.IsZero() || q.Since.Before(now.Add(-90*24*time.Hour)) {
		q.Since = e.Began.Add(-attributeSince)
	}
	switch {
	case e.Corrected != "":
		q.Until = e.Began // what came after the check is the correction itself
	case !e.Ended.IsZero():
		q.Until = e.Ended.Add(attributeMargin)
	case rec.Seen.After(e.Began):
		q.Until = rec.Seen.Add(attributeMargin) // it became another drift since
	}
	for _, d := range e.Resources {
		if d.Type == "" {
			continue // an output
		}
		q.Resources = append(q.Resources, watch.Resource{
			Address: d.Address, Type: d.Type, Provider: d.Provider, ID: d.ID, Names: d.Names, Change: d.Change, Attributes: d.Attributes,
		})
	}
	return q
}
