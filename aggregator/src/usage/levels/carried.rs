//! The last level of each series before a span, found without a look at all of history.
//!
//! The rollups know the minute in which the last sample of each series lies: it is in the last day with samples, in the last hour of
//! that. If it is the only sample of its minute, its value is there as well; of several, the events say which was the last.

use std::collections::HashMap;

use chrono::{Months, Utc};
use clickhouse::Row;
use rentroll_schemas::effective;
use rentroll_schemas::meter::{LATEST_ORDER, Meter};
use rentroll_schemas::retention::EVENTS_KEPT_MONTHS;
use serde::Deserialize;

use super::{ORDER, filters_sql};
use crate::usage::ask::{Ask, Params};
use crate::usage::cover::Part;
use crate::usage::lists::Lists;
use crate::usage::plan::Plan;
use crate::usage::rows::{RowValue, Rows};
use crate::usage::scope::Table;
use crate::usage::{Source, UsageError, raw};

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;
/// Series whose events are looked up at once: their names are in the statement.
const AT_ONCE: usize = 5_000;

/// Levels that are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Series {
    pub(super) tenant: String,
    /// The dimensions, as canonical JSON.
    pub(super) key: String,
}

/// The last level before a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    /// The minute of its sample, in seconds.
    pub(super) minute: i64,
    /// In 10⁻⁹.
    pub(super) nanos: i128,
}

#[derive(Row, Deserialize)]
struct Last {
    tenant: String,
    dimensions: String,
    newest: i64,
    #[serde(rename = "counted_then")]
    counted: i64,
    #[serde(rename = "total_then")]
    total: i128,
}

#[derive(Row, Deserialize)]
struct Sample {
    tenant: String,
    key: String,
    #[serde(rename = "of_minute")]
    minute: i64,
    level: i128,
}

/// The last level of each series before the span of a plan.
pub(super) async fn levels(ask: &Ask<'_>, plan: &Plan) -> Result<HashMap<Series, Carried>, UsageError> {
    let lists = ask.lists().await?;
    let mut params = Params::default();
    let sql = last_sql(ask, plan, &lists, &mut params);
    let mut carried = HashMap::new();
    let mut unsure = Vec::new();
    ask.each(&sql, &params, |last: Last| {
        let series = Series { tenant: last.tenant, key: last.dimensions };
        match last.counted {
            1 => {
                carried.insert(series, Carried { minute: last.newest, nanos: last.total });
            }
            _ => unsure.push((series, last.newest)),
        }
        Ok(())
    })
    .await?;
    for some in unsure.chunks(AT_ONCE) {
        look_up(ask, plan, some, &mut carried).await?;
    }
    Ok(carried)
}

/// The last minute of each series, with the samples in it.
fn last_sql(ask: &Ask<'_>, plan: &Plan, lists: &Lists, params: &mut Params) -> String {
    let from = plan.cut.from().div_euclid(60) * 60;
    let (hour, day) = (from - from.rem_euclid(HOUR), from - from.rem_euclid(DAY));
    let cells = |source: Source, stretch: (i64, i64), further: Option<String>, params: &mut Params| {
        let part = Part { source, stretches: vec![stretch] };
        let rows = Rows {
            meter: &plan.meter.name,
            value: RowValue::Total,
            columns: "tenant, dimensions, ",
            is_of_few: ask.is_of_few(&plan.tenants),
            part: &part,
        };
        let conditions: Vec<String> = plan.tenants_sql(ask, params).into_iter().chain(further).collect();
        format!(
            "SELECT tenant, dimensions, at, sum(n) AS counted, sum(v) AS total FROM ({}) \
             GROUP BY tenant, dimensions, at HAVING counted != 0",
            rows.selects(ask, lists, &conditions, params).join(" UNION ALL ")
        )
    };
    let mut layers = Vec::new();
    if hour < from {
        layers.push(cells(Source::Minute, (hour, from), None, params));
    }
    for (source, stretch, start) in
        [(Source::Hour, (day, hour), "toStartOfHour"), (Source::Day, (0, day), "toStartOfDay")]
    {
        if stretch.0 < stretch.1 {
            let newest = format!(
                "(tenant, dimensions, {start}(bucket)) IN (SELECT tenant, dimensions, toDateTime(max(at), 'UTC') \
                 FROM ({}) GROUP BY tenant, dimensions)",
                cells(source, stretch, None, params)
            );
            layers.push(cells(Source::Minute, stretch, Some(newest), params));
        }
    }
    if layers.is_empty() {
        // The span begins with the epoch: nothing is before it.
        layers.push(cells(Source::Minute, (0, 0), None, params));
    }
    format!(
        "SELECT tenant, dimensions, max(at) AS newest, argMax(counted, at) AS counted_then, argMax(total, at) AS total_then \
         FROM ({}) {} GROUP BY tenant, dimensions",
        layers.join(" UNION ALL "),
        filters_sql(plan, "dimensions", params)
    )
}

