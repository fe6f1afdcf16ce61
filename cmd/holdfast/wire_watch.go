package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/aws"
	"holdfast/hook"
	"holdfast/notify"
	"holdfast/runner"
	"holdfast/vcs"
	"holdfast/watch"
)

// openNotifiers opens the places where people are told what happens.
func openNotifiers(ctx context.Context, s Settings) ([]runner.Notify, error) {
	var all []runner.Notify
	for _, n := range s.Notify {
		var to watch.Notifier
		var err error
		if strings.HasPrefix(n.URL, "sns:") {
			to, err = aws.NewSNS(ctx, n.URL, aws.SNSConfig{RoleARN: n.RoleARN, ExternalID: n.ExternalID})
		} else {
			to, err = notify.New(notify.Config{URL: n.URL, Secret: n.Secret})
		}
		if err != nil {
			return nil, hinted{fmt.Errorf("notify %q: %w", n.Name, err), hintOf(err)}
		}
		all = append(all, runner.Notify{Name: n.Name, Notifier: to, Events: n.Events, Workspaces: n.Workspaces, Repositories: n.Repositories, Delay: n.Delay})
	}
	return all, nil
}

// openAttributors opens what knows who changed something in the cloud.
func openAttributors(ctx context.Context, s Settings) ([]watch.Attributor, error) {
	var all []watch.Attributor
	for _, a := range s.Attributors {
		var who watch.Attributor
		var err error
		switch a.Type {
		case "cloudtrail":
			who, err = aws.NewAttributor(ctx, aws.AttributorConfig{Regions: a.Regions, RoleARN: a.RoleARN, ExternalID: a.ExternalID})
		case "http":
			who, err = hook.NewAttributor(hook.Config{URL: a.URL, Secret: a.Secret, Timeout: a.Timeout})
		}
		if err != nil {
			return nil, hinted{fmt.Errorf("attributor %q: %w", a.Type, err), hintOf(err)}
		}
		all = append(all, who)
	}
	return all, nil
}

// cloudEvent is what a request to /hooks/cloud-event says.
type cloudEvent struct {
	Repository string `json:"repository"` // HOST/OWNER/NAME
	Workspace  string `json:"workspace"`
}

// cloudEvent returns what takes those requests; nil where there are none.
func (s *server) cloudEvent() func(context.Context, http.Header, []byte) error {
	secret := s.settings.CloudEventSecret
	if secret == "" {
		return nil
	}
	return func(ctx context.Context, header http.Header, body []byte) error {
		if err := hook.Verify(secret, header, body, time.Now()); err != nil {
			return fmt.Errorf("%w: %w", vcs.ErrSignature, err)
		}
		var e cloudEvent
		if err := json.Unmarshal(body, &e); err != nil {
			return &vcs.PayloadError{Problem: err.Error()}
		}
		repo, err := vcs.ParseRepository(e.Repository)
		if err != nil {
			return &vcs.PayloadError{Problem: err.Error()}
		}
		if e.Workspace == "" || len(e.Workspace) > 200 || strings.ContainsAny(e.Workspace, "*?[{\\") {
			return &vcs.PayloadError{Problem: `"workspace" has to be the name of one workspace`}
		}
		return s.runner.CheckSoon(ctx, repo, e.Workspace)
	}
}
