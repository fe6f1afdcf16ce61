package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/store"
)

// runs is the table of runs; see lua/runs.lua.
type runs struct{ *database }

var _ store.Runs = (*runs)(nil)

var (
	createRunScript  = newScript("runs", "run_create")
	updateRunScript  = newScript("runs", "run_update")
	listRunsScript   = newScript("runs", "run_list")
	deleteRunsScript = newScript("runs", "run_delete")
)

// runFields are the fields of a run's hash, in the order of scanRun.
var runFields = []string{"version", "token", "key", "created_at", "data", "result"}

// runData is what of a run is stored as one piece. It stays as it is: a field
// that is added to store.Run gets a field in the run's hash, so that the update
// of an older version does not drop it.
type runData struct {
	Kind        store.Kind  `json:"kind"`
	State       store.State `json:"state"`
	Open        bool        `json:"open,omitempty"` // not ended
	Repository  string      `json:"repository"`
	Workspace   string      `json:"workspace"`
	PullRequest int         `json:"pull_request,omitempty"`
	Commit      string      `json:"commit"`
	Inputs      string      `json:"inputs,omitempty"`
	Job         string      `json:"job,omitempty"`
	Step        string      `json:"step,omitempty"`
	Node        string      `json:"node,omitempty"`
	Error       string      `json:"error,omitempty"`
	StartedAt   string      `json:"started_at,omitempty"`
	EndedAt     string      `json:"ended_at,omitempty"`
}

func packRun(r store.Run) ([]byte, error) {
	data := runData{
		Kind: r.Kind, State: r.State, Open: !r.State.Ended(), Repository: r.Repository, Workspace: r.Workspace, PullRequest: r.PullRequest,
		Commit: r.Commit, Inputs: r.Inputs, Job: r.Job, Step: r.Step, Node: r.Node, Error: r.Error,
	}
	if !r.StartedAt.IsZero() {
		data.StartedAt = stamp(r.StartedAt)
	}
	if !r.EndedAt.IsZero() {
		data.EndedAt = stamp(r.EndedAt)
	}
	return json.Marshal(data)
}

// scanRun is the inverse of row in lua/runs.lua.
func scanRun(reply any) (store.Run, error) {
	r := &row{values: list(reply)}
	out := store.Run{ID: r.text(), Version: r.number(), Token: r.number(), Key: r.text(), CreatedAt: r.time()}
	text := r.bytes()
	out.Result = r.bytes()
	if r.err != nil {
		return store.Run{}, fmt.Errorf("run %s: %w", out.ID, r.err)
	}
	var data runData
	if err := json.Unmarshal(text, &data); err != nil {
		return store.Run{}, fmt.Errorf("run %s: %w", out.ID, err)
	}
	out.Kind, out.State, out.Repository, out.Workspace, out.PullRequest = data.Kind, data.State, data.Repository, data.Workspace, data.PullRequest
	out.Commit, out.Inputs, out.Job, out.Step, out.Node, out.Error = data.Commit, data.Inputs, data.Job, data.Step, data.Node, data.Error
	times := &row{values: []any{data.StartedAt, data.EndedAt}}
	out.StartedAt, out.EndedAt = times.time(), times.time()
	return out, times.err
}

// Create implements store.Runs.
func (d *runs) Create(ctx context.Context, now time.Time, r store.Run) (out store.Run, created bool, err error) {
	defer d.observe("runs.create", time.Now(), &err)
	if r.ID == "" || r.Key == "" {
		return store.Run{}, false, errors.New("create run: it needs an ID and a Key")
	}
	data, err := packRun(r)
	if err != nil {
		return store.Run{}, false, fmt.Errorf("create run: %w", err)
	}
	reply, err := d.write(ctx, createRunScript, r.ID, 1, r.Token, r.Key, stamp(now), data, []byte(r.Result))
	if err != nil {
		return store.Run{}, false, fmt.Errorf("create run: %w", err)
	}
	if reply == nil {
		return store.Run{}, false, fmt.Errorf("create run: run %s: %w", r.ID, store.ErrExists)
	}
	answer := &row{values: list(reply)}
	created = answer.flag()
	if out, err = scanRun(answer.values[0]); err != nil {
		return store.Run{}, false, fmt.Errorf("create run: %w", err)
	}
	return out, created, nil
}

