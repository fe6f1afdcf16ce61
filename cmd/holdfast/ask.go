package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/vcs"
)

// Bounds of asking at the start.
const (
	askTimeout = 15 * time.Second // for one repository
	askAtOnce  = 4                // repositories
)

// ask asks for every repository once whether its host has it and takes the
// token, and logs what a person has to mend. It does not keep the server from
// starting: a host that is down now may be up in a minute, and other hosts'
// repositories should not wait for it.
func (h hosts) ask(ctx context.Context, logger *slog.Logger, timeout time.Duration) {
	var group errgroup.Group
	group.SetLimit(askAtOnce)
	for _, r := range h.repos {
		group.Go(func() error {
			limited, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s", timeout))
			defer cancel()
			if err := h.asks[r.Host](limited, r.Repository); err != nil && ctx.Err() == nil {
				tell(ctx, logger, r.Repository, err)
			}
			return nil
		})
	}
	_ = group.Wait() // none returns an error
}

// tell logs why a repository cannot be worked with: as an error where only a
// person can mend it, and with what to do.
func tell(ctx context.Context, logger *slog.Logger, r vcs.Repository, err error) {
	level, message, hint := slog.LevelError, "the host cannot be worked with", hintOf(err)
	switch {
	case errors.Is(err, vcs.ErrDenied):
		message = "the host refuses the token"
		hint = cmp.Or(hint, "check the credentials in the server file, and that their user may read and write the repository")
	case errors.Is(err, vcs.ErrNotFound):
		message = "the host has no such repository"
		hint = cmp.Or(hint, "check owner and name in the repository block (or its url and default_branch), and that the token's user may read the repository")
	case hint == "":
		level, message, hint = slog.LevelWarn, "the host cannot be reached", "will be tried again"
	}
	logger.Log(ctx, level, message, "repository", r.String(), "error", withoutHint(err, hint), "hint", hint)
}
