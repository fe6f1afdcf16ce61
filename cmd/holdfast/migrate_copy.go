package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"holdfast/queue"
	"holdfast/store"
)

// How much is loaded at once, whichever is reached first, and how often people
// are told how far it is.
const (
	moveItems = 1000
	moveBytes = 4 << 20
	moveTells = 3 * time.Second
)

// run moves everything, looks whether it is there, and says what comes next.
func (m *move) run(ctx context.Context) error {
	mark, err := m.mark(ctx)
	if err != nil {
		return err
	}
	moved, err := m.copy(ctx)
	m.progress.Clear()
	if err != nil {
		return hinted{fmt.Errorf("move %s to %s: %w", m.from.name, m.to.name, err), "the same command goes on with it"}
	}
	if err := m.verify(ctx, mark, moved); err != nil {
		return err
	}
	err = m.to.Audit.Append(ctx, store.Entry{ID: mark.ID, At: m.to.Store.Now(), Who: whoAmI(), Action: "migrate", Why: "from " + m.from.name})
	if err != nil {
		return fmt.Errorf("write audit trail: %w", err)
	}
	if err := m.leave(ctx, mark); err != nil {
		return err
	}
	if err := m.to.Records.Delete(ctx, migrationKey); err != nil {
		return err
	}
	return m.sayNext(moved)
}

// leave marks the source: a server that is started on it by mistake would apply
// again what was applied since the move.
func (m *move) leave(ctx context.Context, mark migration) error {
	value, err := json.Marshal(migration{ID: mark.ID, To: m.to.name, At: m.from.Now()})
	if err != nil {
		return err
	}
	_, r, err := marked(ctx, m.from.Store)
	if err != nil {
		return err
	}
	_, err = m.from.Records.Put(ctx, m.from.Now(), store.Record{Key: migrationKey, Version: r.Version, Value: value})
	return err
}

