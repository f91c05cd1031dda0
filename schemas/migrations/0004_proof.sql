-- Corrections are found, rollups are proved and repaired, rejects are replayed.
--
-- Each statement can be repeated.

-- Corrections are few: whole stretches of the table are passed over by looking at their least and greatest value.
ALTER TABLE events ADD INDEX IF NOT EXISTS corrections correction TYPE minmax GRANULARITY 1;

-- Hours of usage whose rollups somebody cannot vouch for. Open ones are checked against the raw events, and closed
-- by a second row.
CREATE TABLE IF NOT EXISTS dirty_hours
(
    hour      DateTime('UTC'),
    marked_at DateTime64(3, 'UTC'),
    why       LowCardinality(String) COMMENT 'repeated, correction, takeover',
    state     UInt8 COMMENT '0 open, 1 closed'
)
ENGINE = ReplacingMergeTree(state)
ORDER BY (hour, marked_at, why)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- Corrections whose original was there, and whose hour has been put right. The others wait for their original.
CREATE TABLE IF NOT EXISTS corrections_applied
(
    identity   FixedString(16) COMMENT 'of the correction',
    applied_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY identity
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- Every check of an hour's or a day's rollups, and what came of it.
CREATE TABLE IF NOT EXISTS rollup_checks
(
    starts_at   DateTime('UTC'),
    ends_at     DateTime('UTC') COMMENT 'first second after it',
    checked_at  DateTime64(3, 'UTC'),
    why         LowCardinality(String),
    differences UInt64 COMMENT 'cells that differed; each is a row of repairs'
)
ENGINE = MergeTree
ORDER BY (starts_at, checked_at)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- Every cell of a rollup that differed from the raw events, and was put right.
CREATE TABLE IF NOT EXISTS repairs
(
    repaired_at     DateTime64(3, 'UTC'),
    table           LowCardinality(String),
    bucket          DateTime('UTC'),
    meter           LowCardinality(String),
    tenant          String,
    dimensions      String,
    why             LowCardinality(String),
    found_events    Int64,
    found_total     Decimal(38, 9),
    found_least     Decimal(38, 9),
    found_greatest  Decimal(38, 9),
    expected_events Int64,
    expected_total  Decimal(38, 9),
    expected_least  Decimal(38, 9),
    expected_greatest Decimal(38, 9)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(repaired_at)
ORDER BY (bucket, table, meter, tenant, repaired_at)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- What came of each replay of a reject. The reject itself stays as it is.
CREATE TABLE IF NOT EXISTS replays
(
    reject      FixedString(16) COMMENT 'its identity',
    replayed_at DateTime64(3, 'UTC'),
    outcome     LowCardinality(String) COMMENT 'appended, refused',
    event       FixedString(16) COMMENT 'identity of the event that was appended; zeros for none',
    reason      LowCardinality(String),
    field       String,
    detail      String
)
ENGINE = MergeTree
ORDER BY (reject, replayed_at)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
