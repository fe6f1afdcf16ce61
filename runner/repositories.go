package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/vcs"
)

// Repository is a repository that Holdfast serves.
type Repository struct {
	vcs.Repository
	// Reconcile is how often the host is asked for what no webhook told.
	// Defaults to 5 minutes, to one minute on a host that sends no webhooks, and
	// to longer where that would take more than a tenth of what the host allows.
	Reconcile time.Duration
}

// Pattern names repositories of one host, also those that are made later.
type Pattern struct {
	Host string
	// Glob of OWNER/NAME; its first part is a plain name.
	Glob string
	// Exclude are globs of names, or of OWNER/NAME, that are left out.
	Exclude []string
	// Reconcile as of a Repository.
	Reconcile time.Duration
}

// Matches reports whether a repository is meant.
func (p Pattern) Matches(r vcs.Repository) bool {
	name := r.Owner + "/" + r.Name
	if ok, err := doublestar.Match(p.Glob, name); r.Host != p.Host || !ok || err != nil {
		return false
	}
	return !slices.ContainsFunc(p.Exclude, func(glob string) bool {
		of := r.Name
		if strings.Contains(glob, "/") {
			of = name
		}
		ok, err := doublestar.Match(glob, of)
		return ok && err == nil
	})
}

// Owner is the owner below which all repositories of the pattern are.
func (p Pattern) Owner() string {
	parts := strings.Split(p.Glob, "/")
	n := slices.IndexFunc(parts, func(s string) bool { return strings.ContainsAny(s, "*?[{") })
	if n < 0 || n > len(parts)-1 {
		n = len(parts) - 1
	}
	return strings.Join(parts[:n], "/")
}

const (
	// discoverEvery is how often a host is asked for new repositories that a
	// pattern names.
	discoverEvery = 10 * time.Minute
	// goneEvery is how often a repository that disappeared is looked for.
	goneEvery = time.Hour
	// goneAfter is how long a repository has to be missing until it is gone: a
	// host that is being restored, or a token that is being replaced, says the
	// same for a while.
	goneAfter = 2 * time.Minute
)

// served returns a repository that is served, by its name or by a pattern.
func (r *Runner) served(repo vcs.Repository) (Repository, bool) {
	if s, ok := r.repositories[repo]; ok {
		return s, true
	}
	for _, p := range r.Patterns {
		if p.Matches(repo) {
			return Repository{repo, p.Reconcile}, true
		}
	}
	return Repository{}, false
}

// all returns the repositories that are served: those that are named, and of
// those that a pattern names the ones that were seen.
func (r *Runner) all(ctx context.Context) ([]Repository, error) {
	var all []Repository
	for _, repo := range r.repositories {
		all = append(all, repo)
	}
	if len(r.Patterns) > 0 {
		const prefix = "repository/"
		stored, err := r.Store.Records.List(ctx, prefix)
		if err != nil {
			return nil, err
		}
		for _, s := range stored {
			repo, err := vcs.ParseRepository(strings.TrimPrefix(s.Key, prefix))
			if err != nil {
				continue
			}
			if _, named := r.repositories[repo]; named {
				continue
			}
			if found, ok := r.served(repo); ok {
				all = append(all, found)
			}
		}
	}
	slices.SortFunc(all, func(a, b Repository) int { return strings.Compare(a.String(), b.String()) })
	return all, nil
}

// Repositories are the names of the repositories that are served, sorted.
func (r *Runner) Repositories() []string {
	all, err := r.all(context.Background())
	if err != nil {
		r.Logger.Error("list repositories", "error", err)
	}
	names := make([]string, len(all))
	for i, repo := range all {
		names[i] = repo.String()
	}
	return names
}

// interval is how often a repository is looked at. What nobody has set grows
// with the number of repositories, so that looking takes a tenth of what the
// host allows at most.
func (r *Runner) interval(ctx context.Context, repo Repository) (time.Duration, error) {
	if repo.Reconcile > 0 {
		return repo.Reconcile, nil
	}
	h, limited := r.hosts[repo.Host].Host.(vcs.Budget)
	if !limited {
		return Interval(r.Pull[repo.Host], 0, 0, 0), nil
	}
	n, err := r.countOf(ctx, repo.Host)
	if err != nil {
		return 0, err
	}
	perHour, perLook := h.Budget()
	return Interval(r.Pull[repo.Host], n, perHour, perLook), nil
}

// countEvery is how long the numbers of repositories are remembered.
const countEvery = time.Minute

// countOf is how many repositories of a host are served.
func (r *Runner) countOf(ctx context.Context, host string) (int, error) {
	r.configMu.Lock()
	counts, fresh := r.counts, r.Clock().Sub(r.counted) < countEvery
	r.configMu.Unlock()
	if fresh && counts != nil {
		return counts[host], nil
	}
	all, err := r.all(ctx)
	if err != nil {
		return 0, err
	}
	counts = map[string]int{}
	for _, repo := range all {
		counts[repo.Host]++
	}
	r.configMu.Lock()
	defer r.configMu.Unlock()
	r.counts, r.counted = counts, r.Clock()
	return counts[host], nil
}

// Interval is how often each of n repositories of a host is looked at, where
// nothing is set: a minute in pull mode, else five, and longer where looking
// would take more than a tenth of the requests that the host allows.
func Interval(pull bool, n, perHour, perLook int) time.Duration {
	every := 5 * time.Minute
	if pull {
		every = time.Minute
	}
	if perHour <= 0 {
		return every
	}
	return max(every, time.Duration(n*perLook)*10*time.Hour/time.Duration(perHour))
}

