package vcs

import (
	"context"
	"time"
)

// This file has the capabilities that fewer hosts have, and those that only
// setting up and looking after an installation need.

// Reactions is a host whose comments can be marked.
type Reactions interface {
	// Acknowledge marks a comment as read, with a pair of eyes. A second time
	// changes nothing. Returns ErrNotFound where the comment is gone.
	Acknowledge(ctx context.Context, r Repository, number int, comment int64) error
}

// StatusReader is a host that tells which statuses a commit has.
type StatusReader interface {
	// Statuses returns the latest status of each context, of those that may be
	// this token's; only Context and State are filled in. All pages of them.
	Statuses(ctx context.Context, r Repository, sha string) ([]Status, error)
}

// Checks is a host on which a status may have more than a line.
type Checks interface {
	// ShowsDetails reports whether Status.Details and Status.Annotations are
	// shown: for some tokens they are not.
	ShowsDetails() bool
}

// DeploymentState is where a deployment stands.
type DeploymentState string

// The states of a deployment.
const (
	DeploymentRunning DeploymentState = "running"
	DeploymentSuccess DeploymentState = "success"
	DeploymentFailure DeploymentState = "failure"
)

// Deployment is a commit that is brought into an environment.
type Deployment struct {
	ID          int64 // the host's; 0 for a new one
	SHA         string
	Environment string // the workspace's name
	State       DeploymentState
	Description string // cut by the host adapter to what the host takes
	URL         string
}

// Deployments is a host that shows which commit is where.
type Deployments interface {
	// SetDeployment makes the host show d, and returns the host's id of it, to
	// be given with its next state.
	SetDeployment(ctx context.Context, r Repository, d Deployment) (id int64, err error)
}

// Lister is a host that tells which repositories there are.
type Lister interface {
	// Repositories returns those of an owner, and of what is below it (GitLab's
	// subgroups), that the token may see and that are not archived; all pages of
	// them, by name. Returns ErrNotFound where there is no such owner.
	Repositories(ctx context.Context, owner string) ([]Repository, error)
}

// Grant is something that a token needs.
type Grant struct {
	Permission string // in the host's own words, such as "Checks: write"
	For        string // what does not work without it, such as "showing plans beside a commit"
	Granted    bool
	Optional   bool   // everything else works without it
	Page       string // the address where it is granted; may be empty
}

// Grants is a host that can be asked what its token may do.
type Grants interface {
	// Grants returns everything that Holdfast needs of the token in a
	// repository, what is granted and what is not. It changes nothing on the
	// host. Returns ErrDenied where the token is refused altogether.
	Grants(ctx context.Context, r Repository) ([]Grant, error)
}

// Delivery is a webhook that the host tried to deliver.
type Delivery struct {
	ID     string
	Event  string
	At     time.Time
	Status int    // the answer's; 0 where there was none
	Error  string // in the host's words; may be empty
}

// Hooks is a host whose webhooks can be set up by its API.
type Hooks interface {
	// SetHook makes the repository (or, for a GitHub App, the app) send its
	// events to address with the configured secret: it creates the webhook, or
	// repairs one with that address that is switched off or lacks events. Says
	// in a few words what it did; empty where all was well. Returns ErrDenied
	// where the token may not.
	SetHook(ctx context.Context, r Repository, address string) (did string, err error)
	// Deliveries returns the latest deliveries to address, newest first; none
	// where the host keeps none.
	Deliveries(ctx context.Context, r Repository, address string) ([]Delivery, error)
}

// Clock is a host that tells its time, by which Holdfast's own is checked.
type Clock interface {
	// Time returns the host's clock, to the second.
	Time(ctx context.Context) (time.Time, error)
}

// Budget is a host that limits how many requests a token may make.
type Budget interface {
	// Budget is how many an hour, as far as known, and how many of them one look
	// at a repository in which nothing happened costs.
	Budget() (perHour, perLook int)
}
