package main

import (
	"testing"

	"holdfast/runner"
)

func TestUnservedText(t *testing.T) {
	for want, u := range map[string]runner.Unserved{
		"1 job waits, and no worker is running":               {Jobs: 1},
		"2 jobs wait for labels [prod] that no worker has":    {Jobs: 2, Labels: []string{"prod"}},
		"1 job waits for labels [eu prod] that no worker has": {Jobs: 1, Labels: []string{"eu", "prod"}},
	} {
		if got := unservedText(u); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
}
