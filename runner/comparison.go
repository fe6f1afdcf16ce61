package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast/vcs"
	"holdfast/workspaces"
)

// comparison is a pull request's head beside what it started from.
type comparison struct {
	target           string // the commit of the branch that it goes to
	base             string // the merge base
	dir              string // the head's files
	head, baseConfig *workspaces.Config
	trusted          *workspaces.Config // at target; nil where it cannot be read
	changed          []string
	release          func()
}

// policy is what the branch that a pull request goes to says of a workspace.
func (c *comparison) policy(name string) (workspaces.Apply, workspaces.Drift) {
	one := workspaces.Config{Workspaces: []workspaces.Workspace{{Name: name}}}
	if c.trusted != nil {
		if w, ok := c.trusted.Workspace(name); ok {
			one.Workspaces[0] = w
		}
	}
	one.TrustOnly(c.trusted)
	return one.Workspaces[0].Apply, one.Workspaces[0].Drift
}

// dependants returns the workspaces that depended on one that is deleted: they
// are applied, or destroyed, before it.
func (c *comparison) dependants(name string) []string {
	var names []string
	if c.baseConfig == nil {
		return nil
	}
	for _, w := range c.baseConfig.Workspaces {
		if slices.Contains(dependsOn(c.baseConfig, w), name) {
			names = append(names, w.Name)
		}
	}
	return names
}

// contentError is a fault of the repository's content that is not in one of
// the files Holdfast reads.
type contentError struct {
	path string
	err  error
}

func (e *contentError) Error() string { return e.err.Error() }
func (e *contentError) Unwrap() error { return e.err }

// compare fetches and reads both sides of a pull request. What decides about
// safety is taken from the branch that it goes to.
func (r *Runner) compare(ctx context.Context, pr vcs.PullRequest) (*comparison, error) {
	if err := r.fetch(ctx, pr.Repository, pr.FetchRef); err != nil {
		return nil, err
	}
	target, err := r.Git.Resolve(ctx, pr.Repository, "refs/heads/"+pr.BaseRef)
	if err != nil {
		return nil, err
	}
	c := &comparison{target: target}
	if c.base, err = r.Git.MergeBase(ctx, pr.Repository, target, pr.HeadSHA); err != nil {
		err = fmt.Errorf("merge base of %s and %s: %w", short(target), short(pr.HeadSHA), err)
		if errors.Is(err, vcs.ErrNotFound) { // and it will not be found later
			err = &contentError{pr.HeadRef, fmt.Errorf("this branch and %s have no history in common: %w", pr.BaseRef, err)}
		}
		return nil, err
	}
	return c, r.readBoth(ctx, pr.Repository, c, pr.HeadSHA)
}

// readBoth reads the configuration at head and at the base and target of c, and
// what differs.
func (r *Runner) readBoth(ctx context.Context, repo vcs.Repository, c *comparison, head string) (err error) {
	if c.changed, err = r.Git.ChangedPaths(ctx, repo, c.base, head); err != nil {
		return content(fmt.Errorf("changed files: %w", err))
	}
	trusted, err := r.configAt(ctx, repo, c.target)
	if err != nil && !isProblems(err) {
		return err
	}
	// A base that does not parse must not keep the pull request that mends it
	// from being planned; its policy is then the default one.
	if c.baseConfig, err = r.configAt(ctx, repo, c.base); err != nil && !isProblems(err) {
		return err
	}
	dir, release, err := r.Git.Checkout(ctx, repo, head)
	if err != nil {
		return content(err)
	}
	if c.head, err = r.readConfig(ctx, repo, head, dir); err != nil {
		release()
		return err
	}
	c.head.TrustOnly(trusted)
	c.trusted, c.dir, c.release = trusted, dir, release
	return nil
}

// configAt reads the configuration at a commit.
func (r *Runner) configAt(ctx context.Context, repo vcs.Repository, sha string) (*workspaces.Config, error) {
	dir, release, err := r.Git.Checkout(ctx, repo, sha)
	if err != nil {
		return nil, content(err)
	}
	defer release()
	return r.config(ctx, repo, sha, dir)
}

// content marks the error of a checkout that the repository's content is the
// reason of.
func content(err error) error {
	var escape interface {
		error
		ContentPath() string
	}
	if errors.As(err, &escape) {
		return &contentError{escape.ContentPath(), err}
	}
	return err
}

// problemsIn returns the faults of a repository's content that are the reason
// of an error; nil where the reason lies elsewhere.
func problemsIn(err error) workspaces.Problems {
	var problems workspaces.Problems
	var at *contentError
	switch {
	case errors.As(err, &problems):
		return problems
	case errors.As(err, &at):
		p := workspaces.Problem{File: at.path, Message: at.Error()}
		var hint interface{ Hint() string }
		if errors.As(err, &hint) {
			p.Hint = hint.Hint()
		}
		return workspaces.Problems{p}
	}
	return nil
}

func isProblems(err error) bool { return problemsIn(err) != nil }

// problemsOf returns the mistakes that spoil one workspace.
func problemsOf(c *workspaces.Config, name string) workspaces.Problems {
	var out workspaces.Problems
	for _, p := range c.Problems {
		if p.Workspace == name {
			out = append(out, p)
		}
	}
	return out
}

// problemsOfInputs says that a workspace's inputs cannot be read.
func problemsOfInputs(w workspaces.Workspace, err error) workspaces.Problems {
	return workspaces.Problems{{Workspace: w.Name, File: w.Dir, Message: err.Error()}}
}

// inOrder sorts affected workspaces so that each comes after those that it
// depends on. A cycle is a Problem of its workspaces and leaves their order
// alone.
func inOrder(c *workspaces.Config, affected []workspaces.Affected) []workspaces.Affected {
	var names []string
	byName := map[string]workspaces.Affected{}
	for _, a := range affected {
		byName[a.Workspace.Name] = a
		if !a.Deleted { // those that are have no place in the head's order
			names = append(names, a.Workspace.Name)
		}
	}
	levels, err := c.Order(names)
	if err != nil {
		return affected
	}
	var out []workspaces.Affected
	for _, level := range levels {
		for _, name := range level {
			if a, ok := byName[name]; ok {
				out = append(out, a)
				delete(byName, name)
			}
		}
	}
	for _, a := range affected {
		if _, left := byName[a.Workspace.Name]; left {
			out = append(out, a)
		}
	}
	return out
}

// short is a commit's id for people.
func short(sha string) string { return sha[:min(len(sha), 8)] }
