// Package workspaces knows which Terraform workspaces a repository has, which
// of them a change affects, and in which order they go, so that a pull request
// gets exactly the plans it needs.
//
// It reads holdfast.hcl and the configuration's own files from a checkout and
// runs nothing. Everything that it reads is hostile: a path that leaves the
// repository, by ".." or by a symbolic link, is an error.
package workspaces

import "time"

// File is the name of the configuration at a repository's root.
const File = "holdfast.hcl"

// Config is what a checkout's files say about its workspaces. Load makes it. It
// is not changed after that but by TrustOnly, and safe for concurrent reading.
type Config struct {
	// Workspaces are sorted by name. One that a Problem spoils is among them.
	Workspaces []Workspace
	// Defaults are the policies of workspaces that say nothing themselves.
	Defaults Defaults
	// Problems spoil one workspace each, and leave the others usable.
	Problems Problems
	// Tracked, where set, returns the Git object id of a path in the commit
	// that is checked out, and false for what is not in it. Inputs then counts
	// what Git has, whatever engines have made of the checkout since: init
	// writes lock files there, and rewrites those that are. Defaults to
	// reading the checkout's files.
	Tracked func(path string) (id string, ok bool)

	dirs  map[string]bool     // directories with configuration files
	roots map[string]bool     // those of them that are root modules, of workspaces or not
	links map[string][]string // paths in the repository and the symbolic links that lead there
}

// Defaults are policies without a workspace.
type Defaults struct {
	Apply Apply `json:"apply"`
	Drift Drift `json:"drift"`
	// RunsOn is as in Workspace.
	RunsOn []string `json:"runs_on,omitempty"`
}

// builtIn are the policies where no file says anything.
func builtIn() Defaults {
	return Defaults{
		Apply: Apply{On: "merge", WhenPlanChanged: "hold", MaxPlanAge: 24 * time.Hour, Lock: "apply", MergeMethod: "merge"},
		Drift: Drift{Correct: "off", MaxChanges: 10, FlapLimit: 3},
	}
}

// Workspace returns the workspace with that name.
func (c *Config) Workspace(name string) (Workspace, bool) {
	for _, w := range c.Workspaces {
		if w.Name == name {
			return w, true
		}
	}
	return Workspace{}, false
}

// Workspace is what is planned, locked, applied and checked for drift as one.
type Workspace struct {
	// Name is its workspace block's label, else its Dir, with "@TERRAFORM
	// WORKSPACE" where that is not "default". The root directory is ".".
	Name string `json:"name"`
	// Dir is the root module's directory, slash-separated and relative to the
	// repository.
	Dir string `json:"dir"`
	// Workspace is the Terraform workspace. Defaults to "default".
	Workspace string `json:"workspace"`
	// VarFiles are relative to Dir, as on Terraform's command line.
	VarFiles []string `json:"var_files,omitempty"`
	// Watch are globs (doublestar) relative to the repository.
	Watch []string `json:"watch,omitempty"`
	// DependsOn are names of workspaces that are applied before this one.
	DependsOn []string `json:"depends_on,omitempty"`
	// Engine is "terraform" or "tofu".
	Engine string `json:"engine"`
	// Version is a constraint ("~> 1.11"): from holdfast.hcl, else from
	// required_version, else empty (whatever is on PATH).
	Version string `json:"version,omitempty"`
	// Modules are the directories of all local modules that it uses, however
	// deep, relative to the repository and sorted.
	Modules []string `json:"modules,omitempty"`
	// Backend says where its state is.
	Backend Backend `json:"backend"`
	// Apply, Drift and RunsOn decide about safety: take them from the default
	// branch, see Config.TrustOnly.
	Apply Apply `json:"apply"`
	Drift Drift `json:"drift"`
	// RunsOn are the labels that a worker must have to run its engine; none
	// means any worker.
	RunsOn []string `json:"runs_on,omitempty"`
}

// Backend describes a root module's backend as far as Holdfast must know.
type Backend struct {
	// Type is "s3", "local", "cloud", …; empty where there is no block.
	Type string `json:"type,omitempty"`
	// Ephemeral is set where the state would be lost with the checkout: no
	// block, or a local one with a relative path.
	Ephemeral bool `json:"ephemeral,omitempty"`
}

// Apply is a workspace's policy for applying.
type Apply struct {
	On              string        `json:"on"`                 // "merge" (default) or "comment"
	Requires        []string      `json:"requires,omitempty"` // "approved", "mergeable", "up_to_date"
	WhenPlanChanged string        `json:"when_plan_changed"`  // "hold" (default), "same_resources", "always"
	MaxPlanAge      time.Duration `json:"max_plan_age"`       // defaults to 24 h
	// Lock says from when a pull request has the workspace to itself. "apply"
	// (default): a merged pull request has the workspace from its merge until
	// it is applied; "plan": from its plan until it is applied or closed, and
	// later pull requests wait to be planned; "none": only one at a time.
	Lock string `json:"lock"`
	// Automerge, with On "comment": the pull request is merged when everything
	// that is applied by comments is applied. Load lets no workspace have it
	// with On "merge" without a Problem; there it has no meaning.
	Automerge bool `json:"automerge,omitempty"`
	// MergeMethod is how Automerge merges: "merge" (default), "squash" or
	// "rebase".
	MergeMethod string `json:"merge_method"`
	// OnPush: also commits that were pushed to the default branch without a
	// pull request are applied.
	OnPush bool `json:"on_push,omitempty"`
}

// Problem is a mistake in a file, for people.
type Problem struct {
	Workspace string `json:"workspace,omitempty"` // the one it spoils; empty: the whole configuration
	File      string `json:"file"`
	Line      int    `json:"line,omitempty"`   // from 1
	Column    int    `json:"column,omitempty"` // from 1
	Source    string `json:"source,omitempty"` // the line itself
	Message   string `json:"message"`
	Hint      string `json:"hint,omitempty"` // what to do
}

// Problems are all mistakes of one reading, as an error.
type Problems []Problem

// Affected is a workspace that a change concerns, with the reason.
type Affected struct {
	Workspace Workspace `json:"workspace"`
	// Because names a changed path that concerns it, and how: "module
	// modules/vpc: modules/vpc/main.tf".
	Because string `json:"because"`
	// Deleted is set where the change removes the root module; Workspace is
	// then as it was before.
	Deleted bool `json:"deleted,omitempty"`
}
