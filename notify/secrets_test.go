package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSecretsAreHidden(t *testing.T) {
	for raw, said := range map[string]string{
		"slack://hook:AAAAAAAAA-BBBBBBBBB-t0ps3crett0ps3crett0ps3@webhook":   `Post "https://hooks.slack.com/services/AAAAAAAAA/BBBBBBBBB/t0ps3crett0ps3crett0ps3": EOF`,
		"telegram://123:t0ps3cretX@telegram?chats=@t0ps3cretY":               `Post "https://api.telegram.org/bot123:t0ps3cretX/sendMessage": chat @t0ps3cretY`,
		"pushbullet://t0ps3crettoken":                                        "token t0ps3crettoken is bad",
		"smtp://u5:p%40t0ps3cret@mail.example:587/?from=a@t0ps3cret.example": "auth u5 p@t0ps3cret p%40t0ps3cret: no a@t0ps3cret.example",
		"generic://x.example/a/t0ps3cretpath?k=t0ps3cret+v":                  `Get "http://x.example/a/t0ps3cretpath?k=t0ps3cret+v": "t0ps3cret v"`,
		"https://u:t0ps3cret@x.example":                                      `parse https://u:t0ps3cret@x.example/ and t0ps3cret`,
	} {
		if got := newSecrets(raw).hide(said); strings.Contains(got, "ps3cret") || strings.Contains(got, "AAAAAAAAA") {
			t.Errorf("%s", got)
		}
	}
	if got := newSecrets("smtp://is:no@mail.example/?x=yes").hide("this is his mail.example, yes"); got != "this *** his mail.example, yes" {
		t.Errorf("%q", got)
	}
	err := newSecrets("https://x.example/t0ps3cret").hideError(fmt.Errorf("t0ps3cret: %w", context.DeadlineExceeded))
	if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(fmt.Sprintf("%v %+v", err, errors.Unwrap(err)), "ps3cret") {
		t.Errorf("%v", err)
	}
}

func FuzzHide(f *testing.F) {
	f.Add("slack://hook:AAAAAAAAA-BBBBBBBBB-t0ps3crett0ps3crett0ps3@webhook")
	f.Add("telegram://1:2@telegram?chats=@x")
	f.Fuzz(func(t *testing.T, raw string) {
		if n, err := New(Config{URL: raw}); (n == nil) != (err != nil) {
			t.Fatal(n, err)
		}
		newSecrets(raw).hide(raw)
	})
}
