// Package runner is Holdfast's story: events come in, the engine runs, results
// go out. Each kind of job has a file of its own that reads as the list of its
// steps:
//
//	event.go      a webhook or a poll said something: which runs follow from it
//	comparison.go a head beside what it started from
//	merge.go      a pull request was merged: its applies
//	early.go      applies before the merge, and the merge after them
//	commit.go     commits of a merge queue, and the statuses of what was pushed
//	push.go       what came to the default branch without a pull request
//	command.go    what people ask for in comments; parse.go reads it
//	plan.go       plans one workspace for a pull request
//	apply.go      applies the reviewed plan, or a fresh one that is the same
//	recover.go    what became of an engine whose process was lost; elsewhere.go
//	              asks another machine
//	owner.go      who has a workspace, and who waits for it
//	requires.go   what the host is asked before an apply
//	drift.go      checks one workspace, and queues its correction
//	drifted.go    what is known of a workspace's drift, now and before
//	correctable.go  what keeps drift from being undone without a person
//	correct.go    undoes drift, through those gates
//	proposal.go   takes drift into the configuration; proposal_edit.go looks for
//	              the edits, proposal_pull.go has the pull request
//	ticket.go     one issue on the host for each drifted workspace
//	attribute.go  who changed the cloud
//	notify.go     tells people elsewhere
//	report.go     makes the host show what is stored
//	next.go       what happens next, in words for people
//	reconcile.go  keeps the default branch known
//	missed.go     finds what no event told
//	repositories.go  which repositories are served
//	schedule.go   queues the drift checks that are due
//	asked.go      queues those that somebody asks for
//	retain.go     removes what is old; needed.go keeps what somebody still reads
//
// Every step is written so that doing it twice is the same as doing it once:
// a job may be killed anywhere and is then delivered again.
package runner

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/runner/plan"
	"holdfast/runner/terraform"
	"holdfast/store"
	"holdfast/vcs"
	"holdfast/watch"
	"holdfast/workspaces"
)

// The kinds of jobs. Those that carry out a run are named like the run's kind.
const (
	JobEvent     = "event"
	JobReconcile = "reconcile"
	JobDiscover  = "discover"
	JobReport    = "report"
	JobPlan      = string(store.KindPlan)
	JobApply     = string(store.KindApply)
	JobDrift     = string(store.KindDrift)
	JobCorrect   = string(store.KindCorrect)
)

// Git is what the runner needs of mirrors and checkouts. Each method takes the
// repository first; commits are full hexadecimal ids.
type Git interface {
	// Fetch brings the mirror up to date: all branches, and refs besides.
	Fetch(ctx context.Context, r vcs.Repository, remote vcs.Remote, refs ...string) error
	// Resolve returns the commit that a revision names in the mirror.
	Resolve(ctx context.Context, r vcs.Repository, rev string) (string, error)
	// Branches returns the mirror's branches with their commits.
	Branches(ctx context.Context, r vcs.Repository) (map[string]string, error)
	MergeBase(ctx context.Context, r vcs.Repository, a, b string) (string, error)
	// ChangedPaths returns the paths that differ between two commits, the old
	// and the new name of a renamed file both.
	ChangedPaths(ctx context.Context, r vcs.Repository, from, to string) ([]string, error)
	// IsAncestor reports whether b contains a.
	IsAncestor(ctx context.Context, r vcs.Repository, a, b string) (bool, error)
	// Files returns the commit's files, as the id of their content by path.
	Files(ctx context.Context, r vcs.Repository, sha string) (map[string]string, error)
	// Checkout returns a directory with the commit's files, shared with all
	// who ask for the same commit, until release is called.
	Checkout(ctx context.Context, r vcs.Repository, sha string) (dir string, release func(), err error)
	// Revert makes a branch on the remote whose one commit takes a change back,
	// and returns that commit; see vcs.Revert for its errors.
	Revert(ctx context.Context, r vcs.Repository, remote vcs.Remote, rev vcs.Revert) (sha string, err error)
	// Commit makes a branch on the remote be one commit, and DeleteBranch takes
	// one away; see vcs.Commit.
	Commit(ctx context.Context, r vcs.Repository, remote vcs.Remote, c vcs.Commit) (sha string, err error)
	DeleteBranch(ctx context.Context, r vcs.Repository, remote vcs.Remote, branch string) error
}

