package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"holdfast/lock"
	"holdfast/store"
	"holdfast/vcs"
)

// HoldEverything is the key of a hold on the whole server.
const HoldEverything lock.Key = "hold/everything"

// MaxHold is the longest hold: what is forgotten ends by itself.
const MaxHold = 90 * 24 * time.Hour

// maxWhy bounds the reason of a hold, in bytes.
const maxWhy = 500

// Holder is who holds something back; the next hold of the same takes its
// place, whoever gives it.
func Holder(who, why string) lock.Holder {
	why = strings.ToValidUTF8(why, "?")
	return lock.Holder{ID: "hold", Who: who, Why: why[:min(len(why), maxWhy)]}
}

// holdKey is the key of a hold on a workspace; of all of a repository where
// workspace is empty.
func holdKey(repo vcs.Repository, workspace string) lock.Key {
	key := "hold/" + repo.String()
	if workspace != "" {
		key += "/" + workspace
	}
	return lock.Key(key)
}

// onHold returns the hold that keeps the run's workspace as it is; nil where
// there is none.
func (x *execution) onHold(ctx context.Context) (*lock.Lease, error) {
	leases, err := x.r.Locker.List(ctx, "hold/")
	if err != nil {
		return nil, err
	}
	for _, l := range leases {
		switch l.Key {
		case HoldEverything, holdKey(x.repo, ""), holdKey(x.repo, x.run.Workspace):
			return &l, nil
		}
	}
	return nil, nil
}

// whileHeld puts the run back while its workspace is on hold: nothing is
// applied or corrected meanwhile, and plans go on.
func (x *execution) whileHeld(ctx context.Context) error {
	l, err := x.onHold(ctx)
	if err != nil || l == nil {
		return err
	}
	return x.wait(ctx, holdText(*l), 5*time.Second)
}

// holdText says who holds something back, until when and why.
func holdText(l lock.Lease) string {
	s := "on hold by " + l.Holder.Who
	if !l.ExpireAt.IsZero() {
		s += " until " + l.ExpireAt.UTC().Format("2006-01-02 15:04 MST")
	}
	if l.Holder.Why != "" {
		s += ": " + l.Holder.Why
	}
	return s
}

// hold carries out `holdfast hold` and `holdfast release` on the workspaces of
// a repository that a command names; without names on the repository as a
// whole, workspaces that are still to come included.
func (r *Runner) hold(ctx context.Context, repo vcs.Repository, c command) (answer string, err error) {
	names, err := r.heldNames(ctx, repo, c)
	if err != nil {
		return "", err
	}
	var done []string
	for _, name := range names {
		key := holdKey(repo, name)
		if c.verb == verbHold {
			_, err = r.Locker.Acquire(ctx, key, Holder(c.who, c.why), c.length)
		} else {
			var was bool
			if was, err = r.releaseHold(ctx, key); err == nil && !was {
				continue
			}
		}
		if err != nil {
			return "", fmt.Errorf("%s %s: %w", c.verb, key, err)
		}
		err = r.audit(ctx, store.Entry{ID: ulid.Make().String(), Who: c.who, Action: c.verb, Repository: repo.String(), Workspace: name, Why: c.why})
		if err != nil {
			return "", err
		}
		if name == "" {
			done = append(done, "all workspaces")
		} else {
			done = append(done, "`"+plainWord(name)+"`")
		}
	}
	switch {
	case len(done) == 0 && c.verb == verbRelease:
		return "Nothing of that is on hold.", nil
	case len(done) == 0:
		return "No workspace has that name.", nil
	case c.verb == verbRelease:
		return "Released: " + strings.Join(done, ", ") + ". What waited goes on by itself.", nil
	}
	return fmt.Sprintf("On hold for %s: %s. Nothing is applied or corrected there meanwhile; plans go on. `holdfast release` ends it.", c.length, strings.Join(done, ", ")), nil
}

// heldNames are the workspaces that a hold or a release is about; the empty
// name is the repository as a whole.
func (r *Runner) heldNames(ctx context.Context, repo vcs.Repository, c command) ([]string, error) {
	if len(c.match) == 0 && c.verb == verbHold {
		return []string{""}, nil
	}
	names := []string{}
	if len(c.match) == 0 {
		names = append(names, "")
	}
	var known repositoryRecord
	if _, err := r.load(ctx, "repository/"+repo.String(), &known); err != nil {
		return nil, err
	}
	for _, w := range known.Workspaces {
		if c.asks(c.verb, w.Name) {
			names = append(names, w.Name)
		}
	}
	return names, nil
}

// releaseHold ends a hold, and reports whether there was one.
func (r *Runner) releaseHold(ctx context.Context, key lock.Key) (was bool, err error) {
	leases, err := r.Locker.List(ctx, string(key))
	if err != nil {
		return false, err
	}
	for _, l := range leases {
		if l.Key != key {
			continue
		}
		if err := r.Locker.Release(ctx, l); err != nil && !errors.Is(err, lock.ErrLost) {
			return false, err
		}
		return true, nil
	}
	return false, nil
}
