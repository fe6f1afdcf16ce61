package transport

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Client makes requests with JSON in both directions: for hosts that have no
// client that is kept well.
type Client struct {
	Base string // the API's address, without a slash at its end
	HTTP *http.Client
	// Auth signs a request.
	Auth func(*http.Request)
	// ContentType is what requests are sent as. Defaults to application/json.
	ContentType string
}

// Do asks for path, which begins with a slash, or for a whole address below Base,
// and reads the answer into out, which may be nil. Other addresses are refused:
// lists come with the address of their next page, and the token goes with it.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) (*http.Response, error) {
	address := c.Base + path
	if strings.Contains(path, "://") {
		if !strings.HasPrefix(path, c.Base+"/") {
			return nil, fmt.Errorf("the host leads to another address, %s", Printable(path))
		}
		address = path
	}
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "holdfast")
	if in != nil {
		req.Header.Set("Content-Type", cmp.Or(c.ContentType, "application/json"))
	}
	c.Auth(req)
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the host's answer: %w", err)
	}
	if out == nil {
		if len(data) == 0 {
			return resp, nil
		}
		out = &json.RawMessage{} // a proxy's page is no success
	}
	return resp, json.Unmarshal(data, out)
}
