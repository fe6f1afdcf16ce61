package terraform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// session is a root module with everything that a command on it needs.
type session struct {
	e      *Engines
	m      Module
	eng    engine
	in     inputs
	data   dataDir
	origin string // digest of the repository's lock file
	log    io.Writer
	done   func()
	inited bool // init ran in this session
}

// open finds the engine and makes m ready for it, with init where needed. With
// fresh, what nothing in the repository pins may be chosen anew; a plan is shown
// and applied with what it was made with. The session is to be closed.
func (e *Engines) open(ctx context.Context, m Module, fresh bool) (*session, error) {
	if err := validateModule(m); err != nil {
		return nil, err
	}
	eng, err := e.find(ctx, m.Engine, m.Version)
	if err != nil {
		return nil, err
	}
	s := &session{e: e, m: m, eng: eng, log: &logWriter{w: m.Log}}
	if s.in, err = e.scan(m, eng); err != nil {
		return nil, err
	}
	if err := writeOverride(m, s.in); err != nil {
		return nil, err
	}
	if s.origin, err = e.lockOrigin(m.Dir); err != nil {
		return nil, err
	}
	if s.data, s.done, err = e.openDataDir(m, s.in.sum, s.origin); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx, fresh); err != nil {
		s.done()
		return nil, err
	}
	return s, nil
}

func (s *session) close() { s.done() }

func validateModule(m Module) error {
	if m.Key == "" {
		return errors.New("a root module without a key")
	}
	if !filepath.IsAbs(m.Dir) {
		return fmt.Errorf("root module's directory %q is not an absolute path", m.Dir)
	}
	w := m.Workspace
	if w != url.PathEscape(w) || w == "." || w == ".." || strings.HasPrefix(w, "-") {
		return &ModuleError{
			Message: fmt.Sprintf("%q cannot be the name of a Terraform workspace", w),
			Advice:  "use letters, digits, '-', '_' and '.'",
		}
	}
	return nil
}

// prepare initialises the data directory, or puts in place what an earlier
// init has left.
func (s *session) prepare(ctx context.Context, fresh bool) error {
	if !s.e.initialised(s.data, fresh && s.floating()) {
		return s.init(ctx)
	}
	if err := s.e.restoreLock(s.data, s.m.Dir, s.origin); err != nil {
		return err
	}
	return s.selectWorkspace()
}

// floating says that another init could choose differently from the same
// inputs.
func (s *session) floating() bool {
	return s.in.remote || s.in.providers && s.origin == noLockFile
}

// selectWorkspace writes what `workspace select` would write. The engine makes
// a workspace that is missing when it first writes its state.
func (s *session) selectWorkspace() error {
	path := filepath.Join(s.data.tf(), "environment")
	var err error
	switch {
	case s.workspace() != "default":
		err = writeFile(path, []byte(s.workspace()), 0o600)
	case s.in.backend != "cloud": // there, init has chosen
		if err = os.Remove(path); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("select Terraform workspace: %w", err)
	}
	return nil
}

func (s *session) workspace() string {
	if s.m.Workspace == "" {
		return "default"
	}
	return s.m.Workspace
}

// environ returns the environment of this session's processes.
func (s *session) environ() map[string]string {
	env := maps.Clone(s.e.env)
	env["TF_DATA_DIR"] = s.data.tf()
	if s.cache() == "" {
		return env
	}
	env["TF_PLUGIN_CACHE_DIR"] = s.cache()
	if s.origin == noLockFile {
		// The lock file is Holdfast's own and for this machine alone: it need
		// not have the checksums of other platforms.
		env["TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE"] = "1"
	}
	return env
}

// cache is the provider cache: the operator's, or the one in the data
// directory. Where no provider is installed there is none.
func (s *session) cache() string {
	if !s.in.providers {
		return s.e.env["TF_PLUGIN_CACHE_DIR"]
	}
	if dir := s.e.env["TF_PLUGIN_CACHE_DIR"]; dir != "" {
		return dir
	}
	return filepath.Join(s.e.config.DataDir, "plugins")
}