// Config is what a Runner works with. All fields without a default are
// required.
type Config struct {
	Store        *store.Store // its Artifacts sealed
	Queue        *queue.Queue
	Locker       *lock.Locker
	Git          Git
	Engines      *terraform.Engines
	Hosts        map[string]vcs.Host // by the host part of repository names
	Repositories []Repository
	Patterns     []Pattern
	// Pull has the hosts that send no webhooks.
	Pull map[string]bool
	// DataDir is an absolute directory for kept states and for the files of
	// runs under way.
	DataDir string
	// BaseURL is the server's address for links, without a slash at its end.
	// Empty: no links.
	BaseURL string
	// DigestKey makes plan digests; see plan.Plan.Digest.
	DigestKey []byte
	// Attributors say who changed something in the cloud; all of them are asked.
	Attributors []watch.Attributor
	// Notify are the places where people are told what happens. Their names
	// are unique.
	Notify []Notify
	// NotifyDelay gathers what happens at once into one message. Defaults to 30
	// seconds.
	NotifyDelay time.Duration
	// Retention is for how long runs are kept. Defaults to for ever.
	Retention Retention
	// Removed is told of each thing that is removed by age: the "artifacts" of a
	// run, one of the "checks" that found nothing, or another of the "runs".
	Removed func(what string)
	// Commands are those of the commands that are off by default which comments
	// may use: "import", "state rm".
	Commands []string
	// Node names this machine and its data directory, as one: it is who can say
	// what became of an engine that applied. Defaults to "local".
	Node string
	// NodePatience is how long the node on which an engine applied may be silent
	// before a plan finds out what was done. Defaults to 2 minutes.
	NodePatience time.Duration
	// StateDir is where the states of root modules are kept that have no backend
	// of their own. Empty: such a root module is refused, because the next run
	// may be on another machine.
	StateDir string
	// MaxAttempts is how often a run is tried when Holdfast itself is the
	// reason that it fails; the time between the attempts doubles from a
	// second. Defaults to 8.
	MaxAttempts int
	// LeaseTTL is how long a workspace stays locked after its process died.
	// Defaults to 30 seconds.
	LeaseTTL time.Duration
	// ReportDelay gathers results before an unfinished pull request's comment
	// is edited. Defaults to 2 seconds.
	ReportDelay time.Duration
	// Clock defaults to time.Now, Logger to slog.Default().
	Clock  func() time.Time
	Logger *slog.Logger
}

