-- The old names of the rollup tables: views that show what is in the new ones, one row per meter.
--
-- Each statement can be repeated: the rows have been in the new tables since the step before.

DROP TABLE IF EXISTS usage_minute SYNC;

CREATE VIEW usage_minute
(
    meter          String,
    tenant         String,
    bucket         DateTime('UTC'),
    dimensions     String,
    events         Int64,
    total          Decimal(38, 9),
    least_value    Decimal(38, 9),
    greatest_value Decimal(38, 9)
)
AS SELECT meter, tenant, bucket, dimensions, events, total, least_value, greatest_value
FROM
(
    SELECT
        arrayPopBack(splitByChar('\0', toString(meters))) AS names,
        arraySlice([total_1, total_2, total_3, total_4], 1, length(names)) AS totals,
        tenant, bucket, dimensions, events, least_value, greatest_value
    FROM rollup_minute
)
ARRAY JOIN names AS meter, totals AS total;

DROP TABLE IF EXISTS usage_hour SYNC;

CREATE VIEW usage_hour
(
    meter          String,
    tenant         String,
    bucket         DateTime('UTC'),
    dimensions     String,
    events         Int64,
    total          Decimal(38, 9),
    least_value    Decimal(38, 9),
    greatest_value Decimal(38, 9)
)
AS SELECT meter, tenant, bucket, dimensions, events, total, least_value, greatest_value
FROM
(
    SELECT
        arrayPopBack(splitByChar('\0', toString(meters))) AS names,
        arraySlice([total_1, total_2, total_3, total_4], 1, length(names)) AS totals,
        tenant, bucket, dimensions, events, least_value, greatest_value
    FROM rollup_hour
)
ARRAY JOIN names AS meter, totals AS total;

DROP TABLE IF EXISTS usage_day SYNC;

CREATE VIEW usage_day
(
    meter          String,
    tenant         String,
    bucket         DateTime('UTC'),
    dimensions     String,
    events         Int64,
    total          Decimal(38, 9),
    least_value    Decimal(38, 9),
    greatest_value Decimal(38, 9)
)
AS SELECT meter, tenant, bucket, dimensions, events, total, least_value, greatest_value
FROM
(
    SELECT
        arrayPopBack(splitByChar('\0', toString(meters))) AS names,
        arraySlice([total_1, total_2, total_3, total_4], 1, length(names)) AS totals,
        tenant, bucket, dimensions, events, least_value, greatest_value
    FROM rollup_day
)
ARRAY JOIN names AS meter, totals AS total;
