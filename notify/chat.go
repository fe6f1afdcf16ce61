package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/discord"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/slack"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/teams"

	"holdfast/watch"
)

// The three that most people use get their requests from us; shoutrrr reads their
// addresses. Its own senders know no context, follow redirects, do not say when
// to come again, and cannot tell Discord to call nobody.

// Limits of the services, a little below what they document.
const (
	slackLimit   = 39_000   // of 40,000 characters
	discordLimit = 4_000    // of an embed's 4,096, and of 6,000 together with the title
	teamsLimit   = 24 << 10 // of 28 KiB a card, with its frame
	titleLimit   = 240      // bytes; Discord takes 256 characters
)

type slackNotifier struct {
	poster
	config slack.Config
}

func newSlack(u *url.URL, p poster) (*slackNotifier, error) {
	s, err := open(u)
	if err != nil {
		return nil, err
	}
	service, ok := s.(*slack.Service)
	if !ok {
		return nil, unknown(u.Scheme)
	}
	return &slackNotifier{p, *service.Config}, nil
}

func (s *slackNotifier) Notify(ctx context.Context, m watch.Message) error {
	title, text := prepare(m)
	text = slackText(strings.TrimSpace(title + "\n" + text))
	payload := map[string]any{
		"text":         withLink(text, slackText(clickable(m.Link)), slackLimit, units),
		"mrkdwn":       false, // names have underscores and stars in them
		"unfurl_links": false,
		"unfurl_media": false,
	}
	// A webhook has its channel, but takes the others.
	for key, value := range map[string]string{"username": s.config.BotName, "thread_ts": s.config.ThreadTS} {
		if value != "" {
			payload[key] = value
		}
	}
	if icon := s.config.Icon; strings.HasPrefix(icon, "http") {
		payload["icon_url"] = icon
	} else if icon != "" {
		payload["icon_emoji"] = icon
	}
	if !s.config.Token.IsAPIToken() {
		reply, err := s.post(ctx, s.config.Token.WebhookURL(), nil, encode(payload))
		if text := strings.TrimSpace(string(reply)); err == nil && text != "ok" && text != "" {
			// A proxy's page, for one: it may be gone the next time.
			err = fmt.Errorf("slack says: %s", watch.Clean(text, 200))
		}
		return err
	}
	payload["channel"] = s.config.Channel
	reply, err := s.post(ctx, "https://slack.com/api/chat.postMessage", http.Header{"Authorization": {s.config.Token.Authorization()}}, encode(payload))
	if err != nil {
		return err
	}
	var answer struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(reply, &answer); err != nil {
		return errors.New("slack's answer is not its JSON")
	}
	if answer.OK {
		return nil
	}
	return slackError(answer.Error)
}

// slackError tells what passes from what does not.
func slackError(code string) error {
	err := fmt.Errorf("slack says: %s", watch.Clean(code, 100))
	advice := ""
	switch code {
	case "ratelimited", "rate_limited", "message_limit_exceeded":
		return &watch.RetryError{After: someAfter, Err: err}
	case "", "internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org":
		return err
	case "channel_not_found", "not_in_channel", "is_archived":
		advice = "give the id of a channel that is open, and invite the app to it"
	case "invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive":
		advice = "the token is not valid any more: make a new one"
	case "missing_scope":
		advice = "give the app the scope chat:write"
	}
	return &watch.PermanentError{Err: err, Advice: advice}
}

type discordNotifier struct {
	poster
	url    string
	config discord.Config
}

func newDiscord(u *url.URL, p poster) (*discordNotifier, error) {
	s, err := open(u)
	if err != nil {
		return nil, err
	}
	service, ok := s.(*discord.Service)
	if !ok {
		return nil, unknown(u.Scheme)
	}
	if service.Config.JSON {
		return nil, &AddressError{"raw JSON cannot be sent to Discord", "leave /raw and json=yes out of the address"}
	}
	return &discordNotifier{p, discord.CreateAPIURLFromConfig(service.Config), *service.Config}, nil
}

