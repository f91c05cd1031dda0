//! What is stored against what was sent, to the nano-unit and per tenant; and how large it is.

use std::collections::HashMap;
use std::path::PathBuf;

use rentroll_engines::store::{Store, StoreConfig};
use rentroll_schemas::Quantity;
use serde::{Deserialize, Serialize};

use crate::verbs::bench::events::{self, MEASURES, Shape};

/// What the checking process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct CheckSpec {
    pub(super) folder: PathBuf,
    pub(super) shape: Shape,
}

/// The statements that give a measure's sums per tenant: from raw rows, and from each rollup.
pub(super) struct Totals {
    pub(super) measure: &'static str,
    pub(super) raw: String,
    pub(super) rollups: Vec<(&'static str, String)>,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct Check {
    /// Each difference, in words; none if all adds up.
    pub(super) differences: Vec<String>,
    /// Of each table, as it was written, and after a merge of everything.
    pub(super) sizes: Vec<Size>,
}

/// A table's size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Size {
    pub(super) table: String,
    pub(super) rows: [u64; 2],
    pub(super) bytes: [u64; 2],
    /// After the merge, per column, the largest first; projections and indices are what is missing to `bytes`.
    pub(super) columns: Vec<(String, u64)>,
}

/// The checking process, for our own tables.
pub(in crate::verbs::bench) async fn part_main(spec: CheckSpec) -> anyhow::Result<Check> {
    let store = Store::open(&StoreConfig::embedded(&spec.folder)).await?;
    let meters = events::meters();
    let mut totals = Vec::new();
    for (meter, measure) in meters.meters.iter().zip(MEASURES) {
        let (aggregate, condition) =
            (meter.raw_aggregate_sql().unwrap_or_default(), meter.raw_condition_sql());
        let raw =
            format!("SELECT tenant, toString({aggregate}) FROM events WHERE {condition} GROUP BY tenant");
        let aggregate = meter.rollup_aggregate_sql().unwrap_or("sum(total)");
        let rollup = |(table, view): (&'static str, &str)| {
            let sql = format!(
                "SELECT tenant, toString({aggregate}) FROM {view} WHERE meter = '{measure}' GROUP BY tenant"
            );
            (table, sql)
        };
        totals.push(Totals {
            measure,
            raw,
            rollups: [
                ("rollup_minute", "usage_minute"),
                ("rollup_hour", "usage_hour"),
                ("rollup_day", "usage_day"),
            ]
            .map(rollup)
            .into(),
        });
    }
    let check = check(&store, &spec.shape, "events", &totals).await?;
    store.close().await;
    Ok(check)
}

/// Runs every statement, measures the tables, merges, measures again.
pub(super) async fn check(
    store: &Store,
    shape: &Shape,
    raw: &str,
    totals: &[Totals],
) -> anyhow::Result<Check> {
    let mut differences = Vec::new();
    let count: u64 = store.client().query(&format!("SELECT count() FROM {raw}")).fetch_one().await?;
    if count != shape.events {
        differences.push(format!("{raw}: {count} rows, {} events were sent", shape.events));
    }
    let sent = events::sums(shape);
    for (index, total) in totals.iter().enumerate() {
        let raw = [(raw, &total.raw)];
        let rollups = total.rollups.iter().map(|(table, sql)| (*table, sql));
        for (table, sql) in raw.into_iter().chain(rollups) {
            let found = sums(store, sql).await?;
            let wrong = sent.iter().enumerate().find(|(rank, sums)| {
                let stored = found.get(&events::tenant_name(*rank as u32)).copied().unwrap_or_default();
                stored != sums[index]
            });
            if let Some((rank, sums)) = wrong {
                let tenant = events::tenant_name(rank as u32);
                let stored = found.get(&tenant).copied().unwrap_or_default();
                differences.push(format!(
                    "{table}: {} of {tenant} is {stored}, sent {}",
                    total.measure, sums[index]
                ));
            }
        }
    }
    let mut tables = vec![raw];
    tables.extend(totals.iter().flat_map(|total| total.rollups.iter().map(|(table, _)| *table)));
    tables.sort_unstable();
    tables.dedup();
    let mut sizes = Vec::new();
    for table in tables {
        let before = size(store, table).await?;
        let merge = format!("OPTIMIZE TABLE {table} FINAL");
        store.client().query(&merge).execute().await?;
        let after = size(store, table).await?;
        let columns = store
            .client()
            .query("SELECT column, sum(column_data_compressed_bytes) AS bytes FROM system.parts_columns \
                    WHERE database = currentDatabase() AND table = {table:String} AND active GROUP BY column ORDER BY bytes DESC")
            .param("table", table)
            .fetch_all::<(String, u64)>()
            .await?;
        sizes.push(Size {
            table: table.to_owned(),
            rows: [before.0, after.0],
            bytes: [before.1, after.1],
            columns,
        });
    }
    Ok(Check { differences, sizes })
}

async fn sums(store: &Store, sql: &str) -> anyhow::Result<HashMap<String, Quantity>> {
    let rows: Vec<(String, String)> = store.client().query(sql).fetch_all().await?;
    rows.into_iter().map(|(tenant, sum)| Ok((tenant, sum.parse()?))).collect()
}

/// Rows and bytes on disk, with everything that lives in the parts.
async fn size(store: &Store, table: &str) -> anyhow::Result<(u64, u64)> {
    let sql = "SELECT sum(rows), sum(bytes_on_disk) FROM system.parts \
               WHERE database = currentDatabase() AND table = {table:String} AND active";
    Ok(store.client().query(sql).param("table", table).fetch_one().await?)
}
