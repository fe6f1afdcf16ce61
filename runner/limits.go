package runner

import (
	"errors"
	"time"

	"holdfast/queue"
	"holdfast/vcs"
)

// rateLimited turns a host's rate limit into a snooze: waiting for a host is
// no failed attempt.
func rateLimited(now time.Time, err error) error {
	var limit *vcs.RateLimitError
	if !errors.As(err, &limit) {
		return err
	}
	wait := time.Minute
	if !limit.RetryAt.IsZero() {
		wait = min(max(limit.RetryAt.Sub(now), time.Second), time.Hour)
	}
	return queue.Snooze(wait)
}
