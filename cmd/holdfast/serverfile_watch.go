package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"holdfast/aws"
	"holdfast/notify"
	"holdfast/runner"
	"holdfast/workspaces"
)

// NotifySettings are a notify block: a place where people are told what happens.
type NotifySettings struct {
	Name         string
	URL, Secret  string
	Events       []string // of runner.NotifyEvents
	Workspaces   []string // globs of names
	Repositories []string // globs of HOST/OWNER/NAME
	Delay        time.Duration
	// RoleARN and ExternalID are assumed for SNS.
	RoleARN, ExternalID string
}

// AttributorSettings are an attributor block: somebody who knows who changed
// something in the cloud.
type AttributorSettings struct {
	Type string // one of attributorTypes
	// Regions, RoleARN and ExternalID are CloudTrail's.
	Regions             []string
	RoleARN, ExternalID string
	// URL, Secret and Timeout are those of a hook of the team's own.
	URL, Secret string
	Timeout     time.Duration
}

var attributorTypes = []string{"cloudtrail", "http"}

// notify reads a notify block.
func (f *serverFile) notify(b *hclsyntax.Block, s *Settings) {
	if len(b.Labels) != 1 || !plainName.MatchString(b.Labels[0]) {
		f.problem(b.TypeRange, `write notify "ops" { … }`, "a notify block has one label, a name of letters, digits, - and _")
		return
	}
	n := NotifySettings{Name: b.Labels[0], Delay: 30 * time.Second}
	if slices.ContainsFunc(s.Notify, func(o NotifySettings) bool { return o.Name == n.Name }) {
		f.problem(b.LabelRanges[0], "give one of them another name", "notify %q is there twice", n.Name)
	}
	f.known(b.Body, fmt.Sprintf("notify %q", n.Name), []string{"url", "secret", "events", "workspaces", "repositories", "delay", "role_arn", "external_id"}, nil)
	f.secret(b.Body, "url", &n.URL, notEmpty) // it has tokens in it
	f.secret(b.Body, "secret", &n.Secret, notEmpty)
	if a, ok := b.Body.Attributes["url"]; ok && n.URL != "" {
		// What is said of an address does not quote it.
		if err := checkAddress(n); err != nil {
			f.problem(a.Expr.Range(), hintOf(err), "url: %v", err)
		}
	}
	f.texts(b.Body, "events", &n.Events, func(v string) error {
		if !slices.Contains(runner.NotifyEvents, v) {
			return hinted{fmt.Errorf("%q is no event", v), workspaces.Nearest(v, runner.NotifyEvents)}
		}
		return nil
	})
	f.texts(b.Body, "workspaces", &n.Workspaces, checkGlob)
	f.texts(b.Body, "repositories", &n.Repositories, checkGlob)
	f.duration(b.Body, "delay", &n.Delay)
	f.text(b.Body, "role_arn", &n.RoleARN, notEmpty)
	f.text(b.Body, "external_id", &n.ExternalID, notEmpty)
	if _, ok := b.Body.Attributes["url"]; !ok {
		f.problem(b.TypeRange, `add url = env("SLACK_URL"): slack://…, teams://…, discord://…, https://… or sns:ARN`, "notify %q has no url", n.Name)
	}
	s.Notify = append(s.Notify, n)
}

func checkAddress(n NotifySettings) error {
	if strings.HasPrefix(n.URL, "sns:") {
		_, err := aws.ParseTopic(n.URL)
		return err
	}
	_, err := notify.New(notify.Config{URL: n.URL, Secret: n.Secret})
	return err
}

func checkGlob(v string) error {
	if v == "" || !doublestar.ValidatePattern(v) {
		return hinted{fmt.Errorf("%q is no glob", v), `write it like "prod-*"`}
	}
	return nil
}

// attributor reads an attributor block.
func (f *serverFile) attributor(b *hclsyntax.Block, s *Settings) {
	if len(b.Labels) != 1 || !slices.Contains(attributorTypes, b.Labels[0]) {
		word := ""
		if len(b.Labels) > 0 {
			word = b.Labels[0]
		}
		f.problem(b.TypeRange, workspaces.Nearest(word, attributorTypes), `an attributor block has one label, "cloudtrail" or "http"`)
		return
	}
	a := AttributorSettings{Type: b.Labels[0], Timeout: 15 * time.Second}
	if a.Type == "cloudtrail" {
		f.known(b.Body, `attributor "cloudtrail"`, []string{"regions", "role_arn", "external_id"}, nil)
		f.texts(b.Body, "regions", &a.Regions, notEmpty)
		f.text(b.Body, "role_arn", &a.RoleARN, notEmpty)
		f.text(b.Body, "external_id", &a.ExternalID, notEmpty)
		s.Attributors = append(s.Attributors, a)
		return
	}
	f.known(b.Body, `attributor "http"`, []string{"url", "secret", "timeout"}, nil)
	f.text(b.Body, "url", &a.URL, checkHook)
	f.secret(b.Body, "secret", &a.Secret, checkHookSecret)
	f.duration(b.Body, "timeout", &a.Timeout)
	for _, name := range []string{"url", "secret"} {
		if _, ok := b.Body.Attributes[name]; !ok {
			f.problem(b.TypeRange, fmt.Sprintf("add %s = …", name), `attributor "http" has no %s`, name)
		}
	}
	s.Attributors = append(s.Attributors, a)
}

// cloudEvent reads the cloud_event block.
func (f *serverFile) cloudEvent(b *hclsyntax.Block, s *Settings) {
	f.known(b.Body, "cloud_event", []string{"secret"}, nil)
	f.secret(b.Body, "secret", &s.CloudEventSecret, checkHookSecret)
	if _, ok := b.Body.Attributes["secret"]; !ok {
		f.problem(b.TypeRange, `add secret = env("CLOUD_EVENT_SECRET")`, "cloud_event has no secret")
	}
}

func checkHook(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return hinted{errors.New("is not the address of a web server"), `write it like "https://audit.example.com/who"`}
	}
	if u.User != nil {
		return hinted{errors.New("has credentials in it"), "leave them out: requests are signed with secret"}
	}
	return nil
}

func checkHookSecret(v string) error {
	if len(strings.TrimSpace(v)) < 16 {
		return hinted{errors.New("is shorter than 16 characters"), "make one with: openssl rand -hex 32"}
	}
	return nil
}
