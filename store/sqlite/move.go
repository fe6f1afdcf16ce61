package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/store"
)

// dump is store.Store.Dump: one view of the file, whoever writes meanwhile.
func (d *database) dump(ctx context.Context, emit func(store.Item) error) error {
	t, err := d.read.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("dump the store: %w", explain(err))
	}
	defer func() { _ = t.Rollback() }() // nothing was written
	for _, part := range []func(context.Context, *sql.Tx, func(store.Item) error) error{
		dumpTokens, dumpJobs, dumpLeases, dumpRuns, dumpChunks, dumpRecords, dumpEntries,
	} {
		if err := part(ctx, t, emit); err != nil {
			return fmt.Errorf("dump the store: %w", explain(err))
		}
	}
	return nil
}

func dumpTokens(ctx context.Context, t *sql.Tx, emit func(store.Item) error) error {
	var tokens store.Tokens
	err := t.QueryRowContext(ctx, "SELECT (SELECT value FROM counter WHERE name = 'job'), (SELECT value FROM counter WHERE name = 'lock')").Scan(&tokens.Job, &tokens.Lock)
	if err != nil {
		return err
	}
	return emit(store.Item{Tokens: &tokens})
}

// each emits what scan makes of every row of query.
func each[T any](ctx context.Context, t *sql.Tx, query string, scan func(scanner) (T, error), emit func(T) error) error {
	rows, err := t.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	return scanAll(rows, func(s scanner) error {
		v, err := scan(s)
		if err != nil {
			return err
		}
		return emit(v)
	})
}

func dumpJobs(ctx context.Context, t *sql.Tx, emit func(store.Item) error) error {
	return each(ctx, t, "SELECT "+columns+" FROM job ORDER BY seq", scanRow, func(r row) error {
		return emit(store.Item{Job: &r.Job})
	})
}

func dumpLeases(ctx context.Context, t *sql.Tx, emit func(store.Item) error) error {
	now := time.Now()
	return each(ctx, t, "SELECT "+lockColumns+" FROM lock ORDER BY key", scanLease, func(l lock.Lease) error {
		if !inForce(l, now) {
			return nil
		}
		return emit(store.Item{Lease: &l})
	})
}

func dumpRuns(ctx context.Context, t *sql.Tx, emit func(store.Item) error) error {
	return each(ctx, t, "SELECT "+runColumns+" FROM run ORDER BY id", scanRun, func(r store.Run) error {
		return emit(store.Item{Run: &r})
	})
}

func dumpChunks(ctx context.Context, t *sql.Tx, emit func(store.Item) error) error {
	return each(ctx, t, "SELECT key, idx, data FROM artifact ORDER BY key, idx", func(scan scanner) (c store.Chunk, err error) {
		err = scan(&c.Key, &c.Index, &c.Data)
		return c, err
	}, func(c store.Chunk) error {
		return emit(store.Item{Chunk: &c})
	})
}

func dumpRecords(ctx context.Context, t *sql.Tx, emit func(store.Item) error) error {
	return each(ctx, t, "SELECT key, version, value FROM record ORDER BY key", scanRecord, func(r store.Record) error {
		return emit(store.Item{Record: &r})
	})
}

func dumpEntries(ctx context.Context, t *sql.Tx, emit func(store.Item) error) error {
	return each(ctx, t, "SELECT "+auditColumns+" FROM audit ORDER BY id", scanEntry, func(e store.Entry) error {
		return emit(store.Item{Entry: &e})
	})
}

// load is store.Store.Load: all items or none.
func (d *database) load(ctx context.Context, items []store.Item) error {
	if len(items) == 0 {
		return nil
	}
	err := d.write.do(ctx, func(t *tx) error {
		for _, item := range items {
			if err := t.load(item); err != nil {
				return err
			}
		}
		return t.signal()
	})
	if err != nil {
		return fmt.Errorf("load into the store: %w", err)
	}
	return nil
}

func (t *tx) load(item store.Item) error {
	var err error
	switch {
	case item.Tokens != nil:
		if _, err = t.exec("UPDATE counter SET value = max(value, ?) WHERE name = 'job'", item.Tokens.Job); err == nil {
			_, err = t.exec("UPDATE counter SET value = max(value, ?) WHERE name = 'lock'", item.Tokens.Lock)
		}
	case item.Job != nil:
		err = t.loadJob(*item.Job)
	case item.Lease != nil:
		err = t.putLease(*item.Lease)
	case item.Run != nil:
		err = t.putRun(*item.Run)
	case item.Chunk != nil:
		_, err = t.exec("INSERT OR REPLACE INTO artifact (key, idx, data) VALUES (?, ?, ?)", item.Chunk.Key, item.Chunk.Index, blob(item.Chunk.Data))
	case item.Record != nil:
		_, err = t.exec("INSERT OR REPLACE INTO record (key, version, value) VALUES (?, ?, ?)", item.Record.Key, item.Record.Version, []byte(item.Record.Value))
	case item.Entry != nil:
		err = t.putEntry(*item.Entry)
	default:
		err = errors.New("an item is empty")
	}
	return err
}

// loadJob stores j behind the jobs that are there. It is marked by the claim
// that comes at or after its RunAt.
func (t *tx) loadJob(j queue.Job) error {
	for where, value := range map[string]string{"id = ?": j.ID, "key = ? AND key <> ''": j.Key} {
		old, found, err := t.jobBy(where, value)
		if err == nil && found {
			err = t.remove(old)
		}
		if err != nil {
			return err
		}
	}
	seq, err := t.count("job", 1)
	if err != nil {
		return err
	}
	r := row{Job: j, seq: seq, state: stateLater, patience: max(0, j.OverdueAt.Sub(j.RunAt)), pool: j.Pool()}
	if j.State == queue.StateDead {
		r.state = stateDead
	}
	r.Worker, r.LeaseEnd = "", time.Time{}
	return t.insert(j.RunAt, r)
}
