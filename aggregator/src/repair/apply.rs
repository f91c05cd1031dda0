//! Puts differences right: correcting rows for what adds up, deletion and insertion for what does not.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rentroll_engines::store::{Store, StoreError};
use rentroll_schemas::Quantity;
use serde::Serialize;

use super::check::{Proof, Span};
use super::{Cell, Difference, RepairError, Table, dirty, sql};
use crate::meters::backfill;

/// Cells in one deletion: the statement is some hundred bytes for each.
const DELETIONS_MAX: usize = 500;

const ROLLUP_COLUMNS: [&str; 8] =
    ["meters", "tenant", "bucket", "dimensions", "events", "total_1", "least_value", "greatest_value"];
const REPAIR_COLUMNS: [&str; 15] = [
    "repaired_at",
    "table",
    "bucket",
    "meter",
    "tenant",
    "dimensions",
    "why",
    "found_events",
    "found_total",
    "found_least",
    "found_greatest",
    "expected_events",
    "expected_total",
    "expected_least",
    "expected_greatest",
];
const CHECK_COLUMNS: [&str; 5] = ["starts_at", "ends_at", "checked_at", "why", "differences"];

#[derive(Serialize)]
struct RollupRow<'a> {
    meters: String,
    tenant: &'a str,
    bucket: i64,
    dimensions: &'a str,
    events: i64,
    total_1: String,
    least_value: String,
    greatest_value: String,
}

#[derive(Serialize)]
struct RepairRow<'a> {
    repaired_at: String,
    table: &'a str,
    bucket: i64,
    meter: &'a str,
    tenant: &'a str,
    dimensions: &'a str,
    why: &'a str,
    found_events: i64,
    found_total: String,
    found_least: String,
    found_greatest: String,
    expected_events: i64,
    expected_total: String,
    expected_least: String,
    expected_greatest: String,
}

#[derive(Serialize)]
struct CheckRow<'a> {
    starts_at: i64,
    ends_at: i64,
    checked_at: String,
    why: &'a str,
    differences: u64,
}

/// How often each hour (of days, each day) of the span was repaired so far: part of the token, since a cell may come to
/// be wrong in the same way again (a void that was voided, and voided once more), and is then to be put right again.
pub(super) async fn salts(
    store: &Store,
    table: Table,
    span: Span,
) -> Result<BTreeMap<Span, u64>, RepairError> {
    let sql = "SELECT toUnixTimestamp(bucket) AS bucket, count() FROM repairs WHERE table = {table:String} \
               AND bucket >= toDateTime({from:Int64}, 'UTC') AND bucket < toDateTime({to:Int64}, 'UTC') GROUP BY bucket";
    let query = store.client().query(sql).param("table", table.name());
    let query = query.param("from", span.from.timestamp()).param("to", span.to.timestamp());
    let buckets: Vec<(u32, u64)> = query.fetch_all().await.map_err(|error| store.error(error))?;
    // A back-fill writes down no repairs, but its checks.
    let sql = "SELECT toUnixTimestamp(starts_at) AS starts_at, toUnixTimestamp(ends_at) AS ends_at, count() FROM rollup_checks \
               WHERE why = {why:String} AND differences > 0 AND starts_at < toDateTime({to:Int64}, 'UTC') \
               AND ends_at > toDateTime({from:Int64}, 'UTC') GROUP BY starts_at, ends_at";
    let query = store.client().query(sql).param("why", backfill::WHY);
    let query = query.param("from", span.from.timestamp()).param("to", span.to.timestamp());
    let checks: Vec<(u32, u32, u64)> = query.fetch_all().await.map_err(|error| store.error(error))?;
    let mut salts: BTreeMap<Span, u64> = BTreeMap::new();
    for (from, to, checks) in checks {
        let step = match table {
            Table::Minute | Table::Hour => 3_600,
            Table::Day => 86_400,
        };
        for bucket in (from..to).step_by(step) {
            let bucket = DateTime::from_timestamp(i64::from(bucket), 0).unwrap_or_default();
            *salts.entry(unit(table, bucket)).or_default() += checks;
        }
    }
    for (bucket, repairs) in buckets {
        let bucket = DateTime::from_timestamp(i64::from(bucket), 0).unwrap_or_default();
        *salts.entry(unit(table, bucket)).or_default() += repairs;
    }
    Ok(salts)
}

/// What is put right under one token, whoever does it and however much he checks at once.
fn unit(table: Table, bucket: DateTime<Utc>) -> Span {
    match table {
        Table::Minute | Table::Hour => Span::hour_of(bucket),
        Table::Day => Span::day_of(bucket),
    }
}

