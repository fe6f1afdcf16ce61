package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
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
}

// localResult is one workspace's plan.
type localResult struct {
	workspace workspaces.Workspace
	plan      *plan.Plan // nil where err is set
	err       error
}

// openTree finds the repository that a command's argument, or the current
// directory, is in and reads its configuration.
func openTree(args []string) (*git.WorkingTree, *workspaces.Config, error) {
	dir, err := directory(args)
	if err != nil {
		return nil, nil, err
	}
	tree, err := git.OpenWorkingTree(dir)
	if err != nil {
		return nil, nil, err
	}
	c, err := workspaces.Load(tree.Root)
	return tree, c, err
}

// planTree plans workspaces of the working tree at root, and returns a result
// for each in their order: also for those that a mistake spoils.
func planTree(cmd *cobra.Command, root string, c *workspaces.Config, ws []workspaces.Workspace) ([]localResult, error) {
	l, err := newLocal(root, newProgress(cmd.ErrOrStderr()))
	if err != nil {
		return nil, err
	}
	ws, broken := sound(c, ws)
	results, err := l.plan(cmd.Context(), ws)
	return inOrder(append(results, broken...)), err
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
		// Somebody waits at the keyboard.
		PlanGrace: 15 * time.Second,
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
func (l *local) plan(ctx context.Context, ws []workspaces.Workspace) (_ []localResult, err error) {
	dir, err := os.MkdirTemp("", "holdfast-plan-")
	if err != nil {
		return nil, fmt.Errorf("make directory for plans: %w", err)
	}
	defer os.RemoveAll(dir)
	files, err := keepLockFiles(l.root, ws)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, files.restore()) }()
	results := make([]localResult, len(ws))
	// Engines that share a directory would write the same lock file.
	using := map[string]*sync.Mutex{}
	for _, w := range ws {
		using[w.Dir] = &sync.Mutex{}
	}
	var done atomic.Int64
	told := context.AfterFunc(ctx, func() {
		l.progress.Line("stopping: engines give their locks back (interrupt again to end at once)")
	})
	defer told()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(l.parallel)
	for i, w := range ws {
		group.Go(func() error {
			using[w.Dir].Lock()
			defer using[w.Dir].Unlock()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			l.progress.Step("planning %s (%d of %d done)", w.Name, done.Load(), len(ws))
			results[i].workspace = w
			results[i].plan, results[i].err = l.planOne(ctx, w, filepath.Join(dir, fmt.Sprint(i)))
			done.Add(1)
			return ctx.Err()
		})
	}
	err = group.Wait()
	l.progress.Clear()
	return results, err
}

func (l *local) planOne(ctx context.Context, w workspaces.Workspace, file string) (*plan.Plan, error) {
	m := runner.Module(w, l.root, "local"+filepath.ToSlash(l.root)+"/"+w.Name)
	m.Log = io.Discard
	res, err := l.engines.Plan(ctx, m, file, terraform.PlanOptions{})
	if err != nil {
		return nil, err
	}
	if !res.Changes {
		return &plan.Plan{}, nil
	}
	raw, err := l.engines.Show(ctx, m, file)
	if err != nil {
		return nil, err
	}
	return plan.Parse(raw)
}

// lockFiles are dependency lock files as they were before engines ran.
type lockFiles map[string][]byte // by path; nil where there was none

// keepLockFiles reads the lock files of root modules: init writes them, and a
// plan leaves the working tree as it is.
func keepLockFiles(root string, ws []workspaces.Workspace) (lockFiles, error) {
	files := lockFiles{}
	for _, w := range ws {
		path := filepath.Join(root, filepath.FromSlash(w.Dir), ".terraform.lock.hcl")
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read dependency lock file: %w", err)
		}
		files[path] = data
	}
	return files, nil
}

// restore undoes what init did to them.
func (f lockFiles) restore() error {
	var errs []error
	for path, was := range f {
		now, err := os.ReadFile(path)
		switch {
		case errors.Is(err, os.ErrNotExist) && was == nil, err == nil && was != nil && bytes.Equal(now, was):
		case was == nil:
			errs = append(errs, os.Remove(path))
		default:
			errs = append(errs, os.WriteFile(path, was, 0o644))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("restore dependency lock file: %w", err)
	}
	return nil
}
