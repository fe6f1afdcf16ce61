package terraform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-version"
)

// Engines finds, installs and runs engines. Its methods may be called at once
// by several, for different Keys.
type Engines struct {
	config Config
	env    map[string]string // what every engine process gets
	client *http.Client      // for installations
	mirror string            // of HashiCorp's releases; empty: the original
	signer string            // armored public key; empty: HashiCorp's
	now    func() time.Time

	lockTimeout string // of an apply, as the engine takes it

	installing chan struct{} // holds one token: an installation at a time
	caching    chan struct{} // holds one token: an init that fills the provider cache at a time

	mu       sync.Mutex
	versions map[binary]*version.Version
	failed   map[string]failure // installations, by engine and constraint
	inUse    map[string]int     // data dirs
}

// binary is an executable file as it was when its version was asked for.
type binary struct {
	path  string
	size  int64
	mtime time.Time
}

type failure struct {
	at  time.Time
	err error
}

// engine is a found executable.
type engine struct {
	name, path, version string
}

// String is the name for people: "Terraform 1.11.4".
func (e engine) String() string {
	if e.name == "tofu" {
		return "OpenTofu " + e.version
	}
	return "Terraform " + e.version
}

// WithDefaults returns c with what is not set filled in.
func (c Config) WithDefaults() Config {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&c.Grace, 5*time.Minute)
	set(&c.PlanGrace, 30*time.Second)
	set(&c.InstallTimeout, 5*time.Minute)
	if c.MaxDataDirs == 0 {
		c.MaxDataDirs = 500
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	return c
}

func (c Config) validate() error {
	if !filepath.IsAbs(c.DataDir) {
		return fmt.Errorf("engines: data directory %q is not an absolute path", c.DataDir)
	}
	if c.MaxDataDirs < 1 {
		return fmt.Errorf("engines: at least one data directory must be kept, not %d", c.MaxDataDirs)
	}
	return validateEnvironment(c)
}

// New returns Engines that take their environment from this process's.
func New(c Config) (*Engines, error) {
	c = c.WithDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Self == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own executable: %w", err)
		}
		c.Self = self
	}
	for _, dir := range []string{"engines", "plugins", "tfdata", "locks"} {
		if err := os.MkdirAll(filepath.Join(c.DataDir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("make the engines' directory: %w", err)
		}
	}
	env := environment(os.Environ(), c)
	if err := validateArguments(env); err != nil {
		return nil, err
	}
	e := &Engines{
		config:      c,
		env:         env,
		client:      installClient(),
		now:         time.Now,
		lockTimeout: applyLockTimeout,
		installing:  make(chan struct{}, 1),
		caching:     make(chan struct{}, 1),
		versions:    map[binary]*version.Version{},
		failed:      map[string]failure{},
		inUse:       map[string]int{},
	}
	return e, nil
}

// Find returns the path and version of an engine ("terraform" or "tofu") that
// satisfies constraint ("~> 1.11"; empty: any): the first on PATH, else the
// newest in the data directory, else one that it installs. Without one the
// error is a *NotInstalledError.
func (e *Engines) Find(ctx context.Context, engine, constraint string) (path, version string, err error) {
	found, err := e.find(ctx, engine, constraint)
	return found.path, found.version, err
}

// Version returns the engine that m would be run with, in the words of
// PlanResult.Versions ("Terraform 1.11.4"), and has it ready as Plan does: it
// installs one where none is there. It starts a process only for an executable
// that was not asked for its version yet. Its errors are those of Find.
func (e *Engines) Version(ctx context.Context, m Module) (versions string, err error) {
	found, err := e.find(ctx, m.Engine, m.Version)
	if err != nil {
		return "", err
	}
	return found.String(), nil
}

func (e *Engines) find(ctx context.Context, name, constraint string) (engine, error) {
	if name == "" {
		name = "terraform"
	}
	if name != "terraform" && name != "tofu" {
		return engine{}, &ModuleError{
			Message: fmt.Sprintf("unknown engine %q", name),
			Advice:  `write engine = "terraform" or engine = "tofu"`,
		}
	}
	want, err := constraints(constraint)
	if err != nil {
		return engine{}, err
	}
	found, passed, err := e.local(ctx, name, want)
	if err != nil || found.path != "" {
		return found, err
	}
	found, err = e.install(ctx, name, want)
	if err == nil {
		return found, nil
	}
	if ctx.Err() != nil {
		return engine{}, ctx.Err()
	}
	if len(passed.unsuitable) > 0 {
		err = fmt.Errorf("%w (found, and unsuitable: %s)", err, strings.Join(passed.unsuitable, ", "))
	}
	return engine{}, &NotInstalledError{Engine: name, Constraint: constraint, Broken: passed.broken, Why: passed.why, Err: err}
}

