package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
)

// Unlocking says which locks of pull requests are taken back, by whom and why.
type Unlocking struct {
	Repository vcs.Repository
	Number     int      // only of this pull request; 0: of any
	Match      []string // names or globs of workspaces; none: all
	Who, Why   string
}

// Unlocked is what became of an Unlocking.
type Unlocked struct {
	Workspaces []string
	Owners     []int    // the pull request of each of Workspaces
	Busy       []string // workspaces whose apply has not ended: nothing was done
}

// Unlock takes locks back from pull requests, so that those that wait go on, and
// writes so into the audit trail. An apply that has not ended keeps its lock.
func Unlock(ctx context.Context, st *store.Store, q *queue.Queue, locker *lock.Locker, u Unlocking, audit func(store.Entry) error) (done Unlocked, err error) {
	prefix := string(ownerKey(u.Repository, ""))
	leases, err := locker.List(ctx, prefix)
	if err != nil {
		return done, fmt.Errorf("list locks: %w", err)
	}
	for _, l := range leases {
		name, number := strings.TrimPrefix(string(l.Key), prefix), ownerNumber(l)
		if !matches(u.Match, name) || u.Number != 0 && number != u.Number {
			continue
		}
		busy, err := st.Runs.List(ctx, store.RunFilter{
			Repository: u.Repository.String(), Workspace: name, PullRequest: number, Kind: store.KindApply,
			States: []store.State{store.Queued, store.Running, store.Unknown}, Limit: 1,
		})
		if err != nil {
			return done, err
		}
		if len(busy) > 0 {
			done.Busy = append(done.Busy, name)
			continue
		}
		if err := audit(store.Entry{
			ID: ulid.Make().String(), Who: u.Who, Action: verbUnlock, Repository: u.Repository.String(), Workspace: name,
			Why: strings.TrimSuffix(fmt.Sprintf("from pull request #%d: %s", number, u.Why), ": "),
		}); err != nil {
			return done, err
		}
		if err := locker.Release(ctx, l); err != nil && !errors.Is(err, lock.ErrLost) {
			return done, fmt.Errorf("unlock %s: %w", name, err)
		}
		if err := wake(ctx, st, q, u.Repository.String(), name); err != nil {
			return done, err
		}
		done.Workspaces, done.Owners = append(done.Workspaces, name), append(done.Owners, number)
	}
	return done, nil
}

// unlock carries out `holdfast unlock` in a pull request.
func (r *Runner) unlock(ctx context.Context, e vcs.Event, c command) (answer string, err error) {
	done, err := Unlock(ctx, r.Store, r.Queue, r.Locker, Unlocking{e.Repository, e.Number, c.match, c.who, c.why}, func(entry store.Entry) error {
		return r.audit(ctx, entry)
	})
	if err != nil {
		return "", err
	}
	forgotten, err := r.unlocked(ctx, e, done.Workspaces, c.who)
	if err != nil {
		return "", err
	}
	var said []string
	if len(done.Workspaces) > 0 {
		said = append(said, "Unlocked: "+quoted(done.Workspaces)+". Who waits goes on by itself.")
	}
	if len(forgotten) > 0 {
		said = append(said, "Nothing of "+quoted(forgotten)+" is destroyed, and Holdfast does not look after it any more.")
	}
	if len(done.Busy) > 0 {
		said = append(said, "An apply of "+quoted(done.Busy)+" has not ended, so it stays locked.")
	}
	if len(said) == 0 {
		return r.lockedBy(ctx, e, c)
	}
	return strings.Join(said, " "), nil
}

// unlocked notes in a pull request that workspaces were taken from it, and
// forgets those whose root module it deleted: that is what unlocking them means.
func (r *Runner) unlocked(ctx context.Context, e vcs.Event, names []string, who string) (forgotten []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	var rec pullRecord
	err = change(ctx, r, pullName(e.Repository, e.Number), func(p *pullRecord) {
		for i := range p.Workspaces {
			for _, name := range names {
				if p.Workspaces[i].Name == name {
					p.Workspaces[i].Unlocked = who
				}
			}
		}
		rec = *p
	})
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		w := rec.workspace(name)
		if !w.Deleted || rec.State != vcs.Merged || w.Apply == "" {
			continue
		}
		// One that began, and failed, has left something that is not forgotten.
		if run, err := r.Store.Runs.Get(ctx, w.Apply); err != nil || run.State != store.Held {
			continue
		}
		if err := r.Store.Records.Delete(ctx, workspaceName(e.Repository, name)); err != nil {
			return nil, err
		}
		forgotten = append(forgotten, name)
	}
	return forgotten, r.enqueueReport(ctx, e.Repository, e.Number)
}

// lockedBy says who has the workspaces that a pull request cannot unlock.
func (r *Runner) lockedBy(ctx context.Context, e vcs.Event, c command) (string, error) {
	var rec pullRecord
	if _, err := r.load(ctx, pullName(e.Repository, e.Number), &rec); err != nil {
		return "", err
	}
	text := "This pull request has locked nothing of that."
	for _, w := range rec.Workspaces {
		if !c.asks(verbUnlock, w.Name) {
			continue
		}
		l, err := r.owner(ctx, e.Repository, w.Name)
		if err != nil {
			return "", err
		}
		if l != nil {
			text += fmt.Sprintf(" `%s` is locked by %s: comment there.", plainWord(w.Name), l.Holder.Who)
		}
	}
	return text, nil
}

// quoted lists names for people.
func quoted(names []string) string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = "`" + plainWord(name) + "`"
	}
	return strings.Join(out, ", ")
}
