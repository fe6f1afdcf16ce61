package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"holdfast/store"
)

// records is the documents: one hash of all, and their keys in order.
type records struct{ *database }

var _ store.Records = (*records)(nil)

var (
	putRecordScript    = newScript("record_put")
	listRecordsScript  = newScript("record_list")
	deleteRecordScript = newScript("record_delete")
)

func scanRecord(key, stored string) (store.Record, error) {
	version, value, _ := strings.Cut(stored, ":")
	r := store.Record{Key: key}
	var err error
	if r.Version, err = strconv.ParseInt(version, 10, 64); err != nil {
		return store.Record{}, fmt.Errorf("record %s: %w", key, err)
	}
	if value != "" {
		r.Value = []byte(value)
	}
	return r, nil
}

// Get implements store.Records.
func (d *records) Get(ctx context.Context, key string) (r store.Record, err error) {
	defer d.observe("records.get", time.Now(), &err)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	value, err := d.client.HGet(ctx, d.key("record"), key).Result()
	switch {
	case errors.Is(err, goredis.Nil):
		err = store.ErrNotFound
	case err != nil:
		err = d.explain(err)
	default:
		r, err = scanRecord(key, value)
	}
	if err != nil {
		return store.Record{}, fmt.Errorf("get record %s: %w", key, err)
	}
	return r, nil
}

// Put implements store.Records.
func (d *records) Put(ctx context.Context, _ time.Time, r store.Record) (out store.Record, err error) {
	defer d.observe("records.put", time.Now(), &err)
	reply, err := d.write(ctx, putRecordScript, r.Key, r.Version, []byte(r.Value))
	if err == nil && reply != flag(true) {
		err = store.ErrConflict
	}
	if err != nil {
		return store.Record{}, fmt.Errorf("put record %s: %w", r.Key, err)
	}
	r.Version++
	return r, nil
}

// List implements store.Records. It reads a thousand records in each atomic
// step.
func (d *records) List(ctx context.Context, prefix string) (out []store.Record, err error) {
	defer d.observe("records.list", time.Now(), &err)
	err = d.eachRecord(ctx, prefix, func(r store.Record) error {
		out = append(out, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	return out, nil
}

// eachRecord calls do for the records whose key starts with prefix, by key.
func (d *database) eachRecord(ctx context.Context, prefix string, do func(store.Record) error) error {
	return eachPage(prefix, func(from, to string) (string, error) {
		reply, err := d.read(ctx, listRecordsScript, from, to, step)
		if err != nil {
			return "", err
		}
		last, found, err := page(reply, scanRecords)
		for _, r := range found {
			if err := do(r); err != nil {
				return "", err
			}
		}
		return last, err
	})
}

func scanRecords(reply any) ([]store.Record, error) {
	var out []store.Record
	for r := (&row{values: list(reply)}); len(r.values) > 0; {
		key, stored := r.text(), r.text()
		record, err := scanRecord(key, stored)
		if err != nil || r.err != nil {
			return nil, errors.Join(err, r.err)
		}
		out = append(out, record)
	}
	return out, nil
}

// Delete implements store.Records.
func (d *records) Delete(ctx context.Context, key string) (err error) {
	defer d.observe("records.delete", time.Now(), &err)
	if _, err := d.write(ctx, deleteRecordScript, key); err != nil {
		return fmt.Errorf("delete record %s: %w", key, err)
	}
	return nil
}