/// Differences of one hour, or of one day.
type Unit<'a> = (Span, Vec<&'a Difference>);

/// Puts `differences` right, hour by hour. Broken off anywhere it leaves marks, by which the hours are checked again.
pub(super) async fn apply(
    proof: &Proof<'_>,
    table: Table,
    differences: &[Difference],
    salts: &BTreeMap<Span, u64>,
) -> Result<(), RepairError> {
    let mut units: BTreeMap<Span, Vec<&Difference>> = BTreeMap::new();
    for one in differences {
        units.entry(unit(table, one.bucket)).or_default().push(one);
    }
    // A deletion costs the same for one cell as for hundreds, and between it and the insertion its cells are gone:
    // as many hours together as make one.
    let mut together: Vec<Unit<'_>> = Vec::new();
    let mut replaced = 0;
    for (span, differences) in units {
        let more = differences.iter().filter(|one| one.replaces).count();
        if replaced + more > DELETIONS_MAX {
            apply_units(proof, table, &std::mem::take(&mut together), salts).await?;
            replaced = 0;
        }
        replaced += more;
        together.push((span, differences));
    }
    apply_units(proof, table, &together, salts).await
}

async fn apply_units(
    proof: &Proof<'_>,
    table: Table,
    units: &[Unit<'_>],
    salts: &BTreeMap<Span, u64>,
) -> Result<(), RepairError> {
    let store = proof.store;
    let replaced: Vec<&Difference> =
        units.iter().flat_map(|(_, differences)| differences).copied().filter(|one| one.replaces).collect();
    if !replaced.is_empty() {
        // Between deletion and insertion the cells are gone.
        let hours = replaced.iter().map(|one| one.bucket);
        dirty::mark(store, hours, "repair").await?;
        for some in replaced.chunks(DELETIONS_MAX) {
            delete(store, table, some).await?;
        }
    }
    for (span, differences) in units {
        let salt = salts.get(span).copied().unwrap_or_default();
        insert_unit(proof, table, *span, differences, salt).await?;
    }
    Ok(())
}

/// Inserts what makes the cells what they should be, and writes down what they were.
async fn insert_unit(
    proof: &Proof<'_>,
    table: Table,
    span: Span,
    differences: &[&Difference],
    salt: u64,
) -> Result<(), RepairError> {
    let store = proof.store;
    let extremes = sql::extremes(proof.meters);
    let rows: Vec<RollupRow<'_>> = differences
        .iter()
        .filter_map(|one| correction(one, extremes.contains(&one.meter.as_str())).transpose())
        .collect::<Result<_, _>>()?;
    if !rows.is_empty() {
        let token = token(table, span, differences, salt);
        insert(store, table.rows(), &ROLLUP_COLUMNS, &rows, Some(&token)).await?;
    }
    if proof.why == backfill::WHY {
        tracing::debug!(table = table.name(), from = %span.from, cells = differences.len(), "counted by new meters");
        return Ok(());
    }
    let repaired_at = instant(Utc::now());
    let rows: Vec<RepairRow<'_>> =
        differences.iter().map(|one| repair_row(one, proof.why, &repaired_at)).collect();
    insert(store, "repairs", &REPAIR_COLUMNS, &rows, None).await?;
    tracing::warn!(
        table = table.name(),
        from = %span.from,
        cells = differences.len(),
        why = proof.why,
        "rollups differed from what they are made of, and were put right"
    );
    Ok(())
}

/// Writes down that the span was checked.
pub(super) async fn note_check(proof: &Proof<'_>, span: Span, differences: u64) -> Result<(), RepairError> {
    let row = CheckRow {
        starts_at: span.from.timestamp(),
        ends_at: span.to.timestamp(),
        checked_at: instant(Utc::now()),
        why: proof.why,
        differences,
    };
    Ok(insert(proof.store, "rollup_checks", &CHECK_COLUMNS, &[row], None).await?)
}

/// The row that makes the cell what it should be, if it takes one.
fn correction(one: &Difference, keeps_extremes: bool) -> Result<Option<RollupRow<'_>>, RepairError> {
    let Difference { meter, tenant, bucket, dimensions, found, expected, replaces, .. } = one;
    let before = if *replaces { Cell::default() } else { *found };
    if *replaces && expected.events == 0 && expected.total == Quantity::ZERO {
        return Ok(None);
    }
    let too_large =
        || RepairError::TooLarge { table: one.table.name(), meter: meter.clone(), tenant: tenant.clone() };
    let total = expected.total.checked_sub(before.total).ok_or_else(too_large)?;
    // A row's extremes are merged with those that are there: the right ones change nothing for the worse.
    let extremes = match (keeps_extremes, expected.events) {
        (false, _) => &Cell::default(),
        (true, 0) => found,
        (true, _) => expected,
    };
    Ok(Some(RollupRow {
        meters: format!("{meter}\0"),
        tenant,
        bucket: bucket.timestamp(),
        dimensions,
        events: expected.events - before.events,
        total_1: total.to_string(),
        least_value: extremes.least.to_string(),
        greatest_value: extremes.greatest.to_string(),
    }))
}

