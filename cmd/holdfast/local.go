package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"holdfast/runner"
	"holdfast/runner/plan"
	"holdfast/runner/terraform"
	"holdfast/vcs/git"
	"holdfast/workspaces"
)

// local plans workspaces of the working tree, with the engine and the
// credentials of whoever runs the command.
type local struct {
	root     string
	engines  *terraform.Engines
	progress *progress
	parallel int
	refresh  bool // plan what is there, not a change: for drift
}

// localResult is one workspace's plan.
type localResult struct {
	workspace workspaces.Workspace
	plan      *plan.Plan // nil where err is set
	err       error
}

// openTree finds the repository that dir is in and reads its configuration.
func openTree(dir string) (*git.WorkingTree, *workspaces.Config, error) {
	tree, err := git.OpenWorkingTree(dir)
	if err != nil {
		return nil, nil, err
	}
	c, err := workspaces.Load(tree.Root)
	return tree, c, err
}

// newLocal prepares planning in the working tree at root.
func newLocal(root string, p *progress) (*local, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, hinted{fmt.Errorf("find a directory for caches: %w", err), "set HOME or XDG_CACHE_HOME"}
	}
	engines, err := terraform.New(terraform.Config{
		DataDir: filepath.Join(cache, "holdfast"),
		Pass:    []string{"*"}, // it is the user's own shell
		Progress: func(line string) {
			p.Line("%s", line)
		},
	})
	if err != nil {
		return nil, err
	}
	return &local{root: root, engines: engines, progress: p, parallel: runtime.NumCPU()}, nil
}

// plan plans all ws, some side by side, and returns the results in their
// order.
func (l *local) plan(ctx context.Context, ws []workspaces.Workspace) ([]localResult, error) {
	dir, err := os.MkdirTemp("", "holdfast-plan-")
	if err != nil {
		return nil, fmt.Errorf("make directory for plans: %w", err)
	}
	defer os.RemoveAll(dir)
	results := make([]localResult, len(ws))
	var done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(l.parallel)
	for i, w := range ws {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			l.progress.Step("planning %s (%d of %d done)", w.Name, done.Load(), len(ws))
			results[i].workspace = w
			results[i].plan, results[i].err = l.planOne(ctx, w, filepath.Join(dir, fmt.Sprint(i)))
			done.Add(1)
			return context.Cause(ctx)
		})
	}
	err = group.Wait()
	l.progress.Clear()
	return results, err
}

func (l *local) planOne(ctx context.Context, w workspaces.Workspace, file string) (*plan.Plan, error) {
	m := runner.Module(w, l.root, "local"+filepath.ToSlash(l.root)+"/"+w.Name)
	m.Log = discard{}
	res, err := l.engines.Plan(ctx, m, file, terraform.PlanOptions{})
	if err != nil || !res.Changes {
		return &plan.Plan{}, err
	}
	raw, err := l.engines.Show(ctx, m, file)
	if err != nil {
		return nil, err
	}
	return plan.Parse(raw)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
