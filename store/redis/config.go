package redis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Config says where the store is and how it is used. ParseURL makes one.
type Config struct {
	// Addrs are the servers, as HOST:PORT or as the path of a Unix socket: the
	// one server, some nodes of a cluster, or the Sentinels. Required.
	Addrs []string
	// Username and Password are of the Redis user; with a Password alone it is
	// the default user.
	Username string
	Password string
	// DB is the database's number; a cluster has only 0.
	DB int
	// Cluster says that Addrs are nodes of a cluster.
	Cluster bool
	// Master is the name under which Sentinels know the master; Addrs are
	// Sentinels then.
	Master string
	// SentinelUsername and SentinelPassword are for the Sentinels themselves.
	SentinelUsername string
	SentinelPassword string
	// TLS makes every connection an encrypted one, to Sentinels as well. Nil
	// means plain TCP.
	TLS *tls.Config
	// Prefix keeps several installations in one Redis apart. It may have
	// [a-z0-9_-]. Defaults to "holdfast".
	Prefix string
	// WaitReplicas is how many replicas must have each write before it counts;
	// a write that fewer acknowledge within three seconds is an error, and may
	// be kept nevertheless. Defaults to none.
	WaitReplicas int
	// AllowEviction accepts a server that may evict keys when its memory is
	// full: jobs, locks and runs among them.
	AllowEviction bool
	// AllowVolatile accepts a server that forgets everything when it restarts.
	AllowVolatile bool
	// Logger is told what could not be checked. Defaults to slog.Default().
	Logger *slog.Logger
	// Observe is called once after each call of a method of the store, with its
	// name, such as "queue.claim".
	Observe func(method string, took time.Duration, err error)
	// Now is this machine's clock. Defaults to time.Now.
	Now func() time.Time
}

// Times after which the network counts as broken. A call is tried again where
// it failed before callTimeout has passed since it began: what a script
// answered is kept for longer than that (lua/prelude.lua).
const (
	dialTimeout = 5 * time.Second
	ioTimeout   = 5 * time.Second
	callTimeout = 30 * time.Second
	waitTimeout = 3 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = "holdfast"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

var prefixes = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)

func (c Config) validate() error {
	switch {
	case len(c.Addrs) == 0:
		return errors.New("no address of a Redis server")
	case !prefixes.MatchString(c.Prefix):
		return fmt.Errorf("the prefix %q has more than a-z, 0-9, _ and -, or more than 64 of them", c.Prefix)
	case c.WaitReplicas < 0:
		return fmt.Errorf("wait_replicas is %d", c.WaitReplicas)
	case c.Cluster && c.Master != "":
		return errors.New("a cluster has no Sentinels")
	case c.Cluster && c.DB != 0:
		return fmt.Errorf("a cluster has no database %d, only 0", c.DB)
	}
	return nil
}

// String names the store for people, without secrets.
func (c Config) String() string {
	s := strings.Join(c.Addrs, ",")
	if c.Master != "" {
		s += "/" + c.Master
	}
	if c.DB != 0 {
		s += fmt.Sprint("/", c.DB)
	}
	return fmt.Sprintf("%s (prefix %s)", s, c.Prefix)
}

// connect returns a client, which connects when it is used.
func (c Config) connect() goredis.UniversalClient {
	o := &goredis.UniversalOptions{
		Addrs: c.Addrs, DB: c.DB, Username: c.Username, Password: c.Password, TLSConfig: c.TLS,
		MasterName: c.Master, SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword,
		IsClusterMode: c.Cluster,
		DialTimeout:   dialTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, ContextTimeoutEnabled: true,
		// Retries are those of whole commands, with their backoff.
		DialerRetries: 1,
		// Nothing beyond what a restricted user may do.
		DisableIdentity: true,
	}
	switch {
	case c.Cluster:
		return goredis.NewClusterClient(o.Cluster())
	case c.Master != "":
		return goredis.NewFailoverClient(o.Failover())
	}
	return goredis.NewClient(o.Simple())
}
