package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"holdfast/store"
	"holdfast/vcs"
	"holdfast/workspaces"
)

// WorkspaceState is where a workspace stands.
type WorkspaceState string

// The states of a workspace.
const (
	InSync   WorkspaceState = "in_sync"
	Drifted  WorkspaceState = "drifted"
	Pending  WorkspaceState = "pending" // merged, not applied
	Applying WorkspaceState = "applying"
	Held     WorkspaceState = "held"
	Unknown  WorkspaceState = "unknown" // the last check failed, or there was none
)

// WorkspaceRecord is what is known of one workspace, stored under
// "workspace/HOST/OWNER/NAME/WORKSPACE".
type WorkspaceRecord struct {
	Repository string         `json:"repository"`
	Name       string         `json:"name"`
	Dir        string         `json:"dir"`
	Correct    string         `json:"correct,omitempty"` // drift.correct
	State      WorkspaceState `json:"state"`
	// AppliedCommit and AppliedInputs are the last that the cloud was made to
	// match; empty while that is not known.
	AppliedCommit string    `json:"applied_commit,omitempty"`
	AppliedInputs string    `json:"applied_inputs,omitempty"`
	AppliedAt     time.Time `json:"applied_at,omitzero"`
	// AppliedEarly is set where AppliedCommit is a pull request's that was not
	// merged when it was applied.
	AppliedEarly bool `json:"applied_early,omitempty"`
	// KeptState is set once an apply has left a state in the data directory.
	KeptState bool `json:"kept_state,omitempty"`
	// Unfinished is the commit whose apply began to change the cloud, until one
	// ends well: what it did belongs neither to AppliedCommit nor to drift.
	Unfinished string    `json:"unfinished,omitempty"`
	CheckedAt  time.Time `json:"checked_at,omitzero"`
	CheckRun   string    `json:"check_run,omitempty"` // the latest check, ended or not
	// GoodAt is the last check that could tell, SyncedAt the last that found the
	// workspace in sync, and KnownAt when it was first to be checked.
	GoodAt   time.Time `json:"good_at,omitzero"`
	SyncedAt time.Time `json:"synced_at,omitzero"`
	KnownAt  time.Time `json:"known_at,omitzero"`
	// Overdue is set while the last good check is older than it may be.
	Overdue bool `json:"overdue,omitempty"`
	// Failures counts the checks that failed one after another, and RetryAt is
	// when the next is tried; zero: with the schedule.
	Failures int       `json:"failures,omitempty"`
	RetryAt  time.Time `json:"retry_at,omitzero"`
	Checks   int       `json:"checks,omitempty"` // the configuration's own checks that fail
	Slot     time.Time `json:"slot,omitzero"`    // the latest slot of the schedule that was queued
	Class    string    `json:"class,omitempty"`  // of the latest check; see plan.Class
	Error    string    `json:"error,omitempty"`  // why the latest check or apply failed
}

// repositoryRecord is what is known of a repository's default branch, stored
// under "repository/HOST/OWNER/NAME".
type repositoryRecord struct {
	DefaultBranch string `json:"default_branch"`
	SHA           string `json:"sha"`
	// Described is the commit that Workspaces describe: SHA, or an earlier one
	// while the configuration at SHA cannot be read.
	Described  string              `json:"described,omitempty"`
	Workspaces []knownWorkspace    `json:"workspaces,omitempty"`
	Problems   workspaces.Problems `json:"problems,omitempty"`
	// SeenTo is the time up to which pull requests and comments were listed.
	SeenTo time.Time `json:"seen_to,omitzero"`
	// Missing is since when the host does not know the repository, and Gone set
	// once that was said.
	Missing time.Time `json:"missing,omitzero"`
	Gone    bool      `json:"gone,omitempty"`
}

// described is the commit to check where a workspace's inputs are those that
// were applied. SHA may have commits that nobody applied.
func (k repositoryRecord) described() string { return cmp.Or(k.Described, k.SHA) }

// unread reports whether nothing is known yet of what the default branch has.
func (k repositoryRecord) unread() bool {
	return k.SHA == "" || len(k.Workspaces) == 0 && len(k.Problems) > 0
}

// knownWorkspace is a workspace as the default branch describes it.
type knownWorkspace struct {
	workspaces.Workspace
	Inputs  string `json:"inputs"`
	Problem string `json:"problem,omitempty"`
}

// pullRecord is what is known of a pull request, stored under
// "pull/HOST/OWNER/NAME#NUMBER". Only event jobs write it, and these run one
// at a time for each pull request.
type pullRecord struct {
	Head      string `json:"head"`
	MergeBase string `json:"merge_base,omitempty"`
	// Base is the branch that it goes to, and Trusted the commit of that branch
	// whose policy it was planned under.
	Base    string        `json:"base,omitempty"`
	Trusted string        `json:"trusted,omitempty"`
	State   vcs.PullState `json:"state"`
	URL     string        `json:"url,omitempty"`
	Title   string        `json:"title,omitempty"`
	// Merge is the commit that the merge made.
	Merge      string              `json:"merge,omitempty"`
	Workspaces []pullWorkspace     `json:"workspaces,omitempty"`
	Problems   workspaces.Problems `json:"problems,omitempty"`
	// Notice says why nothing is planned or applied, where that needs saying.
	Notice string `json:"notice,omitempty"`
	// Refused is set where nothing is planned although something may be
	// affected: such a pull request is told so, and its status is not a
	// success.
	Refused bool `json:"refused,omitempty"`
	// Allowed is the head of a fork that somebody with write permission asked
	// to plan.
	Allowed string `json:"allowed,omitempty"`
	Author  string `json:"author,omitempty"`
	// Merges counts the attempts to merge Head for the pull request's author.
	Merges int `json:"merges,omitempty"`
}

