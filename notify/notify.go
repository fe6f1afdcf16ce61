// Package notify brings messages to people where they are: to Slack, Teams,
// Discord, and all that shoutrrr knows, and to programs by webhook.
//
// An address has tokens in it. So no error of this package quotes one: what may
// be secret in it is replaced by "***".
package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"github.com/nicholas-fedor/shoutrrr/pkg/router"

	"holdfast/watch"
)

// Config says where messages go.
type Config struct {
	// URL is a plain webhook (https://…, http://…) or a service's address as
	// shoutrrr writes it: slack://…, teams://…, discord://…, smtp://…. The webhook
	// addresses that Slack, Discord and Teams show may be given as they are.
	URL string
	// Secret signs what goes to a plain webhook. It may begin with "whsec_", and
	// is then read as Base64. Defaults to none: not signed.
	Secret string
	// Timeout is for one delivery. Defaults to 15 seconds.
	Timeout time.Duration
	// Client is for webhooks, Slack, Discord and Teams, and defaults to one of its
	// own. Redirects are never followed. The other services use shoutrrr's own.
	Client *http.Client
}

// WithDefaults returns the configuration with its defaults filled in.
func (c Config) WithDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 15*time.Second)
	if c.Client == nil {
		c.Client = &http.Client{}
	}
	return c
}

// AddressError is an address that is not right. It does not quote it.
type AddressError struct {
	Message, Advice string
}

// Error says what is wrong.
func (e *AddressError) Error() string { return e.Message }

// Hint says what to do; it may be empty.
func (e *AddressError) Hint() string { return e.Advice }

// New checks an address, without a request. A mistake is an *AddressError.
//
// The notifier's errors are a *watch.PermanentError where trying again is of no
// use, and a *watch.RetryError where the receiver says when to come again.
func New(c Config) (watch.Notifier, error) {
	c = c.WithDefaults()
	raw := strings.TrimSpace(c.URL)
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" {
		// What url.Parse says quotes the address.
		return nil, &AddressError{"the address of the notifications cannot be read", "write it as https://…, slack://…, teams://… or another service's; characters such as %, / and @ in tokens have to be percent-encoded"}
	}
	secrets := newSecrets(raw)
	if known := knownWebhook(u); known != "" {
		if u, err = url.Parse(known); err != nil {
			return nil, &AddressError{"the address of the notifications cannot be read", ""}
		}
		secrets = append(secrets, newSecrets(known)...)
	}
	p := poster{client: *c.Client, now: time.Now, secrets: secrets}
	// A redirect could take the message, and a token with it, to somebody else.
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	plain := u.Scheme == "http" || u.Scheme == "https"
	if c.Secret != "" && !plain {
		return nil, &AddressError{"a secret signs plain webhooks only", "leave the secret out, or give an address that begins with https://"}
	}

	var n watch.Notifier
	switch service, _, _ := strings.Cut(u.Scheme, "+"); {
	case plain:
		n, err = newWebhook(u, c.Secret, p)
	case service == "slack":
		n, err = newSlack(u, p)
	case service == "discord":
		n, err = newDiscord(u, p)
	case service == "teams":
		n, err = newTeams(u, p)
	default:
		n, err = newOther(u)
	}
	if err != nil {
		if mistake := new(AddressError); errors.As(err, &mistake) {
			return nil, mistake
		}
		return nil, &AddressError{fmt.Sprintf("the address for %s is not right: %s", printable(u.Scheme), secrets.hide(err.Error())), "see https://shoutrrr.nickfedor.com/ for how the service's address is written"}
	}
	return &guarded{n, c.Timeout, secrets}, nil
}

// knownWebhook returns the address, in shoutrrr's terms, of a webhook that a chat
// service gives out: as a plain one it would not understand our JSON.
func knownWebhook(u *url.URL) string {
	host, path := strings.ToLower(u.Hostname()), strings.Trim(u.EscapedPath(), "/")
	parts := strings.Split(path, "/")
	switch {
	case u.Scheme != "https":
	case host == "hooks.slack.com" && len(parts) == 4 && parts[0] == "services":
		return "slack://hook:" + strings.Join(parts[1:], "-") + "@webhook"
	case (host == "discord.com" || host == "discordapp.com") && len(parts) == 4 && parts[0] == "api" && parts[1] == "webhooks":
		thread := ""
		if id := u.Query().Get("thread_id"); id != "" {
			thread = "?thread_id=" + url.QueryEscape(id)
		}
		return "discord://" + parts[3] + "@" + parts[2] + thread
	case strings.HasSuffix(host, ".webhook.office.com"), strings.HasSuffix(host, ".logic.azure.com"), strings.HasSuffix(host, ".api.powerplatform.com"):
		return "teams+" + u.String()
	}
	return ""
}

// services names what an address can begin with.
func services() []string {
	names := map[string]bool{"https": true, "http": true}
	for _, name := range (&router.ServiceRouter{}).ListServices() {
		names[name] = true
	}
	// It writes to a log that nobody reads: a message for people would be lost.
	delete(names, "logger")
	return slices.Sorted(maps.Keys(names))
}

// unknown is the mistake of a service that there is not, with the nearest.
func unknown(scheme string) error {
	advice, least := "possible: "+strings.Join(services(), ", "), 0
	for _, name := range services() {
		d := levenshtein.Distance(scheme[:min(len(scheme), 64)], name, nil)
		if d <= max(2, len(name)/3) && d < len(name) && (least == 0 || d < least) {
			advice, least = fmt.Sprintf("did you mean %q?", name), d
		}
	}
	if service, _, _ := strings.Cut(scheme, ":"); service == "sns" {
		advice = "an SNS topic is written as sns:TOPIC-ARN"
	}
	return &AddressError{"the address begins with " + printable(scheme) + ", which is no service", advice}
}

// printable quotes a scheme only where it looks like a service's name: a token
// with a colon in it also parses as an address.
func printable(scheme string) string {
	if len(scheme) > 20 || strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz+") != "" {
		return "something"
	}
	return fmt.Sprintf("%q", scheme)
}

// guarded gives each delivery its time, and hides secrets in all errors.
type guarded struct {
	inner   watch.Notifier
	timeout time.Duration
	secrets secrets
}

var _ watch.Notifier = (*guarded)(nil)

func (g *guarded) Notify(ctx context.Context, m watch.Message) error {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	err := g.inner.Notify(ctx, m)
	var (
		permanent *watch.PermanentError
		later     *watch.RetryError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &permanent):
		return &watch.PermanentError{Err: g.secrets.hideError(permanent.Err), Advice: permanent.Advice}
	case errors.As(err, &later):
		return &watch.RetryError{After: later.After, Err: g.secrets.hideError(later.Err)}
	}
	return g.secrets.hideError(err)
}
