//! Collect, aggregate, bill, allocate, and say at each step what came of it.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use rentroll_billing::overview::Overview;
use rentroll_billing::{AllocateOptions, RunOptions};
use rentroll_engines::store::Store;
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::costs::Costs;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::period::Period;

use crate::output::grouped;
use crate::services::{System, progress};

/// Collect, aggregate, bill, allocate; the newest month's tenants. `rows_expected` is how many events the store will
/// hold, where that is known: the progress shown is then that of the store.
pub(super) async fn run(
    system: &mut System,
    meters: &Meters,
    catalogue: &Catalogue,
    costs: &Costs,
    top: usize,
    rows_expected: Option<u64>,
) -> anyhow::Result<Option<Overview>> {
    let store = system.store.clone().context("no store")?;
    let progress = system.progress.clone();
    let shown = match rows_expected {
        Some(rows) => progress::Shown::of_rows(progress, store.clone(), rows),
        None => progress::Shown::start(progress),
    };
    system.drain().await?;
    eprintln!("collected   {}", shown.finish());
    say_totals(&store, meters).await?;
    let periods = periods(&store, catalogue).await?;
    for period in &periods {
        let now = Utc::now();
        let dry_run = now < period.to;
        let spinner = progress::spinner(format!("billing {period}"));
        let report =
            rentroll_billing::run(&store, catalogue, meters, period, RunOptions { dry_run, now }).await?;
        spinner.finish_and_clear();
        let outcome = serde_json::to_value(report.outcome)?;
        eprintln!(
            "billed      {period}: {} invoices, {} {}, {} ({} new)",
            report.invoices,
            grouped(&report.total.to_string()),
            report.currency.code(),
            outcome.as_str().unwrap_or_default().replace('_', " "),
            report.newly_issued
        );
        let (costs, is_example) = costs_of(costs, period);
        let options = AllocateOptions { dry_run: false, now };
        let spinner = progress::spinner(format!("splitting the costs of {period}"));
        let report = rentroll_billing::allocate(&store, &costs, meters, period, options).await?;
        spinner.finish_and_clear();
        eprintln!(
            "allocated   {period}: {} {} over {} tenants, {} idle, {} unallocated{}",
            grouped(&report.total.to_string()),
            report.currency.code(),
            report.tenants,
            report.idle,
            report.unallocated,
            if is_example { " (the example's pools, as an illustration)" } else { "" }
        );
    }
    match periods.last() {
        Some(newest) => Ok(Some(rentroll_billing::overview(&store, meters, newest, top).await?)),
        None => Ok(None),
    }
}

/// Everything that is stored, over all months: what a line count of the log can be held against.
async fn say_totals(store: &Store, meters: &Meters) -> anyhow::Result<()> {
    let (events, tenants, rejects): (u64, u64, u64) = store
        .client()
        .query("SELECT count(), uniqExact(tenant), assumeNotNull((SELECT count() FROM rejects FINAL)) FROM events")
        .fetch_one()
        .await
        .map_err(|error| store.error(error))?;
    let mut said =
        format!("{} events of {} tenants", grouped(&events.to_string()), grouped(&tenants.to_string()));
    for meter in &meters.meters {
        let sql = format!(
            "SELECT toString({}) FROM usage_day WHERE meter = {{meter:String}}",
            meter.rollup_aggregate_sql().unwrap_or("sum(total)")
        );
        let total: String = store
            .client()
            .query(&sql)
            .param("meter", &meter.name)
            .fetch_one()
            .await
            .map_err(|error| store.error(error))?;
        said.push_str(&format!(", {} {}", meter.name, grouped(&total)));
    }
    if rejects > 0 {
        said.push_str(&format!(
            "; {} rejected lines are kept (`rejects list`)",
            grouped(&rejects.to_string())
        ));
    }
    eprintln!("stored      {said}");
    Ok(())
}

/// The months that have usage, oldest first.
async fn periods(store: &Store, catalogue: &Catalogue) -> anyhow::Result<Vec<Period>> {
    let zone = catalogue.time_zone;
    let months: Vec<u32> = store
        .client()
        .query("SELECT DISTINCT toUnixTimestamp(toStartOfHour(min(bucket))) FROM usage_hour GROUP BY toYYYYMM(bucket, {zone:String}) ORDER BY 1")
        .param("zone", zone.name())
        .fetch_all()
        .await
        .map_err(|error| store.error(error))?;
    Ok(months
        .into_iter()
        .filter_map(|seconds| Period::containing(DateTime::from_timestamp(i64::from(seconds), 0)?, zone))
        .collect())
}

/// The pools of `period`; where there are none, those of the example's month, so that another log has something
/// to split.
fn costs_of(costs: &Costs, period: &Period) -> (Costs, bool) {
    let month = period.to_string();
    if costs.pools.iter().any(|pool| pool.month == month) {
        return (costs.clone(), false);
    }
    let mut moved = costs.clone();
    let from = moved.pools.first().map(|pool| pool.month.clone()).unwrap_or_default();
    moved.pools.retain(|pool| pool.month == from);
    moved.unallocated.retain(|cost| cost.month == from);
    for pool in &mut moved.pools {
        pool.month.clone_from(&month);
    }
    for cost in &mut moved.unallocated {
        cost.month.clone_from(&month);
    }
    (moved, true)
}
