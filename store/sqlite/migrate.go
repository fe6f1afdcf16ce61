package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"holdfast/store"
)

// migrations are applied in order of their names; the number in front is the
// schema's version after it. A released one is never edited.
//
//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks the file as Holdfast's ("HOLD"), for `file` and for us.
const applicationID = 0x484f4c44

// schemaVersion is the schema that this program knows.
func schemaVersion() (int, error) {
	names, err := migrationNames()
	return len(names), err
}

// migrationNames returns the files in order; their numbers have no gaps.
func migrationNames() ([]string, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if !strings.HasPrefix(name, fmt.Sprintf("migrations/%04d_", i+1)) {
			return nil, fmt.Errorf("migration %s is not number %d", name, i+1)
		}
	}
	return names, nil
}

// checkVersion refuses what is not a store, or a newer one, before anything is
// written to it.
func checkVersion(ctx context.Context, conn *sql.Conn) error {
	known, err := schemaVersion()
	if err != nil {
		return err
	}
	var id, version, tables int
	for query, into := range map[string]*int{
		"PRAGMA application_id":              &id,
		"PRAGMA user_version":                &version,
		"SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if err := conn.QueryRowContext(ctx, query).Scan(into); err != nil {
			return explain(err)
		}
	}
	switch {
	case tables > 0 && id != applicationID:
		return fmt.Errorf("this file is the SQLite database of another program: give Holdfast a file of its own")
	case version > known:
		return fmt.Errorf("%w: it has schema version %d, this program knows %d: start the newer version, or restore a backup made before the upgrade",
			store.ErrNewer, version, known)
	}
	return nil
}

// migrate brings the schema up to date in one transaction. Another process may
// do the same at the same time: the version is read again under the lock.
func migrate(ctx context.Context, conn *sql.Conn) (err error) {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return explain(err)
	}
	defer func() {
		if err != nil {
			_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	if err := checkVersion(ctx, conn); err != nil {
		return err
	}
	var version int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return explain(err)
	}
	names, err := migrationNames()
	if err != nil {
		return err
	}
	for i, name := range names[version:] {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := conn.ExecContext(ctx, string(text)); err != nil {
			return fmt.Errorf("migrate with %s: %w", name, explain(err))
		}
		// PRAGMA takes no parameters.
		mark := fmt.Sprintf("PRAGMA user_version = %d; PRAGMA application_id = %d", version+i+1, applicationID)
		if _, err := conn.ExecContext(ctx, mark); err != nil {
			return explain(err)
		}
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		return explain(err)
	}
	return nil
}
