package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"holdfast/runner/markdown"
	"holdfast/runner/plan"
	"holdfast/store"
	"holdfast/vcs"
)

// This file has what some hosts show beside a report: checks with the plan in
// them, and deployments.

const (
	// detailSize bounds the text of a check, in bytes (GitHub's limit).
	detailSize = 65_000
	// maxDeployments bounds the workspaces of one pull request whose applies
	// are shown as deployments: each costs two requests and more.
	maxDeployments = 50
)

// detail adds the workspace's plan to its status, and a remark on each line
// whose resource is destroyed or replaced.
func (p *poster) detail(ctx context.Context, s *vcs.Status, report markdown.Report, w markdown.Workspace) error {
	one := report
	one.Workspaces, one.Problems = []markdown.Workspace{w}, nil
	s.Details = markdown.Render(one, detailSize)
	if w.Plan == nil || w.RunID == "" {
		return nil
	}
	run, err := p.r.Store.Runs.Get(ctx, w.RunID)
	if err != nil {
		return fmt.Errorf("run %s: %w", w.RunID, err)
	}
	var result Result
	if len(run.Result) > 0 {
		if err := json.Unmarshal(run.Result, &result); err != nil {
			return fmt.Errorf("read result of run %s: %w", run.ID, err)
		}
	}
	for _, c := range w.Plan.Changes {
		l, ok := result.Lines[c.Address]
		if !ok || run.State == store.Applied {
			continue
		}
		word := "replaced"
		if c.Action == plan.Delete {
			word = "destroyed"
		}
		s.Annotations = append(s.Annotations, vcs.Annotation{
			Path: path.Join(w.Dir, l.File), Line: l.Line,
			Title:   fmt.Sprintf("%s is %s", c.Address, word),
			Message: fmt.Sprintf("The plan of workspace %s has %s %s.", w.Name, c.Address, word),
		})
	}
	slices.SortStableFunc(s.Annotations, func(a, b vcs.Annotation) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

// deployments shows which commit is applied where, on a host that has a place
// for it.
func (p *poster) deployments(ctx context.Context, report markdown.Report) error {
	if p.host.deployments == nil {
		return nil
	}
	for _, w := range report.Workspaces[:min(len(report.Workspaces), maxDeployments)] {
		if w.Kind != string(store.KindApply) || w.RunID == "" {
			continue
		}
		run, err := p.r.Store.Runs.Get(ctx, w.RunID)
		if err != nil {
			return fmt.Errorf("run %s: %w", w.RunID, err)
		}
		state, description := deploymentOf(run)
		shown := p.shown.Deployments[w.Name]
		if shown.Run == run.ID && shown.State == state || state == "" {
			continue
		}
		if shown.Run != run.ID {
			shown.ID = 0
		}
		d := vcs.Deployment{ID: shown.ID, SHA: run.Commit, Environment: w.Name, State: state, Description: description, URL: report.Page}
		if p.r.BaseURL != "" {
			d.URL = p.r.BaseURL + "/runs/" + run.ID
		}
		id, err := p.host.deployments.SetDeployment(ctx, p.repo, d)
		if err != nil {
			return fmt.Errorf("show deployment of %s: %w", w.Name, err)
		}
		if p.shown.Deployments == nil {
			p.shown.Deployments = map[string]shownDeployment{}
		}
		p.shown.Deployments[w.Name] = shownDeployment{ID: id, Run: run.ID, State: state}
		if err := p.save(ctx); err != nil {
			return err
		}
	}
	return nil
}

// deploymentOf is what a deployment says of an apply; empty while there is
// nothing to say, as nothing is being changed.
func deploymentOf(run store.Run) (vcs.DeploymentState, string) {
	switch {
	case run.State == store.Applied:
		return vcs.DeploymentSuccess, "Applied"
	case run.State == store.Failed && run.Step == "" && !run.StartedAt.IsZero():
		return vcs.DeploymentFailure, "The apply failed"
	case run.Step == stepApply:
		return vcs.DeploymentRunning, "Applying"
	}
	return "", ""
}
