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
