package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"holdfast/aws"
	"holdfast/runner"
	"holdfast/workspaces"
)

// Settings are what a server is told by its flags, by HOLDFAST_* variables and
// by its file, in that order.
type Settings struct {
	// URL is the server's address as people and hosts reach it. Empty means
	// the address that it listens on.
	URL string
	// Listen is HOST:PORT. Defaults to 127.0.0.1:4141.
	Listen string
	// Store is "sqlite", for a file in DataDir, "sqlite:PATH", or the address of
	// a Redis; see redis.ParseURL. Defaults to "sqlite".
	Store string
	Redis RedisSettings
	// DataDir is absolute. Defaults to $XDG_DATA_HOME/holdfast, else
	// ~/.local/share/holdfast.
	DataDir string
	// StateDir is where the states of root modules are that have no backend of
	// their own. Defaults to "state" in DataDir with an embedded store; with one
	// that machines share there is none.
	StateDir string
	// Workers is how many jobs run side by side; 0: none, in this process.
	// Defaults to the number of CPUs.
	Workers int
	// Labels are what the workers may be chosen by.
	Labels []string
	// Dedicated leaves the jobs to other processes that ask for no label.
	Dedicated bool
	// Grace is how long running jobs may go on after SIGTERM before their
	// engines are interrupted. Defaults to 20 s.
	Grace time.Duration
	// PerRepository is how many of them may be one repository's. Defaults to
	// 4.
	PerRepository int
	// Key is the secret that all others are derived from, of 32 characters at
	// least. Empty means the one in DataDir.
	Key string
	// OldKeys are those that it was before, or will be: what they sealed can be
	// read.
	OldKeys []string
	// S3 is the bucket that plans are kept in. Without a Bucket they are in the
	// store.
	S3 aws.S3Config
	// Commands are those of the commands that are off by default which
	// comments may use: "import", "state rm".
	Commands     []string
	Hosts        []HostSettings
	Repositories []RepositorySettings
	Engine       EngineSettings
	// DriftChecks is how many drift checks run at once, over all servers of a
	// store. Defaults to half of Workers, one at least.
	DriftChecks int
	Notify      []NotifySettings
	Attributors []AttributorSettings
	// CloudEventSecret is what requests to /hooks/cloud-event are signed with.
	// Empty: there are none.
	CloudEventSecret string
	// Retention is for how long runs are kept. Defaults to 30 days for plans,
	// logs and checks that found nothing, and 400 days for runs.
	Retention runner.Retention
}

// EngineSettings are what engines get from the server's environment.
type EngineSettings struct {
	Pass []string          // names of variables, as path.Match patterns
	Set  map[string]string // variables with their values
}

// The words of the server file.
var (
	serverAttributes = []string{"url", "listen", "store", "data_dir", "state_dir", "workers", "labels", "dedicated", "grace", "per_repository", "drift_checks", "key", "old_keys", "commands"}
	serverBlocks     = []string{"redis", "host", "repository", "engine", "artifacts", "notify", "attributor", "cloud_event", "retention"}
	singleBlocks     = []string{"redis", "engine", "artifacts", "cloud_event", "retention"}
	offCommands      = []string{"import", "state rm"}
)

// LoadSettings reads the server file at path, or none where path is empty, and
// puts the HOLDFAST_* variables that env has over it. Mistakes are
// workspaces.Problems; they never quote a secret.
func LoadSettings(path string, env func(string) (string, bool)) (Settings, error) {
	return load(path, env, (*serverFile).server, func(string) bool { return true })
}

// LoadStoreSettings reads no more than where the store is, Store and DataDir.
// Whoever looks into it has neither the secrets that the rest of the file
// takes from the server's environment nor a need of them.
func LoadStoreSettings(path string, env func(string) (string, bool)) (Settings, error) {
	return load(path, env, (*serverFile).place, func(name string) bool {
		return name == "HOLDFAST_STORE" || name == "HOLDFAST_DATA_DIR" || name == "HOLDFAST_REDIS_PASSWORD"
	})
}

// load reads of the server file what read does, and the wanted variables.
func load(path string, env func(string) (string, bool), read func(*serverFile, *Settings), wanted func(string) bool) (Settings, error) {
	s := Settings{Listen: "127.0.0.1:4141", Store: "sqlite", Workers: runtime.NumCPU(), PerRepository: 4, Grace: 20 * time.Second, Retention: defaultRetention}
	f, err := openServerFile(path, env)
	if err != nil {
		return Settings{}, err
	}
	if f.body != nil {
		read(f, &s)
	}
	f.variables(&s, wanted)
	f.paths(&s)
	if len(f.problems) > 0 {
		f.problems.Sort()
		return Settings{}, f.problems
	}
	return s, nil
}

// StorePath is the file of an embedded store.
func (s Settings) StorePath() string {
	if p, ok := strings.CutPrefix(s.Store, "sqlite:"); ok {
		return p
	}
	return filepath.Join(s.DataDir, "holdfast.db")
}