// startReconcile makes sure that a repository is reconciled from now on.
func (r *Runner) startReconcile(ctx context.Context, repos ...vcs.Repository) error {
	var jobs []queue.Job
	for _, repo := range repos {
		payload, err := json.Marshal(repo)
		if err != nil {
			return err
		}
		name := "reconcile/" + repo.String()
		jobs = append(jobs, queue.Job{Kind: JobReconcile, Group: name, Key: name, Priority: queue.PriorityPrompt, Payload: payload})
	}
	if len(jobs) == 0 {
		return nil
	}
	_, err := r.Queue.Enqueue(ctx, jobs...)
	return err
}

// discovery is the payload of a job that looks for repositories.
type discovery struct {
	Host  string `json:"host"`
	Owner string `json:"owner"`
}

// startDiscover has the repositories looked for that patterns name: on one host,
// or on all of them where host is empty.
func (r *Runner) startDiscover(ctx context.Context, host string) error {
	for _, p := range r.Patterns {
		if host != "" && p.Host != host {
			continue
		}
		d := discovery{p.Host, p.Owner()}
		payload, err := json.Marshal(d)
		if err != nil {
			return err
		}
		name := "discover/" + d.Host + "/" + d.Owner
		_, err = r.Queue.Enqueue(ctx, queue.Job{Kind: JobDiscover, Group: name, Key: name, Priority: queue.PriorityPrompt, Payload: payload})
		if err != nil {
			return fmt.Errorf("queue %s: %w", name, err)
		}
	}
	return nil
}

// handleDiscover begins to serve the repositories of an owner that a pattern
// names. The job never ends: it waits for its next turn.
func (r *Runner) handleDiscover(ctx context.Context, job queue.Job) error {
	var d discovery
	if err := json.Unmarshal(job.Payload, &d); err != nil {
		return queue.Discard(fmt.Errorf("read payload: %w", err))
	}
	if !slices.ContainsFunc(r.Patterns, func(p Pattern) bool { return p.Host == d.Host && p.Owner() == d.Owner }) {
		return queue.Discard(fmt.Errorf("no pattern names repositories of %s/%s any more", d.Host, d.Owner))
	}
	lister, ok := r.hosts[d.Host].Host.(vcs.Lister)
	if !ok {
		return queue.Discard(fmt.Errorf("host %s cannot list its repositories: name each of them", d.Host))
	}
	found, err := lister.Repositories(ctx, d.Owner)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.Logger.Warn("look for repositories", "host", d.Host, "owner", d.Owner, "error", err, "hint", hintOf(err))
		if limit := rateLimited(r.Clock(), err); queue.IsSnooze(limit) {
			return limit
		}
		return queue.Snooze(time.Minute)
	}
	var fresh []vcs.Repository
	for _, repo := range found {
		if _, ok := r.served(repo); !ok {
			continue
		}
		if _, err := r.Store.Records.Get(ctx, "repository/"+repo.String()); err == nil {
			continue // Start or an earlier look has begun
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		fresh = append(fresh, repo)
	}
	if err := r.startReconcile(ctx, fresh...); err != nil {
		return err
	}
	if len(fresh) > 0 {
		r.Logger.Info("repositories found", "host", d.Host, "owner", d.Owner, "new", len(fresh))
	}
	return queue.Snooze(discoverEvery)
}

// missing notes that the host does not know a repository. One that stays away is
// gone: its schedules stop, its history stays, and that is said once. It returns
// when to look again.
func (r *Runner) missing(ctx context.Context, repo vcs.Repository, every time.Duration, cause error) (time.Duration, error) {
	now := r.Clock()
	var first, told, gone bool
	err := change(ctx, r, "repository/"+repo.String(), func(rec *repositoryRecord) {
		if first = rec.Missing.IsZero(); first {
			rec.Missing = now
		}
		told = rec.Gone
		rec.Gone = rec.Gone || now.Sub(rec.Missing) >= goneAfter
		gone = rec.Gone
	})
	if first {
		r.Logger.Warn("the host does not know the repository", "repository", repo.String(), "error", cause, "hint", hintOf(cause))
	}
	if err != nil || !gone {
		return min(every, time.Minute), err
	}
	if !told {
		r.Logger.Error("the repository has disappeared from its host: its schedules stop, its history stays", "repository", repo.String(), "error", cause,
			"hint", "where it was renamed, change its name in the server file; where the token lost its access, give it back")
		err = r.audit(ctx, store.Entry{ID: fmt.Sprintf("gone/%s/%d", repo, now.Unix()), Action: "repository gone", Repository: repo.String(), Why: cmp.Or(cause.Error(), "not found")})
	}
	return goneEvery, err
}

// found notes that the host knows a repository again.
func (r *Runner) found(ctx context.Context, repo vcs.Repository, known repositoryRecord) error {
	if known.Missing.IsZero() {
		return nil
	}
	if known.Gone {
		r.Logger.Info("the repository is back", "repository", repo.String())
	}
	return change(ctx, r, "repository/"+repo.String(), func(rec *repositoryRecord) { rec.Missing, rec.Gone = time.Time{}, false })
}

// hintOf is what an error advises.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
