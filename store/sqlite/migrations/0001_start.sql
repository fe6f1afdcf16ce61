-- Times are nanoseconds since 1970 in UTC; 0 stands for "none".

-- Numbers that only grow: order of arrival and fencing tokens of jobs, fencing
-- tokens of locks, and a count of the changes that may have made a job
-- claimable (what other processes watch).
CREATE TABLE counter (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counter (name, value) VALUES ('job', 0), ('lock', 0), ('wake', 0);

-- Unfinished jobs. Finished ones are deleted.
--
-- A claim must cost the same whether ten or a million jobs wait, so what is
-- claimable is marked when a job changes, not searched for when one is
-- claimed:
--   ready 0  not claimable
--   ready 1  the first due job of a group in which none runs
--   ready 2  the first of these in its bucket (lim), or one without a bucket
-- A claim reads job_top in order of (rank, seq) and skips buckets that are
-- full, of which there are no more than there are running jobs.
CREATE TABLE job (
  seq         INTEGER PRIMARY KEY,  -- order of arrival
  id          TEXT    NOT NULL UNIQUE,
  kind        TEXT    NOT NULL,
  grp         TEXT    NOT NULL,
  key         TEXT    NOT NULL,
  again       INTEGER NOT NULL,
  lim         TEXT    NOT NULL,
  priority    INTEGER NOT NULL,
  run_at      INTEGER NOT NULL,
  state       INTEGER NOT NULL,     -- 0 waits for run_at, 1 due, 2 running, 3 dead
  enqueued_at INTEGER NOT NULL,
  overdue_at  INTEGER NOT NULL,
  patience    INTEGER NOT NULL,     -- overdue_at - run_at, for the next wait
  attempt     INTEGER NOT NULL,
  token       INTEGER NOT NULL,
  worker      TEXT    NOT NULL,
  lease_end   INTEGER NOT NULL,
  canceled    INTEGER NOT NULL,
  rerun       INTEGER NOT NULL,     -- enqueued again while it ran
  late        INTEGER NOT NULL,     -- overdue_at has passed, and rank says so
  rank        INTEGER NOT NULL,     -- smaller runs first
  ready       INTEGER NOT NULL,
  last_error  TEXT    NOT NULL,
  payload     BLOB
) STRICT;

CREATE UNIQUE INDEX job_key           ON job (key)            WHERE key <> '';
CREATE INDEX        job_later         ON job (run_at)         WHERE state = 0;
CREATE INDEX        job_soon_late     ON job (overdue_at)     WHERE state = 1 AND late = 0;
CREATE INDEX        job_due_group     ON job (grp, rank)      WHERE state = 1 AND grp <> '';
CREATE INDEX        job_running_group ON job (grp)            WHERE state = 2 AND grp <> '';
CREATE INDEX        job_running_limit ON job (lim)            WHERE state = 2 AND lim <> '';
CREATE INDEX        job_running_lease ON job (lease_end)      WHERE state = 2;
CREATE INDEX        job_head_group    ON job (grp)            WHERE ready > 0 AND grp <> '';
CREATE INDEX        job_head_limit    ON job (lim, rank)      WHERE ready > 0 AND lim <> '';
CREATE INDEX        job_top_limit     ON job (lim)            WHERE ready = 2 AND lim <> '';
CREATE INDEX        job_top           ON job (rank)           WHERE ready = 2;

CREATE TABLE lock (
  key       TEXT    PRIMARY KEY,
  holder    TEXT    NOT NULL,
  who       TEXT    NOT NULL,
  why       TEXT    NOT NULL,
  token     INTEGER NOT NULL,
  since     INTEGER NOT NULL,
  expire_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE run (
  id           TEXT    PRIMARY KEY,
  key          TEXT    NOT NULL UNIQUE,
  kind         TEXT    NOT NULL,
  state        TEXT    NOT NULL,
  repository   TEXT    NOT NULL,
  workspace    TEXT    NOT NULL,
  pull_request INTEGER NOT NULL,
  revision     TEXT    NOT NULL,   -- the commit
  inputs       TEXT    NOT NULL,
  job          TEXT    NOT NULL,
  token        INTEGER NOT NULL,
  step         TEXT    NOT NULL,
  node         TEXT    NOT NULL,
  error        TEXT    NOT NULL,
  created_at   INTEGER NOT NULL,
  started_at   INTEGER NOT NULL,
  ended_at     INTEGER NOT NULL,
  version      INTEGER NOT NULL,
  result       BLOB
) STRICT;
CREATE INDEX run_workspace    ON run (repository, workspace, id);
CREATE INDEX run_pull_request ON run (repository, pull_request, id) WHERE pull_request <> 0;
CREATE INDEX run_state        ON run (state, id);

CREATE TABLE artifact (
  key  TEXT    NOT NULL,
  idx  INTEGER NOT NULL,           -- 0 is the first chunk
  data BLOB    NOT NULL,
  PRIMARY KEY (key, idx)
) STRICT;

CREATE TABLE record (
  key     TEXT    PRIMARY KEY,
  version INTEGER NOT NULL,
  value   BLOB
) STRICT;

CREATE TABLE audit (
  id         TEXT    PRIMARY KEY,
  at         INTEGER NOT NULL,
  who        TEXT    NOT NULL,
  action     TEXT    NOT NULL,
  repository TEXT    NOT NULL,
  workspace  TEXT    NOT NULL,
  run        TEXT    NOT NULL,
  why        TEXT    NOT NULL
) STRICT;
CREATE INDEX audit_repository ON audit (repository, id);

-- The trail is only ever added to, whoever has the file open.
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'the audit trail is never changed'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'the audit trail is never changed'); END;
