package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"holdfast/smallcloud"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 4 << 20

// client speaks the cloud's API.
type client struct {
	endpoint *url.URL
	http     *http.Client
}

// errGone says that the cloud has no such resource (any more).
var errGone = errors.New("no such resource")

func newClient(endpoint string) (*client, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not an http or https URL", endpoint)
	}
	// No time limit: a creation takes as long as it takes, and Terraform's
	// interrupt ends the context.
	return &client{endpoint: u, http: &http.Client{}}, nil
}

func (c *client) create(ctx context.Context, s smallcloud.Spec) (r smallcloud.Resource, err error) {
	err = c.call(ctx, http.MethodPost, c.endpoint.JoinPath("api/resources"), s, &r)
	return r, err
}

func (c *client) read(ctx context.Context, id string) (r smallcloud.Resource, err error) {
	err = c.call(ctx, http.MethodGet, c.resource(id), nil, &r)
	return r, err
}

func (c *client) update(ctx context.Context, id string, s smallcloud.Spec) (r smallcloud.Resource, err error) {
	err = c.call(ctx, http.MethodPut, c.resource(id), s, &r)
	return r, err
}

// remove is content with a resource that is gone already.
func (c *client) remove(ctx context.Context, id string) error {
	err := c.call(ctx, http.MethodDelete, c.resource(id), nil, nil)
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

func (c *client) image(ctx context.Context, name, delay string) (i smallcloud.Image, err error) {
	u := c.endpoint.JoinPath("api/images", url.PathEscape(name))
	u.RawQuery = url.Values{"delay": {delay}}.Encode()
	err = c.call(ctx, http.MethodGet, u, nil, &i)
	return i, err
}

func (c *client) resource(id string) *url.URL {
	return c.endpoint.JoinPath("api/resources", url.PathEscape(id))
}

// call sends one request. 404 is errGone, any other refusal the cloud's own
// words.
func (c *client) call(ctx context.Context, method string, u *url.URL, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("write request: %w", err)
	}
	if in == nil {
		body = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode == http.StatusNotFound {
		return errGone
	}
	if resp.StatusCode >= 300 {
		var refusal struct{ Error string }
		if json.Unmarshal(answer, &refusal) != nil || refusal.Error == "" {
			refusal.Error = "the cloud answered without a reason"
		}
		return fmt.Errorf("%s (%s)", refusal.Error, resp.Status)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}