// WithDefaults returns c with defaults filled in.
func (c Config) WithDefaults() Config {
	if c.Node == "" {
		c.Node = "local"
	}
	if c.NodePatience == 0 {
		c.NodePatience = 2 * time.Minute
	}
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 8
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = 30 * time.Second
	}
	if c.ReportDelay == 0 {
		c.ReportDelay = 2 * time.Second
	}
	if c.NotifyDelay == 0 {
		c.NotifyDelay = notifyDelay
	}
	if c.Removed == nil {
		c.Removed = func(string) {}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Runner carries out jobs. Safe for concurrent use.
type Runner struct {
	Config
	hosts        map[string]host
	repositories map[vcs.Repository]Repository

	configMu sync.Mutex
	configs  map[string]*workspaces.Config // by REPOSITORY@COMMIT, a few
	waiting  map[string]time.Time          // since when something is waited for; see patient
	swept    map[vcs.Repository]time.Time  // when vanished last looked at all that is stored
	counts   map[string]int                // of repositories, by host; see countOf
	counted  time.Time

	gates gates
	// described is signalled when a repository's record has changed, and failed
	// has the workspaces whose check failed here and is tried again.
	described chan struct{}
	failed    chan failedCheck
	// entropy makes the IDs of one millisecond sort as they were made.
	entropy io.Reader
}

// host is a host with its optional capabilities; nil where it lacks one.
type host struct {
	vcs.Host
	comments vcs.Comments
	statuses vcs.Statuses
	notes    vcs.Notes
	reviews  vcs.Reviews
	merger   vcs.Merger
	opener   vcs.Opener

	tickets     vcs.Tickets
	editor      vcs.PullEditor
	reactions   vcs.Reactions
	deployments vcs.Deployments
	seen        vcs.StatusReader
	details     bool // statuses may have more than a line
}

// New returns a Runner. It starts nothing.
func New(c Config) (*Runner, error) {
	c = c.WithDefaults()
	if !filepath.IsAbs(c.DataDir) {
		return nil, fmt.Errorf("data directory %q is not absolute", c.DataDir)
	}
	if len(c.DigestKey) < 32 {
		return nil, errors.New("the digest key is shorter than 32 bytes")
	}
	r := &Runner{Config: c, hosts: map[string]host{}, repositories: map[vcs.Repository]Repository{}, configs: map[string]*workspaces.Config{}, waiting: map[string]time.Time{}, swept: map[vcs.Repository]time.Time{}, described: make(chan struct{}, 1), failed: make(chan failedCheck, 1000), entropy: &ulid.LockedMonotonicReader{MonotonicReader: ulid.Monotonic(rand.Reader, 0)}}
	for name, h := range c.Hosts {
		x := host{Host: h}
		x.comments, _ = h.(vcs.Comments)
		x.statuses, _ = h.(vcs.Statuses)
		x.notes, _ = h.(vcs.Notes)
		x.reviews, _ = h.(vcs.Reviews)
		x.merger, _ = h.(vcs.Merger)
		x.opener, _ = h.(vcs.Opener)
		x.tickets, _ = h.(vcs.Tickets)
		x.editor, _ = h.(vcs.PullEditor)
		x.reactions, _ = h.(vcs.Reactions)
		x.deployments, _ = h.(vcs.Deployments)
		x.seen, _ = h.(vcs.StatusReader)
		if c, ok := h.(vcs.Checks); ok {
			x.details = c.ShowsDetails()
		}
		r.hosts[name] = x
	}
	for _, repo := range c.Repositories {
		if _, ok := r.hosts[repo.Host]; !ok {
			return nil, fmt.Errorf("repository %s: no host %q is configured", repo, repo.Host)
		}
		r.repositories[repo.Repository] = repo
	}
	for _, p := range c.Patterns {
		if _, ok := r.hosts[p.Host].Host.(vcs.Lister); !ok {
			return nil, fmt.Errorf("repositories %s/%s: the host cannot list its repositories, so name each of them", p.Host, p.Glob)
		}
	}
	return r, nil
}

// Handlers returns the handler of each kind of job, for a queue.Worker.
func (r *Runner) Handlers() map[string]queue.Handler {
	return map[string]queue.Handler{
		JobEvent:     r.handleEvent,
		JobReconcile: r.handleReconcile,
		JobRequeue:   r.handleRequeue,
		JobDiscover:  r.handleDiscover,
		JobReport:    r.handleReport,
		JobTicket:    r.handleTicket,
		JobPropose:   r.handlePropose,
		JobAttribute: r.handleAttribute,
		JobNotify:    r.handleNotify,
		JobRetain:    r.handleRetain,
		JobPlan:      r.handleRun(r.plan),
		JobApply:     r.handleRun(r.apply),
		JobDrift:     r.handleRun(r.drift),
		JobCorrect:   r.handleRun(r.correct),
	}
}

// Result is what a run found; it is stored as the run's Result.
type Result struct {
	Summary    plan.Summary      `json:"summary"`
	Digest     string            `json:"digest,omitempty"`
	Engine     string            `json:"engine,omitempty"` // "Terraform 1.11.4"
	Comparison *plan.Comparison  `json:"comparison,omitempty"`
	Drift      *plan.DriftReport `json:"drift,omitempty"`
	// Corrects are the attributes that a correction puts back, and Gates what
	// kept it from that.
	Corrects []string `json:"corrects,omitempty"`
	Gates    []Gate   `json:"gates,omitempty"`
	// DriftDigest is the digest of Drift; see plan.DriftReport.Digest.
	DriftDigest string `json:"drift_digest,omitempty"`
	// Clean is set on a check of what was applied that found it in sync while a
	// later commit is not applied.
	Clean bool `json:"clean,omitempty"`
	// RefreshOnly is set on a check that could compare only state and cloud.
	RefreshOnly bool `json:"refresh_only,omitempty"`
	// Reviewed is the run whose plan was reviewed, for an apply; for a
	// correction, the check whose plan passed the gate.
	Reviewed string   `json:"reviewed,omitempty"`
	Notes    []string `json:"notes,omitempty"` // sentences for the report
	// Waiting says what a queued run waits for, in words for people.
	Waiting string `json:"waiting,omitempty"`
	// Since is when the run's pull request got into the line for the workspace;
	// a push keeps its place.
	Since time.Time `json:"since,omitzero"`
	// Busy counts how often the state was found locked by somebody else.
	Busy int `json:"busy,omitempty"`
	// Canceled is set where a person canceled the run while its engine applied:
	// it is followed to its end, and not started over.
	Canceled bool `json:"canceled,omitempty"`
	// Shim is the directory of the process that applies, on ShimNode.
	Shim     string `json:"shim,omitempty"`
	ShimNode string `json:"shim_node,omitempty"`
	// Order is what the run's job was given, until the run has ended: a backend
	// that failed over may have forgotten the job and not the run.
	Order json.RawMessage `json:"order,omitempty"`
	// Saved is set where the reviewed plan itself was given to the engine.
	Saved bool `json:"saved,omitempty"`
	// Leftovers is set where planning left files in the checkout that Git does
	// not have: such a plan cannot be applied from another checkout.
	Leftovers bool `json:"leftovers,omitempty"`
	// Contained is set where a later commit was applied already.
	Contained bool `json:"contained,omitempty"`
	// Done are the steps that a failed apply completed, for people.
	Done []string `json:"done,omitempty"`
	// Lines are where the blocks begin whose resources the plan destroys or
	// replaces, as far as they are still there, by address.
	Lines map[string]terraform.Line `json:"lines,omitempty"`
	// Init is set where the engine had to be initialised.
	Init bool `json:"init,omitempty"`
	// Removed is when the run's plan and log were removed by their age.
	Removed time.Time `json:"removed,omitzero"`
}

// The artifacts of a run, as the keys under which they are stored.
func logKey(run string) string      { return run + "/log" }
func planKey(run string) string     { return run + "/plan.json" }
func planFileKey(run string) string { return run + "/plan" }
func engineKey(run string) string   { return run + "/engine" } // what it printed on another node

// runPayload is the payload of a job that carries out a run. It has all that
// the run needs to know of the workspace, read once for all runs of an event;
// what decides about safety in it comes from the default branch.
type runPayload struct {
	Run       string               `json:"run"`
	Workspace workspaces.Workspace `json:"workspace"`
	// FetchRef leads to the run's commit where no branch does.
	FetchRef string `json:"fetch_ref,omitempty"`
	// Who asked for the run, for the audit trail; empty: Holdfast itself.
	Who string `json:"who,omitempty"`
	// After are the workspaces of the same pull request that this one depends
	// on, however far.
	After []string `json:"after,omitempty"`
	// Confirmed is set where a person asked for the apply after seeing the plan
	// of the run that Result.Reviewed names.
	Confirmed bool `json:"confirmed,omitempty"`
	// Author and Head are the pull request's, as it was merged or is applied.
	Author string `json:"author,omitempty"`
	Head   string `json:"head,omitempty"`
	// Fresh is set where the saved plan was tried before and failed.
	Fresh bool `json:"fresh,omitempty"`
	// Early is set on an apply before the merge.
	Early bool `json:"early,omitempty"`
	// Pushed is set where the commit came to the default branch without a pull
	// request.
	Pushed bool `json:"pushed,omitempty"`
	// Group is set on the plan of a merge queue's commit, and Ahead where that
	// commit has other pull requests too.
	Group bool `json:"group,omitempty"`
	Ahead bool `json:"ahead,omitempty"`
	// Destroy is set where the root module was deleted; At is then the commit
	// that has it.
	Destroy bool   `json:"destroy,omitempty"`
	At      string `json:"at,omitempty"`
	// Commands are what people asked for beside the configuration.
	Commands []stateCommand `json:"commands,omitempty"`
	// Propose is set on a correction that writes the cloud's values into the
	// configuration.
	Propose bool `json:"propose,omitempty"`
	// Targets are the addresses that a correction is limited to; none means all.
	Targets []string `json:"targets,omitempty"`
	// Unapplied is set on a check of a commit of which nobody knows whether
	// it was ever applied.
	Unapplied bool `json:"unapplied,omitempty"`
	// Elsewhere is set on a check of a commit that is not the one that Workspace
	// describes.
	Elsewhere bool `json:"elsewhere,omitempty"`
	// Pending is set on a check while the default branch has a commit for the
	// workspace that is not applied.
	Pending bool `json:"pending,omitempty"`
	// Inputs of the run's commit.
	Inputs string `json:"inputs,omitempty"`
}

// reportPayload is the payload of a report job.
type reportPayload struct {
	Repository vcs.Repository `json:"repository"`
	Number     int            `json:"number,omitempty"`
	// SHA is set, and Number is not, where it is about a commit that is no pull
	// request's head.
	SHA string `json:"sha,omitempty"`
	// Verify has the host asked whether it still has what it was made to show.
	Verify bool `json:"verify,omitempty"`
}

// Receive makes an event durable; when it returns nil the event is a job.
// An event of a repository that is not served is none (vcs.ErrNotServed).
func (r *Runner) Receive(ctx context.Context, e vcs.Event) error {
	if e.Kind == vcs.EventRepositories {
		return r.startDiscover(ctx, "")
	}
	if _, ok := r.served(e.Repository); !ok {
		return fmt.Errorf("%w: %s is not in the server file", vcs.ErrNotServed, e.Repository)
	}
	payload, err := json.Marshal(e)
	if err != nil {
		return err
	}
	group := "repository/" + e.Repository.String()
	switch {
	case e.Number != 0:
		group = pullName(e.Repository, e.Number)
	case e.Ticket != 0:
		group = ticketName(e.Repository, e.Ticket)
	}
	_, err = r.Queue.Enqueue(ctx, queue.Job{
		Kind: JobEvent, Group: group, Key: "event/" + e.Repository.Host + "/" + e.Delivery,
		Priority: queue.PriorityPrompt, Payload: payload,
	})
	return err
}

// pullName names a pull request in keys and groups.
func pullName(repo vcs.Repository, number int) string {
	return fmt.Sprintf("pull/%s#%d", repo, number)
}

// workspaceName names a workspace in keys, groups and locks.
func workspaceName(repo vcs.Repository, workspace string) string {
	return "workspace/" + repo.String() + "/" + workspace
}

// host returns the host of a repository that is served.
func (r *Runner) host(repo vcs.Repository) (host, error) {
	if _, ok := r.served(repo); !ok {
		return host{}, queue.Discard(fmt.Errorf("repository %s is not served any more", repo))
	}
	return r.hosts[repo.Host], nil
}

// config reads the configuration at a commit, once for all who ask while it
// is remembered. It is shared: nobody may change it.
func (r *Runner) config(ctx context.Context, repo vcs.Repository, sha, dir string) (*workspaces.Config, error) {
	key := repo.String() + "@" + sha
	r.configMu.Lock()
	c := r.configs[key]
	r.configMu.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := r.readConfig(ctx, repo, sha, dir)
	if err != nil {
		return nil, err
	}
	r.configMu.Lock()
	defer r.configMu.Unlock()
	if len(r.configs) >= maxConfigs {
		clear(r.configs)
	}
	r.configs[key] = c
	return c, nil
}

// maxConfigs bounds the configurations that are remembered.
const maxConfigs = 32

// readConfig reads the configuration at a commit, checked out at dir. Only
// what is in Git counts as a workspace's inputs: engines leave lock files in
// checkouts.
func (r *Runner) readConfig(ctx context.Context, repo vcs.Repository, sha, dir string) (*workspaces.Config, error) {
	c, err := workspaces.Load(dir)
	if err != nil {
		return nil, err
	}
	files, err := r.Git.Files(ctx, repo, sha)
	if err != nil {
		return nil, err
	}
	c.Tracked = func(path string) (string, bool) {
		id, ok := files[path]
		return id, ok
	}
	return c, nil
}