// copy loads all of the source into the target, and returns what it was.
func (m *move) copy(ctx context.Context) (moved inventory, err error) {
	var batch []store.Item
	size, told, copied := 0, time.Now(), 0
	flush := func() error {
		err := m.to.Load(ctx, batch)
		copied += len(batch)
		batch, size = batch[:0], 0
		if err == nil && time.Since(told) >= moveTells {
			m.progress.Step("%s moved", count(copied, "item", "items"))
			told = time.Now()
		}
		return err
	}
	m.progress.Step("moving %s to %s", m.from.name, m.to.name)
	err = m.from.Dump(ctx, func(item store.Item) error {
		if item.Record != nil && item.Record.Key == migrationKey {
			return nil // the source's own mark
		}
		if err := moved.add(item); err != nil {
			return err
		}
		batch, size = append(batch, item), size+sizeOf(item)
		if len(batch) < moveItems && size < moveBytes {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return moved, err
}

// sizeOf is about how many bytes an item has.
func sizeOf(item store.Item) int {
	switch {
	case item.Chunk != nil:
		return len(item.Chunk.Data)
	case item.Job != nil:
		return len(item.Job.Payload)
	case item.Run != nil:
		return len(item.Run.Result)
	case item.Record != nil:
		return len(item.Record.Value)
	}
	return 0
}

// verify reads the target and compares it with what was moved into it.
func (m *move) verify(ctx context.Context, mark migration, moved inventory) error {
	m.progress.Step("looking whether all of it is there")
	var there inventory
	err := m.to.Dump(ctx, func(item store.Item) error {
		if item.Record != nil && item.Record.Key == migrationKey || item.Entry != nil && item.Entry.ID == mark.ID {
			return nil
		}
		return there.add(item)
	})
	m.progress.Clear()
	if err != nil {
		return fmt.Errorf("look whether all is there: %w", err)
	}
	if there.tokens.Job < moved.tokens.Job || there.tokens.Lock < moved.tokens.Lock {
		return fmt.Errorf("%s has the tokens %+v, and %s had %+v", m.to.name, there.tokens, m.from.name, moved.tokens)
	}
	for i, k := range itemKinds {
		if there.parts[i] != moved.parts[i] {
			return hinted{
				fmt.Errorf("%s does not have the same %s as %s: %d instead of %d, or others", m.to.name, k.many, m.from.name, there.parts[i].n, moved.parts[i].n),
				"somebody used one of them meanwhile, or the source since a move that was cut off; empty the target, and move once more",
			}
		}
	}
	return nil
}

// The kinds of items, in the order of an inventory.
var itemKinds = []struct{ one, many string }{
	{"job", "jobs"}, {"lock without an end", "locks without an end"}, {"run", "runs"}, {"piece of a plan or log", "pieces of plans and logs"}, {"record", "records"}, {"line of the audit trail", "lines of the audit trail"},
}

// inventory is what a store has: of each kind of items how many, and a sum over
// their contents that does not depend on their order.
type inventory struct {
	tokens store.Tokens
	parts  [6]part
}

type part struct {
	n   int
	sum uint64
}

// add counts an item as it is after a move. Of locks only those without an end:
// others may end on the way.
func (v *inventory) add(item store.Item) error {
	kind, value := 0, any(nil)
	switch {
	case item.Tokens != nil:
		v.tokens = *item.Tokens
		return nil
	case item.Job != nil:
		j := *item.Job
		if j.State == queue.StateRunning {
			j.State, j.Worker, j.LeaseEnd = queue.StateWaiting, "", time.Time{}
		}
		value = j
	case item.Lease != nil:
		if !item.Lease.ExpireAt.IsZero() {
			return nil
		}
		kind, value = 1, item.Lease
	case item.Run != nil:
		kind, value = 2, item.Run
	case item.Chunk != nil:
		kind, value = 3, item.Chunk
	case item.Record != nil:
		kind, value = 4, item.Record
	case item.Entry != nil:
		kind, value = 5, item.Entry
	default:
		return errors.New("an item is empty")
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("read one of the %s: %w", itemKinds[kind].many, err)
	}
	sum := sha256.Sum256(text)
	v.parts[kind].n++
	v.parts[kind].sum += binary.BigEndian.Uint64(sum[:8])
	return nil
}

// sayNext prints what was moved, and what is left to a person.
func (m *move) sayNext(moved inventory) error {
	var parts []string
	for i, k := range itemKinds {
		parts = append(parts, count(moved.parts[i].n, k.one, k.many))
	}
	text := fmt.Sprintf("Moved from %s to %s: %s.\n\nNext:\n", m.from.name, m.to.name, strings.Join(parts, ", "))
	steps := []string{fmt.Sprintf("Name the new store in the server file (store) or in HOLDFAST_STORE: %s", m.to.name)}
	steps = append(steps, m.aboutKey()...)
	steps = append(steps, fmt.Sprintf("Start the servers. Keep %s as a backup, and never start a server on it again: it would do once more what is done by then.", m.from.name))
	for i, step := range steps {
		text += fmt.Sprintf("%d. %s\n", i+1, step)
	}
	_, err := fmt.Fprint(m.out, text)
	return err
}

// aboutKey says what has to go along with a store that is left: the key that
// plans and logs are sealed with, and states that no backend keeps.
func (m *move) aboutKey() []string {
	if m.from.file == "" {
		return []string{"Give every server the key that these servers had (key, HOLDFAST_KEY): plans and logs are encrypted with it."}
	}
	var steps []string
	dir := filepath.Dir(m.from.file)
	if key := filepath.Join(dir, "key"); exists(key) {
		steps = append(steps, fmt.Sprintf(`Plans and logs are encrypted with the key in %s. Every server of the new store needs that key: copy the file without printing it, for example
     ssh NODE 'umask 077; cat > /etc/holdfast/key' < %s
   and write key = file("/etc/holdfast/key") into the server file there; or set HOLDFAST_KEY to what is in it.`, key, key))
	} else {
		steps = append(steps, "Plans and logs are encrypted with the server's key: give every server of the new store the same (key, HOLDFAST_KEY).")
	}
	if states := filepath.Join(dir, "state"); exists(states) {
		steps = append(steps, fmt.Sprintf("%s has the states of root modules without a backend. They were not moved: give those a backend, or copy the directory to where all machines reach it and name it as state_dir.", states))
	}
	return steps
}
