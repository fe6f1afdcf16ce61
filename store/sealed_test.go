package store_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/store"
)

// chunks is a store.Artifacts in memory, as far as Sealed needs one.
type chunks map[string][][]byte

func (c chunks) Put(_ context.Context, _ time.Time, key string, data []byte) error {
	c[key] = [][]byte{data}
	return nil
}

func (c chunks) Append(_ context.Context, _ time.Time, key string, chunk []byte) error {
	c[key] = append(c[key], chunk)
	return nil
}

func (c chunks) Get(_ context.Context, key string) ([]byte, error) {
	return bytes.Join(c[key], nil), nil
}

func (c chunks) Chunks(_ context.Context, key string, from int) ([][]byte, error) {
	return append([][]byte(nil), c[key][from:]...), nil
}

func (c chunks) Delete(_ context.Context, prefix string) error {
	for key := range c {
		if strings.HasPrefix(key, prefix) {
			delete(c, key)
		}
	}
	return nil
}

var key = store.DeriveKey([]byte("master"), "artifacts")

func TestDeriveKey(t *testing.T) {
	// RFC 5869 with SHA-256, no salt, info "holdfast artifacts": computed with
	// openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt key:master -kdfopt info:"holdfast artifacts" HKDF
	const want = "8d00f9c27977e472cb6573fa6436cb8c10862f1ae7551ae9577f6c53d5417c3b"
	if got := hex.EncodeToString(key); got != want {
		t.Errorf("got %s: what was sealed could not be read any more", got)
	}
	if bytes.Equal(key, store.DeriveKey([]byte("master"), "digests")) || bytes.Equal(key, store.DeriveKey([]byte("other"), "artifacts")) {
		t.Error("keys of different purposes or masters are equal")
	}
}

func TestSealedStoresNothingInTheClear(t *testing.T) {
	c := chunks{}
	s := store.Sealed(c, key)
	plain := []byte("password = hunter2")
	for range 2 {
		if err := s.Append(t.Context(), time.Now(), "r/log", plain); err != nil {
			t.Fatal(err)
		}
	}
	stored := c["r/log"]
	if bytes.Contains(bytes.Join(stored, nil), []byte("hunter2")) {
		t.Error("it is stored in the clear")
	}
	if bytes.Equal(stored[0], stored[1]) {
		t.Error("equal chunks look equal")
	}
	if string(plain) != "password = hunter2" {
		t.Error("the caller's data was changed")
	}
	got, err := s.Get(t.Context(), "r/log")
	if err != nil || string(got) != "password = hunter2password = hunter2" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSealedRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(c chunks)
		key   []byte
		want  error
	}{
		"another key":        {key: store.DeriveKey([]byte("other"), "artifacts"), want: store.ErrWrongKey},
		"a flipped bit":      {spoil: func(c chunks) { c["a"][0][len(c["a"][0])-1] ^= 1 }, want: store.ErrDamaged},
		"another artifact's": {spoil: func(c chunks) { c["a"] = c["b"] }, want: store.ErrDamaged},
		"what is cut":        {spoil: func(c chunks) { c["a"][0] = c["a"][0][:10] }, want: store.ErrDamaged},
		"an empty chunk":     {spoil: func(c chunks) { c["a"][0] = nil }, want: store.ErrDamaged},
		"a later format":     {spoil: func(c chunks) { c["a"][0][0] = 2 }, want: store.ErrNewer},
		"nothing":            {spoil: func(c chunks) { delete(c, "a") }, want: store.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			a := chunks{}
			for _, k := range []string{"a", "b"} {
				if err := store.Sealed(a, key).Put(t.Context(), time.Now(), k, []byte("data of "+k)); err != nil {
					t.Fatal(err)
				}
			}
			if c.spoil != nil {
				c.spoil(a)
			}
			if c.key == nil {
				c.key = key
			}
			data, err := store.Sealed(a, c.key).Get(t.Context(), "a")
			if !errors.Is(err, c.want) || data != nil {
				t.Errorf("got %q, %v", data, err)
			}
		})
	}
}

func TestSealedNeedsAKey(t *testing.T) {
	for _, bad := range [][]byte{nil, make([]byte, 16), make([]byte, 33)} {
		c := chunks{}
		s := store.Sealed(c, bad)
		if s.Put(t.Context(), time.Now(), "a", []byte("x")) == nil || s.Append(t.Context(), time.Now(), "a", []byte("x")) == nil {
			t.Errorf("a key of %d bytes is no error", len(bad))
		}
		if _, err := s.Get(t.Context(), "a"); err == nil || len(c) != 0 {
			t.Errorf("a key of %d bytes: %v, stored %d", len(bad), err, len(c))
		}
	}
}

// TestSealedAcrossARotation: two processes work side by side while the key is
// changed, as docs/settings.md says how.
func TestSealedAcrossARotation(t *testing.T) {
	next := store.DeriveKey([]byte("next"), "artifacts")
	c := chunks{}
	before, prepared, rotated, after := store.Sealed(c, key), store.Sealed(c, key, next), store.Sealed(c, next, key), store.Sealed(c, next)
	for _, s := range []store.Artifacts{before, prepared, rotated} {
		if err := s.Append(t.Context(), time.Now(), "log", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range map[string]store.Artifacts{"prepared": prepared, "rotated": rotated} {
		if got, err := s.Get(t.Context(), "log"); err != nil || string(got) != "xxx" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, s := range map[string]store.Artifacts{"before": before, "after": after} {
		_, err := s.Get(t.Context(), "log")
		if !errors.Is(err, store.ErrWrongKey) || !regexp.MustCompile(`its ID is [0-9a-f]{8}\)`).MatchString(err.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := after.Chunks(t.Context(), "log", 2); err != nil || string(bytes.Join(got, nil)) != "x" {
		t.Errorf("what the new key sealed: %q, %v", got, err)
	}
	if err := store.Sealed(c, key, []byte("short")).Put(t.Context(), time.Now(), "a", nil); err == nil {
		t.Error("an old key of 5 bytes is no error")
	}
}

// FuzzSealedOpen opens what somebody else may have written.
func FuzzSealedOpen(f *testing.F) {
	c := chunks{}
	if err := store.Sealed(c, key).Put(f.Context(), time.Now(), "a", []byte("data")); err != nil {
		f.Fatal(err)
	}
	good := c["a"][0]
	f.Add(good)
	f.Add(good[:20])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, chunk []byte) {
		data, err := store.Sealed(chunks{"a": {chunk}}, key).Get(t.Context(), "a")
		if (err == nil) != bytes.Equal(chunk, good) && string(data) != "data" {
			t.Errorf("%x gave %q, %v", chunk, data, err)
		}
	})
}
