package sqlite

// How jobs are marked so that a claim need not search: see the migrations
// 0001_start.sql and 0003_pools_and_counts.sql.

// lane is the jobs of one bucket and one pool, of which the first head is
// claimable.
type lane struct{ limit, pool string }

// lane returns where r is marked.
func (r *row) lane() lane { return lane{r.Limit, r.pool} }

// settle marks what is claimable after r was written with ready = 0 or
// deleted; r.ready and r.pool are what they were before.
func (t *tx) settle(r row) error {
	var err error
	switch {
	case r.Group != "":
		err = t.settleGroup(r.Group)
	case r.state == stateDue:
		err = t.setHead(r.seq, lane{r.Limit, r.Pool()})
	}
	if err == nil && r.ready == 2 && r.Limit != "" {
		err = t.settleLane(r.lane())
	}
	return err
}

// settleGroup marks the first due job of a group in which none runs.
func (t *tx) settleGroup(group string) error {
	var old, seq int64
	var oldLane, next lane
	had, err := t.row("SELECT seq, lim, pool FROM job WHERE grp = ? AND grp <> '' AND ready > 0", []any{group}, &old, &oldLane.limit, &oldLane.pool)
	if err != nil {
		return err
	}
	has, err := t.row("SELECT 1 FROM job WHERE grp = ? AND grp <> '' AND state = 2 LIMIT 1", []any{group}, new(int))
	if err != nil {
		return err
	}
	if running := has; running {
		has = false
	} else if has, err = t.row("SELECT seq, lim, pool FROM job WHERE grp = ? AND grp <> '' AND state = 1 ORDER BY priority DESC, seq LIMIT 1",
		[]any{group}, &seq, &next.limit, &next.pool); err != nil {
		return err
	}
	if had && (!has || old != seq) {
		if _, err := t.exec("UPDATE job SET ready = 0 WHERE seq = ?", old); err != nil {
			return err
		}
		if oldLane.limit != "" {
			if err := t.settleLane(oldLane); err != nil {
				return err
			}
		}
	}
	switch {
	case !has:
		return nil
	case had && old == seq && next.limit == "":
		return nil // marked already; its rank is in the index by itself
	case had && old == seq:
		return t.settleLane(next)
	}
	return t.setHead(seq, next)
}

// setHead marks the job seq as the one of its group that may be claimed.
func (t *tx) setHead(seq int64, l lane) error {
	if l.limit == "" {
		_, err := t.exec("UPDATE job SET ready = 2 WHERE seq = ?", seq)
		return err
	}
	if _, err := t.exec("UPDATE job SET ready = 1 WHERE seq = ?", seq); err != nil {
		return err
	}
	return t.settleLane(l)
}

// settleLane marks the first head of a lane.
func (t *tx) settleLane(l lane) error {
	var old, seq int64
	had, err := t.row("SELECT seq FROM job WHERE lim = ? AND lim <> '' AND pool = ? AND ready = 2", []any{l.limit, l.pool}, &old)
	if err != nil {
		return err
	}
	has, err := t.row("SELECT seq FROM job WHERE lim = ? AND lim <> '' AND pool = ? AND ready > 0 ORDER BY rank, seq LIMIT 1", []any{l.limit, l.pool}, &seq)
	if err != nil || had && has && old == seq {
		return err
	}
	if had {
		if _, err := t.exec("UPDATE job SET ready = 1 WHERE seq = ?", old); err != nil {
			return err
		}
	}
	if has {
		_, err = t.exec("UPDATE job SET ready = 2 WHERE seq = ?", seq)
	}
	return err
}