// Get implements store.Runs.
func (d *runs) Get(ctx context.Context, id string) (out store.Run, err error) {
	defer d.observe("runs.get", time.Now(), &err)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	values, err := d.client.HMGet(ctx, d.key("run:"+id), runFields...).Result()
	switch {
	case err != nil:
		err = d.explain(err)
	case values[0] == nil:
		err = store.ErrNotFound
	default:
		out, err = scanRun(append([]any{id}, values...))
	}
	if err != nil {
		return store.Run{}, fmt.Errorf("get run %s: %w", id, err)
	}
	return out, nil
}

// Update implements store.Runs. ID, Key and CreatedAt stay as they are.
func (d *runs) Update(ctx context.Context, _ time.Time, r store.Run) (out store.Run, err error) {
	defer d.observe("runs.update", time.Now(), &err)
	if out, err = d.update(ctx, r); err != nil {
		return store.Run{}, fmt.Errorf("update run %s: %w", r.ID, err)
	}
	return out, nil
}

func (d *runs) update(ctx context.Context, r store.Run) (store.Run, error) {
	data, err := packRun(r)
	if err != nil {
		return store.Run{}, err
	}
	reply, err := d.write(ctx, updateRunScript, r.ID, r.Version, r.Token, data, []byte(r.Result))
	switch {
	case err != nil:
		return store.Run{}, err
	case reply == nil:
		return store.Run{}, store.ErrNotFound
	case reply == "":
		return store.Run{}, store.ErrConflict
	}
	kept := &row{values: list(reply)}
	r.Key, r.CreatedAt = kept.text(), kept.time()
	r.Version++
	r.StartedAt, r.EndedAt = stored(r.StartedAt), stored(r.EndedAt)
	return r, kept.err
}

// defaultRuns is how many runs List returns at most where nothing is said.
const defaultRuns = 100

// List implements store.Runs. It looks at a thousand runs in each atomic step:
// at as many as it returns, where the filter names a repository with or without
// a workspace or a pull request, or only states that have not ended.
func (d *runs) List(ctx context.Context, f store.RunFilter) (out []store.Run, err error) {
	defer d.observe("runs.list", time.Now(), &err)
	if f.Limit <= 0 {
		f.Limit = defaultRuns
	}
	from, to := "+", "-"
	if f.Before != "" {
		from = "(" + f.Before
	}
	if f.After != "" {
		to = "(" + f.After
	}
	open := len(f.States) > 0 && !slices.ContainsFunc(f.States, store.State.Ended)
	args := []any{nil, to, step, nil, f.Repository, f.Workspace, f.PullRequest, string(f.Kind), f.Commit, flag(open)}
	for _, s := range f.States {
		args = append(args, string(s))
	}
	for len(out) < f.Limit {
		args[0], args[3] = from, f.Limit-len(out)
		reply, err := d.read(ctx, listRunsScript, args...)
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		last, found, err := page(reply, scanRuns)
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		out = append(out, found...)
		if last == "" {
			break
		}
		from = "(" + last
	}
	return out, nil
}

func scanRuns(reply any) ([]store.Run, error) {
	var out []store.Run
	for _, values := range list(reply) {
		r, err := scanRun(values)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Delete implements store.Runs. It deletes a thousand runs in each atomic step.
func (d *runs) Delete(ctx context.Context, ids ...string) (err error) {
	defer d.observe("runs.delete", time.Now(), &err)
	for some := range slices.Chunk(ids, step) {
		args := make([]any, len(some))
		for i, id := range some {
			args[i] = id
		}
		if _, err := d.write(ctx, deleteRunsScript, args...); err != nil {
			return fmt.Errorf("delete runs: %w", err)
		}
	}
	return nil
}
