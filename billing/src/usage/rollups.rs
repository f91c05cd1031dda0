//! What the rollups say of a period.

use std::collections::BTreeMap;

use chrono::Timelike;
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::meter::{FromRollup, Meters};
use rentroll_schemas::period::Period;
use serde::Deserialize;

use super::read::{finish, length_micros, quantity};
use super::versions::Versions;
use crate::error::{BillingError, Result};
use crate::rating::MeterUsage;

#[derive(Row, Deserialize)]
struct Line {
    tenant: String,
    counted: i64,
    quantity: String,
}

/// (meter, tenant) → events, and the least or the greatest value or else the sum of values: of every meter but those whose
/// versions make no one quantity. Hours are enough where the zone's midnights fall on UTC hours.
pub(super) async fn read(
    store: &Store,
    meters: &Meters,
    period: &Period,
) -> Result<BTreeMap<(String, String), MeterUsage>> {
    let mut rollups = BTreeMap::new();
    for meter in meters.newest() {
        // One without a version in this time should have nothing.
        let column = match Versions::of(meters, &meter.name, period.from, period.to) {
            Err(_) => continue,
            Ok(versions) => {
                versions.and_then(|versions| versions.newest().aggregation.from_rollup().column())
            }
        };
        for (tenant, used) in of_meter(store, &meter.name, column, period).await? {
            rollups.insert((meter.name.clone(), tenant), used);
        }
    }
    Ok(rollups)
}

/// Usage by tenant, of a meter that the rollups answer for; `None` for one that raw events alone do.
pub(super) async fn answer(
    store: &Store,
    versions: &Versions<'_>,
    period: &Period,
) -> Result<Option<Vec<(String, MeterUsage)>>> {
    let meter = versions.newest();
    let source = meter.aggregation.from_rollup();
    if source == FromRollup::Nothing {
        return Ok(None);
    }
    let mut tenants = of_meter(store, &meter.name, source.column(), period).await?;
    for (_, used) in &mut tenants {
        *used = finish(meter, *used, length_micros(versions))?;
    }
    Ok(Some(tenants))
}

async fn of_meter(
    store: &Store,
    name: &str,
    column: Option<(&str, &str)>,
    period: &Period,
) -> Result<Vec<(String, MeterUsage)>> {
    let failed =
        |source| BillingError::Store { what: "reading usage from rollups", source: store.error(source) };
    let on_the_hour = period.from.minute() == 0 && period.to.minute() == 0;
    let table = if on_the_hour { "usage_hour" } else { "usage_minute" };
    let (function, column) = column.unwrap_or(("sum", "total"));
    let sql = format!(
        "SELECT tenant, sum(events) AS counted, toString({function}({column})) AS quantity FROM {table} \
         WHERE meter = {{meter:String}} AND bucket >= toDateTime({{from:Int64}}, 'UTC') \
         AND bucket < toDateTime({{to:Int64}}, 'UTC') GROUP BY tenant HAVING counted != 0"
    );
    let mut cursor = store
        .client()
        .query(&sql)
        .param("meter", name)
        .param("from", period.from.timestamp())
        .param("to", period.to.timestamp())
        .fetch::<Line>()
        .map_err(failed)?;
    let mut tenants = Vec::new();
    while let Some(line) = cursor.next().await.map_err(failed)? {
        let events = u64::try_from(line.counted).map_err(|_| BillingError::Content {
            what: format!("the rollup of meter `{name}`, tenant `{}`", line.tenant),
            reason: format!("it counts {} events", line.counted),
        })?;
        let quantity = quantity(&line.tenant, &line.quantity)?;
        tenants.push((line.tenant, MeterUsage { events, quantity }));
    }
    Ok(tenants)
}
