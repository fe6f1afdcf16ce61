package sqlite

import (
	"context"
	"fmt"
	"time"

	"holdfast/store"
)

// records is the table of documents in the file.
type records struct{ *database }

var _ store.Records = (*records)(nil)

func scanRecord(scan scanner) (store.Record, error) {
	var r store.Record
	var value []byte
	err := scan(&r.Key, &r.Version, &value)
	if len(value) > 0 {
		r.Value = value
	}
	return r, err
}

// Get implements store.Records.
func (d *records) Get(ctx context.Context, key string) (store.Record, error) {
	var out store.Record
	found := false
	err := d.query(ctx, "SELECT key, version, value FROM record WHERE key = ?", []any{key}, func(scan scanner) error {
		found = true
		var err error
		out, err = scanRecord(scan)
		return err
	})
	if err == nil && !found {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Record{}, fmt.Errorf("get record %s: %w", key, err)
	}
	return out, nil
}

// Put implements store.Records.
func (d *records) Put(ctx context.Context, _ time.Time, r store.Record) (store.Record, error) {
	err := d.write.do(ctx, func(t *tx) error {
		var n int64
		var err error
		if r.Version == 0 {
			n, err = t.exec("INSERT INTO record (key, version, value) VALUES (?, 1, ?) ON CONFLICT (key) DO NOTHING", r.Key, []byte(r.Value))
		} else {
			n, err = t.exec("UPDATE record SET version = version + 1, value = ? WHERE key = ? AND version = ?", []byte(r.Value), r.Key, r.Version)
		}
		if err == nil && n == 0 {
			err = store.ErrConflict
		}
		return err
	})
	if err != nil {
		return store.Record{}, fmt.Errorf("put record %s: %w", r.Key, err)
	}
	r.Version++
	return r, nil
}

// List implements store.Records.
func (d *records) List(ctx context.Context, prefix string) ([]store.Record, error) {
	var out []store.Record
	query, args := prefixQuery("SELECT key, version, value FROM record", prefix)
	err := d.query(ctx, query+" ORDER BY key", args, func(scan scanner) error {
		r, err := scanRecord(scan)
		out = append(out, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	return out, nil
}

// Delete implements store.Records.
func (d *records) Delete(ctx context.Context, key string) error {
	err := d.write.do(ctx, func(t *tx) error {
		_, err := t.exec("DELETE FROM record WHERE key = ?", key)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete record %s: %w", key, err)
	}
	return nil
}
