package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast/store"
)

// backup writes a consistent, compact copy to file, which appears complete or
// not at all. Reads and writes go on meanwhile. It returns store.ErrExists
// where file is there already.
func (d *database) backup(ctx context.Context, file string) error {
	if err := d.copyTo(ctx, file); err != nil {
		return fmt.Errorf("back up to %s: %w", file, err)
	}
	return nil
}

func (d *database) copyTo(ctx context.Context, file string) (err error) {
	if _, err := os.Lstat(file); err == nil {
		return store.ErrExists
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Beside the target, so that the last step is within one file system. It
	// is empty and has mode 0600, which VACUUM INTO keeps.
	temp, err := os.CreateTemp(filepath.Dir(file), ".holdfast-backup-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := temp.Close(); err != nil {
		return err
	}
	if err := d.vacuumInto(ctx, temp.Name()); err != nil {
		return explain(err)
	}
	if err := syncFile(temp.Name()); err != nil {
		return err
	}
	// A link never replaces what somebody put there meanwhile.
	switch err := os.Link(temp.Name(), file); {
	case errors.Is(err, fs.ErrExist):
		return store.ErrExists
	case err != nil: // a file system without hard links
		if err := os.Rename(temp.Name(), file); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(file))
}

// vacuumInto has a connection of its own: it may take long, and the reading
// pool refuses it.
func (d *database) vacuumInto(ctx context.Context, file string) (err error) {
	db, err := sql.Open("sqlite", d.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", file)
	return err
}

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
