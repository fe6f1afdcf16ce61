// Package redis keeps a whole Holdfast in Redis or Valkey, so that many
// machines work on one queue: on a single server, behind Sentinel, or on a
// cluster, self-run or managed.
//
// Each method is one call of a Lua script, which Redis executes as one atomic
// step (lua/jobs.lua tells how the queue is kept); where a method is several,
// its comment says so. All keys of an installation begin with one hash tag,
// "{holdfast}:", and so are on one node of a cluster: a script cannot reach
// further, and one node serves thousands of jobs a second.
//
// A write that Redis acknowledged survives what the server is configured to
// survive. Open therefore refuses one that evicts keys, or keeps nothing on
// disk. A replica that takes over may lack the last second of writes: fencing
// tokens go on growing then, Store.Failovers tells of it, and
// Config.WaitReplicas closes the gap at the price of a round trip.
package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"holdfast/queue"
	"holdfast/store"
)

// database is an opened installation.
type database struct {
	cfg    Config
	client goredis.UniversalClient
	prefix string // "{holdfast}:"
	wake   *queue.Bell
	watch  *watch
}

// Open opens the store that cfg names, and starts a new one where there is
// none.
//
// It returns an error that wraps ErrUnreachable where no server answers, which
// is worth another try, store.ErrNewer where a newer Holdfast wrote the store,
// and an error with a method Hint() string, which says what to do, where the
// server refuses us or would not keep what it is given.
func Open(ctx context.Context, cfg Config) (*store.Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	d := &database{cfg: cfg, client: cfg.connect(), prefix: "{" + cfg.Prefix + "}:"}
	if err := d.explain(d.check(ctx)); err != nil {
		if errors.Is(err, ErrUnreachable) {
			err = &refusal{"no answer that is of use", "check that Redis runs and is no replica, its host and port, and that the address says rediss:// where it speaks TLS, and only there", err}
		}
		return nil, errors.Join(fmt.Errorf("open store %s: %w", cfg, err), d.client.Close())
	}
	d.wake, d.watch = queue.NewBell(d.hear), newWatch(d)
	d.watch.start(ctx)
	return &store.Store{
		Queue:     &jobs{d},
		Locks:     &locks{d},
		Runs:      &runs{d},
		Artifacts: &artifacts{d},
		Records:   &records{d},
		Audit:     &audit{d},
		Counts:    d.counts,
		Clock:     d.watch.now,
		Failovers: d.watch.listen,
		Dump:      d.dump,
		Load:      d.load,
		Close:     sync.OnceValue(d.close),
	}, nil
}

// close closes the connections before it waits for those who use them: a read
// from a server that hangs ends with its connection, and not with a context.
func (d *database) close() error {
	d.wake.Stop()
	d.watch.stop()
	err := d.client.Close()
	d.wake.Wait()
	d.watch.wait()
	return err
}

// key returns the name of one of the installation's keys.
func (d *database) key(name string) string { return d.prefix + name }

// node returns the client of the server that has the installation's keys: of
// the master of their slot on a cluster, else of the only one there is.
func (d *database) node(ctx context.Context) (*goredis.Client, error) {
	switch c := d.client.(type) {
	case *goredis.ClusterClient:
		return c.MasterForKey(ctx, d.prefix)
	case *goredis.Client:
		return c, nil
	}
	return nil, fmt.Errorf("no node of a %T", d.client)
}

// observe reports a call of a method that has ended; deferred at its beginning.
func (d *database) observe(method string, began time.Time, err *error) {
	if d.cfg.Observe != nil {
		d.cfg.Observe(method, time.Since(began), *err)
	}
}
