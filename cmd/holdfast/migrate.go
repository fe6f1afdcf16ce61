package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"holdfast/queue"
	"holdfast/runner"
	"holdfast/store"
)

func newMigrate() *cobra.Command {
	var f serverFlags
	var from, to string
	cmd := &cobra.Command{
		Use:   "migrate --from STORE --to STORE",
		Short: "Move everything from one store to another, for example to Redis",
		Long: `Move everything that the server keeps from one store to another: the queue,
locks, runs with their plans and logs, what is known of workspaces and pull
requests, and the audit trail. A store is written as in the server file
("sqlite:PATH", ...); where --from or --to is left out it is the one that the
server's settings name, so that an address with a password need not be typed.

Stop all servers first, and start none before it is done. The target has to be
empty. A move that was cut off is finished by the same command; until then no
server starts on the target. The source is only read.`,
		Example: "  holdfast migrate --config server.hcl --from sqlite:/var/lib/holdfast/holdfast.db",
		Args:    takes(0, 0),
	}
	f.register(cmd)
	cmd.Flags().StringVar(&from, "from", "", "the `store` that is moved")
	cmd.Flags().StringVar(&to, "to", "", "the `store` that it is moved into, empty")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if from == "" && to == "" {
			return hinted{errors.New("say where from, where to, or both: --from, --to"), usageOf(cmd)}
		}
		for flag, address := range map[string]string{"--from": from, "--to": to} {
			if err := noPassword(flag, address); err != nil {
				return err
			}
		}
		s, err := f.settings(LoadStoreSettings)
		if err != nil {
			return err
		}
		from, to = cmp.Or(from, s.storeURL()), cmp.Or(to, s.storeURL())
		m := &move{settings: s, out: cmd.OutOrStdout(), progress: newProgress(cmd.ErrOrStderr())}
		defer m.close()
		if err := m.open(cmd.Context(), from, to); err != nil {
			return err
		}
		return m.run(cmd.Context())
	}
	return cmd
}

// storeURL is the store as openBackend takes it.
func (s Settings) storeURL() string {
	if s.Store == "sqlite" {
		return "sqlite:" + s.StorePath()
	}
	return s.Store
}

// place is a store at one end of a move.
type place struct {
	name string // the address, without a password and with an absolute path
	file string // of an embedded store, else empty
	*store.Store
}

// placeOf names the store at an address.
func placeOf(address string) (place, error) {
	s := Settings{Store: address}
	if s.Shared() {
		return place{name: s.storeName()}, nil
	}
	path, err := filepath.Abs(s.StorePath())
	return place{name: "sqlite:" + path, file: path}, err
}

// move is one move of a store.
type move struct {
	settings Settings // how to sign in at a store
	from, to place
	out      io.Writer
	progress *progress
	closers  []func()
}

func (m *move) close() {
	for i := len(m.closers) - 1; i >= 0; i-- {
		m.closers[i]()
	}
}

// open opens both ends, and refuses where a server uses one of them.
func (m *move) open(ctx context.Context, from, to string) (err error) {
	if m.from, err = placeOf(from); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	if m.to, err = placeOf(to); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	if m.from.name == m.to.name {
		return hinted{fmt.Errorf("source and target are the same store, %s", m.to.name), "give --from or --to another"}
	}
	if m.from.file != "" {
		if _, err := os.Stat(m.from.file); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no store at %s", m.from.file) // none is made
		}
	}
	for _, end := range []struct {
		flag    string
		p       *place
		address string
	}{{"--from", &m.from, from}, {"--to", &m.to, to}} {
		if err := m.alone(*end.p); err != nil {
			return err
		}
		s := m.settings
		s.Store = end.address
		if err := checkStore(s.Store); err != nil {
			return hinted{fmt.Errorf("%s %w", end.flag, err), hintOf(err)}
		}
		if end.p.Store, err = openBackend(ctx, s, slog.New(slog.DiscardHandler), nil); err != nil {
			return err
		}
		m.closers = append(m.closers, func() { _ = end.p.Close() })
	}
	return m.idle(ctx)
}

