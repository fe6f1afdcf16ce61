package github

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	sdk "github.com/google/go-github/v88/github"

	"holdfast/vcs/transport"
)

// Manifest describes a GitHub App as GitHub wants it in the field "manifest" of
// a form that is posted to NewAppURL: it sends its webhooks to hook (empty: none)
// and the browser, with a code for Convert, to redirect.
func Manifest(name, home, hook, redirect string) ([]byte, error) {
	permissions := map[string]string{}
	for _, p := range AppPermissions {
		permissions[p.Name] = p.Level
	}
	m := map[string]any{
		"name": name, "url": home, "redirect_url": redirect, "public": false,
		"default_permissions": permissions,
		"hook_attributes":     map[string]any{"url": firstOf(hook, home), "active": hook != ""},
	}
	if hook != "" {
		m["default_events"] = HookEvents
	}
	return json.Marshal(m)
}

// NewAppURL is the page of GitHub's that makes an App of a manifest, for an
// organisation or, where that is empty, for the user who is signed in.
func NewAppURL(host, organisation, state string) string {
	page := host + "/settings/apps/new"
	if organisation != "" {
		page = host + "/organizations/" + url.PathEscape(organisation) + "/settings/apps/new"
	}
	return page + "?state=" + url.QueryEscape(state)
}

// NewApp is an App that was just made.
type NewApp struct {
	App
	Name, Page    string
	WebhookSecret string
}

// Convert gets what belongs to an App that was made of a manifest: its number,
// its private key and its webhook secret, once. cfg says which GitHub.
func Convert(ctx context.Context, cfg Config, code string) (NewApp, error) {
	cfg = cfg.WithDefaults()
	web := transport.New(transport.Config{Client: cfg.HTTPClient, Now: cfg.Now, CacheSize: -1})
	api := cfg.APIURL + "/"
	c, err := sdk.NewClient(sdk.WithHTTPClient(web), sdk.WithURLs(&api, &api), sdk.WithUserAgent("holdfast"), sdk.WithDisableRateLimitCheck())
	if err != nil {
		return NewApp{}, err
	}
	made, _, err := c.Apps.CompleteAppManifest(ctx, url.PathEscape(code))
	if err != nil {
		return NewApp{}, transport.Wrap(err, "get the new GitHub App's key")
	}
	if made.GetID() <= 0 || made.GetPEM() == "" {
		return NewApp{}, fmt.Errorf("get the new GitHub App's key: the host answered %s without one", http.StatusText(http.StatusCreated))
	}
	return NewApp{App: App{ID: made.GetID(), PrivateKey: []byte(made.GetPEM())}, Name: made.GetName(), Page: made.GetHTMLURL(), WebhookSecret: made.GetWebhookSecret()}, nil
}
