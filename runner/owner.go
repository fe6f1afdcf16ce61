package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
)

// The lock policies of a workspace; see workspaces.Apply.
const (
	lockPlan = "plan"
	lockNone = "none"
)

// turn is how often a run that waits for a workspace looks whether it is its
// turn. It is woken when the workspace is given back; this is the net below.
const turn = 10 * time.Second

// ownerKey is the key of what a pull request owns: a workspace, from its plan or
// its merge on, until it is applied, closed, or somebody unlocks it. This lock
// has no end; the one that a running process holds is another.
func ownerKey(repo vcs.Repository, workspace string) lock.Key {
	return lock.Key("owner/" + repo.String() + "/" + workspace)
}

// ownerNumber is the pull request that has a lock; 0 where none has it.
func ownerNumber(l lock.Lease) int {
	_, number, _ := strings.Cut(l.Holder.ID, "#")
	n, _ := strconv.Atoi(number)
	return n
}

// own takes the workspace for the run's pull request, or puts the run back into
// the line of those that wait for it. Of merges the earlier one goes first;
// else who came first does, and a merge before a plan.
func (x *execution) own(ctx context.Context) error {
	if x.in.Workspace.Apply.Lock == lockNone {
		return nil
	}
	owner, err := x.r.owner(ctx, x.repo, x.run.Workspace)
	if err != nil || x.run.PullRequest == 0 && owner == nil {
		return err
	}
	ahead, err := x.ahead(ctx)
	if err != nil {
		return err
	}
	mine := pullName(x.repo, x.run.PullRequest)
	if owner != nil && owner.Holder.ID != mine && x.goesBefore(ctx, ownerNumber(*owner)) {
		if x.run.PullRequest == 0 {
			return nil // the owner's apply waits for this one
		}
		// It was merged later and is not applied: it cannot go first.
		if _, err := x.r.disown(ctx, x.repo, x.run.Workspace, ownerNumber(*owner)); err != nil {
			return err
		}
		owner = nil
	}
	if owner == nil && len(ahead) == 0 || owner != nil && owner.Holder.ID == mine {
		_, err := x.r.Locker.Acquire(ctx, ownerKey(x.repo, x.run.Workspace), lock.Holder{
			ID: mine, Who: fmt.Sprintf("pull request #%d", x.run.PullRequest), Why: string(x.run.Kind) + " of " + short(x.run.Commit),
		}, 0)
		held := (*lock.HeldError)(nil)
		if !errors.As(err, &held) {
			return err
		}
		owner = &held.Lease
	}
	return x.wait(ctx, x.inLine(ctx, owner, ahead), turn)
}

// owner returns the lock on a workspace; nil where no pull request has it.
func (r *Runner) owner(ctx context.Context, repo vcs.Repository, workspace string) (*lock.Lease, error) {
	key := ownerKey(repo, workspace)
	leases, err := r.Locker.List(ctx, string(key))
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(leases, func(l lock.Lease) bool { return l.Key == key }); i >= 0 {
		return &leases[i], nil
	}
	return nil, nil
}

// ahead returns the pull requests whose turn comes before the run's, nearest to
// theirs first, and keeps since when this one has been in the line. Who owns the
// workspace has had its turn.
func (x *execution) ahead(ctx context.Context) ([]int, error) {
	if x.result.Since.IsZero() {
		x.result.Since = x.r.Clock()
		if err := x.save(ctx); err != nil {
			return nil, err
		}
	}
	runs, err := x.r.Store.Runs.List(ctx, store.RunFilter{
		Repository: x.run.Repository, Workspace: x.run.Workspace, States: []store.State{store.Queued, store.Running}, Limit: maxApplies,
	})
	if err != nil {
		return nil, err
	}
	type place struct {
		run   store.Run
		since time.Time
	}
	var line []place
	for _, run := range runs {
		var result Result
		if run.PullRequest == 0 || run.PullRequest == x.run.PullRequest || len(run.Result) > 0 && json.Unmarshal(run.Result, &result) != nil {
			continue
		}
		if !result.Since.IsZero() {
			line = append(line, place{run, result.Since})
		}
	}
	order := func(a, b place) int {
		return cmp.Or(strings.Compare(string(a.run.Kind), string(b.run.Kind)), a.since.Compare(b.since), a.run.PullRequest-b.run.PullRequest)
	}
	slices.SortFunc(line, order)
	me := place{x.run, x.result.Since}
	var numbers []int
	for _, p := range line {
		later := p.run.Kind == store.KindApply && x.run.Kind == store.KindApply && x.contains(ctx, p.run.Commit)
		if order(p, me) < 0 && !later && !slices.Contains(numbers, p.run.PullRequest) {
			numbers = append(numbers, p.run.PullRequest)
		}
	}
	return numbers, nil
}

// contains reports whether that commit has the run's in its history.
func (x *execution) contains(ctx context.Context, commit string) bool {
	in, err := x.r.Git.IsAncestor(ctx, x.repo, x.run.Commit, commit)
	return err == nil && in && commit != x.run.Commit
}

// goesBefore reports whether this apply goes before that of the pull request
// that owns the workspace: its merge or its push is the earlier one, and the
// other has not touched the cloud.
func (x *execution) goesBefore(ctx context.Context, owner int) bool {
	if x.run.Kind != store.KindApply || owner == 0 {
		return false
	}
	runs, err := x.r.Store.Runs.List(ctx, store.RunFilter{
		Repository: x.run.Repository, Workspace: x.run.Workspace, PullRequest: owner, Kind: store.KindApply, Limit: 1,
	})
	if err != nil || len(runs) == 0 || runs[0].State != store.Queued && runs[0].State != store.Held || !x.contains(ctx, runs[0].Commit) {
		return false
	}
	var rec WorkspaceRecord
	if _, err := x.r.load(ctx, workspaceName(x.repo, x.run.Workspace), &rec); err != nil {
		return false
	}
	return rec.Unfinished != runs[0].Commit
}

