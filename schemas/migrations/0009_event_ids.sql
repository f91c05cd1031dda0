-- Raw events for less work: ids that are UUIDs as their 16 bytes, a lighter compression, and texts as they are. A row is
-- written again each time its part grows tenfold. A third of that went into compressing, and a third into the dictionaries
-- of LowCardinality columns, which a merge that takes a row here and a row there looks up for each.
--
-- The table is made anew beside the old one and takes its name: each statement can be repeated.

DROP TABLE IF EXISTS events_anew SYNC;

-- `id`, `identity`, `measures` and `dimensions` read as before.
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
    log_topic     String,
    log_partition UInt16,
    log_batch     UInt64 COMMENT 'first position of the batch it came with',
    id            String ALIAS if(empty(id_text), toString(id_uuid), id_text),
    identity      FixedString(16) ALIAS CAST(concat(reinterpretAsFixedString(identity_high), reinterpretAsFixedString(identity_low)) AS FixedString(16)),
    measures      Map(String, Decimal(38, 9)) ALIAS mapFromArrays(arrayPopBack(splitByChar('\0', toString(measure_names))), measure_values),
    dimensions    Map(String, String) ALIAS mapFromArrays(arrayPopBack(splitByChar('\0', toString(dimension_names))), dimension_values),
    INDEX corrections correction TYPE minmax GRANULARITY 1,
    PROJECTION by_identity
    (
        SELECT identity_high, identity_low, content, toDate(arrived_at) ORDER BY identity_high
    )
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(arrived_at)
ORDER BY (tenant, type, time)
TTL toDateTime(arrived_at) + INTERVAL 13 MONTH
SETTINGS non_replicated_deduplication_window = 100000, fsync_after_insert = 1, fsync_part_directory = 1,
         merge_selector_base = 10;

INSERT INTO events_anew
    (tenant, type, time, identity_high, identity_low, id_uuid, id_text, source, arrived_at, content, measure_names,
     measure_values, dimension_names, dimension_values, correction, corrects, meters, log_topic, log_partition, log_batch)
SELECT tenant, type, time, identity_high, identity_low, toUUIDOrZero(id), if(toString(toUUIDOrZero(id)) = id, '', id),
       source, arrived_at, content, measure_names, measure_values, dimension_names, dimension_values, correction,
       corrects, meters, log_topic, log_partition, log_batch
FROM events
SETTINGS max_partitions_per_insert_block = 1000, insert_deduplicate = 0;

EXCHANGE TABLES events AND events_anew;

DROP TABLE IF EXISTS events_anew SYNC;
