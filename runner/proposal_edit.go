package runner

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/runner/markdown"
	"holdfast/runner/plan"
	"holdfast/runner/propose"
	"holdfast/runner/terraform"
	"holdfast/workspaces"
)

// editor looks for the edits of a configuration that make drift smaller.
type editor struct {
	x      *execution
	m      terraform.Module // the run's own copy
	config propose.Config
	drift  []propose.Drift
	rules  func(address, attribute string) (string, bool)
	was    *plan.Plan

	written map[string]bool // files of the copy that are not as they were
	best    propose.Result
	left    *plan.Plan        // with best
	refused []propose.Refusal // edits that do something else too
}

func (x *execution) newEditor(ctx context.Context, m terraform.Module, was *plan.Plan) (*editor, error) {
	dir, err := x.attemptDir()
	if err != nil {
		return nil, err
	}
	to := filepath.Join(dir, "proposal")
	if err := os.RemoveAll(to); err != nil {
		return nil, err
	}
	own, err := terraform.CopyModule(m, to)
	if err != nil {
		return nil, err
	}
	all, err := x.r.configAt(ctx, x.repo, x.run.Commit)
	if err != nil {
		return nil, err
	}
	files, err := x.sources(own.Root)
	if err != nil {
		return nil, err
	}
	rules, err := x.r.ignores(ctx, x.repo, x.in.Workspace)
	if err != nil {
		return nil, err
	}
	e := &editor{x: x, m: own, was: was, written: map[string]bool{}, rules: covers(rules, x.r.Clock())}
	e.config = propose.Config{Files: files, Dir: x.in.Workspace.Dir, VarFiles: x.in.Workspace.VarFiles, Shared: sharedWith(all.Workspaces, x.in.Workspace)}
	gone := map[string]bool{}
	for _, d := range was.Drift {
		gone[d.Address] = d.Action == plan.Delete
	}
	for _, c := range was.Changes {
		before, after := c.Values()
		e.drift = append(e.drift, propose.Drift{Address: c.Address, Before: before, After: after, Deleted: c.Action == plan.Create, Created: c.Action == plan.Delete && !gone[c.Address]})
	}
	return e, nil
}

