-- A reject remembers that its source had declared a backfill: where the aggregator refuses a record, the record's header
-- is the only one to say so, and a replay must not judge the time of what was allowed to be old.
ALTER TABLE rejects ADD COLUMN IF NOT EXISTS backfill Bool DEFAULT false AFTER rejected_at;
