// Package sqlite keeps a whole Holdfast in one file, so that a team needs no
// database to begin with and a backup is a copy.
//
// The file is in WAL mode with synchronous=FULL: what a method acknowledged
// survives a power cut. Several processes, and several handles in one process,
// may have it open. It needs a local disk: SQLite's locks and WAL do not work
// on network file systems.
//
// Each handle writes through one connection that commits the waiting writes of
// all its callers together (see writer), and reads through a small pool beside
// it.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"holdfast/store"
)

// busyTimeout is how long a statement waits for another process's write.
const busyTimeout = 10 * time.Second

// readers is how many connections of one handle read at once.
const readers = 4

// database is an opened file.
type database struct {
	path  string
	dsn   string
	read  *sql.DB
	write *writer
}

// Open opens the store in the file path, which is created with mode 0600 where
// it is missing; its directory must exist. Older schemas are migrated.
//
// It returns store.ErrNewer where a newer Holdfast wrote the file, and an error
// that says so where the file is something else.
func Open(ctx context.Context, path string) (*store.Store, error) {
	d, err := open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	q := newQueue(d)
	return &store.Store{
		Queue:     q,
		Locks:     &locks{d},
		Runs:      &runs{d},
		Artifacts: &artifacts{d},
		Records:   &records{d},
		Audit:     &audit{d},
		Backup:    d.backup,
		Counts:    q.counts,
		Dump:      d.dump,
		Load:      d.load,
		Close: sync.OnceValue(func() error {
			q.stop()
			return d.close()
		}),
	}, nil
}

func open(ctx context.Context, path string) (*database, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := create(path); err != nil {
		return nil, err
	}
	d := &database{path: path, dsn: dsn(path)}
	// The writer touches a dozen indexes per job: 16 MiB hold those of some
	// 100,000 waiting jobs.
	w, err := sql.Open("sqlite", d.dsn+"&_pragma="+url.QueryEscape("cache_size(-16384)"))
	if err != nil {
		return nil, err
	}
	w.SetMaxOpenConns(1)
	if err := prepare(ctx, w); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	if d.read, err = sql.Open("sqlite", d.dsn+"&_query_only=1"); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	// One more for the connection that watches for other processes' writes.
	d.read.SetMaxOpenConns(readers + 1)
	d.read.SetMaxIdleConns(readers + 1)
	if d.write, err = newWriter(ctx, w); err != nil {
		return nil, errors.Join(err, d.read.Close(), w.Close())
	}
	return d, nil
}

// create makes the file where it is missing, readable by its owner only, and
// takes others' rights away where it has them: SQLite would follow the umask,
// and gives its -wal and -shm files the mode of this one.
//
// It never opens a file that is there: closing a descriptor drops every POSIX
// lock that this process has on it, those of SQLite included.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return errors.New("not a regular file")
		case info.Mode().Perm()&0o077 != 0:
			return os.Chmod(path, 0o600)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in dir durable. Windows does so by itself, and has no
// such call.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func dsn(path string) string {
	q := url.Values{
		"_busy_timeout": {fmt.Sprint(busyTimeout.Milliseconds())},
		"_synchronous":  {"FULL"},
		"_pragma": {
			"trusted_schema(0)",
			"temp_store(MEMORY)",
			"journal_size_limit(67108864)",
			// For macOS, where fsync alone does not reach the disk.
			"fullfsync(1)",
			"checkpoint_fullfsync(1)",
		},
	}
	path = "/" + strings.TrimPrefix(filepath.ToSlash(path), "/") // file:///C:/… on Windows
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// prepare puts a new file into WAL mode and migrates it.
func prepare(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return explain(err)
	}
	defer conn.Close()
	if err := checkVersion(ctx, conn); err != nil {
		return err
	}
	if err := enterWAL(ctx, conn); err != nil {
		return err
	}
	return migrate(ctx, conn)
}

// enterWAL retries for itself: changing the journal mode asks for an exclusive
// lock without SQLite's busy handler where another process does the same.
func enterWAL(ctx context.Context, conn *sql.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		var mode string
		err := conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		switch {
		case err == nil && mode == "wal":
			return nil
		case err == nil:
			return fmt.Errorf("the file system does not support SQLite's WAL mode (journal mode %q): keep the store on a local disk", mode)
		case code(err) != codes.SQLITE_BUSY:
			return explain(err)
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return explain(err)
		}
	}
}

func (d *database) close() error {
	// Readers first: the last connection to close checkpoints the WAL, which
	// needs to be one that may write.
	return errors.Join(d.read.Close(), d.write.close())
}

// code returns SQLite's primary result code of err, or -1.
func code(err error) int {
	var e *driver.Error
	if !errors.As(err, &e) {
		return -1
	}
	return e.Code() & 0xff
}

// full reports whether err says that the disk is full. SQLite reports that as
// such for its files, and as SQLITE_IOERR_SHMSIZE for the WAL's index.
func full(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && (e.Code()&0xff == codes.SQLITE_FULL || e.Code() == codes.SQLITE_IOERR_SHMSIZE)
}

// explain puts what a caller can act on in front of SQLite's own words.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case full(err):
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	case code(err) == codes.SQLITE_NOTADB:
		return fmt.Errorf("this file is not a Holdfast store: %w", err)
	case code(err) == codes.SQLITE_BUSY:
		return fmt.Errorf("another process has been writing to the store for %s: %w", busyTimeout, err)
	case code(err) == codes.SQLITE_CORRUPT:
		return fmt.Errorf("the store's file is damaged, restore a backup: %w", err)
	}
	return err
}

// nanos is how a time is stored. What int64 nanoseconds cannot hold (before
// 1970, after 2262) becomes the nearest that they can.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Unix() < 0:
		return 1
	case t.Unix() >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// instant is the inverse of nanos.
func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// after returns the smallest string greater than all that start with prefix;
// ok is false where there is none, as for an empty prefix.
func after(prefix string) (end string, ok bool) {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0xff {
			b[i]++
			return string(b[:i+1]), true
		}
	}
	return "", false
}
