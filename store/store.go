// Package store keeps what must survive a restart: the queue, the locks, every
// run with its plan and log, what is known of workspaces and pull requests,
// and the audit trail. One backend holds all of them, so that a backup is one
// consistent copy.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"holdfast/lock"
	"holdfast/queue"
)

// Store is an opened backend. All parts share its connection and transactions
// of one part are durable before they return.
type Store struct {
	Queue     queue.Driver
	Locks     lock.Driver
	Runs      Runs
	Artifacts Artifacts
	Records   Records
	Audit     Audit
	// Backup writes a consistent copy to a new file while the store is in
	// use; nil where a backend has its own means of backup. An existing file
	// is an error.
	Backup func(ctx context.Context, file string) error
	// Counts counts the unfinished jobs, at a cost that does not grow with them.
	Counts func(ctx context.Context) ([]queue.Count, error)
	// Clock tells the time that all processes of this store share, for
	// everything that they store and compare; nil where that is time.Now.
	Clock func() time.Time
	// Failovers returns a channel that receives after the backend may have
	// forgotten writes that it had acknowledged; nil where that cannot be.
	// ctx ends the subscription.
	Failovers func(ctx context.Context) <-chan struct{}
	// Dump gives all that the store holds to emit, while nobody writes; Load
	// takes it into another store. See Item.
	Dump  func(ctx context.Context, emit func(Item) error) error
	Load  func(ctx context.Context, items []Item) error
	Close func() error
}

// Now is the time by the store's Clock.
func (s *Store) Now() time.Time {
	if s.Clock == nil {
		return time.Now()
	}
	return s.Clock()
}

// Item is one thing of a store, on its way to another. One of the fields is
// set. Loading an item twice is as good as once, so that a move that was cut
// off can be made again: it replaces what has its ID or key. Audit entries are
// never changed.
type Item struct {
	// Job is an unfinished job, with all that the queue owns of it. One that
	// runs is loaded as waiting, from RunAt on: its worker is gone. Jobs come
	// in their order of arrival.
	Job *queue.Job
	// Lease is a lock; leases that have ended are left out.
	Lease  *lock.Lease
	Run    *Run    // with its Version
	Chunk  *Chunk  //
	Record *Record // with its Version
	Entry  *Entry
	// Tokens are the latest fencing tokens that were given out. It comes first.
	Tokens *Tokens
}

// Chunk is one chunk of an artifact, as the backend has it: sealed.
type Chunk struct {
	Key   string
	Index int
	Data  []byte
}

// Tokens are the latest fencing tokens of jobs and of locks.
type Tokens struct{ Job, Lock int64 }

// Errors of all backends.
var (
	// ErrNotFound says that nothing is stored under that name.
	ErrNotFound = errors.New("store: not found")
	// ErrConflict says that the record was changed since it was read, or that
	// a later claim of the job owns it: the write came too late and nothing
	// was changed.
	ErrConflict = errors.New("store: changed by somebody else")
	// ErrExists says that a file or record is already there.
	ErrExists = errors.New("store: exists already")
	// ErrFull says that the disk is full. Nothing was changed.
	ErrFull = errors.New("store: full")
	// ErrNewer says that the store was written by a newer version of Holdfast.
	ErrNewer = errors.New("store: written by a newer version")
)

// Kind is what a run does.
type Kind string

// The kinds of runs.
const (
	KindPlan    Kind = "plan"
	KindApply   Kind = "apply"
	KindDrift   Kind = "drift"
	KindCorrect Kind = "correct"
)

// State is where a run stands.
type State string

// The states of a run. All but Queued, Running and Unknown are final; see Ended.
const (
	Queued     State = "queued"
	Running    State = "running"
	NoChanges  State = "no_changes"
	Planned    State = "planned"
	Applied    State = "applied"
	Held       State = "held" // a person must decide
	Failed     State = "failed"
	Canceled   State = "canceled"
	Superseded State = "superseded"
	Unknown    State = "unknown" // the process died while the engine was applying
)

// Ended reports whether nothing more happens in a run of this state by itself.
func (s State) Ended() bool { return s != Queued && s != Running && s != Unknown }

