package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/vcs"
)

// receiveTimeout is how long an event may take to become durable. Hosts give
// up after ten seconds and send again later.
const receiveTimeout = 8 * time.Second

// metrics are this package's own.
type metrics struct {
	webhooks *prometheus.CounterVec // by host and result
	streams  prometheus.Gauge
}

func newMetrics(r *prometheus.Registry) (*metrics, error) {
	m := &metrics{
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_webhooks_total",
			Help: "Webhooks received, by host and by what became of them.",
		}, []string{"host", "result"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_log_streams",
			Help: "Logs that are being followed in a browser now.",
		}),
	}
	for _, c := range []prometheus.Collector{m.webhooks, m.streams} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// notServed is the result of an event of a repository that is not served.
const notServed = "not_served"

// webhook verifies and parses, makes the event durable, and only then
// answers 202. It calls no host.
//
//	404 unknown host        413 body larger than MaxWebhook
//	415 not JSON            401 signature missing or wrong
//	400 signed nonsense     503 not durable: the host is to send it again
//	200 ignored             202 durable, or of a repository that is not served
func (s *server) webhook(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("host")
	host, ok := s.Hosts[name]
	if !ok {
		respond(w, http.StatusNotFound, "unknown host", "no host of that name is configured")
		return
	}
	code, result, detail := s.handle(r, w, name, host)
	s.metrics.webhooks.WithLabelValues(name, result).Inc()
	if result == notServed {
		result = "accepted" // as for one that is: who asks learns nothing
	}
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "10")
	}
	respond(w, code, result, detail)
}

func (s *server) handle(r *http.Request, w http.ResponseWriter, name string, host vcs.Webhooks) (code int, result, detail string) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return http.StatusUnsupportedMediaType, "refused", "the content type must be application/json; set it in the host's webhook settings"
	}
	// Anybody may connect; nobody may hold a connection by sending nothing. Where
	// the server cannot set it, the read has no end of its own.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.BodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxWebhook))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return http.StatusRequestEntityTooLarge, "refused", "the body is larger than 5 MiB"
		}
		return http.StatusBadRequest, "refused", "the body could not be read"
	}
	event, err := host.ParseWebhook(r.Header, body)
	switch {
	case errors.Is(err, vcs.ErrSignature):
		s.Logger.Warn("webhook refused", "host", name, "remote", r.RemoteAddr, "error", err)
		return http.StatusUnauthorized, "refused", "the signature is missing or wrong; compare the secret in the host's webhook settings"
	case errors.Is(err, vcs.ErrIgnored):
		return http.StatusOK, "ignored", err.Error()
	case err != nil:
		s.Logger.Warn("webhook not understood", "host", name, "error", err)
		return http.StatusBadRequest, "refused", err.Error()
	}
	// A host that hangs up early must not undo what is half done.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), receiveTimeout)
	defer cancel()
	err = s.Receive(ctx, event)
	if errors.Is(err, vcs.ErrNotServed) {
		return http.StatusAccepted, notServed, ""
	}
	if err != nil {
		s.Logger.Error("webhook not stored", "host", name, "delivery", event.Delivery, "error", err)
		return http.StatusServiceUnavailable, "failed", "the event could not be stored; send it again"
	}
	return http.StatusAccepted, "accepted", ""
}

// respond answers a host. Its log of deliveries shows this to a person.
func respond(w http.ResponseWriter, code int, result, detail string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(struct {
		Result string `json:"result"`
		Detail string `json:"detail,omitempty"`
	}{result, detail})
}
