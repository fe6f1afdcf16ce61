package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	sdk "github.com/google/go-github/v88/github"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// Limits of GitHub's.
const (
	maxDescription = 140    // of a status, in characters
	maxTitle       = 255    // of a check run's output
	maxSummary     = 65_535 // of a check run's output, in characters
	maxAnnotations = 50     // of one request
	maxMessage     = 4_000  // of an annotation; the limit is 64 KB
)

// ShowsDetails reports whether there are check runs: only an App may write them.
func (h *Host) ShowsDetails() bool { return h.app != nil }

// SetStatus shows a status: as a check run of an App, else as a commit status.
// An App that may not write check runs shows commit statuses too.
func (h *Host) SetStatus(ctx context.Context, r vcs.Repository, sha string, s vcs.Status) error {
	if !transport.IsSHA(sha) {
		return fmt.Errorf("set status %s on %s: %q is not a commit id", s.Context, r, sha)
	}
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return err
	}
	h.mu.Lock()
	runs := h.app != nil && !h.noRuns
	h.mu.Unlock()
	if runs {
		err := h.setRun(ctx, c, r, sha, s)
		if !errors.Is(err, vcs.ErrDenied) || transport.StatusOf(err) != http.StatusForbidden {
			return err
		}
		h.mu.Lock()
		h.noRuns = true
		h.mu.Unlock()
		h.cfg.Logger.WarnContext(ctx, "the GitHub App may not write check runs, so commit statuses are shown instead",
			"repository", r.String(), "hint", "grant it Checks: write at "+c.page)
	}
	description := transport.Cut(transport.Storable(s.Description), maxDescription)
	status := sdk.RepoStatus{State: ptr(string(s.State)), Description: &description, Context: &s.Context} // the words are the same
	if s.URL != "" {
		status.TargetURL = &s.URL
	}
	if _, _, err := c.Repositories.CreateStatus(ctx, r.Owner, r.Name, sha, status); err != nil {
		return transport.Wrap(unprocessable(err), "set status %s on %s@%.12s", s.Context, r, sha)
	}
	return nil
}

// unprocessable turns "No commit found for SHA", which is a 422, into
// vcs.ErrNotFound.
func unprocessable(err error) error {
	var e *transport.Error
	if errors.As(err, &e) && e.Status == http.StatusUnprocessableEntity && e.Kind == nil && len(e.Message) >= 15 && e.Message[:15] == "No commit found" {
		e.Kind = vcs.ErrNotFound
	}
	return err
}

func ptr[T any](v T) *T { return &v }

// conclusion is how a check run ends. An error is Holdfast's or the host's
// trouble and no verdict on the change: "cancelled", which does not pass either.
func conclusion(s vcs.StatusState) (status string, end *string) {
	switch s {
	case vcs.StatusPending:
		return "in_progress", nil
	case vcs.StatusSuccess:
		return "completed", ptr("success")
	case vcs.StatusFailure:
		return "completed", ptr("failure")
	}
	return "completed", ptr("cancelled")
}

