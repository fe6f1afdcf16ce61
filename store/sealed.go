package store

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// KeySize is the length in bytes of the keys that DeriveKey returns and Sealed
// takes.
const KeySize = 32

// Errors of sealed artifacts.
var (
	// ErrWrongKey says that an artifact was sealed with another key.
	ErrWrongKey = errors.New("store: sealed with another key: start Holdfast with the key that this store was written with")
	// ErrDamaged says that an artifact is not what was sealed under its key.
	ErrDamaged = errors.New("store: the artifact is damaged or was put in another's place")
)

// DeriveKey returns the key for one purpose ("artifacts", "digests") from the
// server's master secret, by HKDF-SHA-256 (RFC 5869): what is known of one
// tells nothing of another. master should have 32 random bytes or more.
func DeriveKey(master []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, master, nil, "holdfast "+purpose, KeySize)
	if err != nil {
		// Only for lengths over 255 hashes, and for short masters where FIPS
		// 140 is enforced. Sealed refuses what is not a key.
		return nil
	}
	return key
}

// A sealed chunk is
//
//	version (1 byte) | key ID (4) | nonce (12) | AES-256-GCM of the chunk
//
// with the version, the key ID and the artifact's key as additional data, so
// that a chunk cannot be moved to another artifact. The key ID tells a wrong
// key from damage, and lets a later version read what an older key sealed.
const (
	sealVersion = 1
	keyIDSize   = 4
	nonceSize   = 12
	headSize    = 1 + keyIDSize
)

// Sealed wraps a so that nothing is stored in the clear: plans hold secrets.
// Each chunk is sealed by itself under key, which has KeySize bytes; with a key
// of another length every method returns an error.
//
// Nonces are random, which is safe for some four billion chunks of one key.
func Sealed(a Artifacts, key []byte) Artifacts {
	s := &sealed{artifacts: a}
	if len(key) != KeySize {
		s.err = fmt.Errorf("store: the key for artifacts has %d bytes instead of %d", len(key), KeySize)
		return s
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		s.err = err
		return s
	}
	s.aead, s.err = cipher.NewGCM(block)
	sum := sha256.Sum256(append([]byte("holdfast key id\x00"), key...))
	s.head = append([]byte{sealVersion}, sum[:keyIDSize]...)
	return s
}

// sealed encrypts what it hands on.
type sealed struct {
	artifacts Artifacts
	aead      cipher.AEAD
	head      []byte // version and key ID
	err       error
}

var _ Artifacts = (*sealed)(nil)

func (s *sealed) seal(key string, data []byte) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	out := make([]byte, headSize+nonceSize, headSize+nonceSize+len(data)+s.aead.Overhead())
	copy(out, s.head)
	nonce := out[headSize:]
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return s.aead.Seal(out, nonce, data, s.additional(key)), nil
}

func (s *sealed) open(key string, chunk []byte) ([]byte, error) {
	switch {
	case len(chunk) < headSize+nonceSize:
		return nil, ErrDamaged
	case chunk[0] != sealVersion:
		return nil, fmt.Errorf("%w: unknown format %d", ErrNewer, chunk[0])
	case !bytes.Equal(chunk[:headSize], s.head):
		return nil, ErrWrongKey
	}
	data, err := s.aead.Open(nil, chunk[headSize:headSize+nonceSize], chunk[headSize+nonceSize:], s.additional(key))
	if err != nil {
		return nil, ErrDamaged
	}
	return data, nil
}

func (s *sealed) additional(key string) []byte {
	return append(bytes.Clone(s.head), key...)
}

// Put implements Artifacts.
func (s *sealed) Put(ctx context.Context, now time.Time, key string, data []byte) error {
	data, err := s.seal(key, data)
	if err != nil {
		return fmt.Errorf("seal artifact %s: %w", key, err)
	}
	return s.artifacts.Put(ctx, now, key, data)
}

// Append implements Artifacts.
func (s *sealed) Append(ctx context.Context, now time.Time, key string, chunk []byte) error {
	chunk, err := s.seal(key, chunk)
	if err != nil {
		return fmt.Errorf("seal artifact %s: %w", key, err)
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
		if chunks[i], err = s.open(key, c); err != nil {
			return nil, fmt.Errorf("open chunk %d of artifact %s: %w", from+i, key, err)
		}
	}
	return chunks, nil
}

// Delete implements Artifacts.
func (s *sealed) Delete(ctx context.Context, prefix string) error {
	return s.artifacts.Delete(ctx, prefix)
}
