package bitbucket

import (
	"context"
	"net/http"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// EditPull sets title and body of a pull request, and declines it. One that is not
// open is left alone: the host edits open ones alone.
func (h *Host) EditPull(ctx context.Context, r vcs.Repository, n int, e vcs.PullEdit) error {
	p, err := h.pull(ctx, r, n)
	if err != nil || p.state() != vcs.Open {
		return err
	}
	// Reviewers that are not sent along would be taken off.
	edit := map[string]any{"title": p.Title, "description": transport.CutText(transport.Storable(e.Body), maxComment), "reviewers": p.reviewers()}
	if title := transport.Line(e.Title, maxTitle); title != "" {
		edit["title"] = title
	}
	if _, err := h.api.Do(ctx, http.MethodPut, pullAt(r, int64(n), ""), edit, nil); err != nil {
		return transport.Wrap(err, "edit pull request %s#%d", r, n)
	}
	if !e.Close {
		return nil
	}
	if _, err := h.api.Do(ctx, http.MethodPost, pullAt(r, int64(n), "/decline"), nil, nil); err != nil {
		// Somebody may have ended it meanwhile.
		if p, perr := h.pull(ctx, r, n); perr == nil && p.state() != vcs.Open {
			return nil
		}
		return transport.Wrap(err, "decline pull request %s#%d", r, n)
	}
	return nil
}

// reviewers are those who were asked, as the API takes them.
func (p pull) reviewers() []map[string]string {
	all := []map[string]string{}
	for _, u := range p.Reviewers {
		all = append(all, map[string]string{"uuid": u.UUID})
	}
	return all
}