/// Looks among the events of the minutes for the last ones.
async fn look_up(
    ask: &Ask<'_>,
    plan: &Plan,
    series: &[(Series, i64)],
    carried: &mut HashMap<Series, Carried>,
) -> Result<(), UsageError> {
    let mut missing = series.to_vec();
    // Events that the rollups know of and that are not there were corrected a moment ago: then an earlier one is the last.
    for in_minute in [true, false] {
        let mut found = HashMap::new();
        for Sample { tenant, key, minute, level } in samples(ask, plan, &missing, in_minute).await? {
            found.insert(Series { tenant, key }, Carried { minute, nanos: level });
        }
        missing.retain(|(series, minute)| match found.remove(series) {
            Some(level) if !in_minute || level.minute == *minute => {
                carried.insert(series.clone(), level);
                false
            }
            _ => true,
        });
        if missing.is_empty() {
            return Ok(());
        }
        // Or they are gone, and what they were is not known any more.
        let kept_since = Utc::now().checked_sub_months(Months::new(EVENTS_KEPT_MONTHS)).unwrap_or_default();
        if let Some((_, minute)) = missing.iter().find(|(_, minute)| *minute < kept_since.timestamp())
            && raw::has_batches_before(ask, kept_since.timestamp()).await?
        {
            return Err(raw::not_kept(plan, *minute, kept_since.timestamp()));
        }
    }
    Ok(())
}

/// The last samples of series: in the minutes that are named, or up to them.
async fn samples(
    ask: &Ask<'_>,
    plan: &Plan,
    series: &[(Series, i64)],
    in_minute: bool,
) -> Result<Vec<Sample>, UsageError> {
    let mut params = Params::default();
    let all = Plan { versions: plan.history.clone(), ..plan.clone() };
    let names = |of: fn(&Series) -> &String| -> Vec<String> {
        series.iter().map(|(series, _)| of(series).clone()).collect()
    };
    let tenants = params.texts(&names(|series| &series.tenant));
    let keys = params.texts(&names(|series| &series.key));
    let minutes = params.numbers(series.iter().map(|(_, minute)| *minute).collect());
    let first = series.iter().map(|(_, minute)| *minute).min().unwrap_or_default();
    let last = series.iter().map(|(_, minute)| *minute).max().unwrap_or_default();
    let mut types: Vec<String> = all.versions.iter().map(|version| version.event_type.clone()).collect();
    types.dedup();
    let zipped = |arrays: &str| format!("(SELECT arrayJoin(arrayZip({arrays})) AS one)");
    let (first, of_tenants, known) = match in_minute {
        true => (
            first,
            format!(
                "(tenant, toStartOfMinute(time)) IN (SELECT one.1, toDateTime(one.2, 'UTC') FROM {})",
                zipped(&format!("{tenants}, {minutes}"))
            ),
            format!(
                "(tenant, key, minute) IN (SELECT one.1, one.2, one.3 FROM {})",
                zipped(&format!("{tenants}, {keys}, {minutes}"))
            ),
        ),
        false => (
            0,
            format!("tenant IN {tenants}"),
            format!("(tenant, key) IN (SELECT one.1, one.2 FROM {})", zipped(&format!("{tenants}, {keys}"))),
        ),
    };
    let sql = format!(
        "SELECT tenant, key, max(minute) AS of_minute, argMax(value, {LATEST_ORDER}) AS level FROM (\
           SELECT tenant, {key} AS key, toInt64(toUnixTimestamp(toStartOfMinute(time))) AS minute, {value} AS value, {ORDER} \
           FROM {table} WHERE type IN {types} AND {of_tenants} AND {span} AND {counted} AND {counts} {first_of_identity}) \
         WHERE {known} GROUP BY tenant, key",
        key = raw::of_version(&all, Meter::group_key_sql),
        value = raw::of_version(&all, Meter::raw_value_sql),
        table = ask.scope().table(Table::Events),
        types = params.texts(&types),
        span = raw::in_span(first, last + 60, &mut params),
        counted = raw::counted_by_version(&all),
        counts = raw::counts(ask, plan, &mut params),
        first_of_identity = effective::FIRST_OF_IDENTITY,
    );
    ask.fetch(&sql, &params).await
}
