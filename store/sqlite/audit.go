package sqlite

import (
	"context"
	"errors"
	"fmt"

	"holdfast/store"
)

// audit is the audit trail in the file. Triggers keep everybody who opens the
// file, us included, from changing it.
type audit struct{ *database }

var _ store.Audit = (*audit)(nil)

const auditColumns = "id, at, who, action, repository, workspace, run, why"

func scanEntry(scan scanner) (store.Entry, error) {
	var e store.Entry
	var at int64
	err := scan(&e.ID, &at, &e.Who, &e.Action, &e.Repository, &e.Workspace, &e.Run, &e.Why)
	e.At = instant(at)
	return e, err
}

// Append implements store.Audit.
func (d *audit) Append(ctx context.Context, e store.Entry) error {
	if e.ID == "" {
		return errors.New("append to the audit trail: the entry needs an ID")
	}
	err := d.write.do(ctx, func(t *tx) error {
		return t.putEntry(e)
	})
	if err != nil {
		return fmt.Errorf("append to the audit trail: %w", err)
	}
	return nil
}

// putEntry stores e unless its ID is there already.
func (t *tx) putEntry(e store.Entry) error {
	_, err := t.exec("INSERT INTO audit ("+auditColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
		e.ID, nanos(e.At), e.Who, e.Action, e.Repository, e.Workspace, e.Run, e.Why)
	return err
}

// List implements store.Audit.
func (d *audit) List(ctx context.Context, repository string, limit int) ([]store.Entry, error) {
	query, args := "SELECT "+auditColumns+" FROM audit", []any{}
	if repository != "" {
		query, args = query+" WHERE repository = ?", append(args, repository)
	}
	var out []store.Entry
	err := d.query(ctx, query+" ORDER BY id DESC LIMIT ?", append(args, max(0, limit)), func(scan scanner) error {
		e, err := scanEntry(scan)
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the audit trail: %w", err)
	}
	return out, nil
}
