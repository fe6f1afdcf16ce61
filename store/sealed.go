package store

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// Sealed wraps a so that nothing is stored in the clear: plans hold secrets.
// Each chunk is sealed by itself under key. What was sealed under one of the old
// keys can still be read. A key has KeySize bytes; with one of another length
// every method but Delete returns an error.
//
// Nonces are random, which is safe for some four billion chunks of one key.
func Sealed(a Artifacts, key []byte, old ...[]byte) Artifacts {
	s := &sealed{artifacts: a}
	s.sealers, s.err = newSealers(append([][]byte{key}, old...)...)
	return s
}

// sealed encrypts what it hands on.
type sealed struct {
	artifacts Artifacts
	sealers   []sealer // the first one seals
	err       error
}

var _ Artifacts = (*sealed)(nil)

func (s *sealed) seal(key string, data []byte) ([]byte, error) {
	err := s.err
	if err == nil {
		data, err = s.sealers[0].seal(key, data)
	}
	if err != nil {
		return nil, fmt.Errorf("seal artifact %s: %w", key, err)
	}
	return data, nil
}

// Put implements Artifacts.
func (s *sealed) Put(ctx context.Context, now time.Time, key string, data []byte) error {
	data, err := s.seal(key, data)
	if err != nil {
		return err
	}
	return s.artifacts.Put(ctx, now, key, data)
}

// Append implements Artifacts.
func (s *sealed) Append(ctx context.Context, now time.Time, key string, chunk []byte) error {
	chunk, err := s.seal(key, chunk)
	if err != nil {
		return err
	}
	return s.artifacts.Append(ctx, now, key, chunk)
}

// Get implements Artifacts.
func (s *sealed) Get(ctx context.Context, key string) ([]byte, error) {
	chunks, err := s.Chunks(ctx, key, 0)
	if err != nil {
		return nil, err
	}
	if len(chunks) == 0 {
		return nil, fmt.Errorf("get artifact %s: %w", key, ErrNotFound)
	}
	return bytes.Join(chunks, nil), nil
}

// Chunks implements Artifacts.
func (s *sealed) Chunks(ctx context.Context, key string, from int) ([][]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	chunks, err := s.artifacts.Chunks(ctx, key, from)
	if err != nil {
		return nil, err
	}
	for i, c := range chunks {
		if chunks[i], _, err = unseal(s.sealers, key, c); err != nil {
			return nil, fmt.Errorf("open chunk %d of artifact %s: %w", from+i, key, err)
		}
	}
	return chunks, nil
}

// Delete implements Artifacts.
func (s *sealed) Delete(ctx context.Context, prefix string) error {
	return s.artifacts.Delete(ctx, prefix)
}