// Run is one execution for one workspace.
type Run struct {
	ID string `json:"id"` // ULID: sorts by creation
	// Key is unique over all runs for ever: creating a run with a known Key
	// returns the known one. It says what the run is for (pull request,
	// workspace and commit; schedule slot).
	Key         string `json:"key"`
	Kind        Kind   `json:"kind"`
	State       State  `json:"state"`
	Repository  string `json:"repository"`             // HOST/OWNER/NAME
	Workspace   string `json:"workspace"`              // its name
	PullRequest int    `json:"pull_request,omitempty"` // 0: none
	Commit      string `json:"commit"`                 // what is planned or applied
	// Inputs is the hash of everything the plan depends on in Git.
	Inputs string `json:"inputs,omitempty"`
	// Job is the queue's job that carries the run out.
	Job string `json:"job,omitempty"`
	// Token is the fencing token of the claim that wrote last. A write with a
	// smaller one is refused.
	Token int64 `json:"token,omitempty"`
	// Step is how far a running run came, for recovery and for people:
	// "checkout", "init", "plan", "apply", ….
	Step string `json:"step,omitempty"`
	// Node is the machine on which the run's process ran.
	Node string `json:"node,omitempty"`
	// Result is the runner's account of what the run found (counts, digest,
	// comparison, drift class). The store does not look into it.
	Result json.RawMessage `json:"result,omitempty"`
	// Error is why the run failed or is held, in words for people.
	Error     string    `json:"error,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	// Version counts the writes; see Runs.Update.
	Version int64 `json:"version"`
}

// RunFilter selects runs. Zero fields match everything.
type RunFilter struct {
	Repository  string
	Workspace   string
	PullRequest int
	Kind        Kind
	Commit      string
	States      []State
	Before      string // only runs with a smaller ID, for paging
	After       string // only runs with a greater ID
	Limit       int    // at most this many; defaults to 100
}

// Runs stores runs. Safe for concurrent use.
type Runs interface {
	// Create stores r and returns it, or the run that has r.Key already with
	// created false. It sets Version and CreatedAt (to now); r.ID is set by
	// the caller.
	Create(ctx context.Context, now time.Time, r Run) (stored Run, created bool, err error)
	// Get returns ErrNotFound where there is none.
	Get(ctx context.Context, id string) (Run, error)
	// Update replaces the run. Returns ErrConflict where r.Version is not the
	// stored one or r.Token is smaller than the stored one. The returned run
	// has the new Version.
	Update(ctx context.Context, now time.Time, r Run) (Run, error)
	// List returns matching runs, newest first.
	List(ctx context.Context, f RunFilter) ([]Run, error)
	// Delete removes runs that nobody needs any more, with their Keys.
	// Removing none is no error.
	Delete(ctx context.Context, ids ...string) error
}

// Artifacts stores the files of runs under keys such as "RUN/plan" and, for
// logs, chunks in the order in which they were appended. Safe for concurrent
// use. Wrap them in Sealed: a backend stores what it is given.
type Artifacts interface {
	// Put stores data, replacing what was there, chunks included.
	Put(ctx context.Context, now time.Time, key string, data []byte) error
	// Get returns the data, all chunks joined. Returns ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// Append adds a chunk.
	Append(ctx context.Context, now time.Time, key string, chunk []byte) error
	// Chunks returns the chunks from the index from (0 is the first) on; none
	// is an empty slice and no error, also for an unknown key.
	Chunks(ctx context.Context, key string, from int) ([][]byte, error)
	// Delete removes all keys with the prefix. Removing nothing is no error.
	Delete(ctx context.Context, prefix string) error
}

// Record is a small document with a version: what is known of a repository,
// a pull request or a workspace.
type Record struct {
	Key     string          `json:"key"` // "workspace/HOST/OWNER/NAME/WORKSPACE"
	Version int64           `json:"version"`
	Value   json.RawMessage `json:"value"`
}

// Records stores records. Safe for concurrent use.
type Records interface {
	// Get returns ErrNotFound where there is none.
	Get(ctx context.Context, key string) (Record, error)
	// Put stores r if the stored Version is still r.Version (0: not there
	// yet), and returns it with the next. Returns ErrConflict otherwise.
	Put(ctx context.Context, now time.Time, r Record) (Record, error)
	// List returns the records whose key starts with prefix, by key.
	List(ctx context.Context, prefix string) ([]Record, error)
	// Delete removes the record. Removing nothing is no error.
	Delete(ctx context.Context, key string) error
}

// Entry is a line of the audit trail: a decision that changed something.
type Entry struct {
	ID         string    `json:"id"` // ULID
	At         time.Time `json:"at"`
	Who        string    `json:"who"`    // a person, or "holdfast"
	Action     string    `json:"action"` // plan, apply, hold, unlock, correct, …
	Repository string    `json:"repository,omitempty"`
	Workspace  string    `json:"workspace,omitempty"`
	Run        string    `json:"run,omitempty"`
	Why        string    `json:"why,omitempty"`
}

// Audit stores the audit trail. Entries are never changed.
type Audit interface {
	// Append stores e; the caller sets all fields. An ID that is there already
	// is ignored, so that a repeated step is written once.
	Append(ctx context.Context, e Entry) error
	// List returns the entries of a repository (all where it is empty), newest
	// first, at most limit.
	List(ctx context.Context, repository string, limit int) ([]Entry, error)
}