// sources reads the files that say what a root module is: its own, its variable
// files, and those of the local modules that it uses.
func (x *execution) sources(root string) (map[string][]byte, error) {
	w := x.in.Workspace
	within, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer within.Close()
	files := map[string][]byte{}
	read := func(name string) error {
		info, err := within.Lstat(filepath.FromSlash(name))
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxFile || len(files) >= maxFiles {
			return nil // not there, a link, or nothing that anybody would edit
		}
		data, err := within.ReadFile(filepath.FromSlash(name))
		files[name] = data
		return err
	}
	for i, dir := range append([]string{w.Dir}, w.Modules...) {
		entries, err := fs.ReadDir(within.FS(), dir)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", dir, err)
		}
		for _, entry := range entries {
			name := entry.Name()
			tf := strings.HasSuffix(name, ".tf") || strings.HasSuffix(name, ".tf.json") || strings.HasSuffix(name, ".tofu")
			vars := i == 0 && (strings.HasSuffix(name, ".tfvars") || strings.HasSuffix(name, ".tfvars.json"))
			if (tf || vars) && !strings.Contains(name, "holdfast") {
				if err := read(path.Join(dir, name)); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, name := range w.VarFiles {
		if err := read(path.Join(w.Dir, name)); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// sharedWith says which other workspaces read a file.
func sharedWith(all []workspaces.Workspace, own workspaces.Workspace) func(string) string {
	return func(file string) string {
		var users []string
		for _, w := range all {
			if w.Name == own.Name {
				continue
			}
			dir := path.Dir(file)
			varFile := strings.HasSuffix(file, ".tfvars") && !strings.HasSuffix(file, ".auto.tfvars") && path.Base(file) != "terraform.tfvars"
			reads := !varFile && (w.Dir == dir || slices.Contains(w.Modules, dir))
			if reads || slices.ContainsFunc(w.VarFiles, func(v string) bool { return path.Join(w.Dir, v) == file }) {
				users = append(users, w.Name)
			}
		}
		if len(users) == 0 {
			return ""
		}
		return "other workspaces read " + file + " too: " + someOf(users)
	}
}

// search finds the edits: all of them if that makes the drift smaller, else
// one after the other those that do. A verdict ends the run.
func (e *editor) search(ctx context.Context) (*verdict, error) {
	all := propose.Propose(e.config, e.drift, e.ignored)
	e.best.Refused = all.Refused
	if len(all.Edits) == 0 {
		return nil, nil
	}
	ok, left, reason, no, err := e.try(ctx, all, e.was)
	if no != nil || err != nil {
		return no, err
	}
	if ok {
		e.best, e.left = all, left
		return nil, nil
	}
	if len(all.Edits) == 1 {
		e.refuse(all.Edits[0], reason)
		return nil, nil
	}
	return e.oneByOne(ctx, all)
}

// oneByOne adds one attribute's edit at a time to those that are good.
func (e *editor) oneByOne(ctx context.Context, all propose.Result) (*verdict, error) {
	type attribute struct{ address, name string }
	good, current := map[attribute]bool{}, e.was
	for i, edit := range all.Edits {
		if i >= maxTries {
			e.refuse(edit, "it was not tried: too much drifted at once")
			continue
		}
		this := attribute{edit.Address, edit.Attribute}
		part := propose.Propose(e.config, e.drift, func(address, name string) bool {
			a := attribute{address, name}
			return e.ignored(address, name) || a != this && !good[a]
		})
		ok, left, reason, no, err := e.try(ctx, part, current)
		if no != nil || err != nil {
			return no, err
		}
		if !ok {
			e.refuse(edit, reason)
			continue
		}
		good[this], current = true, left
		refused := e.best.Refused
		e.best, e.left = part, left
		e.best.Refused = refused
	}
	return nil, nil
}

func (e *editor) ignored(address, attribute string) bool {
	_, ok := e.rules(address, attribute)
	return ok
}

func (e *editor) refuse(edit propose.Edit, reason string) {
	e.refused = append(e.refused, propose.Refusal{Address: edit.Address, Attribute: edit.Attribute, Reason: "with the cloud's value in " + edit.Path + ", " + or(reason, "the drift would be no smaller")})
}

// try plans the configuration with some edits, and reports whether that makes
// the drift smaller.
func (e *editor) try(ctx context.Context, res propose.Result, than *plan.Plan) (ok bool, left *plan.Plan, reason string, no *verdict, err error) {
	if err := e.write(res.Files); err != nil {
		return false, nil, "", nil, err
	}
	left, _, no, err = e.x.makePlan(ctx, e.m, terraform.PlanOptions{LockTimeout: lockTimeout})
	if err != nil {
		return false, nil, "", nil, err
	}
	if no != nil {
		// The engine does not take this edit, or the cloud does not answer: the
		// plan of the check went well.
		return false, nil, "planning fails: " + firstError(no.error), nil, nil
	}
	ok, reason = plan.Smaller(than, left)
	return ok, left, reason, nil, nil
}

// write makes the copy have these files, and the rest as it was.
func (e *editor) write(files map[string][]byte) error {
	root, err := os.OpenRoot(e.m.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	for name := range e.written {
		if _, again := files[name]; !again {
			if err := root.WriteFile(filepath.FromSlash(name), e.config.Files[name], 0o600); err != nil {
				return err
			}
		}
	}
	e.written = map[string]bool{}
	for name, data := range files {
		if err := root.WriteFile(filepath.FromSlash(name), data, 0o600); err != nil {
			return err
		}
		e.written[name] = true
	}
	return nil
}

// proposal is what the pull request and the ticket say.
func (e *editor) proposal() markdown.Proposal {
	p := markdown.Proposal{Workspace: e.x.in.Workspace.Name, Left: e.left}
	for _, d := range e.best.Edits {
		p.Edits = append(p.Edits, markdown.ProposalEdit{Address: d.Address, Attribute: d.Attribute, File: d.Path, Line: d.Line, From: d.From, To: d.To, Via: d.Via})
	}
	for _, d := range append(slices.Clone(e.best.Refused), e.refused...) {
		s := d.Address
		if d.Attribute != "" {
			s += ", " + d.Attribute
		}
		p.Refused = append(p.Refused, s+": "+d.Reason)
	}
	if more := len(p.Refused) - maxRefused; more > 0 {
		p.Refused = append(p.Refused[:maxRefused], fmt.Sprintf("and %d more", more))
	}
	return p
}
