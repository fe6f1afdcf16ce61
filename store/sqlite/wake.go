package sqlite

import (
	"context"
	"database/sql"
	"time"
)

// watchEvery is how often the file is looked at for other processes' writes
// while somebody listens. One look costs some ten microseconds.
const watchEvery = 100 * time.Millisecond

// watch rings within watchEvery when another connection has written to the queue. An error is
// not reported: workers poll behind the bell, and meet it themselves.
func (d *database) watch(ctx context.Context, ring func()) {
	conn, err := d.read.Conn(ctx)
	if err != nil {
		return
	}
	defer conn.Close()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var seen look
	_, _ = seen.changed(ctx, conn)
	ring() // for what was written between listen and this first look
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if changed, err := seen.changed(ctx, conn); err == nil && changed {
				ring()
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
