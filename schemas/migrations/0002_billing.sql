-- Billing and cost allocation.
--
-- Rows are added and never changed: an issued invoice, a closed period and a stored allocation are facts.
-- Money is Decimal(38, 9) in units of the currency beside it: 12.340000000 is 12.34. Every insert carries a
-- deduplication token that says what it claims (`invoices:RR-2015:17` = the block that begins with number
-- 17), so of two writers one wins and a repeated insert adds nothing.

-- The first thing that a billing run writes. A period has one such row: it fixes the issue date and the
-- moment up to which data counts, so that a run that is taken up again makes the same documents.
CREATE TABLE IF NOT EXISTS bill_runs
(
    period           String COMMENT 'YYYY-MM, in the zone',
    zone             LowCardinality(String),
    run_id           String,
    issue_date       Date,
    data_as_of       DateTime64(3, 'UTC'),
    currency         LowCardinality(String),
    series           String COMMENT 'prefix and year of the invoice numbers',
    catalogue_digest String,
    usage_digest     String COMMENT 'what the run saw first: if it changed, data_as_of is no longer true',
    planned_at       DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (period, zone)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- What a period became. No row: open. The digests are of the inputs that its invoices were made from.
CREATE TABLE IF NOT EXISTS periods
(
    period           String COMMENT 'YYYY-MM, in the zone',
    zone             LowCardinality(String),
    starts_at        DateTime('UTC'),
    ends_at          DateTime('UTC') COMMENT 'first instant after it',
    state            LowCardinality(String) COMMENT 'closed',
    run_id           String,
    usage_digest     String,
    catalogue_digest String,
    invoices         UInt64,
    currency         LowCardinality(String),
    total            Decimal(38, 9),
    changed_at       DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (period, zone)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- One row per invoice, with the document as it was issued.
CREATE TABLE IF NOT EXISTS invoices
(
    number       String,
    series       LowCardinality(String),
    sequence     UInt64 COMMENT 'within the series, from 1, without gaps',
    block        UInt64 COMMENT 'sequence of the first invoice of the insert that it came with',
    run_id       String,
    tenant       String,
    period       LowCardinality(String) COMMENT 'YYYY-MM, in the zone',
    zone         LowCardinality(String),
    plan         LowCardinality(String),
    currency     LowCardinality(String),
    subtotal     Decimal(38, 9),
    tax          Decimal(38, 9),
    total        Decimal(38, 9),
    issue_date   Date,
    due_date     Date,
    issued_at    DateTime64(3, 'UTC'),
    usage_digest String,
    digest       String COMMENT 'BLAKE3 of document',
    document     String COMMENT 'JSON' CODEC(ZSTD(3))
)
ENGINE = MergeTree
ORDER BY (period, tenant, number)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- The lines of `invoices.document`, for queries. Tax is a line of its own here, so Σ amount = Σ total.
CREATE TABLE IF NOT EXISTS invoice_lines
(
    number       String,
    line         UInt32,
    tenant       String,
    period       LowCardinality(String),
    kind         LowCardinality(String) COMMENT 'base_fee, usage, flat_fee, tax',
    meter        LowCardinality(String) COMMENT 'empty where there is none',
    description  String,
    quantity     Decimal(76, 28) COMMENT 'in unit',
    unit         LowCardinality(String),
    unit_amount  Decimal(38, 9) COMMENT 'price of one unit',
    exact_amount Decimal(76, 28) COMMENT 'quantity times price, before rounding',
    amount       Decimal(38, 9) COMMENT 'rounded once, at the minor unit',
    currency     LowCardinality(String)
)
ENGINE = MergeTree
ORDER BY (period, tenant, number, line)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- One row per finished allocation: its id is the digest of its inputs, so the same inputs are one run. The
-- newest of a period is the one to look at; rows of `allocations` without a row here are of a run that did
-- not finish.
CREATE TABLE IF NOT EXISTS allocation_runs
(
    run_id       String,
    period       LowCardinality(String) COMMENT 'YYYY-MM, in the zone',
    zone         LowCardinality(String),
    costs_digest String,
    usage_digest String,
    currency     LowCardinality(String),
    tenants      UInt64,
    total        Decimal(38, 9) COMMENT 'everything spent: tenants + idle + unallocated',
    created_at   DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (period, created_at, run_id)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- What each pool cost for each tenant. `tenant` is `__idle__` for what nobody used and `__unallocated__`
-- for what has no tenant; total = direct + idle_share, and Σ total of a pool is the pool's amount exactly.
CREATE TABLE IF NOT EXISTS allocations
(
    run_id       String,
    period       LowCardinality(String),
    pool         LowCardinality(String),
    tenant       String,
    driver_units Decimal(38, 9) COMMENT 'weighted usage, cut to nine digits for display',
    direct       Decimal(38, 9) COMMENT 'by use',
    idle_share   Decimal(38, 9) COMMENT 'share of the idle cost, by the pool''s policy',
    total        Decimal(38, 9),
    currency     LowCardinality(String)
)
ENGINE = MergeTree
ORDER BY (period, run_id, tenant, pool)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
