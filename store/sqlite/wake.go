package sqlite

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

// watchEvery is how often the file is looked at for other processes' writes
// while somebody listens. One look costs some ten microseconds.
const watchEvery = 100 * time.Millisecond

// bell tells listeners that jobs may have become claimable: at once after a
// write of this handle, and within watchEvery after one of another handle or
// process.
type bell struct {
	db *database

	mu        sync.Mutex
	listeners map[chan struct{}]struct{}
	unwatch   context.CancelFunc // not nil while watching
	stopped   bool
	watching  sync.WaitGroup
}

func newBell(d *database) *bell {
	return &bell{db: d, listeners: map[chan struct{}]struct{}{}}
}

// ring signals all listeners; one that has a signal waiting needs no second.
func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.listeners {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// listen subscribes until ctx ends.
func (b *bell) listen(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped || ctx.Err() != nil {
		return c
	}
	b.listeners[c] = struct{}{}
	context.AfterFunc(ctx, func() { b.leave(c) })
	if b.unwatch == nil {
		watch, cancel := context.WithCancel(context.Background())
		b.unwatch = cancel
		b.watching.Go(func() { b.watch(watch) })
	}
	return c
}

func (b *bell) leave(c chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.listeners, c)
	if len(b.listeners) == 0 && b.unwatch != nil {
		b.unwatch()
		b.unwatch = nil
	}
}

// stop ends the watch for good.
func (b *bell) stop() {
	b.mu.Lock()
	b.stopped = true
	if b.unwatch != nil {
		b.unwatch()
	}
	b.mu.Unlock()
	b.watching.Wait()
}

// watch rings when another connection has written to the queue. An error is
// not reported: workers poll behind the bell, and meet it themselves.
func (b *bell) watch(ctx context.Context) {
	conn, err := b.db.read.Conn(ctx)
	if err != nil {
		return
	}
	defer conn.Close()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var seen look
	_, _ = seen.changed(ctx, conn)
	b.ring() // for what was written between listen and this first look
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if changed, err := seen.changed(ctx, conn); err == nil && changed {
				b.ring()
			}
		}
	}
}

// look is what was last seen of the file.
type look struct {
	version int64 // PRAGMA data_version: changes with every commit of others
	wakes   int64 // the counter that queue writes increase
}

func (l *look) changed(ctx context.Context, conn *sql.Conn) (bool, error) {
	var now look
	if err := conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&now.version); err != nil || now.version == l.version {
		return false, err
	}
	if err := conn.QueryRowContext(ctx, "SELECT value FROM counter WHERE name = 'wake'").Scan(&now.wakes); err != nil {
		return false, err
	}
	changed := now.wakes != l.wakes
	*l = now
	return changed, nil
}
