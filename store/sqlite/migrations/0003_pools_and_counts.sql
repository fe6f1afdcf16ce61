-- Workers with labels: a job is only for those that have all of its labels,
-- and pool is one word for these. What no worker may take must not hold up
-- what another may, so the marks are kept for each pool by itself:
--   ready 2  the first of those with ready 1 of its bucket and its pool
-- A claim reads job_top in order of (rank, seq) for each pool that it serves.
ALTER TABLE job ADD COLUMN pool TEXT NOT NULL DEFAULT '';

DROP INDEX job_head_limit;
DROP INDEX job_top_limit;
DROP INDEX job_top;
CREATE INDEX job_head_limit ON job (lim, pool, rank) WHERE ready > 0 AND lim <> '';
CREATE INDEX job_top_limit  ON job (lim, pool)       WHERE ready = 2 AND lim <> '';
CREATE INDEX job_top        ON job (pool, rank)      WHERE ready = 2;

-- How many jobs there are, kept as they change: counting them would read all.
CREATE TABLE job_count (
  kind  TEXT    NOT NULL,
  state INTEGER NOT NULL,          -- 1 waits, 2 running, 3 dead
  n     INTEGER NOT NULL,
  PRIMARY KEY (kind, state)
) STRICT, WITHOUT ROWID;
INSERT INTO job_count (kind, state, n) SELECT kind, max(state, 1), count(*) FROM job GROUP BY 1, 2;

CREATE TRIGGER job_count_insert AFTER INSERT ON job BEGIN
  INSERT INTO job_count (kind, state, n) VALUES (NEW.kind, max(NEW.state, 1), 1)
    ON CONFLICT (kind, state) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER job_count_delete AFTER DELETE ON job BEGIN
  UPDATE job_count SET n = n - 1 WHERE kind = OLD.kind AND state = max(OLD.state, 1);
END;
CREATE TRIGGER job_count_update AFTER UPDATE OF state ON job WHEN max(OLD.state, 1) <> max(NEW.state, 1) BEGIN
  UPDATE job_count SET n = n - 1 WHERE kind = OLD.kind AND state = max(OLD.state, 1);
  INSERT INTO job_count (kind, state, n) VALUES (NEW.kind, max(NEW.state, 1), 1)
    ON CONFLICT (kind, state) DO UPDATE SET n = n + 1;
END;
