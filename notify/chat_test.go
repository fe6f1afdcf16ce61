package notify_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	stdutf16 "unicode/utf16"

	"holdfast/notify"
	"holdfast/watch"
)

const (
	slackHook   = "slack://hook:AAAAAAAAA-BBBBBBBBB-t0ps3crett0ps3crett0ps3@webhook"
	slackBot    = "slack://xoxb:123456789012-1234567890123-t0ps3crett0ps3crett0ps3@C0123456789"
	discordHook = "discord://t0ps3cret@123456789012345678"
	office      = "https://acme.webhook.office.com/webhookb2/11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/IncomingWebhook/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/V2t0ps3cret"
	workflow    = "https://prod-1.westeurope.logic.azure.com:443/workflows/abcdefabcdef/triggers/manual/paths/invoke?api-version=2016-06-01&sig=t0ps3cret"
)

// hostile is what a name in the cloud may be, and what may not be sent of it.
var hostile = watch.Message{
	ID: "m-2", Title: "Drift @here <!channel> <b>x",
	Text: "@everyone <!channel> <@U123> <@&1> <https://evil.example|https://good.example> [good](https://evil.example) **x** `y`\n" +
		`aws_s3_object.x["https://evil.example/a"] changed by al_i_ce@example.com.` + "\nSee https://good.example/a_b_c?d=1&e=2#f.",
	Link:   "https://holdfast.example/runs/1",
	Events: []watch.Event{{Kind: "drift", Resources: []string{`aws_s3_object.x["https://evil.example/a"]`}}},
}

func send(t *testing.T, address string, m watch.Message, reply string) (*local, map[string]any, error) {
	t.Helper()
	to, got := serve(t, 200, nil, reply)
	err := open(t, notify.Config{URL: address, Client: &http.Client{Transport: to}}).Notify(t.Context(), m)
	body := map[string]any{}
	if e := json.Unmarshal(got.body, &body); e != nil {
		t.Fatalf("%s: %v", got.body, e)
	}
	return to, body, err
}

func TestSlack(t *testing.T) {
	for address, want := range map[string]string{
		slackHook: "https://hooks.slack.com/services/AAAAAAAAA/BBBBBBBBB/t0ps3crett0ps3crett0ps3",
		"https://hooks.slack.com/services/AAAAAAAAA/BBBBBBBBB/t0ps3crett0ps3crett0ps3": "https://hooks.slack.com/services/AAAAAAAAA/BBBBBBBBB/t0ps3crett0ps3crett0ps3",
		slackBot: "https://slack.com/api/chat.postMessage",
	} {
		reply := "ok"
		if address == slackBot {
			reply = `{"ok":true}`
		}
		to, body, err := send(t, strings.Replace(address, "t0ps3crett0ps3crett0ps3", "t0ps3crett0ps3crett0ps3X", 1), hostile, reply)
		if err != nil {
			t.Fatal(err)
		}
		if to.asked[0] != want+"X" && to.asked[0] != want {
			t.Errorf("asked %s", to.asked[0])
		}
		text := body["text"].(string)
		for _, bad := range []string{"<", ">", "@everyone", "@here", `["https://evil`} {
			if strings.Contains(text, bad) {
				t.Errorf("%q in %s", bad, text)
			}
		}
		if !strings.Contains(text, "See https://good.example/a_b_c?d=1&amp;e=2#f.") || !strings.HasSuffix(text, "\nhttps://holdfast.example/runs/1") || body["mrkdwn"] != false {
			t.Errorf("%s", text)
		}
		if (address == slackBot) != (body["channel"] == "C0123456789") {
			t.Errorf("channel %v", body["channel"])
		}
	}
}

func TestSlackSaysNo(t *testing.T) {
	bot := slackBot + "?botname=x"
	bot = strings.Replace(bot, "t0ps3crett0ps3crett0ps3", "t0ps3crett0ps3crett0ps3X", 1)
	for code, kind := range map[string]string{"channel_not_found": "permanent", "invalid_auth": "permanent", "ratelimited": "later", "internal_error": "", "": ""} {
		_, _, err := send(t, bot, drift, fmt.Sprintf(`{"ok":false,"error":%q}`, code))
		if err == nil || errors.As(err, new(*watch.PermanentError)) != (kind == "permanent") || errors.As(err, new(*watch.RetryError)) != (kind == "later") || !strings.Contains(err.Error(), code) {
			t.Errorf("%s: %T %v", code, err, err)
		}
	}
	if _, _, err := send(t, bot, drift, "<html>"); err == nil {
		t.Error("no error")
	}
}

