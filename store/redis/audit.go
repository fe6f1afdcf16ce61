package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/store"
)

// audit is the audit trail: one hash of all entries, and their IDs in order,
// of all and of each repository.
type audit struct{ *database }

var _ store.Audit = (*audit)(nil)

var (
	appendEntryScript = newScript("audit", "audit_append")
	listEntriesScript = newScript("audit_list")
)

// Append implements store.Audit.
func (d *audit) Append(ctx context.Context, e store.Entry) (err error) {
	defer d.observe("audit.append", time.Now(), &err)
	if e.ID == "" {
		return errors.New("append to the audit trail: the entry needs an ID")
	}
	text, err := packEntry(e)
	if err == nil {
		_, err = d.write(ctx, appendEntryScript, e.ID, e.Repository, text)
	}
	if err != nil {
		return fmt.Errorf("append to the audit trail: %w", err)
	}
	return nil
}

func packEntry(e store.Entry) ([]byte, error) {
	e.At = stored(e.At)
	return json.Marshal(e)
}

// List implements store.Audit. It reads a thousand entries in each atomic step.
func (d *audit) List(ctx context.Context, repository string, limit int) (out []store.Entry, err error) {
	defer d.observe("audit.list", time.Now(), &err)
	index := "entries"
	if repository != "" {
		index += ":" + repository
	}
	for from := "+"; len(out) < limit; {
		look := min(step, limit-len(out))
		reply, err := d.read(ctx, listEntriesScript, index, from, look)
		if err != nil {
			return nil, fmt.Errorf("list the audit trail: %w", err)
		}
		found, err := scanEntries(list(reply))
		if err != nil {
			return nil, fmt.Errorf("list the audit trail: %w", err)
		}
		out = append(out, found...)
		if len(found) < look {
			break
		}
		from = "(" + out[len(out)-1].ID
	}
	return out, nil
}

func scanEntries(texts []any) ([]store.Entry, error) {
	out := make([]store.Entry, 0, len(texts))
	for r := (&row{values: texts}); len(r.values) > 0; {
		var e store.Entry
		if err := json.Unmarshal(r.bytes(), &e); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}
