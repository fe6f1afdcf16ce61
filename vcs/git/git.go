// Package git keeps what Holdfast knows of Git repositories, so that a host's
// API is never asked for what the repository itself says best: which files a
// change touches, what a branch was made from, and what a commit contains.
//
// One bare mirror per repository is fetched incrementally, and one checkout
// per commit is shared by everything that runs on that commit. No git
// executable is needed, not even for repositories on a local path.
package git

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing/cache"

	"holdfast/vcs"
)

// Config is what Mirrors needs.
type Config struct {
	// Dir is the data directory. mirrors and checkouts are kept below it.
	// Required. One process at a time may use it.
	Dir string
	// MaxCheckouts is how many checkouts are kept, over all repositories.
	// Those in use are kept beyond it. Defaults to 50.
	MaxCheckouts int
	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
	// HTTPClient carries http and https. It must not add credentials. Defaults
	// to a client with the proxy of the environment and without an overall
	// timeout: the context of each call bounds it.
	HTTPClient *http.Client
}

func (c Config) withDefaults() Config {
	if c.MaxCheckouts == 0 {
		c.MaxCheckouts = 50
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.HTTPClient == nil {
		c.HTTPClient = defaultHTTPClient()
	}
	return c
}

func (c Config) validate() error {
	if c.Dir == "" {
		return errors.New("git: Config.Dir is empty")
	}
	if c.MaxCheckouts < 0 {
		return fmt.Errorf("git: Config.MaxCheckouts is %d, less than zero", c.MaxCheckouts)
	}
	return nil
}

// Mirrors holds the mirrors and checkouts of all repositories. Safe for
// concurrent use within one process.
//
// Methods that take a commit accept its full hexadecimal name; those that take
// a rev accept a branch, a tag, a full ref name, or an expression such as
// HEAD~1 too. What is not in the mirror is vcs.ErrNotFound, as is a repository
// that was never fetched.
type Mirrors struct {
	cfg       Config
	mirrors   string // directory
	checkouts string // directory
	boot      string // see bootID

	// objects is shared by all mirrors: an object is the same wherever its
	// name is the same.
	objects cache.Object

	mu     sync.Mutex
	byRepo map[vcs.Repository]*mirror
	shared map[string]*checkout // by directory
}

// New prepares the directories below cfg.Dir, and removes what a killed
// process left half-made there.
func New(cfg Config) (*Mirrors, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("find data directory: %w", err)
	}
	m := &Mirrors{
		cfg:       cfg,
		mirrors:   filepath.Join(dir, "mirrors"),
		checkouts: filepath.Join(dir, "checkouts"),
		boot:      bootID(),
		objects:   cache.NewObjectLRUDefault(),
		byRepo:    map[vcs.Repository]*mirror{},
		shared:    map[string]*checkout{},
	}
	for _, d := range []string{m.mirrors, m.checkouts} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("create data directory: %w", err)
		}
	}
	for _, pattern := range []string{
		filepath.Join(m.mirrors, scratchPrefix+"*"),
		filepath.Join(m.checkouts, "*", scratchPrefix+"*"),
	} {
		if err := removeMatching(pattern); err != nil {
			return nil, fmt.Errorf("remove unfinished work: %w", err)
		}
	}
	return m, nil
}

// scratchPrefix marks what is being made or removed. Whatever has it at the
// start of the program is rubbish.
const scratchPrefix = ".tmp-"

func removeMatching(pattern string) error {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, f := range found {
		if err := os.RemoveAll(f); err != nil {
			return err
		}
	}
	return nil
}

// mirror returns the mirror of r, which need not exist on disk yet.
func (m *Mirrors) mirror(r vcs.Repository) *mirror {
	m.mu.Lock()
	defer m.mu.Unlock()
	mi := m.byRepo[r]
	if mi == nil {
		mi = &mirror{repo: r, dir: filepath.Join(m.mirrors, slug(r)+".git"), objects: m.objects}
		m.byRepo[r] = mi
	}
	return mi
}

// HintError is an error with advice for a person.
type HintError struct {
	Err  error
	hint string
}

// Error says what is wrong, and what to do about it.
func (e *HintError) Error() string { return e.Err.Error() + " (" + e.hint + ")" }

// Unwrap returns the error without the advice.
func (e *HintError) Unwrap() error { return e.Err }

// Hint returns the advice alone.
func (e *HintError) Hint() string { return e.hint }

// PathError is a name in a commit that cannot be written safely, such as one
// with ".." or ".git" in it.
type PathError struct {
	Path   string // from the repository's root
	Reason string
}

// Error names the path and what is wrong with it.
func (e *PathError) Error() string { return fmt.Sprintf("path %q in the commit %s", e.Path, e.Reason) }

// Hint says what to do.
func (e *PathError) Hint() string {
	return "no ordinary Git client makes such a commit: rewrite it without this path"
}

// ContentPath is the path in the repository that is at fault.
func (e *PathError) ContentPath() string { return e.Path }
