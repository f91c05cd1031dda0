//! The queries behind [`super`]. Everything that comes from outside is a bound parameter; meters are the
//! operator's own file, and [`Meter`] quotes them.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Timelike, Utc};
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::effective;
use rentroll_schemas::meter::{Meter, Meters};
use rentroll_schemas::period::Period;
use serde::Deserialize;

use crate::error::{BillingError, Result};
use crate::rating::MeterUsage;

/// One tenant's day, of one slice.
pub(super) struct RawRow {
    pub(super) tenant: String,
    pub(super) day: NaiveDate,
    pub(super) usage: MeterUsage,
}

#[derive(Row, Deserialize)]
struct RawLine {
    tenant: String,
    day_number: u16,
    counted: u64,
    quantity: String,
}

#[derive(Row, Deserialize)]
struct RollupLine {
    tenant: String,
    counted: i64,
    quantity: String,
}

/// The meter's events of a period that count: distinct by identity, without those that were voided or amended.
/// `scope` is a condition that an event shares with its corrections.
///
/// Parameters: `from`, `to` (microseconds since the epoch), and those of `further` and `scope`.
fn events_sql(meter: &Meter, columns: &str, further: &str, scope: &str) -> String {
    format!(
        "SELECT {columns}, identity_high, identity_low\nFROM events\nWHERE {of_meter}\n  AND {further}\n  \
         AND {IN_PERIOD}\n  AND {counts}\n{first_of_identity}",
        of_meter = condition(meter),
        counts = effective::condition_sql(scope),
        first_of_identity = effective::FIRST_OF_IDENTITY,
    )
}

const IN_PERIOD: &str =
    "time >= fromUnixTimestamp64Micro({from:Int64}) AND time < fromUnixTimestamp64Micro({to:Int64})";

/// A meter counts an event that carries its value; one without adds nothing and is no event of its.
fn condition(meter: &Meter) -> String {
    let mut condition = meter.raw_condition_sql();
    if meter.value.is_some() {
        condition.push_str(" AND mapContains(measures, {value:String})");
    }
    condition
}

/// A slice of the events: identities are hashes, so slices are even, and all copies of one are in one slice.
const OF_SLICE: &str = "identity_high % {slices:UInt64} = {slice:UInt64}";
/// The tenant is part of an identity: copies of one event are of one tenant.
const OF_TENANT: &str = "tenant = {tenant:String}";

/// Usage of one meter by tenant and day. Parameters: `from`, `to`, `slice`, `slices`, `zone`, `value`.
pub(super) fn raw_sql(meter: &Meter) -> String {
    format!(
        "SELECT tenant, toUInt16(toDate(time, {{zone:String}})) AS day_number, count() AS counted, \
         toString({aggregate}) AS quantity\nFROM (\n{events}\n)\nGROUP BY tenant, day_number\n\
         ORDER BY tenant, day_number",
        aggregate = meter.raw_aggregate_sql().unwrap_or_default(),
        events = events_sql(meter, "tenant, time, measures, dimensions", OF_SLICE, "1")
    )
}

/// Usage of one meter by one tenant. Parameters: `from`, `to`, `tenant`, `value`.
pub(crate) fn tenant_sql(meter: &Meter) -> String {
    format!(
        "SELECT count() AS counted, toString({aggregate}) AS quantity\nFROM (\n{events}\n)",
        aggregate = meter.raw_aggregate_sql().unwrap_or_default(),
        events = events_sql(meter, "measures, dimensions", OF_TENANT, OF_TENANT)
    )
}

/// The first events behind one tenant's line. Parameters: those of [`tenant_sql`], and `limit`.
pub(crate) fn first_events_sql(meter: &Meter) -> String {
    let value = if meter.value.is_some() { "toString(measures[{value:String}])" } else { "'1'" };
    format!(
        "SELECT lower(hex(identity)) AS identity_hex, toString(time, 'UTC') AS happened_at, id, source, \
         {value} AS quantity\nFROM (\n{events}\n)\nORDER BY time, identity\nLIMIT {{limit:UInt64}}",
        events = events_sql(meter, "time, id, source, measures, identity", OF_TENANT, OF_TENANT)
    )
}

/// One tenant's events that would count, were they not corrected, each with a correction in force. Parameters: those
/// of [`first_events_sql`].
pub(crate) fn corrected_sql(meter: &Meter) -> String {
    let value = if meter.value.is_some() { "toString(measures[{value:String}])" } else { "'1'" };
    format!(
        "SELECT original.id AS id, toString(original.source) AS source, toString(original.time, 'UTC') AS happened_at, \
         original.quantity AS quantity, toString(by.correction) AS correction, by.id AS by_id\nFROM (\n\
         SELECT id, source, time, {value} AS quantity, identity\nFROM events\nWHERE {of_meter}\n  AND {OF_TENANT}\n  \
         AND {IN_PERIOD} AND correction != 'voids'\n{first_of_identity}\n) AS original\nINNER JOIN (\n{in_force}\n) AS by \
         ON original.identity = by.corrects\nORDER BY happened_at, id, by_id\nLIMIT {{limit:UInt64}}",
        of_meter = condition(meter),
        first_of_identity = effective::FIRST_OF_IDENTITY,
        in_force = effective::in_force_sql("corrects, correction, id", OF_TENANT),
    )
}

