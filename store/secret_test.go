package store_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/store"
)

// records is a store.Records in memory, as far as Secret needs one.
type records struct {
	store.Records
	mu   sync.Mutex
	all  map[string]store.Record
	puts int
}

func (r *records) Get(_ context.Context, key string) (store.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found, ok := r.all[key]
	if !ok {
		return store.Record{}, store.ErrNotFound
	}
	return found, nil
}

func (r *records) Put(_ context.Context, _ time.Time, rec store.Record) (store.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[rec.Key].Version != rec.Version {
		return store.Record{}, store.ErrConflict
	}
	r.puts++
	rec.Version++
	r.all[rec.Key] = rec
	return rec, nil
}

func newRecords() (*records, *store.Store) {
	r := &records{all: map[string]store.Record{}}
	return r, &store.Store{Records: r}
}

var (
	oldKey = store.DeriveKey([]byte("old"), "secrets")
	newKey = store.DeriveKey([]byte("new"), "secrets")
)

func TestSecretOutlivesItsKey(t *testing.T) {
	r, s := newRecords()
	get := func(fresh string, keys ...[]byte) string {
		t.Helper()
		secret, err := s.Secret(t.Context(), "digests", []byte(fresh), keys...)
		if err != nil {
			t.Fatal(err)
		}
		return string(secret)
	}
	for _, step := range []struct {
		name string
		keys [][]byte
		puts int // writes until then
	}{
		{"made", [][]byte{oldKey}, 1},
		{"read", [][]byte{oldKey}, 1},
		{"with a key that comes", [][]byte{oldKey, newKey}, 1},
		{"sealed anew", [][]byte{newKey, oldKey}, 2},
		{"without the old key", [][]byte{newKey}, 2},
	} {
		// Only the first one's counts.
		if got := get("made from "+step.name, step.keys...); got != "made from made" || r.puts != step.puts {
			t.Errorf("%s: %q after %d writes", step.name, got, r.puts)
		}
	}
	if bytes.Contains(r.all["key/digests"].Value, []byte("made")) {
		t.Error("it is stored in the clear")
	}
	_, err := s.Secret(t.Context(), "digests", []byte("x"), oldKey)
	if !errors.Is(err, store.ErrWrongKey) || r.puts != 2 {
		t.Errorf("with the old key alone: %v", err)
	}
}

// TestSecretIsOne starts many processes at once, on an empty store and then with
// another key.
func TestSecretIsOne(t *testing.T) {
	r, s := newRecords()
	first := ""
	for _, keys := range [][][]byte{{oldKey}, {newKey, oldKey}} {
		var wg sync.WaitGroup
		secrets := make([]string, 16)
		for i := range secrets {
			wg.Go(func() {
				secret, err := s.Secret(t.Context(), "digests", []byte{byte(i)}, keys...)
				if err != nil {
					t.Error(err)
				}
				secrets[i] = string(secret)
			})
		}
		wg.Wait()
		if first == "" {
			first = secrets[0]
		}
		for i, got := range secrets {
			if got != first || got == "" {
				t.Errorf("process %d has %q, the first one %q", i, got, first)
			}
		}
	}
	if r.puts != 2 {
		t.Errorf("%d writes", r.puts)
	}
}

func TestSecretRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*records)
		keys  [][]byte
		want  string
	}{
		"no key":           {want: "no key"},
		"a short key":      {keys: [][]byte{oldKey, []byte("short")}, want: "5 bytes instead of 32"},
		"what is no seal":  {spoil: func(r *records) { r.all["key/a"] = store.Record{Value: []byte(`{}`)} }, want: store.ErrDamaged.Error()},
		"another's secret": {spoil: func(r *records) { r.all["key/a"] = r.all["key/b"] }, want: store.ErrDamaged.Error()},
	} {
		r, s := newRecords()
		for _, secret := range []string{"a", "b"} {
			if _, err := s.Secret(t.Context(), secret, []byte("fresh"), oldKey); err != nil {
				t.Fatal(err)
			}
		}
		if c.spoil != nil {
			c.spoil(r)
			c.keys = [][]byte{oldKey}
		}
		secret, err := s.Secret(t.Context(), "a", []byte("fresh"), c.keys...)
		if err == nil || !strings.Contains(err.Error(), c.want) || secret != nil {
			t.Errorf("%s: %q, %v", name, secret, err)
		}
	}
}
