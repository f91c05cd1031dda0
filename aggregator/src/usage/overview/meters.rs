//! Whether meters are alive, from the rollups.

use std::collections::{BTreeMap, HashMap};

use clickhouse::Row;
use rentroll_schemas::meter::Meter;
use serde::Deserialize;

use super::{MeterState, Span};
use crate::usage::ask::{Ask, Params};
use crate::usage::cover::{Part, cover};
use crate::usage::plan::{instant, span};
use crate::usage::rows::{stretches_sql, table};
use crate::usage::{Scoped, UsageError};

#[derive(Row, Deserialize)]
struct Alive {
    meter: String,
    events: i64,
    tenants: u64,
    first: i64,
    last: i64,
}

impl Scoped {
    /// The meters that may be seen, in the order of their names, and what they counted in the span.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn meter_states(&self, asked: Span) -> Result<Vec<MeterState>, UsageError> {
        let (from, to) = span(asked.from, asked.to)?;
        let ask = self.ask("ask for a shorter span");
        let (alive, without) = tokio::try_join!(ask.alive(from, to), ask.without_value_by_meter(from, to))?;
        let meters = self.usage.meters.now();
        let visible: BTreeMap<&str, &Meter> = meters
            .newest()
            .filter(|meter| self.scope.shows_meter(&meter.name))
            .map(|meter| (meter.name.as_str(), meter))
            .collect();
        let state = |meter: &Meter| {
            let alive = alive.get(&meter.name);
            MeterState {
                meter: meter.name.clone(),
                version: meter.version,
                aggregation: meter.aggregation,
                unit: meter.unit.clone(),
                event_type: meter.event_type.clone(),
                events: alive.map_or(0, |alive| u64::try_from(alive.events).unwrap_or_default()),
                tenants: alive.map_or(0, |alive| alive.tenants),
                first: alive.map(|alive| instant(alive.first)),
                last: alive.map(|alive| instant(alive.last)),
                without_value: without.get(&meter.name).copied().unwrap_or_default(),
            }
        };
        Ok(visible.into_values().map(state).collect())
    }
}

impl Ask<'_> {
    async fn alive(&self, from: i64, to: i64) -> Result<HashMap<String, Alive>, UsageError> {
        let mut params = Params::default();
        let rows = |part: &Part| {
            format!(
                "SELECT meters, tenant, toInt64(toUnixTimestamp(bucket)) AS at, toInt64(events) AS n FROM {} WHERE {}",
                self.scope().table(table(part.source)),
                stretches_sql(&part.stretches, &mut params)
            )
        };
        // A span has whole minutes, which the rollups cover.
        let parts = cover(&[from, to]).unwrap_or_default();
        let rows: Vec<String> = parts.iter().map(rows).collect();
        let sql = format!(
            "SELECT arrayJoin(arrayPopBack(splitByChar('\\0', meters))) AS meter, sumIf(counted, of_tenants) AS events, \
             toUInt64(uniqExactIf(tenant, of_tenants)) AS tenants, minIf(at, NOT of_tenants) AS first, \
             maxIf(at, NOT of_tenants) AS last FROM (\
             SELECT meters, tenant, at, grouping(tenant) = 0 AS of_tenants, sum(n) AS counted FROM ({}) \
             GROUP BY GROUPING SETS ((meters, tenant), (meters, at)) HAVING counted != 0) GROUP BY meter",
            rows.join(" UNION ALL ")
        );
        let alive: Vec<Alive> = self.fetch(&sql, &params).await?;
        Ok(alive.into_iter().map(|alive| (alive.meter.clone(), alive)).collect())
    }
}
