-- Meters in versions, and the registry of tenants.
--
-- Rows are added and never changed: a change is a new version. Each statement can be repeated.

-- Definitions of meters. The version of a name that was claimed first is the one: an insert carries a token made of name
-- and version.
CREATE TABLE IF NOT EXISTS meters
(
    name           String,
    version        UInt32 COMMENT 'from 1',
    definition     String COMMENT 'JSON, as in meters.yaml; empty: the meter ends',
    effective_from Int64 COMMENT 'seconds since the epoch; the least number: all times before the next version',
    origin         LowCardinality(String) COMMENT 'file, api',
    written_at     DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (name, version, written_at)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- Versions whose hours have been marked to be checked, so that the rollups come to what they make of older events.
CREATE TABLE IF NOT EXISTS meter_backfills
(
    name      String,
    version   UInt32,
    hours     UInt64 COMMENT 'hours that were marked',
    marked_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (name, version, marked_at)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- What is known of tenants, from when on. Of several rows with one `valid_from` the one that was recorded last holds.
CREATE TABLE IF NOT EXISTS tenants
(
    tenant       String,
    valid_from   DateTime('UTC') COMMENT 'a whole minute',
    recorded_at  DateTime64(6, 'UTC'),
    name         String,
    organisation String,
    tier         LowCardinality(String),
    tags         Map(String, String),
    external_ids Map(String, String) COMMENT 'ids elsewhere, by system',
    is_removed   Bool COMMENT 'from then on nothing is known of it',
    origin       LowCardinality(String) COMMENT 'file, api, import'
)
ENGINE = MergeTree
ORDER BY (tenant, valid_from, recorded_at)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- What holds of each tenant in each stretch of time.
CREATE VIEW IF NOT EXISTS tenant_versions AS
SELECT tenant, valid_from,
       argMax(row.name, row.recorded_at) AS name,
       argMax(row.organisation, row.recorded_at) AS organisation,
       argMax(row.tier, row.recorded_at) AS tier,
       argMax(row.tags, row.recorded_at) AS tags,
       argMax(row.external_ids, row.recorded_at) AS external_ids,
       argMax(row.is_removed, row.recorded_at) AS is_removed,
       argMax(row.origin, row.recorded_at) AS origin,
       max(row.recorded_at) AS recorded_at
FROM tenants AS row
GROUP BY tenant, valid_from;