func TestDiscord(t *testing.T) {
	for _, address := range []string{discordHook + "?thread_id=5", "https://discord.com/api/webhooks/123456789012345678/t0ps3cret?thread_id=5"} {
		to, body, err := send(t, address, hostile, "")
		if err != nil {
			t.Fatal(err)
		}
		if to.asked[0] != "https://discord.com/api/webhooks/123456789012345678/t0ps3cret?thread_id=5" {
			t.Errorf("asked %s", to.asked[0])
		}
		embed := body["embeds"].([]any)[0].(map[string]any)
		text := fmt.Sprint(embed["title"], embed["description"])
		for _, bad := range []string{"@everyone", "@here", "<@", "<!", "<h", " [good]", "good](", "**x**", " `y`", `["https://evil`} {
			if strings.Contains(text, bad) {
				t.Errorf("%q in %s", bad, text)
			}
		}
		if !strings.Contains(text, "See https://good.example/a_b_c?d=1&e=2#f.") || embed["url"] != hostile.Link {
			t.Errorf("%s", text)
		}
		if allowed, _ := json.Marshal(body["allowed_mentions"]); string(allowed) != `{"parse":[]}` {
			t.Errorf("allowed mentions %s", allowed)
		}
	}
}

func TestTeams(t *testing.T) {
	for _, address := range []string{office, "teams+" + office, workflow, "teams+" + workflow} {
		to, body, err := send(t, address, hostile, "1")
		if err != nil {
			t.Fatal(err)
		}
		if to.asked[0] != strings.TrimPrefix(address, "teams+") {
			t.Errorf("asked %s", to.asked[0])
		}
		var text string
		if strings.HasPrefix(strings.TrimPrefix(address, "teams+"), "https://acme") {
			text = body["text"].(string)
			if strings.ContainsAny(text, "<>") {
				t.Errorf("HTML in %s", text)
			}
		} else {
			card := body["attachments"].([]any)[0].(map[string]any)["content"].(map[string]any)
			text = card["body"].([]any)[1].(map[string]any)["text"].(string)
		}
		for _, bad := range []string{"@everyone", "<@", "<h", " [good]", "good](", "**x**", " `y`", `["https://evil`} {
			if strings.Contains(text, bad) {
				t.Errorf("%q in %s", bad, text)
			}
		}
		if sent, _ := json.Marshal(body); !strings.Contains(string(sent), hostile.Link) || !strings.Contains(text, "https://good.example/a_b_c?d=1") {
			t.Errorf("%s", sent)
		}
	}
}

func TestTeamsSaysNoWithSuccess(t *testing.T) {
	_, _, err := send(t, office, drift, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x")
	if later := new(watch.RetryError); !errors.As(err, &later) || later.After != time.Minute {
		t.Errorf("%v", err)
	}
	if _, _, err := send(t, office, drift, "… returned HTTP error 403"); err == nil {
		t.Error("no error")
	}
}

func TestChatsAreCut(t *testing.T) {
	for name, line := range map[string]string{"lines": strings.Repeat("a_b*<c>&@日本🙂", 20) + "\n", "one line": strings.Repeat("🙂<", 100), "quotes": "\"\\\t\n"} {
		m := drift
		m.Title, m.Text = strings.Repeat("T_", 500), strings.Repeat(line, 4_000)
		for address, limit := range map[string]int{strings.Replace(slackHook, "@", "X@", 1): 40_000, discordHook: 6_000, office: 28 << 10, workflow: 28 << 10} {
			reply := "1"
			if strings.HasPrefix(address, "slack") {
				reply = "ok"
			}
			_, body, err := send(t, address, m, reply)
			if err != nil {
				t.Fatal(err)
			}
			var got int
			switch {
			case strings.HasPrefix(address, "slack"):
				got = len(utf16(body["text"].(string)))
			case strings.HasPrefix(address, "discord"):
				embed := body["embeds"].([]any)[0].(map[string]any)
				title, text := len(utf16(embed["title"].(string))), len(utf16(embed["description"].(string)))
				if got = title + text; title > 256 || text > 4096 {
					t.Errorf("%s: title %d, text %d", name, title, text)
				}
			default:
				sent := &strings.Builder{}
				e := json.NewEncoder(sent)
				e.SetEscapeHTML(false)
				e.Encode(body)
				got = sent.Len()
			}
			if got > limit {
				t.Errorf("%s to %.10s: %d of %d", name, address, got, limit)
			}
			if sent := fmt.Sprint(body); name == "lines" && !strings.Contains(sent, "more lines.") {
				t.Errorf("%s to %.10s does not say what was left out", name, address)
			}
		}
	}
}

func utf16(s string) []uint16 { return stdutf16.Encode([]rune(s)) }
