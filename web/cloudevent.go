package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"holdfast/vcs"
)

// maxCloudEvent is the largest body of a cloud event, in bytes.
const maxCloudEvent = 64 << 10

// cloudEvent takes what an audit log triggers: a signed request that asks for
// the drift check of one workspace. Its answers are those of a webhook.
func (s *server) cloudEvent(w http.ResponseWriter, r *http.Request) {
	code, result, detail := s.takeCloudEvent(w, r)
	s.metrics.webhooks.WithLabelValues("cloud-event", result).Inc()
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "10")
	}
	respond(w, code, result, detail)
}

func (s *server) takeCloudEvent(w http.ResponseWriter, r *http.Request) (code int, result, detail string) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.BodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCloudEvent))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return http.StatusRequestEntityTooLarge, "refused", "the body is larger than 64 KiB"
		}
		return http.StatusBadRequest, "refused", "the body could not be read"
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), receiveTimeout)
	defer cancel()
	var bad *vcs.PayloadError
	err = s.CloudEvent(ctx, r.Header, body)
	switch {
	case err == nil, errors.Is(err, vcs.ErrNotServed):
		return http.StatusAccepted, "accepted", "" // who asks learns nothing about what is served
	case errors.Is(err, vcs.ErrSignature):
		s.Logger.Warn("cloud event refused", "remote", r.RemoteAddr, "error", err)
		return http.StatusUnauthorized, "refused", "the signature is missing, wrong or too old; see docs/drift.md"
	case errors.As(err, &bad):
		return http.StatusBadRequest, "refused", bad.Error()
	}
	s.Logger.Error("cloud event not stored", "error", err)
	return http.StatusServiceUnavailable, "failed", "the event could not be stored; send it again"
}
