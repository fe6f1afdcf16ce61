package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// How much of the waiting work one commit takes. The first bounds what is
// rolled back together, the second how long the first caller waits for others.
const (
	batchSize = 256
	batchTime = 20 * time.Millisecond
)

// errClosed is what a method of a closed store returns.
var errClosed = errors.New("the store is closed")

// writer runs all writes of a handle on one connection. Durability costs one
// fsync per commit, so the writes that are waiting when one begins share its
// transaction, each in a savepoint of its own: one that fails takes nothing of
// the others with it.
type writer struct {
	db       *sql.DB
	conn     *sql.Conn
	stmts    map[string]*sql.Stmt
	requests chan *request
	quit     chan struct{}
	done     chan struct{}
	// woken is called after a commit in which a tx had wake set.
	woken func()
}

// request is one write. fn may run more than once, and never concurrently; it
// must set what it captures anew each time.
type request struct {
	fn    func(*tx) error
	state atomic.Int32 // queued, taken or withdrawn
	tx    tx
	err   error
	done  chan struct{}
}

const (
	queued int32 = iota
	taken
	withdrawn
)

// tx is what a write sees of the transaction. Its statements are prepared once
// and kept, so their texts must be constants.
type tx struct {
	w *writer
	// wake says that a job may have become claimable.
	wake bool
}

func newWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, explain(err)
	}
	w := &writer{
		db: db, conn: conn,
		stmts:    map[string]*sql.Stmt{},
		requests: make(chan *request),
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
		woken:    func() {},
	}
	return w, nil
}

// start begins serving. It is apart from newWriter so that woken can be set.
func (w *writer) start() { go w.loop() }

func (w *writer) close() error {
	close(w.quit)
	<-w.done
	var errs []error
	for _, s := range w.stmts {
		errs = append(errs, s.Close())
	}
	errs = append(errs, w.conn.Close(), w.db.Close())
	return errors.Join(errs...)
}

// do runs fn in a transaction and returns when it is durable, or fn's error
// with nothing changed. When ctx ends before fn was begun, nothing happened;
// once begun, it is seen through, so that the answer is never in doubt.
func (w *writer) do(ctx context.Context, fn func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{fn: fn, done: make(chan struct{})}
	select {
	case w.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.quit:
		return errClosed
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		if r.state.CompareAndSwap(queued, withdrawn) {
			return ctx.Err()
		}
		<-r.done
		return r.err
	}
}

func (w *writer) loop() {
	defer close(w.done)
	for {
		select {
		case r := <-w.requests:
			w.batch(r)
		case <-w.quit:
			return
		}
	}
}

// batch commits first together with whatever else waits.
func (w *writer) batch(first *request) {
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		// Nobody else would get further; each in turn would wait as long.
		for r, ok := first, true; ok; r, ok = w.next() {
			if r.state.CompareAndSwap(queued, taken) {
				r.reply(err)
			}
		}
		return
	}
	var in []*request
	end := time.Now().Add(batchTime)
	for r, ok := first, true; ok; {
		if r.state.CompareAndSwap(queued, taken) {
			in = append(in, r)
			if aborted := w.run(r); aborted != nil {
				w.apart(in, aborted)
				return
			}
		}
		if len(in) >= batchSize || time.Now().After(end) {
			break
		}
		r, ok = w.next()
	}
	if err := w.exec("COMMIT"); err != nil {
		w.apart(in, err)
		return
	}
	w.finish(in)
}

// next returns a waiting request, if there is one.
func (w *writer) next() (*request, bool) {
	select {
	case r := <-w.requests:
		return r, true
	default:
		return nil, false
	}
}

// run executes r in a savepoint and sets r.err. It returns an error where the
// whole transaction is gone: SQLite rolls all of it back when the disk is full.
func (w *writer) run(r *request) error {
	if err := w.exec("SAVEPOINT one"); err != nil {
		return err
	}
	r.tx = tx{w: w}
	r.err = r.fn(&r.tx)
	if r.err != nil {
		r.tx.wake = false
		if w.exec("ROLLBACK TO one") != nil {
			return r.err
		}
	}
	return w.exec("RELEASE one")
}

// apart rolls back and gives each request another try of its own, so that one
// that is too big for what is left of the disk does not fail the small ones
// beside it. A single one has had its try: it gets err.
func (w *writer) apart(in []*request, err error) {
	_ = w.exec("ROLLBACK") // fails where SQLite has done it already
	if full(err) {
		// What the log holds of pages written several times is room to gain.
		_ = w.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	}
	if len(in) == 1 {
		in[0].reply(err)
		return
	}
	for _, r := range in {
		if err := w.alone(r); err != nil {
			_ = w.exec("ROLLBACK")
			r.reply(err)
			continue
		}
		w.finish([]*request{r})
	}
}

func (w *writer) alone(r *request) error {
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := w.run(r); err != nil {
		return err
	}
	return w.exec("COMMIT")
}

// finish answers requests whose transaction is committed.
func (w *writer) finish(in []*request) {
	wake := false
	for _, r := range in {
		wake = wake || r.tx.wake
		r.reply(r.err)
	}
	if wake {
		w.woken()
	}
}

func (r *request) reply(err error) {
	r.err = explain(err)
	close(r.done)
}

func (w *writer) exec(query string) error {
	t := tx{w: w}
	_, err := t.exec(query)
	return err
}

// Statements run without a caller's context: interrupting one would roll back
// the transaction that others share.

func (t *tx) stmt(query string) (*sql.Stmt, error) {
	if s, ok := t.w.stmts[query]; ok {
		return s, nil
	}
	s, err := t.w.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", query, err)
	}
	t.w.stmts[query] = s
	return s, nil
}

// exec returns the number of rows that query changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	s, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// row scans the first row of query into dest and reports whether there is one.
func (t *tx) row(query string, args []any, dest ...any) (bool, error) {
	found := false
	err := t.rows(query, args, func(scan scanner) error {
		if found {
			return nil
		}
		found = true
		return scan(dest...)
	})
	return found, err
}

// rows calls each for every row of query.
func (t *tx) rows(query string, args []any, each func(scanner) error) error {
	s, err := t.stmt(query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	return scanAll(rows, each)
}

// count adds n to a counter and returns its new value.
func (t *tx) count(name string, n int64) (int64, error) {
	var value int64
	_, err := t.row("UPDATE counter SET value = value + ? WHERE name = ? RETURNING value", []any{n, name}, &value)
	return value, err
}

// scanner is the Scan of one row.
type scanner func(dest ...any) error

func scanAll(rows *sql.Rows, each func(scanner) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// query calls each for every row that a reading connection finds.
func (d *database) query(ctx context.Context, query string, args []any, each func(scanner) error) error {
	rows, err := d.read.QueryContext(ctx, query, args...)
	if err != nil {
		return explain(err)
	}
	return explain(scanAll(rows, each))
}
