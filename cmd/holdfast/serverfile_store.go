package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"holdfast/queue"
	"holdfast/store/redis"
)

// RedisSettings are the redis block: what does not belong into the address of
// the store.
type RedisSettings struct {
	Username, Password                 string
	SentinelUsername, SentinelPassword string
	// CAFile has the certificates that the server's own is checked with, and
	// CertFile and KeyFile are what it checks of this client.
	CAFile, CertFile, KeyFile string
	// AllowEviction and AllowVolatile let Holdfast start on a Redis that may
	// forget what it was told.
	AllowEviction, AllowVolatile bool
}

// Shared reports whether several machines can use the store.
func (s Settings) Shared() bool { return strings.Contains(s.Store, "://") }

// checkStore takes the embedded store and addresses of Redis.
func checkStore(v string) error {
	if v == "sqlite" {
		return nil
	}
	if p, ok := strings.CutPrefix(v, "sqlite:"); ok && p != "" {
		return nil
	}
	if !strings.Contains(v, "://") {
		kind, _, _ := strings.Cut(v, ":")
		return hinted{fmt.Errorf("is of type %q, which there is not", kind), `write "sqlite", "sqlite:PATH", or "redis://HOST:PORT"`}
	}
	if _, err := redis.ParseURL(v); err != nil {
		return hinted{fmt.Errorf("is no address of a store: %w", err), hintOf(err)}
	}
	return nil
}

// redis reads the redis block.
func (f *serverFile) redis(b *hclsyntax.Block, r *RedisSettings) {
	if len(b.Labels) > 0 {
		f.problem(b.LabelRanges[0], "leave the label out", "a redis block has no label")
	}
	f.known(b.Body, "redis", []string{"username", "password", "sentinel_username", "sentinel_password", "ca_file", "cert_file", "key_file", "allow_eviction", "allow_volatile"}, nil)
	f.text(b.Body, "username", &r.Username, notEmpty)
	f.secret(b.Body, "password", &r.Password, notEmpty)
	f.text(b.Body, "sentinel_username", &r.SentinelUsername, notEmpty)
	f.secret(b.Body, "sentinel_password", &r.SentinelPassword, notEmpty)
	for name, to := range map[string]*string{"ca_file": &r.CAFile, "cert_file": &r.CertFile, "key_file": &r.KeyFile} {
		f.text(b.Body, name, to, notEmpty)
		f.readable(b, name, to)
	}
	if (r.CertFile == "") != (r.KeyFile == "") {
		f.problem(b.TypeRange, "write both cert_file and key_file", "redis has only one of a certificate and its key")
	}
	f.boolean(b.Body, "allow_eviction", &r.AllowEviction)
	f.boolean(b.Body, "allow_volatile", &r.AllowVolatile)
}

// checkLabel takes a label of a worker.
func checkLabel(v string) error {
	if err := queue.CheckLabels([]string{v}); err != nil {
		return hinted{err, `write it like "prod"`}
	}
	return nil
}

// labels are what a comma-separated list has.
func labels(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// redisConfig is how the settings' Redis is opened.
func (s Settings) redisConfig() (redis.Config, error) {
	c, err := redis.ParseURL(s.Store)
	if err != nil {
		return c, err
	}
	for to, value := range map[*string]string{
		&c.Username: s.Redis.Username, &c.Password: s.Redis.Password,
		&c.SentinelUsername: s.Redis.SentinelUsername, &c.SentinelPassword: s.Redis.SentinelPassword,
	} {
		if value != "" {
			*to = value
		}
	}
	c.AllowEviction, c.AllowVolatile = s.Redis.AllowEviction, s.Redis.AllowVolatile
	if s.Redis.CAFile == "" && s.Redis.CertFile == "" {
		return c, nil
	}
	if c.TLS == nil {
		return c, hinted{errors.New("the redis block has certificates, and the store's address is not one with TLS"), `write store = "rediss://…"`}
	}
	return c, s.Redis.certificates(c.TLS)
}

// certificates puts those of the settings into t.
func (r RedisSettings) certificates(t *tls.Config) error {
	if r.CAFile != "" {
		pem, err := os.ReadFile(r.CAFile)
		if err != nil {
			return fmt.Errorf("read the redis block's ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return hinted{fmt.Errorf("the redis block's ca_file %s has no certificate in it", r.CAFile), "it has to be in PEM format"}
		}
	}
	if r.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(r.CertFile, r.KeyFile)
		if err != nil {
			return fmt.Errorf("read the redis block's certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return nil
}
