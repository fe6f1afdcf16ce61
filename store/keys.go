package store

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// KeySize is the length in bytes of the keys that DeriveKey returns, and that
// Sealed and Secret take.
const KeySize = 32

// Errors of what is sealed.
var (
	// ErrWrongKey says that something was sealed with a key that is not among
	// those given.
	ErrWrongKey = errors.New("store: sealed with another key")
	// ErrDamaged says that something is not what was sealed under its name.
	ErrDamaged = errors.New("store: what is sealed is damaged or was put in another's place")
)

// DeriveKey returns the key for one purpose ("artifacts", "digests") from the
// server's master secret, by HKDF-SHA-256 (RFC 5869): what is known of one
// tells nothing of another. master should have 32 random bytes or more.
func DeriveKey(master []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, master, nil, "holdfast "+purpose, KeySize)
	if err != nil {
		// Only for lengths over 255 hashes, and for short masters where FIPS
		// 140 is enforced. Sealed and Secret refuse what is not a key.
		return nil
	}
	return key
}

// What is sealed is
//
//	version (1 byte) | key ID (4) | nonce (12) | AES-256-GCM of the data
//
// with the version, the key ID and the name as additional data, so that it
// cannot be moved to another name. The key ID tells a wrong key from damage,
// and finds the key among several.
const (
	sealVersion = 1
	keyIDSize   = 4
	nonceSize   = 12
	headSize    = 1 + keyIDSize
)

// sealer seals with one key.
type sealer struct {
	head []byte // version and key ID
	aead cipher.AEAD
}

// newSealers returns one for each key, in their order.
func newSealers(keys ...[]byte) ([]sealer, error) {
	var all []sealer
	for _, key := range keys {
		if len(key) != KeySize {
			return nil, fmt.Errorf("store: a key has %d bytes instead of %d", len(key), KeySize)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append([]byte("holdfast key id\x00"), key...))
		all = append(all, sealer{append([]byte{sealVersion}, sum[:keyIDSize]...), aead})
	}
	return all, nil
}

// seal encrypts data for the name.
func (s sealer) seal(name string, data []byte) ([]byte, error) {
	out := make([]byte, headSize+nonceSize, headSize+nonceSize+len(data)+s.aead.Overhead())
	copy(out, s.head)
	nonce := out[headSize:]
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return s.aead.Seal(out, nonce, data, s.additional(name)), nil
}

func (s sealer) additional(name string) []byte {
	return append(bytes.Clone(s.head), name...)
}

// unseal decrypts what was sealed for the name, and returns the index of the
// key that it was sealed with.
func unseal(all []sealer, name string, sealed []byte) (data []byte, key int, err error) {
	switch {
	case isReference(sealed):
		return nil, 0, ErrElsewhere
	case len(sealed) < headSize+nonceSize:
		return nil, 0, ErrDamaged
	case sealed[0] != sealVersion:
		return nil, 0, fmt.Errorf("%w: unknown format %d", ErrNewer, sealed[0])
	}
	for i, s := range all {
		if !bytes.Equal(sealed[:headSize], s.head) {
			continue
		}
		data, err := s.aead.Open(nil, sealed[headSize:headSize+nonceSize], sealed[headSize+nonceSize:], s.additional(name))
		if err != nil {
			return nil, 0, ErrDamaged
		}
		return data, i, nil
	}
	return nil, 0, fmt.Errorf("%w (its ID is %x)", ErrWrongKey, sealed[1:headSize])
}

// Secret returns the store's secret of that name, which outlives the keys: it is
// kept sealed under keys[0], and opened with any of them. The first process that
// asks makes it be fresh; all others get that one. Where it was sealed with an
// older key it is sealed anew. Each key has KeySize bytes.
//
// Returns ErrWrongKey where none of the keys opens it. So a process that was
// started with a wrong key finds that out before it seals anything.
func (s *Store) Secret(ctx context.Context, name string, fresh []byte, keys ...[]byte) ([]byte, error) {
	sealers, err := newSealers(keys...)
	if err == nil && len(sealers) == 0 {
		err = errors.New("store: no key")
	}
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	for {
		secret, err := s.secret(ctx, "key/"+name, fresh, sealers)
		if errors.Is(err, ErrConflict) {
			continue // somebody made it, or sealed it anew, at the same time
		}
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", name, err)
		}
		return secret, nil
	}
}

// secret reads the record and writes it where that has to be. Returns
// ErrConflict where somebody else wrote it meanwhile.
func (s *Store) secret(ctx context.Context, record string, fresh []byte, sealers []sealer) ([]byte, error) {
	r, err := s.Records.Get(ctx, record)
	if errors.Is(err, ErrNotFound) {
		return fresh, s.putSecret(ctx, Record{Key: record}, fresh, sealers[0])
	}
	if err != nil {
		return nil, err
	}
	var sealed []byte
	if err := json.Unmarshal(r.Value, &sealed); err != nil {
		return nil, ErrDamaged
	}
	secret, key, err := unseal(sealers, record, sealed)
	if err != nil || key == 0 {
		return secret, err
	}
	return secret, s.putSecret(ctx, r, secret, sealers[0])
}

func (s *Store) putSecret(ctx context.Context, r Record, secret []byte, with sealer) error {
	sealed, err := with.seal(r.Key, secret)
	if err != nil {
		return err
	}
	if r.Value, err = json.Marshal(sealed); err != nil {
		return err
	}
	now := time.Now
	if s.Clock != nil {
		now = s.Clock
	}
	_, err = s.Records.Put(ctx, now(), r)
	return err
}
