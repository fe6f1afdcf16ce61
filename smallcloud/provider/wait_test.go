package provider_test

import (
	"testing"
	"time"
)

// waitFor looks until cond holds: what is waited for happens in another
// process, which has no other way to tell.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(60 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("it did not happen within a minute")
		}
	}
}