// command returns an engine process of this session.
func (s *session) command(args ...string) process {
	return process{
		path: s.eng.path, dir: s.m.Dir, args: args, env: list(s.environ()),
		log: s.log, grace: s.e.config.PlanGrace,
	}
}

// init runs init and keeps what it made.
func (s *session) init(ctx context.Context) error {
	if err := os.Remove(s.data.ready()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("initialise: %w", err)
	}
	if err := s.forget(); err != nil {
		return fmt.Errorf("initialise: %w", err)
	}
	if s.in.providers {
		// Engines write to a cache without a lock of their own.
		unlock, err := s.e.exclusive(ctx, s.e.caching, filepath.Join(s.e.config.DataDir, "plugins.lock"))
		if err != nil {
			return err
		}
		defer unlock()
	}
	code, text, err := s.command("init", "-input=false", "-no-color").run(ctx)
	s.inited = true
	if err == nil && code != 0 {
		err = engineError("init", code, text)
	} else if err != nil {
		err = fmt.Errorf("init: %w", err)
	}
	if err != nil {
		// Half of it may be there: the next init begins anew.
		return errors.Join(err, os.RemoveAll(s.data.tf()))
	}
	if err := s.e.keepLock(s.data, s.m.Dir, s.origin); err != nil {
		return err
	}
	if err := s.selectWorkspace(); err != nil {
		return err
	}
	if err := s.e.setReady(s.data); err != nil {
		return err
	}
	s.e.prune()
	return nil
}

// forget removes what an earlier init chose: the backend, as there is never
// state to migrate; the Terraform workspace, as init insists on one that
// exists; and versions that nothing in the repository pins.
func (s *session) forget() error {
	if err := os.MkdirAll(s.data.tf(), 0o700); err != nil {
		return err
	}
	names := []string{"terraform.tfstate", "environment"}
	if s.floating() {
		names = append(names, "modules", "providers")
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(s.data.tf(), name)); err != nil {
			return err
		}
	}
	if s.in.backend == "cloud" && s.workspace() != "default" {
		if err := s.selectWorkspace(); err != nil {
			return err
		}
	}
	if kept, err := os.ReadFile(s.data.lock()); err == nil && s.origin == noLockFile {
		if now, err := readSmall(filepath.Join(s.m.Dir, lockFile)); err == nil && string(now) == string(kept) {
			return os.Remove(filepath.Join(s.m.Dir, lockFile))
		}
	}
	return nil
}

// run runs a command, with init first where the engine says that it is needed
// after all, and with a Terraform workspace where the engine misses it.
func (s *session) run(ctx context.Context, p process, failed func(code int) bool) (code int, text string, err error) {
	for {
		code, text, err = p.run(ctx)
		if err != nil || !failed(code) {
			return code, text, err
		}
		words := unwrap(clean(text))
		switch {
		case needsInit(words) && !s.inited:
			if err := s.init(ctx); err != nil {
				return 0, "", err
			}
		case needsWorkspace(words) && s.workspace() != "default":
			if err := s.newWorkspace(ctx, text); err != nil {
				return 0, "", err
			}
			failed = func(int) bool { return false } // not a second time
		default:
			return code, text, nil
		}
	}
}

// newWorkspace makes the Terraform workspace, for backends that do not do so by
// themselves.
func (s *session) newWorkspace(ctx context.Context, why string) error {
	if err := os.Remove(filepath.Join(s.data.tf(), "environment")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make Terraform workspace: %w", err)
	}
	code, text, err := s.command("workspace", "new", "-no-color", s.workspace()).run(ctx)
	if err != nil {
		return fmt.Errorf("workspace new: %w", err)
	}
	if code != 0 {
		return engineError("workspace new", code, why+"\n"+text)
	}
	return s.selectWorkspace()
}