pub(super) async fn count_events(store: &Store, period: &Period) -> Result<u64> {
    store
        .client()
        .query(
            "SELECT count() FROM events \
             WHERE time >= fromUnixTimestamp64Micro({from:Int64}) AND time < fromUnixTimestamp64Micro({to:Int64})",
        )
        .param("from", micros(period.from))
        .param("to", micros(period.to))
        .fetch_one()
        .await
        .map_err(|source| failed(store, "counting the period's events", source))
}

pub(super) async fn raw(
    store: &Store,
    meter: &Meter,
    period: &Period,
    slice: u64,
    slices: u64,
) -> Result<Vec<RawRow>> {
    let what = "reading usage from raw events";
    let mut cursor = store
        .client()
        .query(&raw_sql(meter))
        .param("from", micros(period.from))
        .param("to", micros(period.to))
        .param("slice", slice)
        .param("slices", slices)
        .param("zone", period.zone.name())
        .param("value", meter.value.as_deref().unwrap_or_default())
        .fetch::<RawLine>()
        .map_err(|source| failed(store, what, source))?;
    let mut rows = Vec::new();
    while let Some(line) = cursor.next().await.map_err(|source| failed(store, what, source))? {
        let day = NaiveDate::from_epoch_days(i32::from(line.day_number)).unwrap_or_default();
        let usage = MeterUsage { events: line.counted, quantity: quantity(&line.tenant, &line.quantity)? };
        rows.push(RawRow { tenant: line.tenant, day, usage });
    }
    Ok(rows)
}

/// (meter, tenant) → usage by the rollups. Hours are enough where the zone's midnights fall on UTC hours.
pub(crate) async fn rollups(
    store: &Store,
    meters: &Meters,
    period: &Period,
) -> Result<BTreeMap<(String, String), MeterUsage>> {
    let what = "reading usage from rollups";
    let on_the_hour = period.from.minute() == 0 && period.to.minute() == 0;
    let table = if on_the_hour { "usage_hour" } else { "usage_minute" };
    let mut rollups = BTreeMap::new();
    for meter in &meters.meters {
        let sql = format!(
            "SELECT tenant, sum(events) AS counted, toString({aggregate}) AS quantity FROM {table} \
             WHERE meter = {{meter:String}} AND bucket >= toDateTime({{from:Int64}}, 'UTC') \
             AND bucket < toDateTime({{to:Int64}}, 'UTC') GROUP BY tenant HAVING counted != 0",
            aggregate = meter.rollup_aggregate_sql().unwrap_or("sum(total)")
        );
        let mut cursor = store
            .client()
            .query(&sql)
            .param("meter", &meter.name)
            .param("from", period.from.timestamp())
            .param("to", period.to.timestamp())
            .fetch::<RollupLine>()
            .map_err(|source| failed(store, what, source))?;
        while let Some(line) = cursor.next().await.map_err(|source| failed(store, what, source))? {
            let events = u64::try_from(line.counted).map_err(|_| BillingError::Content {
                what: format!("the rollup of meter `{}`, tenant `{}`", meter.name, line.tenant),
                reason: format!("it counts {} events", line.counted),
            })?;
            let usage = MeterUsage { events, quantity: quantity(&line.tenant, &line.quantity)? };
            rollups.insert((meter.name.clone(), line.tenant), usage);
        }
    }
    Ok(rollups)
}

fn quantity(tenant: &str, text: &str) -> Result<rentroll_schemas::Quantity> {
    text.parse().map_err(|error| BillingError::Content {
        what: format!("the usage of tenant `{tenant}`"),
        reason: format!("{error}"),
    })
}

pub(crate) fn micros(instant: DateTime<Utc>) -> i64 {
    instant.timestamp_micros()
}

fn failed(store: &Store, what: &'static str, source: clickhouse::error::Error) -> BillingError {
    BillingError::Store { what, source: store.error(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rentroll_schemas::meter::Aggregation;

    fn meter() -> Meter {
        Meter {
            name: "bytes".to_owned(),
            description: String::new(),
            unit: "byte".to_owned(),
            event_type: "http.request".to_owned(),
            aggregation: Aggregation::Sum,
            value: Some("bytes".to_owned()),
            filter: BTreeMap::new(),
            group_by: Vec::new(),
            ..Meter::default()
        }
    }

    fn placeholders(sql: &str) -> Vec<&str> {
        let mut names: Vec<&str> =
            sql.split('{').skip(1).filter_map(|rest| rest.split_once(':').map(|(name, _)| name)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    #[test]
    fn placeholders_and_arguments_agree() {
        assert_eq!(placeholders(&raw_sql(&meter())), ["from", "slice", "slices", "to", "value", "zone"]);
        assert_eq!(placeholders(&tenant_sql(&meter())), ["from", "tenant", "to", "value"]);
        assert_eq!(placeholders(&first_events_sql(&meter())), ["from", "limit", "tenant", "to", "value"]);
        assert_eq!(placeholders(&corrected_sql(&meter())), ["from", "limit", "tenant", "to", "value"]);
    }
}
