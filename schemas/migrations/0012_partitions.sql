-- Partitions of a week: of the hour that rollups are of, and of the arrival of events. Rows are sorted by tenant, so that a
-- question about all tenants reads all of each partition that its span touches: of "the last hour" that was a month of
-- minutes, of "yesterday" a year of days. A question about one tenant takes half a millisecond longer for each partition
-- that it touches, so that they are no smaller; and as long for each part, so that a week of rollups into which nothing came
-- for a day is merged into one. Live events are at most 35 days old: no batch of them falls into more than six.
--
-- Each table is made anew beside the old one and takes its name: each statement can be repeated.

DROP TABLE IF EXISTS rollup_anew SYNC;

-- Lists of meters, of which there are few, are numbers, and tenants are compressed for speed: to read these two columns was
-- two thirds of what a question about all tenants took.
CREATE TABLE rollup_anew
(
    meters         LowCardinality(String) COMMENT 'their names, each followed by a NUL',
    tenant         String CODEC(LZ4),
    bucket         DateTime('UTC') CODEC(Delta, ZSTD(1)),
    dimensions     String COMMENT 'the meters'' group_by dimensions, canonical JSON' CODEC(ZSTD(1)),
    events         SimpleAggregateFunction(sum, Int64),
    total_1        SimpleAggregateFunction(sum, Decimal(38, 9)),
    total_2        SimpleAggregateFunction(sum, Decimal(38, 9)),
    total_3        SimpleAggregateFunction(sum, Decimal(38, 9)),
    total_4        SimpleAggregateFunction(sum, Decimal(38, 9)),
    least_value    SimpleAggregateFunction(min, Decimal(38, 9)),
    greatest_value SimpleAggregateFunction(max, Decimal(38, 9))
)
ENGINE = AggregatingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (meters, tenant, bucket, dimensions)
SETTINGS non_replicated_deduplication_window = 100000, fsync_after_insert = 1, fsync_part_directory = 1,
         merge_selector_base = 10, min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

INSERT INTO rollup_anew SELECT * FROM rollup_minute SETTINGS max_partitions_per_insert_block = 0, insert_deduplicate = 0;

EXCHANGE TABLES rollup_minute AND rollup_anew;

DROP TABLE IF EXISTS rollup_anew SYNC;

CREATE TABLE rollup_anew AS rollup_minute
ENGINE = AggregatingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (meters, tenant, bucket, dimensions)
SETTINGS non_replicated_deduplication_window = 100000, fsync_after_insert = 1, fsync_part_directory = 1,
         min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

INSERT INTO rollup_anew SELECT * FROM rollup_hour SETTINGS max_partitions_per_insert_block = 0, insert_deduplicate = 0;

EXCHANGE TABLES rollup_hour AND rollup_anew;

DROP TABLE IF EXISTS rollup_anew SYNC;

CREATE TABLE rollup_anew AS rollup_minute
ENGINE = AggregatingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (meters, tenant, bucket, dimensions)
SETTINGS non_replicated_deduplication_window = 100000, fsync_after_insert = 1, fsync_part_directory = 1,
         min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

INSERT INTO rollup_anew SELECT * FROM rollup_day SETTINGS max_partitions_per_insert_block = 0, insert_deduplicate = 0;

EXCHANGE TABLES rollup_day AND rollup_anew;

DROP TABLE IF EXISTS rollup_anew SYNC;

DROP TABLE IF EXISTS events_anew SYNC;

-- `times` passes over what a busy tenant did at other times, and over the weeks in which nothing of a span arrived.
CREATE TABLE events_anew
(
    tenant        String,
    type          String,
    time          DateTime64(6, 'UTC'),
    identity_high UInt64 COMMENT 'first eight bytes of the identity, as a little-endian number' CODEC(NONE),
    identity_low  UInt64 COMMENT 'its last eight bytes' CODEC(NONE),
    id_uuid       UUID COMMENT 'the id, if it is a UUID as it is written canonically' CODEC(NONE),
    id_text       String COMMENT 'the id, if it is anything else',
    source        String,
    arrived_at    DateTime64(3, 'UTC'),
    content       UInt32 COMMENT 'CRC-32C of type and data: tells a conflict from a resend' CODEC(NONE),
    measure_names String COMMENT 'each followed by a NUL, in order',
    measure_values Array(Decimal(38, 9)),
    dimension_names String COMMENT 'each followed by a NUL, in order',
    dimension_values Array(String),
    correction    Enum8('none' = 0, 'voids' = 1, 'amends' = 2) DEFAULT 'none',
    corrects      FixedString(16) COMMENT 'identity of the event that this one corrects; zeros for none',
    meters        UInt16 COMMENT 'how many meters it matched; 0 is shown as unmatched',
    log_topic     Enum8('' = 0, 'usage' = 1, 'usage.overflow' = 2),
    log_partition UInt16,
    log_batch     UInt64 COMMENT 'first position of the batch it came with',
    id            String ALIAS if(empty(id_text), toString(id_uuid), id_text),
    identity      FixedString(16) ALIAS CAST(concat(reinterpretAsFixedString(identity_high), reinterpretAsFixedString(identity_low)) AS FixedString(16)),
    measures      Map(String, Decimal(38, 9)) ALIAS mapFromArrays(arrayPopBack(splitByChar('\0', toString(measure_names))), measure_values),
    dimensions    Map(String, String) ALIAS mapFromArrays(arrayPopBack(splitByChar('\0', toString(dimension_names))), dimension_values),
    INDEX corrections correction TYPE minmax GRANULARITY 1,
    INDEX times time TYPE minmax GRANULARITY 1,
    PROJECTION by_identity
    (
        SELECT identity_high, identity_low, content, toDate(arrived_at) ORDER BY identity_high
    )
)
ENGINE = MergeTree
PARTITION BY toMonday(arrived_at)
ORDER BY (tenant, type, time)
TTL toDateTime(arrived_at) + INTERVAL 13 MONTH
SETTINGS non_replicated_deduplication_window = 100000, fsync_after_insert = 1, fsync_part_directory = 1,
         merge_selector_base = 10;

INSERT INTO events_anew
    (tenant, type, time, identity_high, identity_low, id_uuid, id_text, source, arrived_at, content, measure_names,
     measure_values, dimension_names, dimension_values, correction, corrects, meters, log_topic, log_partition, log_batch)
SELECT tenant, type, time, identity_high, identity_low, id_uuid, id_text, source, arrived_at, content, measure_names,
       measure_values, dimension_names, dimension_values, correction, corrects, meters, log_topic, log_partition, log_batch
FROM events
SETTINGS max_partitions_per_insert_block = 0, insert_deduplicate = 0;

EXCHANGE TABLES events AND events_anew;

DROP TABLE IF EXISTS events_anew SYNC;