func (d *discordNotifier) Notify(ctx context.Context, m watch.Message) error {
	title, text := prepare(m)
	embed := map[string]any{
		"title":       watch.Cut(discordText(title), titleLimit, units),
		"description": withLink(discordText(text), clickable(m.Link), discordLimit, units),
		"color":       d.config.Color,
	}
	if to := clickable(m.Link); to != "" {
		embed["url"] = to
	}
	payload := map[string]any{
		"embeds": []any{embed},
		// Whatever is in the text, nobody is called.
		"allowed_mentions": map[string]any{"parse": []string{}},
	}
	if d.config.Username != "" {
		payload["username"] = d.config.Username
	}
	if d.config.Avatar != "" {
		payload["avatar_url"] = d.config.Avatar
	}
	_, err := d.post(ctx, d.url, nil, encode(payload))
	return err
}

// teamsNotifier speaks to a connector (…webhook.office.com), or to a workflow of
// Power Automate, which is what Microsoft puts in the connectors' place and what
// shoutrrr does not know.
type teamsNotifier struct {
	poster
	url      string
	workflow bool
	color    string
}

func newTeams(u *url.URL, p poster) (*teamsNotifier, error) {
	if to, ok := strings.CutPrefix(u.String(), "teams+"); ok && !strings.HasSuffix(strings.ToLower(u.Hostname()), ".webhook.office.com") {
		if u.Host == "" || !strings.HasPrefix(to, "https://") {
			return nil, &AddressError{"the address of a workflow in Teams begins with teams+https://", ""}
		}
		return &teamsNotifier{p, to, true, ""}, nil
	}
	s, err := open(u)
	if err != nil {
		return nil, err
	}
	service, ok := s.(*teams.Service)
	if !ok {
		return nil, unknown(u.Scheme)
	}
	c := service.Config
	to := teams.BuildWebhookURL(c.Host, c.Group, c.Tenant, c.AltID, c.GroupOwner, c.ExtraID)
	if teams.ValidateWebhookURL(to) != nil {
		return nil, &AddressError{"the address for Teams is not complete", "give the webhook's address as Teams shows it, with teams+ before it: teams+https://…"}
	}
	return &teamsNotifier{p, to, false, c.Color}, nil
}

func (t *teamsNotifier) Notify(ctx context.Context, m watch.Message) error {
	title, text := prepare(m)
	link := clickable(m.Link)
	// Cut before the lines are set apart, and measured as they are sent.
	text = watch.Cut(text, teamsLimit, func(s string) int { return encoded(teamsText(s, !t.workflow)) })
	text = teamsText(text, !t.workflow)
	card := map[string]any{}
	if t.workflow {
		content := map[string]any{
			"$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
			"type":    "AdaptiveCard", "version": "1.4",
			"msteams": map[string]any{"width": "Full"},
			"body": []any{
				map[string]any{"type": "TextBlock", "text": teamsText(title, false), "weight": "Bolder", "size": "Medium", "wrap": true},
				map[string]any{"type": "TextBlock", "text": text, "wrap": true},
			},
		}
		if link != "" {
			content["actions"] = []any{map[string]any{"type": "Action.OpenUrl", "title": "Open", "url": link}}
		}
		card["type"] = "message"
		card["attachments"] = []any{map[string]any{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": content}}
	} else {
		card["@type"], card["@context"] = "MessageCard", "https://schema.org/extensions"
		card["summary"], card["title"], card["text"] = title, teamsText(title, true), text
		if t.color != "" {
			card["themeColor"] = t.color
		}
		if link != "" {
			card["potentialAction"] = []any{map[string]any{"@type": "OpenUri", "name": "Open", "targets": []any{map[string]any{"os": "default", "uri": link}}}}
		}
	}
	reply, err := t.post(ctx, t.url, nil, encode(card))
	if err != nil {
		return err
	}
	return teamsError(string(reply))
}

// A connector says 200 OK also where it has failed, with the status in its text.
var teamsFailed = regexp.MustCompile(`HTTP error (\d{3})`)

func teamsError(reply string) error {
	failed := teamsFailed.FindStringSubmatch(reply)
	if failed == nil {
		return nil
	}
	err := fmt.Errorf("teams answered: %s", watch.Clean(reply, 200))
	if slices.Contains([]string{"429", "412", "502", "504"}, failed[1]) {
		// These four are how Microsoft documents a connector's limits.
		return &watch.RetryError{After: someAfter, Err: err}
	}
	return err
}
