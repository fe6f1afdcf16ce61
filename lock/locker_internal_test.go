package lock

import (
	"errors"
	"testing"
	"time"
)

// A process that stood still for longer than its lease may go on before the
// timer that tells it: it endures nothing.
func TestEndureAfterStandingStill(t *testing.T) {
	late := time.AfterFunc(time.Hour, func() {})
	defer late.Stop()
	h := &Held{expiry: late, end: time.Now().Add(-time.Minute)}
	if err := h.Endure(); !errors.Is(err, ErrLost) || h.endures {
		t.Errorf("%v, endures %v", err, h.endures)
	}
}
