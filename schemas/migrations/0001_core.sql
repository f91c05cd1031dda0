-- Raw events, usage rollups, batches, rejects.
--
-- Every table fsyncs its parts before an insert is confirmed: the log's position moves on that word alone.
-- The deduplication window makes a retried batch harmless: it holds the tokens of the last inserted blocks
-- of a table, and only the newest batch of a log partition is ever retried.
--
-- Each statement can be repeated: a crash in mid-migration is resumed from the first one.

-- One row per distinct event. Partitioned by arrival, since dedup and retention look at arrival; sorted by
-- tenant, since queries do. The projection finds an event by its identity and lives and dies with the part,
-- so an identity is claimed exactly when its row is durable.
CREATE TABLE IF NOT EXISTS events
(
    tenant        String CODEC(ZSTD(1)),
    type          LowCardinality(String),
    time          DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    identity      FixedString(16) CODEC(NONE),
    id            String CODEC(ZSTD(1)),
    source        LowCardinality(String),
    arrived_at    DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    measures      Map(LowCardinality(String), Decimal(38, 9)) CODEC(ZSTD(1)),
    dimensions    Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    meters        UInt16 COMMENT 'how many meters it matched; 0 is shown as unmatched',
    log_topic     LowCardinality(String),
    log_partition UInt16,
    log_batch     UInt64 COMMENT 'first position of the batch it came with' CODEC(Delta, ZSTD(1)),
    PROJECTION by_identity (SELECT identity, log_topic, log_partition, log_batch, arrived_at ORDER BY identity)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(arrived_at)
ORDER BY (tenant, type, time, identity)
TTL toDateTime(arrived_at) + INTERVAL 13 MONTH
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- Usage per meter, tenant and minute. `total` sums, `least_value` and `greatest_value` keep extremes.
-- `events` is signed: a repair is a correcting row.
CREATE TABLE IF NOT EXISTS usage_minute
(
    meter          LowCardinality(String),
    tenant         String CODEC(ZSTD(1)),
    bucket         DateTime('UTC') CODEC(Delta, ZSTD(1)),
    dimensions     String COMMENT 'the meter''s group_by dimensions, canonical JSON' CODEC(ZSTD(1)),
    events         SimpleAggregateFunction(sum, Int64),
    total          SimpleAggregateFunction(sum, Decimal(38, 9)),
    least_value    SimpleAggregateFunction(min, Decimal(38, 9)),
    greatest_value SimpleAggregateFunction(max, Decimal(38, 9))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(bucket)
ORDER BY (meter, tenant, bucket, dimensions)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS usage_hour AS usage_minute
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(bucket)
ORDER BY (meter, tenant, bucket, dimensions)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS usage_day AS usage_minute
ENGINE = AggregatingMergeTree
PARTITION BY toYear(bucket)
ORDER BY (meter, tenant, bucket, dimensions)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- One row per batch taken from the log: written as planned before its inserts, as done after them, with
-- what became of its records. The books are sums over the done ones.
CREATE TABLE IF NOT EXISTS batches
(
    topic     LowCardinality(String),
    partition UInt16,
    first     UInt64 COMMENT 'first log position of the batch',
    next      UInt64 COMMENT 'position after its last record',
    digest    FixedString(16) COMMENT 'of its records'' keys and arrivals: tells a log that was made anew from the old one',
    state     UInt8 COMMENT '0 planned, 1 done',
    written_at DateTime64(3, 'UTC'),
    tallies   Array(Tuple(source String, hour DateTime('UTC'), accepted UInt64, stored UInt64, duplicate UInt64, rejected UInt64))
              COMMENT 'per source and hour of arrival'
)
ENGINE = ReplacingMergeTree(state)
ORDER BY (topic, partition, first, digest)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- What could not be accepted, with its bytes.
CREATE TABLE IF NOT EXISTS rejects
(
    identity    FixedString(16),
    source      LowCardinality(String),
    place       String,
    tenant      String,
    reason      LowCardinality(String),
    field       String,
    detail      String,
    rejected_at DateTime64(3, 'UTC'),
    log_topic   LowCardinality(String),
    log_partition UInt16,
    log_batch   UInt64,
    bytes       String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(rejected_at)
ORDER BY (source, place, identity)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