// inLine says whom a run waits for, since when that one has the workspace and
// what has become of it, and the run's position.
func (x *execution) inLine(ctx context.Context, owner *lock.Lease, ahead []int) string {
	position := 1 + len(ahead)
	if owner == nil {
		return fmt.Sprintf("waits for its turn after pull request #%d; position %d", ahead[len(ahead)-1], position)
	}
	number := ownerNumber(*owner)
	ahead = slices.DeleteFunc(ahead, func(n int) bool { return n == number })
	position = 1 + len(ahead)
	s := fmt.Sprintf("waits for %s, which has this workspace since %s (%s); position %d", owner.Holder.Who,
		owner.Since.UTC().Format("2006-01-02 15:04 MST"), owner.Holder.Why, position)
	runs, err := x.r.Store.Runs.List(ctx, store.RunFilter{Repository: x.run.Repository, Workspace: x.run.Workspace, PullRequest: number, Limit: 1})
	if applied := x.unmerged(ctx, number); applied != "" {
		s += ". Commit " + short(applied) + " is applied there and not merged yet: merge that pull request, or close it"
	} else if err == nil && len(runs) > 0 && runs[0].Kind == store.KindApply {
		if how := map[store.State]string{store.Failed: "failed", store.Held: "is held"}[runs[0].State]; how != "" {
			s += ". Its apply " + how + ": it goes on with `holdfast apply` there, or `holdfast unlock` there lets others go first"
		}
	}
	if both := x.waitsToo(ctx, number); both != "" {
		s += fmt.Sprintf(". It waits in turn for this pull request, which has %s: `holdfast unlock` in one of the two lets the other go on", both)
	}
	return s
}

// unmerged returns the commit of another, open pull request that is applied to the
// run's workspace; empty where there is none.
func (x *execution) unmerged(ctx context.Context, other int) string {
	var rec pullRecord
	if _, err := x.r.load(ctx, pullName(x.repo, other), &rec); err != nil || rec.State != vcs.Open {
		return ""
	}
	w := rec.workspace(x.run.Workspace)
	if w.Apply != "" {
		if run, err := x.r.Store.Runs.Get(ctx, w.Apply); err == nil && (run.State == store.Applied || run.State == store.NoChanges) {
			return run.Commit
		}
		return "" // it is at work on its next commit, or that failed
	}
	return w.Applied
}

// waitsToo returns a workspace that the run's pull request has and the other
// one waits for; empty where there is none.
func (x *execution) waitsToo(ctx context.Context, other int) string {
	runs, err := x.r.Store.Runs.List(ctx, store.RunFilter{
		Repository: x.run.Repository, PullRequest: other, States: []store.State{store.Queued}, Limit: maxApplies,
	})
	if err != nil {
		return ""
	}
	for _, run := range runs {
		l, err := x.r.owner(ctx, x.repo, run.Workspace)
		if err == nil && l != nil && ownerNumber(*l) == x.run.PullRequest {
			return run.Workspace
		}
	}
	return ""
}

// disown gives back a workspace that a pull request has, wakes who waits for it,
// and reports whether it had it. Doing it twice is the same as doing it once.
func (r *Runner) disown(ctx context.Context, repo vcs.Repository, workspace string, number int) (was bool, err error) {
	l, err := r.owner(ctx, repo, workspace)
	if err != nil {
		return false, err
	}
	if l != nil && l.Holder.ID == pullName(repo, number) {
		if err := r.Locker.Release(ctx, *l); err != nil && !errors.Is(err, lock.ErrLost) {
			return false, fmt.Errorf("give back %s: %w", workspace, err)
		}
		was = true
	} else if l != nil {
		return false, nil
	}
	return was, wake(ctx, r.Store, r.Queue, repo.String(), workspace)
}

// disownAll gives back what a pull request has but does not need any more.
func (r *Runner) disownAll(ctx context.Context, repo vcs.Repository, number int, needs func(workspace string) bool) error {
	names, err := owned(ctx, r.Locker, repo, number)
	if err != nil {
		return err
	}
	for _, name := range names {
		if needs(name) {
			continue
		}
		if _, err := r.disown(ctx, repo, name, number); err != nil {
			return err
		}
	}
	return nil
}

// owned returns the workspaces that a pull request has; that any has, where
// number is 0.
func owned(ctx context.Context, locker *lock.Locker, repo vcs.Repository, number int) ([]string, error) {
	prefix := string(ownerKey(repo, ""))
	leases, err := locker.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range leases {
		if number == 0 || l.Holder.ID == pullName(repo, number) {
			names = append(names, strings.TrimPrefix(string(l.Key), prefix))
		}
	}
	return names, nil
}

// wake makes the jobs of a workspace's waiting runs due now.
func wake(ctx context.Context, st *store.Store, q *queue.Queue, repo, workspace string) error {
	runs, err := st.Runs.List(ctx, store.RunFilter{Repository: repo, Workspace: workspace, States: []store.State{store.Queued, store.Running}, Limit: maxApplies})
	if err != nil {
		return err
	}
	for _, run := range runs {
		jobs, err := q.List(ctx, queue.Filter{Key: "run/" + run.ID})
		if err != nil {
			return err
		}
		for _, j := range jobs {
			if _, err := q.Retry(ctx, j.ID); err != nil && !errors.Is(err, queue.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}