// setRun creates the commit's check run of that name, or edits the one that is
// there. GitHub adds the annotations of an edit to those before, so that an
// edit sends only those that are new since the last one with the same summary:
// a run that is not pending any more is made anew where it gets annotations.
func (h *Host) setRun(ctx context.Context, c *client, r vcs.Repository, sha string, s vcs.Status) error {
	former, err := h.findRun(ctx, c, r, sha, s.Context)
	if err != nil {
		return err
	}
	status, end := conclusion(s.State)
	summary := transport.CutBytes(transport.Storable(s.Details), maxSummary)
	if summary == "" {
		summary = s.Description
	}
	if summary == "" {
		summary = s.Context
	}
	output := &sdk.CheckRunOutput{Title: ptr(transport.Cut(transport.Storable(firstOf(s.Description, s.Context)), maxTitle)), Summary: &summary}
	notes := annotations(s.Annotations)
	output.Annotations = notes[:min(len(notes), maxAnnotations)]
	var url *string
	if s.URL != "" {
		url = &s.URL
	}
	id := former.GetID()
	if id == 0 || len(notes) > 0 && former.GetStatus() == "completed" {
		run, _, err := c.Checks.CreateCheckRun(ctx, r.Owner, r.Name, sdk.CreateCheckRunOptions{
			Name: s.Context, HeadSHA: sha, DetailsURL: url, ExternalID: &s.Context, Status: &status, Conclusion: end, Output: output,
		})
		if err != nil {
			return transport.Wrap(unprocessable(err), "create check run %s on %s@%.12s", s.Context, r, sha)
		}
		id = run.GetID()
	} else if err := h.editRun(ctx, c, r, id, s.Context, url, status, end, output); err != nil {
		return err
	}
	for len(notes) > maxAnnotations {
		notes = notes[maxAnnotations:]
		more := &sdk.CheckRunOutput{Title: output.Title, Summary: output.Summary, Annotations: notes[:min(len(notes), maxAnnotations)]}
		if err := h.editRun(ctx, c, r, id, s.Context, url, status, end, more); err != nil {
			return err
		}
	}
	return nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (h *Host) editRun(ctx context.Context, c *client, r vcs.Repository, id int64, name string, url *string, status string, end *string, output *sdk.CheckRunOutput) error {
	_, _, err := c.Checks.UpdateCheckRun(ctx, r.Owner, r.Name, id, sdk.UpdateCheckRunOptions{
		Name: name, DetailsURL: url, ExternalID: &name, Status: &status, Conclusion: end, Output: output,
	})
	if err != nil {
		return transport.Wrap(err, "edit check run %s of %s", name, r)
	}
	return nil
}

// findRun returns the App's latest check run of that name; nil where there is
// none.
func (h *Host) findRun(ctx context.Context, c *client, r vcs.Repository, sha, name string) (*sdk.CheckRun, error) {
	var found *sdk.CheckRun
	err := h.eachRun(ctx, c, r, sha, &name, func(run *sdk.CheckRun) {
		if run.GetName() == name && run.GetID() > found.GetID() {
			found = run
		}
	})
	return found, err
}

func (h *Host) eachRun(ctx context.Context, c *client, r vcs.Repository, sha string, name *string, visit func(*sdk.CheckRun)) error {
	err := eachPage(func(o sdk.ListOptions) ([]*sdk.CheckRun, *sdk.Response, error) {
		list, resp, err := c.Checks.ListCheckRunsForRef(ctx, r.Owner, r.Name, sha, &sdk.ListCheckRunsOptions{
			CheckName: name, AppID: &h.cfg.App.ID, ListOptions: o,
		})
		if err != nil {
			return nil, resp, err
		}
		return list.CheckRuns, resp, nil
	}, func(run *sdk.CheckRun) bool {
		visit(run)
		return true
	})
	if err != nil {
		return transport.Wrap(unprocessable(err), "list check runs of %s@%.12s", r, sha)
	}
	return nil
}

// annotations are the remarks as GitHub wants them. All of them are warnings:
// what is destroyed may be meant.
func annotations(list []vcs.Annotation) []*sdk.CheckRunAnnotation {
	var out []*sdk.CheckRunAnnotation
	for _, a := range list {
		if a.Path == "" || a.Line <= 0 {
			continue
		}
		out = append(out, &sdk.CheckRunAnnotation{
			Path: &a.Path, StartLine: &a.Line, EndLine: &a.Line, AnnotationLevel: ptr("warning"),
			Title: ptr(transport.OneLine(transport.Storable(a.Title), maxTitle-3)), Message: ptr(transport.CutBytes(transport.Storable(firstOf(a.Message, a.Title)), maxMessage)),
		})
	}
	return out
}

// Statuses returns the latest check run or status of each context.
func (h *Host) Statuses(ctx context.Context, r vcs.Repository, sha string) ([]vcs.Status, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return nil, err
	}
	found := map[string]vcs.Status{}
	err = eachPage(func(o sdk.ListOptions) ([]*sdk.RepoStatus, *sdk.Response, error) {
		all, resp, err := c.Repositories.GetCombinedStatus(ctx, r.Owner, r.Name, sha, &o)
		if err != nil {
			return nil, resp, err
		}
		return all.Statuses, resp, nil
	}, func(x *sdk.RepoStatus) bool {
		found[x.GetContext()] = vcs.Status{Context: x.GetContext(), State: vcs.StatusState(x.GetState())}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(unprocessable(err), "list statuses of %s@%.12s", r, sha)
	}
	if h.app != nil {
		latest := map[string]int64{}
		err = h.eachRun(ctx, c, r, sha, nil, func(run *sdk.CheckRun) {
			if run.GetID() < latest[run.GetName()] {
				return
			}
			latest[run.GetName()] = run.GetID()
			found[run.GetName()] = vcs.Status{Context: run.GetName(), State: stateOf(run)}
		})
		if err != nil && !errors.Is(err, vcs.ErrDenied) {
			return nil, err
		}
	}
	var all []vcs.Status
	for _, s := range found {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b vcs.Status) int { return strings.Compare(a.Context, b.Context) })
	return all, nil
}

func stateOf(run *sdk.CheckRun) vcs.StatusState {
	switch {
	case run.GetStatus() != "completed":
		return vcs.StatusPending
	case run.GetConclusion() == "success":
		return vcs.StatusSuccess
	case run.GetConclusion() == "failure":
		return vcs.StatusFailure
	}
	return vcs.StatusError
}

// SetDeployment creates a deployment without a merge and without waiting for
// checks (the apply has its own gates), and adds its state.
func (h *Host) SetDeployment(ctx context.Context, r vcs.Repository, d vcs.Deployment) (int64, error) {
	c, err := h.client(ctx, r.Owner)
	if err != nil {
		return 0, err
	}
	description := transport.Cut(transport.Storable(d.Description), maxDescription)
	if d.ID == 0 {
		made, _, err := c.Repositories.CreateDeployment(ctx, r.Owner, r.Name, &sdk.DeploymentRequest{
			Ref: &d.SHA, Task: ptr("deploy"), AutoMerge: ptr(false), RequiredContexts: &[]string{}, Environment: &d.Environment, Description: &description,
		})
		if err == nil && made.GetID() <= 0 {
			err = errors.New("the host answered without the deployment's id")
		}
		if err != nil {
			return 0, transport.Wrap(err, "create deployment of %s to %s", r, d.Environment)
		}
		d.ID = made.GetID()
	}
	state := map[vcs.DeploymentState]string{vcs.DeploymentRunning: "in_progress", vcs.DeploymentSuccess: "success", vcs.DeploymentFailure: "failure"}[d.State]
	request := &sdk.DeploymentStatusRequest{State: &state, Description: &description}
	if d.URL != "" {
		request.LogURL = &d.URL
	}
	if _, _, err := c.Repositories.CreateDeploymentStatus(ctx, r.Owner, r.Name, d.ID, request); err != nil {
		return d.ID, transport.Wrap(err, "set state of deployment %d of %s", d.ID, r)
	}
	return d.ID, nil
}

// Time reads the Date header of an answer.
func (h *Host) Time(ctx context.Context) (time.Time, error) {
	_, resp, err := h.own.Meta.Get(ctx)
	if err != nil {
		return time.Time{}, transport.Wrap(err, "ask the host for its time")
	}
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return time.Time{}, fmt.Errorf("the host's answer has no date: %w", err)
	}
	return at, nil
}