// server reads the file's own attributes and its blocks.
func (f *serverFile) server(s *Settings) {
	f.known(f.body, "the server file", serverAttributes, serverBlocks)
	f.text(f.body, "url", &s.URL, checkURL)
	f.text(f.body, "listen", &s.Listen, checkListen)
	f.place(s)
	f.text(f.body, "state_dir", &s.StateDir, notEmpty)
	f.number(f.body, "workers", &s.Workers, 0)
	f.texts(f.body, "labels", &s.Labels, checkLabel)
	f.boolean(f.body, "dedicated", &s.Dedicated)
	f.duration(f.body, "grace", &s.Grace)
	f.count(f.body, "per_repository", &s.PerRepository)
	f.count(f.body, "drift_checks", &s.DriftChecks)
	f.secret(f.body, "key", &s.Key, checkKey)
	f.secrets(f.body, "old_keys", &s.OldKeys, checkOldKey)
	f.texts(f.body, "commands", &s.Commands, checkCommand)
	single := map[string]int{}
	for _, b := range f.body.Blocks {
		if single[b.Type]++; single[b.Type] > 1 && slices.Contains(singleBlocks, b.Type) {
			f.problem(b.TypeRange, "put both into one", "there is a second %s block", b.Type)
		}
		switch b.Type {
		case "host":
			f.host(b, s)
		case "engine":
			f.engine(b, &s.Engine)
		case "artifacts":
			f.artifacts(b, &s.S3)
		case "notify":
			f.notify(b, s)
		case "attributor":
			f.attributor(b, s)
		case "cloud_event":
			f.cloudEvent(b, s)
		case "retention":
			f.retention(b, s)
		}
	}
	// After the hosts, wherever they stand.
	for _, b := range f.body.Blocks {
		if b.Type == "repository" {
			f.repository(b, s)
		}
	}
	f.secretsStay(s.Engine.Pass)
}

// place reads where the store is.
func (f *serverFile) place(s *Settings) {
	f.secret(f.body, "store", &s.Store, checkStore)
	f.text(f.body, "data_dir", &s.DataDir, notEmpty)
	for _, b := range f.body.Blocks {
		if b.Type == "redis" {
			f.redis(b, &s.Redis)
		}
	}
}

