package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Objects is a place for whole files outside of the store, such as a bucket.
// Names have letters, digits and "/.-_" only, and none is written twice. Safe
// for concurrent use.
type Objects interface {
	// Put stores data. When it has returned, every process can read it.
	Put(ctx context.Context, name string, data []byte) error
	// Get returns ErrNotFound where there is none.
	Get(ctx context.Context, name string) ([]byte, error)
	// Delete removes all objects whose name starts with prefix. Removing
	// nothing is no error.
	Delete(ctx context.Context, prefix string) error
}

// ErrElsewhere says that an artifact is kept in Objects, and that its store was
// opened without them.
var ErrElsewhere = errors.New("store: the artifact is in a bucket, and this server has none")

// Offloaded wraps a so that what is Put goes to objects, and a keeps a reference
// to it. What is appended stays in a: live logs are many small chunks, and
// objects can neither be appended to nor be written that often. What a has
// already is read as before.
//
// An object that is gone, by a rule of its bucket for instance, is an artifact
// that is not stored any more. Wrap the result in Sealed, not a.
func Offloaded(a Artifacts, objects Objects) Artifacts {
	return &offloaded{artifacts: a, objects: objects}
}

// offloaded writes an object first and then, in one step of the store, the
// reference to it: so a reader sees the old artifact or the new one, whenever
// this process dies. What was replaced stays until its key is deleted, so that
// somebody who has read the old reference still finds it.
type offloaded struct {
	artifacts Artifacts
	objects   Objects
}

var _ Artifacts = (*offloaded)(nil)

// referenceHead begins a chunk that stands for an object; its name follows. What
// is sealed begins with another byte.
const referenceHead = "\x00holdfast object\x00"

// Put implements Artifacts.
func (o *offloaded) Put(ctx context.Context, now time.Time, key string, data []byte) error {
	reference, err := o.put(ctx, key, data)
	if err != nil {
		return err
	}
	return o.artifacts.Put(ctx, now, key, reference)
}

// Append implements Artifacts.
func (o *offloaded) Append(ctx context.Context, now time.Time, key string, chunk []byte) error {
	if isReference(chunk) {
		// It only looks like one, and must not be read as one.
		var err error
		if chunk, err = o.put(ctx, key, chunk); err != nil {
			return err
		}
	}
	return o.artifacts.Append(ctx, now, key, chunk)
}

// put stores data in an object and returns the reference to it.
func (o *offloaded) put(ctx context.Context, key string, data []byte) ([]byte, error) {
	name := objectName(key) + "__" + rand.Text()
	if err := o.objects.Put(ctx, name, data); err != nil {
		return nil, fmt.Errorf("put artifact %s: %w", key, err)
	}
	return []byte(referenceHead + name), nil
}

// Get implements Artifacts.
func (o *offloaded) Get(ctx context.Context, key string) ([]byte, error) {
	chunks, err := o.Chunks(ctx, key, 0)
	if err != nil {
		return nil, err
	}
	if len(chunks) == 0 {
		return nil, fmt.Errorf("get artifact %s: %w", key, ErrNotFound)
	}
	return bytes.Join(chunks, nil), nil
}

// Chunks implements Artifacts.
func (o *offloaded) Chunks(ctx context.Context, key string, from int) ([][]byte, error) {
	chunks, err := o.artifacts.Chunks(ctx, key, from)
	if err != nil {
		return nil, err
	}
	for i, c := range chunks {
		if !isReference(c) {
			continue
		}
		chunks[i], err = o.objects.Get(ctx, string(c[len(referenceHead):]))
		if errors.Is(err, ErrNotFound) {
			return [][]byte{}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read artifact %s: %w", key, err)
		}
	}
	return chunks, nil
}

// Delete implements Artifacts. Done again, it also removes the objects that an
// interrupted one, or an interrupted Put, has left.
func (o *offloaded) Delete(ctx context.Context, prefix string) error {
	if err := o.artifacts.Delete(ctx, prefix); err != nil {
		return err
	}
	if err := o.objects.Delete(ctx, objectName(prefix)); err != nil {
		return fmt.Errorf("delete artifacts %s: %w", prefix, err)
	}
	return nil
}

func isReference(chunk []byte) bool { return bytes.HasPrefix(chunk, []byte(referenceHead)) }

// objectName writes a key in characters that all object stores take, byte by
// byte, so that a prefix of the key becomes a prefix of the name and nothing
// else does. No key's name has "__" in it, which stands before an object's own
// part of its name: deleting "run/" does not reach the key "run".
func objectName(key string) string {
	var b strings.Builder
	b.WriteString("artifacts/")
	for _, c := range []byte(key) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '/', c == '.', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}
