-- The head of a group is the first by priority, also where another of its jobs
-- is overdue: that one may wait for room in its bucket, and nothing of higher
-- priority waits for it.
DROP INDEX job_due_group;
CREATE INDEX job_due_group ON job (grp, priority DESC, seq) WHERE state = 1 AND grp <> '';
