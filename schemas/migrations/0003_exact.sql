-- Raw events in half the space and at half the cost, corrections, conflicts, and plans that are claimed once.
--
-- The table is made anew beside the old one and takes its name: each statement can be repeated.

DROP TABLE IF EXISTS events_anew SYNC;

-- Measures and dimensions are arrays beside the list of their names, which is one of a few per type of event:
-- a map repeats the names in every row. `measures`, `dimensions` and `identity` read as before.
--
-- The projection finds an event by its identity and lives and dies with the part, so an identity is claimed
-- exactly when its row is durable.
CREATE TABLE events_anew
(
    tenant        String CODEC(ZSTD(1)),
    type          LowCardinality(String),
    time          DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    identity_high UInt64 COMMENT 'first eight bytes of the identity, as a little-endian number' CODEC(NONE),
    identity_low  UInt64 COMMENT 'its last eight bytes' CODEC(NONE),
    id            String CODEC(ZSTD(1)),
    source        LowCardinality(String),
    arrived_at    DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    content       UInt32 COMMENT 'CRC-32C of type and data: tells a conflict from a resend' CODEC(NONE),
    measure_names LowCardinality(String) COMMENT 'each followed by a NUL, in order',
    measure_values Array(Decimal(38, 9)) CODEC(ZSTD(1)),
    dimension_names LowCardinality(String) COMMENT 'each followed by a NUL, in order',
    dimension_values Array(String) CODEC(ZSTD(1)),
    correction    Enum8('none' = 0, 'voids' = 1, 'amends' = 2) DEFAULT 'none',
    corrects      FixedString(16) COMMENT 'identity of the event that this one corrects; zeros for none',
    meters        UInt16 COMMENT 'how many meters it matched; 0 is shown as unmatched',
    log_topic     LowCardinality(String),
    log_partition UInt16,
    log_batch     UInt64 COMMENT 'first position of the batch it came with' CODEC(Delta, ZSTD(1)),
    identity      FixedString(16) ALIAS CAST(concat(reinterpretAsFixedString(identity_high), reinterpretAsFixedString(identity_low)) AS FixedString(16)),
    measures      Map(String, Decimal(38, 9)) ALIAS mapFromArrays(arrayPopBack(splitByChar('\0', toString(measure_names))), measure_values),
    dimensions    Map(String, String) ALIAS mapFromArrays(arrayPopBack(splitByChar('\0', toString(dimension_names))), dimension_values),
    PROJECTION by_identity
    (
        SELECT identity_high, identity_low, content, toDate(arrived_at) ORDER BY identity_high
    )
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(arrived_at)
ORDER BY (tenant, type, time)
TTL toDateTime(arrived_at) + INTERVAL 13 MONTH
SETTINGS non_replicated_deduplication_window = 100000, fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO events_anew
    (tenant, type, time, identity_high, identity_low, id, source, arrived_at, content, measure_names, measure_values,
     dimension_names, dimension_values, meters, log_topic, log_partition, log_batch)
SELECT tenant, type, time, reinterpretAsUInt64(substring(identity, 1, 8)), reinterpretAsUInt64(substring(identity, 9, 8)),
       id, source, arrived_at, 0,
       arrayStringConcat(arrayMap(name -> concat(name, '\0'), mapKeys(measures))), mapValues(measures),
       arrayStringConcat(arrayMap(name -> concat(name, '\0'), mapKeys(dimensions))), mapValues(dimensions),
       meters, log_topic, log_partition, log_batch
FROM events
SETTINGS max_partitions_per_insert_block = 1000, insert_deduplicate = 0;

EXCHANGE TABLES events AND events_anew;

DROP TABLE IF EXISTS events_anew SYNC;

-- A plan is claimed by a token made of where it begins alone: whoever comes second follows the plan that is there.
ALTER TABLE batches
    ADD COLUMN IF NOT EXISTS begins FixedString(16) COMMENT 'digest of the first record''s key and arrival' AFTER next;

ALTER TABLE batches
    ADD COLUMN IF NOT EXISTS records UInt64 COMMENT 'records read between first and next' AFTER digest;

ALTER TABLE batches
    ADD COLUMN IF NOT EXISTS conflicts Array(Tuple(source String, hour DateTime('UTC'), conflicts UInt64))
    COMMENT 'of the duplicates, those with other content than the event they repeat';

-- The later half of a window of tokens is what a plan that was left unfinished can count on.
ALTER TABLE batches MODIFY SETTING non_replicated_deduplication_window = 100000;
ALTER TABLE usage_minute MODIFY SETTING non_replicated_deduplication_window = 100000;
ALTER TABLE usage_hour MODIFY SETTING non_replicated_deduplication_window = 100000;
ALTER TABLE usage_day MODIFY SETTING non_replicated_deduplication_window = 100000;

-- Events that came under the identity of another one, with other content: counted as duplicates, kept here.
CREATE TABLE IF NOT EXISTS conflicts
(
    identity      FixedString(16),
    tenant        String,
    source        LowCardinality(String),
    id            String,
    arrived_at    DateTime64(3, 'UTC'),
    event         String COMMENT 'the event as it came, as a CloudEvent in JSON' CODEC(ZSTD(1)),
    log_topic     LowCardinality(String),
    log_partition UInt16,
    log_batch     UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(arrived_at)
ORDER BY (tenant, source, id)
TTL toDateTime(arrived_at) + INTERVAL 13 MONTH
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
