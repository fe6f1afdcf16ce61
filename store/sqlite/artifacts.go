package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"holdfast/store"
)

// artifacts is the table of files in the file, a row per chunk.
type artifacts struct{ *database }

var _ store.Artifacts = (*artifacts)(nil)

// Put implements store.Artifacts.
func (d *artifacts) Put(ctx context.Context, _ time.Time, key string, data []byte) error {
	err := d.write.do(ctx, func(t *tx) error {
		if _, err := t.exec("DELETE FROM artifact WHERE key = ?", key); err != nil {
			return err
		}
		_, err := t.exec("INSERT INTO artifact (key, idx, data) VALUES (?, 0, ?)", key, blob(data))
		return err
	})
	if err != nil {
		return fmt.Errorf("put artifact %s: %w", key, err)
	}
	return nil
}

// Append implements store.Artifacts.
func (d *artifacts) Append(ctx context.Context, _ time.Time, key string, chunk []byte) error {
	err := d.write.do(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO artifact (key, idx, data)
			VALUES (?, (SELECT coalesce(max(idx) + 1, 0) FROM artifact WHERE key = ?), ?)`, key, key, blob(chunk))
		return err
	})
	if err != nil {
		return fmt.Errorf("append to artifact %s: %w", key, err)
	}
	return nil
}

// blob returns b as something that is not stored as NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Get implements store.Artifacts.
func (d *artifacts) Get(ctx context.Context, key string) ([]byte, error) {
	chunks, err := d.Chunks(ctx, key, 0)
	if err != nil {
		return nil, err
	}
	if len(chunks) == 0 {
		return nil, fmt.Errorf("get artifact %s: %w", key, store.ErrNotFound)
	}
	return bytes.Join(chunks, nil), nil
}

// Chunks implements store.Artifacts.
func (d *artifacts) Chunks(ctx context.Context, key string, from int) ([][]byte, error) {
	var out [][]byte
	err := d.query(ctx, "SELECT data FROM artifact WHERE key = ? AND idx >= ? ORDER BY idx", []any{key, from}, func(scan scanner) error {
		var data []byte
		err := scan(&data)
		out = append(out, data)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read artifact %s: %w", key, err)
	}
	return out, nil
}

// Delete implements store.Artifacts.
func (d *artifacts) Delete(ctx context.Context, prefix string) error {
	err := d.write.do(ctx, func(t *tx) error {
		query, args := prefixQuery("DELETE FROM artifact", prefix)
		_, err := t.exec(query, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete artifacts %s: %w", prefix, err)
	}
	return nil
}
