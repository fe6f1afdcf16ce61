package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"holdfast/runner"
)

const (
	day = 24 * time.Hour
	// maxRetention is the longest time that is not for ever.
	maxRetention = 100 * 365 * day
)

// forever is how a time without an end is written; it is 0 in runner.Retention.
const forever = "forever"

// defaultRetention is for how long runs are kept where nothing is said.
var defaultRetention = runner.Retention{Artifacts: 30 * day, Checks: 30 * day, Runs: 400 * day}

// retention reads the retention block.
func (f *serverFile) retention(b *hclsyntax.Block, s *Settings) {
	if len(b.Labels) > 0 {
		f.problem(b.LabelRanges[0], "leave the label out", "a retention block has no label")
	}
	f.known(b.Body, "retention", []string{"artifacts", "checks", "runs"}, nil)
	k := &s.Retention
	for name, to := range map[string]*time.Duration{"artifacts": &k.Artifacts, "checks": &k.Checks, "runs": &k.Runs} {
		var text string
		f.text(b.Body, name, &text, func(v string) error {
			d, err := parseRetention(v)
			if err == nil {
				*to = d
			}
			return err
		})
	}
	if k.Runs == 0 || k.Artifacts > 0 && k.Artifacts <= k.Runs {
		return
	}
	at := b.TypeRange
	for _, name := range []string{"runs", "artifacts"} {
		if a, ok := b.Body.Attributes[name]; ok {
			at = a.Expr.Range()
		}
	}
	f.problem(at, "a run's plan and log go with the run: set artifacts to no more than runs", "artifacts are kept for longer (%s) than runs (%s)", retentionText(k.Artifacts), retentionText(k.Runs))
}

// parseRetention reads a number of days, a length of time, or "forever", which
// is 0.
func parseRetention(v string) (time.Duration, error) {
	if v == forever {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	if days, ok := strings.CutSuffix(v, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 64)
		d = time.Duration(min(n, uint64(maxRetention/day)+1)) * day
	}
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return 0, hinted{fmt.Errorf("is %q, which is no length of time", v), `write it like "30d", "36h" or "forever"`}
	case d < day:
		return 0, hinted{fmt.Errorf("is %q, which is too short", v), "a day is the least"}
	case d > maxRetention:
		return 0, hinted{errors.New("is more than a hundred years"), `write "forever"`}
	}
	return d, nil
}

// retentionText is how a length of time is written.
func retentionText(d time.Duration) string {
	switch {
	case d == 0:
		return forever
	case d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}
