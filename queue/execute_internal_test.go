package queue

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A process that stood still for longer than its lease may go on before the
// timer that tells it: it endures nothing.
func TestEndureAfterStandingStill(t *testing.T) {
	w := NewWorker(New(nil, Config{}), WorkerConfig{})
	e := w.begin(context.Background(), Job{}, time.Now().Add(time.Hour))
	defer e.cancel(nil)
	defer e.expiry.Stop()
	e.leaseEnd = time.Now().Add(-time.Minute)
	if err := Endure(e.ctx); !errors.Is(err, ErrLost) || e.endures {
		t.Errorf("%v, endures %v", err, e.endures)
	}
}