// workspace returns the pull request's workspace with that name, or the zero
// one.
func (p pullRecord) workspace(name string) pullWorkspace {
	for _, w := range p.Workspaces {
		if w.Name == name {
			return w
		}
	}
	return pullWorkspace{}
}

// pullWorkspace is a workspace that a pull request concerns.
type pullWorkspace struct {
	Name    string              `json:"name"`
	Dir     string              `json:"dir"`
	Because string              `json:"because,omitempty"`
	Deleted bool                `json:"deleted,omitempty"`
	After   []string            `json:"after,omitempty"` // the workspaces that it depends on, however far
	Plan    string              `json:"plan,omitempty"`  // the run that plans it
	Apply   string              `json:"apply,omitempty"` // the run that applies it
	Stale   string              `json:"stale,omitempty"` // the commit applied since Plan was made, that the branch lacks
	Lacks   string              `json:"lacks,omitempty"` // the commit that was applied when Plan was made, that the branch lacks
	Problem workspaces.Problems `json:"problem,omitempty"`
	// On is the workspace's apply.on, Automerge its apply.automerge.
	On        string `json:"on,omitempty"`
	Automerge bool   `json:"automerge,omitempty"`
	// Applied is the commit of the pull request's branch that was applied before
	// the merge.
	Applied string `json:"applied,omitempty"`
	// Was is the workspace as it was before the pull request deleted it, and At
	// the commit that has it.
	Was *workspaces.Workspace `json:"was,omitempty"`
	At  string                `json:"at,omitempty"`
	// Unlocked names who took the workspace from the pull request.
	Unlocked string `json:"unlocked,omitempty"`
	// Commands are what people asked for beside the configuration.
	Commands []stateCommand `json:"commands,omitempty"`
}

// stateCommand is an `import`, or a `state rm` where ID is empty, that somebody
// asked for in a comment; it becomes part of the pull request's plan.
type stateCommand struct {
	Address string `json:"address"`
	ID      string `json:"id,omitempty"`
	Who     string `json:"who"`
}

// String is the command as it was written.
func (c stateCommand) String() string {
	if c.ID == "" {
		return "state rm " + c.Address
	}
	return "import " + c.Address + " " + c.ID
}

// reportRecord is what the host was last made to show, stored under
// "report/HOST/OWNER/NAME#NUMBER".
type reportRecord struct {
	Comment  int64             `json:"comment,omitempty"`
	Body     string            `json:"body,omitempty"`     // hash of the posted text
	SHA      string            `json:"sha,omitempty"`      // the commit with the statuses
	Statuses map[string]string `json:"statuses,omitempty"` // by context
	// Deployments are what the host shows of the applies, by workspace.
	Deployments map[string]shownDeployment `json:"deployments,omitempty"`
	// Verified is when the host was last asked whether it has all this.
	Verified time.Time `json:"verified,omitzero"`
}

// shownDeployment is a deployment as the host shows it.
type shownDeployment struct {
	ID    int64               `json:"id"`
	Run   string              `json:"run"`
	State vcs.DeploymentState `json:"state"`
}

// commentsRecord has the latest comments of a pull request whose command was
// carried out, stored under "comments/HOST/OWNER/NAME#NUMBER".
type commentsRecord struct {
	Done []int64 `json:"done,omitempty"`
}

// load reads a record into v and returns its version; 0 and an untouched v
// where there is none.
func (r *Runner) load(ctx context.Context, key string, v any) (int64, error) {
	rec, err := r.Store.Records.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return rec.Version, json.Unmarshal(rec.Value, v)
}

// change reads a record, lets f change it and writes it, again where somebody
// else wrote it meanwhile. f may be called several times.
func change[T any](ctx context.Context, r *Runner, key string, f func(*T)) error {
	for {
		var v T
		version, err := r.load(ctx, key, &v)
		if err != nil {
			return err
		}
		f(&v)
		value, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = r.Store.Records.Put(ctx, r.Clock(), store.Record{Key: key, Version: version, Value: value})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// changeWorkspace changes what is known of a workspace.
func (r *Runner) changeWorkspace(ctx context.Context, repo vcs.Repository, w workspaces.Workspace, f func(*WorkspaceRecord)) error {
	return change(ctx, r, workspaceName(repo, w.Name), func(rec *WorkspaceRecord) {
		rec.Repository, rec.Name, rec.Dir, rec.Correct = repo.String(), w.Name, w.Dir, w.Drift.Correct
		if rec.State == "" {
			rec.State = Unknown
		}
		f(rec)
	})
}
