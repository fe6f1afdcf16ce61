package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/store"
)

// runs is the table of runs in the file.
type runs struct{ *database }

var _ store.Runs = (*runs)(nil)

const runColumns = `id, key, kind, state, repository, workspace, pull_request, revision, inputs, job,
	token, step, node, error, created_at, started_at, ended_at, version, result`

func scanRun(scan scanner) (store.Run, error) {
	var r store.Run
	var createdAt, startedAt, endedAt int64
	var result []byte
	err := scan(&r.ID, &r.Key, &r.Kind, &r.State, &r.Repository, &r.Workspace, &r.PullRequest, &r.Commit, &r.Inputs, &r.Job,
		&r.Token, &r.Step, &r.Node, &r.Error, &createdAt, &startedAt, &endedAt, &r.Version, &result)
	r.CreatedAt, r.StartedAt, r.EndedAt = instant(createdAt), instant(startedAt), instant(endedAt)
	if len(result) > 0 {
		r.Result = result
	}
	return r, err
}

// runBy loads the run that where selects.
func (t *tx) runBy(where string, args ...any) (r store.Run, found bool, err error) {
	err = t.rows("SELECT "+runColumns+" FROM run WHERE "+where, args, func(scan scanner) error {
		found = true
		var err error
		r, err = scanRun(scan)
		return err
	})
	return r, found, err
}

// putRun stores r in the place of those with its ID or Key.
func (t *tx) putRun(r store.Run) error {
	_, err := t.exec("INSERT OR REPLACE INTO run ("+runColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		r.ID, r.Key, string(r.Kind), string(r.State), r.Repository, r.Workspace, r.PullRequest, r.Commit, r.Inputs, r.Job,
		r.Token, r.Step, r.Node, r.Error, nanos(r.CreatedAt), nanos(r.StartedAt), nanos(r.EndedAt), r.Version, []byte(r.Result))
	return err
}

// Create implements store.Runs.
func (d *runs) Create(ctx context.Context, now time.Time, r store.Run) (stored store.Run, created bool, err error) {
	if r.ID == "" || r.Key == "" {
		return store.Run{}, false, errors.New("create run: it needs an ID and a Key")
	}
	err = d.write.do(ctx, func(t *tx) error {
		known, found, err := t.runBy("key = ?", r.Key)
		if err != nil || found {
			stored, created = known, false
			return err
		}
		if taken, err := t.row("SELECT 1 FROM run WHERE id = ?", []any{r.ID}, new(int)); err != nil || taken {
			return errors.Join(err, fmt.Errorf("run %s: %w", r.ID, store.ErrExists))
		}
		stored, created = r, true
		stored.Version = 1
		stored.CreatedAt, stored.StartedAt, stored.EndedAt = instant(nanos(now)), instant(nanos(r.StartedAt)), instant(nanos(r.EndedAt))
		return t.putRun(stored)
	})
	if err != nil {
		return store.Run{}, false, fmt.Errorf("create run: %w", err)
	}
	return stored, created, nil
}

// Get implements store.Runs.
func (d *runs) Get(ctx context.Context, id string) (store.Run, error) {
	var out store.Run
	found := false
	err := d.query(ctx, "SELECT "+runColumns+" FROM run WHERE id = ?", []any{id}, func(scan scanner) error {
		found = true
		var err error
		out, err = scanRun(scan)
		return err
	})
	if err == nil && !found {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Run{}, fmt.Errorf("get run %s: %w", id, err)
	}
	return out, nil
}

// Update implements store.Runs. ID, Key and CreatedAt stay as they are.
func (d *runs) Update(ctx context.Context, _ time.Time, r store.Run) (store.Run, error) {
	var out store.Run
	err := d.write.do(ctx, func(t *tx) error {
		old, found, err := t.runBy("id = ?", r.ID)
		switch {
		case err != nil:
			return err
		case !found:
			return store.ErrNotFound
		case old.Version != r.Version || r.Token < old.Token:
			return store.ErrConflict
		}
		out = r
		out.Key, out.CreatedAt, out.Version = old.Key, old.CreatedAt, old.Version+1
		out.StartedAt, out.EndedAt = instant(nanos(r.StartedAt)), instant(nanos(r.EndedAt))
		_, err = t.exec(`UPDATE run SET kind = ?, state = ?, repository = ?, workspace = ?, pull_request = ?,
			revision = ?, inputs = ?, job = ?, token = ?, step = ?, node = ?, error = ?,
			started_at = ?, ended_at = ?, version = ?, result = ? WHERE id = ?`,
			string(r.Kind), string(r.State), r.Repository, r.Workspace, r.PullRequest,
			r.Commit, r.Inputs, r.Job, r.Token, r.Step, r.Node, r.Error,
			nanos(r.StartedAt), nanos(r.EndedAt), out.Version, []byte(r.Result), r.ID)
		return err
	})
	if err != nil {
		return store.Run{}, fmt.Errorf("update run %s: %w", r.ID, err)
	}
	return out, nil
}

// defaultRuns is how many runs List returns at most where nothing is said.
const defaultRuns = 100

// List implements store.Runs.
func (d *runs) List(ctx context.Context, f store.RunFilter) ([]store.Run, error) {
	where, args := []string{"1"}, []any{}
	and := func(set bool, condition string, values ...any) {
		if set {
			where, args = append(where, condition), append(args, values...)
		}
	}
	and(f.Repository != "", "repository = ?", f.Repository)
	and(f.Workspace != "", "workspace = ?", f.Workspace)
	and(f.PullRequest != 0, "pull_request <> 0 AND pull_request = ?", f.PullRequest)
	and(f.Kind != "", "kind = ?", string(f.Kind))
	and(f.Commit != "", "revision = ?", f.Commit)
	and(f.Before != "", "id < ?", f.Before)
	and(f.After != "", "id > ?", f.After)
	if len(f.States) > 0 {
		states := make([]any, len(f.States))
		for i, s := range f.States {
			states[i] = string(s)
		}
		and(true, "state IN (?"+strings.Repeat(", ?", len(states)-1)+")", states...)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultRuns
	}
	var out []store.Run
	err := d.query(ctx, "SELECT "+runColumns+" FROM run WHERE "+strings.Join(where, " AND ")+" ORDER BY id DESC LIMIT ?",
		append(args, limit), func(scan scanner) error {
			r, err := scanRun(scan)
			out = append(out, r)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	return out, nil
}

// Delete implements store.Runs.
func (d *runs) Delete(ctx context.Context, ids ...string) error {
	err := d.write.do(ctx, func(t *tx) error {
		for _, id := range ids {
			if _, err := t.exec("DELETE FROM run WHERE id = ?", id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete runs: %w", err)
	}
	return nil
}
