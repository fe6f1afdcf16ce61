package azuredevops

import (
	"context"
	"net/http"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// EditPull sets title and body of a pull request, and abandons it. One that is not
// active is left alone: the host edits active ones alone.
func (h *Host) EditPull(ctx context.Context, r vcs.Repository, n int, e vcs.PullEdit) error {
	p, err := h.pull(ctx, r, n)
	if err != nil || p.state() != vcs.Open {
		return err
	}
	edit := map[string]string{"description": transport.CutText(transport.Storable(e.Body), maxBody)}
	if title := transport.Line(e.Title, maxTitle); title != "" {
		edit["title"] = title
	}
	if _, err := h.api.Do(ctx, http.MethodPatch, pullPath(r, n, ""), edit, nil); err != nil {
		return transport.Wrap(err, "edit pull request %s#%d", r, n)
	}
	if !e.Close {
		return nil
	}
	// The status is set on its own.
	if _, err := h.api.Do(ctx, http.MethodPatch, pullPath(r, n, ""), map[string]string{"status": "abandoned"}, nil); err != nil {
		// Somebody may have ended it meanwhile.
		if p, perr := h.pull(ctx, r, n); perr == nil && p.state() != vcs.Open {
			return nil
		}
		return transport.Wrap(err, "abandon pull request %s#%d", r, n)
	}
	return nil
}
