-- Days in partitions of a month, where 0012 had made them of a week like all rollups. What is asked of days is months: of a
-- tenant that is a row a day, and each part from which some of them come costs a millisecond, so that a month of five parts
-- took 12 ms and one of a single part 8; of all tenants it takes a quarter less. A day of all tenants is read with its
-- month, which takes 85 ms where its week took 44. Hours and minutes are asked for in days and hours, and stay in weeks.
--
-- The table is made anew beside the old one and takes its name: each statement can be repeated.

DROP TABLE IF EXISTS rollup_anew SYNC;

CREATE TABLE rollup_anew AS rollup_day
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(bucket)
ORDER BY (meters, tenant, bucket, dimensions)
SETTINGS non_replicated_deduplication_window = 100000, fsync_after_insert = 1, fsync_part_directory = 1,
         min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

INSERT INTO rollup_anew SELECT * FROM rollup_day SETTINGS max_partitions_per_insert_block = 0, insert_deduplicate = 0;

EXCHANGE TABLES rollup_day AND rollup_anew;

DROP TABLE IF EXISTS rollup_anew SYNC;
