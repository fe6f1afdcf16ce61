package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"holdfast/watch"
)

// webhook sends the message itself, as JSON, to a program. It is signed as
// https://www.standardwebhooks.com says, for which receivers have libraries.
type webhook struct {
	poster
	url string
	key []byte // nil for none
}

func newWebhook(u *url.URL, secret string, p poster) (*webhook, error) {
	if u.Host == "" {
		return nil, &AddressError{"the webhook's address has no host", ""}
	}
	w := &webhook{poster: p, url: u.String()}
	if text, ok := strings.CutPrefix(secret, "whsec_"); ok {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) == 0 {
			return nil, &AddressError{"the webhook's secret begins with whsec_, but the rest is not Base64", "copy the whole secret, or choose one that does not begin with whsec_"}
		}
		w.key = key
	} else if secret != "" {
		w.key = []byte(secret)
	}
	return w, nil
}

func (w *webhook) Notify(ctx context.Context, m watch.Message) error {
	if m.Events == nil {
		m.Events = []watch.Event{} // receivers expect a list
	}
	body, err := json.Marshal(m)
	if err != nil {
		return &watch.PermanentError{Err: fmt.Errorf("write the message: %w", err)}
	}
	timestamp := strconv.FormatInt(w.now().Unix(), 10)
	h := http.Header{}
	id := watch.Clean(m.ID, 300)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", timestamp)
	if w.key != nil {
		mac := hmac.New(sha256.New, w.key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	_, err = w.post(ctx, w.url, h, body)
	return err
}
