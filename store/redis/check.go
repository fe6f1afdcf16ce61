package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"holdfast/store"
)

// schemaVersion is what this program knows of how things are stored. A store
// with a greater one is refused, so it only grows where an older program would
// do harm.
const schemaVersion = 1

var openScript = newScript("open")

// server is what a server says of itself; what it does not tell is "".
type server struct {
	version, role     string
	appendonly        string // yes or no
	policy, maxmemory string // what is evicted from how many bytes on
}

// check refuses a server on which the store would not be safe, and what is not
// a store of ours, before anything of it is used.
func (d *database) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	node, err := d.node(ctx)
	if err != nil {
		return err
	}
	// The first command, so that what keeps us from being served at all is told.
	if err := node.Ping(ctx).Err(); err != nil {
		return err
	}
	s, err := d.ask(ctx, node)
	if err != nil {
		return err
	}
	if err := s.refused(d.cfg); err != nil {
		return err
	}
	return d.mark(ctx)
}

// ask asks a server for what matters of its state and its settings. What it
// does not tell, as some managed services, is logged, and no error.
func (d *database) ask(ctx context.Context, node *goredis.Client) (server, error) {
	var text strings.Builder
	for _, section := range []string{"server", "replication", "memory", "persistence"} {
		part, err := node.Info(ctx, section).Result()
		if unreachable(err) {
			return server{}, err
		}
		text.WriteString(part)
	}
	setting := func(name string) string {
		values, _ := node.ConfigGet(ctx, name).Result()
		return values[name]
	}
	info := parseInfo(text.String())
	s := server{
		version: info["redis_version"], role: info["role"],
		appendonly: setting("appendonly"), policy: setting("maxmemory-policy"), maxmemory: setting("maxmemory"),
	}
	if s.appendonly == "" {
		s.appendonly = map[string]string{"0": "no", "1": "yes"}[info["aof_enabled"]]
	}
	if s.policy == "" {
		s.policy, s.maxmemory = info["maxmemory_policy"], info["maxmemory"]
	}
	for what, value := range map[string]string{"version": s.version, "append-only file": s.appendonly, "eviction policy": s.policy} {
		if value == "" {
			d.cfg.Logger.Warn("Redis does not tell a setting that the store depends on", "store", d.cfg.String(), "setting", what)
		}
	}
	return s, nil
}

// parseInfo reads the reply of INFO.
func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// refused returns what makes a server unfit for the store.
func (s server) refused(cfg Config) error {
	switch {
	case s.version != "" && older(s.version, 6, 2):
		return &refusal{problem: fmt.Sprintf("Redis %s is too old", s.version), hint: "Holdfast needs Redis 6.2 or later, or any Valkey"}
	case s.role == "slave":
		return fmt.Errorf("%w: it is a replica: name the master, or the Sentinels that know it", ErrUnreachable)
	case s.maxmemory != "" && s.maxmemory != "0" && s.policy != "" && s.policy != "noeviction" && !cfg.AllowEviction:
		return &refusal{
			problem: fmt.Sprintf("Redis may drop jobs and locks when its memory is full (maxmemory-policy %s)", s.policy),
			hint:    "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file",
		}
	case s.appendonly == "no" && !cfg.AllowVolatile:
		return &refusal{
			problem: "Redis forgets what it acknowledged when it restarts (appendonly no)",
			hint:    "CONFIG SET appendonly yes, and the same in its configuration file",
		}
	}
	return nil
}

// older reports whether a version is before major.minor.
func older(version string, major, minor int) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(second)
	return errA == nil && errB == nil && (a < major || a == major && b < minor)
}

// mark claims the prefix for us, or finds out whose it is.
func (d *database) mark(ctx context.Context) error {
	reply, err := d.read(ctx, openScript, schemaVersion, "jobs", "token", "runs", "record", "entry", "artifacts")
	if err != nil {
		return err
	}
	text, _ := reply.(string)
	switch version, err := strconv.Atoi(text); {
	case text == "foreign":
		return &refusal{
			problem: fmt.Sprintf("the key %s is another program's", d.key("meta")),
			hint:    "choose another prefix: ?prefix=NAME at the end of the store's address",
		}
	case text == "unmarked":
		return &refusal{
			problem: fmt.Sprintf("a part of the store is gone: there are jobs or runs, and no %s", d.key("meta")),
			hint:    "restore a backup of Redis, or choose another prefix for a new store: ?prefix=NAME at the end of the store's address",
		}
	case err != nil:
		return errors.Join(fmt.Errorf("%s has no version", d.key("meta")), err)
	case version > schemaVersion:
		return fmt.Errorf("%w: it has schema version %d, this program knows %d: start the newer version, or choose another prefix for a new store",
			store.ErrNewer, version, schemaVersion)
	}
	return nil
}
