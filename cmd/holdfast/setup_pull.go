package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"holdfast/vcs"
	"holdfast/vcs/git"
	"holdfast/workspaces"
)

// setupBranch is the branch of the first pull request.
const setupBranch = "holdfast/setup"

// propose opens a pull request with a holdfast.hcl made from what is in the
// repository; nothing is done where there is one.
func (s *setup) propose(ctx context.Context, r vcs.Repository, remote vcs.Remote) error {
	opener, ok := s.host.(vcs.Opener)
	if !ok {
		return fmt.Errorf("pull requests cannot be opened on %s", r.Host)
	}
	dir, err := os.MkdirTemp("", "holdfast-setup-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	mirrors, err := git.New(git.Config{Dir: dir})
	if err != nil {
		return err
	}
	if err := mirrors.Fetch(ctx, r, remote); err != nil {
		return err
	}
	head, err := mirrors.Resolve(ctx, r, "refs/heads/"+remote.DefaultBranch)
	if err != nil {
		return err
	}
	tree, release, err := mirrors.Checkout(ctx, r, head)
	if err != nil {
		return err
	}
	defer release()
	if _, err := os.Stat(filepath.Join(tree, "holdfast.hcl")); err == nil {
		s.say("ok", "%s/%s has a holdfast.hcl already", r.Owner, r.Name)
		return nil
	}
	c, err := workspaces.Load(tree)
	if err != nil {
		return fmt.Errorf("look for root modules in %s: %w", r, err)
	}
	_, err = mirrors.AddFile(ctx, r, remote, vcs.NewFile{
		Onto: head, Branch: setupBranch, Path: "holdfast.hcl", Content: repositoryFile(c), Message: "Let Holdfast plan and apply this repository",
	})
	if err != nil && !errors.Is(err, vcs.ErrExists) { // of an earlier set-up
		return err
	}
	pr, err := opener.OpenPull(ctx, r, vcs.NewPull{
		Branch: setupBranch, Base: remote.DefaultBranch, Title: "Let Holdfast plan and apply this repository",
		Body: fmt.Sprintf("Holdfast found %s here and wrote them down in `holdfast.hcl`. Change what is not meant so; merge it to begin. Without this file the same root modules are found.\n",
			count(len(c.Workspaces), "root module", "root modules")),
	})
	if err != nil {
		return err
	}
	s.say("ok", "a pull request with holdfast.hcl is open: %s", pr.URL)
	return nil
}

// maxListed bounds the workspaces that a first holdfast.hcl has; more of them are
// better found than written down.
const maxListed = 50

// repositoryFile is a first holdfast.hcl.
func repositoryFile(c *workspaces.Config) string {
	var b strings.Builder
	b.WriteString("# What Holdfast does with this repository. All of it is optional.\n\ndefaults {\n  apply {\n    on       = \"merge\"\n    requires = [\"approved\", \"mergeable\"]\n  }\n\n  drift {\n    schedule = \"0 6 * * *\"\n    correct  = \"off\"\n  }\n}\n")
	if len(c.Workspaces) > maxListed {
		fmt.Fprintf(&b, "\n# %d root modules were found; they are found again by themselves.\n", len(c.Workspaces))
		return b.String()
	}
	for _, w := range c.Workspaces {
		fmt.Fprintf(&b, "\nworkspace %q {\n  dir = %q\n", w.Name, w.Dir)
		if w.Workspace != "" && w.Workspace != "default" {
			fmt.Fprintf(&b, "  workspace = %q\n", w.Workspace)
		}
		b.WriteString("}\n")
	}
	return b.String()
}