// passedOver are the executables that were found and are of no use.
type passedOver struct {
	unsuitable []string // with their versions
	broken     string   // the first that did not tell its version
	why        error
}

// constraints parses a version constraint; of an empty one it returns nil.
func constraints(s string) (version.Constraints, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	c, err := version.NewConstraint(s)
	if err != nil {
		return nil, &ModuleError{
			Message: fmt.Sprintf("%q is no version constraint", s),
			Advice:  `write one such as "~> 1.11" or ">= 1.9, < 2.0"`,
		}
	}
	return c, nil
}

// local looks on PATH and among the installed engines. Beside the first
// suitable one it says which it passed over, and why.
func (e *Engines) local(ctx context.Context, name string, want version.Constraints) (engine, passedOver, error) {
	var passed passedOver
	for _, path := range append(e.onPath(name), e.installed(name)...) {
		v, err := e.version(ctx, path)
		switch {
		case ctx.Err() != nil:
			return engine{}, passedOver{}, ctx.Err()
		case err != nil && passed.broken == "":
			passed.broken, passed.why = path, err
		case err != nil:
		case want == nil || want.Check(v):
			return engine{name, path, v.String()}, passedOver{}, nil
		default:
			passed.unsuitable = append(passed.unsuitable, fmt.Sprintf("%s: version %s", path, v))
		}
	}
	return engine{}, passed, nil
}

func executable(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

// onPath returns all executables of a name on PATH, in order.
func (e *Engines) onPath(name string) []string {
	var found []string
	for _, dir := range filepath.SplitList(e.env["PATH"]) {
		// A relative entry would mean a pull request's own file.
		if path := filepath.Join(dir, executable(name)); filepath.IsAbs(dir) && isExecutable(path) {
			found = append(found, path)
		}
	}
	return found
}

// installed returns the engines of a name in the data directory, newest first.
func (e *Engines) installed(name string) []string {
	var found []*version.Version
	dirs, err := os.ReadDir(e.engineDir(name))
	if err != nil {
		return nil
	}
	for _, d := range dirs {
		if v, err := version.NewVersion(d.Name()); err == nil && d.IsDir() {
			found = append(found, v)
		}
	}
	slices.SortFunc(found, func(a, b *version.Version) int { return b.Compare(a) })
	var paths []string
	for _, v := range found {
		if path := filepath.Join(e.engineDir(name), v.Original(), executable(name)); isExecutable(path) {
			paths = append(paths, path)
		}
	}
	return paths
}

func (e *Engines) engineDir(name string) string {
	return filepath.Join(e.config.DataDir, "engines", name)
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && (runtime.GOOS == "windows" || info.Mode()&0o111 != 0)
}

// version asks an executable for its version, once for as long as its file does
// not change.
func (e *Engines) version(ctx context.Context, path string) (*version.Version, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	key := binary{path, info.Size(), info.ModTime()}
	e.mu.Lock()
	v := e.versions[key]
	e.mu.Unlock()
	if v != nil {
		return v, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("it did not answer within a minute"))
	defer cancel()
	v, err = askVersion(ctx, path, list(e.env))
	if err != nil {
		return nil, fmt.Errorf("ask for its version: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.versions[key] = v
	return v, nil
}

func askVersion(ctx context.Context, path string, env []string) (*version.Version, error) {
	cmd := exec.CommandContext(ctx, path, "version", "-json")
	cmd.Env = env
	cmd.Dir = filepath.Dir(path) // not a checkout
	cmd.WaitDelay = time.Second
	ownGroup(cmd)
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, withWords(err, out)
	}
	var answer struct {
		Version string `json:"terraform_version"` // OpenTofu's field has this name too
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("read its answer: %w", err)
	}
	if answer.Version == "" {
		return nil, errors.New("it did not say")
	}
	return version.NewVersion(answer.Version)
}

// maxWords bounds what is told of an executable that failed, in bytes.
const maxWords = 500

// withWords adds to the error of a process what it said, in one line: version
// managers, for one, stand on PATH for engines that they have not installed,
// and say what to do.
func withWords(err error, stdout []byte) error {
	said := stdout
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && len(bytes.TrimSpace(exit.Stderr)) > 0 {
		said = exit.Stderr
	}
	words := strings.Join(strings.Fields(clean(string(said))), " ")
	if len(words) > maxWords {
		words = strings.ToValidUTF8(words[:maxWords], "") + "…"
	}
	if words == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, words)
}
