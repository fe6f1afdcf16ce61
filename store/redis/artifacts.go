package redis

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"holdfast/store"
)

// artifacts is the files: a list of chunks for each, and their keys in order.
type artifacts struct{ *database }

var _ store.Artifacts = (*artifacts)(nil)

var (
	putArtifactScript     = newScript("artifact_put")
	appendArtifactScript  = newScript("artifact_append")
	deleteArtifactsScript = newScript("artifact_delete")
)

// blob returns b as an argument; nil is no argument.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Put implements store.Artifacts.
func (d *artifacts) Put(ctx context.Context, _ time.Time, key string, data []byte) (err error) {
	defer d.observe("artifacts.put", time.Now(), &err)
	if _, err := d.write(ctx, putArtifactScript, key, blob(data)); err != nil {
		return fmt.Errorf("put artifact %s: %w", key, err)
	}
	return nil
}

// Append implements store.Artifacts.
func (d *artifacts) Append(ctx context.Context, _ time.Time, key string, chunk []byte) (err error) {
	defer d.observe("artifacts.append", time.Now(), &err)
	if _, err := d.write(ctx, appendArtifactScript, key, blob(chunk)); err != nil {
		return fmt.Errorf("append to artifact %s: %w", key, err)
	}
	return nil
}

// Get implements store.Artifacts.
func (d *artifacts) Get(ctx context.Context, key string) (data []byte, err error) {
	defer d.observe("artifacts.get", time.Now(), &err)
	chunks, err := d.chunks(ctx, key, 0)
	if err == nil && len(chunks) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("get artifact %s: %w", key, err)
	}
	return bytes.Join(chunks, nil), nil
}

// Chunks implements store.Artifacts.
func (d *artifacts) Chunks(ctx context.Context, key string, from int) (out [][]byte, err error) {
	defer d.observe("artifacts.chunks", time.Now(), &err)
	if out, err = d.chunks(ctx, key, from); err != nil {
		return nil, fmt.Errorf("read artifact %s: %w", key, err)
	}
	return out, nil
}

func (d *database) chunks(ctx context.Context, key string, from int) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	chunks, err := d.client.LRange(ctx, d.key("artifact:"+key), int64(max(0, from)), -1).Result()
	if err != nil {
		return nil, d.explain(err)
	}
	out := make([][]byte, len(chunks))
	for i, c := range chunks {
		out[i] = []byte(c)
	}
	return out, nil
}

// Delete implements store.Artifacts. It deletes a thousand keys in each atomic
// step.
func (d *artifacts) Delete(ctx context.Context, prefix string) (err error) {
	defer d.observe("artifacts.delete", time.Now(), &err)
	err = eachPage(prefix, func(from, to string) (string, error) {
		reply, err := d.write(ctx, deleteArtifactsScript, from, to, step)
		last, _ := reply.(string)
		return last, err
	})
	if err != nil {
		return fmt.Errorf("delete artifacts %s: %w", prefix, err)
	}
	return nil
}