fn repair_row<'a>(one: &'a Difference, why: &'a str, repaired_at: &str) -> RepairRow<'a> {
    let Difference { found, expected, .. } = one;
    RepairRow {
        repaired_at: repaired_at.to_owned(),
        table: one.table.name(),
        bucket: one.bucket.timestamp(),
        meter: &one.meter,
        tenant: &one.tenant,
        dimensions: &one.dimensions,
        why,
        found_events: found.events,
        found_total: found.total.to_string(),
        found_least: found.least.to_string(),
        found_greatest: found.greatest.to_string(),
        expected_events: expected.events,
        expected_total: expected.total.to_string(),
        expected_least: expected.least.to_string(),
        expected_greatest: expected.greatest.to_string(),
    }
}

/// Made of what was found: two that repair the same thing have the same token, and one wins.
fn token(table: Table, span: Span, differences: &[&Difference], salt: u64) -> String {
    let mut hasher = blake3::Hasher::new();
    for one in differences {
        for text in [&one.meter, &one.tenant, &one.dimensions] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        let Cell { events, total, least, greatest } = one.found;
        let values = format!("{} {events} {total} {least} {greatest}", one.bucket.timestamp());
        hasher.update(&(values.len() as u64).to_le_bytes());
        hasher.update(values.as_bytes());
    }
    let (from, to) = (span.from.timestamp(), span.to.timestamp());
    format!("repair:{}:{from}:{to}:{salt}:{}", table.name(), hasher.finalize().to_hex())
}

/// In one statement whatever the meters: each rewrites what is left of every part, and its waiting for that is most of a
/// repair.
async fn delete(store: &Store, table: Table, cells: &[&Difference]) -> Result<(), RepairError> {
    let mut by_meter: BTreeMap<&str, Vec<(&str, i64, &str)>> = BTreeMap::new();
    for cell in cells {
        let key = (cell.tenant.as_str(), cell.bucket.timestamp(), cell.dimensions.as_str());
        by_meter.entry(&cell.meter).or_default().push(key);
    }
    let of_meter = |n: usize| {
        format!(
            "has(splitByChar('\\0', toString(meters)), {{meter_{n}:String}}) AND tenant IN {{tenants_{n}:Array(String)}} AND \
             has(arrayZip({{tenants_{n}:Array(String)}}, {{buckets_{n}:Array(UInt32)}}, {{dimensions_{n}:Array(String)}}), \
             (tenant, toUnixTimestamp(bucket), dimensions))"
        )
    };
    let any: Vec<String> = (0..by_meter.len()).map(|n| format!("({})", of_meter(n))).collect();
    let sql = format!("DELETE FROM {} WHERE {}", table.rows(), any.join(" OR "));
    let mut query = store.client().query(&sql).with_setting("lightweight_deletes_sync", "2");
    for (n, (meter, keys)) in by_meter.into_iter().enumerate() {
        let tenants: Vec<&str> = keys.iter().map(|key| key.0).collect();
        let buckets: Vec<u32> = keys.iter().map(|key| key.1.clamp(0, i64::from(u32::MAX)) as u32).collect();
        let dimensions: Vec<&str> = keys.iter().map(|key| key.2).collect();
        query = query.param(&format!("meter_{n}"), meter).param(&format!("tenants_{n}"), tenants);
        query = query.param(&format!("buckets_{n}"), buckets);
        query = query.param(&format!("dimensions_{n}"), dimensions);
    }
    query.execute().await.map_err(|error| store.error(error))?;
    Ok(())
}

pub(super) async fn insert<T: Serialize>(
    store: &Store,
    table: &str,
    columns: &[&str],
    rows: &[T],
    token: Option<&str>,
) -> Result<(), StoreError> {
    let mut body = Vec::new();
    for row in rows {
        // Texts and numbers always serialise, and a Vec takes all of them.
        let _ = serde_json::to_writer(&mut body, row);
        body.push(b'\n');
    }
    store.insert(table, columns, "JSONEachRow", Bytes::from(body), token).await
}

pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}
