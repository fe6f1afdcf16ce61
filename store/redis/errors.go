package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	goredis "github.com/redis/go-redis/v9"

	"holdfast/store"
)

// ErrUnreachable says that no server answered, or that the one that did cannot
// serve now: it loads its data, is a replica, is busy, or its cluster is down. Another
// try may succeed. A write that ended so may have been made.
var ErrUnreachable = errors.New("redis: the server cannot be reached")

// refusal is an error with advice on what to do.
type refusal struct {
	problem string
	hint    string
	err     error // what the server said; may be nil
}

// Error says what is wrong, and what the server said.
func (r *refusal) Error() string {
	if r.err == nil {
		return r.problem
	}
	return r.problem + ": " + r.err.Error()
}

// Hint says what to do.
func (r *refusal) Hint() string { return r.hint }

// Unwrap returns what the server said.
func (r *refusal) Unwrap() error { return r.err }

// UserRules are the rules of an ACL user who may do what Holdfast does, and no
// more. Without "config|get", settings are asked for by INFO only.
func UserRules(prefix string) string {
	return fmt.Sprintf("~{%s}:* &{%s}:* +@all -@admin -@dangerous +info +config|get", prefix, prefix)
}

// explain puts what a caller can act on in front of Redis' own words.
func (d *database) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, goredis.ErrClosed) || errors.Is(err, ErrUnreachable) {
		return err
	}
	if r := d.refused(err); r != nil {
		return r
	}
	switch {
	case goredis.IsOOMError(err):
		return fmt.Errorf("%w: the memory limit of Redis (maxmemory) is reached: %w", store.ErrFull, err)
	case goredis.HasErrorPrefix(err, "MISCONF"):
		return fmt.Errorf("%w, or cannot be written by Redis: %w", store.ErrFull, err)
	case unreachable(err):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// refused returns what a server, or its certificate, has against us and what to
// do about it, or nil. Another try is no use.
func (d *database) refused(err error) error {
	var untrusted *tls.CertificateVerificationError
	_, moved := goredis.IsMovedError(err)
	switch {
	case goredis.HasErrorPrefix(err, "WRONGPASS"):
		return &refusal{"Redis refuses this user or password", "check HOLDFAST_REDIS_PASSWORD, or username and password in the server file's redis block", err}
	case goredis.IsAuthError(err):
		return &refusal{"Redis asks for a password", "set HOLDFAST_REDIS_PASSWORD, or username and password in the server file's redis block", err}
	case goredis.IsPermissionError(err):
		return &refusal{"the Redis user may not do that", "give it what Holdfast needs: ACL SETUSER NAME " + UserRules(d.cfg.Prefix), err}
	case moved && !d.cfg.Cluster:
		return &refusal{"this Redis is a node of a cluster", "write the store's address as " + formCluster, err}
	case goredis.HasErrorPrefix(err, "This instance has cluster support disabled"):
		return &refusal{"this Redis is no node of a cluster", "write the store's address as " + formServer, err}
	case errors.As(err, &untrusted):
		return &refusal{"the certificate of this Redis is not trusted", "add who signed it to the authorities of this machine, as with SSL_CERT_FILE, or correct the host in the store's address", err}
	}
	return nil
}

// unreachable reports whether err is of the network, or of a server that cannot
// serve now.
func unreachable(err error) bool {
	if err == nil {
		return false
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, goredis.ErrPoolTimeout) ||
		goredis.IsLoadingError(err) || goredis.IsReadOnlyError(err) || goredis.IsMasterDownError(err) ||
		goredis.IsClusterDownError(err) || goredis.IsTryAgainError(err) || goredis.IsMaxClientsError(err) || goredis.IsNoReplicasError(err) ||
		goredis.HasErrorPrefix(err, "BUSY ")
}
