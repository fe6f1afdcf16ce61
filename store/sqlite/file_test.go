package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/queue"
	"holdfast/store"
	"holdfast/store/sqlite"
)

// open opens a store that is closed with the test.
func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// sqlOf runs statements on the file by itself.
func sqlOf(t *testing.T, path, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreTheOwnersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	if err := s.Artifacts.Put(t.Context(), time.Now(), "k", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup.db")
	if err := s.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm", backup} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", filepath.Base(name), info.Mode().Perm())
		}
	}
}

func TestOddPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?mode=ro#c%41&ü")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "store.db?x=1")
	open(t, path)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 || entries[0].Name() != "store.db?x=1" {
		t.Errorf("files: %v, %v", entries, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		is   error
		want []string
	}{
		"a newer store": {
			make: func(t *testing.T, path string) {
				s, err := sqlite.Open(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				s.Close()
				sqlOf(t, path, "PRAGMA user_version = 4711")
			},
			is: store.ErrNewer, want: []string{"schema version 4711", "this program knows 3"},
		},
		"another program's database": {
			make: func(t *testing.T, path string) { sqlOf(t, path, "CREATE TABLE theirs (x)") },
			want: []string{"another program"},
		},
		"a text file": {
			make: func(t *testing.T, path string) {
				if err := os.WriteFile(path, []byte(strings.Repeat("this is not a database\n", 100)), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"not a Holdfast store"},
		},
		"a directory": {
			make: func(t *testing.T, path string) {
				if err := os.Mkdir(path, 0o700); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"not a regular file"},
		},
		"a missing directory": {
			make: func(t *testing.T, path string) {
				if err := os.Remove(filepath.Dir(path)); err != nil {
					t.Fatal(err)
				}
			},
			is: os.ErrNotExist,
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			c.make(t, path)
			before, _ := os.ReadFile(path)
			_, err := sqlite.Open(t.Context(), path)
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("got %v, want %v", err, c.is)
			}
			for _, want := range append(c.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
}

// TestUpgrade opens a file of version 2, which knew no pools and no counts.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	for _, name := range []string{"0001_start.sql", "0002_group_by_priority.sql"} {
		text, err := os.ReadFile(filepath.Join("migrations", name))
		if err != nil {
			t.Fatal(err)
		}
		sqlOf(t, path, string(text))
	}
	sqlOf(t, path, `PRAGMA user_version = 2; PRAGMA application_id = 0x484f4c44;
		UPDATE counter SET value = 9 WHERE name = 'job';
		INSERT INTO job VALUES
		(1, 'later',   'k', '', '', 0, 'l', 30, 2000, 0, 1, 9000, 0, 0, 0, '',  0,    0, 0, 0, -30, 0, '', NULL),
		(2, 'top',     'k', '', '', 0, 'l', 30, 1000, 1, 1, 9000, 0, 0, 0, '',  0,    0, 0, 0, -30, 2, '', NULL),
		(3, 'behind',  'k', '', '', 0, 'l', 30, 1000, 1, 1, 9000, 0, 0, 0, '',  0,    0, 0, 0, -30, 1, '', NULL),
		(4, 'running', 'k', '', '', 0, 'l', 30, 1000, 2, 1, 9000, 0, 1, 8, 'w', 9000, 0, 0, 0, -30, 0, '', NULL),
		(5, 'dead',    'd', '', '', 0, 'l', 30, 1000, 3, 1, 9000, 0, 1, 9, '',  0,    0, 0, 0, -30, 0, 'broken', NULL);`)
	s := open(t, path)
	counts, err := s.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []queue.Count{{Kind: "d", State: queue.StateDead, N: 1}, {Kind: "k", State: queue.StateWaiting, N: 3}, {Kind: "k", State: queue.StateRunning, N: 1}}
	if !slices.Equal(counts, want) {
		t.Errorf("counts: %v, want %v", counts, want)
	}
	jobs, err := s.Queue.Claim(t.Context(), time.Unix(0, 1500), queue.Claim{Worker: "w", Lease: time.Minute, Max: 5, PerLimit: 3, Labels: []string{"a"}})
	if err != nil || len(jobs) != 2 || jobs[0].ID != "top" || jobs[1].ID != "behind" {
		t.Errorf("claimed %v, %v", jobs, err)
	}
}

func TestBackupIsAStore(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	if err := s.Artifacts.Put(t.Context(), time.Now(), "k", []byte("data")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "backup.db")
	if err := s.Backup(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Backup(canceled, filepath.Join(dir, "never.db")); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the backup: %v, %v", entries, err)
	}
	data, err := open(t, file).Artifacts.Get(t.Context(), "k")
	if err != nil || string(data) != "data" {
		t.Errorf("in the backup: %q, %v", data, err)
	}
}

// childPath is set in a process that TestKilledProcesses starts.
const childPath = "STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child enqueues jobs for ever, claims some of them, and prints the ID of each
// that was acknowledged and the token of each claim.
func child(path string) error {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	q := queue.New(s.Queue, queue.Config{})
	for {
		jobs, err := q.Enqueue(ctx, queue.Job{Kind: "k", Group: fmt.Sprint(time.Now().UnixNano() % 3)}, queue.Job{Kind: "k"})
		if err != nil {
			return err
		}
		fmt.Println("job", jobs[0].ID)
		fmt.Println("job", jobs[1].ID)
		claimed, err := s.Queue.Claim(ctx, time.Now(), queue.Claim{Worker: "child", Lease: time.Hour, Max: 1})
		if err != nil {
			return err
		}
		for _, j := range claimed {
			fmt.Println("claim", j.Token)
		}
	}
}

// TestKilledProcesses has several processes write to one file, kills them in
// the middle of it, and finds everything that they acknowledged.
func TestKilledProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	lines := make(chan string, 1024)
	const processes, enough = 3, 150
	var running []*exec.Cmd
	for range processes { // they race for creating the file, too
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childPath+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
		go func() {
			for scan := bufio.NewScanner(out); scan.Scan(); {
				lines <- scan.Text()
			}
			lines <- ""
		}()
	}
	acknowledged, tokens, killed := map[string]bool{}, map[string]bool{}, false
	for ended := 0; ended < processes; {
		kind, value, _ := strings.Cut(<-lines, " ")
		switch kind {
		case "":
			ended++
		case "job":
			acknowledged[value] = true
		case "claim":
			if tokens[value] {
				t.Errorf("token %s was given twice", value)
			}
			tokens[value] = true
		}
		if !killed && (len(acknowledged) >= enough || ended > 0) {
			killed = true
			for _, cmd := range running {
				_ = cmd.Process.Kill()
			}
		}
	}
	for _, cmd := range running {
		_ = cmd.Wait() // killed
	}
	if len(acknowledged) < enough {
		t.Fatalf("only %d jobs were acknowledged", len(acknowledged))
	}
	jobs, err := open(t, path).Queue.List(t.Context(), queue.Filter{Limit: 1e6})
	if err != nil {
		t.Fatal(err)
	}
	found, claims := map[string]bool{}, 0
	for _, j := range jobs {
		found[j.ID] = true
		if j.State == queue.StateRunning {
			claims++
		}
	}
	for id := range acknowledged {
		if !found[id] {
			t.Errorf("job %s was acknowledged and is lost", id)
		}
	}
	if claims < len(tokens) {
		t.Errorf("%d claims are there of %d that were acknowledged", claims, len(tokens))
	}
}
