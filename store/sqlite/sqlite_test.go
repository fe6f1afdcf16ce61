package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"

	"holdfast/store"
	"holdfast/store/sqlite"
	"holdfast/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Open {
		path := filepath.Join(t.TempDir(), "store.db")
		return func(ctx context.Context) (*store.Store, error) { return sqlite.Open(ctx, path) }
	})
}

func BenchmarkQueue(b *testing.B) {
	storetest.Benchmark(b, func(b *testing.B) storetest.Open {
		path := filepath.Join(b.TempDir(), "store.db")
		return func(ctx context.Context) (*store.Store, error) { return sqlite.Open(ctx, path) }
	})
}
