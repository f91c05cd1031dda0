//! Writing an allocation: rows first, the run's own row last; a run without that row did not finish.

use chrono::{DateTime, Utc};
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::Quantity;
use rentroll_schemas::currency::Currency;
use serde::{Deserialize, Serialize};

use super::Allocation;
use crate::error::{BillingError, Result};
use crate::run::{insert, instant};

/// Rows of one insert: some tens of megabytes of JSON at most.
const BLOCK_ROWS: usize = 50_000;

/// A run's own row.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) run_id: String,
    pub(super) period: String,
    pub(super) zone: String,
    pub(super) costs_digest: String,
    pub(super) usage_digest: String,
    pub(super) currency: Currency,
    pub(super) tenants: u64,
    pub(super) total: Quantity,
}

#[derive(Serialize)]
struct NewAllocation<'a> {
    run_id: &'a str,
    period: &'a str,
    pool: &'a str,
    tenant: &'a str,
    driver_units: Quantity,
    direct: Quantity,
    idle_share: Quantity,
    total: Quantity,
    currency: &'a str,
}

const COLUMNS: &[&str] =
    &["run_id", "period", "pool", "tenant", "driver_units", "direct", "idle_share", "total", "currency"];

#[derive(Serialize)]
struct NewRun<'a> {
    run_id: &'a str,
    period: &'a str,
    zone: &'a str,
    costs_digest: &'a str,
    usage_digest: &'a str,
    currency: &'a str,
    tenants: u64,
    total: Quantity,
    created_at: String,
}

const RUN_COLUMNS: &[&str] = &[
    "run_id",
    "period",
    "zone",
    "costs_digest",
    "usage_digest",
    "currency",
    "tenants",
    "total",
    "created_at",
];

#[derive(Row, Deserialize)]
struct RunRow {
    run_id: String,
}

#[derive(Row, Deserialize)]
struct Sums {
    stored: u64,
    total_text: String,
}

/// Stores the run, if it is not the month's newest already; whether it wrote.
pub(super) async fn write(store: &Store, run: &Run, rows: &[Allocation], now: DateTime<Utc>) -> Result<bool> {
    let runs: Vec<RunRow> = store
        .client()
        .query(
            "SELECT run_id FROM allocation_runs WHERE period = {period:String} ORDER BY created_at, run_id",
        )
        .param("period", &run.period)
        .fetch_all()
        .await
        .map_err(|source| failed(store, source))?;
    if runs.last().is_some_and(|newest| newest.run_id == run.run_id) {
        return Ok(false);
    }
    let is_known = runs.iter().any(|known| known.run_id == run.run_id);
    if !is_known {
        write_rows(store, run, rows).await?;
    }
    check(store, run, rows).await?;
    let row = NewRun {
        run_id: &run.run_id,
        period: &run.period,
        zone: &run.zone,
        costs_digest: &run.costs_digest,
        usage_digest: &run.usage_digest,
        currency: run.currency.code(),
        tenants: run.tenants,
        total: run.total,
        created_at: instant(now),
    };
    // Claims the place after the runs that were seen: of two at once, one is the newest.
    let token = format!("allocation_run:{}:{}", run.period, runs.len());
    insert(store, "storing the allocation", "allocation_runs", RUN_COLUMNS, &[row], &token).await?;
    Ok(true)
}

async fn write_rows(store: &Store, run: &Run, rows: &[Allocation]) -> Result<()> {
    for (index, block) in rows.chunks(BLOCK_ROWS).enumerate() {
        let mut new = Vec::with_capacity(block.len());
        for row in block {
            new.push(NewAllocation {
                run_id: &run.run_id,
                period: &run.period,
                pool: &row.pool,
                tenant: &row.tenant,
                driver_units: row.driver_units,
                direct: super::nanos(row.direct)?,
                idle_share: super::nanos(row.idle_share)?,
                total: super::nanos(row.total())?,
                currency: run.currency.code(),
            });
        }
        let token = format!("allocations:{}:{index}", run.run_id);
        insert(store, "storing the allocation", "allocations", COLUMNS, &new, &token).await?;
    }
    Ok(())
}

/// What is stored is what was computed, to the last nano-unit.
async fn check(store: &Store, run: &Run, rows: &[Allocation]) -> Result<()> {
    let sums: Sums = store
        .client()
        .query(
            "SELECT count() AS stored, toString(sum(total)) AS total_text FROM allocations \
             WHERE period = {period:String} AND run_id = {run_id:String}",
        )
        .param("period", &run.period)
        .param("run_id", &run.run_id)
        .fetch_one()
        .await
        .map_err(|source| failed(store, source))?;
    if sums.stored == rows.len() as u64 && sums.total_text.parse() == Ok(run.total) {
        return Ok(());
    }
    Err(BillingError::Check {
        check: "Σ tenants + idle + unallocated = what was spent",
        period: run.period.clone(),
        detail: format!(
            "{} rows with {} in all are stored under {}, {} rows with {} were computed",
            sums.stored,
            sums.total_text,
            run.run_id,
            rows.len(),
            run.total
        ),
    })
}

fn failed(store: &Store, source: clickhouse::error::Error) -> BillingError {
    BillingError::Store { what: "reading allocations", source: store.error(source) }
}