// engine reads the engine block.
func (f *serverFile) engine(b *hclsyntax.Block, e *EngineSettings) {
	if len(b.Labels) > 0 {
		f.problem(b.LabelRanges[0], "leave the label out", "an engine block has no label")
	}
	f.known(b.Body, "engine", []string{"pass", "set"}, nil)
	f.texts(b.Body, "pass", &e.Pass, func(p string) error {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return hinted{fmt.Errorf("%q is no pattern", p), `write names of variables, such as "AWS_*"`}
		}
		return nil
	})
	f.textMap(b.Body, "set", &e.Set, func(name string) error {
		if !variableName.MatchString(name) {
			return hinted{fmt.Errorf("%q cannot be a variable's name", name), ""}
		}
		if strings.HasPrefix(name, "HOLDFAST_") {
			return hinted{fmt.Errorf("%s is one of Holdfast's own variables", name), "engines never get these: give it another name"}
		}
		return nil
	})
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,60}$`)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// secretsStay refuses a pattern that would hand engines a variable which one
// of the server's own secrets is read from: any pull request's code could read
// it there.
func (f *serverFile) secretsStay(pass []string) {
	for _, b := range f.body.Blocks {
		a, ok := b.Body.Attributes["pass"]
		if b.Type != "engine" || !ok {
			continue
		}
		for _, p := range pass {
			for _, name := range f.secretVariables {
				if ok, _ := path.Match(p, name); ok {
					f.problem(a.Expr.Range(), "name the variables more narrowly: code of any pull request sees what engines see", "pass has %q, which gives engines %s, one of the server's own secrets", p, name)
				}
			}
		}
	}
}

// variables puts the wanted HOLDFAST_* variables over the file; one that is
// empty is as good as not set.
func (f *serverFile) variables(s *Settings, wanted func(string) bool) {
	for _, v := range []struct {
		name  string
		to    *string
		check func(string) error
	}{
		{"HOLDFAST_URL", &s.URL, checkURL},
		{"HOLDFAST_LISTEN", &s.Listen, checkListen},
		{"HOLDFAST_STORE", &s.Store, checkStore},
		{"HOLDFAST_DATA_DIR", &s.DataDir, notEmpty},
		{"HOLDFAST_KEY", &s.Key, checkKey},
		{"HOLDFAST_OLD_KEYS", nil, func(keys string) error {
			old := strings.Split(keys, ",")
			for i, key := range old {
				old[i] = strings.TrimSpace(key)
				if err := checkOldKey(old[i]); err != nil {
					return err
				}
			}
			s.OldKeys = old
			return nil
		}},
		{"HOLDFAST_REDIS_PASSWORD", &s.Redis.Password, notEmpty},
		{"HOLDFAST_LABELS", nil, func(list string) error {
			for _, l := range labels(list) {
				if err := checkLabel(l); err != nil {
					return err
				}
			}
			s.Labels = labels(list)
			return nil
		}},
		{"HOLDFAST_DEDICATED", nil, func(v string) error {
			dedicated, err := strconv.ParseBool(v)
			if err != nil {
				return hinted{fmt.Errorf("is %q, which is neither true nor false", v), ""}
			}
			s.Dedicated = dedicated
			return nil
		}},
		{"HOLDFAST_GRACE", nil, func(v string) error {
			d, err := time.ParseDuration(v)
			if err != nil || d < 0 {
				return hinted{fmt.Errorf("is %q, which is no length of time", v), `write it like "30s" or "5m"`}
			}
			s.Grace = d
			return nil
		}},
		{"HOLDFAST_WORKERS", nil, func(n string) error {
			workers, err := strconv.Atoi(n)
			if err != nil || workers < 0 || workers > maxCount {
				return hinted{fmt.Errorf("is %q, which is no whole number from 0 to %d", n, maxCount), ""}
			}
			s.Workers = workers
			return nil
		}},
	} {
		value, _ := f.env(v.name)
		if value == "" || !wanted(v.name) {
			continue
		}
		if err := v.check(value); err != nil {
			f.problems = append(f.problems, workspaces.Problem{File: v.name, Message: err.Error(), Hint: hintOf(err)})
			continue
		}
		switch v.to {
		case nil:
		case &s.DataDir, &s.Store:
			f.fromFile[v.to] = false
			*v.to = value
		default:
			*v.to = value
		}
	}
	s.URL = strings.TrimRight(s.URL, "/")
}

// paths makes DataDir and the store's path absolute. Those of the file start
// where the file is, others in the working directory.
func (f *serverFile) paths(s *Settings) {
	if s.DataDir == "" {
		data, _ := f.env("XDG_DATA_HOME")
		if !filepath.IsAbs(data) { // the specification has relative ones ignored
			home, _ := f.env("HOME")
			if home == "" {
				f.problems = append(f.problems, workspaces.Problem{File: f.name, Message: "there is no data_dir, and no home directory to put one into", Hint: "set data_dir, HOLDFAST_DATA_DIR or --data-dir"})
				return
			}
			data = filepath.Join(home, ".local", "share")
		}
		s.DataDir = filepath.Join(data, "holdfast")
	}
	s.DataDir = f.absolute(s.DataDir, f.fromFile[&s.DataDir])
	if p, ok := strings.CutPrefix(s.Store, "sqlite:"); ok {
		s.Store = "sqlite:" + f.absolute(p, f.fromFile[&s.Store])
	}
	if s.StateDir != "" {
		s.StateDir = f.absolute(s.StateDir, f.fromFile[&s.StateDir])
	}
}

// stateDir is StateDir with its default.
func (s Settings) stateDir() string {
	if s.StateDir == "" && !s.Shared() {
		return filepath.Join(s.DataDir, "state")
	}
	return s.StateDir
}

// The checks of single values. Their errors go on after the attribute's name.

func notEmpty(v string) error {
	if strings.TrimSpace(v) == "" {
		return hinted{errors.New("is empty"), "leave it out, or write a value"}
	}
	return nil
}

func checkURL(v string) error {
	u, err := url.Parse(v)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return hinted{errors.New("is not the address of a web server"), `write it like "https://holdfast.example.com"`}
	case u.User != nil:
		return hinted{errors.New("has credentials in it"), "leave them out"}
	}
	return nil
}

func checkListen(v string) error {
	_, port, err := net.SplitHostPort(v)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n > 65535 {
		return hinted{fmt.Errorf("is %q, which is not HOST:PORT", v), `write it like "127.0.0.1:4141", or ":4141" for all addresses`}
	}
	return nil
}

func checkKey(v string) error {
	if len(v) < 32 {
		return hinted{errors.New("is shorter than 32 characters"), "make one with: openssl rand -hex 32"}
	}
	return nil
}

func checkOldKey(v string) error {
	if err := checkKey(v); err != nil {
		return hinted{fmt.Errorf("one %w", err), "leave out what was never a key"}
	}
	return nil
}

func checkCommand(v string) error {
	if !slices.Contains(offCommands, v) {
		return hinted{fmt.Errorf("%q is none of the commands that are off by default", v), workspaces.Nearest(v, offCommands)}
	}
	return nil
}

// checkRemote takes what Git takes: a URL, USER@HOST:PATH, or a path.
func checkRemote(v string) error {
	scheme, _, isURL := strings.Cut(v, "://")
	if strings.TrimSpace(v) == "" || strings.HasPrefix(v, "-") || isURL && !slices.Contains([]string{"https", "http", "ssh", "file"}, scheme) {
		return hinted{errors.New("is not the address of a repository"), `write url = "https://…", "ssh://…", or a path`}
	}
	if u, err := url.Parse(v); isURL && (err != nil || u.User != nil && (scheme != "ssh" || hasPassword(u))) {
		return hinted{errors.New("has credentials in it, or is not a URL"), `write username and password = env("…") beside it`}
	}
	return nil
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}

// hintOf is what an error advises.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