// alone takes the data directory that an embedded store is in, so that no
// server starts there meanwhile. A server may have its store elsewhere: that
// cannot be seen, and is said.
func (m *move) alone(p place) error {
	dir := filepath.Dir(p.file)
	if p.file == "" || !exists(filepath.Join(dir, "server.lock")) {
		m.progress.Line("Whether a server uses %s cannot be seen: make sure that none does.", p.name)
		return nil
	}
	unlock, err := lockDataDir(dir)
	if err != nil {
		return err
	}
	m.closers = append(m.closers, unlock)
	return nil
}

// idle refuses a source that servers use, or whose jobs are running.
func (m *move) idle(ctx context.Context) error {
	nodes, err := runner.Nodes(ctx, m.from.Records)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if !n.Gone(m.from.Now()) {
			return hinted{fmt.Errorf("%s uses %s: it was heard of at %s", n.Name, m.from.name, n.Seen.Local().Format(time.TimeOnly)), "stop all servers and workers and try again; after a crash that takes up to a minute"}
		}
	}
	jobs, err := m.from.Queue.List(ctx, queue.Filter{State: queue.StateRunning, Limit: allJobs})
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.LeaseEnd.After(m.from.Now()) {
			return hinted{fmt.Errorf("%s is running a job of %s", j.Worker, m.from.name), "stop all servers and try again; after a crash that takes up to half a minute"}
		}
	}
	return nil
}

// migration marks a store that is being filled: what is known of the move.
type migration struct {
	ID   string    `json:"id"` // ULID: of the move's line in the audit trail
	From string    `json:"from,omitempty"`
	To   string    `json:"to,omitempty"` // in a store that was moved away
	At   time.Time `json:"at"`
}

// migrationKey is the record that marks a store.
const migrationKey = "migration"

// migrating returns an error where a store is only half of what it is to be:
// a move into it has not ended. No server may start on it.
func migrating(ctx context.Context, st *store.Store) error {
	mark, _, err := marked(ctx, st)
	if err != nil || mark.ID == "" {
		return err
	}
	if mark.To != "" {
		return hinted{
			fmt.Errorf("this store was moved to %s at %s: what was applied since is only known there, and would be applied again from here", mark.To, mark.At.Local().Format(time.DateTime)),
			"start with that store (HOLDFAST_STORE, --store, store in the server file); to come back, move that one into a new file with holdfast migrate",
		}
	}
	return hinted{
		fmt.Errorf("this store is being filled from %s since %s, and not all is there", mark.From, mark.At.Local().Format(time.DateTime)),
		"finish that with the same holdfast migrate --from and --to",
	}
}

// marked returns the mark of a store, and the record that it is; zero where it
// has none.
func marked(ctx context.Context, st *store.Store) (mark migration, r store.Record, err error) {
	r, err = st.Records.Get(ctx, migrationKey)
	if errors.Is(err, store.ErrNotFound) {
		return mark, r, nil
	}
	if err == nil {
		err = json.Unmarshal(r.Value, &mark)
	}
	return mark, r, err
}

// mark writes into the target what is coming, before anything else. A target
// that has something else in it is refused.
func (m *move) mark(ctx context.Context) (migration, error) {
	away := migrating(ctx, m.from.Store)
	mark, _, err := marked(ctx, m.to.Store)
	switch {
	case err != nil:
		return mark, err
	case away != nil && mark.From != m.from.name:
		return mark, fmt.Errorf("%s: %w", m.from.name, away)
	case mark.From == m.from.name:
		m.progress.Line("Going on with the move that began at %s.", mark.At.Local().Format(time.DateTime))
		return mark, nil
	case mark.From != "":
		return mark, fmt.Errorf("%s: %w", m.to.name, migrating(ctx, m.to.Store))
	}
	errFound := errors.New("found")
	err = m.to.Dump(ctx, func(item store.Item) error {
		if item.Tokens != nil {
			return nil
		}
		return errFound
	})
	if errors.Is(err, errFound) {
		return mark, hinted{fmt.Errorf("%s is not empty", m.to.name), "a store is moved into an empty one: name another, or empty this one if nobody needs what is in it"}
	}
	if err != nil {
		return mark, err
	}
	mark = migration{ID: ulid.Make().String(), From: m.from.name, At: m.to.Now()}
	value, err := json.Marshal(mark)
	if err != nil {
		return mark, err
	}
	_, err = m.to.Records.Put(ctx, mark.At, store.Record{Key: migrationKey, Value: value})
	return mark, err
}

// exists reports whether there is a file of that name.
func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
