package redis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Forms of addresses, as errors show them.
const (
	formServer   = "redis://USER:PASSWORD@HOST:6379/0"
	formCluster  = "redis+cluster://USER:PASSWORD@HOST1:6379,HOST2:6379"
	formSentinel = "redis+sentinel://USER:PASSWORD@HOST1:26379,HOST2:26379/MASTER/0"
	formSocket   = "unix:///run/redis/redis.sock?db=0"
)

// ParseURL reads a store's address:
//
//	redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]
//	redis+cluster://[[USER]:PASSWORD@]HOST[:PORT],HOST[:PORT],…
//	redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT],HOST[:PORT],…/MASTER[/DB]
//	unix://[[USER]:PASSWORD@]/PATH[?db=DB]
//
// rediss:// is the same over TLS, and valkey:// and valkeys:// are other words
// for redis:// and rediss://. User and password are those of the servers;
// Sentinels get theirs from sentinel_username and sentinel_password. Other
// parameters are prefix and wait_replicas; see Config.
//
// The error of an address that is none has a method Hint() string with the
// nearest form, and never the address itself: it may hold a password.
func ParseURL(address string) (Config, error) {
	scheme, rest, found := strings.Cut(address, "://")
	base, kind, _ := strings.Cut(scheme, "+")
	secure := base == "rediss" || base == "valkeys"
	form := formServer
	switch {
	case scheme == "unix":
		form = formSocket
	case kind == "cluster":
		form = formCluster
	case kind == "sentinel":
		form = formSentinel
	}
	wrong := func(what any) (Config, error) {
		return Config{}, &refusal{problem: fmt.Sprintf("the store's address %v", what), hint: "write it as " + form}
	}
	switch {
	case !found:
		return wrong("has no scheme")
	case scheme != "unix" && base != "redis" && base != "valkey" && !secure,
		kind != "" && kind != "cluster" && kind != "sentinel":
		return wrong(fmt.Sprintf("has the unknown scheme %q", scheme))
	}
	u, hosts, err := split(rest)
	if err != nil {
		return wrong(err)
	}
	cfg := Config{Username: u.User.Username(), Cluster: kind == "cluster"}
	cfg.Password, _ = u.User.Password()
	if secure {
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if err := cfg.readPlace(scheme, kind, hosts, u.Path); err != nil {
		return wrong(err)
	}
	if err := cfg.readQuery(scheme, u.Query()); err != nil {
		return wrong(err)
	}
	if err := cfg.withDefaults().validate(); err != nil {
		return wrong(fmt.Sprintf("is wrong: %v", err))
	}
	return cfg, nil
}

// split reads what comes behind the scheme. The hosts are several, which
// url.Parse does not allow.
func split(rest string) (u *url.URL, hosts string, err error) {
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user := authority[:strings.LastIndex(authority, "@")+1]
	hosts = authority[len(user):]
	u, err = url.Parse("redis://" + user + "host" + tail)
	if err != nil || user == "" && strings.Contains(tail, "@") {
		// Not the error itself, which quotes the address.
		return nil, "", errors.New("cannot be read: a password's characters other than letters, digits and -._~ have to be percent-encoded")
	}
	return u, hosts, nil
}

// readPlace reads hosts and path.
func (c *Config) readPlace(scheme, kind, hosts, path string) error {
	if scheme == "unix" {
		if hosts != "" || path == "" || path == "/" {
			return errors.New("needs the path of a socket, which begins with a slash")
		}
		c.Addrs = []string{path}
		return nil
	}
	path = strings.Trim(path, "/")
	port := "6379"
	if kind == "sentinel" {
		port = "26379"
		c.Master, path, _ = strings.Cut(path, "/")
		if c.Master == "" {
			return errors.New("does not name the master that the Sentinels watch")
		}
	}
	for host := range strings.SplitSeq(hosts, ",") {
		addr, err := hostPort(host, port)
		if err != nil {
			return err
		}
		c.Addrs = append(c.Addrs, addr)
	}
	if kind == "" && len(c.Addrs) > 1 {
		return errors.New("names several hosts: a cluster is redis+cluster://, Sentinels are redis+sentinel://")
	}
	return c.readDB(path)
}

func (c *Config) readDB(text string) (err error) {
	if text == "" {
		return nil
	}
	if c.DB, err = strconv.Atoi(text); err != nil || c.DB < 0 {
		return fmt.Errorf("has %q where the number of a database is expected", text)
	}
	return nil
}

// hostPort completes a host with the port that it has by default.
func hostPort(host, port string) (string, error) {
	name, given, err := net.SplitHostPort(host)
	if err != nil {
		name, given = strings.Trim(host, "[]"), port
	}
	if n, err := strconv.Atoi(given); err != nil || n < 1 || n > 65535 {
		return "", errors.New("has a port that is none")
	}
	if name == "" {
		return "", errors.New("names no host")
	}
	return net.JoinHostPort(name, given), nil
}

// readQuery reads the parameters.
func (c *Config) readQuery(scheme string, query url.Values) (err error) {
	for name, values := range query {
		value := values[len(values)-1]
		switch {
		case name == "prefix":
			c.Prefix = value
		case name == "wait_replicas":
			if c.WaitReplicas, err = strconv.Atoi(value); err != nil {
				return fmt.Errorf("has wait_replicas=%q, which is no number", value)
			}
		case name == "sentinel_username" && c.Master != "":
			c.SentinelUsername = value
		case name == "sentinel_password" && c.Master != "":
			c.SentinelPassword = value
		case name == "db" && scheme == "unix":
			err = c.readDB(value)
		default:
			err = fmt.Errorf("has the unknown parameter %q: there are prefix and wait_replicas", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
